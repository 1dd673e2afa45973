"""Presets by name: those that ship, and files of a recipe's own. Raises RecipeError on one that is not there or is none."""

import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from factory.core.errors import RecipeError, suggest
from factory.recipes.checks.checker import LABEL
from factory.recipes.yaml import MAX_BYTES, read_yaml

PRESET_SECTIONS = ("name", "source", "scorers", "rules")


def find_preset(name: Any, folder: str) -> Mapping[str, Any]:
    """The preset of this name, or in the file at this path below `folder`; raises RecipeError when there is no such one."""
    if isinstance(name, str) and name.endswith((".yaml", ".yml")):
        return _own_preset(os.path.join(folder, name), name)
    known = presets()
    if not isinstance(name, str) or name not in known:
        alike = [item for item in known if "/" not in item or str(name).startswith(item.split("/")[0])]
        raise RecipeError(
            [
                f"no preset is named '{name}'.{suggest(str(name), alike)} A file of your own is named by its path: ./own.yaml."
            ]
        )
    found: Mapping[str, Any] = known[name]
    return found


@cache
def presets() -> dict[str, Any]:
    """Every preset that ships: name to its content. Those of a family, such as one for each language, are family/name."""
    folder = resources.files("factory") / "presets"
    families = [item for item in folder.iterdir() if item.is_dir()]
    files = {item.name: item for item in folder.iterdir()}
    files.update({f"{family.name}/{item.name}": item for family in families for item in family.iterdir()})
    return {
        name.removesuffix(".yaml"): read_yaml(item.read_text("utf-8"), name)
        for name, item in sorted(files.items())
        if name.endswith(".yaml")
    }


def _own_preset(path: str, name: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            data = read_yaml(stream.read(MAX_BYTES + 1), name)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            [f"{path} cannot be read as text: {error}. Correct the path; it starts at the recipe."]
        ) from error
    rules = data.get("rules") if isinstance(data, Mapping) else None
    if not isinstance(rules, Mapping) or not rules or not all(isinstance(rule, Mapping) for rule in rules.values()):
        raise RecipeError([f"{name} holds no rules. A preset is a map with `rules`: a map of label to rule."])
    problems = [
        f"{name}: unknown key '{key}'.{suggest(str(key), PRESET_SECTIONS)}"
        for key in data
        if key not in PRESET_SECTIONS
    ]
    problems += [
        f"{name}: rules.{label}: labels are small letters, digits and _, starting with a letter."
        for label in rules
        if not isinstance(label, str) or not LABEL.fullmatch(label)
    ]
    scorers = data.get("scorers") or {}
    if not isinstance(scorers, Mapping) or not all(isinstance(item or {}, Mapping) for item in scorers.values()):
        problems.append(f"{name}: `scorers` is a map of stage to the settings its thresholds hold for.")
    if problems:
        raise RecipeError(problems)
    found: Mapping[str, Any] = data
    return found
