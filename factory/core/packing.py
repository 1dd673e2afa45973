"""What packing is about: documents of known lengths become sequences, and sequences the steps of a training.

A copy of a document is an entry here: a number from 0 in the order the packer is given them, and a length in tokens. A
packer never sees a token. It says which tokens of which entries make up each sequence (`Pieces`), and in which order a
training reads the sequences (`Reading`). Both follow from the lengths, the settings and a seed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.config import Config

Integers = npt.NDArray[np.int64]
Texts = Callable[[], Iterable[pa.Array]]


class PackerSettings(Config):
    """Settings of every packer.

    With `document_mask` attention ends with the document, positions start again, and the first token of a document is not
    predicted. `mix: stratified` packs every domain on its own and reads their sequences in turn, so that after any number
    of sequences each domain is within one of its share; `shuffled` sequences keep to the shares as a random sample does.
    """

    document_mask: bool = False
    mix: Literal["shuffled", "stratified"] = "shuffled"


@dataclass(frozen=True)
class Pieces:
    """Sequences as rows of pieces: piece i is the tokens begins[i]..begins[i]+lengths[i]-1 of entry entries[i].

    Sequence s is the pieces starts[s]..starts[s+1]-1, one after the other, and has sizes[s] inputs. Its pieces have at most
    sizes[s] + 1 tokens, the last of which is a target only; where they have fewer, it is padded.
    """

    entries: Integers
    begins: Integers
    lengths: Integers
    starts: Integers
    sizes: Integers

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Reading:
    """Sequences in the order a training reads them; step k reads those at starts[k]..starts[k+1]-1, all of one size."""

    sequences: Integers
    starts: Integers

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Packer:
    """What a packer's factory returns.

    `pack(lengths, context, seed)` cuts. `read(sizes, step_tokens, steps, seed)` orders the sequences into at most so many
    steps; None: shuffled. `arrange(texts, seed)`, where there is one, gives the place of each document in an order of the
    packer's own, from all texts in parts (`texts` may be called again); it is made once, when tokens are written, and
    entries then come in that order. `isolated`: documents of one sequence never see each other, whatever `document_mask`
    says.
    """

    pack: Callable[[Integers, int, int], Pieces]
    read: Callable[[Integers, int, int, int], Reading] | None = None
    arrange: Callable[[Texts, int], Integers] | None = None
    isolated: bool = False


def spread(starts: Integers, counts: Integers) -> Integers:
    """starts[0], starts[0] + 1, ... counts[0] of them, then those from starts[1]: many ranges as one array."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - (ends - counts), counts))


def cut(lengths: Integers, context: int) -> Pieces:
    """One entry after the other, cut every `context` tokens; what does not fill the last sequence is left out.

    A sequence has the token that follows it as its last target, so that all but the first token of all is predicted once.
    """
    ends = np.cumsum(lengths)
    count = max(0, (int(ends[-1]) - 1) // context) if len(ends) else 0
    cuts = np.arange(count, dtype=np.int64) * context
    first = np.searchsorted(ends, cuts, side="right")
    last = np.searchsorted(ends, cuts + context, side="right")
    per_row = last - first + 1
    entries = spread(first, per_row)
    rows = np.repeat(cuts, per_row)
    before = ends[entries] - lengths[entries]
    begins = np.maximum(rows - before, 0)
    sizes = np.minimum(rows + context + 1 - before, lengths[entries]) - begins
    return rows_of(entries, begins, sizes, per_row, np.full(count, context, dtype=np.int64))


def rows_of(entries: Integers, begins: Integers, lengths: Integers, per_row: Integers, sizes: Integers) -> Pieces:
    """Pieces that lie row by row, so many a row; empty ones, of documents without tokens, are left out."""
    filled = lengths > 0
    before = np.concatenate([[0], np.cumsum(filled)])
    starts = before[np.concatenate([[0], np.cumsum(per_row)])]
    return Pieces(entries[filled], begins[filled], lengths[filled], starts.astype(np.int64), sizes)


def join(parts: Sequence[tuple[Pieces, Integers]]) -> Pieces:
    """Several tables of sequences as one; each comes with the numbers its entries have among all entries."""
    offsets = np.cumsum([0, *(len(pieces.entries) for pieces, _ in parts)])
    empty = [np.empty(0, dtype=np.int64)]
    return Pieces(
        np.concatenate([*(numbers[pieces.entries] for pieces, numbers in parts), *empty]),
        np.concatenate([*(pieces.begins for pieces, _ in parts), *empty]),
        np.concatenate([*(pieces.lengths for pieces, _ in parts), *empty]),
        np.concatenate(
            [*(p.starts[:-1] + at for (p, _), at in zip(parts, offsets, strict=False)), offsets[-1:]]
        ).astype(np.int64),
        np.concatenate([*(pieces.sizes for pieces, _ in parts), *empty]),
    )
