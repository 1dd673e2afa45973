"""Several queues as one, in exact shares: after any number of turns each queue is less than one turn from its share.

The chairman assignment of Tijdeman (1980): of the queues that may have the turn without being ahead of their share by too
much, the one that would fall behind soonest. With n queues none is ever further than 1 - 1 / (2n - 2) from its share, where
taking the one furthest behind, the usual largest-remainder rule, has no such bound. Everything is counted in whole numbers.
"""

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import kernel

Integers = npt.NDArray[np.int64]


def interleave(weights: Integers, turns: int) -> Integers:
    """The queue of each turn; `weights` are whole numbers, a queue's share is its part of their sum."""
    weights = np.ascontiguousarray(weights, np.int64)
    if not len(weights) or weights.min() < 0 or not weights.sum():
        raise ValueError(f"{len(weights)} queues with weights that sum to {int(weights.sum())} have no shares")
    if turns * int(weights.max()) * 2 * len(weights) >= 1 << 62:
        raise ValueError(f"{turns:,} turns of {len(weights):,} queues are more than are counted exactly")
    return np.asarray(_interleave(weights, turns))


@kernel
def _interleave(weights: Integers, turns: int) -> Integers:
    total = weights.sum()
    queues = 0
    for weight in weights:
        queues += weight > 0
    parts = max(1, 2 * queues - 2)
    counts = np.zeros(weights.size, np.int64)
    chosen = np.empty(turns, np.int64)
    for turn in range(turns):
        best, soonest = -1, np.inf
        for queue in range(weights.size):
            if weights[queue] == 0:
                continue
            behind = (turn + 1) * weights[queue] - counts[queue] * total
            if behind * parts < total and queues > 1:
                continue
            deadline = (total * (parts - 1) / parts - behind) / weights[queue]
            if deadline < soonest:
                best, soonest = queue, deadline
        chosen[turn] = best
        counts[best] += 1
    return chosen
