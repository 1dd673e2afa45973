"""Words between the default word boundaries of Unicode (UAX #29), which DCLM's n-grams are made of (arXiv:2406.11794).

In: texts. Out: the byte ranges of all segments but white space. Rules WB3 to WB16 but for WB3c (a joiner before a
pictograph), which parts no words. The property Word_Break is derived from the general categories and names of this Python,
with the exceptions that UAX #29 lists; characters that are newer than its tables are of no class.
"""

import unicodedata
from functools import cache

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.pieces import Cut
from factory.kernels.text import Bytes, Flags, Integers, TextView, Whole
from factory.kernels.utf8 import decode

_OTHER, _LETTER, _HEBREW, _NUMERIC, _KATAKANA, _LOW_LINE, _EXTEND = (np.uint8(kind) for kind in range(7))
_MID_LETTER, _MID_BOTH, _MID_NUMBER, _QUOTE, _DOUBLE_QUOTE, _FLAG, _SPACE = (np.uint8(kind) for kind in range(7, 14))
# Letters of the general categories that are no letters here: of scripts that are written without spaces, and ideographs.
_NO_LETTERS = (
    *("CJK ", "HIRAGANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TAI LE ", "NEW TAI LUE", "TAI THAM", "TAI VIET"),
    *("AHOM ", "TANGUT ", "NUSHU", "KHITAN"),
)
# What neither category nor name tells (WordBreakProperty.txt, Unicode 16).
_EXCEPTIONS = (
    (_OTHER, "200B 3006-3007 3021-3029 3038-303A FB29 17000-187F7 18D00-18D08 1B002-1B11E 1F201-1F202 1F213"),
    (_LETTER, "2C2-2C5 2D2-2D7 2DE-2DF 2E5-2EB 2ED 2EF-2FF 55A-55C 55E 58A 5F3 70F 24B6-24E9 A708-A716 A720-A721"),
    (_LETTER, "A789-A78A AB5B 16FE0-16FE1 1F130-1F149 1F150-1F169 1F170-1F189"),
    (_HEBREW, "5EF-5F2 FB1F FB4F"),
    (_NUMERIC, "600-605 66B 6DD 890-891 8E2 19DA 110BD 110CD"),
    (_KATAKANA, "3031-3035 309B-309C 30A0 30FC 32D0-32FE 3300-3357 FF70"),
    (_EXTEND, "200C-200D FF9E-FF9F 1F3FB-1F3FF E0020-E007F"),
    (_LOW_LINE, "202F"),
    (_MID_LETTER, "3A B7 387 55F 5F4 2027 FE13 FE55 FF1A"),
    (_MID_BOTH, "2E 2018-2019 2024 FE52 FF07 FF0E"),
    (_MID_NUMBER, "2C 3B 37E 589 60C-60D 66C 7F8 2044 FE50 FE54 FF0C FF1B"),
    (_QUOTE, "27"),
    (_DOUBLE_QUOTE, "22"),
    (_FLAG, "1F1E6-1F1FF"),
)


def cut_uax29(view: TextView) -> Cut:
    """The segments of each text that do not begin with white space."""
    starts = np.zeros(len(view.offsets), np.int64)
    nothing = np.empty(0, np.int64)
    _cut(view.offsets, view.data, view.valid, word_break(), starts, nothing, nothing.copy())
    begins, ends = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    _cut(view.offsets, view.data, view.valid, word_break(), starts, begins, ends)
    return Cut(begins, ends, starts)


@cache
def word_break() -> Bytes:
    """The class of every code point; format characters are as combining marks, and every white space is a class."""
    classes = np.zeros(0x110000, np.uint8)
    for code in (*range(0x323B0), *range(0xE0000, 0xE01F0)):  # nothing is assigned between and after but private use
        classes[code] = _derived(chr(code))
    for kind, ranges in _EXCEPTIONS:
        for codes in ranges.split():
            first, last = (int(code, 16) for code in (codes.split("-") * 2)[:2])
            classes[first : last + 1] = kind
    classes.flags.writeable = False
    return classes


def _derived(character: str) -> np.uint8:
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if character.isspace():
        return _SPACE
    if "KATAKANA" in name and category[0] in "LS" and "CIRCLED" not in name:
        return _KATAKANA
    if category == "Nd":
        return _NUMERIC
    if category[0] == "M" or category == "Cf":
        return _EXTEND
    if name.startswith("HEBREW LETTER"):
        return _HEBREW
    if (category[0] == "L" or category == "Nl") and not name.startswith(_NO_LETTERS):
        return _LETTER
    return _LOW_LINE if category == "Pc" else _OTHER


@bare_kernel
def _cut(
    offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, starts: Integers, begins: Integers, ends: Integers
) -> None:
    """Fills `starts`, and the others unless they are empty: the first call tells how many there are."""
    filled = 0
    for text in range(offsets.size - 1):
        at, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        while at < end:
            stop, space = _segment(data, at, end, classes)
            if not space:
                if begins.size:
                    begins[filled], ends[filled] = at, stop
                filled += 1
            at = stop
        starts[text + 1] = filled


@bare_inner
def _segment(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, bool]:
    """Where the segment from `at` ends, and whether it begins with white space."""
    code, width = decode(data, at, end)
    last = classes[np.uintp(code)]
    at += width
    if last == _SPACE:
        ends_line = code == 0x0A or code == 0x0D or code == 0x0B or code == 0x0C or code == 0x85
        if not ends_line and code != 0x2028 and code != 0x2029:
            at = _skip_marks(data, at, end, classes)
        return at, True
    narrow_space = code == 0x202F  # joins words, but is white space before one
    paired = False
    while True:
        while at < end and data[np.uintp(at)] < 0x80 and last == _LETTER:  # most of most texts
            if classes[data[np.uintp(at)]] != _LETTER:
                break
            at += 1
        at = _skip_marks(data, at, end, classes)
        if at >= end:
            break
        code, width = decode(data, at, end)
        kind = classes[np.uintp(code)]
        letter, number = last in (_LETTER, _HEBREW), last == _NUMERIC
        joins = False
        if kind in (_LETTER, _HEBREW, _NUMERIC):
            joins = letter or number or last == _LOW_LINE
        elif kind == _KATAKANA:
            joins = last in (_KATAKANA, _LOW_LINE)
        elif kind == _LOW_LINE:
            joins = letter or number or last in (_KATAKANA, _LOW_LINE)
        elif kind == _FLAG:
            joins = last == _FLAG and not paired
            paired = True
        elif _MID_LETTER <= kind <= _DOUBLE_QUOTE and (letter or number):
            after = _skip_marks(data, at + width, end, classes)
            if after < end:
                code, following = decode(data, after, end)
                ahead = classes[np.uintp(code)]
                both = kind in (_MID_BOTH, _QUOTE)
                words = letter and (both or kind == _MID_LETTER) and ahead in (_LETTER, _HEBREW)
                numbers = number and (both or kind == _MID_NUMBER) and ahead == _NUMERIC
                joins = words or numbers or (last == _HEBREW and kind == _DOUBLE_QUOTE and ahead == _HEBREW)
                if joins:
                    at, width, kind = after, following, ahead
            if not joins and last == _HEBREW and kind == _QUOTE:
                joins = True
        if not joins:
            break
        at += width
        last = kind
    return at, narrow_space


@bare_inner
def _skip_marks(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> Whole:
    while at < end and data[np.uintp(at)] >= 0x80:
        code, width = decode(data, at, end)
        if classes[np.uintp(code)] != _EXTEND:
            break
        at += width
    return at
