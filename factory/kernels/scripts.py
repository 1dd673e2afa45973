"""Texts of scripts without spaces: cut into characters, and told apart by the script most of their letters are of."""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel
from factory.kernels.pieces import Cut
from factory.kernels.text import SPACE, Bytes, Flags, Integers, TextView, character_classes
from factory.kernels.utf8 import decode

SCRIPTS = ("other", "han", "kana", "thai", "hangul", "spaceless")  # spaceless: Lao, Khmer, Burmese, Tibetan
_RANGES = {
    "han": ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
    "kana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),
    "thai": ((0x0E01, 0x0E3A), (0x0E40, 0x0E5B)),
    "hangul": ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97C), (0xAC00, 0xD7FB)),
    "spaceless": ((0x0E80, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
}  # fmt: skip
_NO_LETTER = np.uint8(255)


def cut_characters(view: TextView) -> Cut:
    """Every code point that is no white space is a piece."""
    starts = np.zeros(len(view.offsets), np.int64)
    nothing = np.empty(0, np.int64)
    _cut_characters(*view, character_classes(), starts, nothing, nothing.copy())
    begins, ends = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    _cut_characters(*view, character_classes(), starts, begins, ends)
    return Cut(begins, ends, starts)


def count_scripts(view: TextView) -> npt.NDArray[np.int64]:
    """A row per text: letters of each of SCRIPTS."""
    counts = np.zeros((len(view.valid), len(SCRIPTS)), np.int64)
    _count_scripts(*view, _scripts(), counts)
    return counts


@cache
def _scripts() -> Bytes:
    scripts = np.full(0x110000, _NO_LETTER, np.uint8)
    for code in range(0x323B0):
        if unicodedata.category(chr(code))[0] == "L":
            scripts[code] = 0
    for name, ranges in _RANGES.items():
        for first, last in ranges:
            scripts[first : last + 1] = SCRIPTS.index(name)
    scripts.flags.writeable = False
    return scripts


@bare_kernel
def _cut_characters(
    offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, starts: Integers, begins: Integers, ends: Integers
) -> None:
    """Fills `starts`, and the others unless they are empty: the first call tells how many there are."""
    filled = 0
    for text in range(offsets.size - 1):
        at = offsets[text]
        last = offsets[text + 1] if valid[text] else at
        while at < last:
            code, width = decode(data, at, last)
            if not classes[np.uintp(code)] & SPACE:
                if begins.size:
                    begins[filled], ends[filled] = at, at + width
                filled += 1
            at += width
        starts[text + 1] = filled


@bare_kernel
def _count_scripts(offsets: Integers, data: Bytes, valid: Flags, scripts: Bytes, counts: npt.NDArray[np.int64]) -> None:
    for text in range(offsets.size - 1):
        at = offsets[text]
        last = offsets[text + 1] if valid[text] else at
        while at < last:
            code, width = decode(data, at, last)
            script = scripts[np.uintp(code)]
            if script != _NO_LETTER:
                counts[text, script] += 1
            at += width
