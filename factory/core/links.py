"""What linkers make of keys: the columns each way of joining writes beside documents, and what a join needs of a machine."""

from dataclasses import dataclass

import pyarrow as pa

from factory.core.schema import SPANS

LINK_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    # Documents that share a key hang together; each cluster elects who stands for it.
    "documents": {
        "duplicate_of": pa.string(),
        "cluster": pa.string(),
        "cluster_size": pa.uint32(),
        "first_seen": pa.string(),
    },
    # Pieces of text that occur more often than they should, as byte ranges of the text.
    "spans": {
        "removed": SPANS,
        "removed_bytes": pa.uint32(),
        "removed_share": pa.float32(),
        "copies": pa.uint32(),  # of its most frequent piece
        "bytes_left": pa.uint32(),
        "pieces_left": pa.uint32(),
        "words_left": pa.uint32(),  # where the linker counts words
    },
    # Paragraphs most of whose n-grams were seen before.
    "paragraphs": {
        "removed": SPANS,
        "removed_bytes": pa.uint32(),
        "removed_share": pa.float32(),
        "seen_share": pa.float32(),
    },
    # The nearest earlier document of the same region of a vector space.
    "neighbours": {
        "duplicate_of": pa.string(),
        "cluster": pa.uint32(),
        "max_similarity": pa.float32(),
        "nearness": pa.float32(),
    },
}


@dataclass(frozen=True)
class Needs:
    """What a join takes: `memory`, bytes its largest task holds; `disk`, bytes the store holds for the exchange at its
    peak; `splits`, the buckets the work is cut into."""

    memory: int
    disk: int
    splits: int
