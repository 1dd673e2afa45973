"""Keeps the given share of the documents, those with the highest score.

Of n documents with a score, exactly floor(share × n) are kept: those above a cut, and among equals at the cut those with
the smallest hash of their doc_id, so that a larger share contains the smaller one. Once the cut is fitted, the verdict on
a document depends on nothing else. Documents without a finite score are not counted and not kept.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field

from factory.core.columns import numbers_for
from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.kernels.columns import numbers

KEEP = {"keep": pa.bool_()}


class TopShare(Config):
    column: str
    share: float = Field(gt=0, le=1)


def fit_cut(config: TopShare, table: pa.Table) -> dict[str, Any]:
    """`score` and `tie`: kept is what is above the score, or equal to it with a tie hash up to `tie`; None keeps nothing."""
    column = table.column(config.column).combine_chunks()
    scores, finite = _scores(column, config.column)
    candidates = np.flatnonzero(finite)
    # As it is written: 0.29 of 100 are 29, though the nearest binary fraction is a little less.
    kept = math.floor(Fraction(str(config.share)) * len(candidates))
    counts = {"candidates": len(candidates), "kept": kept}
    if not kept:
        return {"score": None, "tie": None, **counts}
    ranked = scores[candidates]
    cut = np.partition(ranked, len(ranked) - kept)[len(ranked) - kept]
    ties = table.column("doc_id").take(pa.array(candidates[ranked == cut])).to_pylist()
    wanted = kept - int(np.count_nonzero(ranked > cut))
    return {"score": cut.item(), "tie": sorted(map(_tie_hash, ties))[wanted - 1], **counts}


@register(
    "top_share",
    version=1,
    reads=lambda config: (config.column, "doc_id"),
    writes=KEEP,
    config=TopShare,
    fit=fit_cut,
    takes=lambda config: [(config.column, numbers_for("top_share"))],
)
def top_share(config: TopShare, fitted: dict[str, Any]) -> BatchFunction:
    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        scores, finite = _scores(batch.column(config.column), config.column)
        keep = np.zeros(len(scores), np.bool_)
        if fitted["score"] is not None:
            cut = scores.dtype.type(fitted["score"])
            keep = finite & (scores > cut)
            ties = np.flatnonzero(finite & (scores == cut))
            doc_ids = batch.column("doc_id").take(pa.array(ties)).to_pylist()
            keep[ties] = [_tie_hash(doc_id) <= fitted["tie"] for doc_id in doc_ids]
        return pa.record_batch([pa.array(keep)], schema=pa.schema(KEEP))

    return judge


def _scores(column: pa.Array, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The scores, and which of them there are."""
    scores, present = numbers(column, name, "top_share")
    return scores, present & np.isfinite(scores)


def _tie_hash(doc_id: str) -> int:
    """53 bits, which every reader of JSON keeps exactly."""
    return xxhash.xxh3_64_intdigest(doc_id.encode()) >> 11
