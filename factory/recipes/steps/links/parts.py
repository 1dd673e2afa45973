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
from factory.storage.exchange import bucket_of, read_rows, write_rows
from factory.storage.store import Store

ROW_BITS = 32
# Two documents that share a key: `a` is the centre of its group, the same whatever the parts are, `b` another member.
PAIRS = pa.schema([("a", pa.int64()), ("b", pa.int64())])
Nodes = npt.NDArray[np.int64]


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


def bucket_writer(bucket: int) -> str:
    """The name of the files that the task of a bucket writes."""
    return f"{bucket:06d}"


def pairs_folder(exchange: str) -> str:
    """Where the pairs found in each bucket of keys are exchanged by their centre, into `splits` buckets."""
    return f"{exchange}/pairs"


def verified_folder(exchange: str) -> str:
    """Where the pairs that were found similar enough lie, cut like the pairs; the task of a split is its one writer."""
    return f"{exchange}/verified"


def write_pairs(store: Store, plan: Mapping[str, Any], bucket: int, a: Nodes, b: Nodes) -> None:
    """Put the pairs of one bucket of keys where the splits read them."""
    table = pa.table([pa.array(a), pa.array(b)], schema=PAIRS)
    target = bucket_of(mix(a.view(np.uint64)), plan["splits"])
    write_rows(store, pairs_folder(plan["exchange"]), bucket_writer(bucket), plan["splits"], target, table)


def read_pairs(store: Store, plan: Mapping[str, Any], split: int) -> tuple[Nodes, Nodes]:
    """The candidate pairs of one split; a pair that shares keys of several buckets comes as often."""
    writers = [bucket_writer(bucket) for bucket in range(plan["buckets"])]
    table = read_rows(store, pairs_folder(plan["exchange"]), split, writers)
    return table.column("a").to_numpy(), table.column("b").to_numpy()


def write_verified(store: Store, plan: Mapping[str, Any], split: int, a: Nodes, b: Nodes) -> None:
    """Put the pairs of one split that are linked."""
    table = pa.table([pa.array(a), pa.array(b)], schema=PAIRS)
    target = np.full(len(a), split, np.uint64)
    write_rows(store, verified_folder(plan["exchange"]), bucket_writer(split), plan["splits"], target, table)


def read_verified(store: Store, plan: Mapping[str, Any], split: int) -> tuple[Nodes, Nodes]:
    """The linked pairs of one split."""
    table = read_rows(store, verified_folder(plan["exchange"]), split, [bucket_writer(split)])
    return table.column("a").to_numpy(), table.column("b").to_numpy()


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A number for each number, spread evenly over 64 bits (the finalizer of MurmurHash3, which loses nothing)."""
    mixed = values.copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return mixed
