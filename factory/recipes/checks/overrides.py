"""What an experiment changes of the base: sections with changes, and where a problem of such a section was written."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from factory.recipes.checks.checker import Checker

MIXTURE_KEYS = ("by", "best_first", "tokens", "max_epochs", "allow_red")  # what an override of another mixer keeps
T = TypeVar("T")


def override_mixture(base: Any, changed: Any) -> Any:
    """A mixture with changes; where another mixer is named, only what all mixers have is kept of the base."""
    if not isinstance(base, Mapping) or not isinstance(changed, Mapping):
        return base if changed is None else changed
    if changed.get("use", base.get("use")) != base.get("use"):
        base = {key: value for key, value in base.items() if key in MIXTURE_KEYS}
    return {**base, **changed}


def override_settings(base: Any, changed: Any) -> dict[str, Any]:
    """Settings with changes; `overrides` of both hold."""
    base, changed = base if isinstance(base, Mapping) else {}, changed if isinstance(changed, Mapping) else {}
    both = {**base, **changed}
    if isinstance(base.get("overrides"), Mapping) and isinstance(changed.get("overrides"), Mapping):
        both["overrides"] = {**base["overrides"], **changed["overrides"]}
    return both


def place_of(where: str, section: str, override: Mapping[str, Any]) -> str:
    """Where a section that an override replaces whole was written."""
    return f"{where}.{section}" if section in override else section


def placed(
    checker: Checker, where: str, section: str, override: Mapping[str, Any], check: Callable[[Mapping[str, Any]], T]
) -> T:
    """What `check` makes of a section with an experiment's override; problems stand where they were written.

    Those of keys that the override brings are the experiment's, and those that the base has without it are the base's.
    """
    made, found = checker.aside(lambda: check(override))
    changed = override.get(section)
    if changed is None or not found:
        checker.report(*found)
        return made
    of_base = {_unquoted(problem): problem for problem in checker.aside(lambda: check({}))[1]}
    for problem in found:
        key = problem.partition(":")[0].removeprefix(section).removeprefix(".").partition(".")[0]
        own = bool(key) and isinstance(changed, Mapping) and key in changed
        if not own and _unquoted(problem) in of_base:
            checker.report(of_base[_unquoted(problem)])
        else:
            checker.report(f"{where}.{problem}")
    return made


def _unquoted(problem: str) -> str:
    """A problem without what it quotes, which is the whole section where it is of several keys together."""
    return problem.partition(" (got ")[0]
