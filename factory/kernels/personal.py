"""Where personal data may stand in texts: places worth an exact check, found in one pass over the bytes.

A candidate is a byte range and what it may be. The pass looks at `@`, colons, the first letters of known prefixes of keys
and at digits; all looking around is bounded, so the time is that of the text's length whatever it holds. A *number* is
digits and what people put between them (blank, no-break space, hyphens, dot, slash, parentheses; three bytes at most); one
of more than 120 digits is a table. An address of version 4 is a chain of exactly four short groups with one dot between.
Nothing is decided here but what cannot be: the checks are in `factory.stages.personal_items`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, TextView, Whole

Indices = npt.NDArray[np.int32]

AT, NUMBER, IPV4, IPV6, IBAN, PREFIX = range(1, 7)

_FEWEST_DIGITS, _MOST_DIGITS = 7, 120
_WIDEST_GAP = 3  # bytes between two groups of digits
_LONGEST_IPV6 = 45
_DIGIT, _UPPER, _WORD, _HEX, _GAP = 1, 2, 4, 8, 16  # classes of bytes
_NOTHING, _SEES_AT, _SEES_COLON, _SEES_DIGIT, _SEES_OPENING, _SEES_PREFIX = range(6)


class Candidates(NamedTuple):
    """Candidate i is `data[begins[i]:ends[i]]` of text `texts[i]`, in the order of where they are found."""

    texts: Integers
    begins: Integers
    ends: Integers
    kinds: Bytes


class Prefixes(NamedTuple):
    """Node n and byte b lead to `steps[n, b]` (0: nowhere); a prefix ends at `ends[n]`."""

    steps: Indices
    ends: Flags


def build_prefixes(prefixes: Sequence[bytes]) -> Prefixes:
    """The tree of beginnings, as what a candidate of the kind PREFIX starts with."""
    tree: list[dict[int, int]] = [{}]
    last: list[bool] = [False]
    for prefix in prefixes:
        node = 0
        for byte in prefix:
            if byte not in tree[node]:
                tree[node][byte] = len(tree)
                tree.append({})
                last.append(False)
            node = tree[node][byte]
        last[node] = True
    steps = np.zeros((len(tree), 256), np.int32)
    for node, known in enumerate(tree):
        for byte, following in known.items():
            steps[node, byte] = following
    return Prefixes(steps, np.array(last, np.bool_))


def find_candidates(view: TextView, prefixes: Prefixes, *, numbers: bool) -> Candidates:
    """All candidates of the texts; without `numbers`, none of the kinds NUMBER and IBAN."""
    room = 64 + int(view.offsets[-1] - view.offsets[0]) // 64
    actions = _actions(tuple(np.flatnonzero(prefixes.steps[0]).tolist()))
    while True:
        texts, begins, ends = (np.empty(room, np.int64) for _ in range(3))
        kinds = np.empty(room, np.uint8)
        found = _find(*view, _classes(), actions, *prefixes, numbers, texts, begins, ends, kinds)
        if found <= room:
            return Candidates(texts[:found], begins[:found], ends[:found], kinds[:found])
        room = int(found)


@cache
def _classes() -> Bytes:
    classes = np.zeros(256, np.uint8)
    for byte in range(128):
        letter = chr(byte)
        if letter.isalnum() or letter == "_":
            classes[byte] |= _WORD
        if letter.isdigit():
            classes[byte] |= _DIGIT
        if letter.isupper():
            classes[byte] |= _UPPER
        if letter in "0123456789abcdefABCDEF":
            classes[byte] |= _HEX
        if letter in " -.()/":
            classes[byte] |= _GAP
    classes.flags.writeable = False
    return classes


@cache
def _actions(first: tuple[int, ...]) -> Bytes:
    actions = np.zeros(256, np.uint8)
    actions[list(first)] = _SEES_PREFIX
    actions[ord("0") : ord("9") + 1] = _SEES_DIGIT
    actions[[ord("("), ord("+")]] = _SEES_OPENING
    actions[ord("@")] = _SEES_AT
    actions[ord(":")] = _SEES_COLON
    actions.flags.writeable = False
    return actions


@bare_kernel
def _find(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    actions: Bytes,
    steps: Indices,
    ends: Flags,
    numbers: bool,
    out_texts: Integers,
    out_begins: Integers,
    out_ends: Integers,
    out_kinds: Bytes,
) -> int:
    """How many there are, also where there is no room to write them all."""
    count = 0
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        begin, end = offsets[text], offsets[text + 1]
        at = begin
        while at < end:
            action = actions[data[np.uintp(at)]]
            if action == _NOTHING:
                at += 1
                continue
            start, stop, kind = at, at, np.int64(0)
            following = at + 1
            if action == _SEES_AT:
                if at > begin and at + 1 < end and _may_part(data[at - 1], data[at + 1], classes):
                    stop, kind = at + 1, np.int64(AT)
            elif action == _SEES_PREFIX:
                stop = _prefix_end(data, begin, at, end, classes, steps, ends)
                kind = np.int64(PREFIX) if stop > at else np.int64(0)
            elif action == _SEES_COLON:
                start, stop = _ipv6(data, begin, at, end, classes)
                if stop > start:
                    kind, following = np.int64(IPV6), stop
            else:
                first = _first_digit(data, at, end, classes)
                if first >= 0:
                    is_iban = _begins_iban(data, begin, first, end, classes)
                    if is_iban and numbers:
                        if count < out_kinds.size:
                            out_texts[count], out_kinds[count] = text, np.uint8(IBAN)
                            out_begins[count], out_ends[count] = first - 2, first
                        count += 1
                    touched = start > begin and (classes[data[start - 1]] & _WORD) != 0
                    stop, digits, chain, chain_end = _number(data, first, end, classes, touched and not is_iban)
                    following = stop
                    if chain >= 0:
                        following = chain_end
                        if count < out_kinds.size:
                            out_texts[count], out_kinds[count] = text, np.uint8(IPV4)
                            out_begins[count], out_ends[count] = chain, chain_end
                        count += 1
                    if numbers and (is_iban or not touched) and _FEWEST_DIGITS <= digits <= _MOST_DIGITS:
                        kind = np.int64(NUMBER)
            if kind:
                if count < out_kinds.size:
                    out_texts[count], out_kinds[count] = text, np.uint8(kind)
                    out_begins[count], out_ends[count] = start, stop
                count += 1
            at = following
    return count


@bare_inner
def _may_part(left: Whole, right: Whole, classes: Bytes) -> Any:
    """Whether `@` between these two bytes may stand between a name and a host."""
    return left > 0x20 and left != 0x40 and (right >= 0x80 or (classes[right] & _WORD) != 0)


@bare_inner
def _prefix_end(data: Bytes, begin: Whole, at: Whole, end: Whole, classes: Bytes, steps: Indices, ends: Flags) -> Whole:
    """Where the prefix that begins here ends; `at` if none does."""
    if at > begin and ((classes[data[at - 1]] & _WORD) or data[at - 1] == 0x2D):
        return at
    node, place = np.int64(0), at
    while place < end:
        node = np.int64(steps[node, data[np.uintp(place)]])
        place += 1
        if node == 0:
            return at
        if ends[node]:
            return place
    return at


@bare_inner
def _ipv6(data: Bytes, begin: Whole, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, Whole]:
    """The address whose first colon this is, if its first group is one of addresses that are routed (2000::/3)."""
    start = at - 4
    if start < begin or not (data[start] == 0x32 or data[start] == 0x33):
        return at, at
    if start > begin and ((classes[data[start - 1]] & _WORD) or data[start - 1] == 0x3A):
        return at, at
    for place in range(start, at):
        if not classes[data[place]] & _HEX:
            return at, at
    colons, double = np.int64(0), False
    place = at
    while place < min(end, start + _LONGEST_IPV6):
        byte = data[place]
        if byte == 0x3A:
            colons += 1
            double = double or data[place - 1] == 0x3A
        elif not classes[byte] & _HEX:
            break
        place += 1
    if colons < 2 or not (double or colons == 7):
        return at, at
    return start, place


@bare_inner
def _first_digit(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> Whole:
    """Of what begins with a digit, or with up to three of `(`, `+` and blank before one; -1 for anything else."""
    for place in range(at, min(end, at + 4)):
        byte = data[place]
        if classes[byte] & _DIGIT:
            return place
        if byte != 0x28 and byte != 0x2B and byte != 0x20:
            return np.int64(-1)
    return np.int64(-1)


@bare_inner
def _begins_iban(data: Bytes, begin: Whole, first: Whole, end: Whole, classes: Bytes) -> bool:
    """Two capital letters, two digits, and a letter, digit or blank."""
    if first - 2 < begin or first + 2 >= end:
        return False
    if not classes[data[first - 1]] & _UPPER or not classes[data[first - 2]] & _UPPER:
        return False
    if not classes[data[first + 1]] & _DIGIT or (first - 2 > begin and classes[data[first - 3]] & _WORD):
        return False
    return bool(classes[data[first + 2]] & _WORD) or bool(data[first + 2] == 0x20)


@bare_inner
def _is_extension(data: Bytes, at: Whole, end: Whole) -> Any:
    """`x12` or `ext 12` after a number."""
    if data[at] | 0x20 == 0x65:
        return at + 1 < end and data[at + 1] | 0x20 == 0x78
    return data[at] | 0x20 == 0x78


@bare_inner
def _number(
    data: Bytes, first: Whole, end: Whole, classes: Bytes, one_group: bool
) -> tuple[Whole, Whole, Whole, Whole]:
    """End and digits of the number, and where the chain of exactly four short groups lies that ends it (-1: none does)."""
    place, stop, digits = first, first, np.int64(0)
    before, digits_before = np.int64(-1), np.int64(0)
    links, link_begin, unlinked, digits_unlinked = np.int64(0), first, np.int64(-1), np.int64(0)
    while True:
        group = place
        while place < end and classes[data[np.uintp(place)]] & _DIGIT:
            place += 1
        before, digits_before = (stop, digits) if digits else (np.int64(-1), np.int64(0))
        digits += place - group
        stop = place
        if before >= 0 and place < end and classes[data[place]] & _WORD and not _is_extension(data, place, end):
            return before, digits_before, np.int64(-1), np.int64(-1)  # the group is the beginning of a word
        if place - group > 3:
            links = np.int64(-1)  # a long group spoils the chain it stands in
        elif links >= 0:
            if links == 0:
                link_begin, unlinked, digits_unlinked = group, before, digits_before
            links += 1
        gap = place
        while gap < end and gap - place <= _WIDEST_GAP:
            byte = data[gap]
            if byte == 0x2E and (gap > place or gap + 1 >= end or not classes[data[gap + 1]] & _DIGIT):
                break  # a dot stands between two digits, or ends a sentence
            if classes[byte] & _GAP:
                gap += 1
            elif byte == 0xC2 and gap + 1 < end and data[gap + 1] == 0xA0:
                gap += 2
            elif byte == 0xE2 and gap + 2 < end and data[gap + 1] == 0x80 and 0x90 <= data[gap + 2] <= 0x93:
                gap += 3
            else:
                break
        width = gap - place
        goes_on = 0 < width <= _WIDEST_GAP and gap < end and (classes[data[gap]] & _DIGIT) != 0
        if goes_on and width == 1 and data[place] == 0x2E:
            place = gap
            continue
        if links == 4:
            # The caller comes back for what follows, where another may stand.
            return max(unlinked, first), digits_unlinked, link_begin, stop
        links = np.int64(0)
        if not goes_on or one_group:
            return stop, digits, np.int64(-1), np.int64(-1)
        place = gap
