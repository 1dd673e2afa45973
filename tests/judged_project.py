"""A project of two snapshots and two experiments that goes all the way to a leaderboard, run once through Dagster."""

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from factory.recipes.workspace import Outcome

SNAPSHOTS = ("2026-01", "2026-02")
RECIPE = """
name: judged
store: store
sources:
  web: {use: jsonl, uri: "crawl/*/*.jsonl", snapshot: "{parent}"}
scorers:
  words: {use: word_statistics, reading: datatrove}
  lines: {use: line_statistics, reading: datatrove}
linkers:
  near: {use: minhash}
filters:
  long: {use: in_range, column: words_words, min: 40}
  duplicate: {use: is_absent, column: near_duplicate_of}
tokenizer: {vocab_size: 300, documents: 50}
mixture: {use: natural, tokens: 3000, max_epochs: 8, by: host}
proxy:
  scale: nano
  seeds: 1
  overrides: {width: 16, layers: 1, heads: 2, hidden: 32, context: 32, batch: 4, warmup_steps: 2}
evaluate:
  held: {use: bits_per_byte, uri: held/eval.jsonl}
experiments:
  raw: {filters: {}}
  full: {}
base: raw
"""

# A linker of every join, what they find taken out of texts, and documents repeated by their copies.
EVERY_JOIN = RECIPE.replace(
    "linkers:\n  near: {use: minhash}\n",
    """linkers:
  near: {use: minhash, scope: global}
  lines: {use: lines, over: 2}
  seen: {use: bloom_paragraph, ngram: 5, scope: incremental}
  alike: {use: semdedup, sources: [web], clusters: 2, scope: snapshot}
rewrite:
  lines: {use: remove_spans, column: lines_removed}
  seen: {use: remove_spans, column: seen_removed, join: " "}
selection: {use: rehydrate, column: near_cluster_size, weights: {1: 2, 3: 4}}
""",
).replace(
    "experiments:\n  raw: {filters: {}}\n  full: {}\nbase: raw", "experiments: {once: {selection: null}, repeated: {}}"
)


def text(chance: random.Random, lines: int) -> str:
    words = "the of and that have with data model crawl page token score rule line word text".split()  # noqa: SIM905
    return "\n".join(" ".join(chance.choices(words, k=12)).capitalize() + "." for _ in range(lines))


def write_snapshot(folder: Path, snapshot: str, documents: int = 40) -> Path:
    """One file of documents, a fifth of them copies of each other."""
    chance = random.Random(snapshot)
    rows = [
        {"id": str(i), "url": f"https://site{i % 3}.example/{snapshot}/{i}", "text": text(chance, chance.randint(2, 9))}
        for i in range(documents)
    ]
    for copy in rows[::5]:
        copy["text"] = text(random.Random("copy"), 6)
    path = folder / "crawl" / snapshot / "web.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_project(folder: Path, recipe: str = RECIPE) -> str:
    """Write inputs and recipe; returns the recipe's path."""
    for snapshot in SNAPSHOTS:
        write_snapshot(folder, snapshot)
    held = folder / "held" / "eval.jsonl"
    held.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random("held")
    held.write_text("".join(json.dumps({"text": text(chance, 4), "domain": domain}) + "\n" for domain in "aabb"))
    (folder / "recipe.yaml").write_text(recipe)
    return str(folder / "recipe.yaml")


class Heard:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.done: dict[str, int] = {}

    def start(self, label: str, total: int, unit: str) -> None:
        self.labels.append(label)

    def advance(self, amount: int) -> None:
        self.done[self.labels[-1]] = self.done.get(self.labels[-1], 0) + amount

    def finish(self) -> None:
        pass

    def note(self, line: str) -> None:
        pass


@dataclass(frozen=True)
class Judged:
    recipe: str
    outcomes: list[Outcome]
    progress: Heard

    @property
    def store(self) -> Path:
        return Path(self.recipe).parent / "store"


@cache
def judge_project(folder: Path) -> Judged:
    from assets.launch import run

    recipe, progress = write_project(folder), Heard()
    return Judged(recipe, run(recipe, workers=1, progress=progress), progress)


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """The finished project, shared by all tests: only to be looked at."""
    return judge_project(tmp_path_factory.getbasetemp() / "judged")
