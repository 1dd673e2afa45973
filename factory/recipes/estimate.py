"""What a run would take, before it runs: documents, CPU time, memory and disk of every dataset that would be made.

Rates are measured on a sample (see `factory.recipes.trial`), what links need is what their joins say (`needs`), and what is
there is counted, not estimated. Every number has a range: twice the relative standard error between pieces of the sample, at
least a fifth, and half where there is nothing to compare. What cannot be tried on a sample is null and named.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.core.errors import DoesNotFit
from factory.core.manifest import Manifest, Part
from factory.core.stage import InputFile
from factory.execution.local import LocalExecutor
from factory.recipes import limits
from factory.recipes.graph import Node
from factory.recipes.trainings import PROOF, Foreseen, groups, summed
from factory.recipes.trainings import spread_of as _range
from factory.recipes.trial import NOT_TRIED, UNKNOWN_SPREAD, Found, Rate, run_trial
from factory.recipes.workspace import Status, Workspace
from factory.storage.parts import ROW_GROUP_BYTES, value_count
from factory.storage.store import Store

SAMPLE = 500
ROW_GROUPS_HELD = 3  # of a part that is being written: its batches, the table of them, and their pages
UNCOUNTED = ("models", "searches", "tokens", "pools", "mixture", "proxies", "evaluations", "leaderboard")
OF_PROOFS = (  # what lines of tokens, searches, trainings and evaluations have besides
    "trainings",
    "there",
    "rounds",
    "tokens",
    "flops",
    "items",
    "training_seconds",
    "gpu_seconds",
    "usd",
    "records",
)
BY_TEXT = ("scores", "keys", "encodings")


@dataclass(frozen=True)
class Amount:
    """The documents of one snapshot: counted, or expected from its inputs. `fresh` is the share that is not read yet."""

    rows: float
    text: float
    inputs: Mapping[str, int]  # bytes by source
    parts: int
    largest: float  # bytes of text in one part
    fresh: float
    spread: float


def estimate(
    workspace: Workspace,
    names: Iterable[str] | None = None,
    *,
    sample: int = SAMPLE,
    again: bool = False,
    free: limits.Free = limits.free_bytes,
) -> dict[str, Any]:
    """A line for each dataset that would be made, totals, and why the plan would be refused, if it would.

    With `again` every dataset is estimated as if it were not there, beside what it was when it was made.
    """
    chosen = workspace.select(names) if names else list(workspace.graph.values())
    states = {state.node.name: state for state in workspace.plan()}
    todo = [node for node in chosen if again or states[node.name].state != "cached"]
    found = _try(workspace, todo, states, sample, again=again) if todo else Found()
    amounts = {name: _amount(workspace, name, states, found, again=again) for name in workspace.inputs}
    asked = [_link_needs(workspace, node, amounts, states, found, again=again) for node in todo if node.kind == "links"]
    needs = {item.node.name: item for item in asked if item is not None}
    expected = sum(amount.rows for amount in amounts.values()) / max(1, found.documents)
    foreseen = Foreseen(workspace, found, states, expected, again=again)
    lines = [_line(workspace, node, states[node.name], amounts, found, needs, foreseen) for node in todo]
    workers = workspace.executor.workers
    totals = _totals(workspace, lines, list(needs.values()), amounts, found)
    refused = limits.problems(
        workspace.recipe,
        workspace.store,
        needs.values(),
        memory=workspace.memory,
        outputs=int(totals["disk"]["low"]),
        free=free,
    )
    local = isinstance(workspace.executor, LocalExecutor)
    asked_for = limits.memory_warning(workers, workspace.memory) if needs and local else None
    warnings = [asked_for, limits.unsure(workspace.recipe, needs.values(), workspace.memory)]
    return {
        "recipe": workspace.recipe.name,
        "store": workspace.store.url,
        "sample": {"documents": found.documents, "of": found.origin},
        "datasets": lines,
        "proofs": groups(workspace.recipe, lines),
        "totals": totals,
        "workers": workers,
        "memory": workspace.memory,
        "machine_memory": limits.machine_memory(),
        "free": free(workspace.store.root) if workspace.store.local else None,
        "warnings": [text for text in warnings if text],
        "refused": refused,
        "exit_code": DoesNotFit.exit_code if refused else 0,
    }


def _try(
    workspace: Workspace, todo: Sequence[Node], states: Mapping[str, Status], sample: int, *, again: bool
) -> Found:
    there = {name: state.manifest for name, state in states.items() if state.state == "cached" and state.manifest}
    reads = {node.partition for node in todo if node.kind == "documents"}
    documents = [] if reads or again else [there[f"documents@{name}"] for name in workspace.inputs]
    ready = {m.label: (workspace.store, m) for m in there.values() if m.kind == "models"}
    inputs = {name: workspace.inputs[name] for name in (sorted(reads) or workspace.inputs)}
    parts: list[tuple[Store, Part]] = [(workspace.store, part) for manifest in documents for part in manifest.parts]
    return run_trial(
        workspace.recipe,
        inputs,
        sample=sample,
        memory=workspace.memory,
        wanted={(node.kind, node.label) for node in todo},
        documents=parts,
        ready=ready,
        progress=workspace.progress,
    )


# --- how much there is


def _amount(workspace: Workspace, snapshot: str, states: Mapping[str, Status], found: Found, *, again: bool) -> Amount:
    state = states[f"documents@{snapshot}"]
    manifest, inputs = state.manifest, workspace.inputs[snapshot]
    sizes = {label: sum(file.size for file in files) for label, files in inputs.items()}
    if manifest is not None and state.state == "cached" and not again:
        counted = [float(part.notes["text_bytes"]) for part in manifest.parts]
        return Amount(manifest.rows, sum(counted), sizes, len(counted), max(counted, default=0.0), 1.0, 0.0)
    read = {label: found.readings[label] for label in sizes if label in found.readings}
    rows = sum(reading.rows * sizes[label] for label, reading in read.items())
    text = sum(reading.text * sizes[label] for label, reading in read.items())
    ranges = [
        (part.stop - part.start) * read[use.label].text
        for use in workspace.recipe.sources
        if use.label in read
        for made in [use.stage.make(use.config)]
        for file in inputs[use.label]
        for part in made.split(file, use.part_bytes)
    ]
    fresh = 1.0 if again else _fresh(manifest, state.node, inputs)
    spread = max((reading.spread for reading in read.values()), default=UNKNOWN_SPREAD)
    return Amount(rows, text, sizes, len(ranges), max(ranges, default=0.0), fresh, spread)


def _fresh(manifest: Manifest | None, node: Node, inputs: Mapping[str, Sequence[InputFile]]) -> float:
    """The share of the input bytes that no finished part is made of: files that are new or other than they were."""
    if manifest is None or manifest.spec != node.spec:
        return 1.0
    files = [(f"{label}:{file.name}", file.size) for label, found in inputs.items() for file in found]
    new = sum(size for name, size in files if manifest.inputs.get(name) != node.files[name])
    return new / (sum(size for _, size in files) or 1)


# --- what it takes


def _link_needs(
    workspace: Workspace,
    node: Node,
    amounts: Mapping[str, Amount],
    states: Mapping[str, Status],
    found: Found,
    *,
    again: bool,
) -> limits.LinkNeeds | None:
    """What links need, of the keys that are there; of those that are not, as many as the sample lets expect."""
    recipe, sampled = workspace.recipe, found.keys.get(node.label)
    keys, most, rows = 0.0, 0.0, 0.0
    for snapshot in limits.exchanged(recipe, node):
        amount, state = amounts[snapshot], states.get(f"keys/{node.label}@{snapshot}")
        rows += amount.rows
        if state is not None and state.state == "cached" and state.manifest is not None and not again:
            there = sum(value_count(workspace.store, part, "keys") for part in state.manifest.parts)
            keys, most = keys + there, most + there
        elif sampled is None:
            return None
        else:
            expected = (amount.text if sampled.by_text else amount.rows) * sampled.each
            keys, most = keys + expected, most + expected * (1 + sampled.spread) * (1 + amount.spread)
    needs = limits.join_needs(recipe, node.label, round(rows), round(keys), workspace.memory)
    fixed = limits.join_needs(recipe, node.label, 0, 0, workspace.memory)
    return limits.LinkNeeds(node, round(rows), round(keys), needs, fixed.memory, 0, math.ceil(most))


def _line(
    workspace: Workspace,
    node: Node,
    state: Status,
    amounts: Mapping[str, Amount],
    found: Found,
    needs: Mapping[str, limits.LinkNeeds],
    foreseen: Foreseen,
) -> dict[str, Any]:
    own = amounts.get(node.partition)
    rows = own.rows if own else sum(amount.rows for amount in amounts.values())
    line: dict[str, Any] = {
        "name": node.name,
        "kind": node.kind,
        "state": state.state,
        "rows": round(rows) if node.kind not in UNCOUNTED else None,
        "rows_range": None,
        "input_bytes": sum(own.inputs.values()) if own and node.kind == "documents" else None,
        "cpu_seconds": None,
        "start_seconds": None,
        "memory": None,
        "disk": None,
        "exchange": None,
        "splits": None,
        **dict.fromkeys(OF_PROOFS),
        "unknown": None,
        "last": _last(state.manifest),
    }
    spread = max((amount.spread for amount in ([own] if own else amounts.values())), default=0.0)
    if line["rows"] is not None and spread:  # else they were counted
        line["rows_range"] = _range(rows, spread)
    if node.kind == "documents" and own is not None:
        return {**line, **_reading(own, found)}
    if node.kind in PROOF:
        return {**line, **foreseen.line(node.kind, node.label)}
    rate = found.rates.get((node.kind, node.label))
    if rate is None:
        return {**line, "unknown": found.unknown.get((node.kind, node.label), NOT_TRIED)}
    return {**line, **_making(workspace, node, own, amounts, rate, needs.get(node.name), found.documents)}


def _reading(own: Amount, found: Found) -> dict[str, Any]:
    """Documents, from the rates of their sources."""
    read = {label: found.readings[label] for label in own.inputs if label in found.readings}
    cpu = sum(reading.cpu * own.inputs[label] for label, reading in read.items()) * own.fresh
    peak = max((reading.memory for reading in read.values()), default=0)
    return {
        "cpu_seconds": _range(cpu, own.spread),
        "start_seconds": max((reading.start for reading in read.values()), default=0.0),
        "memory": _range(peak + ROW_GROUPS_HELD * ROW_GROUP_BYTES, UNKNOWN_SPREAD),
        "disk": _range(own.text * found.stored * own.fresh, own.spread),
    }


def _making(
    workspace: Workspace,
    node: Node,
    own: Amount | None,
    amounts: Mapping[str, Amount],
    rate: Rate,
    needs: limits.LinkNeeds | None,
    sampled: int,
) -> dict[str, Any]:
    """Any other dataset, from the rate of its step."""
    scope = [own] if own else list(amounts.values())
    if node.kind == "links" and workspace.recipe.linker(node.label).scope == "global":
        scope = list(amounts.values())  # all are linked again for each snapshot
    units = sum((amount.text if node.kind in BY_TEXT else amount.rows) * amount.fresh for amount in scope)
    if node.kind == "models":
        rows = sum(amount.rows for amount in scope)
        units = _learns(workspace, node.label, rows) / max(_learns(workspace, node.label, sampled), 1) or 1.0
    written = sum(
        (amount.text if node.kind in BY_TEXT else amount.rows) * amount.fresh for amount in ([own] if own else scope)
    )
    parts = sum(amount.parts * amount.fresh for amount in ([own] if own else [])) or 1
    spread = max([rate.spread, *(amount.spread for amount in scope)])
    growing = max(0, rate.memory - rate.resting) / max(rate.memory_units, 1)
    largest = max((amount.largest for amount in scope), default=0.0) if node.kind in BY_TEXT else units / max(parts, 1)
    memory = rate.resting + needs.needs.memory if needs is not None else rate.resting + growing * largest
    return {
        "cpu_seconds": _range(rate.cpu * units, spread),
        "start_seconds": rate.start,
        "memory": _range(memory, UNKNOWN_SPREAD),
        "disk": _range(
            rate.disk_start if node.kind == "models" else rate.disk * written + rate.disk_start * parts, spread
        ),
        "exchange": needs.needs.disk if needs is not None else None,
        "splits": needs.needs.splits if needs is not None else None,
    }


def _learns(workspace: Workspace, label: str, rows: float) -> float:
    """The most documents a model learns from where there are so many, with those in files of its own."""
    recipe = workspace.recipe
    if label == "tokenizer" and recipe.tokenizer is not None:
        return min(rows, recipe.tokenizer.documents)
    use = next(use for use in (*recipe.scorers, *recipe.linkers) if use.label == label)
    samples = use.stage.train.samples(use.config) if use.stage.train is not None else ()
    return float(sum(item.documents if item.uri is not None else min(rows, item.documents) for item in samples))


def _last(manifest: Manifest | None) -> dict[str, Any] | None:
    """What it was and took when it was made: seconds of wall time, from the beginning of all that was made with it."""
    if manifest is None:
        return None
    run = manifest.run
    return {
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "seconds": run.get("seconds"),
        "ended": run.get("ended"),
    }


def _totals(
    workspace: Workspace,
    lines: Sequence[Mapping[str, Any]],
    needs: Sequence[limits.LinkNeeds],
    amounts: Mapping[str, Amount],
    found: Found,
) -> dict[str, Any]:
    workers = workspace.executor.workers
    start = _start(lines, amounts, found.boot, workers)
    cpu = {end: _sum(lines, "cpu_seconds", end) + start[end] for end in ("value", "low", "high")}
    peaks = [line["memory"] for line in lines if line["memory"] is not None]
    return {
        "start_seconds": start,
        "cpu_seconds": cpu,
        "wall_seconds": {end: amount / workers for end, amount in cpu.items()},
        "memory": max(peaks, key=lambda item: item["value"], default=None),
        "gpu_seconds": summed(lines, "gpu_seconds"),
        "usd": summed(lines, "usd"),
        "flops": sum(line["flops"] or 0.0 for line in lines),
        "trainings": sum(line["trainings"] or 0 for line in lines),
        "disk": {end: _sum(lines, "disk", end) for end in ("value", "low", "high")},
        "exchange": limits.exchange_peak(workspace.recipe, needs),
        "without": [line["name"] for line in lines if line["unknown"] is not None],
    }


def _start(
    lines: Sequence[Mapping[str, Any]], amounts: Mapping[str, Amount], boot: float, workers: int
) -> dict[str, float]:
    """What workers take until they make something: once each for every step, whatever the snapshots. Nothing to compare it with.

    A step starts in as many workers as it has parts for.
    """
    seconds: dict[str, float] = {}
    parts: dict[str, int] = {}
    for line in lines:
        if line["start_seconds"] is None:
            continue
        step, _, snapshot = line["name"].partition("@")
        step = line["kind"] if line["kind"] in PROOF else step  # the libraries of a training are loaded once for all
        seconds[step] = max(seconds.get(step, 0.0), line["start_seconds"])
        alone = line["kind"] in ("models", *PROOF)
        own = [amounts[snapshot]] if snapshot in amounts else [] if alone else amounts.values()
        parts[step] = parts.get(step, 0) + max(1, sum(amount.parts for amount in own))
    started = max((min(workers, number) for number in parts.values()), default=0)
    total = boot * started + sum(taken * min(workers, parts[step]) for step, taken in seconds.items())
    return _range(total, UNKNOWN_SPREAD)


def _sum(lines: Sequence[Mapping[str, Any]], name: str, end: str) -> float:
    return sum(float(line[name][end]) for line in lines if line[name] is not None)
