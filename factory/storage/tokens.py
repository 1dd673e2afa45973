"""Token files: one flat array of token ids, and an index that says where every document begins and ends.

The format is Megatron's `.bin`/`.idx` pair (magic MMIDIDX, version 1), so that other trainers read it as it is. Ids come in
as arrays and leave as views of a memory map. The index is written last: a `.bin` without an `.idx` is not a token file.
Paths are local; who puts the files into a store renames or uploads them afterwards.
"""

import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from factory.core.errors import FactoryError, IntegrityError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, entries of the document index
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}
WRITABLE = ("uint16", "int32")  # the format has no uint32; ids stay far below 2^31

Ids = npt.NDArray[Any]


@dataclass(frozen=True)
class TokenSummary:
    """What was written: `digest` covers ids, document lengths and dtype, not the file layout."""

    documents: int
    tokens: int
    dtype: str
    digest: str


class TokenWriter:
    """Appends documents to `<prefix>.bin`; `close` writes `<prefix>.idx` and tells what was made.

    As a context manager it closes on success and removes what it wrote when the block raises.
    """

    def __init__(self, prefix: str | Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype.name not in WRITABLE:
            raise FactoryError(f"token files hold {' or '.join(WRITABLE)}, not {self.dtype.name}.")
        self.prefix = Path(prefix)
        self.summary: TokenSummary | None = None
        self._lengths: list[npt.NDArray[np.int32]] = []
        self._hasher = xxhash.xxh3_128()
        self._tokens = 0
        self._file = open(_bin(self.prefix), "wb")  # noqa: SIM115 - open across calls, closed by close()

    def append(self, ids: Ids, lengths: npt.ArrayLike) -> None:
        """Add documents: `ids` holds them one after the other, `lengths` how many tokens each has."""
        sizes = np.asarray(lengths, dtype=np.int64)
        if ids.ndim != 1 or int(sizes.sum()) != len(ids) or (len(sizes) and sizes.min() < 0):
            raise ValueError(f"{len(ids)} ids do not match lengths that sum to {int(sizes.sum())}")
        if len(sizes) and sizes.max() > np.iinfo(np.int32).max:
            raise FactoryError(
                f"a document of {int(sizes.max()):,} tokens is beyond what a token file can index (2^31-1)."
            )
        bounds = np.iinfo(self.dtype)
        if ids.dtype != self.dtype and len(ids) and (ids.min() < 0 or ids.max() > bounds.max):
            raise FactoryError(f"token id {int(ids.max()):,} does not fit {self.dtype.name}. Ask for int32.")
        data = np.ascontiguousarray(ids, dtype=self.dtype.newbyteorder("<")).data.cast("B") if len(ids) else b""
        self._file.write(data)
        self._hasher.update(data)
        self._lengths.append(sizes.astype(np.int32))
        self._tokens += len(ids)

    def close(self) -> TokenSummary:
        if self.summary is not None:
            return self.summary
        lengths = np.concatenate([*self._lengths, np.empty(0, dtype=np.int32)])
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        temporary = self.prefix.with_name(self.prefix.name + ".idx.partial")
        with open(temporary, "wb") as index:
            index.write(HEADER.pack(MAGIC, VERSION, CODES[self.dtype.name], len(lengths), len(lengths) + 1))
            index.write(lengths.astype("<i4").tobytes())
            index.write((_starts(lengths)[:-1] * self.dtype.itemsize).astype("<i8").tobytes())
            index.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())
            index.flush()
            os.fsync(index.fileno())
        os.replace(temporary, _idx(self.prefix))
        digest = _digest(self._hasher.digest(), lengths, self.dtype)
        self.summary = TokenSummary(len(lengths), self._tokens, self.dtype.name, digest)
        return self.summary

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        self._file.close()
        _bin(self.prefix).unlink(missing_ok=True)


class TokenFile:
    """A token file opened for reading: `ids` is the memory map, `starts` has one entry more than there are documents."""

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(prefix)
        self.dtype, sizes, pointers, documents = _read_index(_idx(self.prefix))
        starts = _starts(sizes)
        if not np.array_equal(pointers, starts[:-1] * self.dtype.itemsize):
            raise IntegrityError(f"{_idx(self.prefix)}: its sequences do not follow each other without gaps.")
        if documents[0] != 0 or documents[-1] != len(sizes) or bool((np.diff(documents) < 0).any()):
            raise IntegrityError(f"{_idx(self.prefix)}: its document index does not cover {len(sizes):,} sequences.")
        # A document of other writers may be several sequences; ours is always one.
        self.starts: npt.NDArray[np.int64] = starts[documents]
        self.tokens = int(starts[-1])
        self.ids = self._map()

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts)

    def document(self, index: int) -> Ids:
        """The tokens of one document, as a view."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        view: Ids = self.ids[self.starts[index] : self.starts[index + 1]]
        return view

    @cached_property
    def digest(self) -> str:
        """The digest `TokenWriter` reported; reads the whole file, once."""
        hasher = xxhash.xxh3_128()
        step = 1 << 24
        for start in range(0, self.tokens, step):
            hasher.update(np.ascontiguousarray(self.ids[start : start + step]).data.cast("B"))
        return _digest(hasher.digest(), self.lengths, self.dtype)

    def _map(self) -> Ids:
        path = _bin(self.prefix)
        if not path.exists():
            raise IntegrityError(f"{path} is missing although its index is there.")
        expected, found = self.tokens * self.dtype.itemsize, path.stat().st_size
        if expected != found:
            raise IntegrityError(
                f"{path} holds {found:,} bytes and its index describes {expected:,}: truncated or mixed up."
            )
        if not self.tokens:
            return np.empty(0, dtype=self.dtype)  # an empty file cannot be mapped
        return np.memmap(path, dtype=self.dtype.newbyteorder("<"), mode="r")


def _bin(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".bin")


def _idx(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".idx")


def _starts(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each document begins, and behind the last where the file ends; 64 bits from the first addition on."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, dtype=np.int64, out=starts[1:])
    return starts


def _digest(content: bytes, lengths: npt.NDArray[Any], dtype: np.dtype[Any]) -> str:
    return xxhash.xxh3_128_hexdigest(content + lengths.astype("<i8").tobytes() + dtype.name.encode())


def _read_index(
    path: Path,
) -> tuple[np.dtype[Any], npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if not path.exists():
        raise FactoryError(
            f"{path} does not exist: {path.stem} is not a token file, or its writing was never finished."
        )
    data = path.read_bytes()
    if len(data) < HEADER.size:
        raise IntegrityError(f"{path} is {len(data)} bytes long, too short for an index.")
    magic, version, code, sequences, entries = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise IntegrityError(f"{path} is not a token index: it begins with {magic!r}, not {MAGIC!r}.")
    if version != VERSION:
        raise IntegrityError(f"{path} has version {version}; this reader knows version {VERSION}.")
    names = {code: name for name, code in CODES.items()}
    if code not in names:
        raise IntegrityError(f"{path} has dtype code {code}; known: {', '.join(f'{c} {n}' for c, n in names.items())}.")
    expected = HEADER.size + sequences * 12 + entries * 8
    if len(data) != expected or entries < 1:
        raise IntegrityError(
            f"{path} is {len(data):,} bytes and should be {expected:,} for {sequences:,} sequences: truncated."
        )
    sizes = np.frombuffer(data, dtype="<i4", count=sequences, offset=HEADER.size)
    pointers = np.frombuffer(data, dtype="<i8", count=sequences, offset=HEADER.size + sequences * 4)
    documents = np.frombuffer(data, dtype="<i8", count=entries, offset=HEADER.size + sequences * 12)
    return np.dtype(names[code]), sizes, pointers, documents
