"""Bodies of HTTP responses: transfer and content codings undone, within a limit, with the tolerance crawls need.

Crawlers often store a body decoded and keep the header that names the coding, so a body that plainly is not coded is taken
as it is; one that is coded and damaged is an error.
"""

import io
import re
import zlib

import brotli  # type: ignore[import-untyped]
import zstandard

_MAX_CODINGS = 3
_CHUNK_HEAD = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
_AS_IT_IS = {"", "identity", "none", "utf-8", "binary", "8bit"}


class BodyError(Exception):
    """A body that cannot be decoded; the message is an `error` of the row."""


def decode_body(body: bytes, *, transfer: str, content: str, limit: int) -> bytes:
    """The body without its codings. Raises BodyError, also when it would be larger than `limit` bytes."""
    if "chunked" in transfer.lower():
        body = _join_chunks(body)
    codings = [coding.strip().lower() for coding in content.split(",")]
    if len(codings) > _MAX_CODINGS:
        raise BodyError(f"http_body: {len(codings)} content codings")
    for coding in reversed(codings):
        if coding not in _AS_IT_IS:
            body = _decode(body, coding, limit)
    if len(body) > limit:
        raise BodyError(f"too_large: a body of {len(body):,} bytes (at most {limit:,})")
    return body


def _join_chunks(body: bytes) -> bytes:
    match = _CHUNK_HEAD.match(body)
    if match is None:
        return body
    pieces: list[bytes] = []
    position = 0
    while match:
        size = int(match[1], 16)
        if size == 0:
            return b"".join(pieces)
        start = match.end()
        pieces.append(body[start : start + size])
        if start + size > len(body):
            raise BodyError(f"truncated: a chunk of {size:,} bytes at {position:,} goes beyond the body")
        position = start + size
        while body[position : position + 1] in (b"\r", b"\n"):
            position += 1
        match = _CHUNK_HEAD.match(body, position)
    if position >= len(body):
        raise BodyError("truncated: the last chunk is missing")
    raise BodyError(f"http_body: no chunk begins at {position:,}")


def _decode(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip", "deflate"):
        if coding != "deflate" and not body.startswith(b"\x1f\x8b"):
            return body
        return _inflate(body, coding, limit)
    if body.lstrip()[:1] == b"<":
        return body
    try:
        if coding == "br":
            decoder = brotli.Decompressor()
            decoded: bytes = decoder.process(body, output_buffer_limit=limit + 1)
            while len(decoded) <= limit and not decoder.is_finished():
                more = decoder.process(b"", output_buffer_limit=limit + 1 - len(decoded))
                if not more:
                    raise BodyError("truncated: a br body")
                decoded += more
        elif coding == "zstd":
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(body)) as reader:
                decoded = reader.read(limit + 1)
        else:
            raise BodyError(f"http_body: unknown content coding '{coding[:40]}'")
    except (brotli.error, zstandard.ZstdError) as error:
        raise BodyError(f"http_body: {coding}: {error}") from error
    return _within(decoded, limit)


def _inflate(body: bytes, coding: str, limit: int) -> bytes:
    # 47: zlib or gzip by header. Servers also send bare deflate data under the name of zlib (RFC 9110, 8.4.1.2).
    for bits in (47, -15) if coding == "deflate" else (47,):
        inflater = zlib.decompressobj(bits)
        try:
            decoded = inflater.decompress(body, limit + 1)
        except zlib.error as error:
            failure = error
            continue
        while inflater.eof and inflater.unused_data.startswith(b"\x1f\x8b") and len(decoded) <= limit:
            inflater, rest = zlib.decompressobj(47), inflater.unused_data
            try:
                decoded += inflater.decompress(rest, limit + 1 - len(decoded))
            except zlib.error as error:
                raise BodyError(f"http_body: {coding}: {error}") from error
        if len(decoded) <= limit and not inflater.eof:
            raise BodyError(f"truncated: a {coding} body")
        return _within(decoded, limit)
    if body.lstrip()[:1] == b"<":
        return body
    raise BodyError(f"http_body: {coding}: {failure}")


def _within(decoded: bytes, limit: int) -> bytes:
    if len(decoded) > limit:
        raise BodyError(f"too_large: a body that decodes to more than {limit:,} bytes")
    return decoded
