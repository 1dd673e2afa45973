"""What a run does with what cannot be made: say it once, where it stands in the recipe, and go on with the rest.

One experiment's mixture, tokens, training or evaluation, and one search, concern nobody but what is made from them. What
snapshots and models fail with concerns every experiment, and what the store or the machine fails with concerns everything:
those stop a run at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.core.errors import DoesNotFit, FactoryError, IntegrityError, LeaseHeld, StoreError
from factory.recipes.graph import Node

SHARED = ("documents", "models", "scores", "keys", "encodings", "links")
STOPPING = (IntegrityError, StoreError, LeaseHeld, DoesNotFit)
MOST_NAMED = 6
LISTED = "The leaderboard compares the others, and lists what failed."


@dataclass(frozen=True)
class Failure:
    """A dataset that could not be made: `place` is where its settings stand in the recipe, `text` why."""

    name: str
    place: str
    text: str
    kind: str = "FactoryError"
    exit_code: int = 1

    @property
    def line(self) -> str:
        """For people: where, what and why."""
        return f"{self.place}: {self.name}: {self.text}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Failure":
        return Failure(**{name: data[name] for name in ("name", "place", "text", "kind", "exit_code")})


def failure_of(node: Node, error: FactoryError) -> Failure:
    """The failure of a dataset; a message that says its place already does not say it twice."""
    place = place_of(node)
    text = str(error)
    for said in (f"{place}: ", f"{node.name}: ", f"{node.name} "):
        text = text.removeprefix(said)
    return Failure(node.name, place, text, type(error).__name__, error.exit_code)


def place_of(node: Node) -> str:
    """Where the settings of a dataset stand in the recipe."""
    if node.kind == "searches":
        return f"searches.{node.label}"
    return f"experiments.{node.label}" if node.label else node.kind


def stops_everything(kind: str, error: FactoryError) -> bool:
    """Whether nothing is to be made after a dataset of this kind failed with this error."""
    return kind in SHARED or isinstance(error, STOPPING)


class RunFailed(FactoryError):
    """Some datasets could not be made, and those that are made from them were skipped; everything else is made.

    `skipped` maps their names to the name of what failed, or to a sentence. `outcomes` are what the run did with the others.
    """

    def __init__(
        self, failures: Sequence[Failure], skipped: Mapping[str, str], outcomes: Sequence[Any] = (), *, note: str = ""
    ) -> None:
        self.failures, self.skipped, self.outcomes = tuple(failures), dict(skipped), list(outcomes)
        self.exit_code = self.failures[0].exit_code
        super().__init__(_told(self.failures, self.skipped, note))

    def to_json(self) -> dict[str, Any]:
        return {"failures": [failure.to_json() for failure in self.failures], "skipped": self.skipped}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "RunFailed":
        return RunFailed([Failure.from_json(item) for item in data["failures"]], data["skipped"])


def _told(failures: Sequence[Failure], skipped: Mapping[str, str], note: str) -> str:
    """The final list: every failure once, what was skipped for it, and what to do next."""
    alike: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        alike.setdefault((failure.place, failure.text), []).append(failure.name)
    lines = [
        f"{_counted(len(failures), 'dataset')} failed; everything that does not need {_it(len(failures))} is made."
    ]
    lines += [f"  - {place}: {_named(names)}: {text}" for (place, text), names in alike.items()]
    because: dict[str, list[str]] = {}
    for name, cause in skipped.items():
        because.setdefault(cause, []).append(name)
    lines += [f"  skipped: {_named(names)}, because of {cause}" for cause, names in because.items()]
    lines += [note] if note else []
    lines.append("Correct what failed and run again: what is made is kept, and only what is missing is made.")
    return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _it(number: int) -> str:
    return "it" if number == 1 else "them"


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
