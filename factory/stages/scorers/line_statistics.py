"""What the lines of a text look like: bullets, ellipses, ends of sentences, short lines, lines per word.

A line ends at a line feed or at the end of the text. `terminal_punctuation_ratio` (ends a sentence in any script, or in a
quotation mark) and `short_line_ratio` (at most 30 characters) are shares of the lines that are not blank, after
arXiv:2406.17557; `newline_ratio` is line feeds per piece, that is per word or mark as `words` cuts them. White space
around a line counts for nothing. Of `bullet_ratio` and `ellipsis_line_ratio`, arXiv:2112.11446, Table A1, there are three
readings, and a threshold holds for one of them. `plain`: lines that begin with `•` or `-`, or end in `...` or `…`, as a
share of all lines. `datatrove`: the same of the lines of `str.splitlines`, which end at other separators too. `dclm`: also
`●` and `*`, and `. . .`, as a share of the lines that are not blank.
"""

from typing import Literal

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.segmentation import Words, word_packages

COLUMNS = {
    "lines": pa.uint32(),
    "blank_lines": pa.uint32(),
    "bullet_ratio": pa.float32(),
    "ellipsis_line_ratio": pa.float32(),
    "terminal_punctuation_ratio": pa.float32(),
    "short_line_ratio": pa.float32(),
    "newline_ratio": pa.float32(),
}


class LineStatistics(Config):
    words: Words = "unicode"
    reading: Literal["plain", "datatrove", "dclm"] = "plain"


@register("line_statistics", version=2, reads=("text",), writes=COLUMNS, config=LineStatistics, packages=word_packages)
def line_statistics(config: LineStatistics) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.columns import count_column, share_column
    from factory.kernels.lines import count_lines, count_python_lines
    from factory.kernels.pieces import pieces_of
    from factory.stages.segmentation import find_cutter

    cutter = find_cutter(config.words)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view, pieces = pieces_of(batch.column("text"), cutter)
        count = count_lines(view, zero_width=config.reading == "plain")
        written = count.lines - count.blank
        marked = count.bullets, count.ellipses, count.lines
        if config.reading == "datatrove":
            python = count_python_lines(view)
            marked = python.bullets, python.ellipses, python.lines
        elif config.reading == "dclm":
            marked = count.wide_bullets, count.wide_ellipses, written
        bullets, ellipses, lines = marked
        columns = [
            count_column(count.lines, view.valid),
            count_column(count.blank, view.valid),
            share_column(bullets, lines, view.valid),
            share_column(ellipses, lines, view.valid),
            share_column(count.terminal, written, view.valid),
            share_column(count.short, written, view.valid),
            share_column(count.feeds, np.diff(pieces.starts), view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
