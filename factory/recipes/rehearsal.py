"""How many trainings a search will take, before any: the searcher itself is asked, and answered with invented measurements.

What it asks next depends on what it was told, so that the number of trials is what is likely and not what is certain: of
confirmed mixtures, equal ones are trained once. Trials that are in the store answer for themselves and cost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xxhash

from factory.core.errors import FactoryError
from factory.core.search import Problem, Proposal, Trial
from factory.recipes.recipe import Search

MOST_ROUNDS = 200
MOST_CANDIDATES = 500  # mixtures a method predicts: enough to propose some, and soon done
NOISE = 0.01  # of an invented measurement
METRICS = ("general", "special")  # settings that name metrics beside the objectives

Kept = Callable[[Proposal], Trial | None]


@dataclass(frozen=True)
class Rehearsal:
    """The trials that would have to be made, how many are there already, and in how many rounds."""

    missing: tuple[Proposal, ...]
    there: int
    rounds: int


def rehearse(search: Search, problem: Problem, kept: Kept = lambda proposal: None) -> Rehearsal:
    """Ask a search round by round; raises FactoryError where it finds something wrong with its problem."""
    config = search.config
    if getattr(config, "candidates", 0) > MOST_CANDIDATES:
        config = config.model_copy(update={"candidates": MOST_CANDIDATES})
    searcher = search.stage.make(config)
    metrics = [*problem.objectives, *(name for key in METRICS if (name := getattr(config, key, None)) is not None)]
    trials: list[Trial] = []
    missing: list[Proposal] = []
    for number in range(MOST_ROUNDS):
        asked = searcher.ask(problem, trials)
        if not asked:
            return Rehearsal(tuple(missing), len(trials) - len(missing), number)
        for proposal in asked:
            trial = kept(proposal)
            if trial is None:
                missing.append(proposal)
                trial = _invented(problem, proposal, metrics)
            trials.append(trial)
    raise FactoryError(f"searches.{search.label}: asks for more trials after {MOST_ROUNDS} rounds.")


def _invented(problem: Problem, proposal: Proposal, metrics: Sequence[str]) -> Trial:
    """Lowest half-way from natural to uniform shares, with noise that the trial's name decides."""
    even = 1 / len(problem.names)
    apart = sum((proposal.weights.get(name, 0.0) - (share + even) / 2) ** 2 for name, share in problem.natural.items())
    values = {
        metric: 3 + apart + NOISE * (xxhash.xxh3_64_intdigest(f"{metric} {proposal.name}".encode()) / 2**64)
        for metric in metrics
    }
    # Where shares change during a training, the record has those it found.
    return Trial(proposal, values, record={"weights": dict.fromkeys(problem.names, even)})
