"""A slice of Common Crawl: an index says which records, each is fetched by its byte range, and every one is checked.

In: files of the columnar index (Parquet, cc-index-table schema) or of the CDXJ index (`surt timestamp {json}`); settings
choose rows. Out: the row a record would be if its whole WARC file were read, in order of file and offset within a part of
the index. Neighbouring ranges are joined over gaps of less than 1 MiB, and where more than 30 % of a file is chosen, it is
read through. A record that is not of the URL in the index, or whose payload has not the SHA-1 there, is an error.
"""

import base64
import hashlib
import io
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.stage import InputFile, InputPart, Source
from factory.stages.sources.archives import Frame, frames
from factory.stages.sources.bodies import BodyError, decode_body
from factory.stages.sources.headers import read_headers
from factory.stages.sources.jsonl import is_compressed, lines_of
from factory.stages.sources.ranged import CONCURRENCY, client, is_remote, open_input
from factory.stages.sources.rows import Row, batches, host_of, merge_meta
from factory.stages.sources.text import whole_file
from factory.stages.sources.warc import record_row, split_evenly

GAP = 1 << 20  # bytes nobody asked for are fetched, where that saves a request
WHOLE = 0.3  # of a file: above it, reading through is kinder to the server than many ranges
RUN = 16 << 20  # bytes of one request, of which a few are under way
_FEW = 4  # requests for a file that are not worth asking how large it is

_NEEDED = ("url", "warc_filename", "warc_record_offset", "warc_record_length", "content_digest")
_SHOWN = ("content_languages", "content_truncated")
_CDX = {
    "url": "url",
    "warc_filename": "filename",
    "warc_record_offset": "offset",
    "warc_record_length": "length",
    "content_digest": "digest",
    "fetch_status": "status",
    "content_languages": "languages",
    "content_truncated": "truncated",
}
_CDX_LINE = re.compile(rb"\S{1,5000} \d{1,17} (\{.*\})\s*")
_MAX_LINE = 1 << 20
_HEAD_END = re.compile(rb"\n\r*\n")
_SUBSET = re.compile(r"(?:^|/)subset=([a-z]+)/")


class CommonCrawlConfig(Config):
    """Which rows of the index; a setting that is empty or None chooses all. `archive` is what `warc_filename` is below.

    `domains` are registered domains (`example.org`) with all their hosts. `languages` are those a page is mostly in (the
    first of `content_languages`, ISO 639-3). `limit` records of an index file are taken, chosen by hash.
    """

    archive: str = "https://data.commoncrawl.org/"
    crawl: str | None = None
    domains: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    mime: tuple[str, ...] = ("text/html", "application/xhtml+xml")
    status: int | None = 200
    truncated: bool = True
    limit: int | None = Field(default=None, ge=1)
    max_record_bytes: int = Field(default=100_000_000, ge=1)
    max_html_bytes: int = Field(default=10_000_000, ge=1)

    @field_validator("archive")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if not value.startswith(("http://", "https://", "s3://", "/")):
            raise ValueError("an http(s):// or s3:// address or an absolute folder is meant")
        return value

    @field_validator("domains")
    @classmethod
    def _are_domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for domain in value:
            if "/" in domain or domain != domain.lower().strip(".") or not domain:
                raise ValueError(f"'{domain}' is no registered domain in small letters, like 'example.org'")
        return value

    def reads_path(self, path: str) -> bool:
        """Of a list of index files, those of pages (not of robots.txt files or of what failed), and of the asked crawl."""
        subset = _SUBSET.search(path)
        return (subset is None or subset[1] == "warc") and (self.crawl is None or self.crawl in path)


class Entry(NamedTuple):
    """A record as the index tells it."""

    file: str
    offset: int
    length: int
    url: str
    digest: str | None
    languages: str | None
    truncated: str | None


class Run(NamedTuple):
    """A byte range of one archive that holds these records, in order."""

    file: str
    start: int
    stop: int
    entries: tuple[Entry, ...]


@register("common_crawl", version=1, config=CommonCrawlConfig)
def common_crawl(config: CommonCrawlConfig) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        places: deque[str] = deque()
        for batch in batches(part, _rows(stream, part, config, places)):
            yield _placed(batch, [places.popleft() for _ in range(batch.num_rows)])

    def split(file: InputFile, part_bytes: int) -> list[InputPart]:
        # Which rows are the first `limit` by hash is known only when all of a file were seen.
        whole = config.limit is not None or (not is_parquet(file.name) and is_compressed(file.name))
        return whole_file(file, part_bytes) if whole else split_evenly(file, part_bytes)

    return Source(split, read)


def is_parquet(name: str) -> bool:
    return name.lower().endswith(".parquet")


def _placed(batch: pa.RecordBatch, files: Sequence[str]) -> pa.RecordBatch:
    """The batch with each row's own file in its locator: that of the archive, or of the index for an error there."""
    locator = batch.column("locator")
    made = pa.StructArray.from_arrays(
        [pa.array(files, pa.string()), locator.field("offset"), locator.field("length")],
        names=["file", "offset", "length"],
    )
    position = batch.schema.get_field_index("locator")
    return batch.set_column(position, batch.schema.field(position), made)


def _rows(stream: BinaryIO, part: InputPart, config: CommonCrawlConfig, places: "deque[str]") -> Iterator[Row | str]:
    read = _parquet_entries if is_parquet(part.file.name) else _cdx_entries
    chosen: list[Entry] = []
    for found in read(stream, part, config):
        if isinstance(found, Entry) and found.length <= config.max_record_bytes:
            chosen.append(found)
            continue
        if isinstance(found, Entry):
            error = f"too_large: a range of {found.length:,} bytes (at most {config.max_record_bytes:,})"
            found = Row(f"{found.file}:{found.offset}", found.offset, found.length, url=found.url, error=error)
        if isinstance(found, Row):
            places.append(part.file.name)
        yield found
    unique = {(entry.file, entry.offset): entry for entry in reversed(chosen)}
    yield from repeat("listed_twice", len(chosen) - len(unique))
    entries = list(unique.values())
    if config.limit is not None:
        entries.sort(key=lambda entry: xxhash.xxh3_128_intdigest(f"{entry.file}:{entry.offset}".encode()))
        yield from repeat("beyond_limit", len(entries[config.limit :]))
    for run, data in _fetched(sorted(entries[: config.limit], key=lambda entry: entry[:2]), config):
        for entry in run.entries:
            row = _entry_row(entry, data[entry.offset - run.start : entry.offset - run.start + entry.length], config)
            if isinstance(row, Row):
                places.append(entry.file)
            yield row


# From index rows to ranges


def plan_runs(entries: Sequence[Entry], size: int | None = None) -> list[Run]:
    """Ranges that hold these records of one file, sorted by offset; `size` of the file tells whether to read it through."""
    chosen = sum(entry.length for entry in entries)
    gap = float("inf") if size is not None and chosen > WHOLE * size else GAP
    runs: list[Run] = []
    for entry in entries:
        stop = entry.offset + entry.length
        last = runs[-1] if runs else None
        if last and entry.offset - last.stop < min(gap, RUN) and max(stop, last.stop) - last.start <= RUN:
            runs[-1] = Run(last.file, last.start, max(stop, last.stop), (*last.entries, entry))
        else:
            runs.append(Run(entry.file, entry.offset, stop, (entry,)))
    return runs


def _runs(entries: Sequence[Entry], config: CommonCrawlConfig) -> Iterator[Run]:
    start = 0
    for position in range(1, len(entries) + 1):
        if position < len(entries) and entries[position].file == entries[start].file:
            continue
        of_file = entries[start:position]
        runs = plan_runs(of_file)
        url = _address(config.archive, of_file[0].file)
        if len(runs) > _FEW and is_remote(url):
            runs = plan_runs(of_file, client().look_up(url).size)
        yield from runs
        start = position


def _fetched(entries: Sequence[Entry], config: CommonCrawlConfig) -> Iterator[tuple[Run, bytes]]:
    """Every run with its bytes, in order, whatever order they arrive in; a few requests are under way at a time."""
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        waiting: deque[tuple[Run, Future[bytes]]] = deque()
        try:
            for run in _runs(entries, config):
                waiting.append((run, pool.submit(_fetch, config.archive, run)))
                if len(waiting) > CONCURRENCY:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _fetch(archive: str, run: Run) -> bytes:
    url = _address(archive, run.file)
    if is_remote(url):
        return client().read(url, run.start, run.stop)
    try:
        with open_input(InputFile(url, run.file, 0, "")) as stream:
            stream.seek(run.start)
            return stream.read(run.stop - run.start)
    except FileNotFoundError as error:
        raise InputError(f"{url}: the index names this archive and it is not there. Correct 'archive'.") from error


def _address(archive: str, file: str) -> str:
    return f"{archive.rstrip('/')}/{file}"


# From bytes to rows


def _entry_row(entry: Entry, data: bytes, config: CommonCrawlConfig) -> Row | str:
    part = InputPart(InputFile(entry.file, entry.file, len(data), ""), 0, max(len(data), 1))
    found = list(frames(io.BytesIO(data), part, config.max_record_bytes)) if data else []
    broken = Row(f"{entry.file}:{entry.offset}", entry.offset, entry.length, url=entry.url)
    if len(data) < entry.length:
        return broken._replace(
            error=f"truncated: the archive ends {entry.length - len(data):,} bytes before the record's"
        )
    if len(found) != 1:
        return broken._replace(error=f"mismatch: {len(found)} records in the range of one")
    row = record_row(entry.file, found[0]._replace(offset=entry.offset), config.max_html_bytes)
    if isinstance(row, str) or found[0].problem is not None:
        return row if isinstance(row, str) else row._replace(offset=entry.offset, length=entry.length)
    uri = read_headers(found[0].head).get("warc-target-uri", "").strip("<> ")
    if uri != entry.url:
        return _failed(row, f"mismatch: the record is of '{uri[:200]}', the index says '{entry.url[:200]}'")
    if entry.digest is not None and entry.digest not in _digests(found[0], config):
        return _failed(row, f"digest: no reading of the payload has the SHA-1 {entry.digest} of the index")
    shown = {"content_languages": entry.languages, "content_truncated": entry.truncated}
    return row._replace(meta=merge_meta(row.meta, {name: value for name, value in shown.items() if value}))


def _failed(row: Row, error: str) -> Row:
    return row._replace(text=None, payload=None, content_type=None, error=error)


def _digests(frame: Frame, config: CommonCrawlConfig) -> Iterator[str]:
    """The SHA-1 of the payload in the three ways it has been read: as sent, without transfer coding, decoded."""
    content = frame.content
    end = _HEAD_END.search(content) if content[:5].upper() == b"HTTP/" else None
    body = content[end.end() :] if end else content
    yield _sha1(body)
    http = read_headers(content[: end.end()]) if end else {}
    for coding in ("", http.get("content-encoding", "")):
        try:
            decoded = decode_body(
                body,
                transfer=http.get("transfer-encoding", ""),
                content=coding,
                limit=config.max_record_bytes,
            )
        except BodyError:
            continue
        yield _sha1(decoded)


def _sha1(data: bytes) -> str:
    return base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


# The index as Parquet


def _parquet_entries(stream: BinaryIO, part: InputPart, config: CommonCrawlConfig) -> Iterator[Entry | Row | str]:
    stream.seek(0)
    try:
        file = pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        if part.start == 0:
            yield Row(f"{part.file.name}:0", 0, part.file.size, error=f"parquet: {error}"[:300])
        return
    columns = _columns(file.schema_arrow, part.file.name, config)
    row = 0
    for index in range(file.num_row_groups):
        group = file.metadata.row_group(index)
        chunks = [group.column(number) for number in range(group.num_columns)]
        first = min(chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks)
        if part.start <= first < part.stop:
            if _may_hold(group, config):
                done = row
                for batch in file.iter_batches(8192, row_groups=[index], columns=columns):
                    yield from _batch_entries(batch, part.file.name, done, config)
                    done += batch.num_rows
            else:
                yield from repeat("not_chosen", group.num_rows)
        row += group.num_rows


def _columns(schema: pa.Schema, name: str, config: CommonCrawlConfig) -> list[str]:
    wanted = {
        **dict.fromkeys(_NEEDED, "every slice"),
        **({"url_host_registered_domain": "domains"} if config.domains else {}),
        **({"content_languages": "languages"} if config.languages else {}),
        **({"content_mime_detected": "mime"} if config.mime else {}),
        **({"fetch_status": "status"} if config.status is not None else {}),
        **({} if config.truncated else {"content_truncated": "truncated: false"}),
    }
    missing = [f"'{column}' (for {why})" for column, why in wanted.items() if column not in schema.names]
    if missing:
        raise InputError(
            f"{name}: no column {', '.join(missing)}; an index in the schema of cc-index-table is meant. "
            f"Its columns: {', '.join(schema.names[:60])}. Correct the uri, or leave out the setting."
        )
    return [*wanted, *(column for column in _SHOWN if column in schema.names and column not in wanted)]


def _may_hold(group: Any, config: CommonCrawlConfig) -> bool:
    """Whether a row group can hold a chosen row, by the bounds it states: the index is sorted, so few can."""
    asked = {
        "url_host_registered_domain": config.domains,
        "fetch_status": () if config.status is None else (config.status,),
    }
    for number in range(group.num_columns):
        chunk = group.column(number)
        values = asked.get(chunk.path_in_schema)
        stated = chunk.statistics if values else None
        if values and stated is not None and stated.has_min_max:
            low, high = stated.min, stated.max
            try:
                if not any(low <= value <= high for value in values):
                    return False
            except TypeError:
                continue
    return True


def _batch_entries(
    batch: pa.RecordBatch, name: str, first: int, config: CommonCrawlConfig
) -> Iterator[Entry | Row | str]:
    keep = pa.repeat(pa.scalar(True), batch.num_rows)
    for column, values in (("url_host_registered_domain", config.domains), ("content_mime_detected", config.mime)):
        if values:
            keep = pc.and_(keep, pc.is_in(batch.column(column).cast(pa.string()), pa.array(values, pa.string())))
    if config.status is not None:
        keep = pc.and_(
            keep, pc.fill_null(pc.equal(batch.column("fetch_status").cast(pa.int64()), config.status), False)
        )
    if config.languages:
        main = pc.utf8_slice_codeunits(batch.column("content_languages").cast(pa.string()), 0, 3)
        keep = pc.and_(keep, pc.is_in(main, pa.array(config.languages, pa.string())))
    if not config.truncated:
        keep = pc.and_(keep, pc.is_null(batch.column("content_truncated")))
    rows = pc.indices_nonzero(keep)
    yield from repeat("not_chosen", batch.num_rows - len(rows))
    for row, found in zip(rows.to_pylist(), batch.take(rows).to_pylist(), strict=True):
        yield _entry(found, f"{name}:{first + row}")


def _entry(found: dict[str, Any], key: str) -> Entry | Row:
    file, url, digest = (found.get(column) for column in ("warc_filename", "url", "content_digest"))
    try:
        offset, length = (int(found[column]) for column in ("warc_record_offset", "warc_record_length"))
    except (KeyError, TypeError, ValueError):
        offset = length = -1
    named = isinstance(file, str) and not (".." in file.split("/") or "://" in file or file.startswith("/"))
    if not named or not isinstance(url, str) or offset < 0 or length <= 0:
        return Row(
            key, 0, 0, url=url if isinstance(url, str) else None, error="index: no usable url, file, offset and length"
        )
    digest = digest.removeprefix("sha1:").upper() if isinstance(digest, str) and digest else None
    more = (found.get(column) for column in _SHOWN)
    return Entry(str(file), offset, length, url, digest, *(value if isinstance(value, str) else None for value in more))


# The index as CDXJ


def _cdx_entries(stream: BinaryIO, part: InputPart, config: CommonCrawlConfig) -> Iterator[Entry | Row | str]:
    for line in lines_of(stream, part, _MAX_LINE):
        row = Row(f"{part.file.name}:{line.offset}", line.offset, line.length)
        if line.problem:
            yield row._replace(error=line.problem)
            continue
        if not line.data or line.data.isspace():
            yield "blank_line"
            continue
        match = _CDX_LINE.fullmatch(line.data)
        try:
            said = json.loads(match[1]) if match else None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            yield row._replace(error="cdx: no line 'key timestamp {json}' of a CDXJ index")
            continue
        if _is_chosen(said, config):
            yield _entry({column: said.get(name) for column, name in _CDX.items()}, row.key)
        else:
            yield "not_chosen"


def _is_chosen(said: dict[str, Any], config: CommonCrawlConfig) -> bool:
    if config.status is not None and str(said.get("status")) != str(config.status):
        return False
    if config.mime and (said.get("mime-detected") or said.get("mime")) not in config.mime:
        return False
    if config.languages and str(said.get("languages", ""))[:3] not in config.languages:
        return False
    if not config.truncated and said.get("truncated"):
        return False
    host = f".{host_of(str(said.get('url', ''))) or ''}"
    return not config.domains or any(host.endswith(f".{domain}") for domain in config.domains)
