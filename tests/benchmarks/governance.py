"""Personal data, toxicity and licences, measured on the labelled sets: the tables of docs/governance.md.

    .venv/bin/python tests/benchmarks/governance.py [pii | repair | toxicity | licence ...]

Reads ../shared/data (FACTORY_TEST_DATA names another folder). Times are CPU seconds of one process.
"""

import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402 (the lines above make the rest importable)
import pyarrow as pa  # noqa: E402
import xxhash  # noqa: E402
import zstandard  # noqa: E402
from planted_items import MAKERS, planted  # noqa: E402

from factory.core.registry import find_stage  # noqa: E402
from factory.core.stage import InputFile, InputPart  # noqa: E402

DATA = Path(os.environ.get("FACTORY_TEST_DATA") or HERE.parents[2] / "shared" / "data")
MANY = tuple("US GB AU AT BE BR CA CH CZ DE DK ES FI FR HU IE IS IT NL NO NZ PL PT SE SI UY ZA".split())  # noqa: SIM905
PRESIDIO = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ipv4",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "ssn",
    "PHONE_NUMBER": "phone",
}


def read(name):
    with zstandard.open(DATA / name, "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def batch(texts):
    return pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])


def make(kind, name, *more, **settings):
    stage = find_stage(kind, name)
    return stage.make(stage.config(**settings), *more)


def crawled():
    """Record id, text, licence, meta and address of every page of the crawls, by the default extractor."""
    source, extractor = find_stage("source", "warc"), find_stage("extractor", "resiliparse")
    extract = extractor.make(extractor.config())
    reads = list(extractor.reads_for(extractor.config()))
    for path in sorted((DATA / "warc").glob("*.warc.gz")):
        part = InputPart(InputFile(str(path), path.name, path.stat().st_size, path.name), 0, path.stat().st_size)
        with open(path, "rb") as stream:
            for found in source.make(source.config()).read(stream, part):
                made = extract(found.select(reads))
                yield (
                    found.column("key"),
                    made.column("text"),
                    made.column("license"),
                    made.column("meta"),
                    found.column("url"),
                )


def pii():
    detect = make("scorer", "pii")
    print(
        "\nPlanted: 500 pages a kind, the exact range\n\n| kind | found | recall | anything else found |\n|---|---|---|---|"
    )
    for kind in MAKERS:
        pages = [planted(kind, number) for number in range(500)]
        rows = detect(batch([text for text, _, _ in pages])).column("found").to_pylist()
        wanted = [{"start": start, "end": end, "kind": kind} for _, start, end in pages]
        hits = sum(item in row for item, row in zip(wanted, rows, strict=True))
        others = sum(item != one for one, row in zip(wanted, rows, strict=True) for item in row)
        print(f"| {kind} | {hits} of 500 | {hits / 500:.3f} | {others} |")
    records = read("pii/presidio_synthetic.jsonl.zst")
    labels = Counter(span["entity_type"] for record in records for span in record["spans"])
    for regions in (("US", "GB"), MANY):
        run = make("scorer", "pii", regions=regions)
        _presidio(records, labels, run, f"regions: {len(regions)}")
    print("\nNot claimed:", ", ".join(f"{name} ({labels[name]})" for name in labels if name not in PRESIDIO))
    _ordinary(detect)


def _presidio(records, labels, run, title):
    rows = run(batch([record["full_text"] for record in records])).column("found").to_pylist()
    hit, miss, extra = Counter(), Counter(), Counter()
    for record, items in zip(records, rows, strict=True):
        raw = record["full_text"].encode()
        found = [(len(raw[: i["start"]].decode()), len(raw[: i["end"]].decode()), i["kind"]) for i in items]
        used = set()
        for span in record["spans"]:
            kind = PRESIDIO.get(span["entity_type"])
            over = {f for f in found if f[2] == kind and f[0] < span["end_position"] and f[1] > span["start_position"]}
            used |= over
            if kind:
                (hit if over else miss)[kind] += 1
        extra.update(f[2] for f in found if f not in used)
    print(
        f"\nPresidio, 746 sentences ({title})\n\n| label | kind | labelled | precision | recall |\n|---|---|---|---|---|"
    )
    for label, kind in PRESIDIO.items():
        precision = hit[kind] / max(1, hit[kind] + extra[kind])
        recall = hit[kind] / max(1, hit[kind] + miss[kind])
        print(f"| {label} | {kind} | {labels[label]} | {precision:.2f} | {recall:.2f} |")


def _ordinary(detect):
    print(
        "\nOrdinary pages\n\n| source | pages | MB | "
        + " | ".join(("email", "ipv4", "ipv6", "phone", "card", "iban", "ssn", "key")),
        end="",
    )
    print(" | MB/s (CPU) |\n|" + "---|" * 12)
    sources = {
        name: [row["text"] for row in read(f"corpus/{name}.jsonl.zst")]
        for name in ("wikipedia", "books", "textbook", "government", "techdocs", "code")
    }
    sources["crawl"] = [text for _, texts, *_ in crawled() for text in texts.to_pylist() if text]
    for name, texts in sources.items():
        batches = [batch(texts[at : at + 512]) for at in range(0, len(texts), 512)]
        size = sum(len(text.encode()) for text in texts) / 1e6
        begin = time.process_time()
        counts = Counter()
        for made in map(detect, batches):
            for kind in ("email", "ipv4", "ipv6", "phone", "card", "iban", "ssn", "key"):
                counts[kind] += sum(made.column(kind).to_pylist())
        rate = size / (time.process_time() - begin)
        cells = " | ".join(
            str(counts[kind]) for kind in ("email", "ipv4", "ipv6", "phone", "card", "iban", "ssn", "key")
        )
        print(f"| {name} | {len(texts)} | {size:.1f} | {cells} | {rate:.0f} |")


def repair():
    run = make("rewriter", "repair_encoding")
    names = ("wikipedia", "books", "government", "howto", "textbook")
    texts = [row["text"] for name in names for row in read(f"corpus/{name}.jsonl.zst")]
    begin = time.process_time()
    changed = sum(bool(edits) for edits in run(batch(texts)).column("edits").to_pylist())
    rate = sum(len(text.encode()) for text in texts) / 1e6 / (time.process_time() - begin)
    print(
        f"\nSound English documents changed: {changed} of {len(texts)} ({100 * changed / len(texts):.2f} %), {rate:.0f} MB/s"
    )
    from factory.kernels.edits import apply_edits

    rows = [
        row["text"]
        for row in read("multilingual/langid.jsonl.zst")
        if row["lang"] in ("de", "fr", "es", "pt", "sv", "pl", "ru", "cs")
    ]
    chosen = [text for text in random.Random(0).sample(rows, 4000) if not text.isascii() and "\n" not in text]
    broken, whole = [], []
    for text in chosen:
        try:
            broken.append(text.encode().decode("windows-1252"))
        except UnicodeDecodeError:
            broken.append(text.encode().decode("latin-1"))
        whole.append(text)
    table = batch(broken)
    made = apply_edits(table.column("text"), [run(table).column("edits")]).to_pylist()
    right = sum(a == b for a, b in zip(made, whole, strict=True))
    sound = batch(whole)
    touched = sum(bool(edits) for edits in run(sound).column("edits").to_pylist())
    share = f"{right} of {len(whole)} ({100 * right / len(whole):.1f} %)"
    print(f"Mojibake (sentences in eight languages, UTF-8 read as Windows-1252 or Latin-1) repaired: {share}")
    print(f"The same sentences unbroken, changed: {touched}")


def toxicity():
    rows = sorted(
        (row for row in read("toxicity/surge_toxicity_en.jsonl.zst") if row["text"]),
        key=lambda row: xxhash.xxh3_64_intdigest(row["text"].encode()),
    )
    test, learn = rows[: len(rows) // 4], rows[len(rows) // 4 :]
    roles = {
        role: [row["text"] for row in learn if (row["is_toxic"] == "Toxic") == (role == "toxic")]
        for role in ("toxic", "clean")
    }
    prose = [
        sentence
        for name in ("wikipedia", "howto", "government", "books")
        for row in read(f"corpus/{name}.jsonl.zst")
        for sentence in re.split(r"(?<=[.!?])\s+", row["text"][:20_000])
        if 20 < len(sentence) < 300
    ]
    prose = random.Random(0).sample(prose, 2000)
    words = tuple(row["word"] for row in read("toxicity/ldnoobw.jsonl.zst") if row["lang"] == "en")
    listed = make("scorer", "bad_words", entries=words)
    mixed = {"toxic": roles["toxic"], "clean": [*roles["clean"], *prose]}
    comments, with_prose = _trained(roles), _trained(mixed)
    judges = [
        ("classifier, worst sentence > 0.4", lambda given: _worst(comments, given), 0.4),
        ("… with 2,000 sentences of prose as clean", lambda given: _worst(with_prose, given), 0.4),
        ("word list, any hit", lambda given: listed(given).column("hits").to_numpy(zero_copy_only=False), 0),
    ]
    print(f"\nTrained on {len(roles['toxic'])} toxic and {len(roles['clean'])} clean comments")
    hate = read("toxicity/hatecheck_en.jsonl.zst")
    _detected(judges, test, hate)
    _by_group(judges, hate)
    pages = batch([text for _, texts, *_ in crawled() for text in texts.to_pylist() if text])
    print(f"\nPages of the crawls ({pages.num_rows}) that each would name\n")
    for name, judge, threshold in judges:
        begin = time.process_time()
        share = (judge(pages) > threshold).mean()
        rate = pages.column("text").nbytes / 1e6 / (time.process_time() - begin)
        print(f"- {name}: {100 * share:.0f} % ({rate:.0f} MB/s)")


def _trained(roles):
    from factory.stages.scorers import toxicity as stage

    config = stage.Settings(toxic="toxic.jsonl", clean="clean.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        stage.fit(config, roles, folder, 0)
        return stage.toxicity(config, f"{folder}/{stage.MODEL_FILE}")


def _worst(run, given):
    return np.nan_to_num(run(given).column("max").to_numpy(zero_copy_only=False))


def _detected(judges, test, hate):
    from factory.stages.scorers.fasttext_quality import auc

    sets = {
        f"comments held out ({len(test)})": (
            [row["text"] for row in test],
            np.array([row["is_toxic"] == "Toxic" for row in test]),
        ),
        f"HateCheck ({len(hate)})": (
            [row["test_case"] for row in hate],
            np.array([row["label_gold"] == "hateful" for row in hate]),
        ),
    }
    print("\n| test | by | AUC | precision | recall | false positives |\n|---|---|---|---|---|---|")
    for name, (texts, truth) in sets.items():
        for how, judge, threshold in judges:
            values = judge(batch(texts)).astype(np.float32)
            chosen = values > threshold
            right = int((chosen & truth).sum())
            cells = (auc(values, truth), right / max(1, int(chosen.sum())), right / truth.sum())
            false = 100 * (chosen & ~truth).sum() / (~truth).sum()
            print(f"| {name} | {how} | " + " | ".join(f"{cell:.2f}" for cell in cells) + f" | {false:.0f} % |")


def _by_group(judges, hate):
    """HateCheck's sentences that are not hateful, by the group they name."""
    groups = np.array([row["target_ident"] or "none" for row in hate])
    harmless = np.array([row["label_gold"] != "hateful" for row in hate])
    names = sorted(set(groups))
    print("\n| by | " + " | ".join(names) + " | gap |\n|" + "---|" * (len(names) + 2))
    for how, judge, threshold in judges:
        chosen = judge(batch([row["test_case"] for row in hate])) > threshold
        rates = [100 * chosen[(groups == name) & harmless].mean() for name in names]
        named = [rate for rate, name in zip(rates, names, strict=True) if name != "none"]
        print(
            f"| {how} | " + " | ".join(f"{rate:.0f} %" for rate in rates) + f" | {max(named) - min(named):.0f} points |"
        )


def licence():
    run = make("scorer", "licence")
    marked = {row["record_id"].strip("<>"): row for row in read("licence_and_robots/licence_markup.jsonl.zst")}
    known = {row["record_id"].strip("<>"): row["licence"] for row in read("warc/pages.jsonl.zst")}
    said, right, lone, lone_right, tags, found = (Counter() for _ in range(6))
    wrong = Counter()
    for keys, _, stated, meta, url in crawled():
        rows = run(pa.record_batch([stated, meta, url], names=["license", "meta", "url"])).to_pylist()
        for key, row, address in zip(keys.to_pylist(), rows, url.to_pylist(), strict=True):
            page = marked.get(key)
            kind = ("rel" if page["rel_license_tags"] else "anchor") if page else None
            tags[kind] += 1
            how = row["how"]
            found[kind] += how is not None
            if how is None:
                continue
            good = row["spdx"] == (page["page_licence"] if page else known[key])
            said[how] += 1
            right[how] += good
            if row["confidence"] == 1:
                lone[how] += 1
                lone_right[how] += good
            if not good:
                wrong[how, re.sub(r"^https?://([^/]+).*", r"\1", address), row["spdx"], known[key]] += 1
    print("\n| evidence | pages | right | precision | of pages that name one licence |\n|---|---|---|---|---|")
    for how in said:
        print(
            f"| {how} | {said[how]} | {right[how]} | {right[how] / said[how]:.3f} | {lone_right[how]} of {lone[how]} |"
        )
    for kind in ("rel", "anchor"):
        share = f"{found[kind]} (recall {found[kind] / tags[kind]:.3f})"
        print(f"\npages marked up with {kind}: {tags[kind]}, evidence found on {share}")
    print("\nmost frequent errors:")
    for (how, host, mine, theirs), count in wrong.most_common(5):
        print(f"- {count} pages of {host}: {how} says {mine}, the page is {theirs}")


PARTS = {"pii": pii, "repair": repair, "toxicity": toxicity, "licence": licence}

if __name__ == "__main__":
    if not DATA.is_dir():
        sys.exit(f"There is no data at {DATA}; FACTORY_TEST_DATA names another folder.")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
