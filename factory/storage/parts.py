"""Parts: Parquet files with a digest over their content, and the record that says a part is finished.

A part is written to a scratch file, published under its final name, and then its record (`<name>.json`) is put beside it.
A part without a record does not exist. Thin parts carry `part` and `row`, and the digest of the doc_id column they
belong to; `read_aligned` puts columns of several thin parts beside each other only when those digests agree.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from factory.core.errors import IntegrityError
from factory.core.fingerprint import TableDigest, digest_table
from factory.core.manifest import Part
from factory.core.schema import ALIGNMENT
from factory.storage.store import Store

ROW_GROUP_BYTES = 16 << 20
BATCH_ROWS = 512
# Of zstd: level 3 makes text 15 % smaller and takes 60 % longer, 2 % of the time from a crawl's page to its document.
LEVEL = 1


def find_part(store: Store, folder: str, name: str) -> Part | None:
    """The finished part of this name, or None when it was not made, or not made whole."""
    try:
        part = Part.from_json(json.loads(store.read(f"{folder}/{name}.json")))
    except (FileNotFoundError, ValueError, TypeError):  # not there, or altered by hand: it is made again
        return None
    return part if store.size(part.path) == part.bytes else None


def write_part(
    store: Store,
    folder: str,
    name: str | Callable[[], str],
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    ids: str | None = None,
    notes: Callable[[], Mapping[str, Any]] = dict,
) -> Part:
    """Write batches as one part. `ids` is the id digest of the rows' documents; left out, it is taken from `doc_id`.

    `notes`, and `name` where it is a function, are called after the last batch, so that they can tell what was met on the
    way.
    """
    digest = TableDigest(schema)
    id_digest = TableDigest(pa.schema([("doc_id", pa.string())])) if ids is None else None
    rows = 0
    with store.scratch() as scratch:
        local = os.path.join(scratch, "part.parquet")
        with pq.ParquetWriter(
            local, schema, compression="zstd", compression_level=LEVEL, write_page_checksum=True
        ) as writer:
            pending: list[pa.RecordBatch] = []
            pending_bytes = 0
            for batch in batches:
                batch = batch.select(schema.names).cast(schema)
                digest.update(batch)
                if id_digest is not None:
                    id_digest.update(batch)
                rows += batch.num_rows
                pending.append(batch)
                pending_bytes += batch.nbytes
                if pending_bytes >= ROW_GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(pending, schema), row_group_size=rows or 1)
                    pending, pending_bytes = [], 0
            if pending:
                writer.write_table(pa.Table.from_batches(pending, schema), row_group_size=rows or 1)
        final = name if isinstance(name, str) else name()
        part = Part(
            name=final,
            path=f"{folder}/{final}.parquet",
            rows=rows,
            bytes=os.path.getsize(local),
            digest=digest.hexdigest(),
            ids=id_digest.hexdigest() if id_digest is not None else ids or "",
            notes=dict(notes()),
            checksum=_checksum(local),
        )
        store.put_file(part.path, local)
    finish_part(store, folder, part)
    return part


def _checksum(local: str) -> str:
    with open(local, "rb") as stream:
        return digest_stream(stream)


def finish_part(store: Store, folder: str, part: Part) -> None:
    """Put the record that makes a published file a part."""
    store.put(f"{folder}/{part.name}.json", json.dumps(part.to_json(), sort_keys=True).encode())


def write_thin_part(
    store: Store,
    folder: str,
    document: Part,
    columns: Mapping[str, pa.DataType],
    batches: Iterable[pa.RecordBatch],
    *,
    notes: Callable[[], Mapping[str, Any]] = dict,
) -> Part:
    """Write columns that stand beside a document part; raises IntegrityError when the row counts differ."""
    schema = pa.schema([*ALIGNMENT, *columns.items()])

    def aligned() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in batches:
            rows = np.arange(row, row + batch.num_rows, dtype=np.uint32)
            name = pa.repeat(pa.scalar(document.digest), batch.num_rows)
            row += batch.num_rows
            yield pa.RecordBatch.from_arrays(
                [name, pa.array(rows), *batch.select(list(columns)).columns], schema=schema
            )
        if row != document.rows:
            raise IntegrityError(f"{folder}: {row:,} rows beside {document.rows:,} documents of {document.path}")

    return write_part(store, folder, document.digest, schema, aligned(), ids=document.ids, notes=notes)


def read_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's table. Read whole, its digest is compared; of single columns, Parquet's page checksums are."""
    wanted = None if columns is None else list(columns)
    with _opened(store, part) as stream:
        table = pq.read_table(stream, columns=wanted, page_checksum_verification=True)
    if table.num_rows != part.rows or (columns is None and digest_table(table) != part.digest):
        raise IntegrityError(
            f"{part.path} does not hold what was written (digest or rows differ). 'factory verify --repair' removes it, "
            "and 'factory run' makes it again."
        )
    return table


def iterate_part(store: Store, part: Part, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The part's rows in batches, a row group in memory at a time."""
    with _opened(store, part) as stream:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        if file.metadata.num_rows != part.rows:
            raise IntegrityError(f"{part.path} holds {file.metadata.num_rows:,} rows, its record says {part.rows:,}")
        for group in range(file.num_row_groups):  # left alone, Arrow fills a batch from several groups
            yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=list(columns))


def take_rows(
    store: Store, part: Part, columns: Sequence[str], rows: np.ndarray, size: int = BATCH_ROWS
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Some rows of a part, named by their ascending numbers, in batches with their numbers; other row groups stay unread."""
    with _opened(store, part) as stream:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        if file.metadata.num_rows != part.rows:
            raise IntegrityError(f"{part.path} holds {file.metadata.num_rows:,} rows, its record says {part.rows:,}")
        first = 0
        for group in range(file.num_row_groups):
            stop = first + file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(rows, [first, stop])
            at = first
            for batch in file.iter_batches(size, [group], list(columns)) if low < high else ():
                low, high = np.searchsorted(rows, [at, at + batch.num_rows])
                yield rows[low:high], batch.take(pa.array(rows[low:high] - at))
                at += batch.num_rows
            first = stop


def value_count(store: Store, part: Part, column: str) -> int:
    """How many values a column of lists has in all, from the file's footer alone; an empty list or null counts as one."""
    with _opened(store, part) as stream:
        metadata = pq.ParquetFile(stream).metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        leaves = [group.column(number) for group in groups for number in range(group.num_columns)]
        return sum(leaf.num_values for leaf in leaves if leaf.path_in_schema.split(".")[0] == column)


@contextlib.contextmanager
def _opened(store: Store, part: Part) -> Iterator[BinaryIO]:
    """A part's bytes; what goes wrong while they are read is said in the store's terms."""
    try:
        with store.open(part.path) as stream:
            yield stream
    except FileNotFoundError:
        raise IntegrityError(
            f"{part.path} is listed in a manifest but is gone. 'factory run' makes it again."
        ) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"{part.path} is damaged ({error}). 'factory verify --repair' removes it.") from error


def read_aligned(
    store: Store, document: Part, beside: Iterable[tuple[Part, Mapping[str, str]]], own: Sequence[str] = ()
) -> pa.Table:
    """Columns of a document part and of thin parts beside it; `beside` maps stored names to the names wanted.

    Raises IntegrityError when a thin part belongs to other rows than the document part's.
    """
    found = read_part(store, document, own) if own else None
    columns = {} if found is None else {name: found.column(name) for name in found.column_names}
    for part, names in beside:
        if part.ids != document.ids or part.rows != document.rows:
            raise IntegrityError(
                f"{part.path} stands beside other documents than {document.path} (id digest {part.ids} != {document.ids})"
            )
        if names:
            thin = read_part(store, part, list(names))
            columns.update({wanted: thin.column(stored) for stored, wanted in names.items()})
    return pa.table(columns)


def write_file(store: Store, folder: str, name: str, local: str, notes: Mapping[str, Any] | None = None) -> Part:
    """Publish a file that is no table (a model, tokens, a checkpoint) as a part; its digest is over its bytes."""
    with open(local, "rb") as stream:
        digest = digest_stream(stream)
    part = Part(name, f"{folder}/{name}", 0, os.path.getsize(local), digest, notes=dict(notes or {}))
    store.put_file(part.path, local)
    return part


def damage(store: Store, part: Part) -> str | None:
    """What is wrong with a part's bytes, or None: the full check behind `factory verify`."""
    size = store.size(part.path)
    if size != part.bytes:
        return f"{part.path}: {'gone' if size is None else f'{size:,} bytes'}, {part.bytes:,} were written"
    try:
        if part.path.endswith(".parquet") and not part.checksum:
            read_part(store, part)
            return None
        with store.open(part.path) as stream:
            written = part.checksum or part.digest
            return None if digest_stream(stream) == written else f"{part.path}: not the bytes that were written"
    except IntegrityError as error:
        return str(error)


def digest_stream(stream: BinaryIO) -> str:
    """The digest of a file's bytes, read in pieces."""
    hasher = xxhash.xxh3_128()
    while chunk := stream.read(8 << 20):
        hasher.update(chunk)
    return hasher.hexdigest()
