"""Gates as asset checks: the library evaluates them with the data, Dagster shows them and stops what comes after."""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from factory.recipes.gates import Check, gate_names
from factory.recipes.workspace import Outcome

EXPECTATIONS = "expectations"
DESCRIPTIONS = {
    "ledger": "Records that came in are rows or skipped by kind; rows are kept, dropped by a rule, or errors.",
    "errors": "No more than the recipe's `max_error_share` of the rows are errors.",
    "not_empty": "There is something to go on with.",
    "unique": "Every doc_id is there once.",
    "drift": "No column's distribution left that of the snapshot before (population stability index).",
    "aligned": "Every part stands beside the same rows as its document part.",
    "computed": "No more than the recipe's `max_error_share` of the rows could not be computed.",
    "mixture": "The tokens that training reads are shared between domains as the mixture asked.",
    "finite": "Training neither broke down nor diverged.",
    "complete": "Every training of every experiment could be made; those that could not are listed as failed.",
    EXPECTATIONS: "Great Expectations on a sample of the documents: identity, text or error, addresses, dates.",
}


def check_names(kind: str, *, expectations: bool) -> tuple[str, ...]:
    return (*gate_names(kind), *((EXPECTATIONS,) if expectations and kind == "documents" else ()))


def check_specs(kind: str, key: dg.AssetKey, *, expectations: bool = False) -> list[dg.AssetCheckSpec]:
    """Blocking checks of an asset; a gate that only warns is reported with severity WARN, which blocks nothing."""
    names = check_names(kind, expectations=expectations)
    return [dg.AssetCheckSpec(name, asset=key, blocking=True, description=DESCRIPTIONS.get(name)) for name in names]


def check_results(names: Iterable[str], key: dg.AssetKey, outcomes: Sequence[Outcome]) -> Iterator[dg.AssetCheckResult]:
    """One result for each check, over all datasets of the asset in this run."""
    for name in names:
        found = [(outcome, check) for outcome in outcomes for check in outcome.checks if check.name == name]
        failed = [(outcome, check) for outcome, check in found if not check.passed]
        blocking = any(check.blocking for _, check in failed)
        told = failed or found
        lines = [_line(outcome, check, alone=len(outcomes) == 1) for outcome, check in told[:8]]
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=key,
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if blocking or not failed else dg.AssetCheckSeverity.WARN,
            description="\n".join(lines) or "not looked at: nothing was made",
            metadata={"datasets": len(outcomes), "failed": len(failed)},
        )


def _line(outcome: Outcome, check: Check, *, alone: bool) -> str:
    return check.text if alone else f"{outcome.node.name}: {check.text}"
