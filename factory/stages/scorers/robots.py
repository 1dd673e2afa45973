"""What a site says about robots: robots.txt for given user agents, and the flags a page gives itself.

`records` names the robots.txt files of the crawl: JSON lines with `host` and `robots_txt`, or a WARC of robots.txt
responses (Common Crawl's `robotstxt` sets). They are read as RFC 9309 has it: the groups of an agent's product token, the
longest matching rule, allow before disallow. `allowed` says whether every agent of `agents` may fetch the page, `refused`
which may not; both are null where there is no record of the host: consent is not guessed. The flags are tokens of
`X-Robots-Tag` headers and `<meta name="robots">`, as the extractor keeps them in `meta` (`x_robots_tag`, `robots`); a header
meant for one named robot counts if it is among `agents`. `none` is noindex and nofollow. Without `meta` there are no flags.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.robots import MAX_ROBOTS_BYTES, Robots, parse_for
from factory.core.stage import BatchFunction, Files
from factory.stages.list_files import contents
from factory.stages.urls import find_host, parse

FLAGS = ("noindex", "nofollow", "noarchive", "nosnippet", "noai", "noimageai")
COLUMNS = {"allowed": pa.bool_(), "refused": pa.list_(pa.string()), **dict.fromkeys(FLAGS, pa.bool_())}

_KEPT_HOSTS = 4096  # whose rules stay parsed
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,60}):")
_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


class Settings(Config):
    records: str | dict[str, str] | None = None
    agents: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=("CCBot", "GPTBot", "Google-Extended", "ClaudeBot"), min_length=1, max_length=500
    )


def files(config: Settings) -> tuple[str, ...]:
    return (config.records,) if isinstance(config.records, str) else ()


@register("robots", version=1, reads=("url", "meta"), writes=COLUMNS, config=Settings, files=files)
def robots(config: Settings, files: Files | None = None) -> BatchFunction:
    records = dict(_records(config.records, files or {}))
    ready: dict[str, list[tuple[str, Robots]]] = {}
    names = frozenset(re.split(r"[/\s]", agent.strip(), maxsplit=1)[0].lower() for agent in config.agents)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for url, meta in zip(batch.column("url").to_pylist(), batch.column("meta").to_pylist(), strict=True):
            refused = _refused(url) if url else None
            columns["refused"].append(refused)
            columns["allowed"].append(None if refused is None else not refused)
            flags = page_flags(meta, names) if meta else None
            for name in FLAGS:
                columns[name].append(None if flags is None else name in flags)
        arrays = [pa.array(columns[name], kind) for name, kind in COLUMNS.items()]
        return pa.record_batch(arrays, schema=pa.schema(COLUMNS))

    def _refused(url: str) -> list[str] | None:
        # As it was asked for: parameters that only track are part of what a rule may forbid.
        address = parse(url, (), sort=False)
        if address is None or address.host.name not in records:
            return None
        host = address.host.name
        if host not in ready:
            if len(ready) >= _KEPT_HOSTS:
                ready.clear()
            ready[host] = list(zip(config.agents, parse_for(records[host], config.agents), strict=True))
        slash = "/" if url.partition("?")[0].partition("#")[0].endswith("/") and address.path != "/" else ""
        path = f"{address.path}{slash}" + (f"?{address.query}" if address.query else "")
        return [agent for agent, rules in ready[host] if not rules.allows(path)]

    return score


def page_flags(meta: str, agents: frozenset[str]) -> frozenset[str] | None:
    """The tokens a page's header and tag give, in small letters; None where `meta` is no JSON object."""
    try:
        known = json.loads(meta)
    except ValueError:
        return None
    if not isinstance(known, dict):
        return None
    tokens: set[str] = set()
    for name in ("robots", "x_robots_tag"):
        value = known.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                tokens.update(_tokens(text[:8192], agents))
    if "none" in tokens:
        tokens.update(("noindex", "nofollow"))
    return frozenset(tokens)


def _tokens(text: str, agents: frozenset[str]) -> Iterator[str]:
    meant = True  # until a robot is named for which the following tokens are
    for item in text.lower().split(","):
        token = item.strip()
        named = _NAMED.match(token)
        if named is not None and named[1] not in _VALUED:
            meant = named[1] in agents
            token = token[named.end() :].strip()
        if meant:
            yield token


def _records(records: str | dict[str, str] | None, files: Files) -> Iterator[tuple[str, bytes]]:
    """Hosts in normal form and their robots.txt; of several records of a host the last counts."""
    if records is None:
        return
    if isinstance(records, dict):
        found = ((host, text.encode()) for host, text in records.items())
    else:
        found = (
            record
            for name, content in sorted(_unpacked(records, files).items())
            for record in (_of_warc(content) if _is_warc(name) else _of_lines(name, content))
        )
    for name, content in found:
        host = find_host(name)
        if host is not None:
            yield host.name, content


def _unpacked(records: str, files: Files) -> dict[str, bytes]:
    """The content of each file; archives stay packed, as their records are."""
    given = files.get(records, {})
    archives = {name: content for name, content in given.items() if _is_warc(name)}
    others = {name: content for name, content in given.items() if name not in archives}
    return {**archives, **contents(records, {records: others} if given else {})}


def _is_warc(name: str) -> bool:
    return re.search(r"\.warc(\.gz|\.zst)?$", name) is not None


def _of_lines(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            host, text = record["host"], record["robots_txt"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{name}, line {number}: `host` and `robots_txt` are meant ({error}).") from error
        if isinstance(host, str) and isinstance(text, str):
            yield host, text.encode()


def _of_warc(content: bytes) -> Iterator[tuple[str, bytes]]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    for record in ArchiveIterator(io.BytesIO(content), record_types=WarcRecordType.response, parse_http=True):
        address = parse(record.headers.get("WARC-Target-URI") or "")
        if address is None or record.http_headers is None or record.http_headers.status_code != 200:
            continue
        if address.path == "/robots.txt":
            yield address.host.name, record.reader.read(MAX_ROBOTS_BYTES)
