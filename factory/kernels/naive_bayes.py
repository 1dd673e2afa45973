"""Naive Bayes over byte n-grams found by one automaton: the classifier of langid.py (Lui and Baldwin, ACL 2012).

An automaton goes over the bytes of a text; some of its states stand for a feature. A class's score is its prior plus the sum
over features of log(1 + count) times the feature's weight for the class; shares are their softmax, at a temperature of the
square root of the text's bytes, as py3langid has it.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_kernel

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step


class Automaton(NamedTuple):
    """From state s, byte b leads to `moves[rows[s] + b]`; state s stands for feature `features[s]`, or for none (-1)."""

    moves: Indices
    rows: Integers
    features: Indices


def classify(
    offsets: Integers, data: Bytes, valid: Flags, automaton: Automaton, weights: Floats, prior: Floats
) -> tuple[Floats, Flags]:
    """Shares, a row a text and a column a class; and which texts have any feature."""
    table = np.zeros((valid.size, prior.size), np.float32)
    known = np.zeros(valid.size, np.bool_)
    counts, found = np.zeros(weights.shape[0], np.int64), np.zeros(weights.shape[0], np.int64)
    _classify(offsets, data, valid, *automaton, weights, prior, counts, found, table, known)
    return table, known


def are_plain(offsets: Integers, data: Bytes) -> Flags:
    """Which texts are ASCII with a small letter: in normal form, and not all in capitals."""
    plain = np.zeros(offsets.size - 1, np.bool_)
    _are_plain(offsets, data, plain)
    return plain


@bare_kernel
def _are_plain(offsets: Integers, data: Bytes, plain: Flags) -> None:
    for text in range(plain.size):
        high = np.uint8(0)
        small = np.uint8(0)
        for at in range(np.uintp(offsets[text]), np.uintp(offsets[text + 1])):
            high |= data[at]
            small |= np.uint8(np.uint8(data[at] - np.uint8(0x61)) < np.uint8(26))
        plain[text] = small > 0 and high < 0x80


@bare_kernel
def _classify(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    moves: Indices,
    rows: Integers,
    features: Indices,
    weights: Floats,
    prior: Floats,
    counts: Integers,
    found: Integers,
    table: Floats,
    known: Flags,
) -> None:
    for text in range(valid.size):
        if not valid[text]:
            continue
        size = 0
        state = np.uintp(0)
        for at in range(np.uintp(offsets[text]), np.uintp(offsets[text + 1])):
            state = np.uintp(moves[np.uintp(rows[state]) + np.uintp(data[at])])
            feature = features[state]
            if feature >= 0:
                if counts[feature] == 0:
                    found[size] = feature
                    size += 1
                counts[feature] += 1
        if size == 0:
            continue
        known[text] = True
        row = table[text]
        for label in range(row.size):
            row[label] = prior[label]
        for item in range(size):
            feature = found[item]
            factor = np.float32(np.log1p(np.float32(counts[feature])))
            counts[feature] = 0
            for label in range(row.size):
                row[label] += factor * weights[feature, label]
        highest = row[0]
        for label in range(row.size):
            highest = max(highest, row[label])
        temperature = np.float32(1.0 / np.sqrt(np.float64(offsets[text + 1] - offsets[text])))
        total = np.float32(0)
        for label in range(row.size):
            row[label] = np.exp((row[label] - highest) * temperature)
            total += row[label]
        for label in range(row.size):
            row[label] /= total
