"""The books: every record that came in is a row, a skipped record of a named kind, or it is missing and that is an error.

    records in = rows + skipped by kind            (documents)
    rows       = kept + dropped by rule + errors   (decisions)

`dropped` attributes a document to the first rule it failed, in the order of the recipe, so that the numbers add up.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from factory.core.errors import LedgerError


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum of counts by key, keys sorted."""
    total: Counter[str] = Counter()
    for item in counts:
        total.update(item)
    return dict(sorted(total.items()))


def error_kind(error: str) -> str:
    """'json' of 'json: line 3 …': errors are counted by kind."""
    return error.split(":", 1)[0]


def documents_ledger(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The books of a documents dataset from the notes of its parts."""
    notes = list(parts)
    return {
        "records": sum(note["records"] for note in notes),
        "rows": sum(note["rows"] for note in notes),
        "skipped": add_counts(note["skipped"] for note in notes),
        "errors": add_counts(note["errors"] for note in notes),
    }


def decisions_ledger(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The books of an experiment's decisions over one snapshot."""
    notes = list(parts)
    return {
        "rows": sum(note["rows"] for note in notes),
        "kept": sum(note["kept"] for note in notes),
        "dropped": add_counts(note["dropped"] for note in notes),
        "errors": add_counts(note["errors"] for note in notes),
    }


def imbalance(ledger: Mapping[str, Any]) -> str | None:
    """What does not add up, in numbers; None when the books balance."""
    if "records" in ledger:
        accounted = ledger["rows"] + sum(ledger["skipped"].values())
        if ledger["records"] != accounted:
            return f"{ledger['records']:,} records in, {accounted:,} accounted for (rows {ledger['rows']:,} + skipped)"
    if "kept" in ledger:
        accounted = ledger["kept"] + sum(ledger["dropped"].values()) + sum(ledger["errors"].values())
        if ledger["rows"] != accounted:
            return f"{ledger['rows']:,} rows, {accounted:,} accounted for (kept + dropped + errors)"
    return None


def require_balance(name: str, ledger: Mapping[str, Any]) -> None:
    """Raise LedgerError when records were lost or counted twice."""
    problem = imbalance(ledger)
    if problem:
        raise LedgerError(f"{name}: the ledger does not balance: {problem}. This is a bug of the stage that made it.")


EMPTY = "no_text"


def error_share(ledger: Mapping[str, Any]) -> float:
    """Share of rows that could not be read; pages without text are normal on the web and counted by `empty_share`."""
    errors = ledger.get("errors", {})
    return (sum(errors.values()) - errors.get(EMPTY, 0)) / ledger["rows"] if ledger.get("rows") else 0.0


def empty_share(ledger: Mapping[str, Any]) -> float:
    """Share of rows that had nothing to read in them."""
    return float(ledger.get("errors", {}).get(EMPTY, 0) / ledger["rows"]) if ledger.get("rows") else 0.0
