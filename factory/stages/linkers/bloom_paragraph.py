"""Paragraphs that were seen before, fuzzily: the hashes of all word n-grams of each, which a Bloom filter is then asked for.

DCLM's BFF in its mode `old-both` (arXiv:2406.11794): texts are cut into paragraphs at line feeds, paragraphs into the words
between the default boundaries of Unicode, and words into n-grams of 13. A paragraph of which the `threshold` share of
n-grams is known goes, and with such a share of a document's n-grams, the document. A paragraph with fewer than `min_ngram`
words (13 by default, as `ngram`) has no n-grams: it is never removed, and nothing is a copy of it.

`false_positives` is the chance that an n-gram nobody has seen is held for known; it sizes the filter. `shards` cuts the
documents, by their ids, into so many sets that know nothing of each other: it bounds memory, and finds fewer copies. Spans
are byte ranges of paragraphs, one for each, and `counts` how many of the keys are of each.
"""

from typing import Self

import pyarrow as pa
from pydantic import Field, model_validator

from factory.core.config import Config
from factory.core.registry import register
from factory.core.schema import SPANS
from factory.core.stage import BatchFunction
from factory.stages.segmentation import Words, find_cutter, word_packages

COLUMNS = {"keys": pa.list_(pa.uint64()), "spans": SPANS, "counts": pa.list_(pa.uint32())}


class Settings(Config):
    ngram: int = Field(default=13, ge=1, le=64)
    min_ngram: int | None = Field(default=None, ge=1, le=64)
    words: Words = "uax29"
    threshold: float = Field(default=0.8, gt=0, le=1)
    false_positives: float = Field(default=0.01, gt=1e-12, lt=0.5)
    shards: int = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _least_is_no_more(self) -> Self:
        if self.min_ngram is not None and self.min_ngram > self.ngram:
            raise ValueError(
                f"min_ngram {self.min_ngram} is above ngram {self.ngram}; it is the least of words, at most ngram"
            )
        return self


@register(
    "bloom_paragraph",
    version=1,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    packages=word_packages,
    links="paragraphs",
    join_settings=("threshold", "false_positives", "shards"),
)
def bloom_paragraph(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.bloom import paragraph_ngrams
    from factory.kernels.hashing import list_column
    from factory.kernels.pieces import pieces_of
    from factory.kernels.span_keys import spans_column

    cutter = find_cutter(config.words)
    least = config.ngram if config.min_ngram is None else config.min_ngram

    def keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        view, pieces = pieces_of(batch.column("text"), cutter)
        found = paragraph_ngrams(view, pieces, config.ngram, least)
        columns = [
            list_column(found.keys, found.key_starts, view.valid),
            spans_column(found.begins, found.ends, found.paragraph_starts, view.valid),
            list_column(found.counts, found.paragraph_starts, view.valid),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return keys
