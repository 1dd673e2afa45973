"""Which bytes of texts go when some of their pieces do: the union of what is removed, as sorted ranges apart from each other.

A text has *units* (lines, sentences, tokens), byte ranges in the order of where they begin, and *pieces*: piece i is made
of `width` units in a row from unit i on, so a text of u units has u - width + 1 pieces, or none.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel

Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step


class Ranges(NamedTuple):
    """Ranges of texts; those of text i are `firsts[i]` up to `firsts[i + 1]`."""

    starts: Places
    ends: Places
    firsts: Integers


class Cover(NamedTuple):
    """What goes of each text, how many bytes that is, and which of its units are touched."""

    ranges: Ranges
    sizes: Integers
    touched: Flags


def cover(units: Ranges, pieces: Integers, removed: Flags, always: Ranges) -> Cover:
    """The union of the removed pieces (those of text i are `pieces[i]` up to `pieces[i + 1]`) and of `always`."""
    texts = len(pieces) - 1
    room = len(units.starts) + len(always.starts)
    starts, ends = np.empty(room, np.uint32), np.empty(room, np.uint32)
    firsts, sizes = np.zeros(texts + 1, np.int64), np.zeros(texts, np.int64)
    touched = np.zeros(len(units.starts), np.bool_)
    _cover(*units, pieces, removed, *always, starts, ends, firsts, sizes, touched)
    made = int(firsts[-1])
    return Cover(Ranges(starts[:made], ends[:made], firsts), sizes, touched)


@bare_kernel
def _cover(
    unit_starts: Places,
    unit_ends: Places,
    units: Integers,
    pieces: Integers,
    removed: Flags,
    always_starts: Places,
    always_ends: Places,
    always: Integers,
    starts: Places,
    ends: Places,
    firsts: Integers,
    sizes: Integers,
    touched: Flags,
) -> None:
    made = np.int64(0)
    for text in range(pieces.size - 1):
        first, count = units[text], units[text + 1] - units[text]
        width = count - (pieces[text + 1] - pieces[text]) + 1
        begin = made
        other = always[text]
        last = np.int64(-1)  # the last unit that a removed piece reaches
        size = np.int64(0)
        for unit in range(count + 1):
            gone: Whole = False
            if unit < count:
                if width <= count and unit <= count - width and removed[pieces[text] + unit]:
                    last = unit + width - 1
                gone = unit <= last
                touched[first + unit] = gone
                if not gone:
                    continue
            # Ranges that go whatever the counts are, up to where this unit begins.
            while other < always[text + 1] and (unit == count or always_starts[other] <= unit_starts[first + unit]):
                start, end = np.int64(always_starts[other]), np.int64(always_ends[other])
                other += 1
                if made > begin and start <= np.int64(ends[made - 1]):
                    start = np.int64(ends[made - 1])
                    if end > start:
                        ends[made - 1] = end
                elif end > start:
                    starts[made], ends[made] = start, end
                    made += 1
                size += max(end - start, np.int64(0))
            if gone:
                start, end = np.int64(unit_starts[first + unit]), np.int64(unit_ends[first + unit])
                if made > begin and start <= np.int64(ends[made - 1]):
                    start = np.int64(ends[made - 1])
                    if end > start:
                        ends[made - 1] = end
                elif end > start:
                    starts[made], ends[made] = start, end
                    made += 1
                size += max(end - start, np.int64(0))
        firsts[text + 1] = made
        sizes[text] = size
