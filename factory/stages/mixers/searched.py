"""Domains by the shares a search found: its recommendation, or another of its candidates.

The bounds on repetition are the experiment's own: a finding that repeats a domain beyond them is refused, not changed.
"""

from collections.abc import Callable, Mapping

from factory.core.errors import FactoryError, suggest
from factory.core.mixture import Budget, epochs_of
from factory.core.registry import register

RECOMMENDED = "recommended"


class Searched(Budget):
    """`search` is a label of the recipe's `searches`; `pick` is `recommended` or the name of a candidate it found."""

    search: str
    pick: str = RECOMMENDED


@register("searched", version=1, config=Searched)
def searched(
    config: Searched, found: Mapping[str, Mapping[str, float]]
) -> Callable[[Mapping[str, int]], dict[str, float]]:
    """`found` holds the shares the search recommends and its candidates, by name."""
    if config.pick not in found:
        raise FactoryError(
            f"mix: search '{config.search}' has no candidate '{config.pick}'.{suggest(config.pick, found)}"
        )

    def mix(available: Mapping[str, int]) -> dict[str, float]:
        return epochs_of(found[config.pick], available, config)

    return mix
