"""The phases of a training: stretches of its steps with a mixture of their own, with or without metadata before documents.

In: the `phases` and `conditioning` of an experiment as plain values. Out: the phases as they are trained, where conditioning
that ends inside one cuts it in two (MeCo, arXiv:2501.01956: nine tenths with metadata, then a tenth without), and the steps
of each. They lie end to end over all steps; their borders are the shares rounded to whole steps, so none is off by more
than half a step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from factory.core.errors import FactoryError

EPSILON = 1e-9


@dataclass(frozen=True)
class Phase:
    """`share` of the training's tokens; `of` is the number of the declared phase and `part` its share of that one."""

    label: str
    share: float
    conditioned: bool
    of: int
    part: float


def plan_phases(spec: Mapping[str, Any]) -> list[Phase]:
    """The phases in their order; one, with everything, where none are declared."""
    declared = spec.get("phases") or [{"label": "main", "share": 1.0, "conditioned": None}]
    conditioning = spec.get("conditioning")
    until = float(conditioning["share"]) if conditioning else 0.0
    planned: list[Phase] = []
    begin = 0.0
    for number, item in enumerate(declared):
        label, share, asked = str(item["label"]), float(item["share"]), item.get("conditioned")
        if asked and not conditioning:
            raise FactoryError(
                f"phases: '{label}' is conditioned and nothing says on what. Add a section 'conditioning' with a column."
            )
        within = min(max((until - begin) / share, 0.0), 1.0) if asked is None else float(bool(asked))
        cuts = [("", within, True), ("_plain", 1.0 - within, False)]
        parts = [(tail, part, with_metadata) for tail, part, with_metadata in cuts if part > EPSILON]
        for tail, part, with_metadata in parts:
            name = label + tail if len(parts) > 1 else label
            planned.append(Phase(name, share * part, with_metadata, number, part))
        begin += share
    return planned


def planned_steps(phases: Sequence[Phase], steps: int) -> list[int]:
    """The steps of each phase; FactoryError where one has none."""
    wanted = phase_steps([phase.share for phase in phases], steps)
    if steps and not all(wanted):
        short = phases[wanted.index(0)]
        raise FactoryError(
            f"phases: '{short.label}' is {short.share:.2%} of {steps:,} steps, less than one. "
            "Give it a larger share, or the training more tokens."
        )
    return wanted


def phase_steps(shares: Sequence[float], steps: int) -> list[int]:
    """The steps of each phase, `steps` together."""
    total = sum(shares)
    ends, done = [0], 0.0
    for share in shares:
        done += share
        ends.append(min(steps, int(steps * done / total + 0.5)))
    ends[-1] = steps
    return [end - begin for begin, end in pairwise(ends)]
