"""Fields that a source left in `meta`, as columns of texts: a domain, a split, a language that records name themselves.

Numbers and flags become texts as JSON writes them; a field a record lacks is null.
"""

import re

import orjson
import pyarrow as pa
from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


class Settings(Config):
    """`fields` are names in small letters, digits and _: they become names of columns."""

    fields: tuple[str, ...] = Field(min_length=1, max_length=32)

    @field_validator("fields")
    @classmethod
    def _can_be_columns(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        bad = [name for name in fields if not _NAME.fullmatch(name)]
        if bad or len(set(fields)) < len(fields):
            raise ValueError(f"names of small letters, digits and _, each once, are meant, not {(bad or fields)[0]!r}")
        return fields


@register(
    "metadata",
    version=1,
    config=Settings,
    reads=("meta",),
    writes=lambda config: dict.fromkeys(config.fields, pa.string()),
)
def metadata(config: Settings) -> BatchFunction:
    schema = pa.schema(dict.fromkeys(config.fields, pa.string()))

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns: dict[str, list[str | None]] = {name: [] for name in config.fields}
        for meta in batch.column("meta").to_pylist():
            found = orjson.loads(meta) if meta else {}
            for name, values in columns.items():
                value = found.get(name) if isinstance(found, dict) else None
                values.append(value if isinstance(value, str) or value is None else orjson.dumps(value).decode())
        return pa.RecordBatch.from_pydict(columns, schema=schema)

    return score
