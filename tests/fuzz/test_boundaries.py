"""Whatever comes in from outside: it is read, or refused in one line, and nothing is written.

Each boundary gets many inputs with one thing in them that does not belong there (`spoil`). What is
allowed is a ValueError, or an OSError that a library made of a bad file: the command line prints
its message on one line and ends with exit code 2.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import LM_EVAL, RECORDS
from spoil import ODD, spoil_bytes, spoil_json

from slimlib.cli import main, parse_overrides, parse_seeds
from slimlib.common.progress import Line
from slimlib.comparison.two_models import compare
from slimlib.data.own_task import own_task
from slimlib.data.rows import read_rows
from slimlib.model.opened import open_model
from slimlib.pipeline.study import read_study
from slimlib.results import read_results
from slimlib.studies.get import get_design, get_study
from slimlib.studies.overrides import settable_keys

pytestmark = pytest.mark.slow
LONGEST = 20_000  # characters of a message; the command line shortens it


@contextlib.contextmanager
def refused_in_words(what: object) -> Iterator[None]:
    """Let a ValueError with a message pass; fail on anything else, naming the input."""
    try:
        yield
    except (ValueError, OSError) as error:
        said = str(error)
        assert said.strip() and len(said) < LONGEST, (what, said[:500])
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} of {what!r:.2000}") from error


def spoiled(path: Path, draw: random.Random, whole: bytes) -> None:
    """Write a file anew, as it might have become."""
    if path.suffix == ".json" and draw.random() < 0.8:
        path.write_text(spoil_json(whole.decode(), draw), "utf-8")
    elif path.suffix == ".jsonl" and draw.random() < 0.8:
        lines = whole.decode().splitlines()
        number = draw.randrange(len(lines))
        lines[number] = spoil_json(lines[number], draw)
        path.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        path.write_bytes(spoil_bytes(whole, draw))


def each_file_spoiled(
    folder: Path, files: list[Path], times: int, read: Callable[[], object], seed: int = 0
) -> None:
    """Spoil one file at a time, so often in all, and read; the folder's files stay the same."""
    draw = random.Random(seed)
    contents = {path: path.read_bytes() for path in files}
    names = sorted(folder.rglob("*"))
    for case in range(times):
        path = draw.choice(files)
        spoiled(path, draw, contents[path])
        with refused_in_words((case, path.name, path.read_bytes()[:1500])):
            read()
        path.write_bytes(contents[path])
    assert sorted(folder.rglob("*")) == names


# ---- settings ----


def test_values_and_keys_of_set():
    draw = random.Random(1)
    keys = settable_keys()
    for _ in range(5000):
        key = draw.choice(keys)
        if draw.random() < 0.1:
            key = spoil_bytes(key.encode(), draw).decode("utf-8", "replace")
        value = draw.choice(ODD)
        text = value if isinstance(value, str) else json.dumps(value)
        if draw.random() < 0.3:
            text = spoil_bytes(text.encode("utf-8", "replace"), draw).decode("utf-8", "replace")
        with refused_in_words(f"{key}={text}"):
            get_study("micro", **parse_overrides([f"{key}={text}"]))


def test_names_cells_and_seeds():
    draw = random.Random(2)
    design = get_design("key_variables_micro")
    texts = [value for value in ODD if isinstance(value, str)]
    for _ in range(2000):
        text = draw.choice([*texts, "E1", "E1,base", "1,2,3", "micro", "key_variables_micro"])
        text = spoil_bytes(text.encode("utf-8", "replace"), draw).decode("utf-8", "replace")
        for door in (parse_seeds, design.select, get_study, get_design):
            with refused_in_words((door, text)):
                door(text)


COMMANDS = {
    "compare": ["--margin", "--alpha", "--relation", "--fail-on", "-o", "--json", "--no-strict"],
    "check": ["--panel", "--minutes", "--limit", "--num-fewshot", "--dtype", "--out"],
    "tune": ["--seeds", "--set", "--minutes", "--data", "--runs", "--no-4bit"],
    "audit": ["--json", "--markdown"],
    "sweep": ["--study", "--seeds", "--workers", "--cells", "--set", "--engine", "--num-gpus"],
    "run": ["--study", "--data", "--set"],
    "keys": [],
}


def test_arguments_of_the_command_line(tmp_path, monkeypatch, capsys):
    """Models, studies and files that do not exist: a command has nothing to start with."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(3)
    texts = [v for v in ODD if isinstance(v, str) and "\ud800" not in v] + ["nowhere", "./no.jsonl"]
    for _ in range(1500):
        command = draw.choice([*COMMANDS])
        options = [draw.choice(COMMANDS[command] or ["--x"]) for _ in range(draw.randrange(4))]
        arguments = [command, *(draw.choice(texts) for _ in range(draw.randrange(3)))]
        for option in options:
            arguments += [option, draw.choice(texts)] if draw.random() < 0.8 else [option]
        if command in ("run", "sweep"):
            arguments += ["--study", "nowhere"]
        code = main(arguments)
        out, err = capsys.readouterr()
        assert code in (0, 2), (arguments, out, err)
        assert code == 0 or re.search(r"(^|\n)slimlib: [^\n]{,1100}\n$", err), (arguments, err)
        assert "Traceback" not in err
        assert not [*tmp_path.iterdir()], arguments


# ---- rows and questions ----

Q, A = {"role": "user", "content": "What is 2 plus 2?"}, {"role": "assistant", "content": "4"}
ROWS = {
    "instruction.jsonl": {"instruction": "Add.", "input": "2 and 2", "output": "4"},
    "messages.jsonl": {"messages": [{"role": "system", "content": "Be short."}, Q, A, Q, A]},
    "sharegpt.json": {
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    },
    "pairs.jsonl": {"prompt": [Q], "completion": [A]},
    "question.json": {"question": "2 + 2?", "answer": 4, "system": "", "history": [["a", "b"]]},
    "text.jsonl": {"text": "2 + 2 = 4"},
}  # fmt: skip


@pytest.fixture
def row_files(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, row in ROWS.items():
        rows = [row] * 3
        text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        (folder / name).write_text(text)
    (folder / "table.csv").write_text('instruction,output\nAdd 2 and 2.,4\n"a, b",c\n')
    return folder


def test_rows(row_files):
    draw = random.Random(4)
    contents = {path: path.read_bytes() for path in row_files.iterdir()}
    for case in range(5000):
        path = draw.choice([*contents])
        spoiled(path, draw, contents[path])
        with refused_in_words((case, path.name, path.read_bytes()[:1500])):
            for row in read_rows(str(path)):
                assert isinstance(row, dict)
        path.write_bytes(contents[path])


QUESTIONS = {
    "written.jsonl": {"question": "2 + 2?", "answer": 4},
    "chosen.jsonl": {"question": "2 + 2?", "choices": ["3", "4"], "answer": "B"},
    "searched.jsonl": {"prompt": "2 + 2 =", "regex": r"\b4\b"},
}


def test_own_questions(tmp_path):
    draw = random.Random(5)
    for case in range(3000):
        name = draw.choice([*QUESTIONS])
        path = tmp_path / name
        lines = "\n".join([json.dumps(QUESTIONS[name])] * 3).encode()
        spoiled(path, draw, lines)
        with refused_in_words((case, path.read_bytes()[:1000])):
            config = own_task(path)
            assert len(config["custom_dataset"]()["test"]) > 0


# ---- results and records ----


def test_results_of_lm_eval(tmp_path):
    shutil.copytree(LM_EVAL / "0.4.13", tmp_path / "made")
    base, tuned = tmp_path / "made" / "base", tmp_path / "made" / "tuned"
    files = [path for path in tuned.rglob("*") if path.is_file()]
    each_file_spoiled(tmp_path, files, 1500, lambda: read_results(tuned))
    each_file_spoiled(tmp_path, files, 300, lambda: compare(base, tuned).to_text(), seed=1)


def test_records(tmp_path):
    folder = tmp_path / "made"
    shutil.copytree(RECORDS / "micro" / "seed-1", folder)
    files = [folder / "llama-2k.json", folder / "llama-2k.answers.json"]
    base = read_results(folder / "llama-base.json")
    each_file_spoiled(tmp_path, files, 1000, lambda: read_results(files[0]))
    each_file_spoiled(tmp_path, files, 200, lambda: compare(base, files[0]).to_text(), seed=1)


def test_the_settings_of_a_run_folder(tmp_path):
    folder = tmp_path / "micro"
    folder.mkdir()
    asked = {
        "study": "micro",
        "data": None,
        "overrides": {"train.max_steps": "3", "arms": "llama-2k"},
    }
    path = folder / "study.json"
    path.write_text(json.dumps(asked))
    each_file_spoiled(tmp_path, [path], 1500, lambda: read_study(folder))


# ---- models ----


def test_the_configuration_of_an_adapter(tmp_path):
    config = {
        "base_model_name_or_path": "micro:base",
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "revision": None,
        "auto_mapping": None,
    }
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"not read")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(config))
    each_file_spoiled(tmp_path, [path], 600, lambda: open_model(str(folder)))


def test_a_model_s_config(tmp_path):
    from slimlib.model.load import resolve_name

    folder = tmp_path / "model"
    shutil.copytree(resolve_name("micro:tiny"), folder)
    each_file_spoiled(tmp_path, [folder / "config.json"], 300, lambda: open_model(str(folder)))


def test_kept_answers(tmp_path):
    from slimlib.scoring.responses import Responses

    path, draw = tmp_path / "responses.jsonl", random.Random(6)
    with Responses(path, Line("a")) as responses:
        responses.total = responses.documents = 3
        responses.answered = responses.before = 0
        for letter in "abc":
            responses.add_partial("generate_until", (letter, {}), letter.upper())
    whole = path.read_bytes()
    for case in range(1500):
        path.write_bytes(spoil_bytes(whole, draw))
        with refused_in_words((case, path.read_bytes())), Responses(path, Line("a")) as read:
            assert {*read.known.values()} <= {"A", "B", "C"}
