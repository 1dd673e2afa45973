"""Heads of ARC records (Internet Archive, 1996; versions 1.0 and 1.1) as the heads of the WARC records they would be.

A record is a line `URL IP-address Archive-date Content-type Archive-length` (version 2 of the line has five more fields
before the length), so many bytes, and a line end. The first record of a file, `filedesc:`, describes it.
"""

import re

MAX_ARC_LINE = 8 << 10

_FIELDS = rb" [0-9A-Fa-f.:]{1,45} \d{8,20} [^ \r\n]{0,200}(?: [^ \r\n]{1,500}){1,6}\r?"
_URL = rb"[A-Za-z][A-Za-z0-9+.\-]{1,30}:[^\r\n]{0,6000}?"
ARC_BEGINS = re.compile(rb"[\r\n]*" + _URL + _FIELDS + rb"(?:\n|$)")
ARC_RECORD = re.compile(rb"\n(" + _URL + _FIELDS + rb"\n)")

_LINE = re.compile(
    rb"(?P<url>.*) (?P<ip>[0-9A-Fa-f.:]{1,45}) (?P<date>\d{8,20}) (?P<type>[^ ]{0,200})(?P<more>(?: [^ ]{1,500}){0,5})"
    rb" (?P<length>[^ ]{1,500}?)\r?$"
)


def arc_head(line: bytes, after: bytes) -> tuple[bytes, int | None]:
    """The head and the length of the record that this line begins; `after` are the first bytes of what it holds."""
    match = _LINE.match(line)
    if match is None:
        return b"", None
    url, media = match["url"], match["type"] or b"unknown/unknown"
    if url.startswith(b"filedesc:"):
        kind = b"warcinfo"
    elif after[:5].upper() == b"HTTP/":
        kind, media = b"response", b"application/http; msgtype=response"
    else:
        kind = b"resource"
    lines = [b"WARC/1.0", b"WARC-Type: " + kind, b"WARC-Target-URI: " + url, b"Content-Type: " + media]
    lines.append(b"WARC-IP-Address: " + match["ip"])
    date = match["date"]
    if len(date) == 14:
        day = b"-".join((date[:4], date[4:6], date[6:8]))
        lines.append(b"WARC-Date: " + day + b"T" + b":".join((date[8:10], date[10:12], date[12:])) + b"Z")
    length = match["length"]
    known = length.isdigit() and len(length) <= 18
    return b"\r\n".join((*lines, b"", b"")), int(length) if known else None
