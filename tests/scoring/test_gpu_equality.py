"""SlimLM in half precision at a real shape: float16 on a GPU, bfloat16 on a cut shape elsewhere.

Random weights, real HellaSwag and GSM8K rows. In half precision HFLM differs from itself between
batch sizes; SlimLM must not differ from it by more than that.
"""

import sys

import pytest
import torch
from llama_shapes import SHAPES, embedded_tokenizer, random_llama
from lm_eval.models.huggingface import HFLM
from places import TESTS

from slimlib.scoring import SlimLM

sys.path.append(str(TESTS / "benchmarks"))
from workload import load_workload  # noqa: E402

ROWS = {"cuda": 1000, "cpu": 24}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("cuda", marks=pytest.mark.gpu),
        pytest.param("cpu", marks=pytest.mark.slow),
    ],
)
def model(request):
    """Llama-3.2-1B whole in float16 on a GPU, or two of its layers on a CPU, and the tokenizer."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    shape = dict(SHAPES["llama-3.2-1b"])
    dtype = torch.float16
    if request.param == "cpu":
        shape.update(num_hidden_layers=2, hidden_size=256, intermediate_size=512, vocab_size=1024)
        shape.update(num_attention_heads=8, num_key_value_heads=2, head_dim=32)
        dtype = torch.bfloat16
    tokenizer = embedded_tokenizer()
    return random_llama(shape, tokenizer, dtype).to(request.param), tokenizer


def test_choices_are_hflm_s(model, data_folder):
    network, tokenizer = model
    work = load_workload("hellaswag", data_folder, ROWS[network.device.type])
    ours = SlimLM(pretrained=network, tokenizer=tokenizer, max_length=2048)
    answers = work.ask(ours)
    assert ours.stock_reason is None
    one, other = (
        HFLM(pretrained=network, tokenizer=tokenizer, max_length=2048, batch_size=size)
        for size in (16, 5)
    )
    wanted, again = work.ask(one), work.ask(other)
    for metric in work.scores(wanted):
        our, their, own = (work.scores(found)[metric] for found in (answers, wanted, again))
        one_question = 1 / len(work.documents)  # of a thousand on a GPU
        assert abs(our - their) <= max(one_question, abs(own - their)) + 1e-9
    gaps = [abs(a[0] - b[0]) for a, b in zip(answers, wanted, strict=True)]
    noise = [abs(a[0] - b[0]) for a, b in zip(again, wanted, strict=True)]
    assert sum(gaps) / len(gaps) <= max(3 * sum(noise) / len(noise), 0.05)


def test_texts_begin_as_hflm_s(model, data_folder):
    """In half precision two tokens may be equally likely; from there on texts go their own way."""
    network, tokenizer = model
    work = load_workload("gsm8k", data_folder, 8, max_gen_toks=32)
    ours, stock = (
        make(pretrained=network, tokenizer=tokenizer, max_length=4096, batch_size=1)
        for make in (SlimLM, HFLM)
    )
    answers, wanted = work.ask(ours), work.ask(stock)
    assert ours.stock_reason is None
    same = [a[:8] == b[:8] for a, b in zip(answers, wanted, strict=True)]
    assert sum(same) >= len(same) // 2
