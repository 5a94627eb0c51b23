"""My model, my rows: fine-tune, merge, ask before and after, and say what was learned and lost.

runs/<model>-on-<rows>/  <arm>/  asked/  report.html  answer.json
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimlib.common import progress
from slimlib.common.files import sha256, write_json, write_jsonl, write_text
from slimlib.common.hardware import find_device
from slimlib.common.hub import HubError
from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.contrast import Contrast, over_runs
from slimlib.comparison.relation import TUNED as MADE_FROM
from slimlib.comparison.two_models import Comparison, check_claims, compare
from slimlib.config import Arm, AskConfig, ModelConfig, Study
from slimlib.data.named_tasks import Unit, load_units
from slimlib.data.rows import read_rows
from slimlib.evaluate.held_out import row_losses
from slimlib.folder import default_root
from slimlib.metrics import Estimate, Spread
from slimlib.metrics.over_seeds import pool
from slimlib.model.load import hub_revision, load_tokenizer, resolve_name
from slimlib.model.opened import open_model
from slimlib.model.stored import stored_quantisation
from slimlib.pipeline.check import ANSWERS, WORLD, check_amounts, check_folders, split_names
from slimlib.pipeline.looks import ask_sides
from slimlib.pipeline.one_model import preflight_model
from slimlib.pipeline.preflight import Check, check_input
from slimlib.pipeline.study import finetune
from slimlib.pipeline.trial import try_model
from slimlib.report.answer import Answer, Learned, Stage, better_merge
from slimlib.report.model_card import write_model_card
from slimlib.report.training import live_training
from slimlib.report.verdicts import page
from slimlib.run import Run
from slimlib.studies.mine import BASE, QUANTISED, TUNED, TUNED_16BIT, mine, of_seeds, slug
from slimlib.studies.panels import QUICK, panel_tasks

ASKED = "asked"  # folder of what lm-eval returned, by arm
STEPS = {  # before, after -> what it changed
    (BASE, QUANTISED): "quantising",
    (QUANTISED, TUNED): "fine-tuning, merged into the 4-bit weights",
    (BASE, TUNED_16BIT): "fine-tuning, merged into 16 bit",
}


def tune(
    model: str,
    rows: Any,
    *,
    tasks: Sequence[str] | str = (),
    panel: str = QUICK,
    minutes: float | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    seeds: int = 1,
    load_in_4bit: bool = True,
    data: str | Path | None = None,
    runs: str | Path | None = None,
    model_card: bool = False,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    **overrides: Any,
) -> Answer:
    """Fine-tune a model on rows, and say what it learned and what it lost.

    Args:
        model: hub id[@revision], folder, or "micro:base".
        rows: a file (.jsonl, .json, .csv, .parquet, ...), a hub id, a `datasets.Dataset`, a
            DataFrame or a list of rows, of any layout that `slimlib.data.layouts` reads.
        tasks, panel, minutes (of asking), limit, num_fewshot, apply_chat_template, data: as
            `slimlib.check`'s. A .jsonl file of your own questions shows what it learned.
        seeds: fine-tunings with other seeds; of three the claim is about the recipe.
        load_in_4bit: QLoRA, on NF4 weights; False: LoRA on 16-bit ones.
        runs: parent folder of the run; default SLIMLIB_RUNS, else ./runs.
        model_card: write a model card with the verdicts into the folder of the merged model.
        margin, alpha: as `slimlib.compare`'s.
        **overrides: KEY=VALUE as for the command line's --set, e.g. **{"train.max_steps": 100}.

    Returns:
        The answer. report.html and answer.json lie in the run's folder.

    Example:

        slimlib.tune("HuggingFaceTB/SmolLM2-135M-Instruct", "my-rows.jsonl", minutes=10)

    Raises:
        ValueError: a model, rows, a task or a value that cannot be, before anything is trained.
    """
    check_amounts(minutes, limit)
    check_claims(margin, alpha)
    check_folders(data, runs)
    config = AskConfig(num_fewshot, apply_chat_template)
    root = Path(runs) if runs else default_root()
    run = Run(_study(model, _rows_file(rows, model, root), seeds, load_in_4bit, overrides), root)
    names = split_names(tasks) or panel_tasks(panel, [model])
    if minutes is not None:
        progress.say(f"minutes: {minutes:g} for the questions; training and merging come before")
    _check(run)  # the rows and the model first: a task may be a download
    units = load_units(names, Path(data) if data else None, root / WORLD, num_fewshot)
    answer = _tell(run, units, config, minutes, limit, _train(run), margin=margin, alpha=alpha)
    if model_card:
        named = rows if isinstance(rows, str) else ""
        progress.say(f"model card: {write_model_card(answer, model, named, Path(answer.place))}")
    return answer


def _study(
    model: str, rows: str, seeds: int, load_in_4bit: bool, overrides: Mapping[str, Any]
) -> Study:
    """The study of a model and rows on this machine."""
    dtype = "float16" if find_device().kind == "cuda" else "float32"
    made = {"seeds": seeds, "load_in_4bit": load_in_4bit, "merged_dtype": dtype}
    study = mine(model, rows, **made, overrides=overrides)
    if _comes_quantised(study.tuned.model):
        return mine(model, rows, **made, has_16bit=False, overrides=overrides)
    return study


def _check(run: Run) -> None:
    """Refuse rows, values or a model that cannot be, before anything is made."""
    tuned = run.study.tuned
    check_input(run)
    _stop_at_red(preflight_model(tuned.model, tuned.adapter, run.root))


def _train(run: Run) -> list[str]:
    """Try one step, fine-tune and merge; what is said of the rows."""
    from slimlib.merge.plain import merge_arm
    from slimlib.train.finetune import training_sets

    tuned = run.study.tuned
    dataset, _, report = training_sets(tuned, run)
    progress.show(report)
    if not run.done(tuned.name, "finetune"):
        _stop_at_red(try_model(tuned, dataset))
    for arm in run.study.arms:
        if arm.trains:
            with live_training():
                finetune(run, arm.name)
        if arm.writes_weights:
            merge_arm(run, arm.name)
    return report.sentences()


def _tell(
    run: Run,
    units: Sequence[Unit],
    config: AskConfig,
    minutes: float | None,
    limit: int | None,
    said: Sequence[str],
    **how: float,
) -> Answer:
    """Ask every arm, answer, and write the report."""
    from slimlib.evaluate.asking import Side

    sides = {
        arm.name: Side(arm.name, open_model(run.model_path(arm.name)), config, run.root / ANSWERS)
        for arm in run.study.arms
    }
    seconds = None if minutes is None else 60 * minutes
    asked, looks = ask_sides(sides, units, run.folder / ASKED, seconds, limit, how["alpha"])
    answer = _answer(run, sides, asked, said, {**how, "look": looks and looks.taken})
    if looks:
        looks.learn(answer.comparison, run.folder / ASKED)
    write_text(run.folder / "report.html", page(answer.document(), answer.figure()))
    write_json(run.folder / "answer.json", answer.to_dict())
    progress.say(f"report: {run.folder / 'report.html'}")
    return answer


def _stop_at_red(checks: Sequence[Check]) -> None:
    """Say what was checked; ValueError at the first that failed, with the way out."""
    for check in checks:
        if not check.ok:
            raise ValueError(str(check))
        progress.say(str(check))


def _comes_quantised(config: ModelConfig) -> bool:
    """Whether a checkpoint has no un-quantised weights."""
    try:
        return stored_quantisation(resolve_name(config.name), hub_revision(config)) is not None
    except (OSError, HubError):  # no such model: the preflight says so, and what to do
        return False


def _rows_file(rows: Any, model: str, root: Path) -> str:
    """Rows by their name; rows that lie in memory are written into a file called by their hash."""
    if isinstance(rows, str | Path):
        return str(Path(rows).resolve()) if os.path.exists(rows) else str(rows)
    read = [dict(row) for row in read_rows(rows)]
    name = f"rows-{sha256(read)[:8]}.jsonl"
    path = root.absolute() / slug(model, name) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, read)
    return str(path)


# ---- answering ----


def _answer(
    run: Run,
    sides: Mapping[str, Any],
    asked: Mapping[str, Path],
    rows: Sequence[str],
    how: Mapping[str, Any],
) -> Answer:
    study = run.study
    results = {
        BASE: asked[BASE],
        **({QUANTISED: asked[QUANTISED]} if QUANTISED in asked else {}),
        **{
            kind: [asked[arm.name] for arm in of_seeds(study, kind)]
            for kind in (TUNED, TUNED_16BIT)
            if of_seeds(study, kind)
        },
    }

    def held(before: str, after: str) -> Comparison:
        return compare(results[before], results[after], relation=MADE_FROM, **how)

    kind, advice = TUNED, "The fine-tuned model is merged into the weights that it was trained on."
    if TUNED_16BIT in results:
        kind, advice = _choose(held(TUNED, TUNED_16BIT))
    best = of_seeds(study, kind)
    return Answer(
        title=study.title,
        rows=rows,
        learned=_learned(run, sides, best, how["alpha"]),
        comparison=held(BASE, kind),
        steps=[Stage(cause, held(*pair)) for pair, cause in STEPS.items() if {*pair} <= {*results}],
        advice=advice,
        place=run.model_path(best[0].name),
        notes=[study.note] if study.note else [],
    )


def _choose(merges: Comparison) -> tuple[str, str]:
    """Which merge to take, and why: the one into 4-bit weights against the one into 16 bit."""
    better = better_merge(merges)
    if better is None:
        return TUNED, (
            "Neither merge is shown to be better than the other (into the 4-bit weights that it "
            "was trained on, or into the un-quantised base); the first is taken."
        )
    names = "un-quantised base", "4-bit weights that it was trained on"
    taken, other = names if better else names[::-1]
    return (TUNED_16BIT if better else TUNED), (
        f"Take the merge into the {taken}: the one into the {other} answers worse."
    )


def _learned(run: Run, sides: Mapping[str, Any], tuned: Sequence[Arm], alpha: float) -> Learned:
    """The loss on the rows that were held out, before and after, over rows and seeds."""
    from slimlib.train.finetune import training_sets

    before, after, kept = [], [], 0
    for arm in tuned:
        _, dataset, _ = training_sets(arm, run)
        if not len(dataset):
            return Learned(0, math.nan, math.nan, over_runs(np.array([math.nan]), []))
        tokenizer = load_tokenizer(arm.model)
        kept = len(dataset)
        for losses, name in ((before, BASE), (after, arm.name)):
            model = sides[name].load()[0]
            losses.append(row_losses(model, dataset, tokenizer.pad_token_id))
            tokens = model.config.get_text_config().vocab_size
            del model  # the side alone says how long it stays
            sides[name].rest()
    changes = [b - a for a, b in zip(before, after, strict=True)]
    return Learned(
        kept,
        float(np.mean([losses.mean() for losses in before])),
        float(np.mean([losses.mean() for losses in after])),
        mean_change(changes, alpha),
        math.log(tokens),
    )


def mean_change(changes: Sequence[np.ndarray], alpha: float) -> Contrast:
    """The mean of changes, one array of rows per seed; each seed holds other rows out.

    The rows' own variance and that between seeds are both counted. One row of one seed has neither,
    and so no interval.
    """
    rows = [Spread(float(c.var(ddof=1)) / len(c), len(c) - 1) for c in changes if len(c) > 1]
    own = pool(rows) if rows else None
    parts = [Spread(own.variance / len(changes), own.df)] if own else []
    means = np.array([change.mean() for change in changes])
    if len(means) > 1:
        parts.append(Spread(float(means.var(ddof=1)) / len(means), len(means) - 1))
    if not parts:
        alone = Estimate(float(means.mean()), math.nan, math.nan)
        return Contrast(alone, "none: one row", None, math.nan, None)
    return over_runs(means, parts, alpha=alpha)
