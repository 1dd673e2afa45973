"""Documents with planted duplicates of known overlap: `python tests/benchmarks/links_data.py FOLDER NAME...`.

`real` holds the passages of bench_data (8,040 that differ, of some 4 kB, with the near-duplicates that pages have) and the
planted ones. `<count>x<bytes>`, as in 100000x3800, holds that many documents of sentences of those passages, each sentence
drawn alone, so that any two documents share next to nothing unless they were planted. Of all documents 2 % are exact and 9 %
near copies: words are replaced, added and left out at the rate that leaves, in expectation, .95 ... .5 of the union of both
sets of 5-grams.

FOLDER/NAME has mh/part-*.jsonl (id, text, url), truth.jsonl (a, b, kind, jaccard as it came out; words are `\\w+` in lower
case), as the harness of ../shared/bench reads them, and recipe.yaml for ours. What is there is left; a name always gives the
same bytes.
"""

import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

NEAR = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
NGRAM = 5
EXACT_SHARE, NEAR_SHARE = 0.02, 0.09
FILES = 8
PLACE = "bench"  # source and snapshot of our documents: with the id, they give our doc_id

RECIPE = """\
name: bench
store: {store}
sources:
  bench: {{use: jsonl, uri: "mh/*.jsonl", snapshot: bench, id: id, part_bytes: {part_bytes}}}
linkers:
  near: {{use: minhash, scope: snapshot}}
tokenizer: none
"""
PART_BYTES = 32 << 20

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")


def make(folder: Path, name: str) -> Path:
    """The folder of one corpus, made unless it is there."""
    made = folder / name
    if (made / "done").exists():
        return made
    print(f"making {made}", file=sys.stderr, flush=True)
    (made / "mh").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        total = len(supply(name))
        bounds = [total * number // FILES for number in range(FILES + 1)]
        jobs = [(str(made), name, number, bounds[number], bounds[number + 1]) for number in range(FILES)]
        truths = list(pool.map(write_file, jobs))
    (made / "truth.jsonl").write_text("".join(json.dumps(pair) + "\n" for truth in truths for pair in truth))
    (made / "recipe.yaml").write_text(RECIPE.format(store="store", part_bytes=PART_BYTES))
    digest = hashlib.sha256()
    for path in sorted((made / "mh").iterdir()):
        digest.update(path.read_bytes())
    (made / "done").write_text(digest.hexdigest() + "\n")
    return made


@cache
def sentences() -> list[str]:
    from bench_data import passages

    found: dict[str, None] = {}
    for text in passages():
        for line in text.split("\n"):
            for sentence in map(str.strip, _SENTENCE_END.split(line)):
                if 40 <= len(sentence) <= 300 and sentence.count(" ") >= 6:
                    found[sentence] = None
    return list(found)


@cache
def supply(name: str) -> "Corpus":
    if name == "real":
        from bench_data import passages

        texts = list(dict.fromkeys(passages()))
        random.Random(7).shuffle(texts)
        bases = len(texts)
        return Corpus(name, round(bases / (1 - EXACT_SHARE - NEAR_SHARE)), bases, texts.__getitem__)
    count, size = map(int, name.split("x"))
    found = sentences()

    def document(number: int) -> str:
        chance = random.Random(f"{size} {number}")
        length = size * chance.uniform(0.5, 1.5)
        text: list[str] = []
        while length > 0:
            text.append(found[int(chance.random() * len(found))])
            text.append("\n" if len(text) % 12 == 11 else " ")
            length -= len(text[-2]) + 1
        return "".join(text[:-1])

    return Corpus(name, count, count - round(count * (EXACT_SHARE + NEAR_SHARE)), document)


class Corpus:
    """`count` documents at shuffled places: base documents first, then copies of some of them."""

    def __init__(self, name: str, count: int, bases: int, document: Callable[[int], str]) -> None:
        self.bases, self.document, self.name = bases, document, name
        chance = random.Random(f"places of {name}")
        self.at = list(range(count))
        chance.shuffle(self.at)
        self.place = [0] * count
        for place, number in enumerate(self.at):
            self.place[number] = place
        self.copied = chance.sample(range(bases), count - bases)
        self.exact = round((count - bases) * EXACT_SHARE / (EXACT_SHARE + NEAR_SHARE))

    def __len__(self) -> int:
        return len(self.at)

    def rows(self, first: int, stop: int) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """The text at each place and, of a copy, what is true of the pair."""
        for place in range(first, stop):
            number = self.at[place]
            if number < self.bases:
                yield self.document(number), None
                continue
            copy = number - self.bases
            base = self.copied[copy]
            pair = {"a": identity(self.place[base]), "b": identity(place)}
            text = self.document(base)
            if copy < self.exact:
                yield text, {**pair, "kind": "exact", "jaccard": 1.0}
                continue
            level = NEAR[copy % len(NEAR)]
            edited = edit(text, level, random.Random(f"edit {self.name} {copy}"))
            yield edited, {**pair, "kind": f"near{level}", "jaccard": round(jaccard(text, edited), 4)}


def identity(place: int) -> str:
    return f"d{place:06d}"


def edit(text: str, level: float, chance: random.Random) -> str:
    """The text with words replaced (6 in 10), added (2) or left out (2), so often that `level` of the n-grams should be left."""
    rate = 1 - (2 * level / (1 + level)) ** (1 / NGRAM)  # an edit of a word kills the n-grams it is in
    strange = vocabulary()
    words = re.split(r"(\s+)", text)
    for position in range(0, len(words), 2):
        if words[position] and chance.random() < rate:
            what, word = chance.random(), strange[int(chance.random() * len(strange))]
            words[position] = word if what < 0.6 else f"{words[position]} {word}" if what < 0.8 else ""
    return "".join(words)


@cache
def vocabulary() -> list[str]:
    chance = random.Random("vocabulary")
    drawn = (chance.choice(sentences()) for _ in range(4000))
    return sorted({word for sentence in drawn for word in sentence.split() if word.isalpha()})


def shingles(text: str) -> set[tuple[str, ...]]:
    """The 5-grams of a text; a shorter text is one of all its words."""
    words = _WORD.findall(text.lower())
    return {tuple(words[first : first + NGRAM]) for first in range(max(1, len(words) - NGRAM + 1))}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def write_file(job: tuple[str, str, int, int, int]) -> list[dict[str, Any]]:
    folder, name, number, first, stop = job
    truth = []
    with open(f"{folder}/mh/part-{number:02d}.jsonl", "w", encoding="utf-8") as out:
        for place, (text, pair) in enumerate(supply(name).rows(first, stop), first):
            row = {"id": identity(place), "text": text, "url": f"https://bench.example/{place}"}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            if pair:
                truth.append(pair)
    return truth


def read(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "mh").iterdir()):
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


if __name__ == "__main__":
    for asked in sys.argv[2:]:
        made = make(Path(sys.argv[1]), asked)
        print(made, (made / "done").read_text()[:16])
