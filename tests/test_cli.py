"""The command line: bad input is one line and exit code 2; a notebook that stops is exit code 1."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import slimlib_command
from places import LM_EVAL

from slimlib import cli
from slimlib.common import notebooks
from slimlib.common.notebooks import select
from slimlib.pipeline import study
from slimlib.run import Run
from slimlib.studies.get import get_study

GOOD_ROW = '{"instruction": "a", "input": "", "output": "b"}\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in, with two files of rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text(GOOD_ROW + '{"instruction": "a"}\n')
    (tmp_path / "cut.jsonl").write_text(GOOD_ROW + '{"instr')
    (tmp_path / "one.jsonl").write_text(GOOD_ROW)
    (tmp_path / "empty").mkdir()
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *arguments: str, command: str = "run") -> str:
    """Run the command; it must end with code 2 and one line, which is returned."""
    assert cli.main([command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("slimlib: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--study", "macro"],
            "unknown study 'macro'; known: auto, paper, micro, smoke, rehearsal",
        ),
        (["--study", "rehearsal"], "give --data DIR or set SLIMLIB_DATA"),
        (["--study", "rehearsal", "--data", "nowhere"], "data folder nowhere does not exist"),
        (["--study", "rehearsal", "--data", "empty"], "does not exist"),
        (["--study", "micro", "--data", "empty"], "makes its own data"),
        (["--set", "adapter.r=0"], "adapter.r=0 (arm llama-2k): must be a whole number, 1 to"),
        (["--set", "arms=llama-base"], "no arm among llama-base is fine-tuned: keep one that is"),
        (
            ["--study", "micro", "--set", "dataset=alpaca"],
            "is not part of this study's made-up world",
        ),
        (["--set", "adapter.rank=8"], "unknown key 'adapter.rank'; did you mean adapter.r"),
        (["--set", "r=eight"], "adapter.r=eight (arm llama-2k): must be a whole number"),
        (["--set", "adapter.r"], "--set 'adapter.r' is not KEY=VALUE"),
        (["--set", "adapter.r=1000"], "q_proj (192 x 192): r=1000 exceeds the layer; at most"),
        (["--set", "adapter.method=loha"], "adapter.method=loha (arm llama-2k): must be qlora or"),
        (
            ["--set", "adapter.method=q-bara", "--set", "adapter.lam=5"],
            "q_proj (192 x 192): lam=5 does not divide its 192 inputs; choose a divisor",
        ),
        (
            ["--set", 'adapter.rules=[{"layer_type": "mlpp", "r": 8}]'],
            "layer_type=mlpp (arm llama-2k): must be attention or mlp",
        ),
        (["--set", "adapter.rules={"], "adapter.rules={ (arm llama-2k): must be a list of rules"),
        (["--set", "=8"], "--set '=8' is not KEY=VALUE"),
        (["--set", "data.path=bad.jsonl"], "bad.jsonl row 2 has no text column 'output'"),
        (["--set", "data.path=cut.jsonl"], "cut.jsonl line 2 is not valid JSON"),
        (["--set", "dataset=bad.jsonl"], "bad.jsonl row 2 has no text column 'output'"),
        (["--set", "data.path=nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--set", "data.path=one.jsonl"], "rows asked, the data set has 1"),
        (["--set", "dataset=alpaka"], "unknown data set 'alpaka'; known: alpaca"),
        (["--set", "model=./nowhere"], "model folder ./nowhere does not exist"),
        (["--set", "model=micro:huge"], "unknown embedded checkpoint 'micro:huge'"),
        (
            ["--set", "model.backend=vllm"],
            "model.backend=vllm (arm llama-instruct): must be",
        ),
        (["--set", "arms=llama-9k"], "no arm 'llama-9k'"),
        (["--runs", "one.jsonl"], "one.jsonl is not a folder that can be written to"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, here, capsys):
    before = files(here)
    study = [] if "--study" in arguments else ["--study", "smoke"]
    assert message in refused(capsys, *study, *arguments)
    assert files(here) == before
    assert not (here / "runs").exists()


def test_a_benchmark_file_that_is_missing_is_named_before_anything_is_trained(
    here, data_folder, capsys
):
    for part in ("alpaca", "gsm8k", "mmlu"):
        os.symlink(data_folder / part, here / "empty" / part)
    line = refused(capsys, "--study", "rehearsal", "--data", "empty")
    assert "task hellaswag: data file" in line and "hellaswag_val_full.jsonl.gz" in line
    assert not (here / "runs").exists()


def test_a_run_folder_made_by_other_settings_is_refused(here, capsys):
    run = Run(get_study("smoke"), here / "runs")
    run.stage("llama-2k", "finetune", dict)
    capsys.readouterr()
    before = files(here)
    line = refused(capsys, "--study", "smoke", "--set", "adapter.r=8")
    assert "adapter.r was 16, now 8" in line and "another --runs" in line
    assert files(here) == before


def test_a_folder_without_access_is_refused(here, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "not a folder that can be written to" in refused(capsys, "--study", "smoke")


def test_a_full_disk_is_one_line(here, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "runs/smoke")

    monkeypatch.setattr(study, "write_json", full)
    assert "No space left on device: 'runs/smoke'" in refused(capsys, "--study", "smoke")


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (PermissionError(13, "Permission denied", "rows.jsonl"), "give yourself access to it"),
        (PermissionError(1, "Operation not permitted", "runs"), "give yourself access to it"),
        (OSError(30, "Read-only file system", "runs"), "choose a folder that can be written to"),
    ],
)
def test_what_may_not_be_read_is_not_said_to_need_a_folder_to_write_to(
    error, way_out, here, capsys, monkeypatch
):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(study, "check_input", refuse)
    line = refused(capsys, "--study", "smoke")
    assert f"{error}: {way_out}" in line
    assert ("written" in line) is (error.errno == 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "slimlib: Missing command; see slimlib --help"),
        (["walk"], "slimlib: No such command 'walk'; see slimlib --help"),
        (["run", "--colour", "red"], "slimlib: No such option --colour; see slimlib run --help"),
        (["compare", "a"], "slimlib: Missing argument 'tuned'; see slimlib compare --help"),
        (["sweep", "--workers", "two"], "slimlib: Invalid value for '--workers'"),
        (["audit", "--json", "--markdown"], "slimlib: --json and --markdown: choose one"),
    ],
)
def test_a_usage_error_is_one_line(arguments, message, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    plain = err.replace("option: --colour", "option --colour").replace("'--colour'", "--colour")
    assert plain.replace("'TUNED'", "'tuned'").startswith(message)  # by the version of typer


def test_no_name_steers_the_terminal(here, capsys):
    line = refused(capsys, "--study", "mi\x1b[31mcro\n")
    assert "\x1b" not in line and "\\x1b[31m" in line


@pytest.mark.parametrize("arguments", [["--study", "macro"], ["--study", "smoke", "--set", "r=x"]])
def test_bad_settings_are_refused_before_torch_is_loaded(arguments, tmp_path):
    code = "import sys; from slimlib.cli import main; code = main(sys.argv[1:]); "
    code += "sys.exit(99 if 'torch' in sys.modules or 'pandas' in sys.modules else code)"
    command = [sys.executable, "-c", code, "run", *arguments]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments):
    code = "import sys; from slimlib.cli import main; code = main(sys.argv[1:]); "
    code += "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert {"typer"} <= {*done.stderr.split()}
    assert {*done.stderr.split()} & {"torch", "pandas", "numpy", "nbclient"} == set()


def test_the_version_is_said(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"slimlib \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_keys_are_listed_with_what_they_allow(capsys):
    assert cli.main(["keys", "learning_rate"]) == 0
    out = capsys.readouterr().out
    assert "train.learning_rate" in out and "0.0002" in out
    assert cli.main(["keys", "data.learn"]) == 0
    heads, values = capsys.readouterr().out.splitlines()[:2]
    at = heads.index("of tune")  # where tune starts from another value than the papers' studies
    assert values[heads.index("default") :].startswith("all ") and values[at:].startswith("answer ")
    assert cli.main(["keys", "nonsense"]) == 2
    assert "no key has 'nonsense'" in capsys.readouterr().err


# ------------------------------------------------------------------------------ Ctrl-C and SIGTERM


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_run_that_is_stopped_says_so_in_one_line(number, code, tmp_path):
    command = [sys.executable, "-m", "slimlib", "run", "--study", "smoke", "--runs", "my runs"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, **pipes
    ) as process:
        for line in process.stderr:
            if line == "finetune llama-2k: started\n":
                break
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    again = "slimlib run --study smoke --runs 'my runs'"
    assert err.splitlines()[-1] == f"slimlib: stopped; run it again to go on: {again}"
    assert "Traceback" not in err and process.returncode == code
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no child is left
    assert not list(tmp_path.rglob("*.tmp"))


def test_overrides_are_split_at_the_first_equals_sign():
    assert cli.parse_overrides(["a.b=c=d", " n = 5 "]) == {"a.b": "c=d", "n": "5"}
    assert cli.parse_overrides([]) == {}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("01-05", ["01", "02", "03", "04", "05"]),
        ("3", ["03"]),
        ("02,04", ["02", "04"]),
        ("1-2, 05", ["01", "02", "05"]),
    ],
)
def test_notebooks_are_chosen_by_range_and_list(text, numbers):
    assert [path.name[:2] for path in select(text)] == numbers


@pytest.mark.parametrize("text", ["09", "05-01", "all"])
def test_notebooks_that_are_not_there_are_refused(text, here, capsys):
    line = refused(capsys, text, "--study", "smoke", command="notebooks")
    assert f"notebooks '{text}': there are 00, 01, 02, 03, 04, 05" in line
    assert not (here / "runs").exists()


# ---------------------------------------------------------------------------- notebooks that stop


@pytest.fixture
def shelf(here, monkeypatch):
    """A folder of notebooks made by a test, which the command runs instead of the real ones."""
    folder = here / "shelf"
    folder.mkdir()
    monkeypatch.setattr(notebooks, "notebooks_folder", lambda: folder)

    def put(name, *sources):
        cells = [nbformat.v4.new_markdown_cell("# Head")]
        parameters = nbformat.v4.new_code_cell('STUDY = "auto"\nOVERRIDES = {}')
        parameters.metadata["tags"] = ["parameters"]
        cells += [parameters, *map(nbformat.v4.new_code_cell, sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")

    return put


def outputs(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    return str([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])


def test_a_notebook_that_raises_is_named_with_its_cell_and_kept(here, shelf, capfd):
    shelf("01_good", "print(STUDY, OVERRIDES)")
    shelf("02_bad", "print('before')", "1 / 0", "print('after')")
    shelf("03_never", "print('never')")
    code = cli.main(["notebooks", "01-03", "--study", "smoke", "--set", "limit=2"])
    assert code == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    # cells: head, parameters, injected parameters, 'before', the bad one
    assert last == "slimlib: 02_bad.ipynb, cell 5: ZeroDivisionError: division by zero"
    kept = here / "runs" / "smoke" / "notebooks"
    assert "smoke {'limit': '2'}" in outputs(kept / "01_good.ipynb")
    bad = outputs(kept / "02_bad.ipynb")
    assert "before" in bad and "ZeroDivisionError" in bad and "after" not in bad
    assert not (kept / "03_never.ipynb").exists()


def test_a_kernel_that_dies_is_named(here, shelf, capfd):
    shelf("01_dies", "import os", "os._exit(9)")
    assert cli.main(["notebooks", "01", "--study", "smoke"]) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("slimlib: 01_dies.ipynb, cell 5: the kernel died")
    assert (here / "runs" / "smoke" / "notebooks" / "01_dies.ipynb").exists()


def test_a_notebook_without_a_parameters_cell_is_refused(here, shelf, capsys):
    shelf("01_odd")
    path = here / "shelf" / "01_odd.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), path)
    assert cli.main(["notebooks", "01", "--study", "smoke"]) == 2
    assert "01_odd.ipynb has no cell tagged 'parameters'" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- compare

PAIR = [str(LM_EVAL / "0.4.13" / model) for model in ("base", "tuned")]


def test_compare_prints_verdict_answers_table_and_notes(capsys):
    assert cli.main(["compare", *PAIR]) == 0
    out = capsys.readouterr().out
    assert out.startswith("stand-in/tuned, against stand-in/base\n")
    assert "not enough data to tell" in out and "document by document" in out
    assert "gsm8k, format or ability?" in out


def test_compare_prints_json_and_markdown(capsys):
    assert cli.main(["compare", *PAIR, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {task["task"] for task in told["tasks"]} >= {"gsm8k", "hellaswag", "mmlu"}
    assert "gsm8k" in told["answers"]
    assert cli.main(["compare", *PAIR, "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("### stand-in/tuned, against stand-in/base\n")


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("compare", ("2.0", "0.05", "strict", "(text)")),
        ("run", ("auto", "(SLIMLIB_RUNS, else ./runs)", "(as the study has it)")),
        ("notebooks", ("01-05", "auto")),
        ("sweep", ("key_variables_micro", "(1,2,3, or the file's)", "local", "(all)", "(no)")),
        ("audit", ("(none)", "(text)")),
    ],
)
def test_the_help_names_the_defaults(command, defaults, capsys):
    assert cli.main([command, "-h"]) == 0
    told = " ".join(re.sub(r"[│|]", " ", capsys.readouterr().out).split())
    for default in defaults:
        assert f"[default: {default}]" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", PAIR[1]], "nowhere does not exist"),
        ([PAIR[0], "empty"], "empty"),
        ([PAIR[0], "cut.jsonl"], "cut.jsonl"),
        ([*PAIR, "--margin", "0"], "margin=0.0"),
        ([*PAIR, "--alpha", "2"], "alpha=2.0"),
        ([PAIR[0], str(LM_EVAL / "0.4.13-limit4" / "tuned")], "--no-strict"),
    ],
)
def test_bad_input_to_compare_is_one_line(here, capsys, arguments, message):
    assert message in refused(capsys, *arguments, command="compare")


def test_no_strict_compares_what_matches_and_says_what_differs(capsys):
    other = str(LM_EVAL / "0.4.13-limit4" / "tuned")
    assert cli.main(["compare", PAIR[0], other, "--no-strict"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "limit" in out and "n = 4" in out


# ------------------------------------------------------------------------------------------ audit


def test_audit_prints_claim_recomputed_and_verdict(capsys):
    assert cli.main(["audit"]) == 0
    out = capsys.readouterr().out
    assert "+- 13.55" in out and "not established" in out and "29.02 %" in out
    assert cli.main(["audit", "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert cli.main(["audit", "--markdown"]) == 0
    assert "| paper | claim | printed | recomputed | verdict | why |" in capsys.readouterr().out


def test_audit_of_a_missing_file_is_one_line(here, capsys):
    assert "nowhere.json" in refused(capsys, "nowhere.json", command="audit")


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    """As in `slimlib audit | head -1`."""
    command = f"{sys.executable} -m slimlib audit | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


# -------------------------------------------------------------------------------- lm-eval's own


@pytest.mark.slow
def test_lm_eval_s_command_line_knows_slim(checkpoint, tiny_run, tmp_path, monkeypatch, capsys):
    """Its options reach it as they stand; hf and slim score alike."""
    from slimlib.config import Task
    from slimlib.data.tasks import task_yaml

    task = Task("micro_facts", "mmlu_cs", 0, 4, source="facts")
    path = task_yaml(task, tiny_run.data_folder(), tmp_path)
    monkeypatch.setattr(sys, "argv", ["slimlib"])
    tables = []
    for model in ("slim", "hf"):
        arguments = ["--model", model, "--model_args", f"pretrained={checkpoint},dtype=float32"]
        arguments += ["--device", "cpu", "--tasks", str(path), "--limit", "3"]
        assert cli.main(["lm-eval", "run", *arguments]) == 0
        printed = capsys.readouterr().out.splitlines()
        tables.append([line for line in printed if line.startswith("|")])
    assert any("micro_facts" in line for line in tables[0])
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_smoke_runs_in_a_row_end_by_themselves(tmp_path):
    tables = []
    for number in range(3):
        options = ("--study", "smoke", "--runs", str(tmp_path / str(number)))
        done = slimlib_command("run", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        tables.append((tmp_path / str(number) / "smoke" / "table2.csv").read_bytes())
    assert len({*tables}) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fail-on", "lost"], "'lost' is not one of 'forgot', 'broken', 'any'"),
        (["--relation", "sister"], "'sister' is not one of 'auto', 'tuned', 'other'"),
        (["-o", "report.doc"], "report.doc: the name must end with .html, .xml, .json, .md"),
        (["-o", "nowhere/report.html"], "the folder nowhere does not exist"),
    ],
)
def test_compare_refuses_bad_options_before_it_reads_a_result(capsys, options, said):
    assert cli.main(["compare", "no-such-base", "no-such-tuned", *options]) == 2
    error = capsys.readouterr().err
    assert said in error and "no-such" not in error
