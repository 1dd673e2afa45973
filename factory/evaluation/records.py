"""Task files: JSONL, plain, gzip or zstandard, read whole, since a task is pinned by the digest of its bytes.

A file that is damaged, cut short, too large or not JSONL is an error, never a shorter task.
"""

import glob
import io
import json
import posixpath
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import xxhash
import zstandard

from factory.core.errors import InputError, suggest

OpenFile = Callable[[str], BinaryIO]
ListFiles = Callable[[str], Sequence[str]]
Record = Mapping[str, Any]

MAX_BYTES = 2 << 30  # of one file, unpacked
MAX_RECORD = 32 << 20

_STEP = 1 << 16


def open_local(uri: str) -> BinaryIO:
    return open(uri, "rb")


def list_local(uri: str) -> list[str]:
    return sorted(glob.glob(uri, recursive=True)) if glob.has_magic(uri) else [uri]


def read_files(uri: str, open_file: OpenFile = open_local, list_files: ListFiles = list_local) -> dict[str, bytes]:
    """The files a task names, as stored, by their path below the folder they share."""
    paths = sorted(list_files(uri))
    if not paths:
        raise InputError(
            f"evaluate: no file matches '{uri}'. Give the path or pattern of JSONL files (.gz and .zst too)."
        )
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    files = {}
    for path in paths:
        try:
            with open_file(path) as stream:
                data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"evaluate: cannot read '{path}' (asked for as '{uri}'): {error}.") from error
        if len(data) > MAX_BYTES:
            raise InputError(f"evaluate: '{path}' is larger than {MAX_BYTES:,} bytes. Split it, or sample it.")
        files[posixpath.relpath(path, folder) if folder else path] = data
    return files


def records(name: str, data: bytes) -> Iterator[tuple[int, Record]]:
    """The objects of a JSONL file with their line numbers, counted from 0; blank lines count but yield nothing."""
    for number, line in enumerate(_unpack(name, data).split(b"\n")):
        if not line.strip():
            continue
        if len(line) > MAX_RECORD:
            raise InputError(f"{name}, line {number} (from 0): {len(line):,} bytes; at most {MAX_RECORD:,} are read.")
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}, line {number} (from 0) is not JSON: {error}.") from error
        if not isinstance(record, dict):
            raise InputError(f"{name}, line {number} (from 0) is a {type(record).__name__}; a JSON object is wanted.")
        yield number, record


def has_values(record: Record, where: Mapping[str, str | list[str]] | None) -> bool:
    """Whether every key has its value, or one of its values."""
    return all(
        str(record.get(key)) in ([value] if isinstance(value, str) else value) for key, value in (where or {}).items()
    )


def value_of(record: Record, key: str, place: str) -> Any:
    """The value of a key every record of the task must have."""
    if record.get(key) is None:
        raise InputError(f"{place} has no value for '{key}'.{suggest(key, record)}")
    return record[key]


def text_of(record: Record, key: str, place: str) -> str:
    """A text that is neither empty nor impossible to write as UTF-8."""
    text = value_of(record, key, place)
    if not isinstance(text, str) or not text:
        raise InputError(f"{place}: '{key}' is {text!r:.60}; a text that is not empty is wanted.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: '{key}' holds half of a surrogate pair, which no UTF-8 text can.") from error
    return text


def chosen(ids: Sequence[str], limit: int | None) -> list[int]:
    """Positions of at most `limit` ids, in order, by hash: a larger limit contains the smaller one."""
    if limit is None or len(ids) <= limit:
        return list(range(len(ids)))
    ranked = sorted(range(len(ids)), key=lambda at: (xxhash.xxh3_64_intdigest(ids[at].encode()), ids[at]))
    return sorted(ranked[:limit])


def _unpack(name: str, data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return _inflate(name, data, lambda: zlib.decompressobj(wbits=31))
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return _inflate(name, data, lambda: zstandard.ZstdDecompressor().decompressobj())
    return data


def _inflate(name: str, data: bytes, start: Callable[[], Any]) -> bytes:
    # Readers that look like files end quietly where a zstandard frame is cut short: only `eof` tells.
    out, source, size = io.BytesIO(), io.BytesIO(data), 0
    rest, unpacker = source.read(_STEP), start()
    try:
        while rest:
            size += out.write(unpacker.decompress(rest))
            if size > MAX_BYTES:
                raise InputError(f"{name}: unpacks to more than {MAX_BYTES:,} bytes. Split it, or sample it.")
            rest = unpacker.unused_data if unpacker.eof else b""
            if unpacker.eof:
                rest = rest or source.read(_STEP)
                if rest:
                    unpacker = start()
            else:
                rest = source.read(_STEP)
    except (zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{name}: damaged ({error}). Fetch it again.") from error
    if not unpacker.eof:
        raise InputError(f"{name}: cut short after {size:,} unpacked bytes. Fetch it again.")
    return out.getvalue()
