"""Candidate pairs are looked at: those whose sets of shingles overlap enough stay, the others were chance.

    pairs of a split  ->  rows asked of each part  ->  their sets, split by split  ->  pairs at least that similar

A pair stays if and only if the Jaccard similarity of its two sets reaches the linker's `verify`. That is a fact about two
documents, so nothing depends on parts, splits or memory. A task holds the pairs of one split and, at any time, no more
sets than a share of the memory it may take: a part's are passed on in pieces, a split's centres are taken in turns if they
are too many for it, and the others pass by. The rows that are asked for are all that is read of a part, however old.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.manifest import Part
from factory.execution.tasks import Context, Payload, Task
from factory.kernels.minhash import Sets, jaccard
from factory.recipes.steps.links.parts import (
    ROW_BITS,
    LinkedPart,
    Nodes,
    bucket_writer,
    read_pairs,
    write_verified,
)
from factory.recipes.work import Bench
from factory.storage.exchange import read_rows, write_rows
from factory.storage.parts import take_rows
from factory.storage.store import Store

ASKED = pa.schema([("node", pa.int64()), ("centre", pa.bool_())])
SETS = pa.schema([*ASKED, ("shingles", pa.list_(pa.uint32()))])
# Of the memory of a task: sets that are passed on, or compared, beside the pairs and what Arrow holds while it reads.
SHARE = 8
_ROW = (1 << ROW_BITS) - 1


def verify_all(bench: Bench, plans: Sequence[Mapping[str, Any]]) -> None:
    """Verify the pairs of all plans, phase by phase, so that all workers are busy in each; without a bound all stay."""
    asked = bench.run_tasks("ask for shingles", [task for plan in plans for task in _ask_tasks(plan)], unit="splits")
    sent = bench.run_tasks("send shingles", [task for plan in plans for task in _send_tasks(plan, asked)])
    tasks = [task for plan in plans for task in _compare_tasks(plan, asked, sent)]
    bench.run_tasks("verify pairs", tasks, unit="splits")


def _bound(plan: Mapping[str, Any]) -> float:
    return float(plan["spec"]["settings"].get("verify") or 0.0)


def _ask_tasks(plan: Mapping[str, Any]) -> Iterator[Task]:
    shared = {name: plan[name] for name in ("store", "exchange", "pieces", "splits")}
    for split in range(plan["splits"]) if _bound(plan) > 0 else ():
        payload = {**shared, "split": split, "parts": len(plan["parts"])}
        yield Task(_name(plan, "ask", split), f"{__name__}:ask", payload)


def ask(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the rows that a split's pairs are of, told to the part each is of."""
    store = Store(payload["store"])
    a, b = _distinct(*read_pairs(store, payload, payload["split"]))
    asked = pa.table([np.concatenate([np.unique(a), np.unique(b)])], names=["node"])
    centre = np.arange(len(asked)) < len(np.unique(a))
    asked = asked.append_column("centre", pa.array(centre))
    number = asked.column("node").to_numpy() >> ROW_BITS
    if len(asked):
        folder = f"{payload['exchange']}/asked"
        write_rows(store, folder, bucket_writer(payload["split"]), payload["parts"], number, asked)
    return {"parts": np.unique(number).tolist()}


def _send_tasks(plan: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[Task]:
    splits: dict[int, list[int]] = {}
    for split in range(plan["splits"]):
        for number in asked.get(_name(plan, "ask", split), {"parts": []})["parts"]:
            splits.setdefault(number, []).append(split)
    shared = {name: plan[name] for name in ("store", "exchange", "splits")}
    for part in map(LinkedPart.from_json, plan["parts"]):
        if part.number in splits:
            payload = {
                **shared,
                "number": part.number,
                "keys": part.keys.to_json(),
                "asked": splits[part.number],
                "memory": plan["memory"],
            }
            yield Task(_name(plan, "send", part.number), f"{__name__}:send", payload, part.keys.bytes)


def send(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the sets of the rows of one part that were asked for, to the splits that asked, in pieces."""
    store = Store(payload["store"])
    folder, writers = f"{payload['exchange']}/asked", [bucket_writer(split) for split in payload["asked"]]
    wanted = [read_rows(store, folder, payload["number"], [writer]) for writer in writers]
    split = np.repeat(np.array(payload["asked"], np.int64), [len(table) for table in wanted])
    table = pa.concat_tables(wanted)
    node, centre = table.column("node").to_numpy(), table.column("centre").to_numpy()
    order = np.argsort(node, kind="stable")
    node, centre, split = node[order], centre[order], split[order]
    rows = np.unique(node & _ROW)
    pending: list[pa.Table] = []
    targets: list[npt.NDArray[np.int64]] = []
    held = pieces = 0

    def flush() -> None:
        nonlocal held, pieces
        writer = f"{payload['number']:06d}-{pieces:04d}"
        target = np.concatenate(targets)
        write_rows(store, _sets_folder(payload), writer, payload["splits"], target, pa.concat_tables(pending))
        pending.clear()
        targets.clear()
        held, pieces = 0, pieces + 1

    for found, batch in take_rows(store, Part.from_json(payload["keys"]), ["shingles"], rows, size=64):
        if not len(found):
            continue
        low, high = np.searchsorted(node & _ROW, [found[0], found[-1] + 1])
        sets = batch.column("shingles")
        place = np.searchsorted(found, node[low:high] & _ROW)
        # A row goes to every split that asked for it: those of a batch may be more than is passed on at once.
        ends = np.cumsum(pc.list_value_length(sets).to_numpy(zero_copy_only=False)[place].astype(np.int64) * 4)
        for first, stop in _runs(ends, payload["memory"] // SHARE):
            own = slice(low + first, low + stop)
            columns = [pa.array(node[own]), pa.array(centre[own]), sets.take(pa.array(place[first:stop]))]
            pending.append(pa.table(columns, schema=SETS))
            targets.append(split[own])
            held += pending[-1].nbytes
            if held * SHARE > payload["memory"]:
                flush()
    if pending:
        flush()
    return {"pieces": pieces}


def _compare_tasks(plan: Mapping[str, Any], asked: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[Task]:
    shared = {name: plan[name] for name in ("store", "exchange", "pieces", "splits", "memory")}
    for split in range(plan["splits"]):
        writers = [
            f"{number:06d}-{piece:04d}"
            for number in asked.get(_name(plan, "ask", split), {"parts": []})["parts"]
            for piece in range(sent[_name(plan, "send", number)]["pieces"])
        ]
        payload = {**shared, "split": split, "writers": writers, "verify": _bound(plan)}
        yield Task(_name(plan, "compare", split), f"{__name__}:compare", payload)


def compare(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: those pairs of a split that are similar enough."""
    store = Store(payload["store"])
    a, b = _distinct(*read_pairs(store, payload, payload["split"]))
    similar = np.full(len(a), payload["verify"] == 0)
    order = np.argsort(b, kind="stable")
    members = b[order]
    for centres, held in _centres(store, payload):
        for nodes, sets in _sets(store, payload, centre=False):
            # The pairs of these members, as places in `order`; then those whose centre is held now.
            lows, highs = np.searchsorted(members, nodes), np.searchsorted(members, nodes, side="right")
            other = np.repeat(np.arange(len(nodes)), highs - lows)
            pairs = order[_ranges(lows, highs)]
            one = np.searchsorted(centres, a[pairs])
            present = centres[np.minimum(one, len(centres) - 1)] == a[pairs]
            pairs, one, other = pairs[present], one[present], other[present]
            similar[pairs] = jaccard(held, one, sets, other) >= payload["verify"]
    write_verified(store, payload, payload["split"], a[similar], b[similar])
    return {"candidates": len(a), "pairs": int(similar.sum())}


def _centres(store: Store, payload: Payload) -> Iterator[tuple[Nodes, Sets]]:
    """The sets of a split's centres, by node, as many at a time as may be held."""
    pending: list[tuple[Nodes, Sets]] = []
    held = 0
    for nodes, sets in _sets(store, payload, centre=True):
        pending.append((nodes, sets))
        held += sets.shingles.nbytes
        if held * SHARE > payload["memory"]:
            yield _by_node(pending)
            pending, held = [], 0
    if pending:
        yield _by_node(pending)


def _by_node(pending: list[tuple[Nodes, Sets]]) -> tuple[Nodes, Sets]:
    nodes = np.concatenate([nodes for nodes, _ in pending])
    shingles = np.concatenate([sets.shingles for _, sets in pending])
    sizes = np.concatenate([np.diff(sets.starts) for _, sets in pending])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    order = np.argsort(nodes)
    return nodes[order], _take(Sets(shingles, starts), order)


def _take(sets: Sets, order: npt.NDArray[np.int64]) -> Sets:
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(sets.starts)[order])])
    return Sets(sets.shingles[_ranges(sets.starts[order], sets.starts[order + 1])], starts)


def _sets(store: Store, payload: Payload, *, centre: bool) -> Iterator[tuple[Nodes, Sets]]:
    """The sets of a split's centres, or of its other documents, one piece of one part at a time."""
    for writer in payload["writers"]:
        table = read_rows(store, _sets_folder(payload), payload["split"], [writer])
        table = table.filter(table.column("centre") if centre else pc.invert(table.column("centre")))
        if len(table):
            lists = table.column("shingles").combine_chunks()
            starts = lists.offsets.to_numpy().astype(np.int64)
            yield table.column("node").to_numpy(), Sets(lists.values.to_numpy(), starts)


def _distinct(a: Nodes, b: Nodes) -> tuple[Nodes, Nodes]:
    """Each pair once, in order."""
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    first = np.ones(len(a), np.bool_)
    first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return a[first], b[first]


def _runs(ends: npt.NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Where to cut rows that end at these bytes, so that each run but for single rows has at most so many."""
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield first, stop
        first = stop


def _ranges(lows: npt.NDArray[np.integer], highs: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The numbers of all ranges, one range after the other."""
    sizes = highs - lows
    ends = np.cumsum(sizes)
    numbers: npt.NDArray[np.int64] = np.arange(sizes.sum(), dtype=np.int64) + np.repeat(lows - (ends - sizes), sizes)
    return numbers


def _sets_folder(payload: Mapping[str, Any]) -> str:
    return f"{payload['exchange']}/shingles"


def _name(plan: Mapping[str, Any], phase: str, number: int) -> str:
    return f"{plan['exchange']} {phase} {number}"
