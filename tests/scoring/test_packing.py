"""What is computed together, by hand: sequences, trees of tokens, batches, shared prefixes."""

import random

import pytest

from slimlib.scoring import packing
from slimlib.scoring.packing import (
    Asked,
    Family,
    Scored,
    batch_end,
    by_length,
    common_prefix,
    families,
    make_sequences,
    pack,
)

LONG = tuple(range(100, 300))  # 200 tokens


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ((), (), 0),
        ((), (1,), 0),
        ((1,), (2,), 0),
        ((1, 2, 3), (1, 2, 4), 2),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2), (1, 2), 2),
        ((2, 1), (1, 1), 0),
    ],
)
def test_common_prefix(a, b, shared):
    assert common_prefix(a, b) == common_prefix(b, a) == shared


# ------------------------------------------------------------------------------------- sequences


def test_an_ending_s_last_token_is_asked_for_and_not_computed():
    assert make_sequences([([1, 2], [3, 4])], 9) == [Scored((1, 2, 3), [Asked(0, (3, 4))])]


def test_what_is_computed_alike_is_one_sequence():
    """One-token endings of one context; and the same tokens, split elsewhere."""
    found = make_sequences([([1, 2], [3]), ([1, 2], [4]), ([1], [2, 5])], 9)
    assert found == [Scored((1, 2), [Asked(0, (3,)), Asked(1, (4,)), Asked(2, (2, 5))])]
    assert found[0].context == (1,)  # of the request with the longest ending


def test_the_beginning_is_cut_off_as_by_hflm():
    # of 1 2 3 4 5 the last 3 + 1 are kept, then the last is not computed
    (found,) = make_sequences([([1, 2, 3], [4, 5])], 3)
    assert (found.tokens, found.context) == ((2, 3, 4), (2, 3))
    (found,) = make_sequences([([1, 2, 3], [4, 5, 6])], 3)
    assert (found.tokens, found.context) == ((3, 4, 5), (3,))


@pytest.mark.parametrize(("context", "ending"), [([], [1]), ([1], []), ([1], [2, 3, 4, 5])])
def test_a_request_that_cannot_be_computed_is_named(context, ending):
    with pytest.raises(ValueError, match="request 1: .*max_length=3"):
        make_sequences([([1], [2]), (context, ending)], 3)


# ------------------------------------------------------------------------------------------ trees


def test_a_tree_by_hand():
    packed = pack([(5, 6, 7), (5, 6, 8, 9), (4,)])
    assert packed.tokens == [4, 5, 6, 7, 8, 9]
    assert packed.positions == [0, 0, 1, 2, 2, 3]
    assert packed.paths == [[1, 2, 3], [1, 2, 4, 5], [0]]


def test_a_tree_behind_a_prefix_by_hand():
    packed = pack([(5, 6, 7), (5, 6, 8)], start=1)
    assert packed.tokens == [6, 7, 8]
    assert packed.positions == [1, 2, 2]
    assert packed.paths == [[0, 1], [0, 2]]


def test_a_sequence_that_begins_another_lies_inside_it():
    packed = pack([(1, 2, 3), (1, 2), (1, 2, 3)])
    assert packed.tokens == [1, 2, 3]
    assert packed.paths == [[0, 1, 2], [0, 1], [0, 1, 2]]


@pytest.mark.parametrize("start", [0, 1, 2])
def test_every_path_spells_its_sequence_and_no_token_is_there_twice(start):
    rng = random.Random(start)
    sequences = [(7, 7, *(rng.randrange(3) for _ in range(rng.randrange(1, 9)))) for _ in range(60)]
    packed = pack(sequences, start)
    for ids, path in zip(sequences, packed.paths, strict=True):
        assert tuple(packed.tokens[place] for place in path) == ids[start:]
        assert [packed.positions[place] for place in path] == list(range(start, len(ids)))
    beginnings = {ids[:end] for ids in sequences for end in range(start + 1, len(ids) + 1)}
    assert len(packed.tokens) == len(beginnings)


# ---------------------------------------------------------------------------------------- batches


def scored(*sequences, ending=1):
    """Sequences whose last `ending` tokens are scored, as rows of make_sequences."""
    return make_sequences([(s[:-ending], s[-ending:]) for s in sequences], 1000)


def test_the_longest_come_first_and_a_context_stays_together():
    sequences = make_sequences(
        [([1], [2]), ([5, 5], [1, 2]), ([3] * 4, [4]), ([5, 5], [3, 4, 5])], 1000
    )
    assert [s.tokens for s in by_length(sequences)] == [
        (5, 5, 1),
        (5, 5, 3, 4),
        (3, 3, 3, 3),
        (1,),
    ]


def test_a_batch_counts_what_neighbours_share_once():
    ordered = scored((1, 2, 3, 4, 0), (1, 2, 3, 5, 0), (1, 2, 6, 0), (9, 9, 0))
    # 4 tokens, then 1, 1 and 2 more
    ends = {budget: batch_end(ordered, 0, 0, budget) for budget in (1, 4, 5, 6, 7, 8, 100)}
    assert ends == {1: 1, 4: 1, 5: 2, 6: 3, 7: 3, 8: 4, 100: 4}
    assert batch_end(ordered, 2, 0, 3) == 3
    behind = scored(*[(1, 2, 3, i, 0) for i in range(4)])  # a prefix of three, one token each
    assert [batch_end(behind, 0, 3, budget) for budget in (1, 2, 3)] == [1, 2, 3]


def test_a_batch_is_bounded_by_what_the_attention_sees(monkeypatch):
    monkeypatch.setattr(packing, "ATTENDED", 2)
    ordered = scored(*[(1, 2, 3, 4, i, 0) for i in range(10)])
    assert batch_end(ordered, 0, 4, 10) == 4  # 4 sequences of 5 tokens: 20 = 2 * 10


# --------------------------------------------------------------------------------------- families


def test_nothing_shared_is_one_family_without_a_prefix():
    assert families([]) == []
    assert families([(1,), (2,)]) == [Family((), [0, 1])]


def test_fixed_shots_are_a_prefix_that_leaves_each_a_token():
    sequences = [(*LONG, i) for i in range(5)] + [LONG[:150]]
    assert families([*sequences, *sequences]) == [
        Family(LONG[:149], sorted([*range(12)], key=lambda i: ([*sequences, *sequences])[i]))
    ]


def test_equal_sequences_keep_their_last_token():
    assert families([LONG] * 7) == [Family(LONG[:-1], list(range(7)))]


def test_a_prefix_is_kept_where_it_is_long_enough_and_spares_enough():
    def prefixes(length, count):
        found = families([(*LONG[:length], 1000 + i) for i in range(count)])
        assert sum(len(family.members) for family in found) == count
        return [len(family.prefix) for family in found]

    assert prefixes(packing.MIN_PREFIX - 1, 1000) == [0]
    assert prefixes(64, 16) == [0]  # spares 15 * 64 = 960 tokens
    assert prefixes(64, 17) == [64]  # 1,024
    assert prefixes(200, 6) == [0]
    assert prefixes(200, 7) == [200]


def test_subjects_with_a_description_in_common_are_families_of_their_own():
    description = LONG[:70]
    one = [(*description, *range(1000, 1400), i) for i in range(8)]
    two = [(*description, *range(2000, 2400), i) for i in range(8)]
    mixed = [ids for pair in zip(one, two, strict=True) for ids in pair]
    found = families([*mixed, (1, 2, 3)])
    assert [len(family.prefix) for family in found] == [470, 470, 0]
    assert [family.members for family in found] == [[*range(0, 16, 2)], [*range(1, 16, 2)], [16]]
