"""Chat templates of the families in use, written anew from their formats, and tokenizers for them.

Each template says by its end what closes an answer, and the special tokens that its family has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SYSTEM_FIRST = "{% if messages[0].role == 'system' %}"
REFUSE_SYSTEM = SYSTEM_FIRST + "{{ raise_exception('System role not supported') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
)


class Family(NamedTuple):
    """A chat template and the tokens of its tokenizer."""

    template: str
    end: str  # closes an answer
    bos: str | None = None
    eos: str | None = None  # the tokenizer's, where that is another than `end`
    special: tuple[str, ...] = ()
    system: bool = True  # whether it takes a system turn
    before: str = ""  # what the model writes itself ahead of an answer
    before_last: str | None = None  # the same, of the last answer


def _chatml(preface: str = "") -> str:
    ask = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    return (
        f"{preface}{{% for m in messages %}}"
        "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
        f"{{% endfor %}}{ask}"
    )


def _default_system(text: str) -> str:
    return (
        "{% if messages[0].role != 'system' %}"
        f"{{{{ '<|im_start|>system\\n{text}<|im_end|>\\n' }}}}{{% endif %}}"
    )


QWEN3 = (  # thoughts of all turns but those behind the last question are left out
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% set said = m.content.split('</think>')[-1].lstrip('\\n') %}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') "
    "if '</think>' in m.content else '' %}"
    "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' + said }}"
    "{% elif m.role == 'assistant' %}{{ said }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim "
    "+ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LLAMA2 = (  # the system text stands in the first question; nothing asks for an answer
    f"{SYSTEM_FIRST}{{% set told = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}}"
    "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
    f"{ALTERNATE}{{% if m.role == 'user' %}}"
    "{{ bos_token + '[INST] ' + (told if loop.first else '') + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    f"{REFUSE_SYSTEM}{{{{ bos_token }}}}{ALTERNATE}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    f"{REFUSE_SYSTEM}{{{{ bos_token }}}}{ALTERNATE}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' "
    "+ m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
PHI3 = (  # the end of the whole text stands behind the end of the last turn
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
VICUNA = (
    f"{SYSTEM_FIRST}{{{{ messages[0].content + ' ' }}}}{{% set messages = messages[1:] %}}"
    "{% else %}{{ 'A chat between a user and an assistant. ' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
COMMAND_R = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}"
    "{% if m.role == 'user' %}{{ '<|USER_TOKEN|>' }}{% elif m.role == 'system' %}"
    "{{ '<|SYSTEM_TOKEN|>' }}{% else %}{{ '<|CHATBOT_TOKEN|>' }}{% endif %}"
    "{{ m.content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
DEEPSEEK = (  # asks with the beginning of a thought, which the answers it writes have not
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '<｜User｜>' + m.content }}{% elif m.role == 'system' %}{{ m.content }}"
    "{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + "
    "'<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content "
    "+ '<|end_of_text|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
FALCON = (  # no special token closes an answer
    "{% for m in messages %}{{ m.role | capitalize + ': ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
IM = ("<|im_start|>",)
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
COMMANDS = ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>")

FAMILIES = {
    "chatml": Family(_chatml(), "<|im_end|>", special=IM),
    "qwen2.5": Family(
        _chatml(_default_system("You are Qwen.")), "<|im_end|>", eos="<|endoftext|>", special=IM
    ),
    "qwen3": Family(QWEN3, "<|im_end|>", special=IM, before_last="<think>\n\n</think>\n\n"),
    "smollm2": Family(
        _chatml(_default_system("You are SmolLM.")), "<|im_end|>", bos="<|im_start|>"
    ),
    "llama-3": Family(
        LLAMA3, "<|eot_id|>", "<|begin_of_text|>", eos="<|end_of_text|>", special=HEADERS
    ),
    "llama-2": Family(LLAMA2, "</s>", "<s>"),
    "mistral": Family(MISTRAL, "</s>", "<s>", system=False),
    "gemma": Family(
        GEMMA, "<end_of_turn>", "<bos>", eos="<eos>", special=("<start_of_turn>",), system=False
    ),
    "phi-3": Family(
        PHI3, "<|end|>", "<s>", eos="<|endoftext|>", special=("<|user|>", "<|assistant|>")
    ),
    "zephyr": Family(ZEPHYR, "</s>", "<s>"),
    "vicuna": Family(VICUNA, "</s>", "<s>", before=" "),
    "command-r": Family(COMMAND_R, "<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>", special=COMMANDS),
    "deepseek": Family(
        DEEPSEEK,
        "<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜>",
        special=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ),
    "granite": Family(GRANITE, "<|end_of_text|>", special=("<|start_of_role|>", "<|end_of_role|>")),
}


def byte_tokenizer(
    template: str | None,
    end: str,
    bos: str | None = None,
    eos: str | None = None,
    special: tuple[str, ...] = (),
    merges: tuple[tuple[str, str], ...] = (),
) -> Any:
    """A byte-level tokenizer with special tokens, a begin token that it adds, and a template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    eos = eos or end
    known = dict.fromkeys(token for token in (bos, eos, end, *special, "<|pad|>") if token)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*known, *letters, *dict.fromkeys(a + b for a, b in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocabulary, list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token="<|pad|>",
        additional_special_tokens=[token for token in known if token not in (bos, eos, "<|pad|>")],
        chat_template=template,
    )


def tokenizer_of(family: Family) -> Any:
    """The tokenizer of a family: one token per byte beside its special ones."""
    return byte_tokenizer(*family[:5])
