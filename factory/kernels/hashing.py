"""128-bit identities of contents, in one normal form, and the columns of keys that linkers write.

The normal form of a text: NFC; white space (space, tab, carriage return) at the end of a line is gone, so that `\\r\\n` is
`\\n`. Two texts have one identity if and only if they are equal in it, but for a chance of n**2 / 2**129 among n texts.
"""

import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from factory.kernels.compiled import inner, kernel

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step


def hash_contents(offsets: Integers, data: Bytes, valid: Flags) -> tuple[Hashes, Hashes, Flags]:
    """Key and check (the halves of XXH3-128) of each text in normal form, and whether it holds more than line ends."""
    starts, tidy, doubtful, filled = _strip_lines(offsets, data, valid)
    view = tidy.data
    contents = [view[start:stop] for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    for text in np.flatnonzero(doubtful).tolist():
        # Bytes that are not UTF-8 have no composed form; they are hashed as they are.
        decoded = bytes(contents[text]).decode("utf-8", "surrogateescape")
        if not unicodedata.is_normalized("NFC", decoded):
            contents[text] = memoryview(unicodedata.normalize("NFC", decoded).encode("utf-8", "surrogateescape"))
    key, check = hash_bytes(contents)
    return key, check, filled


def hash_bytes(contents: Iterable[bytes | memoryview]) -> tuple[Hashes, Hashes]:
    """The two halves of XXH3-128 of each content."""
    digests = b"".join(map(xxhash.xxh3_128_digest, contents))
    halves = np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])


def key_column(keys: Hashes, linked: Flags, valid: Flags) -> pa.Array:
    """list<uint64> of the rows of `keys`: empty where not `linked`, null where not `valid`."""
    linked = linked & valid
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(np.where(linked, keys.shape[1], 0)).astype(np.int32)])
    values = pa.array(np.ascontiguousarray(keys[linked]).reshape(-1), pa.uint64())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~valid))


@kernel
def _strip_lines(offsets: Integers, data: Bytes, valid: Flags) -> tuple[Integers, Bytes, Flags, Flags]:
    """The texts without white space at the ends of lines; which of them may not be composed; which hold anything."""
    texts = offsets.size - 1
    starts = np.zeros(texts + 1, np.int64)
    tidy = np.empty(offsets[-1] - offsets[0], np.uint8)
    doubtful, filled = np.zeros(texts, np.bool_), np.zeros(texts, np.bool_)
    kept = np.int64(0)
    for text in range(texts):
        if valid[text]:
            start, end, begin = offsets[text], offsets[text + 1], kept
            spaces, highest = _survey(data, start, end)
            if spaces == 0:
                kept = begin + end - start
                tidy[begin:kept] = data[start:end]
            else:
                kept = _strip(data, start, end, tidy, begin)
            filled[text] = _line_feeds(tidy, begin, kept) < kept - begin
            doubtful[text] = highest >= 0xCC and _may_compose(tidy, begin, kept)
        starts[text + 1] = kept
    return starts, tidy, doubtful, filled


@inner
def _survey(data: Bytes, start: Whole, end: Whole) -> tuple[Whole, Whole]:
    """How many bytes of white space lie before a line's end, and the highest byte; without a branch, so in wide steps."""
    spaces = np.int64(0)
    highest = np.uint8(0)
    for index in range(start, end - 1):
        byte = data[index]
        spaces += (data[index + 1] == 0x0A) & ((byte == 0x20) | (byte == 0x09) | (byte == 0x0D))
        highest = max(highest, byte)
    if start < end:
        last = data[end - 1]
        spaces += (last == 0x20) | (last == 0x09) | (last == 0x0D)
        highest = max(highest, last)
    return spaces, highest


@inner
def _strip(data: Bytes, start: Whole, end: Whole, tidy: Bytes, at: Whole) -> Whole:
    kept = at
    for index in range(start, end):
        byte = data[index]
        if byte == 0x0A:
            at = kept
        tidy[at] = byte
        at += 1
        if byte != 0x20 and byte != 0x09 and byte != 0x0D:
            kept = at
    return kept


@inner
def _line_feeds(tidy: Bytes, start: Whole, stop: Whole) -> Whole:
    feeds = np.int64(0)
    for index in range(start, stop):
        feeds += tidy[index] == 0x0A
    return feeds


@inner
def _may_compose(tidy: Bytes, start: Whole, stop: Whole) -> bool:
    """Whether a character from U+0300 is there, but for the dashes and quotation marks from U+2010 to U+203F."""
    for index in range(start, stop):
        if tidy[index] >= 0xCC and not (
            tidy[index] == 0xE2 and index + 2 < stop and tidy[index + 1] == 0x80 and tidy[index + 2] >= 0x90
        ):
            return True
    return False
