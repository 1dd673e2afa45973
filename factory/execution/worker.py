"""A worker process: runs tasks that arrive on a socket until the socket closes, and dies with its supervisor.

Messages are JSON, one a line. In: {task, function, payload, careful, poison}. Out: {at}, {report}, {done} or {failed}.
"""

import json
import os
import signal
import socket
import sys
import threading
from typing import Any

from factory.execution.failures import describe
from factory.execution.tasks import Context, resolve


def main(descriptor: int, threads: int) -> None:
    """Serve one supervisor; returns when it closes the connection."""
    connection = socket.socket(fileno=descriptor)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    sending = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with sending:
            connection.sendall(json.dumps(message).encode() + b"\n")

    for line in connection.makefile("rb"):
        order = json.loads(line)
        context = Context(
            careful=order["careful"],
            poison={int(row): reason for row, reason in order["poison"].items()},
            threads=threads,
            at=lambda row: send({"at": row}),
            report=lambda message: send({"report": dict(message)}),
        )
        try:
            send({"done": resolve(order["function"])(order["payload"], context)})
        except Exception as error:
            send({"failed": describe(error)})


def _die_with_parent() -> None:
    """A supervisor that is killed takes its workers along, also while they compute.

    Not PR_SET_PDEATHSIG: that fires when the *thread* ends which started the worker.
    """
    parent = os.getppid()

    def watch() -> None:
        pause = threading.Event()
        while not pause.wait(1.0):
            if os.getppid() != parent:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
