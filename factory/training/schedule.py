"""Learning rates: a pure function of the step, so that resuming needs nothing but the step number.

Step n of S with warm-up W, peak η and floor η₀ has η (n+1)/W while n < W, and then:

- `cosine`: η₀ + (η - η₀)/2 · (1 + cos π (n-W)/(S-W)); `linear`: straight down to the floor.
- `wsd`: η until the last `decay_share` of the steps, D = decay_share · S, then η₀ + (η - η₀) f(x), x = (n-(S-D))/D, where
  `decay` says f: `linear` 1-x, `sqrt` 1-√x (2405.18392), `cosine` (1 + cos πx)/2.
- `wsd_s` (2410.05192): several WSD runs in one. The run is annealed at S/2^(anneals-1), …, S/2 and S, each time as a run
  of that length would be, and after each goes on from the annealed weights at the peak rate.
- `infinite` (2503.02844, equation 1): down by a cosine over `cooldown_share` to η·`constant_share`, there for as long as
  data come, and in the last `decay_share` down by (η₀/that)^x. (The paper's exponent has the step in its denominator, with
  which the floor is never reached.) `decay_share: 0` goes on for ever, `warmup_steps: 0, cooldown_share: 0` goes on from
  such a run.
- `rewarm` (2308.04014, 2403.08763): for going on from a finished model: up over 1 % of the steps (`warmup_share`), then by
  a cosine to a tenth of the peak, or to the floor where that is higher.

The last step has a rate above zero, and `infinite` is counted from step 1, as its equation is.
"""

import math
from typing import get_args

from factory.core.errors import FactoryError
from factory.training.scales import Decay, Scale, Schedule

REWARM_SHARE = 0.01
REWARM_FLOOR = 0.1


def learning_rate(scale: Scale, step: int, steps: int) -> float:
    """The rate of `step` (from 0) in a run of `steps`."""
    peak, floor, warmup = scale.peak_lr, scale.floor_lr, warmup_steps(scale, steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if scale.schedule == "infinite":
        return infinite_rate(
            step + 1,
            peak=peak,
            constant=peak * scale.constant_share,
            floor=floor,
            warmup=warmup,
            cooldown=round(scale.cooldown_share * steps),
            stable=steps - round(scale.decay_share * steps),
            anneal=round(scale.decay_share * steps),
        )
    if scale.schedule in ("cosine", "rewarm"):
        lowest = floor if scale.schedule == "cosine" else max(floor, REWARM_FLOOR * peak)
        done = (step - warmup) / (steps - warmup)
        return lowest + (peak - lowest) / 2 * (1 + math.cos(math.pi * done))
    if scale.schedule == "linear":
        return floor + (peak - floor) * (steps - step) / (steps - warmup)
    end = next(end for end in annealed_steps(scale, steps) if step < end)
    decay = decay_steps(scale, end)
    done = max(0, step - (end - decay)) / decay
    return floor + (peak - floor) * _left(scale.decay, done)


def infinite_rate(
    step: int, *, peak: float, constant: float, floor: float, warmup: int, cooldown: int, stable: int, anneal: int
) -> float:
    """Equation 1 of 2503.02844 at step n from 0: warm-up to `warmup`, cool-down, constant to `stable`, then annealed."""
    if step <= warmup and warmup:
        return peak * step / warmup
    if step <= warmup + cooldown and cooldown:
        return constant + (peak - constant) / 2 * (1 + math.cos(math.pi * (step - warmup) / cooldown))
    if step <= stable or not anneal:
        return constant
    return constant * float((floor / constant) ** ((step - stable) / anneal))


def annealed_steps(scale: Scale, steps: int) -> tuple[int, ...]:
    """After how many steps a model is annealed: once, or with `wsd_s` at every halving from the end."""
    if scale.schedule != "wsd_s":
        return (steps,)
    return tuple(round(steps / 2**before) for before in range(scale.anneals - 1, -1, -1))


def warmup_steps(scale: Scale, steps: int) -> int:
    share = scale.warmup_share or (REWARM_SHARE if scale.schedule == "rewarm" else 0.0)
    return max(1, round(share * steps)) if share else scale.warmup_steps


def decay_steps(scale: Scale, steps: int) -> int:
    return max(1, round(scale.decay_share * steps))


def phase_of(scale: Scale, step: int, steps: int) -> str:
    """The part of the schedule a step is in: weights of two parts do not average to anything meaningful."""
    if step < warmup_steps(scale, steps):
        return "the warm-up"
    if scale.schedule == "infinite":
        if step < warmup_steps(scale, steps) + round(scale.cooldown_share * steps):
            return "the cool-down"
        return "the constant rate" if step < steps - round(scale.decay_share * steps) else "the decay"
    if scale.schedule in ("wsd", "wsd_s"):
        end = next(end for end in annealed_steps(scale, steps) if step < end)
        return f"the {'constant rate' if step < end - decay_steps(scale, end) else 'decay'} before step {end}"
    return "the decay"


def check_steps(scale: Scale, steps: int, tokens: int, *, reserve: int = 0) -> None:
    """Refuse a schedule that is none, and a budget that ends before its warm-up: it would never see its peak rate.

    `reserve` is what a recipe's budget keeps beside its steps.
    """
    _check_settings(scale)
    warmup = warmup_steps(scale, steps)
    first = annealed_steps(scale, steps)[0]
    if first <= warmup:
        least = (warmup + 1) * scale.step_tokens * 2 ** (scale.anneals - 1 if scale.schedule == "wsd_s" else 0)
        least += reserve
        raise FactoryError(
            f"proxy: {tokens:,} tokens are {steps} steps at scale {scale.name}, which warms up for {warmup}. "
            f"Ask for at least {least:,} tokens, or take a smaller scale."
        )


def _check_settings(scale: Scale) -> None:
    for name, known in (("schedule", get_args(Schedule)), ("decay", get_args(Decay))):
        if getattr(scale, name) not in known:
            raise FactoryError(f"scale {scale.name}: {name} '{getattr(scale, name)}' is not one of {', '.join(known)}.")
    shares = {
        name: getattr(scale, name) for name in ("decay_share", "warmup_share", "cooldown_share", "constant_share")
    }
    wrong = [f"{name} {value}" for name, value in shares.items() if not 0 <= value <= 1]
    if scale.anneals < 1 or (scale.schedule == "wsd_s" and scale.decay_share > 0.5):
        wrong.append(
            f"anneals {scale.anneals} with decay_share {scale.decay_share} (each decay is at most half its run)"
        )
    if scale.schedule == "infinite":
        if scale.decay_share and not scale.floor_lr > 0:
            wrong.append(f"floor_lr {scale.floor_lr} (an exponential decay needs one above 0; 1e-8 is the paper's)")
        if not scale.constant_share:
            wrong.append("constant_share 0")
    if wrong:
        raise FactoryError(f"scale {scale.name}, schedule {scale.schedule}: {'; '.join(wrong)} cannot be.")


def _left(decay: Decay, done: float) -> float:
    if decay == "sqrt":
        return 1 - math.sqrt(done)
    return 1 - done if decay == "linear" else (1 + math.cos(math.pi * done)) / 2
