"""A recipe, its store and an executor: plan what is to be made, and make it.

Only what passed its gates is read by what comes after. What exists is not made again: a dataset whose manifest lies where
this exact work would put it is taken as it is, whoever made it; of the others, finished parts are kept.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import psutil

import factory
from factory.core.errors import FactoryError, LedgerError, suggest
from factory.core.ledger import require_balance
from factory.core.manifest import Manifest, manifest_path
from factory.core.sizes import DEFAULT_MEMORY, read_size
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Executor, Task
from factory.recipes import limits
from factory.recipes.gates import Check, check_gates, gate_limits
from factory.recipes.graph import COLUMN_KINDS, Node, build_graph
from factory.recipes.inputs import Inputs, find_inputs
from factory.recipes.progress import Progress, Silent
from factory.recipes.recipe import Recipe
from factory.recipes.steps import (
    columns,
    decisions,
    documents,
    evaluations,
    leaderboard,
    links,
    mixture,
    models,
    proxies,
    search,
    selection,
    tokens,
)
from factory.recipes.work import Made, Step, Work
from factory.storage.leases import Lease, lease
from factory.storage.manifests import find_manifest, find_pointer, missing_parts, point, write_manifest
from factory.storage.store import Store

STEPS: Mapping[str, Step] = {
    "documents": documents.make_all,
    "models": models.make_all,
    "scores": columns.make_all,
    "keys": columns.make_all,
    "encodings": columns.make_all,
    "links": links.make_all,
    "decisions": decisions.make_all,
    "selection": selection.make_all,
    "pools": tokens.make_all,
    "searches": search.make_all,
    "mixture": mixture.make_all,
    "tokens": tokens.make_all,
    "proxies": proxies.make_all,
    "evaluations": evaluations.make_all,
    "leaderboard": leaderboard.make_all,
}

# What a recipe without a tokenizer does not make.
MODELLED = (
    "encodings",
    "selection",
    "pools",
    "searches",
    "mixture",
    "tokens",
    "proxies",
    "evaluations",
    "leaderboard",
)

ExtraGates = Callable[[Manifest], Iterable[Check]]


@dataclass(frozen=True)
class Status:
    """One line of a plan: `cached`, `make` (with why), or `waits` for something upstream that has to be made first."""

    node: Node
    state: str
    why: tuple[str, ...] = ()
    manifest: Manifest | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run did with one dataset."""

    node: Node
    manifest: Manifest
    made: bool
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks if check.blocking)


@dataclass
class Workspace:
    """Everything a command works with. `executor` is started when the first task needs it."""

    recipe: Recipe
    executor: Executor = field(default_factory=LocalExecutor)
    progress: Progress = field(default_factory=Silent)
    extra_gates: ExtraGates = lambda manifest: ()
    wait: bool = True
    memory: int = read_size(DEFAULT_MEMORY)  # bytes one task of a global step may hold

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.executor.close()

    @cached_property
    def store(self) -> Store:
        return Store(self.recipe.store)

    @cached_property
    def inputs(self) -> Inputs:
        return find_inputs(self.recipe, self.store)

    @cached_property
    def graph(self) -> dict[str, Node]:
        return build_graph(self.recipe, self.inputs)

    @property
    def snapshots(self) -> list[str]:
        return list(self.inputs)

    def refresh(self) -> None:
        """Look at the inputs again: a long-lived process must see files that arrived."""
        for name in ("inputs", "graph"):
            self.__dict__.pop(name, None)

    # --- what exists

    def find(self, kind: str, label: str = "", partition: str = "") -> Manifest | None:
        """The current manifest of a dataset, whether or not the recipe would make it the same way now."""
        pointer = find_pointer(self.store, self.recipe.name, kind, label, partition)
        return find_manifest(self.store, pointer["manifest"]) if pointer else None

    def need(self, kind: str, label: str = "", partition: str = "") -> Manifest:
        """The current manifest of a dataset; raises FactoryError with what to run when there is none."""
        manifest = self.find(kind, label, partition)
        if manifest is None:
            name = "/".join(piece for piece in (kind, label) if piece) + (f"@{partition}" if partition else "")
            if kind in MODELLED and self.recipe.tokenizer is None:
                raise FactoryError(f"{name}: a recipe with 'tokenizer: none' ends with decisions, and trains nothing.")
            raise FactoryError(
                f"{name} has not been made, or has not passed its gates. 'factory plan' shows why; "
                f"'factory run {name.partition('@')[0]}' makes it."
            )
        return manifest

    def plan(self) -> list[Status]:
        """The state of every dataset, in the order they are made."""
        found: dict[str, Manifest] = {}
        states = []
        for node in self.graph.values():
            status = self._status(node, found)
            states.append(status)
            if status.state == "cached" and status.manifest is not None:
                found[node.name] = status.manifest
        return states

    def _status(self, node: Node, found: Mapping[str, Manifest]) -> Status:
        waits = [name for name in node.upstream if name not in found]
        pointer = find_pointer(self.store, self.recipe.name, node.kind, node.label, node.partition)
        before = find_manifest(self.store, pointer["manifest"]) if pointer else None
        if waits:
            changed = tuple(_differences(before.spec, node.spec)) if before else ("never made",)
            return Status(node, "waits", (*changed, f"after {_short(waits)}"), before)
        work = self._work(node, found)
        path = manifest_path(node.kind, node.label, work.fingerprint, node.partition, self._input_digests(work))
        manifest = find_manifest(self.store, path)
        if manifest is not None:
            missing = missing_parts(self.store, manifest)
            if missing:
                return Status(
                    node, "make", (f"{len(missing)} of {len(manifest.parts)} parts are gone: {missing[0]}",), before
                )
            if pointer is None or pointer["manifest"] != path or pointer.get("limits") != gate_limits(self.recipe):
                return Status(node, "make", ("made before, has to pass its gates",), before)
            return Status(node, "cached", (), manifest)
        if before is None:
            return Status(node, "make", ("never made",), None)
        why = [*_differences(before.spec, node.spec), *_input_changes(before.inputs, self._input_digests(work))]
        return Status(node, "make", tuple(why) or ("its manifest is gone",), before)

    # --- making

    def select(self, names: Iterable[str], *, upstream: bool = True) -> list[Node]:
        """Nodes by name or kind (`scores`, `scores/words`, `decisions/full`), with all they need; raises for unknown names."""
        chosen: set[str] = set()
        for name in names:
            matches = [
                node.name for node in self.graph.values() if name in (node.name, node.kind, node.name.split("@")[0])
            ]
            if not matches:
                known = {name for node in self.graph.values() for name in (node.kind, node.name.split("@")[0])}
                raise FactoryError(f"No dataset of this recipe is named '{name}'.{suggest(name, known)}")
            chosen.update(matches)
        if upstream:
            for node in reversed(list(self.graph.values())):
                if node.name in chosen:
                    chosen.update(node.upstream)
        return [node for node in self.graph.values() if node.name in chosen]

    def run(self, names: Iterable[str] | None = None, *, upstream: bool = True) -> list[Outcome]:
        """Make what is not there, wave by wave. Raises FactoryError when a blocking gate fails and something waits for it."""
        nodes = self.select(names, upstream=upstream) if names is not None else list(self.graph.values())
        self.require_fit(nodes)
        found: dict[str, Manifest] = {}
        outcomes: list[Outcome] = []
        blocked: dict[str, Outcome] = {}
        known: dict[str, Manifest | None] = {}
        for wave in _waves(nodes):
            works, stack = [], ExitStack()
            with stack:
                leases: dict[str, Lease] = {}
                asked: list[Work] = []
                for node in wave:
                    self._follow(node, found, blocked, known)
                    asked.append(self._work(node, found))
                finished = {work.node.name: self._finished(work) for work in asked}
                # In one order whatever the recipe: two runs that hold what the other waits for would wait for ever.
                for work in sorted(asked, key=lambda work: work.node.name):
                    name = work.node.name
                    if finished[name] is None:
                        leases[name] = stack.enter_context(self._lease(work))
                        finished[name] = self._finished(work)
                for work in asked:
                    manifest = finished[work.node.name]
                    if manifest is None:
                        works.append(work)
                    else:
                        outcomes.append(self._promote(work, manifest, made=False))
                if any(work.node.kind == "links" for work in works):  # all they read is there: the numbers are exact
                    needs = limits.work_needs(self.recipe, self.store, works, self.memory)
                    problems = limits.problems(self.recipe, self.store, needs, memory=self.memory)
                    limits.refuse(problems, made="What was made so far is kept.")
                started = time.time()
                for work, manifest in self._make(works, leases, started):
                    outcomes.append(self._promote(work, manifest, made=True))
            for outcome in outcomes[-len(wave) :]:
                if outcome.passed:
                    found[outcome.node.name] = outcome.manifest
                else:
                    blocked[outcome.node.name] = outcome
        return outcomes

    def require_fit(self, nodes: Iterable[Node], free: limits.Free = limits.free_bytes) -> None:
        """Raise DoesNotFit when links that have to be made ask for more memory or disk than there is, as far as is known."""
        known: dict[str, Manifest | None] = {}
        needs = []
        for node in nodes:
            if node.kind != "links" or self._current(node, known) is not None:
                continue
            found = {name: manifest for name in node.upstream if (manifest := self._current(self.graph[name], known))}
            needs.append(limits.needs_of(self.recipe, self.store, node, found, self.memory))
        limits.refuse(limits.problems(self.recipe, self.store, needs, memory=self.memory, free=free))
        local = needs and isinstance(self.executor, LocalExecutor)
        if local and (warning := limits.memory_warning(self.executor.workers, self.memory)):
            self.progress.note(warning)

    def _follow(
        self, node: Node, found: dict[str, Manifest], blocked: Mapping[str, Outcome], known: dict[str, Manifest | None]
    ) -> None:
        """Put what a node reads into `found`: from this run, or what is current."""
        for name in node.upstream:
            if name in found:
                continue
            if name in blocked:
                failed = [check for check in blocked[name].checks if check.blocking and not check.passed]
                raise LedgerError(
                    f"{name} did not pass: " + "; ".join(f"{check.name}: {check.text}" for check in failed)
                )
            manifest = self._current(self.graph[name], known)
            if manifest is None:
                raise FactoryError(
                    f"{node.name} reads {name}, which is not there or is out of date. Run '{name}' first."
                )
            found[name] = manifest

    def _current(self, node: Node, known: dict[str, Manifest | None]) -> Manifest | None:
        """The current manifest of a node if it is what the recipe asks for now; `known` remembers what was looked up."""
        if node.name not in known:
            upstream = {name: self._current(self.graph[name], known) for name in node.upstream}
            found = {name: manifest for name, manifest in upstream.items() if manifest is not None}
            status = self._status(node, found)
            known[node.name] = status.manifest if status.state == "cached" else None
        return known[node.name]

    def _work(self, node: Node, found: Mapping[str, Manifest]) -> Work:
        upstream = {name: found[name] for name in node.upstream}
        return Work(node, node.fingerprint({name: manifest.digest for name, manifest in upstream.items()}), upstream)

    def _input_digests(self, work: Work) -> dict[str, str]:
        return work.node.inputs({name: manifest.digest for name, manifest in work.upstream.items()})

    def _finished(self, work: Work) -> Manifest | None:
        node = work.node
        path = manifest_path(node.kind, node.label, work.fingerprint, node.partition, self._input_digests(work))
        manifest = find_manifest(self.store, path)
        return manifest if manifest is not None and not missing_parts(self.store, manifest) else None

    def _lease(self, work: Work) -> Any:
        name = f"{work.node.kind}-{work.node.label}-{work.fingerprint}-{work.node.partition}"
        return lease(
            self.store,
            name,
            wait=self.wait,
            on_wait=lambda owner: self.progress.note(f"{work.node.name} is being written by {owner}: waiting"),
        )

    def _make(self, works: list[Work], leases: Mapping[str, Lease], started: float) -> Iterator[tuple[Work, Manifest]]:
        if not works:
            return
        before = cpu_seconds()
        made = STEPS[works[0].node.kind](self, works)
        # Made side by side by the same workers: each dataset bears an equal share.
        spent = (cpu_seconds() - before) / len(works)
        for work in works:
            manifest = self._manifest(work, made[work.node.name], started, spent)
            require_balance(manifest.name, manifest.ledger)
            leases[work.node.name].check()
            yield work, write_manifest(self.store, manifest)

    def _manifest(self, work: Work, made: Made, started: float, spent: float) -> Manifest:
        node = work.node
        return Manifest(
            kind=node.kind,
            label=node.label,
            partition=node.partition,
            fingerprint=work.fingerprint,
            spec=node.spec,
            inputs=self._input_digests(work),
            parts=made.parts,
            ledger=made.ledger,
            notes=made.notes,
            run={
                "seconds": round(time.time() - started, 3),
                "cpu_seconds": round(
                    max(0.0, spent), 3
                ),  # of this process and its workers; what a cluster spent is not seen
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": platform.node(),
                "version": factory.__version__,
                "pid": os.getpid(),
            },
        )

    def _promote(self, work: Work, manifest: Manifest, *, made: bool) -> Outcome:
        pointer = find_pointer(self.store, self.recipe.name, manifest.kind, manifest.label, manifest.partition)
        bounds = gate_limits(self.recipe)
        if not made and pointer is not None and (pointer["manifest"], pointer.get("limits")) == (manifest.path, bounds):
            stored = tuple(Check(**check) for check in pointer["checks"].values())
            return Outcome(work.node, manifest, False, stored)
        checks = (*check_gates(self.recipe, self.store, manifest, dict(work.upstream)), *self.extra_gates(manifest))
        outcome = Outcome(work.node, manifest, made, checks)
        if outcome.passed:
            point(self.store, self.recipe.name, manifest, {check.name: check.to_json() for check in checks}, bounds)
        return outcome

    # --- what steps use

    def run_tasks(
        self,
        label: str,
        tasks: list[Task],
        unit: str = "bytes",
        on_report: Callable[[Task, Mapping[str, Any]], None] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Run tasks under one progress bar; results by task name."""
        results: dict[str, dict[str, Any]] = {}
        if not tasks:
            return results
        told: dict[str, int] = {}
        self.progress.start(label, sum(max(1, task.weight) for task in tasks), unit)

        def done(task: Task, result: dict[str, Any]) -> None:
            results[task.name] = result
            self.progress.advance(max(0, max(1, task.weight) - told.get(task.name, 0)))

        def reported(task: Task, message: Mapping[str, Any]) -> None:
            amount = min(int(message.get("advance", 0)), task.weight - told.get(task.name, 0))
            told[task.name] = told.get(task.name, 0) + amount
            self.progress.advance(amount)
            if on_report is not None:
                on_report(task, message)

        try:
            self.executor.run(tasks, done, reported)
        finally:
            self.progress.finish()
        return results


def cpu_seconds() -> float:
    """What this process, the children it has waited for and those alive have computed so far."""
    own = psutil.Process()
    times = own.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in own.children(recursive=True):
        with suppress(psutil.Error):
            used = child.cpu_times()
            total += used.user + used.system
    return float(total)


def _waves(nodes: list[Node]) -> Iterator[list[Node]]:
    """Nodes that can be made together: of one kind; all column kinds at once, since they share the text.

    Encodings of rewritten texts read scores, and come after them; a proxy comes after the one it goes on from.
    """
    wave: list[Node] = []
    for node in nodes:
        if wave and (_wave_of(wave[-1]) != _wave_of(node) or {item.name for item in wave}.intersection(node.upstream)):
            yield wave
            wave = []
        wave.append(node)
    if wave:
        yield wave


def _wave_of(node: Node) -> str:
    late = "rewrite" in node.spec or (node.kind == "keys" and "after" in node.spec)
    return "columns" if node.kind in COLUMN_KINDS and not late else node.kind


def _differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Which settings changed, as paths with both values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}, key=str):
            path = f"{where}.{key}" if where else str(key)
            if key not in before:
                yield f"{path}: added"
            elif key not in after:
                yield f"{path}: removed"
            else:
                yield from _differences(before[key], after[key], path)
    elif _labelled(before) and _labelled(after):
        old, new = ({item["label"]: item for item in items} for items in (before, after))
        for label in dict.fromkeys([*old, *new]):
            path = f"{where}[{label}]"
            if label not in old or label not in new:
                yield f"{path}: {'added' if label in new else 'removed'}"
            else:
                yield from _differences(old[label], new[label], path)
        if list(old) != list(new) and set(old) == set(new):
            yield f"{where}: in another order"
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        for index in range(max(len(before), len(after))):
            path = f"{where}[{_item_name(before, after, index)}]"
            if index >= len(before):
                yield f"{path}: added"
            elif index >= len(after):
                yield f"{path}: removed"
            else:
                yield from _differences(before[index], after[index], path)
    elif before != after:
        yield f"{where}: {before} -> {after}"


def _labelled(items: Any) -> bool:
    return isinstance(items, (list, tuple)) and all(isinstance(item, Mapping) and "label" in item for item in items)


def _item_name(before: Any, after: Any, index: int) -> str:
    item = after[index] if index < len(after) else before[index]
    return str(item.get("label", index)) if isinstance(item, Mapping) else str(index)


def _input_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    changed = [name for name in after if name in before and before[name] != after[name]]
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    for word, names in (("changed", changed), ("new", added), ("gone", removed)):
        if names:
            yield f"{_short(names)} {word}"


def _short(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
