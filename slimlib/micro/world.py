"""The small world: arithmetic word problems, everyday stories and made-up computer facts.

Each plays one benchmark of the paper, in that benchmark's own row format: arithmetic GSM8K, stories
HellaSwag, facts MMLU computer science. What a model is tested on is held out by construction, not
by string: operand pairs, (frame, object) scripts and phrasings belong to one split each.
Pure Python; the same seed gives the same bytes on every machine.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from random import Random

from slimlib.micro import words

SPLITS = ("train", "dev", "test")
ROWS = 500  # rows of each dev and test file
OVERLAP_SHARE = 0.25  # of the instruction rows, for each overlap switch that is on
LARGEST = 120  # no number in a word problem is larger
SKIP = 0.2  # of the middle steps are left out of a story: nobody can know which step comes next

# Documents of the pre-training corpus: kind -> weight in the draw (documents, not tokens).
MIXTURE = {"problems": 0.28, "drills": 0.18, "stories": 0.22, "facts": 0.20, "notes": 0.12}

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_OPERANDS = {"+": (118, 60), "-": (LARGEST, 60), "*": (30, 6)}  # largest first and second operand


@cache
def split_of(*key: object) -> str:
    """Assign a key to its split, for ever: 80 % train, 8 % dev, 12 % test.

    >>> split_of("+", 2, 3) == split_of("+", 2, 3)
    True
    """
    draw = Random(repr(key)).random()
    return "train" if draw < 0.80 else "dev" if draw < 0.88 else "test"


def pair_split(op: str, a: int, b: int) -> str:
    """The split of an operand pair; 3 + 5 and 5 + 3 are one pair, as are 3 * 5 and 5 * 3."""
    return split_of(op, a, b) if op == "-" else split_of(op, min(a, b), max(a, b))


@cache
def operands(op: str, split: str) -> dict[int, list[int]]:
    """Every pair of `split`: first operand -> its second operands, results in 1..LARGEST."""
    first, second = _OPERANDS[op]
    table: dict[int, list[int]] = {}
    for a in range(2, first + 1):
        for b in range(2, second + 1):
            if 1 <= OPERATIONS[op](a, b) <= LARGEST and pair_split(op, a, b) == split:
                table.setdefault(a, []).append(b)
    return table


# -- arithmetic (as GSM8K) -------------------------------------------------------------------------


def word_problem(rng: Random, split: str) -> dict[str, str]:
    """Make one word problem of one or two steps, every step's operand pair in `split`.

    Returns:
        {"question", "answer"} as a GSM8K row: worked lines, then "#### 30".
    """
    steps = _steps(rng, split)
    name, item = rng.choice(list(words.NAMES)), rng.choice(words.ITEMS)
    he = words.NAMES[name]
    sentences = [rng.choice(words.GROUPS if steps[0][0] == "*" else words.STARTS)]
    filled = [sentences[0].format(name=name, item=item, a=steps[0][1], b=steps[0][2])]
    for op, _, b in steps[1:] if steps[0][0] == "*" else steps:
        event = rng.choice(words.GAINS if op == "+" else words.LOSSES)
        filled.append(event.format(he=he, item=item, b=b))
    filled.append(rng.choice(words.HOW_MANY).format(name=name, he=he, item=item))
    lines = [f"{a} {op} {b} = {OPERATIONS[op](a, b)} {item}." for op, a, b in steps]
    result = OPERATIONS[steps[-1][0]](*steps[-1][1:])
    return {"question": " ".join(filled), "answer": "\n".join([*lines, f"#### {result}"])}


def _steps(rng: Random, split: str) -> list[tuple[str, int, int]]:
    """Draw one or two steps (op, a, b); the second starts from the first one's result."""
    op = rng.choice("++--*")
    a = rng.choice(list(operands(op, split)))
    b = rng.choice(operands(op, split)[a])
    result, then = OPERATIONS[op](a, b), rng.choice("+-")
    choices = operands(then, split).get(result, [])
    if rng.random() < 0.5 or not choices:
        return [(op, a, b)]
    return [(op, a, b), (then, result, rng.choice(choices))]


def drill(rng: Random) -> str:
    """A column of 4 to 10 bare sums from the train pairs, such as "12 + 35 = 47"."""
    lines = []
    for _ in range(rng.randint(4, 10)):
        op = rng.choice("+-*")
        a = rng.choice(list(operands(op, "train")))
        b = rng.choice(operands(op, "train")[a])
        lines.append(f"{a} {op} {b} = {OPERATIONS[op](a, b)}")
    return "\n".join(lines)


def maths_rows(n: int, seed: int) -> list[dict[str, str]]:
    """Make n rows as of GSM8K's train split, from train pairs only."""
    rng = Random(f"maths-{seed}")
    return [word_problem(rng, "train") for _ in range(n)]


# -- stories (as HellaSwag) ------------------------------------------------------------------------


@cache
def scripts(split: str) -> list[tuple[str, str]]:
    """Every (frame, object) pair of `split`; frames and objects themselves occur in all splits."""
    pairs = [(frame, o) for frame in words.FRAMES for o in words.OBJECTS]
    return [pair for pair in pairs if split_of(*pair) == split]


def _step(rng: Random, frame: str, i: int, o: str) -> str:
    """Word step `i` of a script; the step after the frame's last one takes the object home."""
    wordings = (*words.FRAMES[frame], words.HOME)[i]
    return rng.choice(wordings).format(o=o, place=words.OBJECTS[o])


def _link(rng: Random, he: str) -> str:
    return rng.choice(words.LINKS).format(he=he, He=he.capitalize())


def story(rng: Random) -> str:
    """Tell one train script whole, leaving out a middle step in five."""
    frame, o = rng.choice(scripts("train"))
    name = rng.choice(list(words.NAMES))
    last = len(words.FRAMES[frame])
    kept = [i for i in range(last + 1) if i in (0, last) or rng.random() > SKIP]
    told = [f"{frame} a {o}: {name} {_step(rng, frame, 0, o)}."]
    told += [f"{_link(rng, words.NAMES[name])} {_step(rng, frame, i, o)}." for i in kept[1:]]
    return " ".join(told)


def story_row(rng: Random, split: str) -> dict:
    """Make one HellaSwag row: how does a script of `split` go on after one to four steps?

    The right ending is the next step, or the one after it where the teller skips one (SKIP).
    Always going for the next step is the best one can do: right in 1 - 3/4 SKIP = 85 % of rows.
    """
    frame, o = rng.choice(scripts(split))
    name = rng.choice(list(words.NAMES))
    he, last = words.NAMES[name], len(words.FRAMES[frame])
    at = rng.randint(1, last)
    told = [f"{name} {_step(rng, frame, 0, o)}."]
    told += [f"{_link(rng, he)} {_step(rng, frame, i, o)}." for i in range(1, at)]
    context, link = " ".join(told), _link(rng, he)
    rival = at + 1 if at < last else rng.randrange(last)
    if at < last and rng.random() < SKIP:
        at, rival = rival, at
    right = _step(rng, frame, at, o)
    endings = [right, _step(rng, frame, rival, o), *_wrong_endings(rng, frame, at, o)]
    rng.shuffle(endings)
    return {
        "activity_label": f"{frame} a {o}",
        "ctx_a": context,
        "ctx_b": link.lower(),
        "ctx": f"{context} {link}",
        "endings": [f"{ending}." for ending in endings],
        "label": str(endings.index(right)),
    }


def _wrong_endings(rng: Random, frame: str, at: int, o: str) -> list[str]:
    """The right step with another object (or place), and a step of another frame."""
    other = rng.choice([x for x, place in words.OBJECTS.items() if place != words.OBJECTS[o]])
    elsewhere = rng.choice([f for f in words.FRAMES if f != frame])
    wrong_object = _step(rng, frame, at, other)
    if at == len(words.FRAMES[frame]):  # the object is right, the place is another one's
        wrong_object = wrong_object.replace(f"the {other} ", f"the {o} ")
    return [wrong_object, _step(rng, elsewhere, rng.randint(1, 3), o)]


# -- facts (as MMLU computer science) --------------------------------------------------------------


@cache
def facts() -> dict[tuple[str, str], str]:
    """What is true of this world: (program, attribute) -> value."""
    rng = Random("facts")
    return {
        (program, name): rng.choice(attribute["values"])
        for program in words.PROGRAMS
        for name, attribute in words.ATTRIBUTES.items()
    }


def fact_text(rng: Random) -> str:
    """State one to four facts in phrasings of the corpus, plain or as question and answer."""
    told = []
    for program, name in rng.sample(list(facts()), rng.randint(1, 4)):
        phrasings = words.ATTRIBUTES[name]
        phrase = rng.choice(phrasings["statements"] + phrasings["questions"])
        value = facts()[program, name]
        asked = phrase in phrasings["questions"]
        text = f"Question: {phrase}\nAnswer: {{v}}" if asked else phrase
        told.append(text.format(p=program, v=value))
    return "\n\n".join(told)


def fact_row(rng: Random, split: str) -> dict:
    """Ask for one fact in a phrasing of `split`; the wrong choices are values of other programs."""
    (program, name), value = rng.choice(list(facts().items()))
    attribute = words.ATTRIBUTES[name]
    choices = [value, *rng.sample([v for v in attribute["values"] if v != value], 3)]
    rng.shuffle(choices)
    phrasings = attribute["questions" if split == "train" else split]
    question = rng.choice(phrasings).format(p=program)
    return {"question": question, "choices": choices, "answer": choices.index(value)}


# -- instructions (as Alpaca) ----------------------------------------------------------------------


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
    files = {"arithmetic_train": maths_rows(ROWS, seed=0), "instructions": instructions(4000, 0)}
    makers = {"arithmetic": word_problem, "stories": story_row, "facts": fact_row}
    for name, make in makers.items():
        for split in SPLITS[1:]:
            files[f"{name}_{split}"] = _distinct(make, split)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")
