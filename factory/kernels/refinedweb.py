"""The line corrections of RefinedWeb (arXiv:2306.01116) as DCLM runs them (arXiv:2406.11794), over Arrow buffers.

A line ends at a line feed. One rule after the other goes over the whole text, and after each (but that of short lines)
white space around the text goes: lines with too many upper-case characters, lines of digits, counters (`1.2k likes`), lines
of fewer than two words; then, in lines of at most ten words, `items in cart` goes wherever it stands, `Read more...` at
the end (any three characters for the full stops, as in DCLM's pattern) and `Sign-in` at the start, in any case, with one
blank. An empty line stays. A text of which nothing is left is removed whole. Words before and after are runs between blanks
as fastText reads them (ASCII white space and NUL) that begin with a letter or a number. What one rule took out of a line
does not bring words together for another one.

Nothing is matched with patterns: each rule is one walk over the line.
"""

from typing import NamedTuple

import numpy as np

from factory.kernels.c4 import Ranges
from factory.kernels.characters import ALNUM, DECIMAL, DIGIT, SPACE, UPPER, line_classes
from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import REPLACEMENT, Bytes, Flags, Integers, TextView, Whole
from factory.kernels.utf8 import decode, decode_last

COUNTED = (
    *("lines", "uppercase_lines", "numeric_lines", "counter_lines", "short_lines"),
    *("cart_lines", "read_more_lines", "sign_in_lines", "words", "words_left"),
)


class Rules(NamedTuple):
    """The settings; a bound that is absent is infinity, or -1 where it counts words."""

    max_uppercase: float
    max_numeric: float
    counters: bool
    min_words: int
    max_edited_words: int


def correct_lines(view: TextView, rules: Rules) -> tuple[Integers, Ranges]:
    """A row of counts per text, in the order of COUNTED, and what goes."""
    texts = len(view.valid)
    counts = np.zeros((texts, len(COUNTED)), np.int64)
    starts = np.zeros(texts + 1, np.int64)
    room = 64 + int(view.offsets[-1] - view.offsets[0]) // 64
    begins, ends = np.empty(room, np.int64), np.empty(room, np.int64)
    most = _most_lines(*view)
    lines = np.empty((most, 6), np.int64)
    cuts = np.empty((64, 2), np.int64)
    done = 0
    while True:
        arrays = (lines, cuts, counts, starts, begins, ends)
        done = _correct_lines(view.offsets, view.data, view.valid, line_classes(), _KINDS, done, *rules, *arrays)
        if done == texts:
            return counts, Ranges(begins[: starts[-1]], ends[: starts[-1]], starts)
        begins, ends = (np.concatenate([array, np.empty_like(array)]) for array in (begins, ends))
        cuts = np.concatenate([cuts, np.empty_like(cuts)])


def _text(words: str) -> Bytes:
    array = np.frombuffer(words.encode(), np.uint8)
    array.flags.writeable = False
    return array


_CART, _READ_MORE, _SIGN_IN = _text("items in cart"), _text("read more"), _text("sign-in")
_COUNTED = _text("likes shares comments retweets reposts quotes bookmarks upvotes downvotes downloads views followers ")

_KINDS = np.zeros(256, np.uint8)  # 1 a blank, 2 an ASCII letter or digit, 4 beyond ASCII
_KINDS[[0, 0x20, *range(0x09, 0x0E)]] = 1
_KINDS[[code for code in range(128) if chr(code).isalnum()]] = 2
_KINDS[128:] = 4
_KINDS.flags.writeable = False

# The columns of `lines`, a row for each line still there: where it begins and ends by now, where its line feed is, its
# words, and the range of its `cuts`, which are what was taken out of its middle.


@bare_kernel
def _most_lines(offsets: Integers, data: Bytes, valid: Flags) -> int:
    most = 0
    for text in range(offsets.size - 1):
        found = 1
        for at in range(np.uintp(offsets[text]), np.uintp(offsets[text + 1])):
            found += data[np.uintp(at)] == 0x0A
        most = max(most, found)
    return most


@bare_kernel
def _correct_lines(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    kinds: Bytes,
    first_text: int,
    max_uppercase: float,
    max_numeric: float,
    counters: bool,
    min_words: int,
    max_edited_words: int,
    lines: Integers,
    cuts: Integers,
    counts: Integers,
    starts: Integers,
    begins: Integers,
    ends: Integers,
) -> int:
    """Returns the first text that found no room, to be begun again, or the number of texts."""
    for text in range(first_text, offsets.size - 1):
        begin, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        for column in range(counts.shape[1]):
            counts[text, column] = 0
        low, high = np.int64(0), np.int64(0)
        at = begin
        while at < end:
            stop, words = _read_line(data, at, end, classes, kinds)
            counts[text, 0] += 1
            counts[text, 8] += words
            if _share_is_above(data, at, stop, classes, max_uppercase, UPPER):
                counts[text, 1] += 1
            else:
                lines[high, 0], lines[high, 1], lines[high, 2] = at, stop, stop
                lines[high, 3], lines[high, 4], lines[high, 5] = words, 0, 0
                high += 1
            at = stop + 1
        low, high = _strip(data, lines, cuts, low, high, classes)
        for rule in range(2, 5):
            kept = low
            for line in range(low, high):
                start, stop = lines[line, 0], lines[line, 1]
                if rule == 2:
                    drop = _share_is_above(data, start, stop, classes, max_numeric, DIGIT)
                elif rule == 3:
                    drop = counters and _is_counter(data, start, stop, classes)
                else:
                    drop = start < stop and not _has_words(data, start, stop, classes, min_words)
                if drop:
                    counts[text, rule] += 1
                else:
                    if kept < line:
                        for column in range(6):
                            lines[kept, column] = lines[line, column]
                    kept += 1
            high = kept
            low, high = _strip(data, lines, cuts, low, high, classes)
        cut = np.int64(0)
        for rule in range(5, 8 if max_edited_words >= 0 else 5):
            kept = low
            for line in range(low, high):
                start, stop = lines[line, 0], lines[line, 1]
                written, edited = start < stop, False
                few = rule == 5 and not _has_words_left(data, lines, cuts, line, classes, max_edited_words + 1)
                if few and written:
                    lines[line, 4] = cut
                    while start < stop:
                        found, after = _find_cart(data, start, stop, classes)
                        if found < stop:
                            if cut == cuts.shape[0]:
                                return text
                            cuts[cut, 0], cuts[cut, 1] = found, after
                            cut += 1
                            edited = True
                        start = after
                    lines[line, 5] = cut
                elif rule == 6:
                    least = cuts[lines[line, 5] - 1, 1] if lines[line, 4] < lines[line, 5] else start
                    after = _before_read_more(data, least, stop, classes)
                    if after < stop and not _has_words_left(data, lines, cuts, line, classes, max_edited_words + 1):
                        edited = True
                        lines[line, 1] = after
                elif rule == 7:
                    most = cuts[lines[line, 4], 0] if lines[line, 4] < lines[line, 5] else stop
                    after = _after_sign_in(data, start, most, classes)
                    if after > start and not _has_words_left(data, lines, cuts, line, classes, max_edited_words + 1):
                        edited = True
                        lines[line, 0] = after
                if edited:
                    counts[text, rule] += 1
                    _close_ends(lines, cuts, line)
                    lines[line, 3] = _count_words_left(data, lines, cuts, line, classes)
                blank = (edited or few) and not _has_words_left(data, lines, cuts, line, classes, 1)
                if blank and written:
                    continue
                if kept < line:
                    for column in range(6):
                        lines[kept, column] = lines[line, column]
                kept += 1
            high = kept
            low, high = _strip(data, lines, cuts, low, high, classes)
        if low < high:  # white space that only `str` knows may have stood before its first word
            lines[low, 3] = _count_words_left(data, lines, cuts, low, classes)
        filled = starts[text]
        cursor = begin
        for line in range(low, high):
            if filled + (lines[line, 5] - lines[line, 4]) + 4 > begins.size:
                return text
            counts[text, 9] += lines[line, 3]
            if line > low:
                joint = lines[line - 1, 2]
                if joint > cursor:
                    begins[filled], ends[filled] = cursor, joint
                    filled += 1
                cursor = joint + 1
            if lines[line, 0] > cursor:
                begins[filled], ends[filled] = cursor, lines[line, 0]
                filled += 1
            for inner in range(lines[line, 4], lines[line, 5]):
                begins[filled], ends[filled] = cuts[inner, 0], cuts[inner, 1]
                filled += 1
            cursor = lines[line, 1]
        if filled + 1 > begins.size:
            return text
        if cursor < end:
            begins[filled], ends[filled] = cursor, end
            filled += 1
        starts[text + 1] = filled
    return offsets.size - 1


@bare_inner
def _share_is_above(data: Bytes, at: Whole, stop: Whole, classes: Bytes, most: float, wanted: Whole) -> bool:
    """Whether more than `most` of the characters are upper-case ones, or digits; never in an empty line."""
    if at >= stop or most >= 1:
        return False
    if wanted == DIGIT and stop - at <= 1_000_000 and most >= 0.999999:
        code, _ = decode(data, at, stop)
        if not classes[np.uintp(code)] & DIGIT:
            return False
    elif wanted == UPPER:
        capitals, beyond, continued = np.int64(0), np.int64(0), np.int64(0)
        for position in range(np.uintp(at), np.uintp(stop)):  # no character is looked up here
            byte = data[np.uintp(position)]
            capitals += np.uint8(byte - np.uint8(0x41)) < 26
            beyond += byte >= 0xC0
            continued += (byte & 0xC0) == 0x80
        if capitals + beyond + continued <= (stop - at - continued) * most:
            return False
    found = characters = np.int64(0)
    while at < stop:
        code, width = decode(data, at, stop)
        found += (classes[np.uintp(code)] & wanted) != 0
        characters += 1
        at += width
    return bool(found / characters > most)


@bare_inner
def _is_counter(data: Bytes, at: Whole, stop: Whole, classes: Bytes) -> bool:
    """Not word characters, a number with commas, full stops, perhaps k, m or b, white space, what is counted, and again."""
    at = _skip_other(data, at, stop, classes)
    if at >= stop:
        return False
    code, width = decode(data, at, stop)
    if not classes[np.uintp(code)] & DECIMAL:
        return False
    while at < stop:
        code, width = decode(data, at, stop)
        if code != 0x2C and code != 0x2E and not classes[np.uintp(code)] & DECIMAL:
            break
        at += width
    if at < stop:
        code, width = decode(data, at, stop)
        code = _fold(code, True)
        if code == 0x6B or code == 0x6D or code == 0x62:
            at += width
    blank = _skip_space(data, at, stop, classes)
    if blank == at:
        return False
    word = 0
    while word < _COUNTED.size:
        at = blank
        equal = True
        while _COUNTED[word] != 0x20:
            if equal and at < stop:
                code, width = decode(data, at, stop)
                equal = _fold(code, True) == _COUNTED[word]
                at += width
            else:
                equal = False
            word += 1
        word += 1
        if equal and _skip_other(data, at, stop, classes) == stop:
            return True
    return False


@bare_inner
def _find_cart(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> tuple[Whole, Whole]:
    """Where `items in cart` begins, with one white space before it, and ends; `stop` twice if nowhere."""
    at = start
    while at < stop:
        code, width = decode(data, at, stop)
        if _fold(code, False) == 0x69:
            after = _match(data, at, stop, _CART)
            if after > at:
                before, space = _before(data, at, start)
                if at > start and classes[np.uintp(space)] & SPACE:
                    return before, after
                return at, after
        at += width
    return stop, stop


@bare_inner
def _before_read_more(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> Whole:
    at = stop
    for _ in range(3):
        at, _ = _before(data, at, start)
    at -= _READ_MORE.size
    if at < start or _match(data, at, stop, _READ_MORE) == at:
        return stop
    before, space = _before(data, at, start)
    return before if at > start and classes[np.uintp(space)] & SPACE else at


@bare_inner
def _after_sign_in(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> Whole:
    after = _match(data, start, stop, _SIGN_IN)
    if after > start and after < stop:
        code, width = decode(data, after, stop)
        if classes[np.uintp(code)] & SPACE:
            after += width
    return after


@bare_inner
def _match(data: Bytes, at: Whole, stop: Whole, phrase: Bytes) -> Whole:
    """The end of the phrase that stands at `at` in whatever case, or `at`."""
    begin = at
    for index in range(phrase.size):
        if at >= stop:
            return begin
        code, width = decode(data, at, stop)
        if _fold(code, False) != phrase[index]:
            return begin
        at += width
    return at


@bare_inner
def _fold(code: Whole, lowered: bool) -> Whole:
    """Lower case: as `str.lower` does, or as patterns that ignore case do, for which `ı`, `İ` and `ſ` are i, i and s."""
    if 0x41 <= code <= 0x5A:
        return code | 0x20
    if code == 0x212A:
        return np.int64(0x6B)
    if not lowered:
        if code == 0x130 or code == 0x131:
            return np.int64(0x69)
        if code == 0x17F:
            return np.int64(0x73)
    return code


@bare_inner
def _close_ends(lines: Integers, cuts: Integers, line: Whole) -> None:
    """Lets a line begin after a cut at its start, and end before one at its end."""
    while lines[line, 4] < lines[line, 5] and cuts[lines[line, 4], 0] <= lines[line, 0]:
        lines[line, 0] = max(lines[line, 0], cuts[lines[line, 4], 1])
        lines[line, 4] += 1
    while lines[line, 4] < lines[line, 5] and cuts[lines[line, 5] - 1, 1] >= lines[line, 1]:
        lines[line, 1] = min(lines[line, 1], cuts[lines[line, 5] - 1, 0])
        lines[line, 5] -= 1


@bare_inner
def _strip(
    data: Bytes, lines: Integers, cuts: Integers, low: Whole, high: Whole, classes: Bytes
) -> tuple[Whole, Whole]:
    """Takes the white space around the text off its first and last lines, and these with it where nothing else is."""
    while low < high:
        start = np.int64(-1)
        while start != lines[low, 0]:
            start = lines[low, 0]
            limit = cuts[lines[low, 4], 0] if lines[low, 4] < lines[low, 5] else lines[low, 1]
            lines[low, 0] = _skip_space(data, start, limit, classes)
            _close_ends(lines, cuts, low)
        if lines[low, 0] < lines[low, 1]:
            break
        low += 1
    while low < high:
        last = high - 1
        stop = np.int64(-1)
        while stop != lines[last, 1]:
            stop = lines[last, 1]
            limit = cuts[lines[last, 5] - 1, 1] if lines[last, 4] < lines[last, 5] else lines[last, 0]
            lines[last, 1] = _trim_space(data, limit, stop, classes)
            _close_ends(lines, cuts, last)
        if lines[last, 0] < lines[last, 1]:
            break
        high -= 1
    return low, high


@bare_inner
def _read_line(data: Bytes, at: Whole, end: Whole, classes: Bytes, kinds: Bytes) -> tuple[Whole, Whole]:
    """Where the line ends, and its runs between blanks, as fastText reads them, that begin with a letter or number."""
    words = np.int64(0)
    after_blank = np.uint8(1)
    while at < end and data[np.uintp(at)] != 0x0A:
        kind = kinds[data[np.uintp(at)]]
        words += after_blank & (kind >> 1)
        if after_blank & (kind >> 2):
            code, _ = decode(data, at, end)
            words += (classes[np.uintp(code)] & ALNUM) != 0
        after_blank = kind & 1
        at += 1
    return at, words


@bare_inner
def _count_words_left(data: Bytes, lines: Integers, cuts: Integers, line: Whole, classes: Bytes) -> Whole:
    """The same of a line with cuts, over which a word may reach."""
    words = np.int64(0)
    inside = False
    at, cut = lines[line, 0], lines[line, 4]
    while at < lines[line, 1]:
        if cut < lines[line, 5] and at == cuts[cut, 0]:
            at = cuts[cut, 1]
            cut += 1
            continue
        code, width = decode(data, at, lines[line, 1])
        blank = code == 0x20 or (0x09 <= code <= 0x0D) or code == 0
        words += not inside and not blank and (classes[np.uintp(code)] & ALNUM) != 0
        inside = not blank
        at += width
    return words


@bare_inner
def _has_words_left(data: Bytes, lines: Integers, cuts: Integers, line: Whole, classes: Bytes, wanted: Whole) -> bool:
    """Whether a line with cuts has so many words between white space; looks no further than the last of them."""
    inside = False
    at, cut = lines[line, 0], lines[line, 4]
    while at < lines[line, 1] and wanted > 0:
        if cut < lines[line, 5] and at == cuts[cut, 0]:
            at = cuts[cut, 1]
            cut += 1
            continue
        code, width = decode(data, at, lines[line, 1])
        space = (classes[np.uintp(code)] & SPACE) != 0
        wanted -= not inside and not space
        inside = not space
        at += width
    return bool(wanted <= 0)


@bare_inner
def _has_words(data: Bytes, at: Whole, stop: Whole, classes: Bytes, wanted: Whole) -> bool:
    inside = False
    while at < stop and wanted > 0:
        code, width = decode(data, at, stop)
        space = (classes[np.uintp(code)] & SPACE) != 0
        wanted -= not inside and not space
        inside = not space
        at += width
    return bool(wanted <= 0)


@bare_inner
def _skip_other(data: Bytes, at: Whole, stop: Whole, classes: Bytes) -> Whole:
    """Past what is neither letter, number nor low line."""
    while at < stop:
        code, width = decode(data, at, stop)
        if code == 0x5F or classes[np.uintp(code)] & ALNUM:
            break
        at += width
    return at


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
        at, code = _before(data, stop, start)
        if not classes[np.uintp(code)] & SPACE:
            break
        stop = at
    return stop


@bare_inner
def _before(data: Bytes, stop: Whole, start: Whole) -> tuple[Whole, Whole]:
    """The character that ends at `stop`: where it begins, and which it is; `start` and the replacement if there is none."""
    if stop <= start:
        return start, np.int64(REPLACEMENT)
    code, at = decode_last(data, start, stop)
    return at, code
