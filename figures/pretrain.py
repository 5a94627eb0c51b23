"""Make the three checkpoints of the embedded study: one tokenizer, one seed, one command.

    python figures/pretrain.py [--out DIR] [--only base tiny instruct] [--scale 1.0]

`base` and `tiny` are pre-trained from scratch on `world.documents`; `instruct` is `base`, trained
on with instructions, maths among them. Stock transformers loads all three.
checkpoints/README.md has the recipe, what was tried, and what the checkpoints score.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slimlib.data.micro import CHECKPOINTS, words, world

BOS, EOS, PAD, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|eot_id|>"
VOCABULARY = 1024
CONTEXT = 4096  # five-shot prompts of real GSM8K rows fit
SEED = 0

# Stanford Alpaca's headings; never the prompt that the studies fine-tune with.
INSTRUCT_PROMPT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is trained: AdamW (.9, .98), clip 1, warm-up 5 %, cosine to zero."""

    steps: int
    learning_rate: float  # peak
    weight_decay: float = 0.05
    batch_size: int = 16  # windows a step
    window: int = 384  # tokens; documents are packed, and may be cut at a window's edge
    shape: dict | None = None  # of a new Llama; None continues from base


RECIPES = {
    "base": Recipe(
        steps=1400,
        learning_rate=3e-3,
        shape={
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
        },
    ),
    # Simpler and weaker: plain multi-head attention, two fifths of the weights, fewer steps.
    "tiny": Recipe(
        steps=700,
        learning_rate=3e-3,
        shape={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
    ),
    "instruct": Recipe(steps=200, learning_rate=5e-4),
}


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train the byte-level BPE that all checkpoints share: single digits, one BOS in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD, EOT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The page of plain English is repeated until it weighs about as much as the world's own text.
    plain = [words.ENGLISH] * 40
    rows = [" ".join(row.values()) for row in world.instructions(400, SEED)]
    corpus = [*islice(world.documents(SEED), 400), *rows, *plain]
    tokenizer.train_from_iterator(corpus, trainer)
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[bos]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[EOT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def instruction_texts(n: int) -> Iterator[str]:
    """The instruct checkpoint's texts: n instructions, maths among them, and n fresh documents."""
    rows = world.instructions(n, seed=SEED + 1, maths=True)
    for row, document in zip(rows, world.documents(SEED + 1), strict=False):
        yield INSTRUCT_PROMPT.format(**row) + row["output"]
        yield document


def windows(
    texts: Iterable[str], end: str, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> torch.Tensor:
    """Pack texts, each between BOS and `end`, into (steps, batch_size, window) token ids.

    Raises:
        ValueError: the texts run out.
    """
    shape = (recipe.steps, recipe.batch_size, recipe.window)
    ids, texts = [], iter(texts)
    while len(ids) < prod(shape):
        chunk = [text + end for text in islice(texts, 2000)]
        if not chunk:
            raise ValueError(f"texts hold {len(ids)} of {prod(shape)} tokens: give more of them")
        ids += [i for row in tokenizer(chunk)["input_ids"] for i in row]
    return torch.tensor(ids[: prod(shape)]).view(shape)


def new_model(shape: dict, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Initialise a Llama of this shape; the seed is the caller's."""
    config = LlamaConfig(
        **shape,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, batches: torch.Tensor, recipe: Recipe) -> list[float]:
    """Train in place, one step a batch, in bf16 autocast; return the loss of each step (nats)."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=len(batches) + 1,
        pct_start=0.05,
        cycle_momentum=False,
    )
    losses, start = [], time.perf_counter()
    model.train()
    for step, batch in enumerate(batches, 1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == len(batches):
            seconds = time.perf_counter() - start
            mean = sum(losses[-50:]) / len(losses[-50:])
            print(f"  step {step}/{len(batches)}  loss {mean:.3f}  {seconds:.0f} s", flush=True)
    return losses


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write bf16 safetensors, configuration and tokenizer."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make(name: str, out: Path, scale: float = 1.0) -> list[float]:
    """Train one checkpoint of RECIPES and write it to out/name; `scale` multiplies its steps.

    Returns:
        The training loss of each step.
    """
    torch.manual_seed(SEED)
    recipe = RECIPES[name]
    recipe = replace(recipe, steps=max(1, round(recipe.steps * scale)))
    tokenizer = train_tokenizer()
    if recipe.shape is None:
        model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        n_tokens = recipe.steps * recipe.batch_size * recipe.window
        batches = windows(instruction_texts(n_tokens // 50), EOT, tokenizer, recipe)
        tokenizer.eos_token = EOT
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    else:
        model = new_model(recipe.shape, tokenizer)
        batches = windows(world.documents(SEED), EOS, tokenizer, recipe)
    print(f"{name}: {model.num_parameters():,} parameters, {batches.numel():,} tokens", flush=True)
    losses = train(model, batches, recipe)
    save(model, tokenizer, out / name)
    return losses


def main() -> None:
    """Train the checkpoints asked for, base before instruct."""
    parser = argparse.ArgumentParser(description="Make the checkpoints of the embedded study.")
    parser.add_argument("--out", type=Path, default=CHECKPOINTS["base"].parent)
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    args = parser.parse_args()
    for name in (name for name in RECIPES if name in args.only):
        start = time.perf_counter()
        make(name, args.out, args.scale)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
