"""UTF-8 one character at a time: a code point its bytes, and how many they are; U+FFFD and one byte where there is no UTF-8.

Texts are checked when they come in (see `factory.kernels.text`); what is told apart here are bytes that begin no character and
characters that the text ends in, so that no loop runs past its end.
"""

from typing import Any

import numpy as np

from factory.kernels.compiled import bare_inner
from factory.kernels.text import REPLACEMENT, Bytes, Whole


@bare_inner
def decode(data: Bytes, at: Whole, end: Whole) -> tuple[Any, Any]:
    """The code point at `at` and its bytes."""
    first = np.int64(data[np.uintp(at)])
    if first < 0x80:
        return first, np.int64(1)
    return decode_multibyte(data, at, end)


@bare_inner
def decode_multibyte(data: Bytes, at: Whole, end: Whole) -> tuple[Any, Any]:
    """The same of a byte that is not ASCII."""
    first = np.int64(data[np.uintp(at)])
    if 0xC2 <= first < 0xE0 and at + 1 < end:
        return ((first & 0x1F) << 6) | (np.int64(data[np.uintp(at + 1)]) & 0x3F), np.int64(2)
    if 0xE0 <= first < 0xF0 and at + 2 < end:
        code = ((first & 0x0F) << 12) | ((np.int64(data[np.uintp(at + 1)]) & 0x3F) << 6)
        return code | (np.int64(data[np.uintp(at + 2)]) & 0x3F), np.int64(3)
    if 0xF0 <= first < 0xF5 and at + 3 < end:
        code = ((first & 0x07) << 18) | ((np.int64(data[np.uintp(at + 1)]) & 0x3F) << 12)
        code |= ((np.int64(data[np.uintp(at + 2)]) & 0x3F) << 6) | (np.int64(data[np.uintp(at + 3)]) & 0x3F)
        if code < 0x110000:
            return code, np.int64(4)
    return np.int64(REPLACEMENT), np.int64(1)


@bare_inner
def decode_last(data: Bytes, start: Whole, stop: Whole) -> tuple[Any, Any]:
    """The last code point of [start, stop), which is not empty, and where it begins."""
    at = stop - 1
    while at > start and stop - at < 4 and (data[np.uintp(at)] & 0xC0) == 0x80:
        at -= 1
    code, width = decode(data, at, stop)
    if at + width != stop:
        return np.int64(REPLACEMENT), stop - 1
    return code, at


@bare_inner
def encode(code: Whole, room: Bytes, filled: Whole) -> Whole:
    """Put a code point's bytes into the room; where the next one goes."""
    if code < 0x80:
        room[filled] = code
        return filled + 1
    if code < 0x800:
        room[filled] = 0xC0 | (code >> 6)
        room[filled + 1] = 0x80 | (code & 0x3F)
        return filled + 2
    if code < 0x10000:
        room[filled] = 0xE0 | (code >> 12)
        room[filled + 1] = 0x80 | ((code >> 6) & 0x3F)
        room[filled + 2] = 0x80 | (code & 0x3F)
        return filled + 3
    room[filled] = 0xF0 | (code >> 18)
    room[filled + 1] = 0x80 | ((code >> 12) & 0x3F)
    room[filled + 2] = 0x80 | ((code >> 6) & 0x3F)
    room[filled + 3] = 0x80 | (code & 0x3F)
    return filled + 4
