"""Exchange by key: rows written into buckets by the number of a bucket each, so that what belongs together meets in one.

The number of buckets follows from the amount of data and the memory a task may hold; what a bucket holds does not depend on
who wrote it. A writer makes one file of blocks, a bucket each, whatever their number: Arrow streams one after another
(uncompressed: hashes do not get smaller), each with a checksum and found by an index at the end, so that who reads a bucket
reads nothing else.
"""

import contextlib
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from factory.core.errors import IntegrityError
from factory.storage.store import Store

MAX_BUCKETS = 4096
# What sorting a bucket takes, beside its rows: the order, the sorted copy and what is made of it.
WORKING_COPIES = 8
MAGIC = b"blocks-1"
# The end of a file: bytes of the schema, blocks, checksum of schema and index, magic.
TAIL = struct.Struct("<qqQ8s")
# Of each block: where it begins, its bytes, its rows, its checksum.
INDEX = np.dtype([("offset", "<i8"), ("bytes", "<i8"), ("rows", "<i8"), ("checksum", "<u8")])
SUFFIX = ".blocks"


def bucket_count(rows: int, row_bytes: int, memory: int) -> int:
    """How many buckets of so many rows keep the work on each within `memory` bytes."""
    return min(MAX_BUCKETS, max(1, math.ceil(rows * row_bytes * WORKING_COPIES / memory)))


def bucket_of(key: npt.NDArray[np.uint64], buckets: int) -> npt.NDArray[np.uint64]:
    """The bucket of each key, by its leading bits: buckets follow each other as the keys do."""
    target: npt.NDArray[np.uint64] = (key >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
    return target


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A number for each number, spread evenly over 64 bits (the finalizer of MurmurHash3, which loses nothing)."""
    mixed = values.copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def write_rows(
    store: Store, folder: str, writer: str, buckets: int, target: npt.NDArray[np.integer], table: pa.Table
) -> None:
    """Put rows into the file `<folder>/<writer>.blocks`, one block for each bucket."""
    with store.scratch() as scratch:
        local = os.path.join(scratch, "rows")
        write_blocks(local, table.schema, cut(table, target, buckets))
        store.put_passing(_path(folder, writer), local)


def read_rows(store: Store, folder: str, bucket: int, writers: Sequence[str]) -> pa.Table:
    """All rows of a bucket, by writer in the order given, in one piece each column. `writers` must not be empty."""
    return pa.concat_tables(iterate_rows(store, folder, bucket, writers)).combine_chunks()


def iterate_rows(store: Store, folder: str, bucket: int, writers: Iterable[str]) -> Iterator[pa.Table]:
    """The rows of a bucket, writer by writer, for those that are too many to hold at once.

    The first writer's come also when it has none, for their columns; of the others only those that have some.
    """
    for place, writer in enumerate(writers):
        with open_blocks(store, _path(folder, writer)) as blocks:
            if place == 0 or blocks.rows(bucket):
                yield blocks.read(bucket)


def count_rows(store: Store, folder: str, bucket: int, writers: Iterable[str]) -> int:
    """How many rows a bucket holds; only indexes are read."""
    total = 0
    for writer in writers:
        with open_blocks(store, _path(folder, writer)) as blocks:
            total += blocks.rows(bucket)
    return total


def cut(table: pa.Table, target: npt.NDArray[np.integer], buckets: int) -> Iterator[pa.Table]:
    """The rows of each bucket in turn, in their order."""
    if buckets == 1:
        yield table
        return
    from factory.kernels.scatter import deal, scatter  # numba takes longer to import than a store to open

    places, bounds = deal(target.astype(np.int64), buckets)
    if all(_plain(column) for column in table.columns):
        moved = [pa.array(scatter(column.to_numpy(), places)) for column in table.columns]
        table = pa.table(moved, schema=table.schema)
        for low, high in pairwise(bounds):
            yield table.slice(low, high - low)
        return
    order = scatter(np.arange(len(places)), places)
    for low, high in pairwise(bounds):
        yield table.take(pa.array(order[low:high]))


def _plain(column: pa.ChunkedArray) -> bool:
    return (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) and not column.null_count


def write_blocks(local: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write a file of blocks; how many rows it holds."""
    index: list[tuple[int, int, int, int]] = []
    offset = 0
    with open(local, "wb") as out:
        for table in tables:
            data = _packed(table) if table.num_rows else memoryview(b"")
            out.write(data)
            index.append((offset, len(data), table.num_rows, xxhash.xxh3_64_intdigest(data)))
            offset += len(data)
        description = bytes(schema.serialize())
        listed = np.array(index, INDEX).tobytes()
        checksum = xxhash.xxh3_64_intdigest(description + listed)
        out.write(description + listed + TAIL.pack(len(description), len(index), checksum, MAGIC))
    return sum(rows for _, _, rows, _ in index)


class Blocks:
    """An open file of blocks."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        end = stream.seek(0, os.SEEK_END)
        if end < TAIL.size:
            raise self._damaged("it is too short")
        described, blocks, checksum, magic = TAIL.unpack(self._bytes(end - TAIL.size, TAIL.size))
        size = described + blocks * INDEX.itemsize
        if magic != MAGIC or described < 0 or blocks < 0 or size > end - TAIL.size:
            raise self._damaged("its end is not what was written")
        tail = self._bytes(end - TAIL.size - size, size)
        if xxhash.xxh3_64_intdigest(tail) != checksum:
            raise self._damaged("its index is not what was written")
        self._described = tail[:described]
        self._index = np.frombuffer(tail[described:], INDEX)

    @property
    def schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(self._described))

    def rows(self, number: int) -> int:
        return int(self._index[number]["rows"])

    def read(self, number: int) -> pa.Table:
        entry = self._index[number]
        if not entry["rows"]:
            return self.schema.empty_table()
        data = self._bytes(int(entry["offset"]), int(entry["bytes"]))
        if xxhash.xxh3_64_intdigest(data) != entry["checksum"]:
            raise self._damaged(f"block {number} is not what was written")
        return pa.ipc.open_stream(pa.py_buffer(data)).read_all()

    def _bytes(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(size)

    def _damaged(self, how: str) -> IntegrityError:
        return IntegrityError(f"{self._name} is damaged ({how}). 'factory verify --repair' removes what is; run again.")


@contextlib.contextmanager
def open_blocks(store: Store, path: str) -> Iterator[Blocks]:
    """The blocks of a file of the store."""
    with store.open(path) as stream:
        yield Blocks(stream, path)


def _path(folder: str, writer: str) -> str:
    return f"{folder}/{writer}{SUFFIX}"


def _packed(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return memoryview(sink.getvalue())
