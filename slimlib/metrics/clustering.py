"""Documents that are no independent draws: several rows of one passage, or repeats of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def clustered(scores: ArrayLike, clusters: ArrayLike) -> NDArray[np.float64]:
    """One value per cluster, of which the t-procedures are right although rows are alike.

    v_k = mean + (S_k - mean n_k) K / N, with S_k the sum of the scores of cluster k, n_k its rows,
    K clusters and N rows. Their mean is the mean over documents, and their spread is that of the
    cluster-robust standard error (linearisation). Clusters come in the order of their labels.

    Args:
        scores: of shape (..., documents).
        clusters: a label for each document.

    Returns:
        Values of shape (..., clusters).

    Example: scores 1 1 0 of clusters a a b -> 10/9 and 2/9 (mean 2/3).

    Raises:
        ValueError: not one label per document; no document.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(clusters)
    if labels.ndim != 1 or scores.ndim < 1 or scores.shape[-1] != len(labels) or len(labels) == 0:
        raise ValueError(
            f"scores of shape {scores.shape} and labels of shape {labels.shape}: need one label "
            "per document, 1 or more"
        )
    _, cluster = np.unique(labels, return_inverse=True)
    rows = np.bincount(cluster)
    in_order = scores[..., np.argsort(cluster, kind="stable")]
    sums = np.add.reduceat(in_order, np.cumsum(rows) - rows, axis=-1)
    mean = scores.mean(axis=-1, keepdims=True)
    return mean + (sums - mean * rows) * len(rows) / len(labels)
