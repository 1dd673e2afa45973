"""Related documents next to each other: nearest neighbours of directions, and one walk through all of them.

Neighbours are looked for among the vectors of the nearest clusters, as an inverted file does: exact where there is one
cluster. The walk is that of in-context pretraining (arXiv:2310.10638): from a document to the nearest of its neighbours that
was not visited; where there is none, to the document not visited that has the fewest such neighbours left, before it has
none. Directions are whole numbers (`factory.kernels.vectors`): one list of vectors gives one result.
"""

from typing import Any

import numpy as np

from factory.kernels.compiled import bare_kernel, inner, kernel
from factory.kernels.vectors import Doubles, Integers, Singles, Units, lengths, ranked_centroids, spherical_kmeans

Whole = Any  # int64 in a kernel

ROWS = 1024
COLUMNS = 8192
EXACT = 20_000  # vectors up to which all are compared with all
PER_CLUSTER = 1000
SAMPLED = 64  # vectors a cluster is learnt from
ROUNDS = 10


def nearest_neighbours(units: Units, count: int, *, most: float, probes: int, seed: int) -> tuple[Integers, Doubles]:
    """For each vector the `count` others of the largest cosines, the largest first, and these; -1 where there are fewer.

    Cosines above `most` are near-duplicates and none; neither are those that are not above zero.
    """
    best = np.zeros((len(units), count))
    numbers = np.full((len(units), count), -1, np.int64)
    scale = lengths(units)
    weights = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    everything = np.arange(len(units))
    if len(units) <= EXACT:
        _search(units, weights, everything, everything, most, best, numbers)
        return numbers, best
    clusters = len(units) // PER_CLUSTER
    sample = np.random.default_rng(seed).permutation(len(units))[: clusters * SAMPLED]
    centroids = spherical_kmeans(units[np.sort(sample)], clusters, ROUNDS, seed)
    ranked, _ = ranked_centroids(units, centroids, probes)
    order = np.argsort(ranked[:, 0], kind="stable")
    bounds = np.searchsorted(ranked[order, 0], np.arange(len(centroids) + 1))
    asking = np.argsort(ranked.reshape(-1), kind="stable")
    limits = np.searchsorted(ranked.reshape(-1)[asking], np.arange(len(centroids) + 1))
    asking //= ranked.shape[1]
    for cluster in range(len(centroids)):
        members = order[bounds[cluster] : bounds[cluster + 1]]
        _search(units, weights, asking[limits[cluster] : limits[cluster + 1]], members, most, best, numbers)
    return numbers, best


def walk(numbers: Integers, cosines: Doubles) -> Integers:
    """All documents in the order of the walk, each once. An edge joins two of which one is a neighbour of the other."""
    count = len(numbers)
    at, place = np.nonzero(numbers >= 0)
    to = numbers[at, place]
    left, right = np.concatenate([at, to]), np.concatenate([to, at])
    weight = np.tile(cosines[at, place], 2)
    # An edge that both ends name is one edge.
    _, once = np.unique(left * np.int64(count) + right, return_index=True)
    left, right, weight = left[once], right[once], weight[once]
    order = np.lexsort((right, -weight, left))
    return np.asarray(_walk(np.searchsorted(left[order], np.arange(count + 1)), right[order]))


def _search(
    units: Units, weights: Doubles, rows: Integers, columns: Integers, most: float, best: Doubles, numbers: Integers
) -> None:
    for first in range(0, len(columns), COLUMNS):
        among = columns[first : first + COLUMNS]
        right = np.ascontiguousarray(units[among].T, np.float32)
        for start in range(0, len(rows), ROWS):
            of = rows[start : start + ROWS]
            _keep(units[of].astype(np.float32) @ right, weights, of, among, most, best, numbers)


@bare_kernel
def _keep(
    products: Singles,
    weights: Doubles,
    rows: Integers,
    columns: Integers,
    most: float,
    best: Doubles,
    numbers: Integers,
) -> None:
    last = best.shape[1] - 1
    for row in range(rows.size):
        of = rows[row]
        own = weights[of]
        for column in range(columns.size):
            value = np.float64(products[row, column]) * weights[columns[column]] * own
            if value <= best[of, last] or value > most or columns[column] == of:
                continue
            place = last
            while place > 0 and value > best[of, place - 1]:
                best[of, place], numbers[of, place] = best[of, place - 1], numbers[of, place - 1]
                place -= 1
            best[of, place], numbers[of, place] = value, columns[column]


@kernel
def _walk(starts: Integers, neighbours: Integers) -> Integers:
    count = starts.size - 1
    path = np.empty(count, np.int64)
    visited = np.zeros(count, np.bool_)
    # Documents by how many neighbours they have left, as doubly linked lists.
    degrees = starts[1:] - starts[:-1]
    most = np.int64(0)
    for degree in degrees:
        most = max(most, degree)
    heads = np.full(most + 1, -1, np.int64)
    after, before = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    for node in range(count - 1, -1, -1):
        _insert(node, degrees[node], heads, after, before)
    fewest, here = np.int64(0), np.int64(-1)
    for step in range(count):
        following = np.int64(-1)
        if here >= 0:
            for edge in range(starts[here], starts[here + 1]):
                if not visited[neighbours[edge]]:
                    following = neighbours[edge]
                    break
        if following < 0:
            while heads[fewest] < 0:
                fewest += 1
            following = heads[fewest]
        visited[following] = True
        path[step] = following
        _remove(following, degrees[following], heads, after, before)
        for edge in range(starts[following], starts[following + 1]):
            other = neighbours[edge]
            if not visited[other]:
                _remove(other, degrees[other], heads, after, before)
                degrees[other] -= 1
                _insert(other, degrees[other], heads, after, before)
                fewest = min(fewest, degrees[other])
        here = following
    return path


@inner
def _insert(node: Whole, degree: Whole, heads: Integers, after: Integers, before: Integers) -> None:
    head = heads[degree]
    after[node], before[node] = head, -1
    if head >= 0:
        before[head] = node
    heads[degree] = node


@inner
def _remove(node: Whole, degree: Whole, heads: Integers, after: Integers, before: Integers) -> None:
    if before[node] >= 0:
        after[before[node]] = after[node]
    else:
        heads[degree] = after[node]
    if after[node] >= 0:
        before[after[node]] = before[node]
