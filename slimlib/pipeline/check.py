"""Did it lose its mind? Two models asked the same questions, and the verdict on the change.

    runs/checks/<tuned>-against-<base>-<hash>/  base/  tuned/  report.html  comparison.json
    runs/checks/answers/                        each answer by content, for later checks

With a time budget the check asks a random sample that fits, and each further call asks more of it:
see `looks`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.files import sha256, write_json
from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.relation import AUTO, TUNED
from slimlib.comparison.two_models import Comparison, compare
from slimlib.config import AskConfig
from slimlib.data.named_tasks import Unit, load_units
from slimlib.evaluate.asking import Side
from slimlib.model.opened import Opened, open_model
from slimlib.pipeline.looks import Looks, Sampling
from slimlib.report.verdicts import write_report
from slimlib.results import Results, read_results
from slimlib.run import default_root
from slimlib.studies.panels import QUICK, panel_tasks

FOLDERS = ("base", "tuned")  # of the two sides
WEIGHTS = ("config.json", "adapter_config.json")  # a folder with one of them holds a model


def check(
    base: str,
    tuned: str | None = None,
    *,
    tasks: Sequence[str] | str = (),
    panel: str = QUICK,
    minutes: float | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    dtype: str = "auto",
    data: str | Path | None = None,
    out: str | Path | None = None,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    relation: str = AUTO,
) -> Comparison:
    """Ask two models the same questions and say what the second lost.

    Args:
        base: the model before: a hub id[@revision], a folder, a GGUF file, "micro:base", any of
            these behind "nf4:" to be quantised on load; or results already made.
        tuned: the model after, likewise, or a PEFT adapter. None: `base` is an adapter, and is
            held against the model that it was trained on.
        tasks: lm-eval's tasks, groups or tags, .yaml files, or .jsonl files of one's own questions
            (`slimlib.data.own_task`); in a text they stand between commas. Empty: the panel's.
        panel: "quick", "standard" or "paper".
        minutes: to spend; a random sample that fits is asked. Called again, it asks more.
        limit: the first so many documents of each task, as lm-eval's; not with minutes.
        num_fewshot: solved examples in each prompt; None: each task's own.
        apply_chat_template: ask through the models' chat templates.
        dtype: of the weights; "auto": as the device is.
        data: folder of local files that replace the hub for the tasks that it has.
        out: folder of the results; default one for the two models in runs/checks.
        margin: points within which a change counts as kept.
        alpha: level of every claim.
        relation: as `slimlib.compare`'s.

    Returns:
        The comparison. report.html and comparison.json lie in `out`.

    Example:

        slimlib.check("HuggingFaceTB/SmolLM2-135M", "my-adapter/", minutes=10)

    Raises:
        ValueError: a model, task or value that cannot be, before anything is asked.
    """
    begin = time.monotonic()
    check_amounts(minutes, limit)
    config = AskConfig(num_fewshot, apply_chat_template, dtype)
    sides = _sides(base, tuned)
    how: dict[str, Any] = {"margin": margin, "alpha": alpha, "relation": relation}
    if all(isinstance(side, Results) for side in sides):
        return compare(*sides, **how)
    root = default_root() / "checks"
    names = split_names(tasks) or _usual_tasks(panel, sides, (base, tuned or base))
    units = load_units(names, Path(data) if data else None, root / "micro-data")
    asked = [_asked(side, config, root / "answers") for side in sides]
    folder = Path(out) if out else root / _name(asked)
    if relation == AUTO and _one_made_of_the_other(*sides):
        how["relation"] = TUNED
    if minutes is None:
        sources = [
            _ask_all(side, units, folder / n, limit) for side, n in zip(asked, FOLDERS, strict=True)
        ]
        comparison = compare(*sources, **how)
    else:
        if fixed := [side for side in asked if isinstance(side, Results)]:
            raise ValueError(f"minutes: the documents of {fixed[0].source} are fixed; give limit")
        comparison = _look(asked, units, folder, begin + 60 * minutes, how)
    write_report(comparison, folder / "report.html")
    write_json(folder / "comparison.json", comparison.to_dict())
    progress.say(f"report: {folder / 'report.html'}")
    return comparison


def check_amounts(minutes: float | None, limit: int | None) -> None:
    """ValueError for a time or a number of documents that cannot be, or for both at once."""
    if minutes is not None and not 0 < minutes < 10_000:
        raise ValueError(f"minutes={minutes}: must be above 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: must be 1 or more")
    if minutes is not None and limit is not None:
        raise ValueError(f"minutes={minutes:g} and limit={limit}: give one of them")


def split_names(names: Sequence[str] | str) -> list[str]:
    """Names given as a list, or as a text with commas between them."""
    parts = names.split(",") if isinstance(names, str) else names
    return [part.strip() for part in parts if part.strip()]


# ---- what is asked ----


def _sides(base: str, tuned: str | None) -> list[Opened | Results]:
    """Both models, or results of them; an adapter alone stands against its own base."""
    if tuned is not None:
        before = results_made(base) or open_model(base)
        fallback = before if isinstance(before, Opened) else None
        return [before, results_made(tuned) or open_model(tuned, fallback)]
    opened = open_model(base)
    if not opened.adapter:
        raise ValueError(f"{base} is no adapter: give the model after it, too")
    return [opened.without_adapter(), opened]


def results_made(name: str) -> Results | None:
    """The results that lie at a path; None where a model lies there, or nothing.

    Raises:
        ResultsError: a file or folder that holds neither.
    """
    path = Path(name)
    is_model = path.suffix == ".gguf" or any((path / file).exists() for file in WEIGHTS)
    if is_model or not path.exists() or any(path.glob("*.gguf")):
        return None
    return read_results(name)


def _one_made_of_the_other(base: Opened | Results, tuned: Opened | Results) -> bool:
    """Whether the tuned model is the base itself, changed: an adapter on it, or quantised."""
    both = isinstance(base, Opened) and isinstance(tuned, Opened)
    return both and base.base == tuned.base and not base.adapter


def _usual_tasks(
    panel: str, sides: Sequence[Opened | Results], names: Sequence[str]
) -> Sequence[str]:
    """The panel's tasks; those of results that are held against a model."""
    found = next((side for side in sides if isinstance(side, Results)), None)
    return [*found.tasks] if found else panel_tasks(panel, names)


def _asked(side: Opened | Results, config: AskConfig, answers: Path) -> Side | Results:
    return side if isinstance(side, Results) else Side(side.label, side, config, answers)


def _name(sides: Sequence[Side | Results]) -> str:
    """A folder's name for two models: their labels, and a hash of what they are."""
    labels = [side.label if isinstance(side, Side) else side.name for side in sides]
    whole = [side.identity if isinstance(side, Side) else side.source for side in sides]
    base, tuned = (re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-.")[-40:] for label in labels)
    return f"{tuned}-against-{base}-{sha256(whole)[:8]}"


# ---- asking ----


def _ask_all(
    side: Side | Results, units: Sequence[Unit], folder: Path, limit: int | None
) -> Path | Results:
    """Results of one side on whole tasks, or on the first so many documents."""
    if isinstance(side, Results):
        return side
    results = [side.ask(unit, limit=limit or 0) for unit in units]
    side.rest()
    return side.write(results, folder)


def _look(
    sides: Sequence[Side], units: Sequence[Unit], folder: Path, end: float, how: dict[str, Any]
) -> Comparison:
    """One more look at the two models, until `end` by the clock."""
    looks = Looks.read(folder)
    sampling = Sampling(sides, units, looks, folder, how["alpha"])
    found = sampling.run(end - time.monotonic())
    sources = [
        side.write(results, folder / name)
        for side, results, name in zip(sides, found, FOLDERS, strict=True)
    ]
    comparison = compare(*sources, **how, look=looks.taken)
    looks.learn(comparison, folder)
    return comparison
