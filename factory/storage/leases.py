"""Who may write a dataset: a lease with a fencing token, made of nothing but put-if-absent.

Leases of one dataset are numbered files; the highest number is the current one, so taking a lease over is creating the
next number, which exactly one can do. The holder renews a beat; a waiter that sees the same beat for `patience` seconds
of its own clock (no clocks are compared), or finds the owner's process gone from this machine, takes over. A holder
whose number is no longer the highest has lost the lease and must not commit: `check` raises.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from factory.core.errors import LeaseHeld
from factory.storage.store import Store

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Lease:
    """A held lease: `token` grows with every change of hands."""

    store: Store
    folder: str
    token: int
    owner: str

    def check(self) -> None:
        """Raise LeaseHeld when somebody took the lease over in the meantime."""
        newest = _newest(self.store, self.folder)
        if newest != self.token:
            raise LeaseHeld(
                f"{self.folder}: the lease of {self.owner} (token {self.token}) was taken over (token {newest})."
            )


@contextlib.contextmanager
def lease(
    store: Store,
    name: str,
    *,
    wait: bool = True,
    patience: float = PATIENCE_SECONDS,
    on_wait: Callable[[str], None] = lambda owner: None,
) -> Iterator[Lease]:
    """Hold the lease of a dataset for the length of a block.

    While another holds it: wait, telling `on_wait` the owner once, or with `wait=False` raise LeaseHeld at once.
    """
    held = _acquire(store, f"leases/{name}", wait, patience, on_wait)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(held, stop), daemon=True)
    beat.start()
    try:
        yield held
    finally:
        stop.set()
        beat.join()
        with contextlib.suppress(LeaseHeld):
            held.check()
            store.put(
                f"{held.folder}/{held.token:08d}.json", json.dumps({"owner": held.owner, "released": True}).encode()
            )


def live_leases(store: Store, patience: float = 10 * PATIENCE_SECONDS) -> list[str]:
    """Names of datasets somebody is writing: their lease is not released, its owner not gone, and it was renewed lately."""
    folders: dict[str, list[str]] = {}
    times = store.modified("leases")
    for path in times:
        folders.setdefault(path.rsplit("/", 1)[0], []).append(path)
    live = []
    for folder, paths in sorted(folders.items()):
        newest = max(paths)
        state = _read(store, folder, int(newest.rsplit("/", 1)[1][:8]))
        if state.get("released") or _owner_is_gone(state.get("owner", "")):
            continue
        if time.time() - times[newest] <= patience:
            live.append(folder.removeprefix("leases/"))
    return live


def _acquire(store: Store, folder: str, wait: bool, patience: float, on_wait: Callable[[str], None]) -> Lease:
    owner = f"{platform.node()}:{os.getpid()}"
    seen, since, told = "", time.monotonic(), False
    while True:
        newest = _newest(store, folder)
        state = _read(store, folder, newest) if newest else {"released": True}
        if state.get("released") or _owner_is_gone(state.get("owner", "")):
            token = newest + 1
            claim = json.dumps({"owner": owner, "started": _start_time(os.getpid())}).encode()
            if store.put_new(f"{folder}/{token:08d}.json", claim):
                for old in store.files(folder):
                    if int(old.rsplit("/", 1)[1][:8]) < token - 1:
                        store.delete(old)
                return Lease(store, folder, token, owner)
            continue
        beat = f"{newest}:{state.get('beat')}"
        if beat != seen:
            seen, since = beat, time.monotonic()
        elif time.monotonic() - since > patience:
            store.put_new(f"{folder}/{newest + 1:08d}.json", json.dumps({"owner": owner, "released": True}).encode())
            continue
        if not wait:
            raise LeaseHeld(
                f"{folder.removeprefix('leases/')} is being written by {state.get('owner')}. Try again later."
            )
        if not told:
            on_wait(str(state.get("owner")))
            told = True
        time.sleep(min(1.0, patience / 5))


def _beat(held: Lease, stop: threading.Event) -> None:
    started, count = _start_time(os.getpid()), 0
    while not stop.wait(BEAT_SECONDS):
        count += 1
        with contextlib.suppress(Exception):  # a missed beat is harmless: the token decides at commit
            if _newest(held.store, held.folder) == held.token:
                state = {"owner": held.owner, "started": started, "beat": count}
                held.store.put(f"{held.folder}/{held.token:08d}.json", json.dumps(state).encode())


def _newest(store: Store, folder: str) -> int:
    return max((int(path.rsplit("/", 1)[1][:8]) for path in store.files(folder)), default=0)


def _read(store: Store, folder: str, token: int) -> dict[str, object]:
    try:
        state: dict[str, object] = json.loads(store.read(f"{folder}/{token:08d}.json"))
    except FileNotFoundError:
        return {"released": True}
    state["started"] = state.get("started")
    return {
        **state,
        "owner": f"{state.get('owner')}@{state.get('started')}" if state.get("started") else state.get("owner"),
    }


def _owner_is_gone(owner: object) -> bool:
    """Whether the owner ran on this machine and its process is no more (or its number belongs to another by now)."""
    place, _, started = str(owner).partition("@")
    node, _, pid = place.rpartition(":")
    if node != platform.node() or not pid.isdigit():
        return False
    return not psutil.pid_exists(int(pid)) or (bool(started) and _start_time(int(pid)) != started)


def _start_time(pid: int) -> str:
    try:
        # Clock ticks since boot, where Linux says them: a time of day moves when the clock is set.
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""
