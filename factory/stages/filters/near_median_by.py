"""Keeps documents whose confidence is not far below the median of their group: FineWeb2's threshold for each language.

The threshold of a group is max(0.3, min(0.9, median - standard deviation)) of the confidences of all its documents that no
other rule drops (arXiv:2506.20920, section 3.2), fitted on each snapshot; a label with hardly any documents has the lowest.
To use thresholds from elsewhere, or the same for every snapshot, give them to `in_range_by`.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from factory.core.columns import numbers_for, texts_for
from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.core.thresholds import LOWEST_CONFIDENCE, lid_threshold
from factory.kernels.columns import numbers
from factory.stages.filters.in_range_by import judge_by

KEEP = {"keep": pa.bool_()}


class NearMedianBy(Config):
    column: str
    by: str
    min_documents: int = Field(default=20, ge=1)


def fit_thresholds(config: NearMedianBy, table: pa.Table) -> dict[str, Any]:
    """`min`: the threshold of each group that has `min_documents`; `documents`: how many each group has."""
    values, present = numbers(table.column(config.column).combine_chunks(), config.column, "near_median_by")
    groups = table.column(config.by).combine_chunks()
    kept = pa.array(present) if groups.null_count == 0 else pc.and_(pa.array(present), groups.is_valid())
    encoded = groups.filter(kept).dictionary_encode()
    chosen, of = values[kept.to_numpy(zero_copy_only=False)], encoded.indices.to_numpy(zero_copy_only=False)
    lowest, documents = {}, {}
    order = np.argsort(of, kind="stable")
    bounds = np.searchsorted(of[order], np.arange(len(encoded.dictionary) + 1))
    for index, name in sorted(enumerate(encoded.dictionary.to_pylist()), key=lambda pair: str(pair[1])):
        scores = chosen[order[bounds[index] : bounds[index + 1]]]
        documents[str(name)] = len(scores)
        if len(scores) >= config.min_documents:
            lowest[str(name)] = round(lid_threshold(scores), 6)
    return {"min": lowest, "documents": documents}


@register(
    "near_median_by",
    version=1,
    reads=lambda config: (config.column, config.by, "doc_id"),
    writes=KEEP,
    config=NearMedianBy,
    fit=fit_thresholds,
    takes=lambda config: [(config.column, numbers_for("near_median_by")), (config.by, texts_for("near_median_by"))],
)
def near_median_by(config: NearMedianBy, fitted: dict[str, Any]) -> BatchFunction:
    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        values, present = numbers(batch.column(config.column), config.column, "near_median_by")
        keep, bounded = judge_by(values, batch.column(config.by), fitted["min"], {}, LOWEST_CONFIDENCE, None)
        return pa.record_batch([pa.array(keep & bounded & present)], schema=pa.schema(KEEP))

    return judge
