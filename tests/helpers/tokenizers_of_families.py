"""Small byte-level tokenizers with the special tokens of well-known families."""


def make_tokenizer(bos=None, eos=None, unk=None, pad=None, extra=(), add_bos=True):
    """A byte-level tokenizer with the special tokens of one family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys(t for t in (bos, eos, unk, pad, *extra) if t))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token=unk))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    if bos and add_bos:
        core.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, unk_token=unk, pad_token=pad
    )


def llama3():
    spare = ("<|finetune_right_pad_id|>",)
    return make_tokenizer("<|begin_of_text|>", "<|end_of_text|>", extra=spare)


def llama2():
    return make_tokenizer("<s>", "</s>", unk="<unk>")


def gpt2():
    end = "<|endoftext|>"
    return make_tokenizer(end, end, unk=end, add_bos=False)
