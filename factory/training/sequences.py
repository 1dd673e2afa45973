"""Sequences out of a token file: a table of pieces, and what a training reads of any rows of it.

In: the file, which tokens of which documents make up each sequence (`factory.core.packing.Pieces`), and tokens that stand
before documents without being in the file (`Prefixes`). Out: ids, which predictions count, and where documents begin. A
batch is one gather over the memory map, however short the pieces are.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.core.fingerprint import digest_bytes
from factory.core.packing import Integers, Pieces, spread
from factory.storage.tokens import TokenFile
from factory.training.batch import Batch


@dataclass(frozen=True)
class Entries:
    """Copies of documents, in the order in which they are packed: the document's number in the file, and the copy's."""

    documents: Integers
    copies: Integers

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, numbers: Integers) -> "Entries":
        return Entries(self.documents[numbers], self.copies[numbers])


@dataclass(frozen=True)
class Prefixes:
    """Tokens before the text of documents: those of document d are ids[starts[d]..starts[d + 1] - 1].

    `behind` are the tokens of the file that stay before them: 1 where documents begin with BOS, else 0.
    """

    ids: npt.NDArray[np.int64]
    starts: Integers
    behind: int = 0

    def lengths(self, documents: Integers) -> Integers:
        found: Integers = self.starts[documents + 1] - self.starts[documents]
        return found


class Place(NamedTuple):
    """A token: the document's number in the file, the number of the copy, and the token's in the copy (metadata counted)."""

    document: int
    copy: int
    token: int


class SequenceTable:
    """Sequences by number. With `masked`, no prediction and no attention crosses from one document to the next."""

    def __init__(
        self, file: TokenFile, entries: Entries, pieces: Pieces, *, masked: bool, prefixes: Prefixes | None = None
    ) -> None:
        self.file, self.entries, self.pieces = file, entries, pieces
        self.masked, self.prefixes = masked, prefixes
        # Parts are what lies side by side in the file (or among the prefixes): a piece, or up to three of it.
        self._part_of, self._sources, self._lengths, self._hidden = self._parts()
        before = np.searchsorted(self._part_of, np.arange(len(pieces.entries) + 1))
        self._starts = before[pieces.starts]
        owners = pieces.entries
        first = np.ones(len(owners), dtype=bool)
        first[1:] = owners[1:] != owners[:-1]
        first[pieces.starts[:-1][pieces.starts[:-1] < len(owners)]] = True
        # Whether a part begins another document than what stands before it in its row.
        self._begins = first[self._part_of] & np.diff(self._part_of, prepend=-1).astype(bool)

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def digest(self) -> str:
        """Covers all that decides what a sequence is."""
        arrays = [*vars(self.entries).values(), *vars(self.pieces).values()]
        content = b"".join(np.asarray(array, dtype="<i8").tobytes() for array in arrays)
        if self.prefixes is not None:
            content += self.prefixes.ids.astype("<i8").tobytes() + self.prefixes.starts.astype("<i8").tobytes()
        return digest_bytes(f"{self.file.digest} {self.masked}".encode() + content)

    @property
    def entry_tokens(self) -> int:
        """Tokens of all copies, metadata included: what could be packed."""
        documents = self.entries.documents
        shown = 0 if self.prefixes is None else int(self.prefixes.lengths(documents).sum())
        return int(self.file.lengths[documents].sum()) + shown

    @cached_property
    def plain(self) -> bool:
        """Whether every prediction counts: nothing is padded, masked, or before a document."""
        if self.masked or self.prefixes is not None:
            return False
        filled = np.add.reduceat(self.pieces.lengths, self.pieces.starts[:-1]) if len(self) else self.pieces.sizes
        return bool((filled > self.pieces.sizes).all())

    def read(self, numbers: Integers, size: int) -> Batch:
        """These sequences, all of this size, in this order.

        Whether there are masks depends on the table and the size alone: a part of a batch has those the whole has.
        """
        width = size + 1
        starts = self._starts[numbers]
        counts = self._starts[numbers + 1] - starts
        parts = spread(starts, counts)
        lengths = self._lengths[parts]
        rows = np.repeat(np.arange(len(numbers)), counts)
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        # Where each part goes: behind those before it in its row.
        ahead = np.concatenate([[0], ends])[np.cumsum(counts) - counts]
        at = rows * width + (ends - lengths) - np.repeat(ahead, counts)
        flat = np.zeros(len(numbers) * width, dtype=np.int64)
        self._gather(parts, lengths, at, flat)
        ids = flat.reshape(len(numbers), width)
        if self.plain:
            return Batch(ids)
        known = np.zeros(len(flat), dtype=bool)
        where = slice(None) if total == len(flat) else spread(at, lengths)
        known[where] = True if self.prefixes is None else np.repeat(~self._hidden[parts], lengths)
        if self.masked:
            known[at[self._begins[parts]]] = False
        targets = known.reshape(ids.shape)[:, 1:].copy()
        return Batch(ids, targets, self._numbered(parts, at, ids.shape) if size in self._shared_sizes else None)

    def documents_of(self, numbers: Integers) -> Integers:
        """The documents (numbers in the file) of these sequences, each once, ascending."""
        pieces = spread(self.pieces.starts[numbers], self.pieces.starts[numbers + 1] - self.pieces.starts[numbers])
        return np.unique(self.entries.documents[self.pieces.entries[pieces]])

    def inputs_of(self, numbers: Integers) -> tuple[Integers, Integers]:
        """(documents, tokens): how many inputs of these sequences are of which document, piece by piece."""
        starts, stops = self.pieces.starts[numbers], self.pieces.starts[numbers + 1]
        pieces = spread(starts, stops - starts)
        lengths = self.pieces.lengths[pieces].copy()
        if len(pieces):
            # The last token of a full row is a target only.
            filled = np.add.reduceat(self.pieces.lengths, self.pieces.starts[:-1])[numbers]
            lengths[np.cumsum(stops - starts) - 1] -= np.maximum(filled - self.pieces.sizes[numbers], 0)
        return self.entries.documents[self.pieces.entries[pieces]], lengths

    def counts(self, numbers: Integers) -> dict[str, int]:
        """Of these sequences: tokens of metadata. Of all: copies of documents that are cut, and tokens in no sequence."""
        parts = spread(self._starts[numbers], self._starts[numbers + 1] - self._starts[numbers])
        pieces = self.pieces
        # A piece that ends a full row shares its last token with the next of its document: counted once.
        filled = np.add.reduceat(pieces.lengths, pieces.starts[:-1]) if len(self) else pieces.sizes
        shared = int(np.maximum(filled - pieces.sizes, 0).sum())
        return {
            "metadata_tokens": int(self._lengths[parts][self._hidden[parts]].sum()),
            "documents": len(self.entries),
            "documents_cut": int((np.bincount(pieces.entries, minlength=len(self.entries)) > 1).sum()),
            "left_out": max(0, self.entry_tokens - int(pieces.lengths.sum()) + shared),
        }

    def place(self, number: int, column: int) -> Place | None:
        """What input `column` of a sequence is; None where it is padding."""
        start, stop = int(self.pieces.starts[number]), int(self.pieces.starts[number + 1])
        ends = np.cumsum(self.pieces.lengths[start:stop])
        piece = start + int(np.searchsorted(ends, column, side="right"))
        if piece == stop:
            return None
        entry = int(self.pieces.entries[piece])
        within = column - int(ends[piece - start]) + int(self.pieces.lengths[piece] + self.pieces.begins[piece])
        return Place(int(self.entries.documents[entry]), int(self.entries.copies[entry]), within)

    def _parts(self) -> tuple[Integers, Integers, Integers, npt.NDArray[np.bool_]]:
        """For every part its piece, where it begins, its length, and if it is of a prefix, which lie behind the file's tokens."""
        pieces = self.pieces
        documents = self.entries.documents[pieces.entries]
        begins = self.file.starts[documents]
        if self.prefixes is None:
            numbers = np.arange(len(documents))
            return numbers, begins + pieces.begins, pieces.lengths, np.zeros(len(documents), dtype=bool)
        behind = np.full(len(documents), self.prefixes.behind, dtype=np.int64)
        shown = self.prefixes.lengths(documents)
        # Borders of BOS, metadata and text in the copy, and how far the source of each is from its place there.
        borders = np.stack([np.zeros_like(behind), behind, behind + shown])
        shifts = np.stack([begins, self.file.tokens + self.prefixes.starts[documents] - behind, begins - shown])
        lows = np.maximum(borders, pieces.begins)
        highs = np.minimum(
            np.stack([borders[1], borders[2], np.full_like(behind, 1 << 62)]), pieces.begins + pieces.lengths
        )
        sizes = np.maximum(highs - lows, 0).T
        numbers, kinds = np.nonzero(sizes)
        return numbers, (lows + shifts).T[numbers, kinds], sizes[numbers, kinds], kinds == 1

    def _gather(self, parts: Integers, lengths: Integers, at: Integers, out: npt.NDArray[np.int64]) -> None:
        from factory.kernels.gathers import gather

        sources = self._sources[parts]
        if self.prefixes is None:
            return gather(self.file.ids, sources, lengths, at, out)
        inside = sources < self.file.tokens
        gather(self.file.ids, sources[inside], lengths[inside], at[inside], out)
        gather(self.prefixes.ids, sources[~inside] - self.file.tokens, lengths[~inside], at[~inside], out)

    @cached_property
    def _shared_sizes(self) -> frozenset[int]:
        """Sizes of which some sequence has more than one document that may not see the others."""
        if not self.masked or not len(self):
            return frozenset()
        begins = np.concatenate([[0], np.cumsum(self._begins)])
        documents = begins[self._starts[1:]] - begins[self._starts[:-1]]
        return frozenset(np.unique(self.pieces.sizes[documents > 1]).tolist())

    def _numbered(self, parts: Integers, at: Integers, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
        """The number in its row of the document of each input."""
        marks = np.zeros(shape[0] * shape[1], dtype=np.int32)
        marks[at[self._begins[parts]]] = 1
        counted: npt.NDArray[np.int32] = np.cumsum(marks.reshape(shape)[:, :-1], axis=1, dtype=np.int32) - np.int32(1)
        return counted
