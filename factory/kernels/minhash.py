"""Texts as sets of shingles, and those sets as a few 64-bit keys that near-duplicates share.

*Normal form* (after the one FineWeb hashes, arXiv:2406.17557; `factory.kernels.folding`): lower case, Latin, Greek and
Cyrillic without diacritics, every number `0`, and nothing but words with blanks between them. *Units* are the words of
it; or the pieces of any other segmentation, each in normal form; or its characters, one blank between words. Each has
64 well-mixed bits.

*Shingles* are `ngram` units in a row, the 32 well-mixed bits of a sum of the units' upper halves, each times an odd
number of its place. A text with fewer units is one shingle of all of them; a text without units has none, and no keys.
Two different shingles are one with a chance of 2**-32: among two sets of n, n / 2**32 of the shingles are shared by
accident, a millionth at n = 4,000.

*Minima*: shingle x has for hash i the value a_i * x + b_i mod 2**32 with a_i odd, which is a permutation, computed
exactly; the smallest value over the set is kept. *Keys*: the minima are cut into bands of rows; a key is 64 bits over the
number of the band and its rows. Texts of Jaccard similarity J share at least one of b bands of r rows with probability
1 - (1 - J**r)**b (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4). All minima of a text of one
shingle follow from its 32 bits, so that among millions of short texts strangers would share all keys: their keys are
over 64 bits of the units, too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.folding import Source, units_of
from factory.kernels.text import Bytes, Flags, Hashes, Integers, Whole

Words = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]

_BLOCK = 2048  # shingles at a time: 8 KB, which stay in the nearest cache while all hashes pass over them
_STEP = 128  # the last block is filled up to a multiple of this, so that no loop has a slow end
_DIGITS = 2048  # of a number of 32 bits, three
_BITS, _MASK = np.uint32(11), np.uint32(_DIGITS - 1)
_LARGEST = np.uint32(0xFFFFFFFF)
_BASE = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), and the one of MurmurHash3 for 32 bits.
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MIX_3 = np.uint32(0x85EBCA6B)
_MIX_4 = np.uint32(0xC2B2AE35)
_HALF = np.uint64(32)


class Sets(NamedTuple):
    """Sets of shingles, one after the other: set i is `shingles[starts[i]:starts[i + 1]]`, ascending."""

    shingles: Words
    starts: Integers


def hash_family(count: int, seed: int) -> tuple[Words, Words]:
    """The `count` odd multipliers and the increments of the permutations, each from splitmix64(seed, its number)."""
    numbers = np.arange(1, 2 * count + 1, dtype=np.uint64) * _BASE + np.uint64(seed % 2**64)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX_1
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX_2
    values = ((numbers ^ (numbers >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
    return values[:count] | np.uint32(1), values[count:]


def sign(source: Source, ngram: int, bands: int, rows: int, seed: int) -> tuple[Hashes, Words, Integers]:
    """The keys of each text, its minima, and the number of its units; without units, keys and minima mean nothing."""
    texts = len(source.valid)
    keys, smallest = np.empty((texts, bands), np.uint64), np.empty((texts, bands * rows), np.uint32)
    counts, block = np.empty(texts, np.int64), np.empty(_BLOCK, np.uint32)
    family = hash_family(ngram, 0)[0], *hash_family(bands * rows, seed)
    _sign(*source, *family, np.uint64(seed), block, smallest, keys, counts)
    return keys, smallest, counts


def shingle_sets(source: Source, ngram: int) -> Sets:
    """The distinct shingles of each text."""
    texts = len(source.valid)
    starts = np.zeros(texts + 1, np.int64)
    # As many as there are units at most: room that is not written to is not taken.
    shingles = np.empty(_most_units(source), np.uint32)
    spare, counts = np.empty(len(source.hashes) + _BLOCK, np.uint32), np.empty((3, _DIGITS), np.int64)
    _shingle_sets(*source, hash_family(ngram, 0)[0], spare, counts, starts, shingles)
    return Sets(shingles[: starts[-1]].copy(), starts)


def _most_units(source: Source) -> int:
    return len(source.begins) if len(source.starts) else int(source.offsets[-1] - source.offsets[0])


def similarity(one: Words, other: Words) -> npt.NDArray[np.float64]:
    """The estimated Jaccard similarity of texts with these minima, row by row: the share that is equal."""
    share: npt.NDArray[np.float64] = (np.asarray(one) == np.asarray(other)).mean(axis=-1)
    return share


def jaccard(one: Sets, ones: Integers, other: Sets, others: Integers) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of the sets `ones[i]` of one collection and `others[i]` of the other."""
    shared = np.empty(len(ones), np.int64)
    _shared(*_fixed(one), ones, *_fixed(other), others, shared)
    together = np.diff(one.starts)[ones] + np.diff(other.starts)[others] - shared
    similarities: npt.NDArray[np.float64] = shared / np.maximum(together, 1)
    return similarities


def _fixed(sets: Sets) -> Sets:
    """Seen as arrays that are not written to, as those of Arrow are: one type, so one compiled version."""
    shingles, starts = sets.shingles.view(), sets.starts.view()
    shingles.flags.writeable = starts.flags.writeable = False
    return Sets(shingles, starts)


@bare_kernel
def _sign(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: Words,
    characters: bool,
    begins: Integers,
    ends: Integers,
    pieces: Integers,
    room: Bytes,
    hashes: Hashes,
    places: Words,
    multipliers: Words,
    increments: Words,
    seed: np.uint64,
    block: Words,
    smallest: Words,
    keys: Hashes,
    counts: Integers,
) -> None:
    ngram = places.size
    rows = smallest.shape[1] // keys.shape[1]
    for text in range(offsets.size - 1):
        count = units_of(text, offsets, data, valid, folded, characters, begins, ends, pieces, room, hashes)
        counts[text] = count
        least = smallest[text]
        for index in range(least.size):
            least[index] = _LARGEST
        shingles = _shingle_count(count, ngram)
        only, differences = np.uint32(0), np.uint32(0)
        at = np.int64(0)
        while at < shingles:
            filled = min(shingles - at, _BLOCK)
            _fill(hashes, at, count, places, filled, block)
            only = only if at else block[0]
            differences |= _differences(block, filled, only)
            whole = (filled + _STEP - 1) // _STEP * _STEP
            for index in range(filled, whole):
                block[index] = block[0]
            _lower(least, block, whole, multipliers, increments)
            at += filled
        salt = _whole_hash(hashes, min(count, ngram)) if differences == 0 else np.uint64(0)
        for band in range(keys.shape[1]):
            key = _mix(seed + np.uint64(band + 1) * _BASE) ^ salt
            for row in range(band * rows, (band + 1) * rows):
                key = _mix((key ^ np.uint64(least[row])) * _BASE)
            keys[text, band] = key


@bare_kernel
def _shingle_sets(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: Words,
    characters: bool,
    begins: Integers,
    ends: Integers,
    pieces: Integers,
    room: Bytes,
    hashes: Hashes,
    places: Words,
    spare: Words,
    digits: Counts,
    starts: Integers,
    shingles: Words,
) -> None:
    for text in range(offsets.size - 1):
        count = units_of(text, offsets, data, valid, folded, characters, begins, ends, pieces, room, hashes)
        begin = starts[text]
        size = _shingle_count(count, places.size)
        own = shingles[begin : begin + size]
        _fill(hashes, np.int64(0), count, places, size, own)
        _sort(own, spare, digits)
        kept = np.int64(0)
        for index in range(size):
            if index == 0 or own[index] != own[index - 1]:
                spare[kept] = own[index]
                kept += 1
        for index in range(kept):
            own[index] = spare[index]
        starts[text + 1] = begin + kept


@bare_kernel
def _shared(
    left: Words,
    left_starts: Integers,
    ones: Integers,
    right: Words,
    right_starts: Integers,
    others: Integers,
    shared: Integers,
) -> None:
    for pair in range(ones.size):
        at, end = left_starts[ones[pair]], left_starts[ones[pair] + 1]
        place, stop = right_starts[others[pair]], right_starts[others[pair] + 1]
        count = np.int64(0)
        while at < end and place < stop:
            one, other = left[np.uintp(at)], right[np.uintp(place)]
            count += one == other  # without a branch: which is less cannot be foreseen
            at += one <= other
            place += other <= one
        shared[pair] = count


@bare_inner
def _shingle_count(units: Whole, ngram: Whole) -> Whole:
    return max(units - ngram + 1, np.int64(units > 0))


@bare_inner
def _fill(hashes: Hashes, first: Whole, units: Whole, places: Words, filled: Whole, block: Words) -> None:
    """`filled` shingles from unit `first` on."""
    for index in range(filled):
        block[index] = np.uint32(0)
    for place in range(min(places.size, units)):  # fewer units than a shingle has are one
        factor = places[place]
        for index in range(filled):
            block[index] += np.uint32(hashes[first + place + index] >> _HALF) * factor
    for index in range(filled):
        value = block[index]
        value = (value ^ (value >> np.uint32(16))) * _MIX_3
        value = (value ^ (value >> np.uint32(13))) * _MIX_4
        block[index] = value ^ (value >> np.uint32(16))


@bare_inner
def _lower(smallest: Words, block: Words, filled: Whole, multipliers: Words, increments: Words) -> None:
    # One hash at a time over all shingles: a minimum in a register, which the compiler turns into wide instructions.
    for index in range(smallest.size):
        multiplier, increment, least = multipliers[index], increments[index], smallest[index]
        for shingle in range(filled):
            least = min(least, np.uint32(multiplier * block[shingle] + increment))
        smallest[index] = least


@bare_inner
def _differences(block: Words, filled: Whole, only: np.uint32) -> np.uint32:
    """The bits in which any shingle differs from `only`."""
    different = np.uint32(0)
    for index in range(filled):
        different |= block[index] ^ only
    return different


@bare_inner
def _sort(values: Words, spare: Words, digits: Counts) -> None:
    """Ascending, digit by digit from the lowest: a third of the time of comparing, and no worst case."""
    for index in range(digits.size):
        digits.flat[index] = 0
    for index in range(values.size):
        value = values[index]
        digits[0, value & _MASK] += 1
        digits[1, (value >> _BITS) & _MASK] += 1
        digits[2, value >> (_BITS + _BITS)] += 1
    for turn in range(3):
        total = np.int64(0)
        for digit in range(_DIGITS):
            count = digits[turn, digit]
            digits[turn, digit] = total
            total += count
    _scatter(values, values.size, np.uint32(0), digits[0], spare)
    _scatter(spare, values.size, _BITS, digits[1], values)
    _scatter(values, values.size, _BITS + _BITS, digits[2], spare)
    for index in range(values.size):
        values[index] = spare[index]


@bare_inner
def _scatter(values: Words, size: Whole, shift: np.uint32, places: Counts, target: Words) -> None:
    for index in range(size):
        value = values[index]
        digit = (value >> shift) & _MASK
        target[np.uintp(places[digit])] = value
        places[digit] += 1


@bare_inner
def _whole_hash(hashes: Hashes, units: Whole) -> np.uint64:
    value = np.uint64(units)
    for unit in range(units):
        value = _mix((value ^ hashes[unit]) * _BASE)
    return value


@bare_inner
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
