"""How long arms will take: a guess by what they do, put right by those that are done."""

import pytest

from slimlib.pipeline.pace import LARGE, MICRO, SMOL, estimate, guess
from slimlib.pipeline.sweep import plan_sweep
from slimlib.studies.get import get_study


def test_a_guess_counts_rows_merges_and_documents():
    study = get_study("smoke", limit=10)  # 3 tasks; 40 rows once
    asked = MICRO.arm + 30 * MICRO.document
    assert guess(study, study["llama-base"]) == pytest.approx(asked)
    assert guess(study, study["llama-base-nf4"]) == pytest.approx(MICRO.merge + asked)
    trained = 40 * MICRO.row + MICRO.merge + asked
    assert guess(study, study["llama-2k"]) == pytest.approx(trained)
    assert guess(study, study["llama-2k-requantised"]) == pytest.approx(MICRO.merge + asked)
    five = get_study("smoke", limit=10, **{"train.max_steps": 5})  # of 8 rows
    assert guess(five, five["llama-2k"]) == pytest.approx(trained)
    whole = get_study("smoke", limit="none")
    assert guess(whole, whole["llama-base"]) == pytest.approx(MICRO.arm + 3000 * MICRO.document)


def test_models_have_their_size_s_pace():
    smol, large = get_study("smol", limit=10), get_study("paper", limit=10)
    assert guess(smol, smol["qlora-r8"]) == pytest.approx(
        SMOL.arm + 500 * SMOL.row + SMOL.merge + 90 * SMOL.document
    )
    assert guess(large, large["llama-base"]) == pytest.approx(LARGE.arm + 40 * LARGE.document)


def test_what_is_done_puts_the_guess_right():
    study = get_study("smoke")
    expected = guess(study, study["llama-base"])
    done = [{"arm": "llama-base", "stages": {"evaluate": {"seconds": 3 * expected}}}]
    seconds, source = estimate(study, ["llama-2k"], done)
    assert seconds == [pytest.approx(3 * guess(study, study["llama-2k"]))]
    assert source == "as the 1 that are done took"
    assert estimate(study, [], [])[0] == []


@pytest.mark.parametrize(("name", "word"), [("smoke", "two CPU cores"), ("paper", "a T4")])
def test_with_none_done_it_says_that_it_is_a_guess(name, word):
    study = get_study(name)
    seconds, source = estimate(study, ["llama-2k"], [])
    assert source == f"a guess, as on {word}"
    assert seconds == [guess(study, study["llama-2k"])]


def test_workers_share_the_time_as_far_as_there_are_cells(tmp_path):
    study = get_study("key_variables_micro", arms="base,base-nf4-64,qlora-r4")
    one, two, many = (plan_sweep(study, tmp_path, [1], n).needed() for n in (1, 2, 9))
    assert one == "3 to do: about 1 min 7 s (22 s a cell, a guess, as on two CPU cores)"
    assert "about 33 s" in two and "about 22 s" in many
