"""Exchange by key: rows written into buckets by the number of a bucket each, so that what belongs together meets in one.

The number of buckets follows from the amount of data and the memory a task may hold; what a bucket holds does not depend on
who wrote it. Files are Parquet without compression (hashes do not get smaller) and with checksums of their pages.
"""

import math
import os

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from factory.storage.store import Store

MAX_BUCKETS = 4096
# What sorting a bucket takes, beside its rows: the order, the sorted copy and what is made of it.
WORKING_COPIES = 4


def bucket_count(rows: int, row_bytes: int, memory: int) -> int:
    """How many buckets of so many rows keep the work on each within `memory` bytes."""
    return min(MAX_BUCKETS, max(1, math.ceil(rows * row_bytes * WORKING_COPIES / memory)))


def bucket_of(key: npt.NDArray[np.uint64], buckets: int) -> npt.NDArray[np.uint64]:
    """The bucket of each key, by its leading bits: buckets follow each other as the keys do."""
    target: npt.NDArray[np.uint64] = (key >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
    return target


def write_rows(
    store: Store, folder: str, writer: str, buckets: int, target: npt.NDArray[np.integer], table: pa.Table
) -> None:
    """Put rows into the files `<folder>/<bucket>/<writer>.parquet`; an empty file where a bucket gets none."""
    table = table.combine_chunks()
    with store.scratch() as scratch:
        local = os.path.join(scratch, "bucket.parquet")
        if buckets > 1:
            order = np.argsort(target, kind="stable")
            bounds = np.searchsorted(target[order], np.arange(buckets + 1))
        for bucket in range(buckets):
            rows = table if buckets == 1 else table.take(pa.array(order[bounds[bucket] : bounds[bucket + 1]]))
            pq.write_table(rows, local, compression="none", use_dictionary=False, write_page_checksum=True)
            store.put_file(f"{folder}/{bucket:04d}/{writer}.parquet", local)


def read_rows(store: Store, folder: str, bucket: int, writers: list[str]) -> pa.Table:
    """All rows of a bucket, by writer in the order given, in one piece each column. `writers` must not be empty."""
    tables = []
    for writer in writers:
        with store.open(f"{folder}/{bucket:04d}/{writer}.parquet") as stream:
            tables.append(pq.read_table(stream, page_checksum_verification=True))
    return pa.concat_tables(tables).combine_chunks()
