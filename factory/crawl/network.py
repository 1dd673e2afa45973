"""HTTP/1.1 requests over connections that lead to checked addresses only.

The check and the connection use one look-up, so that a name cannot change its address in between. Connections stay open per
origin and are used again.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from urllib.parse import urlsplit

import h11

from factory.crawl.warc_writer import Header

MAX_HEADER_BYTES = 64 * 1024
MAX_IDLE = 512
READ_BYTES = 64 * 1024


class RefusedAddress(Exception):
    """A host that leads to an address a crawler has no business with."""


class Response:
    """The head of an answer; the body is read once, in pieces, by whoever wants it."""

    def __init__(self, connection: "_Connection", head: h11.Response) -> None:
        self._connection = connection
        self.status = head.status_code
        self.status_line = f"HTTP/{head.http_version.decode()} {head.status_code} {head.reason.decode('latin-1')}"
        self.headers: list[Header] = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers.raw_items()
        ]
        self.address = connection.address

    def header(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.headers if key.lower() == name), default)

    async def body(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)


class Network:
    """`resolve` maps a host, or `.suffix` for all below it, to `address:port`; every other host must be public."""

    def __init__(self, resolve: Mapping[str, str]) -> None:
        self._resolve = dict(resolve)
        self._idle: dict[str, list[_Connection]] = {}
        self._idle_count = 0

    @asynccontextmanager
    async def get(self, url: str, headers: list[Header]) -> AsyncIterator[Response]:
        """One GET request. Raises OSError, h11.RemoteProtocolError or RefusedAddress where there is no answer."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection, head = await self._ask(origin, target, [("Host", parts.netloc), *headers])
        try:
            yield Response(connection, head)
            if head.status_code != 200:
                await connection.drain()
        finally:
            if connection.is_done() and self._idle_count < MAX_IDLE:
                self._idle.setdefault(origin, []).append(connection)
                self._idle_count += 1
            else:
                connection.close()

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._idle_count = 0

    async def _ask(self, origin: str, target: str, headers: list[Header]) -> tuple["_Connection", h11.Response]:
        while connections := self._idle.get(origin):
            connection = connections.pop()
            self._idle_count -= 1
            try:
                return connection, await connection.ask(target, headers)
            except (OSError, h11.RemoteProtocolError):
                connection.close()  # the other side had enough of it: not a failure of the page
            except BaseException:
                connection.close()
                raise
        connection = await self._connect(origin)
        try:
            return connection, await connection.ask(target, headers)
        except BaseException:
            connection.close()
            raise

    async def _connect(self, origin: str) -> "_Connection":
        parts = urlsplit(origin)
        host = parts.hostname or ""
        is_secure = parts.scheme == "https"
        address, port = await self._address(host, parts.port or (443 if is_secure else 80))
        reader, writer = await asyncio.open_connection(
            address, port, ssl=self._tls if is_secure else None, server_hostname=host if is_secure else None
        )
        return _Connection(reader, writer)

    async def _address(self, host: str, port: int) -> tuple[str, int]:
        for pattern, address in self._resolve.items():
            if matches(host, [pattern]):
                name, _, mapped = address.rpartition(":")
                return name.strip("[]"), int(mapped)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not is_public(address):
                raise RefusedAddress(f"{host} leads to {address}, which is not a public address")
        return addresses[0], port

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
        self.address = str((writer.get_extra_info("peername") or ("",))[0])

    async def ask(self, target: str, headers: list[Header]) -> h11.Response:
        if self._state.our_state is h11.DONE:
            self._state.start_next_cycle()
        request = self._state.send(h11.Request(method="GET", target=target, headers=headers)) or b""
        self._writer.write(request + (self._state.send(h11.EndOfMessage()) or b""))
        await self._writer.drain()
        while not isinstance(event := await self.next_event(), h11.Response):
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("closed before an answer")
        return event

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            self._state.receive_data(await self._reader.read(READ_BYTES))
        return event  # type: ignore[return-value]

    async def drain(self) -> None:
        """Read a short body to its end, so that the connection can be used again; a long one is not worth it."""
        size = 0
        with suppress(h11.RemoteProtocolError, OSError):
            while self._state.their_state is h11.SEND_BODY and size < READ_BYTES:
                event = await self.next_event()
                size += len(event.data) if isinstance(event, h11.Data) else 0

    def is_done(self) -> bool:
        return self._state.our_state is h11.DONE and self._state.their_state is h11.DONE

    def close(self) -> None:
        self._writer.transport.abort()


def is_public(address: str) -> bool:
    """Whether an address is on the open internet: not loopback, private, link-local, shared, multicast or reserved."""
    ip = ipaddress.ip_address(address.split("%")[0])
    # An IPv4 address in IPv6 clothing (mapped, 6to4, NAT64) is as public as what it wears.
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def matches(host: str, patterns: Iterable[str]) -> bool:
    """Whether a host is one of the patterns: itself, or below a `.suffix`."""
    return any(host.endswith(pattern) if pattern.startswith(".") else host == pattern for pattern in patterns)
