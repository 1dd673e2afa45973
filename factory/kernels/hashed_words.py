"""Texts as directions of 256 dimensions by their words alone: a sparse random projection of hashed TF-IDF.

The features are the words of the normal form of `factory.kernels.folding` and the pairs of neighbours among them, hashed
into 2**18 buckets. A bucket counts as (1 + ln of how often it occurs) times a weight, (1 + ln((1 + N) / (1 + n))) where n
of N documents have it: rare words say more. Each bucket adds itself, with a sign, to 8 of the 256 dimensions (Achlioptas,
2003; Weinberger et al., arXiv:0902.2206), all by its hash. Everything is whole numbers until the direction is taken, so
that a text has one vector on every machine. Cosines of unrelated texts scatter by 1/16 around that of their features.

Alike are texts of the same words. A paraphrase in other words, or a translation, is not found by them.
"""

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.folding import Codes, source, units_of
from factory.kernels.text import Bytes, Flags, Hashes, Integers, TextView, Whole
from factory.kernels.vectors import Units, unit_vectors

Weights = npt.NDArray[np.uint16]

DIMENSIONS = 256
BUCKETS = 1 << 18

_MASK = np.uint64(BUCKETS - 1)
_SPREAD = 8
_PRECISION = 64  # of weights, in units
_PAIR = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_REPEATED = np.rint(_PRECISION * (1.0 + np.log(np.maximum(np.arange(1024), 1)))).astype(np.int64)


def document_frequencies(view: TextView) -> Integers:
    """How many of the texts have each bucket."""
    frequencies = np.zeros(BUCKETS, np.int64)
    _count_documents(*source(view), np.full(BUCKETS, -1, np.int64), frequencies)
    return frequencies


def bucket_weights(frequencies: Integers, documents: int) -> Weights:
    """The weight of each bucket, from the documents that have it."""
    weights: Weights = np.rint(_PRECISION * (1.0 + np.log((1 + documents) / (1.0 + frequencies)))).astype(np.uint16)
    return weights


def hashed_vectors(view: TextView, weights: Weights) -> tuple[Units, Flags]:
    """The direction of each text, and whether it has one: it has if there are words in it."""
    words = source(view)
    sums = np.zeros((len(view.valid), DIMENSIONS), np.int64)
    met = np.empty(min(BUCKETS, 2 * len(words.hashes)), np.int64)
    _project(*words, weights, _REPEATED, np.zeros(BUCKETS, np.int32), met, sums)
    units = unit_vectors(sums)
    return units, np.asarray(units.any(axis=1))


@bare_kernel
def _count_documents(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: Codes,
    characters: bool,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    room: Bytes,
    hashes: Hashes,
    last: Integers,
    frequencies: Integers,
) -> None:
    for text in range(offsets.size - 1):
        words = units_of(text, offsets, data, valid, folded, characters, begins, ends, starts, room, hashes)
        for feature in range(2 * words - 1):
            bucket = _bucket(hashes, feature)
            if last[bucket] != text:
                last[bucket] = text
                frequencies[bucket] += 1


@bare_kernel
def _project(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    folded: Codes,
    characters: bool,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    room: Bytes,
    hashes: Hashes,
    weights: Weights,
    repeated: Integers,
    counts: npt.NDArray[np.int32],
    met: Integers,
    sums: Integers,
) -> None:
    """`counts` is all zeros before and after; `met` has room for the buckets of one text."""
    for text in range(offsets.size - 1):
        words = units_of(text, offsets, data, valid, folded, characters, begins, ends, starts, room, hashes)
        different = np.int64(0)
        for feature in range(2 * words - 1):
            bucket = _bucket(hashes, feature)
            if counts[bucket] == 0:
                met[different] = bucket
                different += 1
            counts[bucket] += 1
        for item in range(different):
            bucket = met[item]
            value = np.int64(weights[bucket]) * repeated[min(np.int64(counts[bucket]), np.int64(repeated.size - 1))]
            counts[bucket] = 0
            places = _mixed((np.uint64(bucket) + np.uint64(1)) * _PAIR)
            signs = _mixed(places)
            for turn in range(_SPREAD):
                place = (places >> np.uint64(8 * turn)) & np.uint64(DIMENSIONS - 1)
                sums[text, place] += value if (signs >> np.uint64(turn)) & np.uint64(1) else -value


@bare_inner
def _bucket(hashes: Hashes, feature: Whole) -> Whole:
    """Of a word (even numbers), or of it and the next one (odd numbers)."""
    value = hashes[feature >> 1]
    if feature & 1:
        value = _mixed(value * _PAIR + hashes[(feature >> 1) + 1])
    return np.int64(value & _MASK)


@bare_inner
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
