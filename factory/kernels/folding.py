"""Texts in a normal form that says what counts when texts are compared, and the hashes of its words.

After the form FineWeb hashes (arXiv:2406.17557): characters are lower-cased one by one; letters of Latin, Greek and
Cyrillic lose their diacritics, composed or not; a number in any script, with full stops or commas between its digits, is
one `0`; punctuation, symbols, white space and control characters separate words; format characters (soft hyphen,
joiners) are skipped. Vowel signs, points and tone marks of all other scripts stay: without them, different words of
Indic, Semitic and Thai texts are one. In scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan)
each character is a word, so that a text has n-grams at all.

In: a view of texts. Out: one 64-bit hash for each *unit* of a text, a function of the unit's bytes in the normal form
alone. Kernels ask for the units of one text after the other, so that they never leave the nearest caches.
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner
from factory.kernels.lanes import LANES, equal_bytes, fold_letters, load_word, lowest_bit
from factory.kernels.text import Bytes, Flags, Hashes, Integers, TextView, Whole
from factory.kernels.utf8 import decode, encode

Codes = npt.NDArray[np.uint32]

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
    *((0x0300, 0x036F), (0x0483, 0x0487), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF)),
    (0xFE20, 0xFE2F),
)

_BLANK = np.uint8(0x20)
_MARGIN = 128  # bytes beyond a normal form that are read or written in wide steps
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_FACTOR_1 = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_2 = np.uint64(0x9FB21C651E98DF25)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Source(NamedTuple):
    """What units are made of, as kernels take it, and room to make one text's: for one thread, and one call at a time.

    The texts of a view as words; or, with `characters`, as characters, one blank between words; or, where there are
    `starts`, the pieces of a cut (see `factory.kernels.pieces`), of which those with nothing in the normal form are none.
    """

    offsets: Integers
    data: Bytes
    valid: Flags
    folded: Codes
    characters: bool
    begins: Integers
    ends: Integers
    starts: Integers
    room: Bytes
    hashes: Hashes


def source(
    view: TextView, cut: tuple[Integers, Integers, Integers] | None = None, *, characters: bool = False
) -> Source:
    """The texts of a view as units: words, the pieces of `cut`, or characters."""
    longest = int(np.diff(view.offsets).max(initial=0))
    # A character's form has at most twice its bytes. A word takes two bytes with what separates it, or is a character of
    # three; a piece takes one. Memory that is not written to is not taken.
    room = np.empty(2 * longest + _MARGIN, np.uint8)
    hashes = np.empty(longest + 1, np.uint64)
    none = np.zeros(0, np.int64)
    return Source(*view, folded_characters(), characters, *(cut or (none, none, none)), room, hashes)


@cache
def folded_characters() -> Codes:
    """What every code point is to a shingle: a separator, skipped, a digit, or the letter it counts as.

    Code points without a meaning in this Python's Unicode tables are letters, so that later tables change little.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    uniform = np.zeros(_LAST_ASSIGNED, np.bool_)
    for first, stop in _UNIFORM:
        uniform[first:stop] = True
    codes = np.concatenate([np.flatnonzero(~uniform), np.arange(0xE0000, 0xE01F0)])
    # As maps over all characters: a function of Python's for each takes four times as long, in every process.
    characters = list(map(chr, codes.tolist()))
    kinds = np.array(list(map(unicodedata.category, characters)))
    lower = [small[0] for small in map(str.lower, characters)]
    composed = [place for place, small in enumerate(lower) if small > "\x7f" and unicodedata.decomposition(small)]
    folded = np.fromiter(map(ord, lower), np.uint32, len(lower))
    for place in composed:
        letter, *marks = list(unicodedata.normalize("NFD", lower[place]))
        if all(any(first <= ord(mark) <= last for first, last in _DIACRITICS) for mark in marks):
            folded[place] = ord(letter)
    main = kinds.astype("U1")
    folded[np.isin(main, ("P", "S", "Z")) | (kinds == "Cc")] = SEPARATOR
    diacritic = np.logical_or.reduce([(codes >= first) & (codes <= last) for first, last in _DIACRITICS])
    folded[diacritic | (kinds == "Cf")] = SKIPPED
    folded[kinds == "Nd"] = DIGIT
    table[codes] = folded
    for first, last in _ALONE:
        letters = table[first : last + 1]
        letters[letters > DIGIT] |= ALONE
    table.flags.writeable = False
    return table


@bare_inner
def units_of(
    text: Whole,
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: Codes,
    characters: bool,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    room: Bytes,
    hashes: Hashes,
) -> Whole:
    """Puts the hashes of a text's units into `hashes`, and says how many there are."""
    if not valid[text]:
        return np.int64(0)
    if starts.size == 0:
        filled = _fold(data, offsets[text], offsets[text + 1], folded, not characters, room)
        return _hash_characters(room, filled, hashes) if characters else _hash_words(room, filled, hashes)
    found = np.int64(0)
    for piece in range(starts[text], starts[text + 1]):
        filled = _fold(data, begins[piece], ends[piece], folded, False, room)
        kept = np.int64(0)
        for at in range(filled):
            room[kept] = room[at]
            kept += room[at] != _BLANK
        if kept:
            hashes[found] = _hash(room, np.int64(0), kept)
            found += 1
    return found


@bare_inner
def _fold(data: Bytes, at: Whole, end: Whole, folded: Codes, apart: bool, room: Bytes) -> Whole:
    """The bytes of the normal form, put into `room`; with `apart`, blanks around characters that are words."""
    filled = np.int64(0)
    while at < end:
        if at + LANES <= data.size:  # letters and separators of ASCII, all at once, up to what is neither
            special = np.uint64(fold_letters(data, at, room, filled)) | (_ONE << np.uint64(LANES))
            ready = min(lowest_bit(special), end - at)
            at += ready
            filled += ready
            if ready == LANES or at >= end:
                continue
        while True:
            code, width = decode(data, at, end)
            letter = folded[code]
            at += width
            if letter == SEPARATOR:
                room[filled] = _BLANK
                filled += 1
            elif letter == DIGIT:
                at = _skip_number(data, at, end, folded)
                room[filled] = np.uint8(0x30)
                filled += 1
            elif letter != SKIPPED:
                alone = apart and (letter & ALONE) != 0
                if alone:
                    room[filled] = _BLANK
                    filled += filled > 0 and room[filled - 1] != _BLANK
                filled = encode(letter & ~ALONE, room, filled)
                if alone:
                    room[filled] = _BLANK
                    filled += 1
            if at >= end or data[at] < 0x80:
                break
    return filled


@bare_inner
def _hash_words(room: Bytes, filled: Whole, hashes: Hashes) -> Whole:
    """The hash of each run of other bytes than blanks."""
    found = np.int64(0)
    for index in range(filled, filled + 2 * LANES):
        room[index] = _BLANK
    before = _ONE  # whether the byte before is a blank
    begin = np.int64(0)
    at = np.int64(0)
    while at < filled:
        blanks = np.uint64(equal_bytes(room, at, _BLANK))
        blanks |= np.uint64(equal_bytes(room, at + LANES, _BLANK)) << np.uint64(LANES)
        after = (blanks << _ONE) | before  # which bytes follow a blank
        starts, ends = after & ~blanks, blanks & ~after
        if before:
            begin = at + lowest_bit(starts)
            starts &= starts - _ONE
        before = blanks >> np.uint64(63)
        while ends:
            hashes[np.uintp(found)] = _hash(room, begin, at + lowest_bit(ends))
            found += 1
            begin = at + lowest_bit(starts)
            ends &= ends - _ONE
            starts &= starts - _ONE
        at += 2 * LANES
    if not before:  # the text ends with the last of these bytes
        hashes[np.uintp(found)] = _hash(room, begin, at)
        found += 1
    return found


@bare_inner
def _hash_characters(room: Bytes, filled: Whole, hashes: Hashes) -> Whole:
    """The hash of each character, and of one blank between words."""
    found = np.int64(0)
    blank = False
    at = np.int64(0)
    while at < filled:
        code, width = decode(room, at, filled)
        at += width
        if code == 0x20:
            blank = bool(found > 0)
            continue
        if blank:
            hashes[found] = _mix(np.uint64(0x20) * _FACTOR_1)
            found += 1
            blank = False
        hashes[found] = _mix(np.uint64(code) * _FACTOR_1)
        found += 1
    return found


@bare_inner
def _hash(room: Bytes, begin: Whole, end: Whole) -> np.uint64:
    """64 bits over some bytes of which none is 0, eight at a time; those that follow in `room` are read and left out."""
    length = end - begin
    value = (load_word(room, begin) & _first_bytes(length)) * _FACTOR_1
    if length > 8:
        rest = begin + 8
        while rest < end:
            value = (value ^ (value >> np.uint64(29))) * _FACTOR_2
            value += (load_word(room, rest) & _first_bytes(end - rest)) * _FACTOR_1
            rest += 8
    return _mix(value)


@bare_inner
def _first_bytes(count: Whole) -> np.uint64:
    return _ALL >> np.uint64(64 - 8 * min(count, 8))


@bare_inner
def _skip_number(data: Bytes, at: Whole, end: Whole, folded: Codes) -> Whole:
    while at < end:
        code, width = decode(data, at, end)
        if folded[code] != DIGIT:
            if code != 0x2E and code != 0x2C:
                break
            if at + width >= end:
                break
            following, _ = decode(data, at + width, end)
            if folded[following] != DIGIT:
                break
        at += width
    return at


@bare_inner
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
