"""How much of a sequence of hashed items (lines, paragraphs, words) is said more than once.

Every loop is linear in the items. An n-gram that occurs once at length n occurs once at n + 1, and so does one whose
continuation occurs once: each length looks only at the positions that repeat at the length before.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel

Hashes = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

LONGEST = 10
_GROW = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)


def repeated_items(hashes: Hashes, lengths: Lengths, starts: Integers) -> Integers:
    """A row per text: items, their characters; copies after the first, their characters; all copies of what occurs more
    than once, their characters."""
    counts = np.zeros((len(starts) - 1, 6), np.int64)
    keys, stamps, tally = _table(_most(starts))
    _count_repeated_items(hashes, lengths, starts, keys, stamps, tally, counts)
    return counts


def repeated_ngrams(hashes: Hashes, lengths: Lengths, starts: Integers, covering: bool) -> Integers:
    """A row per text, characters for n = 2 … 10: of the top n-gram (2 to 4), of the repeated n-grams (5 to 10).

    Not `covering`: the most frequent n-gram, the first one among equals, with a space between words, times its count,
    even if that is 1. Repeated: left to right, each n-gram met before counts and is jumped over.
    `covering`: the longest among the most frequent, without spaces, times its count, nothing if that is 1. Repeated:
    every word that some n-gram occurring twice or more covers.
    """
    characters = np.zeros((len(starts) - 1, LONGEST - 1), np.int64)
    most = _most(starts)
    keys, stamps, tally = _table(most)
    first, seen = np.empty(keys.size, np.int32), np.zeros(keys.size, np.int64)
    grams, positions, slots = np.empty(most, np.uint64), np.empty(most, np.int32), np.empty(most, np.int64)
    sums = np.zeros(most + 1, np.int64)
    _count_repeated_ngrams(
        hashes, lengths, starts, covering, keys, stamps, tally, first, seen, grams, positions, slots, sums, characters
    )
    return characters


def _most(starts: Integers) -> int:
    return int(np.diff(starts).max(initial=0))


def _table(items: int) -> tuple[Hashes, Integers, Lengths]:
    """Keys, stamps and counts, with at least twice as many slots as items. A slot is taken if it bears the stamp."""
    size = 1 << max(4, (2 * items - 1).bit_length())
    return np.empty(size, np.uint64), np.zeros(size, np.int64), np.empty(size, np.int32)


@bare_kernel
def _count_repeated_items(
    hashes: Hashes,
    lengths: Lengths,
    starts: Integers,
    keys: Hashes,
    stamps: Integers,
    tally: Lengths,
    counts: Integers,
) -> None:
    for text in range(starts.size - 1):
        stamp = text + 1
        shift = _shift(starts[text + 1] - starts[text])
        for item in range(starts[text], starts[text + 1]):
            length = np.int64(lengths[item])
            counts[text, 0] += 1
            counts[text, 1] += length
            slot = _slot(hashes[item], shift, keys, stamps, stamp)
            if stamps[slot] != stamp:
                stamps[slot], keys[slot], tally[slot] = stamp, hashes[item], 1
                continue
            tally[slot] += 1
            copies = 2 if tally[slot] == 2 else 1  # the second copy makes the first one a copy too
            counts[text, 2] += 1
            counts[text, 3] += length
            counts[text, 4] += copies
            counts[text, 5] += copies * length


@bare_kernel
def _count_repeated_ngrams(
    hashes: Hashes,
    lengths: Lengths,
    starts: Integers,
    covering: bool,
    keys: Hashes,
    stamps: Integers,
    tally: Lengths,
    first: Lengths,
    seen: Integers,
    grams: Hashes,
    positions: Lengths,
    slots: Integers,
    sums: Integers,
    characters: Integers,
) -> None:
    stamp = 0
    for text in range(starts.size - 1):
        base = starts[text]
        words = starts[text + 1] - base
        for word in range(words):
            grams[word] = hashes[base + word]
            sums[word + 1] = sums[word] + lengths[base + word]
            positions[word] = word
        alive = words
        for n in range(2, min(LONGEST, words) + 1):
            stamp += 1
            shift = _shift(alive)
            taken = 0
            best, best_first, best_length = np.int64(1), np.int64(0), sums[n]
            for index in range(alive):
                position = positions[index]
                if position + n > words:
                    break
                # Positions grow, so the next word begins a repeated (n-1)-gram only if it is the next position.
                if n > 2 and (index + 1 == alive or positions[index + 1] != position + 1):
                    continue
                grams[position] = grams[position] * _GROW + hashes[base + position + n - 1]
                gram = grams[position]
                slot = _slot(gram, shift, keys, stamps, stamp)
                if stamps[slot] != stamp:
                    stamps[slot], keys[slot], tally[slot], first[slot] = stamp, gram, 0, position
                tally[slot] += 1
                positions[taken], slots[taken] = position, slot
                taken += 1
                if n <= 4 and tally[slot] > 1:
                    length = sums[position + n] - sums[position]
                    wins = length > best_length if covering else first[slot] < best_first
                    if tally[slot] > best or (tally[slot] == best and wins):
                        best, best_first, best_length = np.int64(tally[slot]), np.int64(first[slot]), length
            if n <= 4:
                if not covering:
                    characters[text, n - 2] = best * (best_length + n - 1)
                elif best > 1:
                    characters[text, n - 2] = best * best_length
            alive = 0
            free = 0  # the first word that is not counted yet
            repeated = 0
            for index in range(taken):
                position, slot = positions[index], slots[index]
                if tally[slot] < 2:
                    continue
                positions[alive] = position
                alive += 1
                if covering:
                    repeated += sums[position + n] - sums[max(position, free)]
                    free = position + n
                elif position >= free:
                    if seen[slot] == stamp:
                        repeated += sums[position + n] - sums[position]
                        free = position + n
                    seen[slot] = stamp
            if n > 4:
                characters[text, n - 2] = repeated


@bare_inner
def _shift(items: Whole) -> Whole:
    """Bits of a hash that do not choose among at least twice as many slots as items; at least 16 slots."""
    shift = np.int64(60)
    while (np.int64(1) << (np.int64(64) - shift)) < 2 * items:
        shift -= 1
    return shift


@bare_inner
def _slot(key: np.uint64, shift: Whole, keys: Hashes, stamps: Integers, stamp: Whole) -> Whole:
    """Where the key is, or the free slot where it belongs."""
    last = (np.int64(1) << (np.int64(64) - shift)) - 1
    slot = np.int64((key * _SPREAD) >> np.uint64(shift))
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & last
    return slot
