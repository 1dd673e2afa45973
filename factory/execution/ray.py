"""The same tasks on an existing Ray cluster. The only module that imports ray.

Ray moves tasks to machines; isolation of poison rows is the same as on one machine: after two dead workers the task runs
carefully in a task that says before each row where it is, through a small actor that outlives the worker.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from factory.core.errors import FactoryError, TaskFailed
from factory.execution.tasks import Context, Task, resolve

ATTEMPTS_BEFORE_CARE = 2
POISON_ROWS_PER_TASK = 100


class RayExecutor:
    """Runs tasks on the cluster at `address` ("auto" for the one this machine belongs to)."""

    def __init__(self, address: str = "auto") -> None:
        try:
            import ray
        except ImportError as error:
            raise FactoryError("executor 'ray' needs the package ray: pip install 'corpus-factory[ray]'.") from error
        self._ray = ray
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False)
            except ConnectionError as error:
                raise FactoryError(
                    f"no Ray cluster answers at '{address}': {error}. Start one with 'ray start --head'."
                ) from error
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._whereabouts = ray.remote(num_cpus=0)(_Whereabouts).remote()
        self._run = ray.remote(num_cpus=1, max_retries=0)(_run_task)

    def close(self) -> None:
        """Leave the cluster; it goes on without us."""
        self._ray.kill(self._whereabouts)

    def run(
        self,
        tasks: Iterable[Task],
        on_done: Callable[[Task, dict[str, Any]], None],
        on_report: Callable[[Task, Mapping[str, Any]], None] = lambda task, message: None,
    ) -> None:
        """Run all tasks, largest first; raises FactoryError of the first task that cannot be done."""
        ray = self._ray
        deaths: dict[str, int] = {}
        poison: dict[str, dict[int, str]] = {}
        waiting = sorted(tasks, key=lambda task: -task.weight)
        running: dict[Any, Task] = {}
        while waiting or running:
            while waiting and len(running) < 2 * self.workers:
                task = waiting.pop(0)
                careful = deaths.get(task.name, 0) >= ATTEMPTS_BEFORE_CARE
                order = (
                    task.name,
                    task.function,
                    dict(task.payload),
                    careful,
                    poison.get(task.name, {}),
                    self._whereabouts,
                )
                running[self._run.remote(*order)] = task
            (ready,), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(ready)
            try:
                on_done(task, ray.get(ready))
            except ray.exceptions.RayTaskError as error:
                cause = error.as_instanceof_cause()
                raise (cause if isinstance(cause, FactoryError) else TaskFailed(f"{task.name}: {cause}")) from error
            except (
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.OutOfMemoryError,
                ray.exceptions.NodeDiedError,
            ) as error:
                self._after_death(task, deaths, poison, type(error).__name__)
                waiting.insert(0, task)

    def _after_death(self, task: Task, deaths: dict[str, int], poison: dict[str, dict[int, str]], how: str) -> None:
        deaths[task.name] = deaths.get(task.name, 0) + 1
        if deaths[task.name] <= ATTEMPTS_BEFORE_CARE:
            return
        rows = poison.setdefault(task.name, {})
        row = self._ray.get(self._whereabouts.get.remote(task.name))
        if row is None or row in rows or len(rows) >= POISON_ROWS_PER_TASK:
            raise TaskFailed(
                f"{task.name}: its worker died {deaths[task.name]} times, last {how}; {len(rows)} records isolated."
            )
        rows[row] = how


class _Whereabouts:
    """Which row each careful task is at."""

    def __init__(self) -> None:
        self.rows: dict[str, int | None] = {}

    def at(self, name: str, row: int | None) -> None:
        self.rows[name] = row

    def get(self, name: str) -> int | None:
        return self.rows.get(name)


def _run_task(
    name: str, function: str, payload: dict[str, Any], careful: bool, poison: dict[int, str], whereabouts: Any
) -> dict[str, Any]:
    import ray

    def at(row: int | None) -> None:
        if careful:
            ray.get(whereabouts.at.remote(name, row))

    return resolve(function)(payload, Context(careful=careful, poison=poison, at=at))
