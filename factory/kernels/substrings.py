"""Runs of tokens as keys: a 64-bit hash of every window of so many tokens, rolled along the text.

Two windows of equal tokens have one key; of n windows that differ, n**2 / 2**65 pairs are expected to share one. A token is
known by its own 64-bit hash or number. A window's hash is a polynomial over mixed tokens modulo 2**64 (Karp and Rabin,
1987), mixed once more; the texts that collide under every such polynomial (Thue-Morse words) need 1,024 tokens and more.
"""

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.pieces import Pieces
from factory.kernels.text import Bytes, Hashes, Integers, TextView

Lengths = npt.NDArray[np.uint32]

_BASE = np.uint64(0x9E3779B97F4A7C15)
# The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def spaced_tokens(view: TextView, pieces: Pieces) -> tuple[Hashes, Lengths]:
    """Pieces with the bytes (white space) before each as tokens: a 64-bit hash and the bytes of each.

    Tokens follow each other without a gap; what comes after a text's last piece belongs to none.
    """
    hashes, lengths = np.empty(len(pieces.begins), np.uint64), np.empty(len(pieces.begins), np.uint32)
    _hash_tokens(view.offsets, view.data, pieces.begins, pieces.ends, pieces.starts, pieces.hashes, hashes, lengths)
    return hashes, lengths


def window_keys(tokens: Hashes, starts: Integers, length: int) -> tuple[Hashes, Integers]:
    """The key of every window of `length` tokens; tokens of text i are `starts[i]` up to `starts[i + 1]`, and so are keys."""
    counts = np.maximum(np.diff(starts) - length + 1, 0)
    firsts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    keys = np.empty(int(firsts[-1]), np.uint64)
    _roll(tokens, starts, length, firsts, keys)
    return keys, firsts


@bare_kernel
def _hash_tokens(
    offsets: Integers,
    data: Bytes,
    begins: Integers,
    ends: Integers,
    starts: Integers,
    pieces: Hashes,
    hashes: Hashes,
    lengths: Lengths,
) -> None:
    for text in range(starts.size - 1):
        last = offsets[text]
        for piece in range(starts[text], starts[text + 1]):
            begin, end = begins[piece], ends[piece]
            gap = np.uint64(begin - last)
            value = pieces[piece]
            while last < begin:
                value = (value ^ np.uint64(data[np.uintp(last)])) * _BASE
                value ^= value >> np.uint64(32)
                last += 1
            hashes[piece] = value + gap
            lengths[piece] = np.uint32(gap) + np.uint32(end - begin)
            last = end


@bare_kernel
def _roll(tokens: Hashes, starts: Integers, length: int, firsts: Integers, keys: Hashes) -> None:
    highest = np.uint64(1)
    for _ in range(length - 1):
        highest *= _BASE
    for text in range(starts.size - 1):
        first, stop = starts[text], starts[text + 1]
        if stop - first < length:
            continue
        value = np.uint64(0)
        for at in range(first, first + length - 1):
            value = value * _BASE + _mixed(tokens[at])
        key = firsts[text]
        for at in range(first + length - 1, stop):
            value = value * _BASE + _mixed(tokens[at])
            keys[key] = _mixed(value)
            key += 1
            value -= _mixed(tokens[at - length + 1]) * highest


@bare_inner
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
