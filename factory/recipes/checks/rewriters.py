"""The section `rewrite`: edits of the text of what is kept, by columns of scorers and linkers."""

from collections.abc import Mapping
from typing import Any

from factory.core.errors import suggest
from factory.core.schema import DOCUMENT
from factory.recipes.checks.checker import Checker
from factory.recipes.checks.columns import available_columns, check_types, report_unknown, resolve_column
from factory.recipes.recipe import LinkerUse, Use


def read_rewriters(
    checker: Checker, data: Mapping[str, Any], scorers: list[Use], linkers: list[LinkerUse]
) -> list[Use]:
    """The `rewrite` section; it reads columns of scorers and linkers."""
    columns = available_columns(scorers, linkers)
    made_columns = {name: kind for use in (*scorers, *linkers) for name, kind in use.columns.items()}
    made = []
    for label, item in checker.section(data, "rewrite").items():
        where = f"rewrite.{label}"
        if isinstance(item, Mapping) and isinstance(item.get("column"), str):
            column = resolve_column(item["column"], scorers)
            if column not in made_columns:
                report_unknown(checker, where, item["column"], column, columns, scorers)
                continue
            item = {**item, "column": column}
        use = checker.use("rewriter", where, label, item)
        if use is None:
            continue
        for name in use.stage.reads_for(use.config):
            if name not in made_columns and name not in DOCUMENT.names and not checker.is_of_broken(name):
                checker.report(f"{where}: reads '{name}', which no stage writes.{suggest(name, made_columns)}")
        check_types(checker, where, use, made_columns)
        made.append(use)
    return made
