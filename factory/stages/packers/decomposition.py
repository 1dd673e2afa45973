"""Dataset decomposition (arXiv:2405.13226): sequences of 2^i tokens, each from one document; a step reads those of one length.

A document is cut into pieces whose lengths are its binary digits, the longest first: 3,000 tokens give 2048 + 512 + 256,
at most `context` and at least `shortest` (context / 32 where it is not said). Steps have the same number of tokens
whatever the length, so that attention costs what short sequences cost and the longest still are there.

`tails` are the rests below `shortest`: dropped as in the paper (a sixth of web text at 256 of 8192: see the record), or
packed together, best fit, into sequences of `context` in which each sees itself alone.

The curriculum draws lengths with `odds`: 32 : 16 : ... : 1 from the shortest to the longest (`short_first`), or evenly
(`mixed`), times the steps each length has left, in `cycles` that each go through all of them.
"""

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from factory.core.errors import FactoryError
from factory.core.packing import Integers, Packer, PackerSettings, Pieces, Reading, join, rows_of
from factory.core.registry import register
from factory.core.seeds import generator_for
from factory.stages.packers.best_fit import pack as pack_best_fit


class Decomposition(PackerSettings):
    mix: Literal["shuffled"] = "shuffled"  # steps are ordered by length
    shortest: int | None = Field(default=None, ge=2)
    tails: Literal["drop", "pack"] = "drop"
    odds: Literal["short_first", "mixed"] = "short_first"
    cycles: int = Field(default=8, ge=1, le=1024)

    @field_validator("shortest")
    @classmethod
    def _is_a_power_of_two(cls, shortest: int | None) -> int | None:
        if shortest is not None and shortest & (shortest - 1):
            raise ValueError("a power of two is meant")
        return shortest


@register("decomposition", version=1, config=Decomposition)
def decomposition(config: Decomposition) -> Packer:
    def pack(lengths: Integers, context: int, seed: int) -> Pieces:
        if context & (context - 1):
            raise FactoryError(f"packing: decomposition makes powers of two, and the scale's context is {context:,}.")
        shortest = max(2, context // 32) if config.shortest is None else config.shortest
        if shortest > context:
            raise FactoryError(f"packing.shortest: {shortest:,} is above the scale's context of {context:,}.")
        pieces, used = decompose(lengths, shortest, context)
        if config.tails == "drop":
            return pieces
        packed = pack_best_fit(lengths - used, context, seed)
        moved = Pieces(
            packed.entries, packed.begins + used[packed.entries], packed.lengths, packed.starts, packed.sizes
        )
        numbers = np.arange(len(lengths))
        return join([(pieces, numbers), (moved, numbers)])

    def read(sizes: Integers, step_tokens: int, steps: int, seed: int) -> Reading:
        odds = 2.0 if config.odds == "short_first" else 1.0
        return curriculum(sizes, step_tokens, steps, odds=odds, cycles=config.cycles, seed=seed)

    return Packer(pack=pack, read=read, isolated=True)


def decompose(lengths: Integers, shortest: int, longest: int) -> tuple[Pieces, Integers]:
    """One piece a sequence, and how many tokens of each entry are in one."""
    sizes = [longest >> shift for shift in range((longest // shortest).bit_length())]
    left = lengths.copy()
    entries: list[Integers] = []
    begins: list[Integers] = []
    own: list[Integers] = []
    for size in sizes:
        counts = left // size  # 0 or 1 below the longest
        entry = np.repeat(np.arange(len(lengths)), counts)
        number = np.arange(len(entry)) - np.repeat(np.cumsum(counts) - counts, counts)
        entries.append(entry)
        begins.append((lengths - left)[entry] + number * size)
        own.append(np.full(len(entry), size, dtype=np.int64))
        left -= counts * size
    of, begin, inputs = np.concatenate(entries), np.concatenate(begins), np.concatenate(own)
    order = np.lexsort((begin, of))
    of, begin, inputs = of[order], begin[order], inputs[order]
    # With the token that follows in the document as the last target.
    length = np.minimum(inputs + 1, lengths[of] - begin)
    return rows_of(of, begin, length, np.ones(len(of), dtype=np.int64), inputs), lengths - left


def curriculum(sizes: Integers, step_tokens: int, steps: int, *, odds: float, cycles: int, seed: int) -> Reading:
    """Steps of one length each. With fewer steps than there are, each length gives its share of them."""
    kinds = np.unique(sizes)
    sequences = [
        np.flatnonzero(sizes == kind)[generator_for(seed, f"sequences of {kind}").permutation((sizes == kind).sum())]
        for kind in kinds
    ]
    rows = step_tokens // kinds
    counts = np.array([len(found) for found in sequences]) // rows
    counts = shares_of(counts, min(steps, int(counts.sum())))
    random = generator_for(seed, "curriculum")
    weights = odds ** -np.arange(len(kinds))
    drawn = []
    for cycle in range(cycles):
        left = counts * (cycle + 1) // cycles - counts * cycle // cycles
        for uniform in random.random(int(left.sum())):
            bounds = np.cumsum(weights * left)
            kind = int(np.searchsorted(bounds, uniform * bounds[-1], side="right"))
            left[kind] -= 1
            drawn.append(kind)
    chosen = np.array(drawn, dtype=np.int64)
    # The n-th step of a length reads the n-th sequences of it.
    taken = np.zeros(len(chosen), dtype=np.int64)
    for number in range(len(kinds)):
        own = chosen == number
        taken[own] = np.arange(own.sum())
    order = [sequences[kind][n * rows[kind] : (n + 1) * rows[kind]] for kind, n in zip(chosen, taken, strict=True)]
    starts = np.concatenate([[0], np.cumsum(rows[chosen])]).astype(np.int64)
    return Reading(np.concatenate([*order, np.empty(0, dtype=np.int64)]), starts)


def shares_of(counts: Integers, total: int) -> Integers:
    """So many of `total` as the counts' shares are, by largest remainder, none above its count."""
    if not counts.sum():
        return np.zeros_like(counts)
    exact = counts * total
    floor: Integers = exact // counts.sum()
    rest = exact % counts.sum()
    floor[np.argsort(-rest, kind="stable")[: total - int(floor.sum())]] += 1
    return floor
