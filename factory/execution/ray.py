"""The same tasks on an existing Ray cluster. The only module that imports ray.

Ray moves tasks to machines where this package is installed. Everything else is as on one machine: results are plain data,
a dead worker's task is tried again, after two deaths it runs carefully, and the row that kills is handed to it as poison.
A small actor, the logbook, outlives workers: they tell it which row is next, and what a person may want to see.
"""

import contextlib
import itertools
import json
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil

from factory.core.errors import FactoryError, TaskFailed
from factory.execution.failures import describe, failure
from factory.execution.local import ATTEMPTS_BEFORE_CARE, LOOK_SECONDS, POISON_ROWS_PER_TASK, Limits
from factory.execution.tasks import POISON, Context, OnFailed, Task, give_up, resolve


@dataclass
class _Attempt:
    task: Task
    deaths: int = 0
    poison: dict[int, str] = field(default_factory=dict)
    number: int = 0  # of this try, among all of this executor


class RayExecutor:
    """Runs tasks on the cluster at `address` ("auto" for the one this machine belongs to)."""

    def __init__(self, address: str = "auto", *, limits: Limits | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise FactoryError("executor 'ray' needs the package ray: pip install 'corpus-factory[ray]'.") from error
        self._ray = ray
        self._joined = not ray.is_initialized()
        if self._joined:
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level="error")
            except OSError as error:
                raise FactoryError(
                    f"no Ray cluster answers at '{address}': {str(error).rstrip('.')}. Start one with 'ray start --head'."
                ) from error
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._limits = limits or Limits()
        self._numbers = itertools.count()
        self._logbook = ray.remote(num_cpus=0)(_Logbook).remote()
        # Ray must not retry by itself: an attempt that died has to be counted, and told which rows are poison.
        self._run = ray.remote(num_cpus=1, max_retries=0)(_run_task)

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; it goes on without us."""
        if self._ray.is_initialized():
            self._ray.kill(self._logbook)
            if self._joined:
                self._ray.shutdown()

    def run(
        self,
        tasks: Iterable[Task],
        on_done: Callable[[Task, dict[str, Any]], None],
        on_report: Callable[[Task, Mapping[str, Any]], None] = lambda task, message: None,
        on_failed: OnFailed = give_up,
    ) -> None:
        """Run all tasks, largest first; one that cannot be done goes to `on_failed`, which raises if not told otherwise."""
        waiting = [_Attempt(task) for task in sorted(tasks, key=lambda task: -task.weight)]
        running: dict[Any, _Attempt] = {}
        try:
            while waiting or running:
                while waiting and len(running) < 2 * self.workers:
                    attempt = waiting.pop(0)
                    running[self._start(attempt)] = attempt
                ready, _ = self._ray.wait(list(running), num_returns=1, timeout=LOOK_SECONDS)
                self._pass_on(running.values(), on_report)
                for reference in ready:
                    attempt = running.pop(reference)
                    try:
                        told = self._outcome(reference, attempt)
                    except TaskFailed as error:
                        on_failed(attempt.task, error)
                        continue
                    if told is None:
                        waiting.insert(0, attempt)
                    elif "failed" in told:
                        on_failed(attempt.task, failure(attempt.task, told["failed"]))
                    else:
                        on_done(attempt.task, told["done"])
        finally:
            for reference in running:
                with contextlib.suppress(Exception):  # the cluster may be gone, which is why we are here
                    self._ray.cancel(reference, force=True)

    def _start(self, attempt: _Attempt) -> Any:
        attempt.number = next(self._numbers)
        task, careful = attempt.task, attempt.deaths >= ATTEMPTS_BEFORE_CARE
        order = (task.function, dict(task.payload), careful, dict(attempt.poison), self._limits)
        return self._run.remote(self._logbook, attempt.number, *order)

    def _outcome(self, reference: Any, attempt: _Attempt) -> dict[str, Any] | None:
        """What the worker said, or None when it died and the task is to be tried again."""
        exceptions = self._ray.exceptions
        try:
            told: dict[str, Any] = json.loads(self._ray.get(reference))
            return told
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError) as error:
            self._after_death(attempt, type(error).__name__)
            return None
        except exceptions.RayTaskError as error:
            # Not from the task, whose errors are told: from a machine that cannot run it, for want of our package.
            raise TaskFailed(f"{attempt.task.name}: {error.as_instanceof_cause()}") from error

    def _after_death(self, attempt: _Attempt, how: str) -> None:
        row, reason = self._ray.get(self._logbook.close.remote(attempt.number))
        careful = attempt.deaths >= ATTEMPTS_BEFORE_CARE
        attempt.deaths += 1
        if not careful:
            return
        name, how = attempt.task.name, reason or how
        if row is None or row in attempt.poison:
            raise TaskFailed(f"{name}: its worker died {attempt.deaths} times, last {how}, outside of any record.")
        attempt.poison[row] = reason or POISON
        if len(attempt.poison) > POISON_ROWS_PER_TASK:
            raise TaskFailed(f"{name}: more than {POISON_ROWS_PER_TASK} records kill their worker, last {how}.")

    def _pass_on(self, running: Iterable[_Attempt], on_report: Callable[[Task, Mapping[str, Any]], None]) -> None:
        tasks = {attempt.number: attempt.task for attempt in running}
        for number, message in self._ray.get(self._logbook.take_reports.remote()):
            if number in tasks:
                on_report(tasks[number], message)


def _knock(address: str) -> None:
    """Raise OSError when nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class _Logbook:
    """By attempt: the row it is at, and why it was stopped. And the reports nobody has read yet."""

    def __init__(self) -> None:
        self.rows: dict[int, int | None] = {}
        self.reasons: dict[int, str] = {}
        self.reports: list[tuple[int, dict[str, Any]]] = []

    def at(self, attempt: int, row: int | None) -> None:
        self.rows[attempt] = row

    def stopped(self, attempt: int, reason: str) -> None:
        self.reasons[attempt] = reason

    def report(self, attempt: int, message: dict[str, Any]) -> None:
        self.reports.append((attempt, message))

    def take_reports(self) -> list[tuple[int, dict[str, Any]]]:
        taken, self.reports = self.reports, []
        return taken

    def close(self, attempt: int) -> tuple[int | None, str]:
        return self.rows.pop(attempt, None), self.reasons.pop(attempt, "")


def _run_task(
    logbook: Any,
    attempt: int,
    function: str,
    payload: dict[str, Any],
    careful: bool,
    poison: dict[int, str],
    limits: Limits,
) -> str:
    import ray

    with _limited(limits, lambda reason: ray.get(logbook.stopped.remote(attempt, reason))) as alive:

        def at(row: int | None) -> None:
            alive()
            if careful:
                ray.get(logbook.at.remote(attempt, row))

        def report(message: Mapping[str, Any]) -> None:
            alive()
            ray.get(logbook.report.remote(attempt, dict(message)))

        try:
            context = Context(careful=careful, poison=poison, at=at, report=report)
            return json.dumps({"done": resolve(function)(payload, context)})
        except Exception as error:
            return json.dumps({"failed": describe(error)})


@contextlib.contextmanager
def _limited(limits: Limits, stopping: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """End this process over its memory, or without a sign of life (the yielded function) for too many CPU seconds."""
    process, done = psutil.Process(), threading.Event()
    mark = [_cpu_seconds()]

    def alive() -> None:
        mark[0] = _cpu_seconds()
        # The kernel's limit also ends code that never lets the watching thread run; it comes a little later.
        _limit_cpu(int(mark[0] + 1.5 * limits.cpu_seconds) + 2)

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            reason = ""
            if process.memory_info().rss > limits.memory:
                reason = f"memory over {limits.memory / 2**30:.1f} GiB"
            elif _cpu_seconds() - mark[0] > limits.cpu_seconds:
                reason = f"more than {limits.cpu_seconds:.0f} CPU seconds without progress"
            if reason:
                stopping(reason)
                os.kill(os.getpid(), 9)

    alive()
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield alive
    finally:
        done.set()
        _limit_cpu(resource.RLIM_INFINITY)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _limit_cpu(seconds: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = hard if seconds == resource.RLIM_INFINITY else seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
