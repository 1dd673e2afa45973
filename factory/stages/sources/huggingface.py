"""Data sets of a hub, from a folder or over HTTPS at a commit: Parquet, Arrow or JSON lines in, one document a row out.

Which files are meant is in `dataset_files`. Data set, revision, config and split go into `meta`; the card's licence stands
where a row has none of its own. A row's key is its file and number. Rows of chats (`messages`) become one text, each turn
under the marker of its role.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO

import pyarrow as pa
from pydantic import field_validator

from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.stage import InputFile, InputPart, Pin, Source
from factory.stages.sources.dataset_files import find_dataset
from factory.stages.sources.jsonl import JsonlConfig, json_rows, record_row, split_lines
from factory.stages.sources.parquet import batch_rows, is_scalar, parquet_rows, plain_values, wanted_columns
from factory.stages.sources.rows import Row, batches, merge_meta, meta_json
from factory.stages.sources.text import whole_file
from factory.stages.sources.warc import split_evenly

_READ_ROWS = 256
_JOINED = "\0turns"  # no column has this name
_ROLES = ("role", "from", "author", "speaker")
_CONTENTS = ("content", "value", "text")


class HuggingfaceConfig(JsonlConfig):
    """Names of columns as for JSON lines; `columns` are those kept in `meta` (None: all scalar ones).

    `split: null` takes every split. `messages` names a column of turns (maps with `role` and `content`, or `from` and
    `value`); `turn` is how one is written.
    """

    id: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str | None = "train"
    columns: tuple[str, ...] | None = None
    messages: str | None = None
    turn: str = "<|{role}|>\n{content}\n"

    @field_validator("turn")
    @classmethod
    def _has_both(cls, value: str) -> str:
        if value.count("{role}") != 1 or value.count("{content}") != 1:
            raise ValueError("{role} and {content} are meant, once each")
        return value


@register("huggingface", version=1, config=HuggingfaceConfig)
def huggingface(config: HuggingfaceConfig) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        facts = json.loads(part.file.facts or "{}")
        return batches(part, (_finished(row, facts, config) for row in _rows(stream, part, config)))

    def find(uri: str, pin: Pin) -> Iterator[tuple[InputFile, dict[str, str]]]:
        return find_dataset(uri, pin, revision=config.revision, config=config.config, split=config.split)

    return Source(_split, read, find=find)


def _split(file: InputFile, part_bytes: int) -> list[InputPart]:
    name = file.name.lower()
    if name.endswith(".arrow"):
        return whole_file(file, part_bytes)
    return split_evenly(file, part_bytes) if name.endswith(".parquet") else split_lines(file, part_bytes)


def _rows(stream: BinaryIO, part: InputPart, config: HuggingfaceConfig) -> Iterator[Row | str]:
    choose, convert = (_chat_columns, _chat_rows) if config.messages else (wanted_columns, batch_rows)
    name = part.file.name.lower()
    if name.endswith(".parquet"):
        return parquet_rows(stream, part, config, choose, convert)
    if name.endswith(".arrow"):
        return _arrow_rows(stream, part, config)
    return json_rows(stream, part, config, _chat_row if config.messages else record_row)


def _finished(row: Row | str, facts: dict[str, str], config: HuggingfaceConfig) -> Row | str:
    if isinstance(row, str):
        return row
    if config.columns is not None:
        meta = json.loads(row.meta) if row.meta else {}
        row = row._replace(
            meta=meta_json({name: meta[name] for name in ("is_chat", "turns", *config.columns) if name in meta})
        )
    known = {name: facts[name] for name in ("dataset", "revision", "config", "split") if name in facts}
    return row._replace(license=row.license or facts.get("license"), meta=merge_meta(row.meta, known))


# Arrow files, as the `datasets` library writes them: a stream, or a file


def _arrow_rows(stream: BinaryIO, part: InputPart, config: HuggingfaceConfig) -> Iterator[Row]:
    choose, convert = (_chat_columns, _chat_rows) if config.messages else (wanted_columns, batch_rows)
    stream.seek(0)
    is_file = stream.read(6) == b"ARROW1"
    stream.seek(0)
    place, row = (0, part.file.size), 0
    try:
        opened = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
    except (pa.ArrowException, OSError) as error:
        yield Row(f"{part.file.name}:0", *place, error=f"arrow: {error}"[:300])
        return
    columns = choose(opened.schema, part.file.name, config)
    read = (opened.get_batch(index) for index in range(opened.num_record_batches)) if is_file else iter(opened)
    try:
        for batch in read:
            batch.validate(full=True)
            wanted = batch.select(columns)
            for start in range(0, wanted.num_rows, _READ_ROWS):
                piece = wanted.slice(start, _READ_ROWS)
                yield from convert(piece, row + start, place, part.file.name, config)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        yield Row(f"{part.file.name}:{row}", *place, error=f"arrow: after {row:,} rows: {error}"[:300])


# Chats


def _chat_columns(schema: pa.Schema, name: str, config: JsonlConfig) -> list[str]:
    messages = getattr(config, "messages", None)
    if messages not in schema.names:
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise InputError(f"{name} has no column '{messages}' of messages. Its columns: {there}. Set `messages:`.")
    return [messages, *(field.name for field in schema if field.name != messages and is_scalar(field.type))]


def _chat_rows(
    batch: pa.RecordBatch, first: int, place: tuple[int, int], name: str, config: JsonlConfig
) -> Iterator[Row]:
    messages = getattr(config, "messages", None)
    columns = {
        field.name: batch.column(field.name).to_pylist()
        if field.name == messages
        else plain_values(batch.column(field.name))
        for field in batch.schema
    }
    for number in range(batch.num_rows):
        record = {column: values[number] for column, values in columns.items()}
        yield _chat_row(Row(f"{name}:{first + number}", *place), record, config)


def _chat_row(row: Row, record: dict[str, Any], config: JsonlConfig) -> Row:
    assert isinstance(config, HuggingfaceConfig)
    turns = record.pop(str(config.messages), None)
    told = [_turn(turn, config) for turn in turns] if isinstance(turns, list) else [None]
    text = "".join(turn or "" for turn in told)
    made = record_row(row, {**record, _JOINED: text}, _with_text(config))
    if None in told:
        return made._replace(text=None, error=f"no_text: '{config.messages}' is no list of turns with role and content")
    return made._replace(meta=merge_meta(made.meta, {"is_chat": True, "turns": len(told)}))


@cache
def _with_text(config: HuggingfaceConfig) -> HuggingfaceConfig:
    return config.model_copy(update={"text": _JOINED})


def _turn(turn: Any, config: HuggingfaceConfig) -> str | None:
    if not isinstance(turn, dict):
        return None
    role = next((turn[name] for name in _ROLES if isinstance(turn.get(name), str)), None)
    content = next((turn[name] for name in _CONTENTS if isinstance(turn.get(name), str)), None)
    if role is None or content is None:
        return None
    before, _, after = config.turn.partition("{content}")
    return f"{before.replace('{role}', role)}{content}{after.replace('{role}', role)}"
