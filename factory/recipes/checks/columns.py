"""Columns that stages read: which there are, whose they are, and of which types."""

import difflib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from factory.core.errors import suggest
from factory.core.schema import DOCUMENT
from factory.recipes.checks.checker import Checker
from factory.recipes.recipe import LinkerUse, Use

MOST_NAMED = 12  # columns in a message


def available_columns(scorers: list[Use], linkers: list[LinkerUse]) -> dict[str, Any]:
    """Every column a rule can read: of the documents, of each scorer and of each linker."""
    columns: dict[str, Any] = {
        name: DOCUMENT.field(name).type for name in DOCUMENT.names if name not in ("text", "error")
    }
    for use in scorers:
        columns.update(use.columns)
    for linker in linkers:
        columns.update(linker.columns)
    return columns


def resolve_column(name: str, scorers: list[Use]) -> str | None:
    """`stage.column` of a preset as the recipe's own column; None when no scorer, or more than one, uses that stage."""
    stage, dot, column = name.partition(".")
    if not dot:
        return name
    labels = [use.label for use in scorers if use.stage.name == stage]
    return f"{labels[0]}_{column}" if len(labels) == 1 else None


def report_unknown(
    checker: Checker, where: str, asked: str, column: str | None, columns: Mapping[str, Any], scorers: list[Use]
) -> None:
    """Report a column that is not there, unless what would write it is in error itself."""
    if column is not None:
        if not checker.is_of_broken(column):
            checker.report(f"{where}: reads '{asked}', which no stage writes.{suggest(column, columns)}")
        return
    stage = asked.split(".")[0]
    labels = [use.label for use in scorers if use.stage.name == stage]
    if len(labels) > 1:
        checker.report(
            f"{where}: '{asked}' could be of {', '.join(labels)}; write the label's column, such as '{labels[0]}_…'."
        )
    elif not checker.may_be_broken(stage):
        checker.report(
            f"{where}: reads '{asked}', but no scorer uses {stage}. Add one: scorers: {{words: {{use: {stage}}}}}."
        )


def check_types(checker: Checker, where: str, use: Use, columns: Mapping[str, pa.DataType]) -> None:
    """Report columns of a type that the stage does not take, with those of the recipe that it does."""
    for name, refusal in use.stage.takes_for(use.config):
        why = refusal(name, columns[name]) if name in columns else ""
        if why:
            fitting = [other for other, kind in columns.items() if not refusal(other, kind)]
            checker.report(f"{where}: {why}{_alike(name, fitting)}")


def _alike(name: str, columns: list[str]) -> str:
    """Columns that would do, those with the most like names first."""
    if not columns:
        return " The recipe has no such column."
    ranked = sorted(columns, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))
    more = f" and {len(ranked) - MOST_NAMED} more" if len(ranked) > MOST_NAMED else ""
    return f" Columns that fit: {', '.join(ranked[:MOST_NAMED])}{more}."
