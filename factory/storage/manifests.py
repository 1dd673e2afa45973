"""Manifests and the current pointers: what exists, and what may be read.

A manifest lies at a path made of what was asked and what it was asked of, is written last and put-if-absent, and never
changes. The *current* pointer of a dataset of a recipe moves to a manifest only after its gates passed; readers follow it.
"""

import json
from collections.abc import Mapping
from typing import Any

from factory.core.errors import IntegrityError
from factory.core.fingerprint import digest_bytes
from factory.core.manifest import Manifest
from factory.storage.store import Store

CURRENT = "current"


def find_manifest(store: Store, path: str) -> Manifest | None:
    """The manifest at this path, or None."""
    try:
        data = store.read(path)
    except FileNotFoundError:
        return None
    try:
        known = json.loads(data)
        if known.pop("seal") != _seal(known):
            raise ValueError("it was altered")
        return Manifest.from_json(known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path} is not a manifest any more ({error}). Remove it; 'factory run' makes it again."
        ) from error


def write_manifest(store: Store, manifest: Manifest) -> Manifest:
    """Commit a dataset. Of two writers one wins; the other gets the winner's manifest if it says the same, else an error."""
    known = manifest.to_json()
    data = json.dumps({**known, "seal": _seal(known)}, sort_keys=True, indent=1).encode()
    if store.put_new(manifest.path, data):
        return manifest
    other = find_manifest(store, manifest.path)
    assert other is not None
    if other.digest == manifest.digest:
        return other
    if missing_parts(store, other):
        # Outputs were deleted by hand and could not be made the same again: the new ones replace them.
        store.put(manifest.path, data)
        return manifest
    raise IntegrityError(
        f"{manifest.name}: made twice from the same inputs with different content ({other.digest} and {manifest.digest}). "
        "The stage that made it is not deterministic."
    )


def _seal(known: Mapping[str, Any]) -> str:
    """The digest of all that a manifest says, so that one changed byte is noticed."""
    return digest_bytes(json.dumps(known, sort_keys=True).encode())


def missing_parts(store: Store, manifest: Manifest) -> list[str]:
    """Parts whose file is not there or has another size than was written."""
    sizes: dict[str, int] = {}
    for folder in {part.path.rsplit("/", 1)[0] for part in manifest.parts}:
        sizes.update(store.files(folder))
    return [part.path for part in manifest.parts if sizes.get(part.path) != part.bytes]


def pointer_path(recipe: str, kind: str, label: str, partition: str) -> str:
    return "/".join(piece for piece in (CURRENT, recipe, kind, label, partition or "all") if piece) + ".json"


def point(store: Store, recipe: str, manifest: Manifest, checks: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
    """Make a manifest the current one of its dataset: its gates have passed, with these limits."""
    pointer = {
        "manifest": manifest.path,
        "digest": manifest.digest,
        "checks": dict(checks),
        "limits": dict(limits),
        "name": manifest.name,
        "kind": manifest.kind,
        "label": manifest.label,
        "partition": manifest.partition,
        "files": [part.path for part in manifest.parts],
    }
    path = pointer_path(recipe, manifest.kind, manifest.label, manifest.partition)
    data = json.dumps(pointer, sort_keys=True, indent=1).encode()
    try:
        if store.read(path) == data:
            return
    except FileNotFoundError:
        pass
    store.put(path, data)


def find_pointer(store: Store, recipe: str, kind: str, label: str, partition: str) -> dict[str, Any] | None:
    """What is current of a dataset, or None."""
    try:
        pointer: dict[str, Any] = json.loads(store.read(pointer_path(recipe, kind, label, partition)))
    except FileNotFoundError:
        return None
    return pointer


def current(store: Store, recipe: str, kind: str, label: str = "", partition: str = "") -> Manifest | None:
    """The manifest readers follow, or None when nothing has passed its gates yet."""
    pointer = find_pointer(store, recipe, kind, label, partition)
    return find_manifest(store, pointer["manifest"]) if pointer else None


def pointers(store: Store, recipe: str) -> list[dict[str, Any]]:
    """Every current pointer of a recipe."""
    return [json.loads(store.read(path)) for path in store.files(f"{CURRENT}/{recipe}") if path.endswith(".json")]
