"""A grid's records: what a cell shows of its own, and what is missing or refused."""

import numpy as np
import pytest
from grid_records import DOCUMENTS, draw

import slimlib
from slimlib.common.files import read_jsonl, write_jsonl
from slimlib.papers.key_variables.cells import Cell, read_grid, seed_files
from slimlib.studies.design import Job

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("grid"))


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


def test_scores_are_the_means_over_documents(whole):
    grid = read_grid(whole)
    cell = grid.of(CUT)[1]
    assert set(cell.accuracy) == {"gsm8k", "hellaswag", "mmlu_cs"}
    for task in cell.record["stages"]["evaluate"]["tasks"].values():
        value = task["metrics"]["acc,none"]["value"]
        assert cell.accuracy[task["role"]] == pytest.approx(100 * value)
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
    """The records of seed 1, changed."""
    path = folder / "seed-1.jsonl.gz"
    write_jsonl(path, change(read_jsonl(path)))
    return folder


def test_a_record_left_out_is_a_missing_cell(tmp_path):
    folder = rewrite(draw(tmp_path), lambda records: [r for r in records if r["arm"] != CUT])
    assert read_grid(folder).missing == {Job(1, CUT): "not run"}


def test_a_cell_cut_off_is_a_missing_cell(tmp_path):
    def cut_off(records):
        for record in records:
            if record["arm"] == CUT:
                record["stages"]["evaluate"] = {"status": "started"}
        return records

    grid = read_grid(rewrite(draw(tmp_path), cut_off))
    assert grid.missing == {Job(1, CUT): "cut off"}


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("train", {"learning_rate": 1e-3}, "train.learning_rate"),
        ("adapter", None, "adapter"),
        ("model", {"quantiser": "icq"}, "model.quantiser"),
    ],
)
def test_a_cell_of_other_settings_is_no_cell_of_this_grid(tmp_path, key, value, what):
    def changed(records):
        for record in records:
            if record["arm"] == CUT:
                record["config"][key] = value and record["config"][key] | value
        return records

    grid = read_grid(rewrite(draw(tmp_path), changed))
    assert grid.missing == {Job(1, CUT): f"made by other settings ({what})"}


def test_a_setting_that_came_later_is_not_held_against_a_record(tmp_path):
    def older(records):
        for record in records:
            del record["config"]["evaluate"]["evaluator"]
        return records

    assert read_grid(rewrite(draw(tmp_path), older)).missing == {}


def test_records_that_cannot_be_one_grid_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no seed"):
        read_grid(tmp_path)

    def renamed(records):
        records[5]["arm"] = "qlora-r99"
        return records

    with pytest.raises(ValueError, match="has no cell 'qlora-r99'"):
        read_grid(rewrite(draw(tmp_path / "a"), renamed))

    def other_documents(records):
        tasks = records[5]["stages"]["evaluate"]["tasks"]
        next(iter(tasks.values()))["documents"] = "others"
        return records

    with pytest.raises(ValueError, match="answered different documents"):
        read_grid(rewrite(draw(tmp_path / "b"), other_documents))

    def other_study(records):
        return [records[0] | {"study": "key_variables"}, *records[1:]]

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


def test_what_a_cell_says_of_its_training_and_storage(whole):
    grid = read_grid(whole)
    tuned, base = grid.of("qlora-r4")[0], grid.of("base")[0]
    assert (tuned.parameters, tuned.bits) == (1000, 4.127) and 1 < tuned.loss < 3
    assert (base.parameters, base.bits) == (0, None) and np.isnan(base.loss)
    report = {"quantisation": {"bits_per_weight": 4.5}}
    assert Cell({"stages": {"finetune": report}}).bits == 4.5


def test_of_a_seed_s_two_files_the_newer_counts(tmp_path):
    (tmp_path / "seed-10.jsonl").touch()
    (tmp_path / "seed-9.jsonl").touch()
    (tmp_path / "seed-9.jsonl.gz").touch()
    assert [p.name for p in seed_files(tmp_path).values()] == ["seed-9.jsonl.gz", "seed-10.jsonl"]
