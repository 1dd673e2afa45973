"""Text that the demo's sites never show: held out for evaluation, good prose for a quality classifier, and cloze tasks.

A page's role is decided by the hash of its name. After that, every block of held-out text that shares a run of words with
anything the sites or the references show is taken out (documentation copies from itself), so what is left was never seen.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from factory.demo import markup
from factory.demo.harvest import Package, Page, domain_of, share
from factory.demo.site import summary_of

DOMAINS = ("stdlib", "packages", "reference", "descriptions")
HELD_OUT = {"stdlib": 0.06, "packages": 0.04, "reference": 0.15, "descriptions": 0.10}
REFERENCES = {"stdlib": 0.18, "packages": 0.18, "reference": 0.30, "descriptions": 0.20}  # where it is good prose
SHINGLE = 13  # words; the overlap that GPT-3 counted as seen (arXiv 2005.14165, appendix C)
MIN_CHARS = 300
HELD_OUT_PASSAGE = 3000  # characters at most
HELD_OUT_PASSAGES = 4  # of one page at most, so that no page is a domain
REFERENCE_PASSAGE = 1200

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[a-z0-9)][.!?])\s+(?=[A-Z])")
_COMMON_WORDS = """
the a an of to in is are and or that this it for with as be by on if not from which when can at
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Text:
    """A page's blocks as plain text, with what tasks are made of."""

    id: str
    domain: str
    blocks: tuple[str, ...]
    page: Page


@dataclass(frozen=True, slots=True)
class Split:
    """What is shown, and what is not."""

    shown: tuple[Package, ...]
    held_out: tuple[Text, ...]
    references: tuple[Text, ...]


def split(packages: Iterable[Package]) -> Split:
    """Give every page its role. Licences are always shown."""
    shown: list[Package] = []
    held_out: list[Text] = []
    references: list[Text] = []
    for package in packages:
        kept: list[Page] = []
        for page in package.pages:
            role = _role(package, page)
            if role == "shown":
                kept.append(page)
                continue
            text = _text(package, page)
            if role == "held out":
                held_out.append(text)
            elif _is_good_prose(text.blocks):
                references.append(text)
            else:
                kept.append(page)
        shown.append(replace(package, pages=tuple(kept)))
    seen = _shingles_of([_text(package, page) for package in shown for page in package.pages] + references)
    clean = (_without(text, seen) for text in held_out)
    return Split(tuple(shown), tuple(text for text in clean if text.blocks), tuple(references))


def write_references(parts: Split, directory: str, *, held_out_chars: int, items: int) -> dict[str, int]:
    """Write heldout/, references/ and tasks/ below `directory`; returns rows by file."""
    rows: dict[str, int] = {}
    for domain in DOMAINS:
        rows |= _write(directory, f"heldout/{domain}.jsonl", _bounded(parts.held_out, domain, held_out_chars))
        rows |= _write(directory, f"references/{domain}.jsonl", _passages(parts.references, domain))
    rows |= _write(directory, "tasks/cloze.jsonl", _cloze(parts.held_out, items))
    rows |= _write(directory, "tasks/which_docstring.jsonl", _which_docstring(parts, items))
    return rows


def _write(directory: str, name: str, rows: Iterable[dict[str, object]]) -> dict[str, int]:
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    count = 0
    with open(path + ".tmp", "w", encoding="utf-8", newline="\n") as stream:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last number is the count
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(path + ".tmp", path)
    return {name: count}


# Roles


def _role(package: Package, page: Page) -> str:
    if page.kind == "license":
        return "shown"
    domain, chance = domain_of(package, page), share(f"role {package.name} {page.kind} {page.name}")
    if chance < HELD_OUT[domain]:
        return "held out"
    return "reference" if chance < HELD_OUT[domain] + REFERENCES[domain] else "shown"


def _text(package: Package, page: Page) -> Text:
    blocks = [markup.to_text(block) for block in markup.parse(page.doc, page.markup)]
    for member in page.members:
        blocks.append(member.name + member.signature)
        blocks += [markup.to_text(block) for block in markup.parse(member.doc, "rst")]
    return Text(f"{package.name}/{page.kind}/{page.name}", domain_of(package, page), tuple(filter(None, blocks)), page)


def _is_good_prose(blocks: tuple[str, ...]) -> bool:
    """Whether most of a text is sentences: long blocks with the words that English sentences are held together by."""
    prose = [block for block in blocks if _is_sentences(block)]
    size = sum(map(len, prose))
    return size >= MIN_CHARS and size >= 0.5 * sum(map(len, blocks))


def _is_sentences(block: str) -> bool:
    words = _WORD.findall(block.lower())
    if len(words) < 12 or ">>>" in block or not block.rstrip().endswith((".", ":", "!", "?", ")")):
        return False
    return sum(word in _COMMON for word in words) >= 0.2 * len(words)


# What was seen


def shingles(words: list[str], size: int = SHINGLE) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """A hash of every run of `size` words, in order."""
    if len(words) < size:
        return np.empty(0, np.uint64)
    ids = np.fromiter((xxhash.xxh3_64_intdigest(word.encode()) for word in words), np.uint64, len(words))
    runs = len(words) - size + 1
    total = np.zeros(runs, np.uint64)
    for place in range(size):
        total = total * np.uint64(0x9E3779B97F4A7C15) + ids[place : place + runs]
    return total


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shingles_of(texts: Iterable[Text]) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    parts = [shingles(words_of(" ".join(text.blocks))) for text in texts]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))


def _without(text: Text, seen: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> Text:
    """The text without the blocks that have part in a run of words that was seen."""
    blocks = list(text.blocks)
    while blocks:
        words = [words_of(block) for block in blocks]
        owner = np.repeat(np.arange(len(blocks)), [len(some) for some in words])
        runs = shingles([word for some in words for word in some])
        # np.isin would sort all that was seen for each text.
        hits = np.flatnonzero(seen[np.searchsorted(seen, runs).clip(max=len(seen) - 1)] == runs) if len(seen) else ()
        if not len(hits):
            break
        # Taking blocks out makes new neighbours, hence the loop.
        bad = {int(block) for hit in hits for block in owner[hit : hit + SHINGLE]}
        blocks = [block for number, block in enumerate(blocks) if number not in bad]
    return replace(text, blocks=tuple(blocks))


# Rows


def _order(texts: Iterable[Text], domain: str) -> list[Text]:
    return sorted((text for text in texts if text.domain == domain), key=lambda text: share(f"order {text.id}"))


def _bounded(texts: Iterable[Text], domain: str, chars: int) -> Iterator[dict[str, object]]:
    """Held-out documents by hash, until they have `chars` characters: a larger budget contains the smaller one."""
    for text in _order(texts, domain):
        passages = [part for part in _cut(text.blocks, HELD_OUT_PASSAGE) if len(part) >= MIN_CHARS]
        for number, passage in enumerate(passages[:HELD_OUT_PASSAGES]):
            if chars <= 0:
                return
            chars -= len(passage)
            yield {"id": f"{text.id}#{number}", "text": passage, "domain": domain}


def _passages(texts: Iterable[Text], domain: str) -> Iterator[dict[str, object]]:
    for text in _order(texts, domain):
        for number, passage in enumerate(_cut(text.blocks, REFERENCE_PASSAGE)):
            if len(passage) >= MIN_CHARS and _is_good_prose(tuple(passage.split("\n\n"))):
                yield {"id": f"{text.id}#{number}", "text": passage, "domain": domain}


def _cut(blocks: tuple[str, ...], chars: int) -> Iterator[str]:
    """Passages of at most `chars`, cut between blocks; a block that is longer alone is left out."""
    passage: list[str] = []
    size = 0
    for block in blocks:
        if len(block) > chars:
            continue
        if size + len(block) > chars:
            yield "\n\n".join(passage)
            passage, size = [], 0
        passage.append(block)
        size += len(block) + 2
    if passage:
        yield "\n\n".join(passage)


# Tasks in the form {query, choices, gold}: a model is right when the true choice is the likeliest after the query.


def _cloze(texts: Iterable[Text], items: int) -> Iterator[dict[str, object]]:
    """The next sentence of a paragraph among sentences of like length from other documents of its domain."""
    pairs: list[tuple[Text, str, str]] = []
    for text in texts:
        for block in filter(_is_sentences, text.blocks):
            sentences = _SENTENCE.split(block)
            for number in range(1, len(sentences)):
                query, answer = " ".join(sentences[:number])[-300:], sentences[number]
                if len(query) >= 60 and 40 <= len(answer) <= 200:
                    pairs.append((text, query.partition(" ")[2] if len(query) == 300 else query, answer))
                    break  # one item a paragraph
    for text, query, answer in _spread(pairs, items):
        others = {other: None for owner, _, other in pairs if owner.domain == text.domain and owner.id != text.id}
        item = _item(query, answer, list(others))
        if item:
            yield {**item, "id": text.id, "domain": text.domain}


def _which_docstring(parts: Split, items: int) -> Iterator[dict[str, object]]:
    """What a held-out function is documented to do, among the summaries of other held-out functions."""
    shown = {summary_of(member.doc) for package in parts.shown for page in package.pages for member in page.members}
    pairs: list[tuple[Text, str, str]] = []
    for text in parts.held_out:
        for member in text.page.members:
            summary = summary_of(member.doc)
            if member.kind != "class" and 25 <= len(summary) <= 160 and summary not in shown:
                pairs.append((text, f"{text.page.name}.{member.name}{member.signature}"[:300], summary))
    for text, query, answer in _spread(pairs, items):
        item = _item(query, answer, [other for owner, _, other in pairs if owner.id != text.id])
        if item:
            yield {**item, "id": f"{text.id}#{query.partition('(')[0]}", "domain": text.domain}


def _spread(pairs: list[tuple[Text, str, str]], items: int) -> list[tuple[Text, str, str]]:
    """At most `items`, going round the documents and then round the domains, by hash."""
    turn: Counter[str] = Counter()
    order = []
    for pair in sorted(pairs, key=lambda pair: share(f"item {pair[1]} {pair[2]}")):
        turn[pair[0].id] += 1
        order.append((turn[pair[0].id], pair))
    order.sort(key=lambda entry: entry[0])
    places: Counter[str] = Counter()
    ranked = []
    for _, pair in order:
        places[pair[0].domain] += 1
        ranked.append((places[pair[0].domain], pair))
    ranked.sort(key=lambda entry: entry[0])
    return [pair for _, pair in ranked[:items]]


def _item(query: str, answer: str, others: list[str]) -> dict[str, object] | None:
    """Three of the nine others nearest in length, by hash; the place of the right one is by hash too."""
    near = sorted(
        {other for other in others if other != answer}, key=lambda other: (abs(len(other) - len(answer)), other)
    )[:9]
    if len(near) < 3:
        return None
    wrong = sorted(near, key=lambda other: share(f"wrong {query} {other}"))[:3]
    gold = int(share(f"gold {query}") * 4)
    return {"query": query, "choices": [*wrong[:gold], answer, *wrong[gold:]], "gold": gold}
