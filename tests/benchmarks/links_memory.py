"""Memory, disk and time of linking signatures: `python tests/benchmarks/links_memory.py 1000000 10000000`.

Synthetic MinHash keys (14 a document; one document in ten shares six with another), written as the keys step writes them, are
linked in one worker that is killed above 1 GiB of resident memory, with a budget of 512 MiB a task. `history 50000` instead
joins a snapshot of so many documents with 1, 4 and 16 times as many of earlier ones, and prints what that costs.
"""

import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from linked_documents import Bench, spec, store_in, store_keys, work_of

from factory.execution.local import Limits, LocalExecutor
from factory.recipes.steps.links import documents

BENCH = Path(__file__).resolve().parents[2] / ".bench"
LIMIT, BUDGET = 1 << 30, 512 << 20
PER_PART = 250_000


class Watch(threading.Thread):
    """The most memory of the worker and the most bytes of the exchange, looked at some times a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.memory, self.disk = folder, 0, 0
        self.done = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.done.wait(0.2):
            for child in own.children():
                try:
                    self.memory = max(self.memory, child.memory_info().rss)
                except psutil.Error:
                    continue
            self.disk = max(self.disk, _bytes(self.folder / "exchange"))


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def signatures(count: int, seed: int) -> np.ndarray[Any, Any]:
    keys = np.random.default_rng(seed).integers(0, 2**64, (count, 14), dtype=np.uint64)
    keys[1::10, 3:9] = keys[: len(keys[1::10]) * 10 : 10, 3:9]
    return keys


def measure(count: int) -> None:
    BENCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BENCH, prefix="links-memory-"))
    try:
        with LocalExecutor(1, limits=Limits(memory=LIMIT)) as executor:
            bench = Bench(store_in(folder), BUDGET, executor)
            manifests = store_keys(bench.store, signatures(count, 1), parts=-(-count // PER_PART))
            watch = Watch(folder)
            watch.start()
            started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            made = documents.make_all(bench, [work_of(manifests, spec(), "2026-01")])["links/near@2026-01"]
            seconds = time.monotonic() - started
            watch.done.set()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        said = documents.needs(count, 14 * count, BUDGET)
        print(
            f"{count:>11,} documents  {seconds:>7.1f} s  {cpu:>7.1f} CPU s  {1e6 * cpu / count:>6.2f} µs a document  worker "
            f"{watch.memory / 1e6:>5,.0f} MB  exchange {watch.disk / 1e6:>6,.0f} MB (said {said.disk / 1e6:,.0f})  index "
            f"{_bytes(folder / 'index') / 1e6:>6,.0f} MB  {said.splits} splits  {made.notes['duplicates']:,} duplicates",
            flush=True,
        )
    finally:
        shutil.rmtree(folder)


def history(count: int) -> None:
    BENCH.mkdir(exist_ok=True)
    for times in (1, 1, 4, 16):  # once to warm up
        folder = Path(tempfile.mkdtemp(dir=BENCH, prefix="links-history-"))
        bench = Bench(store_in(folder))
        manifests = store_keys(bench.store, signatures(times * count, 1), parts=times)
        documents.make_all(bench, [work_of(manifests, spec(), "2026-01")])
        manifests |= store_keys(bench.store, signatures(count, 2), snapshot="2026-02")
        started = time.process_time()
        documents.make_all(bench, [work_of(manifests, spec(), "2026-02")])
        print(f"{count:,} documents after {times * count:>9,}: {time.process_time() - started:.2f} CPU s", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["history"]:
        history(int(sys.argv[2]))
    else:
        for asked in sys.argv[1:] or ["1000000"]:
            measure(int(asked))
