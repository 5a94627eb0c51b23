"""Compact records: bits, what a line keeps, what is refused, and the compiled grid against it."""

import json

import numpy as np
import pytest
from grid_records import DOCUMENTS, draw, pretend

import slimlib
from slimlib.common.files import write_json
from slimlib.papers.key_variables.cells import read_grid, unpack
from slimlib.pipeline.grid_records import last_loss, pack, quantisation, write_records
from slimlib.pipeline.sweep import seed_run
from slimlib.studies.design import Job, jobs
from slimlib.studies.get import get_design

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("grid"))


def test_bits_are_four_documents_a_digit():
    assert pack([1, 0, 1, 1, 1]) == "b8"
    assert unpack("b8", 5).tolist() == [1, 0, 1, 1, 1]
    assert pack([]) == "" and unpack("", 0).tolist() == []


@pytest.mark.parametrize("n", [1, 3, 4, 5, 200])
def test_bits_come_back(n):
    scores = np.random.default_rng(n).integers(0, 2, n)
    assert unpack(pack(scores.tolist()), n).tolist() == scores.tolist()


def test_what_is_no_bit_is_refused():
    with pytest.raises(ValueError, match="must be 0 or 1"):
        pack([0, 0.5])
    with pytest.raises(ValueError, match="2 hexadecimal digits cannot hold 9 documents"):
        unpack("ff", 9)


# ---------------------------------------------------------------------------------------- reading


def test_as_many_records_as_the_grid_has_cells(whole):
    grid = read_grid(whole)
    study = grid.design.study
    trained = sum(arm.trains for arm in study.arms)
    assert len(grid) == 3 * trained + len(study.arms) - trained
    assert grid.missing == {} and grid.seeds == (1, 2, 3)
    assert (
        grid.sentence() == f"{len(grid)} of {len(grid)} cells of the grid are there (seeds 1, 2, 3)"
    )
    assert [cell.seed for cell in grid.of("qlora-r4")] == [1, 2, 3]
    assert [cell.seed for cell in grid.of("base")] == [1]


def test_scores_are_the_means_of_the_bits(whole):
    grid = read_grid(whole)
    cell = grid.of(CUT)[1]
    assert set(cell.accuracy) == {"gsm8k", "hellaswag", "mmlu_cs"}
    for task in cell.line["tasks"].values():
        assert cell.accuracy[task["role"]] == pytest.approx(100 * task["value"])
    assert cell.score == pytest.approx(np.mean(list(cell.accuracy.values())))


def test_a_missing_cell_is_listed_with_its_reason(tmp_path):
    job, other = Job(2, CUT), Job(3, "qlora-r16")
    folder = draw(tmp_path, missing={job: "ValueError: too large", other: "cut off"})
    grid = read_grid(folder)
    assert grid.missing == {job: "ValueError: too large", other: "cut off"}
    assert "missing: seed 2 qlora-r4-mlp-r2: ValueError: too large" in grid.sentence()
    with pytest.raises(ValueError, match="seed 2 qlora-r4-mlp-r2: ValueError: too large"):
        grid.record(CUT, 2)


def rewrite(folder, change):
    """The lines of seed 1, changed."""
    path = folder / "seed-1.jsonl"
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_line_left_out_is_a_missing_cell(tmp_path):
    folder = rewrite(draw(tmp_path), lambda lines: [x for x in lines if x.get("arm") != CUT])
    assert read_grid(folder).missing == {Job(1, CUT): "not run"}


def test_a_cell_of_other_settings_is_no_cell_of_this_grid(tmp_path):
    def other_rate(lines):
        for line in lines:
            if line.get("arm") == CUT:
                line["config"]["train"] = {"learning_rate": 1e-3}
        return lines

    grid = read_grid(rewrite(draw(tmp_path), other_rate))
    assert grid.missing == {Job(1, CUT): "made by other settings (train.learning_rate)"}


def test_records_that_cannot_be_one_grid_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no seed"):
        read_grid(tmp_path)

    def renamed(lines):
        lines[5]["arm"] = "qlora-r99"
        return lines

    with pytest.raises(ValueError, match="has no cell 'qlora-r99'"):
        read_grid(rewrite(draw(tmp_path / "a"), renamed))

    def other_documents(lines):
        next(iter(lines[5]["tasks"].values()))["documents"] = "others"
        return lines

    with pytest.raises(ValueError, match="answered different documents"):
        read_grid(rewrite(draw(tmp_path / "b"), other_documents))

    def other_study(lines):
        return [lines[0] | {"study": "key_variables"}, *lines[1:]]

    with pytest.raises(ValueError, match="records of key_variables, key_variables_micro"):
        read_grid(rewrite(draw(tmp_path / "c"), other_study))


def test_a_cell_can_be_compared_like_any_record(whole):
    grid = read_grid(whole)
    comparison = slimlib.compare(grid.record("qlora-r4", 1), grid.record(CUT, 1))
    before, after = (grid.of(name)[0] for name in ("qlora-r4", CUT))
    for change in comparison.headlines:
        assert change.n == DOCUMENTS
        assert change.base == pytest.approx(before.accuracy[change.role])
        assert change.tuned == pytest.approx(after.accuracy[change.role])


# ---------------------------------------------------------------------------------------- writing


def task(name, role, scores):
    metrics = {"acc,none": {"value": float(np.mean(scores)), "stderr": 0.1, "scores": scores}}
    about = {"role": role, "task": name, "version": 1.0, "num_fewshot": 0, "n": len(scores)}
    return about | {"documents": name, "metrics": metrics, "truncated": 0}


def finish(run, cell, scores):
    """A record as the stages leave it."""
    pretend(run, cell, False)
    record = run.record(cell)
    tasks = {t.name: task(t.name, t.role, scores) for t in run.study[cell].evaluate.tasks}
    record["stages"]["evaluate"] |= {"seconds": 1.5, "tasks": tasks}
    check = {"share_of_range": 1e-7, "tolerance": 1e-4, "equal": True, "top1_agreement": 1.0}
    if "merge" in record["stages"]:
        record["stages"]["merge"] |= {"logit_check": check | {"prompts": 4}, "seconds": 1.0}
    if "finetune" in record["stages"]:
        record["stages"]["finetune"] |= {"trainable_parameters": 99, "train_loss": 3.0}
    write_json(run.arm_folder(cell) / "record.json", record | {"environment": {"git": "abc"}})


def test_run_folders_become_records_and_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    design = get_design("key_variables_micro", arms=f"base,base-nf4-64,qlora-r4,{CUT}")
    run = seed_run(design.study, 1, tmp_path)
    finish(run, "base", [1, 1, 1, 1, 0])
    finish(run, "qlora-r4", [1, 1, 0, 1, 0])
    log = [{"step": s, "loss": float(s)} for s in (1, 20, 30, 38, 40)]
    path = run.arm_folder("qlora-r4") / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in log))
    assert last_loss(run, "qlora-r4") == 39.0  # steps 31 to 40
    write_json(run.arm_folder(CUT) / "failed.json", {"reason": "OSError: disk full"})
    (written,) = write_records(design, tmp_path, [1], tmp_path / "records")
    head, *lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert head["environment"] == {"git": "abc"} and head["seed"] == 1
    grid = read_grid(tmp_path / "records", design)
    assert grid.missing == {Job(1, "base-nf4-64"): "not run", Job(1, CUT): "OSError: disk full"}
    cell = grid.of("qlora-r4")[0]
    assert cell.score == pytest.approx(60) and cell.loss == 39.0
    assert cell.line["finetune"] == {"trainable_parameters": 99, "train_loss": 3.0}
    assert cell.line["config"] == {}  # the header's own
    assert grid.of("base")[0].line["config"]["adapter"] == "none"
    assert len(lines) == 4 == len(jobs(design.study, [1]))


def test_a_line_keeps_the_quantiser_s_report():
    report = {"bits_per_weight": 4.254971234, "mse": 2.44359123e-05, "entropy_bits": 3.7465912}
    stages = {"merge": {"quantisation": report | {"weights": 10}}}
    kept = {"bits_per_weight": 4.25497, "mse": 2.44359e-05, "entropy_bits": 3.74659}
    assert quantisation(stages) == kept
    assert quantisation({"evaluate": {}}) is None
