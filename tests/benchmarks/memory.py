"""Peak memory and CPU per document of curation as a corpus grows: `python tests/benchmarks/memory.py 1000 10000 100000`.

JSON lines of about 4.7 kB each (those of bench_data, again and again under other ids, 10,000 a file) through language, words,
lines, repetition, C4, FineWeb, MinHash keys and decisions, in one worker. Links are left out: their election is one task.
"""

import itertools
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import psutil
from ours import Clock, recipe

BENCH = Path(__file__).resolve().parents[2] / ".bench"
PER_FILE = 10_000


def write(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True)
    rows = [json.loads(line) for path in sorted((BENCH / "data" / "large").iterdir()) for line in path.open("rb")]
    supply = itertools.cycle(rows)
    made = []
    for first in range(0, count, PER_FILE):
        made.append(folder / f"part-{first // PER_FILE:04d}.jsonl")
        with made[-1].open("w", encoding="utf-8") as out:
            for number in range(first, min(first + PER_FILE, count)):
                out.write(json.dumps({**next(supply), "id": f"d{number}"}, ensure_ascii=False) + "\n")
    return [str(name) for name in made]


class Peak(threading.Thread):
    """The largest resident memory of the worker and of this process, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.worker = self.main = 0
        self.done = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.done.wait(0.1):
            self.main = max(self.main, own.memory_info().rss)
            for child in own.children():
                try:
                    self.worker = max(self.worker, child.memory_info().rss)
                except psutil.Error:
                    continue


def measure(count: int) -> None:
    from factory.execution.local import LocalExecutor
    from factory.recipes.load import check_recipe
    from factory.recipes.workspace import Workspace

    out = BENCH / "memory"
    shutil.rmtree(out, ignore_errors=True)
    files = write(out / "input", count)
    asked = recipe("pipeline", files, str(BENCH / "data"))
    asked["sources"]["web"]["use"] = "jsonl"
    del asked["extract"], asked["filters"]["duplicate"]
    peak = Peak()
    peak.start()
    with Workspace(check_recipe(asked, folder=str(out)), LocalExecutor(1)) as workspace:
        clock = Clock()
        workspace.run(["decisions", "keys"])
        clock.stop()
        size = sum(os.path.getsize(name) for name in files)
        (decided,) = [workspace.need("decisions", "base", name) for name in workspace.snapshots]
    peak.done.set()
    seconds = clock.spent()["cpu"]
    print(
        f"{count:>9,} documents  {size / 1e6:>7,.0f} MB  worker {peak.worker / 1e6:>6,.0f} MB  main {peak.main / 1e6:>5,.0f} MB"
        f"  {seconds:>7.1f} CPU s  {1e6 * seconds / count:>6,.0f} µs a document  kept {decided.ledger['kept']:,}",
        flush=True,
    )
    shutil.rmtree(out)


if __name__ == "__main__":
    started = time.monotonic()
    for asked in sys.argv[1:] or ["1000", "10000", "100000"]:
        measure(int(asked))
    print(f"{time.monotonic() - started:,.0f} s")
