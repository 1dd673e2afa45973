"""One document's whole story: where it came from, what was measured, what was decided and why, and where it ended.

Told from the store: bounds and verdicts are those that decided, not those a recipe may have by now.
"""

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, InputError
from factory.core.links import LINK_COLUMNS
from factory.core.manifest import Manifest, Part
from factory.recipes.graph import column_owners
from factory.recipes.lookup import Current, Place, describe_rule
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

TEXT_HEAD = 600
MEMBERS_SHOWN = 20
SPANS_SHOWN = 20
PIECE_HEAD = 120


def explain(workspace: Workspace, query: str) -> list[dict[str, Any]]:
    """The stories of the documents a query means: an id, the beginning of one, or a URL (in every snapshot it is in)."""
    current = Current(workspace)
    return [_story(current, place) for place in current.search(query)]


def _story(current: Current, place: Place) -> dict[str, Any]:
    row = current.row(place)
    text = row["text"]
    return {
        "doc_id": row["doc_id"],
        "url": row["url"],
        "host": row["host"],
        "title": row["title"],
        "license": row["license"],
        "date": row["date"].isoformat() if row["date"] else None,
        "snapshot": place.snapshot,
        "source": row["source"],
        "meta": json.loads(row["meta"]) if row["meta"] else {},
        "error": row["error"],
        "place": _origin(current.workspace, row),
        "stored": {"part": place.part.path, "row": place.row},
        "text": None
        if text is None
        else {"characters": len(text), "bytes": len(text.encode()), "head": text[:TEXT_HEAD]},
        "scores": list(_scores(current, place)),
        "links": list(_links(current, place, row["doc_id"], text)),
        "experiments": list(_experiments(current, place, row["doc_id"], text)),
    }


def _origin(workspace: Workspace, row: Mapping[str, Any]) -> dict[str, Any]:
    """Where the record lies, and a command that prints its stored bytes."""
    locator = row["locator"] or {}
    uri = _input_uri(workspace, row["source"], row["snapshot"], locator.get("file"))
    readable = uri and locator and not os.path.isdir(uri)  # a checkout is a folder
    return {**locator, "uri": uri, "fetch": _fetch(uri, locator) if uri and readable else None}


def _input_uri(workspace: Workspace, source: str, snapshot: str, name: str | None) -> str | None:
    try:
        files = workspace.inputs.get(snapshot, {}).get(source, [])
    except FactoryError:  # the inputs are gone or moved; the store still knows the document
        return None
    found = next((file.uri for file in files if file.name == name), None)
    if found is None and name:
        # A slice of an index names the archive its record lies in.
        archives = (getattr(use.config, "archive", None) for use in workspace.recipe.sources if use.label == source)
        found = next((f"{archive.rstrip('/')}/{name}" for archive in archives if archive), None)
    return found


def _fetch(uri: str, locator: Mapping[str, Any]) -> str:
    offset, length = locator["offset"], locator["length"]
    unpack = " | gunzip" if uri.endswith(".gz") else " | zstdcat" if uri.endswith((".zst", ".zstd")) else ""
    if "://" in uri:
        span = f"bytes={offset}-{offset + length - 1}"
        if uri.startswith(("http://", "https://")):
            return f"curl -s -r {offset}-{offset + length - 1} {shlex.quote(uri)}{unpack}"
        bucket, _, key = uri.partition("://")[2].partition("/")
        return (
            f"aws s3api get-object --bucket {shlex.quote(bucket)} --key {shlex.quote(key)} --range {span} /dev/stdout{unpack}"
            if uri.startswith("s3://")
            else f"{uri} {span}"
        )
    return f"tail -c +{offset + 1} {shlex.quote(uri)} | head -c {length}{unpack}"


def _scores(current: Current, place: Place) -> Iterable[dict[str, Any]]:
    for use in current.workspace.recipe.scorers:
        names = list(use.stage.writes_for(use.config))
        row = current.beside_row("scores", use.label, place, names)
        yield {"label": use.label, "stage": f"{use.stage.name}@{use.stage.version}", "columns": row}


def _links(current: Current, place: Place, doc_id: str, text: str | None) -> Iterable[dict[str, Any]]:
    for linker in current.workspace.recipe.linkers:
        join = linker.stage.links
        row = current.beside_row("links", linker.label, place, list(LINK_COLUMNS[join]))
        if row is None:
            yield {"label": linker.label, "join": join, "made": False}
            continue
        if "removed" in row:
            spans = row.pop("removed") or []
            shown = _pieces(text, spans[:SPANS_SHOWN])
            found = {"columns": row, "removed": shown, "removed_found": len(spans)}
            yield {"label": linker.label, "join": join, "made": True, **found}
            continue
        if join != "documents":
            other = _brief(current, row.pop("duplicate_of"))
            yield {"label": linker.label, "join": join, "made": True, "duplicate_of": other, "columns": row}
            continue
        # A document that was alone when its snapshot was linked may stand for later ones.
        members = list(_members(current, linker.label, row["cluster"] or doc_id))
        yield {
            "label": linker.label,
            "join": join,
            "made": True,
            **row,
            "duplicate_of": _brief(current, row["duplicate_of"]),
            "members": members[:MEMBERS_SHOWN] if len(members) > 1 else [],
            "members_found": len(members) if len(members) > 1 else 0,
        }


def _pieces(text: str | None, spans: Iterable[Mapping[str, int]]) -> list[dict[str, Any]]:
    """Byte ranges of a text, with the beginning of what lies there."""
    data = (text or "").encode()
    pieces = []
    for span in spans:
        piece = data[span["start"] : span["end"]].decode("utf-8", "replace")
        pieces.append({**span, "characters": len(piece), "text": piece[:PIECE_HEAD]})
    return pieces


def _members(current: Current, label: str, cluster: str) -> Iterable[dict[str, Any]]:
    """Documents of a cluster in all snapshots; a cluster bears the doc_id of the one that stands for it."""
    for snapshot, document in current.documents():
        part = current.beside("links", label, snapshot, document)
        if part is None:
            continue
        ids = current.ids(document)
        stored = read_part(current.workspace.store, part, ["cluster"]).column("cluster")
        joined = pc.fill_null(pc.equal(stored, cluster), False).to_numpy()
        stands = pc.equal(ids.column("doc_id"), cluster).to_numpy()
        rows = np.flatnonzero(joined | stands)
        for row in ids.take(pa.array(rows)).to_pylist() if len(rows) else []:
            yield {**row, "snapshot": snapshot}


def _brief(current: Current, doc_id: str | None) -> dict[str, Any] | None:
    if doc_id is None:
        return None
    place = current.where(doc_id)
    if place is None:
        return {"doc_id": doc_id, "url": None, "snapshot": None}
    return {**current.row(place, ["doc_id", "url"]), "snapshot": place.snapshot}


def _experiments(current: Current, place: Place, doc_id: str, text: str | None) -> Iterable[dict[str, Any]]:
    for experiment in current.workspace.recipe.experiments:
        label = experiment.label
        decisions = current.find("decisions", label, place.snapshot)
        row = current.beside_row("decisions", label, place, ["failed"])
        if decisions is None or row is None:
            yield {"label": label, "decided": False}
            continue
        failed = row["failed"]
        sources = {rule.label: rule.source for rule in experiment.rules}
        yield {
            "label": label,
            "decided": True,
            "kept": not failed,
            "first": failed[0] if failed else None,
            "failed": failed,
            "outdated": _outdated(current, decisions),
            "rules": [
                _rule(current, place, rule, decisions.notes["fitted"], failed, sources)
                for rule in decisions.spec["rules"]
            ],
            **_ending(current, label, place, doc_id, text),
        }


def _outdated(current: Current, decisions: Manifest) -> list[str]:
    """Datasets that have changed since they were judged: their values shown are not those that decided."""
    changed = []
    for name, digest in decisions.inputs.items():
        kind, label, partition = split_name(name)
        manifest = current.find(kind, label, partition)
        if manifest is not None and manifest.digest != digest:
            changed.append(name)
    return changed


def split_name(name: str) -> tuple[str, str, str]:
    """Kind, label and partition of a dataset's name."""
    dataset, _, partition = name.partition("@")
    kind, _, label = dataset.partition("/")
    return kind, label, partition


def _rule(
    current: Current,
    place: Place,
    rule: Mapping[str, Any],
    fitted: Mapping[str, Any],
    failed: list[str],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "label": rule["label"],
        "test": describe_rule(rule, fitted.get(rule["label"])),
        "values": {name: value_at(current, name, place) for name in rule["reads"]},
        # A record with an error was never put before a rule.
        "passed": None if "error" in failed else rule["label"] not in failed,
        "source": sources.get(rule["label"], ""),
    }


def value_at(current: Current, name: str, place: Place) -> Any:
    """The value of a column a rule reads, at one row."""
    owners = column_owners(current.workspace.recipe)
    if name in owners:
        kind, label, stored = owners[name]
        row = current.beside_row(kind, label, place, [stored])
        return None if row is None else row[stored]
    return current.row(place, [name])[name]


def _ending(current: Current, label: str, place: Place, doc_id: str, text: str | None) -> dict[str, Any]:
    """Whether the document was selected, how often the mixture takes it, and where its tokens lie."""
    selection, tokens = current.find("selection", label), current.find("tokens", label)
    ending: dict[str, Any] = {
        "selected": None,
        "domain": None,
        "tokens": None,
        "repeats": None,
        "shard": None,
        "copies": None,
    }
    if selection is not None:
        repeated = ("repeats",) if "unrepeated" in selection.notes else ()
        chosen = _row_of(current, selection.parts, doc_id, ("domain", "tokens", *repeated))
        ending["copies"] = chosen.pop("repeats") if chosen and repeated else None
        ending |= {"selected": chosen is not None, **(chosen or {})}
    if tokens is None or not ending["selected"]:
        return ending
    index = [part for part in tokens.parts if part.name == "index"]
    row = _row_of(current, index, doc_id, ("repeats", "shard", "document", "offset", "length"))
    if row is None:
        return {**ending, "repeats": 0}
    (file,) = (part for part in tokens.parts if part.name == f"{row['shard']}.bin")
    ids = _read_tokens(current, file, tokens, row)
    return {**ending, **row, "file": file.path, "decodes": _decodes(current, tokens, ids, text)}


def _row_of(current: Current, parts: Iterable[Part], doc_id: str, columns: tuple[str, ...]) -> dict[str, Any] | None:
    """The row of a document in parts that are not aligned with documents: its id is looked for first, alone."""
    store = current.workspace.store
    for part in parts:
        rows = np.flatnonzero(pc.equal(read_part(store, part, ["doc_id"]).column("doc_id"), doc_id).to_numpy())
        if len(rows):
            return dict(read_part(store, part, columns).slice(int(rows[0]), 1).to_pylist()[0])
    return None


def _read_tokens(current: Current, file: Part, tokens: Manifest, row: Mapping[str, Any]) -> np.ndarray:
    """The document's token ids, read at the place the index names and nowhere else."""
    dtype = np.dtype(tokens.notes["contract"]["dtype"]).newbyteorder("<")
    with current.workspace.store.open(file.path) as stream:
        stream.seek(row["offset"] * dtype.itemsize)
        data = stream.read(row["length"] * dtype.itemsize)
    return np.frombuffer(data, dtype)


def _decodes(current: Current, tokens: Manifest, ids: np.ndarray, text: str | None) -> dict[str, Any]:
    """What the stored tokens say, and whether it is the document's text to the letter."""
    from factory.training.tokenizer import Encoder

    contract = tokens.notes["contract"]
    tokenizer = current.find("models", "tokenizer")
    if tokenizer is None:
        raise InputError("The tokenizer of these tokens is gone. 'factory run models/tokenizer' makes it again.")
    with current.workspace.store.as_local(tokenizer.parts[0].path) as (path,):
        encoder = Encoder(path, bos=contract["bos"], eos=contract["eos"])
        body = ids[int(encoder.bos) : len(ids) - int(encoder.eos)]
        decoded = encoder.decode(body)
    same = decoded == text and encoder.sha256 == contract["tokenizer"]
    return {"same": same, "first_ids": [int(number) for number in ids[:8]], "head": decoded[:80]}
