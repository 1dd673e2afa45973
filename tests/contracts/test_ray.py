"""What only the Ray executor promises; what all executors do is in test_executor.py, and runs on Ray there."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from factory.core.errors import FactoryError
from factory.execution.local import Limits
from factory.execution.ray import RayExecutor
from factory.execution.tasks import Task

pytestmark = pytest.mark.service


def run(executor, function, **payload):
    done = {}
    executor.run([Task("task", f"worker_tasks:{function}", payload)], lambda task, result: done.update(result))
    return done


def test_tasks_run_in_processes_of_the_cluster(ray_executor):
    assert ray_executor.workers == 2
    assert run(ray_executor, "who")["pid"] != os.getpid()


def test_limits_hold_there_too_and_say_so(ray_cluster):
    with RayExecutor(ray_cluster, limits=Limits(memory=600 << 20, cpu_seconds=1)) as executor:
        assert run(executor, "eat_memory", rows=3, hungry=[1]) == {"poison": "memory over 0.6 GiB"}
        endless = run(executor, "burn", rows=3, endless=[1])
        assert endless == {"poison": "more than 1 CPU seconds without progress"}


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (pip install 'corpus-factory[ray]')")
def test_without_a_cluster_the_way_to_one_is_told():
    script = "from factory.execution.ray import RayExecutor; RayExecutor('127.0.0.1:9')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "FactoryError: no Ray cluster answers at '127.0.0.1:9'" in done.stderr
    assert "Start one with 'ray start --head'" in done.stderr


def test_without_the_package_the_extra_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FactoryError, match=r"pip install 'corpus-factory\[ray\]'"):
        RayExecutor()
