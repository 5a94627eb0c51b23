"""Did it lose its mind? Two models asked the same questions, and the verdict on the change.

    runs/checks/<tuned>-against-<base>-<hash>/  base/  tuned/  report.html  comparison.json
    runs/checks/answers/                        each answer by content, for later checks

With a time budget the check asks a random sample that fits, and each further call asks more of it:
see `looks`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.files import sha256, write_json
from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.relation import AUTO, TUNED
from slimlib.comparison.two_models import Comparison, check_claims, compare
from slimlib.config import AskConfig
from slimlib.data.named_tasks import Unit, load_units
from slimlib.data.sources import ROW_FILES
from slimlib.folder import default_root
from slimlib.model.opened import Opened, open_model
from slimlib.pipeline.looks import ask_sides
from slimlib.pipeline.one_model import refuse_unreadable
from slimlib.pipeline.preflight import check_writable
from slimlib.report.verdicts import write_report
from slimlib.results import Results, read_results
from slimlib.studies.panels import QUICK, panel_tasks

CHECKS = Path("checks")  # in the folder of the runs
ANSWERS, WORLD = CHECKS / "answers", CHECKS / "micro-data"  # that all checks share
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
        num_fewshot, apply_chat_template, dtype: as in `slimlib.config.AskConfig`.
        data: folder of local files that replace the hub for the tasks that it has.
        out: folder of report.html and all else; default one for the two models in runs/checks.
        margin, alpha, relation: as `slimlib.compare`'s.

    Example:

        slimlib.check("HuggingFaceTB/SmolLM2-135M", "my-adapter/", minutes=10)

    Raises:
        ValueError: a model, task or value that cannot be, before anything is asked.
    """
    check_amounts(minutes, limit)
    check_claims(margin, alpha)
    check_folders(data, out)
    config = AskConfig(num_fewshot, apply_chat_template, dtype)
    sides = _sides(base, tuned)
    for side in sides:
        if isinstance(side, Opened):
            refuse_unreadable(side)
    end = None if minutes is None else time.monotonic() + 60 * minutes
    how = {"margin": margin, "alpha": alpha, "relation": relation}
    if all(isinstance(side, Results) for side in sides):
        return compare(*sides, **how)
    names = split_names(tasks) or _usual_tasks(panel, sides, (base, tuned or base))
    units = load_units(names, Path(data) if data else None, default_root() / WORLD, num_fewshot)
    return _check(sides, units, config, end, limit, Path(out) if out else None, how)


def _check(
    sides: Sequence[Opened | Results],
    units: Sequence[Unit],
    config: AskConfig,
    end: float | None,
    limit: int | None,
    out: Path | None,
    how: dict[str, Any],
) -> Comparison:
    """Ask the sides that are models, compare, and write the report.

    Args:
        end: by the clock, of a look; None: no look.
    """
    fixed = [side for side in sides if isinstance(side, Results)]
    if fixed and end is not None:
        raise ValueError(f"minutes: the documents of {fixed[0].source} are fixed; give limit")
    asked = [_asked(side, config, default_root() / ANSWERS) for side in sides]
    folder = out or default_root() / CHECKS / _name(asked)
    if how["relation"] == AUTO and _one_made_of_the_other(*sides):
        how["relation"] = TUNED
    named = dict(zip(FOLDERS, asked, strict=True))
    models = {name: side for name, side in named.items() if not isinstance(side, Results)}
    seconds = None if end is None else end - time.monotonic()
    paths, looks = ask_sides(models, units, folder, seconds, limit, how["alpha"])
    sources = [paths.get(name, side) for name, side in named.items()]
    comparison = compare(*sources, **how, look=looks and looks.taken)
    if looks:
        looks.learn(comparison, folder)
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


def check_folders(data: str | Path | None, out: str | Path | None) -> None:
    """ValueError for a folder of local files that is none, or results that cannot be written."""
    if data and not os.path.isdir(data):
        raise ValueError(f"data={data}: no such folder")
    check_writable(Path(out) if out else default_root())


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
    is_rows = name.lower().endswith(ROW_FILES) and ".json" not in path.suffixes
    if is_model or is_rows or not path.exists() or any(path.glob("*.gguf")):
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


def _asked(side: Opened | Results, config: AskConfig, answers: Path) -> Any:
    """A model as a `Side`; results as they are."""
    from slimlib.evaluate.asking import Side

    return side if isinstance(side, Results) else Side(side.label, side, config, answers)


def _name(sides: Sequence[Any]) -> str:
    """A folder's name for two sides: their labels, and a hash of what they are."""
    labels = [side.name if isinstance(side, Results) else side.label for side in sides]
    whole = [side.source if isinstance(side, Results) else side.identity for side in sides]
    base, tuned = (re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-.")[-40:] for label in labels)
    return f"{tuned}-against-{base}-{sha256(whole)[:8]}"
