"""The guard over a loss curve: says when a run can no longer be believed.

A run whose loss or gradient is not a number, or jumps for three steps in a row above six deviations of its own running
mean, is marked and never ranked (the threshold is the one of the OLMo stack).
"""

import math
from dataclasses import dataclass

DEVIATIONS = 6.0
STREAK = 3
SETTLED = 10  # observations before a deviation means anything
FORGET = 0.03
LEAST_DEVIATION = 0.02  # of the mean: a flat curve is not a reason to call noise a spike


@dataclass
class Guard:
    """Plain numbers, so that a resumed run judges exactly as an undisturbed one."""

    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    high: int = 0

    def problem(self, step: int, loss: float, gradient: float) -> str | None:
        """Why the run is invalid after this step, or None."""
        if not math.isfinite(loss):
            return f"the loss is {loss} at step {step}"
        if not math.isfinite(gradient):
            return f"the gradient norm is {gradient} at step {step}"
        deviation = max(math.sqrt(self.variance), LEAST_DEVIATION * self.mean)
        if self.seen >= SETTLED and loss > self.mean + DEVIATIONS * deviation:
            self.high += 1
            if self.high >= STREAK:
                return f"the loss is {loss:.3f} at step {step}, {STREAK} steps above {self.mean:.3f} ± {deviation:.3f}"
            return None  # what is being judged does not move the measure
        self.high = 0
        weight = max(FORGET, 1 / (self.seen + 1))
        change = loss - self.mean
        self.mean += weight * change
        self.variance = (1 - weight) * (self.variance + weight * change * change)
        self.seen += 1
        return None
