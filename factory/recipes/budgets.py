"""Budgets of trainings, checked before anything runs: each reaches its peak rate, and each phase has a step of its own."""

from collections.abc import Mapping
from typing import Any

from factory.core.errors import FactoryError, RecipeError
from factory.core.search import Proposal
from factory.recipes.recipe import Conditioning, Experiment, Proxy, Search
from factory.recipes.scale import proxy_scale
from factory.training.phases import plan_phases, planned_steps
from factory.training.records import kept_steps
from factory.training.schedule import check_steps

OWN_BUDGETS = ("base_tokens", "seed_tokens", "expert_tokens")  # settings of searchers: tokens of some of their trials
SHARES = "budgets"  # and shares of a trial's tokens


def experiment_problems(experiment: Experiment) -> list[str]:
    """What keeps the proxies of an experiment from being trained on its mixture's tokens."""
    assert experiment.mixture is not None
    where, tokens = f"experiments.{experiment.label}", experiment.mixture.config.model_dump()["tokens"]
    problems = _problems(f"{where}.mixture.tokens", experiment.proxy, tokens)
    if problems:
        return problems
    scale = proxy_scale(experiment.proxy)
    steps = (tokens - scale.context) // scale.step_tokens
    try:
        planned_steps(plan_phases(_plan(experiment)), steps)
    except FactoryError as error:
        return [f"{where}.{error}"]
    try:
        kept_steps(steps, experiment.proxy.checkpoints)
    except FactoryError as error:
        return [f"{where}.proxy.checkpoints: {str(error).removeprefix('proxy: ')}"]
    return []


def search_problems(search: Search, proxy: Proxy) -> list[str]:
    """The same of a search's trials; of some methods, a few have budgets of their own."""
    where, config = f"searches.{search.label}", search.config
    asked = {"tokens": search.tokens}
    asked |= {name: tokens for name in OWN_BUDGETS if (tokens := getattr(config, name, None)) is not None}
    if shares := getattr(config, SHARES, ()):
        asked[SHARES] = max(1, round(min(shares) * search.tokens))
    return [problem for name, tokens in asked.items() for problem in _problems(f"{where}.{name}", proxy, tokens)]


def check_proposal(proposal: Proposal, proxy: Proxy, tokens: int) -> None:
    """Raise FactoryError where a trial of so many tokens would end before its warm-up."""
    if proposal.merge is None:
        problems = _problems(f"trial '{proposal.name}'", proxy, tokens)
        if problems:
            raise FactoryError(problems[0])


def _problems(where: str, proxy: Proxy, tokens: int) -> list[str]:
    try:
        scale = proxy_scale(proxy)
        # As a proxy counts them: the last target of the last sequence has to exist.
        check_steps(scale, max(0, tokens - scale.context) // scale.step_tokens, tokens, reserve=scale.context)
    except RecipeError as error:
        return list(error.problems)
    except FactoryError as error:
        return [f"{where}: {str(error).removeprefix('proxy: ')}"]
    return []


def _plan(experiment: Experiment) -> Mapping[str, Any]:
    conditioning: Conditioning | None = experiment.conditioning
    return {
        "phases": [phase.model_dump(include={"label", "share", "conditioned"}) for phase in experiment.phases],
        "conditioning": conditioning.model_dump() if conditioning is not None else None,
    }
