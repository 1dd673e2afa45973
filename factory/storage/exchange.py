"""Exchange by key: rows written into buckets by the leading bits of a hash, so that equal keys meet in one bucket.

The number of buckets depends on the amount of data alone, and what a bucket holds does not depend on who wrote it.
"""

import math
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from factory.storage.store import Store

BUCKET_BYTES = 256 << 20
ROW_BYTES = 24
MAX_BUCKETS = 4096
SCHEMA = pa.schema([("key", pa.uint64()), ("check", pa.uint64()), ("node", pa.int64())])


def bucket_count(rows: int) -> int:
    """How many buckets keep each within its share of memory."""
    return min(MAX_BUCKETS, max(1, math.ceil(rows * ROW_BYTES / BUCKET_BYTES)))


def write_buckets(
    store: Store, folder: str, writer: str, buckets: int, key: np.ndarray, check: np.ndarray, node: np.ndarray
) -> None:
    """Put rows (uint64 key, uint64 check, int64 node) into the files `<folder>/<bucket>/<writer>.parquet`."""
    target = (key >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
    order = np.argsort(target, kind="stable")
    bounds = np.searchsorted(target[order], np.arange(buckets + 1, dtype=np.uint64))
    with store.scratch() as scratch:
        for bucket in range(buckets):
            rows = order[bounds[bucket] : bounds[bucket + 1]]
            table = pa.table([pa.array(key[rows]), pa.array(check[rows]), pa.array(node[rows])], schema=SCHEMA)
            local = os.path.join(scratch, "bucket.parquet")
            pq.write_table(table, local, compression="zstd", write_page_checksum=True)
            store.put_file(f"{folder}/{bucket:04d}/{writer}.parquet", local)


def read_bucket(
    store: Store, folder: str, bucket: int, writers: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All rows of a bucket, as (key, check, node)."""
    tables = []
    for writer in writers:
        with store.open(f"{folder}/{bucket:04d}/{writer}.parquet") as stream:
            tables.append(pq.read_table(stream, page_checksum_verification=True))
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    return tuple(table.column(name).to_numpy() for name in ("key", "check", "node"))  # type: ignore[return-value]
