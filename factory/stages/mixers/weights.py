"""Domains by given shares of the training tokens; a domain that is not named is not read.

epochs = share · tokens / available. A small domain with a large share is repeated, never beyond `max_epochs`.
"""

import math
from collections.abc import Callable, Mapping

from pydantic import Field, field_validator

from factory.core.config import Config
from factory.core.errors import FactoryError, suggest
from factory.core.mixture import check_epochs
from factory.core.registry import register

DEFAULT_MAX_EPOCHS = 4.0  # up to 4 repetitions cost next to nothing (2305.16264)


class Weights(Config):
    """`max_epochs` bounds every domain, or those it names; the others keep 4."""

    weights: dict[str, float]
    tokens: int = Field(gt=0)
    max_epochs: float | dict[str, float] = DEFAULT_MAX_EPOCHS

    @field_validator("weights")
    @classmethod
    def _are_shares(cls, weights: dict[str, float]) -> dict[str, float]:
        bad = {domain: weight for domain, weight in weights.items() if not (math.isfinite(weight) and weight >= 0)}
        if bad:
            raise ValueError(
                f"a weight must be a number of at least 0; {', '.join(f'{k}: {v:g}' for k, v in bad.items())}"
            )
        total = math.fsum(weights.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"weights must sum to 1; these sum to {total:.7g}")
        return weights

    @field_validator("max_epochs")
    @classmethod
    def _is_positive(cls, bound: float | dict[str, float]) -> float | dict[str, float]:
        bounds = bound.values() if isinstance(bound, dict) else [bound]
        if not all(math.isfinite(value) and value > 0 for value in bounds):
            raise ValueError("max_epochs must be above 0")
        return bound

    def bound(self, domain: str) -> float:
        return self.max_epochs.get(domain, DEFAULT_MAX_EPOCHS) if isinstance(self.max_epochs, dict) else self.max_epochs


@register("weights", version=1, config=Weights)
def weights(config: Weights) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        named = set(config.weights) | (set(config.max_epochs) if isinstance(config.max_epochs, dict) else set())
        unknown = sorted(named - set(available))
        if unknown:
            raise FactoryError(f"mix: no domain is named '{unknown[0]}'.{suggest(unknown[0], available)}")
        shares = {domain: share for domain, share in config.weights.items() if share > 0}
        empty = sorted(domain for domain in shares if not available[domain])
        if empty:
            raise FactoryError(
                f"mix: '{empty[0]}' should be {shares[empty[0]]:.2%} of the tokens and has none. "
                "Remove it from the weights, or look at `factory funnel` for the rule that drops it."
            )
        epochs = {domain: share * config.tokens / available[domain] for domain, share in shares.items()}
        check_epochs(config.tokens, epochs, {domain: config.bound(domain) for domain in epochs})
        return {domain: epochs.get(domain, 0.0) for domain in sorted(available)}

    return mix
