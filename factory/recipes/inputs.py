"""What the sources of a recipe find: files, each pinned by its content and put into a snapshot."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, Protocol

import fsspec
import xxhash
from fsspec.implementations.local import LocalFileSystem

from factory.core.errors import InputError, StoreError
from factory.core.stage import InputFile
from factory.recipes.recipe import Recipe, SourceUse
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
    """Every file of a source with its snapshot; links to one file give it once, hidden and temporary files are left out."""
    remote = "://" in source.uri
    pattern = source.uri if remote else os.path.normpath(os.path.join(folder, source.uri))
    fs, path = fsspec.core.url_to_fs(pattern)
    local = isinstance(fs, LocalFileSystem)
    if any(char in path for char in "*?["):
        matches = fs.glob(path)
    elif fs.isdir(path):
        matches = fs.find(path)
    else:
        matches = [path] if fs.exists(path) else []
    fixed = re.split(r"[*?\[]", path)[0].rsplit("/", 1)[0]
    seen: set[str] = set()
    for match in sorted(matches):
        real = os.path.realpath(match) if local else match
        if real in seen or "/." in match[len(fixed) :] or fs.isdir(match):
            continue  # a link to a file that is read already, a hidden or temporary file
        seen.add(real)
        name = match[len(fixed) :].strip("/") or match.rsplit("/", 1)[-1]
        yield _snapshot(source, match), pins.pin(fs, match, name, local)


def _snapshot(source: SourceUse, path: str) -> str:
    pieces = path.rsplit("/", 2)
    parent = pieces[-2] if len(pieces) > 1 else ""
    name = source.snapshot.format(parent=parent, stem=pieces[-1].split(".")[0])
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

    def pin(self, fs: Any, path: str, name: str, local: bool) -> InputFile:
        if not local:
            info = fs.info(path)
            mark = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified")
            identity = xxhash.xxh3_128_hexdigest(f"{info['size']}:{mark}".encode())
            return InputFile(fs.unstrip_protocol(path), name, int(info["size"]), identity)
        try:
            stat = os.stat(path)
            key = f"{os.path.abspath(path)}:{stat.st_size}:{stat.st_mtime_ns}"
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
        return InputFile(os.path.abspath(path), name, stat.st_size, self.known[key])

    def save(self) -> None:
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
