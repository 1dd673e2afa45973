"""Links of keys that are there, and what each global step took: `links_phases.py RECIPE STORE BUDGET OUT`, for links.py.

Writes phase -> [seconds, CPU seconds of all processes, largest resident memory of a worker, bytes under exchange/ at its end].
A worker's own start-up counts to the phase that needed it first.
"""

import json
import sys
import threading
import time
from pathlib import Path

import psutil
from ours import cpu


class Phases:
    """A progress that keeps what each phase took, instead of showing it."""

    def __init__(self, store: Path) -> None:
        self.exchange = store / "exchange"
        self.spent: dict[str, list[float]] = {}
        self.resident = 0
        threading.Thread(target=self._look, daemon=True).start()

    def start(self, label: str, total: int, unit: str) -> None:
        self.label, self.mark, self.resident = label, (time.perf_counter(), cpu()), 0

    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        spent = self.spent.setdefault(self.label, [0.0, 0.0, 0, 0])
        spent[0] += time.perf_counter() - self.mark[0]
        spent[1] += cpu() - self.mark[1]
        spent[2] = max(spent[2], self.resident)
        spent[3] = max(spent[3], sum(path.stat().st_size for path in self.exchange.rglob("*") if path.is_file()))

    def note(self, line: str) -> None:
        pass

    def _look(self) -> None:
        own = psutil.Process()
        while True:
            for child in own.children():
                try:
                    self.resident = max(self.resident, child.memory_info().rss)
                except psutil.Error:
                    continue
            time.sleep(0.05)


def main(recipe: str, store: str, budget: str, out: str) -> None:
    from factory.core.sizes import read_size
    from factory.execution.local import LocalExecutor
    from factory.recipes.load import load_recipe
    from factory.recipes.workspace import Workspace

    phases = Phases(Path(store))
    with Workspace(load_recipe(recipe, store=store), LocalExecutor(1), phases, memory=read_size(budget)) as workspace:
        workspace.run(["links"])
    Path(out).write_text(json.dumps(phases.spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
