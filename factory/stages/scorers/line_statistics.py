"""What the lines of a text look like: bullets, ellipses, ends of sentences, short lines, lines per word.

A line ends at a line feed or at the end of the text. `bullet_ratio` (lines that begin with `•` or `-`) and
`ellipsis_line_ratio` (that end in `...` or `…`) are shares of all lines, as datatrove reads the rules of arXiv:2112.11446,
Table A1. `terminal_punctuation_ratio` (ends a sentence in any script, or in a quotation mark) and `short_line_ratio` (at
most 30 characters) are shares of the lines that are not blank; `newline_ratio` is line feeds per piece, that is per word
or mark: the statistics of FineWeb, arXiv:2406.17557. White space around a line counts for nothing.
"""

import pyarrow as pa

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction

COLUMNS = {
    "lines": pa.uint32(),
    "blank_lines": pa.uint32(),
    "bullet_ratio": pa.float32(),
    "ellipsis_line_ratio": pa.float32(),
    "terminal_punctuation_ratio": pa.float32(),
    "short_line_ratio": pa.float32(),
    "newline_ratio": pa.float32(),
}


@register("line_statistics", version=1, reads=("text",), writes=COLUMNS)
def line_statistics(config: NoSettings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.columns import count_column, share_column
    from factory.kernels.text import count_lines, view_text

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        lines, blank, bullets, ellipses, terminal, short, feeds, pieces = count_lines(view).T
        columns = [
            count_column(lines, view.valid),
            count_column(blank, view.valid),
            share_column(bullets, lines, view.valid),
            share_column(ellipses, lines, view.valid),
            share_column(terminal, lines - blank, view.valid),
            share_column(short, lines - blank, view.valid),
            share_column(feeds, pieces, view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
