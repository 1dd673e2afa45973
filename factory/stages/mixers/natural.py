"""Every domain as often as every other: shares stay as they were collected, and only the budget decides the epochs.

The baseline that learned mixtures have to beat.
"""

import math
from collections.abc import Callable, Mapping

from factory.core.errors import FactoryError
from factory.core.mixture import Budget, check_epochs, check_not_empty, round_up
from factory.core.registry import register


@register("natural", version=1, config=Budget)
def natural(config: Budget) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        total = check_not_empty(config.tokens, available)
        epochs = dict.fromkeys(sorted(available), config.tokens / total)
        bounds = config.bounds(available)
        if isinstance(config.max_epochs, dict):
            check_epochs(config.tokens, epochs, bounds)
        elif config.tokens / total > config.max_epochs * (1 + 1e-9):
            raise FactoryError(
                f"mix: {config.tokens:,} tokens asked, {math.floor(total * config.max_epochs):,} possible "
                f"({total:,} available, max_epochs {config.max_epochs:g}). "
                f"Lower the budget, or raise max_epochs to {round_up(config.tokens / total):g}."
            )
        return epochs

    return mix
