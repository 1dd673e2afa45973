"""The section `searches`, and the experiments that take what they find.

Experiments and tasks in error are known by the names they are written under.
"""

from collections.abc import Mapping
from typing import Any

from factory.core.errors import suggest
from factory.recipes.checks.checker import Checker, present
from factory.recipes.recipe import Experiment, Search, Use

KEYS = {
    "experiment": str,
    "objectives": list,
    "tokens": int,
    "match_repetition": bool,
}  # beside settings of the searcher


def read_searches(
    checker: Checker, data: Mapping[str, Any], experiments: list[Experiment], named: list[str]
) -> list[Search]:
    """`named`: the labels of all experiments that are written, those in error too."""
    tasks = list(checker.section(data, "evaluate"))
    by_label = {experiment.label: experiment for experiment in experiments}
    written = checker.section(data, "searches")
    read = [_search(checker, label, item, by_label, named, tasks) for label, item in written.items()]
    for experiment in experiments:
        for search in experiment.searches:
            if search not in written:
                checker.report(
                    f"experiments.{experiment.label}.mixture.search: no search is named '{search}'.{suggest(search, written)}"
                )
    return present(read)


def _search(
    checker: Checker, label: str, item: Any, experiments: Mapping[str, Experiment], named: list[str], tasks: list[str]
) -> Search | None:
    where = f"searches.{label}"
    own = checker.take(where, item, KEYS)
    use = checker.use("searcher", where, label, item, leave_out=tuple(KEYS))
    if own is None or use is None:
        return None
    name = own.get("experiment", named[0] if named else "")
    if name not in experiments:
        if named and name not in named:  # else no map of experiments, which is told
            checker.report(f"{where}.experiment: no experiment is named '{name}'.{suggest(name, named)}")
        return None
    if experiments[name].searches:
        checker.report(
            f"{where}.experiment: '{name}' takes its mixture from a search itself. Name one with a mixture of its own."
        )
        return None
    _check_experiment(checker, where, experiments[name], use)
    objectives = own.get("objectives", tasks[:1])
    _check_objectives(checker, where, objectives, tasks)
    mixture = experiments[name].mixture
    assert mixture is not None
    budget = mixture.config.model_dump()["tokens"]
    tokens, matched = own.get("tokens", budget), own.get("match_repetition", False)
    if tokens < 1:
        checker.report(f"{where}.tokens: a number above 0 is meant (got {tokens}).")
    if matched and tokens > budget:
        checker.report(
            f"{where}.match_repetition: a trial of {tokens:,} tokens is longer than the target of {budget:,}, and "
            "repetition is matched by leaving documents out. Lower the trial's tokens, or leave it out."
        )
    return Search(
        label=label,
        stage=use.stage,
        config=use.config,
        experiment=name,
        objectives=tuple(str(objective) for objective in objectives),
        tokens=tokens,
        match_repetition=matched,
    )


def _check_experiment(checker: Checker, where: str, experiment: Experiment, use: Use) -> None:
    """Report what trials of a mixture could not do as the experiment's own proxies do it."""
    name, proxy, mixture = experiment.label, experiment.proxy, experiment.mixture
    if proxy.init_experiment is not None:
        checker.report(
            f"{where}.experiment: the proxies of '{name}' go on from those of '{proxy.init_experiment}', "
            "which come after searches. Export that checkpoint and name its path in 'init', or search another one."
        )
    if mixture is not None and mixture.best_first is not None:
        checker.report(
            f"{where}.experiment: '{name}' reads the best documents of a domain first (best_first), and trials read them "
            "by hash: they would measure others. Search an experiment without it, and take the finding in this one."
        )
    starts = getattr(use.config, "start", None) is not None and name not in checker.no_proxy
    if starts and proxy.init is None:
        checker.report(
            f"{where}.start: the metrics of a checkpoint that trials go on from, and the proxies of '{name}' go on "
            "from none. Name it in 'proxy.init', or leave 'start' out: a base model is then trained."
        )


def _check_objectives(checker: Checker, where: str, objectives: list[Any], tasks: list[str]) -> None:
    """Report objectives that are no task, nor a task's domain, or stand there twice."""
    if tasks and not objectives:
        checker.report(f"{where}.objectives: at least one task is meant.{suggest('', tasks)}")
    for twice in sorted({str(one) for one in objectives if objectives.count(one) > 1}):
        checker.report(f"{where}.objectives: '{twice}' stands there twice. Each counts once.")
    if not tasks:
        checker.report(f"{where}: a search needs something to lower. Add a task to 'evaluate'.")
    for objective in objectives:
        known = isinstance(objective, str) and objective.partition("/")[0] in tasks
        if not known or objective.endswith("/"):
            checker.report(
                f"{where}.objectives: '{objective}' is no task, nor a task's domain.{suggest(str(objective), tasks)}"
            )
