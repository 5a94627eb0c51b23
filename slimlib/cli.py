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

from slimlib.pipeline.preflight import check_adapters, check_input
from slimlib.pipeline.study import print_tables
from slimlib.run import Run
from slimlib.studies.get import GRIDS, get_study


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
    from slimlib.comparison.benchmarks import ALPHA, MARGIN

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


def run_study(arguments: argparse.Namespace) -> int:
    """Check everything that can be checked, run the notebooks, print Table 2."""
    from slimlib.common.notebooks import NotebookError, execute, select

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
    """Run a grid, gather its records, say what is missing."""
    from slimlib.papers.key_variables.cells import read_grid
    from slimlib.pipeline.sweep import gather_records, sweep_grid
    from slimlib.run import default_root
    from slimlib.studies.get import get_design

    design = get_design(arguments.study, **parse_overrides(arguments.set))
    check_adapters(design.study)
    seeds = parse_seeds(arguments.seeds)
    cells = design.select(arguments.cells) if arguments.cells else ()
    root = Path(arguments.runs) if arguments.runs else default_root()
    how = (arguments.workers, cells, arguments.keep_weights)
    missing = sweep_grid(design.study, root, seeds, *how)
    folder = root / "records" / design.study.name
    gather_records(design.study, root, seeds, folder)
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


def run_compare(arguments: argparse.Namespace) -> int:
    """Print the verdict on two evaluated models."""
    from slimlib.comparison.two_models import compare

    settings = {name: getattr(arguments, name) for name in ("strict", "margin", "alpha")}
    return _print(compare(arguments.base, arguments.tuned, **settings), arguments)


def run_audit(arguments: argparse.Namespace) -> int:
    """Print claim, recomputed number and verdict for each number of the two papers."""
    from slimlib.papers.slimming import audit

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

    import slimlib.evaluate.scoring  # noqa: F401  (registers it)

    sys.argv = ["slimlib lm-eval", *arguments.rest]
    cli_evaluate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
