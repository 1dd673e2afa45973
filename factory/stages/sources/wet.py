"""Common Crawl WET files: text that the crawler extracted, one conversion record a page.

Every `conversion` record of plain text is a row; other records are skipped and counted by kind.
"""

from collections.abc import Iterator
from typing import BinaryIO

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import InputPart, Source
from factory.stages.sources.archives import frames
from factory.stages.sources.headers import Headers
from factory.stages.sources.rows import Row
from factory.stages.sources.warc import archive_source, record_row


class WetConfig(Config):
    max_record_bytes: int = 100_000_000


@register("wet", version=2, config=WetConfig)
def wet(config: WetConfig) -> Source:
    def records(stream: BinaryIO, part: InputPart) -> Iterator[Row | str]:
        for frame in frames(stream, part, config.max_record_bytes):
            kind = Headers(frame.head).get("warc-type").lower() if frame.problem is None else ""
            if kind in ("response", "resource"):
                yield kind
            else:
                yield record_row(part.file.name, frame, config.max_record_bytes)

    return archive_source(records)
