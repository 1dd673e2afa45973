"""Texts with stretches of their bytes taken out or replaced, all at once, in the offsets of the text as it is stored.

Edits of several rules are merged in the order of where they start; what two of them cover goes once, with the replacement
of the one that starts first (of those that start together: the earlier rule). Edits lie on whole characters.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.kernels.compiled import bare_kernel
from factory.kernels.text import Bytes, Flags, Integers, view_text


def apply_edits(texts: pa.Array, edits: Sequence[pa.Array]) -> pa.Array:
    """The texts after every edit (arrays of EDITS, one value a text); a null text stays null, null edits are none."""
    flat = [_flatten(column) for column in edits]
    rows, starts, ends, replacements = (np.concatenate(columns) for columns in zip(*flat, strict=True))
    if not len(rows):
        return texts.cast(pa.large_string())
    rank = np.repeat(np.arange(len(flat)), [len(columns[0]) for columns in flat])
    order = np.lexsort((rank, starts, rows))
    pieces = view_text(pa.array(replacements[order], pa.large_string()))
    view = view_text(texts)
    firsts = np.searchsorted(rows[order], np.arange(len(texts) + 1))
    offsets = np.zeros(len(texts) + 1, np.int64)
    room = int(view.offsets[-1] - view.offsets[0]) + len(pieces.data)
    data = np.empty(room, np.uint8)
    bad = _apply(*view, firsts, starts[order], ends[order], pieces.offsets, pieces.data, offsets, data)
    if bad >= 0:
        raise ValueError(f"an edit of text {bad} of the batch does not lie within it on whole characters")
    data = data[: offsets[-1]]
    valid = pa.array(view.valid).buffers()[1] if texts.null_count else None
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(data), valid)


def _flatten(column: pa.Array) -> tuple[Integers, Integers, Integers, npt.NDArray[np.object_]]:
    """Row, start, end and replacement of every edit of a column."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = column.flatten()
    replacements = flat.field("replacement").fill_null("").to_numpy(zero_copy_only=False)
    starts, ends = (flat.field(name).to_numpy(zero_copy_only=False).astype(np.int64) for name in ("start", "end"))
    return np.repeat(np.arange(len(column)), lengths), starts, ends, replacements


@bare_kernel
def _apply(
    offsets: Integers,
    data: Bytes,
    valid: Flags,
    firsts: Integers,
    starts: Integers,
    ends: Integers,
    piece_offsets: Integers,
    piece_data: Bytes,
    made_offsets: Integers,
    made: Bytes,
) -> int:
    """Fills `made` and its offsets; returns the first text with an edit outside it or inside a character, or -1."""
    out = 0
    for text in range(offsets.size - 1):
        begin, end = offsets[text], offsets[text + 1]
        if not valid[text]:
            end = begin
        at = begin
        for edit in range(firsts[text], firsts[text + 1]):
            start, stop = begin + starts[edit], begin + ends[edit]
            if start > stop or stop > end:
                return text
            if (start < end and data[start] & 0xC0 == 0x80) or (stop < end and data[stop] & 0xC0 == 0x80):
                return text
            if start >= at:
                for position in range(at, start):
                    made[out] = data[position]
                    out += 1
                for position in range(piece_offsets[edit], piece_offsets[edit + 1]):
                    made[out] = piece_data[position]
                    out += 1
            at = max(at, stop)
        for position in range(at, end):
            made[out] = data[position]
            out += 1
        made_offsets[text + 1] = out
    return -1
