"""Leases: one writer at a time, and a writer who lost the lease cannot commit."""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from factory.core.errors import LeaseHeld
from factory.storage import leases
from factory.storage.leases import lease
from factory.storage.store import Store

HOLD = """
import sys, time
from factory.storage.leases import lease
from factory.storage.store import Store
with lease(Store(sys.argv[1]), "scores/words"):
    print("held", flush=True)
    time.sleep(600)
"""


def hold_in_another_process(url):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.fixture
def holder(store_url):
    process = hold_in_another_process(store_url)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def quick_beats(monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.1)


def claim_of_another_machine(store, token=1):
    state = {"owner": "elsewhere:1", "started": "1.0", "beat": 1}
    store.put(f"leases/scores/words/{token:08d}.json", json.dumps(state).encode())


def test_a_lease_can_be_taken_again_after_its_release(store):
    tokens = []
    for _ in range(3):
        with lease(store, "scores/words") as held:
            held.check()
            tokens.append(held.token)
    assert tokens == [1, 2, 3]
    assert len(store.files("leases")) <= 2


def test_a_lease_is_released_by_a_block_that_fails(store):
    with pytest.raises(ValueError, match="inside"), lease(store, "scores/words"):
        raise ValueError("inside")
    with lease(store, "scores/words", wait=False):
        pass


def test_leases_of_different_datasets_do_not_meet(store):
    with lease(store, "scores/words"), lease(store, "scores/lines", wait=False):
        pass


def test_one_at_a_time_writes(store_url):
    inside, most = [], []

    def write(number):
        with lease(Store(store_url), "scores/words", patience=30):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert most == [1, 1, 1, 1]


def test_without_waiting_the_owner_is_named(holder, store_url):
    owner = f"{platform.node()}:{holder.pid}"
    with (
        pytest.raises(LeaseHeld, match=f"scores/words is being written by {owner}"),
        lease(Store(store_url), "scores/words", wait=False),
    ):
        pass


def test_who_waits_is_told_the_owner_once_and_gets_the_lease_next(store_url):
    told, order = [], []
    with lease(Store(store_url), "scores/words"):

        def wait():
            with lease(Store(store_url), "scores/words", on_wait=told.append):
                order.append("waiter")

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(2.5)
        order.append("holder")
    waiter.join(20)
    assert order == ["holder", "waiter"]
    assert len(told) == 1
    assert str(os.getpid()) in told[0]


def test_a_killed_owner_on_this_machine_is_followed_at_once(holder, store_url):
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with lease(Store(store_url), "scores/words", wait=False) as held:
        assert held.token == 2
    assert time.monotonic() - started < 5


def test_a_silent_owner_is_followed_after_patience_and_may_not_commit(store):
    claim_of_another_machine(store)
    frozen = leases.Lease(store, "leases/scores/words", 1, "elsewhere:1")
    frozen.check()
    started = time.monotonic()
    with lease(store, "scores/words", patience=1.0) as held:
        assert time.monotonic() - started >= 1.0
        held.check()
        with pytest.raises(LeaseHeld, match=r"the lease of elsewhere:1 \(token 1\) was taken over"):
            frozen.check()


def test_an_owner_that_beats_is_waited_for_beyond_patience(store, quick_beats):
    claim_of_another_machine(store)
    elsewhere = leases.Lease(store, "leases/scores/words", 1, "elsewhere:1")
    stop = threading.Event()
    beating = threading.Thread(target=leases._beat, args=(elsewhere, stop))
    beating.start()
    entered = []

    def wait():
        with lease(store, "scores/words", patience=1.0):
            entered.append(time.monotonic())

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(3)
    assert entered == []
    stop.set()
    beating.join()
    waiter.join(20)
    assert len(entered) == 1


def test_a_frozen_holder_that_wakes_up_does_not_disturb_its_successor(store):
    claim_of_another_machine(store, token=4)
    with lease(store, "scores/words", patience=0.5) as successor:
        claim_of_another_machine(store, token=4)  # the beat it was about to write
        successor.check()
        with pytest.raises(LeaseHeld), lease(store, "scores/words", wait=False):
            pass
