"""A batch of a table as a RAW batch, column by column: what `jsonl.record_row` does, without a Python object a document.

Returns None for a batch in which something takes a closer look (a value that is not UTF-8, a text that is too long, NULs,
a column of an unusual type); its rows are then made one by one, with the same result.
"""

import re
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from factory.stages.sources.rows import BATCH_BYTES, META_STRING, META_TOTAL, SCHEMA, host_of, utc_seconds

# Host of an address, for ASCII: what rows.host_of cuts out.
_HOST = r"(?s)^.*?://(?:[^/?#\\]*@)?(?P<host>[^:/?#\\@]*)"
_ODD_HOST = r"://[^/?#\\]*[\s\[\]]"
_SPECIAL = r'["\\\x00-\x1f]'
_NUL, _RETURN = re.compile(rb"\x00"), re.compile(rb"\r")  # of one byte: found by memchr
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 to 9999


class _Unusual(Exception):
    """Something that is left to the way row by row."""


def table_batch(batch: pa.RecordBatch, first: int, place: tuple[int, int], name: str, names: Any) -> Any:
    """The RAW batch of these rows, of which the first is the `first` of the file; `names` says which columns mean what."""
    try:
        return _table_batch(batch, first, place, name, names)
    except (_Unusual, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _table_batch(batch: pa.RecordBatch, first: int, place: tuple[int, int], name: str, names: Any) -> Any:
    rest = {field.name: batch.column(number) for number, field in enumerate(batch.schema)}
    if len(rest) < batch.num_columns:
        raise _Unusual
    text, error = _texts(rest.pop(names.text), names)
    key = _keys(rest.pop(names.id, None) if names.id else None, first, batch.num_rows, name)
    url, title = (_strings(rest.pop(column, None), batch.num_rows) for column in (names.url, names.title))
    date = _seconds(rest.pop(names.date, None) if names.date else None, batch.num_rows)
    licenses = [each for each in ((names.license,) if names.license else ("license", "licence")) if each in rest]
    if len(licenses) > 1:
        raise _Unusual
    license = _strings(rest.pop(licenses[0]) if licenses else None, batch.num_rows)
    rows = batch.num_rows
    locator = pa.StructArray.from_arrays(
        [
            pa.repeat(pa.scalar(name), rows),
            pa.array(np.full(rows, place[0], np.int64)),
            pa.array(np.full(rows, place[1], np.int64)),
        ],
        names=["file", "offset", "length"],
    )
    made = {
        "key": key,
        "text": text,
        "url": url,
        "host": _hosts(url),
        "date": date,
        "locator": locator,
        "title": title,
        "license": license,
        "error": error,
        "meta": _meta(rest, rows),
    }
    arrays = [made[field.name] if field.name in made else pa.nulls(rows, field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA
    )


def _checked(column: pa.Array) -> pa.Array:
    """Text whose bytes are UTF-8 for certain: Parquet promises it, and nobody checks."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_binary()).cast(pa.large_string())


def _texts(column: pa.Array, names: Any) -> tuple[pa.Array, pa.Array]:
    """Texts in their stored form, and errors where there is none."""
    if pa.types.is_null(column.type):
        raise _Unusual
    text = _checked(column)
    sizes = pc.binary_length(text)
    if (pc.max(sizes).as_py() or 0) > names.max_line_bytes or (pc.sum(sizes).as_py() or 0) > BATCH_BYTES:
        raise _Unusual
    data = text.buffers()[2] or b""
    if _NUL.search(data) or pc.any(pc.starts_with(text, "\ufeff")).as_py():
        raise _Unusual
    if _RETURN.search(data):
        text = pc.replace_substring(text, "\r\n", "\n")
    first = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    offsets = np.frombuffer(text.buffers()[1] or bytes(8), np.int64)[text.offset : text.offset + len(text) + 1]
    # A text that begins with a printing ASCII character is no blank one; of the others each is looked at.
    begins = first[np.minimum(offsets[:-1], max(len(first) - 1, 0))] if len(first) else np.zeros(len(text), np.uint8)
    doubtful = (offsets[1:] == offsets[:-1]) | (begins <= 0x20) | (begins >= 0x7F)
    errors: dict[int, str] = {}
    for row in np.flatnonzero(doubtful).tolist():
        value = text[row].as_py()
        if value is None:
            errors[row] = f"no_text: '{names.text}' is NoneType"[:300]
        elif not value or value.isspace():
            errors[row] = f"no_text: '{names.text}' is empty"
    if not errors:
        return text, pa.nulls(len(text), pa.string())
    error = pa.array([errors.get(row) for row in range(len(text))], pa.string())
    return pc.if_else(pc.is_valid(error), pa.scalar(None, pa.large_string()), text), error


def _keys(column: pa.Array | None, first: int, rows: int, name: str) -> pa.Array:
    """The ids, and file name and row number where there is none."""
    if column is None:
        given = pa.nulls(rows, pa.string())
    elif pa.types.is_integer(column.type):
        given = column.cast(pa.string())
    elif _is_text(column.type):
        given = _checked(column).cast(pa.string())
    else:
        raise _Unusual
    lacking = pc.fill_null(pc.equal(given, ""), True)
    if not pc.any(lacking).as_py():
        return given
    return pc.if_else(lacking, pa.array([f"{name}:{number}" for number in range(first, first + rows)]), given)


def _strings(column: pa.Array | None, rows: int) -> pa.Array:
    if column is None or _is_number(column.type):
        return pa.nulls(rows, pa.string())
    if not _is_text(column.type):
        raise _Unusual
    values = _checked(column).cast(pa.string())
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _seconds(column: pa.Array | None, rows: int) -> pa.Array:
    if column is None or _is_number(column.type):
        seconds = pa.nulls(rows, pa.int64())
    elif _is_text(column.type):
        seconds = pa.array([utc_seconds(value) for value in _checked(column).to_pylist()], pa.int64())
    elif pa.types.is_timestamp(column.type) or pa.types.is_date32(column.type):
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        seconds = column.cast(pa.timestamp("s", tz=zone), safe=False).cast(pa.int64())
        known = pc.and_(pc.greater_equal(seconds, _FIRST_SECOND), pc.less_equal(seconds, _LAST_SECOND))
        seconds = pc.if_else(known, seconds, pa.scalar(None, pa.int64()))
    else:
        raise _Unusual
    return seconds.cast(pa.timestamp("s", tz="UTC"))


def _hosts(url: pa.Array) -> pa.Array:
    if not pc.all(pc.string_is_ascii(url)).as_py() or pc.any(pc.match_substring_regex(url, _ODD_HOST)).as_py():
        return pa.array([host_of(value) for value in url.to_pylist()], pa.string())
    host = pc.struct_field(pc.extract_regex(url, _HOST), "host")
    host = pc.ascii_lower(pc.ascii_rtrim(host, "."))
    return pc.if_else(pc.equal(host, ""), pa.scalar(None, pa.string()), host)


def _meta(rest: dict[str, pa.Array], rows: int) -> pa.Array:
    """The remaining columns as JSON objects, in the form of rows.meta_json."""
    nothing = pa.scalar("", pa.large_string())
    pieces, total = [], 0
    for name, column in rest.items():
        if pa.types.is_null(column.type):
            continue
        values, longest = _json_values(column)
        total += len(name) + longest
        label = pa.scalar(f",{orjson.dumps(name).decode()}:", pa.large_string())
        pieces.append(pc.fill_null(pc.binary_join_element_wise(label, values, nothing), nothing))
    if total > META_TOTAL:
        raise _Unusual
    if not pieces:
        return pa.nulls(rows, pa.string())
    joined = pc.binary_join_element_wise(*pieces, nothing)
    opened = pc.binary_replace_slice(joined, 0, 1, "{")
    closed = pc.binary_join_element_wise(opened, pa.scalar("}", pa.large_string()), nothing)
    return pc.if_else(pc.equal(joined, nothing), pa.scalar(None, pa.large_string()), closed).cast(pa.string())


def _json_values(column: pa.Array) -> tuple[pa.Array, int]:
    """Each value as JSON, null where it is left out, and the most characters one counts for."""
    kind = column.type
    if _is_number(kind):
        data = orjson.dumps(column.to_pylist())[1:-1]
        written = [None if value == b"null" else value for value in data.split(b",")] if len(column) else []
        return pa.array(written, pa.large_binary()).cast(pa.large_string()), 20
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        values = column.cast(pa.timestamp("s", tz=zone), safe=False).cast(pa.large_string())
    elif _is_text(kind):
        values = _checked(column)
    else:
        raise _Unusual
    lengths = pc.utf8_length(values)
    values = pc.if_else(pc.less_equal(lengths, META_STRING), values, pa.scalar(None, pa.large_string()))
    longest = min(pc.max(lengths).as_py() or 0, META_STRING)
    if pc.any(pc.match_substring_regex(values, _SPECIAL)).as_py():
        quoted = [None if value is None else orjson.dumps(value) for value in values.to_pylist()]
        return pa.array(quoted, pa.large_binary()).cast(pa.large_string()), longest
    quote = pa.scalar('"', pa.large_string())
    return pc.binary_join_element_wise(quote, values, quote, pa.scalar("", pa.large_string())), longest


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)
