"""The author's result files against paper A: their column, their settings, their checkpoint.

The files are lm-eval's (`published.RECORDS`). Each is recognised by its scores; the token that ends
a text tells which checkpoint was evaluated, whatever its folder was called. A file whose scores are
no published column gets a row that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slimlib import metrics
from slimlib.comparison.benchmarks import role_of
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import (
    AGREES,
    DIFFERS,
    UNCHECKABLE,
    Finding,
    judge,
    spread,
    weakest,
)
from slimlib.papers.slimming.recomputed import FR, score_pair
from slimlib.results import Results, TaskResults, read_results

FILES = "results*.json"  # what lm-eval calls them
_SETTINGS = ("model_args", "dtype", "batch_size", "gen_kwargs", "chat_template")
_ASK = f"Give the author's result files to check it ({published.RECORDS})."
Published = dict[tuple[str, str], published.Score]


def file_findings(files: Sequence[str | Path]) -> Iterator[Finding]:
    """Findings about the author's result files, or that they were not given.

    Raises:
        ValueError: a path that is missing, a folder without result files, a file that is no lm-eval
            result; names it.
    """
    columns: dict[str, list[Results]] = {column: [] for column in published.TABLE2}
    for path in _expand(files):
        results = read_results(path)
        column = column_of(results)
        if column is None:
            yield _foreign(results)
        else:
            columns[column].append(results)
            yield from _file(results, column)
    for column, found in columns.items():
        yield from _copies(found, column)
    if columns["base"] and columns["llama-2k"]:
        yield _exact_rate(columns["base"][0], columns["llama-2k"][0])
    yield from _missing(columns)


def _expand(files: Sequence[str | Path]) -> list[Path]:
    """Files as given and those inside folders, each once."""
    paths: dict[Path, Path] = {}
    for given in map(Path, files):
        found = sorted(given.rglob(FILES)) if given.is_dir() else [given]
        if not found:
            raise ValueError(f"{given}: no {FILES} in this folder; give the author's result files")
        paths |= {path.resolve(): path for path in found}
    return list(paths.values())


def column_of(results: Results) -> str | None:
    """The column of Table 2 that a file holds: the one with all of its five scores; None: none."""
    scores = _scores(results)
    for column, cells in published.TABLE2.items():
        if all(_prints(scores.get(key), cell.value) for key, cell in cells.items()):
            return column
    return None


def _prints(score: float | None, printed: float) -> bool:
    return score is not None and judge(printed, score, 2) == AGREES


def _scores(results: Results) -> dict[tuple[str, str], float]:
    """(role, metric) -> per cent."""
    tasks = _by_role(results).items()
    return {(role, m): 100 * s.value for role, task in tasks for m, s in task.scores.items()}


def _by_role(results: Results) -> dict[str, TaskResults]:
    """The paper's benchmarks among a file's tasks."""
    found = {task.role or role_of(name): task for name, task in results.tasks.items()}
    return {role: found[role] for role in published.DOCUMENTS if role in found}


def _foreign(results: Results) -> Finding:
    values = [f"{role} {m.partition(',')[0]} {v:.2f}" for (role, m), v in _scores(results).items()]
    return Finding(
        "A",
        f"{_label(results)} is a result file of Table 2",
        "-",
        ", ".join(values) or "none of the three benchmarks",
        UNCHECKABLE,
        "Its scores are no column of the published table, so it was left out.",
    )


def _file(results: Results, column: str) -> Iterator[Finding]:
    """One recognised file: scores, settings, checkpoint."""
    yield _score_finding(results, column)
    yield _setting_finding(results)
    if column in published.CHECKPOINTS:
        yield _checkpoint(results, column)


def _score_finding(results: Results, column: str) -> Finding:
    """All five scores, and the "+-" that follow from them."""
    scores, cells = _scores(results), published.TABLE2[column]
    errors = [judge(cells[key].plus_minus, value, 2) for key, value in _file_errors(results)]
    return Finding(
        "A",
        f"{_label(results)} holds the column '{published.TABLE1[column].model}'",
        " / ".join(f"{cell.value:.2f}" for cell in cells.values()),
        " / ".join(f"{scores[key]:.4f}" for key in cells),
        weakest([AGREES, *errors]),  # by its scores the file was recognised
        f"All {len(cells)} scores round to the printed ones, and {errors.count(AGREES)} of its "
        f"{len(errors)} standard errors to the '+-'; the file calls its model {results.name}.",
    )


def _file_errors(results: Results) -> Iterator[tuple[tuple[str, str], float]]:
    for role, task in _by_role(results).items():
        for metric, score in task.scores.items():
            if score.stderr is not None and (role, metric) in published.TABLE2["base"]:
                yield (role, metric), 100 * score.stderr


def _setting_finding(results: Results) -> Finding:
    """How the file was made. Whole test sets: only then are the scores what the table says."""
    tasks, settings = _by_role(results), results.settings
    sizes = {role: task.n for role, task in tasks.items()}
    limits = [task.limit for task in tasks.values() if task.limit is not None]
    said = [
        f"{role} {'?' if task.n is None else f'{task.n:,}'} ({_said(task.num_fewshot)}-shot)"
        for role, task in tasks.items()
    ]
    made = f"{_said(settings.get('dtype'))}, batch {_said(settings.get('batch_size'))}"
    whole = not limits and sizes == published.DOCUMENTS
    return Finding(
        "A",
        f"{_label(results)}: all documents, by lm-evaluation-harness",
        "lm-evaluation-harness",
        f"{', '.join(said)}, {made}",
        AGREES if whole else UNCHECKABLE if None in sizes.values() and not limits else DIFFERS,
        f"{f'Limit {limits[0]}' if limits else 'No limit'}, "
        f"{'a' if settings.get('chat_template') else 'no'} chat template.",
    )


def _checkpoint(results: Results, column: str) -> Finding:
    """Which checkpoint the end token betrays."""
    claimed, end = published.CHECKPOINTS[column], end_token(results.settings)
    known = published.END_TOKENS.get(end)
    if known is None:
        verdict, found = UNCHECKABLE, f"end token {_said(end)}"
        why = "The end token is that of neither checkpoint, or the file does not name it."
    else:
        verdict = AGREES if known.checkpoint == claimed else DIFFERS
        found = f"{known.checkpoint}: its end token is {end} {known.token}"
        why = _checkpoint_reason(column, verdict)
    model = published.TABLE1[column].model
    return Finding("A", f"{_label(results)}: checkpoint of '{model}'", claimed, found, verdict, why)


def _checkpoint_reason(column: str, verdict: str) -> str:
    if verdict == AGREES:
        return "Its tokenizer is the claimed checkpoint's."
    if column == "base":
        return (
            "By its tokenizer the row 'base' is the instruction-tuned sibling: FR, dA and dK "
            "compare it with a fine-tune of another checkpoint and do not measure the fine-tuning "
            "alone."
        )
    return "Its tokenizer is another checkpoint's."


def end_token(settings: dict[str, Any]) -> int | None:
    """The id of the token that ends a text: `eot_token_id`, else that of `tokenizer_eos_token`."""
    found = settings.get("eot_token_id")
    named = settings.get("tokenizer_eos_token")
    if found is None and isinstance(named, list | tuple) and named:
        found = named[-1]  # lm-eval writes [token, "id"]
    return int(found) if str(found).isdecimal() else None


def _copies(found: Sequence[Results], column: str) -> Iterator[Finding]:
    """Several files of one column: the same to the last digit, although made differently?"""
    if len(found) < 2:
        return
    first, *others = (_scores(results) for results in found)
    same = all(scores == first for scores in others)
    differ = [name for name in _SETTINGS if len({str(r.settings.get(name)) for r in found}) > 1]
    yield Finding(
        "A",
        f"'{published.TABLE1[column].model}': {len(found)} files, one result",
        f"{len(first)} scores",
        "equal to the last digit" if same else "not equal",
        AGREES if same else DIFFERS,
        f"{' and '.join(map(_label, found))}; settings that differ: {', '.join(differ) or 'none'}.",
    )


def _exact_rate(base: Results, tuned: Results) -> Finding:
    """FR from the files' own scores."""
    printed = published.MEASURES["llama-2k"]["gsm8k"].value
    scores = [_scores(results)[FR] for results in (base, tuned)]
    rounded = score_pair(FR)
    value = metrics.forgetting_rate(*scores)
    return Finding(
        "A",
        "GSM8K: forgetting rate FR from the result files",
        f"{printed:.2f} %",
        f"{value:.2f} %",
        judge(printed, value, 2, spread(metrics.forgetting_rate, *rounded)),
        f"(1 - {scores[1]:.4f} / {scores[0]:.4f}) x 100, from the files' own scores.",
    )


def _missing(columns: dict[str, list[Results]]) -> Iterator[Finding]:
    """What only a file can tell, of the columns without one."""
    for column, found in columns.items():
        if found:
            continue
        model = published.TABLE1[column].model
        if column in published.CHECKPOINTS:
            claim, printed = f"Checkpoint of '{model}'", published.CHECKPOINTS[column]
            why = _ASK
        else:
            claim, printed = f"Scores of '{model}'", f"{len(published.TABLE2[column])} scores"
            why = "No result file of this column is public."
        yield Finding("A", claim, printed, "no file", UNCHECKABLE, why)


def _label(results: Results) -> str:
    return Path(results.source).name


def _said(value: Any) -> str:
    return "not said" if value is None else str(value)
