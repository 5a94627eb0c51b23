"""Ask a model any tasks, and keep each answer by content: what was asked once is not asked again.

Answers lie in a file for each combination of weights, settings and task, so that a check that was
cut off goes on, a longer one keeps what it has, and another fine-tuning of the same base does not
ask the base again. Results are written in lm-eval's own layout.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.content import Hashes
from slimlib.common.files import sha256, write_text
from slimlib.common.hardware import free_bytes, free_memory, name_dtype
from slimlib.config import AskConfig
from slimlib.data.named_tasks import Unit
from slimlib.evaluate.harness import count_truncated, lm_eval_lines, lm_eval_text
from slimlib.evaluate.loading import load_opened
from slimlib.model.load import places
from slimlib.model.opened import Opened, identity
from slimlib.model.stored import quiet
from slimlib.scoring.answering import ask_lm_eval
from slimlib.scoring.responses import Responses

BATCH = 8  # rows of HFLM, where that is what runs
SPARE = 3  # times a model's size that must be free for the next one to be loaded beside it
# What lm-eval says of each task, in parts of its results that are joined task by task.
PARTS = (
    *("results", "groups", "group_subtasks", "configs", "versions", "n-shot"),
    *("higher_is_better", "n-samples", "samples"),
)


class Side:
    """One of the models that a check asks, loaded when it is first needed.

    Args:
        label: what it is called in results.
        opened: where its weights lie.
        config: how it is asked.
        answers: folder of the answers that are kept.
    """

    def __init__(self, label: str, opened: Opened, config: AskConfig, answers: Path) -> None:
        self.label, self.opened, self.answers = label, opened, answers
        self.config = replace(config, dtype=name_dtype(config.dtype))  # answers are kept by it
        self.identity = identity(opened, Hashes(answers / "hashes.json"))
        self.seconds, self.asked = 0.0, 0  # that answers to so many documents took, all in all
        self._loaded: tuple[Any, Any] | None = None

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer, ready to be asked."""
        if self._loaded is None:
            with progress.line(f"load {self.label}", brief=True):
                self._loaded = load_opened(self.opened, self.config.dtype)
        return self._loaded

    def rest(self) -> None:
        """Give the memory back, unless what the next model needs is free anyway."""
        if self._loaded is None:
            return
        model = self._loaded[0]
        size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        if free_bytes(model.device) < SPARE * size:
            self._loaded = model = None
            free_memory()

    def ask(
        self, unit: Unit, documents: Mapping[str, Sequence[int]] | None = None, limit: int = 0
    ) -> dict[str, Any]:
        """Ask a task or a group.

        Args:
            unit: what is asked.
            documents: task -> places of its documents, at least one of each task of the unit.
                Few-shot examples are then drawn for each document by itself, so that it is asked
                alike whatever else is. None: all.
            limit: the first so many documents of each task; 0: all.

        Returns:
            What `lm_eval.simple_evaluate` returns.

        Raises:
            NotFiniteError: an answer that is not a number.
        """
        loaded = self.load()
        seed = self.config.fewshot_seed if documents else None
        with (
            quiet(),  # as to how the tokenizer decodes
            progress.line(f"{self.label}: {unit.name}") as line,
            Responses(self._path(unit, documents is not None), line) as responses,
            _shots_by_document(unit, seed),
        ):
            lm, results = ask_lm_eval(
                loaded,
                unit.built,
                self.config,
                responses,
                batch_size=BATCH,
                max_length=min(self.config.max_length, places(loaded[0].config)),
                num_fewshot=self.config.num_fewshot,
                limit=limit or None,
                samples=documents and {task: sorted(ids) for task, ids in documents.items()},
                apply_chat_template=self.config.apply_chat_template,
            )
        self.seconds += responses.seconds
        self.asked += responses.asked
        for task, samples in results["samples"].items():
            if truncated := count_truncated(samples, lm):
                longer = f"{truncated} prompts were longer than {lm.max_length} tokens"
                progress.say(f"{task}: {longer} and lost their beginning")
        if reason := getattr(lm, "stock_reason", None):
            progress.say(f"{self.label}: left to lm-eval's own HFLM: {reason}")
        return results

    def _path(self, unit: Unit, by_document: bool) -> Path:
        """Where the answers to a unit are kept."""
        about = [self.identity, asdict(self.config), unit.name, unit.identity, by_document]
        self.answers.mkdir(parents=True, exist_ok=True)
        return self.answers / f"{sha256(about)}.jsonl"

    def write(self, several: Sequence[dict[str, Any]], folder: Path) -> Path:
        """Write results.json, and samples_<task>.jsonl for each task, in lm-eval's layout.

        Args:
            several: what `ask` returned, one per unit.
            folder: of this side.

        Returns:
            The path of results.json.
        """
        joined: dict[str, Any] = {part: {} for part in PARTS}
        for results in several:
            for part in PARTS:
                joined[part] |= results.get(part) or {}
        samples = joined.pop("samples")
        joined["config"] = {
            **several[0]["config"],
            "model": self.label,
            "model_args": {"pretrained": self.opened.name},
        }
        joined["identity"] = self.identity  # of the weights: a hash, or a commit of the hub
        joined["model_name"] = self.label
        joined["fewshot_as_multiturn"] = self.config.apply_chat_template
        files = {f"samples_{task}.jsonl": rows for task, rows in samples.items()}
        folder.mkdir(parents=True, exist_ok=True)
        for old in {*folder.glob("samples_*.jsonl")} - {folder / name for name in files}:
            old.unlink()
        for name, rows in files.items():
            write_text(folder / name, lm_eval_lines(rows))
        return write_text(folder / "results.json", lm_eval_text(joined, indent=1))


@contextlib.contextmanager
def _shots_by_document(unit: Unit, seed: int | None) -> Iterator[None]:
    """Draw each document's few-shot examples anew from the seed; None: as lm-eval does.

    lm-eval draws them from one stream, so that a document's examples depend on which documents are
    asked before it: an answer could not be kept for a later look at more of them.
    """
    if seed is None:
        yield
        return

    def draw_anew(task: Any) -> Any:
        context = task.fewshot_context

        def fewshot_context(*args: Any, **kwargs: Any) -> Any:
            task.set_fewshot_seed(seed)
            return context(*args, **kwargs)

        return fewshot_context

    for task in unit.tasks:
        task.fewshot_context = draw_anew(task)
    try:
        yield
    finally:
        for task in unit.tasks:
            del task.fewshot_context  # the class's own again
