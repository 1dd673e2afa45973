"""What every extractor of web pages does around its library: characters, limits, metadata, structure, a row or an error.

In: the payload of a record and its content type. Out: `text`, `title`, `license`, `error`, and `meta` (the source's JSON
object with what the page says of itself put in: `factory.stages.extractors.markup`). A row without a payload, or with an
error, stays as it is. What an extractor adds is one function from a page to text, which sees nothing but the page; so a
row does not depend on its neighbours, on the worker or on the clock.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from factory.core.config import Config
from factory.core.stage import BatchFunction
from factory.stages.extractors.charset import decode
from factory.stages.extractors.markup import AboutPage, page_licences, page_metadata
from factory.stages.sources.rows import meta_json, plain_text

READS = ("payload", "content_type", "text", "title", "license", "error", "meta", "url", "date")
WRITES = {
    "text": pa.large_string(),
    "title": pa.string(),
    "license": pa.string(),
    "error": pa.string(),
    "meta": pa.string(),
}

# Heuristics for main content take time in proportion to the square of how deep these two nest, parsers to the square of
# how many attributes a tag has: 20,000 take 8 and 0.7 seconds (measured with resiliparse 2.0.1).
_LONG_TAG = re.compile(rb"<[a-zA-Z][^<>]{20000,}")
_MAX_DEPTH = 1_000
_MAX_LIST_DEPTH = 500  # each line of a list is indented by its depth: 200,000 lists of one letter make 40 GB of spaces
_MAX_FORMATTING = 20_000  # 120,000 open <a>, <b> and <i> take 1.8 seconds, 300,000 take 10
_MAX_ATTRIBUTES = 5_000


class PageConfig(Config):
    """`metadata` reads what the page says of itself into `meta`; `structure` keeps code, tables and formulas apart."""

    metadata: bool = True
    structure: bool = False
    max_html_bytes: int = 10_000_000


@dataclass
class Page:
    """A page as an extractor sees it: characters without NUL, the same in UTF-8 and a look at it, its address and day."""

    html: str
    data: bytes
    look: Any
    url: str | None
    day: date | None
    prepare: Callable[[bytes, Any], bytes]

    @cached_property
    def tree(self) -> Any:
        """The page parsed as browsers do, after `prepare`; parsed once, for whoever asks first."""
        from resiliparse.parse.html import HTMLTree

        prepared = self.prepare(self.data, self.look)
        # Of the two ways into the parser, the one that spares a copy.
        return HTMLTree.parse(self.html) if prepared is self.data else HTMLTree.parse_from_bytes(prepared)


class Extract(NamedTuple):
    """What an extractor makes of a page; `notes` go into `meta`."""

    text: str
    title: str | None  # where the head of the page states none
    notes: Mapping[str, Any]


class TooLarge(Exception):
    """A page whose shape would cost more time than it is worth."""


Row = tuple[str | None, str | None, str | None, str | None, str | None]

# Pages go through each step together: the code of a step stays in the processor's cache, which halves what it costs.
_TOGETHER = 32


@dataclass
class _Work:
    """A record on its way; `row` is set when it has arrived."""

    payload: bytes
    content_type: str
    url: str | None
    fetched: datetime | None
    known: str | None  # the source's meta
    found: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    license: str | None = None
    page: Page | None = None
    about: AboutPage | None = None
    row: Row | None = None

    def end(self, text: str | None, error: str | None) -> None:
        self.row = (text, self.title, self.license, error, _merged(self.known, self.found))
        self.page = None


def page_function(
    config: PageConfig,
    read: Callable[[Page], Extract],
    prepare: Callable[[bytes, Any], bytes] = lambda data, look: data,
) -> BatchFunction:
    """The batch function of an extractor that reads a page by `read`, whose tree is of what `prepare` makes of the page."""

    def extract(batch: pa.RecordBatch) -> pa.RecordBatch:
        made: list[Row] = []
        for start in range(0, batch.num_rows, _TOGETHER):
            part = batch.slice(start, _TOGETHER)
            rows: list[Row] = list(zip(*(part.column(name).to_pylist() for name in WRITES), strict=True))
            works = {place: work for place, work in enumerate(_works(part, rows)) if work is not None}
            for work in works.values():
                _guarded(_open, work, config, prepare)
            for work in works.values() if config.metadata else ():
                _guarded(_describe, work)
            for place, work in works.items():
                _guarded(_read, work, read)
                rows[place] = work.row or rows[place]
            made += rows
        columns = zip(*made, strict=True) if made else ((),) * len(WRITES)
        return pa.RecordBatch.from_arrays(
            [pa.array(values, kind) for values, kind in zip(columns, WRITES.values(), strict=True)], names=list(WRITES)
        )

    return extract


def _works(part: pa.RecordBatch, rows: list[Row]) -> Iterator[_Work | None]:
    names = ("content_type", "url", "date")
    others = zip(*(part.column(name).to_pylist() for name in names), strict=True)
    for payload, row, (content_type, url, fetched) in zip(part.column("payload"), rows, others, strict=True):
        is_page = payload.is_valid and row[3] is None
        yield _Work(payload.as_py(), content_type or "text/html", url, fetched, row[4]) if is_page else None


def _guarded(step: Callable[..., None], work: _Work, *others: Any) -> None:
    """A step of a record that has not arrived; whatever a parser finds, one page must not end the run."""
    if work.row is not None:
        return
    try:
        step(work, *others)
    except TooLarge as error:
        work.found.clear()
        work.title = work.license = None
        work.end(None, f"too_large: {error}")
    except MemoryError:
        raise
    except Exception as error:
        work.end(None, f"extract: {type(error).__name__}: {error}"[:300])


def _open(work: _Work, config: PageConfig, prepare: Callable[[bytes, Any], bytes]) -> None:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.pages import look_at

    size = len(work.payload)
    if size > config.max_html_bytes:
        raise TooLarge(f"{size:,} bytes (at most {config.max_html_bytes:,})")
    html, charset, how = decode(work.payload, work.content_type)
    if how != "utf8":
        work.found = {"charset": charset, "charset_how": how}
        if spoilt := html.count("\ufffd"):
            work.found["n_replacement"] = spoilt
    if work.content_type.partition(";")[0].strip().lower() == "text/plain":
        _finish(work, plain_text(html))
        return
    data = work.payload if how == "utf8" else html.encode("utf-8", "replace")
    look = look_at(data)
    if look.has_nul:
        html, data = html.replace("\0", ""), data.replace(b"\0", b"")
        look = look_at(data)
    check_shape(data, look)
    work.page = Page(html, data, look, work.url, work.fetched.date() if work.fetched is not None else None, prepare)


def _describe(work: _Work) -> None:
    if work.page is not None:
        work.about = page_metadata(work.page.data, work.page.look, work.url)
        work.title = work.about.title
        work.found |= work.about.meta


def _read(work: _Work, read: Callable[[Page], Extract]) -> None:
    page = work.page
    if page is None:
        return
    if work.about is not None:
        work.license, evidence = page_licences(page.look, work.about, lambda: page.tree)
        work.found |= evidence
    made = read(page)
    work.title = work.title or made.title
    work.found |= made.notes
    text = made.text.strip("\n\t\f\v ")
    _finish(work, plain_text(text) if "\r" in text or "\0" in text else text)


def _finish(work: _Work, text: str) -> None:
    is_empty = not text or text.isspace()
    work.end(None if is_empty else text, f"no_text: nothing left of {len(work.payload):,} bytes" if is_empty else None)


def _merged(known: str | None, found: Mapping[str, Any]) -> str | None:
    """The source's JSON object with the page's fields put over it."""
    if not found:
        return known
    source: Any = None
    if known:
        try:
            source = orjson.loads(known)
        except ValueError:
            return known
        if not isinstance(source, dict):
            return known
    return meta_json({**(source or {}), **found})


def check_shape(page: bytes, look: Any) -> None:
    """Refuse a page that would keep a parser or its heuristics busy for minutes."""
    if look.depth > _MAX_DEPTH:
        raise TooLarge(f"more than {_MAX_DEPTH:,} blocks within each other")
    if look.list_depth > _MAX_LIST_DEPTH:
        raise TooLarge(f"more than {_MAX_LIST_DEPTH:,} lists within each other")
    if look.formatting > _MAX_FORMATTING:
        raise TooLarge(f"more than {_MAX_FORMATTING:,} open tags that every block opens again")
    for match in _LONG_TAG.finditer(page) if look.long_tag else ():
        attributes = match[0].count(b"=") if b"=" in match[0] else len(match[0].split())
        if attributes > _MAX_ATTRIBUTES:
            raise TooLarge(f"a tag with {attributes:,} attributes")
