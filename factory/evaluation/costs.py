"""What runs cost: tokens, floating-point operations, hours and money of each, and their sums, the discarded ones included.

A price is known where somebody gave what an hour of a machine costs; where nobody did it is None, and a sum over runs of
which some have no price says how many. Sums are `math.fsum` over the records, so that a ledger's total is that of its lines.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SEARCH = "search"  # the role of trials; their experiment is the search's name
LATEST = 10  # runs whose time is held against what the others would have told


@dataclass(frozen=True)
class Cost:
    """One run; `status` is complete, invalid (its loss broke down) or discarded (nothing current stands on it)."""

    name: str
    role: str  # proxy, or search: a trial of a search
    experiment: str
    scale: str
    seed: int | None
    status: str
    tokens: float | None
    flops_6nd: float | None
    flops: float | None  # by formula, attention included
    seconds: float | None  # of the machine, measured
    device: str | None = None
    usd_per_hour: float | None = None
    processes: int = 1
    mfu: float | None = None
    digest: str = ""
    ended: str = ""

    @property
    def hours(self) -> float | None:
        return None if self.seconds is None else self.seconds / 3600

    @property
    def gpu_hours(self) -> float | None:
        """Hours of all its processes on a GPU; None where it ran on none or it is not known."""
        on_gpu = (self.device or "").startswith("cuda")
        return self.seconds / 3600 * self.processes if self.seconds is not None and on_gpu else None

    @property
    def usd(self) -> float | None:
        return None if self.seconds is None or self.usd_per_hour is None else self.seconds / 3600 * self.usd_per_hour

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "hours": self.hours, "gpu_hours": self.gpu_hours, "usd": self.usd}


@dataclass(frozen=True)
class Price:
    """What some runs take together; None where no run tells."""

    runs: int
    tokens: float | None
    flops: float | None
    hours: float | None
    usd: float | None


def cost_of(
    record: Mapping[str, Any],
    *,
    name: str,
    role: str,
    experiment: str,
    scale: str,
    seed: int | None,
    current: bool = True,
    usd_per_hour: float | None = None,
    processes: int = 1,
    digest: str = "",
    ended: str = "",
) -> Cost:
    """The cost that a record of training tells; what it lacks is None."""
    status = "invalid" if not record.get("valid", True) else "complete" if current else "discarded"
    numbers = {key: _number(record.get(key)) for key in ("flops_6nd", "flops", "seconds", "mfu")}
    return Cost(
        name=name,
        role=role,
        experiment=experiment,
        scale=scale,
        seed=seed,
        status=status,
        tokens=_number(record.get("tokens_seen")),
        device=record.get("device"),
        usd_per_hour=usd_per_hour,
        processes=processes,
        digest=digest,
        ended=ended,
        **numbers,
    )


def totals(costs: Sequence[Cost]) -> dict[str, Any]:
    """Sums over runs: in all, by role, by status, proxies by experiment and trials by search.

    `unknown` counts the runs that do not tell.
    """
    return {
        **_sums(costs),
        "by_role": _by(costs, lambda one: one.role),
        "by_status": _by(costs, lambda one: one.status),
        "by_experiment": _by([one for one in costs if one.role != SEARCH], lambda one: one.experiment),
        "by_search": _by([one for one in costs if one.role == SEARCH], lambda one: one.experiment),
    }


def price_of_more(costs: Sequence[Cost], runs: int) -> Price:
    """What so many more runs like these take: their means."""
    return Price(
        runs,
        *(_scaled(_mean(getattr(one, name) for one in costs), runs) for name in ("tokens", "flops", "hours", "usd")),
    )


def prediction_errors(costs: Sequence[Cost], latest: int = LATEST) -> list[float]:
    """For the latest runs, how far off (relative) their seconds are from what the other runs' rate on the device says."""
    timed = [one for one in costs if one.seconds and one.flops and one.status != "invalid"]
    errors = []
    for one in sorted(timed, key=lambda one: (one.ended, one.name))[-latest:]:
        rates = [
            other.flops / other.seconds
            for other in timed
            if other is not one
            and (other.scale, other.device, other.processes) == (one.scale, one.device, one.processes)
            and other.flops
            and other.seconds
        ]
        if rates and one.flops and one.seconds:
            errors.append(one.flops / float(np.median(rates)) / one.seconds - 1)
    return errors


def _by(costs: Sequence[Cost], of: Callable[[Cost], str]) -> dict[str, Any]:
    return {name: _sums([one for one in costs if of(one) == name]) for name in sorted({of(one) for one in costs})}


def _sums(costs: Sequence[Cost]) -> dict[str, Any]:
    found: dict[str, Any] = {"runs": len(costs)}
    unknown = {}
    for name in ("tokens", "flops_6nd", "flops", "seconds", "gpu_hours", "usd"):
        known = [value for one in costs if (value := getattr(one, name)) is not None]
        found[name] = math.fsum(known) if known else None
        if len(known) < len(costs):
            unknown[name] = len(costs) - len(known)
    return {**found, "unknown": unknown}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _scaled(value: float | None, by: int) -> float | None:
    return None if value is None else value * by


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
