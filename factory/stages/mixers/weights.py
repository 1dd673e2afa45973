"""Domains by given shares of the training tokens; a domain that is not named is not read.

epochs = share x tokens / available. A small domain with a large share is repeated, never beyond `max_epochs`.
"""

from collections.abc import Callable, Mapping

from pydantic import field_validator

from factory.core.mixture import Budget, check_shares, epochs_of
from factory.core.registry import register


class Weights(Budget):
    """`weights` are shares of the training tokens, and sum to 1."""

    weights: dict[str, float]

    @field_validator("weights")
    @classmethod
    def _are_shares(cls, weights: dict[str, float]) -> dict[str, float]:
        check_shares(weights)
        return weights


@register("weights", version=1, config=Weights)
def weights(config: Weights) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        return epochs_of(config.weights, available, config)

    return mix
