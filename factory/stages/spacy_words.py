"""The words `spacy_en`: exactly the tokens of spaCy's English tokenizer, white space left out, at the speed of a table.

Tokens depend on white-space chunks alone (see `spacy_rules.tokenize` for the one exception, which is looked at), so most
chunks are cut by a kernel and the others are found in a table that grows with what is seen. The table is of this process
alone; when it has grown beyond a bound it is begun again. What a text's tokens are never depends on it.
"""

import threading
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from factory.kernels.chunks import BESIDE, ChunkTable, Rows, cut_chunks, fill_cut, find_run, simple_rules
from factory.kernels.pieces import Cut
from factory.kernels.text import Integers, TextView
from factory.stages.spacy_rules import Rules, english_rules, tokenize

_TABLE_BYTES = 64 << 20
_LONGEST_KEY = 1024  # bytes; longer chunks are seldom met again

Tokens = tuple[list[int], bool]  # where the tokens of a chunk end, in bytes, and whether the chunks beside it matter


class SpacyWords:
    """The cutter, with what it has seen."""

    def __init__(self, table_bytes: int = _TABLE_BYTES) -> None:
        self._rules = english_rules()
        rows = [row for found in self._rules.joined.values() for row in found]
        self._around = max(len(row) for row, _ in rows) - 1
        self._simple = simple_rules(
            self._rules.specials,
            [row for row, _ in rows],
            [row for row, special in rows if row != self._rules.specials[special]],
            enabled=self._rules.known,
        )
        self._table = ChunkTable()
        self._in_table: set[bytes] = set()  # of those that can be misses all the same, for what stands beside them
        self._table_bytes = table_bytes
        self._lock = threading.Lock()

    def __call__(self, view: TextView) -> Cut:
        with self._lock:
            if self._table.nbytes > self._table_bytes:
                self._table = ChunkTable()
                self._in_table = set()
            cut, misses = cut_chunks(view, *self._simple, self._table.entries)
            if not len(misses):
                return cut
            seen: dict[bytes, Tokens] = {}
            filled = fill_cut(cut, misses, *_resolve(view, misses, self._rules, self._around, seen))
            self._remember(seen)
            return filled

    def _remember(self, seen: dict[bytes, Tokens]) -> None:
        unknown = {
            key: tokens for key, tokens in seen.items() if len(key) <= _LONGEST_KEY and key not in self._in_table
        }
        self._table.add(
            list(unknown),
            [ends for ends, _ in unknown.values()],
            [int(BESIDE) if beside else 0 for _, beside in unknown.values()],
        )
        self._in_table.update(key for key, (_, beside) in unknown.items() if beside)


def _resolve(
    view: TextView, misses: Rows, rules: Rules, around: int, seen: dict[bytes, Tokens]
) -> tuple[Integers, Integers]:
    """How many tokens each miss has, and where they end; what holds for a chunk that stands alone goes to `seen`."""
    counts, every = list[int](), list[int]()
    for text, begin, end, _ in misses.tolist():
        key = view.data[begin:end].tobytes()
        if key not in seen:
            seen[key] = _tokens([key], 0, rules)
        ends, beside = seen[key]
        if beside:
            start, stop = find_run(view, text, begin, end, around)
            before = view.data[start:begin].tobytes().count(b" ")
            ends, _ = _tokens(view.data[start:stop].tobytes().split(b" "), before, rules)
        every += ends
        counts.append(len(ends))
    return np.array(counts, np.int64), np.array(every, np.int64)


def _tokens(chunks: list[bytes], chosen: int, rules: Rules) -> Tokens:
    """The tokens of one of these chunks."""
    texts = [chunk.decode(errors="surrogateescape") for chunk in chunks]
    lengths, changed = tokenize(texts, rules)
    text, at = texts[chosen], 0
    tokens = []
    for length in lengths[chosen]:
        tokens.append(text[at : at + length])
        at += length
    return list(_ends(tokens)), changed[chosen]


def _ends(tokens: Iterable[str]) -> Iterable[int]:
    return accumulate(len(token.encode(errors="surrogateescape")) for token in tokens)
