"""A breadth-first crawl: HTTP in, a snapshot folder of WARC files out, whole or not at all.

Polite: robots.txt is obeyed, each host has its own gap between requests and its own limit of requests under way. Bounded:
pages, bytes, seconds, redirects, links. Safe: every connection goes to an address that was checked to be public, unless
`resolve` names it. Levels are fetched in slices and written in the order of discovery, so what is stored depends on what the
sites answered and not on how fast they did. Every address that was found in scope has one outcome in `crawl.json`.
"""

import asyncio
import json
import os
import re
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from html import unescape
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import h11
from pydantic import Field, field_validator

from factory import __version__
from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.fingerprint import fingerprint
from factory.core.robots import ALLOW_ALL, MAX_ROBOTS_BYTES, Robots, keep_out, parse_robots
from factory.crawl.network import Network, RefusedAddress, Response, matches
from factory.crawl.warc_writer import Header, WarcWriter

Progress = Callable[[int, int | None, str], None]

USER_AGENT = f"corpus-factory/{__version__} (builds text corpora; obeys robots.txt)"
SUMMARY = "crawl.json"
SLICE = 256
MAX_URL = 2000

_LINK = re.compile(
    rb"""<(?:a|area)\s[^<>]{0,2000}?\bhref\s*=\s*(?:"([^"]{1,2000})"|'([^']{1,2000})'|([^\s>"']{1,2000}))""", re.I
)
_BASE = re.compile(rb"""<base\s[^<>]{0,2000}?\bhref\s*=\s*["']?([^"'\s>]{1,2000})""", re.I)
_META_ROBOTS = re.compile(rb"""<meta\s[^<>]{0,500}?name\s*=\s*["']?robots["'\s][^<>]{0,500}>""", re.I)
_HTML = re.compile(rb"\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
# Headers that say how the bytes travelled, or differ from one request to the next; cookies are nobody's business.
_VOLATILE = {"date", "age", "connection", "keep-alive", "set-cookie", "set-cookie2", "proxy-connection"}
_WORTH_ANOTHER_TRY = {"timeout", "unreachable", "bad_http", "http_429", "http_502", "http_503", "http_504"}
_CODING = {"content-encoding", "transfer-encoding", "content-length"}


class CrawlConfig(Config):
    """What to crawl. `resolve` maps a host, or `.suffix` for all below it, to `address:port`: the only way to loopback."""

    seeds: tuple[str, ...] = Field(min_length=1)
    snapshot: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    hosts: tuple[str, ...] = ()  # exact, or `.suffix`; empty: the hosts of the seeds
    resolve: dict[str, str] = Field(default_factory=dict)
    user_agent: str = USER_AGENT
    max_pages: int = Field(default=10_000, ge=1)
    max_page_bytes: int = Field(default=5_000_000, ge=1)
    max_bytes: int = Field(default=2_000_000_000, ge=1)
    max_seconds: float = Field(default=3600.0, gt=0)
    max_redirects: int = Field(default=5, ge=0, le=20)
    max_links: int = Field(default=5000, ge=0)  # taken from one page
    concurrency: int = Field(default=16, ge=1, le=256)
    host_concurrency: int = Field(default=2, ge=1, le=64)
    delay: float = Field(default=1.0, ge=0)  # seconds between two requests to a host; a longer Crawl-delay wins
    timeout: float = Field(default=30.0, gt=0)  # for one request, from connecting to the last byte
    attempts: int = Field(default=2, ge=1, le=10)
    compressed: bool = True  # ask for gzip
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml", "text/plain")
    file_bytes: int = Field(default=500_000_000, ge=1)
    date: datetime | None = None  # written as WARC-Date; none: the time of the crawl

    @field_validator("seeds")
    @classmethod
    def _seeds_are_urls(cls, seeds: tuple[str, ...]) -> tuple[str, ...]:
        for seed in seeds:
            if normalise_url(seed) is None:
                raise ValueError(f"'{seed}' is not an address to crawl: http:// or https://, a host, no password")
        return seeds


def crawl(config: CrawlConfig, directory: str, progress: Progress | None = None) -> dict[str, Any]:
    """Crawl into `<directory>/<snapshot>/` and return its `crawl.json`; a snapshot that is there already is only read.

    Raises InputError where the snapshot there was made with other settings.
    """
    target = os.path.join(directory, config.snapshot)
    # Where the bytes come from and how fast is not what was asked: the port of a test server changes, the pages do not.
    asked = fingerprint(config.model_dump(mode="json", exclude={"resolve", "concurrency", "host_concurrency", "delay"}))
    if os.path.exists(target):
        return _read_summary(target, asked)
    os.makedirs(directory, exist_ok=True)
    _remove_leftovers(directory, config.snapshot)
    partial = os.path.join(directory, f".tmp-{config.snapshot}-{os.getpid()}")
    os.mkdir(partial)
    try:
        summary = asyncio.run(_Crawl(config, partial, progress or _silent).run())
        summary = {"snapshot": config.snapshot, "settings": asked, **summary}
        with open(os.path.join(partial, SUMMARY), "w", encoding="utf-8") as stream:
            json.dump(summary, stream, indent=1, sort_keys=True)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return summary


def _read_summary(target: str, asked: str) -> dict[str, Any]:
    try:
        with open(os.path.join(target, SUMMARY), encoding="utf-8") as stream:
            summary: dict[str, Any] = json.load(stream)
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{target} exists but is no crawl of ours ({SUMMARY}: {problem}). Name another snapshot, or move it away."
        ) from problem
    if summary.get("settings") != asked:
        raise InputError(
            f"{target} holds a crawl made with other settings. Name another snapshot, or remove that folder to crawl anew."
        )
    return summary


def _remove_leftovers(directory: str, snapshot: str) -> None:
    pattern = re.compile(rf"\.tmp-{re.escape(snapshot)}-(\d+)")
    for name in os.listdir(directory):
        found = pattern.fullmatch(name)
        if found and not _is_alive(int(found[1])):
            shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()  # our own number on a leftover: the number was used again


def _silent(done: int, total: int | None, what: str) -> None:
    pass


# Addresses


@lru_cache(maxsize=1 << 17)
def normalise_url(url: str, base: str = "") -> str | None:
    """One spelling for an address: lower-case host, no default port, no fragment, encoded path; None if not for a crawler."""
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = host.encode("idna").decode() if not host.isascii() else host
    except (ValueError, UnicodeError):
        return None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or len(url) > MAX_URL:
        return None
    if not re.fullmatch(r"[a-z0-9._:-]{1,253}", host):
        return None
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        netloc = f"{netloc}:{port}"
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/"
    return urlunsplit((parts.scheme, netloc, path, quote(parts.query, safe="/%:@!$&'()*+,;=~-._?"), ""))


def find_links(body: bytes, url: str, limit: int) -> Iterator[str]:
    """Normalised addresses of the links of a page, in order, each once; `limit` bounds how many are looked at."""
    base = url
    declared = _BASE.search(body, 0, 16384)
    if declared:
        base = normalise_url(unescape(declared[1].decode("utf-8", "replace")), url) or url
    folder = base.split("?", 1)[0].rsplit("/", 1)[0] + "/"  # the links of a whole folder share one cached look-up
    raw = (found[1] or found[2] or found[3] for found in _LINK.finditer(body))
    seen: set[bytes] = set()
    for href in raw:
        if href in seen:
            continue
        if len(seen) >= limit:
            return
        seen.add(href)
        if href.startswith(b"#"):
            continue
        link = normalise_url(unescape(href.decode("utf-8", "replace")), base if href.startswith(b"?") else folder)
        if link:
            yield link


# The crawl


@dataclass
class _Fetched:
    """What became of an address: `outcome` is "stored" for a page worth keeping, else why it is not."""

    url: str
    outcome: str
    status: str = ""
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    kind: str = ""
    address: str = ""
    redirected: bool = False


class _Host:
    """The manners towards one host."""

    def __init__(self, limit: int, delay: float) -> None:
        self.gate = asyncio.Semaphore(limit)
        self.delay = delay
        self.free_at = 0.0
        self.robots: asyncio.Task[Robots] | None = None

    async def wait(self) -> None:
        now = time.monotonic()
        start = max(now, self.free_at)
        self.free_at = start + self.delay
        if start > now:
            await asyncio.sleep(start - now)


class _Crawl:
    def __init__(self, config: CrawlConfig, directory: str, progress: Progress) -> None:
        self.config = config
        self.directory = directory
        self.progress = progress
        seeds = [normalise_url(seed) for seed in config.seeds]
        self.seeds = list(dict.fromkeys(seed for seed in seeds if seed is not None))
        self.scope = config.hosts or tuple({urlsplit(seed).hostname or "" for seed in self.seeds})
        self.outcomes: Counter[str] = Counter()
        self.bytes = 0
        self.off_scope = 0
        self.redirects = 0
        self.stopped: str | None = None
        self.hosts: dict[str, _Host] = {}
        self.network = Network(config.resolve)
        self.open = asyncio.Semaphore(config.concurrency)

    async def run(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.config.max_seconds
        started = self._date()
        info = [
            ("software", f"corpus-factory/{__version__}"),
            ("format", "WARC File Format 1.1"),
            ("conformsTo", "https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"),
            ("isPartOf", self.config.snapshot),
            ("robots", "obey"),
            ("http-header-user-agent", self.config.user_agent),
        ]
        writer = WarcWriter(
            self.directory, self.config.snapshot, file_bytes=self.config.file_bytes, info=info, date=started
        )
        seen = dict.fromkeys(self.seeds)
        level, depth = self.seeds, 0
        with closing(self.network), writer:
            while level and self.stopped is None:
                level = await self._run_level(_take_turns(level), seen, writer, deadline)
                depth += 1
        # What was found but not asked for, because a limit was reached, is counted too: nothing disappears.
        left = len(seen) - self.outcomes.total()
        return {
            "pages": self.outcomes["stored"],
            "bytes": self.bytes,
            "found": len(seen),
            "outcomes": dict(sorted(self.outcomes.items())),
            "left": left,
            "off_scope_links": self.off_scope,
            "redirects": self.redirects,
            "levels": depth,
            "hosts": len(self.hosts),
            "stopped": self.stopped,
            "files": writer.files,
        }

    async def _run_level(
        self, level: list[str], seen: dict[str, None], writer: WarcWriter, deadline: float
    ) -> list[str]:
        found: list[str] = []
        position = 0
        while position < len(level) and self.stopped is None:
            room = min(SLICE, self.config.max_pages - self.outcomes["stored"])
            slice_ = level[position : position + room]
            position += len(slice_)
            for page in await self._fetch_slice(slice_, deadline):
                if page.redirected:
                    self.redirects += 1
                    if page.outcome == "stored" and page.url in seen:
                        page.outcome = "redirect_to_known"
                    elif page.outcome == "stored":
                        seen[page.url] = None
                        self.outcomes["redirect"] += 1
                if self.stopped is None:
                    self._keep(page, seen, found, writer)
            if self.stopped is None and time.monotonic() > deadline:
                self.stopped = "max_seconds"
            self.progress(self.outcomes["stored"], None, f"crawling {self.config.snapshot}")
        return found

    async def _fetch_slice(self, urls: list[str], deadline: float) -> list[_Fetched]:
        tasks = [asyncio.create_task(self._fetch(url)) for url in urls]
        _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()))
        for task in late:
            task.cancel()
        if late:
            self.stopped = "max_seconds"
            await asyncio.gather(*late, return_exceptions=True)
            return []  # a slice is kept whole or not at all
        return [task.result() for task in tasks]

    def _keep(self, page: _Fetched, seen: dict[str, None], found: list[str], writer: WarcWriter) -> None:
        if page.outcome == "stored":
            if self.bytes + len(page.body) > self.config.max_bytes:
                self.stopped = "max_bytes"
                return
            self.bytes += len(page.body)
            writer.write_response(
                url=page.url,
                date=self._date(),
                status=page.status,
                headers=page.headers,
                body=page.body,
                kind=page.kind,
                address=page.address,
            )
            for link in self._links(page):
                if link not in seen:
                    seen[link] = None
                    found.append(link)
        self.outcomes[page.outcome] += 1
        if self.outcomes["stored"] >= self.config.max_pages:
            self.stopped = "max_pages"

    def _links(self, page: _Fetched) -> Iterator[str]:
        if page.kind not in ("text/html", "application/xhtml+xml") or "nofollow" in _directives(page):
            return
        for link in find_links(page.body, page.url, self.config.max_links):
            if self._in_scope(link):
                yield link
            else:
                self.off_scope += 1

    def _in_scope(self, url: str) -> bool:
        return matches(_hostname(url), self.scope)

    async def _fetch(self, url: str) -> _Fetched:
        asked = url
        for _ in range(self.config.max_redirects + 1):
            host = self._host(url)
            parts = urlsplit(url)
            robots = await self._robots(host, url)
            if not robots.allows(parts.path + (f"?{parts.query}" if parts.query else "")):
                return _Fetched(asked, robots.refusal)
            page = await self._attempt(host, url)
            if page.outcome != "redirected":
                page.redirected = url != asked
                if page.outcome != "stored":
                    page.url = asked
                elif "noarchive" in _directives(page):
                    return _Fetched(asked, "noarchive")
                return page
            target = normalise_url(dict(page.headers).get("location", ""), url)
            if target is None:
                return _Fetched(asked, "bad_redirect")
            if not self._in_scope(target):
                return _Fetched(asked, "redirect_off_scope")
            url = target
        return _Fetched(asked, "too_many_redirects")

    def _host(self, url: str) -> _Host:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self.hosts:
            self.hosts[origin] = _Host(self.config.host_concurrency, self.config.delay)
        return self.hosts[origin]

    async def _robots(self, host: _Host, url: str) -> Robots:
        if host.robots is None:
            host.robots = asyncio.create_task(self._read_robots(host, urljoin(url, "/robots.txt")))
        robots = await asyncio.shield(host.robots)
        host.delay = max(self.config.delay, robots.crawl_delay)
        return robots

    async def _read_robots(self, host: _Host, url: str) -> Robots:
        # RFC 9309 section 2.3.1: follow five redirects; 4xx means no rules, an unreachable file means keep out.
        for _ in range(6):
            page = await self._attempt(host, url, limit=MAX_ROBOTS_BYTES, any_type=True)
            if page.outcome == "redirected":
                target = normalise_url(dict(page.headers).get("location", ""), url)
                if target is None:
                    return ALLOW_ALL
                url, host = target, self._host(target)
                continue
            if page.outcome in ("stored", "too_large"):
                return parse_robots(page.body, self.config.user_agent)
            if page.outcome.startswith("http_4") and page.outcome != "http_429":
                return ALLOW_ALL
            return keep_out(page.outcome if page.outcome == "refused_address" else f"robots_{page.outcome}")
        return ALLOW_ALL

    async def _attempt(self, host: _Host, url: str, *, limit: int | None = None, any_type: bool = False) -> _Fetched:
        page = _Fetched(url, "unreachable")
        for attempt in range(self.config.attempts):
            async with host.gate:
                await host.wait()
                async with self.open:
                    page = await self._guarded_request(url, limit or self.config.max_page_bytes, any_type)
            if page.outcome not in _WORTH_ANOTHER_TRY or attempt + 1 == self.config.attempts:
                break
            asked = dict(page.headers).get("retry-after", "")
            pause = float(asked) if re.fullmatch(r"\d{1,6}", asked) else max(self.config.delay, 0.1)
            await asyncio.sleep(min(pause, self.config.timeout))
        return page

    async def _guarded_request(self, url: str, limit: int, any_type: bool) -> _Fetched:
        try:
            async with asyncio.timeout(self.config.timeout):
                return await self._request(url, limit, any_type)
        except RefusedAddress:
            return _Fetched(url, "refused_address")
        except TimeoutError:
            return _Fetched(url, "timeout")
        except OSError:
            return _Fetched(url, "unreachable")
        except h11.ProtocolError:
            return _Fetched(url, "bad_http")

    async def _request(self, url: str, limit: int, any_type: bool) -> _Fetched:
        headers = [
            ("User-Agent", self.config.user_agent),
            ("Accept", ", ".join(self.config.content_types) + ", */*;q=0.1"),
            ("Accept-Encoding", "gzip" if self.config.compressed else "identity"),
        ]
        async with self.network.get(url, headers) as response:
            if response.status in (301, 302, 303, 307, 308) and response.header("location"):
                return _Fetched(url, "redirected", headers=[("location", response.header("location"))])
            if response.status != 200:
                return _Fetched(
                    url, f"http_{response.status}", headers=[("retry-after", response.header("retry-after"))]
                )
            kind = response.header("content-type").split(";")[0].strip().lower()
            if kind and kind not in self.config.content_types and not any_type:
                return _Fetched(url, "content_type")
            coding = response.header("content-encoding", "identity").strip().lower()
            if coding not in ("identity", "gzip", "x-gzip"):
                return _Fetched(url, "encoding")
            body, outcome = await _read_body(response, limit, packed=coding != "identity")
            if _HTML.match(body, 0, 2048) and kind != "application/xhtml+xml":
                kind = "text/html"
            stored = _stored_headers(response.headers, len(body))
            return _Fetched(url, outcome, response.status_line, stored, body, kind, response.address)

    def _date(self) -> str:
        return (self.config.date or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _read_body(response: Response, limit: int, *, packed: bool) -> tuple[bytes, str]:
    """The decoded body, and "stored" where that is all of it, else why it is not."""
    unpacker = zlib.decompressobj(31) if packed else None
    body = bytearray()
    async for chunk in response.body():
        try:
            # max_length: a small body that unpacks to gigabytes stops at the limit, not at the end of memory.
            body += unpacker.decompress(chunk, limit - len(body) + 1) if unpacker else chunk
        except zlib.error:
            return b"", "encoding"
        if len(body) > limit:
            return bytes(body[:limit]), "too_large"
    if unpacker is not None and body and not unpacker.eof:
        return b"", "encoding"
    return bytes(body), "stored"


def _stored_headers(received: list[Header], length: int) -> list[Header]:
    # The body is kept decoded. As Common Crawl does, the headers that no longer hold are kept under another name.
    kept = []
    for name, value in received:
        lower = name.lower()
        if lower in _CODING and lower != "content-length":
            kept.append((f"X-Crawl-{name}", value))
        elif lower not in _VOLATILE and lower not in _CODING:
            kept.append((name, value))
    return [*kept, ("Content-Length", str(length))]


def _directives(page: _Fetched) -> set[str]:
    """What the page's own robots header and element ask for."""
    values = [value for name, value in page.headers if name.lower() == "x-robots-tag"]
    values += [found[0].decode("latin-1") for found in _META_ROBOTS.finditer(page.body[:16384])]
    words = set(re.findall(r"[a-z]+", " ".join(values).lower()))
    return words | ({"nofollow", "noarchive"} if "none" in words else set())


def _take_turns(urls: list[str]) -> list[str]:
    """A level in an order that goes round the hosts, so that no slice is all one host's."""
    turn: Counter[str] = Counter()
    order = []
    for position, url in enumerate(urls):
        host = _hostname(url)
        order.append((turn[host], position, url))
        turn[host] += 1
    return [url for _, _, url in sorted(order)]


@lru_cache(maxsize=1 << 16)
def _hostname(url: str) -> str:
    return urlsplit(url).hostname or ""
