"""Directions as whole numbers, compared without any rounding: nearest centroids, spherical k-means, nearest earlier neighbours.

A component of a unit vector is kept as a whole number of 1/4000. Any part of a scalar product of two such vectors stays
below 2**24 (Cauchy and Schwarz), where single precision holds every whole number: a matrix product is exact in whatever
order BLAS adds it up, with any number of threads, in blocks of any shape, on any machine. So is a sum of vectors in 64
bits. What is found is therefore a function of the set of vectors, not of how they were cut up; a cosine is off by 1e-4
(standard deviation) from that of the vectors before they were rounded.

The clusters are those of spherical k-means (Dhillon and Modha, 2001) from greedy k-means++ (Arthur and Vassilvitskii, 2007), and
the neighbours those of SemDeDup (arXiv:2303.09540): for each vector the largest cosine with one that stands before it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from factory.kernels.compiled import bare_kernel

Units = npt.NDArray[np.int16]  # a vector a row
Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SCALE = 4000
MOST_DIMENSIONS = 36_000  # rounding makes a vector longer by sqrt(dimensions) / 2 at most, and 4096**2 is 2**24

_PRODUCT_ROWS = 1024
_PRODUCT_COLUMNS = 4096
_CLOSE = SCALE * SCALE // 4  # far more than rounding makes of equal vectors


def unit_vectors(vectors: npt.NDArray[Any]) -> Units:
    """The directions of vectors (a row each); what has none, all zeros, stays so."""
    if vectors.shape[1] > MOST_DIMENSIONS:
        raise ValueError(
            f"a vector of {vectors.shape[1]:,} dimensions; at most {MOST_DIMENSIONS:,} are compared exactly"
        )
    units = np.zeros(vectors.shape, np.int16)
    _scale(np.ascontiguousarray(vectors, np.float64), units)
    return units


def lengths(units: Units) -> Doubles:
    """How long each is, in units of 1/SCALE: rounding leaves it near SCALE."""
    squares = np.zeros(len(units), np.int64)
    _squares(np.ascontiguousarray(units), squares)
    return np.sqrt(squares.astype(np.float64))


def nearest_centroids(units: Units, centroids: Units) -> tuple[Integers, Doubles]:
    """For each vector the centroid of the largest cosine (of equal ones the first) and that cosine."""
    numbers, cosines = ranked_centroids(units, centroids, 1)
    return numbers[:, 0], cosines[:, 0]


def ranked_centroids(units: Units, centroids: Units, count: int) -> tuple[Integers, Doubles]:
    """For each vector the `count` centroids of the largest cosines, the largest first, and these cosines."""
    count = min(count, len(centroids))
    numbers, cosines = np.zeros((len(units), count), np.int64), np.full((len(units), count), -np.inf)
    weights = 1.0 / lengths(centroids)
    right = np.ascontiguousarray(centroids.T, np.float32)
    for start in range(0, len(units), _PRODUCT_ROWS):
        rows = slice(start, start + _PRODUCT_ROWS)
        _rank(units[rows].astype(np.float32) @ right, weights, numbers[rows], cosines[rows])
    own = lengths(units)[:, None]
    return numbers, np.minimum(np.divide(cosines, own, out=cosines, where=own > 0), 1.0)


def spherical_kmeans(units: Units, clusters: int, rounds: int, seed: int) -> Units:
    """At most `clusters` centroids (fewer only where there are fewer different vectors), after at most `rounds` rounds.

    The order of the vectors makes no difference: they are put into that of their hashes, from which all chance comes.
    """
    units = units[np.argsort(_hashes(units, seed), kind="stable")]
    centroids = _seeds(units, clusters, seed)
    before = np.full(len(units), -1)
    for _ in range(rounds):
        number, nearness = nearest_centroids(units, centroids)
        _fill_empty(number, nearness, len(centroids))
        if np.array_equal(number, before):
            break
        before = number
        sums = np.zeros(centroids.shape, np.int64)
        _sum_rows(units, number, sums)
        moved = unit_vectors(sums)
        centroids = np.where(moved.any(axis=1, keepdims=True), moved, centroids)
    return centroids


def raise_to_earlier(
    later: Units, later_at: Integers, earlier: Units, earlier_at: Integers, best: Doubles, nearest: Integers
) -> None:
    """Put the largest cosine of each later vector with an earlier one into `best`, where it is larger, and which it is.

    `later_at` and `earlier_at`, both increasing, say where each stands; only what stands before a vector counts, and of
    equal cosines the one of the first. Earlier ones come in their order, if they come in several calls.
    """
    for start in range(0, len(later), _PRODUCT_ROWS):
        rows = slice(start, min(start + _PRODUCT_ROWS, len(later)))
        left = later[rows].astype(np.float32)
        own = 1.0 / lengths(later[rows])
        stop = int(np.searchsorted(earlier_at, later_at[rows.stop - 1]))
        for first in range(0, stop, _PRODUCT_COLUMNS):
            columns = slice(first, min(first + _PRODUCT_COLUMNS, stop))
            products = left @ earlier[columns].astype(np.float32).T
            weights = 1.0 / lengths(earlier[columns])
            _raise(products, own, weights, later_at[rows], earlier_at[columns], best[rows], nearest[rows])


def gini(sizes: Integers) -> float:
    """How unequal cluster sizes are: 0 where all are equal, near 1 where one holds all."""
    ranked = np.sort(sizes).astype(np.float64)
    total = float(ranked.sum())
    if not total:
        return 0.0
    return float(
        2.0 * (ranked * np.arange(1, len(ranked) + 1)).sum() / (len(ranked) * total) - (len(ranked) + 1) / len(ranked)
    )


def _hashes(units: Units, seed: int) -> npt.NDArray[np.uint64]:
    rows = np.ascontiguousarray(units)
    return np.fromiter((xxhash.xxh3_64_intdigest(row.data, seed=seed) for row in rows), np.uint64, len(rows))


def _seeds(units: Units, clusters: int, seed: int) -> Units:
    """Greedy k-means++: of a few vectors, each drawn with a chance that is its distance (1 - cosine) from the nearest so far,
    the next one is the one that leaves the least distance."""
    rows = units.astype(np.float32)
    chosen = [0]
    distance = _distances(rows, [0])[:, 0]
    trials = 2 + int(math.log(clusters))
    while len(chosen) < clusters:
        reached = np.cumsum(distance)
        if not reached[-1]:
            break
        names = [f"{seed} {len(chosen)} {trial}".encode() for trial in range(trials)]
        drawn = np.array([xxhash.xxh3_64_intdigest(name) % int(reached[-1]) for name in names])
        candidates = np.searchsorted(reached, drawn, side="right")
        left = np.minimum(distance[:, None], _distances(rows, candidates))
        best = int(left.sum(axis=0).argmin())
        chosen.append(int(candidates[best]))
        distance = left[:, best]
    return units[chosen]


def _distances(rows: Singles, chosen: Sequence[int] | Integers) -> Integers:
    """From each vector to each of the chosen ones; 0 to its equals, though rounding has left them a little short or long."""
    distance = np.maximum(SCALE * SCALE - (rows @ rows[chosen].T).astype(np.int64), 0)
    for column, row in enumerate(chosen):
        near = np.flatnonzero(distance[:, column] < _CLOSE)
        distance[near[(rows[near] == rows[row]).all(axis=1)], column] = 0
    return distance


def _fill_empty(number: Integers, nearness: Doubles, clusters: int) -> None:
    """A cluster without vectors gets the one that lies farthest from its centroid, if that one is not alone there."""
    sizes = np.bincount(number, minlength=clusters)
    farthest = iter(np.argsort(nearness, kind="stable").tolist()) if (sizes == 0).any() else iter(())
    for empty in np.flatnonzero(sizes == 0).tolist():
        for row in farthest:
            if sizes[number[row]] > 1:
                sizes[number[row]] -= 1
                number[row] = empty
                break


@bare_kernel
def _scale(vectors: Doubles, units: Units) -> None:
    for row in range(vectors.shape[0]):
        squares = 0.0
        for column in range(vectors.shape[1]):
            squares += vectors[row, column] * vectors[row, column]
        if squares > 0.0:
            length = np.sqrt(squares)
            for column in range(vectors.shape[1]):
                units[row, column] = np.int16(np.rint(SCALE * (vectors[row, column] / length)))


@bare_kernel
def _squares(units: Units, squares: Integers) -> None:
    for row in range(units.shape[0]):
        total = np.int64(0)
        for column in range(units.shape[1]):
            value = np.int32(units[row, column])
            total += value * value
        squares[row] = total


@bare_kernel
def _sum_rows(units: Units, number: Integers, sums: Integers) -> None:
    for row in range(units.shape[0]):
        cluster = number[row]
        for column in range(units.shape[1]):
            sums[cluster, column] += np.int64(units[row, column])


@bare_kernel
def _rank(products: Singles, weights: Doubles, numbers: Integers, cosines: Doubles) -> None:
    count = numbers.shape[1]
    for row in range(products.shape[0]):
        least = cosines[row, count - 1]
        for column in range(products.shape[1]):
            value = np.float64(products[row, column]) * weights[column]
            if value > least:
                place = count - 1
                while place > 0 and value > cosines[row, place - 1]:
                    cosines[row, place], numbers[row, place] = cosines[row, place - 1], numbers[row, place - 1]
                    place -= 1
                cosines[row, place], numbers[row, place] = value, np.int64(column)
                least = cosines[row, count - 1]


@bare_kernel
def _raise(
    products: Singles,
    own: Doubles,
    weights: Doubles,
    later_at: Integers,
    earlier_at: Integers,
    best: Doubles,
    nearest: Integers,
) -> None:
    for row in range(products.shape[0]):
        top, where = best[row], nearest[row]
        for column in range(earlier_at.size):
            if earlier_at[column] >= later_at[row]:
                break
            value = np.float64(products[row, column]) * weights[column] * own[row]
            if value > top:
                top, where = value, earlier_at[column]
        best[row], nearest[row] = top, where
