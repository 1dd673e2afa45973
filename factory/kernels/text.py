"""Text as it lies in Arrow buffers, cut into pieces (words and marks), lines and paragraphs.

A *word* is a run of letters and numbers with the marks and format characters that follow them. One apostrophe (' or ’),
full stop, low line or middle dot between two of these belongs to the word, so does a comma between two digits, and the
full stop after a single letter (`J.`, `U.S.`), if no other follows. Each Han or Hiragana character is a word of its own,
as in UAX #29; scripts that write neither spaces nor such characters (Thai, Lao, Khmer, Burmese) give long words. What is
neither word nor white space is a *mark*: a run of one and the same character, so that `...`, `--` and `!!!` are one mark
each. Words and marks together are *pieces*; they stand for the tokens, punctuation included, that rules fitted with a
tokenizer for English count.

White space is what `str.isspace` says, and the zero width space. A *line* ends at a line feed or at the end of the text.
Characters are code points. Bytes that are not UTF-8 count as one mark each and are never read past.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.kernels.compiled import bare_inner, bare_kernel

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

LETTER, SPACE, WORD, ALONE, EXTEND, JOINER, DIGIT, TERMINAL = (np.uint8(1 << bit) for bit in range(8))
NO_MARK = -1
REPLACEMENT = 0xFFFD

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

# The words of Table A1 of arXiv:2112.11446, as their bytes in one integer.
_STOP_WORDS = np.array(
    [int.from_bytes(word.encode()) for word in ("the", "be", "to", "of", "and", "that", "have", "with")], np.int64
)
_SHORT_LINE = 30  # characters, arXiv:2406.17557 section 3.6

_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class TextView(NamedTuple):
    """Text i is `data[offsets[i]:offsets[i + 1]]`, and is there if `valid[i]`."""

    offsets: Integers
    data: Bytes
    valid: Flags


class Items(NamedTuple):
    """64-bit hash and length in characters of each item; those of text i are `starts[i]` up to `starts[i + 1]`."""

    hashes: Hashes
    lengths: Lengths
    starts: Integers


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
    for code in (*range(0x323B0), *range(0xE0000, 0xE01F0)):  # nothing is assigned between and after but private use
        category = unicodedata.category(chr(code))
        if category[0] == "L":
            classes[code] = LETTER | WORD
        elif category[0] == "N":
            classes[code] = WORD | DIGIT if category == "Nd" else WORD
        elif category[0] == "M" or category == "Cf":
            classes[code] = EXTEND
        elif chr(code).isspace():
            classes[code] = SPACE
    classes[0x200B] = SPACE
    for first, last in _ALONE:
        classes[first : last + 1] |= np.where(classes[first : last + 1] & WORD, ALONE, np.uint8(0))
    for character in _JOINERS:
        classes[ord(character)] |= JOINER
    for codes in _SENTENCE_TERMINAL.split():
        first, last = (int(code, 16) for code in (codes.split("-") * 2)[:2])
        classes[first : last + 1] |= TERMINAL
    for character in _CLOSING:
        classes[ord(character)] |= TERMINAL
    classes.flags.writeable = False
    return classes


def count_words(view: TextView) -> Integers:
    """A row per text: words, their characters, pieces, pieces with a letter, `#`, `...` and `…`, distinct stop words."""
    counts = np.zeros((len(view.valid), 7), np.int64)
    _count_words(*view, character_classes(), counts)
    return counts


def count_lines(view: TextView) -> Integers:
    """A row per text: lines, blank ones, starting with a bullet, ending in an ellipsis, ending a sentence, of at most 30
    characters without the white space around them, line feeds, pieces."""
    counts = np.zeros((len(view.valid), 8), np.int64)
    _count_lines(*view, character_classes(), counts)
    return counts


def hash_pieces(view: TextView, words_only: bool) -> Items:
    """Every piece, or every word."""
    starts = np.zeros(len(view.offsets), np.int64)
    _hash_pieces(*view, character_classes(), words_only, starts, *_items(0))
    hashes, lengths = _items(starts[-1])
    _hash_pieces(*view, character_classes(), words_only, starts, hashes, lengths)
    return Items(hashes, lengths, starts)


def hash_segments(view: TextView, line_feeds: int, stripped: bool) -> Items:
    """What lies between runs of at least so many line feeds: lines (1) or paragraphs (2). Empty segments are none.

    White space around a segment belongs to it unless `stripped`; white space around the whole text belongs to no paragraph.
    """
    starts = np.zeros(len(view.offsets), np.int64)
    _hash_segments(*view, character_classes(), line_feeds, stripped, starts, *_items(0))
    hashes, lengths = _items(starts[-1])
    _hash_segments(*view, character_classes(), line_feeds, stripped, starts, hashes, lengths)
    return Items(hashes, lengths, starts)


def _items(count: int) -> tuple[Hashes, Lengths]:
    return np.empty(count, np.uint64), np.empty(count, np.int32)


@bare_kernel
def _count_words(offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, counts: Integers) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        end = offsets[text + 1]
        words = characters = pieces = alphabetic = hashes = ellipses = 0
        stops = np.int64(0)
        start, stop, length, letter, mark = _next_piece(data, offsets[text], end, classes)
        while start < end:
            pieces += 1
            alphabetic += letter
            if mark == NO_MARK:
                words += 1
                characters += length
                if stop - start <= 4:
                    stops |= _stop_word(data, start, stop)
            elif mark == 0x23:
                hashes += length
            elif mark == 0x2E:
                ellipses += length // 3
            elif mark == 0x2026:
                ellipses += length
            start, stop, length, letter, mark = _next_piece(data, stop, end, classes)
        counts[text, 0], counts[text, 1], counts[text, 2], counts[text, 3] = words, characters, pieces, alphabetic
        counts[text, 4], counts[text, 5] = hashes, ellipses
        while stops:
            counts[text, 6] += stops & 1
            stops >>= 1


@bare_kernel
def _count_lines(offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, counts: Integers) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        end = offsets[text + 1]
        lines = blank = bullets = ellipses = terminal = short = feeds = pieces = 0
        at = offsets[text]
        while at < end:
            line = at
            while at < end and data[np.uintp(at)] != 0x0A:
                at += 1
            first, last = _strip(data, line, at, classes)
            lines += 1
            if first == last:
                blank += 1
            else:
                code, _ = _decode(data, first, last)
                bullets += code == 0x2022 or code == 0x2D  # • and -
                code, _ = _decode_last(data, first, last)
                terminal += (classes[code] & TERMINAL) != 0
                ellipses += code == 0x2026 or (
                    last - first >= 3 and data[last - 1] == 0x2E and data[last - 2] == 0x2E and data[last - 3] == 0x2E
                )
                short += _length(data, first, last) <= _SHORT_LINE
            if at < end:
                feeds += 1
                at += 1
        start, stop, _, _, _ = _next_piece(data, offsets[text], end, classes)
        while start < end:
            pieces += 1
            start, stop, _, _, _ = _next_piece(data, stop, end, classes)
        counts[text, 0], counts[text, 1], counts[text, 2], counts[text, 3] = lines, blank, bullets, ellipses
        counts[text, 4], counts[text, 5], counts[text, 6], counts[text, 7] = terminal, short, feeds, pieces


@bare_kernel
def _hash_pieces(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    words_only: bool,
    starts: Integers,
    hashes: Hashes,
    lengths: Lengths,
) -> None:
    """Fills `starts`, and the others unless they are empty: the first call tells how many there are."""
    filled = 0
    for text in range(offsets.size - 1):
        end = offsets[text + 1] if valid[text] else offsets[text]
        start, stop, length, _, mark = _next_piece(data, offsets[text], end, classes)
        while start < end:
            if mark == NO_MARK or not words_only:
                if hashes.size:
                    hashes[filled] = _hash(data, start, stop)
                    lengths[filled] = length
                filled += 1
            start, stop, length, _, mark = _next_piece(data, stop, end, classes)
        starts[text + 1] = filled


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
    """Fills `starts`, and the others unless they are empty: the first call tells how many there are."""
    filled = 0
    for text in range(offsets.size - 1):
        start, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        if line_feeds > 1:
            start, end = _strip(data, start, end, classes)
        while start < end:
            at = run = start
            while at < end:
                while at < end and data[np.uintp(at)] != 0x0A:
                    at += 1
                run = at
                while run < end and data[np.uintp(run)] == 0x0A:
                    run += 1
                if run - at >= line_feeds:
                    break
                at = run
            first, last = _strip(data, start, at, classes) if stripped else (start, at)
            if first < last:
                if hashes.size:
                    hashes[filled] = _hash(data, first, last)
                    lengths[filled] = _length(data, first, last)
                filled += 1
            start = run
        starts[text + 1] = filled


@bare_inner
def _next_piece(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, Whole, Whole, bool, Whole]:
    """Start, stop, characters, whether it has a letter, and its character if a mark; start is `end` after the last."""
    code: Whole = 0
    width: Whole = 0
    kind: Any = np.uint8(0)
    while at < end:
        code, width = _decode(data, at, end)
        kind = classes[np.uintp(code)]
        if not kind & (SPACE | EXTEND):  # without a word before it, a combining mark belongs to nothing
            break
        at += width
    start = at
    if at >= end:
        return end, end, 0, False, NO_MARK
    at += width
    length = 1
    if not kind & WORD:
        while at < end:
            following, width = _decode(data, at, end)
            if following != code:
                break
            at += width
            length += 1
        return start, at, length, False, code
    letter = (kind & LETTER) != 0
    alone = (kind & ALONE) != 0
    before = kind
    run = 1  # letters and digits since the last joiner
    while at < end:
        if data[np.uintp(at)] < 0x80 and not alone:  # most of most texts, without decoding
            kind = classes[data[np.uintp(at)]]
            if kind & WORD:
                letter = letter or (kind & LETTER) != 0
                before = kind
                at += 1
                length += 1
                run += 1
                continue
        code, width = _decode(data, at, end)
        kind = classes[np.uintp(code)]
        if kind & WORD:
            if alone or kind & ALONE:
                break
            letter = letter or (kind & LETTER) != 0
            before = kind
            run += 1
        elif kind & JOINER:
            if alone:
                break
            following, _ = _decode(data, at + width, end) if at + width < end else (0x20, 1)
            after = classes[np.uintp(following)]
            if not after & WORD or after & ALONE:
                if code == 0x2E and following != 0x2E and run == 1 and before & LETTER:
                    at += 1
                    length += 1
                break
            if code == 0x2C and not before & after & DIGIT:
                break
            run = 0
        elif not kind & EXTEND:
            break
        at += width
        length += 1
    return start, at, length, letter, NO_MARK


@bare_inner
def _decode(data: Bytes, at: Whole, end: Whole) -> tuple[Whole, Whole]:
    """The code point at `at` and its bytes; the replacement character and one byte where there is no UTF-8."""
    first = data[np.uintp(at)]
    if first < 0x80:  # small enough to be inlined, which is most of the speed
        return np.int64(first), np.int64(1)
    return _decode_multibyte(data, at, end)


@bare_inner
def _decode_multibyte(data: Bytes, at: Whole, end: Whole) -> tuple[Whole, Whole]:
    first = np.int64(data[at])
    if 0xC2 <= first < 0xE0 and at + 1 < end:
        return ((first & 0x1F) << 6) | (np.int64(data[at + 1]) & 0x3F), np.int64(2)
    if 0xE0 <= first < 0xF0 and at + 2 < end:
        code = ((first & 0x0F) << 12) | ((np.int64(data[at + 1]) & 0x3F) << 6) | (np.int64(data[at + 2]) & 0x3F)
        return code, np.int64(3)
    if 0xF0 <= first < 0xF5 and at + 3 < end:
        code = ((first & 0x07) << 18) | ((np.int64(data[at + 1]) & 0x3F) << 12)
        code |= ((np.int64(data[at + 2]) & 0x3F) << 6) | (np.int64(data[at + 3]) & 0x3F)
        if code < 0x110000:
            return code, np.int64(4)
    return np.int64(REPLACEMENT), np.int64(1)


@bare_inner
def _decode_last(data: Bytes, start: Whole, stop: Whole) -> tuple[Whole, Whole]:
    """The last code point of [start, stop), and where it begins."""
    at = stop - 1
    while at > start and stop - at < 4 and (data[np.uintp(at)] & 0xC0) == 0x80:
        at -= 1
    code, width = _decode(data, at, stop)
    if at + width != stop:
        return np.int64(REPLACEMENT), stop - 1
    return code, at


@bare_inner
def _strip(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> tuple[Whole, Whole]:
    while start < stop:
        code, width = _decode(data, start, stop)
        if not classes[np.uintp(code)] & SPACE:
            break
        start += width
    while start < stop:
        code, at = _decode_last(data, start, stop)
        if not classes[np.uintp(code)] & SPACE:
            break
        stop = at
    return start, stop


@bare_inner
def _length(data: Bytes, start: Whole, stop: Whole) -> Whole:
    characters = 0
    for at in range(start, stop):
        characters += (data[np.uintp(at)] & 0xC0) != 0x80
    return characters


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint64:
    """FNV-1a, then mixed so that every bit depends on every byte."""
    value = _FNV_BASIS
    for at in range(np.uintp(start), np.uintp(stop)):
        value = (value ^ np.uint64(data[np.uintp(at)])) * _FNV_PRIME
    value = (value ^ (value >> np.uint64(30))) * _MIX
    return value ^ (value >> np.uint64(31))


@bare_inner
def _stop_word(data: Bytes, start: Whole, stop: Whole) -> Whole:
    """The bit of a stop word, 0 for other words."""
    packed = np.int64(0)
    for at in range(start, stop):
        packed = (packed << 8) | np.int64(data[np.uintp(at)])
    for index in range(_STOP_WORDS.size):
        if _STOP_WORDS[index] == packed:
            return 1 << index
    return 0
