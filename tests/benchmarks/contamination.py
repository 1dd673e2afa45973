"""How the rules of `contamination` do on real text: recall of planted items, what they flag, and how fast they read.

    python tests/benchmarks/contamination.py ../shared/data [RULE ...]

Benchmarks are `eval/*.jsonl.zst`, ordinary text is `corpus/*.jsonl.zst`, and `eval/known_overlap.jsonl.zst` names documents
that do hold an item (their corpus is left out of the ordinary text). Prints the table of docs/contamination.md.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from factory.recipes.contamination import flagged, recalls
from factory.stages.scorers.contamination import PUBLISHED, Index, Settings, build

PLANTED = 1000
KNOWN = "known_overlap"


def records(path: Path) -> Iterator[dict[str, Any]]:
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    return (json.loads(line) for line in data.split(b"\n") if line.strip())


def load(data: Path, rule: str) -> Index:
    """The index of all benchmarks under a rule."""
    paths = {path.name.split(".")[0]: path for path in sorted((data / "eval").glob("*.jsonl.zst"))}
    paths.pop(KNOWN)
    files = {str(path): {path.name: path.read_bytes()} for path in paths.values()}
    return build(Settings(benchmarks={name: str(path) for name, path in paths.items()}, rule=rule), files)


def corpora(data: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.name.split(".")[0]: list(records(path)) for path in sorted((data / "corpus").glob("*.jsonl.zst"))}


def known_recall(index: Index, data: Path, documents: list[dict[str, Any]]) -> tuple[int, int]:
    """How many of the known overlaps are found, document and item."""
    batch = pa.record_batch([pa.array([one["text"] for one in documents], pa.large_string())], names=["text"])
    matches = index.score(batch).column("matches").to_pylist()
    rows = {one["id"]: row for row, one in enumerate(documents)}
    numbers = {(item.task, item.line): number for number, item in enumerate(index.items)}
    pairs = [
        (rows[one["doc_id"]], numbers[one["task"], one["item"]]) for one in records(data / f"eval/{KNOWN}.jsonl.zst")
    ]
    return sum(any(m["hit"] and m["item"] == item for m in matches[row]) for row, item in pairs), len(pairs)


def speed(index: Index, texts: list[str]) -> float:
    """MB of text a second of one core, columns and all."""
    batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])
    index.score(batch)
    started = time.process_time()
    for first in range(0, len(texts), 1024):
        index.score(batch.slice(first, 1024))
    return sum(len(text.encode()) for text in texts) / 1e6 / (time.process_time() - started)


def main(data: Path, rules: list[str]) -> None:
    documents = corpora(data)
    known = documents.pop("instruction_qa")
    texts = [one["text"] for corpus in documents.values() for one in corpus]
    carriers = [text for text in texts if 500 < len(text) < 20_000]
    print("| rule | testable items | verbatim | 10 % noise | known overlaps | flagged | MB/s |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for rule in rules:
        index = load(data, rule)
        verbatim, noisy = recalls(index, carriers, PLANTED)
        hits, pairs = known_recall(index, data, known)
        found[rule] = flagged(index, iter(texts), 20)
        testable = sum(not why for why in index.untested)
        print(
            f"| `{rule}` | {testable:,} of {len(index.items):,} | {verbatim['found'] / verbatim['planted']:.1%} "
            f"| {noisy['found'] / noisy['planted']:.1%} | {hits} of {pairs} "
            f"| {found[rule]['flagged']} of {len(texts):,} ({found[rule]['share']:.2%}) | {speed(index, texts):.0f} |",
            flush=True,
        )
        for one in verbatim["missed"][:5]:
            print(f"    missed verbatim: {one}")
    for rule in rules:
        for one in found[rule]["examples"]:
            print(f"{rule}: {one['item']} {one['part']} {one['score']:.2f}, {one['words']} words in a row")
            print(f"    {one['text'][:110]!r}; asked: {one['asked'][:80]!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(PUBLISHED))
