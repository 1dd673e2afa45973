"""What linkers found, to be looked at: how many copies there are, how large clusters get, and what the largest hold.

Documents without keys (a filter of `after` drops them, or they have no text) were compared with nothing: shares are of those
linked. Where some snapshots are asked for, documents are theirs and the sizes of clusters are those among all snapshots.

In: links and the documents they stand beside, part by part. Out: plain data. Numbers are counted from the rows themselves.
Clusters are counted by the leading 64 bits of their names, in as many passes as keep a pass within `PASS_ROWS`; which
members are shown does not depend on parts: those with the smallest ids, and an id is a hash. How much alike members are
to the one that stands for them is the Jaccard similarity of their n-grams as the linker cuts them (1 - the distance of
Broder, 1997); a low one shows that a cluster hangs together only link by link.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import InputError, suggest
from factory.core.manifest import Manifest, Part
from factory.core.statistics import histogram
from factory.recipes.lookup import Current
from factory.recipes.recipe import LinkerUse
from factory.recipes.workspace import Workspace
from factory.stages.segmentation import WORDS, find_cutter
from factory.storage.parts import iterate_part, read_part, take_rows

SIZES = ((1, 1), (2, 2), (3, 4), (5, 9), (10, 99), (100, 999), (1000, None))
PASS_ROWS = 8_000_000  # clustered documents whose names are held at once, at 8 bytes and a few copies
LARGEST = 10
MEMBERS = 3  # shown of each of the largest
COMPARED = 12  # compared with the one that stands
HOSTS = 5
MOST_HOSTS = 100_000  # counted apart in one cluster; beyond, the rare ones are let go
MOST_TEXT = 200_000  # characters that are compared of a text
LINE = 120
SHARE = 0.01  # of all linked documents in one cluster: a warning
FEWEST = 10  # members of a cluster that is warned of
ALIKE = 0.5  # mean similarity under which a cluster looks like a chain
PIECES = 20
DEFAULT_NGRAM = 5
EPSILONS = (0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
SIMILARITIES = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)
SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
HEX = re.compile(r"[0-9a-f]{4,32}")

Names = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]


def duplicates(
    workspace: Workspace,
    labels: Sequence[str] = (),
    *,
    snapshots: Sequence[str] = (),
    largest: int = LARGEST,
    current: Current | None = None,
) -> list[dict[str, Any]]:
    """A report for each linker. Raises FactoryError for a linker or a snapshot that is not there."""
    known = [use.label for use in workspace.recipe.linkers]
    for label in labels:
        if label not in known:
            raise InputError(f"No linker is named '{label}'.{suggest(label, known)}")
    current = current or Current(workspace)
    for name in snapshots:
        if name not in current.snapshots:
            raise InputError(f"No snapshot is named '{name}'.{suggest(name, current.snapshots)}")
    chosen = [use for use in workspace.recipe.linkers if not labels or use.label in labels]
    return [_report(current, use, snapshots, largest) for use in chosen]


def cluster(workspace: Workspace, query: str, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The whole cluster of a document, by its id or the beginning of it, for each linker that makes clusters."""
    electing = [use for use in workspace.recipe.linkers if use.stage.links == "documents"]
    known = [use.label for use in electing]
    for label in labels:
        if label not in known:
            raise InputError(f"No linker that makes clusters is named '{label}'.{suggest(label, known)}")
    if not HEX.fullmatch(query):
        raise InputError(f"'{query[:200]}' is no document id: 4 to 32 hex digits, as 'factory duplicates' prints them.")
    current = Current(workspace)
    doc_id = _whole_id(current, query)
    return [_whole(current, use, doc_id) for use in electing if not labels or use.label in labels]


# --- one report


@dataclass(frozen=True)
class _Beside:
    """A document part, and the part of a linker's links that stands beside it."""

    snapshot: str
    document: Part
    links: Part


def _report(current: Current, use: LinkerUse, snapshots: Sequence[str], largest: int) -> dict[str, Any]:
    whole = list(_beside(current, use.label))
    beside = [item for item in whole if not snapshots or item.snapshot in snapshots]
    rows = sum(item.document.rows for item in beside)
    head: dict[str, Any] = {
        "label": use.label,
        "stage": f"{use.stage.name}@{use.stage.version}",
        "join": use.stage.links,
        "scope": use.scope,
        "keep": use.keep,
        "made": bool(beside),
        "snapshots": sorted({item.snapshot for item in beside}),
        "documents": rows,
    }
    if not beside:
        return head
    manifests = [found for name in head["snapshots"] if (found := current.find("links", use.label, name)) is not None]
    if use.stage.links in ("documents", "neighbours"):
        head["linked"] = linked = _linked(current, use.label, beside)
        of = rows if linked is None else linked
        if use.stage.links == "neighbours":
            return {**head, **_neighbours(current, beside, of)}
        head["cluster_snapshots"] = sorted({item.snapshot for item in whole})
        return {**head, **_clusters(current, use, whole, beside, of, largest)}
    return {**head, **_removed(current, use.stage.links, beside, manifests)}


def _beside(current: Current, label: str) -> Iterator[_Beside]:
    for snapshot, document in current.documents():
        part = current.beside("links", label, snapshot, document)
        if part is not None:
            yield _Beside(snapshot, document, part)


def _linked(current: Current, label: str, beside: Iterable[_Beside]) -> int | None:
    """Documents that have keys, all that can be alike to others; None where links do not note it and keys are gone."""
    found = 0
    for item in beside:
        noted = item.links.notes.get("linked")
        if noted is None:
            part = current.beside("keys", label, item.snapshot, item.document)
            if part is None:
                return None
            lengths = [
                pc.list_value_length(batch.column("keys"))
                for batch in iterate_part(current.workspace.store, part, ["keys"], 1 << 16)
            ]
            noted = sum(pc.sum(pc.greater(own, 0)).as_py() or 0 for own in lengths)
        found += noted
    return found


# --- clusters


def _clusters(
    current: Current, use: LinkerUse, whole: Sequence[_Beside], beside: Sequence[_Beside], rows: int, largest: int
) -> dict[str, Any]:
    """Of the documents of `beside`, `rows` of which are linked: how large their clusters are among the `whole`."""
    copies, _ = _count(current, beside)
    _, clustered = _count(current, whole)
    looked_at = {item.document.path for item in beside}
    documents: Counter[int] = Counter()
    clusters: Counter[int] = Counter()
    top: list[tuple[int, int, int]] = []
    for names, sizes, own in _sizes(current, whole, looked_at, clustered):
        for index, (low, high) in enumerate(SIZES):
            inside = (sizes >= low) & (sizes <= (high or np.iinfo(np.int64).max))
            clusters[index] += int(inside.sum())
            documents[index] += int(own[inside].sum())
        order = np.lexsort((names, -sizes))[:largest]
        found = ((-int(sizes[at]), int(names[at]), int(own[at])) for at in order if sizes[at] > 1)
        top = sorted([*top, *found])[:largest]
    alone = rows - sum(documents.values())
    documents[0] += alone
    clusters[0] += alone
    shown = _details(current, use, whole, {name: _Cluster(-size, own) for size, name, own in top}, rows)
    return {
        "duplicates": copies,
        "share": copies / rows if rows else None,
        "clusters": sum(number for index, number in clusters.items() if index),
        "histogram": [
            {"size": _bin(low, high), "clusters": clusters[index], "documents": documents[index]}
            for index, (low, high) in enumerate(SIZES)
        ],
        "largest": shown,
        "warnings": [f"{one['cluster'][:12]}: {text}" for one in shown for text in one["warnings"]],
    }


def _bin(low: int, high: int | None) -> str:
    return f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"


def _count(current: Current, beside: Iterable[_Beside]) -> tuple[int, int]:
    """Documents that are copies, and documents that are in a cluster."""
    copies = clustered = 0
    for item in beside:
        for batch in iterate_part(current.workspace.store, item.links, ["duplicate_of", "cluster"], 1 << 16):
            copies += batch.num_rows - batch.column("duplicate_of").null_count
            clustered += batch.num_rows - batch.column("cluster").null_count
    return copies, clustered


def _sizes(
    current: Current, whole: Sequence[_Beside], looked_at: Container[str], clustered: int
) -> Iterator[tuple[Names, Counts, Counts]]:
    """Clusters that have members in the parts looked at: how many in all, and there; each pass holds a range of names."""
    store = current.workspace.store
    passes = max(1, -(-clustered // PASS_ROWS))
    for turn in range(passes):
        found: list[Names] = []
        here: list[Names] = []
        stands: list[Names] = []
        for item in whole:
            for batch in iterate_part(store, item.links, ["duplicate_of", "cluster"], 1 << 16):
                named = batch.filter(batch.column("cluster").is_valid())
                names = leading_bits(named.column("cluster"))
                inside = (names >> np.uint64(32)) * np.uint64(passes) >> np.uint64(32) == turn
                found.append(names[inside])
                here += found[-1:] if item.document.path in looked_at else []
                stands.append(names[inside & named.column("duplicate_of").is_null().to_numpy(zero_copy_only=False)])
        names, sizes = _tally(np.concatenate([np.empty(0, np.uint64), *found]))
        some, counts = _tally(np.concatenate([np.empty(0, np.uint64), *here]))
        own = np.zeros_like(sizes)
        own[np.searchsorted(names, some)] = counts
        missing = np.setdiff1d(names, np.concatenate([np.empty(0, np.uint64), *stands]))
        # A document that was alone when its snapshot was linked bears no cluster, and may stand for later ones.
        for item in whole if len(missing) else ():
            joined = np.isin(names, np.intersect1d(_alone(current, item), missing))
            sizes += joined
            own += joined if item.document.path in looked_at else 0
        yield names[own > 0], sizes[own > 0], own[own > 0]


def _tally(names: Names) -> tuple[Names, Counts]:
    """Each name once, ascending, and how often it comes."""
    ordered = np.sort(names)
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.empty(0, np.int64)
    return ordered[begins], np.diff(np.append(begins, len(ordered))).astype(np.int64)


def _alone(current: Current, item: _Beside) -> Names:
    """The ids of documents without a cluster."""
    clusters = read_part(current.workspace.store, item.links, ["cluster"]).column("cluster")
    ids = read_part(current.workspace.store, item.document, ["doc_id"]).column("doc_id")
    return leading_bits(ids.filter(clusters.is_null()).combine_chunks())


def leading_bits(ids: pa.Array) -> Names:
    """The first 64 bits of ids of 32 hex digits, as numbers in the order of the ids."""
    if not len(ids):
        return np.empty(0, np.uint64)
    # As bytes of a fixed width, which Arrow checks: every id has as many digits.
    wide = ids.cast(pa.binary()).cast(pa.binary(32))
    digits = np.frombuffer(wide.buffers()[1], np.uint8)[32 * wide.offset : 32 * (wide.offset + len(wide))]
    digits = digits.reshape(len(wide), 32)[:, :16]
    values = np.where(digits >= ord("a"), digits - ord("a") + 10, digits - ord("0")).astype(np.uint8)
    return np.ascontiguousarray(values[:, ::2] << 4 | values[:, 1::2]).view(">u8").ravel().astype(np.uint64)


@dataclass
class _Cluster:
    """One of the largest clusters, as it is read off part by part."""

    size: int
    own: int  # members in the snapshots that are looked at
    name: str = ""
    hosts: Counter[str] = field(default_factory=Counter)
    dropped_hosts: bool = False
    snapshots: Counter[str] = field(default_factory=Counter)
    first_seen: str | None = None
    stands: dict[str, Any] | None = None
    others: list[dict[str, Any]] = field(default_factory=list)

    def add(self, snapshot: str, part: Part, rows: pa.Table) -> None:
        """Rows of one part that are members, with their place in it."""
        self.snapshots[snapshot] += rows.num_rows
        self.hosts.update(_counted(rows.column("host").fill_null("(none)")))
        if len(self.hosts) > MOST_HOSTS:
            self.hosts = Counter(dict(self.hosts.most_common(MOST_HOSTS // 2)))
            self.dropped_hosts = True
        seen = [name for name in pc.unique(rows.column("first_seen")).to_pylist() if name is not None]
        self.first_seen = min([*seen, *([self.first_seen] if self.first_seen else [])], default=None)
        standing = rows.filter(pc.equal(rows.column("doc_id"), self.name)).to_pylist()
        if standing:
            self.stands = _placed(standing[0], snapshot, part)
        others = rows.filter(pc.not_equal(rows.column("doc_id"), self.name))
        least = others.sort_by("doc_id").slice(0, COMPARED)
        found = [*self.others, *(_placed(row, snapshot, part) for row in least.to_pylist())]
        self.others = sorted(found, key=lambda row: row["doc_id"])[:COMPARED]


def _placed(row: Mapping[str, Any], snapshot: str, part: Part) -> dict[str, Any]:
    return {**row, "snapshot": snapshot, "part": part}


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def _details(
    current: Current, use: LinkerUse, whole: Sequence[_Beside], found: Mapping[int, _Cluster], rows: int
) -> list[dict[str, Any]]:
    """What the clusters of these names hold."""
    for item in whole if found else ():
        for name, table in _members(current, item, np.array(sorted(found), np.uint64)):
            one = found[name]
            one.name = one.name or str(table.column("cluster")[0])
            one.add(item.snapshot, item.document, table)
    apart = np.array(sorted(name for name, one in found.items() if one.stands is None), np.uint64)
    # Who stands may have been alone when its snapshot was linked.
    for item in whole if len(apart) else ():
        for name, table in _named(current, item, apart):
            found[name].add(item.snapshot, item.document, table)
    texts = _texts(current, [row for one in found.values() for row in (one.stands, *one.others) if row is not None])
    return [_shown(use, one, texts, rows) for one in found.values()]


def _members(current: Current, item: _Beside, wanted: Names) -> Iterator[tuple[int, pa.Table]]:
    """The rows of one part that belong to these clusters, cluster by cluster."""
    store = current.workspace.store
    clusters = read_part(store, item.links, ["cluster"]).column("cluster")
    named = np.flatnonzero(clusters.is_valid().to_numpy())
    names = leading_bits(clusters.drop_null().combine_chunks())
    inside = np.isin(names, wanted)
    if not inside.any():
        return
    table, names = _facts(current, item, named[inside]), names[inside]
    for name in np.unique(names).tolist():
        yield name, table.filter(pa.array(names == name))


def _named(current: Current, item: _Beside, wanted: Names) -> Iterator[tuple[int, pa.Table]]:
    """The rows of one part that are these documents."""
    ids = leading_bits(read_part(current.workspace.store, item.document, ["doc_id"]).column("doc_id").combine_chunks())
    for row in np.flatnonzero(np.isin(ids, wanted)).tolist():
        yield int(ids[row]), _facts(current, item, np.array([row]))


def _facts(current: Current, item: _Beside, rows: npt.NDArray[np.integer]) -> pa.Table:
    store, places = current.workspace.store, pa.array(rows)
    table = read_part(store, item.document, ["doc_id", "url", "host", "date"]).take(places)
    thin = read_part(store, item.links, ["duplicate_of", "cluster", "cluster_size", "first_seen"]).take(places)
    for name in thin.column_names:
        table = table.append_column(name, thin.column(name))
    return table.append_column("row", places)


def _shown(use: LinkerUse, one: _Cluster, texts: Mapping[tuple[str, int], str], rows: int) -> dict[str, Any]:
    stands = _text_of(texts, one.stands)
    others = [(row, _text_of(texts, row)) for row in one.others]
    alike = _similarities(use, stands, [text for _, text in others])
    mean = float(np.mean(known)) if (known := [value for value in alike if value is not None]) else None
    warnings = []
    if one.size >= FEWEST and one.own > SHARE * rows:
        warnings.append(f"holds {one.own / rows:.1%} of all documents linked")
    if mean is not None and mean < ALIKE:
        warnings.append(
            f"its members are {mean:.2f} alike to the one that stands for them on average (of {len(known)} compared): "
            "it hangs together link by link"
        )
    return {
        "cluster": one.name,
        "size": one.size,
        "documents": one.own,
        "share": one.own / rows,
        "hosts": len(one.hosts),
        "hosts_at_least": one.dropped_hosts,
        "top_hosts": [
            {"host": host, "documents": number}
            for host, number in sorted(one.hosts.items(), key=lambda item: (-item[1], item[0]))[:HOSTS]
        ],
        "snapshots": dict(sorted(one.snapshots.items())),
        "first_seen": one.first_seen,
        "stands": None if one.stands is None else {**_brief(one.stands), "line": first_line(stands)},
        "members": [
            {**_brief(row), "similarity": value, "line": first_line(text), "differs": difference(stands, text)}
            for (row, text), value in list(zip(others, alike, strict=True))[:MEMBERS]
        ],
        "similarity": mean,
        "compared": len(known),
        "warnings": warnings,
    }


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "doc_id": row["doc_id"],
        "url": row["url"],
        "snapshot": row["snapshot"],
        "date": row["date"].isoformat() if row["date"] else None,
    }


# --- texts


def _texts(current: Current, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], str]:
    """The texts of rows by (part, row): a part is read once, a row group at a time."""
    wanted: dict[str, tuple[Part, set[int]]] = {}
    for row in rows:
        wanted.setdefault(row["part"].path, (row["part"], set()))[1].add(row["row"])
    found = {}
    for path, (part, places) in sorted(wanted.items()):
        for numbers, batch in take_rows(current.workspace.store, part, ["text"], np.array(sorted(places))):
            for place, text in zip(numbers.tolist(), batch.column("text"), strict=True):
                found[path, place] = str(text.as_py() or "")[:MOST_TEXT]
    return found


def _text_of(texts: Mapping[tuple[str, int], str], row: Mapping[str, Any] | None) -> str | None:
    return None if row is None else texts.get((row["part"].path, row["row"]))


def _similarities(use: LinkerUse, stands: str | None, others: Sequence[str | None]) -> list[float | None]:
    """The Jaccard similarity of each text to the one that stands, of n-grams as the linker cuts them."""
    from factory.kernels.folding import source
    from factory.kernels.minhash import jaccard, shingle_sets
    from factory.kernels.text import view_text

    if stands is None or not others:
        return [None] * len(others)
    texts = pa.array([stands, *others], pa.large_string())
    view, words = view_text(texts), getattr(use.config, "words", "")
    cut = find_cutter(words)(view) if words in WORDS else None
    units = source(view, cut, characters=getattr(use.config, "unit", "words") == "characters")
    sets = shingle_sets(units, getattr(use.config, "ngram", DEFAULT_NGRAM))
    numbers = np.arange(1, len(texts), dtype=np.int64)
    alike = jaccard(sets, np.zeros_like(numbers), sets, numbers).tolist()
    empty = np.diff(sets.starts) == 0
    return [None if empty[0] and none else value for value, none in zip(alike, empty[1:], strict=True)]


def first_line(text: str | None) -> str | None:
    """The beginning of a text, for a person."""
    if text is None:
        return None
    line = text.strip().split("\n", 1)[0]
    return line[:LINE] + ("…" if len(line) > LINE else "")


def difference(one: str | None, other: str | None) -> str | None:
    """Where a text first differs from another; None where they are the same, or one is not known."""
    if one is None or other is None or one == other:
        return None
    at = _shared_beginning(one, other)
    begin = max(one.rfind(" ", 0, at), one.rfind("\n", 0, at), at - LINE // 4) + 1 if at else 0
    left, right = (text[begin : begin + LINE // 2] or "(its end)" for text in (one, other))
    return f"from character {at:,}: '{right}' for '{left}'"


def _shared_beginning(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# --- one cluster whole


def _whole_id(current: Current, query: str) -> str:
    found: list[tuple[str, str]] = []
    for snapshot, document in current.documents():
        ids = read_part(current.workspace.store, document, ["doc_id"]).column("doc_id")
        found += [(name, snapshot) for name in ids.filter(pc.starts_with(ids, query)).to_pylist()]
    if not found:
        raise InputError(f"No document has the id '{query}'. 'factory duplicates' and 'factory explain URL' print ids.")
    if len(found) > 1:
        lines = "\n".join(f"  {name}  {snapshot}" for name, snapshot in found[:PIECES])
        raise InputError(f"'{query}' is the beginning of {len(found):,} ids; name one:\n{lines}")
    return found[0][0]


def _whole(current: Current, use: LinkerUse, doc_id: str) -> dict[str, Any]:
    beside = list(_beside(current, use.label))
    if not beside:
        return {
            "label": use.label,
            "asked": doc_id,
            "made": False,
            "cluster": None,
            "size": 0,
            "hosts": 0,
            "members": [],
        }
    name = next((found for item in beside if (found := _cluster_of(current, item, doc_id))), doc_id)
    wanted = leading_bits(pa.array([name]))
    members = []
    for item in beside:
        pieces = [*_members(current, item, wanted), *_named(current, item, wanted)]
        rows = {row["row"]: row for _, table in pieces for row in table.to_pylist()}
        members += [{**_brief({**row, "snapshot": item.snapshot}), **_standing(row, name)} for row in rows.values()]
    members.sort(key=lambda row: (row["snapshot"], row["doc_id"]))
    return {
        "label": use.label,
        "asked": doc_id,
        "made": True,
        "cluster": name,
        "size": len(members),
        "hosts": len({row["host"] for row in members}),
        "members": members,
    }


def _cluster_of(current: Current, item: _Beside, doc_id: str) -> str | None:
    ids = read_part(current.workspace.store, item.document, ["doc_id"]).column("doc_id")
    rows = np.flatnonzero(pc.equal(ids, doc_id).to_numpy())
    if not len(rows):
        return None
    found = read_part(current.workspace.store, item.links, ["cluster"]).column("cluster")[int(rows[0])].as_py()
    return str(found) if found is not None else None


def _standing(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"host": row["host"], "duplicate_of": row["duplicate_of"], "stands": row["doc_id"] == name}


# --- removed pieces of text


def _removed(current: Current, join: str, beside: Sequence[_Beside], manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Bytes that would be removed, and the pieces met most often."""
    names = ["removed_bytes", "removed_share", "copies" if join == "spans" else "seen_share"]
    edges = np.array(SHARES)
    shares: Counts = np.zeros(len(edges) - 1, np.int64)
    removed = touched = most = linked = 0
    for item in beside:
        for batch in iterate_part(current.workspace.store, item.links, names, 1 << 16):
            bytes_gone = batch.column("removed_bytes")
            linked += len(bytes_gone) - bytes_gone.null_count
            removed += pc.sum(bytes_gone).as_py() or 0
            gone = pc.fill_null(pc.greater(bytes_gone, 0), False)
            touched += pc.sum(gone).as_py() or 0
            share = batch.column("removed_share").filter(gone).drop_null().to_numpy()
            shares += np.histogram(share, edges)[0]
            if join == "spans":
                most = max(most, pc.max(batch.column("copies")).as_py() or 0)
    text_bytes = _text_bytes(beside)
    found: dict[str, Any] = {
        "linked": linked,
        "touched": touched,
        "removed_bytes": removed,
        "text_bytes": text_bytes,
        "share": removed / text_bytes if text_bytes else None,
        "shares": [
            {"from": low, "to": high, "documents": int(number)}
            for low, high, number in zip(edges[:-1].tolist(), edges[1:].tolist(), shares, strict=True)
        ],
        "pieces": _pieces(manifests),
    }
    if join == "spans":
        return {**found, "most_copies": most, **_split(beside)}
    return {**found, **_paragraphs(manifests)}


def _text_bytes(beside: Sequence[_Beside]) -> int:
    """Of the documents linked, where their links note it; else of all."""
    return sum(item.links.notes.get("text_bytes", item.document.notes.get("text_bytes", 0)) for item in beside)


def _split(beside: Sequence[_Beside]) -> dict[str, dict[str, int]]:
    """What goes because documents share it, and what because one repeats it, of pieces that may repeat within one."""
    notes = [item.links.notes for item in beside]
    if not all("removed_bytes_within" in own for own in notes):
        return {}
    total = {name: sum(own[f"removed_{name}"] for own in notes) for name in ("bytes", "pieces")}
    within = {name: sum(own[f"removed_{name}_within"] for own in notes) for name in total}
    return {"across": {name: total[name] - within[name] for name in total}, "within": within}


def _paragraphs(manifests: Sequence[Manifest]) -> dict[str, int]:
    counts = ("paragraphs", "removed_paragraphs")
    return {name: sum(manifest.notes[name] for manifest in manifests) for name in counts if _all_note(manifests, name)}


def _all_note(manifests: Sequence[Manifest], name: str) -> bool:
    return all(name in manifest.notes for manifest in manifests)


def _pieces(manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    """The most frequent pieces as the manifests note them; of a piece noted for several snapshots, the most copies."""
    found: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        for piece in manifest.notes.get("most_removed", ()):
            before = found.get(piece["text"])
            if before is None or before["copies"] < piece["copies"]:
                found[piece["text"]] = {**piece, "snapshot": manifest.partition}
    return sorted(found.values(), key=lambda piece: (-piece["copies"], piece["text"]))[:PIECES]


# --- neighbours


def _neighbours(current: Current, beside: Sequence[_Beside], rows: int) -> dict[str, Any]:
    """How near documents are to the nearest of their region, and what each distance would remove."""
    edges = np.array(SIMILARITIES)
    counts: Counts = np.zeros(len(edges) - 1, np.int64)
    removed: Counts = np.zeros(len(EPSILONS), np.int64)
    copies = unknown = 0
    tallies: Counter[str] = Counter()
    for item in beside:
        for batch in iterate_part(
            current.workspace.store, item.links, ["duplicate_of", "cluster", "max_similarity"], 1 << 16
        ):
            copies += batch.num_rows - batch.column("duplicate_of").null_count
            found = batch.column("max_similarity")
            unknown += found.null_count
            values = found.drop_null().to_numpy()
            counts += np.histogram(np.clip(values, 0, 1), edges)[0]
            removed += np.array([(values > 1 - epsilon).sum() for epsilon in EPSILONS])
            tallies.update({name: n for name, n in histogram(batch.column("cluster")).items() if name == "null"})
    return {
        "duplicates": copies,
        "share": copies / rows if rows else None,
        "without_neighbour": unknown,
        "without_region": tallies["null"],
        "similarities": [
            {"from": low, "to": high, "documents": int(number)}
            for low, high, number in zip(edges[:-1].tolist(), edges[1:].tolist(), counts, strict=True)
        ],
        "epsilons": [
            {"epsilon": epsilon, "removed": int(number), "share": int(number) / rows if rows else None}
            for epsilon, number in zip(EPSILONS, removed, strict=True)
        ],
    }
