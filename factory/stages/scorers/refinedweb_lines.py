"""The line corrections of RefinedWeb: what they take out of a text, by rule, and which share of its words that is.

arXiv:2306.01116, as DCLM (arXiv:2406.11794) has the rules: shouted lines, lines of digits, counters, lines of one word go,
and in short lines `items in cart`, `Read more...` and `Sign-in`; see `factory.kernels.refinedweb` for each of them.
`removed` holds the byte ranges that go, all of the text where nothing is left. `removed_word_share` is (words before -
words after) / words before, words being runs between ASCII white space that begin with a letter or a number; DCLM drops a
document above 0.05. RedStone (arXiv:2412.03398) has `max_uppercase: 0.6`.
"""

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.schema import SPANS
from factory.core.stage import BatchFunction

COUNTS = (
    *("lines", "uppercase_lines", "numeric_lines", "counter_lines", "short_lines"),
    *("cart_lines", "read_more_lines", "sign_in_lines", "words", "words_left"),
)
COLUMNS = {
    **{name: pa.uint32() for name in COUNTS},
    "removed": SPANS,
    "removed_word_share": pa.float32(),
}


class RefinedWebLines(Config):
    max_uppercase: float | None = Field(0.5, ge=0, le=1)
    max_numeric: float | None = Field(0.999999, ge=0, le=1)
    counters: bool = True
    min_words_per_line: int | None = Field(2, ge=0)
    max_words_of_edited_lines: int | None = Field(10, ge=0)


@register("refinedweb_lines", version=1, reads=("text",), writes=COLUMNS, config=RefinedWebLines)
def refinedweb_lines(config: RefinedWebLines) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.c4 import spans_column
    from factory.kernels.columns import count_column, share_column
    from factory.kernels.refinedweb import Rules, correct_lines
    from factory.kernels.text import view_text

    rules = Rules(
        max_uppercase=1.0 if config.max_uppercase is None else config.max_uppercase,
        max_numeric=1.0 if config.max_numeric is None else config.max_numeric,
        counters=config.counters,
        min_words=0 if config.min_words_per_line is None else config.min_words_per_line,
        max_edited_words=-1 if config.max_words_of_edited_lines is None else config.max_words_of_edited_lines,
    )

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        counts, removed = correct_lines(view, rules)
        words, left = counts.T[-2:]
        columns = [
            *(count_column(column, view.valid) for column in counts.T),
            spans_column(view, removed, SPANS),
            share_column(words - left, words, view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
