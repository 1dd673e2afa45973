"""Sites as domains: the registered domain of a page's address, or `other` where the site has too few documents.

There are far too many sites to give each a share (15 million hosts in a pool of 200 billion tokens, 18,500 of them with more
than 1,000 pages; arXiv:2502.10341), so those with fewer than `min_documents`, or `min_bytes` of text, are one domain together.
Which they are is learned from the first snapshot, so that a later one changes no label. `level: host` tells hosts apart
instead. Addresses of machines and public suffixes stand for themselves; what is no address of the web has no label.
"""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Sample, Training
from factory.stages.public_suffixes import snapshot_version
from factory.stages.urls import parse

COLUMNS = {"label": pa.string()}
MODEL_FILE = "sites.json"
OTHER = "other"

_SHOWN = 20
_MOST_BYTES = 64 << 20  # of the file of names


class Settings(Config):
    """`documents` of each source are looked at; the least numbers are of these. `most` sites are named, the largest.

    `suffixes` is the version of the installed public suffix list; it need not be given.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    level: Literal["domain", "host"] = "domain"
    min_documents: int = Field(default=100, ge=1)
    min_bytes: int | None = Field(default=None, ge=1)
    most: int = Field(default=1000, ge=1, le=100_000)
    documents: int = Field(default=1_000_000, ge=1)
    suffixes: str = Field(default_factory=snapshot_version)


def samples(config: Settings) -> Iterable[Sample]:
    columns = ("url",) if config.min_bytes is None else ("url", "text")
    return tuple(Sample(source, config.documents, source=source, columns=columns) for source in config.sources)


def fit(config: Settings, texts: Mapping[str, list[str]], directory: str, seed: int) -> dict[str, Any]:
    """The names of the sites that are large enough."""
    documents: dict[str, int] = {}
    sizes: dict[str, int] = {}
    seen = 0
    for source in config.sources:
        bodies = texts.get(f"{source}.text") or [""] * len(texts.get(source, []))
        for address, text in zip(texts.get(source, []), bodies, strict=True):
            seen += 1
            site = _site(address, config.level)
            if site is not None:
                documents[site] = documents.get(site, 0) + 1
                sizes[site] = sizes.get(site, 0) + len(text.encode())
    if not documents:
        raise FactoryError(f"host_domain: no document of {', '.join(config.sources)} has an address of the web.")
    large = [
        site
        for site, count in documents.items()
        if count >= config.min_documents and sizes[site] >= (config.min_bytes or 0) and site != OTHER
    ]
    named = sorted(large, key=lambda site: (-documents[site], site))[: config.most]
    with open(os.path.join(directory, MODEL_FILE), "w", encoding="utf-8") as file:
        json.dump(sorted(named), file)
    told = sum(documents[site] for site in named)
    return {
        "documents": seen,
        "sites": len(documents),
        "named": len(named),
        "named_share": told / sum(documents.values()),
        "largest": {site: documents[site] for site in named[:_SHOWN]},
    }


TRAINING = Training(file=MODEL_FILE, samples=samples, fit=fit)


@register("host_domain", version=1, reads=("url",), writes=COLUMNS, config=Settings, train=TRAINING)
def host_domain(config: Settings, model_path: str) -> BatchFunction:
    named = _read(model_path)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        sites = [_site(url, config.level) if url else None for url in batch.column("url").to_pylist()]
        labels = [None if site is None else site if site in named else OTHER for site in sites]
        return pa.record_batch([pa.array(labels, pa.string())], schema=pa.schema(COLUMNS))

    return score


def _site(url: str, level: str) -> str | None:
    address = parse(url, ())
    if address is None:
        return None
    return address.host.name if level == "host" else address.host.domain or address.host.name


def _read(path: str) -> frozenset[str]:
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES:,} bytes")
        with open(path, encoding="utf-8") as file:
            names = json.load(file)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("no list of names")
    except (OSError, ValueError) as error:
        raise FactoryError(f"{path} is no model of host_domain that this factory made: {error}") from error
    return frozenset(names)
