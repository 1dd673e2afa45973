"""The files of a repository, from a checkout or an archive: paths in order and their bytes, bounded in size and number.

Nothing is unpacked onto disk. Links, devices, absolute paths and paths that climb out are refused and counted; an archive
that holds more than its limits, or whose bytes are damaged, is a problem of the whole repository.
"""

import hashlib
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from lzma import LZMAError
from typing import Any, BinaryIO, NamedTuple

import zstandard

ENDINGS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip")

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_MAX_HEADER = 1 << 20
_LEFT_BY_TOOLS = {
    *(
        ".git",
        ".svn",
        ".hg",
        "__pycache__",
        ".venv",
        ".tox",
        ".nox",
        ".eggs",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
    ),
    *(".hypothesis", ".import_linter_cache", ".ipynb_checkpoints", ".gradle", ".idea", ".yarn"),
}
_PACKED_REF = re.compile(r"^([0-9a-f]{40}) (\S{1,300})$", re.MULTILINE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REMOTE = re.compile(r"^[ \t]*url[ \t]*=[ \t]*(\S{1,500})[ \t]*$", re.MULTILINE)
_ADDRESS = re.compile(
    r"(?:https?://|git@|ssh://(?:[^@/]{1,100}@)?)(?:[^@/]{1,200}@)?([^/:]{1,200})[/:](.{1,300}?)(?:\.git)?/?"
)
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    zstandard.ZstdError,
    LZMAError,
    EOFError,
    OSError,
    ValueError,
)


class Limits(NamedTuple):
    """Of one file that is read, of all bytes an archive may unpack to, and of how many entries it may have."""

    file_bytes: int
    total_bytes: int
    files: int


class Entry(NamedTuple):
    """A file: its bytes, or None with the kind of reason why it has none here."""

    path: str
    data: bytes | None
    skipped: str = ""
    size: int = 0


class RepositoryError(Exception):
    """A repository that cannot be read as a whole; the message is an `error` of its row."""


def checkout_entries(folder: str, limits: Limits, names: list[str]) -> Iterator[Entry]:
    """The files of a checkout, with these paths."""
    total = 0
    for count, path in enumerate(names, 1):
        full = os.path.join(folder, *path.split("/"))
        state = os.lstat(full)
        if not stat.S_ISREG(state.st_mode):
            yield Entry(path, None, "link")
        elif state.st_size > limits.file_bytes:
            yield Entry(path, None, "too_large", state.st_size)
        else:
            total += state.st_size
            _within(count, total, limits)
            with open(full, "rb") as stream:
                yield Entry(path, stream.read(limits.file_bytes + 1), size=state.st_size)


def checkout_paths(folder: str) -> list[str]:
    """Paths of files and of links below a folder, sorted; what tools leave there (.git, caches) is no part of the tree."""
    found: list[str] = []
    for above, folders, names in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(above, name))]
        folders[:] = sorted(set(folders) - _LEFT_BY_TOOLS - set(linked))
        here = (os.path.relpath(os.path.join(above, name), folder) for name in [*names, *linked] if name != ".git")
        found.extend(path.replace(os.sep, "/") for path in here)
    return sorted(found)


def archive_entries(stream: BinaryIO, name: str, limits: Limits, notes: dict[str, str]) -> Iterator[Entry]:
    """The files of an archive in its order; its commit, if `git archive` made it, goes into `notes`.

    Raises RepositoryError for damage and for more than the limits allow.
    """
    stream.seek(0)
    read = _zip_entries if name.lower().endswith(".zip") else _tar_entries
    try:
        yield from read(stream, limits, notes)
    except _DAMAGE as error:
        raise RepositoryError(f"archive: {error}"[:300]) from error


class _Header(tarfile.TarInfo):
    """A tar header. Those that carry long names and attributes are read into memory, so they have a size of their own."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        carries = self.type in (b"x", b"g", b"X", b"L", b"K", b"S")
        if carries and self.size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes (at most {_MAX_HEADER:,})")
        return super()._proc_member(tar)  # type: ignore[misc]


def _tar_entries(stream: BinaryIO, limits: Limits, notes: dict[str, str]) -> Iterator[Entry]:
    is_zstd = stream.read(4) == ZSTD_MAGIC
    stream.seek(0)
    plain: Any = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stream) if is_zstd else stream
    total = 0
    with tarfile.open(fileobj=plain, mode="r|" if is_zstd else "r|*", tarinfo=_Header) as archive:
        for count, member in enumerate(archive, 1):
            total += max(member.size, 0)
            _within(count, total, limits)
            _note_commit(notes, (archive.pax_headers or {}).get("comment", ""))
            if not member.isdir():
                yield _entry(member.name, member.isreg(), member.size, limits, partial(archive.extractfile, member))


def _zip_entries(stream: BinaryIO, limits: Limits, notes: dict[str, str]) -> Iterator[Entry]:
    with zipfile.ZipFile(stream) as archive:
        _note_commit(notes, archive.comment.decode("ascii", "replace"))
        total = 0
        for count, info in enumerate(archive.infolist(), 1):
            total += info.file_size
            _within(count, total, limits)
            if info.is_dir():
                continue
            kind = info.external_attr >> 16
            regular = not info.flag_bits & 1 and (stat.S_IFMT(kind) in (0, stat.S_IFREG))
            yield _entry(info.filename, regular, info.file_size, limits, partial(archive.open, info))


def _entry(path: str, regular: bool, size: int, limits: Limits, open_it: Callable[[], Any]) -> Entry:
    path = path.removeprefix("./")
    if not regular:
        return Entry(path, None, "link")
    pieces = path.replace("\\", "/").split("/")
    if ".." in pieces or path.startswith(("/", "\\")) or "\x00" in path or re.match(r"[A-Za-z]:", path):
        return Entry(path, None, "unsafe_path")
    if ".git" in pieces:
        return Entry(path, None, "vendored")
    if size > limits.file_bytes:
        return Entry(path, None, "too_large", size)
    with open_it() as opened:
        data = opened.read(limits.file_bytes + 1)  # a zip may lie about the size
    return (
        Entry(path, None, "too_large", len(data))
        if len(data) > limits.file_bytes
        else Entry(path, data, size=len(data))
    )


def _within(count: int, total: int, limits: Limits) -> None:
    if count > limits.files:
        raise RepositoryError(f"too_large: more than {limits.files:,} entries")
    if total > limits.total_bytes:
        raise RepositoryError(f"too_large: unpacks to more than {limits.total_bytes:,} bytes")


def _note_commit(notes: dict[str, str], comment: str) -> None:
    if _COMMIT.fullmatch(comment.strip()):
        notes["commit"] = comment.strip()


def commit_of(folder: str) -> str | None:
    """The commit a checkout stands at, as .git says without git: HEAD, a ref it names, or a packed ref."""
    git = os.path.join(folder, ".git")
    try:
        if os.path.isfile(git):
            git = os.path.normpath(os.path.join(folder, _text(git).partition("gitdir:")[2].strip()))
        head = _text(os.path.join(git, "HEAD")).strip()
        if not head.startswith("ref:"):
            return head if _COMMIT.fullmatch(head) else None
        ref = head[4:].strip()
        if ".." in ref.split("/") or ref.startswith("/"):
            return None
        common = git
        if os.path.isfile(os.path.join(git, "commondir")):
            common = os.path.normpath(os.path.join(git, _text(os.path.join(git, "commondir")).strip()))
        for place in (git, common):
            if os.path.isfile(os.path.join(place, ref)):
                value = _text(os.path.join(place, ref)).strip()
                return value if _COMMIT.fullmatch(value) else None
        packed = os.path.join(common, "packed-refs")
        found = _PACKED_REF.findall(_text(packed, 16 << 20)) if os.path.isfile(packed) else []
        return next((commit for commit, name in found if name == ref), None)
    except OSError:
        return None


def origin_of(folder: str) -> str | None:
    """owner/name of a checkout's remote, without any credentials in its address."""
    try:
        url = _REMOTE.search(_text(os.path.join(folder, ".git", "config"), 1 << 20))
    except OSError:
        return None
    match = _ADDRESS.fullmatch(url[1]) if url else None
    return match[2] if match else None


def tree_digest(files: Iterator[tuple[str, str]]) -> str:
    """One hash of paths and what pins each."""
    digest = hashlib.sha256()
    for path, pinned in files:
        digest.update(f"{path}\x1f{pinned}\x1e".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _text(path: str, limit: int = 64 << 10) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(limit)
