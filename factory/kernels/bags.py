"""Stochastic gradient descent for a linear classifier of bags of features: the training of fastText (arXiv:1607.01759).

A text is a sequence of words; a word is a few features (itself, its character n-grams), and so is each run of up to
`ngrams` words in a row, hashed into buckets. The text is the mean of the vectors of its features; a softmax over the
classes follows; the step falls linearly to zero. Each pass over the texts goes in its own order, drawn from the seed.
One thread, and no reordered sums: the same input gives the same bits.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import inner, kernel

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step

_BASE = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_NGRAM = np.uint64(116049371)  # how fastText combines the hashes of neighbouring words


class Bags(NamedTuple):
    """Text t is the words `texts[starts[t]:starts[t + 1]]`, of class `classes[t]`; word w has the features
    `features[bounds[w]:bounds[w + 1]]` and the hash `hashes[w]`. N-gram h has the feature `first + h % buckets`."""

    texts: Indices
    starts: Integers
    classes: Indices
    features: Indices
    bounds: Integers
    hashes: Hashes
    first: int
    buckets: int
    ngrams: int


def learn(bags: Bags, *, dimension: int, classes: int, epochs: int, rate: float, seed: int) -> tuple[Floats, Floats]:
    """The vectors of the features and of the classes."""
    return _learn(*bags, dimension, classes, epochs, np.float32(rate), np.uint64(seed))


@kernel
def hash_words(offsets: Integers, data: Bytes) -> Hashes:
    """fastText's hash of each word: 32-bit FNV-1a over signed bytes, as the signed number it is combined as."""
    hashes = np.empty(offsets.size - 1, np.uint64)
    for word in range(offsets.size - 1):
        value = np.uint64(2166136261)
        for at in range(offsets[word], offsets[word + 1]):
            byte = np.uint64(data[at])
            if byte >= np.uint64(0x80):
                byte |= np.uint64(0xFFFFFF00)
            value = ((value ^ byte) * np.uint64(16777619)) & np.uint64(0xFFFFFFFF)
        if value >= np.uint64(0x80000000):
            value |= np.uint64(0xFFFFFFFF00000000)
        hashes[word] = value
    return hashes


@kernel
def _learn(
    texts: Indices,
    starts: Integers,
    classes: Indices,
    features: Indices,
    bounds: Integers,
    hashes: Hashes,
    first: int,
    buckets: int,
    ngrams: int,
    dimension: int,
    class_count: int,
    epochs: int,
    rate: np.float32,
    seed: np.uint64,
) -> tuple[Floats, Floats]:
    count = starts.size - 1
    inputs = np.empty((first + buckets, dimension), np.float32)
    scale = np.float32(2.0 / dimension)
    for row in range(first + buckets):
        for column in range(dimension):
            uniform = np.float32(_draw(seed, row * dimension + column) >> np.uint64(40)) * np.float32(2.0**-24)
            inputs[row, column] = scale * (uniform - np.float32(0.5))
    outputs = np.zeros((class_count, dimension), np.float32)
    hidden, gradient = np.empty(dimension, np.float32), np.empty(dimension, np.float32)
    shares = np.empty(class_count, np.float32)
    bag = np.empty(_largest(texts, starts, bounds, ngrams), np.int64)
    order = np.arange(count)
    for epoch in range(epochs):
        for place in range(count - 1, 0, -1):
            other = np.int64(_draw(seed, -1 - (epoch * count + place)) % np.uint64(place + 1))
            order[place], order[other] = order[other], order[place]
        for place in range(count):
            text = order[place]
            size = _fill(bag, texts, starts[text], starts[text + 1], features, bounds, hashes, first, buckets, ngrams)
            if size == 0:
                continue
            step = rate * np.float32(1.0 - (epoch * count + place) / (epochs * count))
            share = np.float32(1.0 / size)
            hidden[:] = np.float32(0.0)
            for item in range(size):
                row = bag[item]
                for column in range(dimension):
                    hidden[column] += inputs[row, column]
            for column in range(dimension):
                hidden[column] *= share
            _softmax(hidden, outputs, shares)
            gradient[:] = np.float32(0.0)
            for label in range(class_count):
                target = np.float32(1.0) if label == classes[text] else np.float32(0.0)
                pull = step * (target - shares[label])
                for column in range(dimension):
                    gradient[column] += pull * outputs[label, column]
                    outputs[label, column] += pull * hidden[column]
            for column in range(dimension):
                gradient[column] *= share
            for item in range(size):
                row = bag[item]
                for column in range(dimension):
                    inputs[row, column] += gradient[column]
    return inputs, outputs


@inner
def _softmax(hidden: Floats, outputs: Floats, shares: Floats) -> None:
    highest = np.float32(-np.inf)
    for label in range(shares.size):
        total = np.float32(0.0)
        for column in range(hidden.size):
            total += outputs[label, column] * hidden[column]
        shares[label] = total
        highest = max(highest, total)
    total = np.float32(0.0)
    for label in range(shares.size):
        shares[label] = np.exp(shares[label] - highest)
        total += shares[label]
    for label in range(shares.size):
        shares[label] /= total


@inner
def _largest(texts: Indices, starts: Integers, bounds: Integers, ngrams: Whole) -> Whole:
    """Room for the features of any one text."""
    largest = np.int64(0)
    for text in range(starts.size - 1):
        size = (starts[text + 1] - starts[text]) * (ngrams - 1)
        for at in range(starts[text], starts[text + 1]):
            size += bounds[texts[at] + 1] - bounds[texts[at]]
        largest = max(largest, size)
    return largest


@inner
def _fill(
    bag: Integers,
    texts: Indices,
    start: Whole,
    stop: Whole,
    features: Indices,
    bounds: Integers,
    hashes: Hashes,
    first: Whole,
    buckets: Whole,
    ngrams: Whole,
) -> Whole:
    """Put the features of the words [start, stop) into the bag; how many they are."""
    size = 0
    for at in range(start, stop):
        word = texts[at]
        for feature in range(bounds[word], bounds[word + 1]):
            bag[size] = features[feature]
            size += 1
    for at in range(start, stop):
        value = hashes[texts[at]]
        for following in range(at + 1, min(stop, at + ngrams)):
            value = value * _NGRAM + hashes[texts[following]]
            bag[size] = first + np.int64(value % np.uint64(buckets))
            size += 1
    return size


@inner
def _draw(seed: np.uint64, number: Whole) -> np.uint64:
    """64 random bits, a function of the seed and a number."""
    value = (seed + np.uint64(1)) * _MIX_2 + np.uint64(number) * _BASE
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
