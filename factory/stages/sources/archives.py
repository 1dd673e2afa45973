"""WARC files as frames: where each record lies, its bytes, and what is wrong with it.

A damaged record spoils nothing but itself: reading goes on at the next place where a record begins. A part [start, stop)
holds the records from the first *anchor* at or after `start` to the first anchor reached at or after `stop`; an anchor is
a place where records begin for certain, judged from the bytes there alone, so that neighbouring parts agree about it
whatever lies between, and each record and each damage is in exactly one part.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from factory.core.stage import InputPart
from factory.stages.sources.windows import (
    GZIP_MAGIC,
    ForwardWindow,
    MemberReader,
    Readable,
    Seekable,
    TooFarError,
    Window,
    find,
)

_HEAD = 8 << 10
_MAX_HEAD = 64 << 10
_TAIL = 64

# Data that cannot be compressed is stored as it is in blocks of at most 65,535 bytes (RFC 1951, 3.2.4), so an archive
# inside a record of an archive can show sound gzip members, but not a chain of them that is longer.
_GZIP_CHAIN = 128 << 10
_PLAIN_CHAIN = 1 << 20

_HEAD_END = re.compile(rb"\r*\n\r*\n")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_RECORD = re.compile(rb"\n(WARC/[01]\.\d{1,2}\r*\n)")
_RECORD_AFTER_BLANK = re.compile(rb"\r\n\r\n(WARC/[01]\.\d{1,2}\r\n)")
_MEMBER = re.compile(rb"(\x1f\x8b\x08)")


class Frame(NamedTuple):
    """One record: its place in the stored file, its number within that place, its head and content, and its problem."""

    offset: int
    length: int
    number: int
    head: bytes
    content: bytes
    problem: str | None


def frames(stream: Seekable, part: InputPart, max_record_bytes: int) -> Iterator[Frame]:
    """The records of a part of a WARC file, plain or gzip."""
    window = Window(stream)
    magic = window.get(0, 5)
    is_gzip = magic.startswith(GZIP_MAGIC[:2]) or (part.file.name.endswith(".gz") and magic != b"WARC/")
    read = _gzip_frames if is_gzip else _plain_frames
    return read(window, part, max_record_bytes)


# Plain files


def _plain_frames(window: Window, part: InputPart, limit: int) -> Iterator[Frame]:
    size = part.file.size
    position = _first_plain_anchor(window, part) if part.start else 0
    while position < size and (position < part.stop or not _is_plain_anchor(window, position, size)):
        stop, head, content, problem = _frame(window, position, limit, size)
        yield Frame(position, stop - position, 0, head, content, problem)
        position = _after_blank(window, stop)


def _first_plain_anchor(window: Window, part: InputPart) -> int:
    """The first anchor within the part, else where the file ends."""
    start = max(part.start - 4, 0)
    while (found := find(window, _RECORD_AFTER_BLANK, start, part.stop)) is not None:
        if _is_plain_anchor(window, found, part.file.size):
            return found
        start = found + 1
    return part.file.size


def _is_plain_anchor(window: Window, start: int, size: int) -> bool:
    position = start
    if window.get(max(position - 4, 0), 4) != b"\r\n\r\n":
        return position == 0
    while position < size and position - start < _PLAIN_CHAIN:
        head = window.get(position, _HEAD)
        end = head.find(b"\r\n\r\n")
        length = _LENGTH.search(head, 0, end + 2)
        if end < 0 or length is None or not head.startswith(b"WARC/"):
            return False
        position += end + 4 + int(length[1])
        if window.get(position, 4) != b"\r\n\r\n":
            return False
        position += 4
    return position <= size


def _frame(window: Window, start: int, limit: int, size: int | None) -> tuple[int, bytes, bytes, str | None]:
    """(stop, head, content, problem) of the record that begins, or should begin, at `start`."""
    head = window.get(start, _HEAD)
    if not head.startswith(b"WARC/"):
        return _next_record(window, start), b"", b"", "parse: no WARC record begins here"
    end = _HEAD_END.search(head)
    if end is None:
        head = window.get(start, _MAX_HEAD)
        end = _HEAD_END.search(head)
    if end is None:
        problem = "truncated: the file ends within a head" if len(head) < _MAX_HEAD else "parse: a head without end"
        return _next_record(window, start), b"", head, problem
    head = head[: end.end()]
    stated = _LENGTH.search(head)
    if stated is None:
        return _next_record(window, start + len(head) - 1), head, b"", "parse: no Content-Length"
    begin, length = start + len(head), int(stated[1])
    if length > limit:
        if size is not None and begin + length > size:
            return _next_record(window, begin - 1), head, b"", f"length: {length:,} bytes stated, the file ends before"
        content = b""
        tail = window.get(begin + length, _TAIL)
    else:
        data = window.get(start, len(head) + length + _TAIL)
        content, tail = data[len(head) : len(head) + length], data[len(head) + length :]
        if len(content) < length:
            stop = _next_record(window, begin - 1)
            if stop < start + len(data):
                return (
                    stop,
                    head,
                    b"",
                    f"length: {length:,} bytes stated, the next record begins after {stop - begin:,}",
                )
            return stop, head, content, f"truncated: {length:,} bytes stated, {len(content):,} there"
    after = tail.lstrip(b"\r\n")
    stop = begin + length + len(tail) - len(after)
    cut = len(tail) == _TAIL and b"WARC/".startswith(after[:5])
    if after and not after.startswith(b"WARC/") and not cut:
        again = begin + length if length > limit else begin - 1
        return _next_record(window, again), head, b"", f"length: no record follows the stated {length:,} bytes"
    return stop, head, content, f"too_large: {length:,} bytes (at most {limit:,})" if length > limit else None


def _after_blank(window: Window, start: int) -> int:
    while (data := window.get(start, _TAIL)) and data[0] in b"\r\n":
        start += len(data) - len(data.lstrip(b"\r\n"))
    return start


def _next_record(window: Window, start: int) -> int:
    """Where the next record begins after a damaged one, else where the bytes end."""
    found = find(window, _RECORD, start)
    return found if found is not None else window.end


# Gzip: a member for each record, as the standard recommends, or for many


def _gzip_frames(window: Window, part: InputPart, limit: int) -> Iterator[Frame]:
    size = part.file.size
    position = _first_gzip_anchor(window, part) if part.start else 0
    while position < size and (position < part.stop or not _is_gzip_anchor(window, position, size)):
        member = MemberReader(window, position)
        last: Frame | None = None
        for frame in _member_frames(member, position, limit, size):
            if last is not None:
                yield last
            last = frame
        problem, stop = member.problem, member.position
        if problem is not None or not member.finished:
            stop = _next_member(window, position + 1, size)
        while last is not None and (joined := _joined(window, last, stop, limit)):
            *complete, last = joined[0]
            stop = joined[1]
            yield from complete
        yield from _closed(last, problem, position, stop)
        position = stop


def _joined(window: Window, last: Frame, position: int, limit: int) -> tuple[list[Frame], int] | None:
    """A record cut by the end of its member, with the members after it that begin no record: where those end, too.

    Each round takes at least as many bytes as there were, so that a record over many members is not read over and over.
    """
    if last.problem is None or not last.problem.startswith("truncated"):
        return None
    data = last.head + last.content
    wanted, start = max(2 * len(data), _MAX_HEAD), position
    while len(data) < wanted and window.get(position, 3) == GZIP_MAGIC and not _begins_record(window, position):
        member = MemberReader(window, position)
        more = member.read(limit)
        if member.problem or not member.finished:
            break
        data, position = data + more, member.position
    if position == start:
        return None
    inner, at = ForwardWindow(data, _Nothing()), 0
    found: list[Frame] = []
    while inner.get(at, 1):
        stop, head, content, problem = _frame(inner, at, limit, None)
        found.append(Frame(last.offset, position - last.offset, last.number + len(found), head, content, problem))
        at = _after_blank(inner, stop)
    return found, position


def _begins_record(window: Window, position: int) -> bool:
    return MemberReader(window, position).read(16).lstrip(b"\r\n").startswith(b"WARC/")


def _member_frames(member: MemberReader, offset: int, limit: int, size: int) -> Iterator[Frame]:
    data = member.read(limit + _MAX_HEAD)
    if not data:
        return
    nothing = _Nothing()
    rest: Readable = nothing if member.finished else member
    window = ForwardWindow(data, rest)
    inner_size = len(data) if member.finished else None
    # Where a member is too long to be decoded at once, its end is not known yet: the range then runs to the file's end.
    length = (member.position if member.finished else size) - offset
    position, index = _after_blank(window, 0), 0
    while window.get(position, 1):
        try:
            stop, head, content, problem = _frame(window, position, limit, inner_size)
        except TooFarError:
            yield Frame(
                offset, length, index, b"", b"", "too_large: a record that decodes to more than can be passed over"
            )
            return
        yield Frame(offset, length, index, head, content, problem)
        position, index = _after_blank(window, stop), index + 1


class _Nothing:
    def read(self, size: int, /) -> bytes:
        return b""


def _closed(last: Frame | None, problem: str | None, offset: int, stop: int) -> Iterator[Frame]:
    """What is left to say at the end of a member: its last record, and its problem.

    A record that was cut takes the problem, and so does a last record whose member fails its checksum; a record that was
    complete before the damage is kept, and the damage is a frame of its own.
    """
    if last is not None and (problem is None or (last.problem is None and "incorrect" not in problem)):
        yield last
    if problem is None:
        return
    if last is None or (last.problem is None and "incorrect" not in problem):
        last = Frame(offset, 0, last.number + 1 if last else 0, b"", b"", None)
    yield last._replace(length=stop - offset, problem=problem)


def _next_member(window: Window, start: int, size: int) -> int:
    while (found := find(window, _MEMBER, start)) is not None:
        if _begins_record(window, found):
            return found
        start = found + 1
    return size


def _first_gzip_anchor(window: Window, part: InputPart) -> int:
    """The first anchor within the part, else where the file ends."""
    start = part.start
    while (found := find(window, _MEMBER, start, part.stop)) is not None:
        if _is_gzip_anchor(window, found, part.file.size):
            return found
        start = found + 1
    return part.file.size


def _is_gzip_anchor(window: Window, start: int, size: int) -> bool:
    position = start
    while position < size and position - start < _GZIP_CHAIN:
        member = MemberReader(window, position)
        if not member.read(16).lstrip(b"\r\n").startswith(b"WARC/"):
            return False
        while not member.finished and member.position - start < _GZIP_CHAIN:
            member.read(1 << 20)
        if member.problem:
            return False
        position = member.position
    return True
