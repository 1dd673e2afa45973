"""The same number of tokens of every domain, but of none more than `max_epochs` times what it has (UniMax, arXiv:2304.09151).

From the smallest domain on, each gets an equal part of what is left of the budget, or all it may give; what a small one
leaves goes to the larger ones. The budget is counted in tokens, where the paper counts characters.
"""

from collections.abc import Callable, Mapping

from factory.core.mixture import Budget, check_not_empty, check_possible
from factory.core.registry import register
from factory.mixing.shares import fill_evenly


@register("unimax", version=1, config=Budget)
def unimax(config: Budget) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        check_not_empty(config.tokens, available)
        bounds = config.bounds(available)
        caps = {domain: bounds[domain] * tokens for domain, tokens in available.items()}
        check_possible(config.tokens, caps, available)
        filled = fill_evenly(caps, config.tokens)
        return {
            domain: filled[domain] / available[domain] if available[domain] else 0.0 for domain in sorted(available)
        }

    return mix
