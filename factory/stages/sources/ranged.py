"""Files behind HTTP(S), read by byte ranges: a URL in, exactly the bytes asked for out, or an InputError that says why not.

Every answer is checked (status, Content-Range, length, and the size and ETag the file had when it was found), so a file that
changes is an error and never a mixture. A range that broke off goes on where it stopped. Refusals for now (429, 5xx) and
broken connections are tried again after a growing pause, or as long as Retry-After says; how often never shows in the bytes.
"""

import http.client
import io
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import quote, urljoin, urlsplit

import xxhash

from factory import __version__
from factory.core.errors import InputError
from factory.core.stage import InputFile

USER_AGENT = f"corpus-factory/{__version__} (reads public data sets by byte ranges)"
CONCURRENCY = 4  # requests under way to one host, of one process

_REDIRECTS = 5
_PIECE = 256 << 10
_FIRST_BLOCK, _LARGEST_BLOCK = 256 << 10, 8 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_TOTAL = re.compile(r"bytes \*/(\d{1,18})")
# The address itself names the content: a file of a data set at a commit.
_PINNED_BY_URL = re.compile(r"/resolve/[0-9a-f]{40}/")

T = TypeVar("T")


class Patience(NamedTuple):
    """How long to go on: `attempts` in a row that bring nothing; seconds of the first, the longest pause, and of silence."""

    attempts: int = 8
    first_pause: float = 0.5
    longest_pause: float = 60.0
    silence: float = 30.0


class Remote(NamedTuple):
    """What a server says of a file: its size, and its ETag or else time of change."""

    size: int
    mark: str | None


class _Passing(Exception):
    """A failure that may be gone a moment later; `pause` is what the server asked for."""

    def __init__(self, cause: str, pause: float | None = None) -> None:
        super().__init__(cause)
        self.pause = pause


class Client:
    """Connections that stay open per host and are used again, by any number of threads."""

    def __init__(self, patience: Patience | None = None, concurrency: int = CONCURRENCY) -> None:
        self.patience = patience or Patience()
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._idle: dict[str, list[http.client.HTTPConnection]] = {}
        self._moved: dict[str, tuple[str, dict[str, str]]] = {}  # where an address led, and what a hub said on the way

    def look_up(self, url: str) -> Remote:
        """The size and mark of a file, by HEAD, or by a range of one byte where a server answers no HEAD."""

        def once() -> Remote | None:
            with self._answer("HEAD", url, {}) as (status, headers, _):
                _refuse(url, status, headers, allowed=(200, 405, 501))
                length = headers.get("x-linked-size") or headers.get("content-length", "")
                return Remote(int(length), mark_of(headers)) if status == 200 and length.isdecimal() else None

        def by_range() -> Remote:
            with self._answer("GET", url, {"Range": "bytes=0-0"}) as (status, headers, _):
                _refuse(url, status, headers, allowed=(206, 416))
                stated = (_CONTENT_RANGE if status == 206 else _TOTAL).match(headers.get("content-range", ""))
                if stated is None:
                    raise _Passing("no Content-Range in the answer")
                return Remote(int(stated[stated.re.groups]), mark_of(headers))

        short = self.patience._replace(attempts=min(self.patience.attempts, 4))
        return _persist(url, short, once) or _persist(url, short, by_range)

    def read(self, url: str, start: int, stop: int, pinned: str | None = None) -> bytes:
        """The bytes [start, stop), fewer only where the file ends; with `pinned`, of the file with that identity alone."""
        data = bytearray()
        failures = 0
        while start + len(data) < stop:
            before = len(data)
            try:
                if self._read_once(url, start, stop, pinned, data):
                    break
            except _Passing as failure:
                failures = 1 if len(data) > before else failures + 1
                _pause(url, failures, failure, self.patience)
        return bytes(data)

    def read_all(self, url: str, limit: int) -> tuple[bytes, dict[str, str]]:
        """A whole small answer (a listing, a card) and its headers; larger than `limit` is an error."""

        def once() -> tuple[bytes, dict[str, str]]:
            with self._answer("GET", url, {}) as (status, headers, answer):
                _refuse(url, status, headers, allowed=(200,))
                data = bytearray()
                while piece := answer.read(_PIECE):
                    data += piece
                    if len(data) > limit:
                        raise InputError(f"{shown(url)}: larger than {limit:,} bytes. Is this the right address?")
                stated = headers.get("content-length", "")
                if stated.isdecimal() and len(data) != int(stated):
                    raise _Passing(f"{len(data):,} of {int(stated):,} bytes came")
                return bytes(data), headers

        return _persist(url, self.patience, once)

    def _read_once(self, url: str, start: int, stop: int, pinned: str | None, data: bytearray) -> bool:
        """Add what one request brings; True when the file ends here."""
        at = start + len(data)
        with self._answer("GET", url, {"Range": f"bytes={at}-{stop - 1}"}) as (status, headers, answer):
            if status == 416:
                end = _TOTAL.match(headers.get("content-range", ""))
                if pinned is None and end and int(end[1]) <= at:
                    return True
                raise InputError(
                    f"{shown(url)}: has no byte {at:,} any more. The file changed; look at the inputs again."
                )
            _refuse(url, status, headers, allowed=(200, 206))
            if status == 200:
                raise InputError(
                    f"{shown(url)}: the server sends whole files only (it ignores Range). Download the file and name it locally."
                )
            stated = _CONTENT_RANGE.match(headers.get("content-range", ""))
            if stated is None or int(stated[1]) != at or int(stated[2]) >= stop or int(stated[2]) < at:
                raise _Passing(
                    f"bytes {at:,}-{stop - 1:,} asked, '{headers.get('content-range', '')[:80]}' in the answer"
                )
            total, last = int(stated[3]), int(stated[2])
            if pinned is not None and not _is_pinned(url, total, headers, pinned):
                raise InputError(
                    f"{shown(url)}: changed since its content was pinned (now {total:,} bytes, {mark_of(headers)}). "
                    "Look at the inputs again (factory plan); a listed file is pinned anew when its list changes."
                )
            wanted = last + 1 - at
            while wanted > 0 and (piece := answer.read(min(wanted, _PIECE))):
                data += piece
                wanted -= len(piece)
            if wanted:
                raise _Passing(f"the answer broke off {wanted:,} bytes before its end")
            return last + 1 >= total

    # --- one request

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> Iterator[tuple[int, dict[str, str], http.client.HTTPResponse]]:
        """Status, headers (names in lower case) and body after redirects; any trouble of the network is _Passing."""
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Accept": "*/*", **headers}
        place, linked = self._moved.get(url, (url, {}))
        with self._slot(url):
            try:
                for _ in range(_REDIRECTS + 1):
                    here, answer = place, None
                    connection = self._connection(here)
                    try:
                        answer = self._ask(connection, method, here, sent)
                        found = {name.lower(): value for name, value in answer.getheaders()}
                        if answer.status in (301, 302, 303, 307, 308) and found.get("location"):
                            # A hub tells a file's own mark and size before it sends one on to where the bytes lie.
                            own = {name: value for name, value in found.items() if name.startswith("x-linked-")}
                            linked = {**linked, **own}
                            place = _follow(url, here, found["location"])
                            continue
                        if answer.status in (401, 403) and url in self._moved:
                            self._moved.pop(url, None)
                            raise _Passing("the address it moved to is not valid any longer", 0.0)
                        if here != url:
                            self._moved[url] = (here, linked)
                        yield answer.status, {**found, **linked}, answer
                        return
                    finally:
                        self._keep(here, connection, answer)
                raise InputError(f"{shown(url)}: more than {_REDIRECTS} redirects.")
            except ssl.SSLCertVerificationError as error:
                raise InputError(f"{shown(url)}: the certificate is not valid: {error.verify_message}.") from error
            except (OSError, http.client.HTTPException) as error:
                raise _Passing(_cause(url, error)) from error

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, url: str, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
        fresh = connection.sock is None
        try:
            connection.request(method, target, headers=dict(headers))
            return connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
            connection.close()
            if fresh:
                raise
            # The other side had enough of an idle connection: no failure.
            connection.request(method, target, headers=dict(headers))
            return connection.getresponse()

    @contextmanager
    def _slot(self, url: str) -> Iterator[None]:
        host = urlsplit(url).netloc
        with self._lock:
            slot = self._slots.setdefault(host, threading.BoundedSemaphore(self._concurrency))
        with slot:
            yield

    def _connection(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{shown(url)}: an http:// or https:// address is needed.")
        with self._lock:
            waiting = self._idle.get(_origin(url))
            if waiting:
                return waiting.pop()
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.patience.silence, context=_trust()
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.patience.silence)

    def _keep(self, url: str, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse | None) -> None:
        if answer is not None and (answer.status >= 300 or answer.length == 0):
            with suppress(OSError, http.client.HTTPException):
                answer.read(_PIECE)  # a short body is read to its end, so that the connection can be used again
        if answer is None or not answer.isclosed():
            connection.close()
            return
        with self._lock:
            self._idle.setdefault(_origin(url), []).append(connection)

    def close(self) -> None:
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()


def client() -> Client:
    """The one client of this process."""
    return _client_of(os.getpid())


@cache
def _client_of(_pid: int) -> Client:  # a process that was forked must not share its parent's connections
    return Client()


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def is_remote(uri: str) -> bool:
    """Whether this is an address that is read here, by ranges over HTTP."""
    return uri.startswith(("http://", "https://"))


def shown(url: str) -> str:
    """An address as messages show it: what follows `?` and stands before `@` can be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def mark_of(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-linked-etag") or headers.get("etag") or headers.get("last-modified")


def identity_of(size: int, mark: str | None) -> str:
    """What pins a remote file's content: a hash of its size and mark."""
    return str(xxhash.xxh3_128_hexdigest(f"{size}:{mark}".encode()))


def _is_pinned(url: str, size: int, headers: Mapping[str, str], pinned: str) -> bool:
    return bool(_PINNED_BY_URL.search(url)) or identity_of(size, mark_of(headers)) == pinned


class HttpFiles:
    """What planning asks of a file system (`info` and a few names), for files behind HTTP; `known` remembers answers."""

    def __init__(self, known: MutableMapping[str, str] | None = None) -> None:
        self._known = {} if known is None else known

    def info(self, url: str) -> dict[str, Any]:
        if url not in self._known:
            found = client().look_up(url)
            self._known[url] = f"{found.size}:{found.mark or ''}"
        size, _, mark = self._known[url].partition(":")
        return {"name": url, "size": int(size), "ETag": mark or None}

    def unstrip_protocol(self, url: str) -> str:
        return url

    def invalidate_cache(self) -> None:
        self._known.clear()


class RangedFile(io.RawIOBase):
    """A remote file as a stream that can seek: blocks grow while it is read on, and start small after a jump."""

    def __init__(self, url: str, size: int, pinned: str | None, source: Client | None = None) -> None:
        super().__init__()
        self._url, self._size, self._pinned = url, size, pinned
        self._client = source or client()
        self._position = self._base = 0
        self._block = b""
        self._step = _FIRST_BLOCK

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        start = (0, self._position, self._size)[whence]
        self._position = max(start + offset, 0)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._position + size, self._size)
        pieces = []
        while self._position < stop:
            skip = self._position - self._base
            if not 0 <= skip < len(self._block):
                self._fill(stop)
                skip = 0
            piece = self._block[skip : skip + stop - self._position]
            pieces.append(piece)
            self._position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fill(self, stop: int) -> None:
        start = self._position
        follows = bool(self._block) and start == self._base + len(self._block)
        self._step = min(2 * self._step, _LARGEST_BLOCK) if follows else _FIRST_BLOCK
        end = min(start + max(self._step, min(stop - start, _LARGEST_BLOCK)), self._size)
        data = self._client.read(self._url, start, end, self._pinned)
        if len(data) < end - start:
            raise InputError(
                f"{shown(self._url)}: ends at byte {start + len(data):,} of {self._size:,}. The file changed."
            )
        self._base, self._block = start, data


def open_input(file: InputFile) -> BinaryIO:
    """An input file's bytes, wherever it lies; of a folder that is read as one input (a checkout), no bytes."""
    if is_remote(file.uri):
        return cast(BinaryIO, RangedFile(file.uri, file.size, file.identity))
    if "://" not in file.uri and os.path.isdir(file.uri):
        return io.BytesIO()
    import fsspec

    return cast(BinaryIO, fsspec.open(file.uri, "rb").open())


# Failures


def _persist(url: str, patience: Patience, once: Callable[[], T]) -> T:
    failures = 0
    while True:
        try:
            return once()
        except _Passing as failure:
            failures += 1
            _pause(url, failures, failure, patience)


def _pause(url: str, failures: int, failure: _Passing, patience: Patience) -> None:
    if failures >= patience.attempts:
        raise InputError(
            f"{shown(url)}: {failure} ({failures} attempts in a row brought nothing). Run again later; what was made is kept."
        ) from failure
    pause = min(patience.first_pause * 2 ** (failures - 1), patience.longest_pause) * (0.5 + random.random() / 2)
    if failure.pause is not None:
        pause = min(failure.pause, 10 * patience.longest_pause)
    time.sleep(pause)


def _refuse(url: str, status: int, headers: Mapping[str, str], allowed: tuple[int, ...]) -> None:
    if status in allowed:
        return
    if status in (408, 425, 429) or status >= 500:
        raise _Passing(f"the server answers {status}", _retry_after(headers.get("retry-after", "")))
    reason = {
        401: "it asks for a login; download the file and name it locally",
        403: "access is refused; download the file with your own credentials and name it locally",
        404: "there is no such file; correct the address",
        410: "the file is gone; correct the address",
    }.get(status, "correct the address")
    raise InputError(f"{shown(url)}: the server answers {status}: {reason}.")


def _retry_after(value: str) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp(), 0.0)


def _follow(url: str, here: str, location: str) -> str:
    there = urljoin(here, location)
    if urlsplit(here).scheme == "https" and urlsplit(there).scheme != "https":
        raise InputError(f"{shown(url)}: is sent on to {shown(there)[:200]}, which is not https.")
    return there


def _cause(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname
    if isinstance(error, socket.gaierror):
        return f"the host '{host}' cannot be found; is this machine online?"
    if isinstance(error, TimeoutError):
        return f"no answer from '{host}' in time"
    if isinstance(error, ConnectionRefusedError):
        return f"'{host}' refuses the connection"
    return f"{type(error).__name__}: {error}"[:200]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
