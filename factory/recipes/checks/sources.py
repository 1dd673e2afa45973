"""The section `sources`: where documents come from, and how files are cut into snapshots and parts."""

from collections.abc import Mapping
from typing import Any

from factory.recipes.checks.checker import Checker, present
from factory.recipes.listings import PLACES, default_snapshot, listing_problems
from factory.recipes.recipe import SourceUse

DEFAULT_PART_BYTES = 64 << 20


def read_sources(checker: Checker, data: Mapping[str, Any]) -> list[SourceUse]:
    given = checker.section(data, "sources")
    sources = [_source(checker, label, item) for label, item in given.items()]
    if not sources:
        checker.report("sources: at least one source is needed.")
    return present(sources)


def _source(checker: Checker, label: str, item: Any) -> SourceUse | None:
    where = f"sources.{label}"
    kinds = {"uri": str, "snapshot": str, "part_bytes": int, "base": str, "every": int, "limit_files": int}
    own = checker.take(where, item, kinds)
    use = checker.use("source", where, label, item, leave_out=tuple(kinds))
    if own is None or use is None:
        return None
    if "uri" not in own:
        checker.report(f"{where}.uri: a path or glob is required.")
        return None
    checker.report(*[f"{where}.{problem}" for problem in listing_problems(own)])
    snapshot = own.get("snapshot", default_snapshot(use.stage.name, own))
    try:
        snapshot.format(**dict.fromkeys(PLACES, "x"))
    except (KeyError, IndexError, ValueError):
        known = ", ".join(f"{{{name}}}" for name in PLACES)
        checker.report(f"{where}.snapshot: '{snapshot}' may hold {known} only.")
    part_bytes = own.get("part_bytes", DEFAULT_PART_BYTES)
    if part_bytes < 1 << 10:
        checker.report(f"{where}.part_bytes: at least 1,024 (got {part_bytes}).")
    return SourceUse(
        label=label,
        stage=use.stage,
        config=use.config,
        snapshot=snapshot,
        part_bytes=part_bytes,
        **{key: own[key] for key in ("uri", "base", "every", "limit_files") if key in own},
    )
