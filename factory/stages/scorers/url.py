"""The address of a page in a normal form, its key, its registered domain and the kind of its host.

`norm` and `key` are what `factory.stages.urls` says: the key is the same for http and https, with `www.` and without, and
has the host's labels reversed (SURT), so that sorting by it puts a site's pages together. `domain` is the registered
domain by the public suffix list with private suffixes, `suffix` the public suffix. What is no address of the web has no
values.
"""

import re
from typing import Annotated

import pyarrow as pa
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.public_suffixes import snapshot_version
from factory.stages.urls import TRACKING, parse

COLUMNS = {name: pa.string() for name in ("norm", "key", "domain", "suffix", "host_kind")}


class Settings(Config):
    """`tracking`: parameters that are left out, `*` at the end for any ending. `suffixes` is the version of the installed
    public suffix list; it need not be given and is part of what the columns are made of."""

    tracking: tuple[Annotated[str, Field(max_length=100)], ...] = Field(default=TRACKING, max_length=200)
    suffixes: str = Field(default_factory=snapshot_version)

    @field_validator("tracking")
    @classmethod
    def _are_names(cls, tracking: tuple[str, ...]) -> tuple[str, ...]:
        for name in tracking:
            if not re.fullmatch(r"[^*&=\sA-Z]+\*?", name):
                raise ValueError(f"'{name}' is no name of a parameter in small letters, such as 'gclid' or 'utm_*'")
        return tracking

    @field_validator("suffixes")
    @classmethod
    def _is_installed(cls, suffixes: str) -> str:
        if suffixes != snapshot_version():
            raise ValueError(
                f"the installed public suffix list is of {snapshot_version()}; install the tldextract with the one of "
                f"{suffixes}, or leave `suffixes` out"
            )
        return suffixes


@register("url", version=1, reads=("url",), writes=COLUMNS, config=Settings)
def url(config: Settings) -> BatchFunction:
    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows: list[tuple[str | None, ...]] = []
        for value in batch.column("url").to_pylist():
            address = parse(value, config.tracking) if value else None
            if address is None:
                rows.append((None,) * len(COLUMNS))
            else:
                host = address.host
                rows.append((address.text, address.key, host.domain, host.suffix, host.kind))
        columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(COLUMNS))]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
