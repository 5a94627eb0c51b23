"""What a row says of its question: answers told apart, guessing, log-likelihoods that are none."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval_files import LETTERS, choice_row

from slimlib.results.requests import guessing_share, read_request


def test_a_file_and_simple_evaluate_have_one_answer() -> None:
    file = choice_row("1", [" yes", " no"], [-27.0, -30.132])
    memory = {
        "target": 1,
        "arguments": [("?", " yes"), ("?", " no")],
        "resps": [[(-27.0, False)], [(-30.132, False)]],
    }
    assert read_request(file) == read_request(memory)
    assert read_request(memory)[1:] == ("multiple_choice", 2, "no", True)


def test_answers_that_differ_in_the_last_digit_are_told_apart() -> None:
    one, other = (read_request(choice_row(0, LETTERS, [-1, -2, -3, x])) for x in (-4.0, -4.01))
    assert one.answer != other.answer
    texts = [{"arguments": [("?", {"until": []})], "resps": [[text]]} for text in ("32", "'32'")]
    assert len({read_request(row).answer for row in texts}) == 2


@pytest.mark.parametrize("resps", [None, [], "absent"])
def test_a_row_without_answers_has_no_hash(resps: Any) -> None:
    row = choice_row(0, LETTERS)
    del row["resps"]
    row |= {} if resps == "absent" else {"resps": resps}
    request = read_request(row)
    assert request.answer is None and request.finite


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([-1.0, -2.0], True),
        (["nan", "nan"], False),
        ([-1.0, "nan"], False),  # argmax takes NaN for the largest
        ([float("nan")] * 2, False),
        (["NaN", -1.0], False),
        ([None, -1.0], False),
        ([-1.0, "-inf"], True),  # a token that cannot be written; the other choice stands
        (["-inf", "-inf"], False),
    ],
)
def test_log_likelihoods_that_are_no_numbers(values: list[Any], finite: bool) -> None:
    row = choice_row(0, [" yes", " no"], values)
    assert read_request(row).finite is finite
    raw = row | {"resps": [[(value, False)] for value in values]}
    assert read_request(raw).finite is finite
    assert read_request({"resps": row["resps"]}).finite is finite  # arguments left out


def test_a_text_that_says_nan_is_an_answer() -> None:
    for arguments in ([("?", {"until": ["\n"]})], None):
        assert read_request({"arguments": arguments, "resps": [["nan"]]}).finite


def test_a_rolling_log_likelihood_may_be_nan() -> None:
    row = {"arguments": {"gen_args_0": {"arg_0": "a text"}}, "resps": [["nan"]]}
    assert read_request(row).kind == "loglikelihood_rolling" and not read_request(row).finite


def guessed(*rows: dict[str, Any]) -> float | None:
    return guessing_share([read_request(row) for row in rows])


def test_guessing_among_choices() -> None:
    four = [choice_row(str(i), LETTERS) for i in range(4)]
    assert guessed(*four) == 0.25
    five = choice_row("1", [*LETTERS, " E"])
    assert guessed(*four[:1], five) == pytest.approx(max((1 / 4 + 1 / 5) / 2, 1 / 2))


def test_the_commonest_right_answer_is_a_guess_too() -> None:
    yes, no = choice_row(1, [" no", " yes"]), choice_row(0, [" no", " yes"])
    assert guessed(*[yes] * 62, *[no] * 38) == 0.62
    named = choice_row("yes", [" no", " yes"])  # the target by its text
    assert guessed(*[named] * 62, *[no] * 38) == 0.62


def test_a_right_answer_is_known_by_its_last_word() -> None:
    """MultiRC: "yes" and "no" stand behind another answer in each document."""
    texts = [[f"answer {i}\nIs it correct? {word}" for word in ("no", "yes")] for i in range(10)]
    assert guessed(*(choice_row(int(i < 3), two) for i, two in enumerate(texts))) == 0.7
    assert guessed(*(choice_row(0, [f"{i} km", f"{i + 20} km"]) for i in range(10))) == 0.5


def test_a_place_that_is_always_right_is_no_guess() -> None:
    """SciQ's right answer is always the last one, which the model does not see."""
    rows = [choice_row("1", [f" wrong {i}", f" right {i}"]) for i in range(10)]
    assert guessed(*rows) == 0.5


def test_choices_that_differ_in_their_context_have_no_label() -> None:
    rows = [choice_row("1", [" was late.", " was late."]) for _ in range(10)]  # Winogrande
    assert guessed(*rows) == 0.5


def test_choices_asked_twice_for_mutual_information_are_two() -> None:
    row = choice_row("0", [" a", " b", " a", " b"], acc_mutual_info=1.0)
    assert read_request(row).choices == 2


def test_an_answer_that_is_written_is_never_guessed() -> None:
    written = {"arguments": [("?", {"until": ["\n"]})], "resps": [["4"]]}
    assert guessed(written) == 0.0
    last_word = {"arguments": [("The cat sat on the", " mat")], "resps": [[(-1.0, True)]]}
    assert guessed(last_word) == 0.0


def test_guessing_is_unknown_without_requests() -> None:
    assert guessed({"resps": [["4"]]}) is None
    assert guessed({"arguments": [("a text",)], "resps": [[-3.0]]}) is None
    assert guessed({"arguments": [("?", {})]}, choice_row(0, LETTERS)) is None
