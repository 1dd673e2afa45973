"""A recipe on a sample of its documents, in a store of its own that is thrown away: what each dataset costs, measured.

In: records of the recipe's inputs, or documents that are there. Every step is the real one and its tasks run in one real
worker process; measured are CPU seconds, the bytes that come to lie in the store, and the most memory held. Everything is made
twice, of a few documents and of many: what the few take is what starting costs, what more of them take is the rate. Another
process makes each of a few documents first: loops that are compiled once on a machine are compiled there, and not timed.
"""

import io
import math
import os
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from factory.core.errors import FactoryError
from factory.core.manifest import Manifest, Part, dataset_name
from factory.core.schema import DOCUMENT
from factory.core.stage import InputFile, InputPart
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Context, Executor, Payload, Task, resolve
from factory.recipes.graph import Node, build_graph
from factory.recipes.inputs import Inputs
from factory.recipes.progress import Progress, Silent
from factory.recipes.recipe import Recipe
from factory.recipes.steps import columns, decisions, links, models, selection, tokens
from factory.recipes.steps.documents import read_documents
from factory.recipes.trial_training import Tried, like, try_training
from factory.recipes.work import Step, Work
from factory.stages.sources.ranged import open_input
from factory.storage.manifests import write_manifest
from factory.storage.parts import read_part, take_rows, value_count, write_part
from factory.storage.store import Store

STEPS: Mapping[str, Step] = {
    "models": models.make_all,
    "scores": columns.make_all,
    "keys": columns.make_all,
    "encodings": columns.make_all,
    "links": links.make_all,
    "decisions": decisions.make_all,
    "selection": selection.make_all,
    "pools": tokens.make_all,
}
NOT_TRIED = "not tried on a sample; it is soon made"
TRAINED = ("proxies", "evaluations", "searches")  # tried by `factory.recipes.trial_training`
RANGE = 256 << 10  # bytes of an input that are read at once
READ_FACTOR = 4  # times the sample, the most records that are read of one range to know how many it has
MOST_RANGES = 64
MOST_SECONDS = 60.0  # of CPU time, for reading inputs
FEW = 8  # documents that show what starting costs
PIECES = 3  # of the sample, whose differences say how sure a rate is
LEAST_SPREAD, UNKNOWN_SPREAD = 0.2, 0.5


@dataclass(frozen=True)
class Rate:
    """What a unit (an input byte, a byte of text, a row, a model) costs, and how far pieces of the sample differ."""

    cpu: float  # seconds
    start: float  # seconds before the first unit, in each worker: loading, not compiling
    disk: float  # bytes
    disk_start: float  # bytes whatever the units: of each part, or of the dataset
    memory: int  # bytes at its peak, with `memory_units` in one task
    memory_units: float
    resting: int  # bytes before the task
    spread: float  # relative


@dataclass(frozen=True)
class Reading:
    """What the inputs of one source have in them, for each of their bytes."""

    rows: float
    text: float
    cpu: float
    start: float
    memory: int
    spread: float


@dataclass(frozen=True)
class Keys:
    """How many keys a linker makes: of each document, or of each byte of text where that varies less."""

    each: float
    by_text: bool
    spread: float


@dataclass
class Found:
    """What a trial found. `rates` and `unknown` (with the reason) by (kind, label)."""

    documents: int = 0
    origin: str = ""
    readings: dict[str, Reading] = field(default_factory=dict)
    stored: float = 0.0  # bytes of documents for each byte of text
    text_per_row: float = 0.0
    rates: dict[tuple[str, str], Rate] = field(default_factory=dict)
    keys: dict[str, "Keys"] = field(default_factory=dict)  # by linker
    boot: float = 0.0  # CPU seconds of a worker before its first task
    selections: dict[str, Manifest] = field(default_factory=dict)  # of the sample, by experiment
    pools: dict[str, int] = field(default_factory=dict)  # tokens of the sample's pools
    tried: dict[str, Tried | str] = field(default_factory=dict)  # by experiment; why not, where it could not be
    unknown: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass
class _Spent:
    name: str
    cpu: float
    peak: int
    resting: int
    before: float = 0.0  # CPU seconds of its process until then


@dataclass
class _TrialBench:
    """What steps work with, over a store of its own; a task after the other, the smallest first."""

    recipe: Recipe
    inputs: Inputs
    store: Store
    memory: int
    executor: Executor
    progress: Progress = field(default_factory=Silent)
    spent: list[_Spent] = field(default_factory=list)
    warm: "_TrialBench | None" = None  # over the same store, with a process of its own whose time is not looked at

    def run_tasks(
        self,
        label: str,
        tasks: list[Task],
        unit: str = "bytes",
        on_report: Callable[[Task, Mapping[str, Any]], None] | None = None,
        failed: dict[str, FactoryError] | None = None,
    ) -> dict[str, dict[str, Any]]:
        results: dict[str, dict[str, Any]] = {}

        def done(task: Task, found: dict[str, Any]) -> None:
            results[task.name] = found["result"]
            self.spent.append(_Spent(task.name, found["cpu"], found["peak"], found["resting"], found["before"]))

        for task in sorted(tasks, key=lambda task: task.weight):
            payload = {"function": task.function, "payload": task.payload}
            self.executor.run([Task(task.name, f"{__name__}:measured", payload, task.weight)], done)
        return results


def measured(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: another task, with what it took."""
    resting = _reset_peak()
    before = time.process_time()
    result = resolve(payload["function"])(payload["payload"], context)
    return {
        "result": result,
        "cpu": time.process_time() - before,
        "peak": _peak(),
        "resting": resting,
        "before": before,
    }


def _reset_peak() -> int:
    """Let the record of the most memory begin again where Linux can; the bytes held now."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
            stream.write("5")
    except OSError:
        pass
    return _peak()


def _peak() -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as stream:
            line = next(line for line in stream if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _bench(recipe: Recipe, inputs: Inputs, memory: int) -> Iterator[_TrialBench]:
    folder = tempfile.mkdtemp(prefix="factory-trial-")
    try:
        with LocalExecutor(1) as executor, LocalExecutor(1) as compiling:
            warm = _TrialBench(recipe, inputs, Store(folder), memory, compiling)
            yield _TrialBench(recipe, inputs, Store(folder), memory, executor, warm=warm)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_trial(
    recipe: Recipe,
    inputs: Inputs,
    *,
    sample: int,
    memory: int,
    wanted: set[tuple[str, str]],
    documents: Sequence[tuple[Store, Part]] = (),
    ready: Mapping[str, tuple[Store, Manifest]],
    progress: Progress,
) -> Found:
    """Measure the datasets named by (kind, label), and all they need, on about `sample` documents.

    They are taken from `documents` that are there, or without any, read from the inputs; `ready` are models that are there.
    """
    snapshot = min(inputs)
    merged: dict[str, list[InputFile]] = {}
    for sources in inputs.values():
        for label, files in sources.items():
            merged.setdefault(label, []).extend(files)
    found = Found()
    with _bench(recipe, {snapshot: merged}, memory) as bench:
        graph = build_graph(_with_pools(recipe), bench.inputs)
        needed = _needed(graph, _with_what_is_read(recipe, wanted))
        progress.start("measure", len(needed) + 1, "datasets")
        try:
            if documents:
                table, found.origin = _stored_rows(documents, sample), "documents that are there"
            else:
                table, found.origin = _read_inputs(bench, found, snapshot, sample), "records of the inputs"
            progress.advance(1)
            found.documents = table.num_rows
            if table.num_rows:
                worlds = _measure(bench, found, table, snapshot, needed, ready, progress)
                _try_trainings(bench, found, worlds, wanted)
            found.boot = bench.spent[0].before if bench.spent else 0.0
        finally:
            progress.finish()
    return found


def _with_pools(recipe: Recipe) -> Recipe:
    """The recipe with a pool of what each experiment selects: where all documents there are is what trainings read."""
    drawing = [
        one.model_copy(
            update={"proxy": one.proxy.model_copy(update={"redraw": True, "seeds": max(2, one.proxy.seeds)})}
        )
        for one in recipe.experiments
    ]
    return recipe.model_copy(update={"experiments": tuple(drawing)}) if recipe.tokenizer is not None else recipe


def _with_what_is_read(recipe: Recipe, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """With the pools on which tokens and trainings are tried."""
    labels = {search.label: search.experiment for search in recipe.searches}
    read = {
        labels[label] if kind == "searches" else label
        for kind, label in wanted
        if kind in ("tokens", *TRAINED) and label
    }
    pools = {("pools", _with_pools(recipe).pool_of(label)) for label in read}
    # What is trained on is not made of a sample; what it is made from is.
    return {
        (kind, label) for kind, label in wanted if kind not in ("tokens", "mixture", "leaderboard", *TRAINED)
    } | pools


def _needed(graph: Mapping[str, Node], wanted: set[tuple[str, str]]) -> list[Node]:
    names: set[str] = set()
    for node in reversed(list(graph.values())):
        if node.name in names or (node.kind, node.label) in wanted:
            names |= {node.name, *node.upstream}
    return [node for node in graph.values() if node.name in names]


# --- the sample


def _stored_rows(documents: Sequence[tuple[Store, Part]], sample: int) -> pa.Table:
    """The first rows of some parts, chosen by the hash of their names."""
    chosen = sorted(documents, key=lambda item: xxhash.xxh3_64_intdigest(item[1].name.encode()))[:8]
    tables = []
    for store, part in chosen:
        rows = np.arange(min(part.rows, -(-sample // len(chosen))))
        tables += [pa.Table.from_batches([batch]) for _, batch in take_rows(store, part, DOCUMENT.names, rows)]
    return pa.concat_tables(tables) if tables else DOCUMENT.empty_table()


def _read_inputs(bench: _TrialBench, found: Found, snapshot: str, sample: int) -> pa.Table:
    """Records of every source, from ranges chosen by the hash of where they lie."""
    sources = bench.inputs[snapshot]
    tables = [DOCUMENT.empty_table()]
    for label, files in sources.items():
        tables.append(_read_source(bench, found, label, files, snapshot, -(-sample // len(sources))))
    return pa.concat_tables(tables)


def _read_source(
    bench: _TrialBench, found: Found, label: str, files: Sequence[InputFile], snapshot: str, sample: int
) -> pa.Table:
    use = next(source for source in bench.recipe.sources if source.label == label)
    made = use.stage.make(use.config)
    chosen = sorted(files, key=lambda file: xxhash.xxh3_64_intdigest(file.name.encode()))[:MOST_RANGES]
    ranges = [part for file in chosen for part in made.split(file, min(RANGE, use.part_bytes))]
    ranges.sort(key=lambda part: xxhash.xxh3_64_intdigest(f"{part.file.name}\x1f{part.identity}".encode()))
    shared = {
        "store": bench.store.url,
        "label": label,
        "snapshot": snapshot,
        "source": use.identity,
        "extract": [extractor.identity for extractor in bench.recipe.extract],
        "most": READ_FACTOR * sample,
    }
    pieces: list[tuple[float, dict[str, Any], float]] = []
    start, peak, tables = 0.0, 0, [DOCUMENT.empty_table()]
    for number, part in enumerate(ranges[:MOST_RANGES]):
        payload = {**shared, "part": asdict(part), "name": f"{label}-{number}", "kept": sample}
        if not number:
            for one in (bench.warm, bench):
                if one is not None:
                    one.run_tasks("sample", [Task("sample", f"{__name__}:read_some", {**payload, "most": FEW})])
            start = bench.spent[-1].cpu
        told = bench.run_tasks("sample", [Task("sample", f"{__name__}:read_some", payload)])["sample"]
        spent = bench.spent[-1]
        peak = max(peak, spent.peak)
        pieces.append((told["bytes"], told, spent.cpu))
        tables.append(read_part(bench.store, Part.from_json(told["part"])))
        kept = sum(table.num_rows for table in tables)
        if (kept >= sample and number) or sum(cpu for _, _, cpu in pieces) > MOST_SECONDS:
            break
    read = sum(size for size, _, _ in pieces) or 1.0
    rows, text, cpu = (
        [float(told["rows"]) for _, told, _ in pieces],
        [float(told["text_bytes"]) for _, told, _ in pieces],
        [cpu for _, _, cpu in pieces],
    )
    sizes = [size for size, _, _ in pieces]
    spread = max(_spread(sizes, rows), _spread(sizes, text), _spread(sizes, cpu))
    found.readings[label] = Reading(sum(rows) / read, sum(text) / read, sum(cpu) / read, start, peak, spread)
    return pa.concat_tables(tables).slice(0, sample)


def read_some(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: the documents of one range of an input, as a part of its first rows; how many there are in how many bytes."""
    described = payload["part"]
    part = InputPart(InputFile(**described["file"]), described["start"], described["stop"])
    counted: list[_Counted] = []

    def opened(file: InputFile) -> BinaryIO:
        counted.append(_Counted(open_input(file)))
        return cast(BinaryIO, io.BufferedReader(counted[-1], 1 << 16))

    batches, rows, text, whole = [DOCUMENT.empty_table()], 0, 0, True
    for batch in read_documents(payload, part, Counter(), context, opened=opened):
        if rows < payload["kept"]:
            batches.append(pa.Table.from_batches([batch]).slice(0, payload["kept"] - rows))
        rows += batch.num_rows
        text += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
        if rows >= payload["most"]:
            whole = False
            break
    size = part.stop - part.start
    read = size if whole else max(1, min(size, sum(item.amount for item in counted)))
    table = pa.concat_tables(batches).combine_chunks()
    made = write_part(Store(payload["store"]), "sample", payload["name"], DOCUMENT, table.to_batches())
    return {"rows": rows, "text_bytes": text, "bytes": read, "part": made.to_json()}


class _Counted(io.RawIOBase):
    """A stream that knows how many bytes were read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.amount = stream, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.amount += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
        super().close()


# --- measuring


def _measure(
    bench: _TrialBench,
    found: Found,
    table: pa.Table,
    snapshot: str,
    needed: Sequence[Node],
    ready: Mapping[str, tuple[Store, Manifest]],
    progress: Progress,
) -> "_Worlds":
    rows = table.num_rows
    # The last rows compile, the first ones show what starting costs: the same ones would be found made.
    last, few, many = (
        _documents(bench, table.slice(max(min(1, rows - 1), rows - FEW)), snapshot, 1, "last"),
        _documents(bench, table.slice(0, min(FEW, rows)), snapshot, 1, "few"),
        _documents(bench, table, snapshot, PIECES, "many"),
    )
    text = [many.notes["text_bytes"], few.notes["text_bytes"]]
    found.text_per_row = text[0] / rows
    found.stored = sum(part.bytes for part in many.parts) / max(text[0], 1)
    worlds = _Worlds({last.name: last}, {few.name: few}, {many.name: many})
    for node in needed:
        progress.advance(1)
        key = node.kind, node.label
        missing = [name for name in node.upstream if name not in worlds.many]
        if node.kind == "documents":
            continue
        if node.kind == "models" and node.label in ready:
            for world in (worlds.warm, worlds.few, worlds.many):
                world[node.name] = _borrowed(bench.store, *ready[node.label])
            continue
        if node.kind not in STEPS:
            found.unknown[key] = NOT_TRIED
        elif missing:
            found.unknown[key] = f"needs {missing[0]}, which could not be tried"
        elif node.kind == "models" and "://" in str(node.files):
            found.unknown[key] = "not fetched for an estimate; 'factory run models' fetches it"
        else:
            try:
                _measure_node(bench, found, node, worlds)
            except FactoryError as error:
                found.unknown[key] = f"cannot be made of a sample: {str(error)[:160]}"
    made = [manifest for manifest in worlds.many.values() if manifest.kind in ("selection", "pools")]
    found.selections = {manifest.label: manifest for manifest in made if manifest.kind == "selection"}
    found.pools = {manifest.label: manifest.notes["tokens"] for manifest in made if manifest.kind == "pools"}
    return worlds


def _try_trainings(bench: "_TrialBench", found: Found, worlds: "_Worlds", wanted: set[tuple[str, str]]) -> None:
    """Try what trainings of each shape take; those of one shape once."""
    recipe = bench.recipe
    labels = {search.label: search.experiment for search in recipe.searches}
    trained = sorted(
        {labels[label] if kind == "searches" else label for kind, label in wanted if kind in TRAINED and label}
    )
    known: dict[str, Tried | str] = {}

    def run(task: Task) -> tuple[Any, int]:
        result = bench.run_tasks(task.name, [task])[task.name]
        return result, bench.spent[-1].peak

    for label in trained:
        shape = like(recipe, label)
        pool = worlds.many.get(dataset_name("pools", _with_pools(recipe).pool_of(label), ""))
        tokenizer = worlds.many.get(dataset_name("models", "tokenizer", ""))
        if shape not in known and (pool is None or tokenizer is None):
            known[shape] = "there are no tokens of the sample to try it on"
        elif shape not in known:
            assert pool is not None
            assert tokenizer is not None
            try:
                known[shape] = try_training(bench, label, pool, tokenizer, run)
            except FactoryError as error:
                known[shape] = str(error)[:200]
        found.tried[label] = known[shape]


def _documents(bench: _TrialBench, table: pa.Table, snapshot: str, pieces: int, name: str) -> Manifest:
    size = max(1, math.ceil(table.num_rows / pieces))
    parts = []
    for first in range(0, table.num_rows, size):
        piece = table.slice(first, size).combine_chunks()
        size_of_text = pc.sum(pc.binary_length(piece.column("text"))).as_py() or 0
        made: Callable[[], dict[str, int]] = partial(dict, text_bytes=size_of_text)
        parts.append(write_part(bench.store, "documents", f"{name}-{first}", DOCUMENT, piece.to_batches(), notes=made))
    text = sum(part.notes["text_bytes"] for part in parts)
    return Manifest("documents", "", snapshot, "trial", {}, {}, tuple(parts), notes={"text_bytes": text})


def _borrowed(own: Store, store: Store, manifest: Manifest) -> Manifest:
    """A model that is there, to be read in the trial's store."""
    for part in manifest.parts:
        target = own.full(part.path)
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with store.as_local(part.path) as (path,):
                if store.local:
                    os.symlink(path, target)
                else:
                    shutil.copyfile(path, target)
    return manifest


@dataclass(frozen=True)
class _Worlds:
    """Everything made so far, by name: of the documents that are not timed, of few, and of many."""

    warm: dict[str, Manifest]
    few: dict[str, Manifest]
    many: dict[str, Manifest]


def _measure_node(bench: _TrialBench, found: Found, node: Node, worlds: _Worlds) -> None:
    """Make a dataset of few documents and of many, when another process has made it once."""
    by_text = node.kind in ("scores", "keys", "encodings")
    alone = node.kind == "models" and not node.upstream  # learnt from files: as long in the trial as in the run
    if bench.warm is not None and not alone and all(name in worlds.warm for name in node.upstream):
        with suppress(FactoryError):  # a model may not be learnt from a few
            _make(bench.warm, node, worlds.warm)
    first, first_disk = ([], 0) if node.kind == "models" else _make(bench, node, worlds.few)
    rest, rest_disk = _make(bench, node, worlds.many)
    if node.kind == "models":
        model = worlds.warm[node.name] = worlds.few[node.name] = worlds.many[node.name]
        peak = max(rest, key=lambda item: item.peak)
        found.rates[node.kind, node.label] = Rate(
            cpu=sum(item.cpu for item in rest),
            start=0.0,
            disk=0.0,
            disk_start=float(model.bytes),
            memory=peak.peak,
            memory_units=1.0,
            resting=peak.resting,
            spread=UNKNOWN_SPREAD,
        )
        return
    few, many = (next(iter(m for m in world.values() if m.kind == "documents")) for world in (worlds.few, worlds.many))
    units = [float(m.notes["text_bytes"] if by_text else m.rows) for m in (few, many)]
    parts = [len(few.parts), len(many.parts)] if by_text or node.kind in ("links", "decisions") else [1, 1]
    cpu = sum(item.cpu for item in rest) / max(units[1], 1)
    # bytes = a * parts + b * units, of both.
    grown = units[1] * parts[0] - units[0] * parts[1]
    disk = (
        max(0.0, (rest_disk * parts[0] - first_disk * parts[1]) / grown) if grown > 0 else rest_disk / max(units[1], 1)
    )
    disk_start = max(0.0, (first_disk - disk * units[0]) / parts[0])
    peak = max(rest, key=lambda item: item.peak, default=_Spent("", 0.0, 0, 0))
    found.rates[node.kind, node.label] = Rate(
        cpu=cpu,
        start=max(0.0, sum(item.cpu for item in first) - cpu * units[0]),
        disk=disk,
        disk_start=disk_start,
        memory=peak.peak,
        memory_units=units[1] / parts[1],
        resting=peak.resting,
        spread=_piece_spread(many, rest) if by_text else UNKNOWN_SPREAD,
    )
    if node.kind == "keys":
        found.keys[node.label] = _count_keys(bench.store, many, worlds.many[node.name])


def _make(bench: _TrialBench, node: Node, world: dict[str, Manifest]) -> tuple[list[_Spent], int]:
    """One dataset of one world, put into it; what its tasks took, and the bytes it has."""
    before, begun = sum(bench.store.files().values()), len(bench.spent)
    upstream = {name: world[name] for name in node.upstream}
    work = Work(node, node.fingerprint({name: item.digest for name, item in upstream.items()}), upstream)
    made = STEPS[node.kind](bench, [work])[node.name]
    if isinstance(made, FactoryError):
        raise made
    inputs = node.inputs({name: item.digest for name, item in upstream.items()})
    named = (node.kind, node.label, node.partition, work.fingerprint)
    world[node.name] = write_manifest(
        bench.store, Manifest(*named, node.spec, inputs, made.parts, made.ledger, made.notes)
    )
    return bench.spent[begun:], sum(bench.store.files().values()) - before


def _count_keys(store: Store, documents: Manifest, keys: Manifest) -> Keys:
    of = {part.name: float(value_count(store, part, "keys")) for part in keys.parts}
    values = [of[part.digest] for part in documents.parts]
    rows = [float(part.rows) for part in documents.parts]
    text = [float(part.notes["text_bytes"]) for part in documents.parts]
    by_text = _error(text, values) < _error(rows, values)
    units = text if by_text else rows
    return Keys(sum(values) / max(sum(units), 1), by_text, _spread(units, values))


def _piece_spread(documents: Manifest, spent: Sequence[_Spent]) -> float:
    text = {part.digest: float(part.notes["text_bytes"]) for part in documents.parts}
    known = [(text[name], item.cpu) for item in spent if (name := item.name.split(" ")[-1]) in text]
    return _spread([size for size, _ in known], [cpu for _, cpu in known])


def _spread(units: Sequence[float], amounts: Sequence[float]) -> float:
    """Twice the relative standard error of the ratio of two sums over pieces, at least `LEAST_SPREAD`."""
    if len(units) < 2 or not sum(units) or not sum(amounts):
        return UNKNOWN_SPREAD
    return float(min(2.0, max(LEAST_SPREAD, 2 * _error(units, amounts))))


def _error(units: Sequence[float], amounts: Sequence[float]) -> float:
    if len(units) < 2 or not sum(units) or not sum(amounts):
        return 0.0
    x, y = np.array(units), np.array(amounts)
    rest = y - x * y.sum() / x.sum()
    return math.sqrt(len(x) / (len(x) - 1) * float((rest**2).sum())) / float(y.sum())
