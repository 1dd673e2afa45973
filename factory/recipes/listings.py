"""Lists of paths (`warc.paths.gz`): which of their lines a source reads, chosen by hash so that a larger choice holds a smaller.

Common Crawl publishes, for each crawl, a list of paths below https://data.commoncrawl.org/ for every kind of file.
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any

import xxhash

from factory.core.errors import InputError
from factory.stages.sources.ranged import client, is_remote

COMMON_CRAWL = "https://data.commoncrawl.org/"
CRAWL = re.compile(r"CC-(?:MAIN|NEWS)-\d{4}(?:-\d{2,4}){0,2}")

# What the name of a snapshot may be made of.
PLACES = ("parent", "stem", "crawl", "dataset", "revision")

_DEFAULTS = {"common_crawl": "{crawl}", "huggingface": "{dataset}", "code": "{stem}"}
_ENDINGS = (".paths", ".paths.gz", ".paths.txt")
_MAX_LIST = 1 << 30
_MAX_PATH = 2_000


def is_list(uri: str) -> bool:
    return uri.lower().endswith(_ENDINGS)


def default_snapshot(use: str, own: Mapping[str, Any]) -> str:
    """The template of a source that gives none."""
    if "base" in own or is_list(own.get("uri", "")):
        return "{crawl}"
    return _DEFAULTS.get(use, "{parent}")


def listing_problems(own: Mapping[str, Any]) -> list[str]:
    """What is wrong with the settings of a source that say which lines of a list are read."""
    uri = own.get("uri", "")
    problems = []
    if is_list(uri) and "base" not in own and not uri.startswith(COMMON_CRAWL):
        problems.append(f"base: '{uri}' is a list of paths; say what they are below, as in base: {COMMON_CRAWL}")
    listed = is_list(uri) or "base" in own
    for key in ("every", "limit_files"):
        if key in own and own[key] < 1:
            problems.append(f"{key}: at least 1 (got {own[key]}).")
        elif key in own and not listed:
            problems.append(f"{key}: is for lists of paths (*.paths.gz, or with 'base'); '{uri}' is none. Remove it.")
    return problems


def read_list(uri: str) -> list[str]:
    """The lines of a list, plain or gzip, local, over HTTP or from any fsspec URL."""
    if is_remote(uri):
        data, _ = client().read_all(uri, _MAX_LIST)
    else:
        import fsspec

        try:
            with fsspec.open(uri, "rb") as stream:
                data = stream.read(_MAX_LIST + 1)
        except FileNotFoundError as error:
            raise InputError(f"{uri}: there is no such list of paths. Correct the uri.") from error
    if data.startswith(b"\x1f\x8b"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(_MAX_LIST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{uri}: the list of paths is damaged: {error}. Fetch it again.") from error
    if len(data) > _MAX_LIST:
        raise InputError(f"{uri}: a list of more than {_MAX_LIST:,} bytes. Split it, and name the pieces as sources.")
    try:
        lines = [line.strip() for line in data.decode().split("\n")]
    except UnicodeDecodeError as error:
        raise InputError(f"{uri}: not a list of paths (byte {error.start:,} is no UTF-8).") from error
    paths = [line for line in lines if line]
    for line in paths:
        if len(line) > _MAX_PATH or "://" in line or line.startswith("/") or ".." in line.split("/") or "\x00" in line:
            raise InputError(f"{uri}: '{line[:100]}' is no path below a base. One path a line is meant.")
    if not paths:
        raise InputError(f"{uri}: the list of paths is empty.")
    return paths


def choose(paths: list[str], *, every: int, limit: int | None) -> list[str]:
    """The chosen paths in order of their names: every n-th by hash, then the `limit` first by hash."""
    ranked = sorted({(xxhash.xxh3_64_intdigest(path.encode()), path) for path in paths})
    # The low bits choose, the order of the whole hash limits: neither depends on what else is in the list.
    chosen = [path for value, path in ranked if value % every == 0]
    return sorted(chosen[:limit])


def below(base: str, path: str, folder: str) -> str:
    """The address of a listed path; a local base is relative to the recipe."""
    if "://" in base:
        return f"{base.rstrip('/')}/{path}"
    return os.path.normpath(os.path.join(folder, base, path))


def crawl_of(path: str) -> str | None:
    """The label of the crawl that a path names, if it names one."""
    found = CRAWL.search(path)
    return found[0] if found else None
