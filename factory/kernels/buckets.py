"""The hashed word n-grams of DSIR (arXiv:2302.03169): which of so many buckets each word, and each pair of neighbours, is in.

Words are runs of word characters (letters, numbers, low line) and runs of other characters, `\\w+|[^\\w\\s]+`. A pair is
two of them with one space between. The bucket is the SHA-256 of the UTF-8, as one number, modulo the buckets: the same on
every machine, and the same as in DSIR's own files.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.rpv2 import tables
from factory.kernels.text import Bytes, Flags, Integers, TextView
from factory.kernels.utf8 import decode

Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Indices = npt.NDArray[np.int32]
Halves = npt.NDArray[np.uint32]

_WORD, _SPACE = 1, 2  # of the classes of factory.kernels.rpv2


def _fractions(power: int, count: int) -> list[int]:
    """The first 32 bits behind the point of the roots of the first primes, which FIPS 180-4 takes its constants from."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, n))][:count]
    made = []
    for prime in primes:
        low, high = 0, 1 << 40
        wanted = prime << (32 * power)
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**power <= wanted else (low, middle)
        made.append(low & 0xFFFFFFFF)
    return made


_START = np.array(_fractions(2, 8), np.uint32)
_ROUNDS = np.array(_fractions(3, 64), np.uint32)


def bucket_grams(view: TextView, buckets: int) -> tuple[Indices, Integers, Integers]:
    """The buckets of all words and pairs of neighbours, those of text i from `starts[i]` up to `starts[i + 1]`, and how many
    words each text has."""
    texts = len(view.valid)
    classes = tables().classes
    words = np.zeros(texts, np.int64)
    longest = int(np.diff(view.offsets).max(initial=0))
    _count_words(*view, classes, words)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.maximum(2 * words - 1, 0))])
    found = np.empty(starts[-1], np.int32)
    message = np.zeros(2 * longest + 128, np.uint8)
    _bucket(*view, classes, buckets, starts, message, np.zeros(64, np.uint32), np.zeros(8, np.uint32), found)
    return found, starts, words


@bare_kernel
def _count_words(offsets: Integers, data: Bytes, valid: Flags, classes: Bytes, words: Integers) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        start, stop, end = offsets[text], offsets[text], offsets[text + 1]
        while True:
            start, stop = _next_word(data, stop, end, classes)
            if start >= end:
                break
            words[text] += 1


@bare_kernel
def _bucket(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    classes: Bytes,
    buckets: int,
    starts: Integers,
    message: Bytes,
    schedule: Halves,
    state: Halves,
    found: Indices,
) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        start, stop, end = offsets[text], offsets[text], offsets[text + 1]
        filled = starts[text]
        before, before_stop = np.int64(-1), np.int64(-1)
        while True:
            start, stop = _next_word(data, stop, end, classes)
            if start >= end:
                break
            size = np.int64(0)
            for at in range(start, stop):
                message[size] = data[at]
                size += 1
            found[filled] = _modulo(message, size, schedule, state, buckets)
            filled += 1
            if before >= 0:
                size = np.int64(0)
                for at in range(before, before_stop):
                    message[size] = data[at]
                    size += 1
                message[size] = 0x20
                size += 1
                for at in range(start, stop):
                    message[size] = data[at]
                    size += 1
                found[filled] = _modulo(message, size, schedule, state, buckets)
                filled += 1
            before, before_stop = start, stop


@bare_inner
def _next_word(data: Bytes, at: Whole, end: Whole, classes: Bytes) -> tuple[Whole, Whole]:
    """Where the next word begins and ends; it begins at `end` after the last."""
    code, width, kind = np.int64(0), np.int64(0), np.uint8(0)
    while at < end:
        code, width = decode(data, at, end)
        kind = classes[np.uintp(code)]
        if not kind & _SPACE:
            break
        at += width
    start = at
    if at >= end:
        return end, end
    word = kind & _WORD
    at += width
    while at < end:
        code, width = decode(data, at, end)
        kind = classes[np.uintp(code)]
        if kind & _SPACE or kind & _WORD != word:
            break
        at += width
    return start, at


@bare_inner
def _modulo(message: Bytes, size: Whole, schedule: Halves, state: Halves, buckets: Whole) -> Whole:
    """SHA-256 (FIPS 180-4) of the first bytes of the message, modulo the buckets. Overwrites what lies behind them."""
    bits = size * 8
    padded = size + 1
    message[size] = 0x80
    while padded % 64 != 56:
        message[padded] = 0
        padded += 1
    for byte in range(8):
        message[padded + byte] = (bits >> (56 - 8 * byte)) & 0xFF
    padded += 8
    for part in range(8):
        state[part] = _START[part]
    for block in range(0, padded, 64):
        _compress(message, block, schedule, state)
    value = np.uint64(0)
    for part in range(8):
        value = ((value << np.uint64(32)) | np.uint64(state[part])) % np.uint64(buckets)
    return np.int64(value)


@bare_inner
def _compress(message: Bytes, block: Whole, schedule: Halves, state: Halves) -> None:
    for word in range(16):
        at = np.uintp(block + 4 * word)
        schedule[word] = np.uint32(
            (np.uint32(message[at]) << 24)
            | (np.uint32(message[at + np.uintp(1)]) << 16)
            | (np.uint32(message[at + np.uintp(2)]) << 8)
            | np.uint32(message[at + np.uintp(3)])
        )
    for word in range(16, 64):
        x, y = schedule[word - 15], schedule[word - 2]
        small = _turn(x, 7) ^ _turn(x, 18) ^ np.uint32(x >> np.uint32(3))
        other = _turn(y, 17) ^ _turn(y, 19) ^ np.uint32(y >> np.uint32(10))
        schedule[word] = np.uint32(schedule[word - 16] + small + schedule[word - 7] + other)
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for turn in range(64):
        choice = (e & f) ^ (~e & g)
        majority = (a & b) ^ (a & c) ^ (b & c)
        one = np.uint32(h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + choice + _ROUNDS[turn] + schedule[turn])
        two = np.uint32((_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + majority)
        h, g, f, e = g, f, e, np.uint32(d + one)
        d, c, b, a = c, b, a, np.uint32(one + two)
    state[0], state[1] = np.uint32(state[0] + a), np.uint32(state[1] + b)
    state[2], state[3] = np.uint32(state[2] + c), np.uint32(state[3] + d)
    state[4], state[5] = np.uint32(state[4] + e), np.uint32(state[5] + f)
    state[6], state[7] = np.uint32(state[6] + g), np.uint32(state[7] + h)


@bare_inner
def _turn(value: np.uint32, by: int) -> np.uint32:
    return np.uint32((value >> np.uint32(by)) | np.uint32(value << np.uint32(32 - by)))
