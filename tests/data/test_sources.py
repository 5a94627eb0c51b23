"""Where rows lie, and by what they are known again."""

import json

import pytest

from slimlib.config import DataConfig
from slimlib.data import rows, sources

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
NO_INPUT = {"instruction": "Name a colour.", "input": "", "output": "Red."}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_fingerprint_follows_the_content(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [ROW])
    config = DataConfig(path=str(path))
    first = sources.fingerprint(config)
    write_rows(path, [NO_INPUT])
    assert first != sources.fingerprint(config)
    assert (
        sources.fingerprint(DataConfig())
        == f"tatsu-lab/alpaca@{sources.DATASETS['alpaca'].revision}"
    )


def test_a_larger_number_of_real_rows_takes_the_larger_file(data_folder):
    assert sources.local_file("alpaca", 1808, data_folder).name == "alpaca_author_5k.jsonl.gz"
    with pytest.raises(ValueError, match="data.n=52002 rows asked.*alpaca_head_1807.jsonl: 1807"):
        rows.load_rows(DataConfig(n=52_002), 0, data_folder)


def test_a_data_set_that_the_made_up_world_lacks_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="'alpaca' is not part of .*--set data.path=FOLDER"):
        sources.check_in_world(DataConfig())
    sources.check_in_world(DataConfig(mixture={"world": 0.5, "world-maths": 0.5}, n=4))


@pytest.mark.parametrize(
    ("name", "is_file"),
    [("mine/rows.cvs", True), ("mine/rows.v2", False), ("mine/other.cvs", False)],
)
def test_an_ending_that_is_mistyped_is_no_data_set_of_the_hub(tmp_path, monkeypatch, name, is_file):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rows.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert sources.is_path(name) == is_file
    if is_file:
        with pytest.raises(ValueError, match="rows.cvs does not exist; did you mean rows.csv"):
            sources.find_file(name)
