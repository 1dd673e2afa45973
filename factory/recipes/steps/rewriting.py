"""What a recipe's `rewrite` section does to texts when they are emitted: the edits of every rewriter, applied at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from factory.core.registry import find_stage


@dataclass(frozen=True)
class Rewriter:
    """The rewriters of a recipe, ready to run: the columns they read, and a batch of those to the texts as emitted."""

    reads: tuple[str, ...]
    texts: Callable[[pa.RecordBatch], pa.Array]


def rewriter(uses: Sequence[Mapping[str, Any]]) -> Rewriter:
    """From the identities of rewriters (stage, version, settings), in the order of the recipe."""
    made = []
    for use in uses:
        stage = find_stage("rewriter", use["stage"])
        config = stage.config(**use["settings"])
        made.append((stage.make(config), stage.reads_for(config)))

    def texts(batch: pa.RecordBatch) -> pa.Array:
        if not made:
            return batch.column("text")
        # Not above: importing numba takes longer than checking a recipe.
        from factory.kernels.edits import apply_edits

        edits = [function(batch.select(list(reads))).column("edits") for function, reads in made]
        return apply_edits(batch.column("text"), edits)

    return Rewriter(tuple(dict.fromkeys(["text", *(name for _, reads in made for name in reads)])), texts)
