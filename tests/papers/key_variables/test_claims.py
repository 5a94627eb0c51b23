"""Contrasts against hand computation and simulation; claims' verdicts; tables and figures."""

import math

import matplotlib
import numpy as np
import pytest
from grid_records import DOCUMENTS, draw
from scipy import stats

from slimlib.papers.key_variables.article_tables import (
    PLACES,
    baselines_table,
    cells_table,
    experiment_table,
    methods_table,
    paper_tables,
)
from slimlib.papers.key_variables.cells import Cell, read_grid
from slimlib.papers.key_variables.claims import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Finding,
    _verdict,
    judge_claims,
)
from slimlib.papers.key_variables.contrasts import (
    Effect,
    Spread,
    contrast,
    loss_contrast,
    measure,
    run_spread,
    score_interval,
    score_matrix,
)
from slimlib.papers.key_variables.hypotheses import (
    CONTROL,
    HARMLESS,
    HIGHER,
    LOWER,
    PART,
    SAME,
    hypotheses,
    pair_up,
)
from slimlib.studies.design import Job

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nothing makes a difference."""
    return read_grid(draw(tmp_path_factory.mktemp("grid"), runs_sd=0.05))


def cell(**roles):
    scores = {role: np.array(values, dtype=float) for role, values in roles.items()}
    return Cell(1, {}, scores)


# -------------------------------------------------------------------------------------- contrasts


def test_measure_is_the_t_test_of_its_parts():
    effect = measure(np.array([1.0, 2.0, 3.0]), [Spread(1.0, 4)], margin=3.0)
    assert effect.difference == pytest.approx((2, 2 - 2.7764, 2 + 2.7764), abs=1e-4)
    assert effect.p_value == pytest.approx(0.1161, abs=1e-4)
    assert effect.p_equivalence == pytest.approx(stats.t.sf(1, 4))
    assert effect.sd_seeds == 1 and effect.seeds == 3
    assert effect.detectable == pytest.approx(2.7764 + 0.9410, abs=1e-3)
    # two equal parts of 4 degrees each: variance 2, and Satterthwaite gives 4 / (1/4 + 1/4) = 8
    both = measure(np.array([2.0, 2.0]), [Spread(1.0, 4), Spread(1.0, 4)])
    assert both.p_value == pytest.approx(2 * stats.t.sf(2 / math.sqrt(2), 8))


def test_where_nothing_varies_p_is_0_or_1():
    for value, p in ((0.0, 1.0), (0.5, 0.0)):
        assert measure(np.array([value, value]), [Spread(0.0, 4)]).p_value == p


def test_every_benchmark_weighs_the_same():
    some = cell(mmlu=[1, 1, 0, 0], boolq=[1, 0])  # 50 % and 50 %
    other = cell(mmlu=[1, 1, 1, 1], boolq=[0, 0])
    for one in (some, other):
        assert score_matrix([one]).mean() == pytest.approx(one.score / 100)
    assert other.score == 50
    # 6 documents, 2 benchmarks: a document of 4 counts 6 / 8, one of 2 counts 6 / 4
    assert score_matrix([some])[0].tolist() == [0.75, 0.75, 0, 0, 1.5, 0]
    assert score_matrix([some], "boolq")[0].tolist() == [1, 0]


def test_run_spread_is_the_pooled_variance_between_seeds(grid):
    scores = [
        [c.score for c in grid.of(a.name)]
        for a in grid.design.study.arms
        if a.adapter and a.adapter.method == "qa-hira"
    ]
    found = run_spread(grid)["micro:base", "qa-hira"]
    assert found.variance == pytest.approx(np.mean([np.var(s, ddof=1) for s in scores]))
    assert found.df == 2 * len(scores)


def test_a_contrast_is_the_mean_over_pairs_with_both_sources_of_chance(grid):
    pairs = [(CUT, "qlora-r4"), ("qlora-r16-mlp-r8", "qlora-r16")]
    effect = contrast(grid, pairs, margin=2.0)
    first, second = ([c.score for a, b in pairs for c in grid.of((a, b)[i])] for i in (0, 1))
    assert effect.difference.value == pytest.approx(np.mean(first) - np.mean(second))
    assert (effect.pairs, effect.seeds, effect.documents) == (2, 3, 3 * DOCUMENTS)
    mean = {n: score_matrix(grid.of(n)).mean(axis=0) for pair in pairs for n in pair}
    documents = 50 * sum(mean[a] - mean[b] for a, b in pairs)
    of_documents = np.var(documents, ddof=1) / len(documents)
    of_runs = run_spread(grid)["micro:base", "qlora"].variance * 4 * 0.25 / 3  # 4 cells at 1/2
    half = (effect.difference.high - effect.difference.low) / 2
    assert half == pytest.approx(math.sqrt(of_documents + of_runs) * 1.97, rel=0.02)
    assert effect.p_documents == pytest.approx(stats.ttest_1samp(documents, 0).pvalue)


def test_pairs_with_a_missing_cell_are_left_out(tmp_path):
    gaps = {Job(s, CUT): "cut off" for s in (1, 2, 3)} | {Job(1, "qlora-r16"): "cut off"}
    grid = read_grid(draw(tmp_path, missing=gaps))
    both = [(CUT, "qlora-r4"), ("qlora-r16-mlp-r8", "qlora-r16")]
    effect = contrast(grid, both, 2.0)
    assert (effect.pairs, effect.seeds) == (1, 2)  # seeds 2 and 3 have all that is left
    assert contrast(grid, both[:1], 2.0) is None
    assert contrast(grid, [], 2.0) is None


def test_one_seed_decides_nothing(tmp_path):
    grid = read_grid(draw(tmp_path, seeds=(1,)))
    assert contrast(grid, [(CUT, "qlora-r4")], 2.0) is None
    claims = judge_claims(grid)
    assert {claims.verdict(claim) for claim in (1, 2, 3, 4)} == {UNDECIDED}
    assert "Fewer than two seeds" in claims.sentences()


def test_equal_answers_are_no_certainty(tmp_path):
    """All right in every run: no document differs, and still the interval has a width."""
    grid = read_grid(draw(tmp_path, score=lambda name: 2.0))
    effect = contrast(grid, [(CUT, "qlora-r4")], 2.0)
    assert effect.difference.value == 0 and effect.difference.high > 0.5
    assert effect.p_value == 1
    assert score_interval(grid.of(CUT)).low < 100


def test_the_loss_is_compared_over_runs(grid):
    effect = loss_contrast(grid, [(CUT, "qlora-r4")])
    losses = [np.mean([c.loss for c in grid.of(name)]) for name in (CUT, "qlora-r4")]
    assert effect.difference.value == pytest.approx(losses[0] - losses[1])
    assert effect.documents == 0


def test_false_alarms_are_as_rare_as_the_level():
    """Documents and runs drawn anew: p below 0.05 in about 5 % of grids, over documents in more."""
    generator = np.random.default_rng(1)
    alarms, naive, repeats = 0, 0, 1500
    for _ in range(repeats):
        runs = generator.normal(0, 4, (10, 3))  # 10 cells, 3 seeds, 4 points between runs
        difficulty = generator.normal(0, 30, (2, 1, 200))  # each cell has its own hard documents
        by_seed = (
            (runs[0] - runs[1])[:, None]
            + difficulty[0]
            - difficulty[1]
            + generator.normal(0, 20, (3, 200))
        )
        documents = by_seed.mean(axis=0)
        own = Spread(np.var(documents, ddof=1) / 200, 199)
        spread = Spread(np.mean(np.var(runs, axis=1, ddof=1)) * 2 / 3, 20)
        alarms += measure(by_seed.mean(axis=1), [own, spread]).p_value < 0.05
        naive += stats.ttest_1samp(documents, 0).pvalue < 0.05
    assert 0.02 < alarms / repeats < 0.065
    assert naive / repeats > 0.15


# ----------------------------------------------------------------------------------------- claims


def effect_of(value, p=0.5, equivalence=0.5):
    from slimlib.metrics import Estimate

    return Effect(Estimate(value, value - 1, value + 1), p, equivalence, 3.0, 1.0, 3, 1, 600, p)


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


def test_pairs_agree_in_all_but_what_is_tested(grid):
    design = grid.design
    for hypothesis in hypotheses(design):
        assert hypothesis.pairs, hypothesis.text
        for pair in hypothesis.pairs:
            first, second = (design.study[name] for name in pair)
            assert first.adapter.method == second.adapter.method
            assert first.adapter.r == second.adapter.r
    by_text = {h.text: h for h in hypotheses(design)}
    equal = by_text["MLP cut minus attention cut that saves as many parameters"].pairs
    assert ("qlora-r16-mlp-r11", "qlora-r16-attn-r8") in equal
    fixed = by_text["MLP cut minus attention cut, both at a fixed scale"].pairs
    assert ("qlora-r16-mlp-r8-keep", "qlora-r16-attn-r8-keep") in fixed
    assert by_text["First half cut minus second half cut"].pairs == [
        ("qlora-r16-first-r8", "qlora-r16-second-r8"),
        ("qlora-r16-first-r4", "qlora-r16-second-r4"),
    ]
    tiles = by_text["MLP at (8, 8) minus all at (4, 8), tiles kept at 32"].pairs
    assert tiles == [("qa-hira-4x8-mlp-8x8-block32", "qa-hira-4x8")]
    assert pair_up([], lambda bar: True, lambda bar: True, True) == []


def test_claims_are_a_table_and_html(grid):
    claims = judge_claims(grid)
    table = claims.table()
    assert len(table) == len(claims.findings)
    assert {"claim", "kind", "contrast", "difference", "p_holm", "verdict"} <= {*table}
    assert "nats" in set(table["unit"]) and "micro" in claims._repr_html_()


# ----------------------------------------------------------------------------- tables and figures


def test_every_place_of_the_article_has_a_table(grid):
    tables = paper_tables(grid)
    assert [*tables] == ["Table 1", "Table 2", *PLACES]
    assert all(len(table) for table in tables.values())


def test_an_experiment_s_table_has_a_row_per_bar(grid):
    table = experiment_table(grid, "E1")
    assert len(table) == len(grid.design["E1"].bars)
    assert experiment_table(grid, "Figure 2").equals(table)
    row = table[table["cell"] == CUT].iloc[0]
    scores = [c.score for c in grid.of(CUT)]
    base = [c.score for c in grid.of("qlora-r4")]
    assert row["score"] == pytest.approx(np.mean(scores))
    assert row["sd seeds"] == pytest.approx(np.std(scores, ddof=1))
    assert row["change"] == pytest.approx(np.mean(scores) - np.mean(base))
    assert row["low"] < row["score"] < row["high"] and 0 <= row["p"] <= 1
    baseline = table[table["cell"] == "qlora-r4"].iloc[0]
    assert math.isnan(baseline["change"]) and baseline["saved %"] == 0
    # lambda 8 at rank 4 is 32 wide; k and v of micro have 96 outputs, so their rank is at most 12,
    # and q, o, gate, up and down reach 192 / 8 = 24
    wide = experiment_table(grid, "E5")["saturated %"]
    assert wide[("micro", "q-bara", 4, "lam 8", "")] == 100
    assert wide[("micro", "q-bara", 4, "lam 4", "")] == 0
    assert experiment_table(grid, "E5").loc[("micro", "q-bara", 16, "lam 2", "")]["saved %"] == 0
    with pytest.raises(ValueError, match="no experiment 'E9'"):
        experiment_table(grid, "E9")


def test_a_missing_cell_is_a_row_without_numbers(tmp_path):
    gaps = {Job(seed, CUT): "cut off" for seed in (1, 2, 3)}
    grid = read_grid(draw(tmp_path, missing=gaps))
    table = experiment_table(grid, "E1")
    row = table[table["cell"] == CUT].iloc[0]
    assert row["seeds"] == 0 and math.isnan(row["score"])
    assert cells_table(grid).loc[CUT, "seeds"] == 0
    assert len(cells_table(grid)) == len(grid.design.study.arms)


def test_the_methods_side_by_side(grid):
    table = methods_table(grid)
    assert [*table.index] == ["QLoRA", "IR-QLoRA", "QA-LoRA", "Q-BaRA", "QA-HiRA"]
    merges = table["merges into the quantised format"]
    assert [*merges[merges == "yes"].index] == ["QA-LoRA", "QA-HiRA"]
    # q of micro is 192 x 192: min(16, 192 / 32), min(2 x 16, 192 / 2), min(192 / 4, 192 / 8)
    assert [*table["rank of dW in q at most"]] == [16, 16, 6, 32, 24]
    second = baselines_table(grid)
    assert second.loc["base-nf4-64", "compared with"] == "base"
    gain = second.loc["qlora-r16", "score"] - second.loc["base-nf4-64", "score"]
    assert second.loc["qlora-r16", "change"] == pytest.approx(gain)


@pytest.mark.parametrize("id", ["E1", "E3", "E6"])
def test_figures_have_a_bar_per_cell_that_is_there(id, grid):
    from matplotlib import pyplot as plt

    from slimlib.papers.key_variables.article_plots import plot_experiment

    figure = plot_experiment(grid, id)
    bars = [p for ax in figure.axes for p in ax.patches]
    experiment = grid.design[id]
    assert len(bars) == len(experiment.bars)
    heights = sorted(round(bar.get_height(), 6) for bar in bars)
    scores = [np.mean([c.score for c in grid.of(bar.cell)]) for bar in experiment.bars]
    assert heights == sorted(round(float(score), 6) for score in scores)
    texts = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert any("micro" in text for text in texts)
    plt.close(figure)


def test_figures_show_gaps_and_single_benchmarks(tmp_path):
    from matplotlib import pyplot as plt

    from slimlib.papers.key_variables.article_plots import plot_experiment

    gaps = {Job(seed, CUT): "cut off" for seed in (1, 2, 3)}
    grid = read_grid(draw(tmp_path, missing=gaps))
    figure = plot_experiment(grid, "Figure 2", role="gsm8k")
    (ax,) = figure.axes
    shown = sum(bar.cell != CUT for bar in grid.design["E1"].bars)
    assert len(ax.patches) == shown
    assert [t.get_text() for t in ax.texts].count("-") == len(grid.design["E1"].bars) - shown
    assert "arithmetic" in ax.get_ylabel()
    plt.close(figure)
    with pytest.raises(ValueError, match="role 'piqa': must be one of"):
        plot_experiment(grid, "E1", role="piqa")


def test_committed_records_are_redrawn_whole(tmp_path):
    from redraw import collect_grid

    source = draw(tmp_path / "source")
    taken = collect_grid(source, tmp_path / "records")
    assert taken == tmp_path / "records" / "key_variables_micro"
    assert sorted(p.name for p in taken.iterdir()) == [f"seed-{s}.jsonl" for s in (1, 2, 3)]


@pytest.mark.slow
def test_every_figure_is_written(tmp_path):
    from redraw import redraw_grid

    paths = redraw_grid(draw(tmp_path / "records"), tmp_path / "figures")
    assert len(paths) == 7 * 2 + 2 and all(path.stat().st_size for path in paths)
