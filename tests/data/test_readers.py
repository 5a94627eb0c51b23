"""Files and tables of rows: every kind gives the same rows, and faults are named by line."""

import gzip
import json

import pytest

from slimlib.config import DataConfig
from slimlib.data import sources
from slimlib.data.rows import load_rows, read_rows, split_rows

ROWS = [
    {"question": "2 + 2?", "answer": "4"},
    {"question": 'Say "hi", or\nnot', "answer": "héllo\u2028x"},
    {"question": "none?", "answer": "NA"},
]
READ = [{"instruction": r["question"], "input": "", "output": r["answer"]} for r in ROWS]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def frame(rows=ROWS):
    import pandas as pd

    return pd.DataFrame(rows)


def written(path, rows=ROWS):
    """The rows in a file of the kind that the path's name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        frame(rows).to_parquet(path)
        return path
    separator = "\t" if name.endswith(".tsv") else ","
    if name.endswith(("csv", "tsv")):
        text = frame(rows).to_csv(index=False, sep=separator)
    else:
        text = json.dumps(rows, indent=1) if name.endswith(".json") else lines(rows)
    content = text.encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("ending", sources.ROW_FILES)
def test_every_kind_of_file_holds_the_same_rows(tmp_path, ending):
    path = written(tmp_path / f"rows{ending}")
    assert read_rows(path) == read_rows(str(path)) == READ
    config = DataConfig(path=str(path), n=None)
    assert load_rows(config, 0) == load_rows(DataConfig(dataset=str(path), n=None), 0) == READ
    first = sources.fingerprint(config)
    written(path, ROWS[:2])
    assert sources.fingerprint(config) != first


def test_tables_in_memory_hold_the_same_rows():
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(ROWS)
    assert read_rows(ROWS) == read_rows(frame()) == read_rows(data) == READ
    assert read_rows(DatasetDict(train=data)) == READ
    assert read_rows(iter(ROWS)) == READ


def test_of_several_splits_train_is_taken_and_said(capsys):
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(ROWS)
    assert read_rows(DatasetDict(train=data, test=data.select([0]))) == READ
    assert "the split train of train, test" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no split train among test, dev"):
        read_rows(DatasetDict(test=data, dev=data))


NESTED = [
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    {"messages": [{"role": "user", "content": "r"}, {"role": "assistant", "content": "s"}]},
]


def test_turns_lie_in_tables_too(tmp_path):
    import pandas as pd
    from datasets import Dataset

    path = tmp_path / "rows.parquet"
    Dataset.from_list(NESTED).to_parquet(path)
    csv = tmp_path / "rows.csv"
    frame([{"messages": json.dumps(row["messages"])} for row in NESTED]).to_csv(csv, index=False)
    for source in (path, csv, Dataset.from_list(NESTED), frame(NESTED), pd.read_parquet(path)):
        assert read_rows(source) == NESTED


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@pytest.mark.parametrize(
    "text",
    [
        lines(ROWS),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"data": ROWS}),
        json.dumps({"version": "1", "data": ROWS}, indent=2),
        "\n\n" + lines(ROWS).replace("\n", "\r\n"),
        "\ufeff" + lines(ROWS),
        "\ufeff" + json.dumps(ROWS),
    ],
)
def test_json_is_read_for_what_it_is_under_either_name(tmp_path, ending, text):
    path = tmp_path / f"rows{ending}"
    path.write_bytes(text.encode("utf-8"))
    assert read_rows(path) == READ


def test_one_row_is_no_list_of_rows(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(NESTED[0], indent=1))
    assert read_rows(path) == NESTED[:1]


def test_several_lists_in_one_file_are_not_chosen_from(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(ValueError, match=r"rows.json holds several lists of rows \(train, test\)"):
        read_rows(path)


def test_numbers_stay_as_they_are_written(tmp_path):
    import pandas as pd

    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q", "answer": 7}\n{"question": "q", "answer": 0.10}\n')
    assert [row["output"] for row in read_rows(path)] == ["7", "0.10"]
    csv = tmp_path / "rows.csv"
    csv.write_text("question,answer\nq,007\nq,1e3\nq,7.0\n")
    assert [row["output"] for row in read_rows(csv)] == ["007", "1e3", "7.0"]
    gap = pd.DataFrame({"question": ["q", "q"], "answer": [7, None]})  # pandas holds 7.0 here
    parquet = tmp_path / "rows.parquet"
    gap.to_parquet(parquet)
    for source in (gap, parquet):
        assert [row["output"] for row in read_rows(source)] == ["7", ""]
    half = pd.DataFrame({"question": ["q", "q"], "answer": [7.0, 7.5]})
    assert [row["output"] for row in read_rows(half)] == ["7.0", "7.5"]


def test_csv_of_a_spreadsheet(tmp_path):
    """Semicolons, a byte order mark, Windows' line ends, a text of several lines."""
    path = tmp_path / "rows.csv"
    path.write_bytes('\ufeffQuestion;Answer\r\n"a;\r\nb";1,5\r\n'.encode())
    (row,) = read_rows(path)
    assert row == {"instruction": "a;\r\nb", "input": "", "output": "1,5"}
    long = tmp_path / "long.csv"
    long.write_text(f"question,answer\nq,{'x' * 200_000}\n")
    assert len(read_rows(long)[0]["output"]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"question,answer\nq,a\nq,a,b\n", "row 2 has more fields than the 2 columns"),
        ("rows.csv", b"question,answer\nq\n", "row 1 has fewer fields than the 2 columns"),
        ("rows.csv", b'question,answer\nq,"a\n', "row 1 is no row of a table"),
        ("rows.csv", b"question,answer\n", "has no rows"),
        ("rows.csv", b"", "has no rows"),
        ("rows.csv", b"question;answer\nq;\xff\n", "is not a whole UTF-8 text file"),
        (
            "rows.json",
            b'{"question": {"0": "q"}, "answer": {"0": "a"}}',
            "is one object of columns",
        ),
        ("rows.json", b'{"question": ["q", "r"], "answer": ["a", "b"]}', "is .*orient='records'"),
        ("rows.csv", b"messages\n\"[{'role': 'user'}]\"\n", "row 1: .*as JSON in a table"),
        ("rows.tsv", b"question\tresult\nq\ta\n", r"row 1 has no text column 'output'"),
        ("rows.parquet", b"question,answer", "is no whole Parquet file"),
        ("rows.json", b'{"question": "q", "ans', "line 1 is not valid JSON"),
        ("rows.json", b'[{"question": "q"},\n {"a" 1}]', "line 2 is not valid JSON"),
        ("rows.jsonl", b'{"question": "q", "answer": "a"}\n{"a" 1}', "line 2 is not valid JSON"),
        ("rows.json", b'{"question": "q", "answer": "a"}\n{"a" 1}', "line 2 is not valid JSON"),
    ],
)
def test_a_fault_is_one_line_with_the_file_and_where(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} {message}") as error:
        read_rows(path)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------- where they lie


@pytest.mark.parametrize(
    "name",
    [
        *(f"nowhere{e}" for e in sources.ROW_FILES),
        "/no/rows",
        "./rows",
        "~/rows",
        "a\\b",
        "a/b.csv",
    ],
)
def test_a_path_to_nothing_is_said_and_never_asked_of_the_hub(name, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    for read in (read_rows, lambda n: load_rows(DataConfig(dataset=n), 0)):
        with pytest.raises(ValueError, match="does not exist"):
            read(name)


def test_a_path_that_is_nearly_right_names_the_file_meant(tmp_path):
    written(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match=r"row.jsonl does not exist; did you mean rows.jsonl\?"):
        read_rows(tmp_path / "row.jsonl")


def test_a_folder_and_an_unknown_kind_of_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give a file of it"):
        read_rows(tmp_path)
    sheet = tmp_path / "rows.xlsx"
    sheet.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"rows.xlsx is not read: save it as one of \.jsonl"):
        read_rows(sheet)
    with pytest.raises(ValueError, match="of type int are not read"):
        read_rows(7)
    with pytest.raises(ValueError, match="one object: give a list of objects"):
        read_rows({"question": ["q"], "answer": ["a"]})
    with pytest.raises(ValueError, match="unknown data set 'a/b/c'"):
        read_rows("a/b/c")


def test_what_the_hub_has_not_is_said_in_one_line(monkeypatch):
    def load_dataset(*_, **__):
        raise ValueError("Unknown split \"train\". Should be one of ['test'].\nMore lines")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(ValueError, match="me/rows: .* no such file here, .*: Unknown split") as e:
        read_rows("me/rows")
    assert "\n" not in str(e.value)


def test_all_rows_of_a_file_are_read_where_no_number_is_asked(tmp_path):
    path = written(tmp_path / "rows.csv", ROWS * 100)
    assert len(load_rows(DataConfig(path=str(path), n=None), 0)) == 300
    assert len(load_rows(DataConfig(path=str(path), n=None, subset="random"), 0)) == 300
    with pytest.raises(ValueError, match="data.n=2000 rows asked, the data set has 300"):
        load_rows(DataConfig(path=str(path)), 0)


# -------------------------------------------------------------------------------------- held out


@pytest.mark.parametrize(
    ("rows", "share", "held"),
    [(300, 0.05, 15), (300, 0.0, 0), (2, 0.01, 1), (1, 0.5, 0), (2, 0.99, 1), (10, 0.25, 2)],
)
def test_a_share_is_held_out(rows, share, held):
    train, out = split_rows(list(range(rows)), share, 7)
    assert (len(train), len(out)) == (rows - held, held)
    assert sorted(train + out) == list(range(rows))
    assert train == sorted(train) and out == sorted(out)


def test_the_same_seed_holds_out_the_same_rows():
    rows = list(range(100))
    assert split_rows(rows, 0.1, 1) == split_rows(rows, 0.1, 1) != split_rows(rows, 0.1, 2)


def test_rows_that_are_there_more_than_once_are_never_held_out():
    rows = list(range(20))
    kept, out = split_rows(rows, 0.25, 3, repeated=range(16))
    assert len(out) == 4 and out == [16, 17, 18, 19] and len(kept) == 16
    assert split_rows(rows, 0.25, 3, repeated=rows) == (rows, [])
