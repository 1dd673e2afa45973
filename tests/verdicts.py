"""The verdicts of published filters and of our rules on the same documents: what the parity test and table are made of.

datatrove runs its own filter classes with its own spaCy tokenizer; ours are scorers and `in_range` rules as the presets have
them (`words: spacy_en`, the datatrove readings). DCLM is no package: `refinedweb_reference` is read anew from its rules.
"""

import io
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import refinedweb_reference
import zstandard

from factory.core.registry import find_stage

Rules = dict[str, tuple[str, dict[str, Any]]]  # name -> filter, its settings

SPACY = {"words": "spacy_en"}
FINEWEB_C4 = {"terminal_punctuation": False}


def bounds(column: str, least: float | None = None, most: float | None = None) -> tuple[str, dict[str, Any]]:
    return "in_range", {"column": column, "min": least, "max": most}


def table_a1(stage: str) -> Rules:
    """The repetition rules of arXiv:2112.11446, Table A1."""
    shares = {"duplicate_lines": 0.3, "duplicate_paragraphs": 0.3}
    shares |= {"duplicate_line_characters": 0.2, "duplicate_paragraph_characters": 0.2}
    shares |= {"top_2_gram": 0.2, "top_3_gram": 0.18, "top_4_gram": 0.16}
    shares |= {f"duplicate_{n}_grams": (20 - n) / 100 for n in range(5, 11)}
    return {name: bounds(f"{stage}.{name}", most=share) for name, share in shares.items()}


def fineweb_rules(stage: str) -> Rules:
    return {
        "line_punctuation": bounds(f"{stage}.line_punctuation_ratio", 0.12),
        "short_lines": bounds(f"{stage}.short_line_ratio", most=0.67),
        "duplicate_line_characters": bounds(f"{stage}.duplicate_line_character_ratio", most=0.01),
        "newlines": bounds(f"{stage}.newline_word_ratio", most=0.3),
    }


# label -> (scorer, settings)
DATATROVE_SCORERS: dict[str, tuple[str, dict[str, Any]]] = {
    "repetition": ("repetition", {"reading": "datatrove", **SPACY}),
    "words": ("word_statistics", {"reading": "datatrove", **SPACY}),
    "lines": ("line_statistics", {"reading": "datatrove", **SPACY}),
    "c4": ("c4", {**FINEWEB_C4, **SPACY}),
    "fineweb": ("fineweb", {"after": "none", **SPACY}),
    "fineweb_after_c4": ("fineweb", {"after": "c4", "c4": FINEWEB_C4, **SPACY}),
}
DATATROVE_RULES: dict[str, Rules] = {
    "gopher_repetition": table_a1("repetition"),
    "gopher": {
        "words": bounds("words.words", 50, 100_000),
        "mean_word_length": bounds("words.mean_word_length", 3, 10),
        "hashes": bounds("words.hash_ratio", most=0.1),
        "ellipses": bounds("words.ellipsis_ratio", most=0.1),
        "bullets": bounds("lines.bullet_ratio", most=0.9),
        "ellipsis_lines": bounds("lines.ellipsis_line_ratio", most=0.3),
        "alphabetic": bounds("words.alpha_ratio", 0.8),
        "stop_words": bounds("words.stop_words", 2),
    },
    "c4": {
        "sentences": bounds("c4.sentences", 5),
        "lorem_ipsum": ("one_of", {"column": "c4.lorem_ipsum", "values": [False]}),
        "curly_bracket": ("one_of", {"column": "c4.curly_bracket", "values": [False]}),
    },
    "fineweb": fineweb_rules("fineweb"),
    "fineweb_after_c4": fineweb_rules("fineweb_after_c4"),
}
PIPELINE = ("gopher_repetition", "gopher", "c4", "fineweb_after_c4")  # in FineWeb's order

DCLM_SCORERS: dict[str, tuple[str, dict[str, Any]]] = {
    "repetition": ("repetition", {"reading": "dclm", "words": "uax29"}),
    "words": ("word_statistics", {"reading": "dclm", "words": "whitespace"}),
    "lines": ("line_statistics", {"reading": "dclm"}),
    "refinedweb_lines": ("refinedweb_lines", {}),
}
DCLM_RULES: dict[str, Rules] = {
    "page_length": {"words": bounds("words.words", 50, 100_000)},
    "word_length": {"mean_word_length": bounds("words.mean_word_length", 3, 10)},
    "symbol_ratio": {"symbols": bounds("words.symbol_ratio", most=0.1)},
    "bullets": {"bullets": bounds("lines.bullet_ratio", most=0.9)},
    "ellipsis_lines": {"ellipsis_lines": bounds("lines.ellipsis_line_ratio", most=0.3)},
    "alphabetic": {"alphabetic": bounds("words.alpha_ratio", 0.8)},
    "stop_words": {"stop_words": bounds("words.stop_words", 2)},
    "repetition": table_a1("repetition"),
    "removed_words": {"removed_words": bounds("refinedweb_lines.removed_word_share", most=0.05)},
}


def our_verdicts(
    texts: list[str], scorers: dict[str, tuple[str, dict[str, Any]]], rules: dict[str, Rules]
) -> tuple[dict[str, list[list[str]]], pa.Table]:
    """For every group of rules, the rules that each text fails; and the columns they read."""
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    columns = {}
    for label, (name, settings) in scorers.items():
        stage = find_stage("scorer", name)
        made = stage.make(stage.config(**settings))(batch)
        columns |= {f"{label}.{column}": made.column(column) for column in made.schema.names}
    scored = pa.record_batch(columns)
    failed: dict[str, list[list[str]]] = {}
    for group, named in rules.items():
        failed[group] = [[] for _ in texts]
        for rule, (name, settings) in named.items():
            stage = find_stage("filter", name)
            keep = stage.make(stage.config(**settings))(scored).column("keep").to_pylist()
            for reasons, kept in zip(failed[group], keep, strict=True):
                if not kept:
                    reasons.append(rule)
    return failed, pa.Table.from_batches([scored])


def datatrove_verdicts(text: str) -> dict[str, str | None]:
    """The reason each filter gives on the text as it is ("" where it keeps it), that of FineWeb's filter on what C4 leaves
    (None where C4 keeps nothing), and the first on FineWeb's way through all four."""
    reasons: dict[str, str | None] = {}
    for name, judge in _datatrove().items():
        reasons[name], left = _judge(judge, text)
        if name == "c4":
            after = None if reasons[name] else _judge(_datatrove()["fineweb"], left)[0]
    reasons["fineweb_after_c4"] = after
    reasons["pipeline"] = next((f"{name}: {reasons[name]}" for name in PIPELINE if reasons[name]), "")
    return reasons


def dclm_verdicts(text: str) -> dict[str, bool]:
    """Whether each of DCLM's rules drops the text as it is, by the plain reading."""
    return refinedweb_reference.verdicts(text)


def _judge(judge: Any, text: str) -> tuple[str, str]:
    from datatrove.data import Document

    document = Document(text=text, id="")
    verdict = judge.filter(document)
    return ("" if verdict is True else verdict[1]), document.text


_filters: dict[str, Any] = {}


def _datatrove() -> dict[str, Any]:
    if not _filters:
        from datatrove.pipeline.filters import (
            C4QualityFilter,
            FineWebQualityFilter,
            GopherQualityFilter,
            GopherRepetitionFilter,
        )

        _filters.update(
            gopher_repetition=GopherRepetitionFilter(),
            gopher=GopherQualityFilter(),
            c4=C4QualityFilter(filter_no_terminal_punct=False),
            fineweb=FineWebQualityFilter(),
        )
    return _filters


class Row(NamedTuple):
    """One filter: documents both judged, those the published one drops, and the documents on which the two differ."""

    name: str
    documents: int
    dropped: int
    differences: list[str]


def compare_with_datatrove(documents: list[tuple[str, str]]) -> list[Row]:
    failed, _ = our_verdicts([text for _, text in documents], DATATROVE_SCORERS, DATATROVE_RULES)
    theirs = [datatrove_verdicts(text) for _, text in documents]
    ours = [{group: ", ".join(failed[group][index]) for group in failed} for index in range(len(documents))]
    for verdicts in ours:
        verdicts["pipeline"] = next((f"{name}: {verdicts[name]}" for name in PIPELINE if verdicts[name]), "")
    return _rows([name for name, _ in documents], theirs, ours)


def compare_with_dclm(documents: list[tuple[str, str]]) -> list[Row]:
    failed, _ = our_verdicts([text for _, text in documents], DCLM_SCORERS, DCLM_RULES)
    theirs = [dclm_verdicts(text) for _, text in documents]
    ours = [{group: ", ".join(failed[group][index]) for group in failed} for index in range(len(documents))]
    for verdicts in (*theirs, *ours):
        verdicts["all rules"] = any(verdicts.values())
    return _rows([name for name, _ in documents], theirs, ours)


def _rows(names: list[str], theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for group in theirs[0]:
        both = [
            (name, their[group], our[group])
            for name, their, our in zip(names, theirs, ours, strict=True)
            if their[group] is not None
        ]
        different = [
            f"{name}: theirs {their or 'keeps'!r}, ours {our or 'keeps'!r}"
            for name, their, our in both
            if bool(their) != bool(our)
        ]
        rows.append(Row(group, len(both), sum(bool(their) for _, their, _ in both), different))
    return rows


def table(rows: list[Row]) -> str:
    lines = ["| filter | documents | dropped | equal | share equal |", "|---|---|---|---|---|"]
    for row in rows:
        equal = row.documents - len(row.differences)
        lines.append(f"| {row.name} | {row.documents:,} | {row.dropped:,} | {equal:,} | {equal / row.documents:.2%} |")
    return "\n".join([*lines, *(f"\n- {row.name}: {each}" for row in rows for each in row.differences)])


def documents(data: Path, corpus: int, multilingual: int, pages: int) -> Iterator[tuple[str, str]]:
    """(name, text) of so many documents of each kind: labelled corpora, other languages, extracted web pages."""
    files = sorted((data / "corpus").glob("*.jsonl.zst"))
    for file in files:
        yield from _sample(file, -(-corpus // len(files)))
    yield from _passages(data / "multilingual" / "langid.jsonl.zst", multilingual)
    yield from _pages(sorted((data / "warc").glob("*.warc.gz")), pages)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file.open("rb")), "utf-8", newline="\n")
    yield from map(json.loads, lines)


def _every(items: list[Any], count: int) -> Iterable[Any]:
    return items[:: max(1, len(items) // count)][:count]


def _sample(file: Path, count: int) -> Iterator[tuple[str, str]]:
    for record in _every(list(_records(file)), count):
        yield f"{file.name} {record['id']}", record["text"][:30_000]


def _passages(file: Path, count: int) -> Iterator[tuple[str, str]]:
    """Twelve records of a language make a document: one alone is a sentence."""
    records = sorted(_records(file), key=lambda record: record["lang"])
    joined = []
    for lang, group in itertools.groupby(records, key=lambda record: record["lang"]):
        texts = [record["text"] for record in group]
        firsts = range(0, len(texts), 12)
        joined += [(f"{file.name} {lang} {first}", "\n".join(texts[first : first + 12])) for first in firsts]
    yield from _every(joined, count)


def _pages(files: list[Path], count: int) -> Iterator[tuple[str, str]]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    stage = find_stage("extractor", "resiliparse")
    extract = stage.make(stage.config())
    kinds = {"payload": pa.large_binary(), "text": pa.large_string(), "date": pa.timestamp("ms", tz="UTC")}
    for file in files:
        with file.open("rb") as stream:
            found = [
                (str(record.headers["WARC-Target-URI"]), record.http_content_type, record.reader.read())
                for record in ArchiveIterator(stream, record_types=WarcRecordType.response)
            ]
        columns = dict(
            zip(
                ("url", "content_type", "payload"),
                zip(*_every(found, -(-count // len(files))), strict=True),
                strict=True,
            )
        )
        rows = len(columns["url"])
        batch = pa.record_batch(
            {name: pa.array(columns.get(name, [None] * rows), kinds.get(name, pa.string())) for name in stage.reads}
        )
        for url, text in zip(columns["url"], extract(batch).column("text").to_pylist(), strict=True):
            if text:
                yield f"{file.name} {url}", text[:30_000]
