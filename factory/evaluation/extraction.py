r"""How well extractors find the main text of pages: against gold text, and against each other.

Words are maximal runs of letters, digits and underscores (`\w+`) in lower case; a Han character or a kana is a word of its
own. Two texts are compared as bags of words: precision is the share of the found words that are wanted, recall the share of
the wanted words that are found, each as often as it occurs, and F1 their harmonic mean; a figure over pages is the mean of
the pages' figures. Where gold has snippets, the share of those that must be there and are, and of those that must not and
are not, white space apart. Time is CPU time of the extractor, bytes to row.
"""

import heapq
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from factory.core.errors import InputError, suggest
from factory.core.registry import find_stage
from factory.core.schema import RAW
from factory.core.stage import BatchFunction

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_DIFF_LINES = 2_000


class Agreement(NamedTuple):
    precision: float
    recall: float
    f1: float


class Page(NamedTuple):
    """A page to try extractors on, and what is known of its main text."""

    key: str
    payload: bytes
    content_type: str = "text/html"
    url: str | None = None
    gold: Mapping[str, Any] | None = None


# What is loaded at the first page is no page's cost.
_WARM = Page("warm", b"<html lang=en><body><main><p>A page with a few words.</p></main></body></html>")


class Outcome(NamedTuple):
    """What an extractor made of a page, and the CPU seconds it took."""

    text: str | None
    error: str | None
    seconds: float
    meta: str | None = None


class Extractor(NamedTuple):
    label: str
    function: BatchFunction
    reads: tuple[str, ...]


def words(text: str) -> Counter[str]:
    """The bag of words of a text."""
    return Counter(_WORD.findall(text.lower()))


def agree(found: str, wanted: str) -> Agreement:
    """Precision, recall and F1 of the words of one text against those of another; two texts without words agree."""
    left, right = words(found), words(wanted)
    shared, left_count, right_count = (left & right).total(), left.total(), right.total()
    if not left_count or not right_count:
        return Agreement(*[float(left_count == right_count)] * 3)
    return Agreement(shared / left_count, shared / right_count, 2 * shared / (left_count + right_count))


def kept_snippets(found: str, snippets: Sequence[str]) -> float | None:
    """The share of the snippets that are in a text, white space apart; None where there are none."""
    flat = _flat(found)
    return sum(_flat(snippet) in flat for snippet in snippets) / len(snippets) if snippets else None


def _flat(text: str) -> str:
    return " ".join(text.split())


def make_extractor(spec: str) -> Extractor:
    """The extractor named by `name` or `name:setting=value,setting=value`, with values as in a recipe."""
    import yaml
    from pydantic import ValidationError

    name, _, written = spec.partition(":")
    stage = find_stage("extractor", name.strip())
    settings: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in written.split(","))):
        key, separator, value = item.partition("=")
        if not separator or key.strip() not in stage.config.model_fields:
            known = suggest(key.strip(), stage.config.model_fields)
            raise InputError(f"extractor {name} has no setting '{item}': write {name}:setting=value.{known}")
        settings[key.strip()] = yaml.safe_load(value)
    try:
        config = stage.config(**settings)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"extractor {spec}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    return Extractor(spec, stage.make(config), stage.reads_for(config))


def extract(extractor: Extractor, page: Page) -> Outcome:
    """The page through an extractor, alone."""
    row = {"payload": page.payload, "content_type": page.content_type, "url": page.url}
    schema = pa.schema([RAW.field(name) for name in extractor.reads])
    batch = pa.RecordBatch.from_pylist([row], schema=schema)
    began = time.process_time()
    made = extractor.function(batch)
    seconds = time.process_time() - began
    text, error, meta = (made.column(name)[0].as_py() for name in ("text", "error", "meta"))
    return Outcome(text, error, seconds, meta)


def sample(pages: Iterable[Page], number: int, seed: int = 0) -> list[Page]:
    """`number` pages by the hash of their keys: the same whatever order they come in; more pages contain fewer."""
    chosen: list[tuple[int, int, Page]] = []
    for position, page in enumerate(pages):
        rank = -xxhash.xxh64_intdigest(page.key.encode("utf-8", "surrogatepass"), seed=seed)
        entry = (rank, -position, page)
        if len(chosen) < number:
            heapq.heappush(chosen, entry)
        elif entry > chosen[0]:
            heapq.heapreplace(chosen, entry)
    return [page for _, _, page in sorted(chosen, reverse=True)]


def gold_pages(lines: Iterable[bytes]) -> Iterator[Page]:
    """Pages of JSON lines with `html` and, for scoring, `gold_text`, `must_contain`, `must_not_contain`."""
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number + 1:,} is not JSON: {error}") from error
        if not isinstance(item, dict) or not isinstance(item.get("html"), str):
            raise InputError(f"line {number + 1:,} has no 'html', the text of a page.")
        key = str(item.get("id") or item.get("url") or number)
        url = item.get("url")
        # As JSON escapes can smuggle them in: lone surrogates, which no bytes stand for.
        payload = item["html"].encode("utf-8", "ignore")
        yield Page(key, payload, "text/html; charset=utf-8", url if isinstance(url, str) else None, item)


def try_out(extractors: Sequence[Extractor], pages: Sequence[Page], *, diff: bool = True) -> dict[str, Any]:
    """Every extractor on every page: per page, per extractor, and the two first side by side."""
    rows = []
    outcomes: dict[str, list[tuple[Page, Outcome]]] = {extractor.label: [] for extractor in extractors}
    for extractor in extractors:
        extract(extractor, _WARM)
    for page in pages:
        made = {extractor.label: extract(extractor, page) for extractor in extractors}
        for label, outcome in made.items():
            outcomes[label].append((page, outcome))
        row: dict[str, Any] = {"key": page.key, "url": page.url, "bytes": len(page.payload)}
        row["extractors"] = {label: _figures(page, outcome) for label, outcome in made.items()}
        if len(extractors) > 1:
            left, right = (made[extractor.label].text or "" for extractor in extractors[:2])
            row["agreement"] = agree(left, right)._asdict()
            row["diff"] = _difference(left, right, extractors[0].label, extractors[1].label) if diff else []
        rows.append(row)
    return {"pages": rows, "extractors": {label: _summary(made) for label, made in outcomes.items()}}


def score(extractor: Extractor, pages: Sequence[Page]) -> dict[str, Any]:
    """What an extractor scores on pages with gold."""
    return _summary([(page, extract(extractor, page)) for page in pages])


def _figures(page: Page, outcome: Outcome) -> dict[str, Any]:
    text = outcome.text or ""
    figures: dict[str, Any] = {
        "characters": len(text),
        "words": words(text).total(),
        "lines": text.count("\n") + 1 if text else 0,
        "seconds": outcome.seconds,
        "error": outcome.error,
    }
    return figures | _against_gold(page, text)


def _against_gold(page: Page, text: str) -> dict[str, float]:
    gold = page.gold or {}
    figures: dict[str, float] = {}
    if isinstance(gold.get("gold_text"), str):
        figures |= agree(text, gold["gold_text"])._asdict()
    kept = kept_snippets(text, gold.get("must_contain") or [])
    present = kept_snippets(text, gold.get("must_not_contain") or [])
    if kept is not None:
        figures["contains"] = kept
    if present is not None:
        figures["leaves_out"] = 1 - present
    return figures


def _summary(made: Sequence[tuple[Page, Outcome]]) -> dict[str, Any]:
    seconds = sum(outcome.seconds for _, outcome in made)
    size = sum(len(page.payload) for page, _ in made)
    summary: dict[str, Any] = {
        "pages": len(made),
        "errors": sum(outcome.error is not None for _, outcome in made),
        "mean_characters": _mean([len(outcome.text or "") for _, outcome in made]),
        "milliseconds_per_page": 1000 * seconds / len(made) if made else None,
        "megabytes_per_second": size / 1e6 / seconds if seconds else None,
    }
    by_gold: dict[str, list[dict[str, float]]] = {}
    for page, outcome in made:
        if page.gold and (figures := _against_gold(page, outcome.text or "")):
            by_gold.setdefault(str(page.gold.get("source") or "gold"), []).append(figures)
    if by_gold:
        summary["gold"] = {
            source: {"pages": len(rows)}
            | {
                name: _mean([row[name] for row in rows if name in row])
                for name in ("precision", "recall", "f1", "contains", "leaves_out")
            }
            for source, rows in sorted(by_gold.items())
        }
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _difference(left: str, right: str, left_name: str, right_name: str) -> list[str]:
    """The lines in which two texts differ, blank lines and indentation apart; of long texts, their first 2,000 lines."""
    one, other = ([line.strip() for line in text.split("\n") if line.strip()][:_DIFF_LINES] for text in (left, right))
    return list(unified_diff(one, other, left_name, right_name, lineterm="", n=1))
