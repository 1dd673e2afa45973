"""JSON lines (.jsonl, .ndjson, .json; plain, .gz or .zst): a line is a document.

Lines end with \\n only. A plain file is cut anywhere: a part holds the lines that begin in it. A compressed file is one
part; its rows are located by the whole file, and their keys count decompressed bytes. What is wrong with a line is the
`error` of its row and harms no other line.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import zstandard

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import InputFile, InputPart, Source
from factory.stages.sources.expansion import BOMB, is_bomb
from factory.stages.sources.rows import Row, batches, meta_json, plain_text, storable, utc_seconds
from factory.stages.sources.text import whole_file
from factory.stages.sources.warc import split_evenly
from factory.stages.sources.windows import GZIP_MAGIC, MemberReader, Window, find, read_fully

_BLOCK = 1 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A zstd block of 4 bytes can stand for 128 kB: small pieces bound what one call gives.
_ZSTD_PIECE = 4 << 10
_ZSTD_WINDOW = 1 << 27
_MEMBER = re.compile(rb"(\x1f\x8b\x08)")
# A line that decompresses to this many times the limit ends the file: a bomb, not a document.
_HOPELESS = 16
NOT_ASKED = "not_asked_for"  # how records that `where` leaves out are counted
_LICENSES = ("license", "licence")
_EXACT = 2.0**63


class JsonlConfig(Config):
    """Names of columns; all but `text` are used where they are there. `license` is by default `license` or `licence`.

    With `where`, only records whose fields have these values are read, such as {split: train}; others count as skipped.
    """

    text: str = "text"
    id: str | None = "id"
    url: str | None = "url"
    date: str | None = "date"
    title: str | None = "title"
    license: str | None = None
    where: dict[str, str | int | bool] | None = None
    max_line_bytes: int = 32 << 20


class Line(NamedTuple):
    """A line, or a problem of the file at this place (`problem` set and, for a long line, its length)."""

    offset: int
    data: bytes
    length: int
    problem: str | None = None


Convert = Callable[[Row, dict[str, Any], JsonlConfig], Row]


@register("jsonl", version=2, config=JsonlConfig)
def jsonl(config: JsonlConfig) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        return batches(part, json_rows(stream, part, config, record_row))

    return Source(split_lines, read)


def json_rows(stream: BinaryIO, part: InputPart, config: JsonlConfig, convert: Convert) -> Iterator[Row | str]:
    """The rows of the lines that begin in a part; `convert` makes one of an object."""
    compressed = is_compressed(part.file.name)
    for line in lines_of(stream, part, config.max_line_bytes):
        if line.problem is None and (not line.data or line.data.isspace()):
            yield "blank_line"
            continue
        place = (0, part.file.size) if compressed else (line.offset, line.length)
        row = Row(f"{part.file.name}:{line.offset}", *place)
        yield row._replace(error=line.problem) if line.problem else _line_row(row, line.data, config, convert)


def lines_of(stream: BinaryIO, part: InputPart, limit: int) -> Iterator[Line]:
    """The lines that begin in a part, of a plain file or a compressed one; of one longer than `limit` only its length."""
    stream.seek(0)
    read = _compressed_lines if is_compressed(part.file.name) else _plain_lines
    return read(stream, part, limit)


def is_compressed(name: str) -> bool:
    return name.lower().endswith((".gz", ".zst", ".zstd"))


def split_lines(file: InputFile, part_bytes: int) -> list[InputPart]:
    return whole_file(file, part_bytes) if is_compressed(file.name) else split_evenly(file, part_bytes)


def _line_row(row: Row, data: bytes, config: JsonlConfig, convert: Convert) -> Row | str:
    try:
        record = _parse(data)
    except UnicodeDecodeError as error:
        return row._replace(error=f"encoding: not UTF-8 at byte {error.start:,} of the line")
    except (ValueError, RecursionError) as error:
        return row._replace(error=f"json: {error}"[:300])
    if not isinstance(record, dict):
        return row._replace(error=f"json: a line holds a {type(record).__name__}, not an object")
    if config.where is not None and any(record.get(key) != value for key, value in config.where.items()):
        return NOT_ASKED
    return convert(row, record, config)


def _parse(data: bytes) -> Any:
    """What json.loads gives, which decides whatever the fast parser refuses (surrogates, NaN, marks, deep nesting)."""
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data.decode().removeprefix("\ufeff"))
    # The fast parser makes a float of an integer that needs more than 64 bits.
    if isinstance(record, dict):
        for value in record.values():
            if type(value) is float and abs(value) >= _EXACT:
                return json.loads(data.decode())
    return record


def record_row(row: Row, record: dict[str, Any], config: JsonlConfig) -> Row:
    """The row of an object: known columns in their places, other scalar fields in `meta`."""
    rest = dict(record)
    value = rest.pop(config.text, None)
    key = rest.pop(config.id, None) if config.id else None
    url, title = (_string(rest.pop(name, None)) if name else None for name in (config.url, config.title))
    date = utc_seconds(rest.pop(config.date, None)) if config.date else None
    names = (config.license,) if config.license else _LICENSES
    license = next((found for name in names if (found := _string(rest.pop(name, None)))), None)
    text = error = None
    if isinstance(value, str):
        text = plain_text(value)
        if not text or text.isspace():
            text, error = None, f"no_text: '{config.text}' is empty"
    else:
        there = f"is {type(value).__name__}" if config.text in record else f"is not among {sorted(record)[:12]}"
        error = storable(f"no_text: '{config.text}' {there}"[:300])
    return Row(
        storable(str(key)) if isinstance(key, str | int) and key != "" else row.key,
        row.offset,
        row.length,
        text,
        None,
        None,
        url,
        date,
        title,
        license,
        error,
        meta_json(rest) if rest else None,
    )


def _string(value: Any) -> str | None:
    return storable(value) or None if isinstance(value, str) else None


def _plain_lines(stream: BinaryIO, part: InputPart, limit: int) -> Iterator[Line]:
    start = part.start
    if start:
        # The line that begins before this part is the part before's; it may end with the byte before `start`.
        window = Window(stream)
        newline = find(window, re.compile(rb"(\n)"), start - 1)
        if newline is None or newline + 1 >= part.stop:
            return
        start = newline + 1
    stream.seek(start)
    blocks = iter(lambda: read_fully(stream, _BLOCK), b"")
    for line in _lines(blocks, start, limit):
        if line.offset >= part.stop:
            return
        yield line


def _lines(blocks: Iterator[bytes], start: int, limit: int, hopeless: int | None = None) -> Iterator[Line]:
    """Lines without their \\n; of one longer than `limit` the length only, and one longer than `hopeless` ends it all."""
    held: list[bytes] = []
    size = 0
    for block in blocks:
        position = 0
        while (end := block.find(b"\n", position)) >= 0:
            size += end - position
            yield _line(start, held, block[position:end], size, limit)
            start += size + 1
            held, size, position = [], 0, end + 1
        size += len(block) - position
        if size <= limit:
            held.append(block[position:])
        else:
            held = []
        if hopeless and size > hopeless:
            break
    if size:
        yield _line(start, held, b"", size, limit)


def _line(start: int, held: list[bytes], last: bytes, size: int, limit: int) -> Line:
    if size > limit:
        return Line(start, b"", size + 1, f"too_large: a line of {size:,} bytes (at most {limit:,})")
    return Line(start, b"".join((*held, last)) if held else last, size + 1)


def _compressed_lines(stream: BinaryIO, part: InputPart, limit: int) -> Iterator[Line]:
    """Lines of a compressed file; damage is a line with a problem, and reading goes on at the next gzip member."""
    window = Window(stream)
    start = offset = 0
    while start < part.file.size:
        run = _Run(window, start)
        hopeless = _HOPELESS * limit
        for line in _lines(run.blocks(), offset, limit, hopeless):
            if run.problem and line.offset + line.length > offset + run.size:
                break  # cut by the damage
            if line.length > hopeless:
                yield line._replace(problem=f"{line.problem}; the rest of the file is left out")
                return
            yield line
        offset += run.size
        if run.problem is None:
            return
        yield Line(offset, b"", 0, run.problem)
        if run.problem == BOMB:
            return
        offset += 1
        start = _next_member(window, run.position + 1, part.file.size)


class _Run:
    """Decompressed bytes from `start` up to the end of the file or up to damage; gzip or zstd by their magic."""

    def __init__(self, window: Window, start: int) -> None:
        self.position = start
        self.size = 0
        self.problem: str | None = None
        self._window = window
        self._start = start
        self._reached = start

    def blocks(self) -> Iterator[bytes]:
        while magic := self._window.get(self.position, 4):
            if magic.startswith(GZIP_MAGIC):
                pieces = self._gzip()
            elif magic == _ZSTD_MAGIC or (magic[1:] == b"\x2a\x4d\x18" and 0x50 <= magic[0] <= 0x5F):
                pieces = self._zstd()
            else:
                self.problem = f"gzip: neither a gzip member nor a zstd frame begins at byte {self.position:,}"
                return
            for piece in pieces:
                self.size += len(piece)
                yield piece
                if is_bomb(unpacked=self.size, packed=self._reached - self._start):
                    self.problem = BOMB
                    return
            if self.problem:
                return

    def _gzip(self) -> Iterator[bytes]:
        member = MemberReader(self._window, self.position)
        while piece := member.read(_BLOCK):
            self._reached = member.position
            yield piece
        self.problem = member.problem
        if member.problem is None:
            self.position = member.position

    def _zstd(self) -> Iterator[bytes]:
        frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        while not frame.eof:
            data = self._window.get(self.position, _ZSTD_PIECE)
            if not data:
                self.problem = "truncated: the file ends within a zstd frame"
                return
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as error:
                self.problem = f"zstd: {error}"
                return
            self.position += len(data) - len(frame.unused_data)
            self._reached = self.position
            if piece:
                yield piece


def _next_member(window: Window, start: int, size: int) -> int:
    while (found := find(window, _MEMBER, start)) is not None:
        if MemberReader(window, found).read(1) == b"{":
            return found
        start = found + 1
    return size
