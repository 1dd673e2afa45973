"""Web crawls as WARC or ARC files: HTML and plain-text responses as bytes, conversion records as text.

Comes in: .warc and .arc files, plain, .gz or .zst. A row for each `response` (and `resource`) record that holds HTML, XHTML
or plain text and was answered with a 2xx status, for each `revisit` of one, with the payload of the record it refers to
(see revisits), and for each `conversion` record; whatever else an archive holds is skipped and counted by kind. A record
that is damaged, empty, too large, or a revisit whose original is not there, is a row with an `error`.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, BinaryIO, Literal

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import Companions, InputFile, InputPart, Source
from factory.stages.sources.archives import Frame, frames
from factory.stages.sources.bodies import BodyError, decode_body
from factory.stages.sources.headers import Headers
from factory.stages.sources.revisits import Originals
from factory.stages.sources.rows import Row, batches, meta_json, plain_text, utc_seconds

DOCUMENT_TYPES = ("text/html", "application/xhtml+xml", "text/plain")

_KINDS = {"warcinfo", "request", "metadata", "revisit", "continuation", "response", "resource", "conversion"}
_TOP_LEVELS = {"application", "audio", "font", "image", "message", "model", "multipart", "text", "video"}
_SAYS_NOTHING = {"", "*/*", "application/octet-stream", "unknown/unknown", "application/x-unknown", "no-type"}

_MAX_HEAD = 256 << 10
_HEAD_END = re.compile(rb"\n\r*\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"',]+)", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]+")
_HTML = re.compile(
    rb"\s*(?:<!--[^>]{0,500}-->\s*|<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE
)

_KEPT = {
    "payload_digest": "warc-payload-digest",
    "truncated": "warc-truncated",
    "identified_type": "warc-identified-payload-type",
}
_KEPT_OF_HTTP = {
    "last_modified": "last-modified",
    "content_language": "content-language",
    "x_robots_tag": "x-robots-tag",
}


_NO_HEADERS = Headers(b"")


class WarcConfig(Config):
    """Limits of a record as it lies in the archive and of a page (10 MB: RedStone, arXiv 2412.03398).

    `revisits` says what becomes of them: `resolve` looks for the original in the file, then in the other files of the
    source and snapshot; `skip` counts them. `verify_digests` compares the digests a record states with its bytes: one that
    does not fit is an error.
    """

    max_record_bytes: int = 100_000_000
    max_html_bytes: int = 10_000_000
    revisits: Literal["resolve", "skip"] = "resolve"
    verify_digests: bool = False


@register("warc", version=2, config=WarcConfig)
def warc(config: WarcConfig) -> Source:
    def records(stream: BinaryIO, part: InputPart, companions: Companions | None = None) -> Iterator[Row | str]:
        resolve = config.revisits == "resolve"
        originals = Originals(stream, part, config.max_record_bytes, companions) if resolve else None
        with originals or nullcontext():
            for frame in frames(stream, part, config.max_record_bytes):
                yield record_row(
                    part.file.name,
                    frame,
                    config.max_html_bytes,
                    originals=originals,
                    verify=config.verify_digests,
                )

    def read_among(stream: BinaryIO, part: InputPart, companions: Companions) -> Iterator[pa.RecordBatch]:
        return batches(part, records(stream, part, companions))

    source = archive_source(records)
    return Source(source.split, source.read, read_among=read_among if config.revisits == "resolve" else None)


def archive_source(records: Callable[[BinaryIO, InputPart], Iterator[Row | str]]) -> Source:
    def read(stream: BinaryIO, part: InputPart) -> Iterator[pa.RecordBatch]:
        return batches(part, records(stream, part))

    return Source(split_evenly, read)


def split_evenly(file: InputFile, part_bytes: int) -> list[InputPart]:
    """Ranges of `part_bytes` bytes that cover the file; a file without bytes is one empty range."""
    size = max(part_bytes, 1)
    return [InputPart(file, start, min(start + size, file.size)) for start in range(0, max(file.size, 1), size)]


def record_row(
    name: str, frame: Frame, max_html_bytes: int, *, originals: Originals | None = None, verify: bool = False
) -> Row | str:
    """The row of a record, or the kind under which it is skipped."""
    head = Headers(frame.head)
    kind = head.get("warc-type", "").lower()
    is_read = kind in ("response", "resource", "conversion") or (kind == "revisit" and originals is not None)
    if frame.problem is None and not is_read:
        return kind if kind in _KINDS else "unknown_type"
    row = Row(
        head.get("warc-record-id", "").strip("<> ") or record_key(name, frame),
        frame.offset,
        frame.length,
        url=(head.get("warc-target-uri") or head.get("uri")).strip("<> ") or None,
        date=utc_seconds(head.get("warc-date", "")),
    )
    if frame.problem is not None:
        return row._replace(error=frame.problem)
    if kind == "conversion":
        return conversion_row(row, head, frame.content)
    if kind == "revisit" and originals is not None:
        return _revisit_row(row, head, frame, originals, max_html_bytes)
    return _page_row(row, kind, head, frame, max_html_bytes, verify)


def record_key(name: str, frame: Frame) -> str:
    return f"{name}:{frame.offset}" + (f".{frame.number}" if frame.number else "")


def conversion_row(row: Row, head: Headers, content: bytes) -> Row | str:
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


# Revisits


def _revisit_row(row: Row, head: Headers, frame: Frame, originals: Originals, max_html_bytes: int) -> Row | str:
    """The row of a revisit: its own identity and date, the payload of the record it refers to."""
    skipped = _skipped_revisit(frame)
    if skipped is not None:
        return skipped
    original = originals.find(head)
    if original is None:
        named = head.get("warc-refers-to-target-uri") or head.get("warc-refers-to") or head.get("warc-payload-digest")
        return row._replace(error=f"revisit: refers to {named or 'nothing'}, which is not in these files"[:1000])
    first = Headers(original.head)
    extra = {"revisit_of": first.get("warc-record-id", "").strip("<> "), "revisit_date": first.get("warc-date", "")}
    return _page_row(row, first.get("warc-type", "").lower(), first, original, max_html_bytes, False, extra)


def _skipped_revisit(frame: Frame) -> str | None:
    """What the revisit's own HTTP head says already: a page that is no document needs no original."""
    head = frame.content[:_MAX_HEAD]
    match = _STATUS.match(head)
    if match is None or match[1] == b"304":
        return None
    if not match[1].startswith(b"2"):
        return f"http_status_{match[1].decode()}"
    media_type = Headers(head).get("content-type").partition(";")[0].strip().lower()
    return None if media_type in _SAYS_NOTHING or media_type in DOCUMENT_TYPES else _type_kind(media_type)


# Pages


def _page_row(
    row: Row,
    kind: str,
    head: Headers,
    frame: Frame,
    max_html_bytes: int,
    verify: bool,
    extra: dict[str, str] | None = None,
) -> Row | str:
    data, begin, stop = frame.data, frame.begin, frame.stop
    http = _NO_HEADERS
    status = None
    declared = head.get("content-type", "")
    if kind == "response":
        if data[begin : begin + 5].upper() != b"HTTP/":
            if begin < stop and not declared.lower().startswith("application/http"):
                return "not_http"
            return row._replace(error="parse: no HTTP status line" if begin < stop else "no_text: empty record")
        match = _STATUS.match(data, begin, min(stop, begin + 64))
        if match is None:
            return row._replace(error="parse: no HTTP status line")
        status = int(match[1])
        if not 200 <= status <= 299:
            return f"http_status_{status}"
        end = _HEAD_END.search(data, begin, min(stop, begin + _MAX_HEAD))
        if end is None and stop - begin > _MAX_HEAD:
            return row._replace(error=f"too_large: an HTTP head of more than {_MAX_HEAD:,} bytes")
        http = Headers(data[begin : end.end() if end else stop])
        begin = end.end() if end else stop
        declared = http.get("content-type", "")
    identified = head.get("warc-identified-payload-type", "").partition(";")[0].strip().lower()
    media_type = identified or declared.partition(";")[0].strip().lower()
    sniff = media_type in _SAYS_NOTHING
    if not sniff and media_type not in DOCUMENT_TYPES:
        return _type_kind(media_type)
    body = memoryview(data)[begin:stop]
    transfer, coding = http.get("transfer-encoding", ""), http.get("content-encoding", "")
    payload: bytes | memoryview = body
    try:
        if transfer or coding or len(body) > max_html_bytes:
            payload = decode_body(bytes(body), transfer=transfer, content=coding, limit=max_html_bytes)
    except BodyError as error:
        return "type_unknown" if sniff else row._replace(error=str(error))
    if sniff and payload:
        if not _HTML.match(payload[:1024]):
            return "type_unknown"
        media_type = "text/html"
    fields: dict[str, Any] = {} if status is None else {"http_status": status}
    fields |= _kept(head, _KEPT)
    fields |= _kept(http, _KEPT_OF_HTTP)
    if extra:
        fields |= {name: value for name, value in extra.items() if value}
    meta = meta_json(fields)
    if verify and (wrong := _wrong_digest(head, frame, body, payload)):
        return row._replace(error=f"digest: the bytes do not fit the stated {wrong}", meta=meta)
    if not payload or (payload[0] in b" \t\r\n\f\v" and bytes(payload).isspace()):
        return row._replace(error="no_text: empty body", meta=meta)
    charset = _CHARSET.search(declared)
    content_type = f"{media_type}; charset={charset[1]}" if charset else media_type
    return Row(
        row.key,
        row.offset,
        row.length,
        None,
        payload,
        content_type,
        row.url,
        row.date,
        meta=meta,
    )


def _type_kind(media_type: str) -> str:
    top = media_type.partition("/")[0]
    return f"type_{top}" if top in _TOP_LEVELS else "type_other"


def _kept(head: Headers, names: dict[str, str]) -> dict[str, str]:
    return {name: value for name, header in names.items() if (value := head.get(header))}


# Digests


def _wrong_digest(head: Headers, frame: Frame, body: memoryview, payload: bytes | memoryview) -> str | None:
    """The header whose digest fits none of the bytes it may mean; None where there is none or it is of a kind unknown.

    The block digest is of the block, for certain. What a payload digest is of has been read in three ways: the body as it
    was sent, without its transfer coding, and decoded. A payload that was cut when it was fetched has another digest.
    """
    block = head.get("warc-block-digest")
    if block and _fits(block, memoryview(frame.data)[frame.begin : frame.stop]) is False:
        return "WARC-Block-Digest"
    stated = head.get("warc-payload-digest")
    if not stated or head.get("warc-truncated"):
        return None
    readings: list[bytes | memoryview] = [body] if payload is body else [body, payload]
    return "WARC-Payload-Digest" if all(_fits(stated, data) is False for data in readings) else None


def _fits(stated: str, data: bytes | memoryview) -> bool | None:
    name, _, value = stated.partition(":")
    name = name.strip().lower().replace("-", "")
    if name not in ("sha1", "sha256", "sha512", "md5"):
        return None
    made = hashlib.new(name, data, usedforsecurity=False).digest()
    value = value.strip()
    if value.lower() == made.hex():
        return True
    bare = value.upper().rstrip("=")
    try:
        return base64.b32decode(bare + "=" * (-len(bare) % 8)) == made
    except binascii.Error:
        return False if _HEX.fullmatch(value) else None
