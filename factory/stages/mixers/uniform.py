"""Every domain the same share of the training tokens, however large it is.

A small domain is repeated as often as that takes, never beyond `max_epochs`; `unimax` is the same without refusing.
"""

from collections.abc import Callable, Mapping

from factory.core.mixture import Budget, check_not_empty, epochs_of
from factory.core.registry import register


@register("uniform", version=1, config=Budget)
def uniform(config: Budget) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        check_not_empty(config.tokens, available)
        return epochs_of(dict.fromkeys(available, 1 / len(available)), available, config)

    return mix
