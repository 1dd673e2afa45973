"""Where Dagster remembers: an instance beside the store, with telemetry off and pools for what must not run twice at once."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
from dagster._core.instance.ref import InstanceRef

from assets.resources import read_dagster_home
from factory.core.errors import StoreError
from factory.recipes.recipe import Recipe

POOLS = {"gpu": 1, "duckdb": 1}
PID, HOST = "factory/pid", "factory/host"

# The content of deploy/dagster.yaml: a laptop needs no file from there.
DAGSTER_YAML = """\
# Dagster on one machine: SQLite beside the store. deploy/dagster.postgres.yaml is for several.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 2
  pools:
    granularity: op
    default_limit: 4
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  # Without it the slot of a run that was killed is never free again.
  free_slots_after_run_end_seconds: 120
run_retries:
  enabled: true
  max_retries: 1
  # Steps have their own retry policies; the two would multiply.
  retry_on_asset_or_op_failure: false
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 7
      failure: 30
      success: -1
"""


def dagster_home(recipe: Recipe) -> Path:
    """DAGSTER_HOME where it is given, else a folder in the store; beside the recipe where the store is remote."""
    given = read_dagster_home()
    if given:
        return Path(given)
    return Path(recipe.folder) / ".dagster" if "://" in recipe.store else Path(recipe.store) / "dagster"


def prepare_home(recipe: Recipe) -> Path:
    """The home with its dagster.yaml; one that is there is left as it is."""
    home = dagster_home(recipe)
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            (home / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")
            with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as instance:
                for pool, limit in POOLS.items():
                    instance.event_log_storage.set_concurrency_slots(pool, limit)
    except OSError as error:
        raise StoreError(
            f"{home}: {error.strerror}. Dagster keeps its runs there; set DAGSTER_HOME to another folder."
        ) from error
    return home


@contextmanager
def open_instance(recipe: Recipe) -> Iterator[dg.DagsterInstance]:
    """The instance for runs in this process: what steps print goes to the terminal, not through Dagster's files."""
    quiet = {
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    }
    ref = InstanceRef.from_dir(str(prepare_home(recipe)), overrides=quiet)
    with dg.DagsterInstance.from_ref(ref) as instance:
        end_dead_runs(instance)
        yield instance


def own_tags() -> dict[str, str]:
    """Which process a run lives in: no daemon watches over the runs of a command line."""
    return {PID: str(os.getpid()), HOST: platform.node()}


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Runs whose process was killed are failed, and what they held of a pool is free again."""
    status = dg.DagsterRunStatus
    unfinished = [status.NOT_STARTED, status.STARTING, status.STARTED]
    running = dg.RunsFilter(statuses=unfinished, tags={HOST: platform.node()})
    for run in instance.get_runs(running):
        pid = int(run.tags.get(PID, 0))
        if pid and pid != os.getpid() and not psutil.pid_exists(pid):
            instance.report_run_failed(run, message=f"The process {pid} that ran it is gone.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
