"""Where the entries of a word list occur in texts: whole words, or anywhere in scripts that put no space between words.

Texts and entries are in small letters. A run of white space is one space. An entry that begins or ends with a letter,
number, combining mark or low line is found only where no other one touches it, unless `anywhere`. All entries are found
that begin at a place, short and long, so the time is at most the text's length times that of the longest entry.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, TextView, character_classes
from factory.kernels.utf8 import decode

Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step
Indices = npt.NDArray[np.int32]

_SPACE, _WORD, _EXTEND = 2, 4, 16  # of character_classes


class Trie(NamedTuple):
    """Node n and byte class c lead to `steps[n, c]` (0: nowhere); `entries[n]` ends there (-1: none); node 0 is the root."""

    classes: npt.NDArray[np.uint8]
    steps: Indices
    entries: Indices


def build_trie(entries: Sequence[bytes]) -> Trie:
    """Entry i of the sequence has number i; they are different, not empty, and in small letters."""
    used = sorted({byte for entry in entries for byte in entry})
    classes = np.zeros(256, np.uint8)  # class 0: in no entry
    classes[used] = np.arange(1, len(used) + 1)
    steps: list[dict[int, int]] = [{}]
    ends = [-1]
    for number, entry in enumerate(entries):
        node = 0
        for byte in entry:
            if byte not in steps[node]:
                steps[node][byte] = len(steps)
                steps.append({})
                ends.append(-1)
            node = steps[node][byte]
        ends[node] = number
    table = np.zeros((len(steps), len(used) + 1), np.int32)
    for node, known in enumerate(steps):
        for byte, following in known.items():
            table[node, classes[byte]] = following
    return Trie(classes, table, np.array(ends, np.int32))


def count_entries(view: TextView, trie: Trie, count: int, anywhere: bool) -> Integers:
    """A row per text: hits, different entries hit."""
    counts = np.zeros((len(view.valid), 2), np.int64)
    seen = np.zeros(max(count, 1), np.int64)
    _count_entries(*view, character_classes(), *trie, anywhere, seen, counts)
    return counts


@bare_kernel
def _count_entries(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    kinds: Bytes,
    classes: Bytes,
    steps: Indices,
    entries: Indices,
    anywhere: bool,
    seen: Integers,
    counts: Integers,
) -> None:
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        after_word = False
        while at < end:
            code, width = decode(data, at, end)
            is_word = code == 0x5F or (kinds[np.uintp(code)] & (_WORD | _EXTEND)) != 0
            if (anywhere or not (is_word and after_word)) and steps[0, classes[data[np.uintp(at)]]]:
                _walk(data, at, end, kinds, classes, steps, entries, anywhere, seen, counts, text)
            after_word = is_word
            at += width


@bare_inner
def _walk(
    data: Bytes,
    at: Whole,
    end: Whole,
    kinds: Bytes,
    classes: Bytes,
    steps: Indices,
    entries: Indices,
    anywhere: bool,
    seen: Integers,
    counts: Integers,
    text: Whole,
) -> None:
    """Counts the entries that begin here."""
    node = np.int64(0)
    while at < end:
        code, width = decode(data, at, end)
        kind = kinds[np.uintp(code)]
        if kind & _SPACE:
            node = np.int64(steps[node, classes[0x20]])
            while at < end and kind & _SPACE:
                at += width
                if at < end:
                    code, width = decode(data, at, end)
                    kind = kinds[np.uintp(code)]
        else:
            for place in range(at, at + width):
                node = np.int64(steps[node, classes[data[np.uintp(place)]]])
                if node == 0:
                    break
            at += width
        if node == 0:
            return
        if entries[node] < 0:
            continue
        if not anywhere and at < end and (code == 0x5F or kind & (_WORD | _EXTEND)):
            following, _ = decode(data, at, end)
            if following == 0x5F or kinds[np.uintp(following)] & (_WORD | _EXTEND):
                continue
        counts[text, 0] += 1
        if seen[entries[node]] != text + 1:
            seen[entries[node]] = text + 1
            counts[text, 1] += 1
