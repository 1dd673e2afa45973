"""The section `filters`: rules of the recipe's own, and rules of presets with the scorers their thresholds hold for."""

import json
from collections.abc import Mapping
from typing import Any

from factory.core.errors import RecipeError, suggest
from factory.recipes.checks.checker import Checker, kind_of, present
from factory.recipes.checks.columns import check_types, report_unknown, resolve_column
from factory.recipes.checks.presets import find_preset
from factory.recipes.recipe import Rule, Use


def read_rules(checker: Checker, label: str, item: Any, columns: Mapping[str, Any], scorers: list[Use]) -> list[Rule]:
    where = f"filters.{label}"
    checker.label(where, label)
    if isinstance(item, Mapping) and "preset" in item:
        return _preset(checker, where, label, item, columns, scorers)
    rule = _rule(checker, where, label, item, columns, scorers)
    return [rule] if rule else []


def merge_filters(base: Mapping[str, Any], changed: Mapping[str, Any] | None) -> dict[str, Any]:
    """An experiment's filters: none given keeps the base's, an empty map has none, a map adds, replaces and (null) removes."""
    if changed is None:
        return dict(base)
    if not changed:
        return {}
    return {key: value for key, value in {**base, **changed}.items() if value is not None}


def _rule(
    checker: Checker, where: str, label: str, item: Any, columns: Mapping[str, Any], scorers: list[Use]
) -> Rule | None:
    own = checker.take(where, item, {"source": str})
    if own is None:
        return None
    resolved = dict(item)
    for key in ("column", "by"):
        if isinstance(item.get(key), str):
            column = resolve_column(item[key], scorers)
            if column is None or column not in columns:
                report_unknown(checker, where, item[key], column, columns, scorers)
                return None
            resolved[key] = column
    use = checker.use("filter", where, label, resolved, leave_out=("source",), check_label=False)
    if use is None:
        return None
    reads = tuple(name for name in use.stage.reads_for(use.config) if name != "doc_id")
    for name in reads:
        if name not in columns and not checker.is_of_broken(name):
            checker.report(
                f"{where}: filter {use.stage.name}@{use.stage.version} reads '{name}', which no stage writes."
                f"{suggest(name, columns)}"
            )
    check_types(checker, where, use, columns)
    return Rule(label=label, stage=use.stage, config=use.config, reads=reads, source=own.get("source", ""))


def _preset(
    checker: Checker, where: str, label: str, item: Mapping[str, Any], columns: Mapping[str, Any], scorers: list[Use]
) -> list[Rule]:
    checker.known_keys(where, item, ("preset", "rules", "scorers"))
    found = _found_preset(checker, where, item["preset"])
    own = _preset_scorers(checker, where, item, found.get("scorers") or {}, scorers) if found else None
    if found is None or own is None:
        return []
    rules = dict(found["rules"])
    changes = item.get("rules") or {}
    if not isinstance(changes, Mapping):
        checker.report(f"{where}.rules: a map of rule to its changes is meant, this is {kind_of(changes)}.")
        return []
    for name, change in changes.items():
        if name not in rules:
            checker.report(f"{where}.rules: preset {item['preset']} has no rule '{name}'.{suggest(name, rules)}")
        elif change is None:
            del rules[name]
        elif not isinstance(change, Mapping):
            checker.report(f"{where}.rules.{name}: a map of changes is meant, or null, this is {kind_of(change)}.")
        else:
            rules[name] = {**rules[name], **change}
    made = [_rule(checker, f"{where}.{name}", f"{label}.{name}", rule, columns, own) for name, rule in rules.items()]
    return present(made)


def _found_preset(checker: Checker, where: str, name: Any) -> Mapping[str, Any] | None:
    """A preset that ships, by its name, or one of the recipe's own, by the path of its file."""
    try:
        return find_preset(name, checker.folder)
    except RecipeError as error:
        checker.report(*[f"{where}.preset: {problem}" for problem in error.problems])
        return None


def _preset_scorers(
    checker: Checker, where: str, item: Mapping[str, Any], needs: Mapping[str, Any], scorers: list[Use]
) -> list[Use] | None:
    """The scorers a preset's rules mean: of each stage the one whose settings its thresholds hold for."""
    asked = item.get("scorers") or {}
    if not isinstance(asked, Mapping):
        checker.report(f"{where}.scorers: a map of stage to label is meant, this is {kind_of(asked)}.")
        return None
    labels = [use.label for use in scorers]
    wrong = [
        f"{where}.scorers.{s}: no scorer is labelled '{v}'.{suggest(str(v), labels)}"
        for s, v in asked.items()
        if v not in labels and v not in checker.broken
    ]
    missing, known, chosen = [], True, [use for use in scorers if use.stage.name not in {*needs, *asked}]
    for stage in dict.fromkeys([*needs, *asked]):
        settings = needs.get(stage) or {}
        fitting = [
            use
            for use in scorers
            if use.stage.name == stage
            and asked.get(stage, use.label) == use.label
            and all(use.config.model_dump(mode="json").get(key) == value for key, value in settings.items())
        ]
        if len(fitting) > 1:
            names = ", ".join(use.label for use in fitting)
            wrong.append(f"{where}: {stage} could be {names}. Choose: scorers: {{{stage}: {fitting[0].label}}}.")
        elif not fitting and (asked.get(stage) in checker.broken or checker.may_be_broken(stage)):
            known = False
        elif not fitting:
            label = next(
                (
                    f"{stage}_{n}" if n else stage
                    for n in ("", *range(2, 99))
                    if (f"{stage}_{n}" if n else stage) not in labels
                ),
                stage,
            )
            missing.append(f"{label}: {_flow({'use': stage, **settings})}")
        chosen += fitting
    if missing:
        wrong.append(
            f"{where}: the thresholds of preset {item['preset']} hold for scorers this recipe does not have. "
            f"Add under scorers: {'; '.join(missing)}."
        )
    checker.report(*wrong)
    return None if wrong or not known else chosen


def _flow(settings: Mapping[str, Any]) -> str:
    """Settings as one writes them in a line of YAML."""
    plain = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in settings.items()
    }
    return "{" + ", ".join(f"{key}: {value}" for key, value in plain.items()) + "}"
