"""Does the store still hold what was written? Every byte against its digest, every row beside its document, every sum."""

from collections.abc import Iterator
from typing import Any

from factory.core.errors import IntegrityError
from factory.core.manifest import Manifest, Part
from factory.recipes.graph import KINDS
from factory.recipes.lookup import Current
from factory.recipes.status import problems
from factory.recipes.steps.links.runs import KIND as INDEX
from factory.recipes.workspace import Workspace
from factory.storage.manifests import find_manifest, pointer_path
from factory.storage.parts import damage
from factory.storage.store import Store

ALIGNED = ("scores", "keys", "encodings", "links", "decisions")


def verify(workspace: Workspace, *, repair: bool = False) -> dict[str, Any]:
    """What is wrong with the current datasets of a recipe: `damaged` parts and manifests, and books that do not add up.

    `repair` removes damaged parts, their records and the manifests that list them, so that the next run makes them again.
    """
    broken, pointers = _broken_manifests(workspace)
    current = Current(workspace)
    for name in broken:
        current.pointers.pop(name, None)
    manifests = [manifest for kind in KINDS for manifest in current.of(kind)]
    indexes = list(_indexes(workspace.store, manifests))
    parts = {part.path: part for manifest in (*manifests, *indexes) for part in manifest.parts}
    damaged = dict(_damaged(workspace, list(parts.values())))
    wrong = [*broken.values(), *_misplaced(current, manifests), *problems(current)]
    result: dict[str, Any] = {
        "datasets": len(manifests) + len(broken),
        "parts": len(parts),
        "bytes": sum(part.bytes for part in parts.values()),
        "damaged": damaged,
        "wrong": wrong,
        "removed": [],
    }
    if repair:
        result["removed"] = [*pointers, *remove_damaged(workspace.store, damaged)]
        for path in pointers:
            workspace.store.delete(path)
    return result


def _broken_manifests(workspace: Workspace) -> tuple[dict[str, str], list[str]]:
    """Datasets whose current manifest is gone, unreadable or another one than was pointed at, and files to remove."""
    store, broken, files = workspace.store, dict[str, str](), list[str]()
    for name, pointer in Current(workspace).pointers.items():
        own = pointer_path(workspace.recipe.name, pointer["kind"], pointer["label"], pointer["partition"])
        try:
            manifest = find_manifest(store, pointer["manifest"])
        except IntegrityError as error:
            broken[name] = str(error)
            files += [pointer["manifest"], own]
            continue
        if manifest is None:
            broken[name] = f"{name}: its manifest {pointer['manifest']} is gone"
            files.append(own)
        elif manifest.digest != pointer["digest"]:
            broken[name] = f"{name}: the manifest says digest {manifest.digest}, {pointer['digest']} passed the gates"
            files += [pointer["manifest"], own]
    return broken, files


def _indexes(store: Store, manifests: list[Manifest]) -> Iterator[Manifest]:
    """The indexes that the current links went on from, or the next ones would: over current datasets alone."""
    current = {(manifest.name, manifest.digest) for manifest in manifests}
    asked = {(manifest.label, manifest.fingerprint) for manifest in manifests if manifest.kind == "links"}
    for label, fingerprint in sorted(asked):
        for path in store.files(f"{INDEX}/{label}/{fingerprint}"):
            if not is_manifest(path):
                continue
            try:
                found = find_manifest(store, path)
            except IntegrityError:
                continue  # the run that would go on from it says so
            if found is not None and current >= set(found.inputs.items()):
                yield found


def _damaged(workspace: Workspace, parts: list[Part]) -> Iterator[tuple[str, str]]:
    progress = workspace.progress
    progress.start("verify", sum(part.bytes for part in parts), "bytes")
    try:
        for part in parts:
            problem = damage(workspace.store, part)
            if problem is not None:
                yield part.path, problem
            progress.advance(part.bytes)
    finally:
        progress.finish()


def _misplaced(current: Current, manifests: list[Manifest]) -> Iterator[str]:
    """Thin datasets that do not stand beside the very rows of the documents they were made from."""
    documents = {manifest.name: manifest for manifest in manifests if manifest.kind == "documents"}
    for manifest in manifests:
        name = f"documents@{manifest.partition}"
        if manifest.kind not in ALIGNED or name not in documents:
            continue
        if manifest.inputs.get(name) != documents[name].digest:
            continue  # out of date, not wrong: 'factory plan' says so
        expected = {part.digest: (part.ids, part.rows) for part in documents[name].parts}
        found = {part.name: (part.ids, part.rows) for part in manifest.parts}
        lost = sorted(set(expected) - set(found))
        if lost:
            yield f"{manifest.name}: nothing stands beside {len(lost)} parts of {name}, such as {lost[0]}"
        elif any(found[digest] != ids for digest, ids in expected.items()):
            yield f"{manifest.name}: a part stands beside other rows than those of {name}"


def remove_damaged(store: Store, damaged: dict[str, str]) -> list[str]:
    """Delete damaged parts, their records and every manifest of the store that lists them; what was deleted."""
    if not damaged:
        return []
    removed = []
    for path in [*damaged, *(record_path(path) for path in damaged)]:
        if store.size(path) is not None:
            store.delete(path)
            removed.append(path)
    for path in manifest_paths(store):
        try:
            manifest = find_manifest(store, path)
        except IntegrityError:
            continue
        if manifest is not None and any(part.path in damaged for part in manifest.parts):
            store.delete(path)
            removed.append(path)
    return removed


def record_path(part_path: str) -> str:
    """Where the record of a finished part lies, beside it."""
    return part_path.removesuffix(".parquet") + ".json"


def manifest_paths(store: Store) -> list[str]:
    """Every manifest of the store, of all recipes."""
    return [path for kind in (*KINDS, INDEX) for path in store.files(kind) if is_manifest(path)]


def is_manifest(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith("manifest-") and path.endswith(".json")
