"""A recipe, its store and an executor: plan what is to be made, and make it.

Only what passed its gates is read by what comes after. What exists is not made again: a dataset whose manifest lies where
this exact work would put it is taken as it is, whoever made it; of the others, finished parts are kept. What cannot be made
stops what is made from it and nothing else (see `factory.recipes.failures`).
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import psutil

import factory
from factory.core.errors import FactoryError, InputError, LedgerError, suggest
from factory.core.fingerprint import fingerprint
from factory.core.ledger import require_balance
from factory.core.manifest import Manifest, manifest_path
from factory.core.sizes import DEFAULT_MEMORY, read_size
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Executor, Task
from factory.recipes import limits
from factory.recipes.failures import LISTED, SHARED, Failure, RunFailed, failure_of, stops_everything
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
from factory.storage.failures import failure_path, failure_paths, find_failure, write_failure
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

# What is made although some of what it reads could not be; says what hinders it, if anything.
PARTIAL: Mapping[str, Callable[[Recipe, Mapping[str, Failure]], str]] = {"leaderboard": leaderboard.hindrance}

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

    @property
    def why(self) -> str:
        """Which blocking gates it did not pass."""
        failed = [check for check in self.checks if check.blocking and not check.passed]
        return f"{self.node.name} did not pass: " + "; ".join(f"{check.name}: {check.text}" for check in failed)


@dataclass
class _Course:
    """A run under way."""

    records: set[str]  # where failures are remembered
    found: dict[str, Manifest] = field(default_factory=dict)  # what may be read
    outcomes: list[Outcome] = field(default_factory=list)
    blocked: dict[str, Outcome] = field(default_factory=dict)  # did not pass a gate
    causes: dict[str, Failure] = field(default_factory=dict)  # of all that cannot be read: what failed first
    skipped: dict[str, str] = field(default_factory=dict)  # because of what
    known: dict[str, Manifest | None] = field(default_factory=dict)

    @property
    def failures(self) -> list[Failure]:
        return [cause for name, cause in self.causes.items() if cause.name == name]


@dataclass
class Workspace:
    """Everything a command works with. `executor` is started when the first task needs it.

    With `fail_fast` the first dataset that cannot be made ends a run.
    """

    recipe: Recipe
    executor: Executor = field(default_factory=LocalExecutor)
    progress: Progress = field(default_factory=Silent)
    extra_gates: ExtraGates = lambda manifest: ()
    wait: bool = True
    memory: int = read_size(DEFAULT_MEMORY)  # bytes one task of a global step may hold
    fail_fast: bool = False

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
            record = find_failure(self.store, failure_path(self.recipe.name, kind, label, partition))
            last = f" The last time, it failed: {record['text']}" if record is not None else ""
            raise FactoryError(
                f"{name} has not been made, or has not passed its gates. 'factory plan' shows why; "
                f"'factory run {name.partition('@')[0]}' makes it.{last}"
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
        path = self._path(work)
        manifest = find_manifest(self.store, path)
        if manifest is not None:
            missing = missing_parts(self.store, manifest)
            if missing:
                return Status(
                    node, "make", (f"{len(missing)} of {len(manifest.parts)} parts are gone: {missing[0]}",), before
                )
            if pointer is None or pointer["manifest"] != path or pointer.get("limits") != gate_limits(self.recipe):
                return Status(node, "make", self._last_failure(work) or ("made before, has to pass its gates",), before)
            return Status(node, "cached", (), manifest)
        failed = self._last_failure(work)
        if before is None:
            return Status(node, "make", failed or ("never made",), None)
        why = [*_differences(before.spec, node.spec), *_input_changes(before.inputs, self._input_digests(work))]
        return Status(node, "make", (*failed, *why) or ("its manifest is gone",), before)

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
                raise InputError(f"No dataset of this recipe is named '{name}'.{suggest(name, known)}")
            chosen.update(matches)
        if upstream:
            for node in reversed(list(self.graph.values())):
                if node.name in chosen:
                    chosen.update(node.upstream)
        return [node for node in self.graph.values() if node.name in chosen]

    def run(self, names: Iterable[str] | None = None, *, upstream: bool = True) -> list[Outcome]:
        """Make what is not there, wave by wave.

        Raises RunFailed at the end where an experiment or a search could not be made, or did not pass a blocking gate that
        something waits for; other FactoryErrors at once: see `factory.recipes.failures`.
        """
        nodes = self.select(names, upstream=upstream) if names is not None else list(self.graph.values())
        self.require_fit(nodes)
        course = _Course(set(failure_paths(self.store, self.recipe.name)))
        for wave in _waves(nodes):
            works, stack = [], ExitStack()
            before = len(course.outcomes)
            with stack:
                leases: dict[str, Lease] = {}
                asked = [work for node in wave if (work := self._ready(node, course)) is not None]
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
                        course.outcomes.append(self._promote(work, manifest, made=False))
                if any(work.node.kind == "links" for work in works):  # all they read is there: the numbers are exact
                    needs = limits.work_needs(self.recipe, self.store, works, self.memory)
                    problems = limits.problems(self.recipe, self.store, needs, memory=self.memory)
                    limits.refuse(problems, made="What was made so far is kept.")
                started = time.time()
                for work, manifest in self._make(works, leases, started, course):
                    course.outcomes.append(self._promote(work, manifest, made=True))
            for outcome in course.outcomes[before:]:
                self._settle(outcome, course)
        self._forget(course)
        if course.failures:
            for name, outcome in course.blocked.items():  # those that nothing waited for are told, too
                course.causes.setdefault(name, failure_of(outcome.node, LedgerError(outcome.why)))
            listed = any(outcome.node.kind in PARTIAL for outcome in course.outcomes)
            note = LISTED if listed else ""
            raise RunFailed(course.failures, course.skipped, course.outcomes, note=note)
        return course.outcomes

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

    def _ready(self, node: Node, course: _Course) -> Work | None:
        """The work of a node, once all it reads is in `found`: from this run, or what is current. None where that failed."""
        lacks: dict[str, Failure] = {}
        for name in node.upstream:
            if name in course.found:
                continue
            if name in course.blocked and name not in course.causes:
                error = LedgerError(course.blocked[name].why)
                if self.fail_fast or stops_everything(self.graph[name].kind, error):
                    raise error
                course.causes[name] = failure_of(self.graph[name], error)
            manifest = None if name in course.causes else self._current(self.graph[name], course.known)
            if manifest is not None:
                course.found[name] = manifest
                continue
            cause = course.causes.get(name) or self._remembered(name, course.known)
            if cause is None or (self.fail_fast and node.kind not in PARTIAL):
                last = f" The last time, this failed: {cause.line}" if cause is not None else ""
                raise FactoryError(
                    f"{node.name} reads {name}, which is not there or is out of date. Run '{name}' first.{last}"
                )
            if node.kind not in PARTIAL:  # one seed of several, say: told as in the run it failed in
                course.causes.setdefault(name, cause)
                course.causes.setdefault(cause.name, cause)
            lacks[name] = cause
        if not lacks:
            return self._work(node, course.found)
        if hindrance := _hindrance(self.recipe, node, lacks):
            course.causes[node.name], course.skipped[node.name] = next(iter(lacks.values())), hindrance
            return None
        return self._without(node, course.found, lacks)

    def _without(self, node: Node, found: Mapping[str, Manifest], lacks: Mapping[str, Failure]) -> Work:
        """The work of a node that is made although some of what it reads failed: another dataset than the one with all of it."""
        failed = {name: f"{cause.name}: {cause.text}" for name, cause in lacks.items()}
        there = tuple(name for name in node.upstream if name not in failed)
        instead = {f"failed:{name}": fingerprint({"reason": reason}) for name, reason in failed.items()}
        return replace(self._work(replace(node, upstream=there, files={**node.files, **instead}), found), failed=failed)

    def _settle(self, outcome: Outcome, course: _Course) -> None:
        """What passed its gates may be read, and its failure is history; what did not is remembered as one."""
        node = outcome.node
        path = failure_path(self.recipe.name, node.kind, node.label, node.partition)
        if outcome.passed:
            course.found[node.name] = outcome.manifest
            if path in course.records:
                self.store.delete(path)
            return
        course.blocked[node.name] = outcome
        if node.kind not in SHARED:
            self._remember(failure_of(node, LedgerError(outcome.why)), node, outcome.manifest.path, course)

    def _fail(self, work: Work, error: FactoryError, course: _Course) -> None:
        """Say a failure, and remember it beside the datasets, for whoever looks later."""
        failure = failure_of(work.node, error)
        course.causes[failure.name] = failure
        self._remember(failure, work.node, self._path(work), course)

    def _remember(self, failure: Failure, node: Node, manifest: str, course: _Course) -> None:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        path = failure_path(self.recipe.name, node.kind, node.label, node.partition)
        write_failure(self.store, path, {**failure.to_json(), "manifest": manifest, "ended": ended})
        others = (cause for cause in course.causes.values() if cause.name != failure.name)
        if not any((cause.place, cause.text) == (failure.place, failure.text) for cause in others):  # seeds fail alike
            self.progress.note(f"failed: {failure.line}")

    def _remembered(self, name: str, known: dict[str, Manifest | None]) -> Failure | None:
        """The failure for which a dataset is not there, of an earlier run that was asked for the same; None without one."""
        node = self.graph[name]
        upstream = {item: self._current(self.graph[item], known) for item in node.upstream}
        lacks = [item for item, manifest in upstream.items() if manifest is None]
        if lacks:
            causes = (self._remembered(item, known) for item in lacks)
            return next((cause for cause in causes if cause is not None), None)
        work = self._work(node, {item: manifest for item, manifest in upstream.items() if manifest is not None})
        return self._failure(work)

    def _failure(self, work: Work) -> Failure | None:
        """What is remembered of this exact work."""
        node = work.node
        record = find_failure(self.store, failure_path(self.recipe.name, node.kind, node.label, node.partition))
        return Failure.from_json(record) if record is not None and record["manifest"] == self._path(work) else None

    def _last_failure(self, work: Work) -> tuple[str, ...]:
        failure = self._failure(work)
        return () if failure is None else (f"failed the last time: {failure.text}",)

    def _forget(self, course: _Course) -> None:
        """Remove the failures of datasets that the recipe has no more."""
        asked = {failure_path(self.recipe.name, node.kind, node.label, node.partition) for node in self.graph.values()}
        for path in course.records - asked:
            self.store.delete(path)

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

    def _path(self, work: Work) -> str:
        node = work.node
        return manifest_path(node.kind, node.label, work.fingerprint, node.partition, self._input_digests(work))

    def _finished(self, work: Work) -> Manifest | None:
        manifest = find_manifest(self.store, self._path(work))
        return manifest if manifest is not None and not missing_parts(self.store, manifest) else None

    def _lease(self, work: Work) -> Any:
        name = f"{work.node.kind}-{work.node.label}-{work.fingerprint}-{work.node.partition}"
        return lease(
            self.store,
            name,
            wait=self.wait,
            on_wait=lambda owner: self.progress.note(f"{work.node.name} is being written by {owner}: waiting"),
        )

    def _make(
        self, works: list[Work], leases: Mapping[str, Lease], started: float, course: _Course
    ) -> Iterator[tuple[Work, Manifest]]:
        if not works:
            return
        before = cpu_seconds()
        results = self._step(works)
        # Made side by side by the same workers: each dataset bears an equal share.
        spent = (cpu_seconds() - before) / len(works)
        for work in works:
            made = results[work.node.name]
            if isinstance(made, FactoryError):
                self._fail(work, made, course)
                continue
            manifest = self._manifest(work, made, started, spent)
            require_balance(manifest.name, manifest.ledger)
            leases[work.node.name].check()
            yield work, write_manifest(self.store, manifest)

    def _step(self, works: list[Work]) -> dict[str, Made | FactoryError]:
        """What came of each; raises what concerns more than these."""
        kind = works[0].node.kind
        try:
            return dict(STEPS[kind](self, works))
        except FactoryError as error:
            if self.fail_fast or stops_everything(kind, error):
                raise
            if len(works) == 1:
                return {works[0].node.name: error}
        # Whose error it was is not known: each alone, from its finished parts.
        return {name: made for work in works for name, made in self._step([work]).items()}

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
        failed: dict[str, FactoryError] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Run tasks under one progress bar; results by task name, and the errors of those that failed into `failed`."""
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

        def give_up(task: Task, error: FactoryError) -> None:
            if failed is None or self.fail_fast or stops_everything("", error):
                raise error
            failed[task.name] = error
            self.progress.advance(max(0, max(1, task.weight) - told.get(task.name, 0)))

        try:
            if failed is None:
                self.executor.run(tasks, done, reported)
            else:
                self.executor.run(tasks, done, reported, give_up)
        finally:
            self.progress.finish()
        return results


def consequences(
    recipe: Recipe, graph: Mapping[str, Node], failures: Mapping[str, Failure]
) -> tuple[dict[str, Failure], dict[str, str]]:
    """What cannot be made because of failures: of each dataset the first of them; and of those that only follow, why."""
    causes, skipped = dict(failures), dict[str, str]()
    for node in graph.values():
        lacks = {name: causes[name] for name in node.upstream if name in causes}
        if lacks and node.name not in causes and (hindrance := _hindrance(recipe, node, lacks)):
            causes[node.name], skipped[node.name] = next(iter(lacks.values())), hindrance
    return causes, skipped


def _hindrance(recipe: Recipe, node: Node, lacks: Mapping[str, Failure]) -> str:
    """Why a dataset cannot be made without these; empty where it can."""
    return PARTIAL[node.kind](recipe, lacks) if node.kind in PARTIAL else next(iter(lacks.values())).name


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
