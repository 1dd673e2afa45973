"""Takes out of a text what a scorer or a link marked: lines that C4 or RefinedWeb drop, duplicated spans, boilerplate.

`join` is put at every cut that leaves text on both sides: without it what stood before a duplicated passage runs on into
what stood behind it, and a blank line (`"\\n\\n"`) keeps strangers apart.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from factory.core.columns import is_list_of_structs, spans_for
from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.schema import EDITS, SPANS
from factory.core.stage import BatchFunction


class RemoveSpans(Config):
    column: str
    join: str = Field(default="", max_length=100)


def _reads(config: RemoveSpans) -> tuple[str, ...]:
    return (config.column, "text") if config.join else (config.column,)


@register(
    "remove_spans",
    version=2,
    reads=_reads,
    writes={"edits": EDITS},
    config=RemoveSpans,
    takes=lambda config: [(config.column, spans_for("remove_spans"))],
)
def remove_spans(config: RemoveSpans) -> BatchFunction:
    def rewrite(batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(config.column)
        if not is_list_of_structs(column.type):
            raise FactoryError(spans_for("remove_spans")(config.column, column.type))
        column = column.cast(SPANS)
        spans = column.flatten()
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        replacements = pa.repeat(pa.scalar(""), len(spans))
        if config.join:
            sizes = np.repeat(pc.binary_length(batch.column("text")).fill_null(0).to_numpy(), counts)
            inner = (spans.field("start").to_numpy() > 0) & (spans.field("end").to_numpy() < sizes)
            replacements = pc.if_else(pa.array(inner), config.join, "")
        edits = pa.StructArray.from_arrays(
            [spans.field("start"), spans.field("end"), replacements], fields=list(EDITS.value_type)
        )
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, edits, type=EDITS, mask=column.is_null())
        return pa.record_batch([lists], names=["edits"])

    return rewrite
