"""Lists of words a recipe names: files with one entry a line, and entries in the settings."""

import re
from collections.abc import Iterable

from factory.core.errors import FactoryError
from factory.core.stage import Files

_LONGEST = 200  # characters of an entry
_MOST_BYTES = 2_000_000


def read_entries(asked_by: str, path: str | None, files: Files | None, entries: Iterable[str]) -> list[str]:
    """The different entries of all files at `path` and of the settings, in order; at least one."""
    found = list(entries)
    if path is not None:
        contents = (files or {}).get(path)
        if not contents:
            raise FactoryError(f"{asked_by}: there is no word list at '{path}'. Correct the path in the recipe.")
        for name, content in sorted(contents.items()):
            if len(content) > _MOST_BYTES:
                raise FactoryError(
                    f"{asked_by}: {name} has {len(content):,} bytes; a word list has {_MOST_BYTES:,} at most."
                )
            try:
                found += content.decode("utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise FactoryError(
                    f"{asked_by}: {name} is not UTF-8 ({error}). A word list has an entry a line."
                ) from error
    tidy = list(dict.fromkeys(entry for item in found if (entry := re.sub(r"\s+", " ", item).strip())))
    if not tidy:
        raise FactoryError(f"{asked_by}: the word list is empty. Name a file with an entry a line.")
    for entry in tidy:
        if len(entry) > _LONGEST:
            raise FactoryError(
                f"{asked_by}: an entry has {len(entry)} characters: '{entry[:40]}…'. An entry is a line of its own."
            )
    return tidy
