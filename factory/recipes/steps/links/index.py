"""The index of keys: what a snapshot is joined with instead of all documents before it.

A state, the dataset `index/<label>@<snapshot>`, says of all snapshots up to its own: every key and the document that is the
centre of those that have it (`keys`); of every clustered document a root (`members`), and what roots became when a later
document bridged two clusters (`aliases`); of every root the size of its cluster and who stands for it (`clusters`). Its
manifest lies at a path made of the linker's fingerprint and the digests of all keys and documents it covers, so that a
state of other keys, settings or files is never read. Documents are numbered as in `parts`: the numbers of earlier snapshots
stay when later ones follow.

All but the aliases are sorted runs, one more with each snapshot, merged with the one before whenever that is not over twice
as large: a state has as many runs as the logarithm of its snapshots, and a snapshot costs its own rows and one walk along the
runs. A run is cut into blocks by the leading bits of its keys, so that the task of a bucket reads its own range alone. What
a newer run says of a root holds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.fingerprint import fingerprint
from factory.core.manifest import Manifest, Part, dataset_folder, manifest_path
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.steps.links.components import linked_folder, read_labels, read_linked
from factory.recipes.steps.links.parts import ROW_BITS, Nodes, bucket_writer, write_split
from factory.recipes.steps.links.runs import KIND, Run, find_kept, keep, write_run_part
from factory.recipes.work import Bench, Work
from factory.storage.exchange import bucket_of, iterate_rows, mix, open_blocks, read_rows, write_rows
from factory.storage.store import Store

TABLES = ("keys", "members", "clusters")
PIECE_ROWS = 1 << 17  # of one block of a run
MERGE_ROWS = 1 << 23  # that one task merges
ROOTS = pa.schema([("key", pa.uint64()), ("root", pa.int64())])
CLUSTERS = pa.schema(
    [
        ("key", pa.uint64()),
        ("rank", pa.int32()),
        ("policy", pa.int64()),
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("size", pa.int64()),
    ]
)

Words = npt.NDArray[np.uint64]
Plan = Mapping[str, Any]


# --- states


def state_path(work: Work, snapshot: str) -> str:
    """Where the state of a linker after a snapshot lies: what was asked, and the content it was asked of."""
    return manifest_path(KIND, work.node.label, work.fingerprint, snapshot, _inputs(work, snapshot))


def find_state(store: Store, work: Work, snapshot: str) -> Manifest | None:
    """The whole state after a snapshot, or None."""
    return find_kept(store, state_path(work, snapshot))


def _inputs(work: Work, snapshot: str) -> dict[str, str]:
    return {name: manifest.digest for name, manifest in work.upstream.items() if manifest.partition <= snapshot}


def prepare(store: Store, plan: dict[str, Any], work: Work, snapshot: str) -> None:
    """Put into a plan the state it goes on from, and where its own is to be written."""
    earlier = [name for name in plan["snapshots"] if name < snapshot]
    if earlier:
        state = find_state(store, work, earlier[-1])
        assert state is not None, f"no index of {work.node.label}@{earlier[-1]}"
        parts = {part.name: part.to_json() for part in state.parts}
        plan["history"] = {
            table: [[parts[name] for name in run] for run in runs] for table, runs in state.notes["runs"].items()
        }
        plan["first"] = sum(part["snapshot"] < snapshot for part in plan["parts"])
    if find_state(store, work, snapshot) is None:
        inputs = _inputs(work, snapshot)
        folder = dataset_folder(KIND, work.node.label, work.fingerprint, snapshot)
        plan["state"] = {
            # Of its own, as the exchange is: links of two snapshots may be made at once, both without this state.
            "folder": f"{folder}/{fingerprint({'exchange': plan['exchange']})}",
            "label": work.node.label,
            "snapshot": snapshot,
            "fingerprint": work.fingerprint,
            "inputs": inputs,
        }


def only(plan: Plan, *tables: str) -> dict[str, Any] | None:
    """The tables of the state a plan goes on from that a task reads."""
    return {table: plan["history"][table] for table in tables} if plan["history"] else None


# --- runs


def _write_run(store: Store, payload: Payload, table: str, bucket: int, buckets: int, rows: pa.Table) -> dict[str, Any]:
    """Sorted rows of one bucket as a part of a new run."""
    pieces = max(1, -(-rows.num_rows // PIECE_ROWS))
    target = bucket_of(rows.column("key").to_numpy(), buckets * pieces)
    bounds = np.searchsorted(target, np.arange(bucket * pieces, (bucket + 1) * pieces + 1, dtype=np.uint64))
    blocks = (rows.slice(low, high - low) for low, high in pairwise(bounds))
    return _write_part(store, payload["state"], table, bucket, buckets, pieces, rows.schema, blocks)


def _write_part(
    store: Store,
    state: Mapping[str, Any],
    table: str,
    bucket: int,
    buckets: int,
    pieces: int,
    schema: pa.Schema,
    blocks: Iterable[pa.Table],
) -> dict[str, Any]:
    name = f"{state['snapshot']}-{table}-{bucket:06d}"
    return write_run_part(
        store, state["folder"], name, blocks, schema=schema, bucket=bucket, buckets=buckets, pieces=pieces
    ).to_json()


def _look_up(
    store: Store,
    runs: Sequence[Sequence[Mapping[str, Any]]],
    bucket: int,
    buckets: int,
    keys: Words,
    names: Sequence[str],
    checks: Words | None = None,
) -> tuple[npt.NDArray[np.bool_], list[Any]]:
    """Which of these sorted keys a table has, and what it says of them; newer runs are asked first."""
    from factory.kernels.clusters import find

    none = np.empty(0, np.uint64)
    found = np.zeros(len(keys), np.bool_)
    given: list[Any] = [None] * len(names)
    for run in reversed(runs) if len(keys) else ():
        for block in Run(store, run).blocks(bucket, buckets):
            if not block.num_rows:
                continue
            own = block.column("key").to_numpy()
            low, high = np.searchsorted(keys, own[0]), np.searchsorted(keys, own[-1], side="right")
            places = find(
                own,
                keys[low:high],
                block.column("check").to_numpy() if checks is not None else none,
                checks[low:high] if checks is not None else none,
            )
            fresh = np.flatnonzero((places >= 0) & ~found[low:high])
            for at, name in enumerate(names):
                column = block.column(name).to_numpy()
                if given[at] is None:
                    given[at] = np.zeros(len(keys), column.dtype)
                given[at][low + fresh] = column[places[fresh]]
            found[low + fresh] = True
    return found, [np.zeros(len(keys), np.int64) if column is None else column for column in given]


# --- joining with what is known


def look_up_keys(store: Store, payload: Payload, distinct: Any) -> dict[str, Any] | None:
    """Give keys that the index has the centre it knows; write the others as a part of the new run."""
    if payload["state"] is None and payload["history"] is None:
        return None
    bucket, buckets = payload["bucket"], payload["buckets"]
    checks = distinct.check if len(distinct.check) else None
    known = np.zeros(len(distinct.key), np.bool_)
    if payload["history"]:
        runs = payload["history"]["keys"]
        known, (centres,) = _look_up(store, runs, bucket, buckets, distinct.key, ["node"], checks)
        distinct.node = np.where(known, centres, distinct.node)
    if payload["state"] is None or known.all():
        return None
    columns = {"key": distinct.key[~known], "node": distinct.node[~known]}
    if checks is not None:
        columns["check"] = checks[~known]
    return _write_run(store, payload, "keys", bucket, buckets, pa.table(columns))


def resolve_all(bench: Bench, plans: list[dict[str, Any]]) -> None:
    """In the pairs of plans that go on from a state, put the roots of clusters in the place of older documents."""
    names = ("store", "exchange", "splits", "pieces", "linked", "first", "part_count")
    tasks = {
        plan["exchange"]: [
            Task(
                f"{plan['exchange']} resolve {split}",
                f"{__name__}:resolve",
                {**{name: plan[name] for name in names}, "history": only(plan, "members", "aliases"), "split": split},
            )
            for split in range(plan["splits"])
        ]
        for plan in plans
    }
    results = bench.run_tasks("resolve", [task for own in tasks.values() for task in own], unit="buckets")
    for plan in plans:
        own = [results[task.name] for task in tasks[plan["exchange"]]]
        plan["singles"] = sorted({number for result in own for number in result["singles"]})
        for path in bench.store.files(linked_folder(plan)):
            bench.store.delete(path)
        plan["linked"] = "resolved"


def resolve(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the pairs of one split, with the roots of clusters instead of older documents; and those that were alone."""
    from factory.kernels.clusters import number, sort_rows

    store, split, history = Store(payload["store"]), payload["split"], payload["history"]
    a, b = read_linked(store, payload, split)
    old = np.flatnonzero(a < payload["first"] << ROW_BITS)
    nodes, places = number(a[old])
    keys, order = sort_rows(mix(nodes.view(np.uint64)), np.arange(len(nodes)))
    clustered, (roots,) = _look_up(store, history["members"], split, payload["splits"], keys, ["root"])
    current = np.where(clustered, roots, nodes[order]).astype(np.int64)
    if history["aliases"]:
        distinct, at = number(current)
        names, by = sort_rows(mix(distinct.view(np.uint64)), np.arange(len(distinct)))
        aliased, (became,) = _look_up(store, history["aliases"], 0, 1, names, ["root"])
        distinct = distinct.copy()
        distinct[by[aliased]] = became[aliased]
        current = distinct[at]
    resolved = np.empty(len(nodes), np.int64)
    resolved[order] = current
    a = a.copy()
    a[old] = resolved[places]
    singles = np.sort(nodes[order[~clustered]])
    parts = singles >> ROW_BITS
    write_rows(
        store, _singles_folder(payload), bucket_writer(split), payload["part_count"], parts, pa.table({"node": singles})
    )
    write_split(store, linked_folder({**payload, "linked": "resolved"}), split, a, b)
    return {"singles": np.unique(parts).tolist()}


def _singles_folder(plan: Plan) -> str:
    return f"{plan['exchange']}/singles"


def read_singles(store: Store, payload: Payload, part: int) -> Nodes:
    """Documents of an earlier part that were alone and have a copy now."""
    writers = [bucket_writer(split) for split in range(payload["splits"])]
    nodes: Nodes = read_rows(store, _singles_folder(payload), part, writers).column("node").to_numpy()
    return nodes


def clusters(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: what earlier clusters of one split bring into the election, and those that are no roots any more."""
    from factory.kernels.clusters import sort_rows
    from factory.recipes.steps.links.documents import BALLOTS, write_ballots

    store, hall = Store(payload["store"]), payload["hall"]
    split = hall - payload["part_count"]
    node, root = read_labels(store, payload, hall)
    keys, order = sort_rows(mix(node.view(np.uint64)), np.arange(len(node)))
    node, root = node[order], root[order]
    names = CLUSTERS.names[1:]
    found, columns = _look_up(store, payload["history"]["clusters"], split, payload["splits"], keys, names)
    node, root, keys = node[found], root[found], keys[found]
    rank, policy, high, low, size = (column[found] for column in columns)
    table = pa.table([pa.array(column) for column in (root, rank, policy, high, low, node, size)], names=BALLOTS.names)
    write_ballots(store, payload, hall, table.cast(BALLOTS))
    merged = node != root
    table = pa.table([pa.array(keys[merged]), pa.array(root[merged])], ROOTS)
    write_rows(store, _aliases_folder(payload), bucket_writer(split), 1, np.zeros(table.num_rows, np.uint64), table)
    return {}


def _aliases_folder(plan: Plan) -> str:
    return f"{plan['exchange']}/aliases"


# --- what the next snapshot will know


def write_members(store: Store, payload: Payload, writer: int, node: Nodes, root: Nodes) -> None:
    """Documents that are clustered from now on, for the new run."""
    key = mix(node.view(np.uint64))
    table = pa.table([pa.array(key), pa.array(root)], ROOTS)
    write_rows(
        store,
        _members_folder(payload),
        bucket_writer(writer),
        payload["splits"],
        bucket_of(key, payload["splits"]),
        table,
    )


def _members_folder(plan: Plan) -> str:
    return f"{plan['exchange']}/members"


def write_clusters(store: Store, payload: Payload, keys: Words, winners: pa.Table) -> dict[str, Any] | None:
    """What the election says of the clusters of one split, as a part of the new run."""
    if not len(keys):
        return None
    columns = [pa.array(keys), *(winners.column(name) for name in CLUSTERS.names[1:])]
    table = pa.table(columns, names=CLUSTERS.names).cast(CLUSTERS).combine_chunks()
    return _write_run(store, payload, "clusters", payload["split"], payload["splits"], table)


def finish_all(bench: Bench, plans: list[dict[str, Any]]) -> None:
    """Write the states of these plans: the new runs, merged with those before where it is time."""
    tasks = {
        plan["exchange"]: [
            Task(
                f"{plan['exchange']} members {split}",
                f"{__name__}:members",
                {**_about(plan), "split": split},
            )
            for split in range(plan["splits"])
        ]
        for plan in plans
    }
    results = bench.run_tasks("index clusters", [task for own in tasks.values() for task in own], unit="buckets")
    for plan in plans:
        own = [results[task.name]["run"] for task in tasks[plan["exchange"]]]
        plan["new_runs"]["members"] = [run for run in own if run]
    _merge_all(bench, plans)
    for plan in plans:
        _commit(bench.store, plan)


def _about(plan: Plan) -> dict[str, Any]:
    names = ("store", "exchange", "splits", "state", "members_of")
    return {**{name: plan[name] for name in names}, "history": only(plan, "aliases")}


def members(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the newly clustered documents of one split, sorted."""
    store, split = Store(payload["store"]), payload["split"]
    writers = [bucket_writer(number) for number in payload["members_of"]]
    found = list(iterate_rows(store, _members_folder(payload), split, writers))
    rows = sum(table.num_rows for table in found)
    if not rows:
        return {"run": None}
    return {
        "run": _write_run(store, payload, "members", split, payload["splits"], _in_order(found, newest_first=False))
    }


def _in_order(tables: list[pa.Table], *, newest_first: bool) -> pa.Table:
    """Rows by key (and check); of several with one key the first, where the newest come first."""
    from factory.kernels.clusters import group, sort_rows

    table = pa.concat_tables(tables).combine_chunks()
    key = table.column("key").to_numpy()
    if "check" in table.schema.names:
        order = group(key, np.zeros(len(key), np.int64), table.column("check").to_numpy())[1]
        return table.take(pa.array(order))
    keys, order = sort_rows(key, np.arange(len(key)))
    if newest_first and len(keys):
        order = order[np.concatenate([[True], keys[1:] != keys[:-1]])]
    return table.take(pa.array(order))


def _merge_all(bench: Bench, plans: list[dict[str, Any]]) -> None:
    tasks: list[Task] = []
    merged: dict[str, dict[str, list[str]]] = {}
    for plan in plans:
        name, runs = plan["exchange"], {}
        merged[name] = {}
        for table in TABLES:
            before = list(plan["history"][table]) if plan["history"] else []
            new = plan["new_runs"][table]
            runs[table] = [*before, new] if new else before
            keep = _untouched([sum(part["rows"] for part in run) for run in runs[table]])
            if len(runs[table]) - keep < 2:
                continue
            chosen, runs[table] = runs[table][keep:], runs[table][:keep]
            total = sum(part["rows"] for run in chosen for part in run)
            buckets = max(1, -(-total // MERGE_ROWS))
            merged[name][table] = [f"{name} merge {table} {bucket}" for bucket in range(buckets)]
            tasks += [
                Task(
                    task,
                    f"{__name__}:merge",
                    {
                        "store": plan["store"],
                        "state": plan["state"],
                        "table": table,
                        "runs": chosen,
                        "bucket": bucket,
                        "buckets": buckets,
                        "pieces": max(1, -(-total // (buckets * PIECE_ROWS))),
                    },
                    total // buckets,
                )
                for bucket, task in enumerate(merged[name][table])
            ]
        plan["runs"] = runs
        if plan["history"]:
            tasks.append(Task(f"{name} aliases", f"{__name__}:aliases", _about(plan)))
    results = bench.run_tasks("merge the index", tasks, unit="rows")
    for plan in plans:
        name = plan["exchange"]
        for table, own in merged[name].items():
            _forget(bench.store, plan["new_runs"][table])
            plan["runs"][table].append([results[task]["run"] for task in own])
        made = results[f"{name} aliases"]["run"] if plan["history"] else None
        plan["runs"]["aliases"] = [[made]] if made else []


def _untouched(sizes: list[int]) -> int:
    """How many of the runs, oldest first, stay as they are: those over twice as large as all that follow."""
    keep, total = max(0, len(sizes) - 1), sum(sizes[-1:])
    while keep and sizes[keep - 1] <= 2 * total:
        keep -= 1
        total += sizes[keep]
    return keep


def _forget(store: Store, parts: list[dict[str, Any]]) -> None:
    # The merged run has other names: what went into it and stands in no manifest is of no more use.
    for part in parts:
        store.delete(part["path"])


def merge(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one range of several runs as one, block by block."""
    store = Store(payload["store"])
    bucket, buckets, pieces = payload["bucket"], payload["buckets"], payload["pieces"]
    runs = [Run(store, run) for run in reversed(payload["runs"])]

    def blocks() -> Iterator[pa.Table]:
        for piece in range(bucket * pieces, (bucket + 1) * pieces):
            tables = [table for run in runs for table in run.rows(piece, buckets * pieces)]
            yield _in_order(tables, newest_first=True)

    with_schema = payload["runs"][0][0]["path"]
    with open_blocks(store, with_schema) as opened:
        schema = opened.schema
    name = f"{payload['table']}-merged"
    return {"run": _write_part(store, payload["state"], name, bucket, buckets, pieces, schema, blocks())}


def aliases(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: all roots that are none any more with what they are now, in one step."""
    store, splits = Store(payload["store"]), payload["splits"]
    writers = [bucket_writer(split) for split in range(splits)]
    new = _in_order(list(iterate_rows(store, _aliases_folder(payload), 0, writers)), newest_first=False)
    before = payload["history"]["aliases"][0] if payload["history"]["aliases"] else []
    total = new.num_rows + sum(part["rows"] for part in before)
    if not total:
        return {"run": None}
    pieces = max(1, -(-total // PIECE_ROWS))
    old, keys, roots = Run(store, before), new.column("key").to_numpy(), new.column("root").to_numpy()
    bounds = np.searchsorted(bucket_of(keys, pieces), np.arange(pieces + 1))

    def blocks() -> Iterator[pa.Table]:
        for piece in range(pieces):
            own = new.slice(bounds[piece], bounds[piece + 1] - bounds[piece])
            yield _in_order(
                [own, *(_renamed(table, keys, roots) for table in old.rows(piece, pieces))], newest_first=True
            )

    return {"run": _write_part(store, payload["state"], "aliases", 0, 1, pieces, ROOTS, blocks())}


def _renamed(table: pa.Table, keys: Words, roots: Nodes) -> pa.Table:
    """Aliases whose root has become part of another cluster, with that one's."""
    from factory.kernels.clusters import find, sort_rows

    root = table.column("root").to_numpy()
    wanted, order = sort_rows(mix(root.view(np.uint64)), np.arange(len(root)))
    places = find(keys, wanted)
    root = root.copy()
    root[order[places >= 0]] = roots[places[places >= 0]]
    return pa.table([table.column("key"), pa.array(root)], ROOTS)


def _commit(store: Store, plan: Plan) -> None:
    state = plan["state"]
    parts = [Part.from_json(part) for runs in plan["runs"].values() for run in runs for part in run]
    manifest = Manifest(
        kind=KIND,
        label=state["label"],
        partition=state["snapshot"],
        fingerprint=state["fingerprint"],
        spec=plan["spec"],
        inputs=state["inputs"],
        parts=tuple(parts),
        ledger={table: sum(part["rows"] for run in runs for part in run) for table, runs in plan["runs"].items()},
        notes={
            "runs": {table: [[part["name"] for part in run] for run in runs] for table, runs in plan["runs"].items()}
        },
    )
    keep(store, manifest)
