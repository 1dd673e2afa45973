"""Aioli: more of the domains on which a short probe of the running model lowers all losses most (2411.05735).

See `factory.mixing.aioli`. The finding is the average of the shares over the training without its probes, where it holds when
trained on anew.
"""

from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.search import Problem, Searcher
from factory.mixing.aioli import AioliSettings, probe_share
from factory.stages.searchers.changing import ChangingSearch, Confirmed


class Aioli(AioliSettings, Confirmed):
    """The settings of the method, and of the trainings that confirm what it found."""


@register("aioli", version=1, config=Aioli)
def aioli(config: Aioli) -> Searcher:
    def check(problem: Problem) -> None:
        if config.focus * len(problem.names) <= 1 + 1e-9:
            raise FactoryError(
                f"aioli: a probe with a focus of {config.focus:g} on one of {len(problem.names)} domains is no probe of it. "
                f"Raise focus above {1 / len(problem.names):.3g}."
            )
        share = probe_share(len(problem.names), config)
        if share > 1:
            raise FactoryError(
                f"aioli: {len(problem.names)} domains x {config.sweeps} sweeps x {config.probe_steps} steps are {share:.1f} "
                f"rounds of {config.every} steps. Raise every, or lower sweeps or probe_steps."
            )

    settings = config.model_dump(mode="json", include=set(AioliSettings.model_fields))
    return ChangingSearch(config, "aioli", settings, check)
