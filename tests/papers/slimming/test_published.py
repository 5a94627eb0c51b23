"""The published tables agree with themselves, except where a test says that they do not."""

import pytest

from slimlib import metrics
from slimlib.comparison import benchmarks
from slimlib.papers.slimming import published

CELLS = [(column, key) for column, cells in published.TABLE2.items() for key in cells]


@pytest.mark.parametrize(("column", "key"), CELLS, ids=lambda x: str(x))
def test_every_plus_minus_is_one_standard_error(column, key):
    score = published.TABLE2[column][key]
    expected = metrics.standard_error(score.value, published.DOCUMENTS[key[0]])
    # 0.01: the accuracies that it is computed from are rounded too
    assert score.plus_minus == pytest.approx(expected, abs=0.01)


def test_all_columns_hold_the_same_cells():
    rows = [set(cells) for cells in published.TABLE2.values()]
    assert rows[0] == rows[1] == rows[2] and len(rows[0]) == 5


def test_tables_and_labels_name_the_same_columns():
    assert set(published.TABLE1) == set(published.TABLE2) == set(published.COLUMN_LABELS)
    assert set(published.MEASURES) == set(published.COMPARED_WITH) <= set(published.TABLE2)


def test_published_losses_follow_from_the_published_scores():
    base, tuned = (published.TABLE2[c] for c in ("base", "llama-2k"))
    pairs = {
        role: (base[key].value, tuned[key].value)
        for role, key in {
            "gsm8k": ("gsm8k", benchmarks.FLEXIBLE),
            "hellaswag": ("hellaswag", benchmarks.ACC_NORM),
            "mmlu_cs": ("mmlu_cs", benchmarks.ACC),
        }.items()
    }
    losses = published.MEASURES["llama-2k"]
    # printed 88.92: the rounded scores give 88.93, the exact ones 88.91
    assert metrics.forgetting_rate(*pairs["gsm8k"]) == pytest.approx(
        losses["gsm8k"].value, abs=0.011
    )
    assert metrics.delta_a(*pairs["hellaswag"]) == pytest.approx(losses["hellaswag"].value)
    assert metrics.delta_k(*pairs["mmlu_cs"], 100).value == losses["mmlu_cs"].value


def test_published_interval_of_dk_lacks_the_z():
    """+- 6.93 is one standard error of the difference; the definition has 1.96 of them."""
    defined = metrics.delta_k(47.0, 34.0, 100)
    half_width = (defined.high - defined.low) / 2
    printed = published.MEASURES["llama-2k"]["mmlu_cs"].plus_minus
    assert half_width / metrics.Z95 == pytest.approx(printed, abs=0.02)
    assert half_width > 1.9 * printed


def test_base_column_says_what_it_is():
    assert "Instruct" in published.COLUMN_LABELS["base"]


def test_the_text_s_relative_losses_are_of_published_losses():
    assert set(published.RELATIVE_CHANGES) <= set(published.MEASURES["llama-2k"])
    assert set(published.STATED_DOCUMENTS) <= set(published.DOCUMENTS)


def test_every_claimed_checkpoint_has_an_end_token():
    known = {end.checkpoint for end in published.END_TOKENS.values()}
    assert set(published.CHECKPOINTS.values()) <= known
    assert set(published.CHECKPOINTS) <= set(published.TABLE2)


def test_paper_b_s_savings_cover_both_models_and_both_divisors():
    assert set(published.MLP_RANK_SAVINGS) == {
        (model, divisor) for model in ("LLaMA-7B", "LLaMA-13B") for divisor in (2, 4)
    }
