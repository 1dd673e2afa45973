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

from factory.kernels.compiled import bare_inner, bare_kernel

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Whole = Any  # int64 in a kernel; mypy would tell int and np.int64 apart at every step


def hash_contents(offsets: Integers, data: Bytes, valid: Flags) -> tuple[Hashes, Hashes, Flags]:
    """Key and check (the halves of XXH3-128) of each text in normal form, and whether it holds more than line ends."""
    loose, doubtful, filled = (np.zeros(len(valid), np.bool_) for _ in range(3))
    _survey(offsets, data, valid, loose, doubtful, filled)
    # Most texts are hashed where they lie: to touch new memory takes longer than to hash what is put there.
    tidy = np.empty(int(np.diff(offsets)[loose].sum()), np.uint8)
    starts = np.zeros(len(valid) + 1, np.int64)
    _strip(offsets, data, loose, tidy, starts)
    ends = np.where(valid, offsets[1:], offsets[:-1])
    given = data.data
    contents = [given[start:stop] for start, stop in zip(offsets[:-1].tolist(), ends.tolist(), strict=True)]
    for text in np.flatnonzero(loose).tolist():
        contents[text] = tidy.data[starts[text] : starts[text + 1]]
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


def key_column(keys: npt.NDArray[Any], linked: Flags, valid: Flags) -> pa.Array:
    """A list of the rows of `keys`: empty where not `linked`, null where not `valid`."""
    linked = linked & valid
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.where(linked, keys.shape[1], 0))])
    return list_column(np.ascontiguousarray(keys[linked]).reshape(-1), starts, valid)


def list_column(values: npt.NDArray[Any], starts: Integers, valid: Flags) -> pa.Array:
    """A list for each row, `values[starts[row]:starts[row + 1]]`, null where not `valid`."""
    return pa.ListArray.from_arrays(list_offsets(starts), pa.array(values), mask=pa.array(~valid))


def list_offsets(starts: Integers) -> pa.Array:
    """Where lists begin, as Arrow has it; raises rather than wraps where a batch holds too much."""
    if len(starts) and starts[-1] >= 1 << 31:
        raise OverflowError(f"a batch of texts has {starts[-1]:,} values in a column of lists; at most 2**31 - 1 fit")
    return pa.array(starts.astype(np.int32))


@bare_kernel
def _survey(offsets: Integers, data: Bytes, valid: Flags, loose: Flags, doubtful: Flags, filled: Flags) -> None:
    """Which texts have white space at the end of a line, which may not be composed, which hold more than white space."""
    for text in range(offsets.size - 1):
        if not valid[text]:
            continue
        start, end = offsets[text], offsets[text + 1]
        # Without a branch, so in wide steps; over single bytes, as sums would need wider ones.
        ends, solid, highest = np.uint8(0), np.uint8(0), np.uint8(0)
        for index in range(start, end - 1):
            byte = data[np.uintp(index)]
            space = np.uint8(byte == 0x20) | np.uint8(byte == 0x09) | np.uint8(byte == 0x0D)
            ends |= np.uint8(data[np.uintp(index + 1)] == 0x0A) & space
            solid |= np.uint8(1) ^ (space | np.uint8(byte == 0x0A))
            highest = max(highest, byte)
        if start < end:
            last = data[end - 1]
            space = np.uint8(last == 0x20) | np.uint8(last == 0x09) | np.uint8(last == 0x0D)
            ends |= space
            solid |= np.uint8(1) ^ (space | np.uint8(last == 0x0A))
            highest = max(highest, last)
        loose[text] = ends != 0
        filled[text] = solid != 0
        doubtful[text] = highest >= 0xCC and _may_compose(data, start, end)


@bare_kernel
def _strip(offsets: Integers, data: Bytes, chosen: Flags, tidy: Bytes, starts: Integers) -> None:
    """The chosen texts, without white space at the ends of lines."""
    kept = np.int64(0)
    for text in range(offsets.size - 1):
        if chosen[text]:
            at = kept
            for index in range(offsets[text], offsets[text + 1]):
                byte = data[np.uintp(index)]
                if byte == 0x0A:
                    at = kept
                tidy[np.uintp(at)] = byte
                at += 1
                if byte != 0x20 and byte != 0x09 and byte != 0x0D:
                    kept = at
        starts[text + 1] = kept


@bare_inner
def _may_compose(tidy: Bytes, start: Whole, stop: Whole) -> bool:
    """Whether a character from U+0300 is there, but for the dashes and quotation marks from U+2010 to U+203F."""
    for index in range(start, stop):
        if tidy[np.uintp(index)] >= 0xCC and not (
            tidy[np.uintp(index)] == 0xE2
            and index + 2 < stop
            and tidy[np.uintp(index + 1)] == 0x80
            and tidy[np.uintp(index + 2)] >= 0x90
        ):
            return True
    return False
