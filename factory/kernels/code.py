"""What a file of program text looks like: lines, characters, comments, runs without white space, encoded blobs.

One pass counts characters and lines, one comments, one blobs, one what a browser would show of HTML. All are automata that
never look back further than a few characters, so that time is linear in the text whatever it holds.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, TextView, character_classes
from factory.kernels.utf8 import decode_multibyte

Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Truth = Any  # bool in a kernel
Markers = npt.NDArray[np.int64]

# How comments and strings are written; a language has several.
SLASHES, HASH, DASHES, PERCENT, MARKUP, SEMICOLON, STARS, DOCSTRING, BACKTICK, SINGLE, DOUBLE, AT_START = (
    1 << bit for bit in range(12)
)
COUNTS = (
    "characters",
    "lines",
    "longest_line",
    "line_characters",
    "alphanumeric",
    "alphabetic",
    "digits",
    "tokens",
    "longest_run",
    "comment_bytes",
    "blob_bytes",
    "longest_blob",
    "visible",
    "bytes",
)

_LETTER, _SPACE, _WORD, _DIGIT = 1, 2, 4, 64  # of character_classes
_SHORTEST_BASE64 = 64
_FEWEST_UNITS = 8


def count_code(view: TextView, markers: Markers, html: Flags) -> Integers:
    """A row per text, a column per name of COUNTS; `markers` are the flags of its language, `html` whether to read tags."""
    counts = np.zeros((len(view.valid), len(COUNTS)), np.int64)
    _count(*view, character_classes(), markers, html, counts)
    return counts


@bare_kernel
def _count(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    markers: Markers,
    html: Flags,
    counts: Integers,
) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        start, end = offsets[text], offsets[text + 1]
        _count_characters(data, start, end, classes, counts, text)
        counts[text, 9] = _count_comments(data, start, end, markers[text])
        counts[text, 10], counts[text, 11] = _count_blobs(data, start, end)
        if html[text]:
            counts[text, 12] = _count_visible(data, start, end)
        counts[text, 13] = end - start


@bare_inner
def _count_characters(data: Bytes, start: Whole, end: Whole, classes: Bytes, counts: Integers, text: Whole) -> None:
    characters = lines = longest_line = in_lines = alphanumeric = alphabetic = digits = tokens = np.int64(0)
    longest_run = run = line = np.int64(0)
    token = np.int64(0)  # 0 between tokens, 1 letters, 2 digits, else the character of a mark
    at = start
    while at < end:
        code = np.int64(data[np.uintp(at)])
        width = np.int64(1)
        if code >= 0x80:
            code, width = decode_multibyte(data, at, end)
        kind = classes[np.uintp(code)]
        at += width
        characters += 1
        if code == 0x0A:
            lines += 1
            in_lines += line
            longest_line = max(longest_line, line)
            line = np.int64(0)
        elif code != 0x0D or at >= end or data[np.uintp(at)] != 0x0A:
            line += 1
        if kind & _SPACE:
            longest_run = max(longest_run, run)
            run = np.int64(0)
            token = np.int64(0)
            continue
        run += 1
        if kind & _WORD:
            alphanumeric += 1
            alphabetic += (kind & _LETTER) != 0
            digits += (kind & _DIGIT) != 0
            same = np.int64(1) if kind & _LETTER else np.int64(2)
        else:
            same = code + 3
        tokens += same != token
        token = same
    if line:
        lines += 1
        in_lines += line
        longest_line = max(longest_line, line)
    counts[text, 0], counts[text, 1], counts[text, 2], counts[text, 3] = characters, lines, longest_line, in_lines
    counts[text, 4], counts[text, 5], counts[text, 6], counts[text, 7] = alphanumeric, alphabetic, digits, tokens
    counts[text, 8] = max(longest_run, run)


@bare_inner
def _count_comments(data: Bytes, start: Whole, end: Whole, marks: Whole) -> Whole:
    """Bytes of comments with their markers, without the line feed that ends one."""
    commented = np.int64(0)
    at = start
    fresh = True  # nothing but white space on the line so far
    while at < end:
        byte = data[np.uintp(at)]
        if byte == 0x0A:
            fresh = True
            at += 1
            continue
        if byte <= 0x20:
            at += 1
            continue
        next_ = data[np.uintp(at + 1)] if at + 1 < end else np.uint8(0)
        third = data[np.uintp(at + 2)] if at + 2 < end else np.uint8(0)
        here = fresh or not marks & AT_START
        first = fresh
        fresh = False
        begin = at
        if here and marks & SLASHES and byte == 0x2F and next_ == 0x2A:
            at = _after_pair(data, at + 2, end, np.uint8(0x2A), np.uint8(0x2F))
            commented += at - begin
        elif here and marks & STARS and byte == 0x28 and next_ == 0x2A:
            at = _after_pair(data, at + 2, end, np.uint8(0x2A), np.uint8(0x29))
            commented += at - begin
        elif here and marks & MARKUP and byte == 0x3C and next_ == 0x21 and third == 0x2D:
            at = _after_arrow(data, at + 3, end)
            commented += at - begin
        elif here and _begins_line_comment(byte, next_, third, marks):
            at = _line_end(data, at, end)
            commented += at - begin
        elif (byte == 0x22 or byte == 0x27) and next_ == byte and third == byte and marks & DOCSTRING:
            at = _after_triple(data, at + 3, end, byte)
            if first:
                commented += at - begin
        elif (
            (byte == 0x22 and marks & DOUBLE)
            or (byte == 0x27 and marks & SINGLE)
            or (byte == 0x60 and marks & BACKTICK)
        ):
            at = _after_string(data, at + 1, end, byte)
        else:
            at += 1
    return commented


@bare_inner
def _begins_line_comment(byte: np.uint8, next_: np.uint8, third: np.uint8, marks: Whole) -> Truth:
    guess = marks & AT_START  # a language nobody named: not `#include`, `--flag`, `%d`
    if byte == 0x23:
        return marks & HASH != 0 and (not guess or next_ <= 0x23)
    if byte == 0x2F:
        return marks & SLASHES != 0 and next_ == 0x2F
    if byte == 0x2D:
        return marks & DASHES != 0 and next_ == 0x2D and (not guess or third <= 0x20)
    if byte == 0x25:
        return marks & PERCENT != 0 and (not guess or next_ <= 0x25)
    return byte == 0x3B and marks & SEMICOLON != 0


@bare_inner
def _line_end(data: Bytes, at: Whole, end: Whole) -> Whole:
    while at < end and data[np.uintp(at)] != 0x0A:
        at += 1
    return at


@bare_inner
def _after_pair(data: Bytes, at: Whole, end: Whole, one: np.uint8, two: np.uint8) -> Whole:
    while at + 1 < end:
        if data[np.uintp(at)] == one and data[np.uintp(at + 1)] == two:
            return at + 2
        at += 1
    return end


@bare_inner
def _after_arrow(data: Bytes, at: Whole, end: Whole) -> Whole:
    while at + 2 < end:
        if data[np.uintp(at)] == 0x2D and data[np.uintp(at + 1)] == 0x2D and data[np.uintp(at + 2)] == 0x3E:
            return at + 3
        at += 1
    return end


@bare_inner
def _after_triple(data: Bytes, at: Whole, end: Whole, quote: np.uint8) -> Whole:
    while at + 2 < end:
        byte = data[np.uintp(at)]
        if byte == 0x5C:
            at += 2
            continue
        if byte == quote and data[np.uintp(at + 1)] == quote and data[np.uintp(at + 2)] == quote:
            return at + 3
        at += 1
    return end


@bare_inner
def _after_string(data: Bytes, at: Whole, end: Whole, quote: np.uint8) -> Whole:
    """Behind the closing quote; a string in single or double quotes ends with its line in any case."""
    while at < end:
        byte = data[np.uintp(at)]
        if byte == 0x0A and quote != 0x60:
            return at
        at += 2 if byte == 0x5C else 1
        if byte == quote:
            return min(at, end)
    return end


@bare_inner
def _count_blobs(data: Bytes, start: Whole, end: Whole) -> tuple[Whole, Whole]:
    """Bytes of base64, of hexadecimal pairs and of \\u escapes in long rows, and those of the longest row."""
    total, longest = np.int64(0), np.int64(0)
    at = start
    while at < end:
        byte = data[np.uintp(at)]
        if byte == 0x5C or _is_hex(byte):
            stop = _after_units(data, at, end)
            if stop > at:
                total += stop - at
                longest = max(longest, stop - at)
                at = stop
                continue
        stop = at
        while stop < end and _is_base64(data[np.uintp(stop)]):
            stop += 1
        if stop - at >= _SHORTEST_BASE64:
            total += stop - at
            longest = max(longest, stop - at)
        at = stop if stop > at else at + 1
    return total, longest


@bare_inner
def _is_base64(byte: np.uint8) -> Truth:
    return (
        (0x61 <= byte <= 0x7A)
        or (0x41 <= byte <= 0x5A)
        or (0x2F <= byte <= 0x39)
        or byte == 0x2B
        or byte == 0x3D
        or byte == 0x0A
    )


@bare_inner
def _is_hex(byte: np.uint8) -> Truth:
    return (0x30 <= byte <= 0x39) or (0x61 <= byte <= 0x66) or (0x41 <= byte <= 0x46)


@bare_inner
def _after_units(data: Bytes, at: Whole, end: Whole) -> Whole:
    """Behind a row of at least eight `ab`, `0xab` or `\\xab`, separated, or `\\uabcd`; `at` where there is none."""
    begin = at
    units = np.int64(0)
    stop = at
    while at + 1 < end:
        digits = np.int64(2)
        escaped = data[np.uintp(at)] == 0x5C
        if escaped and data[np.uintp(at + 1)] == 0x75:
            digits = np.int64(4)
            at += 2
        elif (escaped or data[np.uintp(at)] == 0x30) and (data[np.uintp(at + 1)] | 0x20) == 0x78:
            at += 2
        elif escaped:
            break
        if at + digits > end:
            break
        whole = True
        for place in range(at, at + digits):
            whole = whole and _is_hex(data[np.uintp(place)])
        if not whole:
            break
        at += digits
        stop_here = at
        while at < end and (data[np.uintp(at)] <= 0x20 or data[np.uintp(at)] == 0x2C):
            at += 1
        if at == stop_here and at < end and not escaped:
            byte = data[np.uintp(at)]
            if byte != 0x5C:
                if 0x61 <= (byte | 0x20) <= 0x7A or 0x30 <= byte <= 0x39 or byte == 0x5F:
                    break  # `12` of `123` is no pair
                units += 1
                stop = stop_here
                break
        units += 1
        stop = stop_here
    return stop if units >= _FEWEST_UNITS else begin


@bare_inner
def _count_visible(data: Bytes, start: Whole, end: Whole) -> Whole:
    """Bytes outside tags, comments, scripts and styles, each run of white space as one."""
    visible = np.int64(0)
    spaced = True
    at = start
    while at < end:
        byte = data[np.uintp(at)]
        if byte == 0x3C and at + 1 < end:
            next_ = data[np.uintp(at + 1)]
            if next_ == 0x21 and at + 3 < end and data[np.uintp(at + 2)] == 0x2D and data[np.uintp(at + 3)] == 0x2D:
                at = _after_arrow(data, at + 4, end)
                continue
            if next_ == 0x2F or next_ == 0x21 or next_ == 0x3F or 0x61 <= (next_ | 0x20) <= 0x7A:
                hidden = _hidden_tag(data, at + 1, end)
                while at < end and data[np.uintp(at)] != 0x3E:
                    at += 1
                at += 1
                if hidden:
                    while at < end and not (
                        data[np.uintp(at)] == 0x3C
                        and at + 2 < end
                        and data[np.uintp(at + 1)] == 0x2F
                        and _hidden_tag(data, at + 2, end) == hidden
                    ):
                        at += 1
                continue
        if byte <= 0x20:
            visible += not spaced
            spaced = True
        else:
            visible += 1
            spaced = False
        at += 1
    return visible


@bare_inner
def _hidden_tag(data: Bytes, at: Whole, end: Whole) -> Whole:
    """1 for `script`, 2 for `style`, 0 for any other name."""
    name = np.uint64(0)
    for place in range(at, min(at + 6, end)):
        name = (name << np.uint64(8)) | np.uint64(data[np.uintp(place)] | 0x20)
        if place - at == 4 and name == np.uint64(0x7374796C65):
            return np.int64(2)
    return np.int64(1) if name == np.uint64(0x736372697074) else np.int64(0)
