"""Personal data: where it stands, of which kind, and how many of each.

`found` holds byte ranges of the UTF-8 with their kind, sorted and apart; the rewriter `redact` reads it. Kinds: `email`,
`ipv4` and `ipv6` (public ones), `phone`, `iban`, `card`, `ssn` (of the United States), `key` (secrets of services, JSON Web
Tokens, private keys) and `url_credentials`. FineWeb (arXiv:2406.17557) looks for `kinds: [email, ipv4]`, Dolma
(arXiv:2402.00159) for those and phones, BigCode (arXiv:2305.06161) for e-mail, IP and keys. Phones are found where they are
written with their country, or as one does in one of `regions` (ISO 3166). Names, street addresses and dates of birth are not
looked for. What counts as one is in `factory.stages.personal_items`.
"""

from importlib.metadata import version
from typing import Annotated

import pyarrow as pa
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction, Columns
from factory.stages.personal_items import FOUND, KINDS, Detector, check_kinds, check_regions
from factory.stages.public_suffixes import snapshot_version


def _tables() -> str:
    return f"{snapshot_version()}; phonenumbers {version('phonenumbers')}"


class Settings(Config):
    """`tables` is the version of the installed numbering plans and public suffixes; it need not be given."""

    kinds: tuple[str, ...] = Field(default=KINDS, min_length=1)
    regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(default=("US", "GB"), max_length=40)
    tables: str = Field(default_factory=_tables)

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        check_kinds(kinds)
        return tuple(kind for kind in KINDS if kind in kinds)

    @field_validator("tables")
    @classmethod
    def _are_installed(cls, tables: str) -> str:
        if tables != _tables():
            raise ValueError(f"installed is '{_tables()}'; install what '{tables}' names, or leave `tables` out")
        return tables


def columns(config: Settings) -> Columns:
    return {"found": FOUND, **dict.fromkeys(config.kinds, pa.uint32()), "total": pa.uint32()}


@register("pii", version=1, reads=("text",), writes=columns, config=Settings)
def pii(config: Settings) -> BatchFunction:
    if "phone" in config.kinds:
        check_regions(config.regions)
    detector = Detector(frozenset(config.kinds), config.regions)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        import numpy as np

        rows = detector.find(batch.column("text"))
        missing = np.array([row is None for row in rows], np.bool_)
        flat = [(text, *item) for text, row in enumerate(rows) for item in row or ()]
        texts, starts, ends, kinds = zip(*flat, strict=True) if flat else ((), (), (), ())
        counts = np.bincount(np.array(texts, np.int64), minlength=len(rows))
        numbers = np.array([KINDS.index(kind) for kind in kinds], np.int64)
        table = np.bincount(np.array(texts, np.int64) * len(KINDS) + numbers, minlength=len(rows) * len(KINDS))
        by_kind = table.reshape(len(rows), len(KINDS))
        items = pa.StructArray.from_arrays(
            [pa.array(starts, pa.uint32()), pa.array(ends, pa.uint32()), pa.array(kinds, pa.string())],
            fields=list(FOUND.value_type),
        )
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        made = [pa.ListArray.from_arrays(offsets, items, type=FOUND, mask=pa.array(missing))]
        made += [pa.array(by_kind[:, KINDS.index(kind)], pa.uint32(), mask=missing) for kind in config.kinds]
        made.append(pa.array(counts, pa.uint32(), mask=missing))
        return pa.record_batch(made, schema=pa.schema(columns(config)))

    return score
