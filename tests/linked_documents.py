"""Documents that are nothing but keys, and their links: by the step itself, and by a reference of a few lines."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS
from factory.core.manifest import Manifest
from factory.core.registry import find_stage
from factory.core.schema import document_id
from factory.execution.tasks import Context, Task, resolve
from factory.kernels.clusters import write_ids
from factory.recipes.graph import Node
from factory.recipes.steps.links import documents
from factory.recipes.steps.links.documents import fixed_texts
from factory.recipes.work import Work
from factory.storage.exchange import mix
from factory.storage.parts import read_part, write_part, write_thin_part
from factory.storage.store import Store

DOCUMENTS = pa.schema([("doc_id", pa.string()), ("date", pa.timestamp("ms", tz="UTC"))])
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Document:
    snapshot: str
    doc_id: str
    keys: tuple[int, ...]
    date: int | None = None
    score: float | None = None
    check: int = 0
    shingles: tuple[int, ...] = ()


class Inline:
    """Runs tasks in this process, in the order `shuffled` puts them."""

    workers = 1

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)

    def run(self, tasks, on_done, on_report=lambda task, message: None):
        tasks = list(tasks)
        self.random.shuffle(tasks)
        for task in tasks:
            on_done(task, resolve(task.function)(task.payload, Context()))

    def close(self):
        """Nothing runs."""


@dataclass
class Bench:
    """What a step works with, without a recipe."""

    store: Store
    memory: int = 1 << 30
    executor: Any = field(default_factory=Inline)
    tasks: list[Task] = field(default_factory=list)

    def run_tasks(self, label, tasks, unit="bytes", on_report=None):
        results = {}
        self.tasks += tasks
        if tasks:
            self.executor.run(tasks, lambda task, result: results.__setitem__(task.name, result))
        return results


def spec(scope: str = "incremental", keep: str = "first", stage: str = "minhash", **settings: Any) -> dict[str, Any]:
    return {"stage": stage, "version": 1, "settings": settings, "scope": scope, "keep": keep}


def store_documents(
    store: Store, found: list[Document], *, parts: int = 1, asked: dict[str, Any]
) -> dict[str, Manifest]:
    """Document, key and score datasets of every snapshot, each cut into so many parts."""
    stage = find_stage("linker", asked["stage"])
    columns = stage.writes_for(stage.config(**asked["settings"]))
    made = {}
    for snapshot in sorted({document.snapshot for document in found}):
        own = [document for document in found if document.snapshot == snapshot]
        bounds = [len(own) * number // parts for number in range(parts + 1)]
        stored: dict[str, list[Any]] = {"documents": [], "keys": [], "scores": []}
        for number in range(parts):
            rows = own[bounds[number] : bounds[number + 1]]
            batch = pa.record_batch(
                [[row.doc_id for row in rows], pa.array([row.date for row in rows], pa.timestamp("ms", "UTC"))],
                schema=DOCUMENTS,
            )
            part = write_part(store, f"documents/{parts}/{snapshot}", f"{number}", DOCUMENTS, [batch])
            values = {"keys": [list(row.keys) for row in rows], "check": [row.check for row in rows]}
            values["shingles"] = [list(row.shingles) for row in rows]
            batch = pa.record_batch(
                [pa.array(values[name], kind) for name, kind in columns.items()], names=list(columns)
            )
            keys = write_thin_part(store, f"keys/near/{parts}/{snapshot}", part, columns, [batch])
            scored = pa.record_batch({"value": pa.array([row.score for row in rows], pa.float64())})
            score = write_thin_part(store, f"scores/good/{parts}/{snapshot}", part, {"value": pa.float64()}, [scored])
            for kind, item in (("documents", part), ("keys", keys), ("scores", score)):
                stored[kind].append(item)
        for kind, label in (("documents", ""), ("keys", "near"), ("scores", "good")):
            manifest = Manifest(kind, label, snapshot, "made", {}, {}, tuple(stored[kind]))
            made[manifest.name] = manifest
    return made


def work_of(manifests: dict[str, Manifest], asked: dict[str, Any], snapshot: str) -> Work:
    """The work of one snapshot's links, as the graph of a recipe gives it."""
    chosen = {
        "snapshot": lambda other: other == snapshot,
        "incremental": lambda other: other <= snapshot,
        "global": lambda other: True,
    }[asked["scope"]]
    kinds = ("documents", "keys", "scores") if asked["keep"].startswith("best:") else ("documents", "keys")
    upstream = {
        name: manifest for name, manifest in manifests.items() if chosen(manifest.partition) and manifest.kind in kinds
    }
    node = Node("links", "near", snapshot, asked, tuple(upstream))
    return Work(node, fingerprint({"spec": asked}), upstream)


def make_links(
    bench: Bench, found: list[Document], asked: dict[str, Any], *, parts: int = 1, only: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Links by doc_id."""
    manifests = store_documents(bench.store, found, parts=parts, asked=asked)
    snapshots = only or sorted({document.snapshot for document in found})
    made = documents.make_all(bench, [work_of(manifests, asked, snapshot) for snapshot in snapshots])
    links = {}
    for snapshot in snapshots:
        stood = {part.digest: part for part in manifests[f"documents@{snapshot}"].parts}
        for part in made[f"links/near@{snapshot}"].parts:
            ids = read_part(bench.store, stood[part.name]).column("doc_id").to_pylist()
            rows = read_part(bench.store, part).select(list(LINK_COLUMNS["documents"])).to_pylist()
            links.update(zip(ids, rows, strict=True))
    return links


def expected_links(
    found: list[Document], scope: str = "incremental", keep: str = "first", verify: float = 0.0
) -> dict[str, dict[str, Any]]:
    """The same by definition: spread what documents share until nothing changes, and take the least of each cluster."""
    links = {}
    for snapshot in sorted({document.snapshot for document in found}):
        seen = {
            "snapshot": [document for document in found if document.snapshot == snapshot],
            "incremental": [document for document in found if document.snapshot <= snapshot],
            "global": found,
        }[scope]
        for cluster in _clusters(seen, verify):
            winner = min(cluster, key=lambda document: _priority(document, scope, keep))
            first = min(document.snapshot for document in cluster)
            for document in cluster:
                if document.snapshot == snapshot:
                    links[document.doc_id] = {
                        "duplicate_of": winner.doc_id if document is not winner else None,
                        "cluster": winner.doc_id if len(cluster) > 1 else None,
                        "cluster_size": len(cluster),
                        "first_seen": first,
                    }
    return links


def _priority(document: Document, scope: str, keep: str) -> tuple[Any, ...]:
    value = {
        "first": 0,
        "newest": float("inf") if document.date is None else -document.date,
        "best:good_value": float("inf") if document.score is None else -document.score,
    }[keep]
    if scope == "incremental":
        return document.snapshot, value, document.doc_id
    return value, document.snapshot, document.doc_id


def _clusters(seen: list[Document], verify: float) -> list[list[Document]]:
    holders = defaultdict(list)
    for document in seen:
        for key in set(document.keys):
            holders[key, document.check].append(document)
    linked = defaultdict(list)
    for holding in holders.values():
        centre = min(holding, key=lambda document: (document.snapshot, document.doc_id))
        for other in holding:
            if other is not centre and (not verify or _jaccard(centre, other) >= verify):
                linked[centre.doc_id].append(other)
                linked[other.doc_id].append(centre)
    left = {document.doc_id: document for document in seen}
    clusters = []
    while left:
        cluster, border = [], [left.popitem()[1]]
        while border:
            cluster.append(border.pop())
            border += [left.pop(other.doc_id) for other in linked[cluster[-1].doc_id] if other.doc_id in left]
        clusters.append(cluster)
    return clusters


def _jaccard(one: Document, other: Document) -> float:
    return len({*one.shingles} & {*other.shingles}) / len({*one.shingles} | {*other.shingles})


def random_documents(
    seed: int, count: int = 300, snapshots: int = 3, keys: int = 4, spread: int = 900
) -> list[Document]:
    """Documents with few keys of many, so that clusters of all sizes come about, also across snapshots."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        snapshot = f"2026-{1 + number * snapshots // count:02d}"
        own = tuple(chance.randrange(spread) * 7919 % 2**64 for _ in range(chance.randrange(keys)))
        score = chance.choice([None, chance.randrange(5) / 4, -chance.random()])
        date = chance.choice([None, chance.randrange(10**12, 10**12 + 50), chance.randrange(-50, 50)])
        shingles = tuple(sorted(chance.sample(range(12), 8)))
        found.append(Document(snapshot, document_id("web", snapshot, str(number)), own, date, score, 0, shingles))
    return found


def store_in(folder: Path) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    return Store(str(folder))


def store_keys(store: Store, keys: np.ndarray, *, parts: int = 1, snapshot: str = "2026-01") -> dict[str, Manifest]:
    """Documents with as many keys each as the table has columns, without looking at one of them."""
    bounds = [len(keys) * number // parts for number in range(parts + 1)]
    stored: dict[str, list[Any]] = {"documents": [], "keys": []}
    columns = {"keys": pa.list_(pa.uint64())}
    for number in range(parts):
        own = keys[bounds[number] : bounds[number + 1]]
        rows, width = own.shape
        words = mix(np.arange(bounds[number], bounds[number + 1], dtype=np.uint64) + np.uint64(len(keys) + 1))
        text = write_ids(words, mix(words + np.uint64(len(snapshot))))
        ids = fixed_texts(text, np.ones(rows, np.bool_))
        batch = pa.record_batch([ids, pa.nulls(rows, DOCUMENTS.field("date").type)], schema=DOCUMENTS)
        part = write_part(store, f"documents/{snapshot}", f"{number}", DOCUMENTS, [batch])
        lists = pa.ListArray.from_arrays(np.arange(0, rows * width + 1, width, dtype=np.int32), own.ravel())
        batch = pa.record_batch([lists], names=["keys"])
        count = rows * width
        keyed = write_thin_part(
            store, f"keys/near/{snapshot}", part, columns, [batch], notes=partial(dict, {"keys": count})
        )
        stored["documents"].append(part)
        stored["keys"].append(keyed)
    made = [
        Manifest(kind, label, snapshot, "made", {}, {}, tuple(stored[kind]))
        for kind, label in (("documents", ""), ("keys", "near"))
    ]
    return {manifest.name: manifest for manifest in made}


def chain(count: int) -> np.ndarray:
    """Each document shares a key with the one before and one with the one after; in no order of their numbers."""
    keys = mix(np.arange(count + 1, dtype=np.uint64))
    return np.random.default_rng(0).permutation(np.stack([keys[:-1], keys[1:]], axis=1))
