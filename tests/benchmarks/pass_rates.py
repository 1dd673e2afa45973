"""How much of reference text the presets keep: the table of docs/presets.md.

    python tests/benchmarks/pass_rates.py [--data ../shared/data] [--why] [--preset NAME …] [--languages]

Texts are judged as they are, as one document each; `wikipedia, joined` is the WikiText with its tokenisation undone. A
preset may be followed by a cutter (`gopher+spacy_en`), or by `+per_word` for letters per word and not per word or mark.
With --why also the rules that fail. With --languages: FineWeb2's rules over the texts of their language, records of the same
source joined to documents of 2,000 characters, as they are and with HTML's entities decoded.
"""

import argparse
import html
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from factory.recipes.calibrate import kept_share
from factory.recipes.checks.presets import find_preset
from factory.recipes.measure import failing, measure

DATA = Path(__file__).parents[3] / "shared" / "data"
ENGLISH = (
    *("gopher", "gopher+spacy_en", "gopher+per_word", "gopher_repetition", "c4", "fineweb", "refinedweb"),
    *("gopher_dclm", "rpv2", "dolma", "yi"),
)
CORPORA = (
    *("wikipedia", "wikipedia, joined", "books", "textbook", "government", "howto", "biomedical", "techdocs", "legal"),
    "math",
)
LANGUAGES = {
    "fra_Latn": "fr",
    "cmn_Hani": "zh",
    "arb_Arab": "ar",
    "hin_Deva": "hi",
    "rus_Cyrl": "ru",
    "swh_Latn": "sw",
    "tel_Telu": "te",
    "tha_Thai": "th",
    "tur_Latn": "tr",
    "deu_Latn": "de",
    "spa_Latn": "es",
    "jpn_Jpan": "ja",
    "vie_Latn": "vi",
}
DOCUMENT = 2_000  # characters


def records(path: Path) -> Iterator[dict[str, Any]]:
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)


def corpus(data: Path, name: str) -> list[str]:
    name, _, joined = name.partition(", ")
    texts = [row["text"] for row in records(data / "corpus" / f"{name}.jsonl.zst") if row.get("lang") != "de"]
    return [join(text) for text in texts] if joined else texts


def join(text: str) -> str:
    """WikiText as it was before it was cut into tokens, as far as that can be told."""
    text = re.sub(r" @(.)@ ", r"\1", text).replace("<unk>", "Unknown")
    text = re.sub(r"([(\[]) ", r"\1", re.sub(r" ([,.;:!?%)\]])", r"\1", text))
    text = re.sub(r'" ([^"\n]*) "', r'"\1"', re.sub(r" '(s|t|re|ve|d|m|ll)\b", r"'\1", text))
    return "\n".join(line.strip(" =") for line in text.split("\n"))


def documents(data: Path, language: str) -> list[str]:
    """Texts of a language: neighbours of one source as the lines of a document; what is left over is none."""
    own = [row for row in records(data / "multilingual" / "langid.jsonl.zst") if row["lang"] == language]
    made = []
    for _, group in itertools.groupby(own, key=lambda row: (row["source"], row["variant"])):
        lines: list[str] = []
        for row in group:
            lines.append(row["text"])
            if sum(map(len, lines)) >= DOCUMENT:
                made.append("\n".join(lines))
                lines = []
    return made


def judged(texts: list[str], preset: str, folder: str = ".") -> dict[str, np.ndarray]:
    """Which of the texts fail each rule of a preset, as it is or in a variant."""
    name, _, variant = preset.partition("+")
    found = find_preset(name, folder)
    rules, scorers = dict(found["rules"]), dict(found["scorers"])
    if variant == "per_word":
        rules["alphabetic"] = {**rules["alphabetic"], "column": "word_statistics.alpha_word_ratio"}
    elif variant:
        scorers = {stage: {**(settings or {}), "words": variant} for stage, settings in scorers.items()}
    return failing(measure(texts, rules, scorers, folder), rules, folder)


def rates(texts: list[str], preset: str, folder: str = ".") -> tuple[float, dict[str, float]]:
    """The share of the texts a preset keeps, and the share that fails each of its rules, the largest first."""
    failed = judged(texts, preset, folder)
    by_rule = {rule: float(fails.mean()) for rule, fails in failed.items() if fails.any()}
    return kept_share(failed), dict(sorted(by_rule.items(), key=lambda item: -item[1]))


def table(rows: dict[str, list[str]], presets: list[str], why: bool) -> str:
    lines = ["| texts | documents | " + " | ".join(presets) + " |", "|---|" + "---:|" * (1 + len(presets))]
    reasons = []
    for name, texts in rows.items():
        cells = []
        for preset in presets:
            kept, rules = rates(texts, preset)
            cells.append(f"{kept:.1%}")
            if rules:
                reasons.append(
                    f"- {name}, {preset}: " + ", ".join(f"{rule} {share:.1%}" for rule, share in rules.items())
                )
        lines.append(f"| {name} | {len(texts):,} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *reasons] if why else lines)


def languages(data: Path) -> str:
    lines = ["| preset | documents | kept | with entities decoded | rules that drop |", "|---|---:|---:|---:|---|"]
    for name, code in LANGUAGES.items():
        texts = documents(data, code)
        kept, rules = rates(texts, f"fineweb2/{name}")
        decoded, _ = rates([html.unescape(text) for text in texts], f"fineweb2/{name}")
        reasons = ", ".join(f"{rule} {share:.1%}" for rule, share in rules.items())
        lines.append(f"| fineweb2/{name} | {len(texts):,} | {kept:.1%} | {decoded:.1%} | {reasons} |")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--preset", action="append")
    options.add_argument("--why", action="store_true")
    options.add_argument("--languages", action="store_true")
    asked = options.parse_args()
    if not asked.data.is_dir():
        print(f"no real data at {asked.data}; name its folder with --data")
        return 2
    if asked.languages:
        print(languages(asked.data))
        return 0
    print(table({name: corpus(asked.data, name) for name in CORPORA}, list(asked.preset or ENGLISH), asked.why))
    return 0


if __name__ == "__main__":
    sys.exit(main())
