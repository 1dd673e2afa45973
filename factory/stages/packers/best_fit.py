"""Best-fit packing (arXiv:2404.10830): a document is cut only where it is longer than a sequence.

Documents longer than `context` give sequences of their own and a rest; documents and rests are then put, the longest
first, each into the fullest sequence that still has room for it, and what room is left is padding that is not predicted:
one token in ten thousand on web text. Sequences of long documents come first, so they are shuffled when they are read.

The token after a full sequence is its last target, so no prediction inside a document is lost by cutting.
"""

from factory.core.packing import Integers, Packer, PackerSettings, Pieces, rows_of, spread
from factory.core.registry import register


@register("best_fit", version=1, config=PackerSettings)
def best_fit(config: PackerSettings) -> Packer:
    return Packer(pack=pack)


def pack(lengths: Integers, context: int, seed: int) -> Pieces:
    import numpy as np

    from factory.core.seeds import generator_for
    from factory.kernels.bins import best_fit as fit

    whole = lengths // context
    # A document of just `context` tokens has no target after its last.
    own = spread(np.zeros(len(lengths), dtype=np.int64), whole)
    long = np.repeat(np.arange(len(lengths)), whole)
    begins = own * context
    sizes = np.minimum(context + 1, lengths[long] - begins)
    rest = lengths - whole * context
    items = np.flatnonzero(rest)
    # Of one length in the order of a draw: neighbours in the file would otherwise share sequences.
    draw = generator_for(seed, "best_fit").permutation(len(items))
    items = items[draw][np.argsort(-rest[items][draw], kind="stable")]
    bins = fit(rest[items], context)
    order = np.argsort(bins, kind="stable")
    items = items[order]
    count = int(bins.max()) + 1 if len(bins) else 0
    return rows_of(
        np.concatenate([long, items]),
        np.concatenate([begins, whole[items] * context]),
        np.concatenate([sizes, rest[items]]),
        np.concatenate([np.ones(len(long), dtype=np.int64), np.bincount(bins, minlength=count)]),
        np.full(len(long) + count, context, dtype=np.int64),
    )
