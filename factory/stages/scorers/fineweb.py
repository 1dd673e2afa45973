"""The line statistics of FineWeb: ends of sentences, short lines, repeated lines, line feeds per word.

arXiv:2406.17557, section 3.6, in the reading of datatrove's FineWebQualityFilter. A line ends at a line feed; those of white
space alone are none. `line_punctuation_ratio`: lines that end in a sentence-ending mark of any script (no quotation marks,
no white space after it); `short_line_ratio`: lines of at most 30 characters; `duplicate_line_character_ratio`: characters
in second and later copies of a line over all characters but line feeds; `newline_word_ratio`: line feeds per word, marks
counting as words. FineWeb runs after C4, which edits the text: `after: c4` takes the statistics of the text as C4's line
pass (settings `c4`) leaves it; no text is written for that.
"""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.line_rules import C4Lines
from factory.stages.segmentation import Words, word_packages

NAMES = ("line_punctuation_ratio", "short_line_ratio", "duplicate_line_character_ratio", "newline_word_ratio")
COLUMNS = {name: pa.float32() for name in NAMES}

# Their words depend on nothing beyond white space, so that whole lines can go without cutting the rest again.
_CUT_BY_LINE = ("unicode", "whitespace", "spacy_en")


class FineWeb(Config):
    words: Words = "unicode"
    short_line: int = Field(30, ge=1)
    after: Literal["none", "c4"] = "none"
    c4: C4Lines = C4Lines(terminal_punctuation=False)  # as FineWeb has it


@register("fineweb", version=1, reads=("text",), writes=COLUMNS, config=FineWeb, packages=word_packages)
def fineweb(config: FineWeb) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.c4 import LineRules, count_kept_pieces, edit_texts, lines_of, select_texts
    from factory.kernels.columns import Counts, share_column
    from factory.kernels.fineweb import count_fineweb_lines
    from factory.kernels.pieces import pieces_of
    from factory.kernels.text import TextView, view_text
    from factory.stages.segmentation import find_cutter

    cutter = find_cutter(config.words)
    rules = LineRules(*config.c4.rules())
    by_line = config.words in _CUT_BY_LINE

    def edited(text: pa.Array) -> tuple[TextView, Counts]:
        marked = lines_of(text, rules)
        view = edit_texts(marked)
        if not by_line:
            return view, _counts(cutter(view).starts)
        _, pieces = pieces_of(text, cutter)
        words = count_kept_pieces(marked, pieces.begins, pieces.starts)
        again = marked.cited.nonzero()[0]  # a citation mark may have parted what now is one word
        if len(again):
            words[again] = _counts(cutter(select_texts(view, again)).starts)
        return view, words

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        if config.after == "c4":
            view, words = edited(text)
        else:
            view = view_text(text)
            words = _counts(pieces_of(text, cutter)[1].starts)
        lines, punctuated, short, repeated, characters, feeds = count_fineweb_lines(view, config.short_line).T
        written = view.valid & (lines > 0)
        columns = [
            share_column(punctuated, lines, written),
            share_column(short, lines, written),
            share_column(repeated, characters, written),
            share_column(feeds, words, written),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    def _counts(starts: Counts) -> Counts:
        return starts[1:] - starts[:-1]

    return score
