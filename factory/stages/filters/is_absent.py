"""Keeps documents that have no value in a column: no error, no older duplicate, no match with a benchmark."""

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction

KEEP = {"keep": pa.bool_()}


class IsAbsent(Config):
    column: str


@register("is_absent", version=1, reads=lambda config: (config.column,), writes=KEEP, config=IsAbsent)
def is_absent(config: IsAbsent) -> BatchFunction:
    def judge(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([batch.column(config.column).is_null()], schema=pa.schema(KEEP))

    return judge
