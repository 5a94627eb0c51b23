"""Kept answers: a task that is cut off asks for what is left, and nothing is asked twice."""

from types import SimpleNamespace

import pytest

from slimlib.common.files import read_json
from slimlib.common.progress import Line
from slimlib.config import EvalConfig, Task
from slimlib.data.micro import CHECKPOINTS
from slimlib.evaluate.harness import evaluate_model
from slimlib.scoring.responses import Responses

ARITHMETIC = Task("micro_arithmetic", "gsm8k", 2, 4, limit=6, source="arithmetic")
FACTS = Task("micro_facts", "mmlu_cs", 0, 4, limit=6, source="facts")


def request(document, *args):
    return SimpleNamespace(task_name="task", doc_id=document, args=args)


def answered(responses, left):
    """A model that answers with its request's text in capitals, and tells the hook."""
    answers = [request.args[0].upper() for request in left]
    for request_, answer in zip(left, answers, strict=True):
        responses.add_partial("generate_until", request_.args, answer)
    return answers


def ask(path, requests, line=None):
    """The answers, and what the model was asked for."""
    asked = []
    with Responses(path, line or Line("a")) as responses:

        def model(left):
            asked.extend(request.args[0] for request in left)
            return answered(responses, left)

        return responses.complete("generate_until", requests, model), asked


GREEDY = {"do_sample": False}


def test_what_is_known_is_not_asked_again(tmp_path):
    path = tmp_path / "responses.jsonl"
    first = [request(0, "a", GREEDY), request(1, "b", GREEDY)]
    assert ask(path, first) == (["A", "B"], ["a", "b"])
    more = [request(2, "c", GREEDY), *first]
    assert ask(path, more) == (["C", "A", "B"], ["c"])
    assert ask(path, more) == (["C", "A", "B"], [])


def test_other_arguments_are_another_request(tmp_path):
    path = tmp_path / "responses.jsonl"
    ask(path, [request(0, "a", GREEDY)])
    assert ask(path, [request(0, "a", GREEDY | {"until": ["."]})])[1] == ["a"]
    with Responses(path, Line("a")) as responses:
        known = responses.complete("loglikelihood", [request(0, "a", GREEDY)], lambda left: ["?"])
    assert known == ["?"]


def test_samples_are_drawn_anew(tmp_path):
    requests = [request(0, "a", {"do_sample": True})]
    assert ask(tmp_path / "r.jsonl", requests)[1] == ["a"]
    assert ask(tmp_path / "r.jsonl", requests)[1] == ["a"]


def test_a_line_that_was_cut_off_is_asked_again(tmp_path):
    path = tmp_path / "responses.jsonl"
    requests = [request(0, "a", GREEDY), request(1, "b", GREEDY)]
    ask(path, requests)
    path.write_text(path.read_text()[:-5])
    assert ask(path, requests) == (["A", "B"], ["b"])
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b'"A"', b'"X"'),
        lambda line: b"\x80\x04\x95 a pickle \xff",
        lambda line: b'{"request": "a", "answer": "A"}',  # as slimlib 0.1 kept it
        lambda line: b"[]",
        lambda line: b"[[1], 2, 3]",
        lambda line: b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_dropped_said_and_asked_again(tmp_path, capsys, damage):
    path = tmp_path / "responses.jsonl"
    requests = [request(0, "a", GREEDY), request(1, "b", GREEDY)]
    ask(path, requests)
    first, second = path.read_bytes().splitlines()
    path.write_bytes(damage(first) + b"\n" + second + b"\n")
    assert ask(path, requests) == (["A", "B"], ["a"])
    assert "responses.jsonl: 1 damaged lines are asked again" in capsys.readouterr().err
    assert ask(path, requests) == (["A", "B"], [])


def test_a_log_likelihood_comes_back_as_it_was(tmp_path):
    answer = (-1.2345678901234567, True)
    asked = request(0, "context", " ending")
    for _ in range(2):
        with Responses(tmp_path / "r.jsonl", Line("a")) as responses:

            def model(left, responses=responses):
                responses.add_partial("loglikelihood", left[0].args, answer)
                return [answer]

            assert responses.complete("loglikelihood", [asked], model) == [answer]


def test_the_line_counts_documents(tmp_path):
    """Two documents of two endings each; the first document was answered before."""
    path, line = tmp_path / "r.jsonl", Line("a")
    requests = [request(i // 2, f"{i}", GREEDY) for i in range(4)]
    ask(path, requests[:2])
    ask(path, requests, line)
    assert (line.unit, line.first, line.done, line.total) == ("documents", 1, 2, 2)


@pytest.mark.parametrize("evaluator", ["slim", "hf"])
@pytest.mark.parametrize("task", [ARITHMETIC, FACTS], ids=lambda task: task.name)
def test_a_task_that_is_cut_off_goes_on_with_the_same_scores(
    evaluator, task, checkpoint, tiny_run, tmp_path, monkeypatch
):
    """By lm-eval and a real model: stopped after some answers, it asks for the others alone."""
    config = EvalConfig(tasks=(task,), dtype="float32", max_length=1024, evaluator=evaluator)
    how = (str(checkpoint), config)
    whole = evaluate_model(*how, tmp_path / "whole", tiny_run.data_folder())[task.name]
    keep, asked = Responses.add_partial, []

    def cut(self, kind, request, answer):
        keep(self, kind, request, answer)
        asked.append(repr(request))
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Responses, "add_partial", cut)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(*how, tmp_path / "cut", tiny_run.data_folder())
    (kept,) = (tmp_path / "cut" / task.name).glob("responses-*.jsonl")
    assert len(kept.read_text().splitlines()) == 3
    entry = evaluate_model(*how, tmp_path / "cut", tiny_run.data_folder())[task.name]
    assert entry["metrics"] == whole["metrics"]
    assert len(asked) == len({*asked})  # none twice
    assert not kept.exists()
    names = {path.name for path in (tmp_path / "cut" / task.name).iterdir()}
    assert names == {"entry.json", "results.json", "samples.jsonl"}
    assert read_json(tmp_path / "cut" / task.name / "results.json")["results"]


@pytest.mark.parametrize("answers", [7, 53])
def test_what_is_left_is_answered_to_the_last_digit_as_in_one_go(
    answers, tiny_run, tmp_path, monkeypatch
):
    """A last digit depends on what is computed in the same pass."""
    task = Task("micro_facts", "mmlu_cs", 0, 4, limit=40, source="facts")
    config = EvalConfig(tasks=(task,), dtype="float32", max_length=1024)
    how = (str(CHECKPOINTS["base"]), config)
    evaluate_model(*how, tmp_path / "whole", tiny_run.data_folder())
    keep, asked = Responses.add_partial, []

    def cut(self, kind, request, answer):
        keep(self, kind, request, answer)
        asked.append(repr(request))
        if len(asked) == answers:
            raise KeyboardInterrupt

    monkeypatch.setattr(Responses, "add_partial", cut)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(*how, tmp_path / "cut", tiny_run.data_folder())
    evaluate_model(*how, tmp_path / "cut", tiny_run.data_folder())
    assert len(asked) == len({*asked}) == 160
    whole, cut = (tmp_path / d / "micro_facts" / "samples.jsonl" for d in ("whole", "cut"))
    assert cut.read_bytes() == whole.read_bytes()


def test_slim_tells_its_tokens(checkpoint, tiny_run, tmp_path, capsys):
    config = EvalConfig(tasks=(FACTS,), dtype="float32", max_length=1024)
    evaluate_model(str(checkpoint), config, tmp_path, tiny_run.data_folder())
    (last,) = [n for n in capsys.readouterr().err.splitlines() if "done in" in n]
    assert last.startswith("micro_facts: done in") and "6 documents" in last
    assert last.endswith("tokens/s)")
