"""Verdicts on numbers, and findings as text, Markdown, HTML, table and dicts."""

import json

import pytest

from slimlib import metrics
from slimlib.papers.slimming.findings import (
    AGREES,
    DIFFERS,
    MEANINGS,
    NOT_ESTABLISHED,
    ROUNDED,
    UNCHECKABLE,
    Audit,
    Finding,
    judge,
    p_text,
    spread,
    weakest,
)

NASTY = Finding("A", "a|b <b>*x*</b>", "1 | 2", "3\n4", AGREES, "why `so` \\ & <|eot_id|>")
PLAIN = Finding("B", "claim", "5.00", "6.00", DIFFERS, "because")


# ---------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("printed", "recomputed", "digits", "limits", "expected"),
    [
        (0.50, 0.497, 2, None, AGREES),
        (28, 27.66, 0, None, AGREES),
        (28, 27.4, 0, None, DIFFERS),
        (88.92, 88.9287, 2, None, DIFFERS),
        (88.92, 88.9287, 2, (88.912, 88.945), ROUNDED),
        (88.90, 88.9287, 2, (88.912, 88.945), DIFFERS),
        (1.01, 1.005, 2, None, AGREES),  # on the edge: rounds either way
        (1.00, 1.005, 2, None, AGREES),
        (5.0, float("nan"), 2, None, DIFFERS),
    ],
)
def test_judge(printed, recomputed, digits, limits, expected):
    assert judge(printed, recomputed, digits, limits) == expected


def test_spread_of_a_quotient_and_of_a_difference():
    assert spread(lambda a, b: a / b, 3.71, 33.51) == pytest.approx(
        (3.705 / 33.515, 3.715 / 33.505)
    )
    assert spread(lambda a, b: a - b, 5.0, 2.0, half=0.5) == (2.0, 4.0)


def test_the_published_rate_is_within_what_rounding_allows():
    low, high = spread(metrics.forgetting_rate, 33.51, 3.71)
    assert (round(low, 3), round(high, 3)) == (88.912, 88.945)


def test_the_worst_of_several_verdicts_stands():
    assert weakest([AGREES, ROUNDED]) == ROUNDED
    assert weakest([ROUNDED, DIFFERS, AGREES]) == DIFFERS
    assert weakest(iter([AGREES])) == AGREES


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "p = 1.000"),
        (0.0601, "p = 0.060"),
        (0.001, "p = 0.001"),
        (0.0002, "p < 0.001"),
        (3e-5, "p < 1e-4"),
        (0.0, "p < 1e-300"),
    ],
)
def test_p_values_in_words(p, text):
    assert p_text(p) == text


def test_the_verdicts_are_five():
    assert set(MEANINGS) == {AGREES, ROUNDED, DIFFERS, NOT_ESTABLISHED, UNCHECKABLE}


# --------------------------------------------------------------------------------------- rendering


def test_an_empty_audit_renders():
    audit = Audit(())
    assert "\n0 claims.\n" in audit.to_text() and "claim  " not in audit.to_text()
    assert audit.to_dict()["findings"] == [] and len(audit.table()) == 0
    assert "0 claims." in audit._repr_html_()


def test_text_wraps_cells_and_puts_the_reason_below():
    long = PLAIN._replace(claim="a claim of many words " * 5, why="a reason of many words " * 10)
    for width in (60, 80, 100):
        lines = Audit((long,)).to_text(width).splitlines()
        assert max(map(len, lines)) <= width
    text = Audit((long,)).to_text(100)
    assert "    a reason of many words" in text
    assert text.index("1 claim: 1 differs.") < text.index("paper B\n") < text.index("a reason")


def test_the_summary_comes_first():
    audit = Audit((NASTY, PLAIN))
    for text in (audit.to_text(), audit.to_markdown(), audit._repr_html_()):
        assert text.count("2 claims: 1 agrees, 1 differs.") == 1 and "\n\n\n" not in text
        assert text.index("2 claims") < text.index("because")


def test_text_says_a_shared_reason_once():
    text = Audit((PLAIN, PLAIN._replace(claim="other"), PLAIN._replace(why="else"))).to_text()
    assert text.count("    because") == 1
    assert text.index("other") < text.index("    because") < text.index("    else")


def test_text_keeps_long_words_within_the_width():
    """A path has no space to break at."""
    text = Audit((PLAIN._replace(claim="y" * 150),)).to_text(80)
    assert max(map(len, text.splitlines())) <= 80
    assert sum(line.count("y") for line in text.splitlines() if "yy" in line) == 150


def test_markdown_escapes_what_markdown_takes_for_its_own():
    text = Audit((NASTY, PLAIN)).to_markdown()
    row = next(line for line in text.splitlines() if "a\\|b" in line)
    assert r"a\|b &lt;b>\*x\*&lt;/b>" in row
    assert r"&lt;\|eot_id\|>" in row
    assert "3 4" in row  # a line break would end the row
    cells = row.replace(r"\|", "").strip("|").split("|")
    assert len(cells) == 6
    assert "| paper A |" in text and "| paper B |" in text


def test_a_paper_without_findings_is_not_named():
    assert "paper A" not in Audit((PLAIN,)).to_markdown()


def test_html_is_escaped():
    text = Audit((NASTY,))._repr_html_()
    assert "<b>" not in text and "&lt;b&gt;*x*&lt;/b&gt;" in text
    assert "&lt;|eot_id|&gt;" in text


def test_dicts_and_table():
    audit = Audit((NASTY, PLAIN))
    found = json.loads(json.dumps(audit.to_dict()))
    assert found["findings"][1] == PLAIN._asdict()
    assert found["verdicts"] == {
        AGREES: 1,
        ROUNDED: 0,
        DIFFERS: 1,
        NOT_ESTABLISHED: 0,
        UNCHECKABLE: 0,
    }
    assert list(audit.table().columns) == list(Finding._fields)
    assert audit.table()["verdict"].tolist() == [AGREES, DIFFERS]
