"""The section `experiments`: each is the base's sections with its overrides."""

from collections.abc import Mapping
from typing import Any

from factory.core.errors import suggest
from factory.recipes.checks.checker import Checker, kind_of
from factory.recipes.checks.columns import available_columns
from factory.recipes.checks.filters import merge_filters, read_rules
from factory.recipes.checks.mixtures import read_conditioning, read_mixture, read_packing, read_phases
from factory.recipes.checks.overrides import override_mixture, place_of, placed
from factory.recipes.checks.selection import read_selection
from factory.recipes.checks.training import check_chains, own_proxy
from factory.recipes.recipe import Experiment, LinkerUse, Proxy, Rule, Use

EXPERIMENT_SECTIONS = ("filters", "selection", "mixture", "packing", "phases", "conditioning", "proxy")


def read_experiments(
    checker: Checker,
    data: Mapping[str, Any],
    scorers: list[Use],
    linkers: list[LinkerUse],
    base_proxy: Proxy | None,
    labels: list[str],
    *,
    mixes: bool,
) -> list[Experiment]:
    columns = available_columns(scorers, linkers)
    made = []
    for label, override in (checker.section(data, "experiments") or {"base": {}}).items():
        where = f"experiments.{label}"
        checker.label(where, label)
        override = {} if override is None else override
        if not isinstance(override, Mapping):
            checker.report(f"{where}: a map of overrides is meant, this is {kind_of(override)}.")
            continue
        rules = _rules(checker, where, data, override, columns, scorers)
        if rules is None:
            continue
        chosen = placed(
            checker,
            where,
            "selection",
            override,
            lambda changes: read_selection(checker, data.get("selection"), changes, columns, scorers),
        )
        experiment = Experiment(label=label, rules=tuple(rules), selection=chosen, mixture=None)
        trained = _trained(checker, experiment, data, override, columns, base_proxy) if mixes else experiment
        if trained is not None:
            made.append(trained)
    check_chains(checker, made, base_proxy, labels)
    # A base filter stands in several experiments: its problem is reported once.
    checker.once()
    return made


def _rules(
    checker: Checker,
    where: str,
    data: Mapping[str, Any],
    override: Mapping[str, Any],
    columns: Mapping[str, Any],
    scorers: list[Use],
) -> list[Rule] | None:
    """The base's filters with an experiment's changes; None where its override cannot be read."""
    base = checker.section(data, "filters")
    checker.known_keys(where, override, EXPERIMENT_SECTIONS)
    if not isinstance(override.get("proxy") or {}, Mapping):
        checker.report(f"{where}.proxy: a map is meant, this is {kind_of(override['proxy'])}.")
        return None
    changed = override.get("filters", None)
    if changed is not None and not isinstance(changed, Mapping):
        checker.report(f"{where}.filters: a map is meant, this is {kind_of(changed)}.")
        return None
    changed = changed if changed is None else {str(key): value for key, value in changed.items()}
    for gone in [key for key, value in (changed or {}).items() if value is None and key not in base]:
        checker.report(f"{where}.filters.{gone}: removes a filter the base does not have.{suggest(gone, base)}")
    filters = merge_filters(base, changed)
    return [rule for key, item in filters.items() for rule in read_rules(checker, key, item, columns, scorers)]


def _trained(
    checker: Checker,
    experiment: Experiment,
    data: Mapping[str, Any],
    override: Mapping[str, Any],
    columns: Mapping[str, Any],
    base_proxy: Proxy | None,
) -> Experiment | None:
    """The experiment with what its proxies read, and how they are trained; None where its mixture is in error."""
    where, mixture = f"experiments.{experiment.label}", data.get("mixture", {"use": "natural"})
    mixed = placed(
        checker,
        where,
        "mixture",
        override,
        lambda changes: read_mixture(
            checker, "mixture", override_mixture(mixture, changes.get("mixture", {})), columns
        ),
    )
    conditioned = override.get("conditioning", data.get("conditioning"))
    conditioning = read_conditioning(checker, place_of(where, "conditioning", override), conditioned, columns)
    packing = override.get("packing", data.get("packing"))
    packer = read_packing(checker, place_of(where, "packing", override), packing, columns)
    proxy = own_proxy(checker, where, data.get("proxy"), override.get("proxy"), base_proxy)
    if proxy is None:
        checker.no_proxy.add(experiment.label)
    if mixed is None:
        return None
    item = override_mixture(mixture, override.get("mixture", {}))
    phases = read_phases(checker, where, override.get("phases", data.get("phases")), item, mixed, columns)
    for phase in phases if conditioned is None else ():
        if phase.conditioned:
            checker.report(
                f"{where}.phases: '{phase.label}' is conditioned and nothing says on what. Add a section 'conditioning' "
                "with a column."
            )
    trained = {"mixture": mixed, "packing": packer, "phases": tuple(phases), "conditioning": conditioning}
    return experiment.model_copy(update={**trained, "proxy": proxy or Proxy()})
