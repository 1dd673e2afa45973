"""What the pieces of a text add up to: words, their characters, letters, symbols, stop words of English.

The symbols are those of arXiv:2112.11446, Table A1: `#` and the ellipsis; they are counted in the text itself, from left
to right and without overlap, as `str.count` does. So are the stop words among the pieces.
"""

from typing import Any, NamedTuple

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.lanes import LANES, bits_set, equal_bytes, load_word, lowest_bit
from factory.kernels.pieces import BEGINS_WORD, HAS_LETTER, IS_MARK, IS_PUNCTUATION, Pieces
from factory.kernels.text import Bytes, Flags, Hashes, Integers, Lengths, TextView, Whole

_HASH, _DOT, _LEAD = np.uint8(0x23), np.uint8(0x2E), np.uint8(0xE2)

# The stop words of Table A1.
_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_SCATTER = np.uint64(0xA11D459A2F978D87)  # takes each of them, as bytes in one number, to a slot of its own
_LOWER_CASE = np.uint64(0x20202020)


def _stop_word_slots() -> Hashes:
    slots = np.zeros(16, np.uint64)
    for word in _STOP_WORDS:
        number = np.array([int.from_bytes(word.encode(), "little")], np.uint64)
        slots[(number * _SCATTER) >> np.uint64(60)] = number
    return slots


_SLOTS = _stop_word_slots()


class WordCounts(NamedTuple):
    """A number per text of each."""

    pieces: Integers
    characters: Integers  # of all pieces
    letters: Integers  # pieces that have one
    words: Integers  # pieces that have a letter or a number
    word_characters: Integers
    spoken: Integers  # pieces that are more than FineWeb's punctuation
    spoken_characters: Integers
    begun: Integers  # pieces that begin with a letter or number
    stop_words: Integers  # different ones, as they stand
    stop_word_occurrences: Integers  # in any case
    hashes: Integers
    ellipses: Integers  # `...` and `…`
    spaced_ellipses: Integers  # `. . .`


def count_words(view: TextView, pieces: Pieces) -> WordCounts:
    """Everything the readings of the rules of Gopher ask of the words of a text."""
    counts = np.zeros((len(WordCounts._fields), len(view.valid)), np.int64)
    _count_pieces(view.data, *pieces, counts)
    _count_symbols(*view, counts)
    return WordCounts(*counts)


@bare_kernel
def _count_pieces(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    hashes: Hashes,
    lengths: Lengths,
    flags: Bytes,
    counts: Integers,
) -> None:
    """The first ten of the counts."""
    for text in range(starts.size - 1):
        characters = letters = words = word_characters = spoken = spoken_characters = begun = np.int64(0)
        for piece in range(starts[text], starts[text + 1]):
            length = np.int64(lengths[piece])
            flag = flags[piece]
            characters += length
            letters += np.int64((flag & HAS_LETTER) != 0)
            begun += np.int64((flag & BEGINS_WORD) != 0)
            is_word = np.int64((flag & IS_MARK) == 0)
            words += is_word
            word_characters += is_word * length
            is_spoken = np.int64((flag & IS_PUNCTUATION) == 0)
            spoken += is_spoken
            spoken_characters += is_spoken * length
        different = np.uint64(0)
        occurrences = np.int64(0)
        for piece in range(starts[text], starts[text + 1]):
            word = _short_word(data, begins[piece], ends[piece])
            slot = np.uintp((word * _SCATTER) >> np.uint64(60))
            different |= np.uint64(_SLOTS[slot] == word) << np.uint64(slot)
            word |= _LOWER_CASE >> np.uint64(8 * max(np.int64(0), 4 - (ends[piece] - begins[piece])))
            occurrences += np.int64(_SLOTS[np.uintp((word * _SCATTER) >> np.uint64(60))] == word)
        # No word at all, zero, lies in slot 0 as zero.
        counts[0, text] = starts[text + 1] - starts[text]
        counts[1, text], counts[2, text], counts[3, text], counts[4, text] = characters, letters, words, word_characters
        counts[5, text], counts[6, text], counts[7, text] = spoken, spoken_characters, begun
        counts[8, text], counts[9, text] = bits_set(different & ~np.uint64(1)), occurrences


@bare_kernel
def _count_symbols(offsets: Integers, data: Bytes, valid: Flags, counts: Integers) -> None:
    """The last three of the counts."""
    for text in range(offsets.size - 1):
        at = offsets[text]
        end = offsets[text + 1] if valid[text] else at
        signs = ellipses = spaced = np.int64(0)
        after = spaced_after = at  # what the last ellipsis left
        while at < end:
            signs += bits_set(_equal(data, at, end, _HASH))
            lead = _equal(data, at, end, _LEAD)
            while lead:
                place = at + lowest_bit(lead)
                lead &= lead - np.uint64(1)
                ellipses += place + 2 < end and data[place + 1] == 0x80 and data[place + 2] == 0xA6
            dots = _equal(data, at, end, _DOT)
            while dots:
                place = at + lowest_bit(dots)
                dots &= dots - np.uint64(1)
                if place + 2 < end and data[place + 2] == _DOT and data[place + 1] == _DOT and place >= after:
                    ellipses += 1
                    after = place + 3
                if (
                    place + 4 < end
                    and data[place + 2] == _DOT
                    and data[place + 4] == _DOT
                    and data[place + 1] == 0x20
                    and data[place + 3] == 0x20
                    and place >= spaced_after
                ):
                    spaced += 1
                    spaced_after = place + 5
            at += LANES
        counts[10, text], counts[11, text], counts[12, text] = signs, ellipses, spaced


@bare_inner
def _equal(data: Bytes, at: Whole, end: Whole, byte: np.uint8) -> Any:
    """Which of the bytes from `at` on, up to `end` and LANES of them, are `byte`."""
    if at + LANES <= data.size:
        mask = np.uint64(equal_bytes(data, at, byte))
        if at + LANES > end:
            mask &= (np.uint64(1) << np.uint64(end - at)) - np.uint64(1)
        return mask
    mask = np.uint64(0)
    for place in range(at, min(end, at + LANES)):
        mask |= np.uint64(data[place] == byte) << np.uint64(place - at)
    return mask


@bare_inner
def _short_word(data: Bytes, start: Whole, stop: Whole) -> Any:
    """A piece of at most four bytes as one number, the first byte lowest; 0 for longer ones."""
    used = np.uint64(8 * (stop - start)) if stop - start <= 4 else np.uint64(0)
    if start + 8 <= data.size:
        return load_word(data, start) & ((np.uint64(1) << used) - np.uint64(1))
    word = np.uint64(0)
    if used:
        for at in range(start, stop):
            word |= np.uint64(data[at]) << np.uint64(8 * (at - start))
    return word
