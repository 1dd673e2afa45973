"""Sorted runs: rows in the order of their keys, kept in the store, and read range by range.

A run is cut into parts and each part into blocks by the leading bits of the keys, so that who wants the keys of one bucket
reads the blocks that hold them and no others, whatever the number of buckets was when the run was written.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.errors import IntegrityError
from factory.core.manifest import Manifest, Part
from factory.storage.exchange import bucket_of, open_blocks, write_blocks
from factory.storage.manifests import find_manifest, missing_parts, write_manifest
from factory.storage.parts import write_file
from factory.storage.store import Store

KIND = "index"


def find_kept(store: Store, path: str) -> Manifest | None:
    """What was kept under this manifest, if all of it is there."""
    manifest = find_manifest(store, path)
    return manifest if manifest is not None and not missing_parts(store, manifest) else None


def keep(store: Store, manifest: Manifest) -> None:
    """Commit a state. Cut by another budget it says the same in other files: one that is there already is as good."""
    there = find_manifest(store, manifest.path)
    if there is not None and not missing_parts(store, there):
        return
    if there is not None:
        store.delete(manifest.path)
    try:
        write_manifest(store, manifest)
    except IntegrityError:  # another one committed meanwhile, cut by another budget
        if find_kept(store, manifest.path) is None:
            raise


def write_run_part(
    store: Store,
    folder: str,
    name: str,
    blocks: Iterable[pa.Table],
    *,
    schema: pa.Schema,
    bucket: int,
    buckets: int,
    pieces: int,
) -> Part:
    """One range of a run: the rows of `bucket` of `buckets`, sorted, as so many blocks of equal ranges."""
    with store.scratch() as scratch:
        local = os.path.join(scratch, "run")
        rows = write_blocks(local, schema, blocks)
        notes = {"bucket": bucket, "buckets": buckets, "pieces": pieces}
        return replace(write_file(store, folder, f"{name}.blocks", local, notes), rows=rows)


class Run:
    """The parts of a run, read range by range; the last block is kept, for a range that begins within it."""

    def __init__(self, store: Store, parts: Sequence[Mapping[str, Any]]) -> None:
        self.store, self.parts = store, parts
        self._last: tuple[str, int, pa.Table] | None = None

    def blocks(self, bucket: int, buckets: int) -> Iterator[pa.Table]:
        """The blocks that hold all rows of a bucket, in order; the first and the last may hold others, too."""
        for part in self.parts:
            notes = part["notes"]
            pieces, begin = notes["pieces"], notes["bucket"] * notes["pieces"]
            total = notes["buckets"] * pieces
            first = max(begin, bucket * total // buckets)
            last = min(begin + pieces, -(-(bucket + 1) * total // buckets))
            yield from self._read(part["path"], range(first - begin, last - begin))

    def rows(self, bucket: int, buckets: int) -> list[pa.Table]:
        """The rows of a bucket alone."""
        found = []
        for block in self.blocks(bucket, buckets):
            target = bucket_of(block.column("key").to_numpy(), buckets)
            low, high = np.searchsorted(target, [bucket, bucket + 1])
            found.append(block.slice(low, high - low))
        return found

    def _read(self, path: str, pieces: range) -> Iterator[pa.Table]:
        if pieces and self._last is not None and self._last[:2] == (path, pieces[0]):
            yield self._last[2]
            pieces = pieces[1:]
        if not pieces:
            return
        with open_blocks(self.store, path) as blocks:
            for piece in pieces:
                self._last = (path, piece, blocks.read(piece).combine_chunks())
                yield self._last[2]
