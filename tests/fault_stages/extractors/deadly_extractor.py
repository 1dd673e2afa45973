"""A parser that ends its process on some documents, as a C library does: those whose text says `SEGFAULT` or `ABORT`."""

import os
import signal

import pyarrow as pa

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction


@register("deadly_extractor", version=1, reads=("text",), writes={"text": pa.large_string()})
def deadly_extractor(config: NoSettings) -> BatchFunction:
    def extract(batch: pa.RecordBatch) -> pa.RecordBatch:
        for text in batch.column("text").to_pylist():
            if "SEGFAULT" in (text or ""):
                os.kill(os.getpid(), signal.SIGSEGV)
            if "ABORT" in (text or ""):
                os.kill(os.getpid(), signal.SIGABRT)
        return batch.select(["text"])

    return extract
