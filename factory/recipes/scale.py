"""The scale a recipe's proxies are trained at: a published one, with what the recipe changes about it."""

import math
from dataclasses import fields, replace

from factory.core.errors import RecipeError, suggest
from factory.recipes.recipe import Proxy
from factory.training.scales import Scale, find_scale


def proxy_scale(proxy: Proxy) -> Scale:
    """The scale with the recipe's overrides; raises RecipeError for one it does not have."""
    scale = find_scale(proxy.scale)
    known = [field.name for field in fields(Scale) if field.name != "name"]
    for name, value in proxy.overrides.items():
        if name not in known:
            raise RecipeError([f"proxy.overrides: a scale has no '{name}'.{suggest(name, known)}"])
        if isinstance(value, str) != isinstance(getattr(scale, name), str):
            meant = "a text" if isinstance(getattr(scale, name), str) else "a number"
            raise RecipeError([f"proxy.overrides.{name}: {meant} is meant (got {value!r})."])
        if not isinstance(value, str) and not math.isfinite(value):
            raise RecipeError([f"proxy.overrides.{name}: a finite number is meant (got {value})."])
    return replace(scale, **proxy.overrides)  # type: ignore[arg-type]
