"""Lists that a stage's settings name: a path, a glob or a folder beside the recipe, or the entries themselves.

What lies in files comes as `Files` (see `factory.core.stage`): read and pinned before. Files may be gzip (`.gz`) or
Zstandard (`.zst`); what they unpack to is bounded.
"""

import gzip
import io
from collections.abc import Iterable, Iterator

import zstandard

from factory.core.errors import InputError
from factory.core.stage import Files

Entries = str | tuple[str, ...]  # a path, or the entries

MAX_UNPACKED = 1 << 30


def uris_of(lists: Iterable[Entries]) -> tuple[str, ...]:
    """The paths among lists, each once: what the stage's `files` gives."""
    return tuple(dict.fromkeys(entries for entries in lists if isinstance(entries, str)))


def contents(entries: Entries, files: Files) -> dict[str, bytes]:
    """The unpacked content of each file of a list, by its name; entries given in the settings have the name ''."""
    if not isinstance(entries, str):
        return {"": "\n".join(entries).encode()}
    if entries not in files:
        raise InputError(
            f"list '{entries}': its files were not read. Give the path of a file or folder beside the recipe."
        )
    return {name: unpacked(name, content) for name, content in files[entries].items()}


def lines(entries: Entries, files: Files) -> Iterator[str]:
    """What a list says, a line at a time: without white space around, empty lines and lines that begin with #."""
    for name, content in contents(entries, files).items():
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"list '{name}' of '{entries}' is no UTF-8: {error}. Convert it.") from error
        for line in text.removeprefix("\ufeff").split("\n"):
            found = line.strip()
            if found and not found.startswith("#"):
                yield found


def unpacked(name: str, content: bytes) -> bytes:
    """The content of a file that may be gzip or Zstandard, by its name; InputError where it is damaged or too large."""
    if not name.endswith((".gz", ".zst")):
        return content
    try:
        stream: io.BufferedIOBase
        if name.endswith(".gz"):
            stream = gzip.GzipFile(fileobj=io.BytesIO(content))
        else:
            stream = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(content))
        plain = stream.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise InputError(f"list '{name}' cannot be unpacked: {error}. Fetch it again.") from error
    if len(plain) > MAX_UNPACKED:
        raise InputError(f"list '{name}' unpacks to more than {MAX_UNPACKED:,} bytes; split it.")
    return plain
