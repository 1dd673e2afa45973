"""The outside world: which recipe Dagster shows, and the workspace its assets are made with.

The only module of this package that reads the environment:

    FACTORY_RECIPE        the recipe file (else ./recipe.yaml, else the demo's)
    FACTORY_STORE         a store instead of the recipe's own
    FACTORY_WORKERS       worker processes (else one per core)
    FACTORY_EXECUTOR      local, ray or ray:ADDRESS
    FACTORY_MEMORY        what one task of a global step may hold, such as 4GB
    FACTORY_GX            0 leaves out Great Expectations, which takes seconds to import
    DAGSTER_HOME          where Dagster remembers runs (else inside the store)
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from logging import Logger
from pathlib import Path
from typing import Any

from assets.expectations import expect_documents
from factory.core.errors import RecipeError
from factory.core.manifest import Manifest
from factory.core.sizes import DEFAULT_MEMORY, read_size
from factory.execution.choice import make_executor
from factory.recipes.failures import RunFailed
from factory.recipes.gates import Check
from factory.recipes.load import load_recipe
from factory.recipes.progress import Progress
from factory.recipes.recipe import Recipe
from factory.recipes.workspace import Outcome, Workspace

DEMO = Path(__file__).parent / "recipes" / "demo.yaml"
PROJECT_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Settings:
    """Which recipe, in which store, with how many workers; all a child process needs to do the same."""

    recipe: str
    store: str | None = None
    workers: int = 0
    expectations: bool = True
    executor: str = "local"
    memory: str = DEFAULT_MEMORY

    def load(self) -> Recipe:
        return load_recipe(self.recipe, store=self.store)

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these settings."""
        given = {"FACTORY_RECIPE": os.path.abspath(self.recipe), "FACTORY_STORE": self.store or ""}
        return {
            **given,
            "FACTORY_WORKERS": str(self.workers),
            "FACTORY_GX": str(int(self.expectations)),
            "FACTORY_EXECUTOR": self.executor,
            "FACTORY_MEMORY": self.memory,
        }


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; raises RecipeError when a variable cannot be meant."""
    recipe, store = environment.get("FACTORY_RECIPE"), environment.get("FACTORY_STORE") or None
    if not recipe:
        own = os.path.exists(PROJECT_FILE)
        recipe = PROJECT_FILE if own else str(DEMO)
        # The demo's recipe lies inside the package, which is no place for data.
        store = store or (None if own else os.path.abspath(".factory"))
    workers = environment.get("FACTORY_WORKERS") or "0"
    if not workers.isdigit():
        raise RecipeError([f"FACTORY_WORKERS: a number of processes is meant (got '{workers}')."])
    return settings_for(recipe, store, int(workers), environment)


def settings_for(recipe: str, store: str | None, workers: int, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a recipe that was named on a command line."""
    expectations = environment.get("FACTORY_GX", "1") != "0"
    place, memory = environment.get("FACTORY_EXECUTOR") or "local", environment.get("FACTORY_MEMORY") or DEFAULT_MEMORY
    return Settings(recipe, store, workers, expectations, place, memory)


def read_dagster_home(environment: Mapping[str, str] = os.environ) -> str | None:
    return environment.get("DAGSTER_HOME") or None


@dataclass
class Factory:
    """What an asset makes its datasets with. One workspace lives as long as the run, so that workers stay warm.

    `outcomes` collects what was made, `problem` the error a person should read; both are for whoever runs in-process.
    """

    settings: Settings
    recipe: Recipe
    progress: Progress | None = None
    wait: bool = True
    fail_fast: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    problem: BaseException | None = None

    @property
    def attended(self) -> bool:
        """Whether somebody waits at a terminal, and not Dagster's daemon."""
        return self.progress is not None

    @cached_property
    def workspace(self) -> Workspace:
        executor = make_executor(self.settings.executor, self.settings.workers)
        memory = read_size(self.settings.memory)
        how: dict[str, Any] = {"wait": self.wait, "memory": memory, "fail_fast": self.fail_fast}
        return Workspace(self.recipe, executor, extra_gates=self.extra_gates, **how)

    def extra_gates(self, manifest: Manifest) -> Iterable[Check]:
        if self.settings.expectations and manifest.kind == "documents":
            yield expect_documents(self.workspace.store, manifest)

    def make(self, names: Iterable[str], log: Logger) -> list[Outcome]:
        """Make these datasets, from what is current of the datasets they read. What else a failed run made is kept, too."""
        self.workspace.progress = self.progress or LoggedProgress(log.info)
        try:
            return self._keep(self.workspace.run(names, upstream=False))
        except RunFailed as failed:
            failed.outcomes = self._keep(failed.outcomes)
            raise

    def _keep(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        whole = [self._complete(outcome) for outcome in outcomes]
        self.outcomes.update({outcome.node.name: outcome for outcome in whole})
        return whole

    def _complete(self, outcome: Outcome) -> Outcome:
        """With the gates it did not have to pass when the library alone made it."""
        known = {check.name for check in outcome.checks}
        if outcome.node.kind != "documents" or "expectations" in known or not self.settings.expectations:
            return outcome
        return replace(outcome, checks=(*outcome.checks, *self.extra_gates(outcome.manifest)))

    def close(self) -> None:
        self.workspace.close()


class LoggedProgress:
    """One line of a log for each finished piece of work."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say

    def start(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit, self.began = label, total, unit, time.monotonic()

    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        self.say(f"{self.label}: {self.total:,} {self.unit} in {time.monotonic() - self.began:.1f} s")

    def note(self, line: str) -> None:
        self.say(line)
