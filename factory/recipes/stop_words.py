"""Stop words from reference text, as FineWeb2 finds them (arXiv:2506.20920): the words that are most of any text.

A word is one if its share of all words reaches a cut-off, 0.8 % unless told; where these are fewer than eight, the eight most
frequent are. Neither marks nor numerals count. Words are lower-case and those of a cutter, for which alone a list holds.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import InputError
from factory.recipes.measure import in_batches
from factory.stages.segmentation import find_cutter

CUT_OFF, FEWEST = 0.008, 8
_MOST_KINDS = 5_000_000  # different words that are counted at a time


class StopWord(NamedTuple):
    """A word and its share of all words of the reference."""

    word: str
    share: float


def stop_words(
    texts: Iterable[str], words: str = "unicode", *, cut_off: float = CUT_OFF, fewest: int = FEWEST
) -> list[StopWord]:
    """The stop words of these texts, most frequent first; equals in order of their letters."""
    counts: dict[str, int] = {}
    total = 0
    for batch in in_batches(texts):
        found = _count(batch, words)
        total += sum(found.values())
        for word, count in found.items():
            counts[word] = counts.get(word, 0) + count
        if len(counts) > _MOST_KINDS:
            counts = {word: count for word, count in counts.items() if count > 1}
    if not total:
        raise InputError(f"there are no words in the reference, as '{words}' cuts them.")
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    frequent = sum(count >= cut_off * total for _, count in ranked)
    return [StopWord(word, count / total) for word, count in ranked[: max(frequent, fewest)]]


def _count(texts: list[str], words: str) -> dict[str, int]:
    # Not above: importing numba takes longer than checking a recipe.
    from factory.kernels.pieces import HAS_LETTER, pieces_of

    view, pieces = pieces_of(pc.utf8_lower(pa.array(texts, pa.large_string())), find_cutter(words))
    chosen = np.flatnonzero(pieces.flags & HAS_LETTER)
    _, first, counts = np.unique(pieces.hashes[chosen], return_index=True, return_counts=True)
    found: dict[str, int] = {}
    for piece, count in zip(chosen[first], counts, strict=True):
        word = view.data[pieces.begins[piece] : pieces.ends[piece]].tobytes().decode()
        if not any(char.isdigit() for char in word):
            found[word] = found.get(word, 0) + int(count)
    return found
