"""Which files a data set of a hub means: a folder or repository in, the data files of one config and split out.

The card (README.md) says it in its YAML head, under `configs` and `data_files`; without that, a file belongs to the split
its path names (train, validation, test), else to `train`. A repository is read at a commit: a branch or tag is looked up
when the files are found, and the commit is what is pinned and recorded.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import xxhash

from factory.core.errors import InputError, suggest
from factory.core.stage import InputFile, Pin
from factory.stages.sources.front_matter import scalar, split_front_matter
from factory.stages.sources.ranged import client, is_remote

HUB = "https://huggingface.co"
ENDINGS = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json")
PACKINGS = (".gz", ".zst", ".zstd")

_MAX_CARD = 4 << 20
_MAX_FRONT = 1 << 20
_MAX_LISTING = 256 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NEXT = re.compile(r'<([^<>]{1,2000})>;\s*rel="next"')
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


class Repository(NamedTuple):
    """A data set: its name, the revision it is read at, its card, and its files with size and content hash or place."""

    name: str
    revision: str | None
    card: str
    files: Mapping[str, tuple[str, int, str | None]]  # path to address, size, content hash


def find_dataset(
    uri: str, pin: Pin, *, revision: str | None, config: str | None, split: str | None
) -> Iterator[tuple[InputFile, dict[str, str]]]:
    """The data files of a config and split, each with what is known of it."""
    repository, under = _open(uri, revision)
    front, _ = split_front_matter(repository.card, _MAX_FRONT)
    data = sorted(path for path in repository.files if _is_data(path) and f"{path}/".startswith(under))
    if not data:
        kinds = sorted({path.rsplit(".", 1)[-1] for path in repository.files if "." in path})[:12]
        raise InputError(
            f"{uri}: no .parquet, .jsonl or .arrow file lies there. Endings that do: {', '.join(kinds) or 'none'}."
        )
    named, splits = _config(uri, front, data, config)
    wanted = _split(uri, splits, split)
    license_ = scalar(front.get("license"))
    facts = {
        key: value
        for key, value in {
            "dataset": repository.name,
            "revision": repository.revision,
            "config": named,
            "license": None if license_ in (None, "unknown", "other") else license_,
        }.items()
        if value
    }
    place = {"dataset": repository.name.rsplit("/", 1)[-1], "revision": (repository.revision or "")[:12] or "none"}
    for name, paths in wanted.items():
        for path in paths:
            address, size, content = repository.files[path]
            file = InputFile(address, path, size, content) if content else pin(address, path)
            said = json.dumps({**facts, "split": name}, sort_keys=True)
            identity = xxhash.xxh3_128_hexdigest(f"{file.identity}\x1f{said}".encode())
            yield InputFile(file.uri, path, file.size, identity, said, file.modified), place


def _is_data(path: str) -> bool:
    name = path.lower()
    for packing in PACKINGS:
        name = name.removesuffix(packing)
    hidden = any(piece.startswith((".", "_")) for piece in path.split("/"))
    described = name.rsplit("/", 1)[-1] in (
        "dataset_info.json",
        "dataset_dict.json",
        "dataset_infos.json",
        "state.json",
    )
    return name.endswith(ENDINGS) and not hidden and not described


# A repository: a folder, or on a hub


def _open(uri: str, revision: str | None) -> tuple[Repository, str]:
    """The repository, and the folder or file in it that is meant (with a slash behind), or nothing."""
    if uri.startswith("hf://"):
        return _hub(uri, HUB, uri.removeprefix("hf://"), revision)
    if is_remote(uri):
        parts = urlsplit(uri)
        return _hub(uri, f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/"), revision)
    if "://" in uri:
        raise InputError(
            f"{uri}: a folder, hf://datasets/owner/name@revision or https://huggingface.co/datasets/owner/name is meant."
        )
    return _folder(uri, revision), ""


def _folder(path: str, revision: str | None) -> Repository:
    if not os.path.isdir(path):
        raise InputError(
            f"{path}: there is no such folder. Name the folder of a data set, or hf://datasets/owner/name@revision."
        )
    files = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            full = os.path.join(folder, name)
            if not name.startswith(".") and os.path.exists(full):
                files[os.path.relpath(full, path).replace(os.sep, "/")] = (full, os.path.getsize(full), None)
    card = ""
    if "README.md" in files:
        with open(os.path.join(path, "README.md"), encoding="utf-8", errors="replace") as stream:
            card = stream.read(_MAX_CARD)
    # A folder of the hub's own cache says where it comes from: datasets--owner--name/snapshots/<commit>.
    cached = re.search(r"datasets--([^/]{1,200})/snapshots/([0-9a-f]{40})", os.path.abspath(path).replace(os.sep, "/"))
    if cached:
        return Repository(cached[1].replace("--", "/"), cached[2], card, files)
    return Repository(os.path.basename(os.path.abspath(path)), revision, card, files)


def _hub(uri: str, endpoint: str, path: str, revision: str | None) -> tuple[Repository, str]:
    pieces = [piece for piece in path.split("/") if piece]
    if len(pieces) < 2 or pieces[0] != "datasets":
        raise InputError(f"{uri}: no data set is named. hf://datasets/owner/name@revision is meant.")
    pieces = pieces[1:]
    owner_only = "@" in pieces[0] or len(pieces) == 1
    name = "/".join(pieces[: 1 if owner_only else 2])
    rest = pieces[1 if owner_only else 2 :]
    name, _, given = name.partition("@")
    if rest[:1] in (["tree"], ["resolve"], ["blob"]) and len(rest) > 1:
        given, rest = rest[1], rest[2:]
    asked = given.replace("%2F", "/") or revision or ""
    if not all(_NAME.fullmatch(piece) for piece in name.split("/")):
        raise InputError(f"{uri}: '{name}' is no name of a data set; owner/name is meant.")
    base = f"{endpoint}/api/datasets/{name}"
    commit = asked if _COMMIT.fullmatch(asked) else _commit(f"{base}/revision/{quote(asked or 'main', safe='')}")
    if not asked:
        raise InputError(
            f"{uri}: say which revision is meant: '@{commit}' is main now. A branch (@main) is looked up at every plan and "
            "its commit recorded; without either, the data could change unseen."
        )
    files = dict(_tree(endpoint, name, commit))
    card = ""
    if "README.md" in files:
        card = client().read_all(files["README.md"][0], _MAX_CARD)[0].decode("utf-8", "replace")
    return Repository(name, commit, card, files), "".join(f"{piece}/" for piece in rest)


def _commit(url: str) -> str:
    said = _parsed(url, client().read_all(url, _MAX_LISTING)[0])
    sha = said.get("sha") if isinstance(said, dict) else None
    if not isinstance(sha, str) or not _COMMIT.fullmatch(sha):
        raise InputError(f"{url}: the hub names no commit. Is this a hub's address?")
    return sha


def _tree(endpoint: str, name: str, commit: str) -> Iterator[tuple[str, tuple[str, int, str | None]]]:
    url = f"{endpoint}/api/datasets/{name}/tree/{commit}?recursive=true"
    for _ in range(10_000):
        data, headers = client().read_all(url, _MAX_LISTING)
        for entry in _parsed(url, data):
            if isinstance(entry, dict) and entry.get("type") == "file" and isinstance(entry.get("path"), str):
                large = entry.get("lfs") if isinstance(entry.get("lfs"), dict) else {}
                content = (large or {}).get("oid") or entry.get("oid")
                path, size = entry["path"], entry.get("size")
                if ".." in path.split("/") or not isinstance(size, int) or not content:
                    raise InputError(f"{url}: the hub lists '{path[:100]}' without a usable size and hash.")
                yield path, (f"{endpoint}/datasets/{name}/resolve/{commit}/{quote(path)}", size, str(content))
        following = _NEXT.search(headers.get("link", ""))
        if following is None:
            return
        url = urljoin(url, following[1])
        if urlsplit(url).netloc != urlsplit(endpoint).netloc:
            raise InputError(f"{url}: the list of files goes on at another host.")


def _parsed(url: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url}: the hub answers something else than JSON. Is this a hub's address?") from error


# Configs and splits


def _config(
    uri: str, front: Mapping[str, Any], data: list[str], asked: str | None
) -> tuple[str, Mapping[str, list[str]]]:
    """The name of the config and its splits with their files."""
    stated = front.get("configs")
    configs = {
        str(item["config_name"]): item
        for item in (stated if isinstance(stated, list) else ())
        if isinstance(item, Mapping) and isinstance(item.get("config_name"), str)
    }
    if not configs:
        if asked not in (None, "default"):
            raise InputError(f"{uri}: the card names no configs, so there is only 'default'. Remove `config: {asked}`.")
        return "default", _by_names(data)
    default = next((name for name, item in configs.items() if item.get("default") is True), None)
    name = (
        asked or default or ("default" if "default" in configs else next(iter(configs)) if len(configs) == 1 else None)
    )
    if name is None:
        raise InputError(f"{uri}: several configs: {', '.join(configs)}. Choose one with `config:`.")
    if name not in configs:
        raise InputError(f"{uri}: no config is named '{name}'.{suggest(name, configs)}")
    return name, _stated(uri, name, configs[name], data)


def _stated(uri: str, name: str, item: Mapping[str, Any], data: list[str]) -> Mapping[str, list[str]]:
    folder = str(item.get("data_dir") or "").strip("/")
    within = [path for path in data if not folder or path.startswith(f"{folder}/")]
    stated = item.get("data_files")
    if stated is None:
        return _by_names(within)
    entries = stated if isinstance(stated, list) else [stated]
    splits: dict[str, list[str]] = {}
    for entry in entries:
        split, patterns = ("train", entry) if isinstance(entry, str) else (None, None)
        if isinstance(entry, Mapping):
            split, patterns = str(entry.get("split") or "train"), entry.get("path")
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if not isinstance(pattern, str) or split is None:
                raise InputError(f"{uri}: the card's data_files of config '{name}' cannot be read: {str(entry)[:100]}.")
            whole = f"{folder}/{pattern}" if folder else pattern
            matched = [path for path in data if _glob(whole).fullmatch(path)]
            splits.setdefault(split, []).extend(path for path in matched if path not in splits.get(split, ()))
    return splits


def _by_names(data: list[str]) -> Mapping[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for path in data:
        words = set(re.split(r"[^a-z]+", path.lower()))
        split = next((name for name, known in _SPLITS.items() if words & set(known)), "train")
        splits.setdefault(split, []).append(path)
    return splits


def _split(uri: str, splits: Mapping[str, list[str]], asked: str | None) -> Mapping[str, list[str]]:
    if asked is None:
        return splits
    if not splits.get(asked):
        there = {name: paths for name, paths in splits.items() if paths}
        raise InputError(f"{uri}: no file belongs to split '{asked}'.{suggest(asked, there)} `split: null` takes all.")
    return {asked: splits[asked]}


def _glob(pattern: str) -> re.Pattern[str]:
    """The paths a card's pattern means: `**` crosses folders, `*` and `?` do not."""
    steps = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]{1,50}\])", pattern[:500])
    return re.compile(
        "".join(steps.get(piece) or (piece if piece.startswith("[") else re.escape(piece)) for piece in pieces)
    )
