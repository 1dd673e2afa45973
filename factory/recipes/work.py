"""What passes between the workspace and the steps: work to be done, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from factory.core.errors import FactoryError
from factory.core.manifest import Manifest, Part, dataset_folder
from factory.execution.tasks import Executor, Task
from factory.recipes.graph import Node
from factory.recipes.inputs import Inputs
from factory.recipes.progress import Progress
from factory.recipes.recipe import Recipe
from factory.storage.store import Store


@dataclass(frozen=True)
class Work:
    """A dataset that has to be made: its node, what it reads, and where its parts go.

    `failed` says why what it would read besides could not be made: of a dataset that can be made without.
    """

    node: Node
    fingerprint: str
    upstream: Mapping[str, Manifest]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return dataset_folder(self.node.kind, self.node.label, self.fingerprint, self.node.partition)

    def of(self, kind: str) -> list[Manifest]:
        """The upstream manifests of a kind, by name."""
        return [self.upstream[name] for name in sorted(self.upstream) if self.upstream[name].kind == kind]

    def one(self, kind: str, label: str | None = None) -> Manifest:
        return next(m for m in self.of(kind) if label is None or m.label == label)


@dataclass(frozen=True)
class Made:
    """What a step made: goes into the manifest."""

    parts: tuple[Part, ...]
    ledger: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class Bench(Protocol):
    """What a step works with."""

    recipe: Recipe
    executor: Executor
    progress: Progress
    memory: int  # bytes one task of a global step may hold; results never depend on it

    @property
    def store(self) -> Store: ...

    @property
    def inputs(self) -> Inputs: ...

    def run_tasks(
        self,
        label: str,
        tasks: list[Task],
        unit: str = "bytes",
        on_report: Callable[[Task, Mapping[str, Any]], None] | None = None,
        failed: dict[str, FactoryError] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Run tasks under one progress bar; results by task name.

        Raises the error of the first that cannot be done. With `failed` it is put there, and the others go on.
        """


# Makes all work of one kind at once, so that its tasks share the workers. What of it cannot be made comes back as the error,
# or is raised where that is the same for all of it.
Step = Callable[[Bench, list[Work]], Mapping[str, Made | FactoryError]]
