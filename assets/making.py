"""Making an asset: from an asset and its partitions to datasets, and from what came of them to Dagster's events."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from assets.checks import check_results
from assets.metadata import describe
from assets.nodes import asset_key, code_versions, combined_digest, node_names, partition_key
from assets.resources import Factory
from factory.core.errors import FactoryError, LeaseHeld, StoreError
from factory.recipes.failures import RunFailed
from factory.recipes.workspace import Outcome

Events = Iterator[dg.MaterializeResult[None] | dg.AssetMaterialization | dg.AssetCheckResult]

# Only what another attempt may change: networks and locks. A wrong input stays wrong.
again = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def materialize(context: dg.AssetExecutionContext, factory: Factory) -> Events:
    """Make the datasets behind the selected assets and partitions, and tell Dagster what came of it."""
    with explained(factory):
        names = wanted(context, factory)
        try:
            outcomes = factory.make(names, context.log) if names else []
        except RunFailed as failed:
            yield from whole(context, factory, failed.outcomes)
            raise
        yield from events(context, factory, outcomes)


def wanted(context: dg.AssetExecutionContext, factory: Factory) -> list[str]:
    """The names of the datasets this step is asked for."""
    partitions = context.partition_keys if context.assets_def.partitions_def else None
    return node_names(factory.workspace.graph, context.selected_asset_keys, partitions)


def events(context: dg.AssetExecutionContext, factory: Factory, outcomes: Sequence[Outcome]) -> Events:
    """Materializations with metadata and data version, then the checks, asset by asset."""
    partitioned = context.assets_def.partitions_def is not None
    for key in sorted(context.selected_asset_keys):
        own = [outcome for outcome in outcomes if asset_key(outcome.node) == key]
        by_partition: dict[str | None, list[Outcome]] = defaultdict(list)
        for outcome in own:
            by_partition[partition_key(outcome.node)].append(outcome)
        version = dg.DataVersion(combined_digest(own))
        if not partitioned or len(by_partition) == 1:
            yield dg.MaterializeResult(asset_key=key, metadata=describe(factory.workspace, own), data_version=version)
        else:
            yield dg.MaterializeResult(asset_key=key, data_version=version)
            yield from partition_events(context, factory, key, by_partition)
    for spec in context.assets_def.check_specs:
        if spec.key in context.selected_asset_check_keys:
            own = [outcome for outcome in outcomes if asset_key(outcome.node) == spec.asset_key]
            yield from check_results([spec.name], spec.asset_key, own)


def whole(context: dg.AssetExecutionContext, factory: Factory, outcomes: Sequence[Outcome]) -> Events:
    """Materializations of a step that fails: of the assets and partitions of which everything was made all the same."""
    passed = {outcome.node.name: outcome for outcome in outcomes if outcome.passed}
    asked: dict[tuple[dg.AssetKey, str | None], list[str]] = defaultdict(list)
    for name in wanted(context, factory):
        node = factory.workspace.graph[name]
        asked[asset_key(node), partition_key(node)].append(name)
    versions = code_versions(factory.recipe)
    for (key, partition), names in asked.items():
        if not passed.keys() >= set(names):
            continue
        own = [passed[name] for name in names]
        tags = {"dagster/data_version": combined_digest(own), "dagster/code_version": versions.get(key, "")}
        yield dg.AssetMaterialization(key, partition=partition, metadata=describe(factory.workspace, own), tags=tags)


def partition_events(
    context: dg.AssetExecutionContext,
    factory: Factory,
    key: dg.AssetKey,
    by_partition: dict[str | None, list[Outcome]],
) -> Iterator[dg.AssetMaterialization]:
    """A materialization of its own for each partition of a range: Dagster's stands for all with one data version."""
    latest = context.instance.get_latest_materialization_event(key)
    told = latest.asset_materialization if latest else None
    # Code version and the versions of what was read are the range's; the data version is the partition's own.
    shared = {name: value for name, value in ((told.tags if told else None) or {}).items() if "backfill" not in name}
    for partition, own in by_partition.items():
        tags = {**shared, "dagster/data_version": combined_digest(own)}
        yield dg.AssetMaterialization(key, partition=partition, metadata=describe(factory.workspace, own), tags=tags)


@contextmanager
def explained(factory: Factory) -> Iterator[None]:
    """A problem a person can act on fails the step with its message, and is tried again only where that may help."""
    try:
        yield
    except FactoryError as error:
        factory.problem = error
        transient = isinstance(error, LeaseHeld) or (
            isinstance(error, StoreError) and "://" in factory.workspace.store.url
        )
        raise dg.Failure(str(error), metadata={"kind": type(error).__name__}, allow_retries=transient) from None
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        # A retry policy would begin again what somebody at a terminal has just stopped.
        if not factory.attended:
            raise
        factory.problem = KeyboardInterrupt()
        raise dg.Failure("interrupted", allow_retries=False) from None
    except (OSError, dg.DagsterError) as error:
        factory.problem = error
        raise
    except Exception as error:  # a bug of ours: trying again shows it twice
        factory.problem = error
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
