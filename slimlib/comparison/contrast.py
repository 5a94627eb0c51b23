"""One difference, measured: weighted sets of scores against each other, with chance in it.

Two things vary by chance: which documents were asked, and what each fine-tuning run came to. Every
set answers the same documents, so those are paired. Of one run a side, the claim is about this run:
documents alone count (exact McNemar for right and wrong, the paired t-test for other scores). Of
several seeds it is about the recipe: the variance between runs is added to that over documents, and
Cochran and Cox's weighted critical value judges the sum. Documents and seeds are crossed, so it is
an upper bound of the difference's own variance (Owen 2007, Annals of Applied Statistics 1,
386-411).

Changes between two models, the steps of a ladder, a study's questions and the article's claims on
key variables are all made of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slimlib import metrics
from slimlib.comparison.benchmarks import ALPHA
from slimlib.metrics import Estimate, Spread
from slimlib.metrics.over_seeds import pool
from slimlib.metrics.scores import unseen

POWER = 0.8  # with which the detectable difference is found; the test's level must be below it
Term = tuple[float, np.ndarray]  # weight, scores of shape (seeds, documents)


@dataclass(frozen=True)
class Contrast:
    """A difference in points (of a training loss: in nats), with its tests."""

    difference: Estimate  # with its interval at 1 - alpha
    test: str
    p_value: float | None  # two-sided
    p_equivalence: float  # two one-sided tests within the margin
    detectable: float | None  # what the test finds in 80 % of repetitions; None: nothing
    documents: int = 0
    p_documents: float | None = None  # paired t over documents alone: of these very runs
    lost: int | None = None  # right -> wrong
    gained: int | None = None  # wrong -> right
    seeds: int = 1
    sd_seeds: float = math.nan  # SD over seeds of the difference
    pairs: int = 1  # of sets whose mean difference it is


def contrast(
    terms: Sequence[Term],
    margin: float,
    alpha: float = ALPHA,
    runs: Sequence[Spread] = (),
    exact: bool = True,
) -> Contrast:
    """Measure a weighted sum of sets of scores; the weights add up to 0.

    Args:
        terms: weight and scores of each set, in 0 to 1, all of the same documents.
        margin: points, of the equivalence test.
        alpha: level of the test; the interval's is 1 - alpha.
        runs: what the runs add to the variance of the sum; none: the runs are taken for granted.
        exact: the columns are documents, so that McNemar's test may count them; clusters are not.

    Example: base 1 1 1 0 with weight -1, tuned 0 0 1 0 with weight 1 -> -50 points, 2 lost.
    """
    base, tuned = (_side(terms, sign) for sign in (-1, 1))
    if not runs and exact:
        return _over_documents(base, tuned, margin, alpha)
    documents = 100 * (tuned - base)
    own = Spread(document_variance(documents) / len(documents), len(documents) - 1)
    found = over_runs(_by_seed(terms), [own, *runs], margin, alpha)
    return replace(found, documents=len(documents), p_documents=_p_documents(base, tuned))


def _p_documents(base: np.ndarray, tuned: np.ndarray) -> float | None:
    """The paired t-test's p over documents alone; None where there is no spread to tell it by."""
    p_value = metrics.paired_t_test(base, tuned).p_value
    return None if math.isnan(p_value) else p_value


def _side(terms: Sequence[Term], sign: int) -> np.ndarray:
    """(documents,) scores of the sets that a sum adds, or of those that it takes away."""
    chosen = [sign * weight * scores.mean(axis=0) for weight, scores in terms if sign * weight > 0]
    return sum(chosen, start=np.zeros(terms[0][1].shape[1]))


def _by_seed(terms: Sequence[Term]) -> np.ndarray:
    """The sum in points, one per seed; a set of one run stands against every seed of the others.

    Sets of unlike numbers of seeds have no common seeds: their means alone.
    """
    means = [(weight, scores.mean(axis=1)) for weight, scores in terms]
    if len({len(m) for _, m in means} - {1}) > 1:
        means = [(weight, m.mean(keepdims=True)) for weight, m in means]
    return 100 * sum(weight * m for weight, m in means)


def _over_documents(base: np.ndarray, tuned: np.ndarray, margin: float, alpha: float) -> Contrast:
    """Two sides, (documents,) each, document by document."""
    p_t = _p_documents(base, tuned)
    test, lost, gained, p_value = "paired t", None, None, p_t
    if metrics.is_binary(base) and metrics.is_binary(tuned):
        test, (lost, gained, p_value) = "exact McNemar", metrics.mcnemar_test(base, tuned)
    detectable = None
    if alpha < POWER:
        detectable = metrics.minimum_detectable_difference(base, tuned, alpha=alpha)
    return Contrast(
        difference=metrics.paired_difference(base, tuned, 1 - alpha),
        test=test,
        p_value=p_value,
        p_equivalence=metrics.equivalence_test(base, tuned, margin),
        detectable=detectable,
        documents=len(base),
        p_documents=p_t,
        lost=lost,
        gained=gained,
    )


def over_runs(
    values: np.ndarray, parts: Sequence[Spread], margin: float | None = None, alpha: float = ALPHA
) -> Contrast:
    """A difference whose chance is known in parts: a t-test on their sum (Cochran and Cox).

    Args:
        values: the difference, one per seed.
        parts: what each source of chance adds to the variance of its mean.
        margin: of the equivalence test; None: none is made, and its p is NaN.
        alpha: level of the test; the interval's is 1 - alpha.

    Example: values 1, 2, 3 and one part of variance 1 with 4 degrees of freedom -> 2 with limits
    -0.78 and 4.78, p = 0.116.
    """
    value = float(np.mean(values))
    same = math.nan if margin is None else metrics.cochran_cox_equivalence(value, parts, margin)
    return Contrast(
        difference=metrics.cochran_cox(value, parts, 1 - alpha),
        test="t over documents and seeds",
        p_value=metrics.cochran_cox_p(value, parts),
        p_equivalence=same,
        detectable=metrics.cochran_cox_detectable(parts, POWER, alpha) if alpha < POWER else None,
        seeds=len(values),
        sd_seeds=float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
    )


def pooled(several: Sequence[np.ndarray]) -> Spread:
    """The variance within sets of values, pooled: each set has a mean of its own.

    Example: (1, 3) and (5, 5, 8) -> (2 + 6) / 3 with 3 degrees of freedom.
    """
    return pool(Spread(float(values.var(ddof=1)), len(values) - 1) for values in several)


def document_variance(differences: np.ndarray) -> float:
    """Variance over documents in points squared.

    Where no document differs it is not 0: Wilson's upper limit for 0 of n documents stands in.
    """
    if np.ptp(differences) == 0:
        return 100 * unseen(len(differences), 0.95)
    return float(np.var(differences, ddof=1))
