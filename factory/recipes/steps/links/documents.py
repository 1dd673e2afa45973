"""Links of documents: who shares a key hangs together, and every cluster elects who stands for it.

    keys part -> buckets by key -> pairs -> components -> election by cluster -> links beside each document part

Everything is a task that holds no more than its share of memory: rows are exchanged into as many buckets as that takes, and
go back to the part they belong to. Pairs are a star for each group of equal keys, never all of its pairs, and components
take as many rounds as the logarithm of the longest chain, so that neither copies nor chains cost more than their number.
Components and elections are minima over (snapshot, [policy], doc_id), so that no order, cut, worker or budget changes them.

Under scope `incremental` a snapshot is joined with the index of the earlier ones (see `index`), which gives what joining all
of them would, and members of earlier snapshots stand before later ones: what was kept stays kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS, Needs
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.core.statistics import histogram, merge_histograms
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.steps.links import index
from factory.recipes.steps.links.components import (
    DOCUMENT_BYTES,
    PAIR_BYTES,
    label_all,
    linked_folder,
    read_labels,
)
from factory.recipes.steps.links.parts import (
    ROW_BITS,
    Nodes,
    Words,
    bucket_writer,
    clear,
    exchange_folder,
    linked_parts,
    pairs_folder,
    parse_ids,
    write_pairs,
)
from factory.recipes.work import Bench, Made, Work
from factory.storage.exchange import (
    WORKING_COPIES,
    bucket_count,
    bucket_of,
    count_rows,
    iterate_rows,
    mix,
    read_rows,
    write_rows,
)
from factory.storage.parts import iterate_part, read_part, write_thin_part
from factory.storage.store import Store

COLUMNS = LINK_COLUMNS["documents"]
LARGEST = 50  # clusters a report may show
BATCH_ROWS = 1 << 16
SLACK = 1.25  # buckets of hashes differ a little in size
BALLOT_BYTES = 60  # a clustered document in the election, see BALLOTS
BALLOTS = pa.schema(
    [
        ("root", pa.int64()),
        ("rank", pa.int32()),  # of its snapshot
        ("policy", pa.int64()),  # the lower the better
        ("high", pa.uint64()),  # of its doc_id
        ("low", pa.uint64()),
        ("node", pa.int64()),
        ("size", pa.int64()),  # documents it speaks for: a cluster of earlier snapshots comes as one
    ]
)
ELECTED = pa.schema(
    [
        ("node", pa.int64()),
        ("stands", pa.bool_()),
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("size", pa.int64()),
        ("first", pa.int32()),
    ]
)
LINKED = pa.schema(list(COLUMNS.items()))

Plan = dict[str, Any]


def row_bytes(columns: Iterable[str]) -> int:
    """Bytes of one exchanged key: itself and its document, and what a linker with these columns adds."""
    return 16 + 8 * len({"check", "shingles"} & set(columns))


def needs(rows: int, keys: int, memory: int, *, columns: Iterable[str] = ()) -> Needs:
    """What links of so many documents with so many keys take; `columns` are those of the linker.

    The exchange is at its peak when the keys are in their buckets and become pairs; where nearly all documents are copies of
    each other it takes up to twice as much. An index of keys, which stays, comes on top under scope `incremental`.
    """
    own = row_bytes(columns)
    buckets = bucket_count(keys, own, memory)
    splits = max(buckets, bucket_count(rows, BALLOT_BYTES, memory))
    bucket = -(-keys // buckets) * own * WORKING_COPIES
    ballots = -(-rows // splits) * BALLOT_BYTES * WORKING_COPIES
    joined = min(rows * PAIR_BYTES, max(rows * DOCUMENT_BYTES, 1) if rows * DOCUMENT_BYTES <= memory else memory)
    return Needs(max(bucket, ballots, joined), keys * own, max(buckets, splits))


@dataclass(frozen=True)
class _Job:
    """One join: the documents of `work` up to `snapshot`, and the datasets that get links from it."""

    work: Work
    snapshot: str
    outputs: tuple[Work, ...]


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Links of several linkers and snapshots, phase by phase, so that all workers are busy in each.

    Snapshots of an incremental linker come one after another, since each is joined with the index of those before it.
    """
    made: dict[str, Made] = {}
    for turn in zip_longest(*_chains(bench, works)):
        jobs = [job for job in turn if job is not None]
        made.update(_join(bench, jobs))
    return made


def _chains(bench: Bench, works: list[Work]) -> Iterator[list[_Job]]:
    by_label: dict[str, list[_Job | Work]] = {}
    for work in sorted(works, key=lambda work: work.node.partition):
        scope = work.node.spec["scope"]
        if scope == "snapshot":
            yield [_Job(work, work.node.partition, (work,))]
        else:
            by_label.setdefault(work.node.label, []).append(work)
    for own in by_label.values():
        first = own[0]
        assert isinstance(first, Work)
        chosen = [work for work in own if isinstance(work, Work)]
        if first.node.spec["scope"] == "global":
            # All snapshots read the same documents: they are joined once.
            yield [_Job(first, max(_snapshots(first)), tuple(chosen))]
        else:
            yield list(_incremental(bench, chosen))


def _incremental(bench: Bench, works: list[Work]) -> Iterator[_Job]:
    """One job for each snapshot, with those in between whose index is not there."""
    made: set[str] = set()
    for work in works:
        earlier = [snapshot for snapshot in _snapshots(work) if snapshot < work.node.partition]
        missing: list[str] = []
        while earlier and earlier[-1] not in made and index.find_state(bench.store, work, earlier[-1]) is None:
            missing.append(earlier.pop())
        for snapshot in reversed(missing):
            yield _Job(work, snapshot, ())
            made.add(snapshot)
        yield _Job(work, work.node.partition, (work,))
        made.add(work.node.partition)


def _snapshots(work: Work) -> list[str]:
    return sorted({manifest.partition for manifest in work.of("keys")})


def _join(bench: Bench, jobs: list[_Job]) -> dict[str, Made]:
    plans = [_plan(bench, job) for job in jobs]
    _exchange_all(bench, plans)
    _pair_all(bench, plans)
    checked = [plan for plan in plans if plan["verified"]]
    if checked:
        from factory.recipes.steps.links import verify  # with kernels, which take longer to import than a plan to make

        verify.verify_all(bench, checked)
        for plan in checked:
            plan["linked"] = "verified"
            clear(bench, pairs_folder(plan["exchange"]))
    index.resolve_all(bench, [plan for plan in plans if plan["history"]])
    label_all(bench, plans)
    for plan in plans:
        clear(bench, linked_folder(plan))
    _elect_all(bench, plans)
    made = _write_all(bench, jobs, plans)
    index.finish_all(bench, [plan for plan in plans if plan["state"]])
    for plan in plans:
        clear(bench, plan["exchange"])
    return made


def _plan(bench: Bench, job: _Job) -> Plan:
    """All that workers need, as plain data."""
    work, spec = job.work, job.work.node.spec
    stage = find_stage("linker", spec["stage"])
    written = stage.writes_for(stage.config(**spec["settings"]))
    verified = "shingles" in written and bool(spec["settings"].get("verify"))
    columns = [name for name in ("keys", "check", *(["shingles"] if verified else [])) if name in written]
    parts = [part for part in linked_parts(work) if part.snapshot <= job.snapshot]
    snapshots = [snapshot for snapshot in _snapshots(work) if snapshot <= job.snapshot]
    # Cut by another budget, what a run that is gone left (or one that was taken for dead still writes) is not read.
    exchange = f"{exchange_folder(work)}/{bench.memory}/{job.snapshot}"
    plan: Plan = {
        "store": bench.store.url,
        "exchange": exchange,
        "memory": bench.memory,
        "spec": dict(spec),
        "columns": columns,
        "verified": verified,
        "snapshots": snapshots,
        "ranks": [snapshots.index(part.snapshot) for part in parts],
        "parts": [replace(part, keys=_bare(part.keys), document=_bare(part.document)).to_json() for part in parts],
        "part_count": len(parts),
        "first": 0,
        "offsets": np.cumsum([0, *(part.document.rows for part in parts)]).tolist(),
        "documents": sum(part.document.rows for part in parts),
        "scores": _scores(work, spec["keep"]),
        "history": None,
        "state": None,
        "linked": "pairs",
    }
    if spec["scope"] == "incremental":
        index.prepare(bench.store, plan, work, job.snapshot)
    fresh = [part for part in parts if part.number >= plan["first"]]
    keys = sum(_key_count(part.keys) for part in fresh)
    rows = sum(part.document.rows for part in fresh)
    own = row_bytes(columns)
    plan["row_bytes"] = own
    plan["buckets"] = bucket_count(keys, own, bench.memory)
    plan["splits"] = max(plan["buckets"], bucket_count(rows, BALLOT_BYTES, bench.memory))
    return plan


def _bare(part: Part) -> Part:
    # The notes of a thousand parts would be sent a thousand times.
    return replace(part, notes={})


def _key_count(part: Part) -> int:
    """Keys of a part: noted when it was made; else what its bytes can hold, for hashes do not compress."""
    noted = part.notes.get("keys")
    return int(noted) if noted is not None else max(part.rows, part.bytes // 8)


def _scores(work: Work, keep: str) -> dict[str, Any] | None:
    """Where the column lies whose highest value stands: its name, and the thin part beside each document part."""
    if not keep.startswith("best:"):
        return None
    manifests = work.of("scores")
    column = keep.removeprefix("best:").removeprefix(f"{manifests[0].label}_")
    return {
        "column": column,
        "parts": {part.name: _bare(part).to_json() for manifest in manifests for part in manifest.parts},
    }


def _fresh(plan: Plan) -> list[dict[str, Any]]:
    return [part for part in plan["parts"] if part["number"] >= plan["first"]]


def _pick(plan: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: plan[name] for name in ("store", "exchange", "memory", *names)}


def _rows_held(memory: int, row_bytes: int) -> int:
    """How many rows a task may sort at once."""
    return max(16, memory // (row_bytes * WORKING_COPIES))


# --- keys into buckets


def _exchange_all(bench: Bench, plans: list[Plan]) -> None:
    tasks = {
        f"{plan['exchange']} keys {part['number']}": (plan, part["number"], part)
        for plan in plans
        for part in _fresh(plan)
    }
    results = bench.run_tasks(
        "exchange keys",
        [
            Task(
                name,
                f"{__name__}:exchange",
                {**_pick(plan, "buckets", "columns", "verified", "row_bytes"), "part": part},
                part["keys"]["bytes"],
            )
            for name, (plan, _, part) in tasks.items()
        ],
    )
    for plan in plans:
        own_tasks = {number: results[name] for name, (own, number, _) in tasks.items() if own is plan}
        plan["written"] = [[number, result["pieces"]] for number, result in own_tasks.items()]
        plan["with_keys"] = {number: result["linked"] for number, result in own_tasks.items()}


def exchange(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one part's keys into buckets."""
    store, part = Store(payload["store"]), payload["part"]
    columns = [name for name in ("keys", "check") if name in payload["columns"]]
    orders = _doc_ids(store, Part.from_json(part["document"]))[0] if payload["verified"] else None
    limit = _rows_held(payload["memory"], payload["row_bytes"])
    pending: list[pa.Table] = []
    held = pieces = first = linked = 0

    def flush() -> None:
        nonlocal pending, held, pieces
        table = pa.concat_tables(pending).combine_chunks()
        target = bucket_of(table.column("key").to_numpy(), payload["buckets"])
        writer = bucket_writer(part["number"], pieces)
        write_rows(store, f"{payload['exchange']}/keys", writer, payload["buckets"], target, table)
        pending, held, pieces = [], 0, pieces + 1

    for batch in iterate_part(store, Part.from_json(part["keys"]), columns, BATCH_ROWS):
        linked += pc.sum(pc.greater(pc.list_value_length(batch.column("keys")), 0)).as_py() or 0
        table = _key_rows(batch, part["number"] << ROW_BITS, first, orders)
        first += batch.num_rows
        for start in range(0, table.num_rows, limit):
            pending.append(table.slice(start, limit))
            held += pending[-1].num_rows
            if held >= limit:
                flush()
    if held:
        flush()
    return {"pieces": pieces, "linked": linked}


def _key_rows(batch: pa.RecordBatch, part: int, first: int, orders: Words | None) -> pa.Table:
    keys = batch.column("keys")
    lengths = pc.fill_null(pc.list_value_length(keys), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(first, first + len(keys)), lengths)
    # Mixed, so that buckets are even and rows can be sorted by a few leading bits, whatever a linker calls a key.
    columns = {"key": mix(keys.flatten().to_numpy().astype(np.uint64)), "node": rows | part}
    if "check" in batch.schema.names:
        columns["check"] = batch.column("check").fill_null(0).to_numpy()[rows - first]
    if orders is not None:
        columns["order"] = orders[rows]
    return pa.table(columns)


def _doc_ids(store: Store, document: Part, rows: Nodes | None = None) -> tuple[Words, Words]:
    """The doc_ids of a part, or of some of its rows, as two words each."""
    column = read_part(store, document, ["doc_id"]).column("doc_id")
    return parse_ids(column if rows is None else column.take(pa.array(rows)))


# --- pairs


def _pair_all(bench: Bench, plans: list[Plan]) -> None:
    names = ("verified", "ranks", "first", "buckets", "splits", "row_bytes", "written", "state")
    tasks = {
        plan["exchange"]: [
            Task(
                f"{plan['exchange']} pairs {bucket}",
                f"{__name__}:pairs",
                {**_pick(plan, *names), "history": index.only(plan, "keys"), "bucket": bucket},
            )
            for bucket in range(plan["buckets"])
        ]
        for plan in plans
    }
    results = bench.run_tasks("join keys", [task for own in tasks.values() for task in own], unit="buckets")
    for plan in plans:
        own = [results[task.name] for task in tasks[plan["exchange"]]]
        plan["pieces"] = [result["pieces"] for result in own]
        plan["pairs"] = sum(result["pairs"] for result in own)
        plan["new_runs"] = {"keys": [result["run"] for result in own if result["run"]]}
        clear(bench, f"{plan['exchange']}/keys")


def pairs(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the pairs of one bucket of keys, a star for each group of equal ones; and its keys that no index has.

    A bucket that is too large, which happens where very many documents share one key, is gone through twice: for its
    distinct keys and their centres, and for the pairs.
    """
    from factory.kernels.clusters import find

    store, bucket = Store(payload["store"]), payload["bucket"]
    folder = f"{payload['exchange']}/keys"
    writers = [bucket_writer(number, piece) for number, pieces in payload["written"] for piece in range(pieces)]
    limit = _rows_held(payload["memory"], payload["row_bytes"])
    rows = count_rows(store, folder, bucket, writers)
    blocks: Callable[[], Iterable[_Keys]]
    if rows <= limit * SLACK:
        whole = [_Keys.of(read_rows(store, folder, bucket, writers), payload)] if rows else []
        blocks = partial(iter, whole)
        distinct = whole[0].centres() if whole else None
    else:
        blocks = partial(_blocks, store, folder, bucket, writers, payload, max(1, limit // 4))
        distinct = None
        for block in blocks():
            distinct = block.centres() if distinct is None else distinct.merged(block.centres(), payload)
    if distinct is None:
        write_pairs(store, payload, bucket, np.empty(0, np.int64), np.empty(0, np.int64))
        return {"pieces": 1, "pairs": 0, "run": None}
    run = index.look_up_keys(store, payload, distinct)
    pieces = total = 0
    for block in blocks():
        places = find(
            distinct.key,
            block.key[block.starts],
            distinct.check,
            block.check[block.starts] if len(block.check) else block.check,
        )
        a, b = block.pairs(distinct.node[places], payload)
        write_pairs(store, payload, bucket, a, b, pieces)
        pieces, total = pieces + 1, total + len(a)
    return {"pieces": pieces, "pairs": total, "run": run}


def _blocks(
    store: Store, folder: str, bucket: int, writers: list[str], payload: Payload, rows: int
) -> Iterator["_Keys"]:
    pending, held = list[pa.Table](), 0
    for table in iterate_rows(store, folder, bucket, writers):
        for start in range(0, table.num_rows, rows):
            pending.append(table.slice(start, rows))
            held += pending[-1].num_rows
            if held >= rows:
                yield _Keys.of(pa.concat_tables(pending).combine_chunks(), payload)
                pending, held = [], 0
    if held:
        yield _Keys.of(pa.concat_tables(pending).combine_chunks(), payload)


@dataclass
class _Keys:
    """Rows of keys in the order of (key, check): where each group of equal ones begins, and the row that is its centre."""

    key: Words
    node: Nodes
    check: Words
    order: Words
    starts: Nodes
    central: Nodes

    @staticmethod
    def of(table: pa.Table, payload: Payload) -> "_Keys":
        none = np.empty(0, np.uint64)
        check, order = (
            table.column(name).to_numpy() if name in table.schema.names else none for name in ("check", "order")
        )
        return _Keys.by_key(table.column("key").to_numpy(), table.column("node").to_numpy(), check, order, payload)

    @staticmethod
    def by_key(key: Words, node: Nodes, check: Words, order: Words, payload: Payload) -> "_Keys":
        from factory.kernels.clusters import group

        key, by, starts, central = group(key, node, check, order, np.array(payload["ranks"], np.int64))
        check, order = check[by] if len(check) else check, order[by] if len(order) else order
        return _Keys(key, node[by], check, order, starts, central)

    def centres(self) -> "_Keys":
        at = self.central
        check, order = (
            self.check[at] if len(self.check) else self.check,
            self.order[at] if len(self.order) else self.order,
        )
        each = np.arange(len(at))
        return _Keys(self.key[at], self.node[at], check, order, each, each)

    def merged(self, other: "_Keys", payload: Payload) -> "_Keys":
        columns = [(self.key, other.key), (self.node, other.node), (self.check, other.check), (self.order, other.order)]
        key, node, check, order = (np.concatenate(pair) for pair in columns)
        return _Keys.by_key(key, node, check, order, payload).centres()

    def pairs(self, centres: Nodes, payload: Payload) -> tuple[Nodes, Nodes]:
        """The pairs of each group's centre with its members, fewest that connect the same where all of them count."""
        from factory.kernels.clusters import distinct_pairs, forest, star

        a, b = star(self.node, self.starts, centres)
        if payload["verified"]:
            return distinct_pairs(a, b, _pair_hashes(a, b))
        old = a < payload["first"] << ROW_BITS
        if not old.any():
            return forest(a, b)
        # What hangs on the index is kept apart: its centres are looked up by the bucket of their own.
        hanging = distinct_pairs(a[old], b[old], _pair_hashes(a[old], b[old]))
        among = forest(a[~old], b[~old])
        return np.concatenate([hanging[0], among[0]]), np.concatenate([hanging[1], among[1]])


def _pair_hashes(a: Nodes, b: Nodes) -> Words:
    return mix(mix(a.view(np.uint64)) + b.view(np.uint64))


# --- the election


def _elect_all(bench: Bench, plans: list[Plan]) -> None:
    about = ("splits", "labels", "part_count", "first", "spec", "state")
    tasks: dict[str, list[Task]] = {}
    for plan in plans:
        name = plan["exchange"]
        shared = _pick(plan, *about)
        numbers = [*plan.get("singles", ()), *range(plan["first"], plan["part_count"])]
        tasks[name] = [
            Task(
                f"{name} ballots {number}",
                f"{__name__}:ballots",
                {**shared, "part": plan["parts"][number], "rank": plan["ranks"][number], **_score(plan, number)},
            )
            for number in numbers
        ]
        plan["voters"] = [bucket_writer(number) for number in numbers]
        plan["members_of"] = numbers
        if plan["history"]:
            halls = range(plan["part_count"], plan["part_count"] + plan["splits"])
            tasks[name] += [
                Task(
                    f"{name} ballots {hall}",
                    f"{index.__name__}:clusters",
                    {**shared, "history": index.only(plan, "clusters"), "hall": hall},
                )
                for hall in halls
            ]
            plan["voters"] += [bucket_writer(hall) for hall in halls]
    bench.run_tasks("gather clusters", [task for own in tasks.values() for task in own], unit="parts")
    elections = {
        plan["exchange"]: [
            Task(
                f"{plan['exchange']} elect {split}",
                f"{__name__}:elect",
                {**_pick(plan, "splits", "first", "part_count", "voters", "spec", "state"), "split": split},
            )
            for split in range(plan["splits"])
        ]
        for plan in plans
    }
    results = bench.run_tasks("elect", [task for own in elections.values() for task in own], unit="buckets")
    for plan in plans:
        own = [results[task.name] for task in elections[plan["exchange"]]]
        plan["elected"] = [result["pieces"] for result in own]
        plan["new_runs"]["clusters"] = [result["run"] for result in own if result["run"]]
        clear(bench, ballots_folder(plan))
        clear(bench, f"{plan['exchange']}/labels")


def _score(plan: Plan, number: int) -> dict[str, Any]:
    if plan["scores"] is None:
        return {}
    part = plan["scores"]["parts"][plan["parts"][number]["document"]["digest"]]
    return {"score": {"column": plan["scores"]["column"], "part": part}}


def ballots_folder(plan: Mapping[str, Any]) -> str:
    """Where all that take part in the election of a cluster meet."""
    return f"{plan['exchange']}/ballots"


def write_ballots(store: Store, plan: Mapping[str, Any], writer: int, table: pa.Table) -> None:
    target = bucket_of(mix(table.column("root").to_numpy().view(np.uint64)), plan["splits"])
    write_rows(store, ballots_folder(plan), bucket_writer(writer), plan["splits"], target, table)


def ballots(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: what the clustered documents of one part bring into the election."""
    store, part = Store(payload["store"]), payload["part"]
    node, root = read_labels(store, payload, part["number"])
    if part["number"] < payload["first"]:
        chosen = index.read_singles(store, payload, part["number"])
        known = np.isin(node, chosen)
        node, root = node[known], root[known]
    rows = node & ((1 << ROW_BITS) - 1)
    document = Part.from_json(part["document"])
    high, low = _doc_ids(store, document, rows) if len(rows) else (np.empty(0, np.uint64), np.empty(0, np.uint64))
    policy = _policy(store, payload, document, rows)
    rank = np.full(len(rows), payload["rank"], np.int32)
    columns = [root, rank, policy, high, low, node, np.ones(len(rows), np.int64)]
    write_ballots(store, payload, part["number"], pa.table([pa.array(column) for column in columns], BALLOTS))
    if payload["state"]:
        index.write_members(store, payload, part["number"], node, root)
    return {}


def _policy(store: Store, payload: Payload, document: Part, rows: Nodes) -> Nodes:
    """What a document has to say for itself besides its snapshot and name; the lower the better."""
    keep = payload["spec"]["keep"]
    if keep == "first" or not len(rows):
        return np.zeros(len(rows), np.int64)
    if keep == "newest":
        return descending(read_part(store, document, ["date"]).column("date").take(pa.array(rows)).cast(pa.int64()))
    score = payload["score"]
    values = read_part(store, Part.from_json(score["part"]), [score["column"]]).column(score["column"])
    return descending(values.take(pa.array(rows)))


def descending(values: pa.ChunkedArray) -> Nodes:
    """Numbers as whole numbers in the opposite order; what is null or no number comes after all.

    Null takes a place of its own, so the two largest numbers of 64 bits without a sign, or the two smallest with one, are
    one to it.
    """
    missing = pc.is_null(values, nan_is_null=True).to_numpy()
    if pa.types.is_uint64(values.type):
        whole = values.fill_null(0).to_numpy()
        ordered = (np.minimum(whole, np.uint64((1 << 64) - 2)) + np.uint64(1) ^ np.uint64(1 << 63)).view(np.int64)
    elif pa.types.is_integer(values.type):
        ordered = np.maximum(values.fill_null(0).to_numpy().astype(np.int64), np.iinfo(np.int64).min + 1)
    else:
        # Floats of one sign lie in the order of their bits, negative ones in the opposite order; -0 is 0.
        bits = (values.cast(pa.float64()).fill_null(0.0).to_numpy() + 0.0).view(np.int64)
        ordered = np.where(bits < 0, bits ^ np.int64(0x7FFF_FFFF_FFFF_FFFF), bits)
    found: Nodes = np.where(missing, np.iinfo(np.int64).max, ~ordered)
    return found


def elect(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: who stands for each cluster of one split, its size and its first snapshot; and what the index keeps of it.

    A split that is too large, which happens where one cluster is, is gone through twice.
    """
    store, split = Store(payload["store"]), payload["split"]
    limit = _rows_held(payload["memory"], BALLOT_BYTES)
    earliest = payload["spec"]["scope"] == "incremental"
    voters, folder = payload["voters"], ballots_folder(payload)
    tables: Callable[[], Iterable[pa.Table]] = partial(iterate_rows, store, folder, split, voters)
    if count_rows(store, folder, split, voters) <= limit * SLACK:
        whole = list(tables())
        tables = partial(iter, [pa.concat_tables(whole).combine_chunks()] if whole else [])
    winners: pa.Table | None = None
    for table in tables():
        own = _winners(table, earliest)
        winners = own if winners is None else _winners(pa.concat_tables([winners, own]).combine_chunks(), earliest)
    if winners is None:
        return {"run": None, "pieces": 0}
    keys = mix(winners.column("root").to_numpy().view(np.uint64))
    pieces = 0
    for table in tables():
        elected = _elected(table, keys, winners, payload["first"] << ROW_BITS)
        target = (elected.column("node").to_numpy() >> ROW_BITS) - payload["first"]
        fresh = payload["part_count"] - payload["first"]
        write_rows(store, elected_folder(payload), bucket_writer(split, pieces), fresh, target, elected)
        pieces += 1
    run = index.write_clusters(store, payload, keys, winners) if payload["state"] else None
    return {"run": run, "pieces": pieces}


def elected_folder(plan: Mapping[str, Any]) -> str:
    return f"{plan['exchange']}/elected"


def _winners(table: pa.Table, earliest: bool) -> pa.Table:
    """One row for each root, in the order of their mixed numbers: its best ballot, with the size and first rank of all."""
    from factory.kernels.clusters import elect as elect_rows
    from factory.kernels.clusters import sort_rows

    if not table.num_rows:
        return table.append_column("first", table.column("rank"))
    keys, order = sort_rows(mix(table.column("root").to_numpy().view(np.uint64)), np.arange(table.num_rows))
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    rank, policy, high, low, node, size = (table.column(name).to_numpy()[order] for name in BALLOTS.names[1:])
    first = table.column("first").to_numpy()[order] if "first" in table.schema.names else rank
    leading = (rank.astype(np.int64), policy) if earliest else (policy, rank.astype(np.int64))
    best = table.take(pa.array(order[elect_rows(starts, *leading, high, low, node)]))
    sizes, firsts = pa.array(np.add.reduceat(size, starts)), pa.array(np.minimum.reduceat(first, starts))
    best = best.select(BALLOTS.names[:-1]).append_column("size", sizes)
    return best.append_column("first", firsts)


def _elected(table: pa.Table, keys: Words, winners: pa.Table, first_node: int) -> pa.Table:
    """The outcome for each document that gets links."""
    from factory.kernels.clusters import find, sort_rows

    own = np.flatnonzero(table.column("node").to_numpy() >= first_node)
    node, root = (table.column(name).to_numpy()[own] for name in ("node", "root"))
    wanted, order = sort_rows(mix(root.view(np.uint64)), np.arange(len(root)))
    places, node = find(keys, wanted), node[order]
    high, low, size, first = (winners.column(name).to_numpy()[places] for name in ("high", "low", "size", "first"))
    stands = winners.column("node").to_numpy()[places] == node
    return pa.table([pa.array(column) for column in (node, stands, high, low, size, first)], ELECTED)


# --- links


def _write_all(bench: Bench, jobs: list[_Job], plans: list[Plan]) -> dict[str, Made]:
    tasks: dict[str, list[Task]] = {}
    for job, plan in zip(jobs, plans, strict=True):
        for work in job.outputs:
            folder = f"{work.folder}/{fingerprint({'links': exchange_folder(work)})}"
            tasks[work.node.name] = [
                Task(
                    f"{work.node.name} {part['number']}",
                    f"{__name__}:write",
                    {
                        **_pick(plan, "first", "snapshots", "elected"),
                        "folder": folder,
                        "part": part,
                        "linked": plan["with_keys"][part["number"]],
                    },
                    part["document"]["rows"],
                )
                for part in _fresh(plan)
                if part["snapshot"] == work.node.partition
            ]
    results = bench.run_tasks("write links", [task for own in tasks.values() for task in own], unit="documents")
    return {name: _made([Part.from_json(results[task.name]["part"]) for task in own]) for name, own in tasks.items()}


def _made(parts: list[Part]) -> Made:
    notes: dict[str, Any] = {"histograms": merge_histograms([part.notes["histograms"] for part in parts])}
    for count in ("duplicates", "clustered", "linked"):
        notes[count] = sum(part.notes[count] for part in parts)
    largest = {item["doc_id"]: item["size"] for part in parts for item in part.notes["largest"]}
    ordered = sorted(largest.items(), key=lambda item: (-item[1], item[0]))
    notes["largest"] = [{"doc_id": doc_id, "size": size} for doc_id, size in ordered[:LARGEST]]
    return Made(tuple(parts), {"rows": sum(part.rows for part in parts)}, notes)


def write(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the links beside one document part."""
    from factory.kernels.clusters import write_ids

    store, part = Store(payload["store"]), payload["part"]
    document = Part.from_json(part["document"])
    writers = [
        bucket_writer(split, piece) for split, pieces in enumerate(payload["elected"]) for piece in range(pieces)
    ]
    room = part["number"] - payload["first"]
    found = read_rows(store, elected_folder(payload), room, writers) if writers else ELECTED.empty_table()
    node, stands, high, low, size, first = (column.to_numpy() for column in found.combine_chunks().columns)
    rows = node & ((1 << ROW_BITS) - 1)
    place = np.full(document.rows, -1, np.int64)
    place[rows] = np.arange(len(rows))
    clustered = place >= 0
    duplicate = clustered.copy()
    duplicate[rows[stands]] = False
    seen = np.full(document.rows, payload["snapshots"].index(part["snapshot"]), np.int64)
    seen[rows] = first
    sizes = np.ones(document.rows, np.uint32)
    sizes[rows] = size

    def names(given: npt.NDArray[np.bool_]) -> pa.Array:
        chosen = place[given]
        return fixed_texts(write_ids(high[chosen], low[chosen]), given)

    snapshots = pa.array(payload["snapshots"], pa.string())
    columns = [names(duplicate), names(clustered), pa.array(sizes), snapshots.take(pa.array(seen))]
    batch = pa.RecordBatch.from_arrays(columns, schema=LINKED)
    notes = {
        "duplicates": int(duplicate.sum()),
        "clustered": len(rows),
        "linked": payload["linked"],  # have keys, and so were compared
        "histograms": {name: histogram(batch.column(name)) for name in ("cluster_size", "first_seen")},
        "largest": _largest(high, low, size),
    }
    made = write_thin_part(store, payload["folder"], document, COLUMNS, [batch], notes=partial(dict, notes))
    return {"part": made.to_json()}


def fixed_texts(text: npt.NDArray[np.uint8], given: npt.NDArray[np.bool_], width: int = 32) -> pa.Array:
    """A column of texts of one width, one after another in `text`, null where none is given."""
    offsets = np.zeros(len(given) + 1, np.int32)
    np.cumsum(given, out=offsets[1:])
    bitmap = np.packbits(given, bitorder="little")
    buffers = [pa.py_buffer(bitmap), pa.py_buffer(offsets * np.int32(width)), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(given), buffers, len(given) - int(given.sum()))


def _largest(high: Words, low: Words, size: Nodes) -> list[dict[str, Any]]:
    """The largest clusters of a part, by who stands for them."""
    from factory.kernels.clusters import write_ids

    _, chosen = np.unique(mix(high) + low, return_index=True)
    order = chosen[np.lexsort((low[chosen], high[chosen], -size[chosen]))][:LARGEST]
    text = write_ids(high[order], low[order]).tobytes().decode()
    return [{"doc_id": text[32 * at : 32 * at + 32], "size": int(size[row])} for at, row in enumerate(order)]
