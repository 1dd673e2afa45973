"""Connected components of pairs of documents, whatever memory there is.

In: the pairs of each split. Out: for every document of a pair the smallest node it is connected to, cut by the part of the
document. Pairs that fit are joined at once, by union-find; more of them too, as long as an array over all documents fits.
Beyond that the pairs stay where they are and are made smaller in rounds, bucket by bucket: large-star and small-star of
Kiveris et al., Connected Components in MapReduce and Beyond (SoCC 2014), where a bucket, for its small-star, joins all it
holds. Each round ties documents to smaller ones that they hang together with, and the rounds end when all hang on the
smallest: after a number that grows as the logarithm of the longest chain.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.errors import FactoryError
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.steps.links.parts import (
    PAIRS,
    ROW_BITS,
    Nodes,
    bucket_writer,
    pairs_folder,
    read_pairs,
    read_split,
    verified_folder,
)
from factory.recipes.work import Bench
from factory.storage.exchange import bucket_of, mix, read_rows, write_rows
from factory.storage.store import Store

LABELS = pa.schema([("node", pa.int64()), ("root", pa.int64())])
PAIR_BYTES = 160  # what joining takes for each pair
DOCUMENT_BYTES = 10  # what an array over all documents takes: a parent and a mark
MAX_ROUNDS = 200

Plan = Mapping[str, Any]


def label_all(bench: Bench, plans: list[dict[str, Any]]) -> None:
    """Write the labels of every plan; `labels` of a plan says afterwards how many files they are in."""
    joined = [plan for plan in plans if how(plan) != "rounds"]
    tasks = [Task(f"{plan['exchange']} join", f"{__name__}:join", _about(plan)) for plan in joined]
    bench.run_tasks("connect", tasks, unit="datasets")
    for plan in joined:
        plan["labels"] = 1
    rounds = [plan for plan in plans if how(plan) == "rounds"]
    if rounds:
        _rounds(bench, rounds)


def how(plan: Plan) -> str:
    """Which way components are found: by what fits into memory, and with one result."""
    if plan["pairs"] * PAIR_BYTES <= plan["memory"]:
        return "pairs"
    return "documents" if plan["documents"] * DOCUMENT_BYTES <= plan["memory"] else "rounds"


def read_labels(store: Store, plan: Plan, room: int) -> tuple[Nodes, Nodes]:
    """Nodes and their roots of one room, in the order of the nodes."""
    writers = [bucket_writer(writer) for writer in range(plan["labels"])]
    table = read_rows(store, _labels_folder(plan), room, writers)
    node, root = table.column("node").to_numpy(), table.column("root").to_numpy()
    order = np.argsort(node, kind="stable")
    return node[order], root[order]


def read_linked(store: Store, plan: Plan, split: int) -> tuple[Nodes, Nodes]:
    """The pairs that are to be connected: as found, verified, or with the clusters that older documents belong to."""
    if plan["linked"] == "pairs":
        return read_pairs(store, plan, split)
    return read_split(store, linked_folder(plan), split)


def linked_folder(plan: Plan) -> str:
    exchange = plan["exchange"]
    return {"pairs": pairs_folder(exchange), "verified": verified_folder(exchange)}.get(
        plan["linked"], f"{exchange}/resolved"
    )


def rooms(plan: Plan) -> int:
    """One for each part, and the halls: one for each split, where the clusters of earlier snapshots are looked up."""
    parts: int = plan["part_count"] + plan["splits"]
    return parts


def _labels_folder(plan: Plan) -> str:
    return f"{plan['exchange']}/labels"


def _about(plan: Plan) -> dict[str, Any]:
    names = ("store", "exchange", "splits", "pieces", "memory", "linked", "part_count", "offsets", "first", "pairs")
    return {name: plan[name] for name in (*names, "documents")}


def _write_labels(store: Store, plan: Plan, writer: int, node: Nodes, root: Nodes) -> None:
    """Every label into the room of its part; those of older documents also into a hall."""
    old = node < plan["first"] << ROW_BITS
    halls = plan["part_count"] + bucket_of(mix(node[old].view(np.uint64)), plan["splits"]).astype(np.int64)
    target = np.concatenate([node >> ROW_BITS, halls])
    table = pa.table([pa.array(np.concatenate([node, node[old]])), pa.array(np.concatenate([root, root[old]]))], LABELS)
    write_rows(store, _labels_folder(plan), bucket_writer(writer), rooms(plan), target, table)


# --- all at once


def join(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the components of all pairs, by union-find."""
    from factory.kernels.clusters import connect, flatten, union

    store = Store(payload["store"])
    if how(payload) == "pairs":
        found = [read_linked(store, payload, split) for split in range(payload["splits"])]
        nodes, roots = connect(*(np.concatenate(ends) for ends in zip(*found, strict=True)))
        _write_labels(store, payload, 0, nodes, roots)
        return {"clustered": len(nodes)}
    offsets = np.array(payload["offsets"], np.int64)
    parents, linked = np.arange(offsets[-1]), np.zeros(offsets[-1], np.bool_)
    for split in range(payload["splits"]):
        ends = [_dense(nodes, offsets) for nodes in read_linked(store, payload, split)]
        union(parents, *ends)
        for end in ends:
            linked[end] = True
    flatten(parents)
    places = np.flatnonzero(linked)
    _write_labels(store, payload, 0, _sparse(places, offsets), _sparse(parents[places], offsets))
    return {"clustered": len(places)}


def _dense(nodes: Nodes, offsets: Nodes) -> Nodes:
    """Nodes as places in one array over all documents."""
    places: Nodes = offsets[nodes >> ROW_BITS] + (nodes & ((1 << ROW_BITS) - 1))
    return places


def _sparse(places: Nodes, offsets: Nodes) -> Nodes:
    part = np.searchsorted(offsets, places, side="right") - 1
    nodes: Nodes = (part << ROW_BITS) | (places - offsets[part])
    return nodes


# --- in rounds


def _rounds(bench: Bench, plans: list[dict[str, Any]]) -> None:
    """Small-star and large-star in turn, over all plans that are not done, until nothing changes."""
    going = list(plans)
    for number in range(MAX_ROUNDS):
        step = "spread" if number == 0 else "small_star"
        _run(bench, going, step, number)
        unsettled = _run(bench, going, "large_star", number)
        settled = [plan for plan in going if not unsettled[plan["exchange"]]]
        _run(bench, settled, "settle", number)
        for plan in settled:
            plan["labels"] = plan["splits"]
        going = [plan for plan in going if unsettled[plan["exchange"]]]
        if not going:
            return
    raise FactoryError(f"{going[0]['exchange']}: components did not settle in {MAX_ROUNDS} rounds. This is a defect.")


def _run(bench: Bench, plans: list[dict[str, Any]], step: str, number: int) -> dict[str, int]:
    tasks = {
        plan["exchange"]: [
            Task(
                f"{plan['exchange']} {step} {number} {split}",
                f"{__name__}:{step}",
                {**_about(plan), "split": split, "round": number},
            )
            for split in range(plan["splits"])
        ]
        for plan in plans
    }
    results = bench.run_tasks(
        f"connect, round {number + 1}", [task for own in tasks.values() for task in own], unit="buckets"
    )
    for plan in plans:
        for folder in _spent(plan, step, number):
            for path in bench.store.files(folder):
                bench.store.delete(path)
    return {name: sum(results[task.name]["unsettled"] for task in own) for name, own in tasks.items()}


def _spent(plan: Plan, step: str, number: int) -> Iterator[str]:
    """What the step that has just ended was the last to read."""
    if step == "small_star":
        yield _round_folder(plan, number, "small")
        yield _round_folder(plan, number - 1, "large")
    if step == "settle":
        yield _round_folder(plan, number, "large")


def _round_folder(plan: Plan, number: int, star: str) -> str:
    return f"{plan['exchange']}/rounds/{number:03d}/{star}"


def spread(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the pairs of one split, joined among themselves, to the buckets of both their ends."""
    store = Store(payload["store"])
    _both(store, payload, *read_linked(store, payload, payload["split"]))
    return {"unsettled": 0}


def small_star(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: what one bucket holds, joined, to the buckets of both ends."""
    store = Store(payload["store"])
    _both(store, payload, *_read(store, payload, "small", payload["round"]))
    return {"unsettled": 0}


def large_star(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: tie the larger neighbours of each document of a bucket to the smallest one."""
    store = Store(payload["store"])
    u, v, starts, least = _neighbours(store, payload)
    least_of = np.repeat(least, np.diff(starts, append=len(u)))
    larger = v > u
    smaller = np.add.reduceat((~larger).astype(np.int64), starts) if len(u) else np.zeros(0, np.int64)
    has_larger = np.logical_or.reduceat(larger, starts) if len(u) else np.zeros(0, np.bool_)
    unsettled = int(((smaller > 1) | ((smaller == 1) & has_larger)).sum())
    _write(store, payload, "small", payload["round"] + 1, v[larger], least_of[larger])
    return {"unsettled": unsettled}


def settle(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the labels of one bucket's documents, each of which now has one smaller neighbour or none."""
    store = Store(payload["store"])
    u, _, starts, least = _neighbours(store, payload)
    _write_labels(store, payload, payload["split"], u[starts], least)
    return {"unsettled": 0}


def _neighbours(store: Store, payload: Payload) -> tuple[Nodes, Nodes, Nodes, Nodes]:
    """The pairs of a bucket, each once, by their first ends: where each of those begins, and the least node with it."""
    from factory.kernels.clusters import distinct_pairs, sort_rows

    u, v = _read(store, payload, "large", payload["round"])
    u, v = distinct_pairs(u, v, mix(mix(u.view(np.uint64)) + v.view(np.uint64)))
    keys, order = sort_rows(mix(u.view(np.uint64)), np.arange(len(u)))
    u, v = u[order], v[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(u)), np.bool_), keys[1:] != keys[:-1]]))
    least = np.minimum(np.minimum.reduceat(v, starts), u[starts]) if len(u) else u
    return u, v, starts, least


def _both(store: Store, payload: Payload, a: Nodes, b: Nodes) -> None:
    from factory.kernels.clusters import forest

    a, b = forest(a, b)
    _write(store, payload, "large", payload["round"], np.concatenate([a, b]), np.concatenate([b, a]))


def _write(store: Store, payload: Payload, star: str, number: int, u: Nodes, v: Nodes) -> None:
    table = pa.table([pa.array(u), pa.array(v)], schema=PAIRS)
    target = bucket_of(mix(u.view(np.uint64)), payload["splits"])
    folder = _round_folder(payload, number, star)
    write_rows(store, folder, bucket_writer(payload["split"]), payload["splits"], target, table)


def _read(store: Store, payload: Payload, star: str, number: int) -> tuple[Nodes, Nodes]:
    writers = [bucket_writer(writer) for writer in range(payload["splits"])]
    table = read_rows(store, _round_folder(payload, number, star), payload["split"], writers)
    return table.column("a").to_numpy(), table.column("b").to_numpy()
