"""How often keys occur, and which of their occurrences go: a table of distinct keys that streams of rows pass through.

In: rows of 64-bit keys, in as many pieces as memory asks for, and for an election the order of each row's document. Out:
of every row how often its key occurs, and whether it is one too many. Memory grows with the number of *distinct* keys, so
that a key in every document costs one entry, and time with the number of rows. Counts and elections are sums and minima:
neither depends on how the rows were cut into pieces nor on their order.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel

Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

# What a distinct key takes with the table a third empty: key, count, number; and the order of one in two.
KEY_BYTES = 40

_ROOM = 1.6
_ELDER = np.uint32(1 << 31)  # the key was met before the last `close_group`
_COUNT = np.uint32((1 << 31) - 1)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_NONE = np.int32(-1)
_NOWHERE = np.int64(np.iinfo(np.int64).max)


class Orders(NamedTuple):
    """Who goes first: rows are compared by `high`, `low` (the halves of a document's id), then `place`."""

    high: Hashes
    low: Hashes
    place: Integers


class OccurrenceTable:
    """Distinct keys with their counts; `distinct` says how many are expected.

    Rows come in groups (snapshots), each closed before the next: count all rows of a group, elect among them, ask for the
    verdicts. What a closed group met stands before everything later, whatever its order.
    """

    def __init__(self, distinct: int) -> None:
        self.keys: Hashes = np.zeros(0, np.uint64)
        self.counts: Counts = np.zeros(0, np.uint32)
        self.filled = 0
        self.numbers: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.firsts = Orders(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
        self._grow(distinct)

    def count(self, keys: Hashes) -> None:
        """More rows of the group at hand."""
        done = 0
        while done < len(keys):
            most = int(len(self.counts) / _ROOM)
            done, self.filled = _count(keys, done, most, self.filled, self.keys, self.counts)
            if done < len(keys):  # rare: more keys than were expected
                self._grow(most * 2)

    def _grow(self, distinct: int) -> None:
        size = int(distinct * _ROOM) + 16
        if size >= 1 << 31:
            raise ValueError(f"{distinct:,} keys are too many for one table; cut them into more buckets")
        keys, counts = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
        _move(self.keys, self.counts, keys, counts)
        self.keys, self.counts = keys, counts

    def open_election(self, over: int) -> None:
        """All rows of the group are counted: from here on, `elect` finds the first of each key that occurs too often."""
        new = (self.counts & _COUNT > over) & (self.counts & _ELDER == 0)
        candidates = int(np.count_nonzero(new))
        self.numbers = np.full(len(self.counts), _NONE, np.int32)
        self.numbers[new] = np.arange(candidates, dtype=np.int32)
        largest = np.iinfo(np.uint64).max
        self.firsts = Orders(
            np.full(candidates, largest, np.uint64),
            np.full(candidates, largest, np.uint64),
            np.full(candidates, _NOWHERE, np.int64),
        )

    def elect(self, keys: Hashes, orders: Orders) -> None:
        """More rows of the group, for the election."""
        _elect(keys, *orders, self.keys, self.counts, self.numbers, *self.firsts)

    def settle(self) -> None:
        """Who was elected so far stands before everyone who comes."""
        known = self.firsts.place != _NOWHERE
        self.firsts.high[known] = 0
        self.firsts.low[known] = 0

    def verdicts(self, keys: Hashes, places: Integers, over: int, *, keep_first: bool) -> tuple[Counts, Flags]:
        """How often the key of each row occurs, and whether the row goes."""
        copies, removed = np.zeros(len(keys), np.uint32), np.zeros(len(keys), np.bool_)
        numbers = self.numbers if keep_first else np.zeros(1, np.int32)
        _judge(keys, places, self.keys, self.counts, numbers, self.firsts.place, over, keep_first, copies, removed)
        return copies, removed

    def close_group(self) -> None:
        """What was met so far is older than what comes."""
        np.bitwise_or(self.counts, _ELDER, out=self.counts, where=self.counts > 0)
        self.numbers = np.zeros(0, np.int32)


@bare_inner
def _slot(key: np.uint64, keys: Hashes, counts: Counts) -> Whole:
    """Where the key is, or the free place where it belongs."""
    mixed = key * _SPREAD
    mixed ^= mixed >> np.uint64(32)  # buckets are made of leading bits, so those of one bucket have few of them
    mixed *= _SPREAD
    slot = np.int64(((mixed >> np.uint64(32)) * np.uint64(counts.size)) >> np.uint64(32))
    while counts[np.uintp(slot)] != 0 and keys[np.uintp(slot)] != key:
        slot += 1
        if slot == counts.size:
            slot = np.int64(0)
    return slot


@bare_kernel
def _count(rows: Hashes, first: int, most: int, filled: int, keys: Hashes, counts: Counts) -> tuple[int, int]:
    """Rows done, and distinct keys; not all of the rows where there would be more than `most` keys."""
    for row in range(first, rows.size):
        key = rows[row]
        slot = np.uintp(_slot(key, keys, counts))
        if counts[slot] == 0:
            if filled >= most:
                return row, filled
            keys[slot] = key
            filled += 1
        if counts[slot] & _COUNT != _COUNT:
            counts[slot] += np.uint32(1)
    return rows.size, filled


@bare_kernel
def _move(keys: Hashes, counts: Counts, new_keys: Hashes, new_counts: Counts) -> None:
    for old in range(keys.size):
        if counts[old]:
            slot = np.uintp(_slot(keys[old], new_keys, new_counts))
            new_keys[slot], new_counts[slot] = keys[old], counts[old]


@bare_kernel
def _elect(
    rows: Hashes,
    high: Hashes,
    low: Hashes,
    places: Integers,
    keys: Hashes,
    counts: Counts,
    numbers: npt.NDArray[np.int32],
    first_high: Hashes,
    first_low: Hashes,
    first_place: Integers,
) -> None:
    for row in range(rows.size):
        number = numbers[np.uintp(_slot(rows[row], keys, counts))]
        if number < 0:
            continue
        at = np.uintp(number)
        if high[row] != first_high[at]:
            earlier = high[row] < first_high[at]
        elif low[row] != first_low[at]:
            earlier = low[row] < first_low[at]
        else:
            earlier = places[row] < first_place[at]
        if earlier:
            first_high[at], first_low[at], first_place[at] = high[row], low[row], places[row]


@bare_kernel
def _judge(
    rows: Hashes,
    places: Integers,
    keys: Hashes,
    counts: Counts,
    numbers: npt.NDArray[np.int32],
    first_place: Integers,
    over: int,
    keep_first: bool,
    copies: Counts,
    removed: Flags,
) -> None:
    for row in range(rows.size):
        slot = np.uintp(_slot(rows[row], keys, counts))
        count = counts[slot] & _COUNT
        copies[row] = count
        if count > over:
            number = numbers[slot] if keep_first else _NONE
            removed[row] = number < 0 or first_place[np.uintp(number)] != places[row]
