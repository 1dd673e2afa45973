"""The document parts a link dataset is made of, numbered, so that a document is one whole number while links are made.

A node is `part number << ROW_BITS | row`. Parts are numbered in the order of (snapshot, name) over the scope of one link
dataset: the numbers mean nothing beyond it, and nothing that is stored may depend on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.fingerprint import fingerprint
from factory.core.manifest import Part
from factory.recipes.work import Bench, Work
from factory.storage.exchange import bucket_of, mix, read_rows, write_rows
from factory.storage.store import Store

ROW_BITS = 32
# Two documents that share a key: `a` is the centre of its group, the same whatever the parts are, `b` another member.
PAIRS = pa.schema([("a", pa.int64()), ("b", pa.int64())])
Nodes = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class LinkedPart:
    """A document part of the scope with the keys beside it; `number` is its own among all of them."""

    number: int
    snapshot: str
    keys: Part
    document: Part

    @property
    def writer(self) -> str:
        """The name of the files this part's rows are exchanged in."""
        return f"{self.number:06d}"

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "snapshot": self.snapshot,
            "keys": self.keys.to_json(),
            "document": self.document.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LinkedPart":
        return cls(data["number"], data["snapshot"], Part.from_json(data["keys"]), Part.from_json(data["document"]))


def linked_parts(work: Work) -> list[LinkedPart]:
    """The parts of a link dataset's scope, in the order of their numbers."""
    documents = {manifest.partition: manifest for manifest in work.of("documents")}
    found = []
    for manifest in sorted(work.of("keys"), key=lambda manifest: manifest.partition):
        stands = {part.digest: part for part in documents[manifest.partition].parts}
        found += [
            (manifest.partition, part, stands[part.name]) for part in sorted(manifest.parts, key=lambda part: part.name)
        ]
    return [LinkedPart(number, *item) for number, item in enumerate(found)]


def exchange_folder(work: Work) -> str:
    """Where rows of this work are exchanged: a folder of its own, deleted when the links are written."""
    node = work.node
    work_id = fingerprint(node.inputs({name: manifest.digest for name, manifest in work.upstream.items()}))
    return f"exchange/{node.label}/{work.fingerprint}/{node.partition}/{work_id}"


def clear(bench: Bench, folder: str) -> None:
    """Delete what was exchanged."""
    for path in bench.store.files(folder):
        bench.store.delete(path)


def parse_ids(column: pa.ChunkedArray) -> tuple[Words, Words]:
    """Document ids, 32 hex digits each, as two words that sort as they do."""
    from factory.kernels.clusters import read_ids

    texts = column.cast(pa.large_string()).combine_chunks()
    texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) else texts
    if not len(texts):
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    high, low, good = read_ids(np.frombuffer(texts.buffers()[2] or b"", np.uint8), offsets)
    if not good:
        raise ValueError("a doc_id is not 32 hexadecimal digits")
    return high, low


def bucket_writer(bucket: int, piece: int = 0) -> str:
    """The name of the file that the task of a bucket writes; one that is too large to hold writes several."""
    return f"{bucket:06d}-{piece:04d}"


def pairs_folder(exchange: str) -> str:
    """Where the pairs found in each bucket of keys are exchanged by their centre, into `splits` buckets."""
    return f"{exchange}/pairs"


def verified_folder(exchange: str) -> str:
    """Where the pairs that were found similar enough lie, cut like the pairs; the task of a split is its one writer."""
    return f"{exchange}/verified"


def write_pairs(store: Store, plan: Mapping[str, Any], bucket: int, a: Nodes, b: Nodes, piece: int = 0) -> None:
    """Put the pairs of one bucket of keys (or of a piece of it) where the splits read them."""
    table = pa.table([pa.array(a), pa.array(b)], schema=PAIRS)
    target = bucket_of(mix(a.view(np.uint64)), plan["splits"])
    writer = bucket_writer(bucket, piece)
    write_rows(store, pairs_folder(plan["exchange"]), writer, plan["splits"], target, table)


def read_pairs(store: Store, plan: Mapping[str, Any], split: int) -> tuple[Nodes, Nodes]:
    """The candidate pairs of one split; a pair that shares keys of several buckets comes as often."""
    writers = [bucket_writer(bucket, piece) for bucket, pieces in enumerate(plan["pieces"]) for piece in range(pieces)]
    return _nodes(read_rows(store, pairs_folder(plan["exchange"]), split, writers))


def write_verified(store: Store, plan: Mapping[str, Any], split: int, a: Nodes, b: Nodes) -> None:
    """Put the pairs of one split that are linked."""
    write_split(store, verified_folder(plan["exchange"]), split, a, b)


def write_split(store: Store, folder: str, split: int, a: Nodes, b: Nodes) -> None:
    """Put the pairs of a split in a folder where each split has one writer."""
    table = pa.table([pa.array(a), pa.array(b)], schema=PAIRS)
    write_rows(store, folder, bucket_writer(split), 1, np.zeros(len(a), np.uint64), table)


def read_split(store: Store, folder: str, split: int) -> tuple[Nodes, Nodes]:
    """What `write_split` put there."""
    return _nodes(read_rows(store, folder, 0, [bucket_writer(split)]))


def _nodes(table: pa.Table) -> tuple[Nodes, Nodes]:
    return table.column("a").to_numpy(), table.column("b").to_numpy()
