"""Tasks that the executor tests send to workers: well-behaved ones, and every way to die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from factory.core.errors import InputError, IntegrityError, RecipeError


def double(payload, context):
    context.report({"seen": payload["value"]})
    return {"value": payload["value"] * 2}


def who(payload, context):
    return {"pid": os.getpid(), "threads": context.threads}


def die_at_first(payload, context):
    """SIGKILL for the first `deaths` attempts, as from the kernel's memory killer."""
    marks = Path(payload["marks"])
    deaths = len(list(marks.iterdir()))
    if deaths < payload["deaths"]:
        (marks / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"attempt": deaths + 1}


def rows(payload, context):
    """Each row becomes its square; the rows in `deadly` end the process in the way they name."""
    done = {}
    for row in range(payload["rows"]):
        if row in context.poison:
            done[str(row)] = f"crashed: {context.poison[row]}"
            continue
        if context.careful:
            context.at(row)
        if how := payload["deadly"].get(str(row)):
            os.kill(os.getpid(), getattr(signal, how))
        done[str(row)] = row * row
    return {"rows": done}


def eat_memory(payload, context):
    """Takes 100 MB a time for rows in `hungry` and does not stop."""
    for row in range(payload["rows"]):
        if row in context.poison:
            return {"poison": context.poison[row]}
        if context.careful:
            context.at(row)
        held = []
        while row in payload["hungry"]:
            held.append(bytearray(os.urandom(1 << 20) * 20))
            time.sleep(0.01)
    return {"poison": None}


def burn(payload, context):
    """Computes for ever at the rows in `endless`."""
    for row in range(payload["rows"]):
        if row in context.poison:
            return {"poison": context.poison[row]}
        if context.careful:
            context.at(row)
        while row in payload["endless"]:
            pass
    return {"poison": None}


def fail(payload, context):
    kinds = {"ValueError": ValueError, "InputError": InputError, "IntegrityError": IntegrityError}
    if payload["kind"] == "RecipeError":
        raise RecipeError(["one problem", "another problem"])
    if payload["kind"] == "SystemExit":
        sys.exit(3)
    raise kinds[payload["kind"]](payload["message"])


def not_json(payload, context):
    return {"value": object()}


def sleep(payload, context):
    """Writes its process number and waits; says when it was left alone."""
    (Path(payload["folder"]) / str(os.getpid())).touch()
    time.sleep(payload["seconds"])
    return {}


def die_and_leave_a_child(payload, context):
    """The child keeps what it inherited open; its parent's death must be noticed all the same."""
    marks = Path(payload["marks"])
    if not list(marks.iterdir()):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        (marks / str(child)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def shout(payload, context):
    """Prints more than a pipe holds, like a chatty library."""
    print("x" * (1 << 20))
    subprocess.run(["echo", "from a child"], check=True)
    return {}
