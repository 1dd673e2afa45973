"""Which lists the address of a page is on, and the first rule that blocks it: before anything is paid for its text.

`lists` maps a category to a list in the form of UT1 (dsi.ut-capitole.fr/blacklists): a folder with `domains` and `urls`, or
a file with an entry a line. A domain stands for its subdomains too; an entry with a path for all addresses that begin with
it, up to a `/`, `?` or `&`. `categories` names every list the address is on. `blocked` is the first of these rules that
hits, by the names of FineWeb (arXiv:2406.17557; datatrove's `url_filter`): `opt_out`, `domain` (a registered domain, or one
above it), `subdomain`, `url`, `hard_blacklisted` (one of `hard_words` is a word of the address), `soft_blacklisted`
(`min_soft_words` different ones of `soft_words` are), `blacklisted_subword` (one of `substrings` is in the address without
its signs). With `substrings_skip: dots` only `-` and `.` are taken out first, which is the rule of RefinedWeb and DCLM
(arXiv:2306.01116, arXiv:2406.11794). An address on the list `allow` is `allowed` and never blocked, but by `opt_out`.
Addresses are compared as `factory.stages.urls` parses them, without scheme, port and `www.`; letters' cases count nowhere.
What is no address has no values.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Self

import pyarrow as pa
from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.errors import InputError, suggest
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files
from factory.stages.list_files import Entries, contents, lines, uris_of
from factory.stages.urls import Address, parse

COLUMNS = {"categories": pa.list_(pa.string()), "blocked": pa.string(), "allowed": pa.bool_()}
OPT_OUT, ALLOW = " opt_out", " allow"  # no category is called so

_SIGNS = re.compile(r"[^a-z0-9]+")
_HOSTS_LINE = re.compile(rb"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)[ \t]+(\S+)(?:[ \t]*#.*)?")
_FEW_NAMES = ("domains", "urls")  # in a folder of UT1; the others are patterns and notes


class Settings(Config):
    lists: dict[str, Entries] = Field(default_factory=dict, max_length=200)
    block: tuple[str, ...] | None = None
    allow: Entries = ()
    opt_out: Entries = ()
    hard_words: Entries = ()
    soft_words: Entries = ()
    min_soft_words: int = Field(default=2, ge=1)
    substrings: Entries = ()
    substrings_skip: Literal["signs", "dots"] = "signs"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for name in self.lists:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", name):
                raise ValueError(f"'{name}' is no name of a category: letters, digits and _.- are meant")
        for name in self.block or ():
            if name not in self.lists:
                raise ValueError(
                    f"`block` names '{name}', and `lists` has no such category.{suggest(name, self.lists)}"
                )
        if not any((self.lists, self.allow, self.opt_out, self.hard_words, self.soft_words, self.substrings)):
            raise ValueError("no list is given; name one, such as `lists: {adult: lists/adult}`")
        return self


class _List(NamedTuple):
    """Sorted hashes of the domains, and of the addresses with a path."""

    domains: Any
    prefixes: Any


def files(config: Settings) -> tuple[str, ...]:
    words = (config.hard_words, config.soft_words, config.substrings)
    return uris_of([*config.lists.values(), config.allow, config.opt_out, *words])


@register(
    "url_lists",
    version=1,
    reads=("url",),
    writes=COLUMNS,
    config=Settings,
    files=files,
    packages=lambda config: ("tldextract",),
)
def url_lists(config: Settings, files: Files | None = None) -> BatchFunction:
    import numpy as np

    from factory.kernels.lists import are_in, hash_beginnings, hash_endings
    from factory.kernels.text import view_text

    given = files or {}
    named = {**config.lists, OPT_OUT: config.opt_out, ALLOW: config.allow}
    known = {name: _read(entries, given) for name, entries in named.items() if entries}
    blocking = [name for name in (config.block if config.block is not None else config.lists) if name in known]
    by_words = _word_rules(config, given)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        urls = batch.column("url").to_pylist()
        addresses = [parse(url, (), sort=False) if url else None for url in urls]
        valid = np.array([address is not None for address in addresses], np.bool_)
        hits = {name: _hits(found, addresses) for name, found in known.items()}
        categories: list[list[str] | None] = []
        blocked: list[str | None] = []
        for row, address in enumerate(addresses):
            if address is None:
                categories.append(None)
                blocked.append(None)
                continue
            categories.append([name for name in config.lists if hits[name][row]])
            blocked.append(_verdict(row, urls[row], hits))
        allowed = np.asarray(hits[ALLOW] != "") if ALLOW in hits else np.zeros(len(urls), np.bool_)
        columns = [
            pa.array(categories, COLUMNS["categories"]),
            pa.array(blocked, pa.string()),
            pa.array(allowed, mask=~valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    def _hits(found: _List, addresses: list[Address | None]) -> Any:
        """For each address '', or how it is on the list: by its `domain`, `subdomain` or `url`."""
        hosts = pa.array([address.host.name if address else None for address in addresses], pa.large_string())
        owners = np.array([len(address.host.domain or address.host.name) if address else 0 for address in addresses])
        whole = np.array([address is not None and address.host.kind != "name" for address in addresses], np.bool_)
        view = view_text(hosts)
        lengths = np.diff(view.offsets)
        hashes, starts = hash_endings(*view, whole)
        on = are_in(hashes, found.domains) & (starts >= 0)
        at_owner = (on & (lengths[:, None] - starts <= owners[:, None])).any(axis=1)
        hits = np.where(at_owner, "domain", np.where(on.any(axis=1), "subdomain", ""))
        if found.prefixes.size:
            texts = pa.array([_compared(address) if address else None for address in addresses], pa.large_string())
            hashes, stops = hash_beginnings(*view_text(texts))
            begins = (are_in(hashes, found.prefixes) & (stops >= 0)).any(axis=1)
            hits = np.where((hits == "") & begins, "url", hits)
        return hits

    def _verdict(row: int, url: str, hits: dict[str, Any]) -> str | None:
        if OPT_OUT in hits and hits[OPT_OUT][row]:
            return "opt_out"
        if ALLOW in hits and hits[ALLOW][row]:
            return None
        how = {str(hits[name][row]) for name in blocking}
        return next((rule for rule in ("domain", "subdomain", "url") if rule in how), None) or by_words(url)

    return score


def _compared(address: Address) -> str:
    query = f"?{address.query}" if address.query else ""
    return f"{address.host.name.removeprefix('www.')}{address.path.rstrip('/')}{query}".lower()


def _read(entries: Entries, files: Files) -> _List:
    import numpy as np

    from factory.kernels.lists import hash_text, read_domains

    domains, prefixes = [], []
    found = contents(entries, files)
    listed = {name: content for name, content in found.items() if _stem(name) in _FEW_NAMES}
    for name, content in (listed or found).items():
        hashes, others = read_domains(content)
        domains.append(hashes)
        single = []
        for line in others:
            of_hosts = _HOSTS_LINE.fullmatch(line)
            entry = (of_hosts[1] if of_hosts else line).decode("utf-8", "replace")
            address = parse(entry if "://" in entry else f"http://{entry}", (), sort=False)
            if address is None:
                continue  # the lists of others hold misprints: what is no address matches none
            if address.path == "/" and not address.query:
                single.append(hash_text(address.host.name.encode()))
            else:
                prefixes.append(hash_text(_compared(address).encode()))
        domains.append(np.array(single, np.uint64))
        if not len(hashes) and not single and not prefixes and others:
            raise InputError(f"list '{name or entries}' holds no address; it begins with {others[0][:60]!r}.")
    empty = np.zeros(0, np.uint64)
    return _List(np.unique(np.concatenate([empty, *domains])), np.unique(np.array(prefixes, np.uint64)))


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".gz").removesuffix(".zst")


def _word_rules(config: Settings, files: Files) -> Any:
    """The first rule about the words of an address that it breaks."""
    hard = frozenset(_words(config.hard_words, files))
    soft = frozenset(_words(config.soft_words, files))
    signs = _SIGNS if config.substrings_skip == "signs" else re.compile(r"[.-]+")
    parts = sorted({signs.sub("", word) for word in _words(config.substrings, files)} - {""})
    automaton = None
    if parts:
        import ahocorasick  # type: ignore[import-not-found]

        automaton = ahocorasick.Automaton(ahocorasick.STORE_LENGTH)
        for part in parts:
            automaton.add_word(part)
        automaton.make_automaton()

    def judge(url: str) -> str | None:
        lower = url.lower()
        if hard or soft:
            words = set(_SIGNS.split(lower))
            if not hard.isdisjoint(words):
                return "hard_blacklisted"
            if soft and len(soft & words) >= config.min_soft_words:
                return "soft_blacklisted"
        if automaton is not None and next(automaton.iter(signs.sub("", lower)), None) is not None:
            return "blacklisted_subword"
        return None

    return judge


def _words(entries: Entries, files: Files) -> Iterable[str]:
    return (word.lower() for word in lines(entries, files))
