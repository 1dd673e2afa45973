"""Assets that judge an experiment: small models trained on its tokens in a process of their own, and their evaluations."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import dagster as dg

from assets.checks import check_specs
from assets.experiments import MIXTURE, TOKENIZER, TOKENS
from assets.making import Events, again, explained, materialize, partition_events, wanted, whole
from assets.nodes import code_versions, partition_key
from assets.partitions import experiments
from assets.resources import Factory, LoggedProgress
from assets.searches import pool_keys
from factory.core import errors
from factory.core.errors import FactoryError
from factory.recipes.failures import RunFailed
from factory.recipes.progress import Progress
from factory.recipes.recipe import Recipe

PROXIES = dg.AssetKey("proxies")
EVALUATIONS = dg.AssetKey("evaluations")
GPU = "gpu"


def proxy_assets(recipe: Recipe) -> list[dg.AssetsDefinition]:
    if recipe.tokenizer is None:
        return []
    return [_proxies(recipe), *([_evaluations(recipe)] if recipe.evaluate else [])]


def _proxies(recipe: Recipe) -> dg.AssetsDefinition:
    scale, seeds = recipe.proxy.scale, recipe.proxy.seeds
    # Seeds that draw documents of their own read a pool, by the mixture's plan.
    drawn = [MIXTURE, *pool_keys(recipe)] if any(one.proxy.redraw for one in recipe.experiments) else []

    @dg.asset(
        key=PROXIES,
        group_name="proxies",
        partitions_def=experiments(recipe),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[TOKENS, TOKENIZER, *drawn],
        kinds={"model", "pytorch"},
        pool=GPU,
        code_version=code_versions(recipe).get(PROXIES),
        check_specs=check_specs("proxies", PROXIES),
        retry_policy=again,
        description=f"Models of scale `{scale}` trained on the experiment's tokens, {seeds} seeds. Only the data differs.",
    )
    def proxies(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        with explained(factory):
            names = wanted(context, factory)
            missing = {status.node.name for status in factory.workspace.plan() if status.state != "cached"}
            if not missing.intersection(names):
                yield from materialize(context, factory)
                return
            try:
                results = train(context, factory, names)
            except RunFailed as failed:  # the others were made by the child
                lost = {*failed.skipped, *(failure.name for failure in failed.failures)}
                there = [name for name in names if name not in lost]
                yield from whole(context, factory, factory.make(there, context.log) if there else [])
                raise
            outcomes = factory.make(names, context.log)
            # They were made a moment ago, by the child.
            outcomes = [replace(outcome, made=outcome.node.name in missing) for outcome in outcomes]
            factory.outcomes.update({outcome.node.name: outcome for outcome in outcomes})
            yield from results
            by_partition: dict[str | None, list[Any]] = {}
            for outcome in outcomes:
                by_partition.setdefault(partition_key(outcome.node), []).append(outcome)
            if len(by_partition) > 1:
                yield from partition_events(context, factory, PROXIES, by_partition)

    return proxies


def _evaluations(recipe: Recipe) -> dg.AssetsDefinition:
    tasks = ", ".join(f"`{task.label}` ({task.use})" for task in recipe.evaluate)

    @dg.asset(
        key=EVALUATIONS,
        group_name="evaluations",
        partitions_def=experiments(recipe),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[PROXIES, TOKENIZER],
        kinds={"parquet"},
        pool=GPU,
        code_version=code_versions(recipe).get(EVALUATIONS),
        check_specs=check_specs("evaluations", EVALUATIONS),
        retry_policy=again,
        description=f"Every proxy on every task, item by item: {tasks}.",
    )
    def evaluations(context: dg.AssetExecutionContext, factory: dg.ResourceParam[Factory]) -> Events:
        yield from materialize(context, factory)

    return evaluations


def train(context: dg.AssetExecutionContext, factory: Factory, names: list[str]) -> list[Any]:
    """Train in a child process: torch stays out of this one, and its memory is given back. Returns what it reports."""
    reader = _LiveMessages(factory.progress or LoggedProgress(context.log.info))
    factory.workspace.executor.close()  # idle workers hold memory that training wants
    settings = replace(factory.settings, store=factory.recipe.store)
    try:
        invocation = dg.PipesSubprocessClient(message_reader=reader).run(
            context=context.op_execution_context,
            command=[sys.executable, "-m", "assets.training"],
            env=settings.environment(),
            extras={"datasets": names, "fail_fast": factory.fail_fast},
        )
    except Exception:  # of Pipes, whose errors are not Dagster's: the child has said what it stopped with
        if reader.problem is not None:
            raise reader.problem from None
        raise
    return list(invocation.get_results())


class _LiveMessages(dg.PipesTempFileMessageReader):
    """Passes progress on while the child works, and keeps the problem it stopped with."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.problem: FactoryError | None = None

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        with super().read_messages(cast(Any, _Tap(handler, self.hear))) as params:
            yield params

    def hear(self, payload: Mapping[str, Any]) -> None:
        if "failed" in payload:
            self.problem = RunFailed.from_json(payload["failed"])
        elif "problem" in payload:
            kind = getattr(errors, str(payload["kind"]), FactoryError)
            self.problem = FactoryError(payload["problem"]) if kind is errors.RecipeError else kind(payload["problem"])
        for verb in ("start", "advance", "note"):
            if verb in payload:
                getattr(self.progress, verb)(*payload[verb])
        if "finish" in payload:
            self.progress.finish()


class _Tap:
    """A message handler that lets one more listener hear the custom messages."""

    def __init__(self, handler: Any, hear: Any) -> None:
        self._handler, self._hear = handler, hear

    def handle_message(self, message: Mapping[str, Any]) -> None:
        if message["method"] == "report_custom_message":
            self._hear(message["params"]["payload"])
        else:
            self._handler.handle_message(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)
