"""RedPajama-V2's quality signals (arXiv:2411.12372): those of a text alone, by their upstream definitions.

A column is the upstream signal without `rps_doc_`: `curly_bracket` (per character), `frac_all_caps_words`,
`frac_no_alph_words` (no ASCII letter) and `symbol_to_word_ratio` (`#`, `...`, `…`) over raw words, `num_sentences`,
`frac_lines_end_with_ellipsis`; over words in the normal form nf-rpv2 `word_count`, `mean_word_length`,
`frac_unique_words`, `unigram_entropy` (nats), `lorem_ipsum` (per normalised character), `frac_chars_top_{2,3,4}gram` (the
first among equals, 0 if it occurs once) and `frac_chars_dupe_{5..10}grams` (every word that a repeated n-gram covers).
`length` and `nlines` are `ccnet_length` and `ccnet_nlines`. Signals of lines, `rps_lines_*`, are here means over the
lines of a document (`lines_…`; `lines_ending_with_terminal_punctuation_mark` is spelt as it should be), and with
`lines: true` also lists with a value per line (`each_line_…`), blank lines included.

Unlike upstream, a share of nothing is null and not 0, `lines_*` of a text without lines are null, and nothing is rounded.
Not here: `stop_words` and `bad_words` count words of lists, `importance` and `fasttext_quality` need a model,
`perplexity` is CCNet's, and duplicates are links.
"""

from typing import Any

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction, Columns

LINES = (
    "ending_with_terminal_punctuation_mark",
    "javascript_counts",
    "num_words",
    "numerical_chars_fraction",
    "start_with_bulletpoint",
    "uppercase_letter_fraction",
)
COLUMNS = {
    "length": pa.uint32(),
    "nlines": pa.uint32(),
    "word_count": pa.uint32(),
    "num_sentences": pa.uint32(),
    "mean_word_length": pa.float32(),
    "symbol_to_word_ratio": pa.float32(),
    "curly_bracket": pa.float32(),
    "lorem_ipsum": pa.float32(),
    "frac_all_caps_words": pa.float32(),
    "frac_no_alph_words": pa.float32(),
    "frac_unique_words": pa.float32(),
    "unigram_entropy": pa.float32(),
    "frac_lines_end_with_ellipsis": pa.float32(),
    **{f"frac_chars_top_{n}gram": pa.float32() for n in (2, 3, 4)},
    **{f"frac_chars_dupe_{n}grams": pa.float32() for n in (5, 6, 7, 8, 9, 10)},
    **{f"lines_{name}": pa.float32() for name in LINES},
}


class Settings(Config):
    lines: bool = False


def _columns(config: Settings) -> Columns:
    return {**COLUMNS, **{f"each_line_{name}": pa.list_(pa.float32()) for name in LINES if config.lines}}


@register("rpv2", version=1, reads=("text",), writes=_columns, config=Settings)
def rpv2(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.columns import count_column, share_column
    from factory.kernels.rpv2 import COUNTS, LINE_COUNTS, Counted, count_signals
    from factory.kernels.text import view_text

    schema = pa.schema(_columns(config))

    def line_values(counted: Counted) -> list[Any]:
        """A value per line, in the order of LINES."""
        line = dict(zip(LINE_COUNTS, counted.lines.T, strict=True))
        # A line of punctuation and its line feed normalises to nothing; upstream calls that 0.
        normal = np.maximum(line["normal_characters"], 1)
        return [
            line["terminal"].astype(np.float64),
            line["javascript"].astype(np.float64),
            line["words"].astype(np.float64),
            line["numeric"] / normal,
            line["bullet"].astype(np.float64),
            line["upper"] / line["characters"],
        ]

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        counted = count_signals(view)
        count = dict(zip(COUNTS, counted.counts.T, strict=True))
        valid, words, raw_words = view.valid, count["words"], count["raw_words"]
        letters = count["word_characters"]

        def share(name: str, whole: Any) -> pa.Array:
            return share_column(count[name], whole, valid)

        made = [
            count_column(count["characters"], valid),
            count_column(count["lines"], valid),
            count_column(words, valid),
            count_column(count["sentences"], valid),
            share("word_characters", words),
            share("symbols", raw_words),
            share("curly_brackets", count["characters"]),
            share("lorem_ipsum", letters + np.maximum(words - 1, 0)),
            share("all_caps_words", raw_words),
            share_column(raw_words - count["alphabetic_words"], raw_words, valid),
            share("distinct_words", words),
            pa.array(counted.entropy.astype(np.float32), mask=~(valid & (words > 0))),
            share("ellipsis_lines", count["lines"]),
            *(share(f"top_{n}", letters) for n in (2, 3, 4)),
            *(share(f"duplicate_{n}", letters) for n in (5, 6, 7, 8, 9, 10)),
        ]
        values = line_values(counted)
        for each in values:
            # Sums of one document's lines only: running sums over a batch would depend on its other rows.
            sums: Any = np.add.reduceat(np.append(each, 0.0), counted.starts[:-1]) if len(valid) else np.zeros(0)
            made.append(share_column(sums, count["lines"], valid))
        if config.lines:
            offsets = pa.array(counted.starts.astype(np.int32), mask=np.append(~valid, False))
            made += [pa.ListArray.from_arrays(offsets, pa.array(each.astype(np.float32))) for each in values]
        return pa.record_batch(made, schema=schema)

    return score
