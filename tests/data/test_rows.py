"""Rows: layouts, files, subsets, mixtures."""

import gzip
import json
from collections import Counter

import pytest

from slimlib.config import DataConfig
from slimlib.data import rows
from slimlib.data.rows import choose, mix_datasets

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
NO_INPUT = {"instruction": "Name a colour.", "input": "", "output": "Red."}

MESSAGES = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------ files


def test_rows_of_each_layout_become_one(tmp_path):
    given = [
        {"instruction": "a", "input": "b", "output": "c", "other": 1},
        {"instruction": "a", "input": None, "output": "c"},
        {"instruction": "a", "output": ""},  # Alpaca has 14 rows with an empty output
        {"question": "q", "answer": "r"},
    ]
    assert rows.read_rows(write_rows(tmp_path / "rows.jsonl", given)) == [
        {"instruction": "a", "input": "b", "output": "c"},
        {"instruction": "a", "input": "", "output": "c"},
        {"instruction": "a", "input": "", "output": ""},
        {"instruction": "q", "input": "", "output": "r"},
    ]


def test_packed_files_and_lists_hold_the_same_rows(tmp_path):
    plain = write_rows(tmp_path / "rows.jsonl", [ROW, NO_INPUT])
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    listed = tmp_path / "rows.json"
    listed.write_text(json.dumps([ROW, NO_INPUT], indent=1))
    for path in (plain, packed, listed):
        assert rows.read_rows(path) == [ROW, NO_INPUT]


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path):
    row = {**ROW, "output": "a\u2028b"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert rows.read_rows(path) == [row]


def test_messages_keep_role_and_content_only(tmp_path):
    given = [{"messages": [{**MESSAGES[0], "name": "x"}, MESSAGES[1]]}]
    assert rows.read_rows(write_rows(tmp_path / "m.jsonl", given)) == [{"messages": MESSAGES}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("\n\n", "has no rows"),
        ('{"instruction": "a"}\n', "row 1 has no text column 'output'; it has .'instruction'."),
        ('{"output": "a"}\n', "row 1 has no text column 'instruction'"),
        ('{"question": "a", "answer": [3]}', "row 1: the answer is no text but a list"),
        ('{"instruction": "a", "output": "b"}\n{"inst', "line 2 is not valid JSON"),
        ('"just text"\n', "row 1 is not an object"),
        ('{"messages": []}', "row 1: messages must be"),
        ('{"messages": null}', "row 1 has no text column 'instruction'"),
        ('{"messages": [{"role": "user"}]}', "row 1: messages must be"),
        ('{"messages": [{"role": "user", "content": {}}]}', "row 1: messages must be"),
    ],
)
def test_bad_rows_name_the_file_and_the_row(tmp_path, text, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.jsonl:? {message}"):
        rows.read_rows(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", b"[{"),
        ("rows.jsonl", b"\xff\xfe\x00"),
        ("rows.jsonl.gz", b"not packed"),
        ("rows.jsonl.gz", gzip.compress(b'{"instruction": "a", "output": "b"}', mtime=0)[:-4]),
    ],
)
def test_broken_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        rows.read_rows(tmp_path / name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.jsonl does not exist"):
        rows.load_rows(DataConfig(path=str(tmp_path / "nowhere.jsonl")), 0)
    with pytest.raises(ValueError, match="nowhere.jsonl does not exist"):
        rows.load_rows(DataConfig(dataset=str(tmp_path / "nowhere.jsonl")), 0)
    with pytest.raises(ValueError, match=r"'alpaca': no alpaca/alpaca_head_1807.jsonl or .* in "):
        rows.load_rows(DataConfig(), 0, tmp_path)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'alpaka'; known: alpaca, gsm8k"):
        rows.load_rows(DataConfig(dataset="alpaka"), 0)
    with pytest.raises(ValueError, match="unknown data set 'gsm9k'"):
        rows.check_local_rows(DataConfig(mixture={"alpaca": 0.5, "gsm9k": 0.5}))


def test_a_path_goes_before_the_folder(tmp_path):
    path = write_rows(tmp_path / "mine.jsonl", [ROW])
    assert rows.load_rows(DataConfig(path=str(path), n=1), 0, tmp_path / "other") == [ROW]


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (DataConfig(n=1), ("tatsu-lab/alpaca", None)),
        (DataConfig(dataset="gsm8k", n=1), ("openai/gsm8k", "main")),
        (DataConfig(dataset="me/rows@abc", n=1), ("me/rows", None)),
    ],
)
def test_the_hub_is_asked_for_the_train_split_by_pinned_revision(monkeypatch, config, asked):
    """Of GSM8K above all: its test split is a benchmark."""
    calls = []

    def load_dataset(*names, revision, split):
        calls.append((names, revision, split))
        return [ROW]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert rows.load_rows(config, 0) == [ROW]
    ((names, revision, split),) = calls
    assert (*names, None)[:2] == asked
    assert split == "train"
    assert revision == "abc" if "@" in config.dataset else len(revision) == 40


# ------------------------------------------------------------------------------ subsets, mixtures


def test_head_is_the_file_s_order():
    assert choose(list("abcd"), 2, "head", 5) == ["a", "b"]
    assert choose(list("abcd"), None, "head", 5) == list("abcd")


def test_random_is_a_seeded_sample_without_repeats():
    rows = list(range(100))
    first = choose(rows, 20, "random", 5)
    assert first == choose(rows, 20, "random", 5) != choose(rows, 20, "random", 6)
    assert len(set(first)) == 20 and first != rows[:20]
    assert sorted(choose(rows, None, "random", 5)) == rows


@pytest.mark.parametrize("subset", ["head", "random"])
def test_more_rows_than_there_are_is_refused(subset):
    with pytest.raises(ValueError, match="data.n=3 rows asked, the data set has 2"):
        choose([1, 2], 3, subset, 0)


@pytest.mark.parametrize(
    ("weights", "n", "counts"),
    [
        ({"a": 0.5, "b": 0.5}, 2000, {"a": 1000, "b": 1000}),
        ({"a": 0.5, "b": 0.5}, 5, {"a": 3, "b": 2}),  # a tie goes to the first named
        ({"a": 2, "b": 1}, 9, {"a": 6, "b": 3}),  # weights need not sum to 1
        ({"a": 1, "b": 1, "c": 1}, 10, {"a": 4, "b": 3, "c": 3}),
        ({"a": 0.7, "b": 0.2, "c": 0.1}, 10, {"a": 7, "b": 2, "c": 1}),
        ({"a": 0.75, "b": 0.25}, 2, {"a": 2, "b": 0}),  # 1.5 and 0.5: again the first named
        ({"a": 0.9, "b": 0.1}, 3, {"a": 3, "b": 0}),  # 2.7 and 0.3
        ({"a": 0.1, "b": 0.9}, 1, {"a": 0, "b": 1}),
    ],
)
def test_a_mixture_s_counts(weights, n, counts):
    parts = {name: [(name, i) for i in range(2000)] for name in weights}
    mixed = mix_datasets(parts, weights, n, seed=1)
    found = Counter(name for name, _ in mixed)
    assert {name: found[name] for name in weights} == counts
    assert len(set(mixed)) == n


def test_a_mixture_is_shuffled_by_its_seed():
    parts = {name: [(name, i) for i in range(50)] for name in "ab"}
    mix = [mix_datasets(parts, {"a": 1, "b": 1}, 40, seed) for seed in (1, 1, 2)]
    assert mix[0] == mix[1] != mix[2]
    names = [name for name, _ in mix[0]]
    assert names != sorted(names)


def test_a_mixture_that_asks_a_part_for_too_much_is_refused():
    with pytest.raises(ValueError, match="data.n=3 rows asked, the data set has 1"):
        mix_datasets({"a": [1], "b": [1, 2, 3]}, {"a": 1, "b": 1}, 6, 0)


# -------------------------------------------------------------------------------------- real rows


def test_the_first_real_alpaca_row_is_the_original_s(data_folder):
    loaded = rows.load_rows(DataConfig(n=1807), 0, data_folder)
    assert loaded[0]["instruction"] == "Give three tips for staying healthy."
    assert len(loaded) == 1807
    (last,) = rows.load_rows(DataConfig(n=1, subset="random"), 3, data_folder)
    assert last in loaded


def test_gsm8k_is_its_train_split(data_folder):
    loaded = rows.load_rows(DataConfig(dataset="gsm8k", n=None), 0, data_folder)
    test = (data_folder / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    questions = {json.loads(line)["question"] for line in test}
    assert len(loaded) == 7473 and len(questions) == 1319
    assert not questions & {row["instruction"] for row in loaded}


def test_a_real_mixture(data_folder):
    config = DataConfig(mixture={"alpaca": 0.5, "gsm8k": 0.5}, n=101)
    loaded = rows.load_rows(config, 7, data_folder)
    assert sum("####" in row["output"] for row in loaded) == 50
    assert (
        loaded == rows.load_rows(config, 7, data_folder) != rows.load_rows(config, 8, data_folder)
    )
