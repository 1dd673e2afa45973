"""Files a recipe names beside its sources: references, evaluation tasks, lists of stages. Pinned by content, read as they are."""

import gzip
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow.parquet as pq
import xxhash
import zstandard

from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.stage import Files, Paths, Stage

TOKENIZER, TOKENIZER_NAMES = "tokenizer.json", "tokenizer_config.json"
MAX_TEXT = 1_000_000
MAX_LIST_BYTES = 1 << 30


def matching_files(uri: str, folder: str) -> list[str]:
    """The files a path, glob or folder means, as full names; raises InputError when there are none."""
    pattern = uri if "://" in uri else os.path.normpath(os.path.join(folder, uri))
    fs, path = fsspec.core.url_to_fs(pattern)
    found = fs.glob(path) if any(char in path for char in "*?[") else fs.find(path) if fs.isdir(path) else [path]
    files = sorted(name for name in found if fs.isfile(name))
    if not files:
        raise InputError(f"nothing matches '{uri}' (below {folder}). Correct the path.")
    return [fs.unstrip_protocol(name) if "://" in uri else name for name in files]


def pin_files(uris: Iterable[str], folder: str) -> dict[str, str]:
    """Name and content hash of each file these mean: where the folder lies makes no difference."""
    found = {name for uri in uris for name in matching_files(uri, folder)}
    pinned = {}
    for short, name in sorted(_told_apart(found).items()):
        with open_file(name) as stream:
            pinned[f"file:{short}"] = xxhash.xxh3_128_hexdigest(stream.read())
    return pinned


def pin_stage(stage: Stage, config: Config, folder: str) -> dict[str, dict[str, str]]:
    """Name below its path, and content hash, of each file a stage's settings name, by the path as it is written there."""
    small = {
        uri: {name: _hash(_read_list(file)) for name, file in _named(uri, folder).items()}
        for uri in stage.files_for(config)
    }
    large = {
        uri: {name: check_sha256(file, None) for name, file in _named(uri, folder).items()}
        for uri in stage.paths_for(config)
    }
    return {**small, **large}


def problems_of(stage: Stage, config: Config, folder: str) -> list[str]:
    """What is wrong with the files a stage's settings name, those that are there."""
    if stage.check is None:
        return []
    files: dict[str, dict[str, bytes]] = {}
    for uri in stage.files_for(config):
        try:
            files[uri] = {name: _read_list(file) for name, file in _named(uri, folder).items()}
        except InputError:
            continue
    return list(stage.check(config, files))


def pinned_paths(stage: Stage, config: Config, *, pinned: Mapping[str, Mapping[str, str]], folder: str) -> Paths:
    """Where the files lie that a stage reads in place; raises InputError when one is not what was pinned."""
    found = {uri: _named(uri, folder) for uri in stage.paths_for(config)}
    for uri, names in found.items():
        if {name: check_sha256(file, None) for name, file in names.items()} != pinned.get(uri):
            raise InputError(f"{stage.name}: a file of '{uri}' changed while the recipe ran. Run it again.")
    return {uri: tuple(sorted(names.values())) for uri, names in found.items()}


def make_stage(stage: Stage, config: Config, *made: Any, pinned: Mapping[str, Mapping[str, str]], folder: str) -> Any:
    """`stage.make`, with the content of the files it asks for; raises InputError when one is not what was pinned."""
    large: dict[str, Any] = {}
    if stage.paths is not None:
        large["paths"] = pinned_paths(stage, config, pinned=pinned, folder=folder)
    if stage.files is None:
        return stage.make(config, *made, **large)
    files: dict[str, dict[str, bytes]] = {}
    for uri in stage.files_for(config):
        found, names = _named(uri, folder), pinned[uri]
        files[uri] = {}
        for name, digest in names.items():
            content = _read_list(found[name]) if name in found else b""
            if _hash(content) != digest:
                raise InputError(f"{stage.name}: '{name}' of '{uri}' changed while the recipe ran. Run it again.")
            files[uri][name] = content
    read: Files = files
    return stage.make(config, *made, files=read, **large)


def _named(uri: str, folder: str) -> dict[str, str]:
    """The files a path, glob or folder means, by what tells them from each other: where they lie makes no difference."""
    return _told_apart(matching_files(uri, folder))


def _told_apart(names: Iterable[str]) -> dict[str, str]:
    """Full names by what is below the folder they have in common: two files of one name in two folders are two."""
    found = {tuple(name.split("/")): name for name in names}
    shared = 0
    while len({parts[: shared + 1] for parts in found}) == 1 and all(len(parts) > shared + 1 for parts in found):
        shared += 1
    return {"/".join(parts[shared:]): name for parts, name in found.items()}


def _read_list(name: str) -> bytes:
    with open_file(name) as stream:
        content = stream.read(MAX_LIST_BYTES + 1)
    if len(content) > MAX_LIST_BYTES:
        raise InputError(f"{name}: larger than {MAX_LIST_BYTES:,} bytes; split it.")
    return content


def content_hash(name: str) -> str:
    """What pins a file: its full name to the hash of its content."""
    return _hash(_read_list(name))


def _hash(content: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(content)


def pin_model(uri: str, sha256: str | None, folder: str) -> dict[str, str]:
    """What pins a ready model: its sha256. A URL must come with one; a local file's is computed, and compared if given."""
    if "://" in uri:
        if sha256 is None:
            raise InputError(f"model '{uri}': a model from a URL must be pinned; give its sha256.")
        return {"sha256": sha256}
    return {"sha256": check_sha256(os.path.join(folder, uri), sha256)}


def pin_tokenizer(path: str, sha256: str | None, folder: str) -> dict[str, str]:
    """What pins a ready tokenizer: its tokenizer.json, and the file beside it that names its special tokens, if any."""
    whole = os.path.join(folder, path)
    if "://" in path or not os.path.isdir(whole):
        return pin_model(path, sha256, folder)
    if not os.path.isfile(os.path.join(whole, TOKENIZER)):
        held = ", ".join(sorted(os.listdir(whole))[:10]) or "nothing"
        raise InputError(
            f"tokenizer '{path}': the folder has no {TOKENIZER} (found: {held}). Save it with the transformers library: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
        )
    pinned = pin_model(os.path.join(path, TOKENIZER), sha256, folder)
    if os.path.isfile(os.path.join(whole, TOKENIZER_NAMES)):
        pinned["names"] = check_sha256(os.path.join(whole, TOKENIZER_NAMES), None)
    return pinned


def check_sha256(name: str, sha256: str | None) -> str:
    """The sha256 of a local file; raises InputError when it is missing or not the expected one."""
    try:
        seen = os.stat(name)
        found = _sha256(name, seen.st_size, seen.st_mtime_ns)
    except OSError as error:
        raise InputError(f"model '{name}': {error.strerror}. Correct the path in the recipe.") from error
    if sha256 is not None and found != sha256:
        raise InputError(
            f"model '{name}': sha256 is {found}, the recipe says {sha256}. It is not the model that was meant."
        )
    return found


@lru_cache(maxsize=64)
def _sha256(name: str, size: int, modified: int) -> str:
    """Of a file as it was at that time: models are large, and asked for by every plan."""
    with open(name, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_file(uri: str) -> BinaryIO:
    """The stored bytes of a file."""
    return cast(BinaryIO, fsspec.open(uri, "rb").open())


def read_texts(uri: str, folder: str, text: str = "text") -> Iterator[str]:
    """Texts of reference documents: a JSONL record's or Parquet row's `text`, or a whole text file."""
    return (record[0] for record in read_records(uri, folder, (text,)))


def read_records(uri: str, folder: str, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The same with further columns of each record; "" is null there. Records without the first are left out."""
    for name in matching_files(uri, folder):
        with open_file(name) as stream:
            yield from _records(name, stream, columns)


def _records(name: str, stream: BinaryIO, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    stem = name.removesuffix(".gz").removesuffix(".zst")
    if stem.endswith(".parquet"):
        table = pq.ParquetFile(stream)
        missing = [column for column in columns if column not in table.schema_arrow.names]
        if missing:
            raise InputError(f"{name}: no column '{missing[0]}'; it has {', '.join(table.schema_arrow.names)}.")
        for batch in table.iter_batches(columns=list(columns)):
            rows = zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
            yield from (_cut(row) for row in rows if row[0])
        return
    if name.endswith(".gz"):
        plain: io.BufferedIOBase = gzip.GzipFile(fileobj=stream)
    elif name.endswith(".zst"):
        plain = io.BufferedReader(cast(io.RawIOBase, zstandard.ZstdDecompressor().stream_reader(stream)))
    else:
        plain = cast(io.BufferedIOBase, stream)
    if not stem.endswith((".jsonl", ".ndjson", ".json")):
        if len(columns) > 1:
            raise InputError(f"{name}: a text file has no '{columns[1]}'. Give JSONL or Parquet.")
        yield (plain.read(MAX_TEXT).decode("utf-8", "replace"),)
        return
    for number, line in enumerate(plain, 1):
        column, values = columns[0], []
        try:
            record = json.loads(line)
            for column in columns:
                values.append(record[column])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{name}, line {number}: no text under '{column}' ({error}). References must be sound."
            ) from error
        if isinstance(values[0], str) and values[0]:
            yield _cut(values)


def _cut(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(value[:MAX_TEXT] if isinstance(value, str) else "" for value in values)
