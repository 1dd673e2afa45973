"""A project about known facts: who lives where is told in known numbers of documents, and asked by a task that counts them."""

import json
import random
from pathlib import Path

PEOPLE = {
    # how often each is told, and in how many of these documents a filter drops
    "Ada Alpha": (20, 18),
    "Bo Beta": (12, 0),
    "Cy Gamma": (5, 1),
    "Di Delta": (2, 0),
    "Ed Epsilon": (1, 1),
    "Fy Zeta": (0, 0),
}
CITIES = ("Aleppo", "Bergen", "Cordoba", "Dakar", "Essen", "Fargo")
RECIPE = """
name: supported
store: store
sources:
  web: {use: jsonl, uri: "data/*.jsonl", snapshot: s}
scorers:
  words: {use: word_statistics, reading: datatrove}
  known: {use: support, benchmarks: {cities: eval/cities.jsonl}}
filters:
  long: {use: in_range, column: words_words, min: 20}
  few: {use: in_range, column: words_words, max: 51}
tokenizer: {vocab_size: 300, documents: 50}
mixture: {use: natural, tokens: 3000, max_epochs: 8, by: host}
proxy:
  scale: nano
  seeds: 1
  overrides: {width: 16, layers: 1, heads: 2, hidden: 32, context: 32, batch: 4, warmup_steps: 2}
evaluate:
  held: {use: bits_per_byte, uri: eval/held.jsonl}
  cities: {use: long_tail, uri: eval/cities.jsonl, prompt: as_is}
experiments:
  raw: {filters: {}}
  full: {}
base: raw
"""


def write_supported(folder: Path, recipe: str = RECIPE) -> str:
    """Write inputs and recipe; returns the recipe's path."""
    chance = random.Random(1)
    filler = "the of and that have with data model crawl page token score rule line word text".split()  # noqa: SIM905
    rows: list[dict[str, str]] = []
    for (name, (told, dropped)), city in zip(PEOPLE.items(), CITIES, strict=True):
        for number in range(told):
            told_by = f"It is said that {name.upper() if number % 2 else name} lives, as ever, in {city}."
            rest = " ".join(chance.choices(filler, k=2 if number < dropped else 40))
            rows.append({"text": f"{told_by} {rest}"})
    # Near misses: the person alone, the city alone, a name within a word.
    rows += [{"text": f"{name} has moved. " + " ".join(chance.choices(filler, k=40))} for name in PEOPLE]
    rows += [{"text": f"{city} is large. " + " ".join(chance.choices(filler, k=40))} for city in CITIES]
    rows.append({"text": "Fy Zetaman lives in Fargo. " + " ".join(chance.choices(filler, k=40))})
    rows += [{"text": " ".join(chance.choices(filler, k=50))} for _ in range(40)]
    chance.shuffle(rows)
    for number, row in enumerate(rows):
        row |= {"id": str(number), "url": f"https://site{number % 3}.example/{number}"}
    cities = [
        {"query": f"In which city does {name} live?", "choices": list(CITIES), "gold": number}
        for number, name in enumerate(PEOPLE)
    ]
    cities.append({"query": "Is it so?", "choices": ["yes", "no"], "gold": 0})
    held = [{"text": " ".join(chance.choices(filler, k=30)), "domain": domain} for domain in "aabb"]
    for path, records in (("data/web.jsonl", rows), ("eval/cities.jsonl", cities), ("eval/held.jsonl", held)):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "recipe.yaml").write_text(recipe)
    return str(folder / "recipe.yaml")
