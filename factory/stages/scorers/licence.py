"""Under which licence a document is, how that is known, and what it allows: evidence, classified and never guessed.

Evidence comes from extractors and sources: `license`, and in `meta` how it was found (`license_how`) and all that were
found (`licenses`). The most trusted kind counts (`rel`, `jsonld`, `meta`, `anchor` of pages; `header`, `file` of code; what a
data set states itself is `meta`); where that kind names several, all hold at once. `spdx` is the licence's identifier or
expression, null where there is none; `use_class` is one of open, share_alike, unknown, non_commercial, no_derivatives,
restricted (see `factory.stages.licence_classes`; the rules are those of arXiv:2310.16787), with flags beside it.
`confidence` is 0.5 + 0.5 / n for a page that names n different licences (Dolma, arXiv:2402.00159): one that names several
speaks of others' works. `sites` maps hosts to licences that you know of, for documents without evidence of their own
(`how: site`). No evidence is `unknown`; a record without licence, meta and address has no values.
"""

import json
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.licence_classes import UNKNOWN, Terms, all_of, terms_of

HOWS = ("rel", "jsonld", "header", "file", "meta", "anchor", "site")
COLUMNS = {
    "spdx": pa.string(),
    "use_class": pa.string(),
    "how": pa.string(),
    "confidence": pa.float32(),
    "attribution": pa.bool_(),
    "share_alike": pa.bool_(),
    "non_commercial": pa.bool_(),
    "no_derivatives": pa.bool_(),
}
_MOST = 50  # licences a page may name

Row = tuple[Any, ...]


class Settings(Config):
    sites: dict[str, str] = Field(default_factory=dict, max_length=10_000)

    @field_validator("sites")
    @classmethod
    def _are_known(cls, sites: dict[str, str]) -> dict[str, str]:
        for host, licence in sites.items():
            if host != host.lower().strip(".") or "/" in host or not host:
                raise ValueError(f"'{host}' is no host in small letters, such as 'en.wikipedia.org' or 'wikipedia.org'")
            if terms_of(licence).use_class == "unknown":
                raise ValueError(f"'{licence}' of {host} is no licence known here; give its SPDX identifier")
        return sites


@register("licence", version=1, reads=("license", "meta", "url"), writes=COLUMNS, config=Settings)
def licence(config: Settings) -> BatchFunction:
    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        given = (batch.column(name).to_pylist() for name in ("license", "meta", "url"))
        rows = [_row(stated, meta, url, config.sites) for stated, meta, url in zip(*given, strict=True)]
        columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
        arrays = [pa.array(values, kind) for values, kind in zip(columns, COLUMNS.values(), strict=True)]
        return pa.record_batch(arrays, schema=pa.schema(COLUMNS))

    return score


def _row(stated: str | None, meta: str | None, url: str | None, sites: dict[str, str]) -> Row:
    if stated is None and meta is None and url is None:
        return (None,) * len(COLUMNS)
    evidence = _evidence(stated, meta)
    if not evidence:
        site = _of_site(url, sites)
        return _values(terms_of(site), "site", 1.0) if site else _values(UNKNOWN, None, None)
    how = min((how for how, _ in evidence), key=HOWS.index)
    every = {_same(terms_of(value), value) for _, value in evidence}
    terms = all_of(terms_of(value) for kind, value in evidence if kind == how)
    return _values(terms, how, 0.5 + 0.5 / len(every))


def _values(terms: Terms, how: str | None, confidence: float | None) -> Row:
    return terms.spdx, terms.use_class, how, confidence, *terms[2:]


def _same(terms: Terms, value: str) -> str | Terms:
    """What tells licences apart: versions and ports in several languages are one, unknown ones are as they are written."""
    return value.strip().lower() if terms == UNKNOWN else terms


def _evidence(stated: str | None, meta: str | None) -> list[tuple[str, str]]:
    """(how, licence as it is written), the most trusted first; what is malformed is no evidence."""
    known = _object(meta)
    how = known.get("license_how")
    how = how if how in HOWS else "meta"
    found: list[tuple[str, str]] = []
    for item in _listed(known.get("licenses"))[:_MOST]:
        value, kind = (item.get("license"), item.get("how")) if isinstance(item, dict) else (item, how)
        if isinstance(value, str) and value.strip():
            found.append((kind if kind in HOWS else how, value))
    # The list holds the field too, by its identifier.
    if stated and stated.strip() and (not found or terms_of(stated) not in {terms_of(value) for _, value in found}):
        found.append((how, stated))
    return found


def _object(meta: str | None) -> dict[str, Any]:
    if not meta:
        return {}
    try:
        made = json.loads(meta)
    except (ValueError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return value if isinstance(value, list) else []


def _of_site(url: str | None, sites: dict[str, str]) -> str | None:
    """The licence of the host, or of the nearest domain above it."""
    if not url or not sites:
        return None
    try:
        host = (urlsplit(url).hostname or "").strip(".")
    except ValueError:
        return None
    while host:
        if host in sites:
            return sites[host]
        host = host.partition(".")[2]
    return None
