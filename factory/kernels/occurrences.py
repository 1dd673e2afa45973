"""How often keys occur, and which of their occurrences go: a table of distinct keys that streams of rows pass through.

In: rows of 64-bit keys, in as many pieces as memory asks for, and for an election the order of each row's document. Out:
of every row how often its key occurs, and whether it is one too many. Memory grows with the number of *distinct* keys, so
that a key in every document costs one entry, and time with the number of rows. Counts and elections are sums and minima:
neither depends on how the rows were cut into pieces nor on their order. Counts made elsewhere, sorted by key, are added to
those of the keys that are here by walking along both.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.clusters import sort_rows
from factory.kernels.compiled import bare_inner, bare_kernel

Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

# What a distinct key takes at most, with the table a third empty: key and count; and while keys are sorted, key and slot
# and twice as much to sort in. An election, which comes later, takes less.
KEY_BYTES = 72

_ROOM = 1.6
_ELDER = np.uint32(1 << 31)  # an earlier group met the key
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
    """Distinct keys of the rows of a group (a snapshot) with their counts; `distinct` says how many are expected.

    Count all rows, elect among them, ask for the verdicts. Earlier groups are counted elsewhere: `own` gives the counts of
    the group at hand, to be kept; `add` takes those of an earlier group. What an earlier one met stands before all rows.
    """

    def __init__(self, distinct: int) -> None:
        self.keys: Hashes = np.zeros(0, np.uint64)
        self.counts: Counts = np.zeros(0, np.uint32)
        self.filled = 0
        self.sorted = _Sorted.none()
        self.numbers: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.firsts = Orders(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
        self._grow(distinct)

    def count(self, keys: Hashes) -> None:
        """More rows of the group."""
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

    def own(self) -> tuple[Hashes, Counts]:
        """All rows are counted, and nothing was added: the keys in order, and how often each occurs."""
        slots = np.flatnonzero(self.counts)
        keys, slots = sort_rows(self.keys[slots], slots)
        marks = np.zeros(2 * len(keys) + 1, np.uint8)
        _mark(keys, marks)
        self.sorted = _Sorted(keys, slots, marks)
        return keys, self.counts[slots]

    def add(self, keys: Hashes, copies: Counts, first: int = 0) -> int:
        """What an earlier group has of the keys that `own` gave: sorted distinct keys with how often each occurs there.

        Where they come in several pieces, one after the other, `first` is what the call for the piece before returned.
        """
        return int(_add(keys, copies, first, *self.sorted, self.counts))

    def open_election(self, over: int) -> None:
        """All counts are there: from here on, `elect` finds the first of each key that occurs too often."""
        self.sorted = _Sorted.none()
        new = self.counts > over  # keys that an earlier group met have a count beyond all others
        new &= self.counts < _ELDER
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


class _Sorted(NamedTuple):
    """Own keys in order, their slots, and a bit for each small range of keys that has one."""

    keys: Hashes
    slots: Integers
    marks: npt.NDArray[np.uint8]

    @staticmethod
    def none() -> "_Sorted":
        return _Sorted(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint8))


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


@bare_inner
def _shift(own: Hashes, marks: npt.NDArray[np.uint8]) -> np.uint64:
    """How many of its last bits a key loses where it is one of the bits of `marks`."""
    span, shift = own[own.size - 1] - own[0], np.uint64(0)
    while span >> shift >= np.uint64(8 * marks.size):
        shift += np.uint64(1)
    return shift


@bare_kernel
def _mark(own: Hashes, marks: npt.NDArray[np.uint8]) -> None:
    if own.size == 0:
        return
    shift = _shift(own, marks)
    for row in range(own.size):
        bit = (own[row] - own[0]) >> shift
        marks[np.uintp(bit >> np.uint64(3))] |= np.uint8(1) << np.uint8(bit & np.uint64(7))


@bare_kernel
def _add(
    keys: Hashes,
    copies: Counts,
    at: Whole,
    own: Hashes,
    slots: Integers,
    marks: npt.NDArray[np.uint8],
    counts: Counts,
) -> Whole:
    """Where among the own keys the next piece goes on.

    Sorted keys pass by the marks of the own ones in order, near the processor: few are looked for that are not there.
    """
    if own.size == 0:
        return at
    shift, least, largest = _shift(own, marks), own[0], own[own.size - 1]
    for row in range(keys.size):
        key = keys[row]
        bit = (key - least) >> shift
        if key < least or key > largest or not (marks[np.uintp(bit >> np.uint64(3))] >> (bit & np.uint64(7))) & 1:
            continue
        while own[np.uintp(at)] < key:  # at most the largest: steps that double
            step = np.int64(1)
            while at + step < own.size and own[np.uintp(at + step)] < key:
                at += step
                step *= 2
            at += 1
        if own[np.uintp(at)] == key:
            slot = np.uintp(slots[at])
            total = np.uint64(counts[slot] & _COUNT) + np.uint64(copies[row])
            counts[slot] = _ELDER | np.uint32(min(total, np.uint64(_COUNT)))
    return at


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
