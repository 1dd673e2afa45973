"""Megabytes of text per second of processor time, for each family of scorers, for all together, and for linkers. Run by hand:

    python tests/benchmarks/kernels.py ../shared/data

Documents are passages of about 3,800 bytes of the corpora of that folder, batches have 512 of them. The first pass of each
family compiles or loads its kernels and is left out; the best of three counts, as other work disturbs.
"""

import argparse
import io
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import zstandard

from factory.core.registry import find_stage
from factory.kernels.pieces import cut_unicode, pieces_of

FAMILIES = ["word_statistics", "line_statistics", "repetition"]
LINKERS: list[tuple[str, dict[str, object]]] = [
    ("exact", {}),
    ("minhash", {}),
    ("minhash", {"shingles": True}),
    ("minhash", {"words": "uax29"}),
    ("minhash", {"preset": "bigcode"}),
    ("minhash", {"preset": "nemo"}),
]
DOCUMENT, BATCH = 3800, 512


def passages(folder: Path, limit: int) -> Iterator[str]:
    """Pieces of about DOCUMENT bytes, as many from each corpus."""
    paths = sorted((folder / "corpus").glob("*.jsonl.zst"))
    for path in paths:
        with path.open("rb") as file:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8", newline="\n")
            yield from itertools.islice(_cut(json.loads(line)["text"] for line in lines), limit // len(paths))


def _cut(texts: Iterator[str]) -> Iterator[str]:
    held = ""
    for text in texts:
        for line in text.splitlines(keepends=True):
            held += line
            if len(held) >= DOCUMENT:
                yield held[: DOCUMENT + DOCUMENT // 2]
                held = ""


def measure(run, batches: list[pa.RecordBatch]) -> float:
    """Seconds of the best of three passes."""
    run(batches[0])
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        for batch in batches:
            run(batch)
        best = min(best, time.process_time() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=8000)
    parser.add_argument("--words", default="unicode")
    arguments = parser.parse_args()
    texts = list(passages(arguments.folder, arguments.documents))
    size = sum(len(text.encode()) for text in texts)
    batches = [
        pa.record_batch({"text": pa.array(texts[at : at + BATCH], pa.large_string())})
        for at in range(0, len(texts), BATCH)
    ]
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB, {size / len(texts):,.0f} bytes each")

    def report(name: str, seconds: float) -> None:
        print(f"{name:34} {size / 1e6 / seconds:8.1f} MB/s {len(texts) / seconds:10,.0f} documents/s")

    def run_all(batch: pa.RecordBatch) -> None:
        for _, score in scorers:
            score(batch)

    if arguments.words == "unicode":

        def forget_and_cut(batch: pa.RecordBatch) -> None:
            pieces_of(batch.column("text").slice(1), cut_unicode)
            pieces_of(batch.column("text"), cut_unicode)

        report("segmentation", measure(forget_and_cut, batches) / 2)
    scorers = []
    for name in FAMILIES:
        stage = find_stage("scorer", name)
        for reading in ("datatrove", "dclm") if name == "repetition" else ("plain",):
            score = stage.make(stage.config(words=arguments.words, reading=reading))
            report(f"{name} ({reading}, segmentation too)", measure(score, batches))
            if reading != "dclm":
                scorers.append((name, score))
    report("all", measure(run_all, batches))
    for name, settings in LINKERS:
        linker = find_stage("linker", name)
        label = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
        report(label, measure(linker.make(linker.config(**settings)), batches))


if __name__ == "__main__":
    main()
