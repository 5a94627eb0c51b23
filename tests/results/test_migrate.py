"""What a grid had in place of records, and whole folders brought up to date."""

import json
import shutil

import pytest
from places import SLIMLIB_0_1

from slimlib import compare
from slimlib.common.files import read_json, read_jsonl, write_json
from slimlib.common.schema import SCHEMA, last_loss, unpack_scores
from slimlib.papers.key_variables.cells import read_grid
from slimlib.results.migrate import digits, grid_records, is_grid, migrate_folder
from slimlib.results.record import read_records
from slimlib.studies.design import Job

GRID = SLIMLIB_0_1 / "key_variables_micro" / "seed-1.jsonl"


@pytest.fixture(scope="module")
def records():
    return {record["arm"]: record for record in grid_records(read_jsonl(GRID))}


def line(arm):
    return next(row for row in read_jsonl(GRID) if row.get("arm") == arm)


# ------------------------------------------------------------------------------------ grid's lines


def test_four_documents_were_a_hexadecimal_digit():
    assert digits("b8", 5) == "10111"
    assert digits("", 0) == ""
    with pytest.raises(ValueError, match="2 hexadecimal digits cannot hold 9 documents"):
        digits("ff", 9)


def test_a_grid_s_file_is_told_from_records():
    assert is_grid(read_jsonl(GRID))
    assert not is_grid([]) and not is_grid([{"arm": "base", "study": "x"}])


def test_a_line_becomes_a_record_with_the_same_numbers(records):
    old, new = line("qa-hira-4x8"), records["qa-hira-4x8"]
    assert (new["schema"], new["study"], new["seed"]) == (SCHEMA, "key_variables_micro", 1)
    assert new["compared_with"] == old["compared_with"] == "base-tiles-32"
    stages = new["stages"]
    assert {stage["status"] for stage in stages.values()} == {"done"}
    for name in ("finetune", "merge", "evaluate"):
        assert old[name].items() <= stages[name].items()
    assert stages["finetune"]["last_loss"] == old["last_loss"]
    assert stages["merge"]["quantisation"] == old["quantisation"]
    for name, task in old["tasks"].items():
        entry = stages["evaluate"]["tasks"][name]
        ((metric, result),) = entry["metrics"].items()
        assert metric == task["metric"] and result["value"] == task["value"]
        assert unpack_scores(result["scores"]).mean() == pytest.approx(task["value"])
        assert len(result["scores"]) == entry["n"] == 200
        assert entry["documents"] == task["documents"]


def test_what_a_line_did_not_hold_stays_unknown(records):
    task = records["base"]["stages"]["evaluate"]["tasks"]["micro_facts"]
    assert task["truncated"] is None and task["metrics"]["acc,none"]["stderr"] is None
    assert "evaluator" not in records["base"]["config"]["evaluate"]


def test_shared_settings_and_those_that_differ_are_joined(records):
    head = read_jsonl(GRID)[0]["config"]
    config = records["qlora-r4-mlp-r2"]["config"]
    assert config["train"] == head["train"] and config["model"] == head["model"]
    assert config["adapter"]["rules"][0]["layer_type"] == "mlp" and config["adapter"]["r"] == 4
    assert "lam" not in config["adapter"]
    assert records["base-icq-64"]["config"]["model"] == {**head["model"], "quantiser": "icq"}
    untuned = [records[arm]["config"] for arm in ("base", "base-nf4-64")]
    assert [c["adapter"] or c["data"] or c["train"] for c in untuned] == [None, None]
    assert [c["quantise"] for c in untuned] == [False, True]
    assert records["qlora-r4"]["config"]["quantise"] is False


def test_a_missing_cell_keeps_its_reason(records):
    assert records["qlora-r16"]["failed"] == "OSError: disk full"
    assert records["qlora-r16"]["stages"] == {} and "qlora-r16-mlp-r8" not in records


def test_an_old_grid_is_read_as_today_s(records):
    grid = read_grid(GRID.parent)
    assert {job.cell for job in grid.cells} == {*records} - {"qlora-r16"}
    assert grid.missing[Job(1, "qlora-r16")] == "OSError: disk full"
    assert grid.missing[Job(1, "qlora-r16-mlp-r8")] == "not run"
    assert not [why for why in grid.missing.values() if "other settings" in why]
    cell = grid.of("qa-hira-4x8")[0]
    assert (cell.parameters, cell.bits) == (50688, 4.25466)


def test_an_old_cell_is_compared_like_any_record(records):
    comparison = compare(records["base-nf4-64"], records["qlora-r4"])
    assert [change.paired for change in comparison.headlines] == [True] * 3


# -------------------------------------------------------------------------------------- folders


def test_a_run_folder_is_brought_up_to_date(tmp_path):
    folder = shutil.copytree(SLIMLIB_0_1 / "micro", tmp_path / "micro")
    paths = migrate_folder(tmp_path)
    assert len(paths) == 4 and migrate_folder(tmp_path) == []
    records = {path.parent.name: read_json(path) for path in paths}
    assert {record["schema"] for record in records.values()} == {SCHEMA}
    loss = last_loss(read_jsonl(folder / "llama-2k" / "log.jsonl"))
    assert records["llama-2k"]["stages"]["finetune"]["last_loss"] == loss
    merges = [
        records[a]["stages"]["merge"]["settings"] for a in ("llama-2k", "llama-2k-requantised")
    ]
    assert merges[0]["adapter"] == merges[1]["adapter"]


def test_records_under_their_arms_names_are_too(tmp_path):
    """As they are committed: NAME.json beside NAME.log.jsonl, and files that are no records."""
    for arm in ("llama-2k", "llama-2k-requantised"):
        shutil.copyfile(SLIMLIB_0_1 / "micro" / arm / "record.json", tmp_path / f"{arm}.json")
    log = SLIMLIB_0_1 / "micro" / "llama-2k" / "log.jsonl"
    shutil.copyfile(log, tmp_path / "llama-2k.log.jsonl")
    write_json(tmp_path / "llama-2k.answers.json", {"micro_arithmetic": {}})
    write_json(tmp_path / "list.json", [1])
    assert len(migrate_folder(tmp_path)) == 2
    records = [read_json(tmp_path / f"{arm}.json") for arm in ("llama-2k", "llama-2k-requantised")]
    assert records[0]["stages"]["finetune"]["last_loss"] == last_loss(read_jsonl(log))
    merges = [record["stages"]["merge"]["settings"]["adapter"] for record in records]
    assert merges[0] == merges[1]


def test_a_grid_s_file_becomes_records(tmp_path, records):
    shutil.copyfile(GRID, tmp_path / "seed-1.jsonl")
    assert migrate_folder(tmp_path) == [tmp_path / "seed-1.jsonl.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["seed-1.jsonl.gz"]
    assert read_records(tmp_path / "seed-1.jsonl.gz") == list(records.values())


def test_files_that_hold_no_records_are_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"results": {}}))
    with pytest.raises(ValueError, match=r"a\.json holds no records of slimlib"):
        read_records(path)
    path.write_text(json.dumps({"schema": 9, "arm": "x", "stages": {}}))
    with pytest.raises(ValueError, match=r"a\.json: a record of schema 9"):
        read_records(path)
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"b\.jsonl\.gz is not a whole gzip file"):
        read_records(tmp_path / "b.jsonl.gz")
