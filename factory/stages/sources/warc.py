"""Web crawls as WARC files: HTML and plain-text responses as bytes, conversion records as text.

A row for each `response` (and `resource`) record that holds HTML, XHTML or plain text and was answered with a 2xx status,
and for each `conversion` record; whatever else an archive holds is skipped and counted by kind. A record that is damaged,
empty or too large is a row with an `error`.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import InputFile, InputPart, Source
from factory.stages.sources.archives import Frame, frames
from factory.stages.sources.bodies import BodyError, decode_body
from factory.stages.sources.rows import Row, batches, meta_json, plain_text, utc_seconds

DOCUMENT_TYPES = ("text/html", "application/xhtml+xml", "text/plain")

_KINDS = {"warcinfo", "request", "metadata", "revisit", "continuation", "response", "resource", "conversion"}
_TOP_LEVELS = {"application", "audio", "font", "image", "message", "model", "multipart", "text", "video"}
_SAYS_NOTHING = {"", "*/*", "application/octet-stream", "unknown/unknown", "application/x-unknown", "no-type"}

_HEAD_END = re.compile(rb"\r*\n\r*\n")
_STATUS = re.compile(r"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"',]+)", re.IGNORECASE)
_HTML = re.compile(
    rb"\s*(?:<!--[^>]{0,500}-->\s*|<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE
)


class WarcConfig(Config):
    """Limits: of a record as it lies in the archive, and of a page (10 MB: RedStone, arXiv 2412.03398)."""

    max_record_bytes: int = 100_000_000
    max_html_bytes: int = 10_000_000


@register("warc", version=1, config=WarcConfig)
def warc(config: WarcConfig) -> Source:
    def records(stream: BinaryIO, part: InputPart) -> Iterator[Row | str]:
        for frame in frames(stream, part, config.max_record_bytes):
            yield record_row(part.file.name, frame, config.max_html_bytes)

    return archive_source(records)


def archive_source(records: Callable[[BinaryIO, InputPart], Iterator[Row | str]]) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        return batches(part, records(stream, part))

    return Source(split_evenly, read)


def split_evenly(file: InputFile, part_bytes: int) -> list[InputPart]:
    """Ranges of `part_bytes` bytes that cover the file; a file without bytes is one empty range."""
    size = max(part_bytes, 1)
    return [InputPart(file, start, min(start + size, file.size)) for start in range(0, max(file.size, 1), size)]


def record_row(name: str, frame: Frame, max_html_bytes: int) -> Row | str:
    """The row of a record, or the kind under which it is skipped."""
    head = read_headers(frame.head)
    kind = head.get("warc-type", "").lower()
    if frame.problem is None and kind not in ("response", "resource", "conversion"):
        return kind if kind in _KINDS else "unknown_type"
    row = Row(
        key=head.get("warc-record-id", "").strip("<> ") or record_key(name, frame),
        offset=frame.offset,
        length=frame.length,
        url=head.get("warc-target-uri", head.get("uri", "")).strip("<> ") or None,
        date=utc_seconds(head.get("warc-date", "")),
    )
    if frame.problem is not None:
        return row._replace(error=frame.problem)
    if kind == "conversion":
        return conversion_row(row, head, frame.content)
    return _page_row(row, kind, head, frame.content, max_html_bytes)


def record_key(name: str, frame: Frame) -> str:
    return f"{name}:{frame.offset}" + (f".{frame.number}" if frame.number else "")


def conversion_row(row: Row, head: dict[str, str], content: bytes) -> Row | str:
    if not head.get("content-type", "text/plain").lower().startswith("text/plain"):
        return "conversion_not_text"
    meta = meta_json(_kept(head, {"languages": "warc-identified-content-language", "refers_to": "warc-refers-to"}))
    try:
        text = plain_text(content.decode())
    except UnicodeDecodeError as error:
        return row._replace(error=f"encoding: not UTF-8 at byte {error.start:,} of the record", meta=meta)
    if not text or text.isspace():
        return row._replace(error="no_text: empty record", meta=meta)
    return row._replace(text=text, meta=meta)


def _page_row(row: Row, kind: str, head: dict[str, str], content: bytes, max_html_bytes: int) -> Row | str:
    http: dict[str, str] = {}
    body, status = content, None
    declared = head.get("content-type", "")
    if kind == "response":
        if not content[:5].upper().startswith(b"HTTP/"):
            if content and not declared.lower().startswith("application/http"):
                return "not_http"
            return row._replace(error="parse: no HTTP status line" if content else "no_text: empty record")
        end = _HEAD_END.search(content)
        http_head = content[: end.end()] if end else content
        body = content[len(http_head) :]
        line, http = http_head.split(b"\n", 1)[0].decode("latin-1"), read_headers(http_head)
        match = _STATUS.match(line)
        if match is None:
            return row._replace(error="parse: no HTTP status line")
        status = int(match[1])
        if not 200 <= status <= 299:
            return f"http_status_{status}"
        declared = http.get("content-type", "")
    identified = head.get("warc-identified-payload-type", "").partition(";")[0].strip().lower()
    media_type = identified or declared.partition(";")[0].strip().lower()
    sniff = media_type in _SAYS_NOTHING
    if not sniff and media_type not in DOCUMENT_TYPES:
        top = media_type.partition("/")[0]
        return f"type_{top}" if top in _TOP_LEVELS else "type_other"
    try:
        payload = decode_body(
            body,
            transfer=http.get("transfer-encoding", ""),
            content=http.get("content-encoding", ""),
            limit=max_html_bytes,
        )
    except BodyError as error:
        return "type_unknown" if sniff else row._replace(error=str(error))
    if sniff and payload:
        if not _HTML.match(payload[:1024]):
            return "type_unknown"
        media_type = "text/html"
    fields: dict[str, Any] = {} if status is None else {"http_status": status}
    fields |= _kept(head, {"digest": "warc-payload-digest", "truncated": "warc-truncated"})
    fields |= _kept(http, {"last_modified": "last-modified", "robots": "x-robots-tag"})
    if _differs(head, content, body, payload):
        fields["digest_differs"] = True
    row = row._replace(meta=meta_json(fields))
    if not payload or payload.isspace():
        return row._replace(error="no_text: empty body")
    charset = _CHARSET.search(declared)
    return row._replace(payload=payload, content_type=f"{media_type}; charset={charset[1]}" if charset else media_type)


def read_headers(block: bytes) -> dict[str, str]:
    """Names in lower case and their first values; tolerant of any line ending, folding and bytes that are not UTF-8."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    found: dict[str, str] = {}
    last = ""
    for line in text.split("\n")[1:]:
        name, separator, value = line.partition(":")
        if line[:1] in (" ", "\t") and last:
            found[last] = f"{found[last]} {line.strip()}".strip()
        elif separator:
            name = name.strip().lower()
            last = name if name not in found else ""
            found.setdefault(name, value.strip())
    return found


def _kept(head: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    return {name: head[header] for name, header in names.items() if head.get(header)}


def _differs(head: dict[str, str], content: bytes, body: bytes, payload: bytes) -> bool:
    """Whether a stated digest fits none of the bytes it may mean; False where there is no digest or it is of a kind unknown.

    The block digest is of the block, for certain. What a payload digest is of has been read in three ways: the body as it
    was sent, without its transfer coding, and decoded.
    """
    block = head.get("warc-block-digest")
    if block:
        return _fits(block, content) is False
    stated = head.get("warc-payload-digest")
    if not stated:
        return False
    return all(_fits(stated, data) is False for data in ((body,) if payload == body else (body, payload)))


def _fits(stated: str, data: bytes) -> bool | None:
    name, _, value = stated.partition(":")
    name = name.strip().lower().replace("-", "")
    if name not in ("sha1", "sha256", "md5"):
        return None
    made = hashlib.new(name, data, usedforsecurity=False).digest()
    value = value.strip()
    try:
        wanted = bytes.fromhex(value) if len(value) == 2 * len(made) else base64.b32decode(value.upper())
    except (ValueError, binascii.Error):
        return None
    return wanted == made
