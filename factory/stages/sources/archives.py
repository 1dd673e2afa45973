"""WARC and ARC files as frames: where each record lies, its bytes, and what is wrong with it.

A file is plain or packed (gzip, or zstd with or without a dictionary in front), a member for each record as the standards
recommend, or for many. Records of ARC (1.0 and 1.1) get the head of the WARC record they would be. A damaged record
spoils nothing but itself: reading goes on at the next place where a record begins. A part [start, stop) holds the records
from the first *anchor* at or after `start` to the first anchor reached at or after `stop`; an anchor is a place where
records begin for certain, judged from the bytes there alone, so that neighbouring parts agree about it whatever lies
between, and each record and each damage is in exactly one part.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from factory.core.stage import InputPart
from factory.stages.sources.arc import ARC_BEGINS, ARC_RECORD, MAX_ARC_LINE, arc_head
from factory.stages.sources.windows import (
    GZIP_MAGIC,
    ZSTD_MAGIC,
    ForwardWindow,
    FrameReader,
    MemberReader,
    Readable,
    Seekable,
    TooFarError,
    Window,
    find,
    inflate_member,
    read_dictionary,
    skippable_end,
)

_HEAD = 8 << 10
_MAX_HEAD = 64 << 10
_TAIL = 64

# Data that cannot be compressed is stored as it is in blocks of at most 65,535 bytes (gzip: RFC 1951, 3.2.4) or 128 kB
# (zstd: RFC 8878, 3.1.1.2.4), so an archive inside a record of an archive can show sound members, but no longer chain.
_GZIP_CHAIN = 128 << 10
_ZSTD_CHAIN = 256 << 10
_PLAIN_CHAIN = 1 << 20
# A skippable frame in the middle of a zstd file could hold a longer chain: above this it is damage.
_MAX_SKIPPABLE = 64 << 10

_HEAD_END = re.compile(rb"\n\r*\n")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_RECORD = re.compile(rb"\n(WARC/[01]\.\d{1,2}\r*\n)")
_RECORD_AFTER_BLANK = re.compile(rb"\r\n\r\n(WARC/[01]\.\d{1,2}\r\n)")
_WARC_BEGINS = re.compile(rb"[\r\n]*WARC/")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]{1,30}:")


class Frame(NamedTuple):
    """One record: its place in the stored file, its number within that place, its head, its problem, and its content,
    which is `data[begin:stop]` (pages are large, and a copy of each costs)."""

    offset: int
    length: int
    number: int
    head: bytes
    data: bytes
    begin: int
    stop: int
    problem: str | None

    @property
    def content(self) -> bytes:
        return self.data if self.begin == 0 and self.stop == len(self.data) else self.data[self.begin : self.stop]


class _Place(NamedTuple):
    """A record as it was found in a window, without where that lies in the file."""

    stop: int
    head: bytes
    data: bytes
    begin: int
    end: int
    problem: str | None


class _Format(NamedTuple):
    """What tells the records of WARC and of ARC from other bytes."""

    begins: re.Pattern[bytes]  # matches where a record begins, after blank lines
    peek: int  # bytes to see for that
    follows: re.Pattern[bytes]  # what the first few of them must be
    record: re.Pattern[bytes]  # finds the next one after damage
    overlap: int
    read: Callable[[Window, int, int, int | None], _Place]
    is_anchor: Callable[[Window, int, int], bool]


class _Member(Protocol):
    @property
    def position(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    @property
    def problem(self) -> str | None: ...

    def read(self, size: int, /) -> bytes: ...


class _Packing(NamedTuple):
    """How the members of a packed file are found and opened."""

    magic: bytes
    chain: int
    open: Callable[[int], _Member]
    whole: Callable[[int, int], tuple[bytes, int] | None]  # a sound member at once, when it is short
    start: int  # where the first member begins


def frames(stream: Seekable, part: InputPart, max_record_bytes: int) -> Iterator[Frame]:
    """The records of a part of a WARC or ARC file, plain, gzip or zstd."""
    window = Window(stream)
    packing = _packing(window, part.file.name)
    form = _format(window, part.file.name, packing)
    if packing is None:
        return _plain_frames(window, part, max_record_bytes, form)
    return _packed_frames(window, part, max_record_bytes, form, packing)


def frame_at(stream: Seekable, part: InputPart, number: int, max_record_bytes: int) -> Frame | None:
    """The record that begins at `part.start` (for certain: it was read before), and is the `number`-th of its member."""
    window = Window(stream)
    packing = _packing(window, part.file.name)
    form = _format(window, part.file.name, packing)
    if packing is None:
        found = _plain_frames(window, part, max_record_bytes, form, part.start)
    else:
        found = _packed_frames(window, part, max_record_bytes, form, packing, part.start)
    for frame in found:
        if frame.offset != part.start:
            return None
        if frame.number == number:
            return frame
    return None


def _packing(window: Window, name: str) -> _Packing | None:
    """How the file is packed, by its first bytes, else by its name."""
    magic = window.get(0, _TAIL)
    if magic[:4] == ZSTD_MAGIC or skippable_end(window, 0) is not None:
        is_gzip = False
    elif magic.startswith(GZIP_MAGIC[:2]):
        is_gzip = True
    elif _is_plain(magic) or not name.lower().endswith((".gz", ".zst")):
        return None
    else:
        is_gzip = name.lower().endswith(".gz")
    if is_gzip:
        return _Packing(
            GZIP_MAGIC,
            _GZIP_CHAIN,
            lambda position: MemberReader(window, position),
            lambda position, limit: inflate_member(window, position, limit),
            0,
        )
    dictionary = read_dictionary(window)

    def unpack(position: int) -> FrameReader:
        return FrameReader(window, position, dictionary.data)

    def unpack_whole(position: int, limit: int) -> tuple[bytes, int] | None:
        frame = unpack(position)
        data = frame.read(limit + 1)
        return (data, frame.position) if frame.finished and frame.problem is None else None

    return _Packing(ZSTD_MAGIC, _ZSTD_CHAIN, unpack, unpack_whole, dictionary.end)


def _format(window: Window, name: str, packing: _Packing | None) -> _Format:
    """WARC or ARC by how the file begins, else by its name."""
    head = window.get(0, _TAIL) if packing is None else packing.open(packing.start).read(_TAIL)
    if _WARC_BEGINS.match(head):
        return _WARC
    named = re.search(r"\.arc(?:\.(?:gz|zst))?$", name.lower()) is not None
    return _ARC if _is_plain(head) or named else _WARC


def _is_plain(head: bytes) -> bool:
    return head.lstrip(b"\r\n").startswith((b"WARC/", b"filedesc:"))


# Records


def _warc_record(window: Window, start: int, limit: int, size: int | None) -> _Place:
    head = window.get(start, _HEAD)
    if not head.startswith(b"WARC/"):
        return _nothing(_next_record(window, start, _WARC), "parse: no WARC record begins here")
    end = _HEAD_END.search(head)
    if end is None:
        head = window.get(start, _MAX_HEAD)
        end = _HEAD_END.search(head)
    if end is None:
        problem = "truncated: the file ends within a head" if len(head) < _MAX_HEAD else "parse: a head without end"
        return _Place(_next_record(window, start, _WARC), b"", head, 0, len(head), problem)
    head = head[: end.end()]
    stated = _LENGTH.search(head)
    if stated is None:
        return _nothing(_next_record(window, start + len(head) - 1, _WARC), "parse: no Content-Length", head)
    return _record(window, start, (head, len(head), int(stated[1])), limit, size, _WARC)


def _arc_record(window: Window, start: int, limit: int, size: int | None) -> _Place:
    line, newline, _ = window.get(start, MAX_ARC_LINE).partition(b"\n")
    if not newline or not ARC_BEGINS.match(line):
        return _nothing(_next_record(window, start, _ARC), "parse: no ARC record begins here")
    after = window.get(start + len(line) + 1, 6)
    head, length = arc_head(line, after)
    if length is None:
        return _nothing(_next_record(window, start + len(line), _ARC), "parse: no Archive-length", head)
    return _record(window, start, (head, len(line) + 1, length), limit, size, _ARC)


def _nothing(stop: int, problem: str, head: bytes = b"") -> _Place:
    return _Place(stop, head, b"", 0, 0, problem)


def _record(
    window: Window, start: int, stated: tuple[bytes, int, int], limit: int, size: int | None, form: _Format
) -> _Place:
    """The record at `start`, whose head takes so many bytes and states a length, judged by what follows it."""
    head, before, length = stated
    begin = start + before
    data = b""
    if length > limit:
        if size is not None and begin + length > size:
            stop = _next_record(window, begin - 1, form)
            return _nothing(stop, f"length: {length:,} bytes stated, the file ends before", head)
        tail = window.get(begin + length, _TAIL)
    else:
        data = window.get(start, before + length + _TAIL)
        tail = data[before + length :]
        there = len(data) - before
        if there < length:
            stop = _next_record(window, begin - 1, form)
            if stop < start + len(data):
                problem = f"length: {length:,} bytes stated, the next record begins after {stop - begin:,}"
                return _nothing(stop, problem, head)
            problem = f"truncated: {length:,} bytes stated, {there:,} there"
            return _Place(stop, head, data, before, len(data), problem)
    after = tail.lstrip(b"\r\n")
    stop = begin + length + len(tail) - len(after)
    cut = len(tail) == _TAIL and (len(after) < 33 if form is _ARC else b"WARC/".startswith(after[:5]))
    if after and not form.follows.match(after) and not cut:
        again = begin + length if length > limit else begin - 1
        problem = f"length: no record follows the stated {length:,} bytes"
        return _nothing(_next_record(window, again, form), problem, head)
    if length > limit:
        return _nothing(stop, f"too_large: {length:,} bytes (at most {limit:,})", head)
    return _Place(stop, head, data, before, before + length, None)


def _after_blank(window: Window, start: int) -> int:
    while (data := window.get(start, _TAIL)) and data[0] in b"\r\n":
        start += len(data) - len(data.lstrip(b"\r\n"))
    return start


def _next_record(window: Window, start: int, form: _Format) -> int:
    """Where the next record begins after a damaged one, else where the bytes end."""
    found = find(window, form.record, start, overlap=form.overlap)
    return found if found is not None else window.end


def _frame(offset: int, length: int, number: int, place: _Place) -> Frame:
    return Frame(offset, length, number, place.head, place.data, place.begin, place.end, place.problem)


# Plain files


def _plain_frames(
    window: Window, part: InputPart, limit: int, form: _Format, position: int | None = None
) -> Iterator[Frame]:
    size = part.file.size
    if position is None:
        position = _first_plain_anchor(window, part, form) if part.start else 0
    while position < size and (position < part.stop or not form.is_anchor(window, position, size)):
        place = form.read(window, position, limit, size)
        if place.stop <= position:
            problem = f"truncated: the file was {size:,} bytes long and ends after {position:,}"
            yield _frame(position, size - position, 0, _nothing(size, problem))
            return
        yield _frame(position, place.stop - position, 0, place)
        position = _after_blank(window, place.stop)


def _first_plain_anchor(window: Window, part: InputPart, form: _Format) -> int:
    """The first anchor within the part, else where the file ends."""
    pattern = _RECORD_AFTER_BLANK if form is _WARC else form.record
    start = max(part.start - (4 if form is _WARC else 1), 0)
    while (found := find(window, pattern, start, part.stop, form.overlap)) is not None:
        if form.is_anchor(window, found, part.file.size):
            return found
        start = found + 1 if form is _WARC else found
    return part.file.size


def _is_warc_anchor(window: Window, start: int, size: int) -> bool:
    position = start
    if start == 0 or not _RECORD_AFTER_BLANK.match(window.get(max(start - 4, 0), _TAIL)):
        return start == 0
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


def _is_arc_anchor(window: Window, start: int, size: int) -> bool:
    position = start
    if start == 0 or not ARC_RECORD.match(window.get(max(start - 1, 0), MAX_ARC_LINE)):
        return start == 0
    while position < size and position - start < _PLAIN_CHAIN:
        line = window.get(position, MAX_ARC_LINE).partition(b"\n")[0]
        length = arc_head(line, b"")[1] if ARC_BEGINS.match(line) else None
        if length is None:
            return False
        position += len(line) + 1 + length
        if window.get(position, 1) != b"\n":
            return position == size
        position = _after_blank(window, position)
    return position <= size


_WARC = _Format(_WARC_BEGINS, 16, _WARC_BEGINS, _RECORD, 64, _warc_record, _is_warc_anchor)
_ARC = _Format(ARC_BEGINS, MAX_ARC_LINE, _SCHEME, ARC_RECORD, MAX_ARC_LINE, _arc_record, _is_arc_anchor)


# Packed files: a member for each record, as the standards recommend, or for many


def _packed_frames(
    window: Window, part: InputPart, limit: int, form: _Format, packing: _Packing, position: int | None = None
) -> Iterator[Frame]:
    size = part.file.size
    if position is None:
        position = _first_member(window, part, form, packing) if part.start else min(packing.start, size)
    while position < size and (position < part.stop or not _is_member_anchor(window, position, size, form, packing)):
        whole = packing.whole(position, limit + _MAX_HEAD)
        if whole is not None and (frame := _only_record(position, *whole, limit)):
            yield frame
            position = whole[1]
            continue
        skipped = skippable_end(window, position) if packing.magic == ZSTD_MAGIC else None
        if skipped is not None and skipped - position <= _MAX_SKIPPABLE and skipped <= size:
            position = skipped
            continue
        member: _Member = _Whole(*whole) if whole is not None else packing.open(position)
        last: Frame | None = None
        sound = True
        for frame in _member_frames(member, position, limit, size, form):
            if last is not None:
                sound = sound and last.problem is None
                yield last
            last = frame
        problem, stop = member.problem, member.position
        if problem is not None or not member.finished:
            stop = _next_member(window, position + 1, size, form, packing)
        while last is not None and (joined := _joined(window, last, stop, limit, form, packing)):
            *complete, last = joined[0]
            stop = joined[1]
            yield from complete
        yield from _closed(last, problem, position, stop)
        sound = sound and (last is None or last.problem is None)
        if not sound and problem is None and packing.magic == ZSTD_MAGIC:
            # Most zstd frames have no checksum: a damaged one may decode, and run on over those after it.
            stop = min(stop, _next_member(window, position + 1, size, form, packing))
        position = stop


def _only_record(offset: int, data: bytes, stop: int, limit: int) -> Frame | None:
    """The record of a member that holds just one and nothing odd, as nearly all do; None where it takes a closer look."""
    if not data.startswith(b"WARC/") or not data.endswith(b"\r\n\r\n"):
        return None
    end = _HEAD_END.search(data, 0, _MAX_HEAD)
    if end is None:
        return None
    begin = end.end()
    stated = _LENGTH.search(data, 0, begin)
    if stated is None or (length := int(stated[1])) > limit or begin + length + 4 != len(data):
        return None
    return Frame(offset, stop - offset, 0, data[:begin], data, begin, begin + length, None)


def _joined(
    window: Window, last: Frame, position: int, limit: int, form: _Format, packing: _Packing
) -> tuple[list[Frame], int] | None:
    """A record cut by the end of its member, with the members after it that begin no record: where those end, too.

    Each round takes at least as many bytes as there were, so that a record over many members is not read over and over.
    """
    if form is _ARC or last.problem is None or not last.problem.startswith("truncated"):
        return None
    data = last.head + last.content
    wanted, start = max(2 * len(data), _MAX_HEAD), position
    magic = packing.magic
    while (
        len(data) < wanted
        and window.get(position, len(magic)) == magic
        and not _begins_record(window, position, form, packing)
    ):
        member = packing.open(position)
        more = member.read(limit)
        if member.problem or not member.finished:
            break
        data, position = data + more, member.position
    if position == start:
        return None
    inner, at = ForwardWindow(data, _Nothing()), 0
    found: list[Frame] = []
    while inner.get(at, 1):
        place = form.read(inner, at, limit, None)
        found.append(_frame(last.offset, position - last.offset, last.number + len(found), place))
        at = _after_blank(inner, place.stop)
    return found, position


def _begins_record(window: Window, position: int, form: _Format, packing: _Packing) -> bool:
    return form.begins.match(packing.open(position).read(form.peek)) is not None


def _member_frames(member: _Member, offset: int, limit: int, size: int, form: _Format) -> Iterator[Frame]:
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
            place = form.read(window, position, limit, inner_size)
        except TooFarError:
            problem = "too_large: a record that decodes to more than can be passed over"
            yield _frame(offset, length, index, _nothing(0, problem))
            return
        yield _frame(offset, length, index, place)
        position, index = _after_blank(window, place.stop), index + 1


class _Whole:
    """A member that is decoded already."""

    finished = True
    problem: str | None = None

    def __init__(self, data: bytes, position: int) -> None:
        self.position = position
        self._data = data

    def read(self, size: int, /) -> bytes:
        data, self._data = self._data, b""
        return data


class _Nothing:
    def read(self, size: int, /) -> bytes:
        return b""


def _closed(last: Frame | None, problem: str | None, offset: int, stop: int) -> Iterator[Frame]:
    """What is left to say at the end of a member: its last record, and its problem.

    A record that was cut takes the problem, and so does a last record whose member fails its checksum; a record that was
    complete before the damage is kept, and the damage is a frame of its own.
    """
    spoils = problem is not None and ("incorrect" in problem or "checksum" in problem)
    if last is not None and (problem is None or (last.problem is None and not spoils)):
        yield last
    if problem is None:
        return
    if last is None or (last.problem is None and not spoils):
        last = Frame(offset, 0, last.number + 1 if last else 0, b"", b"", 0, 0, None)
    yield last._replace(length=stop - offset, problem=problem)


def _pattern(packing: _Packing) -> re.Pattern[bytes]:
    return re.compile(b"(" + re.escape(packing.magic) + b")")


def _next_member(window: Window, start: int, size: int, form: _Format, packing: _Packing) -> int:
    pattern = _pattern(packing)
    while (found := find(window, pattern, start)) is not None:
        if _begins_record(window, found, form, packing):
            return found
        start = found + 1
    return size


def _first_member(window: Window, part: InputPart, form: _Format, packing: _Packing) -> int:
    """The first anchor within the part, else where the file ends."""
    pattern, start = _pattern(packing), max(part.start, packing.start)
    while start < part.stop and (found := find(window, pattern, start, part.stop)) is not None:
        if _is_member_anchor(window, found, part.file.size, form, packing):
            return found
        start = found + 1
    return part.file.size


def _is_member_anchor(window: Window, start: int, size: int, form: _Format, packing: _Packing) -> bool:
    if start < packing.start or window.get(start, len(packing.magic)) != packing.magic:
        return False
    position = start
    while position < size and position - start < packing.chain:
        if packing.magic == ZSTD_MAGIC and position > start and (end := skippable_end(window, position)):
            if end - position > _MAX_SKIPPABLE:
                return False
            position = end
            continue
        member = packing.open(position)
        if not form.begins.match(member.read(form.peek)):
            return False
        while not member.finished and member.position - start < packing.chain:
            member.read(1 << 20)
        if member.problem:
            return False
        position = member.position
    return True
