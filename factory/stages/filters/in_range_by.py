"""Keeps documents whose number reaches the bounds of their own group, such as a language: one table of bounds, not a rule each.

`by` is the column with the group. `min` and `max` give a bound by group: a map, or a file beside the recipe, JSON or YAML,
that holds one. `default_min` and `default_max` are the bounds of groups that are not in the map; a group that has none is
dropped, unless `others: keep`. Bounds are compared as `in_range` compares them. This is how FineWeb2 (arXiv:2506.20920) keeps
languages from their own confidence on.
"""

import json
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
import yaml
from pydantic import Field, model_validator

from factory.core.columns import numbers_for, texts_for
from factory.core.config import Config
from factory.core.errors import InputError
from factory.core.registry import register
from factory.core.stage import BatchFunction, Files
from factory.kernels.columns import numbers

KEEP = {"keep": pa.bool_()}
MAX_TABLE_BYTES = 1 << 20

Number = Annotated[float, Field(allow_inf_nan=False)]
Bounds = str | dict[str, Number]


class InRangeBy(Config):
    column: str
    by: str
    min: Bounds | None = None
    max: Bounds | None = None
    default_min: Number | None = None
    default_max: Number | None = None
    others: Literal["drop", "keep"] = "drop"
    missing: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("in_range_by needs `min` or `max`: a map from group to bound; for one bound use in_range")
        return self


def files(config: InRangeBy) -> tuple[str, ...]:
    return tuple(dict.fromkeys(bounds for bounds in (config.min, config.max) if isinstance(bounds, str)))


@register(
    "in_range_by",
    version=1,
    reads=lambda config: (config.column, config.by),
    writes=KEEP,
    config=InRangeBy,
    files=files,
    takes=lambda config: [(config.column, numbers_for("in_range_by")), (config.by, texts_for("in_range_by"))],
)
def in_range_by(config: InRangeBy, files: Files | None = None) -> BatchFunction:
    lowest, highest = _table(config.min, files or {}), _table(config.max, files or {})

    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        values, present = numbers(batch.column(config.column), config.column, "in_range_by")
        keep, bounded = judge_by(
            values, batch.column(config.by), lowest, highest, config.default_min, config.default_max
        )
        keep[~bounded] = config.others == "keep"
        keep[~present] = config.missing == "keep"
        return pa.record_batch([pa.array(keep)], schema=pa.schema(KEEP))

    return judge


def judge_by(
    values: Any,
    groups: pa.Array,
    lowest: dict[str, float],
    highest: dict[str, float],
    default_min: float | None,
    default_max: float | None,
) -> tuple[Any, Any]:
    """Which values lie within the bounds of their group, and which groups have a bound."""
    encoded = groups.dictionary_encode() if not pa.types.is_dictionary(groups.type) else groups
    names = [*encoded.dictionary.to_pylist(), None]
    low = [lowest.get(name, default_min) if name is not None else None for name in names]
    high = [highest.get(name, default_max) if name is not None else None for name in names]
    of = encoded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    kind = values.dtype.type if values.dtype.kind == "f" else np.float64
    minima = np.array([-np.inf if bound is None else bound for bound in low], kind)[of]
    maxima = np.array([np.inf if bound is None else bound for bound in high], kind)[of]
    bounded = np.array([a is not None or b is not None for a, b in zip(low, high, strict=True)], np.bool_)[of]
    return (values >= minima) & (values <= maxima), bounded


def _table(bounds: Bounds | None, files: Files) -> dict[str, float]:
    if bounds is None:
        return {}
    if not isinstance(bounds, str):
        return dict(bounds)
    if bounds not in files:
        raise InputError(f"in_range_by: the table '{bounds}' has not been read. This is a bug of who made the filter.")
    found: dict[str, float] = {}
    for name, content in files[bounds].items():
        if len(content) > MAX_TABLE_BYTES:
            raise InputError(f"{name}: larger than {MAX_TABLE_BYTES:,} bytes; a map from group to number is meant.")
        found.update(_read(name, content))
    return found


def _read(name: str, content: bytes) -> dict[str, float]:
    try:
        table = json.loads(content) if name.endswith(".json") else yaml.safe_load(content)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{name}: neither JSON nor YAML: {error}.") from error
    if not isinstance(table, dict):
        raise InputError(f"{name}: a map from group to number is meant, such as 'fra_Latn: 0.824'.")
    for group, bound in table.items():
        number = isinstance(bound, int | float) and not isinstance(bound, bool)
        if not isinstance(group, str) or not number or not np.isfinite(bound):
            quoted = " In YAML, quote no, yes, on and off." if isinstance(group, bool) else ""
            raise InputError(f"{name}: {group!r}: {bound!r} is no group with a number.{quoted}")
    return {group: float(bound) for group, bound in table.items()}
