"""How often some few words follow themselves at once: `ab ab ab` is three repetitions of a group of one.

OLMo 2 (arXiv:2501.00656) drops documents where 1 to 13 tokens are repeated 32 times or more in a row, which make training
loss spike; Dolma's tagger (arXiv:2402.00159) marks 100. `repetitions` is the most of any group of up to `longest_period`,
1 if nothing is repeated at once, and `period` the group's size, the smallest of those. Groups cut off at the end of a row
do not count. Tokens are here the words and marks of the cutter `words`, whose marks (`-----`) are one token as a rule;
`over: bytes` looks at bytes instead.
"""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.segmentation import Words, find_cutter, word_packages

COLUMNS = {"repetitions": pa.uint32(), "period": pa.uint32()}


class Settings(Config):
    over: Literal["words", "bytes"] = "words"
    words: Words = "unicode"
    longest_period: int = Field(default=13, ge=1, le=1000)


@register("repeated_runs", version=1, reads=("text",), writes=COLUMNS, config=Settings, packages=word_packages)
def repeated_runs(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.columns import count_column
    from factory.kernels.pieces import pieces_of
    from factory.kernels.runs import longest_runs
    from factory.kernels.text import view_text

    cutter = find_cutter(config.words)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        if config.over == "words":
            view, pieces = pieces_of(text, cutter)
            items, starts = pieces.hashes, pieces.starts
        else:
            view = view_text(text)
            first, last = int(view.offsets[0]), int(view.offsets[-1])
            items, starts = view.data[first:last].astype(np.uint64), view.offsets - first
        runs = longest_runs(items, starts, config.longest_period)
        columns = [count_column(column, view.valid) for column in runs.T]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
