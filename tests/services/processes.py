"""Servers of the tests: child processes on loopback that end with the test run, however it ends."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port of the loopback interface nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(command: list[str], log: Path, *, user: str | None = None, last: int = signal.SIGKILL) -> subprocess.Popen:
    """Start a server in the foreground; the kernel sends it `last` when the test process is gone."""

    def end_with_parent() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(last))

    switch = {"user": user, "group": user, "extra_groups": []} if user else {}
    with open(log, "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=end_with_parent, **switch
        )


def wait_until(ready: Callable[[], bool], what: str, log: Path, seconds: float = 60.0) -> None:
    """Poll until `ready`; a service that never comes up is an error that shows the end of its log."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            words = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{what} was not ready after {seconds:.0f} s.\n{words}")
        time.sleep(0.1)


def stop(processes: list[subprocess.Popen]) -> None:
    """End servers at once: what they hold is thrown away, and some hang on a polite request."""
    for process in reversed(processes):
        process.kill()
    for process in processes:
        process.wait()
