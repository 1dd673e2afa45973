"""Bytes of a stream by absolute position, and gzip members read through them: bounded memory whatever the file holds."""

import re
import zlib
from typing import Protocol

GZIP_MAGIC = b"\x1f\x8b\x08"

_CHUNK = 256 << 10
_STEP = 16 << 10
# How far a stream that cannot seek is read through to get past a record that is too large.
_MAX_SKIP = 1 << 30


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Seekable(Readable, Protocol):
    def seek(self, offset: int, /) -> int: ...


class TooFarError(Exception):
    """A stream that can only be read forward would have to be read through for too long."""


class Window:
    """A moving buffer over a file."""

    def __init__(self, stream: Seekable) -> None:
        self._stream = stream
        self._base = 0
        self._data = b""
        self._position = -1  # of the stream itself; unknown at first

    @property
    def end(self) -> int:
        """Where the buffer ends: the end of the file, once `get` gave less than it was asked for."""
        return self._base + len(self._data)

    def get(self, start: int, size: int) -> bytes:
        """The bytes of [start, start + size), fewer where the file ends."""
        skip = start - self._base
        if skip < 0 or skip > len(self._data):
            self._base, self._data, skip = start, b"", 0
        if skip + size > len(self._data):
            held = self._data[skip:]
            self._data = held + self._read(start + len(held), max(size - len(held), _CHUNK))
            self._base, skip = start, 0
        return self._data[skip : skip + size]

    def _read(self, start: int, size: int) -> bytes:
        if start != self._position:
            self._stream.seek(start)
        data = read_fully(self._stream, size)
        self._position = start + len(data)
        return data


class ForwardWindow(Window):
    """A moving buffer over bytes that can be read only once, from front to back."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._data = head
        self._base = 0
        self._forward = stream

    def _read(self, start: int, size: int) -> bytes:
        return read_fully(self._forward, size)

    def get(self, start: int, size: int) -> bytes:
        if start < self._base:
            raise ValueError("this stream cannot be read backwards")
        gap = start - self._base - len(self._data)
        if gap > _MAX_SKIP:
            raise TooFarError
        while gap > 0:
            passed = len(read_fully(self._forward, min(gap, _CHUNK)))
            if not passed:
                return b""
            self._base, self._data = self.end + passed, b""
            gap -= passed
        return super().get(start, size)


def read_fully(stream: Readable, size: int) -> bytes:
    """`size` bytes, fewer only at the end: a raw or remote stream may give less at a time."""
    data = stream.read(size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and (data := stream.read(missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def find(window: Window, pattern: re.Pattern[bytes], start: int, stop: int | None = None) -> int | None:
    """Where the pattern's first group next begins within [start, stop), if it does; patterns match less than 64 bytes."""
    overlap = 64
    while stop is None or start < stop:
        data = window.get(start, _CHUNK)
        match = pattern.search(data)
        if match:
            found = start + match.start(1)
            return found if stop is None or found < stop else None
        if len(data) <= overlap:
            return None
        start += len(data) - overlap
    return None


class MemberReader:
    """One gzip member, read forward.

    At the end `finished` is true, `position` is where the next member begins, and `problem` says what was wrong with this
    one; then all bytes that could be had were given.
    """

    def __init__(self, window: Window, start: int) -> None:
        self.position = start
        self.finished = False
        self.problem: str | None = None
        self._window = window
        self._inflater = zlib.decompressobj(31)
        self._fresh = True
        self._step = _STEP

    def read(self, size: int, /) -> bytes:
        pieces = []
        while size > 0 and not self.finished:
            data = self._window.get(self.position, self._step)
            # Errors lose what the failing call had decoded: a copy made before allows to go there in small steps.
            # The first call needs none, and most members are read in one or two.
            backup = None if self._fresh else self._inflater.copy()
            try:
                piece = self._inflater.decompress(data, size)
            except zlib.error as error:
                self._inflater = backup or zlib.decompressobj(31)
                if self._step == 1:
                    self.finished, self.problem = True, f"gzip: {error}"
                self._step = 1 if self._step <= 64 else 64
                continue
            self._fresh = False
            # At the end of a member what is left may stand in both.
            left = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            self.position += len(data) - len(left)
            if self._inflater.eof:
                self.finished = True
            elif not data and not piece:
                self.finished, self.problem = True, "truncated: the file ends within a gzip member"
            if piece:
                pieces.append(piece)
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
