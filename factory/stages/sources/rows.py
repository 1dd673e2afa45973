"""Rows of a source, gathered into RAW batches; the one place that knows how a record becomes Arrow.

A reader yields `Row`s and, for records that are no documents, the name of the kind as a plain string. Batches come out in
the order of the rows; the metadata key `skipped` of a batch's schema counts the kinds met since the batch before, so rows
plus skipped records are all records.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from factory.core.schema import RAW
from factory.core.stage import InputPart

BATCH_ROWS = 512
BATCH_BYTES = 8 << 20

_FILLED_LATER = ("doc_id", "source", "snapshot")
SCHEMA = pa.schema([pa.field("key", pa.string()), *(field for field in RAW if field.name not in _FILLED_LATER)])

META_STRING = 1_000
META_TOTAL = 8_000


class Row(NamedTuple):
    """One record; `offset` and `length` say where it lies in the stored file, `date` is in UTC seconds."""

    key: str
    offset: int
    length: int
    text: str | None = None
    payload: bytes | memoryview | None = None
    content_type: str | None = None
    url: str | None = None
    date: int | None = None
    title: str | None = None
    license: str | None = None
    error: str | None = None
    meta: str | None = None


def batches(part: InputPart, records: Iterable[Row | str | pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """RAW batches of at most 512 rows and about 8 MB; a last batch without rows carries skipped counts that are left.

    A reader of tables may yield batches of its own among the rows: they keep their place.
    """
    rows: list[Row] = []
    size = 0
    skipped: Counter[str] = Counter()
    for record in records:
        if isinstance(record, str):
            skipped[record] += 1
            continue
        if isinstance(record, pa.RecordBatch):
            if rows or skipped:
                yield _batch(part, rows, skipped)
                rows, size, skipped = [], 0, Counter()
            yield record
            continue
        weight = len(record.text or "") + len(record.payload or b"")
        if rows and (len(rows) >= BATCH_ROWS or size + weight > BATCH_BYTES):
            yield _batch(part, rows, skipped)
            rows, size, skipped = [], 0, Counter()
        rows.append(record)
        size += weight
    if rows or skipped:
        yield _batch(part, rows, skipped)


def schema_with(skipped: Mapping[str, int]) -> pa.Schema:
    """The schema of a source's batches, with the counts of what was skipped in its metadata."""
    return SCHEMA.with_metadata({b"skipped": orjson.dumps(dict(sorted(skipped.items())))}) if skipped else SCHEMA


def _batch(part: InputPart, rows: list[Row], skipped: Mapping[str, int]) -> pa.RecordBatch:
    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(Row._fields, ())
    locator = pa.StructArray.from_arrays(
        [
            pa.array([part.file.name] * len(rows), pa.string()),
            pa.array(columns["offset"], pa.int64()),
            pa.array(columns["length"], pa.int64()),
        ],
        names=["file", "offset", "length"],
    )
    hosts = [host_of(url) for url in columns["url"]]
    date = pa.array(columns["date"], pa.int64()).cast(pa.timestamp("s", tz="UTC"))
    payload = _bytes_array(columns["payload"])
    made = {"locator": locator, "host": pa.array(hosts, pa.string()), "date": date, "payload": payload}
    arrays = [made[field.name] if field.name in made else pa.array(columns[field.name], field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=schema_with(skipped))


def _bytes_array(values: Sequence[bytes | memoryview | None]) -> pa.Array:
    """Pages as an array by one copy; Arrow's own way makes several while its buffer grows."""
    if all(value is None for value in values):
        return pa.nulls(len(values), pa.large_binary())
    sizes = [0 if value is None else len(value) for value in values]
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    valid = pa.array([value is not None for value in values])
    data = b"".join([value for value in values if value is not None])
    buffers = [valid.buffers()[1], pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(values), buffers)


def plain_text(text: str) -> str:
    """The form every text is stored in: no NUL, no lone surrogate, no byte order mark in front, lines end with \\n."""
    if "\0" in text:
        text = text.replace("\0", "")
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return storable(text.removeprefix("\ufeff"))


def storable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold (JSON escapes can smuggle them in)."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "ignore").decode()
    return text


def host_of(url: str | None) -> str | None:
    """The lower-case host of an address, without user and port; None where there is none."""
    if not url:
        return None
    _, separator, rest = url.partition("://")
    if not separator:
        return None
    for mark in "/?#\\":
        rest = rest.partition(mark)[0]
    host = rest.rpartition("@")[2]
    host = f"{host.partition(']')[0]}]" if host.startswith("[") else host.partition(":")[0]
    return host.strip().rstrip(".").lower() or None


def utc_seconds(value: Any) -> int | None:
    """Seconds since 1970 of an ISO 8601 date or time (no zone means UTC), or None where it is not one."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return math.floor((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    except (OverflowError, ValueError):
        return None


def meta_json(fields: Mapping[str, Any]) -> str | None:
    """A JSON object of the scalar fields that are short, up to about 8 kB; None when nothing is left."""
    kept: dict[str, Any] = {}
    total = 0
    for name, value in fields.items():
        if isinstance(value, str):
            size = len(value)
        elif isinstance(value, bool):
            size = 5
        elif isinstance(value, int):
            size = 20 if -(1 << 63) <= value < 1 << 63 else value.bit_length()
        elif isinstance(value, float):
            if not math.isfinite(value):
                continue
            size = 20
        elif isinstance(value, datetime):
            value = value.isoformat()
            size = len(value)
        else:
            continue
        if size > META_STRING:
            continue
        total += len(name) + size
        if total > META_TOTAL:
            break
        kept[name] = value
    if not kept:
        return None
    try:
        return orjson.dumps(kept).decode()
    except (TypeError, ValueError):  # a lone surrogate, or a number of more than 64 bits
        clean = {storable(name): storable(value) if isinstance(value, str) else value for name, value in kept.items()}
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))


def merge_meta(meta: str | None, fields: Mapping[str, Any]) -> str | None:
    """The fields of a row's `meta`, with these added; a field that is there already is replaced."""
    return meta_json({**(json.loads(meta) if meta else {}), **fields}) if fields else meta
