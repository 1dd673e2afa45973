"""Lines and sentences of texts as they are compared with those of other texts: where each lies, and a 64-bit hash of it.

A line ends behind its line feed. White space around it does not count, lines of fewer characters than asked are passed
over, and so is what lies in a code block (between lines that begin with three backquotes or tildes) or in displayed
mathematics (between lines that begin with two dollar signs; one such line that ends with them is a block by itself).

A passage (a sentence, or a line as a sentence) takes in the blank ones behind it. Only its letters and digits are compared,
folded as `factory.kernels.folding` folds them (case, diacritics), and where words are parted; digits in a row are one.
"""

import re
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.folding import ALONE, DIGIT, SEPARATOR, SKIPPED, folded_characters
from factory.kernels.lanes import LANES, equal_bytes, load_word, lowest_bit
from factory.kernels.text import SPACE, Bytes, Flags, Hashes, Integers, TextView, Whole, character_classes
from factory.kernels.utf8 import decode, decode_last

Places = npt.NDArray[np.uint32]
Points = npt.NDArray[np.int32]

_FEED = np.uint8(0x0A)
_BASIS = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x9FB21C651E98DF25)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ZERO_WIDTH_SPACE = 0x200B
_GONE = np.int32(-1)
_ZERO: Whole = np.int64(0)
_PLAIN, _CODE, _MATHS = np.int64(0), np.int64(1), np.int64(2)

# What cc_net takes out of a line, beside control characters (arXiv:1911.00359; `text_normalizer.py`, UNICODE_PUNCT).
_CC_NET_PUNCTUATION = "，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►"


class Lines(NamedTuple):
    """Line l is bytes `begins[l]` to `ends[l]` of its text; those of text i are `starts[i]` up to `starts[i + 1]`.

    `same[l]`: the first line of the text that has its key, l itself where no earlier one has.
    """

    begins: Places
    ends: Places
    keys: Hashes
    same: Integers
    starts: Integers


class Passages(NamedTuple):
    """As `Lines`, with the words of each."""

    begins: Places
    ends: Places
    keys: Hashes
    words: Places
    starts: Integers


def hash_lines(view: TextView, *, least: int, cc_net: bool) -> Lines:
    """The lines of at least so many characters, but for those that cc_net's normal form leaves nothing of."""
    starts = np.zeros(len(view.offsets), np.int64)
    table = cc_net_characters()
    room = int(_count_feeds(view.offsets, view.data, view.valid, starts)) + len(view.valid)
    begins, ends = np.empty(room, np.uint32), np.empty(room, np.uint32)
    keys = np.empty(room, np.uint64)
    most = _hash_lines(*view, character_classes(), table, table[:128].copy(), least, cc_net, starts, begins, ends, keys)
    made = int(starts[-1])
    same = np.empty(made, np.int64)
    size = 1 << (2 * int(most) + 15).bit_length()
    _find_repeats(keys, starts, np.zeros(size, np.uint64), np.zeros(size, np.int64), same)
    return Lines(begins[:made], ends[:made], keys[:made], same, starts)


def hash_passages(view: TextView, ends: Integers, starts: Integers) -> Passages:
    """The passages that end at `ends` (bytes of `view.data`; those of text i are `starts[i]` up to `starts[i + 1]`)."""
    room = len(ends)
    begins, stops, words = np.empty(room, np.uint32), np.empty(room, np.uint32), np.empty(room, np.uint32)
    keys = np.empty(room, np.uint64)
    firsts = np.zeros(len(starts), np.int64)
    _hash_passages(*view, folded_characters(), ends, starts, begins, stops, keys, words, firsts)
    made = int(firsts[-1])
    return Passages(begins[:made], stops[:made], keys[:made], words[:made], firsts)


def cut_lines(view: TextView) -> tuple[Integers, Integers]:
    """Where the lines of each text end, and which are those of text i: `starts[i]` up to `starts[i + 1]`."""
    starts = np.zeros(len(view.offsets), np.int64)
    room = int(_count_feeds(view.offsets, view.data, view.valid, starts)) + len(view.valid)
    ends = np.empty(room, np.int64)
    _cut_lines(*view, starts, ends)
    return ends[: starts[-1]], starts


@cache
def cc_net_characters() -> Points:
    """What cc_net makes of every code point of a line it compares: another one, or -1 where it is taken out.

    Lower case, a decimal digit is `0`, its list of punctuation and control characters are gone; accents stay. Of İ the
    lower case is two characters, of which the first is taken; a final sigma is a sigma.
    """
    table = np.arange(0x110000, dtype=np.int32)
    digit = re.compile(r"\d")
    for code in range(0x1E944):  # nothing beyond has a lower case, and no digits but those below
        character = chr(code)
        lower = character.lower()[0]
        table[code] = ord("0") if digit.match(lower) else ord(lower)
    for code in range(0x1E944, 0x20000):
        if digit.match(chr(code)):
            table[code] = ord("0")
    table[0x03C2] = 0x03C3
    for code in (*map(ord, _CC_NET_PUNCTUATION), *range(32), *range(127, 160)):
        if chr(code) != "１":  # a digit first
            table[code] = _GONE
    table.flags.writeable = False
    return table


@bare_kernel
def _count_feeds(offsets: Integers, data: Bytes, valid: Flags, starts: Integers) -> Whole:
    feeds = _ZERO
    for text in range(offsets.size - 1):
        if valid[text]:
            for at in range(offsets[text], offsets[text + 1]):
                feeds += data[at] == _FEED
    return feeds


@bare_inner
def _line_end(data: Bytes, at: Whole, end: Whole) -> Whole:
    """The next line feed, or the end."""
    while at + LANES <= data.size and at < end:
        mask = np.uint64(equal_bytes(data, at, _FEED))
        if mask:
            return min(at + lowest_bit(mask), end)
        at += LANES
    while at < end and data[np.uintp(at)] != _FEED:
        at += 1
    return min(at, end)


@bare_kernel
def _cut_lines(offsets: Integers, data: Bytes, valid: Flags, starts: Integers, ends: Integers) -> None:
    made = _ZERO
    for text in range(offsets.size - 1):
        at = offsets[text]
        end = offsets[text + 1] if valid[text] else at
        while at < end:
            at = min(_line_end(data, at, end) + 1, end)
            ends[made] = at
            made += 1
        starts[text + 1] = made


@bare_kernel
def _hash_lines(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    table: Points,
    ascii_: Points,
    least: int,
    cc_net: bool,
    starts: Integers,
    begins: Places,
    ends: Places,
    keys: Hashes,
) -> Whole:
    made = _ZERO
    most = _ZERO
    for text in range(offsets.size - 1):
        origin = offsets[text]
        at = origin
        end = offsets[text + 1] if valid[text] else at
        first_made = made
        inside = _PLAIN
        mark: Whole = np.uint8(0)
        while at < end:
            stop = _line_end(data, at, end)
            first, last = _strip(data, at, stop, classes)
            begin = at
            at = min(stop + 1, end)
            opened, inside, mark = _block(data, first, last, inside, mark)
            if opened or last - first < least:  # a character has at least a byte
                continue
            if last - first < 4 * least and _length(data, first, last) < least:
                continue
            if cc_net:
                key, characters = _hash_cc_net(data, first, last, table, ascii_)
                if characters == 0:
                    continue
            else:
                key = _hash(data, first, last)
            begins[made], ends[made], keys[made] = begin - origin, at - origin, key
            made += 1
        starts[text + 1] = made
        most = max(most, made - first_made)
    return most


@bare_inner
def _block(data: Bytes, first: Whole, last: Whole, inside: Whole, mark: Whole) -> tuple[bool, Whole, Whole]:
    """Whether the line is of a block, and whether the next one is inside (and of which kind, begun by which sign)."""
    if inside == _CODE:
        closed = last - first >= 3 and data[first] == mark and data[first + 1] == mark and data[first + 2] == mark
        return True, _PLAIN if closed else _CODE, mark
    if inside == _MATHS:
        closed = last - first >= 2 and data[last - 1] == 0x24 and data[last - 2] == 0x24
        return True, _PLAIN if closed else _MATHS, mark
    if last - first >= 2:
        sign = data[first]
        if sign == 0x24 and data[first + 1] == 0x24:
            closed = last - first >= 4 and data[last - 1] == 0x24 and data[last - 2] == 0x24
            return True, _PLAIN if closed else _MATHS, mark
        if (sign == 0x60 or sign == 0x7E) and last - first >= 3 and data[first + 1] == sign and data[first + 2] == sign:
            return True, _CODE, sign
    return False, _PLAIN, mark


@bare_inner
def _strip(data: Bytes, first: Whole, last: Whole, classes: Bytes) -> tuple[Whole, Whole]:
    """Without white space (`str.strip`) at both ends."""
    while first < last:
        code, width = decode(data, first, last)
        if not classes[np.uintp(code)] & SPACE or code == _ZERO_WIDTH_SPACE:
            break
        first += width
    while first < last:
        code, start = decode_last(data, first, last)
        if not classes[np.uintp(code)] & SPACE or code == _ZERO_WIDTH_SPACE:
            break
        last = start
    return first, last


@bare_inner
def _length(data: Bytes, first: Whole, last: Whole) -> Whole:
    characters = _ZERO
    for at in range(first, last):
        characters += data[at] & 0xC0 != 0x80
    return characters


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint64:
    """Eight bytes at a time."""
    value = _BASIS * np.uint64(stop - start)
    while stop - start >= 8:
        value = (value ^ load_word(data, start)) * _PRIME
        value ^= value >> np.uint64(32)
        start += 8
    word = np.uint64(0)
    while start < stop:
        word = (word << np.uint64(8)) | np.uint64(data[np.uintp(start)])
        start += 1
    return _finished(value ^ word)


@bare_inner
def _hash_cc_net(data: Bytes, start: Whole, stop: Whole, table: Points, ascii_: Points) -> tuple[np.uint64, Whole]:
    """The hash of what cc_net makes of a line, and its characters; three code points at a time."""
    value = _BASIS
    word = np.uint64(0)
    characters = _ZERO
    pending = _ZERO
    while start < stop:
        byte = data[np.uintp(start)]
        if byte < 0x80:
            point = ascii_[np.uintp(byte)]
            start += 1
        else:
            code, width = decode(data, start, stop)
            point = table[np.uintp(code)]
            start += width
        if point < 0:
            continue
        word = (word << np.uint64(21)) | np.uint64(point)
        characters += 1
        pending += 1
        if pending == 3:
            value = (value ^ word) * _PRIME
            value ^= value >> np.uint64(32)
            word = np.uint64(0)
            pending = _ZERO
    return _finished((value ^ word) + np.uint64(characters)), characters


@bare_inner
def _finished(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


@bare_kernel
def _find_repeats(keys: Hashes, starts: Integers, table: Hashes, lines: Integers, same: Integers) -> None:
    # A slot holds a line, counted from 1; one of an earlier text counts as empty.
    for text in range(starts.size - 1):
        size = np.int64(16)
        while size < 2 * (starts[text + 1] - starts[text]):
            size *= 2
        for line in range(starts[text], starts[text + 1]):
            slot = np.int64(keys[line] & np.uint64(size - 1))
            while lines[np.uintp(slot)] > starts[text] and table[np.uintp(slot)] != keys[line]:
                slot = (slot + 1) & (size - 1)
            if lines[np.uintp(slot)] <= starts[text]:
                lines[np.uintp(slot)], table[np.uintp(slot)] = line + 1, keys[line]
            same[line] = lines[np.uintp(slot)] - 1


@bare_kernel
def _hash_passages(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: npt.NDArray[np.uint32],
    ends: Integers,
    starts: Integers,
    begins: Places,
    stops: Places,
    keys: Hashes,
    words: Places,
    firsts: Integers,
) -> None:
    made = _ZERO
    for text in range(offsets.size - 1):
        origin = offsets[text]
        at = origin
        first = made
        begin = at
        for passage in range(starts[text], starts[text + 1] if valid[text] else starts[text]):
            stop = ends[passage]
            key, count = _hash_words(data, at, stop, folded)
            at = stop
            if count == 0:
                if made > first:  # blank: part of the one before, or else of the first one
                    stops[made - 1] = stop - origin
                    begin = stop
                continue
            begins[made], stops[made], keys[made], words[made] = begin - origin, stop - origin, key, count
            made += 1
            begin = stop
        firsts[text + 1] = made


@bare_inner
def _hash_words(data: Bytes, at: Whole, stop: Whole, folded: npt.NDArray[np.uint32]) -> tuple[np.uint64, Whole]:
    """The hash of the letters and numbers between `at` and `stop`, and how many words they are."""
    value = _BASIS
    words = _ZERO
    parted = True
    word = np.uint64(0)
    digits = False
    while at < stop:
        byte = data[np.uintp(at)]
        if byte < 0x80:
            kind = folded[np.uintp(byte)]
            at += 1
        else:
            code, width = decode(data, at, stop)
            kind = folded[np.uintp(code)]
            at += width
        if kind == SKIPPED:
            continue
        if kind == SEPARATOR:
            parted = True
            continue
        if parted or kind & ALONE:
            value = (value ^ word) * _PRIME
            value ^= value >> np.uint64(32)
            word = np.uint64(0)
            words += 1
            parted = digits = False
        elif word >> np.uint64(40):
            value = (value ^ word) * _PRIME
            value ^= value >> np.uint64(29)
            word = np.uint64(0)
        again = digits
        digits = kind == DIGIT
        if again and digits:
            continue
        word = (word << np.uint64(21)) | np.uint64(kind & np.uint32(0x1FFFFF))
        parted = parted or (kind & ALONE) != 0
    return _finished((value ^ word) * _PRIME + np.uint64(words)), words
