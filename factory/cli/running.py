"""Making datasets, through the orchestrator so that it is recorded, or directly; and what was done, told the same way."""

import time
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from factory.core.errors import FactoryError, LedgerError, suggest
from factory.core.sizes import DEFAULT_MEMORY

GROUP = "factory.orchestrator"


def orchestrator(name: str = "dagster") -> Any:
    """The installed orchestrator, a module with `run`, `ui` and `backfill`; found by entry point, so that none is imported."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise FactoryError(
            f"No orchestrator '{name}' is installed.{suggest(name, found)} Install the project again (pip install -e .), or "
            "run with --direct."
        )
    return found[name].load()


def run(
    recipe: str,
    store: str | None,
    *,
    workers: int,
    names: Iterable[str] | None,
    direct: bool,
    executor: str = "local",
    memory: str = DEFAULT_MEMORY,
    fail_fast: bool = False,
) -> dict[str, Any]:
    """Make what is not there and say what was done. Raises FactoryError; LedgerError when books or a gate do not hold."""
    from factory.cli.options import open_workspace
    from factory.recipes.status import ledger

    started = time.monotonic()
    place = executor if direct else "local"
    with open_workspace(recipe, store, workers=workers, executor=place, memory=memory) as workspace:
        nodes = workspace.select(names) if names else list(workspace.graph.values())
        chosen = [node.name for node in nodes]
        if not direct:  # directly, the run does it itself
            workspace.require_fit(nodes)
        before = _manifests(workspace)
        if direct:
            workspace.fail_fast = fail_fast
            for outcome in workspace.run(names):
                if not outcome.passed:
                    raise LedgerError(outcome.why)
        else:
            launch = orchestrator()
            launch.run(
                recipe,
                store=store,
                workers=workers,
                executor=executor,
                memory=memory,
                names=names,
                progress=workspace.progress,
                fail_fast=fail_fast,
            )
        after = _manifests(workspace)
        missing = [name for name in chosen if name not in after]
        if missing:
            raise LedgerError(
                f"{missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''} did not pass, or was not made. "
                "'factory plan' shows what waits for what."
            )
        books = ledger(workspace)
        if books["problems"]:
            raise LedgerError("The ledger does not balance: " + "; ".join(books["problems"]))
        return {
            "recipe": workspace.recipe.name,
            "store": workspace.store.url,
            "made": [_line(workspace, name) for name in chosen if _is_new(before.get(name), after[name])],
            "cached": [name for name in chosen if not _is_new(before.get(name), after[name])],
            "seconds": round(time.monotonic() - started, 1),
            "ledger": books,
        }


def _manifests(workspace: Any) -> dict[str, tuple[str, Any]]:
    """Of every current dataset: where its manifest lies, and when it was made (the same one can be made again)."""
    from factory.recipes.lookup import Current

    current = Current(workspace)
    return {
        name: (item["manifest"], manifest.run)
        for name, item in current.pointers.items()
        if (manifest := current.find(item["kind"], item["label"], item["partition"])) is not None
    }


def _is_new(before: tuple[str, Any] | None, after: tuple[str, Any]) -> bool:
    return before != after


def _line(workspace: Any, name: str) -> dict[str, Any]:
    from factory.recipes.explain import split_name

    manifest = workspace.need(*split_name(name))
    return {"name": name, "rows": manifest.rows, "bytes": manifest.bytes, "digest": manifest.digest}
