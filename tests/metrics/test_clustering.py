"""One value per cluster: by hand, and against statsmodels' cluster-robust standard error."""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from slimlib import metrics


@pytest.mark.parametrize(
    ("scores", "clusters"), [([1, 0], ["a"]), ([], []), (1.0, ["a"]), ([1, 0], [["a", "b"]])]
)
def test_each_document_needs_one_label(scores, clusters):
    with pytest.raises(ValueError, match="one label per document"):
        metrics.clustered(scores, clusters)


def test_by_hand():
    """mean 2/3; cluster a: 2/3 + (2 - 4/3) 2/3 = 10/9; b: 2/3 + (0 - 2/3) 2/3 = 2/9."""
    assert metrics.clustered([1, 1, 0], ["a", "a", "b"]) == pytest.approx([10 / 9, 2 / 9])
    both = metrics.clustered([[1, 1, 0], [0, 0, 3]], ["a", "a", "b"])  # each row has its own mean
    assert both == pytest.approx(np.array([[10 / 9, 2 / 9], [1 - 4 / 3, 1 + 4 / 3]]))


def test_a_document_each_changes_nothing():
    scores = np.random.default_rng(0).random((3, 20))
    assert metrics.clustered(scores, range(20)) == pytest.approx(scores)


def test_equal_clusters_are_their_means():
    scores = np.random.default_rng(0).random((2, 5, 12))
    found = metrics.clustered(scores, np.repeat(["x", "y", "z"], 4))
    assert found == pytest.approx(scores.reshape(2, 5, 3, 4).mean(axis=-1))


def test_the_standard_error_is_the_cluster_robust_one():
    """statsmodels has the factor K / (K - 1) x (N - 1) / (N - 1) for a mean alone."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 30, 200)
    scores = rng.random(200) + 0.3 * labels
    values = metrics.clustered(scores, labels)
    oracle = sm.OLS(scores, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": labels})
    assert values.mean() == pytest.approx(scores.mean())
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert error == pytest.approx(float(oracle.bse[0]), rel=1e-9)
