"""Texts as sets of word n-grams, and those sets as a few 64-bit keys that near-duplicates share.

*Normal form* (after the one FineWeb hashes, arXiv:2406.17557): characters are lower-cased one by one; letters of Latin,
Greek and Cyrillic lose their diacritics, composed or not; a number in any script, with full stops or commas between its
digits, is one `0`; punctuation, symbols, white space and control characters separate words; format characters (soft
hyphen, joiners) are skipped. Vowel signs, points and tone marks of all other scripts stay: without them, different words
of Indic, Semitic and Thai texts are one. In scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese,
Tibetan) each character is a word, so that a text has n-grams at all.

*Shingles* are the hashes of `ngram` words in a row. A text with fewer words is one shingle of all of them; a text without
words has none, and no keys. *Minima*: shingle x, 32 well-mixed bits, has for hash i the value a_i * x + b_i mod 2**32 with
a_i odd, which is a permutation, computed exactly; the smallest value over the set is kept. *Keys*: the minima are cut
into bands of rows; a key is 64 bits over the number of the band and its rows. Texts of Jaccard similarity J share at
least one of b bands of r rows with probability 1 - (1 - J**r)**b (Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, section 3.4).
"""

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import inner, kernel

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

# What a code point is, in the table of `folded_characters`; anything larger is the letter it counts as.
SEPARATOR, SKIPPED, DIGIT = (np.uint32(kind) for kind in range(3))
ALONE = np.uint32(1 << 31)

_LAST_ASSIGNED = 0x323B0  # nothing lies between here and the tags but what is not assigned
_UNIFORM = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x17000, 0x18D00), (0x20000, _LAST_ASSIGNED))
_ALONE = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3041, 0x30FF)),
    *((0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF)),
    *((0x1B000, 0x1B16F), (0x20000, _LAST_ASSIGNED - 1)),
)
_DIACRITICS = (
    (0x0300, 0x036F),
    (0x0483, 0x0487),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)

_BLOCK = 2048  # shingles at a time: 8 KB, which stay in the nearest cache while all hashes pass over them
_LARGEST = np.uint32(0xFFFFFFFF)
_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_BASE = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@cache
def folded_characters() -> Words:
    """What every code point is to a shingle: a separator, skipped, a digit, or the letter it counts as.

    Code points without a meaning in this Python's Unicode tables are letters, so that later tables change little.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    uniform = {code for first, stop in _UNIFORM for code in range(first, stop)}
    for code in (*(c for c in range(_LAST_ASSIGNED) if c not in uniform), *range(0xE0000, 0xE01F0)):
        table[code] = _fold(code)
    for first, last in _ALONE:
        letters = table[first : last + 1]
        letters[letters > DIGIT] |= ALONE
    table.flags.writeable = False
    return table


def _fold(code: int) -> int:
    character = chr(code)
    category = unicodedata.category(character)
    if category == "Nd":
        return int(DIGIT)
    if category == "Cf" or any(first <= code <= last for first, last in _DIACRITICS):
        return int(SKIPPED)
    if category[0] in "PSZ" or category == "Cc":
        return int(SEPARATOR)
    lower = character.lower()[0]
    parts = [ord(part) for part in unicodedata.normalize("NFD", lower)]
    only_diacritics = all(any(first <= part <= last for first, last in _DIACRITICS) for part in parts[1:])
    return parts[0] if only_diacritics else ord(lower)


def hash_family(count: int, seed: int) -> tuple[Words, Words]:
    """The `count` odd multipliers and the increments of the permutations, each from splitmix64(seed, its number)."""
    numbers = np.arange(1, 2 * count + 1, dtype=np.uint64) * _BASE + np.uint64(seed % 2**64)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX_1
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX_2
    values = ((numbers ^ (numbers >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
    return values[:count] | np.uint32(1), values[count:]


@kernel
def minima(
    offsets: Integers, data: Bytes, valid: Flags, folded: Words, ngram: int, multipliers: Words, increments: Words
) -> tuple[Words, Integers]:
    """The smallest value of each hash over the shingles of each text, and the number of its words."""
    texts = offsets.size - 1
    smallest = np.full((texts, multipliers.size), _LARGEST, np.uint32)
    words = np.zeros(texts, np.int64)
    block = np.empty(_BLOCK, np.uint32)
    window = np.zeros(ngram, np.uint64)
    power = np.uint64(1)
    for _ in range(ngram):
        power *= _BASE
    for text in range(texts):
        if not valid[text]:
            continue
        end = offsets[text + 1]
        window[:] = np.uint64(0)
        rolling = np.uint64(0)
        count = filled = slot = 0
        word, at = _next_word(data, offsets[text], end, folded)
        while at >= 0:
            rolling = rolling * _BASE + word - window[slot] * power
            window[slot] = word
            slot = slot + 1 if slot + 1 < ngram else 0
            count += 1
            if count >= ngram:
                block[filled] = np.uint32(_mix(rolling) >> np.uint64(32))
                filled += 1
                if filled == _BLOCK:
                    _lower(smallest[text], block, filled, multipliers, increments)
                    filled = 0
            word, at = _next_word(data, at, end, folded)
        if 0 < count < ngram:
            block[0] = np.uint32(_mix(rolling) >> np.uint64(32))
            filled = 1
        _lower(smallest[text], block, filled, multipliers, increments)
        words[text] = count
    return smallest, words


@kernel
def band_keys(smallest: Words, bands: int, rows: int, seed: np.uint64) -> Hashes:
    """64 bits for each band of each text, over the number of the band and its minima."""
    keys = np.empty((smallest.shape[0], bands), np.uint64)
    for text in range(smallest.shape[0]):
        for band in range(bands):
            key = _mix(seed + np.uint64(band + 1) * _BASE)
            for row in range(band * rows, (band + 1) * rows):
                key = _mix((key ^ np.uint64(smallest[text, row])) * _BASE)
            keys[text, band] = key
    return keys


@inner
def _lower(smallest: Words, block: Words, filled: Whole, multipliers: Words, increments: Words) -> None:
    # One hash at a time over all shingles: a minimum in a register, which the compiler turns into wide instructions.
    for index in range(smallest.size):
        multiplier, increment, least = multipliers[index], increments[index], smallest[index]
        for shingle in range(filled):
            least = min(least, np.uint32(multiplier * block[shingle] + increment))
        smallest[index] = least


@inner
def _next_word(data: Bytes, at: Whole, end: Whole, folded: Words) -> tuple[np.uint64, Whole]:
    """The hash of the next word and where it ends; -1 after the last one."""
    value = _FNV_BASIS
    inside = False
    while at < end:
        first = data[at]
        if first < 0x80 and folded[first] > DIGIT:  # most of most texts, without decoding
            value = (value ^ np.uint64(folded[first])) * _FNV_PRIME
            inside = True
            at += 1
            continue
        code, width = _decode(data, at, end)
        letter = folded[code]
        if letter == SEPARATOR:
            at += width
            if inside:
                break
        elif letter == SKIPPED:
            at += width
        elif letter == DIGIT:
            at = _skip_number(data, at + width, end, folded)
            value = (value ^ np.uint64(0x30)) * _FNV_PRIME
            inside = True
        elif letter & ALONE:
            if not inside:
                return _mix(np.uint64(letter) * _FNV_PRIME), at + width
            break
        else:
            at += width
            value = (value ^ np.uint64(letter)) * _FNV_PRIME
            inside = True
    return _mix(value), at if inside else np.int64(-1)


@inner
def _skip_number(data: Bytes, at: Whole, end: Whole, folded: Words) -> Whole:
    while at < end:
        code, width = _decode(data, at, end)
        if folded[code] != DIGIT:
            if code != 0x2E and code != 0x2C:
                break
            following, _ = _decode(data, at + width, end)
            if folded[following] != DIGIT:
                break
        at += width
    return at


@inner
def _decode(data: Bytes, at: Whole, end: Whole) -> tuple[Whole, Whole]:
    """The code point at `at` and its bytes; U+FFFD and one byte where there is no UTF-8, or the end."""
    if at >= end:
        return np.int64(0xFFFD), np.int64(1)
    first = np.int64(data[at])
    if first < 0x80:
        return first, np.int64(1)
    width = np.int64(1)
    code = np.int64(0xFFFD)
    if 0xC2 <= first < 0xE0:
        width, code = np.int64(2), first & 0x1F
    elif 0xE0 <= first < 0xF0:
        width, code = np.int64(3), first & 0x0F
    elif 0xF0 <= first < 0xF5:
        width, code = np.int64(4), first & 0x07
    if at + width > end:
        return np.int64(0xFFFD), np.int64(1)
    for step in range(1, width):
        code = (code << 6) | (np.int64(data[at + step]) & 0x3F)
    return (code, width) if code < 0x110000 else (np.int64(0xFFFD), np.int64(1))


@inner
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
