"""What this machine has, what links take, and the refusal of what cannot fit.

In: link datasets that are to be made, with documents and keys as far as they are known. Out: nothing, or DoesNotFit with
what is needed, what there is, and what to change. What is not known yet counts as nothing, so that nothing is refused that
could fit; with every snapshot's keys there, the numbers are exact.
"""

import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import psutil

from factory.core.errors import DoesNotFit
from factory.core.links import Needs
from factory.core.manifest import Manifest
from factory.recipes.graph import Node
from factory.recipes.recipe import Recipe
from factory.recipes.steps import links
from factory.recipes.work import Work
from factory.reports.text import size
from factory.storage.parts import value_count
from factory.storage.store import Store

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
ROW_BYTES = 8  # of links, at least: the place of a row, compressed

ROUNDS = 50
NAMED = 3
TOLERANCE = 1.1  # pieces are not all of one size
# Joins that exchange, under scope `incremental`, the keys of a snapshot alone: of earlier ones they keep an index.
INDEXED = ("documents", "spans")

Free = Callable[[str], int]


@dataclass(frozen=True)
class LinkNeeds:
    """What one link dataset takes: its join's needs for the documents and keys it exchanges, and the bytes of its links."""

    node: Node
    rows: int
    keys: int
    needs: Needs
    fixed: int  # of the memory, what a task holds whatever the data
    written: int
    most: int = 0  # keys there may be, where `keys` is expected from a sample


def machine_memory() -> int:
    """Bytes this process may use: of the machine, or of the container it runs in."""
    limits = [int(psutil.virtual_memory().total)]
    for path in CGROUP_LIMITS:
        try:
            with open(path, encoding="ascii") as stream:
                limits.append(int(stream.read()))
        except (OSError, ValueError):  # no such controller, or "max"
            continue
    return min(limits)


def free_bytes(folder: str) -> int:
    """Bytes that can still be written below a folder, which need not be there yet."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(os.path.abspath(folder))
    return shutil.disk_usage(folder).free


def memory_warning(workers: int, memory: int, machine: int | None = None) -> str | None:
    """Said where all workers together may hold more than the machine has."""
    there = machine_memory() if machine is None else machine
    if workers * memory <= there:
        return None
    fit = max(1, there // memory)
    return (
        f"{workers} workers may hold {size(memory)} each in global steps, {size(workers * memory)} together; this machine "
        f"has {size(there)}. Lower --memory to {there // workers >> 20}MB, or --workers to {fit}."
    )


def join_needs(recipe: Recipe, label: str, rows: int, keys: int, memory: int) -> Needs:
    """What the join of a linker says it needs."""
    use = recipe.linker(label)
    asked = links.needs_of(use.stage.links)
    settings = use.config.model_dump(mode="json")
    known = {
        "settings": settings,
        "columns": list(use.stage.writes_for(use.config)),
        "keep": settings.get("keep"),
        "scope": use.scope,
    }
    takes = inspect.signature(asked).parameters
    chosen = {name: value for name, value in known.items() if name in takes and value is not None}
    return asked(rows, keys, memory, **chosen)


def exchanged(recipe: Recipe, node: Node) -> list[str]:
    """The snapshots whose keys a link dataset exchanges, when the index of earlier ones is there or made on the way."""
    use = recipe.linker(node.label)
    if use.scope == "incremental" and use.stage.links in INDEXED:
        return [node.partition]
    return sorted({name.partition("@")[2] for name in node.upstream})


def needs_of(recipe: Recipe, store: Store, node: Node, found: Mapping[str, Manifest], memory: int) -> LinkNeeds:
    """The needs of one link dataset, from those of its documents and keys that are there."""
    taken = exchanged(recipe, node)
    there = [found[name] for name in node.upstream if name in found and found[name].partition in taken]
    documents = [manifest for manifest in there if manifest.kind == "documents"]
    keyed = [manifest for manifest in there if manifest.kind == "keys"]
    rows = sum(manifest.rows for manifest in documents)
    keys = sum(value_count(store, part, "keys") for manifest in keyed for part in manifest.parts)
    needs = join_needs(recipe, node.label, rows, keys, memory)
    own = sum(manifest.rows for manifest in documents if manifest.partition == node.partition)
    fixed = join_needs(recipe, node.label, 0, 0, memory)
    return LinkNeeds(node, rows, keys, needs, fixed.memory, own * ROW_BYTES)


def work_needs(recipe: Recipe, store: Store, works: Iterable[Work], memory: int) -> list[LinkNeeds]:
    """The needs of link datasets all of whose inputs are there."""
    return [needs_of(recipe, store, work.node, work.upstream, memory) for work in works]


def exchange_peak(recipe: Recipe, items: Iterable[LinkNeeds]) -> int:
    """Bytes that are exchanged at once: linkers of one join are made together, joins one after the other.

    Of one linker's snapshots most joins make one after the other under `incremental`, and all from one exchange under
    `global`.
    """
    by_label: dict[str, list[int]] = {}
    for item in items:
        by_label.setdefault(item.node.label, []).append(item.needs.disk)
    by_join: dict[str, int] = {}
    for label, sizes in by_label.items():
        use = recipe.linker(label)
        join = use.stage.links
        together = use.scope == "snapshot" or join == "neighbours" or (join == "spans" and use.scope == "incremental")
        by_join[join] = by_join.get(join, 0) + (sum(sizes) if together else max(sizes))
    return max(by_join.values(), default=0)


def problems(
    recipe: Recipe,
    store: Store,
    items: Iterable[LinkNeeds],
    *,
    memory: int,
    outputs: int | None = None,
    free: Free = free_bytes,
) -> list[str]:
    """Why these links cannot be made here. `outputs` is what all datasets of the run will have; else that of the links."""
    items = list(items)
    found = [
        f"{item.node.name} needs {size(item.needs.memory)} of memory in one task, even cut into "
        f"{item.needs.splits:,} pieces ({item.rows:,} documents, {item.keys:,} keys), and --memory allows "
        f"{size(memory)}."
        for item in items
        if not _fits(item.needs, item.fixed, memory)
    ]
    if found:
        found.append(_advice(recipe, items, memory))
    exchanged = exchange_peak(recipe, items)
    written = sum(item.written for item in items) if outputs is None else outputs
    if store.local and exchanged + written > (there := free(store.root)):
        missing = exchanged + written - there
        found.append(
            f"{size(exchanged + written)} of disk are needed in {store.url}: {size(exchanged)} while keys are exchanged and "
            f"{size(written)} of datasets that stay. {size(there)} are free. Free another {size(missing)}, or choose another "
            "store (--store URL)."
        )
    if not store.local and items and (there := free(tempfile.gettempdir())) < memory:
        found.append(
            f"Files on their way into {store.url} lie in {tempfile.gettempdir()}, and may have {size(memory)} (--memory); "
            f"{size(there)} are free there. Free some, or set TMPDIR to a larger disk."
        )
    return found


def unsure(recipe: Recipe, items: Iterable[LinkNeeds], memory: int) -> str | None:
    """Said where links fit with the keys that are expected, and would not with as many as there may be."""
    items = list(items)
    enough = {item.node.name: _enough(recipe, item, memory) for item in items if _fits(item.needs, item.fixed, memory)}
    close = [name for name, asked in enough.items() if asked > memory]
    if not close:
        return None
    return (
        f"{', '.join(close[:NAMED])}{' and others' if len(close) > NAMED else ''} may need more than --memory allows, "
        f"if there are more keys than the sample has. Enough is --memory {-(-max(enough.values()) >> 20)}MiB."
    )


def refuse(found: list[str], *, made: str = "Nothing was made.") -> None:
    """Raise DoesNotFit with every problem."""
    if found:
        raise DoesNotFit(" ".join(["This cannot fit.", *found, made]))


def _fits(needs: Needs, fixed: int, memory: int) -> bool:
    return needs.memory - fixed <= memory * TOLERANCE


def _advice(recipe: Recipe, items: Iterable[LinkNeeds], memory: int) -> str:
    """One --memory that is enough for all links, and what would do instead for those that are refused."""
    asked, instead = memory, []
    for item in items:
        if not _fits(item.needs, item.fixed, memory):
            instead.append(_instead(recipe, item, memory))
        asked = max(asked, _enough(recipe, item, memory))
    return f"Run with --memory {-(-asked >> 20)}MiB, or {' and '.join(dict.fromkeys(instead))}."


def _enough(recipe: Recipe, item: LinkNeeds, memory: int) -> int:
    """Memory that links fit into with some room, with all the keys there may be: larger pieces of them ask for more again."""
    keys = max(item.keys, item.most)
    for _ in range(ROUNDS):
        needs = join_needs(recipe, item.node.label, item.rows, keys, memory)
        if _fits(needs, item.fixed, memory):
            break
        memory = max(needs.memory * 11 // 10, memory)
    return memory


def _instead(recipe: Recipe, item: LinkNeeds, memory: int) -> str:
    """What the recipe could ask for that takes less."""
    shards = getattr(recipe.linker(item.node.label).config, "shards", None)
    if shards is None:
        return "link fewer documents (scope: snapshot)"
    wanted = -(-shards * item.needs.memory // memory)
    return f"deal those of {item.node.label} to more shards, which know nothing of each other (shards: {wanted})"
