"""Encodings: the token ids of every document, made once and shared by all experiments."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from factory.core.stage import BatchFunction
from factory.recipes.steps.rewriting import Rewriter


def encoder(
    path: str, rewriter: Rewriter, *, bos: bool, eos: bool
) -> tuple[BatchFunction, tuple[str, ...], Mapping[str, pa.DataType]]:
    """A column stage that encodes: `tokens` (their number, with BOS and EOS) and `ids`; null for a record without text."""
    from factory.training.tokenizer import Encoder

    tokenizer = Encoder(path, bos=bos, eos=eos)
    ids_type = pa.list_(pa.from_numpy_dtype(tokenizer.dtype))
    writes = {"tokens": pa.uint32(), "ids": ids_type}

    def encode(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = rewriter.texts(batch)
        valid = texts.is_valid().to_numpy(zero_copy_only=False)
        ids, lengths = tokenizer.encode(texts.drop_null())
        counts = np.zeros(len(texts), np.int64)
        counts[valid] = lengths
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids), mask=pa.array(~valid))
        return pa.RecordBatch.from_arrays(
            [pa.array(counts, mask=~valid).cast(pa.uint32()), lists], names=["tokens", "ids"]
        )

    return encode, rewriter.reads, writes
