"""Operations, bytes and seconds against numbers worked out by hand and published runs."""

import pytest

from slimlib.config import AdapterConfig, EvalConfig, Task
from slimlib.methods.memory import Setting
from slimlib.methods.shapes import SHAPES, Shape, count_parameters
from slimlib.methods.work import (
    EFFICIENCY,
    RATES,
    Work,
    evaluation_work,
    padded,
    training_work,
)
from slimlib.studies.slimming import PAPER_TASKS

T4 = RATES["Tesla T4"]
BY_HAND = Shape(hidden=4, intermediate=8, kv_out=2, layers=1, vocab_size=10, tied=True)


def test_operations_of_a_token_by_hand():
    """N 144, P 64, d V 40, attention 2 tokens d = 24 forward."""
    plain = training_work(BY_HAND, Setting(2, 3), 64, passes=5)
    assert plain.flops == (4 * 144 + 6 * 64 + 3 * 24 + 6 * 40) * 6 * 5
    again = training_work(BY_HAND, Setting(2, 3, checkpointing=True), 64, passes=1)
    assert again.flops == (6 * 144 + 8 * 64 + 4 * 24 + 6 * 40) * 6
    full = training_work(BY_HAND, Setting(2, 3), 196, passes=1, full=True)
    assert full.flops == (6 * 144 + 3 * 24 + 8 * 40) * 6


def test_bytes_of_a_pass_by_hand():
    """Weights are read twice; in 4 bit they are written and read in 16 bit as well."""
    sixteen = training_work(BY_HAND, Setting(2, 3, compute=2, rest=2), 64, passes=5)
    assert sixteen.bytes == 5 * 2 * 196 * 2
    four = training_work(BY_HAND, Setting(2, 3, compute=2, rest=2, four_bit=True), 64, passes=5)
    packed = 144 * (4 + 1 / 8 + 1 / 512) / 8
    assert four.bytes == pytest.approx(5 * 2 * (packed + 52 * 2 + 144 * 4))


def test_seconds_are_a_sum():
    assert Work(13e12, 320e9).seconds(T4, "float16", 0.2) == pytest.approx(2)
    assert (Work(6.5e12, 0) + Work(0, 0, 3)).seconds(T4, "float16", 0.2) == pytest.approx(3.5)


def test_unsloth_s_published_run_gives_the_efficiency():
    """TinyLlama on a T4: 3,000 packed rows of 4,096 tokens, two a pass, in 5,034.6 s."""
    shape = SHAPES["TinyLlama-1.1B"]
    trained = count_parameters(shape, AdapterConfig(r=32))
    assert trained == 25_231_360  # as the notebook prints
    setting = Setting(2, 4_096, compute=2, rest=2, four_bit=True)
    work = training_work(shape, setting, trained, passes=1_500)
    reached = work.flops / (5_034.6 - work.bytes / T4.bandwidth) / T4.flops["float16"]
    assert reached == pytest.approx(EFFICIENCY, rel=0.15)


def test_padding_is_what_alpaca_s_rows_need():
    """Measured of Alpaca's first 2,000 rows in random order, SmolLM2's tokenizer."""
    found = [padded(rows) for rows in (1, 2, 4, 8, 16)]
    assert found == pytest.approx([1, 1.24, 1.52, 1.80, 2.14], rel=0.03)


def test_the_evaluation_s_tokens_by_task():
    """2 N a token, 2 d V a scored or generated one; 5,276 steps for GSM8K's answers."""
    hellaswag, gsm8k, *_ = PAPER_TASKS
    whole, unknown = evaluation_work(BY_HAND, EvalConfig(tasks=(hellaswag,)), compute=2)
    assert (whole.flops, unknown) == (2 * 144 * 1_900_172 + 2 * 40 * 1_325_544, [])
    assert (whole.bytes, whole.waiting) == (0, 0)
    whole, _ = evaluation_work(BY_HAND, EvalConfig(tasks=(gsm8k,)), compute=2)
    generated = 1_319 * 256
    assert whole.flops == 2 * 144 * (1_431_115 + generated) + 2 * 40 * generated
    assert whole.waiting == pytest.approx(5_276 * 0.03)
    assert whole.bytes == pytest.approx(5_276 * 2 * (196 + 64 * 2 * 2 * 1_085))


def test_a_task_without_a_count_is_named_and_takes_no_time():
    task = Task("arc_easy", "arc_easy", num_fewshot=0, batch_size=8)
    cut = Task("gsm8k", "gsm8k", num_fewshot=5, batch_size=8, limit=10)
    found, unknown = evaluation_work(BY_HAND, EvalConfig(tasks=(task, cut)), compute=2)
    assert (found, unknown) == (Work(0, 0), ["arc_easy", "gsm8k"])
