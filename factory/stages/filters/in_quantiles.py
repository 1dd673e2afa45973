"""Keeps the documents whose number lies between two quantiles of all documents: from `low` on, and below `high`.

Of n documents with a finite number, floor(q × n) lie below the cut at q; equal numbers lie on the same side. CCNet's
buckets (arXiv:1911.00359) are `high: 0.3` for head, `low: 0.3, high: 0.6` for middle and `low: 0.6` for tail, of
perplexity within a language: with `by`, the name of a column of texts, the cuts are those of the documents with the same
value, and a document without one is kept as far as the cuts of all documents allow. Documents without a finite number, and
values that were not there when the cuts were made, are not kept.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from factory.core.columns import Refusal, numbers_for, texts_for
from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.kernels.columns import numbers

KEEP = {"keep": pa.bool_()}


class InQuantiles(Config):
    column: str
    low: float = Field(default=0.0, ge=0, lt=1)
    high: float = Field(default=1.0, gt=0, le=1)
    by: str | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> "InQuantiles":
        if self.low >= self.high:
            raise ValueError(f"`low` ({self.low}) lies below `high` ({self.high})")
        return self


def fit_cuts(config: InQuantiles, table: pa.Table) -> dict[str, Any]:
    """`cuts`: for each value of `by`, and first for all documents (value null), the cut at `low` and the one at `high`."""
    scores, finite = _scores(table.column(config.column).combine_chunks(), config.column)
    cuts = [_cuts(config, None, scores[finite])]
    if config.by is not None:
        groups = np.array(table.column(config.by).to_pylist(), object)
        named = sorted({str(group) for group in groups if group is not None})
        cuts += [_cuts(config, group, scores[finite & (groups == group)]) for group in named]
    return {"cuts": cuts}


def takes(config: InQuantiles) -> list[tuple[str, Refusal]]:
    by = [(config.by, texts_for("in_quantiles"))] if config.by is not None else []
    return [(config.column, numbers_for("in_quantiles")), *by]


@register(
    "in_quantiles",
    version=1,
    reads=lambda config: (config.column, config.by) if config.by is not None else (config.column,),
    writes=KEEP,
    config=InQuantiles,
    fit=fit_cuts,
    takes=takes,
)
def in_quantiles(config: InQuantiles, fitted: dict[str, Any]) -> BatchFunction:
    cuts = {cut["value"]: (cut["low"], cut["high"]) for cut in fitted["cuts"] if cut["documents"]}

    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        scores, finite = _scores(batch.column(config.column), config.column)
        groups = np.full(len(scores), None, object)
        if config.by is not None:
            groups[:] = batch.column(config.by).to_pylist()
        keep = np.zeros(len(scores), np.bool_)
        for group, (low, high) in cuts.items():
            within = finite & (groups == group)
            if low is not None:
                within &= scores >= scores.dtype.type(low)
            if high is not None:
                within &= scores < scores.dtype.type(high)
            keep |= within
        return pa.record_batch([pa.array(keep)], schema=pa.schema(KEEP))

    return judge


def _cuts(config: InQuantiles, group: str | None, scores: npt.NDArray[Any]) -> dict[str, Any]:
    ranked = np.sort(scores)
    return {
        "value": group,
        "low": _cut(ranked, config.low) if config.low > 0 else None,
        "high": _cut(ranked, config.high) if config.high < 1 else None,
        "documents": len(ranked),
    }


def _cut(ranked: npt.NDArray[Any], share: float) -> Any:
    """The smallest number that is not below the cut; None where there is none at all."""
    # As it is written: 0.29 of 100 are 29, though the nearest binary fraction is a little less.
    below = math.floor(Fraction(str(share)) * len(ranked))
    return ranked[below].item() if below < len(ranked) else None


def _scores(column: pa.Array, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The numbers, and which of them there are."""
    scores, present = numbers(column, name, "in_quantiles")
    return scores, present & np.isfinite(scores)
