"""Texts cut into the tokens of spaCy's English tokenizer; sentences counted over any cut.

In: texts, and what the tokenizer's rules say: as arrays for ASCII, and as a table of chunks whose tokens are known. Out:
the byte ranges of the tokens. A *chunk* is what lies between white space (`str.isspace`), and its tokens fill it.

Always true: a chunk of ASCII and the usual quotation marks, dashes and ellipses is cut here by the tokenizer's own rules
(ends taken off, special cases, URLs, infixes); every other chunk, and one that may hold an emoticon, is looked up in the
table by its 64-bit hash and compared byte by byte, or named as a miss that the caller resolves. White space is no token.

A sentence is what spaCy's `Sentencizer` says: it ends with the first of the characters of `sentence_classes` that is a
token for itself, together with the punctuation that follows it.
"""

import unicodedata
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.pieces import Cut
from factory.kernels.text import Bytes, Flags, Hashes, Integers, Lengths, TextView, Whole
from factory.kernels.utf8 import decode

PUNCTUATION, TERMINAL = np.uint8(1), np.uint8(2)
BESIDE = np.uint8(1)  # flag of a table's entry: the chunks beside it may change its tokens

_LETTER, _SPACE, _WIDE, _MULTIBYTE, _OTHER = (np.uint8(1 << bit) for bit in range(5))
_PREFIX, _SUFFIX, _FULL_STOP, _QUOTE, _LOWER, _UPPER, _FIGURE, _DASH = (np.uint8(1 << bit) for bit in range(8))
_ALPHA = _LOWER | _UPPER

# Characters outside ASCII that the rules here know, and the codes they have here.
_WIDE_CHARACTERS = "–—‘’“”…"
_EN_DASH, _EM_DASH, _APOSTROPHE, _ELLIPSIS = (np.uint8(0x80 + _WIDE_CHARACTERS.index(one)) for one in "–—’…")

_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_LENGTH = 256  # characters of a chunk that is cut here at most
_PAIRS = 1 << 16

# Unicode's Sentence_Terminal as of version 10, without the full stops that are also used inside words, and with the
# half-width and ideographic ones: what spaCy's Sentencizer has by default.
_TERMINALS = """
21 2E 3F 589 61F 6D4 700-702 7F9 964-965 104A-104B 1362 1367-1368 166E 1735-1736 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B
1B5E-1B5F 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9
AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F 10A56-10A57 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD
111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11A42-11A43
11A9B-11A9C 11C41-11C42 16A6E-16A6F 16AF5 16B37-16B38 16B44 1BC9F 1DA88 FF61 3002"""

# The units that are taken off a figure, those in ASCII, as their bytes in one integer.
_UNIT_NAMES = (
    "km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %"
)
_UNITS = np.array([int.from_bytes(unit.encode()) for unit in _UNIT_NAMES.split()], np.int64)

Rows = npt.NDArray[np.int64]


class Entries(NamedTuple):
    """Chunks and their tokens, found by open addressing."""

    slots: Lengths  # entry + 1, or 0
    hashes: Hashes
    keys_at: Integers  # entry -> where its bytes begin in `keys`; those of the next begin where they end
    ends_at: Integers  # entry -> where its tokens' ends begin in `ends`
    flags: Bytes
    keys: Bytes
    ends: Integers  # of each token, in bytes from the beginning of the chunk


class SimpleRules(NamedTuple):
    """What the rules say of ASCII and the wide characters; tokens of special cases end in characters, not bytes."""

    kinds: Bytes  # byte -> what a scan for white space has to know
    marks: Bytes  # code -> what the rules have to know
    by_first: npt.NDArray[np.uint32]  # code -> the lengths, as bits, of special cases that begin with it
    by_last: npt.NDArray[np.uint32]
    pairs: Bytes  # last code of a token * 256 + first of the next -> special cases may be found over such
    rows: Bytes  # some bits of the hash of two such tokens -> likewise
    joins: Bytes  # last byte of a token * 256 + first byte of the next -> some special case has such
    enabled: bool


def cut_chunks(view: TextView, rules: SimpleRules, specials: Entries, table: Entries) -> tuple[Cut, Rows]:
    """The tokens of all texts, and the misses: text, begin and end of each chunk that is not in the table, and how many tokens
    come before it. The cut lacks their tokens (see `fill_cut`)."""
    starts = np.zeros(len(view.offsets), np.int64)
    known: list[Any] = [*view, *rules, *specials, *table]
    size = int(view.offsets[-1] - view.offsets[0])
    tokens, chunks = size // 3 + 1024, size // 64 + 1024
    while True:
        begins, ends = np.empty(tokens, np.int64), np.empty(tokens, np.int64)
        misses = np.empty((chunks, 4), np.int64)
        counts = np.zeros(2, np.int64)
        scratch, codes = np.empty((3, _LENGTH + 1), np.int64), np.empty(_LENGTH + 1, np.uint8)
        arguments = [*known, scratch, codes, starts, begins, ends, misses, counts]
        _cut_chunks(*arguments)
        if counts[0] <= tokens and counts[1] <= chunks:
            return Cut(begins[: counts[0]], ends[: counts[0]], starts), misses[: counts[1]]
        tokens, chunks = max(tokens, int(counts[0])), max(chunks, int(counts[1]))


def fill_cut(cut: Cut, misses: Rows, counts: Integers, ends: Integers) -> Cut:
    """The cut with the tokens of the misses: how many each has, and the bytes from its beginning to the end of each."""
    size = len(cut.begins) + len(ends)
    filled = Cut(np.empty(size, np.int64), np.empty(size, np.int64), cut.starts.copy())
    _fill_cut(*cut, misses, counts, ends, *filled)
    return filled


def find_run(view: TextView, text: int, begin: int, end: int, chunks: int) -> tuple[int, int]:
    """The bytes of a chunk and of those around it, at most so many on each side, that one blank each lies between."""
    run = np.array([begin, end], np.int64)
    _find_run(view.data, view.offsets[text], view.offsets[text + 1], chunks, run)
    return int(run[0]), int(run[1])


class ChunkTable:
    """Entries that grow."""

    def __init__(self) -> None:
        self._count = 0
        self.entries = Entries(
            np.zeros(1 << 12, np.int32),
            np.zeros(0, np.uint64),
            np.zeros(1, np.int64),
            np.zeros(1, np.int64),
            np.zeros(0, np.uint8),
            np.zeros(0, np.uint8),
            np.zeros(0, np.int64),
        )

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.entries)

    def add(self, keys: list[bytes], ends: list[list[int]], flags: list[int]) -> None:
        """Puts chunks in, none of which is in yet and no two of which are the same."""
        slots, hashes, keys_at, ends_at, all_flags, all_keys, all_ends = self.entries
        first, count = self._count, self._count + len(keys)
        joined = np.frombuffer(b"".join(keys), np.uint8)
        flat = np.fromiter((end for tokens in ends for end in tokens), np.int64)
        keys_used, ends_used = int(keys_at[first]), int(ends_at[first])
        hashes, all_flags = _grown(hashes, count), _grown(all_flags, count)
        keys_at, ends_at = _grown(keys_at, count + 1), _grown(ends_at, count + 1)
        all_keys, all_ends = _grown(all_keys, keys_used + len(joined)), _grown(all_ends, ends_used + len(flat))
        keys_at[first + 1 : count + 1] = keys_used + np.cumsum([len(key) for key in keys], dtype=np.int64)
        ends_at[first + 1 : count + 1] = ends_used + np.cumsum([len(tokens) for tokens in ends], dtype=np.int64)
        all_keys[keys_used : keys_used + len(joined)] = joined
        all_ends[ends_used : ends_used + len(flat)] = flat
        all_flags[first:count] = flags
        if 2 * count > len(slots):
            slots, first = np.zeros(1 << (4 * count).bit_length(), np.int32), 0
        _insert(slots, hashes, keys_at, all_keys, first, count)
        self._count = count
        self.entries = Entries(slots, hashes, keys_at, ends_at, all_flags, all_keys, all_ends)


def simple_rules(
    specials: dict[str, tuple[str, ...]],
    rows: list[tuple[str, ...]],
    changing: list[tuple[str, ...]],
    *,
    enabled: bool,
) -> tuple[SimpleRules, Entries]:
    """`rows` are those of tokens that stand for special cases, `changing` those that are not the same as it."""
    kinds = np.full(256, _MULTIBYTE, np.uint8)
    marks = np.zeros(256, np.uint8)
    for byte in range(128):
        character = chr(byte)
        kinds[byte] = _SPACE if character.isspace() else _LETTER if character.isalpha() else _OTHER
        if character.isdigit():
            marks[byte] |= _FIGURE | _FULL_STOP
        elif character.isalpha():
            marks[byte] |= _UPPER if character.isupper() else _LOWER | _FULL_STOP
    kinds[[0xC2, 0xE1, 0xE2, 0xE3]] |= _WIDE
    for characters, bit in (
        ("%=,:;!?()[]{}<>_#*&'\"`$–—‘’“”…", _PREFIX),
        (",:;!?()[]{}<>_#*&'\"`–—‘’“”…", _SUFFIX),
        ("%+-,:;!?()[]{}<>_#*&'\"`|‘’“”…", _FULL_STOP),
        ("'\"`,‘’“”", _QUOTE),  # the tokenizer counts the comma among the quotation marks
        ("-~–—", _DASH),
    ):
        marks[np.frombuffer(_codes(characters), np.uint8)] |= bit
    by_first, by_last = np.zeros(256, np.uint32), np.zeros(256, np.uint32)
    plain = {_codes(special): tokens for special, tokens in specials.items() if _is_simple(special)}
    for special in plain:
        by_first[special[0]] |= np.uint32(1 << len(special))
        by_last[special[-1]] |= np.uint32(1 << len(special))
    table = ChunkTable()
    table.add(list(plain), [list(accumulate(map(len, tokens))) for tokens in plain.values()], [0] * len(plain))
    pairs, hashes, joins = np.zeros(1 << 16, np.uint8), np.zeros(_PAIRS, np.uint8), np.zeros(1 << 16, np.uint8)
    for row in changing:
        if len(row) > 1 and _is_simple(row[0] + row[1]):
            one, two = _codes(row[0]), _codes(row[1])
            pairs[one[-1] * 256 + two[0]] = 1
            hashes[_hash_of(one + two) & (_PAIRS - 1)] = 1
    for row in rows:
        for left, right in pairwise(part.encode() for part in row):
            joins[left[-1] * 256 + right[0]] = 1
    enabled = enabled and all(len(row) > 1 for row in changing) and max(map(len, plain)) < 32
    return SimpleRules(kinds, marks, by_first, by_last, pairs, hashes, joins, enabled), table.entries


def _is_simple(text: str) -> bool:
    return not text.isspace() and all(character < "\x80" or character in _WIDE_CHARACTERS for character in text)


def _codes(text: str) -> bytes:
    return bytes(ord(one) if one < "\x80" else 0x80 + _WIDE_CHARACTERS.index(one) for one in text)


def _grown(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """The array, with room for at least so many."""
    if size <= len(array):
        return array
    larger = np.zeros(max(size, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger


@cache
def sentence_classes() -> Bytes:
    """PUNCTUATION (the categories P), and TERMINAL, of every code point."""
    classes = np.zeros(0x110000, np.uint8)
    for code in (*range(0x323B0), *range(0xE0000, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "P":
            classes[code] = PUNCTUATION
    for codes in _TERMINALS.split():
        first, last = (int(code, 16) for code in (codes.split("-") * 2)[:2])
        classes[first : last + 1] |= TERMINAL
    classes.flags.writeable = False
    return classes


def count_sentences(view: TextView, cut: Cut, *, runs: bool = False) -> Integers:
    """Sentences of each text."""
    return sentence_counts(
        view, cut, view.offsets[:-1], np.where(view.valid, view.offsets[1:], view.offsets[:-1]), runs=runs
    )


def sentence_counts(view: TextView, cut: Cut, begins: Integers, ends: Integers, *, runs: bool = False) -> Integers:
    """Sentences of each line, as if it were a text for itself.

    Line i is the bytes `begins[i]` up to `ends[i]` of the view's data; lines are in order and apart from each other, no piece
    lies across the ends of one. With `runs`, a run of the same terminal mark in one piece, other than full stops, ends a
    sentence too: cutters other than spaCy's make one piece of `!!!`.
    """
    counts = np.zeros(len(begins), np.int64)
    begins, ends = np.ascontiguousarray(begins, np.int64), np.ascontiguousarray(ends, np.int64)
    _count_sentences(view.data, cut.begins, cut.ends, begins, ends, sentence_classes(), runs, counts)
    return counts


def _hash_of(key: bytes) -> int:
    table = ChunkTable()
    table.add([key], [[len(key)]], [0])
    return int(table.entries.hashes[0])


@bare_kernel
def _count_sentences(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    line_begins: Integers,
    line_ends: Integers,
    classes: Bytes,
    runs: bool,
    counts: Integers,
) -> None:
    piece = 0
    for line in range(line_begins.size):
        while piece < begins.size and begins[piece] < line_begins[line]:
            piece += 1
        sentences = 0
        ended = False
        before = np.int64(-1)
        while piece < begins.size and begins[piece] < line_ends[line]:
            at = begins[piece]
            kind = _sentence_kind(data, at, ends[piece], classes, runs)
            if before < 0:
                sentences = 1
            elif ended:
                gap = at - before
                blank = gap > 1 or (gap == 1 and data[np.uintp(before)] != 0x20)  # a token of white space
                if blank or kind == 0:
                    sentences += 1
                    ended = False
            ended = ended or (kind & TERMINAL) != 0
            before = ends[piece]
            piece += 1
        counts[line] = sentences


@bare_inner
def _sentence_kind(data: Bytes, begin: Whole, end: Whole, classes: Bytes, runs: bool) -> Whole:
    """0 for a piece that begins a sentence, PUNCTUATION alone for one that does not, with TERMINAL if it ends one."""
    first, width = decode(data, begin, end)
    kind = np.int64(classes[np.uintp(first)])
    if kind == 0:
        return np.int64(0)
    terminal = kind & TERMINAL
    punctuation = kind & PUNCTUATION
    same = True
    at = begin + width
    while at < end:
        code, width = decode(data, at, end)
        punctuation &= np.int64(classes[np.uintp(code)])
        same = same and code == first
        if not (runs and same and first != 0x2E):
            terminal = np.int64(0)
        at += width
    return punctuation | terminal


@bare_kernel
def _insert(slots: Lengths, hashes: Hashes, keys_at: Integers, keys: Bytes, first: int, count: int) -> None:
    mask = np.uint64(slots.size - 1)
    for entry in range(first, count):
        value = _hash(keys, keys_at[entry], keys_at[entry + 1])
        hashes[entry] = value
        slot = value & mask
        while slots[np.uintp(slot)]:
            slot = (slot + np.uint64(1)) & mask
        slots[np.uintp(slot)] = entry + 1


@bare_kernel
def _find_run(data: Bytes, first: int, last: int, chunks: int, run: Integers) -> None:
    at = run[1]
    for _ in range(chunks):
        if at + 1 >= last or data[at] != 0x20 or _blank(data, at + 1, last):
            break
        at += 1
        while at < last and not _blank(data, at, last):
            at += 1
    run[1] = at
    at = run[0]
    for _ in range(chunks):
        stop = at - 1
        if stop <= first or data[stop] != 0x20:
            break
        begin = stop
        while begin > first:
            back = begin - 1
            while back > first and begin - back < 4 and (data[back] & 0xC0) == 0x80:
                back -= 1
            if _blank(data, back, last):
                break
            begin = back
        if begin == stop:
            break
        at = begin
    run[0] = at


@bare_kernel
def _fill_cut(
    begins: Integers,
    ends: Integers,
    starts: Integers,
    misses: Rows,
    counts: Integers,
    miss_ends: Integers,
    all_begins: Integers,
    all_ends: Integers,
    all_starts: Integers,
) -> None:
    source = filled = given = text = 0
    for miss in range(misses.shape[0]):
        while text < misses[miss, 0]:
            text += 1
            all_starts[text] += given
        for token in range(source, misses[miss, 3]):
            all_begins[filled], all_ends[filled] = begins[token], ends[token]
            filled += 1
        source = misses[miss, 3]
        begin = misses[miss, 1]
        for _ in range(counts[miss]):
            all_begins[filled] = begin
            begin = misses[miss, 1] + miss_ends[given]
            all_ends[filled] = begin
            given += 1
            filled += 1
    while text < starts.size - 1:
        text += 1
        all_starts[text] += given
    for rest in range(source, begins.size):
        all_begins[filled], all_ends[filled] = begins[rest], ends[rest]
        filled += 1


@bare_kernel
def _cut_chunks(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    kinds: Bytes,
    marks: Bytes,
    by_first: npt.NDArray[np.uint32],
    by_last: npt.NDArray[np.uint32],
    pairs: Bytes,
    rows: Bytes,
    joins: Bytes,
    enabled: bool,
    special_slots: Lengths,
    special_hashes: Hashes,
    special_keys_at: Integers,
    special_ends_at: Integers,
    special_flags: Bytes,
    special_keys: Bytes,
    special_ends: Integers,
    slots: Lengths,
    hashes: Hashes,
    keys_at: Integers,
    ends_at: Integers,
    flags: Bytes,
    keys: Bytes,
    table_ends: Integers,
    scratch: Rows,
    codes: Bytes,
    starts: Integers,
    begins: Integers,
    ends: Integers,
    misses: Rows,
    counts: Integers,
) -> None:
    filled = missed = 0
    room = begins.size
    for text in range(offsets.size - 1):
        at = offsets[text]
        last = offsets[text + 1] if valid[text] else at
        previous = np.int64(-1)  # the end of the chunk before
        while at < last:
            kind = kinds[data[np.uintp(at)]]
            if kind & _SPACE:
                at += 1
                continue
            if kind & _WIDE:
                width = _wide_space(data, at, last)
                if width:
                    at += width
                    continue
            begin = at
            seen = kind
            at += 1
            while at < last:
                kind = kinds[data[np.uintp(at)]]
                if kind & (_SPACE | _WIDE) and (kind & _SPACE or _wide_space(data, at, last)):
                    break
                seen |= kind
                at += 1
            end = at
            before, previous = previous, end
            length = end - begin
            if enabled and seen == _LETTER and (length > 31 or not (by_first[data[np.uintp(begin)]] >> length) & 1):
                if filled < room:  # most of most texts
                    begins[np.uintp(filled)], ends[np.uintp(filled)] = begin, end
                filled += 1
                continue
            count = np.int64(0)
            if enabled:
                size = _encode(data, begin, end, codes, scratch)
                if size:
                    count = _cut_simple(
                        codes, size, marks, by_first, by_last, pairs, rows, special_slots, special_hashes,
                        special_keys_at, special_ends_at, special_keys, special_ends, scratch,
                    )  # fmt: skip
            token = begin
            if count:
                for index in range(count):
                    if filled < room:
                        begins[filled] = token
                        token = begin + scratch[2, scratch[0, index]]
                        ends[filled] = token
                    filled += 1
                continue
            entry = _find(data, begin, end, slots, hashes, keys_at, keys)
            if entry >= 0 and flags[entry] & BESIDE:
                met = np.uint8(0)
                if before == begin - 1 and data[before] == 0x20:
                    met |= joins[np.int64(data[before - 1]) * 256 + np.int64(data[begin])]
                if end + 1 < last and data[end] == 0x20:
                    met |= joins[np.int64(data[end - 1]) * 256 + np.int64(data[end + 1])]
                if met:
                    entry = np.int64(-1)
            if entry >= 0:
                for index in range(ends_at[entry], ends_at[entry + 1]):
                    if filled < room:
                        begins[filled] = token
                        token = begin + table_ends[index]
                        ends[filled] = token
                    filled += 1
            else:
                if missed < misses.shape[0]:
                    misses[missed, 0], misses[missed, 1] = text, begin
                    misses[missed, 2], misses[missed, 3] = end, filled
                missed += 1
        starts[text + 1] = filled
    counts[0], counts[1] = filled, missed


@bare_inner
def _encode(data: Bytes, begin: Whole, end: Whole, codes: Bytes, scratch: Rows) -> Whole:
    """Puts the chunk's codes into `codes`, where each begins into `scratch[2]`; how many, 0 if the rules do not know one."""
    size = np.int64(0)
    at = begin
    while at < end:
        if size >= _LENGTH:
            return np.int64(0)
        byte = data[np.uintp(at)]
        scratch[2, size] = at - begin
        if byte < 0x80:
            at += 1
        elif byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80:
            third = data[at + 2]
            if third == 0x93 or third == 0x94:
                byte = np.uint8(0x80 + (third - 0x93))
            elif third == 0x98 or third == 0x99:
                byte = np.uint8(0x82 + (third - 0x98))
            elif third == 0x9C or third == 0x9D:
                byte = np.uint8(0x84 + (third - 0x9C))
            elif third == 0xA6:
                byte = np.uint8(0x86)
            else:
                return np.int64(0)
            at += 3
        else:
            return np.int64(0)
        codes[size] = byte
        size += 1
    scratch[2, size] = at - begin
    return size


@bare_inner
def _cut_simple(
    codes: Bytes,
    size: Whole,
    marks: Bytes,
    by_first: npt.NDArray[np.uint32],
    by_last: npt.NDArray[np.uint32],
    pairs: Bytes,
    rows: Bytes,
    slots: Lengths,
    hashes: Hashes,
    keys_at: Integers,
    ends_at: Integers,
    keys: Bytes,
    special_ends: Integers,
    scratch: Rows,
) -> Whole:
    """Puts the ends of the tokens into `scratch[0]`; how many, 0 if that is not for certain."""
    first, last = np.int64(0), size
    count = np.int64(0)
    taken = np.int64(0)  # suffixes so far, their ends in scratch[1]
    special = np.int64(-1)
    while first < last and special < 0:
        before = after = np.int64(0)
        for trial in range(3):
            left, right = first, last
            if trial == 1:
                before = _prefix(codes, first, last, marks)
                if before == 0 or first + before >= last:
                    continue
                left = first + before
            elif trial == 2:
                after = _suffix(codes, first + before, last, marks)
                if after == 0 or last - after <= first:
                    continue
                right = last - after
            length = right - left
            if length < 32 and (by_first[codes[left]] >> length) & (by_last[codes[right - 1]] >> length) & 1:
                special = _find(codes, left, right, slots, hashes, keys_at, keys)
                if special >= 0:
                    before, after = left - first, last - right
                    break
        if before == 0 and after == 0:
            break
        if before:
            first += before
            scratch[0, count] = first
            count += 1
        if after:
            scratch[1, taken] = last
            taken += 1
            last -= after
    if special >= 0:
        for index in range(ends_at[special], ends_at[special + 1]):
            scratch[0, count] = first + special_ends[index]
            count += 1
    elif first < last:
        start = first
        url = _is_url(codes, first, last, marks)
        if url == 2:
            return np.int64(0)
        if url == 0:
            at = first + 1
            while at < last:
                width = _infix(codes, at, last, marks)
                if width:
                    if at > start:
                        scratch[0, count] = at
                        count += 1
                    at += width
                    scratch[0, count] = at
                    count += 1
                    start = at
                else:
                    at += 1
        if start < last:
            scratch[0, count] = last
            count += 1
    while taken:
        taken -= 1
        scratch[0, count] = scratch[1, taken]
        count += 1
    start = np.int64(0)
    for index in range(count - 1):
        middle = scratch[0, index]
        both = np.int64(codes[middle - 1]) * 256 + np.int64(codes[middle])
        if pairs[both] and rows[_hash(codes, start, scratch[0, index + 1]) & np.uint64(_PAIRS - 1)]:
            return np.int64(0)
        start = middle
    return count


@bare_inner
def _prefix(codes: Bytes, first: Whole, last: Whole, marks: Bytes) -> Whole:
    """How many codes are taken off the beginning."""
    code = codes[first]
    if marks[code] & _PREFIX:
        return np.int64(1)
    if code == 0x2E:
        at = first + 1
        while at < last and codes[at] == 0x2E:
            at += 1
        return at - first if at - first > 1 else np.int64(0)
    if code == 0x2B:
        return np.int64(1) if first + 1 == last or not marks[codes[first + 1]] & _FIGURE else np.int64(0)
    if code == 0x55 and last - first > 2 and codes[first + 1] == 0x53 and codes[first + 2] == 0x24:  # US$
        return np.int64(3)
    if (code == 0x43 or code == 0x41) and last - first > 1 and codes[first + 1] == 0x24:  # C$, A$
        return np.int64(2)
    return np.int64(0)


@bare_inner
def _suffix(codes: Bytes, first: Whole, last: Whole, marks: Bytes) -> Whole:
    """How many codes are taken off the end; nothing before `first` is looked at."""
    if first >= last:
        return np.int64(0)
    code = codes[last - 1]
    mark = marks[code]
    if mark & _SUFFIX:
        return np.int64(2 if code == _ELLIPSIS and last - first > 1 and codes[last - 2] == _ELLIPSIS else 1)
    if last - first < 2:
        return np.int64(0)
    other = codes[last - 2]
    if code == 0x2E:
        if other == 0x2E:
            at = last - 2
            while at > first and codes[at - 1] == 0x2E:
                at -= 1
            return last - at
        capitals = marks[other] & _UPPER and last - first > 2 and marks[codes[last - 3]] & _UPPER
        return np.int64(1) if marks[other] & _FULL_STOP or capitals else np.int64(0)
    if code == 0x2B:
        return np.int64(1) if marks[other] & _FIGURE else np.int64(0)
    if code == 0x24:
        if marks[other] & _FIGURE:
            return np.int64(1)
        if (other == 0x43 or other == 0x41) and last - first > 2 and marks[codes[last - 3]] & _FIGURE:
            return np.int64(2)
        if other == 0x53 and last - first > 3 and codes[last - 3] == 0x55 and marks[codes[last - 4]] & _FIGURE:
            return np.int64(3)
        return np.int64(0)
    if (code == 0x73 or code == 0x53) and (other == 0x27 or other == _APOSTROPHE):  # 's
        return np.int64(2)
    if mark & _ALPHA or code == 0x25:
        packed = np.int64(code)
        for length in range(1, 5):
            if last - length <= first:
                break
            left = codes[last - length - 1]
            if marks[left] & _FIGURE:
                for index in range(_UNITS.size):
                    if _UNITS[index] == packed:
                        return np.int64(length)
                break
            packed |= np.int64(left) << (8 * length)
    return np.int64(0)


@bare_inner
def _infix(codes: Bytes, at: Whole, last: Whole, marks: Bytes) -> Whole:
    """How many codes are an infix at `at`, which is not the first."""
    code = codes[at]
    mark = marks[code]
    if mark & (_ALPHA | _FIGURE):
        return np.int64(0)
    before = marks[codes[at - 1]]
    following = codes[at + 1] if at + 1 < last else np.uint8(0x20)
    after = marks[following]
    if code == 0x2E:
        stop = at + 1
        while stop < last and codes[stop] == 0x2E:
            stop += 1
        if stop - at > 1:
            return stop - at
        return np.int64(1) if before & (_LOWER | _QUOTE) and after & (_UPPER | _QUOTE) else np.int64(0)
    if code == _ELLIPSIS:
        return np.int64(1)
    sign = code == 0x2D or code == 0x2B or code == 0x2A or code == 0x5E  # - + * ^
    if sign and before & _FIGURE and (after & _FIGURE or following == 0x2D):
        return np.int64(1)
    if not before & (_ALPHA | _FIGURE):
        return np.int64(0)
    if mark & _DASH:
        if after & _ALPHA:
            return np.int64(1)
        longest = np.int64(3 if code == 0x2D else 2 if code == _EM_DASH else 1)
        for width in range(2, longest + 1):
            if at + width >= last or codes[at + width - 1] != code:
                break
            if marks[codes[at + width]] & _ALPHA:
                return np.int64(width)
        return np.int64(0)
    if not after & _ALPHA:
        return np.int64(0)
    if code == 0x2C:
        return np.int64(1) if before & _ALPHA else np.int64(0)
    if code == 0x3A or code == 0x3C or code == 0x3E or code == 0x3D or code == 0x2F:  # : < > = /
        return np.int64(1)
    return np.int64(0)


@bare_inner
def _is_url(codes: Bytes, first: Whole, last: Whole, marks: Bytes) -> Whole:
    """1 if the whole is a URL: a host behind a scheme or a user, if any, then a port and a path; 2 if it may be an address."""
    addresses = 0
    for stop in range(first + 1, last - 1):  # the last full stop of the host
        if codes[stop] != 0x2E:
            continue
        if marks[codes[stop + 1]] & _FIGURE:
            addresses += 1
            if addresses == 3:
                return np.int64(2)
        at = stop + 1
        while at < last and marks[codes[at]] & _LOWER:
            at += 1
        if at - stop < 3 or at - stop > 64:
            continue
        if at < last and codes[at] == 0x3A:
            port = at + 1
            while port < last and marks[codes[port]] & _FIGURE:
                port += 1
            if port - at < 3 or port - at > 6:
                continue
            at = port
        if at < last and codes[at] != 0x2F and codes[at] != 0x3F and codes[at] != 0x23:
            continue
        begin = stop
        label = stop  # the end of the label that is looked at: 1 to 64 codes, none of - and _ at its ends
        sound = True
        while True:
            code = codes[begin - 1] if begin > first else np.uint8(0x20)
            if marks[code] & (_ALPHA | _FIGURE) or code >= 0x80 or code == 0x5F or code == 0x2D:
                begin -= 1
                continue
            sound = sound and begin < label and label - begin <= 64
            if sound:
                head, tail = codes[begin], codes[label - 1]
                sound = head != 0x2D and head != 0x5F and tail != 0x2D and tail != 0x5F
            if code != 0x2E:
                break
            begin -= 1
            label = begin
        if not sound:
            continue
        if begin == first or (codes[begin - 1] == 0x40 and begin - 1 > first):
            return np.int64(1)
        if begin - first > 4 and codes[begin - 1] == 0x2F and codes[begin - 2] == 0x2F and codes[begin - 3] == 0x3A:
            scheme = first
            while scheme < begin - 3:
                code = codes[scheme]
                if not (
                    marks[code] & (_ALPHA | _FIGURE) or code == 0x5F or code == 0x2B or code == 0x2D or code == 0x2E
                ):
                    break
                scheme += 1
            if scheme == begin - 3:
                return np.int64(1)
    return np.int64(0)


@bare_inner
def _find(
    data: Bytes, begin: Whole, end: Whole, slots: Lengths, hashes: Hashes, keys_at: Integers, keys: Bytes
) -> Whole:
    """The entry of these bytes, or -1."""
    value = _hash(data, begin, end)
    mask = np.uint64(slots.size - 1)
    slot = value & mask
    while slots[np.uintp(slot)]:
        entry = np.int64(slots[np.uintp(slot)]) - 1
        if hashes[entry] == value and keys_at[entry + 1] - keys_at[entry] == end - begin:
            key = keys_at[entry]
            index = np.int64(0)
            while index < end - begin and keys[np.uintp(key + index)] == data[np.uintp(begin + index)]:
                index += 1
            if index == end - begin:
                return entry
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1)


@bare_inner
def _hash(data: Bytes, start: Whole, stop: Whole) -> np.uint64:
    value = _FNV_BASIS
    for at in range(np.uintp(start), np.uintp(stop)):
        value = (value ^ np.uint64(data[np.uintp(at)])) * _FNV_PRIME
    value = (value ^ (value >> np.uint64(30))) * _MIX
    return value ^ (value >> np.uint64(31))


@bare_inner
def _blank(data: Bytes, at: Whole, last: Whole) -> Any:
    byte = data[np.uintp(at)]
    if byte < 0x80:
        return byte == 0x20 or 0x09 <= byte <= 0x0D or 0x1C <= byte <= 0x1F
    return _wide_space(data, at, last) > 0


@bare_inner
def _wide_space(data: Bytes, at: Whole, last: Whole) -> Whole:
    """Bytes of the white space at `at` outside ASCII, or 0."""
    byte = data[np.uintp(at)]
    if byte == 0xC2:
        if at + 1 < last and (data[at + 1] == 0x85 or data[at + 1] == 0xA0):
            return np.int64(2)
        return np.int64(0)
    if at + 2 >= last:
        return np.int64(0)
    second, third = data[at + 1], data[at + 2]
    if byte == 0xE2:
        if second == 0x80 and (third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF) and third >= 0x80:
            return np.int64(3)
        return np.int64(3) if second == 0x81 and third == 0x9F else np.int64(0)
    if byte == 0xE1:
        return np.int64(3) if second == 0x9A and third == 0x80 else np.int64(0)
    if byte == 0xE3:
        return np.int64(3) if second == 0x80 and third == 0x80 else np.int64(0)
    return np.int64(0)
