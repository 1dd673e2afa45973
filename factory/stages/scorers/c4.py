"""The line rules of C4: which lines they drop, what they take out of the text, and how many sentences are left.

arXiv:1910.10683, section 2.2, in the reading of datatrove's C4QualityFilter: a line ends where `str.splitlines` ends it;
it is dropped by the first rule it breaks (a word of more than 1,000 characters, no terminal punctuation mark, fewer than
three words, `javascript`, a policy phrase); citation marks and the white space around lines go. FineWeb (arXiv:2406.17557)
runs it with `terminal_punctuation: false`. `removed` holds the byte ranges that go; `odd_breaks` those line breaks between
kept lines that are no line feeds and become one (see the rewriter `replace_spans`): with both done, the text is that of
datatrove byte for byte. `lorem_ipsum` and `curly_bracket` tell whether a line that reached that rule holds one. `sentences`
are those of the kept lines, as spaCy's sentencizer counts them over the tokens that `words` cuts; at least one a line.
`long_lines` are the lines of 200 characters or more, of which mC4 (arXiv:2010.11934) wants three.
"""

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.registry import register
from factory.core.schema import SPANS
from factory.core.stage import BatchFunction
from factory.stages.line_rules import C4Lines
from factory.stages.segmentation import Words, word_packages

COUNTS = (
    *("lines", "kept_lines", "long_word_lines", "unpunctuated_lines", "short_lines", "javascript_lines"),
    *("policy_lines", "sentences", "long_lines"),
)
COLUMNS = {
    **{name: pa.uint32() for name in COUNTS},
    "lorem_ipsum": pa.bool_(),
    "curly_bracket": pa.bool_(),
    "removed": SPANS,
    "odd_breaks": SPANS,
    "removed_share": pa.float32(),
}


class C4(C4Lines):
    words: Words = "unicode"


@register("c4", version=1, reads=("text",), writes=COLUMNS, config=C4, packages=word_packages)
def c4(config: C4) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.c4 import COUNTED, LineRules, Marked, edited_lines, lines_of, spans_column, sum_by_text
    from factory.kernels.chunks import count_sentences, sentence_counts
    from factory.kernels.columns import Counts, count_column, share_column
    from factory.kernels.pieces import Cut, pieces_of
    from factory.stages.segmentation import find_cutter

    rules = LineRules(*config.rules())
    cutter = find_cutter(config.words)
    runs = config.words != "spacy_en"

    def sentences(text: pa.Array, marked: Marked) -> Counts:
        view, pieces = pieces_of(text, cutter)
        cut, lines = Cut(pieces.begins, pieces.ends, pieces.starts), marked.lines
        counts = sentence_counts(view, cut, lines.begins, lines.ends, runs=runs)
        again = np.repeat(marked.cited, np.diff(lines.starts)).nonzero()[0]
        if len(again):  # a citation mark may have parted what now is one word
            edited = edited_lines(marked, again)
            counts[again] = count_sentences(edited, cutter(edited), runs=runs)
        return sum_by_text(np.maximum(counts, 1), lines)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        marked = lines_of(text, rules)
        valid = marked.view.valid
        counts = dict(zip(COUNTED, marked.counts.T, strict=True))
        sizes = pc.binary_length(text).fill_null(0).cast(pa.int64()).to_numpy()
        columns = {
            **{name: count_column(counts[name], valid) for name in COUNTS if name != "sentences"},
            "sentences": count_column(sentences(text, marked), valid),
            "lorem_ipsum": pa.array(counts["lorem_ipsum"] > 0, mask=~valid),
            "curly_bracket": pa.array(counts["curly_bracket"] > 0, mask=~valid),
            "removed": spans_column(marked.view, marked.removed, SPANS),
            "odd_breaks": spans_column(marked.view, marked.breaks, SPANS),
            "removed_share": share_column(counts["removed_bytes"], sizes, valid),
        }
        return pa.record_batch([columns[name] for name in COLUMNS], schema=pa.schema(COLUMNS))

    return score
