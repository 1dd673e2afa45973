"""Revisits: where the record lies that a `revisit` record stands for (WARC 1.1, 6.7).

An original is found by, in this order: its record id (WARC-Refers-To), its address and date (WARC-Refers-To-Target-URI and
-Date), its payload digest with the same address, its payload digest alone; and where a revisit states none of these, as
the last capture of its address before it. The file itself goes before the other files of the source, and among equals
the first by file name and offset is taken, so that the answer does not depend on how files are cut or who reads first.

Each file is looked through once, and what may be asked for is kept as a side table of 64-bit hashes; a task keeps of it
what its own file's revisits ask for. The record found is read again and must be what was asked for.
"""

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from factory.core.stage import Companions, InputFile, InputPart
from factory.stages.sources.archives import Frame, frame_at, frames
from factory.stages.sources.headers import Headers
from factory.stages.sources.rows import utc_seconds

# In a member that holds many records, the way to one of them leads through all before it.
_MAX_NUMBER = 1_000
_OPEN_FILES = 4

_KEYS = ("id", "place", "page", "digest")
_INDEX = pa.schema(
    [
        ("revisit", pa.bool_()),
        *((name, pa.uint64()) for name in _KEYS),
        ("date", pa.int64()),
        ("offset", pa.int64()),
        ("number", pa.int32()),
    ]
)


class _Keys(NamedTuple):
    """Hashes by which an original is known, or asked for; 0 where there is nothing. `date` is in UTC seconds."""

    id: int
    place: int
    page: int
    digest: int
    date: int


class _Found(NamedTuple):
    """A record: the number of its file (-1: the file that is read), its place, and its number there."""

    file: int
    offset: int
    number: int


class Originals:
    """Finds the records that the revisits of one part refer to. Nothing is read before the first one is asked for."""

    def __init__(self, stream: BinaryIO, part: InputPart, limit: int, companions: Companions | None) -> None:
        self._stream = stream
        self._own = part.file
        self._limit = limit
        self._companions = companions
        self._here: _Finder | None = None
        self._wanted: list[_Keys] = []
        self._there: _Finder | None = None
        self._files: list[InputFile] = []
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()

    def find(self, head: Headers) -> Frame | None:
        """The original of the revisit with these headers, where it is in these files."""
        keys = _asked(head)
        if self._here is None:
            self._here = self._look_here()
        found = self._here.find(keys)
        if found is None:
            if self._there is None:
                self._there = self._look_there(self._here)
            found = self._there.find(keys)
        if found is None:
            return None
        if found.file < 0:
            stream, file = self._stream, self._own
        else:
            stream, file = self._opened(found.file), self._files[found.file]
        part = InputPart(file, found.offset, found.offset + 1)
        frame = frame_at(stream, part, found.number, self._limit)
        return frame if frame is not None and frame.problem is None and _is_it(keys, frame) else None

    def _look_here(self) -> "_Finder":
        if self._companions is None:
            table = _index(self._stream, self._own, self._limit)
        else:
            table = self._remembered(self._companions, self._own)
        is_revisit = table.column("revisit").to_numpy()
        columns = [table.column(name).to_numpy()[is_revisit].tolist() for name in (*_KEYS, "date")]
        self._wanted = [_Keys(*keys) for keys in sorted(set(zip(*columns, strict=True)))]
        finder = _Finder(self._wanted)
        finder.add(-1, table)
        return finder

    def _look_there(self, here: "_Finder") -> "_Finder":
        """What this file's unanswered revisits ask for, from all other files."""
        finder = _Finder([keys for keys in self._wanted if here.find(keys) is None])
        if self._companions is None:
            return finder
        self._files = [file for file in self._companions.files() if file.identity != self._own.identity]
        # Tasks that run side by side begin at different files, so that they look through different ones first.
        first = sum(file.name < self._own.name for file in self._files)
        for number in itertools.chain(range(first, len(self._files)), range(first)):
            finder.add(number, self._remembered(self._companions, self._files[number]))
        return finder

    def _remembered(self, companions: Companions, file: InputFile) -> pa.Table:
        def make() -> bytes:
            sink = pa.BufferOutputStream()
            with companions.open(file) as stream:
                table = _index(stream, file, self._limit)
            with pa.ipc.new_file(sink, _INDEX, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
                writer.write_table(table)
            return bytes(sink.getvalue())

        with pa.ipc.open_file(companions.remembered(file, f"originals-1-{self._limit}", make)) as reader:
            return reader.read_all()

    def _opened(self, number: int) -> BinaryIO:
        assert self._companions is not None
        if number in self._open:
            self._open.move_to_end(number)
        else:
            if len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[number] = self._companions.open(self._files[number])
        return self._open[number]

    def __enter__(self) -> "Originals":
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _Finder:
    """The best place for every key that is asked for."""

    def __init__(self, wanted: list[_Keys]) -> None:
        self._masks = {
            name: np.array(sorted({getattr(keys, name) for keys in wanted} - {0}), np.uint64)
            for name in ("id", "place", "digest")
        }
        alone = {keys.page for keys in wanted if _has_page_only(keys)} - {0}
        self._masks["page"] = np.array(sorted(alone), np.uint64)
        self._by_id: dict[int, _Found] = {}
        self._by_place: dict[int, _Found] = {}
        self._by_both: dict[tuple[int, int], _Found] = {}
        self._by_digest: dict[int, _Found] = {}
        self._by_page: dict[int, list[tuple[int, _Found]]] = {}

    def add(self, file: int, table: pa.Table) -> None:
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        asked = {name: np.isin(columns[name], mask) for name, mask in self._masks.items()}
        hits = np.flatnonzero(~columns["revisit"] & (asked["id"] | asked["place"] | asked["digest"] | asked["page"]))
        names = (*_KEYS, "date", "offset", "number")
        for row in zip(*(columns[name][hits].tolist() for name in names), strict=True):
            keys, found = _Keys(*row[:5]), _Found(file, *row[5:])
            _keep_first(self._by_id, keys.id, found)
            _keep_first(self._by_place, keys.place, found)
            _keep_first(self._by_both, (keys.digest, keys.page), found)
            _keep_first(self._by_digest, keys.digest, found)
        for at in np.flatnonzero(~columns["revisit"] & asked["page"]).tolist():
            found = _Found(file, int(columns["offset"][at]), int(columns["number"][at]))
            bisect.insort(self._by_page.setdefault(int(columns["page"][at]), []), (int(columns["date"][at]), found))

    def find(self, keys: _Keys) -> _Found | None:
        if keys.id and (found := self._by_id.get(keys.id)):
            return found
        if keys.place and (found := self._by_place.get(keys.place)):
            return found
        if keys.digest:
            return self._by_both.get((keys.digest, keys.page)) or self._by_digest.get(keys.digest)
        if not _has_page_only(keys) or not keys.date:
            return None
        captures = self._by_page.get(keys.page, [])
        before = bisect.bisect_left(captures, (keys.date,))
        return captures[before - 1][1] if before else None


def _keep_first(places: dict, key: object, found: _Found) -> None:  # type: ignore[type-arg]
    known = places.get(key)
    if known is None or found < known:
        places[key] = found


def _has_page_only(keys: _Keys) -> bool:
    return not (keys.id or keys.place or keys.digest)


def _index(stream: BinaryIO, file: InputFile, limit: int) -> pa.Table:
    """A row for each revisit and each record that may be an original."""
    rows = list(_index_rows(stream, file, limit))
    columns = zip(*rows, strict=True) if rows else ([] for _ in _INDEX)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, _INDEX, strict=True)], _INDEX)


def _index_rows(stream: BinaryIO, file: InputFile, limit: int) -> Iterator[tuple[object, ...]]:
    for frame in frames(stream, InputPart(file, 0, file.size), limit):
        if frame.problem is not None:
            continue
        head = Headers(frame.head)
        kind = head.get("warc-type").lower()
        if kind == "revisit":
            yield (True, *_asked(head), frame.offset, frame.number)
        elif kind in ("response", "resource") and frame.number < _MAX_NUMBER:
            yield (False, *_known(head), frame.offset, frame.number)


def _asked(head: Headers) -> _Keys:
    """What a revisit says of its original."""
    uri, date = head.get("warc-refers-to-target-uri"), head.get("warc-refers-to-date")
    place = _hash(f"{_bare(uri)} {_second(date)}") if uri and date else 0
    return _Keys(_hash(_bare(head.get("warc-refers-to"))), place, *_own_keys(head))


def _known(head: Headers) -> _Keys:
    """What a record may be asked for by."""
    uri, date = head.get("warc-target-uri"), head.get("warc-date")
    place = _hash(f"{_bare(uri)} {_second(date)}") if uri and date else 0
    return _Keys(_hash(_bare(head.get("warc-record-id"))), place, *_own_keys(head))


def _own_keys(head: Headers) -> tuple[int, int, int]:
    page = _hash(_bare(head.get("warc-target-uri")))
    digest = _hash(head.get("warc-payload-digest").strip().lower())
    return page, digest, utc_seconds(head.get("warc-date")) or 0


def _is_it(keys: _Keys, frame: Frame) -> bool:
    known = _known(Headers(frame.head))
    return any(asked and asked == there for asked, there in zip(keys[:4], known[:4], strict=True))


def _bare(value: str) -> str:
    return value.strip().strip("<>").strip()


def _second(date: str) -> str:
    seconds = utc_seconds(date)
    return str(seconds) if seconds is not None else date.strip()


def _hash(value: str) -> int:
    return xxhash.xxh3_64_intdigest(value.encode("utf-8", "surrogateescape")) if value else 0
