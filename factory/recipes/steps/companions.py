"""The other files of a source and snapshot, within a documents task: what a record refers to may lie in one of them.

The list of files lies in the store once for a snapshot, under its own digest, and a task is given its path. A task whose
reader asked for it names its part after the list, too, so that the part is made again when files come or go; every other
part stays what it is, whatever lies beside its file.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from factory.core.errors import InputError
from factory.core.fingerprint import digest_bytes
from factory.core.stage import InputFile
from factory.stages.sources.ranged import open_input
from factory.storage.store import Store


def keep_files(store: Store, folder: str, files: Iterable[InputFile]) -> str:
    """Put the list of files into the store; its path."""
    # Another time on the same bytes must not make another list.
    data = json.dumps([{**asdict(file), "modified": 0} for file in files], sort_keys=True).encode()
    path = f"{folder}/files-{digest_bytes(data)}.json"
    if store.size(path) != len(data):
        store.put(path, data)
    return path


class StoredCompanions:
    """Companions of one task; `asked` tells whether its part depends on them."""

    def __init__(self, store: Store, folder: str, path: str) -> None:
        self.asked = False
        self._store = store
        self._folder = folder
        self._path = path
        self._marks: dict[str, Any] = {}

    def files(self) -> Sequence[InputFile]:
        self.asked = True
        return [InputFile(**described) for described in json.loads(self._store.read(self._path))]

    def open(self, file: InputFile) -> BinaryIO:
        self._marks.setdefault(file.uri, mark(file))
        return open_input(file)

    def remembered(self, file: InputFile, name: str, make: Callable[[], bytes]) -> bytes:
        path = f"{self._folder}/{name}-{file.identity}"
        try:
            return self._store.read(path)
        except FileNotFoundError:
            made = make()
        self._store.put(path, made)
        return made

    def check(self) -> None:
        """Raise InputError when a file that was opened is not what it was."""
        for uri, before in self._marks.items():
            if before != mark(InputFile(uri, "", 0, "")):
                raise InputError(f"{uri} changed while it was read. Run again when whoever writes it is done.")


def mark(file: InputFile) -> Any:
    """Size and modification time of a local file; None for a remote one."""
    if "://" in file.uri:
        return None
    stat = os.stat(file.uri)
    return stat.st_size, stat.st_mtime_ns
