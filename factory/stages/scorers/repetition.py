"""How much of a text is said more than once: lines, paragraphs and n-grams, after arXiv:2112.11446, Table A1.

The table leaves open what a share is of, so there are two readings, and a threshold holds for one of them only.
`datatrove` (FineWeb): lines and paragraphs after their first copy, and so the empty ones before a first and after a last
line feed; n-grams of words and marks; characters as a share of all characters of the text; the top n-gram counts with its
spaces, even if it occurs once; repeated n-grams are met from left to right and jumped over. `dclm` (DCLM, RedPajama-V2):
all copies of what occurs more than once, of stripped lines and paragraphs that are not empty; n-grams of words alone;
characters as a share of those of lines, paragraphs or words; the longest of the most frequent n-grams, if it occurs twice;
all words in a repeated n-gram. Lines lie between runs of line feeds, paragraphs between runs of two or more. `words` names
what cuts the text into words and marks; datatrove's are `spacy_en`, those of DCLM are nearly `unicode`. A top n-gram that
overlaps itself can make its share exceed 1.
"""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.segmentation import Words, word_packages

NAMES = (
    "duplicate_lines",
    "duplicate_line_characters",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    *(f"top_{n}_gram" for n in (2, 3, 4)),
    *(f"duplicate_{n}_grams" for n in (5, 6, 7, 8, 9, 10)),
)
COLUMNS = {name: pa.float32() for name in NAMES}


class Repetition(Config):
    words: Words = "unicode"
    reading: Literal["datatrove", "dclm"] = "datatrove"


@register("repetition", version=2, reads=("text",), writes=COLUMNS, config=Repetition, packages=word_packages)
def repetition(config: Repetition) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.columns import Counts, share_column
    from factory.kernels.lines import hash_segments
    from factory.kernels.pieces import pieces_of
    from factory.kernels.repetition import repeated_items, repeated_ngrams
    from factory.kernels.text import TextView
    from factory.stages.segmentation import find_cutter

    cutter = find_cutter(config.words)
    dclm = config.reading == "dclm"

    def segment_shares(view: TextView, characters: Counts, line_feeds: int) -> list[pa.Array]:
        segments = repeated_items(hash_segments(view, line_feeds, stripped=dclm))
        items, item_characters, later, later_characters, every, every_characters = segments.T
        if dclm:
            pairs = [(every, items), (every_characters, item_characters)]
        else:
            pairs = [(later, items), (later_characters, characters)]
        return [share_column(part, whole, view.valid & (items > 0)) for part, whole in pairs]

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        view, pieces = pieces_of(text, cutter)
        characters = pc.utf8_length(text).fill_null(0).cast(pa.int64()).to_numpy()
        ngrams, word_characters = repeated_ngrams(pieces, covering=dclm)
        columns = [
            *segment_shares(view, characters, 1),
            *segment_shares(view, characters, 2),
            *(share_column(part, word_characters if dclm else characters, view.valid) for part in ngrams.T),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return score
