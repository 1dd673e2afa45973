"""What may go: files of the store that no recipe's current datasets, nor anything recent, stand on.

Kept are every dataset a current pointer leads to, everything it was made from, the indexes of linkers over nothing but such
datasets, which the next snapshot is joined with, and whatever is younger than the limit, so that work in progress and the
outputs of an experiment just taken out are not lost. Only folders of datasets, the exchange and temporaries are looked at;
anything else in the store is not ours to remove.
"""

import json
import time
from typing import Any

from factory.core.errors import IntegrityError, LeaseHeld
from factory.core.manifest import Manifest
from factory.recipes.graph import KINDS
from factory.recipes.steps.links.runs import KIND as INDEX
from factory.recipes.verify import manifest_paths, record_path
from factory.storage.leases import live_leases
from factory.storage.manifests import CURRENT, find_manifest
from factory.storage.store import Store

OLDER_THAN_HOURS = 24.0
FOLDERS = (*KINDS, INDEX, "exchange")


def garbage(store: Store, *, older_than_hours: float = OLDER_THAN_HOURS) -> dict[str, Any]:
    """Files that may go, with their bytes, as `files` and `temporaries`; nothing is removed."""
    limit = time.time() - older_than_hours * 3600
    modified = {path: when for kind in FOLDERS for path, when in store.modified(kind).items()}
    sizes = {path: size for kind in FOLDERS for path, size in store.files(kind).items()}
    kept = _kept(store, modified, limit)
    files = {
        path: size for path, size in sizes.items() if path not in kept and modified.get(path, time.time()) <= limit
    }
    temporaries = store.stale_temporaries(older_than=limit)
    return {
        "files": files,
        "temporaries": temporaries,
        "bytes": sum(files.values()) + sum(temporaries.values()),
        "kept_files": len(sizes) - len(files),
        "kept_bytes": sum(sizes.values()) - sum(files.values()),
    }


def collect(store: Store, *, older_than_hours: float = OLDER_THAN_HOURS) -> dict[str, Any]:
    """Remove what `garbage` names, and say what it was; raises LeaseHeld while somebody writes into the store."""
    busy = live_leases(store)
    if busy:
        raise LeaseHeld(
            f"{busy[0]} is being written{' (and others)' if len(busy) > 1 else ''}. Run gc when that is done."
        )
    found = garbage(store, older_than_hours=older_than_hours)
    # Manifests first: what they list must never be gone while they are there.
    for path in sorted(found["files"], key=lambda path: (not _is_manifest(path), not path.endswith(".json"), path)):
        store.delete(path)
    store.delete_temporaries(found["temporaries"])
    return found


def _is_manifest(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith("manifest-")


def _kept(store: Store, modified: dict[str, float], limit: float) -> set[str]:
    """Paths of every file that something current or recent stands on."""
    manifests: dict[str, Manifest] = {}
    kept: set[str] = set()
    for path in manifest_paths(store):
        try:
            manifest = find_manifest(store, path)
        except IntegrityError:
            kept.add(path)  # damaged: 'factory verify' deals with it
            continue
        if manifest is not None:
            manifests[path] = manifest
    waiting = [path for path in manifests if modified.get(path, time.time()) > limit]
    current = set()
    for path in store.files(CURRENT):
        if path.endswith(".json"):
            pointer = json.loads(store.read(path))
            current.add(pointer["manifest"])
            kept.update(pointer.get("files", ()))
    waiting += sorted(current)
    # Of manifests that say the same, made in another way, the current one tells what a dataset stands on.
    made = {
        (manifest.name, manifest.digest): path
        for path, manifest in sorted(manifests.items(), key=lambda item: item[0] in current)
    }
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or path not in manifests:
            continue
        seen.add(path)
        manifest = manifests[path]
        kept.add(path)
        for part in manifest.parts:
            kept.update((part.path, record_path(part.path)))
        waiting += [made[item] for item in manifest.inputs.items() if item in made]
    for path, manifest in manifests.items():
        if manifest.kind == INDEX and path not in seen and _of_use(manifest, manifests, made, seen):
            kept.add(path)
            kept.update(part.path for part in manifest.parts)
    return kept


def _of_use(index: Manifest, manifests: dict[str, Manifest], made: dict[tuple[str, str], str], seen: set[str]) -> bool:
    """Whether links would go on from this index: what it covers is kept, and so are links that were asked for like this."""
    return all(made.get(item) in seen for item in index.inputs.items()) and any(
        manifests[path].kind == "links" and manifests[path].fingerprint == index.fingerprint for path in seen
    )
