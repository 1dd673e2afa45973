"""Where sentences end, roughly and in one pass: what lies between the ends of lines and of sentences, nothing left out.

A sentence ends at a line feed; after `.`, `!`, `?` or `…` and whatever quotes and brackets close there, if white space
follows; and after the full stops of scripts that put no space there (`。！？।`). Abbreviations are not known: this is for
scores that look at a sentence at a time, not for counting them. The sentences of a text are its bytes, cut.
"""

from typing import NamedTuple

import numpy as np

from factory.kernels.compiled import bare_inner, bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, TextView, Whole

_MOST = 1 << 20  # bytes of a sentence: a text without any end is cut here


class Sentences(NamedTuple):
    """Sentence s is `data[ends[s - 1]:ends[s]]`, the first begins with the first text; those of text i are
    `starts[i]` up to `starts[i + 1]`. A text that is not there has none, or one to be passed over."""

    ends: Integers
    starts: Integers


def cut_sentences(view: TextView) -> Sentences:
    room = 64 + int(view.offsets[-1] - view.offsets[0]) // 32
    starts = np.zeros(len(view.offsets), np.int64)
    while True:
        ends = np.empty(room, np.int64)
        found = _cut(*view, ends, starts)
        if found <= room:
            return Sentences(ends[:found], starts)
        room = int(found)


@bare_kernel
def _cut(offsets: Integers, data: Bytes, valid: Flags, ends: Integers, starts: Integers) -> int:
    count = 0
    for text in range(offsets.size - 1):
        at, end = offsets[text], offsets[text + 1]
        last = at
        if not valid[text]:
            at = end
        while at < end:
            stop = _end_after(data, at, end)
            if stop == 0 and at - last >= _MOST and data[at] & 0xC0 != 0x80:
                stop = at
            if stop > last:
                if count < ends.size:
                    ends[count] = stop
                count += 1
                last = stop
            at = max(at + 1, stop)
        if last < end:
            if count < ends.size:
                ends[count] = end
            count += 1
        starts[text + 1] = count
    return count


@bare_inner
def _end_after(data: Bytes, at: Whole, end: Whole) -> Whole:
    """Where the sentence ends that this byte closes; 0 if it closes none."""
    byte = data[np.uintp(at)]
    if byte == 0x0A:
        return at + 1
    if byte < 0x80:
        if byte != 0x2E and byte != 0x21 and byte != 0x3F:
            return np.int64(0)
        place = at + 1
    elif byte == 0xE3 and at + 2 < end and data[at + 1] == 0x80 and data[at + 2] == 0x82:
        return at + 3  # ideographic full stop
    elif byte == 0xEF and at + 2 < end and data[at + 1] == 0xBC and (data[at + 2] == 0x81 or data[at + 2] == 0x9F):
        return at + 3  # wide exclamation and question mark
    elif byte == 0xE0 and at + 2 < end and data[at + 1] == 0xA5 and data[at + 2] == 0xA4:
        return at + 3  # danda
    elif byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80 and data[at + 2] == 0xA6:
        place = at + 3  # ellipsis
    else:
        return np.int64(0)
    closed = np.int64(0)
    while place < end and closed < 4:
        byte = data[place]
        if byte == 0x22 or byte == 0x27 or byte == 0x29 or byte == 0x5D:
            place += 1
        elif byte == 0xE2 and place + 2 < end and data[place + 1] == 0x80 and 0x98 <= data[place + 2] <= 0x9F:
            place += 3
        else:
            break
        closed += 1
    if place < end and (data[place] == 0x20 or data[place] == 0x09 or data[place] == 0x0D):
        return place + 1
    return np.int64(0)
