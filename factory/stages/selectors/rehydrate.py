"""Repeats documents by how many copies they had: where duplication goes with what filters keep, not with what they drop.

FineWeb2's rehydration (arXiv:2506.20920). Among the documents that stand for a cluster, the share that filters remove is
taken by the cluster's size. Sizes that lose more than all documents do are taken once; the size that loses least is taken
`max_repeats` times, and those between in proportion: w = 1 + (max_repeats - 1) (rate - all) / (least - all), rounded. Rates
are smoothed by the mean over `smooth` neighbours, but for the first and the last ones, which do not have as many.

Sizes with fewer than `pool` documents have no rate of their own: they are pooled, from such a size to below its double, or
to below four, eight ... times of it until there are as many; what is left at the end goes with the bin before. A group of
documents (`by`, such as a column of languages) is weighed on its own. `weights` gives the steps by hand instead: each
weight holds from its size to the next one.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from factory.core.columns import Refusal, texts_for
from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.stage import BatchFunction

REPEATS = {"repeats": pa.uint16()}
MOST_REPEATS = 1000
UNKNOWN = "unknown"  # the group of documents without one

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Rehydrate(Config):
    column: str
    by: str | None = None
    max_repeats: int = Field(default=10, ge=1, le=MOST_REPEATS)
    smooth: int = Field(default=5, ge=1, le=101)
    pool: int = Field(default=100, ge=1)
    weights: dict[int, int] | None = None

    @field_validator("smooth")
    @classmethod
    def _has_a_middle(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"a window of {window} has no middle; give an odd number")
        return window

    @field_validator("weights")
    @classmethod
    def _are_steps(cls, weights: dict[int, int] | None) -> dict[int, int] | None:
        if weights is None:
            return None
        bad = [f"{size}: {weight}" for size, weight in weights.items() if size < 1 or not 1 <= weight <= MOST_REPEATS]
        if bad or not weights:
            raise ValueError(
                f"steps are a map of size (from 1) to repeats (1 to {MOST_REPEATS:,}), such as {{1: 1, 2: 2, 1000: 1}}; "
                f"{', '.join(bad) or 'none is given'}"
            )
        return dict(sorted(weights.items()))

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.weights is not None and self.by is not None:
            raise ValueError("weights given by hand hold for every document; leave out weights, or by")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,) if self.by is None else (self.column, self.by)


def fit(config: Rehydrate, table: pa.Table) -> dict[str, Any]:
    """The bins of every group, as rows of (first size, documents, share removed, the same smoothed, repeats)."""
    sizes = _sizes(table.column(config.column), config.column)
    removed = table.column("removed").to_numpy(zero_copy_only=False)
    groups = np.zeros(len(sizes), np.int64)
    names = [""]
    if config.by is not None:
        named = _group(table.column(config.by)).combine_chunks().dictionary_encode()
        groups, names = named.indices.to_numpy(zero_copy_only=False), named.dictionary.to_pylist()
    return {
        "groups": {
            name: _weigh(config, *_of(groups == at, sizes, removed))
            for at, name in sorted(enumerate(names), key=lambda item: str(item[1]))
        }
    }


def _of(own: npt.NDArray[np.bool_], sizes: Integers, removed: npt.NDArray[np.bool_]) -> tuple[Integers, Any]:
    return sizes[own], removed[own]


def _weigh(config: Rehydrate, sizes: Integers, removed: npt.NDArray[np.bool_]) -> dict[str, Any]:
    if not len(sizes):
        return {"removed": None, "bins": []}
    distinct, places = np.unique(sizes, return_inverse=True)
    documents = np.bincount(places)
    gone = np.bincount(places, weights=removed).astype(np.int64)
    if config.weights is not None:
        starts = np.searchsorted(distinct, [size for size in (1, *config.weights) if size <= distinct[-1]])
    else:
        starts = pooled(distinct, documents, config.pool)
    starts = np.unique(starts)
    counts = np.add.reduceat(documents, starts)
    rates = np.add.reduceat(gone, starts) / counts
    overall = int(gone.sum()) / len(sizes)
    even = smoothed(rates, config.smooth)
    weights = (
        repeats_of(even, overall, config.max_repeats)
        if config.weights is None
        else _steps(distinct[starts], list(config.weights), list(config.weights.values()))
    )
    columns = (distinct[starts], counts, rates, even, weights)
    return {
        "removed": overall,
        "bins": [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)],
    }


def pooled(sizes: Integers, documents: Integers, least: int) -> Integers:
    """Where bins begin among rising sizes, so that each holds at least so many documents; a size alone where it does."""
    starts: list[int] = []
    at = 0
    while at < len(sizes):
        starts.append(at)
        factor, after = 2, at + 1
        while documents[at:after].sum() < least and after < len(sizes):
            after = max(after, int(np.searchsorted(sizes, factor * sizes[at])))
            factor *= 2
        if documents[at:after].sum() < least and len(starts) > 1:
            starts.pop()
        at = after
    return np.array(starts, np.int64)


def smoothed(rates: Floats, window: int) -> Floats:
    """Each rate as the mean over a window around it; those at the ends, where it does not fit, as they are."""
    even = rates.copy()
    half = window // 2
    if len(rates) >= window:
        even[half : len(rates) - half] = np.convolve(rates, np.ones(window) / window, mode="valid")
    return even


def repeats_of(rates: Floats, overall: float, most: int) -> Integers:
    """The published weights: 1 from the overall rate on, `most` at the least rate."""
    least = rates.min()
    if least >= overall:
        return np.ones(len(rates), np.int64)
    weights = np.rint(1 + (most - 1) * (rates - overall) / (least - overall))
    return np.where(rates >= overall, 1, weights).astype(np.int64)


def refusal(name: str, kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return ""
    return f"rehydrate takes a column of cluster sizes, which are whole numbers, and '{name}' holds {kind}."


def takes(config: Rehydrate) -> list[tuple[str, Refusal]]:
    by = [(config.by, texts_for("rehydrate"))] if config.by is not None else []
    return [(config.column, refusal), *by]


@register(
    "rehydrate", version=2, reads=lambda config: config.reads, writes=REPEATS, config=Rehydrate, fit=fit, takes=takes
)
def rehydrate(config: Rehydrate, fitted: dict[str, Any]) -> BatchFunction:
    def select(batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes = _sizes(batch.column(config.column), config.column)
        repeats = np.ones(len(sizes), np.int64)
        if config.weights is not None:
            repeats = _steps(sizes, list(config.weights), list(config.weights.values()))
        elif config.by is None:
            repeats = _repeats(sizes, fitted["groups"].get(""))
        else:
            groups = _group(batch.column(config.by)).to_numpy(zero_copy_only=False)
            for name in dict.fromkeys(groups.tolist()):
                own = groups == name
                repeats[own] = _repeats(sizes[own], fitted["groups"].get(name))
        return pa.record_batch([pa.array(repeats.astype(np.uint16))], schema=pa.schema(REPEATS))

    return select


def _repeats(sizes: Integers, found: dict[str, Any] | None) -> Integers:
    bins = found["bins"] if found is not None else []
    return _steps(sizes, [row[0] for row in bins], [row[-1] for row in bins])


def _steps(sizes: Integers, starts: list[int], weights: list[int]) -> Integers:
    """The weight of the last start that a size reaches; 1 below the first."""
    places = np.searchsorted(np.array(starts, np.int64), sizes, side="right")
    return np.array([1, *weights], np.int64)[places]


def _sizes(column: pa.ChunkedArray | pa.Array, name: str) -> Integers:
    """Whole numbers; 1 for a document of which none is known."""
    if refused := refusal(name, column.type):
        raise FactoryError(refused)
    sizes: Integers = pc.fill_null(column.cast(pa.int64()), 1).to_numpy()
    return sizes


def _group(column: Any) -> Any:
    return pc.fill_null(column.cast(pa.string()), UNKNOWN)
