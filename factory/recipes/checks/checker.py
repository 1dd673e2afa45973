"""What every check of a recipe uses: the problems found so far, and maps, lists, labels and uses of stages read from plain data.

Nothing is raised: what is in error is reported, and is None or empty to who asked for it.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from factory.core.config import config_problems
from factory.core.errors import FactoryError, suggest
from factory.core.registry import find_stage, stages
from factory.recipes.recipe import Use

LABEL = re.compile(r"[a-z][a-z0-9_]{0,40}")
T = TypeVar("T")


@dataclass
class Checker:
    folder: str  # where relative paths of the recipe start
    problems: list[str] = field(default_factory=list)
    # Scorers and linkers that are in error themselves, by label: the stage each means, None where nobody can tell. What they
    # would write is not known, so nothing that asks for it is called wrong.
    broken: dict[str, str | None] = field(default_factory=dict)
    # Experiments whose proxy is in error, or the base's is: what follows from it is not told.
    no_proxy: set[str] = field(default_factory=set)

    def report(self, *problems: str) -> None:
        self.problems += problems

    def once(self) -> None:
        """What was found in several places is told once."""
        self.problems = list(dict.fromkeys(self.problems))

    def use(
        self, kind: str, where: str, label: str, item: Any, *, leave_out: tuple[str, ...] = (), check_label: bool = True
    ) -> Use | None:
        if check_label:
            self.label(where, label)
        if not isinstance(item, Mapping) or not isinstance(item.get("use"), str):
            self.report(f"{where}: 'use' must name a {kind}.{suggest('', [s.name for s in stages(kind)])}")
            return None
        try:
            stage = find_stage(kind, item["use"])
        except FactoryError as error:
            self.report(f"{where}.use: {error}")
            return None
        settings = {key: value for key, value in item.items() if key != "use" and key not in leave_out}
        config, found = self.aside(lambda: self.values(stage.config, where, settings))
        known = stage.config.model_fields
        for key in settings:  # beside its settings, every use of the stage takes these
            refused = f"{where}.{key}: unknown key '{key}'."
            full = refused + suggest(str(key), ("use", *leave_out, *known))
            found = [full if problem == refused + suggest(str(key), known) else problem for problem in found]
        self.report(*found)
        return Use(label=label, stage=stage, config=config) if config is not None else None

    def values(self, model: type[BaseModel], where: str, settings: Mapping[str, Any]) -> Any:
        try:
            return model(**settings)
        except ValidationError as error:
            self.report(*config_problems(where, error, model))
        except TypeError as error:
            self.report(f"{where}: {error}.")
        return None

    def take(self, where: str, item: Any, own: Mapping[str, type]) -> dict[str, Any] | None:
        if not isinstance(item, Mapping):
            self.report(f"{where}: a map with 'use' is meant, this is {kind_of(item)}.")
            return None
        taken = {}
        for key, kind in own.items():
            if key in item and item[key] is not None:
                if not isinstance(item[key], kind) or (isinstance(item[key], bool) and kind is not bool):
                    such = item[key] if isinstance(item[key], str) else "…"
                    meant = f"a list is meant, such as [{such}]" if kind is list else f"{kind.__name__} is meant"
                    meant = "true or false is meant" if kind is bool else meant
                    self.report(f"{where}.{key}: {meant} (got {item[key]!r}).")
                    return None
                taken[key] = item[key]
        return taken

    def section(self, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value = data.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.report(f"{name}: a map is meant, this is {kind_of(value)}.")
            return {}
        return {str(key): item for key, item in value.items()}

    def sequence(self, data: Mapping[str, Any], name: str) -> list[Any]:
        value = data.get(name)
        if value is not None and not isinstance(value, list):
            self.report(f"{name}: a list is meant, this is {kind_of(value)}.")
            return []
        return value or []

    def known_keys(self, where: str, item: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in item:
            if key not in known:
                self.report(f"{where}: unknown key '{key}'.{suggest(str(key), known)}")

    def label(self, where: str, label: str) -> None:
        if not LABEL.fullmatch(label):
            self.report(f"{where}: labels are small letters, digits and _, starting with a letter, not '{label}'.")

    def aside(self, check: Callable[[], T]) -> tuple[T, list[str]]:
        """What `check` makes, and the problems it finds, which are not reported yet."""
        before, self.problems = self.problems, []
        made = check()
        found, self.problems = self.problems, before
        return made, found

    def is_of_broken(self, column: str) -> bool:
        return any(column.startswith(f"{label}_") for label in self.broken)

    def may_be_broken(self, stage: str) -> bool:
        """Whether a scorer that is in error could be the one of this stage."""
        return any(meant in (stage, None) for meant in self.broken.values())


def stage_meant(kind: str, item: Any) -> str | None:
    """The stage somebody meant who wrote this: its name, or the name most like it."""
    asked = item.get("use") if isinstance(item, Mapping) else None
    near = difflib.get_close_matches(str(asked), [stage.name for stage in stages(kind)], n=1)
    return near[0] if near else None


def present(items: Iterable[T | None]) -> list[T]:
    return [item for item in items if item is not None]


def kind_of(value: Any) -> str:
    return {
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
        bool: "true or false",
        type(None): "empty",
    }.get(type(value), type(value).__name__)
