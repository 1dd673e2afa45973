"""What is current of a recipe, and what a plan would do, as plain data."""

from collections.abc import Iterable, Mapping
from typing import Any

from factory.core.ledger import add_counts, imbalance
from factory.core.manifest import Manifest
from factory.recipes import limits
from factory.recipes.graph import KINDS
from factory.recipes.lookup import Current
from factory.recipes.workspace import Status, Workspace


def status(workspace: Workspace) -> list[dict[str, Any]]:
    """Every current dataset in the order of the pipeline, with size, digest and the checks it passed."""
    current = Current(workspace)
    rows = []
    for name, pointer in current.pointers.items():
        manifest = current.find(pointer["kind"], pointer["label"], pointer["partition"])
        rows.append(
            {
                "name": name,
                "kind": pointer["kind"],
                "label": pointer["label"],
                "partition": pointer["partition"],
                "rows": manifest.rows if manifest else None,
                "bytes": manifest.bytes if manifest else None,
                "parts": len(manifest.parts) if manifest else None,
                "digest": pointer["digest"],
                "seconds": manifest.run.get("seconds") if manifest else None,
                "ended": manifest.run.get("ended") if manifest else None,
                "manifest": pointer["manifest"],
                "checks": pointer["checks"],
                "there": manifest is not None,
            }
        )
    return sorted(rows, key=lambda row: (KINDS.index(row["kind"]) if row["kind"] in KINDS else 99, row["name"]))


def plan(workspace: Workspace, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The state of every dataset (or of those named) and why, with documents where they are known or can be estimated."""
    chosen = {node.name for node in workspace.select(names, upstream=False)} if names else set(workspace.graph)
    states = workspace.plan()
    rate = _documents_per_byte(workspace, states)
    rows = [_line(workspace, state, rate) for state in states if state.node.name in chosen]
    return {
        "recipe": workspace.recipe.name,
        "store": workspace.store.url,
        "snapshots": workspace.snapshots,
        "experiments": [experiment.label for experiment in workspace.recipe.experiments],
        "datasets": rows,
        "counts": add_counts({row["state"]: 1} for row in rows),
        "refused": _refused(workspace, [state for state in states if state.node.name in chosen], states),
    }


def _refused(workspace: Workspace, chosen: Iterable[Status], states: Iterable[Status]) -> list[str]:
    """Why a run would refuse these datasets, as far as the sizes of what they read are known."""
    found = {
        state.node.name: state.manifest for state in states if state.state == "cached" and state.manifest is not None
    }
    needs = [
        limits.needs_of(workspace.recipe, workspace.store, state.node, found, workspace.memory)
        for state in chosen
        if state.node.kind == "links" and state.state != "cached"
    ]
    return limits.problems(workspace.recipe, workspace.store, needs, memory=workspace.memory)


def _line(workspace: Workspace, state: Status, rate: float | None) -> dict[str, Any]:
    node, manifest = state.node, state.manifest
    line: dict[str, Any] = {
        "name": node.name,
        "kind": node.kind,
        "label": node.label,
        "partition": node.partition,
        "state": state.state,
        "why": list(state.why),
        "rows": manifest.rows if manifest and state.state == "cached" else None,
        "estimated_rows": None,
        "input_bytes": None,
        "seconds": manifest.run.get("seconds") if manifest else None,
    }
    if node.kind == "documents":
        line["input_bytes"] = input_bytes(workspace, node.partition)
    if state.state != "cached" and node.partition in workspace.inputs and rate is not None:
        line["estimated_rows"] = round(rate * input_bytes(workspace, node.partition))
    return line


def input_bytes(workspace: Workspace, snapshot: str) -> int:
    return sum(file.size for files in workspace.inputs[snapshot].values() for file in files)


def _documents_per_byte(workspace: Workspace, states: list[Status]) -> float | None:
    """From the snapshots that are there, changed or not; None when there is none to learn from."""
    known = [state for state in states if state.node.kind == "documents" and state.manifest is not None]
    size = sum(input_bytes(workspace, state.node.partition) for state in known)
    return sum(state.manifest.rows for state in known if state.manifest) / size if size else None


def ledger(workspace: Workspace) -> dict[str, Any]:
    """The books of everything current: documents by snapshot, decisions by experiment, and what does not add up."""
    current = Current(workspace)
    documents = {manifest.partition: dict(manifest.ledger) for manifest in current.of("documents")}
    decisions: dict[str, dict[str, Any]] = {}
    for experiment in workspace.recipe.experiments:
        own = [manifest for manifest in current.of("decisions") if manifest.label == experiment.label]
        if own:
            decisions[experiment.label] = _sum([manifest.ledger for manifest in own])
    return {"documents": documents, "decisions": decisions, "problems": problems(current)}


def problems(current: Current) -> list[str]:
    """Every ledger that does not balance, in itself or against the dataset it is about."""
    found = []
    rows = {manifest.partition: manifest.rows for manifest in current.of("documents")}
    for manifest in (*current.of("documents"), *current.of("decisions")):
        if problem := imbalance(manifest.ledger):
            found.append(f"{manifest.name}: {problem}")
        if manifest.ledger.get("rows") != manifest.rows:
            found.append(
                f"{manifest.name}: the ledger counts {manifest.ledger.get('rows')} rows, {manifest.rows} stored"
            )
        if (
            manifest.kind == "decisions"
            and _same_documents(current, manifest)
            and manifest.rows != rows[manifest.partition]
        ):
            found.append(f"{manifest.name}: {manifest.rows:,} verdicts on {rows[manifest.partition]:,} documents")
    for selection in current.of("selection"):
        decided = [manifest for manifest in current.of("decisions") if manifest.label == selection.label]
        fresh = all(selection.inputs.get(manifest.name) == manifest.digest for manifest in decided)
        kept = sum(manifest.ledger["kept"] for manifest in decided)
        if fresh and decided and len(decided) == _of_kind(selection.inputs, "decisions") and kept != selection.rows:
            found.append(f"{selection.name}: {selection.rows:,} documents selected, {kept:,} kept by its decisions")
    return found


def _same_documents(current: Current, decisions: Manifest) -> bool:
    documents = current.find("documents", "", decisions.partition)
    return documents is not None and decisions.inputs.get(documents.name) == documents.digest


def _of_kind(inputs: Mapping[str, str], kind: str) -> int:
    return sum(name.startswith(f"{kind}/") for name in inputs)


def _sum(ledgers: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "rows": sum(item["rows"] for item in ledgers),
        "kept": sum(item["kept"] for item in ledgers),
        "dropped": add_counts(item["dropped"] for item in ledgers),
        "errors": add_counts(item["errors"] for item in ledgers),
    }
