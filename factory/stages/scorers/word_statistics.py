"""How many words a text has, and how much they look like prose: length, letters, symbols, English stop words.

Words, marks and pieces are defined in `factory.kernels.text`. `mean_word_length` is over words; `hash_ratio` and
`ellipsis_ratio` are `#` and `...` or `…` per piece, `alpha_ratio` is the share of pieces with a letter, marks included, as
datatrove reads the rules of arXiv:2112.11446, Table A1; `alpha_word_ratio` leaves the marks out, which suits technical
text. `stop_words` counts how many different ones of the eight there occur, in lower case.
"""

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction

COLUMNS = {
    "bytes": pa.uint32(),
    "characters": pa.uint32(),
    "words": pa.uint32(),
    "mean_word_length": pa.float32(),
    "hash_ratio": pa.float32(),
    "ellipsis_ratio": pa.float32(),
    "alpha_ratio": pa.float32(),
    "alpha_word_ratio": pa.float32(),
    "stop_words": pa.uint32(),
}


@register("word_statistics", version=1, reads=("text",), writes=COLUMNS)
def word_statistics(config: NoSettings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.columns import count_column, share_column
    from factory.kernels.text import count_words, view_text

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        view = view_text(text)
        words, characters, pieces, alphabetic, hashes, ellipses, stop_words = count_words(view).T
        columns = [
            pc.binary_length(text).cast(pa.uint32()),
            pc.utf8_length(text).cast(pa.uint32()),
            count_column(words, view.valid),
            share_column(characters, words, view.valid),
            share_column(hashes, pieces, view.valid),
            share_column(ellipses, pieces, view.valid),
            share_column(alphabetic, pieces, view.valid),
            share_column(alphabetic, words, view.valid),
            count_column(stop_words, view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
