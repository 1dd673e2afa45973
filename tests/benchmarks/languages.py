"""Language identification on ../shared/data/multilingual: macro-F1 by language and source, confusions, and speed beside the
bare libraries. Run it: `python tests/benchmarks/languages.py [data folder]`."""

import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CLOSE = (
    ("hr", "sr"),
    ("ms", "id"),
    ("gl", "pt"),
    ("gl", "es"),
    ("da", "no"),
    ("cs", "sk"),
    ("bg", "ru"),
    ("be", "uk"),
    ("hi", "mr"),
)
SOME_SIZE = 200  # characters: shorter texts are counted apart


def f1_by_label(found: Sequence[str | None], truth: Sequence[str]) -> dict[str, float]:
    """F1 of each label that there is."""
    right, named, there = Counter[str](), Counter(found), Counter(truth)
    for label, true in zip(found, truth, strict=True):
        right[true] += label == true
    return {label: 2 * right[label] / (named[label] + there[label]) for label in there}


def macro_f1(found: Sequence[str | None], truth: Sequence[str]) -> float:
    """The mean of the labels' F1."""
    values = f1_by_label(found, truth)
    return sum(values.values()) / len(values)


def read_rows(path: Path) -> list[dict[str, Any]]:
    import zstandard

    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def detectors(folder: str) -> dict[str, Callable[[list[str]], list[str | None]]]:
    """Name to a function from texts to labels."""
    import py3langid
    import pyarrow as pa

    from factory.stages.scorers import fasttext_language, langid_language

    fasttext_language.fit(fasttext_language.Settings(), {}, folder, 0)
    own = fasttext_language.fasttext_language(fasttext_language.Settings(), f"{folder}/{fasttext_language.MODEL_FILE}")
    packaged = langid_language.langid_language(langid_language.Settings())

    def ask(function: Any) -> Callable[[list[str]], list[str | None]]:
        def labels(texts: list[str]) -> list[str | None]:
            found = []
            for first in range(0, len(texts), 1024):
                batch = pa.record_batch([pa.array(texts[first : first + 1024], pa.large_string())], names=["text"])
                found += function(batch).column("label").to_pylist()
            return found

        return labels

    known: dict[str, Callable[[list[str]], list[str | None]]] = {
        "fasttext_language (babel)": ask(own),
        "langid_language": ask(packaged),
        "py3langid, the package": lambda texts: [py3langid.classify(text)[0] for text in texts],
    }
    try:
        import pycld2
    except ImportError:
        return known
    names = {"iw": "he", "zh-Hant": "zh", "jw": "jv", "un": None}

    def cld2(texts: list[str]) -> list[str | None]:
        found = []
        for text in texts:
            try:
                label = pycld2.detect(text, bestEffort=True)[2][0][1]
            except pycld2.error:
                label = None
            found.append(names.get(label, label))
        return found

    return {**known, "pycld2, the package": cld2}


def accuracy_tables(data: Path, folder: str) -> None:
    rows = read_rows(data / "multilingual" / "langid.jsonl.zst")
    texts = [row["text"] for row in rows]
    truth = [row["lang"].removesuffix("-Latn") for row in rows]
    long = [len(text) >= SOME_SIZE for text in texts]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(
        f"{len(rows)} texts, {len(set(truth))} languages, {megabytes:.1f} MB; Serbian in both scripts is one language\n"
    )
    print("| detector | macro-F1 | its languages only | accuracy | ≥ 200 characters: macro-F1 | MB/s |")
    print("|---|---|---|---|---|---|")
    found_by = {}
    for name, labels in detectors(folder).items():
        labels(texts[:10])
        started = time.process_time()
        found = found_by[name] = labels(texts)
        rate = megabytes / (time.process_time() - started)
        values = f1_by_label(found, truth)
        known = [value for label, value in values.items() if label in set(found)]
        right = sum(a == b for a, b in zip(found, truth, strict=True)) / len(truth)
        kept = [(a, b) for a, b, is_long in zip(found, truth, long, strict=True) if is_long]
        some = macro_f1([a for a, _ in kept], [b for _, b in kept])
        print(
            f"| {name} | {macro_f1(found, truth):.3f} | {sum(known) / len(known):.3f} | {right:.3f} | {some:.3f} | {rate:.1f} |"
        )
    chosen = [name for name in found_by if name != "py3langid, the package"]
    print("\nF1 by language, the least of any detector first:\n")
    values_by = {name: f1_by_label(found_by[name], truth) for name in chosen}
    print(f"| language | texts | {' | '.join(chosen)} |\n|---|---|{'---|' * len(chosen)}")
    counts = Counter(truth)
    for label in sorted(counts, key=lambda label: min(values_by[name][label] for name in chosen)):
        print(f"| {label} | {counts[label]} | " + " | ".join(f"{values_by[name][label]:.3f}" for name in chosen) + " |")
    print(f"\nAccuracy by source:\n\n| source | texts | {' | '.join(chosen)} |\n|---|---|{'---|' * len(chosen)}")
    places = defaultdict(list)
    for place, row in enumerate(rows):
        places[
            "Universal Dependencies"
            if "UniversalDependencies" in row["source"]
            else row["source"].removeprefix("github.com/")
        ].append(place)
    for source, where in sorted(places.items(), key=lambda item: -len(item[1])):
        shares = [sum(found_by[name][place] == truth[place] for place in where) / len(where) for name in chosen]
        print(f"| {source} | {len(where)} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    print(f"\nClose pairs, a → b: texts of a called b:\n\n| pair | {' | '.join(chosen)} |\n|---|{'---|' * len(chosen)}")
    for one, other in CLOSE:
        for a, b in ((one, other), (other, one)):
            if counts[a]:
                shares = [
                    sum(found_by[name][place] == b for place in range(len(truth)) if truth[place] == a)
                    for name in chosen
                ]
                print(f"| {a} → {b} | " + " | ".join(f"{share} of {counts[a]}" for share in shares) + " |")


def speed_table(data: Path, folder: str) -> None:
    """A model of the shape of lid.176 (16 dimensions, 2 to 4 letters, 2 million buckets, a tree) on English documents."""
    import fasttext
    import pyarrow as pa

    from factory.stages.fasttext_models import load_predictor, one_line

    with open(f"{folder}/examples", "w", encoding="utf-8") as file:
        for row in read_rows(data / "multilingual" / "langid.jsonl.zst"):
            file.write(f"__label__{row['lang']} {one_line(row['text'])}\n")
    model = fasttext.train_supervised(
        f"{folder}/examples",
        dim=16,
        minn=2,
        maxn=4,
        bucket=2_000_000,
        loss="hs",
        epoch=3,
        minCount=3,
        thread=12,
        verbose=0,
    )
    model.save_model(f"{folder}/lid.bin")
    texts = []
    for name in ("techdocs", "howto", "government", "books", "biomedical", "textbook"):
        for row in read_rows(data / "corpus" / f"{name}.jsonl.zst"):
            texts += [row["text"][first : first + 3800] for first in range(0, min(len(row["text"]), 19_000), 3800)]
    column = pa.array(texts, pa.large_string())
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    lines = [one_line(text) + "\n" for text in texts]
    predictor = load_predictor(f"{folder}/lid.bin")

    def ours() -> None:
        for first in range(0, len(column), 1024):
            predictor.ask(column.slice(first, 1024))

    predictor.ask(column.slice(0, 2))
    print(f"\n{len(texts)} English documents, {megabytes:.1f} MB; a tree of {len(model.get_labels())} labels\n")
    print("| how | documents per CPU second | MB/s | times bare, one label |\n|---|---|---|---|")
    bare = seconds(lambda: model.f.multilinePredict(lines, 1, 0.0, "strict"))
    shown = {
        "bare fastText, one label": bare,
        "bare fastText, all labels": seconds(
            lambda: model.f.multilinePredict(lines, len(model.get_labels()), -1.0, "strict")
        ),
        "fasttext_language, words new to it": seconds(ours, 1),
        "fasttext_language, words seen before": seconds(ours),
    }
    for name, taken in shown.items():
        print(f"| {name} | {len(texts) / taken:,.0f} | {megabytes / taken:.1f} | {bare / taken:.1f} |")


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared" / "data")
    with tempfile.TemporaryDirectory() as scratch:
        accuracy_tables(where, scratch)
        speed_table(where, scratch)
