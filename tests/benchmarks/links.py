"""Links beside their peers, on the same documents, and how cost and memory grow: `make bench-links`.

All systems run in turn (A B C, A B C ...), pinned to one core and then to two, each in processes of its own; CPU seconds and
memory are those of the whole tree of processes, from its start to its end. A peer's own clock, which starts after its imports
and a warm-up, stands beside. Peers come through the adapters of ../shared/bench; those not installed (`make bench-peers`) are
left out. Then recall and precision of each against the planted pairs, and the exponent of our cost over growing corpora.
"""

import argparse
import glob
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from links_data import NEAR, jaccard, make, read

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HARNESS = ROOT.parent / "shared" / "bench"
BENCH = ROOT / ".bench"
OUT = BENCH / "out" / f"links-{os.getpid()}"
REFERENCE = "daft + LSH"
BANDS, ROWS = 14, 8
CORES = (1, 0)
FACTORY = [sys.executable, "-m", "factory.cli.main", "run", "--direct"]
LONGEST = 3600.0  # seconds one row may take
GROWTH = ("10000x1000", "40000x1000", "160000x1000", "640000x1000")
START = "100x1000"  # so few documents that a run on them is its start-up
# Peers: environment, adapter, variant, numbers of workers they can use, the largest number of documents worth waiting for.
PEERS: dict[str, tuple[str, str, str, tuple[int, ...], int]] = {
    "datatrove": ("base", "datatrove_peer.py", "", (1, 2), 15_000),
    "text-dedup": ("td", "td_peer.py", "", (1, 2), 15_000),
    "datasketch + LSH": ("links", "libs_peer.py", "datasketch", (1,), 15_000),
    "rensa R + LSH": ("links", "libs_peer.py", "rensa", (1,), 150_000),
    "rensa C + LSH": ("links", "libs_peer.py", "rensa_c", (1,), 150_000),
    REFERENCE: ("links", "libs_peer.py", "daft", (1, 2), 1_000_000),
    "daft + LSH from Parquet": ("links", "", "daft", (1, 2), 1_000_000),
}
# Ours: what is there before the clock starts, and settings of the stage.
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "factory from JSON lines": ("nothing", {}),
    "factory from documents": ("documents", {}),
    "factory verified from documents": ("documents", {"verify": 0.5}),
}


@dataclass
class Row:
    """One run: what it cost from outside, what its own clock says, and which documents it would remove."""

    system: str
    workers: int
    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    own_wall: float | None = None
    own_cpu: float | None = None
    removed: set[str] | None = None
    linked: list[tuple[str, str]] | None = None
    problem: str = ""
    phases: dict[str, list[float]] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", default="real,100000x3800")
    parser.add_argument("--systems", default=",".join([*OURS, *PEERS]))
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--growth", default=",".join(GROWTH), help="corpora of the fit; empty for none")
    parser.add_argument("--memory", default="512MB", help="budget of a task in the growing runs")
    parser.add_argument("--data", type=Path, default=BENCH / "data" / "links")
    parser.add_argument("--venvs", type=Path, default=Path(os.environ.get("BENCH_VENVS", BENCH / "venvs")))
    options = parser.parse_args()
    names = options.systems.split(",")
    workers = [int(count) for count in options.workers.split(",")]
    OUT.mkdir(parents=True)
    try:
        for corpus in filter(None, options.corpora.split(",")):
            side_by_side(make(options.data, corpus), names, workers, options)
        if options.growth:
            grow([make(options.data, corpus) for corpus in options.growth.split(",")], options)
    finally:
        shutil.rmtree(OUT)


# --- side by side


def side_by_side(corpus: Path, names: list[str], workers: list[int], options: argparse.Namespace) -> None:
    count, size = extent(corpus)
    print(f"\n== {corpus.name}: {count:,} documents, {size / 1e6:,.1f} MB of text", flush=True)
    prepare(corpus)
    rows: list[Row] = []
    for number in workers:
        for _ in range(options.repeats):
            for name in names:
                row = run_one(corpus, name, number, count, options)
                if row is None:
                    continue
                rows.append(row)
                print(
                    f"[{corpus.name} w{number}] {name}: {row.problem or f'{row.wall:.1f} s, {row.cpu:.1f} CPU s'}",
                    file=sys.stderr,
                    flush=True,
                )
        print_speed([row for row in rows if row.workers == number], number, count, size)
    print_quality(corpus, rows)


def run_one(corpus: Path, name: str, workers: int, count: int, options: argparse.Namespace) -> Row | None:
    if name in OURS:
        return run_ours(corpus, name, workers)
    venv, adapter, variant, able, most = PEERS[name]
    if workers not in able or count > most:
        return None
    python = options.venvs / venv / "bin" / "python"
    if not python.exists():
        return Row(name, workers, problem="not installed ('make bench-peers')")
    return run_peer(corpus, name, workers, python, adapter, variant)


def run_peer(corpus: Path, name: str, workers: int, python: Path, adapter: str, variant: str) -> Row:
    out = OUT / "peer"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    report = out / "report.json"
    if adapter:
        command = [str(python), str(HARNESS / "adapters" / adapter), "--stage", "minhash", "--variant", variant]
        command += [
            "--workers",
            str(workers),
            "--data",
            str(corpus),
            "--out",
            str(out / "made"),
            "--report",
            str(report),
        ]
        command += ["--input", *map(str, files(corpus))]
    else:
        command = [
            str(python),
            str(HERE / "links_peer.py"),
            str(workers),
            str(corpus / "store"),
            str(out / "links.parquet"),
        ]
    row = measure(name, workers, command, {"BENCH_DATA": str(corpus), "PYTHONPATH": str(HARNESS / "adapters")})
    if row.problem:
        return row
    if not adapter:
        ids = ours_to_id(corpus)
        row.removed = {ids[key] for key in (out / "links.parquet.removed").read_text().split()}
        return row
    told = json.loads(report.read_text())
    row.own_wall, row.own_cpu = told["wall"], told["cpu"]
    kept: set[str] = set()
    for made in glob.glob(told["kept_glob"]):
        lines = Path(made).read_text(encoding="utf-8").split("\n")
        kept.update(lines if made.endswith(".txt") else (json.loads(line)["id"] for line in lines if line))
    row.removed = set(map(str, identities(corpus))) - kept
    return row


def run_ours(corpus: Path, name: str, workers: int) -> Row:
    before, settings = OURS[name]
    store = OUT / "store"
    shutil.rmtree(store, ignore_errors=True)
    if not offered(settings):
        return Row(name, workers, problem=f"this version's minhash has no setting {', '.join(settings)}")
    recipe = with_settings(corpus, settings)
    if before == "documents":
        fresh(corpus, store)
    command = [*FACTORY, "--recipe", str(recipe), "--store", str(store), "--workers", str(workers), "links"]
    row = measure(name, workers, command, {})
    if not row.problem:
        row.linked = links_of(corpus, recipe, store)
        row.removed = {one for one, _ in row.linked}
    shutil.rmtree(store, ignore_errors=True)
    return row


def offered(settings: Iterable[str]) -> bool:
    from factory.core.registry import find_stage

    return set(settings) <= set(find_stage("linker", "minhash").config.model_fields)


def prepare(corpus: Path) -> None:
    """The documents every row of ours begins with, and kernels compiled once on this machine."""
    warm = OUT / "warm"
    shutil.rmtree(warm, ignore_errors=True)
    make_ours(corpus / "recipe.yaml", "documents")
    small = make(corpus.parent, START)
    for _, settings in OURS.values():
        if offered(settings):
            make_ours(with_settings(small, settings), "--store", str(warm), "links")


def make_ours(recipe: Path, *more: str) -> None:
    command = [*FACTORY, "--recipe", str(recipe), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def with_settings(corpus: Path, settings: dict[str, Any]) -> Path:
    """The recipe of a corpus, with these settings of its linker."""
    told = "".join(f", {name}: {value}" for name, value in settings.items())
    recipe = corpus / f"recipe{'-settings' if settings else ''}.yaml"
    if settings:
        recipe.write_text((corpus / "recipe.yaml").read_text().replace("use: minhash", f"use: minhash{told}"))
    return recipe


def measure(name: str, workers: int, command: list[str], environment: dict[str, str]) -> Row:
    """Run a command pinned to as many cores as it has workers; CPU seconds and memory of all its processes."""
    threads = (
        "OMP_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    )
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1", "LOGURU_LEVEL": "WARNING"}
    environment = {**os.environ, **quiet, **dict.fromkeys(threads, str(workers)), **environment}
    row = Row(name, workers)
    with tempfile.TemporaryFile() as log:
        mark = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, CORES[:workers]),
        )
        watch = Watch(process.pid)
        watch.start()
        limit = threading.Timer(LONGEST, lambda: os.killpg(process.pid, 9))
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        row.wall = time.perf_counter() - mark
        limit.cancel()
        watch.done.set()
        watch.join()
        # A forkserver's children are not among those waited for; what was seen of them is.
        row.cpu = max(usage.ru_utime + usage.ru_stime, watch.cpu)
        row.peak = watch.peak
        if process.returncode:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 600))
            row.problem = f"exit status {process.returncode}: {log.read().decode(errors='replace').strip()[-300:]}"
    return row


class Watch(threading.Thread):
    """The largest resident memory of a tree of processes together, and their CPU seconds, looked at ten times a second."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak = root, 0
        self.seen: dict[tuple[int, float], float] = {}
        self.done = threading.Event()

    @property
    def cpu(self) -> float:
        return sum(self.seen.values())

    def run(self) -> None:
        while not self.done.wait(0.1):
            resident = 0
            for process in tree(self.root):
                try:
                    with process.oneshot():
                        resident += process.memory_info().rss
                        times = process.cpu_times()
                        self.seen[process.pid, process.create_time()] = times.user + times.system
                except psutil.Error:
                    continue
            self.peak = max(self.peak, resident)


def tree(root: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


# --- what was found


def files(corpus: Path) -> list[Path]:
    return sorted((corpus / "mh").iterdir())


def identities(corpus: Path) -> Iterator[str]:
    return (row["id"] for row in read(corpus))


def extent(corpus: Path) -> tuple[int, int]:
    """Documents and bytes of their texts."""
    kept = corpus / "extent.json"
    if not kept.exists():
        sizes = [len(row["text"].encode()) for row in read(corpus)]
        kept.write_text(json.dumps([len(sizes), sum(sizes)]))
    count, size = json.loads(kept.read_text())
    return count, size


def ours_to_id(corpus: Path) -> dict[str, str]:
    """The corpus's own ids, by doc_id."""
    from links_data import PLACE

    from factory.core.schema import document_id

    return {document_id(PLACE, PLACE, name): name for name in identities(corpus)}


def links_of(corpus: Path, recipe: Path, store: Path) -> list[tuple[str, str]]:
    """Each document that another one stands for, and that one."""
    from factory.recipes.load import load_recipe
    from factory.recipes.workspace import Workspace
    from factory.storage.parts import read_part

    ids = ours_to_id(corpus)
    found = []
    with Workspace(load_recipe(str(recipe), store=str(store))) as workspace:
        (snapshot,) = workspace.snapshots
        documents = {part.digest: part for part in workspace.need("documents", "", snapshot).parts}
        for part in workspace.need("links", "near", snapshot).parts:
            stands = read_part(workspace.store, part, ["duplicate_of"]).column(0).to_pylist()
            document = read_part(workspace.store, documents[part.name], ["doc_id"]).column(0).to_pylist()
            found += [(ids[one], ids[other]) for one, other in zip(document, stands, strict=True) if other is not None]
    return found


def truth(corpus: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (corpus / "truth.jsonl").read_text().splitlines()]


def partners(corpus: Path, venvs: Path = BENCH / "venvs") -> dict[str, float]:
    """The largest true overlap of each document with any other, where it is .4 or more: all pairs of real documents, else the
    planted ones, since the others share next to nothing."""
    pairs = truth(corpus)
    python = venvs / "base" / "bin" / "python"
    if corpus.name == "real" and python.exists():
        made = corpus / "pairs.jsonl"
        if not made.exists():
            command = [python, HARNESS / "make_pairs.py", "--input", f"{corpus}/mh/*.jsonl", "--out", made]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        pairs = [*pairs, *(json.loads(line) for line in made.read_text().splitlines())]
    best: dict[str, float] = defaultdict(float)
    for pair in pairs:
        for name in (pair["a"], pair["b"]):
            best[name] = max(best[name], pair["jaccard"])
    return best


# --- tables


def print_speed(rows: list[Row], workers: int, count: int, size: int) -> None:
    grouped = by_system(rows)
    print(f"\n**{workers} core{'s' if workers > 1 else ''}**\n")
    columns = ["system", "docs/s", "MB/s", "docs per CPU s", "CPU s", "its own clock, CPU s", "memory, MB"]
    print(f"| {' | '.join([*columns, '× Daft', '× Daft, its own clock'])} |")
    print("|---|" + "---:|" * (len(columns) + 1))
    daft = [row for row in grouped.get(REFERENCE, []) if not row.problem]
    for name, all_rows in sorted(grouped.items(), key=lambda item: middle(item[1], "cpu") or math.inf):
        good = [row for row in all_rows if not row.problem]
        if not good:
            print(f"| {name} | {all_rows[-1].problem.splitlines()[-1][:120]} |" + " |" * len(columns))
            continue
        wall, cpu, own = (middle(good, what) for what in ("wall", "cpu", "own_cpu"))
        cells = [f"{count / wall:,.0f}", f"{size / 1e6 / wall:,.1f}", f"{count / cpu:,.0f}", f"{cpu:,.1f}"]
        cells += [f"{own:,.1f}" if own else "", f"{middle(good, 'peak') / 1e6:,.0f}"]
        cells += [f"{middle(daft, what) / cpu:.2f}" if daft else "" for what in ("cpu", "own_cpu")]
        print(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.flush()


def by_system(rows: list[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.system].append(row)
    return grouped


def middle(rows: list[Row], what: str) -> float:
    values = [value for row in rows if (value := getattr(row, what)) is not None]
    return statistics.median(values) if values else 0.0


def print_quality(corpus: Path, rows: list[Row]) -> None:
    """Recall by planted level (either one of a pair was removed), and what was removed without reason."""
    pairs, best = truth(corpus), partners(corpus)
    levels = ["exact", *(f"near{level}" for level in NEAR)]
    print(
        "\n**Recall by planted overlap; removed documents whose overlap with another is .5 or more; linked pairs likewise**\n"
    )
    print(
        f"| system | removed | {' | '.join(level.removeprefix('near') for level in levels)} | removed ≥ .5 | pairs ≥ .5 |"
    )
    print("|---|" + "---:|" * (len(levels) + 3))
    expected = [
        [1 - (1 - pair["jaccard"] ** ROWS) ** BANDS for pair in pairs if pair["kind"] == level] for level in levels
    ]
    print(
        f"| expected of {BANDS}×{ROWS} |  | {' | '.join(share(sum(chances), len(chances)) for chances in expected)} |  |  |"
    )
    texts: dict[str, str] = {}
    for name, good in by_system([row for row in rows if row.removed is not None and not row.problem]).items():
        removed = good[0].removed or set()
        cells = [f"{len(removed):,}"]
        for level in levels:
            planted = [pair for pair in pairs if pair["kind"] == level]
            cells.append(share(sum(bool({pair["a"], pair["b"]} & removed) for pair in planted), len(planted)))
        cells.append(share(sum(best[one] >= 0.5 for one in removed), len(removed)))
        linked = good[0].linked
        if linked is not None:
            texts = texts or {row["id"]: row["text"] for row in read(corpus)}
            true = sum(jaccard(texts[one], texts[other]) >= 0.5 for one, other in linked)
            cells.append(share(true, len(linked)))
        print(f"| {name} | {' | '.join([*cells, *['']][: len(levels) + 3])} |")
    sys.stdout.flush()


def share(part: float, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else ""


# --- growth


def grow(corpora: list[Path], options: argparse.Namespace) -> None:
    """CPU seconds and memory over corpora of growing size; the exponent of a line through their logarithms."""
    print(f"\n== growth, one core, budget of a task {options.memory}", flush=True)
    rows = []
    for corpus in [make(options.data, START), *corpora]:
        prepare(corpus)
        rows.append(grown(corpus, options.memory))
        told = f"{rows[-1].wall:.1f} s, {rows[-1].cpu:.1f} CPU s, {rows[-1].peak / 1e6:.0f} MB"
        print(f"[{corpus.name}] {told}", file=sys.stderr, flush=True)
    phases = list(dict.fromkeys(phase for row in rows for phase in row.phases))
    print(
        "\nCPU seconds; memory is the largest of all processes together, end to end, and of the worker in the global steps\n"
    )
    print(f"| documents | end to end | {' | '.join(phases)} | memory, MB | worker, MB | exchange, MB |")
    print("|---:|" + "---:|" * (len(phases) + 4))
    for row in rows:
        parts = [f"{row.phases.get(phase, [0, 0])[1]:.2f}" for phase in phases]
        worker, disk = (max(values[what] for values in row.phases.values()) / 1e6 for what in (2, 3))
        parts += [f"{row.peak / 1e6:,.0f}", f"{worker:,.0f}", f"{disk:,.0f}"]
        print(f"| {documents(row):,} | {row.cpu:.2f} | {' | '.join(parts)} |")
    print()
    first, *sized = rows
    for what, cost in (("end to end", end_to_end), ("global steps", global_steps)):
        start, costs = cost(first), [cost(row) for row in sized]
        above = [max(1e-3, spent - start) for spent in costs]
        counts = [documents(row) for row in sized]
        print(
            f"exponent, {what}: {exponent(counts, costs):.3f}; above the {start:.2f} CPU s of 100 documents: "
            f"{exponent(counts, above):.3f}; the two largest: {exponent(counts[-2:], above[-2:]):.3f}"
        )


def grown(corpus: Path, memory: str) -> Row:
    """From documents to links in one go; then, keys being there, the global steps in processes of their own."""
    store, told = OUT / "store", OUT / "phases.json"
    recipe = str(corpus / "recipe.yaml")
    command = [*FACTORY, "--recipe", recipe, "--store", str(store), "--workers", "1"]
    fresh(corpus, store)
    row = measure(corpus.name, 1, [*command, "--memory", memory, "links"], {})
    fresh(corpus, store)
    keys = measure(corpus.name, 1, [*command, "keys"], {})
    steps = measure(
        corpus.name, 1, [sys.executable, str(HERE / "links_phases.py"), recipe, str(store), memory, str(told)], {}
    )
    if problem := row.problem or keys.problem or steps.problem:
        sys.exit(f"{corpus.name}: {problem}")
    row.phases = json.loads(told.read_text())
    shutil.rmtree(store)
    return row


def fresh(corpus: Path, store: Path) -> None:
    """A store that has the documents of a corpus and nothing else."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(corpus / "store", store, copy_function=os.link)


def documents(row: Row) -> int:
    return int(row.system.split("x")[0])


def end_to_end(row: Row) -> float:
    return row.cpu


def global_steps(row: Row) -> float:
    return sum(values[1] for values in row.phases.values())


def exponent(counts: list[int], costs: list[float]) -> float:
    return statistics.linear_regression([math.log(count) for count in counts], [math.log(cost) for cost in costs]).slope


if __name__ == "__main__":
    main()
