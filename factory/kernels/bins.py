"""Items into bins of one size: best-fit decreasing (Johnson, 1974), the fullest bin that still has room, in O(log size) an item.

Lengths are whole numbers, so that bins are known by the room they have left: one stack of bins for each room, and a tree
over which stacks are not empty finds the smallest room that is enough.
"""

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import kernel

Integers = npt.NDArray[np.int64]


def best_fit(lengths: Integers, size: int) -> Integers:
    """The bin of each item, numbered from 0; items come in the order in which they are placed, each at most `size` long."""
    if len(lengths) and (lengths.min() < 1 or lengths.max() > size):
        raise ValueError(f"items of {lengths.min()} to {lengths.max()} do not all fit bins of {size}")
    return np.asarray(_best_fit(np.ascontiguousarray(lengths, np.int64), size))


@kernel
def _best_fit(lengths: Integers, size: int) -> Integers:
    width = 1
    while width < size + 1:
        width *= 2
    filled = np.zeros(2 * width, np.bool_)  # node i: whether a stack below it is not empty
    top = np.full(size + 1, -1, np.int64)  # by room left: the bin last put there
    below = np.empty(lengths.size, np.int64)  # by bin: the next of its stack
    found = np.empty(lengths.size, np.int64)
    bins = 0
    for item in range(lengths.size):
        length = lengths[item]
        # The first leaf at or after `length` that is filled: up until a right sibling is, then down to the left.
        node = width + length
        if not filled[node]:
            while node > 1 and (node & 1 == 1 or not filled[node + 1]):
                node >>= 1
            node = 0 if node == 1 else node + 1
            while node != 0 and node < width:
                node *= 2
                if not filled[node]:
                    node += 1
        if node == 0:
            chosen, room = bins, size
            bins += 1
        else:
            room = node - width
            chosen = top[room]
            top[room] = below[chosen]
            while node >= 1 and (top[room] < 0 if node >= width else not (filled[2 * node] or filled[2 * node + 1])):
                filled[node] = False
                node >>= 1
        found[item] = chosen
        room -= length
        below[chosen] = top[room]
        top[room] = chosen
        node = width + room
        while node >= 1 and not filled[node]:
            filled[node] = True
            node >>= 1
    return found
