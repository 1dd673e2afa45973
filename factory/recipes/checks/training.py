"""The section `proxy`: scales, seeds, checkpoints that trainings go on from, and budgets that reach their peak rate."""

from collections.abc import Mapping
from typing import Any

from factory.core.errors import suggest
from factory.recipes.budgets import experiment_problems, search_problems
from factory.recipes.checks.checker import Checker
from factory.recipes.checks.overrides import override_settings
from factory.recipes.recipe import Experiment, Proxy, Search
from factory.training.scales import SCALES


def read_proxy(checker: Checker, where: str, item: Any) -> Proxy | None:
    proxy: Proxy | None = checker.values(Proxy, where, item)
    if proxy and proxy.scale not in SCALES:
        checker.report(f"{where}.scale: no scale is named '{proxy.scale}'.{suggest(proxy.scale, SCALES)}")
        return None
    return proxy


def own_proxy(checker: Checker, where: str, written: Any, changed: Any, base: Proxy | None) -> Proxy | None:
    """The proxy of an experiment; None where its override is in error, or the base, which is told there."""
    if base is None:
        read_proxy(checker, f"{where}.proxy", changed or {})
        return None
    return read_proxy(checker, f"{where}.proxy", override_settings(written, changed))


def check_chains(checker: Checker, experiments: list[Experiment], base: Proxy | None, labels: list[str]) -> None:
    """Report proxies that go on from experiments that are not there or go on from themselves, and unequal seeds."""
    by_label = {experiment.label: experiment for experiment in experiments}
    for experiment in experiments:
        where, proxy = f"experiments.{experiment.label}.proxy", experiment.proxy
        for name in ("scale", "seeds", "redraw") if base and experiment.label not in checker.no_proxy else ():
            if getattr(proxy, name) != getattr(base, name):
                checker.report(
                    f"{where}.{name}: experiments are compared at one scale, with as many seeds and draws. Set proxy.{name}."
                )
        if (laid_out := _not_drawn(experiment)) and proxy.redraw and experiment.label not in checker.no_proxy:
            checker.report(
                f"{where}.redraw: seeds draw documents by their hash, and '{experiment.label}' {laid_out}, which says itself "
                "which documents are read and when. Leave one of the two out."
            )
        seen, now = [experiment.label], proxy.init_experiment
        while now is not None and now in by_label and now not in seen:
            seen.append(now)
            now = by_label[now].proxy.init_experiment
        if now is not None and now not in by_label:
            if now == proxy.init_experiment and now not in labels:
                checker.report(f"{where}.init: no experiment is named '{now}'.{suggest(now, labels)}")
        elif now is not None:
            chain = " from ".join([*seen, now])
            checker.report(
                f"{where}.init: {chain} goes on from itself. In these it can be taken away with 'init: null'."
            )


def _not_drawn(experiment: Experiment) -> str:
    """What of an experiment does not go with documents drawn anew; empty where all does."""
    if experiment.phases:
        return "has phases"
    if experiment.conditioning is not None:
        return "has conditioning"
    return "is mixed best_first" if experiment.mixture and experiment.mixture.best_first else ""


def check_budgets(
    checker: Checker, data: Mapping[str, Any], experiments: list[Experiment], searches: list[Search]
) -> None:
    """Report trainings that end before their warm-up; a recipe that asks for none may make a few tokens all the same."""
    overrides = checker.section(data, "experiments")
    trains = any(data.get(name) for name in ("proxy", "evaluate", "searches"))
    by_label = {experiment.label: experiment for experiment in experiments}
    told = set[str]()  # of tokens of the base, which stand in every experiment
    for label, experiment in by_label.items():
        written = overrides.get(label)
        written = written if isinstance(written, Mapping) else {}
        if label in checker.no_proxy or not (trains or written.get("proxy")):
            continue
        own = isinstance(written.get("mixture"), Mapping) and "tokens" in written["mixture"]
        for problem in experiment_problems(experiment):
            place, _, what = problem.partition(": ")
            if own or not place.endswith(".mixture.tokens"):
                checker.report(problem)
            elif what not in told:
                told.add(what)
                # An experiment with a proxy of its own has its own reason; otherwise the base's line is wrong.
                checker.report(problem if written.get("proxy") else f"mixture.tokens: {what}")
    for search in searches:
        if search.experiment not in checker.no_proxy and search.tokens > 0:
            checker.report(*search_problems(search, by_label[search.experiment].proxy))
    checker.once()  # overrides of the base's proxy stand in every experiment
