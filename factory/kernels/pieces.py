"""Texts cut into pieces, words and marks, once per batch for all who count them.

A cutter takes a view of texts and gives the byte ranges of their pieces, in order and apart from each other. The one of
this module that counts most, `cut_unicode`, needs no dictionary. Its *words* are runs of letters and numbers with the
marks and format characters that follow them. One apostrophe (' or ’), full stop, low line or middle dot between two of
these belongs to the word, so does a comma between two digits, and the full stop after a single letter (`J.`, `U.S.`), if
no other follows. Each Han or Hiragana character is a word of its own, as in UAX #29; scripts that write neither spaces
nor such characters (Thai, Lao, Khmer, Burmese) give long words. What is neither word nor white space is a *mark*: a run
of one and the same character, so that `...`, `--` and `!!!` are one mark each. Words and marks together stand for the
tokens, punctuation included, that rules fitted with a tokenizer for English count.

Pieces of any cutter have a hash, a length and flags, all a function of their bytes alone. No text is copied. Pieces take
29 bytes each, some five times the text of a batch; a thread keeps those of one batch.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lanes import LANES, letters_and_digits, load_word, lowest_bit
from factory.kernels.text import (
    ALONE,
    DIGIT,
    EXTEND,
    JOINER,
    LETTER,
    SPACE,
    WORD,
    ZERO_WIDTH_SPACE,
    Bytes,
    Flags,
    Hashes,
    Integers,
    Lengths,
    TextView,
    Whole,
    character_classes,
    fineweb_punctuation,
    view_text,
)
from factory.kernels.utf8 import decode

# Flags of a piece: it has a letter; it has neither letter nor number; all of it is what FineWeb holds for punctuation; it
# begins with a letter or number.
HAS_LETTER, IS_MARK, IS_PUNCTUATION, BEGINS_WORD = (np.uint8(1 << bit) for bit in range(4))

_NO_MARK = -1
_NONE = np.uint8(0)
_BASIS = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x9FB21C651E98DF25)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Cut(NamedTuple):
    """Piece p is `data[begins[p]:ends[p]]`; those of text i are `starts[i]` up to `starts[i + 1]`."""

    begins: Integers
    ends: Integers
    starts: Integers


class Pieces(NamedTuple):
    """A cut, and of each piece the hash of its bytes, its characters, and its flags."""

    begins: Integers
    ends: Integers
    starts: Integers
    hashes: Hashes
    lengths: Lengths
    flags: npt.NDArray[np.uint8]


Cutter = Callable[[TextView], Cut]


def pieces_of(array: pa.Array, cutter: Cutter) -> tuple[TextView, Pieces]:
    """The pieces of a column of texts, cut once per batch whoever asks: Arrow buffers do not change.

    A thread remembers the last array it was asked for, and holds it, so that its addresses mean nothing else meanwhile.
    """
    key = (array.offset, len(array), *((part.address, part.size) if part else None for part in array.buffers()))
    if getattr(_memo, "key", None) != key:
        _memo.key, _memo.array, _memo.view, _memo.pieces = key, array, view_text(array), {}
    view: TextView = _memo.view
    if cutter not in _memo.pieces:
        # Cut and described in one pass, but for cutters of others.
        _memo.pieces[cutter] = _unicode_pieces(view) if cutter is cut_unicode else describe(view, cutter(view))
    pieces: Pieces = _memo.pieces[cutter]
    return view, pieces


def cut_unicode(view: TextView) -> Cut:
    """Words and marks, as this module defines them."""
    return Cut(*_unicode_pieces(view)[:3])


def cut_whitespace(view: TextView) -> Cut:
    """What lies between white space: `str.split`."""

    def cut(text: int, filled: int, starts: Integers, begins: Integers, ends: Integers) -> tuple[int, int]:
        done: tuple[int, int] = _cut_whitespace(*view, character_classes(), text, filled, starts, begins, ends)
        return done

    starts, (begins, ends) = _fill(view, cut, (np.int64, np.int64))
    return Cut(begins, ends, starts)


def describe(view: TextView, cut: Cut) -> Pieces:
    """Hash, length and flags of the pieces of any cut."""
    count = len(cut.begins)
    hashes, lengths, flags = np.empty(count, np.uint64), np.empty(count, np.int32), np.empty(count, np.uint8)
    tables = character_classes(), fineweb_punctuation()
    _describe(view.data, cut.begins, cut.ends, *tables, hashes, lengths, flags)
    return Pieces(*cut, hashes, lengths, flags)


_memo = threading.local()


def _unicode_pieces(view: TextView) -> Pieces:
    tables = character_classes(), fineweb_punctuation()

    def cut(text: int, filled: int, starts: Integers, *columns: Any) -> tuple[int, int]:
        done: tuple[int, int] = _cut_unicode(*view, *tables, text, filled, starts, *columns)
        return done

    starts, (begins, ends, hashes, lengths, flags) = _fill(
        view, cut, (np.int64, np.int64, np.uint64, np.int32, np.uint8)
    )
    return Pieces(begins, ends, starts, hashes, lengths, flags)


def _fill(view: TextView, cut: Callable[..., tuple[int, int]], kinds: tuple[Any, ...]) -> tuple[Integers, list[Any]]:
    """Call `cut` until it has done all texts, with more room where it stops because a text did not fit."""
    texts = len(view.valid)
    starts = np.zeros(texts + 1, np.int64)
    total = int(view.offsets[-1] - view.offsets[0])
    columns = [np.empty(total // 4 + 64, kind) for kind in kinds]
    text = filled = 0
    while True:
        text, filled = cut(text, filled, starts, *columns)
        if text == texts:
            return starts, [column[:filled] for column in columns]
        # A piece has at least one byte. The text that did not fit is cut again.
        room = max(2 * len(columns[0]), filled + int(view.offsets[text + 1] - view.offsets[text]))
        for place, column in enumerate(columns):
            columns[place] = np.empty(room, column.dtype)
            columns[place][:filled] = column[:filled]


@bare_kernel
def _cut_unicode(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    punctuation: Bytes,
    text: int,
    filled: int,
    starts: Integers,
    begins: Integers,
    ends: Integers,
    hashes: Hashes,
    lengths: Lengths,
    flags: Bytes,
) -> tuple[int, int]:
    """The number of texts done and their pieces: all of them, or as many as there was room for."""
    room = begins.size
    while text < offsets.size - 1:
        at = offsets[text]
        end = offsets[text + 1] if valid[text] else at
        piece = filled
        while at < end:
            byte = data[np.uintp(at)]
            kind = classes[np.uintp(byte)]
            stop = at
            flag = _NONE
            if byte < 0x80:  # most of most texts, without decoding
                if kind & SPACE:
                    at += 1
                    continue
                if kind & WORD:
                    stop, flag = _ascii_word(data, at, end, classes)
                else:
                    stop = at + 1
                    while stop < end and data[np.uintp(stop)] == byte:
                        stop += 1
                    flag = IS_MARK | (IS_PUNCTUATION if punctuation[np.uintp(byte)] else _NONE)
            length = stop - at
            start = at
            if stop == at:
                start, stop, length, letter, mark = _next_piece(data, at, end, classes)
                if start >= end:
                    break
                if mark != _NO_MARK:
                    flag = IS_MARK | (IS_PUNCTUATION if punctuation[np.uintp(mark)] else _NONE)
                elif letter:
                    flag = BEGINS_WORD | HAS_LETTER
                else:
                    flag = BEGINS_WORD | _punctuation_only(data, start, stop, punctuation)
            if piece >= room:
                return text, filled
            place = np.uintp(piece)
            begins[place], ends[place] = start, stop
            hashes[place] = _hash(data, start, stop)
            lengths[place] = length
            flags[place] = flag
            piece += 1
            at = stop
        filled = piece
        text += 1
        starts[text] = filled
    return text, filled


@bare_kernel
def _cut_whitespace(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    text: int,
    filled: int,
    starts: Integers,
    begins: Integers,
    ends: Integers,
) -> tuple[int, int]:
    """As `_cut_unicode`."""
    while text < offsets.size - 1:
        at = offsets[text]
        end = offsets[text + 1] if valid[text] else at
        piece = filled
        start = np.int64(-1)
        while at <= end:
            code, width = decode(data, at, end) if at < end else (np.int64(0x20), np.int64(1))
            if classes[np.uintp(code)] & SPACE and code != ZERO_WIDTH_SPACE:
                if start >= 0:
                    if piece >= begins.size:
                        return text, filled
                    begins[piece], ends[piece] = start, at
                    piece += 1
                    start = np.int64(-1)
            elif start < 0:
                start = at
            at += width
        filled = piece
        text += 1
        starts[text] = filled
    return text, filled


@bare_kernel
def _describe(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    classes: Bytes,
    punctuation: Bytes,
    hashes: Hashes,
    lengths: Lengths,
    flags: Bytes,
) -> None:
    for piece in range(begins.size):
        at, stop = begins[piece], ends[piece]
        hashes[piece] = _hash(data, at, stop)
        length = 0
        kinds = first = _NONE
        only = np.uint8(1)
        while at < stop:
            code, width = decode(data, at, stop)
            kind = classes[np.uintp(code)]
            first = kind if length == 0 else first
            kinds |= kind
            only &= punctuation[np.uintp(code)]
            length += 1
            at += width
        lengths[piece] = length
        flag = HAS_LETTER if kinds & LETTER else _NONE
        flag |= _NONE if kinds & WORD else IS_MARK
        flag |= IS_PUNCTUATION if only else _NONE
        flags[piece] = flag | (BEGINS_WORD if first & WORD else _NONE)


@bare_inner
def _ascii_word(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, Any]:
    """Where a word of ASCII letters and digits ends, and its flags; `at` itself if it may hold anything else."""
    stop = at
    letters = np.uint64(0)
    while stop + LANES <= data.size and stop < end:
        masks = letters_and_digits(data, stop)
        run = lowest_bit(~masks & np.uint64(0xFFFFFFFF))
        run = min(run, LANES)
        letters |= (masks >> np.uint64(LANES)) & ((np.uint64(1) << np.uint64(run)) - np.uint64(1))
        stop += run
        if run < LANES:
            break
    if stop + LANES > data.size:
        while stop < end and data[np.uintp(stop)] < 0x80 and classes[np.uintp(data[np.uintp(stop)])] & WORD:
            letters |= np.uint64(classes[np.uintp(data[np.uintp(stop)])] & LETTER)
            stop += 1
    if stop >= end:
        # What was seen behind the end is another text's.
        return (end, BEGINS_WORD | HAS_LETTER) if stop == end and letters else (at, _NONE)
    following = data[np.uintp(stop)]
    if following >= 0x80:
        return at, _NONE
    flag = BEGINS_WORD | HAS_LETTER
    if letters == 0:
        flag = BEGINS_WORD
    if classes[np.uintp(following)] & JOINER:
        after = data[np.uintp(stop + 1)] if stop + 1 < end else np.uint8(0x20)
        if after >= 0x80 or classes[np.uintp(after)] & WORD:
            return at, _NONE
        if following == 0x2E and after != 0x2E and stop - at == 1 and letters:
            stop += 1
    return stop, flag


@bare_inner
def _punctuation_only(data: Bytes, start: Whole, stop: Whole, punctuation: Bytes) -> Any:
    only = np.uint8(1)
    while start < stop:
        code, width = decode(data, start, stop)
        only &= punctuation[np.uintp(code)]
        start += width
    return IS_PUNCTUATION if only else _NONE


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint64:
    """Eight bytes at a time; two pieces of one length up to eight bytes never collide."""
    value = _BASIS * np.uint64(stop - start)
    while stop - start > 8:
        value = (value ^ load_word(data, start)) * _PRIME
        value ^= value >> np.uint64(32)
        start += 8
    word = np.uint64(0)
    if start + 8 <= data.size:
        # A shift by 64 is none at all, so in two steps.
        unused = np.uint64(4 * (8 - (stop - start)))
        word = (load_word(data, start) << unused << unused) if stop > start else word
    else:
        for at in range(start, stop):
            word |= np.uint64(data[np.uintp(at)]) << np.uint64(8 * (8 - (stop - at)))
    value = (value ^ word) * _MIX_1
    value = (value ^ (value >> np.uint64(30))) * _MIX_2
    return value ^ (value >> np.uint64(31))


@bare_inner
def _next_piece(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, Whole, Whole, bool, Whole]:
    """Start, stop, characters, whether it has a letter, and its character if a mark; start is `end` after the last."""
    code: Whole = 0
    width: Whole = 0
    kind: Any = np.uint8(0)
    while at < end:
        code, width = decode(data, at, end)
        kind = classes[np.uintp(code)]
        if not kind & (SPACE | EXTEND):  # without a word before it, a combining mark belongs to nothing
            break
        at += width
    start = at
    if at >= end:
        return end, end, 0, False, _NO_MARK
    at += width
    length = 1
    if not kind & WORD:
        while at < end:
            following, width = decode(data, at, end)
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
        code, width = decode(data, at, end)
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
            following, _ = decode(data, at + width, end) if at + width < end else (0x20, 1)
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
    return start, at, length, letter, _NO_MARK
