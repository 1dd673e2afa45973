"""The average of a run's last weights, made while it trains: N snapshots evenly spaced before the end, or an exponential one.

Uniform (LAWA, 2209.14981; 1803.05407): snapshots after the last step and `spacing`, 2·spacing, … before it, running mean
m + (w - m)/k, so that the average of equal weights is equal to the bit. Exponential: m + (1 - d)(w - m) after every step, with
d no larger than (1 + t)/(10 + t) so that the first weights do not stay. All snapshots lie in one part of the schedule.
"""

from typing import Any

from factory.core.errors import FactoryError
from factory.training.distributed import gathered_like, local, scattered_like
from factory.training.scales import Scale
from factory.training.schedule import phase_of

SPACING_SHARE = 0.01  # of the steps: five snapshots are the last five percent


def average_steps(scale: Scale, steps: int, count: int) -> list[int]:
    """After which steps a snapshot is taken; FactoryError where they would span two parts of the schedule."""
    spacing = max(1, round(SPACING_SHARE * steps))
    taken = [steps - spacing * before for before in range(count - 1, -1, -1)]
    phases = [phase_of(scale, step - 1, steps) if step > 0 else "before the first step" for step in taken]
    if len(set(phases)) > 1:
        raise FactoryError(
            f"proxy: average: {count} takes weights after steps {taken[0]} to {taken[-1]} of {steps}, and those of {phases[0]} "
            f"are not averaged with those of {phases[-1]}. Average fewer, or another schedule's."
        )
    return taken


class Average:
    """The running average; `seen` snapshots are in it. `decay` 0 is the uniform one."""

    def __init__(self, model: Any, *, decay: float = 0.0, at: list[int] | None = None) -> None:
        self.seen, self.decay, self.at = 0, decay, frozenset(at or ())
        self._parameters = dict(model.named_parameters())
        self._values: dict[str, Any] = {}

    def after(self, step: int) -> None:
        """Take the weights as they are after this many steps, where they are asked for."""
        if not self.decay and step not in self.at:
            return
        import torch

        self.seen += 1
        share = 1 / self.seen
        if self.decay and self.seen > 1:
            share = 1 - min(self.decay, (1 + self.seen) / (10 + self.seen))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                now = local(parameter).detach().float()
                if name in self._values:
                    self._values[name].add_(now - self._values[name], alpha=share)
                else:
                    self._values[name] = now.clone()

    def put(self) -> None:
        """Make the average the model's weights."""
        import torch

        with torch.no_grad():
            for name, value in self._values.items():
                local(self._parameters[name]).copy_(value)

    def tensors(self) -> dict[str, Any]:
        """The average so far, whole; every process has to ask."""
        return {name: gathered_like(self._parameters[name], value) for name, value in self._values.items()}

    def restore(self, seen: int, tensors: dict[str, Any]) -> None:
        self.seen = seen
        self._values = {
            name: local(scattered_like(self._parameters[name], value)).clone() for name, value in tensors.items()
        }
