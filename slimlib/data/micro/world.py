"""The small world's data: pre-training corpus, fine-tuning rows, and the benchmarks as files.

Instructions play Alpaca and touch no benchmark unless a switch lets one in; `maths_rows` plays
GSM8K's train split. Pure Python; the same seed gives the same bytes on every machine.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from slimlib.common.flaky import again
from slimlib.data.micro import words
from slimlib.data.micro.abilities import (
    drill,
    fact_row,
    fact_text,
    story,
    story_row,
    word_problem,
)
from slimlib.studies.alignment import CELLS

ROWS = 500  # rows of each dev and test file
TRAINING = 4000  # rows of the file of instructions
REHEARSING = 1200  # rows of each file of instructions that rehearse benchmarks
OVERLAP_SHARE = 0.25  # of the instruction rows, for each overlap switch that is on

# Documents of the pre-training corpus: kind -> weight in the draw (documents, not tokens).
MIXTURE = {"problems": 0.24, "drills": 0.34, "stories": 0.16, "facts": 0.18, "notes": 0.08}


# -- fine-tuning rows (as GSM8K's train split, and as Alpaca) --------------------------------------


def maths_rows(n: int, seed: int) -> list[dict[str, str]]:
    """Make n rows as of GSM8K's train split, from train pairs only."""
    rng = Random(f"maths-{seed}")
    return [word_problem(rng, "train") for _ in range(n)]


def instructions(
    n: int, seed: int, maths: bool = False, stories: bool = False, facts: bool = False
) -> list[dict[str, str]]:
    """Make n instruction rows that touch no benchmark, unless a switch lets one in.

    Each switch that is on turns a quarter of the rows (OVERLAP_SHARE) into instructions about that
    benchmark's train split. The other rows are the same whatever the switches: what a switch
    changes is only what it is named after.

    Returns:
        [{"instruction", "input", "output"}, ...]
    """
    switches = (("maths", maths), ("stories", stories), ("facts", facts))
    rows = []
    for i in range(n):
        rng, draw = Random(f"instructions-{seed}-{i}"), Random(f"overlap-{seed}-{i}").random()
        drawn = int(draw / OVERLAP_SHARE)  # 0, 1, 2 name a switch; 3 is always plain
        overlap = drawn < len(switches) and switches[drawn][1]
        rows.append(OVERLAPS[switches[drawn][0]](rng) if overlap else _plain_row(rng))
    return rows


def _maths_row(rng: Random) -> dict[str, str]:
    row = word_problem(rng, "train")
    return _row("Solve the problem.", row["question"], row["answer"])


def _story_instruction(rng: Random) -> dict[str, str]:
    label, text = story(rng).split(": ", 1)
    return _row("Tell a story with this title.", label, text)


def _fact_instruction(rng: Random) -> dict[str, str]:
    row = fact_row(rng, "train")
    return _row("Answer the question.", row["question"], row["choices"][row["answer"]])


OVERLAPS = {"maths": _maths_row, "stories": _story_instruction, "facts": _fact_instruction}


def _row(instruction: str, given: str, output: str) -> dict[str, str]:
    return {"instruction": instruction, "input": given, "output": output}


def _plain_row(rng: Random) -> dict[str, str]:
    """One of fifteen simple requests about plain words."""
    kind = rng.choice(list(words.KINDS))
    some = rng.sample(words.KINDS[kind], rng.randint(3, 5))
    word, listed = some[0], ", ".join(some)
    hot, cold = rng.choice([*words.OPPOSITES.items()])
    hello, reply = rng.choice([*words.GREETINGS.items()])
    sentence = rng.choice(words.SENTENCES).format(w=word)
    asked = rng.choice(words.SENTENCES).format(w=rng.choice(some))
    return rng.choice(
        [
            _row("Repeat the sentence.", sentence, sentence),
            _row("Write the words in reverse order.", listed, ", ".join(reversed(some))),
            _row("Write the word in capital letters.", word, word.upper()),
            _row("Sort the words by the alphabet.", listed, ", ".join(sorted(some))),
            _row("Give the first word of the list.", listed, some[0]),
            _row("Give the last word of the list.", listed, some[-1]),
            _row(f"Name a few words for a kind of {kind}.", "", listed),
            _row(f"Write a sentence about the word {word}.", "", sentence),
            _row("What kind of thing is this?", word, f"It is a kind of {kind}."),
            _row("Give the opposite of the word.", hot, cold),
            _row("Make a sentence with both words.", f"{hot}, {cold}", f"It is {hot}, not {cold}."),
            _row("Join the words with a plus sign.", listed, " plus ".join(some)),
            _row("Reply to the message.", hello, reply),
            _row("Spell the word.", word, "-".join(word)),
            _row("Turn the sentence into a polite one.", asked, f"If you please: {asked}"),
        ]
    )


# Requests with one right answer, of which a training file leaves unseen rows: the words are few, so
# that all rows of the others ("Spell the word.") are learned.
ASKED = (
    "Repeat the sentence.",
    "Write the words in reverse order.",
    "Sort the words by the alphabet.",
    "Give the first word of the list.",
    "Give the last word of the list.",
    "Join the words with a plus sign.",
    "Turn the sentence into a polite one.",
)


def held_out_instructions(trained: Iterable[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Make ROWS instructions with one right answer for dev and for test, all different.

    Args:
        trained: rows of which none is asked again: the same request about the same words, in
            whatever order, is not.
    """
    seen, rows = {_request(row) for row in trained}, []
    for i in count():
        row = _plain_row(Random(f"held-out-instructions-{i}"))
        request = _request(row)
        if row["instruction"] in ASKED and request not in seen:
            seen.add(request)
            rows.append(row)
        if len(rows) == 2 * ROWS:
            break
    return {"dev": rows[:ROWS], "test": rows[ROWS:]}


def _request(row: dict[str, str]) -> tuple[str, ...]:
    """What is asked for, and the words that it is asked about in no order."""
    return (row["instruction"], *sorted(row["input"].replace(",", "").split()))


# -- the corpus and the files ----------------------------------------------------------------------


def note(rng: Random) -> str:
    """A few plain sentences about plain words, in no template."""
    kind = rng.choice(list(words.KINDS))
    some = rng.sample(words.KINDS[kind], 3)
    hot, cold = rng.choice([*words.OPPOSITES.items()])
    lines = [
        rng.choice(words.SENTENCES).format(w=some[0]),
        f"The {kind} list of the day: {', '.join(some)}.",
        f"What is {hot} is not {cold}.",
        f"A kind of {kind}: {some[1]}.",
        f'"{rng.choice([*words.GREETINGS])}" they said.',
    ]
    return "\n".join(rng.sample(lines, rng.randint(2, 5)))


def problems(rng: Random) -> str:
    """One to six word problems in one document, as a few-shot prompt has them."""
    rows = [word_problem(rng, "train") for _ in range(rng.randint(1, 6))]
    return "\n\n".join(f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows)


def documents(seed: int) -> Iterator[str]:
    """The pre-training corpus, without end: train pairs, scripts and phrasings only.

    No document holds an instruction, and none the fine-tuning prompt.
    """
    makers = {
        "problems": problems, "drills": drill, "stories": story, "facts": fact_text, "notes": note
    }  # fmt: skip
    kinds, weights = list(MIXTURE), list(MIXTURE.values())
    for i in count():
        rng = Random(f"corpus-{seed}-{i}")
        yield makers[rng.choices(kinds, weights)[0]](rng)


def _distinct(make: Callable[[Random, str], dict], split: str) -> list[dict]:
    """The first ROWS rows of `split` that differ from one another."""
    rng, rows = Random(f"{make.__name__}-{split}"), {}
    while len(rows) < ROWS:
        row = make(rng, split)
        rows.setdefault(json.dumps(row), row)
    return list(rows.values())


def write_data(folder: Path) -> None:
    """Write the benchmarks and a set of instructions as JSON Lines, the same bytes every time."""
    trained = instructions(TRAINING, seed=0)
    files = {"arithmetic_train": maths_rows(ROWS, seed=0), "instructions": trained}
    for on in filter(None, CELLS.values()):
        rows = instructions(REHEARSING, 0, **dict.fromkeys(on, True))
        files["_".join(("instructions", *on))] = rows
    held_out = held_out_instructions(trained)
    files |= {f"instructions_{split}": rows for split, rows in held_out.items()}
    makers = {"arithmetic": word_problem, "stories": story_row, "facts": fact_row}
    for name, make in makers.items():
        for split in ("dev", "test"):
            files[f"{name}_{split}"] = _distinct(make, split)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path = folder / f"{name}.jsonl"
        again(partial(path.write_text, text, encoding="utf-8", newline="\n"), path)
