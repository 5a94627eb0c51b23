"""The command line: run a study, compare two evaluated models, audit the paper's numbers.

Exit codes: 0 done, 1 a notebook stopped, 2 bad input (one line says what, and nothing is written).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimlib.config import Study, get_study
from slimlib.presets import GRIDS
from slimlib.runs import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["lm-eval"]:  # its options are not ours to read
        arguments = argparse.Namespace(command=run_lm_eval, rest=argv[1:])
    else:
        arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without UTF-8 is no error
        sys.stdout.reconfigure(errors="replace")
    try:
        return arguments.command(arguments)
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in `slimlib audit | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder without access
        print(f"slimlib: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("slimlib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a study: fine-tune, merge, evaluate, report")
    run.add_argument(
        "--study", default="auto", help="auto, paper, micro, smoke or rehearsal (default: auto)"
    )
    run.add_argument("--data", help="local folder of benchmarks and rows")
    run.add_argument("--runs", help="folder of the runs (default: SLIMLIB_RUNS, else ./runs)")
    run.add_argument(
        "--notebooks", default="01-05", help="which notebooks, as 01-05 or 03 (default: 01-05)"
    )
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as adapter.r=16"
    )
    run.set_defaults(command=run_study)
    _add_sweep(commands)
    _add_compare(commands)
    audit = commands.add_parser("audit", help="recompute the numbers that the two papers print")
    audit.add_argument(
        "files", nargs="*", help="the author's result files, or their folder (default: none)"
    )
    _add_formats(audit)
    audit.set_defaults(command=run_audit)
    commands.add_parser("lm-eval", help="lm-evaluation-harness itself, with slimlib's --model slim")
    figures = commands.add_parser("figures", help="for maintainers: redraw figures/ from records")
    figures.add_argument("runs", nargs="*", help="run folders whose records are taken over first")
    figures.set_defaults(command=run_figures)
    return parser


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser("sweep", help="run a grid study, cell by cell, and list the gaps")
    sweep.add_argument("--study", default="key_variables_micro", help="or key_variables, on a GPU")
    sweep.add_argument("--seeds", default="1,2,3", help="of the fine-tuning, as 1,2,3")
    sweep.add_argument("--workers", type=int, default=1, help="processes that share the cores")
    sweep.add_argument("--cells", default="", help="some only: cells or experiments, as E1,base")
    sweep.add_argument("--runs", help="folder of the runs (default: SLIMLIB_RUNS, else ./runs)")
    sweep.add_argument("--keep-weights", action="store_true", help="of cells that are evaluated")
    sweep.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as train.learning_rate=1e-3",
    )
    sweep.set_defaults(command=run_sweep)


def _add_compare(commands: Any) -> None:
    from slimlib.benchmarks import ALPHA, MARGIN

    compare = commands.add_parser(
        "compare",
        help="say what a model lost against another: any lm-eval output or slimlib arm",
    )
    compare.add_argument("base", help="results of the model before: a JSON file or a folder")
    compare.add_argument("tuned", help="results of the model after")
    compare.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        help="points within which a change counts as kept (default: %(default)g)",
    )
    compare.add_argument(
        "--alpha", type=float, default=ALPHA, help="level of every claim (default: %(default)g)"
    )
    compare.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse results whose n-shot, task version or limit differ (default: refuse)",
    )
    _add_formats(compare)
    compare.set_defaults(command=run_compare)


def _add_formats(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON (default: text)")
    formats.add_argument("--markdown", action="store_true", help="print Markdown")


def parse_overrides(pairs: Sequence[str]) -> dict[str, str]:
    """["adapter.r=16"] -> {"adapter.r": "16"}; ValueError on a pair without "="."""
    overrides = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {pair!r} is not KEY=VALUE")
        overrides[key.strip()] = value.strip()
    return overrides


def check_adapters(study: Study) -> None:
    """Hold every adapter against the shapes of its model, where those are at hand.

    Raises:
        ValueError: values or rules that do not fit a module, named with its shape.
    """
    from slimlib.adapters import compile_plan
    from slimlib.model import resolve_name
    from slimlib.shapes import shape_of_folder

    for arm in study.arms:
        folder = Path(resolve_name(arm.model.name))
        if arm.adapter and (folder / "config.json").is_file():
            shape = shape_of_folder(folder)
            if shape:
                compile_plan(shape.modules(), arm.adapter)


def run_study(arguments: argparse.Namespace) -> int:
    """Check everything that can be checked, run the notebooks, print Table 2."""
    from slimlib.execute import NotebookError, execute, select

    overrides = parse_overrides(arguments.set)
    study = get_study(arguments.study, arguments.data, **overrides)
    if study.name in GRIDS:
        n = len(study.arms)
        raise ValueError(f"{study.name} is a grid of {n} cells: slimlib sweep --study {study.name}")
    run = Run(study, arguments.runs)
    notebooks = select(arguments.notebooks)
    check_input(run)
    if study.reason:
        print(study.reason)
    parameters = {
        "STUDY": study.name,
        "RUNS": str(run.root.resolve()),
        "DATA": str(run.local_data or ""),
        "OVERRIDES": overrides,
    }
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the kernels fork
    for path in notebooks:
        try:
            execute(path, parameters, run.folder / "notebooks" / path.name)
        except NotebookError as error:
            print(f"slimlib: {error}", file=sys.stderr)
            return 1
    print_tables(run)
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    """Run a grid, write its compact records, say what is missing."""
    from slimlib.runs import default_root
    from slimlib.variables.presets import get_design
    from slimlib.variables.records import read_grid
    from slimlib.variables.sweep import sweep_grid
    from slimlib.variables.writing import write_records

    design = get_design(arguments.study, **parse_overrides(arguments.set))
    check_adapters(design.study)
    seeds = parse_seeds(arguments.seeds)
    cells = design.select(arguments.cells) if arguments.cells else ()
    root = Path(arguments.runs) if arguments.runs else default_root()
    how = (arguments.workers, cells, arguments.keep_weights)
    missing = sweep_grid(design.study, root, seeds, *how)
    folder = root / "records" / design.study.name
    write_records(design, root, seeds, folder)
    print(read_grid(folder, design).sentence().splitlines()[0])
    for job, why in missing.items():
        print(f"missing: seed {job.seed} {job.cell}: {why}")
    print(folder)
    return 1 if missing else 0


def parse_seeds(text: str) -> list[int]:
    """ "1,2,3" -> [1, 2, 3]; ValueError on anything else."""
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise ValueError(f"--seeds {text!r}: must be whole numbers, as 1,2,3")
    return [int(part) for part in text.split(",")]


def check_input(run: Run) -> None:
    """Refuse bad settings, rows and files before anything is written.

    Raises:
        ValueError: naming the value and the way out.
    """
    from slimlib.data import check_in_world, check_local_rows
    from slimlib.model import choose_backend, resolve_name
    from slimlib.tasks import check_files

    folder = run.folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"run folder {folder}: {existing} is not a folder that can be written to")
    run.study.tuned  # noqa: B018  refuses a study without one
    run.check()
    check_adapters(run.study)
    for arm in run.study.arms:
        for task in arm.evaluate.tasks if run.local_data else ():
            check_files(task, run.local_data)
        resolve_name(arm.model.name)
        choose_backend(arm.model.backend)
        if arm.trains:
            if run.study.data == "world" and not arm.data.path:
                check_in_world(arm.data)
            check_local_rows(arm.data, run.local_data)


def print_tables(run: Run) -> None:
    """Print Table 2 and say where the files are."""
    from slimlib.report import render_table2, table2

    records = run.records()
    if not any("evaluate" in record["stages"] for record in records):
        return
    print(render_table2(table2(records, run.study)))
    for path in (run.folder / "table1.csv", run.folder / "table2.csv", run.figures):
        if path.exists():
            print(path)


def run_compare(arguments: argparse.Namespace) -> int:
    """Print the verdict on two evaluated models."""
    from slimlib.comparison import compare

    settings = {name: getattr(arguments, name) for name in ("strict", "margin", "alpha")}
    return _print(compare(arguments.base, arguments.tuned, **settings), arguments)


def run_audit(arguments: argparse.Namespace) -> int:
    """Print claim, recomputed number and verdict for each number of the two papers."""
    from slimlib.audit import audit

    return _print(audit(arguments.files), arguments)


def _print(report: Any, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps(report.to_dict(), ensure_ascii=False, indent=1, allow_nan=False))
    else:
        print(report.to_markdown() if arguments.markdown else report.to_text())
    return 0


def run_lm_eval(arguments: argparse.Namespace) -> int:
    """lm-eval's own command line in a process that knows the model "slim"."""
    from lm_eval.__main__ import cli_evaluate

    import slimlib.scoring  # noqa: F401  (registers it)

    sys.argv = ["slimlib lm-eval", *arguments.rest]
    cli_evaluate()
    return 0


def run_figures(arguments: argparse.Namespace) -> int:
    """Redraw the committed figures from the committed records."""
    from slimlib.gallery import collect, redraw, update_readme

    for folder in arguments.runs:
        collect(Path(folder))
    for path in [*redraw(), update_readme()]:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
