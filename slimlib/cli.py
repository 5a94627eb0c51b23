"""The command line: run a study, compare two evaluated models, audit the papers' numbers.

Exit codes: 0 done; 1 a notebook stopped, cells are missing, or the doctor found something; 2 bad
input (one line says what, and nothing is written); 130 and 143 stopped by Ctrl-C and by SIGTERM.

A command imports what it needs when it is called: `slimlib --help` answers at once.
"""

from __future__ import annotations

import errno
import importlib.metadata
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slimlib.common.checked import MISSING, masked, typed
from slimlib.common.document import plain
from slimlib.common.files import json_text
from slimlib.common.stopping import Stopped, stoppable
from slimlib.comparison.benchmarks import ALPHA, MARGIN

UsageError = typer.BadParameter.__base__  # click's own, wherever typer keeps it
NO_ROOM = ": make room and run it again; what is done is kept"
READ_ONLY = ": choose a folder that can be written to"
NO_ACCESS = ": give yourself access to it, or choose another place"  # to read it, or to write
WAYS_OUT = {  # by the system's number of an error
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), NO_ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM), NO_ACCESS),
    errno.EROFS: READ_ONLY,
}
# Commands that go on where they were stopped.
RESUMED = ("check", "tune", "run", "notebooks", "sweep")

app = typer.Typer(
    name="slimlib",
    help="Fine-tune a small LLM on a free GPU, and find out whether it lost its mind.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without UTF-8 is no error
        sys.stdout.reconfigure(errors="replace")
    try:
        with stoppable():
            if argv[:1] == ["lm-eval"]:  # its options are not ours to read
                return run_lm_eval(argv[1:])
            return app(argv, prog_name="slimlib", standalone_mode=False) or 0
    except Stopped as stopped:
        again = f"; run it again to go on: slimlib {shlex.join(argv)}"
        return _end("stopped" + (again if argv[0] in RESUMED else ""), stopped.exit_code)
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in `slimlib audit | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "slimlib"
        return _end(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder without access
        way_out = WAYS_OUT.get(getattr(error, "errno", None), "")
        return _end(f"{error}{way_out}", 2)


def _end(message: str, code: int) -> int:
    """Say why the command ends, on one line, and hand back its exit code."""
    text = masked(plain(message))
    if len(text) > LONGEST:  # a value of thousands of characters
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    print(f"slimlib: {text}", file=sys.stderr)
    return code


def _print_version(asked: bool) -> None:
    if asked:
        print(f"slimlib {importlib.metadata.version('slimlib')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="say it")
    ] = False,
) -> None:
    pass


StudyName = Annotated[
    str,
    typer.Option(
        help="auto (as the machine is), paper, micro, smoke, smol, alignment, mitigation_micro, ..."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="local folder of benchmarks and rows", show_default="the study's own"),
]
Runs = Annotated[
    Path | None,
    typer.Option(help="folder of the runs", show_default="SLIMLIB_RUNS, else ./runs"),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="change a value, as adapter.r=16; repeatable; `slimlib keys` lists the keys",
        show_default="as the study has it",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON", show_default="text")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="print Markdown", show_default="text")]


FailOn = Annotated[
    Literal["forgot", "broken", "any"] | None,
    typer.Option(help="end with exit code 3 where a task is so", show_default="never"),
]
Tasks = Annotated[
    str,
    typer.Option(
        help="lm-eval's tasks or groups, .yaml files, or .jsonl files of questions, by commas",
        show_default="the panel's",
    ),
]
Panel = Annotated[Literal["quick", "standard", "paper"], typer.Option(help="tasks by capability")]
Minutes = Annotated[
    float | None,
    typer.Option(help="ask a random sample that fits; run again, it asks more", show_default="all"),
]
Limit = Annotated[
    int | None, typer.Option(help="the first so many documents of each task", show_default="all")
]
Shots = Annotated[
    int | None,
    typer.Option(help="solved examples in the prompt", show_default="each task's own"),
]
ChatTemplate = Annotated[
    bool, typer.Option("--apply-chat-template", help="ask through the models' chat templates")
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="where models run")]
Margin = Annotated[float, typer.Option(help="points within which a change counts as kept")]
Alpha = Annotated[float, typer.Option(help="level of every claim")]
LONGEST = 1000  # characters of a message
FAILED = 3  # exit code of a comparison that --fail-on stops at


# ---------------------------------------------------------------------------------------- commands


@app.command()
def run(
    study: StudyName = "auto",
    data: Data = None,
    runs: Runs = None,
    overrides: Set = None,
) -> int:
    """Run a study: fine-tune, merge, evaluate, and say what was lost."""
    from slimlib.studies.get import get_study

    asked = get_study(study, data, **parse_overrides(overrides or ()))  # bad input ends here, fast
    from slimlib.pipeline.study import run_study

    if asked.reason:
        print(asked.reason)
    run_study(asked, runs)
    return 0


@app.command()
def notebooks(
    numbers: Annotated[str, typer.Argument(help="which, as 01-05, 03 or 01,05")] = "01-05",
    study: StudyName = "auto",
    data: Data = None,
    runs: Runs = None,
    overrides: Set = None,
) -> int:
    """Execute the numbered notebooks and keep the executed copies in the run folder."""
    from slimlib.common.notebooks import NotebookError, execute, select
    from slimlib.pipeline.preflight import check_input
    from slimlib.pipeline.study import write_study
    from slimlib.run import Run
    from slimlib.studies.get import get_study

    values = parse_overrides(overrides or ())
    opened = Run(get_study(study, data, **values), runs)
    chosen = select(numbers)
    check_input(opened)
    write_study(opened)  # what notebook 01 would do: any other can be the first
    parameters = {
        "STUDY": opened.study.name,
        "RUNS": str(opened.root.resolve()),
        "RUN": str(opened.folder.resolve()),
        "DATA": str(opened.local_data or ""),
        "OVERRIDES": values,
    }
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the kernels fork
    try:
        for path in chosen:
            print(execute(path, parameters, opened.folder / "notebooks" / path.name))
    except NotebookError as error:
        return _end(str(error), 1)
    return 0


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="results of the model before: a file or a folder")],
    tuned: Annotated[str, typer.Argument(help="results of the model after")],
    margin: Margin = MARGIN,
    alpha: Alpha = ALPHA,
    strict: Annotated[
        bool, typer.Option(help="refuse results whose n-shot, task version or limit differ")
    ] = True,
    relation: Annotated[
        Literal["auto", "tuned", "other"],
        typer.Option(help="tuned: the second was made from the first; other: it was not; auto"),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="write a .html, .json, .md or .xml (JUnit)", show_default="none"
        ),
    ] = None,
    fail_on: FailOn = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> int:
    """Say what a model lost against another: any lm-eval output or slimlib arm."""
    from slimlib.comparison.two_models import compare
    from slimlib.report.verdicts import check_report, failures, write_report

    show = _printer(as_json, as_markdown)
    if output:
        check_report(output)
    how = {"strict": strict, "margin": margin, "alpha": alpha, "relation": relation}
    found = compare(base, tuned, **how)
    failed = failures(found, fail_on) if fail_on else []
    show(found)
    if output:
        print(write_report(found, output))
    return FAILED if failed else 0


@app.command()
def check(
    base: Annotated[
        str,
        typer.Argument(help="the model before: hub id, folder, GGUF file or results made already"),
    ],
    tuned: Annotated[
        str | None,
        typer.Argument(
            help="the model after, or its adapter",
            show_default="BASE is an adapter; its model is found",
        ),
    ] = None,
    tasks: Tasks = "",
    panel: Panel = "quick",
    minutes: Minutes = None,
    limit: Limit = None,
    num_fewshot: Shots = None,
    apply_chat_template: ChatTemplate = False,
    dtype: Annotated[
        Literal["auto", "float16", "bfloat16", "float32"], typer.Option(help="of the weights")
    ] = "auto",
    device: DeviceName = "auto",
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the results", show_default="in runs/checks")
    ] = None,
    margin: Margin = MARGIN,
    alpha: Alpha = ALPHA,
    fail_on: FailOn = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> int:
    """Ask two models the same questions, and say what the second lost."""
    show = _printer(as_json, as_markdown)
    choose_device(device)
    from slimlib.pipeline.check import check
    from slimlib.report.verdicts import failures

    found = check(
        base,
        tuned,
        tasks=tasks,
        panel=panel,
        minutes=minutes,
        limit=limit,
        num_fewshot=num_fewshot,
        apply_chat_template=apply_chat_template,
        dtype=dtype,
        data=data,
        out=out,
        margin=margin,
        alpha=alpha,
    )
    show(found)
    return FAILED if fail_on and failures(found, fail_on) else 0


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="hub id, folder or micro:base")],
    rows: Annotated[
        str, typer.Argument(help="a file (.jsonl, .json, .csv, .parquet, ...) or a hub id")
    ],
    tasks: Tasks = "",
    panel: Panel = "quick",
    minutes: Annotated[
        float | None,
        typer.Option(
            help="for the questions, not for training: ask a sample that fits; again: ask more",
            show_default="all",
        ),
    ] = None,
    limit: Limit = None,
    num_fewshot: Shots = None,
    apply_chat_template: ChatTemplate = False,
    seeds: Annotated[int, typer.Option(help="fine-tunings, each with another seed")] = 1,
    load_in_4bit: Annotated[
        bool, typer.Option("--4bit/--no-4bit", help="QLoRA on NF4 weights, or LoRA on 16-bit ones")
    ] = True,
    device: DeviceName = "auto",
    data: Data = None,
    runs: Runs = None,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="write one with the verdicts beside the weights")
    ] = False,
    margin: Margin = MARGIN,
    alpha: Alpha = ALPHA,
    overrides: Set = None,
    fail_on: FailOn = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> int:
    """Fine-tune a model on rows, and say what it learned and what it lost."""
    show = _printer(as_json, as_markdown)
    choose_device(device)
    from slimlib.pipeline.tune import tune
    from slimlib.report.verdicts import failures

    found = tune(
        model,
        rows,
        tasks=tasks,
        panel=panel,
        minutes=minutes,
        limit=limit,
        num_fewshot=num_fewshot,
        apply_chat_template=apply_chat_template,
        seeds=seeds,
        load_in_4bit=load_in_4bit,
        data=data,
        runs=runs,
        model_card=model_card,
        margin=margin,
        alpha=alpha,
        **parse_overrides(overrides or ()),
    )
    show(found)
    return FAILED if fail_on and failures(found.comparison, fail_on) else 0


@app.command()
def audit(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="the author's result files, or their folder", show_default="none"),
    ] = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> int:
    """Recompute the numbers that the two papers print."""
    from slimlib.papers.slimming import audit

    return _printer(as_json, as_markdown)(audit(files or []))


@app.command()
def sweep(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|NAME",
            help="a .yaml or .json file of a sweep; key_variables_micro; key_variables on a GPU",
        ),
    ] = "key_variables_micro",
    seeds: Annotated[
        str, typer.Option(help="of the fine-tuning", show_default="1,2,3, or the file's")
    ] = "",
    workers: Annotated[int, typer.Option(help="processes that share the cores")] = 1,
    cells: Annotated[
        str, typer.Option(help="some only: cells or experiments, as E1,base", show_default="all")
    ] = "",
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: processes here; ray: Ray's workers")
    ] = "local",
    address: Annotated[
        str, typer.Option(help="of a Ray cluster", show_default="one of its own, here")
    ] = "",
    num_cpus: Annotated[
        float | None,
        typer.Option(help="CPUs that Ray gives a cell", show_default="its share, or 1"),
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option(help="GPUs that Ray gives a cell", show_default="1 where the models need one"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done, and start nothing")
    ] = False,
    runs: Runs = None,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="of cells that are evaluated", show_default="no")
    ] = False,
    overrides: Set = None,
    study: Annotated[str, typer.Option(hidden=True)] = "",
) -> int:
    """Run a grid of arms, one by one or on many machines, and list the gaps."""
    if engine == "local" and (address or num_cpus is not None or num_gpus is not None):
        raise UsageError("--address, --num-cpus and --num-gpus go with --engine ray")
    values = parse_overrides(overrides or ())
    numbers = parse_seeds(seeds) if seeds else ()
    from slimlib.pipeline.whole_sweep import answer, open_sweep, run_sweep

    opened = open_sweep(study or asked, numbers, cells, runs, values)
    if dry_run:
        print(opened.plan(workers).document().to_text())
        return 0
    missing = run_sweep(opened, workers, keep_weights, engine, address, num_cpus, num_gpus)
    print(answer(opened))
    for job, why in missing.items():
        print(plain(f"missing: seed {job.seed} {job.cell}: {why}"))
    print(opened.folder)
    return 1 if missing else 0


@app.command()
def status(
    runs: Annotated[
        Path | None,
        typer.Argument(
            help="a run folder, or the folder of the runs", show_default="SLIMLIB_RUNS, else ./runs"
        ),
    ] = None,
) -> int:
    """Say how far runs are, what is missing or stale, and the command that goes on."""
    from slimlib.pipeline.status import status

    print("\n\n".join(found.to_text() for found in status(runs)))
    return 0


@app.command()
def doctor(run: Annotated[Path, typer.Argument(help="a run folder")]) -> int:
    """Read all files of a run again, and say what is damaged."""
    from slimlib.pipeline.status import doctor

    found, healthy = doctor(run)
    print(found.to_text())
    return 0 if healthy else 1


@app.command()
def keys(
    pattern: Annotated[str, typer.Argument(help="a part of the name", show_default="all")] = "",
) -> int:
    """List the keys of --set: what they allow, their default, tune's own, where it comes from."""
    from slimlib.studies.mine import unlike_defaults
    from slimlib.studies.overrides import SHORT_KEYS, keys

    found = keys(pattern)
    if not found:
        raise ValueError(f"no key has {pattern!r} in its name or description: see slimlib keys")
    of_tune = unlike_defaults()
    heads = ("key", "allowed", "default", "of tune", "about")
    table = Table(*heads, box=None, pad_edge=False)
    for key in found:
        own = of_tune.get(SHORT_KEYS.get(key.name, key.name), MISSING)
        cells = (*key[:3], "" if own is MISSING else typed(own), key.about)
        table.add_row(*map(_unmarked, cells))
    Console(highlight=False).print(table)
    return 0


def _unmarked(text: str) -> str:
    return escape(plain(text))


@app.command(
    "lm-eval",
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    },
)
def _lm_eval(context: typer.Context) -> int:
    """lm-evaluation-harness itself, with slimlib's --model slim."""
    return run_lm_eval(context.args)


def run_lm_eval(arguments: Sequence[str]) -> int:
    """lm-eval's own command line in a process that knows the model "slim"."""
    from lm_eval.__main__ import cli_evaluate

    import slimlib.scoring  # noqa: F401  (registers it)

    sys.argv = ["slimlib lm-eval", *arguments]
    cli_evaluate()
    return 0


# ------------------------------------------------------------------------------------------ values


def parse_overrides(pairs: Sequence[str]) -> dict[str, str]:
    """["adapter.r=16"] -> {"adapter.r": "16"}; ValueError on a pair without "="."""
    overrides = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {pair!r} is not KEY=VALUE")
        overrides[key.strip()] = value.strip()
    return overrides


def choose_device(name: str) -> None:
    """Hide the GPUs for "cpu"; ValueError for "cuda" where torch sees none."""
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when torch first looks for a GPU
    elif name == "cuda":
        from slimlib.common.hardware import find_device

        if find_device().kind != "cuda":
            raise ValueError("--device cuda: torch sees no CUDA GPU here; leave --device away")


def parse_seeds(text: str) -> list[int]:
    """ "1,2,3" -> [1, 2, 3]; ValueError on anything else."""
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise ValueError(f"--seeds {text!r}: must be whole numbers, as 1,2,3")
    return [int(part) for part in text.split(",")]


def _printer(as_json: bool, as_markdown: bool) -> Any:
    """What prints a result in the format that was asked for."""
    if as_json and as_markdown:
        raise UsageError("--json and --markdown: choose one")

    def show(result: Any) -> int:
        if as_json:
            print(json_text(result.to_dict()))
        else:
            print(result.to_markdown() if as_markdown else result.to_text())
        return 0

    return show


if __name__ == "__main__":
    sys.exit(main())
