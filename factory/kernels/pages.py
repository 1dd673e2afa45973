"""One look over the bytes of a page in UTF-8, before it is parsed: how deep it nests, and which costly searches are worth it.

In: the bytes. Out: a `Look`. It reads tags as the tokenizer of HTML does at their beginning, and nothing else; scripts and
comments count as if they were mark-up, so the depth is a bound and not a measurement. One pass at the
speed of a single search.
"""

from typing import NamedTuple

import numpy as np
from numba import uint8, uint64

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lanes import LANES, equal_bytes, lowest_bit
from factory.kernels.text import Bytes, Integers

_LONG_TAG = 20_000
_LISTS = 256
_FIRST = 10  # numbers found before the ranges of lists
_ROOM = b" " * (2 * LANES)


class Look(NamedTuple):
    """`depth`: how many `div` and `article` are open at once, at most; `list_depth` the same of lists, `formatting` of what
    the parser opens again in every block (`b`, `i`, `font` …). `tags` that open.

    `long_tag`: some tag is longer than 20,000 bytes. `lists` are the byte ranges of the outermost `ul`s, the first 256 that
    are closed.
    """

    depth: int
    list_depth: int
    formatting: int
    tags: int
    long_tag: bool
    has_nul: bool
    has_rel_license: bool
    links_creative_commons: bool
    has_json_ld: bool
    lists: list[tuple[int, int]]


def look_at(page: bytes) -> Look:
    """What one pass over a page shows."""
    found = np.zeros(_FIRST + 2 * _LISTS, np.int64)
    # Room on both sides for instructions that look at many bytes at once.
    _look(np.frombuffer(b"".join((b" ", page, _ROOM)), np.uint8), found)
    depth, long_tag, nul, license, commons, json_ld, lists, indent, tags, formatting = found[:_FIRST].tolist()
    ranges = found[_FIRST : _FIRST + 2 * lists].tolist()
    pairs = [(start - 1, min(end - 1, len(page))) for start, end in zip(ranges[::2], ranges[1::2], strict=True)]
    return Look(
        depth, indent, formatting, tags, bool(long_tag), bool(nul), bool(license), bool(commons), bool(json_ld), pairs
    )


@bare_inner
def _is_name_end(data: Bytes, at: int) -> bool:
    if at >= len(data):
        return True
    c = data[at]
    return not (97 <= (c | 32) <= 122 or 48 <= c <= 57 or c == 95)


@bare_inner
def _is_div_or_article(data: Bytes, at: int) -> bool:
    n = len(data)
    first = data[at] | 32
    if first == 100:
        return at + 2 < n and data[at + 1] | 32 == 105 and data[at + 2] | 32 == 118 and _is_name_end(data, at + 3)
    if first != 97 or at + 6 >= n:
        return False
    return (
        data[at + 1] | 32 == 114
        and data[at + 2] | 32 == 116
        and data[at + 3] | 32 == 105
        and data[at + 4] | 32 == 99
        and data[at + 5] | 32 == 108
        and data[at + 6] | 32 == 101
        and _is_name_end(data, at + 7)
    )


@bare_inner
def _is_list(data: Bytes, at: int) -> bool:
    return at + 1 < len(data) and data[at] | 32 == 117 and data[at + 1] | 32 == 108 and _is_name_end(data, at + 2)


@bare_inner
def _is_other_list(data: Bytes, at: int) -> bool:
    """`ol`, `menu` and `dir`: for the depth alone."""
    first = data[at] | 32
    if first == 111:
        return at + 1 < len(data) and data[at + 1] | 32 == 108 and _is_name_end(data, at + 2)
    if first == 100:
        n = len(data)
        return at + 2 < n and data[at + 1] | 32 == 105 and data[at + 2] | 32 == 114 and _is_name_end(data, at + 3)
    if first != 109 or at + 3 >= len(data):
        return False
    return (
        data[at + 1] | 32 == 101
        and data[at + 2] | 32 == 110
        and data[at + 3] | 32 == 117
        and _is_name_end(data, at + 4)
    )


@bare_inner
def _is_formatting(data: Bytes, at: int) -> bool:
    """The names of the list of active formatting elements (HTML standard, 13.2.4.3), the longer ones by three letters."""
    n = len(data)
    first = data[at] | 32
    if _is_name_end(data, at + 1):
        return bool(first == 97 or first == 98 or first == 105 or first == 115 or first == 117)
    if at + 2 >= n:
        return False
    second, third = data[at + 1] | 32, data[at + 2] | 32
    if _is_name_end(data, at + 2):
        return bool((first == 101 and second == 109) or (first == 116 and second == 116))
    return bool(
        (first == 98 and second == 105 and third == 103)
        or (first == 99 and second == 111 and third == 100)
        or (first == 102 and second == 111 and third == 110)
        or (first == 110 and second == 111 and third == 98)
        or (first == 115 and second == 109 and third == 97)
        or (first == 115 and second == 116 and third == 114)
    )


@bare_inner
def _is_rel_license(data: Bytes, at: int) -> bool:
    """Whether `rel` stands before the equals sign at `at`, and `license` in the 80 bytes after it."""
    if at < 3 or data[at - 3] | 32 != 114 or data[at - 2] | 32 != 101 or data[at - 1] | 32 != 108:
        return False
    for i in range(at + 1, min(at + 80, len(data) - 6)):
        c = data[i]
        if c == 60 or c == 62:
            return False
        if (
            c | 32 == 108
            and data[i + 1] | 32 == 105
            and data[i + 2] | 32 == 99
            and data[i + 3] | 32 == 101
            and data[i + 4] | 32 == 110
            and data[i + 5] | 32 == 115
            and data[i + 6] | 32 == 101
        ):
            return True
    return False


@bare_inner
def _is_ld_json(data: Bytes, at: int) -> bool:
    """Whether the plus sign at `at` is that of `ld+json`."""
    return (
        at >= 2
        and at + 4 < len(data)
        and data[at - 1] == 100
        and data[at - 2] == 108
        and data[at + 1] == 106
        and data[at + 2] == 115
        and data[at + 3] == 111
        and data[at + 4] == 110
    )


@bare_inner
def _is_commons(data: Bytes, at: int) -> bool:
    """Whether the `v` at `at` is that of `creativecommons`, by the letters next to it."""
    return (
        at >= 3
        and at + 4 < len(data)
        and data[at + 1] == 101
        and data[at + 2] == 99
        and data[at + 3] == 111
        and data[at + 4] == 109
        and data[at - 1] == 105
        and data[at - 2] == 116
        and data[at - 3] == 97
    )


@bare_inner
def _closed_within(data: Bytes, start: int, stop: int) -> bool:
    for i in range(start, stop):
        if data[i] == 62:
            return i - start <= _LONG_TAG
    return False


@bare_kernel
def _look(data: Bytes, found: Integers) -> None:
    n = len(data)
    depth = deepest = indent = deepest_indent = list_depth = tags = list_start = lists = 0
    formats = most_formats = 0
    tag = -1
    room = (len(found) - _FIRST) // 2
    base = 1
    while base + LANES < n:
        brackets = uint64(equal_bytes(data, base, uint8(60)))
        # "l=" of rel=, "ve" of creative, "+j" of ld+json, NUL: so rare that looking closer costs little.
        others = uint64(
            (equal_bytes(data, base, uint8(61)) & (equal_bytes(data, base - 1, uint8(108))))
            | (equal_bytes(data, base, uint8(118)) & equal_bytes(data, base + 1, uint8(101)))
            | (equal_bytes(data, base, uint8(43)) & equal_bytes(data, base + 1, uint8(106)))
            | equal_bytes(data, base, uint8(0))
        )
        while others:
            i = base + lowest_bit(others)
            others &= others - uint64(1)
            c = data[i]
            if c == 0:
                found[2] = 1
            elif c == 61:
                if _is_rel_license(data, i):
                    found[3] = 1
            elif c == 118:
                if _is_commons(data, i):
                    found[4] = 1
            elif _is_ld_json(data, i):
                found[5] = 1
        while brackets:
            i = base + lowest_bit(brackets)
            brackets &= brackets - uint64(1)
            if tag >= 0 and i - tag > _LONG_TAG and not _closed_within(data, tag, i):
                found[1] = 1
            tag = -1
            at = i + 1
            closing = data[at] == 47
            if closing:
                at += 1
            elif 97 <= (data[at] | 32) <= 122:
                tag = i
                tags += 1
            if _is_div_or_article(data, at):
                if closing:
                    depth = max(depth - 1, 0)
                else:
                    depth += 1
                    deepest = max(deepest, depth)
            elif _is_other_list(data, at):
                indent = max(indent - 1, 0) if closing else indent + 1
                deepest_indent = max(deepest_indent, indent)
            elif _is_list(data, at):
                indent = max(indent - 1, 0) if closing else indent + 1
                deepest_indent = max(deepest_indent, indent)
                if not closing:
                    if list_depth == 0:
                        list_start = i
                    list_depth += 1
                elif list_depth > 0:
                    list_depth -= 1
                    if list_depth == 0 and lists < room:
                        end = at + 2
                        while end < n and data[end] != 62:
                            end += 1
                        found[_FIRST + 2 * lists] = list_start
                        found[_FIRST + 1 + 2 * lists] = end + 1
                        lists += 1
            elif _is_formatting(data, at):
                formats = max(formats - 1, 0) if closing else formats + 1
                most_formats = max(most_formats, formats)
        base += LANES
    if tag >= 0 and n - tag > _LONG_TAG and not _closed_within(data, tag, n):
        found[1] = 1
    found[0] = deepest
    found[6] = lists
    found[7] = deepest_indent
    found[8] = tags
    found[9] = most_formats
