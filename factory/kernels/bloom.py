"""Paragraphs most of whose n-grams were seen before, by a Bloom filter: DCLM's BFF, mode `old-both` (arXiv:2406.11794).

In: the words of texts. Out: for each paragraph (what lies between line feeds) the hashes of all its n-grams; and of those, in
the order documents are given, which paragraphs and documents hold too many that the filter knows. A filter of a number of
elements n and a chance of a false positive e takes n·ln(1/e)/ln(2)² bits and looks at log2(1/e) of them, rounded up.

A document is asked about whole before anything of it is put in: repetitions within it are no one's copy. If its share of
known n-grams reaches the threshold, nothing of it is put in; else the n-grams of those paragraphs whose share does not.
A false positive is met with a chance below e as long as no more than n elements are put in, and then at most half of the bits
are set.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.pieces import Pieces
from factory.kernels.text import Bytes, Flags, Hashes, Integers, TextView

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]

WORD_BITS = 64
MOST_WORDS = 1 << 32  # the bits of a hash that choose a word of a filter

_LINE_FEED = np.uint8(0x0A)
_BASE = np.uint64(0x9FB21C651E98DF25)
_STEP = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def bits_per_element(false_positives: float) -> float:
    """The bits a filter takes for each element, at the least."""
    return -math.log(false_positives) / math.log(2) ** 2


def hash_count(false_positives: float) -> int:
    """How many bits an element sets."""
    return math.ceil(bits_per_element(false_positives) * math.log(2))


def filter_words(elements: int, false_positives: float) -> int:
    """The words of 64 bits of a filter: room for the elements, and for no more than half of its bits to be set."""
    # A whole number of hashes fills more than half of the least room; a hundredth is for chance.
    bits = max(bits_per_element(false_positives), hash_count(false_positives) / math.log(2)) * 1.01
    return max(1, math.ceil(elements * bits / WORD_BITS))


class Paragraphs(NamedTuple):
    """The n-grams of texts, paragraph after paragraph.

    Paragraph p is the bytes `begins[p]` to `ends[p]` of its text and has `counts[p]` n-grams; those of text i are
    `paragraph_starts[i]` up to `paragraph_starts[i + 1]`, and its n-grams `keys[key_starts[i]:key_starts[i + 1]]`.
    """

    keys: Hashes
    counts: Counts
    begins: Counts
    ends: Counts
    key_starts: Integers
    paragraph_starts: Integers


def paragraph_ngrams(view: TextView, pieces: Pieces, ngram: int, min_ngram: int) -> Paragraphs:
    """All n-grams of `ngram` words of each paragraph; one of all its words where they are fewer but `min_ngram`.

    The paragraphs of a text follow each other without gaps: a line feed begins the paragraph after it, so that taking
    paragraphs out leaves lines as they were.
    """
    texts = len(view.valid)
    key_starts, paragraph_starts = np.zeros(texts + 1, np.int64), np.zeros(texts + 1, np.int64)

    def pass_over(keys: Hashes, counts: Counts, begins: Counts, ends: Counts) -> None:
        _ngrams(
            view.offsets,
            view.data,
            view.valid,
            pieces.begins,
            pieces.hashes,
            pieces.starts,
            ngram,
            min_ngram,
            key_starts,
            paragraph_starts,
            keys,
            counts,
            begins,
            ends,
        )

    pass_over(np.empty(0, np.uint64), *(np.empty(0, np.uint32) for _ in range(3)))
    keys = np.empty(key_starts[-1], np.uint64)
    counts, begins, ends = (np.empty(paragraph_starts[-1], np.uint32) for _ in range(3))
    pass_over(keys, counts, begins, ends)
    return Paragraphs(keys, counts, begins, ends, key_starts, paragraph_starts)


class Layers(NamedTuple):
    """Filters that are asked together, the last of which takes what is put in.

    Filter f is `words[starts[f]:starts[f + 1]]`; an element sets `hashes[f]` bits of it.
    """

    words: Words
    starts: Integers
    hashes: Integers


class Screened(NamedTuple):
    """Of each document the n-grams that were known; whether it is left out as a whole; of each paragraph, whether it goes.

    `inserted` counts the n-grams that were put in.
    """

    known: Counts
    whole: Flags
    removed: Flags
    inserted: int


def screen(
    keys: Hashes,
    key_starts: Integers,
    counts: Counts,
    paragraph_starts: Integers,
    order: Integers,
    layers: Layers,
    threshold: float,
) -> Screened:
    """Ask for documents one after another, in this order, and put in what is new."""
    documents = len(key_starts) - 1
    known, whole = np.zeros(documents, np.uint32), np.zeros(documents, np.bool_)
    removed, hits = np.zeros(len(counts), np.bool_), np.zeros(len(counts), np.uint32)
    inserted = _screen(
        keys, key_starts, counts, paragraph_starts, order, *layers, threshold, hits, known, whole, removed
    )
    return Screened(known, whole, removed, int(inserted))


def contains(layers: Layers, keys: Hashes) -> Flags:
    """Which of the keys any of the filters knows."""
    found = np.zeros(len(keys), np.bool_)
    _contains(keys, *layers, found)
    return found


def fill_ratio(words: Words) -> float:
    """The share of a filter's bits that are set."""
    return float(np.bitwise_count(words).sum(dtype=np.int64) / (len(words) * WORD_BITS))


@bare_kernel
def _ngrams(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    word_begins: Integers,
    word_hashes: Hashes,
    word_starts: Integers,
    ngram: int,
    min_ngram: int,
    key_starts: Integers,
    paragraph_starts: Integers,
    keys: Hashes,
    counts: Counts,
    begins: Counts,
    ends: Counts,
) -> None:
    """Fills the starts, and the others unless they are empty: the first call tells how many there are."""
    filling = counts.size > 0
    first_power = np.uint64(1)  # what the first word of an n-gram has been multiplied by when it leaves
    for _ in range(ngram):
        first_power *= _BASE
    key = paragraph = np.int64(0)
    for text in range(offsets.size - 1):
        start, end = offsets[text], offsets[text + 1] if valid[text] else offsets[text]
        word, last_word = word_starts[text], word_starts[text + 1] if valid[text] else word_starts[text]
        at = start
        while at < end:
            stop = at + 1
            while stop < end and data[np.uintp(stop)] != _LINE_FEED:
                stop += 1
            first = word
            while word < last_word and word_begins[np.uintp(word)] < stop:
                word += 1
            count = word - first - ngram + 1
            if count < 1:
                count = np.int64(1) if word - first >= min_ngram else np.int64(0)
            if filling:
                place = np.uintp(paragraph)
                counts[place], begins[place], ends[place] = count, at - start, stop - start
                value = np.uint64(0)
                if count:
                    for index in range(first, word):
                        value = value * _BASE + word_hashes[np.uintp(index)]
                        if index - first >= ngram:
                            value -= word_hashes[np.uintp(index - ngram)] * first_power
                        if index - first >= ngram - 1:
                            keys[np.uintp(key + index - first - ngram + 1)] = _mix(value)
                    if word - first < ngram:
                        keys[np.uintp(key)] = _mix(value)
            key += count
            paragraph += 1
            at = stop
        key_starts[text + 1], paragraph_starts[text + 1] = key, paragraph


@bare_kernel
def _screen(
    keys: Hashes,
    key_starts: Integers,
    counts: Counts,
    paragraph_starts: Integers,
    order: Integers,
    words: Words,
    starts: Integers,
    hashes: Integers,
    threshold: float,
    hits: Counts,
    known: Counts,
    whole: Flags,
    removed: Flags,
) -> np.int64:
    inserted = np.int64(0)
    last = starts.size - 2
    for turn in range(order.size):
        document = order[turn]
        key = key_starts[document]
        ngrams = key_starts[document + 1] - key
        total = np.int64(0)
        for paragraph in range(paragraph_starts[document], paragraph_starts[document + 1]):
            found = np.int64(0)
            for index in range(key, key + counts[paragraph]):
                found += _known(keys[index], words, starts, hashes)
            key += counts[paragraph]
            hits[paragraph] = found
            total += found
        known[document] = total
        if ngrams == 0:
            continue
        if total / ngrams >= threshold:
            whole[document] = True
            continue
        key = key_starts[document]
        for paragraph in range(paragraph_starts[document], paragraph_starts[document + 1]):
            count = np.int64(counts[paragraph])
            if count > 0 and hits[paragraph] / count >= threshold:
                removed[paragraph] = True
            else:
                for index in range(key, key + count):
                    _insert(keys[index], words, starts[last], starts[last + 1], hashes[last])
                inserted += count
            key += count
    return inserted


@bare_kernel
def _contains(keys: Hashes, words: Words, starts: Integers, hashes: Integers, found: Flags) -> None:
    for index in range(keys.size):
        found[index] = _known(keys[index], words, starts, hashes) != 0


@bare_inner
def _known(key: Any, words: Words, starts: Integers, hashes: Integers) -> Any:
    """1 if some filter has all bits of the key set, else 0; the last filter, which is asked first, knows most copies."""
    step = _mix(key ^ _STEP) | np.uint64(1)
    for back in range(starts.size - 1):
        layer = starts.size - 2 - back
        first = starts[layer]
        size = np.uint64(starts[layer + 1] - first)
        value = key
        asked = np.int64(0)
        while asked < hashes[layer]:
            word = words[np.uintp(first) + np.uintp(((value >> np.uint64(32)) * size) >> np.uint64(32))]
            if not (word >> (value & np.uint64(63))) & np.uint64(1):
                break
            value += step
            asked += 1
        if asked == hashes[layer]:
            return np.int64(1)
    return np.int64(0)


@bare_inner
def _insert(key: Any, words: Words, start: Any, stop: Any, hashes: Any) -> None:
    step = _mix(key ^ _STEP) | np.uint64(1)
    size = np.uint64(stop - start)
    value = key
    for _ in range(hashes):
        place = np.uintp(start) + np.uintp(((value >> np.uint64(32)) * size) >> np.uint64(32))
        words[place] |= np.uint64(1) << (value & np.uint64(63))
        value += step


@bare_inner
def _mix(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
