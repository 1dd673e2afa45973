"""Every domain as often as every other: shares stay as they were collected, and only the budget decides the epochs.

The baseline that learned mixtures have to beat.
"""

import math
from collections.abc import Callable, Mapping

from pydantic import Field

from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.mixture import round_up
from factory.core.registry import register


class Natural(Config):
    """`max_epochs`: up to 4 repetitions cost next to nothing (2305.16264)."""

    tokens: int = Field(gt=0)
    max_epochs: float = Field(default=4.0, gt=0, allow_inf_nan=False)


@register("natural", version=1, config=Natural)
def natural(config: Natural) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        total = sum(available.values())
        if not total:
            raise FactoryError(
                f"mix: {config.tokens:,} tokens asked, none available in {', '.join(sorted(available)) or 'no domain'}. "
                "Look at `factory funnel` for the rule that drops everything."
            )
        epochs = config.tokens / total
        if epochs > config.max_epochs * (1 + 1e-9):
            raise FactoryError(
                f"mix: {config.tokens:,} tokens asked, {math.floor(total * config.max_epochs):,} possible "
                f"({total:,} available, max_epochs {config.max_epochs:g}). "
                f"Lower the budget, or raise max_epochs to {round_up(epochs):g}."
            )
        return dict.fromkeys(sorted(available), epochs)

    return mix
