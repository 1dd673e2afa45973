"""Text as it lies in Arrow buffers, and what its characters are.

A view holds the texts of a batch as bytes and offsets, without a copy. The classes tell of every code point whether it is
a letter, white space, part of a word, the end of a sentence; the kernels of words (`factory.kernels.pieces`) and lines
(`factory.kernels.lines`) look characters up in them. White space is what `str.isspace` says, and the zero width space.
Characters are code points. Bytes that are not UTF-8 count as one character each and are never read past.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

LETTER, SPACE, WORD, ALONE, EXTEND, JOINER, DIGIT, TERMINAL = (np.uint8(1 << bit) for bit in range(8))
REPLACEMENT = 0xFFFD
ZERO_WIDTH_SPACE = 0x200B

_JOINERS = "'’._·,"
_ALONE = ((0x3005, 0x3007), (0x3041, 0x309F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
# Unicode 16, PropList.txt, Sentence_Terminal.
_SENTENCE_TERMINAL = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D5 1803 1809
1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C 1C7E-1C7F 2024 203C-203D 2047-2049 2CF9-2CFB 2E2E
2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16
FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6
111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E
11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F
16E98 1BC9F 1DA88"""
_CLOSING = "\"'”’…"  # a sentence may end in a quotation mark or trail off
# What the filters of FineWeb (arXiv:2406.17557, datatrove 0.10) hold for punctuation, control characters included.
_FINEWEB_PUNCTUATION = """
0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368
166E 1735-1736 17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F
2013-2014 2019 201C-201E 2026 203C-203D 2047-2049 2236 2501 25BA 2E2E 2E3C 2E53-2E54 3001-3002 3008-300D 3010-3011
A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF05
FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1
11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7
11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5
16B37-16B38 16B44 16E98 1BC9F 1DA88"""
_LAST_ASSIGNED = 0x323B0  # nothing is assigned between here and the tags, and after them is private use


class TextView(NamedTuple):
    """Text i is `data[offsets[i]:offsets[i + 1]]`, and is there if `valid[i]`."""

    offsets: Integers
    data: Bytes
    valid: Flags


def view_text(array: pa.Array) -> TextView:
    """The buffers of a string or large_string array: no copy of the text, and none of 64-bit offsets."""
    if pa.types.is_large_string(array.type):
        width: type[np.signedinteger] = np.int64
    elif pa.types.is_string(array.type):
        width = np.int32
    else:
        raise TypeError(f"text is a string or large_string column, not {array.type}")
    _, offsets_buffer, data_buffer = array.buffers()
    if len(array):
        offsets = np.frombuffer(offsets_buffer, dtype=width)[array.offset : array.offset + len(array) + 1]
        offsets = np.require(offsets, dtype=np.int64, requirements=["A"])
    else:
        offsets = np.zeros(1, np.int64)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", dtype=np.uint8)
    valid = np.ones(len(array), np.bool_)
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
    for view in (offsets, data, valid):
        view.flags.writeable = False  # one kind of array, so one compiled version of each kernel
    return TextView(offsets, data, valid)


@cache
def character_classes() -> Bytes:
    """The classes of every code point, by this Python's Unicode tables."""
    classes = np.zeros(0x110000, np.uint8)
    for code in (
        *range(_LAST_ASSIGNED),
        *range(0xE0000, 0xE01F0),
    ):  # nothing is assigned between and after but private use
        category = unicodedata.category(chr(code))
        if category[0] == "L":
            classes[code] = LETTER | WORD
        elif category[0] == "N":
            classes[code] = WORD | DIGIT if category == "Nd" else WORD
        elif category[0] == "M" or category == "Cf":
            classes[code] = EXTEND
        elif chr(code).isspace():
            classes[code] = SPACE
    classes[ZERO_WIDTH_SPACE] = SPACE
    for first, last in _ALONE:
        classes[first : last + 1] |= np.where(classes[first : last + 1] & WORD, ALONE, np.uint8(0))
    for character in _JOINERS:
        classes[ord(character)] |= JOINER
    for first, last in _ranges(_SENTENCE_TERMINAL):
        classes[first : last + 1] |= TERMINAL
    for character in _CLOSING:
        classes[ord(character)] |= TERMINAL
    classes.flags.writeable = False
    return classes


@cache
def fineweb_punctuation() -> Bytes:
    """1 for every code point that FineWeb holds for punctuation."""
    table = np.zeros(0x110000, np.uint8)
    for first, last in _ranges(_FINEWEB_PUNCTUATION):
        table[first : last + 1] = 1
    table.flags.writeable = False
    return table


def _ranges(codes: str) -> Iterator[tuple[int, int]]:
    for item in codes.split():
        first, _, last = item.partition("-")
        yield int(first, 16), int(last or first, 16)
