"""The section `linkers`: keys that documents are joined by, and the filters a document passes before it is linked."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from factory.core.columns import is_number
from factory.core.config import config_problems
from factory.core.errors import FactoryError, suggest
from factory.core.registry import find_stage
from factory.recipes.checks.checker import Checker, stage_meant
from factory.recipes.checks.columns import available_columns
from factory.recipes.checks.filters import read_rules
from factory.recipes.recipe import LinkerUse, Rule, Use


def read_linkers(checker: Checker, data: Mapping[str, Any], scorers: list[Use]) -> list[LinkerUse]:
    section, linkers = checker.section(data, "linkers"), list[LinkerUse]()
    for label, item in section.items():
        linker = _linker(checker, label, item, scorers)
        if linker is None:
            checker.broken[label] = stage_meant("linker", item)
        else:
            linkers.append(linker)
    return _with_rules(checker, linkers, section, scorers, checker.section(data, "filters"))


def _linker(checker: Checker, label: str, item: Any, scorers: list[Use]) -> LinkerUse | None:
    where = f"linkers.{label}"
    # Who stands for a cluster is the recipe's to say; what a linker of another join keeps is a setting of its own.
    elects = not isinstance(item, Mapping) or _elects(item.get("use"))
    outer = ("scope", "keep") if elects else ("scope",)
    own = checker.take(where, item, {**dict.fromkeys(outer, str), "after": list})
    if own is not None:
        own.pop("after", None)  # once all linkers are known: see `waiting`
    use = checker.use("linker", where, label, item, leave_out=(*outer, "after"))
    if own is None or use is None:
        return None
    try:
        linker = LinkerUse(label=label, stage=use.stage, config=use.config, **own)
    except ValidationError as error:
        checker.report(*config_problems(where, error, LinkerUse))
        return None
    if linker.best is not None:
        scored = {name: kind for use in scorers for name, kind in use.columns.items() if is_number(kind)}
        if linker.best not in scored:
            if not checker.is_of_broken(linker.best):
                known = suggest(linker.best, scored)
                checker.report(f"{where}.keep: '{linker.best}' is no column of numbers that a scorer writes.{known}")
            return None
    return linker


def _with_rules(
    checker: Checker, linkers: list[LinkerUse], data: Mapping[str, Any], scorers: list[Use], filters: Mapping[str, Any]
) -> list[LinkerUse]:
    """The linkers with the rules of `after`: those a document has to pass to be linked, of one document alone each."""
    columns = available_columns(scorers, linkers)
    links = {name for linker in linkers for name in linker.columns}
    made = []
    for linker in linkers:
        where, rules = f"linkers.{linker.label}.after", list[Rule]()
        for label in data[linker.label].get("after") or ():
            if not isinstance(label, str) or label not in filters:
                checker.report(f"{where}: no filter is labelled '{label}'.{suggest(str(label), filters)}")
                continue
            # A mistake in the filter is told where the filter stands; as an experiment may tell it again, once.
            found = read_rules(checker, label, filters[label], columns, scorers)
            read = [name for rule in found for name in rule.reads if name in links]
            if read:
                why = f"reads links ({', '.join(dict.fromkeys(read))}), which are made after it"
            elif any(rule.stage.fit is not None for rule in found):
                why = "compares documents with each other"
            else:
                rules += found
                continue
            checker.report(
                f"{where}: filter '{label}' does not look at a document alone: it {why}. "
                "Name filters that read columns of scorers and of documents."
            )
        made.append(linker.model_copy(update={"after": tuple(rules)}))
    return made


def _elects(stage: Any) -> bool:
    """Whether the linker of this name elects documents; a name that no linker has is reported elsewhere."""
    try:
        return find_stage("linker", str(stage)).links == "documents"
    except FactoryError:
        return True
