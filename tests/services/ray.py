"""A throw-away Ray cluster of one node for the tests, on loopback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.processes import free_port, spawn, stop, wait_until


@contextmanager
def serve_ray(folder: Path) -> Iterator[str]:
    """The address of a running cluster, stopped at the end of the block."""
    port, log = free_port(), folder / "log"
    ray = str(Path(sys.executable).parent / "ray")
    settings = {
        "port": port,
        "node-ip-address": "127.0.0.1",
        "num-cpus": 2,
        "object-store-memory": 100 << 20,
        "include-dashboard": "false",
        "temp-dir": folder / "r",  # short: sockets lie in it, and their names are limited
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    # A polite end lets it take its processes along.
    server = spawn([ray, "start", "--head", "--block", "--disable-usage-stats", *options], log, last=signal.SIGTERM)
    try:
        wait_until(lambda: "Ray runtime started" in log.read_text(), "Ray", log)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            stop([server])
