"""A small HTTP/1.1 server on the loopback interface, in a thread of its own: for the demo and for tests.

It answers GET and HEAD with what a function gives for (host, path), keeps connections open, packs on request and knows
`If-None-Match`. The operating system chooses the port.
"""

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import xxhash

MAX_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Responder = Callable[[str, str], Answer]  # (host without port, path with query) -> answer


@contextmanager
def serve(respond: Responder) -> Iterator[str]:
    """Serve until the block ends; gives `address:port`."""
    ready: list[str] = []
    is_ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        connections: set[_Connection] = set()
        server = await loop.create_server(lambda: _Connection(respond, connections), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        ready.append(f"{host}:{port}")
        is_ready.set()
        await stop.wait()
        server.close()
        for connection in list(connections):
            connection.close()
        await asyncio.sleep(0)  # lets the transports close before the loop does

    def work() -> None:
        try:
            loop.run_until_complete(run())
        finally:
            is_ready.set()
            loop.close()

    thread = threading.Thread(target=work, name="demo-site", daemon=True)
    thread.start()
    is_ready.wait()
    if not ready:
        raise OSError("no port of 127.0.0.1 could be opened for the demo's site")
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


class _Connection(asyncio.Protocol):
    def __init__(self, respond: Responder, connections: "set[_Connection]") -> None:
        self._respond = respond
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._transport is not None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end])
            del self._received[: end + 4]
            self._transport.write(self._answer(head))
        if len(self._received) > MAX_HEAD_BYTES:
            self.close()

    def _answer(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        path = rest.rpartition(" ")[0]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method not in ("GET", "HEAD") or "host" not in headers:
            return _message(Answer(405 if "host" in headers else 400), head_only=False, etag="")
        host = headers["host"].rpartition(":")[0] or headers["host"]
        try:
            answer = self._respond(host.lower(), path)
        except Exception:  # a page that cannot be rendered is this server's fault and must not take the thread with it
            answer = Answer(500)
        etag = f'"{xxhash.xxh3_64_hexdigest(answer.body)}"'
        if answer.status == 200 and headers.get("if-none-match") == etag:
            return _message(Answer(304), head_only=True, etag=etag)
        is_packed = any(name.lower() == "content-encoding" for name, _ in answer.headers)
        if "gzip" in headers.get("accept-encoding", "") and len(answer.body) > 500 and not is_packed:
            packed = gzip.compress(answer.body, 1, mtime=0)
            answer = Answer(
                answer.status, packed, (*answer.headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
            )
        return _message(answer, head_only=method == "HEAD", etag=etag if answer.status == 200 else "")


def _message(answer: Answer, *, head_only: bool, etag: str) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Server: docs",
        *(f"{name}: {value}" for name, value in answer.headers),
        *([f"ETag: {etag}"] if etag else []),
        f"Content-Length: {len(answer.body)}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head_only else answer.body)
