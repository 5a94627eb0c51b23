"""Rows that are trained on beside a fine-tuning's own, so that what they exercise is not lost.

Rehearsal of old data, and of items that the network itself makes up where there are none: Robins
(1995), "Catastrophic forgetting, rehearsal and pseudorehearsal", Connection Science 7, 123-146. Of
an LLM with its own samples: Huang et al. (2024), "Mitigating catastrophic forgetting in large
language models with self-synthesized rehearsal", arXiv 2403.01244, which also refines and selects
them; here they are taken as they come. The base writes them at temperature 1, un-quantised where it
can be: the cross-entropy on samples of the base is KL(base || tuned) and a constant.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from slimlib.common import progress
from slimlib.common.files import read_jsonl, sha256, write_jsonl
from slimlib.common.hardware import free_memory
from slimlib.common.locks import writing
from slimlib.config import OWN_ANSWERS, OWN_TEXT, Arm, ModelConfig
from slimlib.data.layouts import Row, as_row
from slimlib.data.prompts import render_row
from slimlib.data.rows import choose, load_rows
from slimlib.model.load import check_base, hub_revision, load_model, resolve_name
from slimlib.model.opened import weights_identity
from slimlib.run import Run

FOLDER = "rehearsed"  # in the study's folder
SAMPLED = 128  # tokens that the base writes at most
AT_ONCE = 16  # texts
TRIES = 4  # for each text, of which some are empty


def rehearsed_rows(config: Arm, rows: Sequence[Row], tokenizer: Any, run: Run) -> list[Row]:
    """The rows that are rehearsed: `data.replay` for each own row, chosen by the arm's seed.

    Args:
        config: of an arm that trains.
        rows: its own.
        tokenizer: of its model.
        run: gives the data folder, and keeps what the base has written.

    Raises:
        ValueError: the data set has too few rows, or the base cannot write any.
    """
    count = round(config.data.replay * len(rows))
    if not count:
        return []
    if config.data.replay_from == OWN_TEXT:
        return _written(config, run, [""] * count, tokenizer, lambda _, text: {"text": text})
    if config.data.replay_from == OWN_ANSWERS:
        asked = choose([*rows], count, "random", config.seed)
        prompts = [_prompt(row, config, tokenizer) for row in asked]
        return _written(
            config, run, prompts, tokenizer, lambda i, text: asked[i] | {"output": text}
        )
    _, source = config.data.sets
    return load_rows(replace(source, n=count), config.seed, run.data_folder())


def _prompt(row: Row, config: Arm, tokenizer: Any) -> str:
    """A row's text up to its answer."""
    if "output" not in row:
        raise ValueError(
            f"{row.where} row {row.number}: replay_from={OWN_ANSWERS} needs rows of a question and "
            f"an answer; take {OWN_TEXT}"
        )
    rendered = render_row(row, config.data, tokenizer)
    return rendered.text[: rendered.spans[0][0]]


def _written(
    config: Arm,
    run: Run,
    prompts: list[str],
    tokenizer: Any,
    made: Callable[[int, str], dict[str, str]],
) -> list[Row]:
    """Rows made of what the base writes, once for the same weights, prompts and seed."""
    weights = weights_identity(
        resolve_name(config.model.name), hub_revision(config.model), run.hashes
    )
    base = _base(config.model)
    key = sha256([weights, base.dtype, base.load_in_4bit, prompts, config.seed, SAMPLED])
    path = run.folder / FOLDER / f"{key}.jsonl"
    with writing(run.lock_path(FOLDER), "writing what is rehearsed"):
        if not path.is_file():
            texts = _sampled(base, prompts, tokenizer, config.seed)
            write_jsonl(path, [{"text": text} for text in texts])
    texts = [row["text"] for row in read_jsonl(path)]
    where = config.data.replay_from
    return [as_row(made(i, text), where, i + 1) for i, text in enumerate(texts)]


def _base(config: ModelConfig) -> ModelConfig:
    """The model as exact as it is: un-quantised, unless it was stored in 4 bit."""
    stored = config.load_in_4bit and check_base(config)
    return config if stored else replace(config, load_in_4bit=False)


def _sampled(config: ModelConfig, prompts: list[str], tokenizer: Any, seed: int) -> list[str]:
    """What a model goes on with after each prompt; random states are left as they were."""
    import torch

    model, _ = load_model(config, backend="transformers")
    model.eval()
    texts, line = [""] * len(prompts), progress.current()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(random.Random(seed).getrandbits(63))
        for _ in range(TRIES):
            todo = [i for i, text in enumerate(texts) if not text.strip()]
            line.begin("texts", len(todo))
            while todo:
                now = _alike(todo, prompts)
                ids = _tokens(prompts[now[0]], tokenizer)
                for i, text in zip(now, _go_on(model, tokenizer, ids, len(now)), strict=True):
                    texts[i] = text
                todo = todo[len(now) :]
                line.update(line.done + len(now))
    del model
    free_memory()
    if not all(map(str.strip, texts)):
        raise ValueError(f"{config.name} writes nothing to rehearse: take another replay_from")
    return texts


def _alike(todo: list[int], prompts: list[str]) -> list[int]:
    """The first places of one prompt, which need no padding."""
    first = prompts[todo[0]]
    end = next((k for k, i in enumerate(todo) if prompts[i] != first), len(todo))
    return todo[: min(end, AT_ONCE)]


def _tokens(prompt: str, tokenizer: Any) -> list[int]:
    """A prompt as a row begins; nothing is the begin token, or the end of an earlier text."""
    ids, begin = tokenizer(prompt)["input_ids"], tokenizer.bos_token_id
    while begin is not None and ids[:2] == [begin, begin]:
        ids = ids[1:]
    return ids or [tokenizer.eos_token_id if begin is None else begin]


def _go_on(model: Any, tokenizer: Any, ids: list[int], count: int) -> list[str]:
    import torch

    ids = torch.tensor([ids] * count, device=model.device)
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=SAMPLED,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = found[:, ids.shape[1] :]
    return tokenizer.batch_decode(written, skip_special_tokens=True)
