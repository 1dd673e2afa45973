"""Bytes of a stream by absolute position, and gzip members and zstd frames read through them: bounded memory whatever
the file holds.

A member is first read by the shortest way there is (`inflate_member`, `unpack_frame`); whatever that does not take as
sound and small is read again by a reader that keeps what was decoded before the damage, so that what comes out does not
depend on the library that did the short way.
"""

import re
import zlib
from typing import IO, Any, NamedTuple, Protocol, cast

import zstandard

try:
    from isal import isal_zlib

    _FAST: Any = isal_zlib
except ImportError:  # there is no wheel for every machine; zlib does the same in twice the time
    _FAST = zlib

GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_ZSTD_WINDOW = 1 << 27
_ZSTD_STEP = 128 << 10
_MAX_DICTIONARY = 32 << 20
# The skippable frame that holds the dictionary of a .warc.zst (IIPC, "Zstandard compressed WARC files").
_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"

_CHUNK = 256 << 10
_STEP = 16 << 10
# How far a stream that cannot seek is read through to get past a record that is too large.
_MAX_SKIP = 1 << 30


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Seekable(Readable, Protocol):
    def seek(self, offset: int, /) -> int: ...

    def tell(self) -> int: ...


class TooFarError(Exception):
    """A stream that can only be read forward would have to be read through for too long."""


class Window:
    """A moving buffer over a file."""

    def __init__(self, stream: Seekable) -> None:
        self._stream = stream
        self._base = 0
        self._data = b""

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

    def view(self, start: int, size: int) -> memoryview:
        """What `get` gives, without a copy."""
        skip = start - self._base
        if skip < 0 or skip + size > len(self._data):
            return memoryview(self.get(start, size))
        return memoryview(self._data)[skip : skip + size]

    def _read(self, start: int, size: int) -> bytes:
        if start != self._stream.tell():  # others may read the same stream through windows of their own
            self._stream.seek(start)
        return read_fully(self._stream, size)


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


def find(
    window: Window, pattern: re.Pattern[bytes], start: int, stop: int | None = None, overlap: int = 64
) -> int | None:
    """Where the pattern's first group next begins within [start, stop), if it does; it matches less than `overlap` bytes."""
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


def inflate_member(window: Window, start: int, limit: int) -> tuple[bytes, int] | None:
    """A sound gzip member of at most `limit` bytes and where it ends; None where MemberReader has to look closer."""
    inflater = _FAST.decompressobj(31)
    position, step, size = start, _STEP, 0
    pieces: list[bytes] = []
    while not inflater.eof:
        data = window.view(position, step)
        if not data:
            return None
        try:
            piece = inflater.decompress(data, limit + 1 - size)
        except (zlib.error, _FAST.error):
            return None
        size += len(piece)
        if size > limit:
            return None
        pieces.append(piece)
        position += len(data) - len(inflater.unused_data)
        step = min(2 * step, _CHUNK)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), position


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


class Dictionary(NamedTuple):
    """What the zstd frames of a file were packed with, and where its first frame begins."""

    data: zstandard.ZstdCompressionDict | None
    end: int


def read_dictionary(window: Window) -> Dictionary:
    """The dictionary in front of a .warc.zst, as it is or packed itself; none where there is none that can be used."""
    if window.get(0, 4) != _DICTIONARY_MAGIC:
        return Dictionary(None, 0)
    size = int.from_bytes(window.get(4, 4), "little")
    content = window.get(8, size) if size <= _MAX_DICTIONARY else b""
    if content.startswith(ZSTD_MAGIC):
        try:
            with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(content) as reader:
                content = reader.read(_MAX_DICTIONARY)
        except zstandard.ZstdError:
            content = b""
    try:
        made = zstandard.ZstdCompressionDict(content) if content else None
        zstandard.ZstdDecompressor(dict_data=made).decompressobj()  # raises where it is none
    except zstandard.ZstdError:
        made = None
    return Dictionary(made, 8 + size)


class FrameReader:
    """One zstd frame, read forward: what MemberReader is for gzip."""

    def __init__(self, window: Window, start: int, dictionary: zstandard.ZstdCompressionDict | None) -> None:
        self.position = start
        self.finished = False
        self.problem: str | None = None
        self._frame = _FrameBytes(window, start)
        unpacker = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_ZSTD_WINDOW)
        self._reader = unpacker.stream_reader(cast(IO[bytes], self._frame), read_size=_STEP)

    def read(self, size: int, /) -> bytes:
        pieces = []
        while size > 0 and not self.finished:
            try:
                piece = self._reader.read(min(size, _ZSTD_STEP))
            except zstandard.ZstdError as error:
                self.finished, self.problem = True, f"zstd: {error}"
                break
            if piece:
                pieces.append(piece)
                size -= len(piece)
            else:
                self.finished = True
                if not self._frame.complete:
                    self.problem = "truncated: the file ends within a zstd frame"
            self.position = self._frame.position
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _FrameBytes:
    """The bytes of one zstd frame as a stream: its block headers tell where it ends (RFC 8878, 3.1.1)."""

    def __init__(self, window: Window, start: int) -> None:
        self.position = start
        self.complete = False
        self._window = window
        head = window.get(start, 5)
        descriptor = head[4] if len(head) == 5 else 0
        single = descriptor >> 5 & 1
        sizes = (0 if single else 1, (0, 1, 2, 4)[descriptor & 3], (single, 2, 4, 8)[descriptor >> 6])
        self._known = start + 5 + sum(sizes)  # up to here it is this frame's
        self._checksum = 4 if descriptor >> 2 & 1 else 0
        self._last = False

    def read(self, size: int = -1, /) -> bytes:
        size = size if size > 0 else _CHUNK
        while not self._last and self._known - self.position < size:
            ahead = self._known - self.position
            header = self._window.view(self.position, ahead + 3)[ahead:]
            if len(header) < 3:
                break
            block = int.from_bytes(header, "little")
            self._known += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
            if block & 1:
                self._last = True
                self._known += self._checksum
        data = self._window.get(self.position, min(size, self._known - self.position))
        self.position += len(data)
        self.complete = self._last and self.position == self._known
        return data


def skippable_end(window: Window, start: int) -> int | None:
    """Where the skippable zstd frame at `start` ends; None where there is none."""
    head = window.get(start, 8)
    if len(head) < 8 or head[1:4] != b"\x2a\x4d\x18" or not 0x50 <= head[0] <= 0x5F:
        return None
    return start + 8 + int.from_bytes(head[4:], "little")
