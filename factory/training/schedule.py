"""Learning rates: a pure function of the step, so that resuming needs nothing but the step number.

Step n of S with warm-up W and peak η: η (n+1)/W, then cosine to a floor, or constant with a linear end (WSD), or linear
to zero. The last real step always has a rate above zero.
"""

import math

from factory.core.errors import FactoryError
from factory.training.scales import Scale


def learning_rate(scale: Scale, step: int, steps: int) -> float:
    """The rate of `step` (from 0) in a run of `steps`."""
    peak, floor, warmup = scale.peak_lr, scale.floor_lr, scale.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if scale.schedule == "cosine":
        done = (step - warmup) / (steps - warmup)
        return floor + (peak - floor) / 2 * (1 + math.cos(math.pi * done))
    if scale.schedule == "linear":
        return floor + (peak - floor) * (steps - step) / (steps - warmup)
    decay = max(1, round(scale.decay_share * steps))
    done = max(0, step - (steps - decay)) / decay
    return peak + (floor - peak) * done


def check_steps(scale: Scale, steps: int, tokens: int) -> None:
    """Refuse a budget that ends before its warm-up: such a run would never see its peak rate."""
    if steps <= scale.warmup_steps:
        least = (scale.warmup_steps + 1) * scale.step_tokens
        raise FactoryError(
            f"proxy: {tokens:,} tokens are {steps} steps at scale {scale.name}, which warms up for {scale.warmup_steps}. "
            f"Ask for at least {least:,} tokens, or take a smaller scale."
        )
