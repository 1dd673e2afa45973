"""Parquet files: a row is a document. A part holds the row groups whose first byte lies in it.

A file without the asked column, or with one that is no text, is the user's mistake and raises InputError with the columns
that are there. A file or row group that is damaged is one row with an `error`.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.stage import InputPart, Source
from factory.stages.sources.jsonl import JsonlConfig, record_row
from factory.stages.sources.rows import BATCH_BYTES, BATCH_ROWS, Row, batches
from factory.stages.sources.tables import table_batch
from factory.stages.sources.warc import split_evenly

_READ_ROWS = BATCH_ROWS
_DAMAGE = (pa.ArrowException, OSError)


Choose = Callable[[pa.Schema, str, JsonlConfig], list[str]]
Convert = Callable[[pa.RecordBatch, int, tuple[int, int], str, JsonlConfig], Iterator[Row | pa.RecordBatch]]


class ParquetConfig(JsonlConfig):
    """Names of columns, as for JSON lines; a longer text than `max_line_bytes` is an error of its row."""


@register("parquet", version=2, config=ParquetConfig)
def parquet(config: ParquetConfig) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        return batches(part, parquet_rows(stream, part, config, wanted_columns, _documents))

    return Source(split_evenly, read)


def parquet_rows(
    stream: BinaryIO, part: InputPart, config: JsonlConfig, choose: Choose, convert: Convert
) -> Iterator[Row | pa.RecordBatch]:
    """The rows of the row groups of a part: `choose` names the columns to read, `convert` makes rows of a batch of them."""
    stream.seek(0)
    try:
        file = pq.ParquetFile(stream)
    except _DAMAGE as error:
        if part.start == 0:
            yield Row(f"{part.file.name}:0", 0, part.file.size, error=f"parquet: {error}"[:300])
        return
    columns = choose(file.schema_arrow, part.file.name, config)
    row = 0
    for index in range(file.num_row_groups):
        group = file.metadata.row_group(index)
        chunks = [group.column(number) for number in range(group.num_columns)]
        first = min(chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks)
        if part.start <= first < part.stop:
            place = first, sum(chunk.total_compressed_size for chunk in chunks)
            done = 0
            try:
                for batch in file.iter_batches(_READ_ROWS, row_groups=[index], columns=columns):
                    yield from convert(batch, row + done, place, part.file.name, config)
                    done += batch.num_rows
            except _DAMAGE as error:
                detail = f"parquet: row group {index}, after {done:,} of {group.num_rows:,} rows: {error}"[:300]
                yield Row(f"{part.file.name}:{row + done}", *place, error=detail)
        row += group.num_rows


def wanted_columns(schema: pa.Schema, name: str, config: JsonlConfig) -> list[str]:
    """The columns to read: the text and every scalar one."""
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    position = schema.get_field_index(config.text)
    if position < 0:
        raise InputError(
            f"{name} has no column '{config.text}' to take the text from. Its columns: {there}. Set `text:`."
        )
    kind = _values(schema.field(position).type)
    if not (_is_text(kind) or _is_bytes(kind) or pa.types.is_null(kind)):
        raise InputError(f"{name}: column '{config.text}' is {kind}, not text. Its columns: {there}. Set `text:`.")
    return [config.text, *(field.name for field in schema if field.name != config.text and is_scalar(field.type))]


def _documents(
    batch: pa.RecordBatch, first: int, place: tuple[int, int], name: str, config: JsonlConfig
) -> Iterator[Row | pa.RecordBatch]:
    """The rows of a batch: column by column, or one by one where something in it takes a closer look."""
    if batch.num_rows > 1 and batch.nbytes > BATCH_BYTES:
        middle = batch.num_rows // 2
        yield from _documents(batch.slice(0, middle), first, place, name, config)
        yield from _documents(batch.slice(middle), first + middle, place, name, config)
        return
    made = table_batch(batch, first, place, name, config)
    if made is not None:
        yield made
    else:
        yield from batch_rows(batch, first, place, name, config)


def batch_rows(
    batch: pa.RecordBatch, first: int, place: tuple[int, int], name: str, config: JsonlConfig
) -> Iterator[Row]:
    """A row for each text of the batch, whose first is number `first` of the file."""
    others = {field.name: plain_values(batch.column(field.name)) for field in batch.schema if field.name != config.text}
    for number, data in enumerate(_bytes_of(batch.column(config.text))):
        row = Row(f"{name}:{first + number}", *place)
        record: dict[str, Any] = {column: values[number] for column, values in others.items()}
        if data is None:
            yield record_row(row, {config.text: None, **record}, config)
        elif len(data) > config.max_line_bytes:
            blank = record_row(row, {config.text: "", **record}, config)
            yield blank._replace(error=f"too_large: a text of {len(data):,} bytes (at most {config.max_line_bytes:,})")
        else:
            try:
                text, problem = data.decode(), None
            except UnicodeDecodeError as error:
                text, problem = "", f"encoding: not UTF-8 at byte {error.start:,} of the text"
            made = record_row(row, {config.text: text, **record}, config)
            yield made._replace(error=problem) if problem else made


def _bytes_of(column: pa.Array) -> list[bytes | None]:
    # Parquet promises UTF-8 and nobody checks: as bytes, a value that is not harms only its own row.
    if pa.types.is_null(column.type):
        return [None] * len(column)
    values: list[bytes | None] = column.cast(_values(column.type)).cast(pa.large_binary()).to_pylist()
    return values


def plain_values(column: pa.Array) -> list[Any]:
    kind = _values(column.type)
    if kind != column.type:
        column = column.cast(kind)
    if pa.types.is_temporal(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        column = column.cast(pa.timestamp("s", tz=zone), safe=False).cast(pa.string())
    elif _is_text(kind):
        return [None if value is None else value.decode("utf-8", "replace") for value in _bytes_of(column)]
    return list(column.to_pylist())


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_bytes(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def is_scalar(kind: pa.DataType) -> bool:
    kind = _values(kind)
    dated_or_number = (
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return _is_text(kind) or any(test(kind) for test in dated_or_number)
