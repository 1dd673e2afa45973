"""What the line rules ask of a character: the questions of Python's `str`, as a table over all code points.

Published line rules are written with `str.split`, `strip`, `splitlines`, `isupper` and `\\d`, so that whether two programs
agree depends on these definitions down to single characters: the zero width space is no white space here, U+2028 ends a
line.
"""

import unicodedata
from functools import cache

import numpy as np

from factory.kernels.text import TERMINAL, Bytes, character_classes

SPACE, BREAK, DECIMAL, DIGIT, UPPER, ALNUM, SENTENCE_END = (np.uint8(1 << bit) for bit in range(7))

# The sentence ends of FineWeb (arXiv:2406.17557) are Sentence_Terminal of Unicode 15, with three Khmer signs that are not,
# and without quotation marks. What Unicode added since is left out: a threshold holds for the marks it was fitted with.
_KHMER_SIGNS = "\u17d6\u17d9\u17da"
_ADDED_SINCE = (
    *("\u2024", "\u2cf9", "\u2cfa", "\u2cfb", "\ufe12", "\ufe15", "\ufe16"),  # 15.1
    *("\u1b4e", "\u1b4f", "\u1b7f", "\U000113d4", "\U000113d5", "\U00016d6e", "\U00016d6f"),  # 16
)
_CLOSING = "\"'”’…"  # in the general table, but no sentence ends for FineWeb


@cache
def line_classes() -> Bytes:
    """The answers for every code point, by this Python's Unicode tables."""
    classes = np.zeros(0x110000, np.uint8)
    for code in (*range(0x323B0), *range(0xE0000, 0xE01F0)):  # nothing is assigned between and after but private use
        character = chr(code)
        if character.isspace():
            classes[code] |= SPACE
        if len(f"a{character}b".splitlines()) > 1:
            classes[code] |= BREAK
        if character.isupper():
            classes[code] |= UPPER
        if character.isalnum():
            classes[code] |= ALNUM
        if character.isdigit():
            classes[code] |= DIGIT
        if unicodedata.category(character) == "Nd":
            classes[code] |= DECIMAL
    classes[(character_classes() & TERMINAL) != 0] |= SENTENCE_END
    for character in (*_CLOSING, *_ADDED_SINCE):
        classes[ord(character)] &= ~SENTENCE_END
    for character in _KHMER_SIGNS:
        classes[ord(character)] |= SENTENCE_END
    classes.flags.writeable = False
    return classes
