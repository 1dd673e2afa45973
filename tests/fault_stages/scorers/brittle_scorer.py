"""The length of a text, by a scorer that raises on texts that say `RAISE` and ends its process on those with `SEGFAULT`."""

import os
import signal

import pyarrow as pa

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction


@register("brittle_scorer", version=1, reads=("text",), writes={"length": pa.uint32()})
def brittle_scorer(config: NoSettings) -> BatchFunction:
    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch.column("text").to_pylist()
        if any("SEGFAULT" in (text or "") for text in texts):
            os.kill(os.getpid(), signal.SIGSEGV)
        if any("RAISE" in (text or "") for text in texts):
            raise RuntimeError("this text is not to my taste")
        lengths = [None if text is None else len(text) for text in texts]
        return pa.RecordBatch.from_arrays([pa.array(lengths, pa.uint32())], names=["length"])

    return score
