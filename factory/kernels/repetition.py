"""How much of a sequence of hashed items (lines, paragraphs, pieces) is said more than once.

Every loop is linear in the items, and most are over few of them. An n-gram that occurs once at length n occurs once at
n + 1, and so does one whose continuation occurs once: each length looks only at the positions that repeat at the length
before, and there are no more lengths when none does. Pairs, the most, first pass a small table of two bits each, which
lets through those that repeat and a few others. All tables are scratch of the longest text, small enough for the nearest
cache for most, and only as much of them is cleared as the text needs.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lines import Segments
from factory.kernels.pieces import BEGINS_WORD, Pieces
from factory.kernels.text import Bytes, Hashes, Integers, Lengths, Whole

LONGEST = 10
_GROW = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_SIEVE = 1 << 16  # bytes at most
_SIEVE_SHIFT = np.uint64(64 - 16)

Places = npt.NDArray[np.int32]


def repeated_items(segments: Segments) -> Integers:
    """A row per text: items, their characters; copies after the first, their characters; all copies of what occurs more
    than once, their characters."""
    counts = np.zeros((len(segments.starts) - 1, 6), np.int64)
    most = _most(segments.starts)
    _count_repeated_items(*segments, *_table(most), np.empty(most, np.int32), counts)
    return counts


def repeated_ngrams(pieces: Pieces, *, covering: bool) -> tuple[Integers, Integers]:
    """A row per text, characters for n = 2 … 10: of the top n-gram (2 to 4), of the repeated n-grams (5 to 10); and the
    characters of all items of each text.

    Not `covering`: of all pieces; the most frequent n-gram, the first one among equals, with a space between pieces,
    times its count, even if that is 1. Repeated: left to right, each n-gram met before counts and is jumped over.
    `covering`: of pieces that begin with a letter or number; the longest among the most frequent, without spaces, times
    its count, nothing if that is 1. Repeated: every word that some n-gram occurring twice or more covers.
    """
    texts = len(pieces.starts) - 1
    characters, totals = np.zeros((texts, LONGEST - 1), np.int64), np.zeros(texts, np.int64)
    most = _most(pieces.starts)
    items, grams = np.zeros(most + LONGEST, np.uint64), np.empty(most + 1, np.uint64)
    positions, entries, firsts = (np.empty(most + 1, np.int32) for _ in range(3))
    sums, sieve = np.zeros(most + 1, np.int64), np.empty(_SIEVE, np.uint8)
    tally = np.empty(most, np.int32)
    scratch: tuple[Any, ...] = (items, grams, positions, entries, firsts, sums, sieve, *_table(most), tally)
    _count_repeated_ngrams(
        pieces.starts, pieces.hashes, pieces.lengths, pieces.flags, covering, characters, totals, *scratch
    )
    return characters, totals


def _most(starts: Integers) -> int:
    return int(np.diff(starts).max(initial=0))


def _table(items: int) -> tuple[Places, Hashes]:
    """Slots, at least four times as many as items, of entries, numbered from 1; and the key of each entry."""
    return np.empty(1 << max(4, (4 * items - 1).bit_length()), np.int32), np.empty(items + 1, np.uint64)


@bare_kernel
def _count_repeated_items(
    hashes: Hashes,
    lengths: Lengths,
    starts: Integers,
    slots: Places,
    keys: Hashes,
    tally: Places,
    counts: Integers,
) -> None:
    for text in range(starts.size - 1):
        count = starts[text + 1] - starts[text]
        shift = _clear(count, slots)
        entries = 0
        characters = later = later_characters = every = every_characters = np.int64(0)
        for item in range(starts[text], starts[text + 1]):
            length = np.int64(lengths[item])
            characters += length
            entry = _entry(hashes[item], shift, slots, keys, entries)
            if entry == entries:
                tally[entry] = 1
                entries += 1
                continue
            tally[entry] += 1
            copies = 2 if tally[entry] == 2 else 1  # the second copy makes the first one a copy too
            later += 1
            later_characters += length
            every += copies
            every_characters += copies * length
        counts[text, 0], counts[text, 1], counts[text, 2] = count, characters, later
        counts[text, 3], counts[text, 4], counts[text, 5] = later_characters, every, every_characters


@bare_kernel
def _count_repeated_ngrams(
    starts: Integers,
    hashes: Hashes,
    lengths: Lengths,
    flags: Bytes,
    covering: bool,
    characters: Integers,
    totals: Integers,
    items: Hashes,
    grams: Hashes,
    positions: Places,
    entries: Places,
    firsts: Places,
    sums: Integers,
    sieve: Bytes,
    slots: Places,
    keys: Hashes,
    tally: Places,
) -> None:
    # What decides for or against a position is added to where the next one goes, as a jump would be guessed wrong often.
    for text in range(starts.size - 1):
        words: Whole = 0
        total = np.int64(0)
        for piece in range(starts[text], starts[text + 1]):
            counted = np.int64(not covering or (flags[piece] & BEGINS_WORD) != 0)
            items[words] = hashes[piece]
            total += counted * np.int64(lengths[piece])
            words += counted
            sums[words] = total
        totals[text] = total
        alive = _sift(items, words, sieve, grams, positions)
        for n in range(2, min(LONGEST, words) + 1):
            if n > 2:
                alive = _grow(items, words, n, grams, positions, alive)
            shift = _clear(alive, slots)
            known = 0
            best, best_first, best_length = np.int64(1), np.int64(0), sums[n]
            for index in range(alive):
                position = np.int64(positions[index])
                entry = _entry(grams[position], shift, slots, keys, known)
                entries[index] = entry
                if entry == known:
                    tally[entry], firsts[entry] = 1, position
                    known += 1
                    continue
                tally[entry] += 1
                if n <= 4 and tally[entry] >= best:
                    length = sums[position + n] - sums[position]
                    wins = length > best_length if covering else firsts[entry] < best_first
                    if tally[entry] > best or wins:
                        best, best_first, best_length = np.int64(tally[entry]), np.int64(firsts[entry]), length
            if n <= 4:
                if not covering:
                    characters[text, n - 2] = best * (best_length + n - 1)
                elif best > 1:
                    characters[text, n - 2] = best * best_length
            taken = alive
            alive = 0
            for index in range(taken):
                entry = np.int64(entries[index])
                positions[alive], entries[alive] = positions[index], entry
                alive += np.int64(tally[entry] > 1)
            if n > 4:
                if alive == 0:
                    break
                if covering:
                    characters[text, n - 2] = _covered(positions, alive, n, sums)
                else:
                    characters[text, n - 2] = _met_again(positions, entries, alive, n, sums, firsts)


@bare_inner
def _sift(items: Hashes, words: Whole, sieve: Bytes, grams: Hashes, positions: Places) -> Whole:
    """The positions of pairs of which another may be equal, and the pairs; how many there are."""
    size: Whole = np.int64(1 << 10)
    while size < 8 * words and size < _SIEVE:
        size *= 2
    for slot in range(size):
        sieve[slot] = 0
    last = np.uint64(size - 1)
    for position in range(words - 1):
        gram = items[position] * _GROW + items[position + 1]
        grams[position] = gram
        place = np.uintp(((gram * _SPREAD) >> _SIEVE_SHIFT) & last)
        sieve[place] = (sieve[place] << 1) | 1
    alive: Whole = 0
    for position in range(words - 1):
        positions[alive] = position
        alive += np.int64((sieve[np.uintp(((grams[position] * _SPREAD) >> _SIEVE_SHIFT) & last)] & 2) != 0)
    return alive


@bare_inner
def _grow(items: Hashes, words: Whole, n: Whole, grams: Hashes, positions: Places, alive: Whole) -> Whole:
    """The n-grams at positions where the (n-1)-gram repeats and the one that begins a word later does; how many."""
    positions[alive] = -1
    taken: Whole = 0
    for index in range(alive):
        # Positions grow, so that the next word begins one of them only if it is the next position.
        position = np.int64(positions[index])
        following = np.int64(positions[index + 1])
        grams[position] = grams[position] * _GROW + items[position + n - 1]
        positions[taken] = position
        taken += np.int64((following == position + 1) & (position + n <= words))
    return taken


@bare_inner
def _covered(positions: Places, alive: Whole, n: Whole, sums: Integers) -> Whole:
    """Characters of all words that repeated n-grams cover."""
    characters = np.int64(0)
    free = np.int64(0)  # the first word that is not counted yet
    for index in range(alive):
        position = np.int64(positions[index])
        characters += sums[position + n] - sums[max(position, free)]
        free = position + n
    return characters


@bare_inner
def _met_again(positions: Places, entries: Places, alive: Whole, n: Whole, sums: Integers, firsts: Places) -> Whole:
    """Characters of the n-grams met before, from left to right; one that counts is jumped over, and meets none."""
    characters = np.int64(0)
    free = np.int64(0)
    for index in range(alive):
        position, entry = np.int64(positions[index]), entries[index]
        if position >= free:
            if firsts[entry] < 0:
                characters += sums[position + n] - sums[position]
                free = position + n
            firsts[entry] = -1  # met
    return characters


@bare_inner
def _clear(items: Whole, slots: Places) -> Whole:
    """Empty four times as many slots as items, at least 16; the bits of a hash that do not choose among them."""
    shift = np.int64(60)
    while (np.int64(1) << (np.int64(64) - shift)) < 4 * items:
        shift -= 1
    for slot in range(np.int64(1) << (np.int64(64) - shift)):
        slots[slot] = 0
    return shift


@bare_inner
def _entry(key: np.uint64, shift: Whole, slots: Places, keys: Hashes, entries: Whole) -> Whole:
    """The entry of the key, which is `entries` if it is new."""
    last = (np.int64(1) << (np.int64(64) - shift)) - 1
    slot = np.int64((key * _SPREAD) >> np.uint64(shift))
    while slots[slot] != 0:
        if keys[slots[slot] - 1] == key:
            return np.int64(slots[slot]) - 1
        slot = (slot + 1) & last
    slots[slot] = entries + 1
    keys[entries] = key
    return entries
