"""Folders of text files (.txt, .md): a file is a document, its title the first Markdown heading.

What stands above a Markdown text as its front matter (YAML or TOML) gives title, date and licence, the rest of it `meta`.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import InputFile, InputPart, Source
from factory.stages.sources.front_matter import scalar, split_front_matter
from factory.stages.sources.rows import Row, batches, meta_json, plain_text, utc_seconds
from factory.stages.sources.windows import read_fully

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_MARKDOWN = (".md", ".markdown", ".mdx", ".qmd", ".rmd")
_KNOWN = ("title", "date", "license", "licence")
_TITLE_LINES = 200
_TITLE = 300


class TextConfig(Config):
    max_file_bytes: int = 100_000_000


@register("text", version=2, config=TextConfig)
def text(config: TextConfig) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        stream.seek(0)
        data = read_fully(stream, config.max_file_bytes + 1)
        row = Row(key=part.file.name, offset=0, length=part.file.size)
        if len(data) > config.max_file_bytes:
            row = row._replace(error=f"too_large: more than {config.max_file_bytes:,} bytes")
        else:
            row = _text_row(row, data, is_markdown=part.file.name.lower().endswith(_MARKDOWN))
        return batches(part, [row])

    return Source(whole_file, read)


def whole_file(file: InputFile, part_bytes: int) -> list[InputPart]:
    """One part: the file cannot be read from its middle."""
    return [InputPart(file, 0, file.size)]


def _text_row(row: Row, data: bytes, *, is_markdown: bool) -> Row:
    try:
        content = plain_text(data.decode())
    except UnicodeDecodeError as error:
        return row._replace(error=f"encoding: not UTF-8 at byte {error.start:,}")
    if not content or content.isspace():
        return row._replace(error="no_text: empty file")
    front, body = split_front_matter(content) if is_markdown else ({}, content)
    if not body or body.isspace():
        front, body = {}, content
    known = {name: scalar(front.get(name)) for name in _KNOWN}
    return row._replace(
        text=body,
        title=(known["title"] or _first_heading(body) or "")[:_TITLE] or None,
        date=utc_seconds(known["date"]),
        license=known["license"] or known["licence"],
        meta=meta_json({str(name): value for name, value in front.items() if name not in _KNOWN}) if front else None,
    )


def _first_heading(content: str) -> str | None:
    fence = ""
    for line in content.split("\n", _TITLE_LINES)[:_TITLE_LINES]:
        mark = _FENCE.match(line[:20])
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence and (heading := _HEADING.match(line[: _TITLE * 2])):
            return heading[1][:_TITLE]
    return None
