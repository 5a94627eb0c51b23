"""Parts of a matrix, and the numbers that a task needs: by hand and against numpy."""

import numpy as np
import pytest

from slimlib.explain.rank import (
    TRIED,
    change_rank,
    dimension,
    explained,
    kept,
    landscape,
    parts_needed,
    rebuild,
    rebuild_matrix,
)


def test_by_hand():
    matrix = np.array([[2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(rebuild_matrix(matrix, 1), [[2, 0], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(kept(matrix), [0.8, 1.0])
    assert parts_needed(np.eye(10)) == 9


@pytest.mark.parametrize("r", [0, 97])
def test_a_rank_that_the_matrix_cannot_have_is_refused(r):
    with pytest.raises(ValueError, match=f"r={r}: must be 1 to 96"):
        rebuild(r)


def test_all_parts_are_the_matrix_and_fewer_have_that_rank():
    picture = landscape()
    np.testing.assert_allclose(rebuild_matrix(picture, 96), picture, atol=1e-10)
    assert np.linalg.matrix_rank(rebuild_matrix(picture, 5)) == 5


def test_no_other_matrix_of_rank_one_is_nearer():
    """Eckart and Young: the error is the length of the singular values that are left out."""
    matrix = np.random.default_rng(0).standard_normal((6, 4))
    left_out = np.linalg.svd(matrix, compute_uv=False)[1:]
    error = np.linalg.norm(matrix - rebuild_matrix(matrix, 1))
    assert error == pytest.approx(np.linalg.norm(left_out))


def test_the_sentence_counts_the_parts_numbers():
    text = rebuild(8).text
    assert "1,920 numbers instead of 13,824" in text  # 8 x (96 + 144), 96 x 144


def test_a_change_of_rank_two_needs_two_parts():
    rng = np.random.default_rng(0)
    before = rng.standard_normal((20, 30))
    change = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 30))
    assert "lies in 2 of 20 parts" in change_rank(before, before + change).text


def test_dimension_by_hand():
    assert dimension((1, 4, 16), np.array([0.3, 0.6, 0.9, 1.0])) == pytest.approx(16)
    assert dimension((2, 8), np.array([0.95, 1.0, 1.0])) == 2
    halfway = dimension((1, 4), np.array([0.8, 1.0, 1.0]))
    assert halfway == pytest.approx(2)  # in the middle of the logarithms
    with pytest.raises(ValueError, match="4 trained numbers do not reach 0.9"):
        dimension((1, 4), np.array([0.1, 0.2, 1.0]))


def test_training_all_directions_is_training_all_weights():
    shares = explained(16, (1, 16))
    assert shares[-2] == pytest.approx(shares[-1], abs=0.02) and shares[0] < shares[-1]


def test_more_numbers_explain_more():
    shares = explained(256, TRIED)
    assert shares[-2] > shares[4] > shares[0]
