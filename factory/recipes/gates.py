"""Gates: what a dataset must hold before anybody may read it. A failed blocking gate leaves the current pointer where it was."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.fingerprint import hash_ids
from factory.core.ledger import empty_share, error_share, imbalance
from factory.core.manifest import Manifest
from factory.core.statistics import drift
from factory.recipes.recipe import Recipe
from factory.storage.manifests import current
from factory.storage.parts import read_part
from factory.storage.store import Store

DRIFT_WARN = 0.25  # the usual reading of the population stability index
DRIFT_BLOCK = 2.0
MAX_EMPTY_SHARE = 0.5  # more, and it is the extractor that fails, not the pages
SHARE_TOLERANCE = 0.005


@dataclass(frozen=True)
class Check:
    """The result of one gate; `blocking` ones must pass."""

    name: str
    passed: bool
    blocking: bool
    text: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gate_names(kind: str) -> tuple[str, ...]:
    """The gates of a kind of dataset, in order."""
    return {
        "documents": ("ledger", "errors", "not_empty", "unique", "drift"),
        "scores": ("aligned", "computed", "drift"),
        "keys": ("aligned", "computed"),
        "encodings": ("aligned", "computed"),
        "links": ("aligned",),
        "decisions": ("ledger", "aligned"),
        "selection": ("not_empty",),
        "tokens": ("mixture",),
        "proxies": ("finite",),
        "leaderboard": ("complete",),
    }.get(kind, ())


def gate_limits(recipe: Recipe) -> dict[str, float]:
    """What the recipe asks of its gates: a dataset that passed under other limits has to pass again."""
    return {"max_error_share": recipe.max_error_share}


def check_gates(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> list[Check]:
    """All gates of a dataset. Each is cheap: counts from the manifest, and one pass over doc_ids."""
    return list(_GATES[manifest.kind](recipe, store, manifest, upstream)) if manifest.kind in _GATES else []


def _documents(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    yield _ledger(manifest)
    share = error_share(manifest.ledger)
    causes = "; ".join(manifest.notes["causes"][:3])
    yield Check(
        "errors",
        share <= recipe.max_error_share,
        True,
        f"{share:.2%} of {manifest.rows:,} rows could not be read (allowed: {recipe.max_error_share:.2%})"
        + (f": {_kinds(manifest.ledger['errors'])}. First: {causes}" if causes else ""),
    )
    empty = empty_share(manifest.ledger)
    text = f"{manifest.rows:,} rows, {empty:.2%} of them without text (allowed: {MAX_EMPTY_SHARE:.0%})"
    yield Check("not_empty", manifest.rows > 0 and empty <= MAX_EMPTY_SHARE, True, text)
    yield _unique(store, manifest)
    yield _drift(recipe, store, manifest)


def _kinds(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {number:,}" for kind, number in errors.items())


def _columns(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    yield _aligned(manifest, upstream)
    failed, rows = manifest.notes.get("failed", 0), max(1, manifest.rows)
    causes = "; ".join(manifest.notes.get("causes", [])[:3])
    yield Check(
        "computed",
        failed / rows <= recipe.max_error_share,
        True,
        f"{failed:,} of {manifest.rows:,} rows could not be computed" + (f": {causes}" if causes else ""),
    )
    if manifest.kind == "scores":
        yield _drift(recipe, store, manifest)


def _links(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    yield _aligned(manifest, upstream)


def _decisions(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    yield _ledger(manifest)
    yield _aligned(manifest, upstream)


def _selection(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    hint = (
        ""
        if manifest.rows
        else f". 'factory funnel --experiment {manifest.label}' shows the rule that drops everything"
    )
    yield Check("not_empty", manifest.rows > 0, True, f"{manifest.rows:,} documents kept{hint}")


def _tokens(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    mixture = next(item for item in upstream.values() if item.kind == "mixture")
    epochs, total = mixture.notes["epochs"], mixture.notes["tokens"]
    selection = next(item for item in upstream.values() if item.kind == "selection")
    asked = {domain: selection.notes["tokens"][domain] * epochs[domain] / total for domain in epochs} if total else {}
    realised = manifest.notes["shares"]
    worst = max((abs(realised.get(domain, 0.0) - share) for domain, share in asked.items()), default=0.0)
    # A domain overshoots its budget by less than one document.
    allowed = SHARE_TOLERANCE + manifest.notes["longest"] / max(1, manifest.notes["tokens"])
    yield Check(
        "mixture",
        worst <= allowed,
        True,
        f"largest gap between realised and asked share: {worst:.2%} (allowed {allowed:.2%})",
    )


def _proxies(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    record = manifest.notes["record"]
    text = (
        f"loss {record['loss']:.4f} after {record['tokens_seen']:,} tokens"
        if record["valid"]
        else str(record["reason"])
    )
    # Not blocking: an invalid run is shown, and is left out of the ranking.
    yield Check("finite", bool(record["valid"]), False, text)


def _leaderboard(recipe: Recipe, store: Store, manifest: Manifest, upstream: dict[str, Manifest]) -> Iterator[Check]:
    failed = [one for one in manifest.notes["board"]["invalid"] if one["failed"]]
    names = list(dict.fromkeys(one["experiment"] for one in failed))
    text = (
        f"{len(failed)} trainings failed and are not compared: {', '.join(names)}" if failed else "every run is there"
    )
    # Not blocking: what could be made is compared, and what could not is listed.
    yield Check("complete", not failed, False, text)


_GATES = {
    "documents": _documents,
    "scores": _columns,
    "keys": _columns,
    "encodings": _columns,
    "links": _links,
    "decisions": _decisions,
    "selection": _selection,
    "tokens": _tokens,
    "proxies": _proxies,
    "leaderboard": _leaderboard,
}


def _ledger(manifest: Manifest) -> Check:
    problem = imbalance(manifest.ledger)
    return Check("ledger", problem is None, True, problem or _books(manifest.ledger))


def _books(ledger: Any) -> str:
    if "records" in ledger:
        return f"{ledger['records']:,} records = {ledger['rows']:,} rows + {sum(ledger['skipped'].values()):,} skipped"
    dropped, errors = sum(ledger["dropped"].values()), sum(ledger["errors"].values())
    return f"{ledger['rows']:,} rows = {ledger['kept']:,} kept + {dropped:,} dropped + {errors:,} errors"


def _unique(store: Store, manifest: Manifest) -> Check:
    hashes = [
        hash_ids(read_part(store, part, ["doc_id"]).column("doc_id").combine_chunks(), 0) for part in manifest.parts
    ]
    found = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    twice = found[:-1][found[1:] == found[:-1]]
    if not len(twice):
        return Check("unique", True, True, f"{len(found):,} doc_ids, each once")
    examples = []
    for part, own in zip(manifest.parts, hashes, strict=True):
        rows = np.flatnonzero(np.isin(own, twice[:1]))
        if len(rows):
            table = read_part(store, part, ["doc_id", "locator"]).take(pa.array(rows))
            examples += [
                f"{row['doc_id']} at {row['locator']['file']}+{row['locator']['offset']}" for row in table.to_pylist()
            ]
    text = f"{len(twice):,} doc_ids are there more than once, such as {', '.join(examples[:3])}"
    return Check(
        "unique", False, True, text + ". Give the source an 'id' that is unique, or remove the second copy of the file."
    )


def _aligned(manifest: Manifest, upstream: dict[str, Manifest]) -> Check:
    documents = next(m for m in upstream.values() if m.kind == "documents" and m.partition == manifest.partition)
    expected = {part.digest: (part.ids, part.rows) for part in documents.parts}
    found = {part.name: (part.ids, part.rows) for part in manifest.parts}
    wrong = [name for name in expected if found.get(name) != expected[name]]
    return Check(
        "aligned", not wrong, True, f"{len(expected) - len(wrong)} of {len(expected)} parts beside their documents"
    )


def _drift(recipe: Recipe, store: Store, manifest: Manifest) -> Check:
    before = _previous(recipe, store, manifest)
    if before is None:
        return Check("drift", True, True, "the first snapshot: nothing to compare with")
    ours, theirs = manifest.notes["histograms"], before.notes["histograms"]
    indexes = {name: drift(theirs[name], ours[name]) for name in ours if name in theirs and name != "host"}
    worst = max(indexes, key=lambda name: indexes[name], default=None)
    if worst is None:
        return Check("drift", True, True, "no column to compare")
    index = f"stability index {indexes[worst]:.3f}; over {DRIFT_WARN} is a shift, over {DRIFT_BLOCK} blocks"
    text = f"largest shift against {before.partition}: {worst} ({index})"
    return Check("drift", indexes[worst] <= DRIFT_BLOCK, True, text)


def _previous(recipe: Recipe, store: Store, manifest: Manifest) -> Manifest | None:
    """The current manifest of the latest earlier snapshot."""
    prefix = f"current/{recipe.name}/{'/'.join(piece for piece in (manifest.kind, manifest.label) if piece)}"
    snapshots = [path.rsplit("/", 1)[1].removesuffix(".json") for path in store.files(prefix)]
    earlier = [snapshot for snapshot in snapshots if snapshot < manifest.partition]
    return current(store, recipe.name, manifest.kind, manifest.label, max(earlier)) if earlier else None
