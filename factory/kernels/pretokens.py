"""Where byte-level tokenizers cut a text before they look for tokens: two published patterns, and digits that stand alone.

`WORDS` is GPT-2's pattern (Radford and others, 2019), `LINES` that of cl100k and Llama 3, which keeps line ends together and
cuts numbers. Characters that are ALONE are cut out before the pattern sees what lies between them. What is a letter, a number
or white space is said by a table over all code points; the patterns say nothing else about characters, but for line ends, the
blank and the apostrophe. A position is the first byte of a character of valid UTF-8.
"""

from typing import Any

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lanes import LANES, letters_and_digits, lowest_bit
from factory.kernels.text import Bytes, Flags, Integers, TextView, Whole

LETTER, NUMBER, SPACE, LINE_END, ALONE = (np.uint8(1 << bit) for bit in range(5))
WORDS, LINES = 0, 1

_NAMED = LETTER | NUMBER | SPACE
_APOSTROPHE, _BLANK = np.uint8(0x27), np.uint8(0x20)
_LOWER_CASE = np.uint8(0x20)


def cut(view: TextView, classes: Bytes, pattern: int, numbers: int) -> tuple[Integers, Integers]:
    """Where the pieces of all texts end, and how many each text has."""
    ends = np.empty(int(view.offsets[-1] - view.offsets[0]), np.int64)
    counts = np.zeros(len(view.valid), np.int64)
    filled = _cut(view.offsets, view.data, classes, pattern, numbers, ends, counts)
    return ends[:filled], counts


def only(view: TextView, classes: Bytes, wanted: np.uint8) -> Flags:
    """Which texts have none but characters of these classes."""
    found = np.ones(len(view.valid), np.bool_)
    _only(view.offsets, view.data, classes, wanted, found)
    return found


@bare_kernel
def _only(offsets: Integers, data: Bytes, classes: Bytes, wanted: np.uint8, found: Flags) -> None:
    for text in range(offsets.size - 1):
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            kind, width = _kind(data, at, end, classes)
            if not kind & wanted:
                found[text] = False
                break
            at += width


@bare_kernel
def _cut(
    offsets: Integers, data: Bytes, classes: Bytes, pattern: int, numbers: int, ends: Integers, counts: Integers
) -> int:
    filled = 0
    for text in range(offsets.size - 1):
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            at = piece_end(data, at, end, classes, pattern, numbers)
            ends[filled] = at
            filled += 1
            counts[text] += 1
    return filled


@bare_inner
def piece_end(data: Bytes, at: Whole, end: Whole, classes: Bytes, pattern: int, numbers: int) -> Whole:
    """Where the piece that begins at `at` ends; `numbers` is how many digits a number has at most under LINES."""
    kind, width = _kind(data, at, end, classes)
    if kind & ALONE:
        return at + width
    if data[np.uintp(at)] == _APOSTROPHE:
        length = _contraction(data, at, end, pattern)
        if length:
            return at + length
    if pattern == WORDS:
        return _end_of_word(data, at, end, classes, kind, width)
    return _end_in_line(data, at, end, classes, kind, width, numbers)


@bare_inner
def _end_of_word(data: Bytes, at: Whole, end: Whole, classes: Bytes, kind: Any, width: Whole) -> Whole:
    """` ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`"""
    if data[np.uintp(at)] == _BLANK and at + 1 < end:
        after, after_width = _kind(data, at + 1, end, classes)
        if not after & (SPACE | ALONE):
            at += 1
            kind, width = after, after_width
    if kind & LETTER:
        return _letters_end(data, at + width, end, classes)
    if kind & SPACE:
        stop, last, _ = _space_end(data, at, end, classes)
        if stop < end and last > at and not _kind(data, stop, end, classes)[0] & ALONE:
            return last
        return stop
    return _run_end(data, at + width, end, classes, kind & NUMBER)


@bare_inner
def _end_in_line(data: Bytes, at: Whole, end: Whole, classes: Bytes, kind: Any, width: Whole, numbers: int) -> Whole:
    """`[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,n}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`"""
    if kind & LETTER:
        return _letters_end(data, at + width, end, classes)
    stop = at + width
    if kind & NUMBER:
        count = 1
        while count < numbers and stop < end:
            after, after_width = _kind(data, stop, end, classes)
            if not after & NUMBER:
                break
            stop += after_width
            count += 1
        return stop
    if not kind & LINE_END and stop < end:
        after, after_width = _kind(data, stop, end, classes)
        if after & LETTER:
            return _letters_end(data, stop + after_width, end, classes)
        if data[np.uintp(at)] == _BLANK and not after & _NAMED:
            stop += after_width
            kind = after
    if not kind & SPACE:
        stop = _run_end(data, stop, end, classes, np.uint8(0))
        while stop < end and classes[np.uintp(data[np.uintp(stop)])] & LINE_END:
            stop += 1
        return stop
    stop, last, line = _space_end(data, at, end, classes)
    if line > at:
        return line
    return last if stop < end and last > at else stop


@bare_inner
def _letters_end(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> Whole:
    while at + LANES <= data.size and at < end:
        run = lowest_bit(~(letters_and_digits(data, at) >> np.uint64(LANES)))
        if run < LANES:
            at += run
            break
        at += LANES
    if at >= end:
        return end
    while at < end:
        kind, width = _kind(data, at, end, classes)
        if kind & (LETTER | ALONE) != LETTER:
            break
        at += width
    return at


@bare_inner
def _run_end(data: Bytes, at: Whole, end: Whole, classes: Bytes, wanted: Any) -> Whole:
    """The end of a run of numbers, or of characters that are neither letter, number nor white space."""
    while at < end:
        kind, width = _kind(data, at, end, classes)
        if kind & (_NAMED | ALONE) != wanted:
            break
        at += width
    return at


@bare_inner
def _space_end(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, Whole, Whole]:
    """Where white space ends, where its last character begins, and where its last line end ends."""
    last = line = at
    while at < end:
        kind, width = _kind(data, at, end, classes)
        if kind & (SPACE | ALONE) != SPACE:
            break
        last = at
        at += width
        if kind & LINE_END:
            line = at
    return at, last, line


@bare_inner
def _contraction(data: Bytes, at: Whole, end: Whole, pattern: int) -> int:
    """Bytes of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`, of either case under LINES; 0 if none begins here."""
    if at + 1 >= end:
        return 0
    fold = np.uint8(0) if pattern == WORDS else _LOWER_CASE
    first = data[np.uintp(at + 1)] | fold
    if first == ord("s") or first == ord("t") or first == ord("m") or first == ord("d"):
        return 2
    if at + 2 >= end:
        return 0
    second = data[np.uintp(at + 2)]
    if pattern == LINES and data[np.uintp(at + 1)] == 0xC5 and second == 0xBF:  # the long s is an s in any case
        return 3
    second |= fold
    if (first == ord("r") or first == ord("v")) and second == ord("e"):
        return 3
    return 3 if first == ord("l") and second == ord("l") else 0


@bare_inner
def _kind(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Any, Whole]:
    """The class of a character and its bytes; a character that is cut off counts as one byte."""
    byte = data[np.uintp(at)]
    if byte < 0x80:
        return classes[np.uintp(byte)], np.int64(1)
    code = np.int64(byte)
    width = np.int64(1)
    if byte >= 0xF0:
        if at + 4 <= end:
            code = (
                (code & 7) << 18
                | (np.int64(data[np.uintp(at + 1)]) & 63) << 12
                | (np.int64(data[np.uintp(at + 2)]) & 63) << 6
                | (np.int64(data[np.uintp(at + 3)]) & 63)
            )
            width = np.int64(4)
    elif byte >= 0xE0:
        if at + 3 <= end:
            code = (
                (code & 15) << 12
                | (np.int64(data[np.uintp(at + 1)]) & 63) << 6
                | (np.int64(data[np.uintp(at + 2)]) & 63)
            )
            width = np.int64(3)
    elif at + 2 <= end:
        code = (code & 31) << 6 | (np.int64(data[np.uintp(at + 1)]) & 63)
        width = np.int64(2)
    return classes[np.uintp(min(code, np.int64(0x10FFFF)))], width
