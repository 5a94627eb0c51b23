"""SlimLM gives lm-eval's own numbers on real rows of eight benchmarks, with the embedded model."""

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from slimlib.config import Task
from slimlib.data.tasks import task_yaml
from slimlib.model.load import resolve_name
from slimlib.scoring import SlimLM

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4  # absolute, of a log-likelihood in float32;
STEPS = 4 * 2.0**-24  # or relative, a few steps of float32: more from -420 down, in long endings
HIGH_SCHOOL, COLLEGE = "mmlu_high_school_computer_science", "mmlu_college_computer_science"
TASKS = [
    Task("hellaswag", "hellaswag", 0, 8, limit=500, source="hellaswag"),
    Task("gsm8k", "gsm8k", 5, 8, limit=100, source="gsm8k"),
    Task(HIGH_SCHOOL, "mmlu_cs", 0, 8, source=HIGH_SCHOOL),
    Task(COLLEGE, "mmlu_cs_college", 0, 8, source=COLLEGE),
    Task(HIGH_SCHOOL, "mmlu_cs", 5, 4, limit=30, source=HIGH_SCHOOL),
    Task(COLLEGE, "mmlu_cs_college", 5, 4, limit=30, source=COLLEGE),
]


class Model(NamedTuple):
    """What is evaluated."""

    network: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def micro() -> Model:
    path = resolve_name("micro:base")
    network = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    return Model(network, AutoTokenizer.from_pretrained(path))


def slim(model: Model, **kwargs: Any) -> SlimLM:
    lm = SlimLM(pretrained=model.network, tokenizer=model.tokenizer, **kwargs)
    assert lm.stock_reason is None
    return lm


def stock(model: Model, **kwargs: Any) -> HFLM:
    return HFLM(pretrained=model.network, tokenizer=model.tokenizer, **kwargs)


# ---------------------------------------------------------------------------- tasks, by lm-eval


def evaluated(lm: HFLM, task: Task, data: Path, folder: Path) -> tuple[dict, list[dict]]:
    """The scores of a task and its samples in the documents' order."""
    results = lm_eval.simple_evaluate(
        model=lm,
        tasks=[str(task_yaml(task, data, folder))],
        task_manager=TaskManager(include_defaults=False),
        num_fewshot=task.num_fewshot,
        limit=task.limit,
        bootstrap_iters=0,
    )
    samples = sorted(results["samples"][task.name], key=lambda s: (s["doc_id"], s["filter"]))
    return results["results"][task.name], samples


@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.name}-{t.num_fewshot}")
def test_a_task_s_scores_and_every_answer(task, micro, data_folder, tmp_path):
    """Log-likelihoods to 1e-4, all else to the letter: greedy or not, texts, acc and acc_norm."""
    settings = {"max_length": 4096, "batch_size": task.batch_size}
    theirs = evaluated(stock(micro, **settings), task, data_folder, tmp_path)
    ours = evaluated(slim(micro, **settings), task, data_folder, tmp_path)
    assert ours[0] == theirs[0]
    for our, their in zip(ours[1], theirs[1], strict=True):
        assert our["doc_id"] == their["doc_id"] and our["arguments"] == their["arguments"]
        assert_same(our["resps"], their["resps"])
    texts = {str(sample["resps"]) for sample in theirs[1]}
    assert len(texts) > 0.9 * len({sample["doc_id"] for sample in theirs[1]})


def assert_same(ours: list, theirs: list) -> None:
    """Nested lists alike, floats to TOLERANCE or STEPS."""
    if isinstance(theirs, (list, tuple)):
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=STEPS)
    else:
        assert ours == theirs and type(ours) is type(theirs)


# -------------------------------------------------------------------------- requests made by hand


def read_rows(path: Path, n: int) -> Iterator[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        yield from map(json.loads, islice(stream, n))


def numbered(text: str, word: str) -> tuple[str, list[str]]:
    """What stands before "Answer1: ... Answer2: ...", and the answers."""
    text = text.partition("Answer format:")[0]
    question, *answers = re.split(rf"\s*{word}\d:\s*", text)
    return question.partition(":")[2].strip(), [answer.strip() for answer in answers]


def arc(row: dict[str, str]) -> list[tuple[str, str]]:
    question, answers = numbered(row["instruction"], "Answer")
    return [(f"Question: {question}\nAnswer:", f" {answer}") for answer in answers]


def piqa(row: dict[str, str]) -> list[tuple[str, str]]:
    goal, solutions = numbered(row["instruction"], "Solution")
    return [(f"Question: {goal}\nAnswer:", f" {solution}") for solution in solutions]


def winogrande(row: dict[str, str]) -> list[tuple[str, str]]:
    """As lm-eval: the options are put into the context, the ending is the same."""
    sentence, options = numbered(row["instruction"], "Option")
    before, _, after = sentence.partition("_")
    return [(before + option, f" {after.strip()}") for option in options]


def boolq(row: dict[str, str]) -> list[tuple[str, str]]:
    question = row["instruction"].partition("question:")[2].partition("Answer format")[0].strip()
    return [(f"Question: {question}\nAnswer:", answer) for answer in (" yes", " no")]


BENCHMARKS: dict[str, Callable[[dict[str, str]], list[tuple[str, str]]]] = {
    "arc_easy_test": arc,
    "arc_challenge_test": arc,
    "openbookqa_test": arc,
    "piqa_valid": piqa,
    "winogrande_dev": winogrande,
    "boolq_dev": boolq,
}


def score(lm: HFLM, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    return lm.loglikelihood(requests, disable_tqdm=True)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_other_benchmarks(name, micro, data_folder):
    rows = list(read_rows(data_folder / "commonsense" / f"{name}.jsonl.gz", 100))
    pairs = [pair for row in rows for pair in BENCHMARKS[name](row)]
    assert len(pairs) >= 200 and all(context and ending.strip() for context, ending in pairs)
    assert_same(score(slim(micro), pairs), score(stock(micro, batch_size=16), pairs))


def test_every_subject_of_mmlu_at_once(micro, data_folder):
    """Two questions of each of 57 subjects behind three others; each beginning is shared by two."""
    pairs = []
    for path in sorted((data_folder / "mmlu" / "test").glob("*.csv")):
        subject = path.stem.removesuffix("_test").replace("_", " ")
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(islice(csv.reader(stream), 5))
        *shots, one, two = map(mmlu_question, rows)
        solved = [f"{q} {row[5]}" for q, row in zip(shots, rows, strict=False)]
        head = f"The following are multiple choice questions about {subject}."
        contexts = ["\n\n".join([head, *solved, question]) for question in (one, two)]
        pairs += [(context, f" {letter}") for context in contexts for letter in "ABCD"]
    ours = score(slim(micro, max_length=1024), pairs)  # some are longer
    assert_same(ours, score(stock(micro, max_length=1024, batch_size=4), pairs))


def mmlu_question(row: list[str]) -> str:
    choices = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", row[1:5], strict=True))
    return f"{row[0].strip()}\n{choices}\nAnswer:"


def test_perplexity_of_long_texts(micro, data_folder):
    """Twenty times the window, and shorter than it."""
    answers = [row["answer"] for row in read_rows(data_folder / "gsm8k" / "test.jsonl", 200)]
    texts = ["\n\n".join(answers[:120]), "\n\n".join(answers[120:150]), *answers[150:]]
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    settings = {"max_length": 512}
    theirs = stock(micro, batch_size=8, **settings).loglikelihood_rolling(requests)
    ours = slim(micro, **settings).loglikelihood_rolling(requests)
    assert theirs[0] < 10 * theirs[-1] < 0
    windows = [len(micro.tokenizer.encode(text)) // 512 + 1 for text in texts]
    for our, their, n in zip(ours, theirs, windows, strict=True):  # a window is a log-likelihood
        assert our == pytest.approx(their, abs=n * TOLERANCE, rel=STEPS)


# --------------------------------------------------------------------------- shots that are shared


def test_fixed_shots(micro, data_folder):
    """The same five worked problems before each of 40: as lm-eval's sampler "first_n"."""
    shots = list(read_rows(data_folder / "gsm8k" / "train.jsonl", 5))
    head = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in shots)
    rows = list(read_rows(data_folder / "gsm8k" / "test.jsonl", 40))
    kwargs = {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False, "max_gen_toks": 96}
    requests = [
        Instance("generate_until", {}, (f"{head}Question: {row['question']}\nAnswer:", kwargs), i)
        for i, row in enumerate(rows)
    ]
    theirs = stock(micro, batch_size=8, max_length=4096).generate_until(requests)
    lm = slim(micro, max_length=4096)
    assert lm.generate_until(requests) == theirs
    assert len(set(theirs)) > 20
    prompts = sum(len(lm.tok_encode(request.args[0])) for request in requests)
    assert lm.work.tokens < prompts / 2
