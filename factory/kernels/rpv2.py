"""The counts behind RedPajama-V2's signals (arXiv:2411.12372), in one pass over the text.

*Raw words* are runs of word characters (letters, numbers, low line) and runs of other characters, white space between
them: the regular expression `\\w+|[^\\w\\s]+`. *Normalised words* are what white space separates in the normal form
`nf-rpv2`: ASCII punctuation taken out, lower case, canonical decomposition (NFD). Both follow this Python's own `str`
and `unicodedata` to the letter, final sigma and the order of combining marks included. Lengths are in code points. A line
ends behind a line feed or at the end of the text.

Words are compared by 64-bit hashes. A word that occurs once is in no repeated n-gram, and what is not repeated at length n
is not at n + 1, so n-grams are looked at only where something repeats.
"""

import string
import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import TextView
from factory.kernels.utf8 import decode

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Points = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Truth = Any  # bool in a kernel

WORD, SPACE, ALPHA, UPPER, LOWER, PUNCTUATION, NUMERIC, STOP = (np.uint8(1 << bit) for bit in range(8))
CASED, IGNORABLE = np.uint8(1), np.uint8(2)

COUNTS = (
    "characters",
    "lines",
    "raw_words",
    "all_caps_words",
    "alphabetic_words",
    "symbols",
    "curly_brackets",
    "ellipsis_lines",
    "sentences",
    "words",
    "word_characters",
    "distinct_words",
    "lorem_ipsum",
    *(f"top_{n}" for n in (2, 3, 4)),
    *(f"duplicate_{n}" for n in (5, 6, 7, 8, 9, 10)),
)
LINE_COUNTS = ("characters", "upper", "terminal", "bullet", "words", "normal_characters", "numeric", "javascript")

_PLANES = 0x30000  # no character above has a lower case, a decomposition or a combining class
_ASSIGNED = 0x323B0
_LONGEST = 10
_LOGS = 4096

_CAPITAL_SIGMA, _SIGMA, _FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
_LOREM = np.uint64(int.from_bytes(b"lorem", "big"))
_IPSUM = np.uint64(int.from_bytes(b"ipsum", "big"))
_JAVASCRIPT = np.uint64(int.from_bytes(b"vascript", "big"))  # the last eight of ten, after "ja"
_FIVE = np.uint64(0xFFFFFFFFFF)
_BYTE = np.uint64(8)
_ZERO: Whole = np.int64(0)

_GROW = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class Tables(NamedTuple):
    """What characters are, and what lower case and NFD make of them: `mapping` is one code point, or, if negative, where in
    `expansions` the number of code points and then they themselves are."""

    classes: Bytes
    mapping: Points
    expansions: Points
    combining: Bytes
    cases: Bytes


class Counted(NamedTuple):
    """A row per text in the order of COUNTS, the entropy of its words (nats), and a row per line (LINE_COUNTS): those of
    text i are `starts[i]` up to `starts[i + 1]`."""

    counts: Integers
    entropy: Floats
    lines: Integers
    starts: Integers


def count_signals(view: TextView) -> Counted:
    """All counts of all texts; zeros for a text that is not valid."""
    texts = len(view.valid)
    bounds = np.zeros(3, np.int64)
    _measure(*view, bounds)
    lines, words, run = (int(bound) for bound in bounds)
    counts = np.zeros((texts, len(COUNTS)), np.int64)
    entropy = np.zeros(texts)
    line_counts = np.zeros((lines, len(LINE_COUNTS)), np.int64)
    starts = np.zeros(texts + 1, np.int64)
    slots = 1 << max(4, (2 * words - 1).bit_length())
    count: Any = _count  # its arguments come in tuples
    count(
        *view,
        *tables(),
        _count_logs(),
        np.empty(run, np.int32),
        np.empty(4 * run, np.int32),
        np.zeros(257, np.int64),
        np.empty(words, np.uint64),
        np.zeros(words + 1, np.int64),
        np.empty(slots, np.uint64),
        np.zeros(slots, np.int64),
        np.empty(slots, np.int32),
        np.empty(slots, np.int32),
        np.empty(words, np.uint64),
        np.empty(words, np.int32),
        np.empty(words, np.int64),
        counts,
        entropy,
        line_counts,
        starts,
    )
    return Counted(counts, entropy, line_counts[: starts[-1]], starts)


@cache
def tables() -> Tables:
    """By this Python's Unicode; made once per process, in a few tenths of a second."""
    classes = np.zeros(0x110000, np.uint8)
    for code in range(_ASSIGNED):
        char = chr(code)
        flags = np.uint8(0)
        if char.isalnum() or char == "_":
            flags |= WORD
        if char.isspace():
            flags |= SPACE
        if char.isascii() and char.isalpha():
            flags |= ALPHA
        if char.isnumeric():
            flags |= NUMERIC
        if unicodedata.category(char) == "Lt" or char.islower():
            flags |= LOWER
        elif char.isupper():
            flags |= UPPER
        classes[code] = flags
    for char in string.punctuation:
        classes[ord(char)] |= PUNCTUATION
    for char in ".!?":
        classes[ord(char)] |= STOP
    mapping = np.arange(_PLANES, dtype=np.int32)
    combining = np.zeros(_PLANES, np.uint8)
    cases = np.zeros(_PLANES, np.uint8)
    expansions = [0]  # so that no place is zero, which has no sign
    for code in range(0x80, _PLANES):
        char = chr(code)
        combining[code] = unicodedata.combining(char)
        # What str.lower() takes for cased, and for invisible between cased letters, when it meets a capital sigma.
        if (char + "Σ").lower()[-1] == "ς":
            cases[code] = CASED
        elif ("a" + char + "Σ").lower()[-1] == "ς":
            cases[code] = IGNORABLE
        plain = unicodedata.normalize("NFD", char.lower())
        if len(plain) == 1:
            mapping[code] = ord(plain)
        else:
            mapping[code] = -len(expansions)
            expansions += [len(plain), *map(ord, plain)]
    for char in string.ascii_letters:
        mapping[ord(char)] = ord(char.lower())
        cases[ord(char)] = CASED
    made = Tables(classes, mapping, np.array(expansions, np.int32), combining, cases)
    for table in made:
        table.flags.writeable = False
    return made


@cache
def _count_logs() -> Floats:
    """n ln n − (n − 1) ln(n − 1): what the n-th copy of a word adds to the sum the entropy is made of."""
    whole = np.arange(_LOGS, dtype=np.float64)
    products = whole * np.log(np.maximum(whole, 1))
    logs = np.concatenate([np.zeros(1), np.diff(products)])
    logs.flags.writeable = False
    return logs


@bare_kernel
def _measure(offsets: Integers, data: Bytes, valid: Flags, bounds: Integers) -> None:
    """Bounds: of the lines of all texts, of the words of one text, of the bytes of one word."""
    lines, most_words, longest_run = np.int64(0), np.int64(1), np.int64(1)
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        end = offsets[text + 1]
        words: Whole = np.int64(1)
        run: Whole = np.int64(0)
        lines += 1
        for at in range(offsets[text], end):
            byte = data[np.uintp(at)]
            if byte == 0x20 or 0x09 <= byte <= 0x0D or 0x1C <= byte <= 0x1F:
                lines += byte == 0x0A
                words += run > 0
                longest_run = max(longest_run, run)
                run = 0
                continue
            words += (byte >= 0xC2) & (byte <= 0xE3)  # may begin white space that is not ASCII
            run += 1
        longest_run = max(longest_run, run)
        most_words = max(most_words, words)
    bounds[0], bounds[1], bounds[2] = lines, most_words, longest_run


@bare_kernel
def _count(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    mapping: Points,
    expansions: Points,
    combining: Bytes,
    cases: Bytes,
    logs: Floats,
    plain: Points,
    points: Points,
    histogram: Integers,
    hashes: Hashes,
    sums: Integers,
    keys: Hashes,
    stamps: Integers,
    tally: Points,
    first: Points,
    grams: Hashes,
    positions: Points,
    slots: Integers,
    counts: Integers,
    entropy: Floats,
    lines: Integers,
    starts: Integers,
) -> None:
    line = _ZERO
    stamp = _ZERO
    for text in range(offsets.size - 1):
        starts[text + 1] = line
        if not valid[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        characters = raw_words = all_caps = alphabetic = symbols = curly = ellipsis_lines = sentences = _ZERO
        words = lorem = _ZERO
        # The raw word being read: 0 none, 1 of word characters, 2 of others.
        token = _ZERO
        token_classes = np.uint8(0)
        # The sentence: 0 looking for a word boundary, 1 within, 2 among its stops.
        sentence = _ZERO
        was_word = np.uint8(0)
        dots = _ZERO
        # The normalised word being read.
        word_at = at
        length = numeric = _ZERO
        hash_, tail, head = np.uint64(0), np.uint64(0), np.uint64(0)
        wide = False
        after_lorem = False
        # The line.
        line_characters = upper = first_point = last_point = last_dots = _ZERO
        line_words = line_length = line_numeric = javascript = _ZERO
        while True:
            if at < end:
                code, width = decode(data, at, end)
                kind = classes[np.uintp(code)]
                characters += 1
                line_characters += 1
            else:
                code, width, kind = np.int64(-1), np.int64(1), SPACE
            if kind & SPACE:
                if token:
                    raw_words += 1
                    all_caps += (token_classes & (UPPER | LOWER)) == UPPER
                    alphabetic += (token_classes & ALPHA) != 0
                    token = 0
                if wide:
                    length, hash_, tail, head, numeric = _wide_word(
                        data, word_at, at, classes, mapping, expansions, combining, cases, plain, points, histogram
                    )
                    wide = False
                if length:
                    lorem += after_lorem and head == _IPSUM
                    after_lorem = tail & _FIVE == _LOREM
                    if tail == _JAVASCRIPT and length == 10:
                        javascript += _is_javascript(data, word_at, at, classes)
                    hash_ = (hash_ ^ tail ^ (np.uint64(length) * _GROW)) * _MIX
                    hashes[words] = hash_ ^ (hash_ >> np.uint64(32))
                    sums[words + 1] = sums[words] + length
                    words += 1
                    line_words += 1
                    line_length += length
                    line_numeric += numeric
                    length = numeric = _ZERO
                    hash_, tail, head = np.uint64(0), np.uint64(0), np.uint64(0)
                word_at = at + width
                dots = 0
            else:
                if first_point == 0:
                    first_point = code
                dots = dots + 1 if code == 0x2E else 0
                if code == 0x2E and dots % 3 == 0:
                    symbols += 1
                last_point, last_dots = code, dots
                if kind & WORD:
                    if token != 1:
                        if token:
                            raw_words += 1
                            all_caps += (token_classes & (UPPER | LOWER)) == UPPER
                        token = 1
                        token_classes = np.uint8(0)
                else:
                    symbols += code == 0x23 or code == 0x2026
                    curly += code == 0x7B or code == 0x7D
                    if token != 2:
                        if token:
                            raw_words += 1
                            all_caps += (token_classes & (UPPER | LOWER)) == UPPER
                            alphabetic += (token_classes & ALPHA) != 0
                        token = 2
                        token_classes = np.uint8(0)
                token_classes |= kind
                if code >= 0x80:
                    wide = True
                elif not kind & PUNCTUATION:
                    byte = np.uint64(code | 0x20) if kind & UPPER else np.uint64(code)
                    tail = (tail << _BYTE) | byte
                    length += 1
                    if length & 7 == 0:
                        if length == 8:
                            head = tail >> np.uint64(24)
                        hash_ = (hash_ ^ tail) * _GROW
                        hash_ ^= hash_ >> np.uint64(29)
                    elif length == 5:
                        head = tail
                    numeric += (kind & NUMERIC) != 0
            upper += (kind & UPPER) != 0
            is_word = kind & WORD
            if sentence == 1:
                if kind & STOP:
                    sentence = 2
            elif not kind & STOP:
                sentence = 0
                if is_word != was_word and at < end:
                    sentences += 1
                    sentence = 1
            was_word = is_word
            at += 1 if at >= end else width
            if is_word and not wide:  # the rest of an ASCII word, where nothing else can happen
                before = at
                while at < end:
                    byte_ = data[np.uintp(at)]
                    kind = classes[byte_]
                    if byte_ >= 0x80 or kind & (WORD | PUNCTUATION) != WORD:
                        break
                    tail = (tail << _BYTE) | np.uint64(byte_ | 0x20 if kind & UPPER else byte_)
                    length += 1
                    if length & 7 == 0:
                        if length == 8:
                            head = tail >> np.uint64(24)
                        hash_ = (hash_ ^ tail) * _GROW
                        hash_ ^= hash_ >> np.uint64(29)
                    elif length == 5:
                        head = tail
                    token_classes |= kind
                    numeric += (kind & NUMERIC) != 0
                    upper += (kind & UPPER) != 0
                    at += 1
                if at > before:
                    characters += at - before
                    line_characters += at - before
                    last_point = np.int64(data[np.uintp(at - 1)])
                    last_dots = dots = _ZERO
            if (code == 0x0A or at > end) and line_characters:
                lines[line, 0], lines[line, 1] = line_characters, upper
                lines[line, 2] = last_point == 0x2E or last_point == 0x21 or last_point == 0x3F or last_point == 0x201D
                lines[line, 3] = _is_bullet(first_point)
                lines[line, 4], lines[line, 5] = line_words, line_length + max(line_words - 1, 0)
                lines[line, 6], lines[line, 7] = line_numeric, javascript
                ellipsis_lines += last_point == 0x2026 or last_dots >= 3
                line += 1
                line_characters = upper = first_point = last_point = last_dots = _ZERO
                line_words = line_length = line_numeric = javascript = _ZERO
            if at > end:
                break
        counts[text, 0], counts[text, 1], counts[text, 2] = characters, line - starts[text + 1], raw_words
        counts[text, 3], counts[text, 4], counts[text, 5], counts[text, 6] = all_caps, alphabetic, symbols, curly
        counts[text, 7], counts[text, 8], counts[text, 9] = ellipsis_lines, sentences, words
        counts[text, 10], counts[text, 12] = sums[words], lorem
        starts[text + 1] = line
        # Words, then n-grams, by count.
        stamp += 1
        shift = _shift(words)
        distinct = _ZERO
        logarithms = 0.0
        for word in range(words):
            slot = _slot(hashes[word], shift, keys, stamps, stamp)
            if stamps[slot] != stamp:
                stamps[slot], keys[slot], tally[slot] = stamp, hashes[word], 0
                distinct += 1
            tally[slot] += 1
            count = np.int64(tally[slot])
            if count < logs.size:
                logarithms += logs[count]
            else:
                logarithms += count * np.log(float(count)) - (count - 1) * np.log(float(count - 1))
            slots[word] = slot
        counts[text, 11] = distinct
        if words:
            entropy[text] = max(0.0, np.log(float(words)) - logarithms / words)
        alive = _ZERO
        for word in range(words):
            if tally[slots[word]] > 1:
                grams[word] = hashes[word]
                positions[alive] = word
                alive += 1
        for n in range(2, _LONGEST + 1):
            if not alive:
                break
            stamp += 1
            shift = _shift(alive)
            taken = _ZERO
            best: Whole = np.int64(1)
            best_first: Whole = np.int64(0)
            for index in range(alive):
                position = np.int64(positions[index])
                if position + n > words:
                    break
                # Positions grow, so the next word begins a repeated (n-1)-gram only if it is the next position.
                if index + 1 == alive or positions[index + 1] != position + 1:
                    continue
                gram = grams[position] * _GROW + hashes[position + n - 1]
                grams[position] = gram
                slot = _slot(gram, shift, keys, stamps, stamp)
                if stamps[slot] != stamp:
                    stamps[slot], keys[slot], tally[slot], first[slot] = stamp, gram, 0, position
                tally[slot] += 1
                positions[taken], slots[taken] = position, slot
                taken += 1
                count = np.int64(tally[slot])
                if n <= 4 and (count > best or (count == best and count > 1 and first[slot] < best_first)):
                    best, best_first = count, np.int64(first[slot])
            if n <= 4 and best > 1:
                counts[text, 11 + n] = best * (sums[best_first + n] - sums[best_first])
            alive = _ZERO
            free = _ZERO  # the first word that is not counted yet
            covered = _ZERO
            for index in range(taken):
                position = np.int64(positions[index])
                if tally[slots[index]] < 2:
                    continue
                positions[alive] = position
                alive += 1
                covered += sums[position + n] - sums[max(position, free)]
                free = position + n
            if n > 4:
                counts[text, 11 + n] = covered


@bare_inner
def _wide_word(
    data: Bytes,
    start: Whole,
    stop: Whole,
    classes: Bytes,
    mapping: Points,
    expansions: Points,
    combining: Bytes,
    cases: Bytes,
    plain: Points,
    points: Points,
    histogram: Integers,
) -> tuple[Whole, np.uint64, np.uint64, np.uint64, Whole]:
    """Length, hash, last eight and first five bytes, and numeric characters of a word that is not ASCII."""
    size = _ZERO
    at = start
    while at < stop:
        code, width = decode(data, at, stop)
        at += width
        if not classes[np.uintp(code)] & PUNCTUATION:
            plain[size] = code
            size += 1
    length = _ZERO
    for index in range(size):
        code = np.int64(plain[index])
        if code == _CAPITAL_SIGMA:
            points[length] = _FINAL_SIGMA if _is_final(plain, index, size, cases) else _SIGMA
            length += 1
            continue
        mapped = np.int64(mapping[code]) if code < _PLANES else code
        if mapped >= 0:
            points[length] = mapped
            length += 1
            continue
        for part in range(-mapped + 1, -mapped + 1 + expansions[-mapped]):
            points[length] = expansions[part]
            length += 1
    _reorder(points, length, combining, plain, histogram)
    hash_, tail, head = np.uint64(0), np.uint64(0), np.uint64(0)
    numeric = fed = _ZERO
    for index in range(length):
        code = np.int64(points[index])
        numeric += (classes[code] & NUMERIC) != 0
        bytes_ = 1 if code < 0x80 else 3
        for byte in range(bytes_):
            value = np.uint64(code if bytes_ == 1 else 0x80 | ((code >> (7 * (2 - byte))) & 0x7F))
            tail = (tail << _BYTE) | value
            fed += 1
            if fed == 5:
                head = tail
            if fed & 7 == 0:
                hash_ = (hash_ ^ tail) * _GROW
                hash_ ^= hash_ >> np.uint64(29)
    return length, hash_, tail, head, numeric


@bare_inner
def _is_final(plain: Points, index: Whole, size: Whole, cases: Bytes) -> Truth:
    """Whether a capital sigma ends a word: a cased letter before it and none behind, whatever invisible lies between."""
    before = index - 1
    while before >= 0 and plain[before] < _PLANES and cases[plain[before]] == IGNORABLE:
        before -= 1
    if before < 0 or plain[before] >= _PLANES or cases[plain[before]] != CASED:
        return False
    after = index + 1
    while after < size and plain[after] < _PLANES and cases[plain[after]] == IGNORABLE:
        after += 1
    return after >= size or plain[after] >= _PLANES or cases[plain[after]] != CASED


@bare_inner
def _reorder(points: Points, length: Whole, combining: Bytes, spare: Points, histogram: Integers) -> None:
    """Canonical ordering: combining marks in a row by their class, stable."""
    index = _ZERO
    while index < length:
        if points[index] >= _PLANES or combining[points[index]] == 0:
            index += 1
            continue
        run = index
        sorted_ = True
        while run < length and points[run] < _PLANES and combining[points[run]] != 0:
            sorted_ = sorted_ and (run == index or combining[points[run - 1]] <= combining[points[run]])
            run += 1
        if not sorted_:
            _sort_marks(points, index, run, combining, spare, histogram)
        index = run


@bare_inner
def _sort_marks(
    points: Points, start: Whole, stop: Whole, combining: Bytes, spare: Points, histogram: Integers
) -> None:
    """By counting, since a text may be nothing but marks; in pieces of `spare`, which is as long as the word in bytes."""
    if stop - start <= 16:
        for index in range(start + 1, stop):
            point = points[index]
            place = index
            while place > start and combining[points[place - 1]] > combining[point]:
                points[place] = points[place - 1]
                place -= 1
            points[place] = point
        return
    histogram[:] = 0
    for index in range(start, stop):
        histogram[combining[points[index]] + 1] += 1
    for place in range(1, 257):
        histogram[place] += histogram[place - 1]
    for index in range(start, stop):
        class_ = np.int64(combining[points[index]])
        spare[histogram[class_]] = points[index]
        histogram[class_] += 1
    for index in range(start, stop):
        points[index] = spare[index - start]


@bare_inner
def _is_javascript(data: Bytes, start: Whole, stop: Whole, classes: Bytes) -> Whole:
    """Whether a word of ten that ends in `vascript` begins with `ja`."""
    found = _ZERO
    wanted = (np.uint8(0x6A), np.uint8(0x61))
    at = start
    while at < stop and found < 2:
        byte = data[np.uintp(at)]
        at += 1
        if byte >= 0x80:
            return np.int64(0)
        if classes[byte] & PUNCTUATION:
            continue
        if (byte | np.uint8(0x20)) != wanted[found]:
            return np.int64(0)
        found += 1
    return np.int64(1)


@bare_inner
def _is_bullet(code: Whole) -> Truth:
    return (
        code == 0x2022
        or code == 0x2023
        or code == 0x25B6
        or code == 0x25C0
        or code == 0x25E6
        or code == 0x25A0
        or code == 0x25A1
        or code == 0x25AA
        or code == 0x25AB
        or code == 0x2013
    )


@bare_inner
def _shift(items: Whole) -> Whole:
    """Bits of a hash that do not choose among at least twice as many slots as items; at least 16 slots."""
    shift = np.int64(60)
    while (np.int64(1) << (np.int64(64) - shift)) < 2 * items:
        shift -= 1
    return shift


@bare_inner
def _slot(key: np.uint64, shift: Whole, keys: Hashes, stamps: Integers, stamp: Whole) -> Whole:
    """Where the key is, or the free slot where it belongs."""
    last = (np.int64(1) << (np.int64(64) - shift)) - 1
    slot = np.int64((key * _SPREAD) >> np.uint64(shift))
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & last
    return slot
