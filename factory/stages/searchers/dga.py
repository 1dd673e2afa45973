"""Dynamic gradient alignment: more of the domains whose gradient points where that of a target does (2410.02498).

The target is a mixture of the domains that matter, such as a small one of good text. See `factory.mixing.dga`. The finding is
the last moving average of the shares, where it holds when trained on anew.
"""

from pydantic import Field, field_validator

from factory.core.errors import FactoryError, suggest
from factory.core.mixture import check_shares
from factory.core.registry import register
from factory.core.search import Problem, Searcher
from factory.mixing.dga import DgaSettings
from factory.stages.searchers.changing import ChangingSearch, Confirmed


class Dga(DgaSettings, Confirmed):
    """The settings of the method, its target by domain, and of the trainings that confirm what it found."""

    target: dict[str, float] = Field(min_length=1)

    @field_validator("target")
    @classmethod
    def _are_shares(cls, target: dict[str, float]) -> dict[str, float]:
        check_shares(target)
        return target


@register("dga", version=1, config=Dga)
def dga(config: Dga) -> Searcher:
    def check(problem: Problem) -> None:
        unknown = sorted(set(config.target) - set(problem.names))
        if unknown:
            raise FactoryError(f"dga: no domain is named '{unknown[0]}'.{suggest(unknown[0], problem.names)}")

    settings = config.model_dump(mode="json", include=set(DgaSettings.model_fields))
    return ChangingSearch(config, "dga", settings, check)
