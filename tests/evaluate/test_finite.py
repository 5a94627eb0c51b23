"""An evaluation stops where a model's answers are not numbers, and says what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from slimlib.common.files import read_jsonl
from slimlib.config import EvalConfig, Study, Task
from slimlib.evaluate.harness import evaluate_model
from slimlib.model.load import resolve_name
from slimlib.run import Run
from slimlib.scoring import SlimLM
from slimlib.scoring.finite import FoundNotFinite, NotFiniteError, check, naming, watch

ARITHMETIC = Task("micro_arithmetic", "gsm8k", 0, 4, limit=2, source="arithmetic")
FACTS = Task("micro_facts", "mmlu_cs", 0, 4, limit=2, source="facts")


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """micro:base with one layer's activations too large for float16, and the same answers else.

    up and gate times 3000 and 30, down over 90000: silu(30 g) is about 30 g where g is not small.
    """
    folder = tmp_path_factory.mktemp("overflowing")
    source = resolve_name("micro:base")
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    mlp = network.model.layers[1].mlp
    with torch.no_grad():
        mlp.up_proj.weight *= 3000
        mlp.gate_proj.weight *= 30
        mlp.down_proj.weight /= 90000
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def world(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Run(tiny_study, tmp_path_factory.mktemp("runs")).data_folder()


@pytest.mark.parametrize("evaluator", ["slim", "hf"])
@pytest.mark.parametrize(
    ("task", "what"),
    [(FACTS, "log-likelihood"), (ARITHMETIC, "logits")],
    ids=["choices", "written"],
)
def test_float16_that_overflows_stops_the_evaluation(
    overflowing: Path, world: Path, tmp_path: Path, evaluator: str, task: Task, what: str
) -> None:
    config = EvalConfig(tasks=(task,), dtype="float16", max_length=512, evaluator=evaluator)
    with pytest.raises(NotFiniteError) as error:
        evaluate_model(str(overflowing), config, tmp_path, world)
    message = str(error.value)
    assert message.startswith(f"{overflowing} in float16: {what} of task {task.name}, document ")
    assert message.endswith("evaluate with evaluate.dtype=bfloat16 or float32")
    folder = tmp_path / task.name
    assert not (folder / "entry.json").exists() and not (folder / "results.json").exists()
    (kept,) = folder.glob("responses-*.jsonl")
    assert "NaN" not in kept.read_text()


def test_the_way_out_is_one(overflowing: Path, world: Path, tmp_path: Path) -> None:
    config = EvalConfig(tasks=(FACTS,), dtype="float32", max_length=512)
    found = evaluate_model(str(overflowing), config, tmp_path, world)
    assert found["micro_facts"]["n"] == 2


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [
        Instance(kind, {}, args, 0, metadata=("t", document, 1))
        for document, args in enumerate(arguments)
    ]


@pytest.fixture(scope="module")
def broken(checkpoint: Path) -> SlimLM:
    """SlimLM of weights that are NaN for one token: documents with an "x" are broken."""
    lm = SlimLM(pretrained=str(checkpoint), dtype="float32", batch_size=2, device="cpu")
    (token,) = set(lm.tok_encode("x")) - {lm.tokenizer.bos_token_id}
    assert lm.stock_reason is None
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[token] = float("nan")
    return lm


def stopped(lm: SlimLM, kind: str, *arguments: tuple[Any, ...]) -> str:
    """What is said where a model's answers to requests stop."""
    with pytest.raises(NotFiniteError) as error:
        getattr(lm, kind)(instances(kind, *arguments), disable_tqdm=True)
    return str(error.value)


UNTIL = {"until": ["\n"], "do_sample": False, "max_gen_toks": 2}


def test_slim_names_the_document_without_slimlib_s_runner(broken: SlimLM) -> None:
    said = stopped(broken, "loglikelihood", ("a", "b"), ("x", "b"), ("c", "d"))
    assert "task t, document 1 is not a number" in said
    assert "in float32" in said and "the weights are broken" in said
    assert "document 1" in stopped(broken, "loglikelihood_rolling", ("a b",), ("a x b",))
    said = stopped(broken, "generate_until", ("a", UNTIL), ("b", UNTIL), ("x", UNTIL))
    assert "logits of task t, document 2 are not all numbers" in said


def test_slim_stops_where_it_leaves_the_model_to_hflm(broken: SlimLM) -> None:
    model = id(broken.model)
    broken._reasons[model] = "a test"
    try:
        said = stopped(broken, "loglikelihood", ("a", "b"), ("x", "b"))
        assert "document 1 is not a number" in said
        assert "document 1" in stopped(broken, "loglikelihood_rolling", ("a b",), ("a x b",))
        said = stopped(broken, "generate_until", ("a", UNTIL), ("x", UNTIL), ("b c", UNTIL))
        assert "logits of task t, document 1 are not" in said
    finally:
        broken._reasons[model] = None


def test_documents_that_are_numbers_are_answered(broken: SlimLM) -> None:
    asked = instances("loglikelihood", ("a", "b"), ("c", "d"))
    assert all(value < 0 for value, _ in broken.loglikelihood(asked, disable_tqdm=True))


def test_answers_before_the_first_broken_one_are_kept(
    overflowing: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of eight answers is NaN: seven are kept, and not asked again."""
    config = EvalConfig(tasks=(FACTS,), dtype="float32", max_length=512)
    scored = SlimLM._scored

    def last_is_nan(self: Any, *args: Any) -> Any:
        for i, (index, value, greedy) in enumerate(scored(self, *args)):
            yield index, float("nan") if i == 7 else value, greedy

    with monkeypatch.context() as patch:
        patch.setattr(SlimLM, "_scored", last_is_nan)
        with pytest.raises(NotFiniteError, match="micro_facts"):
            evaluate_model(str(overflowing), config, tmp_path, world)
    (kept,) = (tmp_path / "micro_facts").glob("responses-*.jsonl")
    assert len(read_jsonl(kept)) == 7
    assert evaluate_model(str(overflowing), config, tmp_path, world)["micro_facts"]["n"] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_log_likelihood_is_finite(value: float) -> None:
    check(-1.5, ("a", "b"))
    with pytest.raises(FoundNotFinite):
        check(value, ("a", "b"))


def test_a_token_that_may_not_be_written_is_no_fault() -> None:
    """Models mask the padding of their vocabulary with -inf; only a whole row of it is one."""
    row, masked = [1.0, 2.0], [float("-inf"), 0.5]
    logits = torch.tensor([row, masked])
    assert watch(["p", "q"], None, logits) is logits
    for wrong in ([float("nan"), 1.0], [float("inf"), 1.0], [float("-inf")] * 2):
        with pytest.raises(FoundNotFinite) as found:
            watch(["p", "q"], None, torch.tensor([row, row, masked, wrong]))  # two beams each
        assert found.value.request == ["q"]


def test_a_request_that_is_not_found_is_still_an_error() -> None:
    lm = SimpleNamespace(model=SimpleNamespace(dtype=torch.bfloat16))
    with pytest.raises(NotFiniteError, match="^SimpleNamespace in bfloat16: log-likelihood of"):
        with naming(lm, []):
            raise FoundNotFinite("log-likelihood", ("unknown",))
