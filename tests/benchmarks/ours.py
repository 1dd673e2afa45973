"""The factory's rows of the side-by-side benchmark: one stage on the given files, timed after imports and a warm-up.

`--how run` makes datasets as `factory run` does (supervised workers, ledger, digests, Parquet); `--how direct` calls the stages
on Arrow batches in this process, from JSON lines to the kept JSON lines. Writes what it did and cost to OUT.report.json.
"""

import argparse
import itertools
import json
import os
import shutil
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

WORDS = os.environ.get("BENCH_WORDS", "unicode")
# What a bare call of the library does: nothing mended, nothing read about the page.
PLAIN = {"lists": False, "fallback": False, "metadata": False} if os.environ.get("BENCH_EXTRACT") == "plain" else {}
SIGNALS = {
    "words": {"use": "word_statistics", "words": WORDS, "reading": "datatrove"},
    "lines": {"use": "line_statistics", "words": WORDS, "reading": "datatrove"},
    "repetition": {"use": "repetition", "words": WORDS},
    "c4": {"use": "c4", "words": WORDS, "terminal_punctuation": False},
    "fineweb": {"use": "fineweb", "words": WORDS, "after": "c4"},
}
RULES = {name: {"preset": name} for name in ("gopher_repetition", "gopher", "c4", "fineweb")}
if os.environ.get("BENCH_RULES") == "gopher":  # what NeMo Curator's row does
    SIGNALS = {name: SIGNALS[name] for name in ("words", "lines", "repetition")}
    RULES = {name: RULES[name] for name in ("gopher_repetition", "gopher")}


def recipe(stage: str, files: list[str], data: str) -> dict[str, Any]:
    """The recipe of a stage over these files."""
    archive = stage in ("extract", "pipeline")
    folder = os.path.dirname(files[0])
    made: dict[str, Any] = {
        "name": "bench",
        "store": "store",
        "sources": {
            "web": {
                "use": "warc" if archive else "jsonl",
                "uri": f"{folder}/*",
                "snapshot": "bench",
                "part_bytes": 4 << 20,
            }
        },
        "tokenizer": "none",
        "max_error_share": 0.5,
    }
    if archive:
        made["extract"] = [{"use": "resiliparse", **PLAIN}]
    language = {"use": "fasttext_language", "model": f"{data}/lid.bin", "languages": ["en"]}
    if stage == "lid":
        made["scorers"] = {"language": language}
    if stage in ("filters", "pipeline"):
        made["scorers"] = dict(SIGNALS)
        made["filters"] = dict(RULES)
    if stage == "pipeline":
        made["scorers"]["language"] = language
        made["filters"] = {"english": {"use": "in_range", "column": "language_en", "min": 0.65}, **RULES}
        made["linkers"] = {"near": {"use": "minhash", "scope": "snapshot"}}
        made["filters"]["duplicate"] = {"use": "is_absent", "column": "near_duplicate_of"}
    return made


WANTED = {"extract": ["documents"], "lid": ["scores"], "filters": ["decisions"], "pipeline": ["decisions"]}


def cpu() -> float:
    """CPU seconds of this process and all below it."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def link(files: list[str], folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    for name in files:
        os.symlink(os.path.abspath(name), folder / os.path.basename(name))
    return sorted(str(path) for path in folder.iterdir())


def tiny(files: list[str], folder: Path, count: int = 1) -> list[str]:
    """The beginning of the first file, cut into as many files as there are workers: enough to load everything."""
    from bench_data import members

    folder.mkdir(parents=True)
    ending = os.path.basename(files[0]).partition(".")[2]
    lines = ending.endswith("jsonl")
    source = open(files[0], "rb") if lines else members(Path(files[0]))  # noqa: SIM115 (closed with the process)
    made = []
    for number in range(count):
        made.append(folder / f"warm-{number}.{ending}")
        made[-1].write_bytes(b"".join(itertools.islice(source, 25)))
    return [str(name) for name in made]


def run(options: argparse.Namespace) -> dict[str, Any]:
    from factory.execution.local import LocalExecutor
    from factory.recipes.load import check_recipe
    from factory.recipes.workspace import Workspace

    out = Path(options.out)
    executor = LocalExecutor(options.workers)
    warm = recipe(options.stage, tiny(options.files, out / "warm", options.workers), options.data)
    with Workspace(check_recipe({**warm, "name": "warm"}, folder=options.out), executor) as workspace:
        workspace.run(WANTED[options.stage])
        asked = recipe(options.stage, link(options.files, out / "input"), options.data)
        workspace = Workspace(check_recipe(asked, folder=options.out), executor)
        clock = Clock()
        outcomes = workspace.run(WANTED[options.stage])
        clock.stop()
        documents = next(item.manifest for item in outcomes if item.node.kind == "documents")
        archive = options.stage in ("extract", "pipeline")
        decided = [item.manifest for item in outcomes if item.node.kind == "decisions"]
        kept = decided[0].ledger["kept"] if decided else documents.rows - sum(documents.ledger["errors"].values())
        return {
            **clock.spent(),
            "docs_in": documents.rows,
            "bytes_in": pages(options.files) if archive else documents.notes["text_bytes"],
            "docs_out": kept,
        }


def pages(files: list[str]) -> int:
    """Bytes of the pages of archives, as peers count them."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    total = 0
    for name in files:
        with open(name, "rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                total += len(record.reader.read())
    return total


class Clock:
    def __init__(self) -> None:
        self.started, self.wall, self.before = time.time(), time.perf_counter(), cpu()

    def stop(self) -> None:
        self.wall, self.after = time.perf_counter() - self.wall, cpu()

    def spent(self) -> dict[str, float]:
        return {"t0": self.started, "wall": self.wall, "cpu": self.after - self.before}


def direct(options: argparse.Namespace) -> dict[str, Any]:
    (warm,) = tiny(options.files, Path(options.out) / "warm")
    one((options.stage, warm, options.out, options.data))
    jobs = [(options.stage, name, options.out, options.data) for name in options.files]
    if options.workers == 1:
        clock = Clock()
        made = [one(job) for job in jobs]
        clock.stop()
    else:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("fork")) as pool:
            list(pool.map(int, range(options.workers)))
            clock = Clock()
            made = list(pool.map(one, jobs))
            clock.stop()
    parts: Counter[str] = Counter()
    for item in made:
        parts.update(item["parts"])
    total = {name: sum(item[name] for item in made) for name in ("docs_in", "bytes_in", "docs_out")}
    return {**clock.spent(), **total, "parts": {name: round(seconds, 4) for name, seconds in parts.items()}}


@cache
def ready(stage: str, ending: str, out: str, data: str) -> tuple[Any, list[tuple[Any, Any]], list[dict[str, Any]]]:
    """The source, the scorers and the rules of a stage, loaded once: a peer's filters exist before its clock starts too."""
    from factory.recipes.load import check_recipe

    checked = check_recipe(recipe(stage, [f"x.{ending}"], data), folder=out)
    source = checked.sources[0].stage.make(checked.sources[0].config)
    scorers = [(use, use.stage.make(use.config)) for use in checked.scorers]
    rules = [
        {"label": rule.label, "reads": list(rule.reads), **rule.identity, "inputs": out}
        for rule in checked.experiments[0].rules
    ]
    return source, scorers, rules


def one(job: tuple[str, str, str, str]) -> dict[str, Any]:
    """One file of JSON lines through the scorers and rules of a stage; the kept lines are written."""
    import orjson
    import pyarrow as pa
    import pyarrow.compute as pc

    from factory.core.stage import InputFile
    from factory.recipes.steps.decisions import verdicts

    stage, name, out, data = job
    source, scorers, rules = ready(stage, "jsonl", out, data)
    file = InputFile(name, os.path.basename(name), os.path.getsize(name), "x")
    parts: Counter[str] = Counter()
    done = {"docs_in": 0, "bytes_in": 0, "docs_out": 0}
    mark = time.process_time()

    def spent(what: str) -> None:
        nonlocal mark
        now = time.process_time()
        parts[what] += now - mark
        mark = now

    with open(name, "rb") as stream, open(f"{out}/{os.path.basename(name)}.kept.jsonl", "wb") as kept:
        (piece,) = source.split(file, 1 << 40)
        for raw in source.read(stream, piece):
            spent("read")
            table = pa.table({"text": raw.column("text"), "doc_id": raw.column("key"), "error": raw.column("error")})
            (batch,) = table.to_batches()
            for use, score in scorers:
                made = score(batch.select(list(use.stage.reads_for(use.config))))
                for column in made.schema.names:
                    table = table.append_column(f"{use.label}_{column}", made.column(column))
                spent(use.label)
            keep = verdicts(table, rules, {}).all(axis=0) if rules else [True] * table.num_rows
            spent("rules")
            done["docs_in"] += batch.num_rows
            done["bytes_in"] += pc.sum(pc.binary_length(batch.column("text"))).as_py()
            if rules:
                rows = raw.filter(pa.array(keep)).select(["key", "text", "url"]).to_pylist()
                kept.write(b"".join(orjson.dumps(row) + b"\n" for row in rows))
                done["docs_out"] += len(rows)
            spent("write")
    return {**done, "parts": parts}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", required=True, choices=sorted(WANTED))
    parser.add_argument("--how", required=True, choices=["run", "direct"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    os.makedirs(options.out)
    spent = run(options) if options.how == "run" else direct(options)
    Path(f"{options.out}.report.json").write_text(json.dumps(spent))
    print(json.dumps(spent))
