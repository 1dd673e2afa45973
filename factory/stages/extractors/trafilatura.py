"""Text of a page by trafilatura: rules and text density, with readability and jusText to compare with unless `fast`.

The function is pure: trafilatura's deduplication, which removes what the same worker saw on other pages (FineWeb's recipe
switches it on), is always off, there is no limit by the clock, and a date is looked for only up to the day the page was
fetched, never up to today. Its caches hold results of pure functions; they are emptied
now and then, because some have no limit. Pages that are too
deep or too large are refused before it sees them; a page that keeps it busy meets the worker's limits of time and memory.
"""

import re
from typing import Literal

import pyarrow as pa

from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.extractors.pages import READS, WRITES, Extract, Page, PageConfig, TooLarge, page_function

_LATEST = "2100-12-31"
_ROWS_BETWEEN = 500
# The time goes with the square of the number of tables: 7,000 small ones take two minutes (trafilatura 2.3.1).
_MAX_TABLES = 500
_MANY_TAGS = 2_000
_ENCODING = re.compile(r"\A\s{0,100}<\?xml\b[^<>]{0,300}>")


class TrafilaturaConfig(PageConfig):
    """`favor` and `fast` are trafilatura's; `dates` looks for the date in the text as well, which costs as much as the rest.

    `max_tags` bounds the time, which grows faster than the number of tags (half of real pages have 300, one in a thousand
    7,000).
    """

    favor: Literal["precision", "balance", "recall"] = "balance"
    fast: bool = False
    tables: bool = True
    comments: bool = False
    links: bool = False
    dates: bool = False
    max_tags: int = 20_000


@register(
    "trafilatura",
    version=1,
    reads=READS,
    writes=WRITES,
    config=TrafilaturaConfig,
    packages=lambda config: ("trafilatura", "htmldate", "justext", "lxml"),
)
def trafilatura(config: TrafilaturaConfig) -> BatchFunction:
    import logging

    from trafilatura import extract as trafilatura_extract
    from trafilatura.meta import reset_caches

    from factory.stages.extractors.structure import encode, is_structured

    # What it cannot parse is a row with an error; lines in a log say nothing more.
    for library in ("trafilatura", "htmldate", "courlan", "justext"):
        logging.getLogger(library).setLevel(logging.CRITICAL)

    def text_of(html: str, page: Page) -> str:
        made = trafilatura_extract(
            _ENCODING.sub("", html),
            url=page.url,
            fast=config.fast,
            favor_precision=config.favor == "precision",
            favor_recall=config.favor == "recall",
            include_comments=config.comments,
            include_tables=config.tables,
            include_links=config.links,
            include_formatting=False,
            deduplicate=False,
            with_metadata=False,
            date_extraction_params={"original_date": True, "extensive_search": False, "max_date": _LATEST},
        )
        return made or ""

    def read(page: Page) -> Extract:
        if page.look.tags > config.max_tags:
            raise TooLarge(f"{page.look.tags:,} tags (at most {config.max_tags:,})")
        if page.look.tags > _MANY_TAGS and (tables := page.data.lower().count(b"<table")) > _MAX_TABLES:
            raise TooLarge(f"{tables:,} tables (at most {_MAX_TABLES:,})")
        notes: dict[str, object] = {}
        if config.structure and is_structured(page.html):
            encoded = encode(page.html)
            text, counts = encoded.decode(text_of(encoded.html(), page))
            notes |= counts
        else:
            text = text_of(page.html, page)
        if config.dates and (day := _date(page)):
            notes = {"published": day, **notes}
        return Extract(text, None, notes)

    function = page_function(config, read)
    since = 0

    def extract(batch: pa.RecordBatch) -> pa.RecordBatch:
        nonlocal since
        since += batch.num_rows
        if since > _ROWS_BETWEEN:
            reset_caches()
            since = 0
        return function(batch)

    return extract


def _date(page: Page) -> str | None:
    """The day of publication by htmldate, which also reads it out of the text; never later than the day of the crawl."""
    from htmldate import find_date

    latest = page.day.isoformat() if page.day else _LATEST
    return find_date(page.html, url=page.url, original_date=True, extensive_search=True, max_date=latest) or None
