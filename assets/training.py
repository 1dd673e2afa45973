"""The child process that trains proxies: `python -m assets.training`, started by the `proxies` asset.

It imports the protocol of Dagster Pipes, not Dagster. It reports progress while it works; at the end losses, the data
version and the checks. A problem a person can act on is reported with its message, and its exit status is the problem's.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from dagster_pipes import PipesContext, open_dagster_pipes

from factory.core.errors import FactoryError
from factory.core.fingerprint import digest_all
from factory.execution.choice import make_executor
from factory.recipes.failures import RunFailed
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Outcome, Workspace


class ReportedProgress:
    """Progress as messages to the parent, a few a second at most."""

    def __init__(self, pipes: PipesContext) -> None:
        self.pipes = pipes
        self.pending, self.told = 0, 0.0

    def start(self, label: str, total: int, unit: str) -> None:
        self.pipes.report_custom_message({"start": [label, total, unit]})

    def advance(self, amount: int) -> None:
        self.pending += amount
        if time.monotonic() - self.told > 0.2:
            self._tell()

    def finish(self) -> None:
        self._tell()
        self.pipes.report_custom_message({"finish": True})

    def note(self, line: str) -> None:
        self.pipes.report_custom_message({"note": [line]})

    def _tell(self) -> None:
        if self.pending:
            self.pipes.report_custom_message({"advance": [self.pending]})
        self.pending, self.told = 0, time.monotonic()


def main() -> int:
    _end_with_parent()
    with open_dagster_pipes() as pipes:
        recipe = load_recipe(os.environ["FACTORY_RECIPE"], store=os.environ.get("FACTORY_STORE") or None)
        workers = int(os.environ.get("FACTORY_WORKERS") or 0)
        try:
            executor = make_executor(os.environ.get("FACTORY_EXECUTOR") or "local", workers)
            how: dict[str, Any] = {"progress": ReportedProgress(pipes), "fail_fast": pipes.get_extra("fail_fast")}
            with Workspace(recipe, executor, **how) as workspace:
                outcomes = workspace.run(pipes.get_extra("datasets"), upstream=False)
        except RunFailed as error:
            pipes.report_custom_message({"failed": error.to_json()})
            return error.exit_code
        except FactoryError as error:
            pipes.report_custom_message({"problem": str(error), "kind": type(error).__name__})
            return error.exit_code
        _report(pipes, outcomes)
    return 0


def _report(pipes: PipesContext, outcomes: Sequence[Outcome]) -> None:
    digests = {outcome.node.name: outcome.manifest.digest for outcome in outcomes}
    version = next(iter(digests.values())) if len(digests) == 1 else _together(digests)
    pipes.report_asset_materialization(data_version=version, metadata=_metadata(outcomes))
    failed = [(outcome, check) for outcome in outcomes for check in outcome.checks if not check.passed]
    blocking = any(check.blocking for _, check in failed)
    told = [f"{outcome.node.name}: {check.text}" for outcome in outcomes for check in outcome.checks]
    pipes.report_asset_check(
        check_name="finite",
        passed=not failed,
        severity="ERROR" if blocking else "WARN",
        metadata={"runs": {"raw_value": "\n\n".join(told), "type": "md"}},
    )


def _together(digests: dict[str, str]) -> str:
    return digest_all(f"{name}={digest}" for name, digest in sorted(digests.items()))


def _metadata(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    records = {outcome.node.name: outcome.manifest.notes["record"] for outcome in outcomes}
    losses = [record["loss"] for record in records.values() if record["valid"]]
    rows = [f"| {name} | {record['loss']} | {record['tokens_seen']:,} |" for name, record in records.items()]
    return {
        "runs": {"raw_value": "\n".join(["| run | loss | tokens |", "| --- | --- | --- |", *rows]), "type": "md"},
        "models": len(records),
        "made": sum(outcome.made for outcome in outcomes),
        "training seconds": sum(record["seconds"] for record in records.values()),
        **({"loss": sum(losses) / len(losses)} if losses else {}),
    }


def _end_with_parent() -> None:
    """Training nobody waits for must not hold its lease: when the parent is gone, so is this process."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
