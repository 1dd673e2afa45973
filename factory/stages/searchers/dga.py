"""Dynamic gradient alignment: more of the domains whose gradient points where that of a target does (2410.02498).

The target is a mixture of the domains that matter, such as a small one of good text. See `factory.mixing.dga`. The finding is
the last moving average of the shares, where it holds when trained on anew.
"""

import math

from pydantic import Field

from factory.core.errors import FactoryError, suggest
from factory.core.registry import register
from factory.core.search import Problem, Searcher
from factory.mixing.dga import DgaSettings
from factory.stages.searchers.changing import ChangingSearch, Confirmed


class Dga(DgaSettings, Confirmed):
    """The settings of the method, its target by domain, and of the trainings that confirm what it found."""

    target: dict[str, float] = Field(min_length=1)


@register("dga", version=1, config=Dga)
def dga(config: Dga) -> Searcher:
    def check(problem: Problem) -> None:
        unknown = sorted(set(config.target) - set(problem.names))
        if unknown:
            raise FactoryError(f"dga: no domain is named '{unknown[0]}'.{suggest(unknown[0], problem.names)}")
        total = math.fsum(config.target.values())
        if abs(total - 1.0) > 1e-6 or min(config.target.values()) < 0:
            raise FactoryError(
                f"dga: the shares of the target must be at least 0 and sum to 1; they sum to {total:.7g}."
            )

    settings = config.model_dump(mode="json", include=set(DgaSettings.model_fields))
    return ChangingSearch(config, "dga", settings, check)
