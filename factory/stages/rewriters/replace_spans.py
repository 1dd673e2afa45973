"""Puts one and the same text in the place of what a scorer marked: a line feed for the odd line breaks C4 joins lines at."""

import numpy as np
import pyarrow as pa

from factory.core.columns import is_list_of_structs, spans_for
from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.schema import EDITS, SPANS
from factory.core.stage import BatchFunction


class ReplaceSpans(Config):
    column: str
    replacement: str


@register(
    "replace_spans",
    version=1,
    reads=lambda config: (config.column,),
    writes={"edits": EDITS},
    config=ReplaceSpans,
    takes=lambda config: [(config.column, spans_for("replace_spans"))],
)
def replace_spans(config: ReplaceSpans) -> BatchFunction:
    def rewrite(batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(config.column)
        if not is_list_of_structs(column.type):
            raise FactoryError(spans_for("replace_spans")(config.column, column.type))
        column = column.cast(SPANS)
        spans = column.flatten()
        replacements = pa.repeat(pa.scalar(config.replacement), len(spans))
        edits = pa.StructArray.from_arrays(
            [spans.field("start"), spans.field("end"), replacements], fields=list(EDITS.value_type)
        )
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, edits, type=EDITS, mask=column.is_null())
        return pa.record_batch([lists], names=["edits"])

    return rewrite
