"""Gzipped WARC/1.1, one member a record, whose bytes depend on what was fetched and on nothing else.

Record ids are derived from address, snapshot and digest; gzip headers carry no time. Files roll at a size, are written
under a temporary name and appear whole.
"""

import base64
import hashlib
import io
import os
import uuid
import zlib
from collections.abc import Sequence
from types import TracebackType

Header = tuple[str, str]


class WarcWriter:
    """Writes `<prefix>-00000.warc.gz`, `-00001`, … into `directory`; `files` lists what is complete."""

    def __init__(self, directory: str, prefix: str, *, file_bytes: int, info: Sequence[Header], date: str) -> None:
        self.directory = directory
        self.prefix = prefix
        self.files: list[dict[str, str | int]] = []
        self._file_bytes = file_bytes
        self._info = tuple(info)
        self._date = date
        self._stream: io.BufferedWriter | None = None
        self._size = 0
        self._records = 0

    def __enter__(self) -> "WarcWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._stream is not None:
            self._stream.close()

    def write_response(
        self, *, url: str, date: str, status: str, headers: Sequence[Header], body: bytes, kind: str, address: str
    ) -> None:
        """One response record; `status` is the status line, `kind` the media type the payload was found to be."""
        head = "\r\n".join([status, *(f"{name}: {value}" for name, value in headers)]) + "\r\n\r\n"
        digest = payload_digest(body)
        fields = [
            ("WARC-Type", "response"),
            ("WARC-Record-ID", _record_id(self.prefix, url, digest)),
            ("WARC-Date", date),
            ("WARC-Target-URI", url),
            ("WARC-IP-Address", address),
            ("WARC-Payload-Digest", digest),
        ]
        if body and kind:
            fields.append(("WARC-Identified-Payload-Type", kind))
        # HTTP/1 header bytes are latin-1 by RFC 9110 section 5.5; what was received comes out unchanged.
        self._write(fields, "application/http; msgtype=response", head.encode("latin-1", "replace") + body)

    def close(self) -> None:
        if self._stream is None:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        name = self._name()
        os.replace(os.path.join(self.directory, name + ".tmp"), os.path.join(self.directory, name))
        self.files.append({"name": name, "bytes": self._size, "records": self._records})
        self._stream = None

    def _name(self) -> str:
        return f"{self.prefix}-{len(self.files):05d}.warc.gz"

    def _open(self) -> None:
        self._stream = open(os.path.join(self.directory, self._name() + ".tmp"), "wb")  # noqa: SIM115 - closed by close()
        self._size = self._records = 0
        body = "".join(f"{name}: {value}\r\n" for name, value in self._info).encode()
        fields = [
            ("WARC-Type", "warcinfo"),
            ("WARC-Record-ID", _record_id(self.prefix, self._name(), payload_digest(body))),
            ("WARC-Date", self._date),
            ("WARC-Filename", self._name()),
        ]
        self._put(fields, "application/warc-fields", body)

    def _write(self, fields: Sequence[Header], content_type: str, block: bytes) -> None:
        if self._stream is not None and self._size >= self._file_bytes:
            self.close()
        if self._stream is None:
            self._open()
        self._put(fields, content_type, block)
        self._records += 1

    def _put(self, fields: Sequence[Header], content_type: str, block: bytes) -> None:
        lines = [
            "WARC/1.1",
            *(f"{name}: {value}" for name, value in fields),
            f"WARC-Block-Digest: {payload_digest(block)}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(block)}",
        ]
        member = _gzip("\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n")
        assert self._stream is not None
        self._stream.write(member)
        self._size += len(member)


def payload_digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def _record_id(snapshot: str, url: str, digest: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{snapshot} {url} {digest}')}>"


def _gzip(data: bytes) -> bytes:
    # zlib writes the gzip header itself, with no time and no name; gzip.GzipFile would put the clock in.
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()
