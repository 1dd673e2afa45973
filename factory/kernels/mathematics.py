"""How much mathematics a text holds, written in TeX or in symbols.

One automaton reads the text once. What may be a formula between single dollar signs is looked at up to the next dollar
sign and no further, so that time is linear in the text whatever it holds.
"""

from functools import cache
from typing import Any

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, TextView
from factory.kernels.utf8 import decode_multibyte

Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Truth = Any  # bool in a kernel

COUNTS = ("characters", "commands", "inline", "display", "environments", "symbols", "formula_bytes", "bytes")

_LONGEST = 2000  # bytes of a formula between single dollar signs
_SYMBOL = np.uint8(1)


@cache
def symbol_classes() -> Bytes:
    """Mathematical symbols: category Sm without those of ASCII, letter-like and alphanumeric ones, prime marks."""
    import unicodedata

    classes = np.zeros(0x110000, np.uint8)
    for code in range(0x80, 0x1F000):
        char = chr(code)
        if unicodedata.category(char) == "Sm":
            classes[code] = _SYMBOL
    for first, last in ((0x2032, 0x2037), (0x2102, 0x2138), (0x1D400, 0x1D7FF), (0x27C0, 0x27EF), (0x2980, 0x29FF)):
        classes[first : last + 1] = _SYMBOL
    for code in (
        0x2103,
        0x2105,
        0x2109,
        0x2116,
        0x2117,
        0x211E,
        0x2120,
        0x2121,
        0x2122,
        0x2126,
        0x212A,
        0x212E,
        0x00AC,
    ):
        classes[code] = 0  # degrees, numero, trade mark and the like
    classes.flags.writeable = False
    return classes


def count_mathematics(view: TextView) -> Integers:
    """A row per text, a column per name of COUNTS."""
    counts = np.zeros((len(view.valid), len(COUNTS)), np.int64)
    _count(*view, symbol_classes(), counts)
    return counts


@bare_kernel
def _count(offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, counts: Integers) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        characters = commands = inline = display = environments = symbols = formula_bytes = np.int64(0)
        opened_inline = opened_display = np.int64(-1)  # where \( and \[ were
        dollars = np.int64(-1)  # where $$ was
        dollar_end = np.int64(-1)  # where the $…$ being read ends
        bytes_ = end - at
        while at < end:
            byte = data[np.uintp(at)]
            if byte >= 0x80:
                code, width = decode_multibyte(data, at, end)
                symbols += classes[np.uintp(code)] == _SYMBOL
                characters += 1
                at += width
                continue
            characters += 1
            if byte == 0x5C:
                next_ = data[np.uintp(at + 1)] if at + 1 < end else np.uint8(0)
                if _is_letter(next_):
                    stop = at + 2
                    while stop < end and _is_letter(data[np.uintp(stop)]):
                        stop += 1
                    # One letter is as likely an escape (`\\n`) or a path; within a formula it is a command.
                    if stop - at > 2 or dollar_end > at or opened_inline >= 0 or opened_display >= 0 or dollars >= 0:
                        commands += 1
                        environments += _is_begin(data, at, stop, end)
                    characters += stop - at - 1
                    at = stop
                    continue
                if next_ == 0x28:
                    opened_inline = at
                elif next_ == 0x5B and (at == offsets[text] or data[np.uintp(at - 1)] != 0x5C):
                    opened_display = at
                elif next_ == 0x29 and opened_inline >= 0:
                    inline += 1
                    formula_bytes += at + 2 - opened_inline
                    opened_inline = np.int64(-1)
                elif next_ == 0x5D and opened_display >= 0:
                    display += 1
                    formula_bytes += at + 2 - opened_display
                    opened_display = np.int64(-1)
                if 0x20 < next_ < 0x80:  # `\\$` is a dollar, and `\\\\[` ends a line of a table
                    characters += 1
                    at += 2
                    continue
                at += 1
                continue
            if byte == 0x24 and dollar_end <= at:
                if at + 1 < end and data[np.uintp(at + 1)] == 0x24:
                    if dollars >= 0:
                        if at > dollars + 2:
                            display += 1
                            formula_bytes += at + 2 - dollars
                        dollars = np.int64(-1)
                    else:
                        dollars = at
                    characters += 1
                    at += 2
                    continue
                if dollars < 0:
                    stop = _dollar_formula(data, offsets[text], at, end, classes)
                    if stop > at:
                        inline += 1
                        formula_bytes += stop - at
                        dollar_end = stop
            elif byte == 0x0A and at + 1 < end and data[np.uintp(at + 1)] == 0x0A:
                opened_inline = np.int64(-1)  # no formula goes over a blank line
                opened_display = np.int64(-1)
                dollars = np.int64(-1)
            at += 1
        counts[text, 0], counts[text, 1], counts[text, 2], counts[text, 3] = characters, commands, inline, display
        counts[text, 4], counts[text, 5], counts[text, 6], counts[text, 7] = (
            environments,
            symbols,
            formula_bytes,
            bytes_,
        )


@bare_inner
def _dollar_formula(data: Bytes, begin: Whole, at: Whole, end: Whole, classes: Bytes) -> Whole:
    """Behind the closing `$`, if this one opens a formula and no sum of money; else `at`."""
    if at > begin and (_is_letter(data[np.uintp(at - 1)]) or _is_digit(data[np.uintp(at - 1)])):
        return at  # US$
    stop = at + 1
    if stop >= end or data[np.uintp(stop)] <= 0x20:
        return at
    mathematical = False
    last = min(end, at + _LONGEST)
    while stop < last and data[np.uintp(stop)] != 0x24:
        byte = data[np.uintp(stop)]
        if byte == 0x0A and stop + 1 < end and data[np.uintp(stop + 1)] == 0x0A:
            return at
        if byte == 0x5C:
            mathematical = mathematical or (stop + 1 < last and _is_letter(data[np.uintp(stop + 1)]))
            stop += 2
            continue
        if byte == 0x5E or byte == 0x5F or byte == 0x3D or byte == 0x3C or byte == 0x3E or byte == 0x2B or byte == 0x2A:
            mathematical = True
        elif byte >= 0x80:
            code, width = decode_multibyte(data, stop, end)
            mathematical = mathematical or classes[np.uintp(code)] == _SYMBOL
            stop += width
            continue
        stop += 1
    if stop >= last or data[np.uintp(stop)] != 0x24 or data[np.uintp(stop - 1)] <= 0x20 or stop == at + 1:
        return at
    if stop + 1 < end and (_is_digit(data[np.uintp(stop + 1)]) or data[np.uintp(stop + 1)] == 0x24):
        return at
    if not mathematical and not (_is_letter(data[np.uintp(at + 1)]) and stop - at <= 3):
        return at  # neither a command nor an operator, and no variable
    return stop + 1


@bare_inner
def _is_begin(data: Bytes, at: Whole, stop: Whole, end: Whole) -> Truth:
    """Whether the command [at, stop) is `begin`, and a brace follows."""
    if stop - at != 6 or stop >= end or data[np.uintp(stop)] != 0x7B:
        return False
    name = np.uint64(0)
    for place in range(at + 1, stop):
        name = (name << np.uint64(8)) | np.uint64(data[np.uintp(place)])
    return name == np.uint64(0x626567696E)


@bare_inner
def _is_letter(byte: np.uint8) -> Truth:
    return (0x61 <= byte <= 0x7A) or (0x41 <= byte <= 0x5A)


@bare_inner
def _is_digit(byte: np.uint8) -> Truth:
    return 0x30 <= byte <= 0x39
