"""Keeps documents whose number lies between two bounds, both of which are within.

A bound is compared as a value of the column's own type: a share of 1/10 stored as float32 is not above a bound of 0.1. A
number that is null or not a number is missing.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from factory.core.columns import numbers_for
from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.kernels.columns import numbers

KEEP = {"keep": pa.bool_()}


class InRange(Config):
    column: str
    min: int | float | None = Field(None, allow_inf_nan=False)
    max: int | float | None = Field(None, allow_inf_nan=False)
    missing: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("in_range needs min, max or both; to test only that a value is there, use is_absent")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}, so that no document could pass")
        return self


@register(
    "in_range",
    version=1,
    reads=lambda config: (config.column,),
    writes=KEEP,
    config=InRange,
    takes=lambda config: [(config.column, numbers_for("in_range"))],
)
def in_range(config: InRange) -> BatchFunction:
    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        values, present = numbers(batch.column(config.column), config.column, "in_range")
        keep = np.ones(len(values), np.bool_)
        if config.min is not None:
            keep &= values >= _bound(config.min, values.dtype, math.ceil)
        if config.max is not None:
            keep &= values <= _bound(config.max, values.dtype, math.floor)
        keep[~present] = config.missing == "keep"
        return pa.record_batch([pa.array(keep)], schema=pa.schema(KEEP))

    return judge


def _bound(bound: float, kind: np.dtype[Any], inwards: Callable[[float], int]) -> Any:
    # NumPy compares Python integers of any size exactly; a float would first round large integers of the column.
    return kind.type(bound) if kind.kind == "f" else inwards(bound)
