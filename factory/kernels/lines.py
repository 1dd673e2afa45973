"""The lines and paragraphs of texts: how they begin and end, how long they are, and their hashes.

A *line* ends at a line feed or at the end of the text, as in `str.split("\\n")` without an empty last one. A *Python line*
is one of `str.splitlines`, which ends at other separators too. *Segments* are what lies between runs of at least so many
line feeds: lines (1) or paragraphs (2). No text is copied.
"""

from typing import Any, NamedTuple

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lanes import LANES, bits_set, equal_bytes, first_bytes, lesser_bytes, load_word, lowest_bit
from factory.kernels.text import (
    SPACE,
    TERMINAL,
    ZERO_WIDTH_SPACE,
    Bytes,
    Flags,
    Hashes,
    Integers,
    Lengths,
    TextView,
    Whole,
    character_classes,
)
from factory.kernels.utf8 import decode, decode_last

_SHORT_LINE = 30  # characters, arXiv:2406.17557 section 3.6
_FEED, _DOT = np.uint8(0x0A), np.uint8(0x2E)
_NEXT_LINE_LEAD, _SEPARATOR_LEAD = np.uint8(0xC2), np.uint8(0xE2)  # of U+0085, and of U+2028 and U+2029
_BASIS = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x9FB21C651E98DF25)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class LineCounts(NamedTuple):
    """A number per text of each; white space around a line counts for nothing."""

    lines: Integers
    blank: Integers
    bullets: Integers  # lines that begin with • or -
    wide_bullets: Integers  # … or with ● or *
    ellipses: Integers  # lines that end in ... or …
    wide_ellipses: Integers  # … or in . . .
    terminal: Integers  # lines that end a sentence
    short: Integers  # lines of at most 30 characters, not blank
    feeds: Integers


class PythonLineCounts(NamedTuple):
    """A number per text of each."""

    lines: Integers
    bullets: Integers  # lines that begin with • or -
    ellipses: Integers  # lines that end in ... or …


class Segments(NamedTuple):
    """64-bit hash and length in characters of each segment; those of text i are `starts[i]` up to `starts[i + 1]`."""

    hashes: Hashes
    lengths: Lengths
    starts: Integers


def count_lines(view: TextView, *, zero_width: bool) -> LineCounts:
    """What a text's lines look like; whether a zero width space around them is white space is for the caller to say."""
    counts = np.zeros((len(LineCounts._fields), len(view.valid)), np.int64)
    _count_lines(*view, character_classes(), zero_width, counts)
    return LineCounts(*counts)


def count_python_lines(view: TextView) -> PythonLineCounts:
    """What a text's Python lines look like; white space is that of `str.strip`."""
    counts = np.zeros((len(PythonLineCounts._fields), len(view.valid)), np.int64)
    _count_python_lines(*view, character_classes(), counts)
    return PythonLineCounts(*counts)


def hash_segments(view: TextView, line_feeds: int, *, stripped: bool) -> Segments:
    """Lines (1) or paragraphs (2).

    Stripped: without the white space around them, and without those of white space alone. Otherwise just as
    `re.split("\\n{n,}", text)` gives them, an empty one where a text begins or ends with line feeds; but paragraphs of
    the stripped text, and no segments of an empty one.
    """
    starts = np.zeros(len(view.offsets), np.int64)
    room = int(_count_feeds(view.offsets, view.data)) // line_feeds + len(view.valid)
    hashes, lengths = np.empty(room, np.uint64), np.empty(room, np.int32)
    _hash_segments(*view, character_classes(), line_feeds, stripped, starts, hashes, lengths)
    return Segments(hashes[: starts[-1]], lengths[: starts[-1]], starts)


@bare_kernel
def _count_lines(
    offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, zero_width: bool, counts: Integers
) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        start, end = offsets[text], offsets[text + 1]
        lines = blank = bullets = wide_bullets = ellipses = wide_ellipses = terminal = short = feeds = 0
        block = start
        mask = np.uint64(0)
        while start < end:
            at, block, mask = _next_feed(data, start, end, block, mask)
            feeds += at < end
            lines += 1
            first, last = _strip(data, start, at, classes, zero_width)
            if first == last:
                blank += 1
            else:
                bullet = _bullet(data, first, last)
                bullets += bullet == 1
                wide_bullets += bullet > 0
                ellipsis = _ellipsis(data, first, last)
                ellipses += ellipsis == 1
                wide_ellipses += ellipsis > 0
                code = np.int64(data[last - 1])
                if code >= 0x80:
                    code, _ = decode_last(data, first, last)
                terminal += (classes[np.uintp(code)] & TERMINAL) != 0
                if last - first <= _SHORT_LINE:
                    short += 1
                elif last - first <= 4 * _SHORT_LINE:
                    short += _length(data, first, last) <= _SHORT_LINE
            start = at + 1
        counts[0, text], counts[1, text], counts[2, text], counts[3, text] = lines, blank, bullets, wide_bullets
        counts[4, text], counts[5, text], counts[6, text] = ellipses, wide_ellipses, terminal
        counts[7, text], counts[8, text] = short, feeds


@bare_kernel
def _count_python_lines(offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, counts: Integers) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        start, end = offsets[text], offsets[text + 1]
        lines = bullets = ellipses = 0
        block = start
        mask = np.uint64(0)
        while start < end:
            width = 0
            at = start
            while width == 0:
                at, block, mask = _next_separator(data, at, end, block, mask)
                width = 1 if at >= end else _separator(data, at, end)
                at += width == 0
            lines += 1
            first, last = _strip(data, start, at, classes, False)
            if first < last:
                bullets += _bullet(data, first, last) == 1
                ellipses += _ellipsis(data, first, last) == 1
            start = at + width
        counts[0, text], counts[1, text], counts[2, text] = lines, bullets, ellipses


@bare_kernel
def _count_feeds(offsets: Integers, data: Bytes) -> Whole:
    feeds = 0
    at, end = offsets[0], offsets[offsets.size - 1]
    while at < end:
        feeds += bits_set(_feeds(data, at, end))
        at += LANES
    return feeds


@bare_kernel
def _hash_segments(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    line_feeds: int,
    stripped: bool,
    starts: Integers,
    hashes: Hashes,
    lengths: Lengths,
) -> None:
    filled = 0
    for text in range(offsets.size - 1):
        start, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        if line_feeds > 1 and not stripped and start < end:
            begin = start
            start, end = _strip(data, start, end, classes, False)
            if start == end:  # a text of white space is one empty paragraph
                start = end = begin
                hashes[filled], lengths[filled] = _BASIS, 0
                filled += 1
        block = at = start
        mask = np.uint64(0)
        done = start == end
        while not done:
            stop, block, mask = _next_feed(data, at, end, block, mask)
            run = stop
            while run < end and data[np.uintp(run)] == _FEED:
                run += 1
            at = run
            if run - stop < line_feeds and run < end:
                continue
            if run - stop < line_feeds:
                stop = end
            done = stop == end
            first, last = _strip(data, start, stop, classes, False) if stripped else (start, stop)
            if first < last or not stripped:
                hashes[filled] = _hash(data, first, last)
                lengths[filled] = _length(data, first, last)
                filled += 1
            start = run
        starts[text + 1] = filled


@bare_inner
def _next_feed(data: Bytes, at: Whole, end: Whole, block: Whole, mask: Any) -> tuple[Whole, Whole, Any]:
    """The next line feed, or `end`. `mask` holds those not yet seen of the LANES bytes before `block`."""
    while True:
        while mask:
            place = block - LANES + lowest_bit(mask)
            mask &= mask - np.uint64(1)
            if place >= at:
                return place, block, mask
        if block >= end:
            return end, block, mask
        mask = _feeds(data, block, end)
        block += LANES


@bare_inner
def _next_separator(data: Bytes, at: Whole, end: Whole, block: Whole, mask: Any) -> tuple[Whole, Whole, Any]:
    """As `_next_feed`, of bytes that may begin what separates Python lines."""
    while True:
        while mask:
            place = block - LANES + lowest_bit(mask)
            mask &= mask - np.uint64(1)
            if place >= at:
                return place, block, mask
        if block >= end:
            return end, block, mask
        mask = _separators(data, block, end)
        block += LANES


@bare_inner
def _feeds(data: Bytes, at: Whole, end: Whole) -> Any:
    """Which of the bytes from `at` on, up to `end` and LANES of them, are line feeds."""
    mask = np.uint64(0)
    if at + LANES <= data.size:
        mask = np.uint64(equal_bytes(data, at, _FEED))
        if at + LANES > end:
            mask &= (np.uint64(1) << np.uint64(end - at)) - np.uint64(1)
        return mask
    for place in range(at, min(end, at + LANES)):
        mask |= np.uint64(data[place] == _FEED) << np.uint64(place - at)
    return mask


@bare_inner
def _separators(data: Bytes, at: Whole, end: Whole) -> Any:
    mask = np.uint64(0)
    if at + LANES <= data.size:
        mask = np.uint64(lesser_bytes(data, at, np.uint8(0x20)))
        mask |= np.uint64(equal_bytes(data, at, _NEXT_LINE_LEAD)) | np.uint64(equal_bytes(data, at, _SEPARATOR_LEAD))
        if at + LANES > end:
            mask &= (np.uint64(1) << np.uint64(end - at)) - np.uint64(1)
        return mask
    for place in range(at, min(end, at + LANES)):
        byte = data[place]
        found = byte < 0x20 or byte in (_NEXT_LINE_LEAD, _SEPARATOR_LEAD)
        mask |= np.uint64(found) << np.uint64(place - at)
    return mask


@bare_inner
def _separator(data: Bytes, at: Whole, end: Whole) -> Whole:
    """How many bytes of a separator of Python lines lie here."""
    byte = data[at]
    if byte == 0x0D:
        return 2 if at + 1 < end and data[at + 1] == _FEED else 1
    if 0x0A <= byte <= 0x0C or 0x1C <= byte <= 0x1E:
        return 1
    if byte == _NEXT_LINE_LEAD:
        return 2 if at + 1 < end and data[at + 1] == 0x85 else 0
    if byte == _SEPARATOR_LEAD and at + 2 < end and data[at + 1] == 0x80:
        return 3 if data[at + 2] == 0xA8 or data[at + 2] == 0xA9 else 0
    return 0


@bare_inner
def _bullet(data: Bytes, first: Whole, last: Whole) -> Whole:
    """1 for • and -, 2 for ● and *."""
    byte = data[first]
    if byte == 0x2D:
        return 1
    if byte == 0x2A:
        return 2
    if byte == 0xE2 and first + 2 < last:
        if data[first + 1] == 0x80 and data[first + 2] == 0xA2:
            return 1
        if data[first + 1] == 0x97 and data[first + 2] == 0x8F:
            return 2
    return 0


@bare_inner
def _ellipsis(data: Bytes, first: Whole, last: Whole) -> Whole:
    """1 for ... and …, 2 for . . . at the end."""
    size = last - first
    if size < 3:
        return 0
    byte, before, earlier = data[last - 1], data[last - 2], data[last - 3]
    if byte == 0xA6 and before == 0x80 and earlier == 0xE2:
        return 1
    if byte != _DOT:
        return 0
    if before == _DOT:
        return 1 if earlier == _DOT else 0
    if size >= 5 and before == 0x20 and earlier == _DOT and data[last - 4] == 0x20 and data[last - 5] == _DOT:
        return 2
    return 0


@bare_inner
def _strip(data: Bytes, start: Whole, stop: Whole, classes: Bytes, zero_width: bool) -> tuple[Whole, Whole]:
    while start < stop:
        code, width = decode(data, start, stop)
        if not classes[np.uintp(code)] & SPACE or (code == ZERO_WIDTH_SPACE and not zero_width):
            break
        start += width
    while start < stop:
        code, at = np.int64(data[np.uintp(stop - 1)]), stop - 1
        if code >= 0x80:
            code, at = decode_last(data, start, stop)
        if not classes[np.uintp(code)] & SPACE or (code == ZERO_WIDTH_SPACE and not zero_width):
            break
        stop = at
    return start, stop


@bare_inner
def _length(data: Bytes, start: Whole, stop: Whole) -> Whole:
    """Characters."""
    characters = 0
    while start + LANES <= stop:
        characters += bits_set(first_bytes(data, start))
        start += LANES
    if start < stop and start + LANES <= data.size:
        return characters + bits_set(
            first_bytes(data, start) & ((np.uint64(1) << np.uint64(stop - start)) - np.uint64(1))
        )
    for at in range(start, stop):
        characters += (data[np.uintp(at)] & 0xC0) != 0x80
    return characters


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint64:
    value = _BASIS + np.uint64(stop - start)
    while stop - start >= 8:
        value = (value ^ load_word(data, start)) * _PRIME
        value ^= value >> np.uint64(32)
        start += 8
    for at in range(start, stop):
        value = (value ^ np.uint64(data[np.uintp(at)])) * _PRIME
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
