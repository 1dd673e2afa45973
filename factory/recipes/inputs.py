"""What the sources of a recipe find: files, each pinned by its content and put into a snapshot."""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Protocol

import fsspec
import xxhash
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from factory.core.errors import InputError, StoreError
from factory.core.stage import InputFile
from factory.recipes.listings import COMMON_CRAWL, below, choose, crawl_of, is_list, read_list
from factory.recipes.recipe import Recipe, SourceUse
from factory.stages.sources.ranged import CONCURRENCY, HttpFiles, identity_of, is_remote
from factory.storage.store import Store

SNAPSHOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
HASHES = "inputs/hashes.json"

Inputs = dict[str, dict[str, list[InputFile]]]


def find_inputs(recipe: Recipe, store: Store) -> Inputs:
    """Snapshot to source label to files, all sorted by name.

    Raises InputError when a source finds nothing, or a file's snapshot has no usable name. Local files are pinned by a
    hash of their bytes (kept in the store while size and time stay), remote ones by size and etag.
    """
    hashes = _Hashes(store)
    found: Inputs = {}
    for source in recipe.sources:
        files = list(source_files(source, recipe.folder, hashes))
        if not files:
            raise InputError(
                f"sources.{source.label}: nothing matches '{source.uri}' (below {recipe.folder}). "
                "Correct the uri, or remove the source."
            )
        for snapshot, file in files:
            found.setdefault(snapshot, {}).setdefault(source.label, []).append(file)
    hashes.save()
    return {
        snapshot: {label: sorted(files, key=lambda file: file.name) for label, files in sorted(found[snapshot].items())}
        for snapshot in sorted(found)
    }


class Pins(Protocol):
    """How a file's content is pinned: by hash where bytes have to be sure, by size and time where a look is enough."""

    def pin(self, fs: Any, path: str, name: str, local: bool) -> InputFile: ...


def source_files(source: SourceUse, folder: str, pins: Pins) -> Iterator[tuple[str, InputFile]]:
    """Every file of a source with its snapshot; hidden and temporary files are left out.

    A file with several names (links to it, hard links) is given once, by the first of them.
    """
    pattern = source.uri if "://" in source.uri else os.path.normpath(os.path.join(folder, source.uri))
    find = source.stage.make(source.config).find
    if source.base is not None or is_list(source.uri):
        yield from _listed(source, pattern, folder, pins)
        return
    if find is not None:
        for file, names in find(pattern, lambda place, name: _pinned(pins, place, name)):
            yield _snapshot(source, file.uri, names), file
        return
    if is_remote(pattern):
        yield _snapshot(source, pattern), _one(source, pattern, pins)
        return
    fs, path = fsspec.core.url_to_fs(pattern)
    local = isinstance(fs, LocalFileSystem)
    if local:
        matches = _local_matches(path)
    elif any(char in path for char in "*?["):
        matches = fs.glob(path)
    elif fs.isdir(path):
        matches = fs.find(path)
    else:
        matches = [path] if fs.exists(path) else []
    fixed = re.split(r"[*?\[]", path)[0].rsplit("/", 1)[0]
    seen: set[object] = set()
    for match in sorted(matches):
        if "/." in match[len(fixed) :] or fs.isdir(match):
            continue  # a hidden or temporary file, a folder
        real = _regular(match) if local else match
        if real in seen:
            continue
        seen.add(real)
        name = match[len(fixed) :].strip("/") or match.rsplit("/", 1)[-1]
        yield _snapshot(source, match), pins.pin(fs, match, name, local)


def _local_matches(path: str) -> list[str]:
    """What a local path, glob or folder names; unlike the globs of fsspec, also behind links to folders."""
    if not any(char in path for char in "*?["):
        return list(_files_below(path, None)) if os.path.isdir(path) else [path] if os.path.lexists(path) else []
    root = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
    rest = path[len(root) + 1 :]
    matching = re.compile(glob_translate(path))
    return [
        match for match in _files_below(root or "/", None if "**" in rest else rest.count("/")) if matching.match(match)
    ]


def _files_below(root: str, depth: int | None) -> Iterator[str]:
    """Files of a folder and of those at most `depth` below it; each folder once, also where links make a circle."""
    seen: set[str] = set()
    folders, links = [root], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)  # a folder goes by its own name rather than by a link's
        real = os.path.realpath(folder)
        if real in seen or not os.path.isdir(folder):
            continue
        seen.add(real)
        deeper = depth is None or folder[len(root) :].count("/") < depth
        try:
            names = sorted(os.listdir(folder))
        except PermissionError as error:
            raise InputError(
                f"{folder}: permission denied. Make the folder readable, or narrow the source's uri."
            ) from error
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.isdir(path):
                yield path
            elif deeper and not name.startswith("."):
                (links if os.path.islink(path) else folders).append(path)


def _regular(path: str) -> object:
    """What tells a local file from others, whatever it is called; raises InputError where there is nothing to read."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}. Remove the link, or narrow the source's uri.") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: neither a file nor a folder. Remove it, or narrow the source's uri.")
    return (found.st_dev, found.st_ino) if found.st_nlink > 1 else os.path.realpath(path)


def _one(source: SourceUse, url: str, pins: Pins) -> InputFile:
    if "*" in url:
        raise InputError(
            f"sources.{source.label}: '{url}': there is no listing over HTTP, so a pattern finds nothing. Name one file, or a "
            "list of paths with 'base'."
        )
    return _pinned(pins, url, url.partition("?")[0].rsplit("/", 1)[-1] or "file")


def _listed(source: SourceUse, pattern: str, folder: str, pins: Pins) -> Iterator[tuple[str, InputFile]]:
    """The chosen files of a list. A published list does not change, so what a look at its files said is remembered."""
    lines = read_list(pattern)
    reads = getattr(source.config, "reads_path", lambda path: True)
    paths = choose([path for path in lines if reads(path)], every=source.every, limit=source.limit_files)
    places = [below(source.base or COMMON_CRAWL, path, folder) for path in paths]
    if not isinstance(pins, _Hashes):
        # Where a look is enough, the list itself is it: nobody asks for thousands of files every minute.
        for place, path in zip(places, paths, strict=True):
            yield _snapshot(source, place), InputFile(place, path, 0, path)
        return
    known = pins.of_list(lines)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        files = list(pool.map(lambda place, name: _pinned(pins, place, name, known), places, paths))
    for file in files:
        yield _snapshot(source, file.uri), file


def _pinned(pins: Pins, place: str, name: str, known: MutableMapping[str, str] | None = None) -> InputFile:
    if is_remote(place):
        return pins.pin(HttpFiles(known), place, name, False)
    fs, path = fsspec.core.url_to_fs(place)
    if not fs.exists(path):
        raise InputError(f"{place}: there is no such file. Correct the uri, or the base of its list.")
    return pins.pin(fs, path, name, isinstance(fs, LocalFileSystem))


def _snapshot(source: SourceUse, path: str, names: Mapping[str, str] = MappingProxyType({})) -> str:
    pieces = path.rsplit("/", 2)
    parent = pieces[-2] if len(pieces) > 1 else ""
    places = {"parent": parent, "stem": pieces[-1].split(".")[0], **names}
    crawl = crawl_of(path) or getattr(source.config, "crawl", None)
    if crawl:
        places["crawl"] = crawl
    try:
        name = source.snapshot.format(**places)
    except KeyError as error:
        raise InputError(
            f"sources.{source.label}: nothing gives {{{error.args[0]}}} for '{path}' (there is: {', '.join(places)}). "
            "Set 'snapshot' of the source to a name, or to a template of those."
        ) from error
    if not SNAPSHOT.fullmatch(name):
        raise InputError(
            f"sources.{source.label}: '{path}' would be snapshot '{name}'; letters, digits, '.', '_' and '-' are meant. "
            "Set 'snapshot' of the source."
        )
    return name


class _Hashes:
    """Content hashes of local files, remembered by path, size and modification time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        try:
            self.known: dict[str, str] = json.loads(store.read(HASHES))
        except (FileNotFoundError, ValueError):
            self.known = {}
        self.used: dict[str, str] = {}
        self.lists: dict[str, dict[str, str]] = {}

    def pin(self, fs: Any, path: str, name: str, local: bool) -> InputFile:
        if not local:
            info = fs.info(path)
            mark = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified")
            return InputFile(fs.unstrip_protocol(path), name, int(info["size"]), identity_of(int(info["size"]), mark))
        try:
            seen = os.stat(
                path
            )  # before the bytes are read: what changes while they are is found when a task reads them
            key = f"{os.path.abspath(path)}:{seen.st_size}:{seen.st_mtime_ns}"
            if key not in self.known:
                with open(path, "rb") as stream:
                    hasher = xxhash.xxh3_128()
                    while chunk := stream.read(8 << 20):
                        hasher.update(chunk)
                self.known[key] = hasher.hexdigest()
        except PermissionError as error:
            raise InputError(
                f"{path}: permission denied. Make the file readable, or narrow the source's uri."
            ) from error
        self.used[key] = self.known[key]
        return InputFile(os.path.abspath(path), name, seen.st_size, self.known[key], modified=seen.st_mtime_ns)

    def of_list(self, lines: list[str]) -> MutableMapping[str, str]:
        """What is remembered of the files of this list: address to size and mark."""
        key = "list:" + xxhash.xxh3_128_hexdigest("\n".join(lines).encode())
        try:
            found: dict[str, str] = json.loads(self.known.get(key, "{}"))
        except ValueError:
            found = {}
        self.lists[key] = found
        return found

    def save(self) -> None:
        self.used |= {key: json.dumps(found, sort_keys=True) for key, found in self.lists.items()}
        try:
            stored = self.store.read(HASHES)
        except FileNotFoundError:
            stored = b""
        data = json.dumps(self.used, sort_keys=True).encode()
        if data != stored:
            try:
                self.store.put(HASHES, data)
            except StoreError as error:
                raise StoreError(f"{error} (the store keeps everything a recipe makes)") from error
