"""How many words a text has, and how much they look like prose: length, letters, symbols, English stop words.

`words` names what cuts the text into pieces (see `factory.stages.segmentation`), `reading` whose rules of arXiv:2112.11446,
Table A1, the columns are for; a threshold holds for one reading and one cutter. Which pieces are *words*: those with a
letter or a number (`plain`); with anything but what FineWeb holds for punctuation (`datatrove`); that begin with a letter
or a number (`dclm`). `mean_word_length` is over words, of `dclm` over all pieces. `hash_ratio` and `ellipsis_ratio` are
`#` and `...` or `…` per piece, `symbol_ratio` both and `. . .` in one sum; `alpha_ratio` is the share of pieces with a
letter; `alpha_word_ratio` is per word, which suits technical text. `stop_words` counts how many different ones of the
eight there occur in lower case; of `dclm`, how often any occurs, in any case. datatrove's numbers are those of `reading:
datatrove` with `words: spacy_en`, DCLM's those of `reading: dclm` with `words: whitespace`.
"""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.segmentation import Words, word_packages

COLUMNS = {
    "bytes": pa.uint32(),
    "characters": pa.uint32(),
    "words": pa.uint32(),
    "mean_word_length": pa.float32(),
    "hash_ratio": pa.float32(),
    "ellipsis_ratio": pa.float32(),
    "symbol_ratio": pa.float32(),
    "alpha_ratio": pa.float32(),
    "alpha_word_ratio": pa.float32(),
    "stop_words": pa.uint32(),
}


class WordStatistics(Config):
    words: Words = "unicode"
    reading: Literal["plain", "datatrove", "dclm"] = "plain"


@register("word_statistics", version=2, reads=("text",), writes=COLUMNS, config=WordStatistics, packages=word_packages)
def word_statistics(config: WordStatistics) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.columns import count_column, share_column
    from factory.kernels.pieces import pieces_of
    from factory.kernels.words import count_words
    from factory.stages.segmentation import find_cutter

    cutter = find_cutter(config.words)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        view, pieces = pieces_of(text, cutter)
        count = count_words(view, pieces)
        words, stop_words = count.words, count.stop_words
        lengths = count.word_characters, words
        if config.reading == "datatrove":
            words, lengths = count.spoken, (count.spoken_characters, count.spoken)
        elif config.reading == "dclm":
            words, lengths = count.begun, (count.characters, count.pieces)
            stop_words = count.stop_word_occurrences
        symbols = count.hashes + count.ellipses + count.spaced_ellipses
        columns = [
            pc.binary_length(text).cast(pa.uint32()),
            pc.utf8_length(text).cast(pa.uint32()),
            count_column(words, view.valid),
            share_column(*lengths, view.valid),
            share_column(count.hashes, count.pieces, view.valid),
            share_column(count.ellipses, count.pieces, view.valid),
            share_column(symbols, count.pieces, view.valid),
            share_column(count.letters, count.pieces, view.valid),
            share_column(count.letters, words, view.valid),
            count_column(stop_words, view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
