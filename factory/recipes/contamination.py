"""What of the benchmarks is in a corpus: per benchmark, with the spans that matched; and how far such a report can be trusted.

In: what a scorer `contamination` stored beside the documents, the decisions of an experiment, and the benchmarks' files as
they were when it ran. Out: plain data. An item is *matched* when it is in a document by the scorer's rule, *kept* when the
experiment keeps such a document, and *left* when it is still in such a text after the recipe's `rewrite`: none is where a
rewriter cuts out what the scorer found, as evaluations count (`factory.recipes.steps.evaluations.cut_out`). `planted` puts
items into documents of the corpus, in memory, and says how many the very same function finds; `spans` and `ordinary` are for
judging what it finds where nothing was planted.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.core.errors import FactoryError, InputError, suggest
from factory.core.fingerprint import hash_ids
from factory.core.manifest import Part
from factory.recipes.lookup import Current, Place
from factory.recipes.recipe import Use
from factory.recipes.references import make_stage, pin_stage, read_texts
from factory.recipes.steps.evaluations import cut_out
from factory.recipes.workspace import Workspace
from factory.stages.benchmarks import Item
from factory.stages.scorers.contamination import Index, build
from factory.storage.parts import read_part

STAGE = "contamination"
RUNS = (
    8,
    13,
    20,
    50,
)  # words of the longest run of an item, from which each bin of the histogram begins (arXiv:2411.03923)
MUCH = 0.02  # of a benchmark's items: Tülu 3 drops a data set from there on (arXiv:2411.15124)
SHORT_SHOWN = 20
AROUND = 60  # bytes of text shown before and after a span
SPAN_SHOWN = 400
PLANTED_TEXT = 100_000  # characters of a document that an item is put into


def scorers(workspace: Workspace) -> list[Use]:
    """The recipe's scorers of contamination; raises FactoryError when there is none."""
    found = [use for use in workspace.recipe.scorers if use.stage.name == STAGE]
    if not found:
        raise FactoryError(
            "No scorer of the recipe looks for benchmarks. Add one: "
            "scorers: {leaks: {use: contamination, benchmarks: {arc: eval/arc.jsonl}}}."
        )
    return found


def load_index(workspace: Workspace, use: Use) -> Index:
    """The items of a scorer, from the files the recipe names now."""
    folder = workspace.recipe.folder
    made: list[Index] = []

    def keep(config: Any, files: Any) -> None:
        made.append(build(config, files))

    make_stage(
        replace(use.stage, make=keep), use.config, pinned=pin_stage(use.stage, use.config, folder), folder=folder
    )
    return made[0]


def contamination_report(
    workspace: Workspace, experiment: str | None = None, *, examples: int = 3, snapshots: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """What each scorer of contamination found; raises FactoryError when it has not run on these benchmarks."""
    current = Current(workspace)
    labels = [item.label for item in workspace.recipe.experiments]
    if experiment is not None and experiment not in labels:
        raise InputError(f"No experiment is named '{experiment}'.{suggest(experiment, labels)}")
    for name in snapshots:
        if name not in current.snapshots:
            raise InputError(f"No snapshot is named '{name}'.{suggest(name, current.snapshots)}")
    chosen = experiment or workspace.recipe.base
    return [
        _report(workspace, current, use, load_index(workspace, use), chosen, examples, snapshots)
        for use in scorers(workspace)
    ]


def contamination_by_experiment(
    workspace: Workspace, current: Current, *, examples: int = 3, experiments: int = 12
) -> list[dict[str, Any]]:
    """The same for the first experiments, the base before others: `experiments`, by name items `kept` and `left` by task.

    A scorer that has not run on these benchmarks has its `scorer` and a `problem`.
    """
    labels = [item.label for item in workspace.recipe.experiments]
    labels = [workspace.recipe.base, *(label for label in labels if label != workspace.recipe.base)]
    made: list[dict[str, Any]] = []
    for use in workspace.recipe.scorers:
        if use.stage.name != STAGE:
            continue
        try:
            index = load_index(workspace, use)
            found = [
                _report(workspace, current, use, index, label, 0 if number else examples, ())
                for number, label in enumerate(labels[:experiments])
            ]
        except FactoryError as error:
            made.append({"scorer": use.label, "problem": str(error)})
            continue
        shown = {
            one["experiment"]: {
                item["task"]: {"kept": item["kept"], "left": item["left"]} for item in one["benchmarks"]
            }
            for one in found
            if one["experiment"] is not None
        }
        made.append({**found[0], "experiments": shown})
    return made


@dataclass
class _Found:
    """What is known of one benchmark while parts are read; items by number."""

    documents: int = 0
    kept_documents: int = 0
    matched: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    longest: dict[int, int] = field(default_factory=dict)
    examples: list[tuple[int, Place, dict[str, Any]]] = field(default_factory=list)


def _report(
    workspace: Workspace,
    current: Current,
    use: Use,
    index: Index,
    experiment: str,
    examples: int,
    snapshots: Sequence[str],
) -> dict[str, Any]:
    tasks = [item.task for item in index.items]
    names = list(dict.fromkeys(tasks))
    owner = np.array([names.index(task) for task in tasks])
    found = {name: _Found() for name in names}
    counts = dict.fromkeys(("documents", "contaminated", "kept", "kept_contaminated", "cut"), 0)
    known = pin_stage(use.stage, use.config, workspace.recipe.folder)
    cut = use.label in cut_out(workspace.recipe)
    decided = False
    for snapshot, document in current.documents():
        if snapshots and snapshot not in snapshots:
            continue
        manifest = current.find("scores", use.label, snapshot)
        part = current.beside("scores", use.label, snapshot, document)
        if manifest is None or part is None or manifest.spec.get("files") != known:
            raise FactoryError(
                f"scores/{use.label}@{snapshot} was not made, or its benchmarks have changed since. "
                f"'factory run scores/{use.label}' makes it."
            )
        kept = _kept(current, experiment, snapshot, document)
        decided = decided or kept is not None
        _count_part(current, snapshot, document, part, kept, names, owner, found, counts, examples, index)
    return {
        "scorer": use.label,
        "rule": index.config.rule,
        "experiment": experiment if decided else None,
        **counts,
        "rewritten": cut,
        "left_contaminated": _left(counts["kept_contaminated"], cut=cut) if decided else None,
        "items": len(index.items),
        "testable": sum(not why for why in index.untested),
        "benchmarks": [_benchmark(current, name, found[name], index, decided, cut=cut) for name in names],
    }


def _left(kept: int, *, cut: bool) -> int:
    """How many of the kept ones are still there when the texts have been rewritten."""
    return 0 if cut else kept


def _kept(current: Current, experiment: str, snapshot: str, document: Part) -> Any:
    """Which documents of a part the experiment keeps; None where it has not decided."""
    part = current.beside("decisions", experiment, snapshot, document)
    if part is None:
        return None
    failed = read_part(current.workspace.store, part, ["failed"]).column("failed")
    return pc.equal(pc.list_value_length(failed), 0).to_numpy()


def _count_part(
    current: Current,
    snapshot: str,
    document: Part,
    part: Part,
    kept: Any,
    names: Sequence[str],
    owner: Any,
    found: Mapping[str, _Found],
    counts: dict[str, int],
    examples: int,
    index: Index,
) -> None:
    table = read_part(current.workspace.store, part, ["contaminated", "found", "matches"])
    dirty = table.column("contaminated").fill_null(False).to_numpy()
    lists = table.column("matches").combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    counts["documents"] += table.num_rows
    counts["contaminated"] += int(dirty.sum())
    counts["cut"] += int((lengths >= index.config.max_matches).sum())
    if kept is not None:
        counts["kept"] += int(kept.sum())
        counts["kept_contaminated"] += int((dirty & kept).sum())
    rows = pc.list_parent_indices(lists).to_numpy()
    matches = lists.flatten()
    items, hits, words = (matches.field(name).to_numpy(zero_copy_only=False) for name in ("item", "hit", "words"))
    order = hash_ids(current.ids(document).column("doc_id").combine_chunks(), 0) if len(rows) else None
    _count_items(table.column("found").combine_chunks(), kept, names, owner, found)
    for task, own in ((names[number], owner[items] == number) for number in np.unique(owner[items])):
        one = found[task]
        for item, longest in zip(items[own].tolist(), words[own].tolist(), strict=True):
            one.longest[item] = max(one.longest.get(item, 0), longest)
        if not examples or order is None:
            continue
        own = own & hits
        first = np.flatnonzero(own)[np.unique(rows[own], return_index=True)[1]]
        for at in first[np.argsort(order[rows[first]], kind="stable")][:examples].tolist():
            place = Place(snapshot, document, int(rows[at]))
            one.examples.append((int(order[rows[at]]), place, matches[at].as_py()))
        one.examples = sorted(one.examples, key=lambda example: example[0])[:examples]


def _count_items(lists: pa.Array, kept: Any, names: Sequence[str], owner: Any, found: Mapping[str, _Found]) -> None:
    """All items in the documents of a part, however few of their matches are stored."""
    rows, items = pc.list_parent_indices(lists).to_numpy(), lists.flatten().to_numpy()
    for number in np.unique(owner[items]):
        one, own = found[names[number]], owner[items] == number
        one.matched.update(items[own].tolist())
        one.documents += len(np.unique(rows[own]))
        if kept is not None:
            staying = own & kept[rows]
            one.kept.update(items[staying].tolist())
            one.kept_documents += len(np.unique(rows[staying]))


def _benchmark(current: Current, task: str, found: _Found, index: Index, decided: bool, *, cut: bool) -> dict[str, Any]:
    numbers = [number for number, item in enumerate(index.items) if item.task == task]
    untested = [(index.items[number], index.untested[number]) for number in numbers if index.untested[number]]
    testable = len(numbers) - len(untested)
    histogram = {}
    for low, high in zip(RUNS, (*RUNS[1:], None), strict=True):
        name = f"{low}-{high - 1}" if high else f"{low}+"
        runs = found.longest.values()
        histogram[name] = sum(low <= run and (high is None or run < high) for run in runs)
    return {
        "task": task,
        "items": len(numbers),
        "testable": testable,
        "matched": len(found.matched),
        "share": len(found.matched) / testable if testable else None,
        "kept": len(found.kept) if decided else None,
        "left": _left(len(found.kept), cut=cut) if decided else None,
        "much": bool(testable) and len(found.matched) / testable > MUCH,
        "documents": found.documents,
        "kept_documents": found.kept_documents if decided else None,
        "left_documents": _left(found.kept_documents, cut=cut) if decided else None,
        "longest": histogram,
        "untested": len(untested),
        "untested_items": [
            {"item": item.name, "line": item.line + 1, "why": why} for item, why in untested[:SHORT_SHOWN]
        ],
        "examples": [_example(current, place, match, index.items) for _, place, match in found.examples],
    }


def _example(current: Current, place: Place, match: Mapping[str, Any], items: Sequence[Item]) -> dict[str, Any]:
    row = current.row(place, ["doc_id", "url", "text"])
    item = items[match["item"]]
    return {
        "item": item.name,
        "place": item.place,
        "digest": item.digest,
        "doc_id": row["doc_id"],
        "url": row["url"],
        "snapshot": place.snapshot,
        **{name: match[name] for name in ("score", "words", "part", "start", "end")},
        **shown_span(row["text"] or "", match["start"], match["end"]),
    }


def shown_span(text: str, start: int, end: int) -> dict[str, str]:
    """A span of bytes as text, and a little of what stands around it."""
    data = text.encode()
    return {
        "before": data[max(0, start - AROUND) : start].decode("utf-8", "ignore"),
        "text": data[start : min(end, start + SPAN_SHOWN)].decode("utf-8", "ignore"),
        "after": data[end : end + AROUND].decode("utf-8", "ignore"),
    }


# --- how far it can be trusted


def planted(workspace: Workspace, use: Use, count: int) -> list[dict[str, Any]]:
    """How many of `count` items put into documents of the corpus are found: as they are, and with every tenth word another."""
    index = load_index(workspace, use)
    texts = list(_some_texts(workspace, count))
    return recalls(index, texts, count, workspace.recipe.seed)


def recalls(index: Index, texts: Sequence[str], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The same for any texts: a row for verbatim copies, and one for copies with noise."""
    if not texts:
        raise FactoryError("There is no document to put an item into.")
    made = []
    for name, noise in (("verbatim", 0.0), ("every tenth word another", 0.1)):
        pairs = plant(index, texts, count, noise=noise, seed=seed)
        missed = [index.items[item].place for item, found in zip(*_found_in(index, pairs), strict=True) if not found]
        made.append({"copies": name, "planted": len(pairs), "found": len(pairs) - len(missed), "missed": missed[:10]})
    return made


def _found_in(index: Index, pairs: Sequence[tuple[int, str]]) -> tuple[list[int], list[bool]]:
    batch = pa.record_batch([pa.array([text for _, text in pairs], pa.large_string())], names=["text"])
    matches = index.score(batch).column("matches").to_pylist()
    items = [item for item, _ in pairs]
    # Items that differ in signs alone are the same words, and found for each other.
    words = [_words(item) for item in index.items]
    hits = [
        any(match["hit"] and (match["item"] == item or words[match["item"]] == words[item]) for match in found)
        for item, found in zip(items, matches, strict=True)
    ]
    return items, hits


def _words(item: Item) -> str:
    return " ".join(re.findall(r"\w+", " ".join((item.passage, item.question)).lower()))


def plant(
    index: Index, texts: Sequence[str], count: int, *, noise: float = 0.0, seed: int = 0
) -> list[tuple[int, str]]:
    """`count` items that can be tested (each in a text, between two words of it), drawn by the seed alone."""
    chance = random.Random(seed)
    testable = [number for number, why in enumerate(index.untested) if not why]
    chosen = chance.sample(testable, min(count, len(testable)))
    pairs = []
    for place, number in enumerate(chosen):
        carrier = texts[place % len(texts)][:PLANTED_TEXT]
        words = carrier.split() or ["word"]
        item = disturb(written(index.items[number]), words, noise, chance)
        gaps = [found.end() for found in re.finditer(r"\s", carrier)]
        at = chance.choice(gaps) if gaps else 0
        pairs.append((number, f"{carrier[:at]}\n{item}\n{carrier[at:]}"))
    return pairs


def written(item: Item) -> str:
    """An item as one finds it on a page: passage, question, lettered choices, answer."""
    choices = [f"{chr(ord('A') + place % 26)}. {text}" for place, text in enumerate(item.options)]
    answer = [f"Answer: {item.answers[0]}"] if item.answers else []
    return "\n".join(text for text in (item.passage, item.question, *choices, *answer) if text)


def disturb(text: str, words: Sequence[str], share: float, chance: random.Random) -> str:
    """The text with this share of its words (to the nearest whole number) replaced by some of `words`."""
    places = [found.span() for found in re.finditer(r"\S+", text)]
    changed = sorted(chance.sample(places, round(share * len(places))), reverse=True)
    for start, end in changed:
        text = text[:start] + chance.choice(words) + text[end:]
    return text


def _some_texts(workspace: Workspace, count: int) -> Iterator[str]:
    """Texts of the corpus: the first ones of its parts, as many as are asked for."""
    current = Current(workspace)
    left = count
    for _, document in current.documents():
        for text in read_part(workspace.store, document, ["text"]).column("text").slice(0, left * 2).to_pylist():
            if text and text.strip():
                yield text
                left -= 1
                if not left:
                    return


def spans(workspace: Workspace, use: Use, number: int, *, snapshots: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Matched spans drawn by hash over all benchmarks, for a reader to judge which of them are false."""
    current = Current(workspace)
    index = load_index(workspace, use)
    drawn: list[tuple[int, Place, dict[str, Any]]] = []
    for snapshot, document in current.documents():
        part = current.beside("scores", use.label, snapshot, document)
        if part is None or (snapshots and snapshot not in snapshots):
            continue
        lists = read_part(workspace.store, part, ["matches"]).column("matches").combine_chunks()
        hit = lists.flatten().field("hit").to_numpy(zero_copy_only=False)
        parents = pc.list_parent_indices(lists).to_numpy()
        places = np.flatnonzero(hit)[np.unique(parents[hit], return_index=True)[1]]
        order = hash_ids(current.ids(document).column("doc_id").combine_chunks(), workspace.recipe.seed)
        drawn += [
            (int(order[parents[at]]), Place(snapshot, document, int(parents[at])), lists.flatten()[at].as_py())
            for at in places[np.argsort(order[parents[places]], kind="stable")][:number].tolist()
        ]
        drawn = sorted(drawn, key=lambda one: one[0])[:number]
    return [
        {**_example(current, place, match, index.items), "asked": _asked(index.items[match["item"]], match["part"])}
        for _, place, match in drawn
    ]


def _asked(item: Item, part: str) -> str:
    """What of the item was found: to be read beside the span."""
    text = item.passage if part == "passage" else item.question
    return (text if part in ("passage", "question") else f"{text} … {' / '.join((*item.options, *item.answers))}")[
        :SPAN_SHOWN
    ]


def ordinary(workspace: Workspace, use: Use, uris: Sequence[str]) -> list[dict[str, Any]]:
    """The share of reference documents that the rule flags, by file, with what it found in them."""
    index = load_index(workspace, use)
    return [{"files": uri, **flagged(index, read_texts(uri, workspace.recipe.folder))} for uri in uris]


def flagged(index: Index, texts: Iterator[str], shown: int = 5) -> dict[str, Any]:
    """How many texts are flagged, and some spans."""
    documents = found = 0
    examples: list[dict[str, Any]] = []
    for batch in _batches(texts):
        made = index.score(pa.record_batch([pa.array(batch, pa.large_string())], names=["text"]))
        documents += len(batch)
        rows = np.flatnonzero(made.column("contaminated").to_numpy(zero_copy_only=False))
        found += len(rows)
        for row in rows[: max(0, shown - len(examples))].tolist():
            match = made.column("matches")[row][0].as_py()
            item = index.items[match["item"]]
            examples.append(
                {
                    "item": item.name,
                    "place": item.place,
                    "asked": _asked(item, match["part"]),
                    **{name: match[name] for name in ("score", "words", "part")},
                    **shown_span(batch[row], match["start"], match["end"]),
                }
            )
    share = found / documents if documents else None
    return {"documents": documents, "flagged": found, "share": share, "examples": examples}


def _batches(texts: Iterator[str], size: int = 1000) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
