"""Runs of three sentences that other documents have too, after C4 (arXiv:1910.10683) as datatrove's sentence_dedup reads it.

Every window of `n` sentences in a row is a piece, compared in a normal form (letters and digits alone, lower case, without
diacritics, digits in a row as one). All windows but the first of each kind go, and with them their sentences: those of a
block that an earlier document has. `of: lines` takes lines for sentences, which is how C4 itself was made. Sentences end
where `factory.kernels.sentences` says; what has no letter or digit belongs to the sentence before it.

C4 then drops documents of which fewer than three sentences are left, and datatrove those of fewer than 50 words: two rules
of a recipe, `in_range` over `<label>_pieces_left` (min 3) and over `<label>_words_left` (min 50). Beware: over a whole
crawl FineWeb's three-line version lost four fifths of the tokens and made models worse (arXiv:2406.17557).
"""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.schema import SPANS
from factory.core.stage import BatchFunction

COLUMNS = {
    "keys": pa.list_(pa.uint64()),
    "spans": SPANS,
    "words": pa.list_(pa.uint32()),
    "text_bytes": pa.uint32(),
}


class Settings(Config):
    n: int = Field(default=3, ge=1, le=100)
    of: Literal["sentences", "lines"] = "sentences"
    keep: Literal["first", "none"] = "first"
    over: int = Field(default=1, ge=1, lt=2**31)


@register(
    "sentences",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    links="spans",
    join_settings=("keep", "over"),
)
def sentences(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.hashing import list_column
    from factory.kernels.passages import cut_lines, hash_passages
    from factory.kernels.sentences import cut_sentences
    from factory.kernels.span_keys import size_column, spans_column
    from factory.kernels.substrings import window_keys
    from factory.kernels.text import view_text

    cut = cut_sentences if config.of == "sentences" else cut_lines

    def keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        found = hash_passages(view, *cut(view))
        pieces, firsts = window_keys(found.keys, found.starts, config.n)
        columns = [
            list_column(pieces, firsts, view.valid),
            spans_column(found.begins, found.ends, found.starts, view.valid),
            list_column(found.words, found.starts, view.valid),
            size_column(view),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return keys
