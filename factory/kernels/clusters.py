"""From keys to clusters: who shares a key, who hangs together, who stands for the others.

Nodes are any int64 numbers, one for each document. All results are functions of the *set* of rows: neither their order
nor how they were cut into pieces changes them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import inner, kernel

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step


def link(keys: Hashes, nodes: Integers, checks: Hashes | None = None) -> tuple[Integers, Integers]:
    """Edges from the smallest node of each group of equal (key, check) to its other nodes: a star, not all pairs."""
    order = np.lexsort((nodes, keys) if checks is None else (nodes, checks, keys))
    keys, nodes = keys[order], nodes[order]
    same = keys[1:] == keys[:-1]
    if checks is not None:
        checks = checks[order]
        same &= checks[1:] == checks[:-1]
    first = np.arange(len(nodes))
    first[1:][same] = 0
    first = np.maximum.accumulate(first)
    smallest = nodes[first]
    others = np.flatnonzero(np.concatenate([np.zeros(min(len(nodes), 1), np.bool_), same & (nodes[1:] != nodes[:-1])]))
    return smallest[others], nodes[others]


def connect(left: Integers, right: Integers) -> tuple[Integers, Integers]:
    """The nodes of the edges, in increasing order, and the smallest node each one is connected to."""
    nodes, ends = np.unique(np.concatenate([left, right]).astype(np.int64, copy=False), return_inverse=True)
    ends = ends.astype(np.int64, copy=False)
    return nodes, nodes[_roots(len(nodes), ends[: len(left)], ends[len(left) :])]


def elect(roots: Integers, nodes: Integers, priorities: Sequence[Integers] = ()) -> Integers:
    """For each row, the node that stands for its cluster: the least by the priorities in turn, then by node.

    A lower number goes first. Where nodes are numbered by the order of reading, give a priority that is not, such as a
    hash of the document's id, as the last one.
    """
    order = np.lexsort((nodes, *reversed(priorities), roots))
    first = np.arange(len(roots))
    ordered = roots[order]
    first[1:][ordered[1:] == ordered[:-1]] = 0
    winners = np.empty(len(nodes), np.int64)
    winners[order] = nodes[order][np.maximum.accumulate(first)]
    return winners


def cluster_sizes(roots: Integers) -> Integers:
    """For each row, how many rows have its root."""
    _, place, counts = np.unique(roots, return_inverse=True, return_counts=True)
    return counts.astype(np.int64, copy=False)[place]


@kernel
def _roots(count: int, left: Integers, right: Integers) -> Integers:
    """The smallest number connected to each of 0 … count - 1: union-find with path halving."""
    parents = np.arange(count)
    for edge in range(left.size):
        one, other = _find(parents, left[edge]), _find(parents, right[edge])
        if one < other:
            parents[other] = one
        elif other < one:
            parents[one] = other
    for node in range(count):
        parents[node] = parents[parents[node]]  # a parent is smaller than its child, so it is already at its root
    return parents


@inner
def _find(parents: Integers, node: Whole) -> Whole:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node
