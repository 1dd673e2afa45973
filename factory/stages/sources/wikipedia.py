"""MediaWiki dumps (`*-pages-articles*.xml`, plain, .bz2, .gz): a page of the article namespace is a document, as plain text.

Pages are found in the bytes as they are decompressed and parsed one at a time, without entities of their own and without
DTDs. A plain file is cut anywhere, a multistream .bz2 at its streams: a part holds the pages that begin in it. Redirects,
other namespaces and other content models are skipped and counted. Of a page with several revisions the last is read.
Out of scope: CirrusSearch and Enterprise HTML dumps; dumps that were made JSON lines are read by `jsonl`.
"""

import bz2
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit
from xml.parsers import expat

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import InputFile, InputPart, Source
from factory.stages.sources.expansion import BOMB, is_bomb
from factory.stages.sources.rows import Row, batches, meta_json, plain_text, utc_seconds
from factory.stages.sources.text import whole_file
from factory.stages.sources.warc import split_evenly
from factory.stages.sources.wikitext import Names, wikitext_to_text
from factory.stages.sources.windows import read_fully

_BLOCK = 256 << 10
_PIECE = 1 << 20
_MAX_HEAD = 2 << 20
_MAX_DEPTH = 20
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")
_OPEN, _CLOSE = b"<page>", b"</page>"
_FILE, _MEDIA, _CATEGORY = "6", "-2", "14"
# Wikimedia's terms of use put texts of these projects under this licence (since June 2023; before, version 3.0).
_LICENSED = re.compile(r"(?:^|\.)(?:wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage)\.org")
_LICENSE = "CC-BY-SA-4.0"


class WikipediaConfig(Config):
    """`license` is that of every page; None: what Wikimedia's terms say of its own projects, else unknown."""

    tables: bool = True
    license: str | None = None
    max_page_bytes: int = Field(default=20_000_000, ge=1_000)


class Piece(NamedTuple):
    """Decompressed bytes and where they lie in the file; `problem` says what ended the stream they are from."""

    origin: int
    data: bytes
    problem: str | None = None


class Found(NamedTuple):
    """A page, or a problem: `origin` is where the page, or the stream it begins in, lies in the file."""

    origin: int
    data: bytes
    problem: str | None = None


class Site(NamedTuple):
    """What the head of a dump says of its wiki."""

    base: str | None = None
    names: Names = Names()
    language: str | None = None


class _Refused(Exception):
    """XML of a kind that no dump holds."""


@register("wikipedia", version=1, config=WikipediaConfig)
def wikipedia(config: WikipediaConfig) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        return batches(part, _rows(stream, part, config))

    return Source(_split, read)


def _split(file: InputFile, part_bytes: int) -> list[InputPart]:
    return whole_file(file, part_bytes) if file.name.lower().endswith(".gz") else split_evenly(file, part_bytes)


def _rows(stream: BinaryIO, part: InputPart, config: WikipediaConfig) -> Iterator[Row | str]:
    unpack = _unpacking(stream)
    head = b"".join(_first(unpack(stream, InputPart(part.file, 0, part.file.size)), _MAX_HEAD))
    if b"<mediawiki" not in head[: 64 << 10] or b"<!DOCTYPE" in head[: 64 << 10]:
        if part.start == 0 and part.file.size:
            yield Row(f"{part.file.name}:0", 0, part.file.size, error="xml: no dump of MediaWiki begins here")
        return
    site = _site(head)
    is_plain = unpack is _plain
    for found in pages(unpack(stream, part), config.max_page_bytes, exact=is_plain):
        if found.origin >= part.stop:
            return
        row = Row(f"{part.file.name}:{found.origin}", found.origin, len(found.data) if is_plain else 0)
        yield row._replace(error=found.problem) if found.problem else _page_row(row, found.data, site, config)


def _first(pieces: Iterator[Piece], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        yield piece.data
        size += len(piece.data)
        if size >= limit or b"</siteinfo>" in piece.data or _OPEN in piece.data:
            return


# Bytes, from where a part begins to the end of the file: who reads stops


def _unpacking(stream: BinaryIO) -> Any:
    stream.seek(0)
    magic = stream.read(4)
    return _bz2 if magic.startswith(b"BZh") else _gzip if magic.startswith(b"\x1f\x8b") else _plain


def _plain(stream: BinaryIO, part: InputPart) -> Iterator[Piece]:
    position = part.start
    stream.seek(position)
    while data := read_fully(stream, _PIECE):
        yield Piece(position, data)
        position += len(data)
        stream.seek(position)


def _bz2(stream: BinaryIO, part: InputPart) -> Iterator[Piece]:
    """Streams that begin at or after the part's start; after damage, from the next stream on."""
    start = _next_stream(stream, part.start, part.stop) if part.start else 0
    while start is not None and start < part.file.size:
        position, decoder, problem, given = start, bz2.BZ2Decompressor(), None, 0
        while not decoder.eof:
            block = b""
            if decoder.needs_input:
                stream.seek(position)
                block = read_fully(stream, _BLOCK)
                position += len(block)
                if not block:
                    problem = "truncated: the file ends within a bz2 stream"
                    break
            try:
                data = decoder.decompress(block, _PIECE)
            except (OSError, ValueError) as error:
                problem = f"bz2: {error}"
                break
            if data:
                yield Piece(start, data)
            given += len(data)
            if is_bomb(unpacked=given, packed=position - start):
                problem = BOMB
                break
        if problem:
            yield Piece(start, b"", problem)
            start = _next_stream(stream, start + 1, part.file.size)
        else:
            start = position - len(decoder.unused_data)


def _next_stream(stream: BinaryIO, start: int, stop: int) -> int | None:
    """Where a bz2 stream next begins within [start, stop): ten bytes say so, which chance does not write."""
    while start < stop:
        stream.seek(start)
        data = read_fully(stream, _BLOCK)
        if match := _STREAM.search(data):
            return start + match.start() if start + match.start() < stop else None
        if len(data) < 10:
            return None
        start += len(data) - 9
    return None


def _gzip(stream: BinaryIO, part: InputPart) -> Iterator[Piece]:
    stream.seek(0)
    inflater, held, begun, given = zlib.decompressobj(31), b"", False, 0
    while held or (held := read_fully(stream, _BLOCK)):
        begun = True
        try:
            data = inflater.decompress(held, _PIECE)
        except zlib.error as error:
            yield Piece(0, b"", f"gzip: {error}")
            return
        held = inflater.unconsumed_tail
        if inflater.eof:
            held, inflater, begun = inflater.unused_data, zlib.decompressobj(31), False
        yield Piece(0, data)
        given += len(data)
        if is_bomb(unpacked=given, packed=stream.tell()):
            yield Piece(0, b"", BOMB)
            return
    if begun:
        yield Piece(0, b"", "truncated: the file ends within a gzip member")


# Pages


def pages(pieces: Iterator[Piece], limit: int, *, exact: bool) -> Iterator[Found]:
    """The bytes of each page, from `<page>` to `</page>`. Text of pages cannot hold these: there, `<` is written `&lt;`.

    `exact`: origins are places in a plain file; else those of the streams that pages begin in.
    """

    def place() -> int:
        start, origin = origins[0]
        return origin - start if exact else origin

    held = bytearray()
    origins: list[tuple[int, int]] = []  # where in `held` bytes of an origin begin
    open_at: tuple[int, int] | None = None  # of the page that is too large to be held: its origin and size so far
    searched = 0
    for piece in pieces:
        if not origins or origins[-1][1] != piece.origin:
            origins.append((len(held), piece.origin))
        held += piece.data
        if piece.problem:
            yield Found(piece.origin, b"", piece.problem)
            held, origins, open_at, searched = bytearray(), [], None, 0
            continue
        while True:
            if open_at is not None:
                end = held.find(_CLOSE)
                if end < 0:
                    drop = max(len(held) - len(_CLOSE), 0)
                    open_at = (open_at[0], open_at[1] + drop)
                    _drop(held, origins, drop)
                    break
                yield Found(open_at[0], b"", f"too_large: a page of {open_at[1] + end:,} bytes (at most {limit:,})")
                _drop(held, origins, end + len(_CLOSE))
                open_at, searched = None, 0
            begin = held.find(_OPEN, 0)
            if begin < 0:
                _drop(held, origins, max(len(held) - len(_OPEN), 0))
                searched = 0
                break
            _drop(held, origins, begin)
            end = held.find(_CLOSE, max(searched - begin, 0))
            if end < 0:
                searched = max(len(held) - len(_CLOSE), 0)
                if len(held) > limit:
                    open_at, searched = (place(), 0), 0
                    continue
                break
            end += len(_CLOSE)
            yield Found(place(), bytes(held[:end]), None if end <= limit else _too_large(end, limit))
            _drop(held, origins, end)
            searched = 0
    if open_at is not None or held.startswith(_OPEN):
        yield Found(open_at[0] if open_at else place(), b"", "truncated: the file ends within a page")


def _too_large(size: int, limit: int) -> str:
    return f"too_large: a page of {size:,} bytes (at most {limit:,})"


def _drop(held: bytearray, origins: list[tuple[int, int]], count: int) -> None:
    if not count:
        return
    del held[:count]
    moved = [(start - count, origin) for start, origin in origins]
    first = max((index for index, (start, _) in enumerate(moved) if start <= 0), default=0)
    start, origin = moved[first]
    origins[:] = [(start, origin), *moved[first + 1 :]]


class _Reader:
    """Elements of a small XML document, as their last texts by path; no DTD, no entity but XML's own five."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str]] = {}
        self.namespaces: list[tuple[str, str]] = []
        self._path: list[str] = []
        self._pieces: list[str] = []

    def read(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._pieces.append
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.Parse(data, True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= _MAX_DEPTH:
            raise _Refused(f"more than {_MAX_DEPTH} elements within each other")
        self._path.append(name)
        self._pieces.clear()
        self.attributes["/".join(self._path)] = attributes

    def _end(self, name: str) -> None:
        path = "/".join(self._path)
        self.texts[path] = "".join(self._pieces)
        if name == "namespace":
            self.namespaces.append((self.attributes[path].get("key", ""), self.texts[path]))
        self._path.pop()
        self._pieces.clear()


def _refuse(*_: object) -> None:
    raise _Refused("a document type or an entity is declared")


def _site(head: bytes) -> Site:
    begin, end = head.find(b"<siteinfo"), head.find(b"</siteinfo>")
    if begin < 0 or end < 0:
        return Site()
    reader = _Reader()
    try:
        reader.read(head[begin : end + len(b"</siteinfo>")])
    except (expat.ExpatError, _Refused):
        return Site()
    home = reader.texts.get("siteinfo/base")
    names: dict[str, set[str]] = {"files": {"file", "image", "media"}, "categories": {"category"}}
    for key, name in reader.namespaces:
        kind = {_FILE: "files", _MEDIA: "files", _CATEGORY: "categories"}.get(key)
        if kind:
            names[kind].add(name.lower())
    language = re.search(rb'<mediawiki\b[^<>]{0,1000}\bxml:lang="([A-Za-z-]{2,20})"', head[: 64 << 10])
    return Site(
        base=home.rsplit("/", 1)[0] + "/" if home and home.startswith(("http://", "https://")) else None,
        names=Names(frozenset(names["files"]), frozenset(names["categories"])),
        language=language[1].decode() if language else None,
    )


def _page_row(row: Row, data: bytes, site: Site, config: WikipediaConfig) -> Row | str:
    reader = _Reader()
    try:
        reader.read(data)
    except (expat.ExpatError, _Refused) as error:
        return row._replace(error=f"xml: {error}"[:300])
    said = {path.removeprefix("page/"): text for path, text in reader.texts.items()}
    space, title, page = said.get("ns", "0"), said.get("title"), said.get("id")
    if space != "0":
        return f"namespace_{space}" if re.fullmatch(r"-?\d{1,5}", space) else "namespace_other"
    if "page/redirect" in reader.attributes:
        return "redirect"
    if said.get("revision/model", "wikitext") != "wikitext":
        return "other_model"
    base = site.base
    license_ = _LICENSE if base and _LICENSED.search(urlsplit(base).netloc) else None
    meta = {
        "page_id": _number(page),
        "revision": _number(said.get("revision/id")),
        "timestamp": said.get("revision/timestamp"),
        "language": site.language,
    }
    row = row._replace(
        key=f"page:{page}" if page else row.key,
        url=f"{base}{quote(title.replace(' ', '_'))}" if base and title else None,
        date=utc_seconds(said.get("revision/timestamp", "")),
        title=title,
        license=config.license or license_,
        meta=meta_json({name: value for name, value in meta.items() if value is not None}),
    )
    source = said.get("revision/text", "")
    if not source.strip():
        return row._replace(error="no_text: a page without text")
    text = plain_text(wikitext_to_text(source, site.names, tables=config.tables))
    return row._replace(text=text) if text else row._replace(error="no_text: only templates and references")


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdecimal() and len(value) < 19 else None
