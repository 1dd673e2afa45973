"""The section `selection`: how often each kept document is taken."""

from collections.abc import Mapping
from typing import Any

from factory.recipes.checks.checker import Checker
from factory.recipes.checks.columns import check_types, report_unknown, resolve_column
from factory.recipes.recipe import Selection, Use


def read_selection(
    checker: Checker, base: Any, override: Mapping[str, Any], columns: Mapping[str, Any], scorers: list[Use]
) -> Selection | None:
    """The base's section with an experiment's changes; null there takes it away."""
    item = override.get("selection", base)
    if isinstance(base, Mapping) and isinstance(item, Mapping):
        item = {**base, **item}
    if item is None:
        return None
    resolved = dict(item) if isinstance(item, Mapping) else item
    for key in ("column", "by"):
        if isinstance(item, Mapping) and isinstance(item.get(key), str):
            column = resolve_column(item[key], scorers)
            if column is None or column not in columns:
                report_unknown(checker, "selection", item[key], column, columns, scorers)
                return None
            resolved[key] = column
    use = checker.use("selector", "selection", "selection", resolved)
    if use is None:
        return None
    check_types(checker, "selection", use, columns)
    return Selection(label=use.label, stage=use.stage, config=use.config, reads=use.stage.reads_for(use.config))
