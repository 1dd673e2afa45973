"""The line pass of C4 (arXiv:1910.10683), as datatrove's C4QualityFilter reads it, over Arrow buffers.

A line ends where `str.splitlines` ends it. White space around a line goes, then citation marks (`[12]`, `[edit]`,
`[citation needed]`); a line is dropped by the first rule it breaks; the lines left are joined by line feeds, and white
space around the whole goes. Nothing is written anew here: the pass gives the byte ranges that go (`removed`), and the line
breaks that stay and are no line feeds (`breaks`), so that both together give the edited text byte for byte.

Lower case means `str.lower`, where the Kelvin sign is a k.
"""

import threading
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from factory.kernels.characters import BREAK, DECIMAL, SPACE, line_classes
from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, TextView, Whole, view_text
from factory.kernels.utf8 import decode, decode_last

COUNTED = (
    *("lines", "kept_lines", "long_word_lines", "unpunctuated_lines", "short_lines", "javascript_lines"),
    *("policy_lines", "lorem_ipsum", "curly_bracket", "removed_bytes", "citations", "long_lines"),
)
_LONG_LINE = 200  # characters; mC4 asks for three such lines (arXiv:2010.11934)

_CALM, _BRACKET, _CURLY, _TRIGGER, _BREAK, _WIDE = range(6)
_LOREM, _JAVASCRIPT, _POLICY = 1, 2, 4
_KELVIN = 0x212A


class LineRules(NamedTuple):
    """The settings of the pass; a bound that is absent is -1."""

    terminal_punctuation: bool
    citations: bool
    min_words: int
    max_word_length: int
    javascript: bool
    policy: bool


class Ranges(NamedTuple):
    """Byte ranges of a view's data; those of text i are `starts[i]` up to `starts[i + 1]`."""

    begins: Integers
    ends: Integers
    starts: Integers


class Marked(NamedTuple):
    """A row of counts per text, in the order of COUNTED, and ranges: what goes, odd breaks that stay, kept lines.

    A kept line is without the white space around it and still with its citation marks.
    """

    view: TextView
    counts: Integers
    removed: Ranges
    breaks: Ranges
    lines: Ranges

    @property
    def cited(self) -> Flags:
        """Whether a citation mark was taken out of a kept line."""
        cited: Flags = self.counts[:, COUNTED.index("citations")] > 0
        return cited


def lines_of(array: pa.Array, rules: LineRules) -> Marked:
    """The marked lines of a column of texts, made once per batch whoever asks: Arrow buffers do not change."""
    key = (rules, array.offset, len(array), *(buffer and (buffer.address, buffer.size) for buffer in array.buffers()))
    if getattr(_memo, "key", None) != key:
        _memo.marked = mark_lines(view_text(array), rules)
        _memo.key, _memo.array = key, array  # the array is held, so that its addresses mean nothing else meanwhile
    marked: Marked = _memo.marked
    return marked


_memo = threading.local()


def mark_lines(view: TextView, rules: LineRules) -> Marked:
    texts = len(view.valid)
    counts = np.zeros((texts, len(COUNTED)), np.int64)
    starts = tuple(np.zeros(texts + 1, np.int64) for _ in range(3))
    size = view.offsets[-1] - view.offsets[0]
    room = 64 + int(size) // 32
    ranges = tuple(np.empty(room, np.int64) for _ in range(6))
    scratch = np.empty(int(np.diff(view.offsets).max(initial=0)), np.uint8)
    done = 0
    while True:
        arrays: tuple[Any, ...] = (scratch, counts, *starts, *ranges)
        done = _mark_lines(view.offsets, view.data, view.valid, line_classes(), _KINDS, done, *rules, *arrays)
        if done == texts:
            break
        ranges = tuple(np.concatenate([array, np.empty_like(array)]) for array in ranges)
    made = (Ranges(ranges[2 * i][: s[-1]], ranges[2 * i + 1][: s[-1]], s) for i, s in enumerate(starts))
    return Marked(view, counts, *made)


def edit_texts(marked: Marked) -> TextView:
    """The texts as the pass leaves them."""
    view = marked.view
    offsets = np.zeros(len(view.offsets), np.int64)
    data = np.empty(int(view.offsets[-1] - view.offsets[0]), np.uint8)
    _copy_texts(*view, *marked.removed, *marked.breaks, offsets, data)
    return _view(offsets, data, view.valid)


def edited_lines(marked: Marked, chosen: Integers) -> TextView:
    """Some of the kept lines, each as a text of its own without citation marks."""
    begins, ends = marked.lines.begins[chosen], marked.lines.ends[chosen]
    return _copies(marked.view.data, begins, ends, citations=True)


def sum_by_text(counts: Integers, lines: Ranges) -> Integers:
    """Counts of kept lines, summed over the lines of each text."""
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return np.diff(sums[lines.starts])


def select_texts(view: TextView, chosen: Integers) -> TextView:
    """A copy of some of the texts."""
    return _copies(view.data, view.offsets[chosen], view.offsets[chosen + 1], citations=False)


def count_kept_pieces(marked: Marked, begins: Integers, starts: Integers) -> Integers:
    """How many pieces of each text lie outside what is removed; right where no citation mark was taken out."""
    counts = np.zeros(len(marked.view.valid), np.int64)
    _count_kept(begins, starts, *marked.removed, counts)
    return counts


def spans_column(view: TextView, ranges: Ranges, kind: pa.DataType) -> pa.Array:
    """Ranges as a column of SPANS, from the beginning of each text; null where there is none."""
    base = np.repeat(view.offsets[:-1], np.diff(ranges.starts))
    fields = [pa.array((bound - base).astype(np.uint32)) for bound in (ranges.begins, ranges.ends)]
    spans = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    offsets = pa.array(ranges.starts.astype(np.int32), mask=np.append(~view.valid, False))
    return pa.ListArray.from_arrays(offsets, spans)


def _copies(data: Bytes, begins: Integers, ends: Integers, *, citations: bool) -> TextView:
    offsets = np.zeros(len(begins) + 1, np.int64)
    made = np.empty(int((ends - begins).sum()), np.uint8)
    _copy_lines(data, line_classes(), begins, ends, citations, offsets, made)
    return _view(offsets, made, np.ones(len(begins), np.bool_))


def _view(offsets: Integers, data: Bytes, valid: Flags) -> TextView:
    data = data[: offsets[-1]]
    for array in (offsets, data, valid):
        array.flags.writeable = False  # one kind of array, so one compiled version of each kernel
    return TextView(offsets, data, valid)


def _make_kinds() -> Bytes:
    kinds = np.full(256, _WIDE, np.uint8)
    for code in range(128):
        kinds[code] = _BREAK if len(f"a{chr(code)}b".splitlines()) > 1 else _CALM
    for character in "jkvfp":  # one letter, not a frequent one, of each phrase
        kinds[ord(character)] = kinds[ord(character.upper())] = _TRIGGER
    kinds[ord("[")], kinds[ord("{")] = _BRACKET, _CURLY
    kinds.flags.writeable = False
    return kinds


_KINDS = _make_kinds()


@bare_kernel
def _mark_lines(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    kinds: Bytes,
    first_text: int,
    terminal_punctuation: bool,
    citations: bool,
    min_words: int,
    max_word_length: int,
    javascript: bool,
    policy: bool,
    scratch: Bytes,
    counts: Integers,
    removed_starts: Integers,
    break_starts: Integers,
    line_starts: Integers,
    removed_begins: Integers,
    removed_ends: Integers,
    break_begins: Integers,
    break_ends: Integers,
    line_begins: Integers,
    line_ends: Integers,
) -> int:
    """Returns the first text that found no room, to be begun again, or the number of texts."""
    room = removed_begins.size - 4
    for text in range(first_text, offsets.size - 1):
        begin, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        for column in range(counts.shape[1]):
            counts[text, column] = 0
        filled, breaks, kept = removed_starts[text], break_starts[text], line_starts[text]
        cursor = begin  # what lies before is either removed or stays
        solid, solid_filled, solid_breaks = begin, filled, breaks  # after the last character that is not white space
        started = False
        joint, joint_stop = np.int64(-1), np.int64(-1)  # the break that will join the next kept line
        joint_is_feed = False
        at = feed = begin  # feed: after the last line feed
        while at < end:
            if filled > room or breaks > room or kept > room:
                return text
            line = at
            at, found = _scan(data, at, end, classes, kinds)
            start = _skip_space(data, line, at, classes)
            last = _trim_space(data, start, at, classes)
            counts[text, 0] += 1
            cited = False
            if citations and found & 16:
                size = _without_citations(data, start, last, classes, scratch)
                cited = size < last - start
                if cited:
                    _, found = _scan(scratch, 0, size, classes, kinds)
                    ends_well = _ends_well(scratch, 0, size)
            if not cited:
                ends_well = _ends_well(data, start, last)
            keep = False
            if max_word_length >= 0 and _has_long_word(data, start, last, classes, max_word_length):
                counts[text, 2] += 1
            elif terminal_punctuation and not ends_well:
                counts[text, 3] += 1
            elif not _has_words(data, start, last, classes, min_words):
                counts[text, 4] += 1
            else:
                counts[text, 7] |= found & _LOREM
                if javascript and found & _JAVASCRIPT:
                    counts[text, 5] += 1
                else:
                    counts[text, 8] |= (found >> 3) & 1
                    if policy and found & _POLICY:
                        counts[text, 6] += 1
                    else:
                        keep = True
            if keep:
                counts[text, 1] += 1
                counts[text, 10] += cited
                line_begins[kept], line_ends[kept] = start, last
                kept += 1
                if started:
                    if joint > cursor:
                        removed_begins[filled], removed_ends[filled] = cursor, joint
                        filled += 1
                    cursor = joint_stop
                    if not joint_is_feed:
                        break_begins[breaks], break_ends[breaks] = joint, joint_stop
                        breaks += 1
                joint = np.int64(-1)
                piece = start
                while piece < last:
                    stop = following = last
                    if cited:
                        stop, following = _next_citation(data, piece, last, classes)
                    if not started:
                        piece = _skip_space(data, piece, stop, classes)
                    if piece < stop:
                        started = True
                        if filled > room:
                            return text
                        if piece > cursor:
                            removed_begins[filled], removed_ends[filled] = cursor, piece
                            filled += 1
                        cursor = stop
                        trimmed = _trim_space(data, piece, stop, classes)
                        if trimmed > piece:
                            solid, solid_filled, solid_breaks = trimmed, filled, breaks
                    piece = following
            if at < end:
                code, width = decode(data, at, end)
                if code == 0x0D and at + 1 < end and data[at + 1] == 0x0A:
                    at += 1
                    code = np.int64(0x0A)
                if joint < 0 or (not joint_is_feed and code == 0x0A):
                    joint, joint_stop, joint_is_feed = at, at + width, code == 0x0A
                if code == 0x0A:
                    counts[text, 11] += _is_long(data, feed, at)
                    feed = at + 1
                at += width
        counts[text, 11] += _is_long(data, feed, end)
        filled, breaks = solid_filled, solid_breaks
        if solid < end:
            removed_begins[filled], removed_ends[filled] = solid, end
            filled += 1
        for span in range(removed_starts[text], filled):
            counts[text, 9] += removed_ends[span] - removed_begins[span]
        removed_starts[text + 1], break_starts[text + 1], line_starts[text + 1] = filled, breaks, kept
    return offsets.size - 1


@bare_inner
def _scan(data: Bytes, at: Whole, end: Whole, classes: Bytes, kinds: Bytes) -> tuple[Whole, Whole]:
    """Where the line from `at` ends, and what was found: phrases, 8 a curly bracket, 16 a square one."""
    begin = at
    found = np.int64(0)
    while at < end:
        kind = kinds[data[np.uintp(at)]]
        width = np.int64(1)
        if kind == _CALM:  # most of most texts
            at += 1
            continue
        if kind == _BREAK:
            break
        if kind == _WIDE:
            code, width = decode(data, at, end)
            if classes[np.uintp(code)] & BREAK:
                break
            if code == _KELVIN:
                found |= _phrases(data, at, begin, end, width)
        elif kind == _TRIGGER:
            found |= _phrases(data, at, begin, end, width)
        else:
            found |= 16 if kind == _BRACKET else 8
        at += width
    return at, found


@bare_inner
def _has_words(data: Bytes, at: Whole, stop: Whole, classes: Bytes, wanted: Whole) -> bool:
    """Whether [at, stop) has so many words; looks no further than the last of them."""
    inside = False
    while at < stop and wanted > 0:
        code, width = decode(data, at, stop)
        space = (classes[np.uintp(code)] & SPACE) != 0
        wanted -= inside and space
        inside = not space
        at += width
    return bool(wanted - inside <= 0)


@bare_inner
def _has_long_word(data: Bytes, at: Whole, stop: Whole, classes: Bytes, most: Whole) -> bool:
    if stop - at <= most:
        return False
    length = np.int64(0)
    while at < stop and length <= most:
        code, width = decode(data, at, stop)
        length = np.int64(0) if classes[np.uintp(code)] & SPACE else length + 1
        at += width
    return bool(length > most)


@bare_inner
def _is_long(data: Bytes, at: Whole, stop: Whole) -> bool:
    if stop - at < _LONG_LINE:
        return False
    characters = 0
    while at < stop and characters < _LONG_LINE:
        characters += (data[np.uintp(at)] & 0xC0) != 0x80
        at += 1
    return characters >= _LONG_LINE


@bare_inner
def _phrases(data: Bytes, at: Whole, begin: Whole, end: Whole, width: Whole) -> Whole:
    """Which phrases the letter at `at` (j, k, v, f or p) gives away."""
    letter = data[np.uintp(at)] | 0x20
    if width > 1 or letter == 0x6B:
        return _policy_of_cookies(data, at, begin, end, width)
    return _phrase(data, at, begin, end, letter)


def _words(text: str) -> Bytes:
    array = np.frombuffer(text.encode(), np.uint8)
    array.flags.writeable = False
    return array


_LOREM_IPSUM, _SCRIPT = _words("lorem ipsum"), _words("javascript")
_PRIVACY_POLICY, _TERMS_OF_USE = _words("privacy policy"), _words("terms of use")
_COO, _IE, _AFTER = _words("coo"), _words("ie"), _words(" policy")
_USES, _USE_OF, _USE = _words("uses "), _words("use of "), _words("use ")


@bare_inner
def _phrase(data: Bytes, at: Whole, begin: Whole, end: Whole, letter: Whole) -> Whole:
    if letter == 0x70:
        return _LOREM if _is(data, at - 7, begin, end, _LOREM_IPSUM) else 0
    if letter == 0x6A:
        return _JAVASCRIPT if _is(data, at, begin, end, _SCRIPT) else 0
    if letter == 0x76:
        return _POLICY if _is(data, at - 3, begin, end, _PRIVACY_POLICY) else 0
    return _POLICY if _is(data, at - 7, begin, end, _TERMS_OF_USE) else 0


@bare_inner
def _policy_of_cookies(data: Bytes, at: Whole, begin: Whole, end: Whole, width: Whole) -> Whole:
    """cookie policy, uses cookies, use of cookies, use cookies; a Kelvin sign is three bytes wide."""
    first, after = at - 3, at + width + 2
    if not (_is(data, first, begin, end, _COO) and _is(data, at + width, begin, end, _IE)):
        return 0
    if _is(data, after, begin, end, _AFTER):
        return _POLICY
    if after < end and data[after] | 0x20 == 0x73:
        if _is(data, first - 5, begin, end, _USES) or _is(data, first - 7, begin, end, _USE_OF):
            return _POLICY
        if _is(data, first - 4, begin, end, _USE):
            return _POLICY
    return 0


@bare_inner
def _is(data: Bytes, at: Whole, begin: Whole, end: Whole, phrase: Bytes) -> bool:
    """Whether the phrase, of lower-case letters and blanks, stands at `at` in whatever case."""
    if at < begin or at + phrase.size > end:
        return False
    for index in range(phrase.size):
        byte = data[np.uintp(at + index)]
        if 0x41 <= byte <= 0x5A:
            byte |= 0x20
        if byte != phrase[index]:
            return False
    return True


@bare_inner
def _ends_well(data: Bytes, start: Whole, stop: Whole) -> bool:
    if start >= stop:
        return False
    byte = data[np.uintp(stop - 1)]
    if byte == 0x2E:
        return not (stop - start >= 3 and data[np.uintp(stop - 2)] == 0x2E and data[np.uintp(stop - 3)] == 0x2E)
    return bool(byte == 0x3F or byte == 0x21 or byte == 0x22 or byte == 0x27)


_EDIT, _NEEDED = _words("edit]"), _words("citation needed]")


@bare_inner
def _citation(data: Bytes, at: Whole, stop: Whole, classes: Bytes) -> Whole:
    """The end of the citation mark that begins at `at`, or `at`."""
    inside = at + 1
    while inside < stop:
        code, width = decode(data, inside, stop)
        if code == 0x5D:
            return inside + 1
        if not classes[np.uintp(code)] & DECIMAL:
            break
        inside += width
    for words in (_EDIT, _NEEDED):
        if at + 1 + words.size <= stop:
            equal = True
            for index in range(words.size):
                equal = equal and data[np.uintp(at + 1 + index)] == words[index]
            if equal:
                return at + 1 + words.size
    return at


@bare_inner
def _next_citation(data: Bytes, at: Whole, stop: Whole, classes: Bytes) -> tuple[Whole, Whole]:
    """Where the next citation mark begins and ends; `stop` twice after the last."""
    while at < stop:
        if data[np.uintp(at)] == 0x5B:
            after = _citation(data, at, stop, classes)
            if after > at:
                return at, after
        at += 1
    return stop, stop


@bare_inner
def _without_citations(data: Bytes, at: Whole, stop: Whole, classes: Bytes, made: Bytes) -> Whole:
    size = np.int64(0)
    while at < stop:
        mark, after = _next_citation(data, at, stop, classes)
        for position in range(at, mark):
            made[size] = data[np.uintp(position)]
            size += 1
        at = after
    return size


@bare_inner
def _skip_space(data: Bytes, at: Whole, stop: Whole, classes: Bytes) -> Whole:
    while at < stop:
        code, width = decode(data, at, stop)
        if not classes[np.uintp(code)] & SPACE:
            break
        at += width
    return at


@bare_inner
def _trim_space(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> Whole:
    while start < stop:
        code, at = decode_last(data, start, stop)
        if not classes[np.uintp(code)] & SPACE:
            break
        stop = at
    return stop


@bare_kernel
def _copy_texts(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    break_begins: Integers,
    break_ends: Integers,
    break_starts: Integers,
    made_offsets: Integers,
    made: Bytes,
) -> None:
    size = np.int64(0)
    for text in range(offsets.size - 1):
        at, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        odd, odd_stop = break_starts[text], break_starts[text + 1]
        for span in range(starts[text], starts[text + 1] + 1):
            stop = begins[span] if span < starts[text + 1] else end
            while odd < odd_stop and break_begins[odd] < stop:
                for position in range(at, break_begins[odd]):
                    made[size] = data[np.uintp(position)]
                    size += 1
                made[size] = 0x0A
                size += 1
                at = break_ends[odd]
                odd += 1
            for position in range(at, stop):
                made[size] = data[np.uintp(position)]
                size += 1
            if span < starts[text + 1]:
                at = ends[span]
        made_offsets[text + 1] = size


@bare_kernel
def _copy_lines(
    data: Bytes, classes: Bytes, begins: Integers, ends: Integers, citations: bool, offsets: Integers, made: Bytes
) -> None:
    size = np.int64(0)
    for line in range(begins.size):
        at, end = begins[line], ends[line]
        while at < end:
            mark = after = end
            if citations:
                mark, after = _next_citation(data, at, end, classes)
            for position in range(at, mark):
                made[size] = data[np.uintp(position)]
                size += 1
            at = after
        offsets[line + 1] = size


@bare_kernel
def _count_kept(
    pieces: Integers,
    piece_starts: Integers,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    counts: Integers,
) -> None:
    for text in range(starts.size - 1):
        span, stop = starts[text], starts[text + 1]
        for piece in range(piece_starts[text], piece_starts[text + 1]):
            while span < stop and ends[span] <= pieces[piece]:
                span += 1
            counts[text] += span == stop or pieces[piece] < begins[span]
