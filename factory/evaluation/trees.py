"""Rows of tokens that begin alike, laid out so that what they share is computed once.

In: rows to be scored. Out: trees, each one sequence of tokens in which a row is a path. Depth first, so that all that
follows a token lies in one piece: token i sees token j where j ≤ i < `ends[j]`, and its position is its depth. A model
that takes positions and a mask therefore gives every path the scores it has alone; what that saves is the context of a
question's choices, and the examples before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.evaluation.likelihood import Row

Numbers = npt.NDArray[np.int64]

MIN_SHARED = 4  # tokens: for fewer, a wider mask costs more than it saves
WORTH = 3  # where much is shared, a tree may be as many times as long as that


@dataclass(frozen=True, eq=False)
class Tree:
    """`tokens` are fed; row `rows[k]` reads its predictions at places[k], for targets[k]."""

    tokens: Numbers
    positions: Numbers
    ends: Numbers
    rows: tuple[int, ...]
    places: tuple[Numbers, ...]
    targets: tuple[Numbers, ...]

    def __len__(self) -> int:
        return len(self.tokens)


def build_trees(rows: Sequence[Row], limit: int) -> list[Tree]:
    """Every row in exactly one tree; a tree holds at most `limit` tokens, or what long rows share a few times over."""
    order = sorted(range(len(rows)), key=lambda at: rows[at].tokens)
    return [_tree(rows, group) for group in _groups(rows, order, limit)]


def alone(rows: Sequence[Row]) -> list[Tree]:
    """A tree for each row, for models whose masks nobody may set."""
    return [_tree(rows, [(at, 0)]) for at in range(len(rows))]


def _groups(rows: Sequence[Row], order: Sequence[int], limit: int) -> Iterator[list[tuple[int, int]]]:
    """Rows with what each shares with the one before it."""
    group: list[tuple[int, int]] = []
    size = 0
    before: Numbers | None = None
    for at in order:
        tokens = np.asarray(rows[at].tokens[:-1], np.int64)
        shared = _shared(before, tokens) if before is not None else 0
        if group and (shared < MIN_SHARED or size + len(tokens) - shared > max(limit, WORTH * shared)):
            yield group
            group, size, shared = [], 0, 0
        group.append((at, shared))
        size += len(tokens) - shared
        before = tokens
    if group:
        yield group


def _shared(one: Numbers, other: Numbers) -> int:
    width = min(len(one), len(other))
    differ = one[:width] != other[:width]
    return int(differ.argmax()) if differ.any() else width


def _tree(rows: Sequence[Row], group: Sequence[tuple[int, int]]) -> Tree:
    size = sum(len(rows[at].tokens) - 1 - shared for at, shared in group)
    tokens, positions, ends = np.empty(size, np.int64), np.empty(size, np.int64), np.full(size, size, np.int64)
    path = np.empty(0, np.int64)
    places, targets = [], []
    used = 0
    for at, shared in group:
        ends[path[shared:]] = used  # nothing after this belongs to the rows before
        row = np.asarray(rows[at].tokens, np.int64)
        fresh = len(row) - 1 - shared
        tokens[used : used + fresh] = row[shared:-1]
        positions[used : used + fresh] = np.arange(shared, shared + fresh)
        path = np.concatenate([path[:shared], np.arange(used, used + fresh)])
        used += fresh
        places.append(path[len(row) - 1 - rows[at].scored :])
        targets.append(row[len(row) - rows[at].scored :])
    return Tree(tokens, positions, ends, tuple(at for at, _ in group), tuple(places), tuple(targets))
