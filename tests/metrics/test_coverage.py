"""How often intervals hold the truth and tests err, at fixed truths: exact, or by large draws.

Two models answer n documents; of a truth are given the shares right before and after, and how far
the answers go together: independent, half-way, or nested (one model's right answers are a subset of
the other's). Every table of counts is counted with its probability; where these are too many,
10,000 are drawn. All of them count, also those in which a caller would print no number. The tables
are judged many at once by a second writing of each rule, which is first compared with what the
public functions return. Each test prints the figures of slimlib/metrics/README.md (pytest -s).
"""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from scipy import special, stats

from slimlib import metrics
from slimlib.metrics.over_seeds import spreads
from slimlib.metrics.power import detectable_by_mcnemar
from slimlib.metrics.two_by_two import Flips, score_difference, score_equivalence, score_forgetting

pytestmark = pytest.mark.slow

RIGHT = (0.03, 0.1, 0.34, 0.5, 0.79, 0.95, 0.97)
TOGETHER = {"independent": 0.0, "half": 0.5, "nested": 1.0}
LEAST = {0.90: 85.0, 0.95: 92.5, 0.99: 98.0}  # per cent of the intervals of a difference
SIZES = (20, 50, 100, 400, 1319, 10_042)
DRAWS, MOST_TABLES = 10_000, 15_000


def shares(before: float, after: float, together: float) -> np.ndarray:
    """Probabilities of kept, lost, gained and neither."""
    apart, nested = before * after, min(before, after)
    kept = apart + together * (nested - apart)
    return np.array([kept, before - kept, after - kept, 1 - before - after + kept]).clip(0)


def tables(n: int, cells: np.ndarray, counted: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Tables of shape (4, tables) with their weights; `counted` cells alone are told apart."""
    ranges = []
    for share in cells[list(counted)]:
        low, high = stats.binom.ppf(5e-7, n, share), stats.binom.isf(5e-7, n, share)
        ranges.append(np.arange(int(low), int(high) + 1))
    if math.prod(map(len, ranges)) > MOST_TABLES:
        drawn = np.random.default_rng(n).multinomial(n, cells, size=DRAWS).T
        return drawn.astype(float), np.full(DRAWS, 1 / DRAWS)
    grid = [axis.ravel() for axis in np.meshgrid(*ranges, indexing="ij")]
    rest = n - sum(grid)
    other = 1 - cells[list(counted)].sum()
    grid, rest = [axis[rest >= 0] for axis in grid], rest[rest >= 0]
    logs = special.gammaln(n + 1) + special.xlogy(rest, max(other, 0.0))
    logs = logs - special.gammaln(rest + 1)
    for count, share in zip(grid, cells[list(counted)], strict=True):
        logs = logs + special.xlogy(count, share) - special.gammaln(count + 1)
    weights = np.exp(logs)
    found = np.zeros((4, len(rest)))
    found[list(counted)] = grid
    found[next(i for i in (3, 0) if i not in counted)] = rest
    return found, weights / weights.sum()


# ---- the rules once more, for many tables ----


def rejected(lost, gained, alpha):
    fewer, flipped = np.minimum(lost, gained), lost + gained
    p = 2 * special.betainc(np.maximum(flipped - fewer, 1), fewer + 1, 0.5)
    return np.where(2 * fewer == flipped, 1.0, p) < alpha


def hull(score, z, short_of_0, beyond_0, not_rejected):
    """Whether a truth is held: by its score, or from 0 to the limits where 0 is not rejected."""
    below = (score >= -z) | (short_of_0 & not_rejected)
    above = (score <= z) | (beyond_0 & not_rejected)
    return below & above


def holds_difference(table, gain, confidence):
    """Tango's score at the share `gain`; McNemar about 0; mid-p where flips go one way."""
    kept, lost, gained, neither = table
    n = table.sum(axis=0)
    if gain < 0:
        return holds_difference(table[[0, 2, 1, 3]], -gain, confidence)
    a, b = 2 * n, (2 * n - gained + lost) * gain - lost - gained
    share = (np.sqrt(b * b + 4 * a * lost * gain * (1 - gain)) - b) / (2 * a)
    spread = np.sqrt(n * (2 * share + gain * (1 - gain)))
    with np.errstate(invalid="ignore"):
        score = np.nan_to_num((gained - lost - n * gain) / spread)
    z = stats.norm.isf((1 - confidence) / 2)
    free = ~rejected(lost, gained, 1 - confidence)
    held = hull(score, z, gain <= 0, gain >= 0, free)
    one_way = lost == 0  # without a gain nothing above 0 is held but by `free`
    held[one_way] |= binomial(gained[one_way], n[one_way], gain, (1 - confidence) / 2)
    return held


def binomial(count, n, share, tail):
    """Whether neither mid-p of `count` of n is below the tail."""
    here, fewer = stats.binom.pmf(count, n, share), stats.binom.cdf(count - 1, n, share)
    return (fewer + here / 2 >= tail) & (1 - fewer - here / 2 >= tail)


def holds_ratio(table, ratio, confidence):
    """The score of the ratio; McNemar about 1; mid-p limits where flips go one way."""
    kept, lost, gained, _ = table
    if ratio > 1:
        return holds_ratio(table[[0, 2, 1, 3]], 1 / ratio, confidence)
    n, tail = kept + lost + gained, (1 - confidence) / 2
    a, c = ratio * (1 + ratio) * n, -gained * ratio * (1 - ratio)
    b = (kept + gained) * (1 - ratio**2) - (lost + gained) * ratio**2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        share = np.where(gained == 0, np.maximum(-b / a, 0), share)
        spread = np.sqrt(n * ratio * (1 - ratio + (1 + ratio) * share))
        score = np.nan_to_num((kept * (1 - ratio) + gained - ratio * lost) / spread)
    z, free = stats.norm.isf(tail), ~rejected(lost, gained, 1 - confidence)
    held = ((score >= -z) | free) & ((score <= z) | (free & (ratio == 1)))
    one_way = gained == 0  # without a loss nothing below 1 is held but by `free`
    held[one_way] |= binomial(lost[one_way], (kept + lost)[one_way], 1 - ratio, tail)
    return held


def test_the_second_writing_says_what_the_public_functions_return():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        n = int(rng.choice((20, 50, 100, 400)))
        truth = shares(*rng.choice(RIGHT, 2), rng.choice((0, 0.5, 0.9, 1)))
        table, level = rng.multinomial(n, truth), float(rng.choice((0.9, 0.95, 0.99)))
        flips, many = Flips(*map(int, table)), table[:, None].astype(float)
        gain = float(truth[2] - truth[1])
        _, low, high = score_difference(flips, level)
        if min(abs(100 * gain - low), abs(100 * gain - high)) > 1e-6:
            held = low < 100 * gain < high
            assert bool(holds_difference(many, gain, level)[0]) == held, (flips, gain)
        if flips.kept + flips.lost:
            ratio = float((truth[0] + truth[2]) / (truth[0] + truth[1]))
            _, low, high = score_forgetting(flips, level)
            if min(abs(100 - 100 * ratio - low), abs(100 - 100 * ratio - high)) > 1e-6:
                held = low < 100 * (1 - ratio) < high
                assert bool(holds_ratio(many, ratio, level)[0]) == held, (flips, ratio, level)


# ---- intervals ----


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_of_the_difference_covers(n):
    found = {level: {} for level in LEAST}
    for before, after in itertools.combinations_with_replacement(RIGHT, 2):
        for name, together in TOGETHER.items():
            truth = shares(before, after, together)
            table, weights = tables(n, truth, (1, 2))
            for level, rates in found.items():
                held = holds_difference(table, float(truth[2] - truth[1]), level)
                rates[before, after, name] = 100 * float(held @ weights)
    for level, rates in found.items():
        mean, worst = np.mean(list(rates.values())), min(rates, key=rates.get)
        print(f"difference {n=} {level}: mean {mean:.1f}, least {rates[worst]:.1f} at {worst}")
        assert min(rates.values()) >= LEAST[level]
        if n >= 50 and level == 0.95:
            assert 94.5 <= mean <= 97


@pytest.mark.parametrize("n", (50, 100, 400, 1319))
def test_the_interval_of_fr_covers(n):
    found = {True: {}, False: {}}  # at least 5 right after, or fewer
    for before, after in itertools.product(RIGHT, (0.01, 0.04, *RIGHT)):
        for name, together in TOGETHER.items():
            if n * before < 20:
                continue
            table, weights = tables(n, shares(before, after, together), (1, 2, 3))
            some = table[0] + table[1] > 0
            held = holds_ratio(table[:, some], after / before, 0.95)
            covered = 100 * float(held @ weights[some] / weights[some].sum())
            found[n * after >= 5][before, after, name] = covered
    for many, least in ((True, 94.0), (False, 92.0)):
        if rates := found[many]:
            worst = min(rates, key=rates.get)
            mean = np.mean(list(rates.values()))
            print(f"FR {n=} {many=}: mean {mean:.1f}, least {rates[worst]:.2f} at {worst}")
            assert rates[worst] >= least


# ---- tests ----


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_a_change_is_claimed_of_none_in_at_most_its_level(n, alpha):
    """Both claims together; of each half as many."""
    found = {}
    for flips in (0.002, 0.01, 0.03, 0.1, 0.3, 0.6):
        cells = np.array([0, flips / 2, flips / 2, 1 - flips])
        (_, lost, gained, _), weights = tables(n, cells, (1, 2))
        claimed = float(rejected(lost, gained, alpha) @ weights)
        error = math.sqrt(alpha / DRAWS) if len(weights) == DRAWS else 1e-9
        assert claimed <= alpha + 3 * error
        found[flips] = claimed
    print(f"type I {n=} {alpha=}: at most {100 * max(found.values()):.2f} %")


@cache
def claims_kept(lost: int, gained: int, n: int, margin: float) -> bool:
    return score_equivalence(Flips(n - lost - gained, lost, gained, 0), margin) < 0.05


@pytest.mark.parametrize("margin", [1.0, 2.0, 5.0, 10.0])
def test_kept_is_claimed_at_the_margin_in_at_most_5_5_per_cent(margin):
    found = {}
    for n in (20, 30, 50, 59, 100, 149, 200, 300, 500, 1319):
        for chance in (0.0, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2):
            if 400 > n * (2 * chance + margin / 100):
                cells = np.array([0, chance + margin / 100, chance, 1 - 2 * chance - margin / 100])
                (_, lost, gained, _), weights = tables(n, cells, (1, 2))
                keep = weights > 1e-8
                pairs = zip(lost[keep].astype(int), gained[keep].astype(int), strict=True)
                kept = np.array([claims_kept(int(a), int(b), n, margin) for a, b in pairs])
                found[n, chance] = 100 * float(kept @ weights[keep])
    worst = max(found, key=found.get)
    print(f"kept {margin=}: at most {found[worst]:.2f} at {worst}")
    assert 4 < found[worst] <= 5.5


@pytest.mark.parametrize("n", [20, 50, 100, 200, 400, 1319])
@pytest.mark.parametrize("seen", [(0, 0), (1, 0), (1, 1), (3, 1), (4, 4), (8, 3)])
def test_the_detectable_size_is_found_in_four_of_five(n, seen):
    """Simulated: chance flips each way at half of the seen share, the loss on top."""
    points = detectable_by_mcnemar(Flips(n - sum(seen), *seen, 0), 0.8, 0.05)
    chance = sum(seen) / (2 * n)
    if points is None:
        assert sum(seen) > n / 3
        return
    cells = [chance + points / 100, chance, 1 - 2 * chance - points / 100]
    lost, gained, _ = np.random.default_rng(n).multinomial(n, cells, size=50_000).T
    power = 100 * rejected(lost, gained, 0.05).mean()
    print(f"power {n=} {seen=}: {points} points found in {power:.1f} %")
    assert 79.5 <= power <= (84 if n < 1000 else 86)  # 0.1 points are 1.3 of 1,319 documents


# ---- seeds ----


@pytest.mark.parametrize("df", [[2, math.inf], [2, 2, math.inf], [2, 2], [4, 99]])
def test_cochran_and_cox_never_err_more_often_than_their_level(df):
    """For normal values, by any share of the variances; drawn 50,000 times, then integrated."""
    rng = np.random.default_rng(0)
    drawn = [rng.chisquare(d, 50_000) / d if math.isfinite(d) else 1.0 for d in df]
    quantiles = stats.t.isf(0.025, df)
    for parts in itertools.product((0.02, 0.2, 1.0, 5.0), repeat=len(df)):
        spread = [v * d for v, d in zip(parts, drawn, strict=True)]
        total = sum(spread)
        half = sum(s * q for s, q in zip(spread, quantiles, strict=True)) / np.sqrt(total)
        assert 2 * stats.norm.sf(half / math.sqrt(sum(parts))).mean() < 0.0505


@pytest.mark.parametrize(
    ("n", "base_seeds", "repetitions"),
    [(100, 1, 1000), (100, 3, 1000), (1319, 1, 2000), (1319, 3, 500)],
)
@pytest.mark.parametrize("deviation", [0.0, 2.0, 6.5])
def test_three_seeds_claim_no_change_of_the_recipe_too_often(n, base_seeds, repetitions, deviation):
    """Documents of all difficulties, normal seeds; a base without seeds is one fixed model."""
    rng, claimed = np.random.default_rng(n + base_seeds), 0
    for _ in range(repetitions):
        difficulty = rng.random(n)
        sides = []
        for seeds in (base_seeds, 3):
            shifts = rng.normal(0, deviation / 100, (seeds, 1)) if seeds > 1 else 0.0
            right = rng.random((seeds, n)) < (0.2 + 0.6 * difficulty + shifts)
            sides.append(right.astype(float))
        change = 100 * float(sides[1].mean() - sides[0].mean())
        claimed += metrics.cochran_cox_p(change, spreads(*sides, per=100)) < 0.05
    share = claimed / repetitions
    print(f"seeds {n=} base {base_seeds} SD {deviation}: {100 * share:.1f} %")
    assert share <= 0.055


# ---- clusters ----


@pytest.mark.parametrize("passages", [25, 75, 330])
def test_clusters_of_four_keep_the_level(passages):
    """ICC 0.5: a row takes its passage's change with probability sqrt(0.5), else its own."""
    rng, claimed = np.random.default_rng(passages), np.zeros(2)
    clusters = np.repeat(np.arange(passages), 4)
    for _ in range(4000):
        own = rng.choice((-1.0, 0, 1), 4 * passages, p=(0.15, 0.7, 0.15))
        common = rng.choice((-1.0, 0, 1), passages, p=(0.15, 0.7, 0.15))[clusters]
        change = np.where(rng.random(4 * passages) < math.sqrt(0.5), common, own)
        for i, values in enumerate((metrics.clustered(change, clusters), change)):
            error = values.std(ddof=1) / math.sqrt(len(values))
            claimed[i] += abs(values.mean()) > stats.t.isf(0.025, len(values) - 1) * error
    blocked, naive = 100 * claimed / 4000
    print(f"clusters {passages}: {blocked:.1f} %, taken for independent {naive:.1f} %")
    assert blocked <= 5.5 and naive > 14


# ---- aggregates ----


@pytest.mark.parametrize(
    ("n", "before", "after"), [(100, 0.34, 0.34), (100, 0.5, 0.34), (1319, 0.34, 0.03)]
)
def test_an_interval_from_aggregates_is_not_too_narrow(n, before, after):
    """Two aggregates do not show how far the answers go together, so most are too wide."""
    rng = np.random.default_rng(n)
    held = {"difference": [], "FR": []}
    for _ in range(1500):
        kept, lost, gained, _ = rng.multinomial(n, shares(before, after, 0.4))
        at = [100 * (kept + one) / n for one in (lost, gained)]
        errors = [metrics.standard_error(one, n) for one in at]
        _, low, high = metrics.unpaired_difference(*at, *errors)
        held["difference"].append(low <= 100 * (after - before) <= high)
        _, low, high = metrics.unpaired_forgetting_interval(*at, *errors)
        held["FR"].append(low <= 100 * (1 - after / before) <= high)
    for name, one in held.items():
        print(f"aggregates {n=} {name}: {100 * np.mean(one):.1f}")
        assert np.mean(one) >= 0.94
