"""The three abilities of the small world, each in the row format of the benchmark it plays.

Arithmetic word problems play GSM8K, everyday stories HellaSwag, made-up computer facts MMLU
computer science. What a model is tested on is held out by construction, not by string: operand
pairs, (frame, object) scripts and phrasings belong to one split each. A function that takes `rng`
draws from it alone: the same seed gives the same rows on every machine.
"""

from collections.abc import Callable
from functools import cache
from random import Random

from slimlib.data.micro import words

SPLITS = ("train", "dev", "test")
LARGEST = 120  # no number in a word problem is larger
SKIP = 0.2  # of the middle steps are left out of a story: nobody can know which step comes next

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
    op, a, b = steps[0]
    opening = rng.choice(words.GROUPS if op == "*" else words.STARTS)
    told = [opening.format(name=name, item=item, a=a, b=b)]
    events = steps[1:] if op == "*" else steps  # an opening with groups has told the first step
    for change, _, amount in events:
        event = rng.choice(words.GAINS if change == "+" else words.LOSSES)
        told.append(event.format(he=he, item=item, b=amount))
    told.append(rng.choice(words.HOW_MANY).format(name=name, he=he, item=item))
    lines = [f"{a} {op} {b} = {OPERATIONS[op](a, b)} {item}." for op, a, b in steps]
    op, a, b = steps[-1]
    lines.append(f"#### {OPERATIONS[op](a, b)}")
    return {"question": " ".join(told), "answer": "\n".join(lines)}


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
