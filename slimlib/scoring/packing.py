"""Which tokens are computed together: shared beginnings, and batches of a number of tokens.

Pure functions on token ids. lm-eval asks for the probability of an ending behind a context; what a
model computes for it is one sequence, context and ending without its last token, which predicts
nothing that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# A prefix is kept as keys and values where it has so many tokens, and spares so many in all.
MIN_PREFIX = 64
MIN_SPARED = 1024
# The attention sees whole sequences: so many times the tokens of a batch, prefixes included.
ATTENDED = 8

Tokens = tuple[int, ...]


class Asked(NamedTuple):
    """One request: its place among the requests, and the tokens whose probability is asked for."""

    index: int
    targets: Tokens


@dataclass(frozen=True)
class Scored:
    """One sequence, and the requests that are answered at its last positions."""

    tokens: Tokens
    asked: list[Asked]

    @property
    def context(self) -> Tokens:
        """The tokens that no request asks the probability of."""
        return self.tokens[: len(self.tokens) + 1 - max(len(a.targets) for a in self.asked)]


def make_sequences(
    requests: Iterable[tuple[Sequence[int], Sequence[int]]], max_length: int
) -> list[Scored]:
    """The sequences to compute, each once.

    Args:
        requests: (context ids, ending ids), neither empty.
        max_length: tokens of the window; what is longer loses its beginning, as in HFLM.

    Raises:
        ValueError: a context or an ending without tokens, or an ending longer than the window.
    """
    found: dict[Tokens, Scored] = {}
    for index, (context, ending) in enumerate(requests):
        if not context or not 0 < len(ending) <= max_length:
            raise ValueError(
                f"request {index}: {len(context)} tokens of context and {len(ending)} of ending; "
                f"each needs one or more, and an ending at most max_length={max_length}"
            )
        tokens = tuple((*context, *ending))[-(max_length + 1) :][:-1]
        scored = found.setdefault(tokens, Scored(tokens, []))
        scored.asked.append(Asked(index, tuple(ending)))
    return list(found.values())


def common_prefix(a: Tokens, b: Tokens) -> int:
    """How many tokens two sequences share from the start.

    Example: common_prefix((1, 2, 3), (1, 2, 4)) is 2.
    """
    shortest = min(len(a), len(b))
    if a[:shortest] == b[:shortest]:
        return shortest
    return next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)


class Packed(NamedTuple):
    """A tree of tokens: sequences that begin alike share its first tokens."""

    tokens: list[int]
    positions: list[int]  # in their sequences
    paths: list[list[int]]  # of each sequence: where its tokens are


def pack(sequences: Sequence[Tokens], start: int = 0) -> Packed:
    """Merge what the sequences share from their start on.

    Args:
        sequences: token ids.
        start: tokens that all share and that are left away.

    Example: pack([(5, 6), (5, 7)]) has the tokens 5, 6, 7 at positions 0, 1, 1 and the paths
    [0, 1] and [0, 2].
    """
    tokens: list[int] = []
    positions: list[int] = []
    paths: list[list[int]] = [[]] * len(sequences)
    before: Tokens = ()
    path: list[int] = []
    for place in sorted(range(len(sequences)), key=sequences.__getitem__):
        ids = sequences[place]
        shared = max(common_prefix(before, ids), start)
        path = path[: shared - start] + list(range(len(tokens), len(tokens) + len(ids) - shared))
        tokens += ids[shared:]
        positions += range(shared, len(ids))
        paths[place], before = path, ids
    return Packed(tokens, positions, paths)


def by_length(sequences: Iterable[Scored]) -> list[Scored]:
    """Longest first, the sequences of one context side by side."""
    groups: dict[Tokens, list[Scored]] = {}
    for scored in sequences:
        groups.setdefault(scored.context, []).append(scored)
    ordered = sorted(groups.values(), key=lambda group: -max(len(s.tokens) for s in group))
    return [scored for group in ordered for scored in sorted(group, key=lambda s: s.tokens)]


def batch_end(sequences: Sequence[Scored], begin: int, start: int, token_budget: int) -> int:
    """Where a batch ends that begins at `begin`; one sequence always goes.

    Args:
        sequences: by length.
        begin: of the batch.
        start: tokens that all share and that are not computed again.
        token_budget: most tokens of a batch, what neighbours share counted once.
    """
    used, before = 0, ()
    longest = len(sequences[begin].tokens)
    for end in range(begin, len(sequences)):
        tokens = sequences[end].tokens
        used += len(tokens) - max(common_prefix(before, tokens), start)
        longest = max(longest, len(tokens))
        attended = (end + 1 - begin) * longest
        if end > begin and (used > token_budget or attended > ATTENDED * token_budget):
            return end
        before = tokens
    return len(sequences)


class Family(NamedTuple):
    """Sequences that begin with the same tokens."""

    prefix: Tokens  # () where nothing worth keeping is shared
    members: list[int]  # places among the sequences


def families(
    sequences: Sequence[Tokens], worth: Callable[[Family], bool] = lambda _: True
) -> list[Family]:
    """Find long prefixes that many sequences share: fixed shots, a subject's description.

    A prefix has MIN_PREFIX tokens or more, leaves each member at least one, and spares, computed
    once, MIN_SPARED tokens or more.

    Args:
        sequences: token ids.
        worth: what else a family must be.

    Returns:
        The families; then all other sequences as one, with an empty prefix.
    """
    together, alone = [], []
    for members in _runs(sorted(range(len(sequences)), key=sequences.__getitem__), sequences):
        length = _shared(members, sequences)
        family = Family(sequences[members[0]][:length], members)
        if length >= MIN_PREFIX and length * (len(members) - 1) >= MIN_SPARED and worth(family):
            together.append(family)
        else:
            alone += members
    return together + ([Family((), alone)] if alone else [])


def _runs(order: list[int], sequences: Sequence[Tokens]) -> Iterator[list[int]]:
    """Cut sorted sequences where one shares less than half of what the ones before it share."""
    run: list[int] = []
    shared = 0
    for place in order:
        common = common_prefix(sequences[run[0]], sequences[place]) if run else 0
        if run and common < max(MIN_PREFIX, shared // 2):
            yield run
            run, common = [], 0
        run.append(place)
        shared = common
    if run:
        yield run


def _shared(members: list[int], sequences: Sequence[Tokens]) -> int:
    """Tokens that all members share, one left to each: of sorted ones the first and last decide."""
    shortest = min(len(sequences[member]) for member in members)
    return min(common_prefix(sequences[members[0]], sequences[members[-1]]), shortest - 1)


def rows_at_once(longest: int, token_budget: int) -> int:
    """How many sequences fill the budget when padded to the longest; one always goes."""
    return max(1, token_budget // longest)
