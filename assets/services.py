"""Dagster's own programs on one recipe: the UI with its daemon, and backfills that the daemon carries out.

Everything listens on loopback only. Both programs read the settings from the environment this module gives them.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.instance.ref import InstanceRef

from assets.automation import judge_keys, prepare_keys
from assets.instance import prepare_home
from assets.nodes import asset_key, partition_key
from assets.partitions import SNAPSHOT, experiments
from assets.resources import Settings, settings_for
from factory.core.errors import FactoryError, InputError, suggest
from factory.recipes.progress import Progress, Silent
from factory.recipes.recipe import Recipe
from factory.recipes.workspace import Status, Workspace

HOST, PORT = "127.0.0.1", 3000
DBT_PROJECT = Path(__file__).parent.parent / "dbt_project"
HEARTBEAT_SECONDS = 90
POLL_SECONDS = 2.0
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}"""


def ui(recipe_path: str, *, store: str | None = None, workers: int = 0, port: int = PORT) -> int:
    """Show and run this recipe in Dagster's UI until interrupted; returns the exit status."""
    settings = settings_for(recipe_path, store, workers)
    recipe = settings.load()
    home = prepare_home(recipe)
    _register(recipe, home)
    command = [*_program("dagster"), "dev", "-w", _workspace_file(home), "-h", HOST, "-p", str(port)]
    # `dg dev` does not read a workspace of another folder; the older spelling does, and says it is older.
    environment = {**_environment(settings, home), "PYTHONWARNINGS": "ignore"}
    with _interruptible(), subprocess.Popen(command, env=environment, cwd=home) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            _stop(process)
            return 0


def ui_command(recipe_path: str, *, store: str | None = None, port: int = PORT) -> str:
    """What to type to open the UI on this recipe."""
    pieces = ["factory", "ui", "--recipe", recipe_path, *(["--store", store] if store else [])]
    return shlex.join([*pieces, *(["--port", str(port)] if port != PORT else [])])


def backfill(
    recipe_path: str,
    *,
    store: str | None = None,
    workers: int = 0,
    memory: str | None = None,
    snapshots: Sequence[str] | None = None,
    experiments: Sequence[str] | None = None,
    select: Sequence[str] | None = None,
    dry_run: bool = False,
    wait: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make snapshots, or experiments, by Dagster's own backfill (none named: all snapshots); returns what came of it.

    `select` narrows it to datasets by name or kind (`scores/words`, `decisions`). Without a running daemon one is started
    for as long as it takes; with `wait` off it has to be running already.
    """
    settings = settings_for(recipe_path, store, workers)
    settings = replace(settings, memory=memory or settings.memory)
    recipe, progress = settings.load(), progress or Silent()
    if snapshots and experiments:
        raise FactoryError("A backfill is of snapshots or of experiments. Start two, snapshots first.")
    with Workspace(recipe) as workspace:
        wanted = _partitions(recipe, workspace, snapshots, experiments)
        keys = _assets(workspace, select, of_experiments=bool(experiments))
        plan = {status.node.name: status.state for status in _concerned(workspace, keys, wanted)}
    asked = {"partitions": wanted, "assets": [key.to_user_string() for key in keys], "datasets": plan}
    if dry_run:
        return {**asked, "state": "planned"}
    home = prepare_home(recipe)
    _register(recipe, home)
    with _instance(home) as instance, _daemon(instance, settings, home, needed=wait):
        identity = _launch(settings, home, keys, wanted)
        if not wait:
            return {**asked, "id": identity, "state": "requested"}
        return {**asked, "id": identity, **_follow(instance, identity, progress)}


# --- what is asked


def _partitions(
    recipe: Recipe, workspace: Workspace, snapshots: Sequence[str] | None, labels: Sequence[str] | None
) -> list[str]:
    known = experiments(recipe).get_partition_keys() if labels else workspace.snapshots
    wanted = list(labels or snapshots or known)
    for name in wanted:
        if name not in known:
            raise InputError(
                f"'{name}' is not one of the recipe's {'experiments' if labels else 'snapshots'}.{suggest(name, known)}"
            )
    return wanted


def _assets(workspace: Workspace, select: Sequence[str] | None, *, of_experiments: bool) -> list[dg.AssetKey]:
    every = judge_keys(workspace.recipe) if of_experiments else prepare_keys(workspace.recipe)
    if not select:
        return every
    chosen = {asset_key(node) for node in workspace.select(select, upstream=False)}
    found = [key for key in every if key in chosen]
    if not found:
        kind = "experiments" if of_experiments else "snapshots"
        raise FactoryError(f"{', '.join(select)}: nothing that a backfill of {kind} makes.{_those(every)}")
    return found


def _those(keys: Sequence[dg.AssetKey]) -> str:
    return suggest("", [key.to_user_string() for key in keys])


def _concerned(workspace: Workspace, keys: Sequence[dg.AssetKey], partitions: Sequence[str]) -> Iterator[Status]:
    for status in workspace.plan():
        of = partition_key(status.node)
        if asset_key(status.node) in keys and (of is None or of in partitions):
            yield status


# --- the programs


def _program(name: str) -> list[str]:
    """A console script of this interpreter's environment."""
    return [str(Path(sys.executable).with_name(name))]


def _environment(settings: Settings, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        **settings.environment(),
        "DAGSTER_HOME": str(home),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def _workspace_file(home: Path) -> str:
    """The code locations: this package, and dbt's where its project lies beside it."""
    modules = {
        "factory": "assets.definitions",
        **({"analytics": "assets.analytics.definitions"} if DBT_PROJECT.exists() else {}),
    }
    lines = [f"  - python_module: {{module_name: {module}, location_name: {name}}}" for name, module in modules.items()]
    path = home / "workspace.yaml"
    path.write_text("\n".join(["load_from:", *lines, ""]), encoding="utf-8")
    return str(path)


@contextmanager
def _instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as instance:
        yield instance


def _register(recipe: Recipe, home: Path) -> None:
    with Workspace(recipe) as workspace, _instance(home) as instance:
        instance.add_dynamic_partitions(SNAPSHOT, workspace.snapshots)


@contextmanager
def _daemon(instance: dg.DagsterInstance, settings: Settings, home: Path, *, needed: bool) -> Iterator[None]:
    """A daemon that carries out backfills: the one that is there, or one of our own."""
    if _heartbeat(instance):
        yield
        return
    if not needed:
        raise FactoryError(
            "No Dagster daemon is running to carry out the backfill. Start 'factory ui', or wait for it here."
        )
    with _interruptible(), open(home / "daemon.log", "ab") as log:
        process = subprocess.Popen(
            [*_program("dagster-daemon"), "run", "-w", _workspace_file(home)],
            env=_environment(settings, home),
            cwd=home,
            stdout=log,
            stderr=log,
        )
        try:
            yield
            if process.poll() is not None:
                raise FactoryError(f"The Dagster daemon stopped. {home / 'daemon.log'} says why.")
        finally:
            _stop(process)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and a polite kill both end what runs here, even where a shell told its background jobs to ignore them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _heartbeat(instance: dg.DagsterInstance) -> bool:
    beats = instance.get_daemon_heartbeats()
    return "BACKFILL" in beats and time.time() - beats["BACKFILL"].timestamp < HEARTBEAT_SECONDS


def _launch(settings: Settings, home: Path, keys: Sequence[dg.AssetKey], partitions: Sequence[str]) -> str:
    """Ask for the backfill through Dagster's API; returns its id."""
    params = {
        "assetSelection": [{"path": list(key.path)} for key in keys],
        "partitionNames": list(partitions),
        "title": f"{len(partitions)} partitions of {len(keys)} assets",
        "tags": [{"key": "factory/recipe", "value": os.path.basename(settings.recipe)}],
    }
    answer = home / f"answer-{os.getpid()}.json"
    command = [*_program("dagster-graphql"), "-w", _workspace_file(home), "-t", LAUNCH]
    command += ["-v", json.dumps({"params": params}), "-o", str(answer)]
    try:
        done = subprocess.run(
            command, env=_environment(settings, home), cwd=home, capture_output=True, text=True, check=False
        )
        if not answer.exists():
            raise FactoryError(f"Dagster did not take the backfill: {(done.stderr or done.stdout).strip()[-800:]}")
        told = json.loads(answer.read_text(encoding="utf-8"))
    finally:
        answer.unlink(missing_ok=True)
    result: Mapping[str, Any] = (told.get("data") or {}).get("launchPartitionBackfill") or {}
    if "backfillId" not in result:
        raise FactoryError(f"Dagster did not take the backfill: {result.get('message') or told.get('errors')}")
    return str(result["backfillId"])


def _follow(instance: dg.DagsterInstance, identity: str, progress: Progress) -> dict[str, Any]:
    """Wait for the backfill to end, showing how many of its partitions are made."""
    total, told = 0, 0
    while True:
        found = instance.get_backfill(identity)
        assert found is not None
        total_now, done = _counts(found)
        if total_now and not total:
            total = total_now
            progress.start("backfill", total, "partitions")
        progress.advance(min(done, total) - told)
        told = min(done, total)
        if found.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING):
            break
        time.sleep(POLL_SECONDS)
    if total:
        progress.finish()
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": identity}))
    failed = [run for run in runs if run.status == dg.DagsterRunStatus.FAILURE]
    state = found.status.value.lower()
    if found.status != BulkActionStatus.COMPLETED_SUCCESS or failed:
        raise FactoryError(f"The backfill {identity} ended as {state}: {_first_cause(instance, failed) or found.error}")
    return {"state": state, "runs": len(runs)}


def _counts(found: Any) -> tuple[int, int]:
    """Partitions asked for, and those that are made or given up."""
    data = found.asset_backfill_data
    if data is None:
        return 0, 0
    done = data.materialized_subset.num_partitions_and_non_partitioned_assets
    done += data.failed_and_downstream_subset.num_partitions_and_non_partitioned_assets
    return data.target_subset.num_partitions_and_non_partitioned_assets, done


def _first_cause(instance: dg.DagsterInstance, failed: Sequence[dg.DagsterRun]) -> str:
    for run in failed:
        for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
            event = record.event_log_entry.dagster_event
            data = event.step_failure_data if event else None
            if data is not None:
                told = data.user_failure_data.description if data.user_failure_data else None
                return told or (data.error.message if data.error else "") or ""
    return ""
