"""Executors: every task is done once, by whom and when makes no difference, and what kills a worker is found and named.

The same tests run on processes of this machine and on a Ray cluster; what only one of them promises is below.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from factory.core.errors import FactoryError, InputError, IntegrityError, TaskFailed
from factory.execution.local import Limits, LocalExecutor
from factory.execution.tasks import Task


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.service)])
def executor(request):
    if request.param == "ray":
        yield request.getfixturevalue("ray_executor")
        return
    with LocalExecutor(2) as local:
        yield local


def run(executor, tasks, **listen):
    """Results by task name; a task that reports its end twice is an error."""
    done = {}

    def on_done(task, result):
        assert task.name not in done
        done[task.name] = result

    executor.run(tasks, on_done, **listen)
    return done


def task(function, name="task", weight=1, **payload):
    return Task(name, f"worker_tasks:{function}", payload, weight)


def test_every_task_is_done_once_with_its_own_result(executor):
    done = run(executor, [task("double", f"task {value}", value=value) for value in range(20)])
    assert done == {f"task {value}": {"value": value * 2} for value in range(20)}


def test_no_tasks_are_done_at_once(executor):
    assert run(executor, []) == {}


def test_an_executor_runs_again_and_again(executor):
    for value in range(3):
        assert run(executor, [task("double", value=value)]) == {"task": {"value": value * 2}}


def test_a_worker_that_is_killed_is_noticed_and_its_task_done_by_another(executor, tmp_path):
    started = time.monotonic()
    done = run(executor, [task("die_at_first", marks=str(tmp_path), deaths=1), task("double", "other", value=1)])
    assert done == {"task": {"attempt": 2}, "other": {"value": 2}}
    assert time.monotonic() - started < 10


def test_rows_that_kill_their_worker_are_isolated_and_the_rest_is_done(executor):
    deadly = {"3": "SIGSEGV", "7": "SIGKILL"}
    rows = run(executor, [task("rows", rows=10, deadly=deadly)])["task"]["rows"]
    assert {row: value for row, value in rows.items() if row not in deadly} == {
        str(row): row * row for row in range(10) if str(row) not in deadly
    }
    assert all(rows[row].startswith("crashed: ") for row in deadly)


def test_a_task_that_dies_outside_of_any_record_fails_with_its_name(executor, tmp_path):
    with pytest.raises(TaskFailed, match=r"task: its worker died 3 times"):
        run(executor, [task("die_at_first", marks=str(tmp_path), deaths=99)])


def test_an_exception_fails_the_run_with_its_cause(executor):
    with pytest.raises(TaskFailed, match=r"(?s)task: ValueError: no such thing.*worker_tasks.py"):
        run(executor, [task("fail", kind="ValueError", message="no such thing")])


@pytest.mark.parametrize("kind", [InputError, IntegrityError])
def test_an_error_a_person_can_act_on_keeps_its_kind_and_words(executor, kind):
    with pytest.raises(kind) as caught:
        run(executor, [task("fail", kind=kind.__name__, message="file x is empty")])
    assert type(caught.value) is kind
    assert str(caught.value) == "file x is empty"


def test_several_problems_told_by_a_worker_stay_one_message(executor):
    with pytest.raises(FactoryError, match="one problem\nanother problem"):
        run(executor, [task("fail", kind="RecipeError", message="")])


def test_a_result_that_is_not_plain_data_is_refused(executor):
    with pytest.raises(TaskFailed, match="not JSON serializable"):
        run(executor, [task("not_json")])


def test_a_function_that_does_not_exist_is_named(executor):
    with pytest.raises(TaskFailed, match="no_such_function"):
        run(executor, [task("no_such_function")])


def test_after_a_failure_the_executor_works_on(executor):
    with pytest.raises(TaskFailed):
        run(executor, [task("fail", kind="ValueError", message="x"), *[task("double", "b", value=1)] * 1])
    assert run(executor, [task("double", value=4)]) == {"task": {"value": 8}}


def test_reports_arrive_before_the_result(executor):
    seen = []
    run(executor, [task("double", value=7)], on_report=lambda task, message: seen.append((task.name, dict(message))))
    assert seen == [("task", {"seen": 7})]


# --- processes of this machine


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_workers(workers):
    tasks = [task("rows", f"task {n}", weight=n, rows=n, deadly={}) for n in range(9)]
    with LocalExecutor(workers) as local:
        done = run(local, tasks)
    assert done == {f"task {n}": {"rows": {str(row): row * row for row in range(n)}} for n in range(9)}


def test_the_largest_task_is_first():
    order = []
    with LocalExecutor(1) as local:
        local.run(
            [task("double", str(weight), weight=weight, value=0) for weight in (3, 9, 1)],
            lambda task, result: order.append(task.weight),
        )
    assert order == [9, 3, 1]


def test_workers_are_processes_that_stay_until_close():
    with LocalExecutor(1, threads=3) as local:
        first, second = (run(local, [task("who")])["task"] for _ in range(2))
    assert first == second
    assert first["threads"] == 3
    assert first["pid"] != os.getpid()
    assert gone(first["pid"])


def test_a_row_that_takes_too_much_memory_is_isolated_and_says_so():
    with LocalExecutor(1, limits=Limits(memory=300 << 20)) as local:
        done = run(local, [task("eat_memory", rows=5, hungry=[3])])
    assert done["task"]["poison"] == "memory over 0.3 GiB"


def test_a_row_that_computes_for_ever_is_isolated_by_cpu_time():
    with LocalExecutor(1, limits=Limits(cpu_seconds=1)) as local:
        done = run(local, [task("burn", rows=5, endless=[2])])
    assert done["task"]["poison"] == "more than 1 CPU seconds without progress"


def test_waiting_is_not_limited(tmp_path):
    with LocalExecutor(1, limits=Limits(cpu_seconds=0.5)) as local:
        assert run(local, [task("sleep", folder=str(tmp_path), seconds=2)]) == {"task": {}}


def test_how_a_worker_died_is_told(tmp_path):
    with (
        LocalExecutor(1) as local,
        pytest.raises(
            TaskFailed, match=r"task: its worker died 3 times, last killed by SIGKILL, outside of any record"
        ),
    ):
        run(local, [task("die_at_first", marks=str(tmp_path), deaths=99)])
    with LocalExecutor(1) as local, pytest.raises(TaskFailed, match="exit status 3"):
        run(local, [task("fail", kind="SystemExit")])


def test_a_dead_worker_is_noticed_though_a_child_of_it_lives(tmp_path):
    started = time.monotonic()
    try:
        with LocalExecutor(1) as local:
            assert run(local, [task("die_and_leave_a_child", marks=str(tmp_path))]) == {"task": {}}
        assert time.monotonic() - started < 10
    finally:
        for mark in tmp_path.iterdir():
            os.kill(int(mark.name), signal.SIGKILL)


def test_what_a_library_prints_disturbs_nothing(capfd):
    with LocalExecutor(1) as local:
        assert run(local, [task("shout")]) == {"task": {}}
    assert capfd.readouterr().out == ""


COORDINATOR = """
import sys
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Task
tasks = [Task(str(n), "worker_tasks:sleep", {"folder": sys.argv[1], "seconds": 600}) for n in range(2)]
with LocalExecutor(2) as local:
    local.run(tasks, lambda task, result: None)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_coordinator(how, tmp_path):
    # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", COORDINATOR, str(tmp_path)]
    coordinator = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=heard)
    try:
        eventually(lambda: len(list(tmp_path.iterdir())) == 2, 30)
        coordinator.send_signal(how)
        coordinator.wait(60)
    finally:
        coordinator.kill()
    workers = [int(mark.name) for mark in tmp_path.iterdir()]
    eventually(lambda: all(gone(pid) for pid in workers), 5)


def test_a_failure_stops_all_workers(tmp_path: Path):
    with LocalExecutor(2) as local:
        with pytest.raises(TaskFailed):
            run(
                local,
                [
                    task("sleep", "long", weight=2, folder=str(tmp_path), seconds=600),
                    task("fail", "short", kind="ValueError", message="x"),
                ],
            )
        for mark in tmp_path.iterdir():
            assert gone(int(mark.name))


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
