"""Lines that many documents share: menus, footers, notices, found by a 64-bit hash of each line.

cc_net (arXiv:1911.00359) drops every line it met in another document of its 50 shards, the first copy too: `keep: none,
over: 1, within: remove, normal: cc_net`. Llama 3 (arXiv:2407.21783) drops lines that occur more than six times: `over: 6`,
the default, here with the first document's copy kept. Documents are counted, not occurrences: a line that a document
repeats counts once. Its copies there go or stay with the first of them (`within: keep`); with `within: remove`, cc_net's
rule, a document keeps one copy of a line at most, however rare the line is elsewhere. Lines of fewer than `min_chars`
characters without the white space around them stay, and so do code blocks between ``` and mathematics between $$.

`normal: exact` compares lines without white space at both ends; `cc_net` compares them in lower case, with every digit 0
and without the punctuation outside ASCII and control characters that cc_net's `normalize_for_dedup` takes out. The hash is
not its SHA-1 cut to eight bytes: hashes are compared with each other alone, and SHA-1 takes as long as all the rest.
"""

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from factory.core.config import Config
from factory.core.registry import register
from factory.core.schema import SPANS
from factory.core.stage import BatchFunction

COLUMNS = {
    "keys": pa.list_(pa.uint64()),
    "spans": SPANS,
    "repeats": SPANS,
    "repeat_of": pa.list_(pa.uint32()),
    "text_bytes": pa.uint32(),
}


class Settings(Config):
    normal: Literal["exact", "cc_net"] = "exact"
    min_chars: int = Field(default=10, ge=1, le=10_000)
    keep: Literal["first", "none"] = "first"
    over: int = Field(default=6, ge=1, lt=2**31)
    within: Literal["keep", "remove"] = "keep"


@register(
    "lines",
    version=2,
    reads=("text",),
    writes=COLUMNS,
    config=Settings,
    links="spans",
    join_settings=("keep", "over", "within"),
)
def lines(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.hashing import list_column
    from factory.kernels.passages import hash_lines
    from factory.kernels.span_keys import count_rows, size_column, spans_column
    from factory.kernels.text import view_text

    def keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        found = hash_lines(view, least=config.min_chars, cc_net=config.normal == "cc_net")
        first = found.same == np.arange(len(found.same))
        again = ~first
        firsts, agains = (count_rows(kept, found.starts) for kept in (first, again))
        # The number of a line among the pieces of its text.
        repeat_of = (np.cumsum(first) - 1)[found.same[again]] - np.repeat(firsts[:-1], np.diff(agains))
        columns = [
            list_column(found.keys[first], firsts, view.valid),
            spans_column(found.begins[first], found.ends[first], firsts, view.valid),
            spans_column(found.begins[again], found.ends[again], agains, view.valid),
            list_column(repeat_of.astype(np.uint32), agains, view.valid),
            size_column(view),
        ]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return keys
