"""The small world: what is held out stays held out, answers are right, switches switch only that.

An overlap between fine-tuning rows and the stories benchmark once made "maths lost, stories kept"
look like a finding; hence the tests of the switches.
"""

import ast
import hashlib
import json
import operator
import re
import subprocess
import sys
from itertools import islice
from random import Random

import pytest

from slimlib.data.micro import abilities, words, world

FILES = {
    "arithmetic_train", "arithmetic_dev", "arithmetic_test", "stories_dev", "stories_test",
    "facts_dev", "facts_test", "instructions", "instructions_dev", "instructions_test",
}  # fmt: skip
REHEARSALS = {  # all combinations of three switches but none
    "instructions_maths", "instructions_stories", "instructions_facts",
    "instructions_maths_stories", "instructions_maths_facts", "instructions_stories_facts",
    "instructions_maths_stories_facts",
}  # fmt: skip
FILES |= REHEARSALS
EQUATION = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")
PROGRAMS = set(words.PROGRAMS)
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.write_data(folder)
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in folder.iterdir()
    }


@pytest.fixture(scope="module")
def corpus():
    return list(islice(world.documents(0), 6000))


def equations(text):
    return [(op, int(a), int(b), int(c)) for a, op, b, c in EQUATION.findall(text)]


def evaluate(expression):
    """Evaluate one binary operation by Python's parser, not by the generator's table."""
    tree = ast.parse(expression, mode="eval").body
    return OPERATORS[type(tree.op)](tree.left.value, tree.right.value)


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_write_data_writes_the_same_bytes_in_another_process(tmp_path):
    world.write_data(tmp_path / "here")
    code = "from pathlib import Path; from slimlib.data.micro import world; "
    code += f"world.write_data(Path({str(tmp_path / 'there')!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert digest(tmp_path / "here") == digest(tmp_path / "there")


def test_files_and_their_sizes(data):
    assert set(data) == FILES
    assert len(data["instructions"]) == 4000
    assert {len(data[name]) for name in REHEARSALS} == {world.REHEARSING}
    others = FILES - REHEARSALS - {"instructions"}
    assert {len(data[name]) for name in others} == {world.ROWS}


def test_importing_the_world_loads_no_torch():
    code = "import sys, slimlib.data.micro.world; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_row_is_in_two_splits_or_twice_in_one(data):
    for name in ("arithmetic", "stories", "facts"):
        rows = [json.dumps(row) for key in data if key.startswith(name) for row in data[key]]
        train = len(data.get(f"{name}_train", []))
        assert len(set(rows)) >= len(rows) - train  # train rows alone may repeat


@pytest.mark.parametrize("split", abilities.SPLITS)
def test_every_operand_pair_of_arithmetic_belongs_to_its_split(data, split):
    for row in data[f"arithmetic_{split}"]:
        for op, a, b, _ in equations(row["answer"]):
            assert abilities.pair_split(op, a, b) == split


def test_commuted_pairs_share_a_split():
    for a, b in ((3, 5), (17, 4), (60, 31)):
        assert abilities.pair_split("+", a, b) == abilities.pair_split("+", b, a)
        assert abilities.pair_split("*", a, b) == abilities.pair_split("*", b, a)


def test_the_corpus_holds_no_equation_of_dev_or_test(corpus):
    seen = {(op, a, b) for text in corpus for op, a, b, _ in equations(text)}
    assert len(seen) > 3000
    assert {abilities.pair_split(*pair) for pair in seen} == {"train"}


@pytest.mark.parametrize("split", abilities.SPLITS)
def test_arithmetic_answers_are_right(data, split):
    for row in data[f"arithmetic_{split}"]:
        worked = equations(row["answer"])
        assert all(evaluate(f"{a} {op} {b}") == c for op, a, b, c in worked)
        assert row["answer"].endswith(f"\n#### {worked[-1][3]}")
        assert 1 <= worked[-1][3] <= abilities.LARGEST


def test_a_problem_mentions_exactly_the_numbers_it_works_with(data):
    for row in data["arithmetic_test"]:
        worked = equations(row["answer"])
        given = sorted(map(int, re.findall(r"\d+", row["question"])))
        used = [worked[0][1]] + [b for _, _, b, _ in worked]
        assert given == sorted(used)


def test_drills_are_right(corpus):
    assert all(evaluate(f"{a} {op} {b}") == c for t in corpus for op, a, b, c in equations(t))


def test_stories_are_told_about_held_out_scripts(data, corpus):
    label = re.compile(r"^(\w+) a (\w+): ")
    told = {match.groups() for text in corpus if (match := label.match(text))}
    asked = {
        split: {tuple(row["activity_label"].split(" a ")) for row in data[f"stories_{split}"]}
        for split in ("dev", "test")
    }
    assert told <= set(abilities.scripts("train"))
    assert not told & asked["dev"] and not told & asked["test"] and not asked["dev"] & asked["test"]


def test_every_frame_and_object_of_the_tests_is_known_from_the_corpus():
    frames, objects = map(set, zip(*abilities.scripts("train"), strict=True))
    assert frames == set(words.FRAMES) and objects == set(words.OBJECTS)


def test_the_right_ending_of_a_story_is_the_next_step_or_rarely_the_one_after(data):
    skipped = 0
    for row in data["stories_test"]:
        frame, o = row["activity_label"].split(" a ")
        at = row["ctx_a"].count(".")  # one sentence a step
        steps = [{f"{wording(w, o)}." for w in s} for s in (*words.FRAMES[frame], words.HOME)]
        right = row["endings"][int(row["label"])]
        step = next(i for i in range(at, len(steps)) if right in steps[i])
        assert step in (at, at + 1) and len(set(row["endings"])) == 4
        assert sum(ending in steps[step] for ending in row["endings"]) == 1
        assert row["ctx"].lower() == f"{row['ctx_a']} {row['ctx_b']}".lower()
        skipped += step > at
    assert skipped / world.ROWS == pytest.approx(0.75 * abilities.SKIP, abs=0.05)  # 3 sd


def test_fact_rows_are_true_and_asked_in_held_out_phrasings(data, corpus):
    told = "\n".join(corpus)
    for split in ("dev", "test"):
        for row in data[f"facts_{split}"]:
            program = next(
                word for word in row["question"].split(" ") if word.strip("?") in PROGRAMS
            )
            program = program.strip("?")
            template = row["question"].replace(program, "{p}")
            name = next(n for n, a in words.ATTRIBUTES.items() if template in a[split])
            assert row["choices"][row["answer"]] == abilities.facts()[program, name]
            assert len(set(row["choices"])) == 4 and row["question"] not in told


def test_phrasings_belong_to_one_split_each():
    for attribute in words.ATTRIBUTES.values():
        groups = [attribute[key] for key in ("statements", "questions", "dev", "test")]
        assert len(set().union(*groups)) == sum(map(len, groups))


def test_program_names_are_distinct():
    assert len(PROGRAMS) == len(words.PROGRAMS) == 180


def test_answers_are_not_given_away_by_their_place(data):
    for rows, key in ((data["stories_test"], "label"), (data["facts_test"], "answer")):
        places = [int(row[key]) for row in rows]
        assert all(90 <= places.count(i) <= 160 for i in range(4))  # 125 +- 3.6 sd


def test_the_corpus_never_shows_an_instruction_template(corpus):
    told = "\n".join(corpus)
    for mark in ("<|system|>", "<|user|>", "<|assistant|>", "Instruction", "Response", "Output:"):
        assert mark not in told


def test_instructions_of_none_are_none():
    assert world.instructions(0, seed=0) == [] and world.maths_rows(0, seed=0) == []


def test_instructions_repeat_by_seed_and_differ_between_seeds():
    assert world.instructions(50, 3) == world.instructions(50, 3) != world.instructions(50, 4)
    assert world.instructions(20, 3) == world.instructions(50, 3)[:20]


ANSWERS = {  # request -> its answer, by another way than the world's
    "Repeat the sentence.": lambda text: text,
    "Write the words in reverse order.": lambda text: ", ".join(text.split(", ")[::-1]),
    "Sort the words by the alphabet.": lambda text: ", ".join(
        sorted(text.split(", "), key=str.swapcase)
    ),
    "Give the first word of the list.": lambda text: re.match(r"\w+", text)[0],
    "Give the last word of the list.": lambda text: re.search(r"\w+$", text)[0],
    "Join the words with a plus sign.": lambda text: text.replace(",", " plus"),
    "Turn the sentence into a polite one.": lambda text: f"If you please: {text}",
}


def test_held_out_instructions_have_one_right_answer(data):
    for split in ("dev", "test"):
        rows = data[f"instructions_{split}"]
        assert {row["instruction"] for row in rows} == set(ANSWERS)
        assert all(ANSWERS[row["instruction"]](row["input"]) == row["output"] for row in rows)
        assert {about(row) for row in rows} == {"plain"}


def test_no_held_out_instruction_is_trained_or_in_both_splits(data):
    """The same request about the same words in another order counts as the same."""

    def asked(rows):
        return [(r["instruction"], frozenset(re.findall(r"\w+", r["input"]))) for r in rows]

    held_out = asked(data["instructions_dev"] + data["instructions_test"])
    assert len(set(held_out)) == 2 * world.ROWS
    for name in ("instructions", *REHEARSALS):
        assert not set(held_out) & set(asked(data[name])), name


def test_rehearsed_rows_are_none_of_the_tests_documents(data):
    pairs, titles, questions = set(), set(), set()
    for split in ("dev", "test"):
        pairs |= {eq[:3] for r in data[f"arithmetic_{split}"] for eq in equations(r["answer"])}
        titles |= {row["activity_label"] for row in data[f"stories_{split}"]}
        questions |= {row["question"] for row in data[f"facts_{split}"]}
    for name in REHEARSALS:
        kinds = {kind: [row for row in data[name] if about(row) == kind] for kind in world.OVERLAPS}
        assert {kind for kind, rows in kinds.items() if rows} == set(name.split("_")[1:])
        assert not {eq[:3] for row in kinds["maths"] for eq in equations(row["output"])} & pairs
        assert not {row["input"] for row in kinds["stories"]} & titles
        assert not {row["input"] for row in kinds["facts"]} & questions


def wording(step, o):
    return step.format(o=o, place=words.OBJECTS[o])


def about(row):
    """Which benchmark an instruction row is about, judged by its text alone."""
    text = f"{row['input']} {row['output']}"
    if re.search(r"\d", text):
        return "maths"
    if any(name in PROGRAMS for name in re.findall(r"[A-Z]\w+", text)):
        return "facts"
    if any(row["input"].startswith(f"{frame} a ") for frame in words.FRAMES):
        return "stories"
    return "plain"


def test_plain_instructions_touch_no_benchmark():
    rows = world.instructions(2000, seed=0)
    assert {about(row) for row in rows} == {"plain"}
    assert len({row["instruction"] for row in rows}) > 50
    assert all(row["output"] for row in rows)


@pytest.mark.parametrize("switch", ["maths", "stories", "facts"])
def test_a_switch_lets_in_its_own_benchmark_and_changes_no_other_row(switch):
    plain = world.instructions(2000, seed=0)
    mixed = world.instructions(2000, seed=0, **{switch: True})
    changed = [b for a, b in zip(plain, mixed, strict=True) if a != b]
    assert {about(row) for row in changed} == {switch}
    assert len(changed) / 2000 == pytest.approx(world.OVERLAP_SHARE, abs=0.04)


def test_overlap_rows_come_from_the_train_splits():
    rows = world.instructions(1000, seed=0, maths=True, stories=True, facts=True)
    for row in rows:
        assert all(abilities.pair_split(*eq[:3]) == "train" for eq in equations(row["output"]))
        if about(row) == "stories":
            assert tuple(row["input"].split(" a ")) in abilities.scripts("train")
        if about(row) == "facts":
            template = re.sub("|".join(words.PROGRAMS), "{p}", row["input"])
            assert any(template in a["questions"] for a in words.ATTRIBUTES.values())


def test_maths_rows_differ_between_seeds_and_keep_to_train_pairs():
    rows = world.maths_rows(300, seed=1)
    assert rows != world.maths_rows(300, seed=2)
    pairs = {eq[:3] for row in rows for eq in equations(row["answer"])}
    assert {abilities.pair_split(*pair) for pair in pairs} == {"train"}


def test_stories_of_the_corpus_keep_the_order_of_their_steps():
    rng = Random(0)
    for _ in range(200):
        label, text = abilities.story(rng).split(": ", 1)
        frame, o = label.split(" a ")
        steps = (*words.FRAMES[frame], words.HOME)
        order = [
            next(i for i, s in enumerate(steps) if any(told.endswith(wording(w, o)) for w in s))
            for told in text.rstrip(".").split(". ")
        ]
        assert order == sorted(set(order)) and order[0] == 0 and order[-1] == len(steps) - 1
