"""The data order: from a token file and a repeat count per document to batches, as a pure function of the position.

Pass k over the file holds the documents with more than k repeats. The passes, one after the other, are one stream. Where
some documents are taken much more often than others, the last passes would be the same few over and over: given a hash of
each document, the stream is all copies of all documents instead, in the order of hash(document, copy).

The stream is cut every `context` tokens, each sequence with the token that follows it as last target, so every token of the
stream is predicted once; what does not fill the last sequence is left out. The sequences are permuted by a Feistel network
keyed by the seed. So the state of a loader is one number, any position can be read at once, and rank r of W reads the
positions s ≡ r (mod W) of each batch: nothing depends on how many workers read.
"""

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.fingerprint import digest_bytes
from factory.core.mixture import copy_hashes, numbered_copies
from factory.core.packing import spread
from factory.storage.tokens import TokenFile
from factory.training.seeds import seed_for

ROUNDS = 6
BLOCK = 4096  # positions that are permuted at once: small arrays cost numpy as much as large ones

Positions = npt.NDArray[np.int64]


def permute(positions: npt.ArrayLike, count: int, key: int) -> Positions:
    """Where each position of 0..count-1 goes: a bijection, random access, no table.

    A balanced Feistel network over the next even number of bits; results beyond `count` walk on until they fall inside.
    """
    half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
    mask = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(seed_for(key, f"round {number}")) for number in range(ROUNDS)]
    values = np.array(positions, dtype=np.uint64, ndmin=1)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for round_key in keys:
            left, right = right, left ^ (_mix(right + round_key) & mask)
        values[outside] = (left << half) | right
        outside = values >= np.uint64(count)
    return values.astype(np.int64)


class Permutation:
    """`permute` for positions that are mostly asked for in their order: whole blocks at once, the last of them kept."""

    def __init__(self, count: int, key: int) -> None:
        self.count, self.key = count, key
        self._kept: tuple[int, Positions] = (-1, np.empty(0, dtype=np.int64))

    def __call__(self, positions: Positions) -> Positions:
        blocks = positions // BLOCK
        out = np.empty(len(positions), dtype=np.int64)
        for block in np.unique(blocks).tolist():
            own = blocks == block
            out[own] = self._block(block)[positions[own] - block * BLOCK]
        return out

    def _block(self, number: int) -> Positions:
        kept, values = self._kept  # one read: other threads may replace the pair, never change it
        if kept != number:
            first = number * BLOCK
            values = permute(np.arange(first, min(first + BLOCK, self.count)), self.count, self.key)
            self._kept = (number, values)
        return values


class TokenStream:
    """Sequences of `context` + 1 tokens in their training order."""

    def __init__(
        self,
        tokens: TokenFile,
        repeats: npt.ArrayLike | None,
        *,
        context: int,
        seed: int,
        hashes: npt.NDArray[np.uint64] | None = None,
        earlier: npt.NDArray[np.int64] | None = None,
    ) -> None:
        counts = np.ones(len(tokens), dtype=np.int64) if repeats is None else np.asarray(repeats, dtype=np.int64)
        if len(counts) != len(tokens):
            raise FactoryError(f"{len(counts):,} repeat counts for the {len(tokens):,} documents of {tokens.prefix}.")
        self.file, self.context, self.seed = tokens, context, seed
        documents, copies = numbered_copies(counts)
        if earlier is not None:  # copies of each document that another stream has before this one
            copies = copies + earlier[documents]
        # Copies of one number are in the order of the documents: a pass over the file.
        order = np.argsort(copies if hashes is None else copy_hashes(hashes[documents], copies), kind="stable")
        self._documents: Positions = documents[order]
        self._copies: Positions = copies[order]
        self._starts = np.zeros(len(self._documents) + 1, dtype=np.int64)
        np.cumsum(tokens.lengths[self._documents], out=self._starts[1:])
        # Documents that lie side by side in the file are read as one run: few slices however short the documents.
        begins = tokens.starts[self._documents]
        new = np.ones(len(begins), dtype=bool)
        new[1:] = begins[1:] != tokens.starts[self._documents[:-1] + 1]
        self._run_begins = begins[new]
        self._run_starts = np.append(self._starts[:-1][new], self.tokens)
        self._permuted = Permutation(len(self), seed_for(seed, "order"))

    @property
    def tokens(self) -> int:
        return int(self._starts[-1])

    def __len__(self) -> int:
        return max(0, (self.tokens - 1) // self.context)

    def batch(self, first: int, count: int, *, rank: int = 0, world: int = 1) -> npt.NDArray[np.int64]:
        """The positions first..first+count-1 that are this rank's, as an array of context + 1 columns."""
        if not 0 <= first <= first + count <= len(self):
            raise IndexError(f"sequences {first} to {first + count} of {len(self)}")
        positions = np.arange(first, first + count)
        return self.sequences(positions[positions % world == rank])

    def sequences(self, positions: Positions) -> npt.NDArray[np.int64]:
        """The sequences at these positions of the order."""
        # Not above: importing numba takes longer than checking a recipe.
        from factory.kernels.gathers import gather

        width = self.context + 1
        rows = np.empty(len(positions) * width, dtype=np.int64)
        if not len(positions):
            return rows.reshape(0, width)
        starts = self._permuted(positions) * self.context
        first = np.searchsorted(self._run_starts, starts, side="right") - 1
        counts = np.searchsorted(self._run_starts, starts + self.context, side="right") - first
        runs, row = spread(first, counts), np.repeat(np.arange(len(starts)), counts)
        lows = np.maximum(self._run_starts[runs], starts[row])
        highs = np.minimum(self._run_starts[runs + 1], starts[row] + width)
        begins = self._run_begins[runs] + lows - self._run_starts[runs]
        gather(self.file.ids, begins, highs - lows, row * width + lows - starts[row], rows)
        return rows.reshape(len(positions), width)

    def locate(self, offset: int) -> tuple[int, int]:
        """(document, number of the copy) of a token of the stream."""
        if not 0 <= offset < self.tokens:
            raise IndexError(f"token {offset} of {self.tokens}")
        entry = int(np.searchsorted(self._starts, offset, side="right")) - 1
        return int(self._documents[entry]), int(self._copies[entry])

    def span(self, position: int) -> tuple[int, int]:
        """First and last + 1 token of the stream that the sequence at this position reads as input."""
        start = int(self._permuted(np.array([position]))[0]) * self.context
        return start, start + self.context

    def place(self, offset: int) -> tuple[int, int, int]:
        """`locate`, and which token of the document it is."""
        document, copy = self.locate(offset)
        entry = int(np.searchsorted(self._starts, offset, side="right")) - 1
        return document, copy, offset - int(self._starts[entry])

    def inputs(self, positions: Positions) -> tuple[Positions, Positions]:
        """(documents, tokens): how many inputs of the sequences at these positions are of which document."""
        starts = self._permuted(positions) * self.context
        first = np.searchsorted(self._starts, starts, side="right") - 1
        counts = np.searchsorted(self._starts, starts + self.context - 1, side="right") - first
        entries, row = spread(first, counts), np.repeat(np.arange(len(starts)), counts)
        lows = np.maximum(self._starts[entries], starts[row])
        highs = np.minimum(self._starts[entries + 1], starts[row] + self.context)
        filled = highs > lows
        return self._documents[entries[filled]], (highs - lows)[filled]

    @property
    def digest(self) -> str:
        """Covers the file's tokens and which copy of which document comes when; the cutting and the seed come on top."""
        entries = np.stack([self._documents, self._copies]).astype("<i8").tobytes()
        return digest_bytes(self.file.digest.encode() + entries)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
