"""Cells of two or more taxonomies by the product of their shares: P(topic, format) = P(topic) * P(format).

So WebOrganizer (arXiv:2502.10341) mixes, whose topics and formats hardly depend on each other. A cell is a domain named
`topic/format`, with a part for each of `factors` in their order. A cell too small for its share under `max_epochs` is an
error; `when_short: rescale` takes all of it instead, and gives what it lacks to the other cells in proportion to theirs. The
shares that come of it stand in the mixture's table.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field, field_validator

from factory.core.errors import FactoryError
from factory.core.mixture import Budget, check_not_empty, check_possible, check_shares, epochs_of
from factory.core.registry import register
from factory.mixing.shares import fill_by_shares, product_shares


class Product(Budget):
    """`factors`: the shares of each taxonomy's labels, each summing to 1. What is not named is not read."""

    factors: tuple[dict[str, float], ...] = Field(min_length=2, max_length=4)
    when_short: Literal["refuse", "rescale"] = "refuse"

    @field_validator("factors")
    @classmethod
    def _are_shares(cls, factors: tuple[dict[str, float], ...]) -> tuple[dict[str, float], ...]:
        for shares in factors:
            check_shares(shares)
        return factors


@register("product", version=1, config=Product)
def product(config: Product) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        check_not_empty(config.tokens, available)
        shares = {cell: share for cell, share in product_shares(config.factors).items() if share > 0}
        if config.when_short == "refuse":
            return epochs_of(shares, available, config)
        bounds = config.bounds(available)
        caps = {cell: bounds[cell] * available[cell] for cell in shares if cell in available}
        if not caps:
            raise FactoryError(
                f"mix: none of the {len(shares)} cells of `factors` is there, such as '{min(shares)}'; there are "
                f"{', '.join(sorted(available)[:5])}. Give `mixture.by` a column for each factor, in their order."
            )
        check_possible(config.tokens, caps, {cell: available[cell] for cell in caps})
        filled = fill_by_shares({cell: shares[cell] for cell in caps}, caps, config.tokens)
        return {cell: filled.get(cell, 0.0) / available[cell] if available[cell] else 0.0 for cell in sorted(available)}

    return mix
