"""What FineWeb counts of lines (arXiv:2406.17557, section 3.6), as datatrove's FineWebQualityFilter reads it.

A line ends at a line feed; those of white space alone are no lines. White space around a line belongs to it: a line that
ends in a blank does not end in a full stop. Lines are the same if 64-bit hashes of their bytes are: among a million
different lines of one text, two are taken for the same once in forty million texts.
"""

import numpy as np
import numpy.typing as npt

from factory.kernels.characters import SENTENCE_END, SPACE, line_classes
from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Hashes, Integers, TextView, Whole
from factory.kernels.utf8 import decode, decode_last

COUNTED = ("lines", "punctuated", "short", "repeated_characters", "characters", "line_feeds")
_FEEDS = np.uint64(0x0A0A0A0A0A0A0A0A)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_BASIS = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0xD6E8FEB86659FD93)
_0, _1, _7, _8, _16, _24, _32, _40, _48, _56 = (np.uint64(bits) for bits in (0, 1, 7, 8, 16, 24, 32, 40, 48, 56))


def count_fineweb_lines(view: TextView, short: int) -> Integers:
    """A row per text, in the order of COUNTED; a line of `short` characters is short."""
    counts = np.zeros((len(view.valid), len(COUNTED)), np.int64)
    feeds = np.zeros(len(view.valid), np.int64)
    _count_feeds(*view, feeds)
    slots = 1 << max(4, int(2 * feeds.max(initial=0) + 1).bit_length())
    keys, stamps = np.empty(slots, np.uint64), np.zeros(slots, np.int32)
    _count_lines(*view, line_classes(), short, feeds, keys, stamps, counts)
    return counts


@bare_kernel
def _count_feeds(offsets: Integers, data: Bytes, valid: Flags, feeds: Integers) -> None:
    for text in range(offsets.size - 1):
        found = 0
        for at in range(np.uintp(offsets[text]), np.uintp(offsets[text + 1])):
            found += data[np.uintp(at)] == 0x0A
        feeds[text] = found


@bare_kernel
def _count_lines(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    most: int,
    feeds: Integers,
    keys: Hashes,
    stamps: npt.NDArray[np.int32],
    counts: Integers,
) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        shift = np.int64(60)  # at least twice as many slots as lines
        while (np.int64(1) << (np.int64(64) - shift)) < 2 * feeds[text] + 2:
            shift -= 1
        mask = (np.int64(1) << (np.int64(64) - shift)) - 1
        lines = punctuated = short = repeated = characters = np.int64(0)
        while at < end:
            start = at
            at, length, value = _hash_line(data, at, end)
            characters += length
            if not _is_blank(data, start, at, classes):
                lines += 1
                short += length <= most
                punctuated += _ends_sentence(data, start, at, classes)
                slot = np.int64(value >> np.uint64(shift))
                while stamps[slot] == text + 1 and keys[slot] != value:
                    slot = (slot + 1) & mask
                if stamps[slot] == text + 1:
                    repeated += length
                stamps[slot], keys[slot] = text + 1, value
            at += 1
        counts[text, 0], counts[text, 1], counts[text, 2] = lines, punctuated, short
        counts[text, 3], counts[text, 4], counts[text, 5] = repeated, characters, feeds[text]


@bare_inner
def _hash_line(data: Bytes, at: Whole, end: Whole) -> tuple[Whole, Whole, np.uint64]:
    """Where the line from `at` ends, its characters, and its hash: eight bytes a step."""
    start = at
    value = _BASIS
    continued = _0  # bytes that begin no character
    while at + 8 <= end:
        word = _eight(data, at)
        other = word ^ _FEEDS
        found = (other - _ONES) & ~other & _HIGHS
        if found:
            inside = ((found & (~found + _1)) - _1) >> _7  # the bytes before the line feed
            word &= inside
            value = _mix(value, word)
            continued += _continued(word)
            at += np.int64(((inside & _ONES) * _ONES) >> _56)
            return at, at - start - np.int64(continued), _finish(value, at - start)
        value = _mix(value, word)
        continued += _continued(word)
        at += 8
    word, bits = _0, _0
    while at < end and data[np.uintp(at)] != 0x0A:
        word |= np.uint64(data[np.uintp(at)]) << bits
        bits += _8
        at += 1
    value = _mix(value, word)
    continued += _continued(word)
    return at, at - start - np.int64(continued), _finish(value, at - start)


@bare_inner
def _eight(data: Bytes, at: Whole) -> np.uint64:
    """Eight bytes in one number; the compiler makes one load of it."""
    first = np.uintp(at)
    word = np.uint64(data[first]) | (np.uint64(data[first + _1]) << _8)
    word |= (np.uint64(data[first + np.uintp(2)]) << _16) | (np.uint64(data[first + np.uintp(3)]) << _24)
    word |= (np.uint64(data[first + np.uintp(4)]) << _32) | (np.uint64(data[first + np.uintp(5)]) << _40)
    return word | (np.uint64(data[first + np.uintp(6)]) << _48) | (np.uint64(data[first + np.uintp(7)]) << _56)


@bare_inner
def _mix(value: np.uint64, word: np.uint64) -> np.uint64:
    value = (value ^ word) * _PRIME
    return value ^ (value >> _32)


@bare_inner
def _finish(value: np.uint64, size: Whole) -> np.uint64:
    return _mix(_mix(value, np.uint64(size)), _BASIS) * _PRIME


@bare_inner
def _continued(word: np.uint64) -> np.uint64:
    """How many of eight bytes are 10xxxxxx."""
    return (((word & ~(word << _1) & _HIGHS) >> _7) * _ONES) >> _56


@bare_inner
def _is_blank(data: Bytes, at: Whole, stop: Whole, classes: Bytes) -> bool:
    while at < stop:
        code, width = decode(data, at, stop)
        if not classes[np.uintp(code)] & SPACE:
            return False
        at += width
    return True


@bare_inner
def _ends_sentence(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> bool:
    code, _ = decode_last(data, start, stop)
    return bool((classes[np.uintp(code)] & SENTENCE_END) != 0)
