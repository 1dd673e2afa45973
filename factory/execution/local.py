"""Supervised processes on this machine.

A worker that dies is noticed at once (its socket closes), replaced, and its task tried again; after two deaths the task
runs carefully, one row at a time, and the row that kills the worker is handed to the task as poison. Limits are on memory
and CPU time, never on wall-clock time: a result must not depend on how busy the machine is.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import psutil

from factory.core.errors import FactoryError, TaskFailed
from factory.execution.failures import failure
from factory.execution.tasks import POISON, OnFailed, Task, give_up

READ_ONLY = {"PYTHAINLP_READ_ONLY": "1"}  # it would make a folder in the user's home
# Memory that was used is kept for the next batch: a training step otherwise spends a tenth of its time in page faults.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
ATTEMPTS_BEFORE_CARE = 2
POISON_ROWS_PER_TASK = 100
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Limits:
    """Per worker: resident memory in bytes, and CPU seconds from one sign of life to the next."""

    memory: int = 6 << 30
    cpu_seconds: float = 600.0


@dataclass
class _Attempt:
    task: Task
    deaths: int = 0
    poison: dict[int, str] = field(default_factory=dict)

    @property
    def careful(self) -> bool:
        return self.deaths >= ATTEMPTS_BEFORE_CARE


class _Worker:
    def __init__(self, threads: int) -> None:
        ours, theirs = socket.socketpair()
        self.log: IO[bytes] = tempfile.TemporaryFile(prefix="factory-worker-")  # noqa: SIM115 (lives as long as the worker)
        command = [sys.executable, "-m", "factory.execution.worker", str(theirs.fileno()), str(threads)]
        environment = {
            **os.environ,
            **MEMORY,
            **READ_ONLY,
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=environment,
        )
        theirs.close()
        self.socket = ours
        self.buffer = b""
        self.attempt: _Attempt | None = None
        self.row: int | None = None
        self.cpu_mark = 0.0
        self.killed_for = ""
        self.usage = psutil.Process(self.process.pid)

    def start(self, attempt: _Attempt) -> None:
        self.attempt, self.row = attempt, None
        self.cpu_mark = self._cpu()
        order = {
            "function": attempt.task.function,
            "payload": attempt.task.payload,
            "careful": attempt.careful,
            "poison": attempt.poison,
        }
        with contextlib.suppress(OSError):  # dead already: the closed socket tells it next
            self.socket.sendall(json.dumps(order).encode() + b"\n")

    def messages(self) -> list[dict[str, Any]] | None:
        """What the worker said since; None when it is gone."""
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.cpu_mark = self._cpu()
        return [json.loads(line) for line in lines]

    def hang_up_if_dead(self) -> None:
        """A child it left behind may hold the other end of the socket open; what was said before is still read."""
        if self.process.poll() is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RD)

    def over_limit(self, limits: Limits) -> str:
        """Why this worker must be stopped, or nothing."""
        if self.attempt is None:
            return ""
        try:
            memory = self.usage.memory_info().rss
        except psutil.Error:
            return ""
        if memory > limits.memory:
            return f"memory over {limits.memory / 2**30:.1f} GiB"
        if self._cpu() - self.cpu_mark > limits.cpu_seconds:
            return f"more than {limits.cpu_seconds:.0f} CPU seconds without progress"
        return ""

    def kill(self, reason: str = "") -> None:
        self.killed_for = reason or self.killed_for
        with contextlib.suppress(OSError):
            self.process.kill()

    def last_words(self) -> str:
        """How it died: the limit it broke or its signal, and the end of what it printed."""
        code = self.process.wait()
        how = self.killed_for or (f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}")
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 400))
        printed = self.log.read().decode(errors="replace").strip()
        return f"{how}" + (f" ({printed[-300:]})" if printed and not self.killed_for else "")

    def close(self) -> None:
        self.kill()
        self.process.wait()
        self.socket.close()
        self.log.close()

    def _cpu(self) -> float:
        try:
            times = self.usage.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)


class LocalExecutor:
    """A pool of `workers` processes, started when first needed and kept until `close`."""

    def __init__(self, workers: int = 0, *, limits: Limits | None = None, threads: int = 1) -> None:
        self.workers = workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else workers or 1
        self.limits = limits or Limits()
        self.threads = threads
        self._pool: list[_Worker] = []

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all workers."""
        while self._pool:
            self._pool.pop().close()

    def run(
        self,
        tasks: Iterable[Task],
        on_done: Callable[[Task, dict[str, Any]], None],
        on_report: Callable[[Task, Mapping[str, Any]], None] = lambda task, message: None,
        on_failed: OnFailed = give_up,
    ) -> None:
        """Run all tasks, largest first; one that cannot be done goes to `on_failed`, which raises if not told otherwise."""
        waiting = [_Attempt(task) for task in sorted(tasks, key=lambda task: -task.weight)]
        looked = time.monotonic()
        try:
            while waiting or any(worker.attempt for worker in self._pool):
                self._hand_out(waiting)
                with selectors.DefaultSelector() as selector:
                    for worker in self._pool:
                        selector.register(worker.socket, selectors.EVENT_READ, worker)
                    ready = [key.data for key, _ in selector.select(LOOK_SECONDS)]
                for worker in ready:
                    self._listen(worker, waiting, on_done, on_report, on_failed)
                if time.monotonic() - looked >= LOOK_SECONDS:
                    looked = time.monotonic()
                    for worker in self._pool:
                        worker.hang_up_if_dead()
                        if reason := worker.over_limit(self.limits):
                            worker.kill(reason)
        except BaseException:
            self.close()
            raise

    def _hand_out(self, waiting: list[_Attempt]) -> None:
        for worker in self._pool:
            if waiting and worker.attempt is None:
                worker.start(waiting.pop(0))
        while waiting and len(self._pool) < self.workers:
            self._pool.append(_Worker(self.threads))
            self._pool[-1].start(waiting.pop(0))

    def _listen(
        self,
        worker: _Worker,
        waiting: list[_Attempt],
        on_done: Callable[[Task, dict[str, Any]], None],
        on_report: Callable[[Task, Mapping[str, Any]], None],
        on_failed: OnFailed,
    ) -> None:
        messages = worker.messages()
        if messages is None:
            self._bury(worker, waiting, on_failed)
            return
        for message in messages:
            attempt = worker.attempt
            if attempt is None:
                continue
            if "at" in message:
                worker.row = message["at"]
            elif "report" in message:
                on_report(attempt.task, message["report"])
            elif "done" in message:
                worker.attempt = None
                on_done(attempt.task, message["done"])
            elif "failed" in message:
                worker.attempt = None
                on_failed(attempt.task, failure(attempt.task, message["failed"]))

    def _bury(self, worker: _Worker, waiting: list[_Attempt], on_failed: OnFailed) -> None:
        """A worker died: its task goes back to the queue, or, when nothing more can be tried, fails."""
        self._pool.remove(worker)
        attempt, row, how = worker.attempt, worker.row, worker.last_words()
        worker.close()
        if attempt is None:
            return
        if (error := _after_death(attempt, row, how, worker.killed_for)) is not None:
            on_failed(attempt.task, error)
            return
        attempt.deaths += 1
        waiting.insert(0, attempt)


def _after_death(attempt: _Attempt, row: int | None, how: str, killed_for: str) -> FactoryError | None:
    """Remember the row that kills a careful worker; returns why nothing more can be tried, if so."""
    if not attempt.careful:
        return None
    name = attempt.task.name
    if row is None or row in attempt.poison:
        return TaskFailed(f"{name}: its worker died {attempt.deaths + 1} times, last {how}, outside of any record.")
    attempt.poison[row] = killed_for or POISON
    if len(attempt.poison) > POISON_ROWS_PER_TASK:
        return TaskFailed(f"{name}: more than {POISON_ROWS_PER_TASK} records kill their worker, last {how}.")
    return None
