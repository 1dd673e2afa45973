"""Takes out of a text what a scorer marked: lines that C4 or RefinedWeb drop, duplicated spans, boilerplate."""

import numpy as np
import pyarrow as pa

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.schema import EDITS, SPANS
from factory.core.stage import BatchFunction


class RemoveSpans(Config):
    column: str


@register("remove_spans", version=1, reads=lambda config: (config.column,), writes={"edits": EDITS}, config=RemoveSpans)
def remove_spans(config: RemoveSpans) -> BatchFunction:
    def rewrite(batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(config.column)
        if not pa.types.is_list(column.type) or not pa.types.is_struct(column.type.value_type):
            raise FactoryError(
                f"remove_spans takes a column of spans, and '{config.column}' holds {column.type}. "
                "Columns of spans are named …removed."
            )
        column = column.cast(SPANS)
        spans = column.flatten()
        edits = pa.StructArray.from_arrays(
            [spans.field("start"), spans.field("end"), pa.repeat(pa.scalar(""), len(spans))],
            fields=list(EDITS.value_type),
        )
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, edits, type=EDITS, mask=column.is_null())
        return pa.record_batch([lists], names=["edits"])

    return rewrite
