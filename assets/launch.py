"""What the command line starts: runs in this process that Dagster records, its UI, and backfills by its daemon.

The entry point of group `factory.orchestrator`: the library's command line finds it there and knows nothing of Dagster.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import dagster as dg

from assets.automation import JUDGE, PREPARE, judge_keys, landing, look, prepare_keys, range_tags, unbroken
from assets.composition import compose
from assets.instance import open_instance, own_tags
from assets.nodes import asset_key, combined_digest, partition_key
from assets.partitions import SNAPSHOT, experiments
from assets.report import REPORT
from assets.resources import Factory, settings_for
from assets.services import backfill, ui, ui_command
from assets.snapshots import INPUTS
from factory.core.errors import FactoryError, LedgerError
from factory.recipes.failures import LISTED, SHARED, RunFailed, failure_of
from factory.recipes.gates import Check
from factory.recipes.graph import Node
from factory.recipes.progress import Progress, Silent
from factory.recipes.workspace import Outcome, consequences
from factory.storage.manifests import find_pointer


def run(
    recipe_path: str,
    *,
    store: str | None = None,
    workers: int = 0,
    executor: str | None = None,
    memory: str | None = None,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
    force: bool = False,
    wait: bool = True,
    fail_fast: bool = False,
) -> list[Outcome]:
    """Make these datasets and all they need (None: everything), recorded in Dagster's instance; no daemon is needed.

    All snapshots are one run, and all experiments are one. A run that would change and record nothing is left out unless
    `force`. Raises the FactoryError that a step failed with, or LedgerError for gates that were not passed. Where that concerns
    single experiments or searches, what does not need them is made first, in runs of a kind of dataset each.
    """
    settings = settings_for(recipe_path, store, workers)
    settings = replace(settings, executor=executor or settings.executor, memory=memory or settings.memory)
    recipe = settings.load()
    held = Factory(settings, recipe, progress or Silent(), wait, fail_fast)
    with closing(held) as factory, open_instance(recipe) as instance:
        workspace = factory.workspace
        wanted = [name for name in names if name != REPORT.path[0]] if names is not None else None
        nodes = list(workspace.graph.values()) if wanted is None else workspace.select(wanted)
        _register(instance, factory)
        current = {status.node.name: status.manifest for status in workspace.plan() if status.state == "cached"}
        definitions = None
        order = {PREPARE: prepare_keys(recipe), JUDGE: judge_keys(recipe)}
        for job, keys in order.items():
            own = [node for node in nodes if asset_key(node) in keys]
            with_report = job == JUDGE and (names is None or REPORT.path[0] in names)
            done = [_found(factory, node, current[node.name]) for node in own if node.name in current]
            if len(done) == len(own) and not force and _recorded(instance, done, with_report=with_report):
                factory.outcomes.update({outcome.node.name: outcome for outcome in done})
                continue
            definitions = definitions or compose(settings, factory)
            selection = sorted({asset_key(node) for node in own} | ({REPORT} if with_report else set()))
            job_def = definitions.resolve_job_def(job)
            try:
                for tags in _ranges(instance, factory, own):
                    _execute(job_def, instance, factory, selection, tags)
            except RunFailed as failed:
                if fail_fast:
                    raise
                _go_on(job_def, instance, factory, own, failed, with_report=with_report)
        return [factory.outcomes[node.name] for node in workspace.graph.values() if node.name in factory.outcomes]


def _register(instance: dg.DagsterInstance, factory: Factory) -> None:
    """Tell Dagster of the snapshots that are there, and of what landed since it was last told."""
    instance.add_dynamic_partitions(SNAPSHOT, factory.workspace.snapshots)
    for snapshot, seen in look(factory.recipe).items():
        if _latest_version(instance, INPUTS, snapshot) != seen.version:
            instance.report_runless_asset_event(landing(snapshot, seen))


def _found(factory: Factory, node: Node, manifest: Any) -> Outcome:
    """The outcome of a dataset that is there: with the checks it passed."""
    pointer = find_pointer(factory.workspace.store, factory.recipe.name, node.kind, node.label, node.partition)
    checks = pointer["checks"].values() if pointer else ()
    return Outcome(node, manifest, False, tuple(Check(**check) for check in checks))


def _recorded(instance: dg.DagsterInstance, outcomes: Iterable[Outcome], *, with_report: bool) -> bool:
    """Whether the latest that Dagster knows of every asset and partition is what is current."""
    if with_report and instance.get_latest_materialization_event(REPORT) is None:
        return False
    together: dict[tuple[dg.AssetKey, str | None], list[Outcome]] = {}
    for outcome in outcomes:
        together.setdefault((asset_key(outcome.node), partition_key(outcome.node)), []).append(outcome)
    return all(_latest_version(instance, *asset) == combined_digest(own) for asset, own in together.items())


def _latest_version(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
    wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition]) if partition else key
    records = instance.fetch_materializations(wanted, limit=1).records
    materialization = records[0].asset_materialization if records else None
    return (materialization.tags or {}).get("dagster/data_version") if materialization else None


def _ranges(instance: dg.DagsterInstance, factory: Factory, nodes: Sequence[Node]) -> Iterator[dict[str, str]]:
    """Run tags, one set for each unbroken range of the partitions these datasets belong to: usually one."""
    wanted = {partition for node in nodes if (partition := partition_key(node)) is not None}
    if not wanted:
        yield {}
        return
    of_experiments = experiments(factory.recipe).get_partition_keys()
    ordered = of_experiments if wanted <= set(of_experiments) else instance.get_dynamic_partitions(SNAPSHOT)
    for run in unbroken(ordered, wanted):
        yield range_tags(run[0], run[-1])


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    factory: Factory,
    selection: Sequence[dg.AssetKey],
    tags: dict[str, str],
) -> None:
    before = dict(factory.outcomes)
    factory.problem = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # of Pipes, about its own insides
        try:
            result = job.execute_in_process(
                instance=instance,
                asset_selection=selection,
                tags={**tags, **own_tags()},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        except dg.DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
    if result.success:
        return
    failed = [one for name, one in factory.outcomes.items() if before.get(name) is not one and not one.passed]
    problem = factory.problem
    if problem is not None and not isinstance(problem, RunFailed):
        raise problem
    if any(outcome.node.kind in SHARED for outcome in failed):
        raise LedgerError("\n".join(outcome.why for outcome in failed))
    failures = {one.node.name: failure_of(one.node, LedgerError(one.why)) for one in failed}
    if problem is not None:  # of one step; gates may have been missed in others
        told = {failure.name: failure for failure in problem.failures}
        raise RunFailed(list({**failures, **told}.values()), problem.skipped)
    if failures:
        raise RunFailed(list(failures.values()), {})
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    raise FactoryError(
        f"The run {result.run_id} failed: {errors[0].to_string() if errors and errors[0] else 'no step says why'}"
    )


def _go_on(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    factory: Factory,
    nodes: Sequence[Node],
    failed: RunFailed,
    *,
    with_report: bool,
) -> None:
    """Make what does not need what failed; raises RunFailed at the end, with all that failed and was skipped.

    A run of several kinds would stop before what comes after a failed step, for all partitions: so each kind is a run.
    """
    graph, failures = factory.workspace.graph, {failure.name: failure for failure in failed.failures}

    def execute(selection: Sequence[dg.AssetKey], tags: dict[str, str]) -> None:
        try:
            _execute(job, instance, factory, selection, tags)
        except RunFailed as more:
            failures.update({failure.name: failure for failure in more.failures})
        # A partition is made whole: what failed of it is tried again with the rest, and may be there now.
        for name in [name for name in failures if name in factory.outcomes and factory.outcomes[name].passed]:
            del failures[name]

    for kind in dict.fromkeys(node.kind for node in nodes):
        causes, _ = consequences(factory.recipe, graph, failures)
        own = [node for node in nodes if node.kind == kind and node.name not in causes]
        current = {status.node.name: status.manifest for status in factory.workspace.plan() if status.state == "cached"}
        done = [_found(factory, node, current[node.name]) for node in own if node.name in current]
        if len(done) == len(own) and _recorded(instance, done, with_report=False):
            factory.outcomes.update({outcome.node.name: outcome for outcome in done})
            continue
        for tags in _ranges(instance, factory, own):
            execute(sorted({asset_key(node) for node in own}), tags)
    causes, skipped = consequences(factory.recipe, graph, failures)
    if with_report and "leaderboard" not in causes:
        execute([REPORT], {})
    if not failures:
        return
    asked = {node.name for node in nodes}
    skipped = {name: because for name, because in skipped.items() if name in asked}
    outcomes = list(factory.outcomes.values())
    note = LISTED if any(outcome.node.kind == "leaderboard" for outcome in outcomes) else ""
    raise RunFailed(list(failures.values()), skipped, outcomes, note=note)


__all__ = ["Outcome", "backfill", "run", "ui", "ui_command"]
