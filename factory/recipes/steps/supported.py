"""Support of evaluated items: in how many documents of a training the scorer `support` found them, beside the answers.

Only for tasks that ask for counts and name no file of them (`long_tail`). An item's `domain` is its bin of the count in the
whole pool, before any rule, so that all experiments are asked the same; `group` is its bin in what the model was trained on, and
`extra` has that `count` (documents, each once), `reads` (with the mixture's repeats) and `pool`. Texts count as they are stored,
before `rewrite`, and so does what a model that goes on from another was trained on earlier: not at all. No model is asked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import IntegrityError
from factory.core.fingerprint import canonical_json, digest_bytes, fingerprint
from factory.core.manifest import Manifest, Part
from factory.evaluation.longtail import NOT_COUNTED, bin_of, trend
from factory.evaluation.table import EVALUATION
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.graph import SUPPORT, asks_for_counts
from factory.recipes.steps.items import Place, file_hashes, item_places, load_items
from factory.recipes.steps.proxies import draw_seed, trial_repeats
from factory.recipes.work import Bench, Work
from factory.storage.parts import read_part, write_part
from factory.storage.store import Store

Counts = npt.NDArray[np.int64]

INDEX_COLUMNS = ("part", "row", "repeats", "doc_id", "domain", "length")


@dataclass(frozen=True)
class Support:
    """Documents that support an item: in the pool, in a training, and how often the training reads these."""

    pool: int
    count: int
    reads: int


def counting(bench: Bench, work: Work, answers: Sequence[Part]) -> Task | None:
    """The task that counts for one proxy's answers, finished model first; None where no task asks for counts."""
    scores = [manifest for manifest in work.of("scores") if manifest.spec["stage"] == SUPPORT]
    if not scores:
        return None
    mixtures = work.of("mixture")  # of a seed that draws documents of its own from the pool
    read = work.one("pools" if mixtures else "tokens")
    index = next(part for part in read.parts if part.name == "index")
    asked = {task.label: task for task in bench.recipe.evaluate if asks_for_counts(task)}
    scorers = {manifest.label: manifest.spec for manifest in scores}
    seed = int(work.node.partition.rpartition("-")[2])
    drawn = [mixtures[0].notes["epochs"], draw_seed(bench.recipe.seed, seed)] if mixtures else None
    made_of = {
        "answers": [part.digest for part in answers],
        "scores": {manifest.name: manifest.digest for manifest in scores},
        "scorers": scorers,
        "index": index.digest,
        "drawn": drawn,
    }
    payload = {
        "store": bench.store.url,
        "folder": work.folder,
        "name": f"counted-{fingerprint(made_of)}",
        "answers": [part.to_json() for part in answers],
        "scorers": scorers,
        "scores": _scores(scores, scorers),
        "index": index.to_json(),
        "drawn": drawn,
        "tasks": {label: [task.config.uri, getattr(task.config, "per_decade", 1)] for label, task in asked.items()},
        "inputs": bench.recipe.folder,
    }
    return Task(work.node.name, f"{__name__}:count", payload)


def _scores(scores: Iterable[Manifest], labels: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    return {label: [part.to_json() for m in scores if m.label == label for part in m.parts] for label in labels}


def count(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the answers of one proxy with the support of their items; `about` of each task from the finished model's."""
    store = Store(payload["store"])
    reads = _reads(store, Part.from_json(payload["index"]), payload["drawn"])
    known: dict[Place, Support] = {}
    for label, spec in payload["scorers"].items():
        index = load_items(canonical_json(spec), payload["inputs"])
        parts = [Part.from_json(part) for part in payload["scores"][label]]
        found = support_of(store, parts, reads, len(index.items))
        for number, place in enumerate(item_places(index, spec["files"])):
            if place is not None and not index.untested[number]:
                known.setdefault(place, Support(*(int(column[number]) for column in found)))
    made, about = [], dict[str, Any]()
    for number, part in enumerate(Part.from_json(item) for item in payload["answers"]):
        table, told = _counted(read_part(store, part), known, payload["tasks"], payload["inputs"])
        about = about or told
        name, batches = f"{payload['name']}-{number}", table.combine_chunks().to_batches()
        notes: Callable[[], dict[str, Any]] = partial(dict, part.notes)
        made.append(write_part(store, payload["folder"], name, table.schema, batches, ids="", notes=notes))
    return {"parts": [part.to_json() for part in made], "about": about}


def support_of(
    store: Store, scores: Iterable[Part], reads: Mapping[str, npt.NDArray[np.int64]], size: int
) -> tuple[Counts, Counts, Counts]:
    """By item: documents of the pool, documents that are read, and how often these are.

    `reads` says by document part and row how often a document is read; rows beyond its end, and other parts, are not.
    """
    pool, read, times = (np.zeros(size, np.int64) for _ in range(3))
    for part in scores:
        rows, items = pairs_of(store, part)
        pool += np.bincount(items, minlength=size)
        if part.name in reads:
            own = reads[part.name]
            taken = np.where(rows < len(own), own[np.minimum(rows, len(own) - 1)], 0)
            read += np.bincount(items[taken > 0], minlength=size)
            times += np.bincount(items, weights=taken, minlength=size).astype(np.int64)
    return pool, read, times


def pairs_of(store: Store, part: Part) -> tuple[Counts, Counts]:
    """Rows of a scores part of `support`, and the items in them."""
    lists = read_part(store, part, ["found"]).column("found").combine_chunks()
    return pc.list_parent_indices(lists).to_numpy().astype(np.int64), lists.flatten().to_numpy().astype(np.int64)


def _reads(store: Store, index: Part, drawn: Sequence[Any] | None) -> dict[str, Counts]:
    """How often a training reads the documents of each part, by row."""
    columns = INDEX_COLUMNS if drawn is not None else INDEX_COLUMNS[:3]
    table = read_part(store, index, list(columns))
    times = table.column("repeats").to_numpy() if drawn is None else trial_repeats(table, *drawn)
    return by_row(table.column("part"), table.column("row"), times)


def by_row(parts: pa.ChunkedArray, rows: pa.ChunkedArray, times: npt.NDArray[Any]) -> dict[str, Counts]:
    """Numbers of documents as an array for each document part, by row; 0 where none is given."""
    encoded = parts.combine_chunks().dictionary_encode()
    numbers, places = encoded.indices.to_numpy(), rows.to_numpy().astype(np.int64)
    made: dict[str, Counts] = {}
    for number, name in enumerate(encoded.dictionary.to_pylist()):
        own = np.flatnonzero(numbers == number)
        made[name] = np.zeros(places[own].max(initial=-1) + 1, np.int64)
        made[name][places[own]] = times[own]
    return made


def _counted(
    table: pa.Table, known: Mapping[Place, Support], asked: Mapping[str, Sequence[Any]], inputs: str
) -> tuple[pa.Table, dict[str, Any]]:
    """The table with bins and counts, and by task what its notes say anew."""
    columns = {
        name: table.column(name).to_pylist() for name in ("task", "task_digest", "item", "domain", "group", "extra")
    }
    about: dict[str, Any] = {}
    for label, (uri, per_decade) in asked.items():
        hashes = file_hashes(uri, inputs)
        own = [at for at, task in enumerate(columns["task"]) if task == label]
        support: dict[str, Support | None] = {}
        for at in own:
            name, _, line = columns["item"][at].rpartition(":")
            if name not in hashes:
                raise IntegrityError(f"evaluate: {label} has an item of '{name}', which is no file of '{uri}'.")
            support[columns["item"][at]] = known.get((hashes[name], int(line)))
        # Bins of another pool are other questions.
        pools = {item: None if one is None else one.pool for item, one in support.items()}
        renamed = {
            digest: digest_bytes(canonical_json([digest, pools]).encode())
            for digest in {columns["task_digest"][at] for at in own}
        }
        for at in own:
            one = support[columns["item"][at]]
            columns["task_digest"][at] = renamed[columns["task_digest"][at]]
            columns["domain"][at] = NOT_COUNTED if one is None else bin_of(one.pool, per_decade)
            columns["group"][at] = NOT_COUNTED if one is None else bin_of(one.count, per_decade)
            if one is not None:
                counts = {"count": one.count, "reads": one.reads, "pool": one.pool}
                columns["extra"][at] = [*(columns["extra"][at] or ()), *((key, float(n)) for key, n in counts.items())]
        rows = table.select(["value", "weight"]).take(pa.array(own, pa.int64())).to_pylist()
        about[label] = _about([columns["domain"][at] for at in own], [columns["item"][at] for at in own], rows, support)
        about[label]["digest"] = columns["task_digest"][own[0]] if own else None
    for name in ("task_digest", "domain", "group", "extra"):
        field = EVALUATION.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(columns[name], field.type))
    return table, about


def _about(
    domains: Sequence[str],
    items: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    support: Mapping[str, Support | None],
) -> dict[str, Any]:
    from factory.evaluation.evaluate import task_score

    pairs = [(support[item], row["value"]) for item, row in zip(items, rows, strict=True)]
    told = [(one.count, value) for one, value in pairs if one is not None and value is not None]
    return {
        "score": task_score([{**row, "domain": domain} for row, domain in zip(rows, domains, strict=True)]),
        "domains": len(set(domains)),
        "trend": trend([n for n, _ in told], [value for _, value in told]),
        "not_counted": sum(one is None for one in support.values()),
    }
