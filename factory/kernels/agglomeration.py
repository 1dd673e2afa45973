"""Many small clusters of directions put together to a few, none of which may hold more than a share of all mass.

Ward's criterion on the sphere: the pair is merged whose union loses the least of the lengths of the summed vectors, which is what
spherical k-means maximises. Merging by distance alone chains clusters along a continuum into one giant; a pair that would
exceed the cap is therefore never merged (capacity-constrained agglomeration). Products of sums are whole numbers and follow
each merge exactly, so that the result does not depend on how they were added up.
"""

import numpy as np
import numpy.typing as npt

from factory.kernels.vectors import Doubles, Integers, Units


def summed(units: Units, number: Integers, clusters: int) -> Integers:
    """The sum of the vectors of each cluster."""
    sums = np.zeros((clusters, units.shape[1]), np.int64)
    order = np.argsort(number, kind="stable")
    present, starts = np.unique(number[order], return_index=True)
    if len(order):
        sums[present] = np.add.reduceat(units[order].astype(np.int64), starts, axis=0)
    return sums


def merge_balanced(sums: Integers, masses: Integers, clusters: int, cap: float) -> Integers:
    """For each cluster the number of the one it becomes a part of: `clusters` of them, by falling mass.

    They are more where every further merge would make one of more than `cap` of all mass. Clusters without mass are merged
    like others.
    """
    count = len(sums)
    limit = cap * float(masses.sum())
    products = sums @ sums.T  # whole numbers, so not by BLAS
    held, group = masses.astype(np.float64), np.arange(count)
    alive = np.ones(count, np.bool_)
    costs = np.full((count, count), np.inf)
    for row in range(count):
        costs[row] = _costs(products, held, alive, row, limit)
    nearest = costs.argmin(axis=1)
    least = costs[np.arange(count), nearest]
    for _ in range(count - clusters):
        one = int(least.argmin())
        if not np.isfinite(least[one]):
            break
        one, other = sorted((one, int(nearest[one])))
        products[one] += products[other]
        products[:, one] += products[:, other]
        held[one] += held[other]
        alive[other] = False
        group[group == other] = one
        changed = _costs(products, held, alive, one, limit)
        costs[other], costs[:, other] = np.inf, np.inf
        costs[one], costs[:, one] = changed, changed
        least[other] = np.inf
        stale = np.flatnonzero(alive & ((nearest == one) | (nearest == other) | (changed < least)))
        stale = np.union1d(stale, [one])
        nearest[stale] = costs[stale].argmin(axis=1)
        least[stale] = costs[stale, nearest[stale]]
    left = np.flatnonzero(alive)
    ranked = left[np.lexsort((left, -held[left]))]
    place = np.empty(count, np.int64)
    place[ranked] = np.arange(len(ranked))
    return place[group]


def _costs(products: Integers, held: Doubles, alive: npt.NDArray[np.bool_], row: int, limit: float) -> Doubles:
    """What it costs to merge a cluster with each other one; infinite where it must not be."""
    own = np.diagonal(products)
    together = np.maximum(own[row] + own + 2 * products[row], 0)
    found: Doubles = np.sqrt(float(own[row])) + np.sqrt(own.astype(np.float64)) - np.sqrt(together.astype(np.float64))
    found[~alive | (held + held[row] > limit * (1 + 1e-12))] = np.inf
    found[row] = np.inf
    return found
