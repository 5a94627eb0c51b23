"""The claims' verdicts: what supports, what contradicts, what decides nothing."""

import html

import pytest
from grid_records import draw

from slimlib.comparison.contrast import Contrast
from slimlib.metrics import Estimate
from slimlib.papers.key_variables.cells import read_grid
from slimlib.papers.key_variables.claims import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Finding,
    _verdict,
    judge_claims,
)
from slimlib.papers.key_variables.contrasts import score_contrast
from slimlib.papers.key_variables.hypotheses import (
    CLAIMS,
    CONTROL,
    HARMLESS,
    HIGHER,
    LOWER,
    PART,
    SAME,
)

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nothing makes a difference."""
    return read_grid(draw(tmp_path_factory.mktemp("grid"), runs_sd=0.05))


def test_one_seed_decides_nothing(tmp_path):
    grid = read_grid(draw(tmp_path, seeds=(1,)))
    assert score_contrast(grid, [(CUT, "qlora-r4")], 2.0) is None
    claims = judge_claims(grid)
    assert {claims.verdict(claim) for claim in (1, 2, 3, 4)} == {UNDECIDED}
    assert "Fewer than two seeds" in claims.sentences()


def effect_of(value, p=0.5, equivalence=0.5):
    limits = Estimate(value, value - 1, value + 1)
    return Contrast(limits, "t", p, equivalence, 3.0, documents=600, p_documents=p, seeds=3)


@pytest.mark.parametrize(
    ("expected", "value", "p", "equivalence", "verdict"),
    [
        (HIGHER, 3, 0.01, 1, SUPPORTED),
        (HIGHER, -3, 0.01, 1, CONTRADICTED),
        (HIGHER, 3, 0.06, 1, UNDECIDED),
        (LOWER, -3, 0.01, 1, SUPPORTED),
        (LOWER, 3, 0.01, 1, CONTRADICTED),
        (SAME, 0.1, 0.9, 0.01, SUPPORTED),
        (SAME, 3, 0.01, 1, CONTRADICTED),
        (SAME, -3, 0.01, 1, CONTRADICTED),
        (SAME, 1, 0.3, 0.2, UNDECIDED),
        (HARMLESS, 0.1, 0.9, 0.01, SUPPORTED),
        (HARMLESS, 3, 0.01, 1, SUPPORTED),
        (HARMLESS, -3, 0.01, 1, CONTRADICTED),
    ],
)
def test_what_supports_and_what_contradicts(expected, value, p, equivalence, verdict):
    finding = Finding(1, "", expected, PART, effect_of(value), 1, p, equivalence)
    assert _verdict(finding, 0.05) == verdict
    assert _verdict(Finding(1, "", expected, CONTROL, effect_of(value), 1, p, 1), 0.05) == ""
    assert _verdict(Finding(1, "", expected, PART, None, 1), 0.05) == UNDECIDED


def test_nothing_is_claimed_where_nothing_makes_a_difference(grid):
    claims = judge_claims(grid)
    assert {claims.verdict(claim) for claim in (1, 2, 3, 4)} == {UNDECIDED}
    parts = [f for f in claims.findings if f.kind == PART]
    assert [f.claim for f in parts] == [1, 2, 3, 3, 3, 3, 3, 4, 4]
    assert all(f.p_holm >= f.effect.p_value for f in parts)
    same = [f for f in parts if f.expected in (SAME, HARMLESS)]
    assert len(same) == 4 and all(f.p_equivalence_holm is not None for f in same)
    others = [f for f in claims.findings if f.kind != PART]
    assert all(f.p_holm is None and f.verdict == "" for f in others)


def attention_matters(name):
    return 0.25 if "attn" in name else 0.75


def mlp_matters(name):
    return 0.25 if "mlp" in name else 0.75


def test_true_effects_are_found_and_false_claims_contradicted(tmp_path):
    found = judge_claims(read_grid(draw(tmp_path / "a", attention_matters)))
    assert found.verdict(1) == SUPPORTED
    assert found.verdict(3) == CONTRADICTED  # layer type does matter there
    opposite = judge_claims(read_grid(draw(tmp_path / "b", mlp_matters)))
    assert (opposite.verdict(1), opposite.verdict(4)) == (CONTRADICTED, CONTRADICTED)
    assert "1. Rank: cutting the MLP's rank costs less" in opposite.sentences()
    first = opposite.findings[0].sentence()
    assert "contradicted" in first and "Holm < 0.001" in first and "3 seeds" in first


def test_equivalence_needs_to_be_shown(tmp_path):
    """Depth without effect and hardly any chance: a margin of 20 points is met, one of 2 is not."""
    grid = read_grid(draw(tmp_path))
    assert judge_claims(grid, margin=20).verdict(2) == SUPPORTED
    assert judge_claims(grid, margin=2).verdict(2) == UNDECIDED


def test_bad_levels_are_refused(grid):
    for margin, alpha in ((0, 0.05), (2, 1.0)):
        with pytest.raises(ValueError, match=f"margin={margin}, alpha={alpha}"):
            judge_claims(grid, margin, alpha)


def test_claims_are_a_table_and_html(grid):
    claims = judge_claims(grid)
    table = claims.table()
    assert len(table) == len(claims.findings)
    assert {"claim", "kind", "contrast", "difference", "p_holm", "verdict"} <= {*table}
    assert "nats" in set(table["unit"]) and "micro" in claims._repr_html_()
    for shown in (claims.to_text(80), claims.to_markdown(), claims._repr_html_()):
        words = " ".join(html.unescape(shown).split())
        assert all(claim in words for claim in CLAIMS.values())
        assert f"{len(grid)} of {len(grid)} cells of the grid are there" in words
    assert max(map(len, claims.to_text(80).splitlines())) <= 80
