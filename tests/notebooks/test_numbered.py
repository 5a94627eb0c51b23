"""The notebooks: what they may hold, and (slowly) that they run."""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import slimlib_command
from places import CHECKOUT

from slimlib.common.files import read_json, read_jsonl
from slimlib.studies.get import get_study

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
NUMBERED = {path.name[:2]: path for path in NOTEBOOKS}
STUDY = [NUMBERED[f"{number:02}"] for number in range(1, 6)]  # 01 to 05: one study, stage by stage
# typed once, in 01; 02 to 05 are told the run folder
PARAMETERS = {
    "00": ["MODEL", "TEXT"],
    "01": ["STUDY", "RUNS", "DATA", "OVERRIDES"],
    "06": ["MODEL", "ROWS", "TASKS", "MINUTES", "SEEDS", "FOUR_BIT", "RUNS", "OVERRIDES"],
    "07": ["GRID", "RECORDS", "CELL", "SEED", "RUNS"],
    "08": ["STUDY", "ARM", "RUNS"],
}
STAGES = 3 + 5 + 8  # finetune, merge and evaluate over the eight arms


def cells(path: Path, kind: str | None = None) -> list[dict]:
    found = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in found if kind in (None, cell["cell_type"])]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code(path: Path) -> str:
    """The Python of a notebook, without IPython's magics."""
    text = "\n".join(source(cell) for cell in cells(path, "code"))
    return re.sub(r"^(\s*)%.*$", r"\1pass", text, flags=re.M)


# -------------------------------------------------------------------------------------------- laws


def test_the_notebooks_are_numbered():
    names = [path.stem for path in NOTEBOOKS]
    assert names[:3] == ["00_qlora_explained", "01_setup", "02_finetune"]
    assert names[3:6] == ["03_merge", "04_evaluate", "05_analysis"]
    assert names[6:] == ["06_my_model", "07_key_variables", "08_mitigation"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestLaws:
    def test_committed_without_outputs(self, path):
        for cell in cells(path, "code"):
            assert cell["outputs"] == [] and cell["execution_count"] is None
        assert "widgets" not in json.loads(path.read_text("utf-8"))["metadata"]

    def test_thin(self, path):
        assert 15 <= len(cells(path)) <= 30
        lines = [line for cell in cells(path, "code") for line in source(cell).splitlines()]
        assert sum(bool(line.strip()) for line in lines) <= 120

    def test_defines_nothing(self, path):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not [node for node in ast.walk(ast.parse(code(path))) if isinstance(node, kinds)]

    def test_takes_its_words_of_a_study_from_the_study(self, path):
        parameters = next(c for c in cells(path, "code") if "parameters" in tags(c))
        rest = code(path).replace(source(parameters), "")
        assert not re.search(r"""["'](micro|smoke|paper|rehearsal)["']""", rest)

    def test_has_one_parameters_cell_of_plain_forms(self, path):
        (cell,) = [cell for cell in cells(path) if "parameters" in tags(cell)]
        lines = source(cell).splitlines()
        names = PARAMETERS.get(path.name[:2], ["RUN"])
        assert [line.split(" = ")[0] for line in lines] == names
        assert all("  # @param" in line and len(line) <= 170 for line in lines)

    def test_holds_no_token_and_no_machine_s_path(self, path):
        text = path.read_text("utf-8")
        assert not re.search(r"hf_[A-Za-z0-9]{20}|/(home|root|tmp|Users)/", text)

    def test_every_result_has_a_heading(self, path):
        text = [source(cell) for cell in cells(path, "markdown")]
        assert text[0].startswith("# ") and sum(t.startswith("# ") for t in text) == 1
        assert "minutes on a T4" in text[0] and "minutes on a CPU" in text[0]


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def test_all_notebooks_have_the_same_head():
    """How to install is the same everywhere; 02 to 05 open the run alike."""
    installs = [[source(cell) for cell in cells(path)[1:3]] for path in NOTEBOOKS]
    assert all(install == installs[0] for install in installs)
    opens = [[source(cell) for cell in cells(path)[3:7]] for path in STUDY[1:]]
    assert all(opened == opens[0] for opened in opens)


def test_the_study_form_offers_every_study():
    from slimlib.studies.get import STUDIES

    parameters = next(source(c) for c in cells(STUDY[0]) if "parameters" in tags(c))
    offered = json.loads(re.search(r"STUDY = .*@param (\[.*\])", parameters)[1])
    assert offered == ["auto", *STUDIES]


def test_notebook_06_is_short_and_asks_for_no_more_than_tune_takes():
    import inspect

    from slimlib.pipeline.check import check
    from slimlib.pipeline.tune import tune

    path = NUMBERED["06"]
    assert len(cells(path, "code")) <= 12
    calls = [node for node in ast.walk(ast.parse(code(path))) if isinstance(node, ast.Call)]
    for function, times in ((tune, 2), (check, 1)):
        made = [c for c in calls if ast.unparse(c.func) == f"slimlib.{function.__name__}"]
        assert len(made) == times
        names = {k.arg for call in made for k in call.keywords if k.arg}
        assert names <= {*inspect.signature(function).parameters}


def grid_and_cell() -> tuple[str, str, int]:
    """GRID, CELL and SEED as notebook 07 has them."""
    form = next(source(c) for c in cells(NUMBERED["07"], "code") if "CELL = " in source(c))
    values = {}
    exec(form, values)  # a form holds nothing but literals
    return values["GRID"], values["CELL"], values["SEED"]


def test_the_cell_that_is_run_live_is_one_of_the_grid():
    """And one that merges inside its quantised format, which the notebook's last cell shows."""
    from slimlib.methods.plan import compile_plan
    from slimlib.methods.shapes import SHAPES
    from slimlib.studies.get import get_design

    name, cell, seed = grid_and_cell()
    arm = get_design(name).study[cell]
    assert arm.trains and seed >= 0
    assert all(
        entry.block for entry in compile_plan(SHAPES["micro"].modules(), arm.adapter).values()
    )


def test_the_grid_form_offers_every_grid():
    from slimlib.studies.get import GRIDS

    form = next(source(c) for c in cells(NUMBERED["07"], "code") if "CELL = " in source(c))
    assert {*json.loads(re.search(r"GRID = .*@param (\[.*\])", form)[1])} == {*GRIDS}


def test_the_words_of_notebook_07_hold_no_result():
    """Per cents, points and p-values are printed from the records, never written down."""
    text = "\n".join(source(c) for c in cells(NUMBERED["07"], "markdown")[1:])
    assert not re.search(r"\d ?%(?! intervals)|\d points|\bp ?[<=]", text)


def test_notebook_08_trains_an_arm_of_its_study_and_writes_no_result_down():
    form = next(source(c) for c in cells(NUMBERED["08"], "code") if "parameters" in tags(c))
    values = {}
    exec(form, values)  # a form holds nothing but literals
    assert get_study("mitigation_micro")[values["ARM"]].trains
    text = "\n".join(source(c) for c in cells(NUMBERED["08"], "markdown")[1:])
    assert not re.search(r"\d ?%(?! intervals)|\d points|\bp ?[<=]", text)


# --------------------------------------------------------------------------------------- smoke


def table2_of(output: str) -> str:
    """Table 2 as it was printed, up to the paths."""
    start = output.index("Table 2.")
    return "\n".join(line for line in output[start:].splitlines() if not line.startswith("/"))


def test_table_2_is_printed_with_base_tuned_and_losses(smoke):
    done, _ = smoke
    table = table2_of(done.stdout)
    assert "micro" in table.splitlines()[0]
    for label in ("arithmetic (as GSM8K)", "stories (as HellaSwag)", "facts (as MMLU-CS)"):
        assert label in table
    for row in ("FR (%)", "dA (points)", "dK (points)"):
        assert row in table
    assert table.count("95 % interval") >= 3
    assert table.count("p, exact McNemar") >= 3 and table.count("p, t-test") >= 3
    # the labels may be wrapped; table2.csv has them whole
    assert "base" in table and "fine-tuned" in table and "compared with" in table


def test_the_files_are_named_and_there(smoke):
    done, folder = smoke
    for name in ("table1.csv", "table2.csv", "figures"):
        assert str(folder / name) in done.stdout
        assert (folder / name).exists()
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"scores", "waterfall", "losses"} <= figures
    assert figures == {path.stem for path in (folder / "figures").glob("*.svg")}
    assert all(path.stat().st_size > 5000 for path in (folder / "figures").iterdir())


def test_the_tables_are_of_the_eight_arms(smoke):
    _, folder = smoke
    labels = [arm.label for arm in get_study("smoke").arms]
    with open(folder / "table2.csv", newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header[3:] == labels
    losses = {row[2]: row[3:] for row in rows if row[2] in ("FR (%)", "dA (points)", "dK (points)")}
    tuned = labels.index("micro fine-tuned")
    assert all(values[tuned] != "-" for values in losses.values()) and len(losses) == 3
    with open(folder / "table1.csv", newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    samples = {row[1]: row[header.index("samples")] for row in rows}
    assert samples["micro fine-tuned"] == "40" and samples["micro base"] == "-"


def test_every_stage_of_every_arm_is_recorded(smoke):
    _, folder = smoke
    done = [
        stage["status"]
        for arm in get_study("smoke").arms
        for stage in read_json(folder / arm.name / "record.json")["stages"].values()
    ]
    assert done == ["done"] * STAGES


def test_nothing_half_written_is_left(smoke):
    _, folder = smoke
    assert not list(folder.rglob("*.tmp"))
    assert not list(folder.rglob("checkpoint-*"))


def test_run_again_it_skips_everything_and_prints_the_same(smoke, tmp_path):
    first, folder = smoke
    before = {path: path.read_bytes() for path in folder.glob("*/record.json")}
    options = ("--study", "smoke", "--runs", str(folder.parent))
    again = slimlib_command("run", *options, cwd=tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert table2_of(again.stdout) == table2_of(first.stdout)
    assert {path: path.read_bytes() for path in folder.glob("*/record.json")} == before
    assert again.stderr.count("already done, skipped") == STAGES
    assert ": started" not in again.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_executed_copies_are_kept(executed):
    assert {p.name for p in STUDY} <= {p.name for p in executed.iterdir()}
    text = "".join(path.read_text("utf-8") for path in executed.glob("*.ipynb"))
    assert text.count("already done, skipped") == STAGES
    assert ": started" not in text


@pytest.mark.slow
def test_every_picture_that_a_notebook_draws_is_shown(executed):
    """The first figure of a kernel loads its backend; the second must not go missing."""
    drawing = [
        cell
        for cell in cells(executed / "05_analysis.ipynb", "code")
        if re.search(r"\.plot\(\)|style\.show\(", source(cell))
    ]
    assert len(drawing) == 4
    for cell in drawing:
        shown = [kind for output in cell["outputs"] for kind in output.get("data", {})]
        assert "image/png" in shown, source(cell)


@pytest.mark.slow
def test_a_saved_copy_shows_what_the_menus_chose_first(executed):
    path = executed / "05_analysis.ipynb"
    assert "widgets" not in json.loads(path.read_text("utf-8"))["metadata"]
    for call, kind in (("explore_answers(", "text/html"), ("explore_ladder(", "image/png")):
        (cell,) = [cell for cell in cells(path, "code") if call in source(cell)]
        controls, shown, *_ = [output["data"] for output in cell["outputs"]]
        assert "application/vnd.jupyter.widget-view+json" in controls
        assert "arm = " in str(controls) or "benchmark = " in str(controls)
        assert kind in shown and "application/vnd.jupyter.widget-view+json" not in shown


def test_the_checkout_stays_clean(smoke):
    """No output of a run lies in the package or among the notebooks."""
    for folder in (CHECKOUT / "notebooks", CHECKOUT / "slimlib"):
        assert not list(folder.rglob("record.json")) and not list(folder.rglob("*.tmp"))


def test_the_words_of_notebook_00_hold_no_result():
    """What was computed stands in the pictures; of a number in the text nobody would see it age."""
    text = "\n".join(source(cell) for cell in cells(NUMBERED["00"], "markdown")[3:])
    assert not re.search(r"\d ?%|\d\.\d+ ?(bits|GB)|\d,\d{3} (numbers|weights)", text)


def test_notebook_00_draws_every_picture_and_follows_a_choice(tmp_path, monkeypatch):
    """Without torch, in seconds; the last cell moves a slider of an earlier one."""
    import nbformat

    from slimlib.common.notebooks import execute

    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NUMBERED["00"], as_version=4)
    sized = next(c for c in notebook.cells if "explain.model_size" in c.source)
    sized.source = f"chosen = {sized.source.strip()}\nchosen"
    moved = "chosen.set(bits=3)\nimport sys\nprint('torch' in sys.modules)"
    notebook.cells.append(nbformat.v4.new_code_cell(moved))
    nbformat.write(notebook, tmp_path / "changed.ipynb")
    executed_copy = execute(tmp_path / "changed.ipynb", {"MODEL": "."}, tmp_path / "00.ipynb")
    drawn = [
        output["data"]["text/plain"]
        for cell in cells(executed_copy, "code")
        for output in cell["outputs"]
        if "text/html" in output.get("data", {})  # a picture's sentence
    ]
    assert len(drawn) == 15
    said = ["".join(text) for text in drawn]
    assert any("6,738,415,616 weights x 3 bits = 2.5 GB" in text for text in said)
    assert any("10 x (1,000 + 1,000) = 20,000" in text for text in said)
    assert "the embedded model" in " ".join(said)
    (printed,) = cells(executed_copy, "code")[-1]["outputs"]
    assert "".join(printed["text"]) == "False\n"


# ---------------------------------------------------------------------------------------- slowly


@pytest.mark.slow
def test_micro_runs_whole_and_says_what_was_lost(tmp_path):
    done = slimlib_command("run", "--study", "micro", "--runs", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Lost: micro_stories, micro_arithmetic, micro_facts." in " ".join(done.stdout.split())
    assert (tmp_path / "micro" / "table2.csv").exists()


@pytest.mark.slow
def test_the_rehearsal_runs_the_paper_s_tasks_on_real_rows(tmp_path, data_folder):
    arms = "llama-base,llama-2k,llama-2k-requantised"  # a third of the minutes of all eight
    arguments = ("--study", "rehearsal", "--data", str(data_folder), "--runs", str(tmp_path))
    done = slimlib_command("run", *arguments, "--set", f"arms={arms}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "its scores mean nothing" in " ".join(done.stdout.split())
    study = get_study("rehearsal", str(data_folder), arms=arms)
    for arm in study.arms:
        folder = tmp_path / "rehearsal" / arm.name
        stages = read_json(folder / "record.json")["stages"]
        for name, task in stages["evaluate"]["tasks"].items():
            samples = read_jsonl(folder / "eval" / name / "samples.jsonl")
            assert len({sample["doc_id"] for sample in samples}) == task["n"] == 100
            assert task["truncated"] == 0
        roles = {task["role"] for task in stages["evaluate"]["tasks"].values()}
        assert roles == {"gsm8k", "hellaswag", "mmlu_cs", "mmlu_cs_college"}
        mmlu = stages["evaluate"]["tasks"]["mmlu_high_school_computer_science"]
        assert mmlu["metrics"]["acc,none"]["value"] > 0  # guessing A always is right in a quarter
    rows = read_json(tmp_path / "rehearsal" / "llama-2k" / "record.json")["stages"]["finetune"]
    assert rows["rows"] >= 200


@pytest.mark.slow
def test_executed_from_nothing_the_notebooks_hold_no_page_of_bars(tmp_path):
    """Before, 04 was 629 pieces of standard error: bars of lm-eval, datasets and transformers."""
    options = ("--study", "smoke", "--runs", str(tmp_path))
    done = slimlib_command("notebooks", "01-05", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for number, stage in (("02_finetune", "finetune"), ("03_merge", "merge"), ("04", "evaluate")):
        (path,) = (tmp_path / "smoke" / "notebooks").glob(f"{number}*.ipynb")
        (cell,) = [c for c in cells(path, "code") if f"{stage}_arm(" in source(c)]
        (shown,) = [o for o in cell["outputs"] if o["output_type"] == "display_data"]
        lines = "".join(shown["data"]["text/plain"]).splitlines()
        assert f"{stage} llama-2k: done in" in "\n".join(lines)
        streams = [o for o in cell["outputs"] if o["output_type"] == "stream"]
        text = "".join("".join(stream["text"]) for stream in streams)
        assert not re.search(r"\d+%\||it/s", text) and len(text.splitlines()) < 10, text


@pytest.mark.slow
def test_each_notebook_runs_alone_by_nbconvert_after_the_ones_before(tmp_path):
    environment = {**os.environ, "SLIMLIB_RUNS": str(tmp_path / "runs"), "CUDA_VISIBLE_DEVICES": ""}
    for path in STUDY:
        copy = Path(shutil.copy(path, tmp_path))
        if path.name.startswith("01"):  # the others read what it wrote
            text = copy.read_text("utf-8")
            assert 'STUDY = \\"auto\\"' in text
            copy.write_text(text.replace('STUDY = \\"auto\\"', 'STUDY = \\"smoke\\"'), "utf-8")
        command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", str(copy)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs" / "smoke" / "table2.csv").exists()


@pytest.mark.slow
def test_notebook_07_runs_and_compares_its_cell_with_the_record(tmp_path, monkeypatch):
    from slimlib.common.notebooks import execute

    monkeypatch.delenv("MPLBACKEND")  # a notebook's kernel has one of its own
    parameters = {"STUDY": "auto", "RUNS": str(tmp_path), "DATA": "", "OVERRIDES": {}}
    target = execute(NUMBERED["07"], parameters, tmp_path / NUMBERED["07"].name)
    outputs = [(source(cell), cell["outputs"]) for cell in cells(target, "code")]
    shown = {text: str(found) for text, found in outputs}
    drawing = [found for text, found in shown.items() if re.search(r"diagram\.|plot", text)]
    assert len(drawing) == 3 and all("image/png" in found for found in drawing)
    live = next(found for text, found in shown.items() if "run_cell(" in text)
    assert "evaluate" in live and "done in" in live
    kept = next(found for text, found in shown.items() if "storage_table(" in text)
    assert "share of dW lost" in kept


@pytest.mark.slow
def test_notebook_08_draws_the_ladder_and_recommends_or_says_that_it_cannot(tmp_path, monkeypatch):
    from slimlib.common.notebooks import execute

    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    target = execute(NUMBERED["08"], {"RUNS": str(tmp_path)}, tmp_path / NUMBERED["08"].name)
    shown = {source(cell): str(cell["outputs"]) for cell in cells(target, "code")}
    drawing = [found for text, found in shown.items() if re.search(r"plot|style\.show", text)]
    assert len(drawing) == 6 and all("image/png" in found for found in drawing)
    (advice,) = [found for text, found in shown.items() if "advise()" in text]
    assert re.search(r"Take |Not decided", advice)


@pytest.mark.slow
def test_notebook_06_answers_and_asks_more(tmp_path, monkeypatch):
    from slimlib.common.notebooks import execute

    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = NUMBERED["06"]
    parameters = {"RUNS": str(tmp_path), "OVERRIDES": {"train.max_steps": 20}}
    target = execute(path, parameters, tmp_path / path.name)
    shown = {source(cell): str(cell["outputs"]) for cell in cells(target, "code")}
    assert "held-out rows" in shown["answer"]
    assert "image/png" in shown["slimlib.explore_learned(answer)"]
    assert "wrong -&gt; right" in next(t for c, t in shown.items() if "explore_answers(" in c)
    assert "held-out rows" in next(found for text, found in shown.items() if ".sentence())" in text)
    assert "verdict" in next(found for text, found in shown.items() if "slimlib.check(" in text)
    (folder,) = [p for p in tmp_path.iterdir() if "-on-" in p.name]
    assert (
        read_json(folder / "asked" / "looks.json")["taken"] >= 1
        and (folder / "report.html").exists()
    )
