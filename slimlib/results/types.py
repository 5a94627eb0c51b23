"""What is known of an evaluation: scores, settings and, where kept, every document's score.

Plain frozen data that the readers fill (`slimlib.results.read_results`), `align_samples` pairs and
everything else reads. Scores are as the files have them: shares in 0..1 for accuracies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from slimlib.common.layout import visible

if TYPE_CHECKING:
    import pandas as pd


class ResultsError(ValueError):
    """A file cannot be read as results, or two results cannot be paired; says which and why.

    Names in files may steer a terminal: control characters are written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class Score(NamedTuple):
    """A task's score as its file has it."""

    value: float  # a share in 0..1 for accuracies
    stderr: float | None  # None: absent or "N/A"


@dataclass(frozen=True)
class Samples:
    """What one filter made of every document's answer, in document order."""

    doc_ids: tuple[int | str, ...]
    doc_hashes: tuple[str | None, ...]  # None: the file has neither a hash nor the document
    prompt_hashes: tuple[str | None, ...]
    scores: dict[str, np.ndarray]  # metric (no filter in the name) -> (documents,) float64, finite
    documents: str | None = None  # one hash over ids and hashes, in order (see `task_entry`)
    answer_hashes: tuple[str | None, ...] = ()  # of what the model answered; empty: not kept
    clusters: tuple[str, ...] = ()  # documents of one passage share a name; empty: each alone
    by_seed: dict[str, np.ndarray] = field(default_factory=dict)  # metric -> (seeds, documents)


@dataclass(frozen=True)
class TaskResults:
    """One task or group of one model."""

    task: str  # hendrycksTest-x of old versions is called mmlu_x
    scores: dict[str, Score]  # "metric,filter" ("acc" of lm-eval 0.3 is "acc,none")
    samples: dict[str, Samples]  # by filter; empty: aggregates only
    version: float | int | str | None = None
    num_fewshot: int | None = None
    limit: float | int | None = None  # as asked for; None: all, or not said
    n: int | None = None  # documents evaluated; None: the file does not say
    subtasks: tuple[str, ...] = ()  # of a group: its leaves
    role: str | None = None  # of a slimlib arm: gsm8k, hellaswag, mmlu_cs, ...
    higher_is_better: dict[str, bool] = field(default_factory=dict)  # by metric; absent: unknown
    output_type: str | None = None  # lm-eval's: multiple_choice, generate_until, ...
    generation: Mapping[str, Any] | None = None  # the task's own generation_kwargs, where it says
    chance: float | None = None  # share right by guessing, from the documents; None: not known
    cluster: str = ""  # the field of a document that names its cluster
    broken: dict[str, str] = field(default_factory=dict)  # "metric,filter" -> why it is no number
    load_rows: Callable[[], Iterable[dict[str, Any]]] | None = None  # raw rows, when asked for


@dataclass(frozen=True)
class Results:
    """One model on its tasks."""

    source: str  # path as given, or "simple_evaluate"
    name: str  # of the model: an arm's label, the model's name, else the file's
    tasks: dict[str, TaskResults]
    settings: dict[str, Any]  # how it was made, as far as the file says
    notes: tuple[str, ...] = ()  # rules that were applied while reading


@dataclass(frozen=True)
class Pair:
    """The documents of one task and filter that both results answered."""

    task: str
    filter: str
    base: np.ndarray  # positions into the base's Samples
    tuned: np.ndarray  # the same documents' positions into the tuned one's
    only_base: tuple[int | str, ...]  # doc_ids without a partner
    only_tuned: tuple[int | str, ...]
    changed: tuple[int | str, ...]  # same doc_id, another document
    rule: str  # in words, such as "doc_id and doc_hash"
    prompts_differ: int | None  # paired documents whose prompts differ; None: unknown


@dataclass(frozen=True)
class Alignment:
    """Two results side by side: which documents are the same, and what else differs."""

    base: Results
    tuned: Results
    pairs: dict[tuple[str, str], Pair]  # by task and filter
    unmatched: tuple[str, ...]  # sentences: what has no partner, and why
    differences: tuple[str, ...]  # sentences: settings that differ

    def scores(self, task: str, metric: str, filter: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Scores of the paired documents, base and tuned, (documents,) each; None: no pairs."""
        pair = self.pairs.get((task, filter))
        if pair is None:
            return None
        base = self.base.tasks[task].samples[filter].scores.get(metric)
        tuned = self.tuned.tasks[task].samples[filter].scores.get(metric)
        if base is None or tuned is None:
            return None
        return base[pair.base], tuned[pair.tuned]

    def table(self) -> pd.DataFrame:
        """One row per task and filter: documents matched, and those that are not."""
        import pandas as pd

        columns = ["task", "filter", "matched", "only base", "only tuned", "changed", "rule"]
        rows = []
        for pair in self.pairs.values():
            counts = map(len, (pair.base, pair.only_base, pair.only_tuned, pair.changed))
            rows.append((pair.task, pair.filter, *counts, pair.rule))
        return pd.DataFrame(rows, columns=columns)


Source = str | Path | Mapping[str, Any] | Results  # whatever `read_results` takes
