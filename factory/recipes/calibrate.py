"""Thresholds for other texts: the bounds of a preset moved to where they stand in a reference, after FineWeb2.

Bounds that a preset has for English are carried over by the place they have among English reference texts and those of the
language (arXiv:2506.20920; the maps of `factory.core.thresholds`). A rule that would then remove nothing of the reference,
or more than three quarters, is not used. Without English texts, a bound that drops more than a given share of the reference
is loosened to the tightest one that does not, and the others stay (method `keep`).
Bounds on whole numbers, such as words, are about documents and not about a language: they stay, as in FineWeb2, and so do
rules named `fixed`. The eight English stop words give way to those of the reference. What comes out is a preset again.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.errors import FactoryError, InputError, suggest
from factory.core.registry import find_stage
from factory.core.thresholds import MAPS, Carried, Values, carry, guard, keep_share, lid_threshold
from factory.recipes.checks.presets import find_preset
from factory.recipes.lookup import Current
from factory.recipes.measure import failing, measure, measured, sample_texts
from factory.recipes.stop_words import StopWord, stop_words
from factory.recipes.workspace import Workspace
from factory.stages.segmentation import find_cutter

KEEP = "keep"
METHODS = (KEEP, *MAPS)
WITH_ENGLISH = ("mean_std", "quantile", "median_ratio")
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
ENGLISH_STOP_WORDS = "word_statistics.stop_words"
FEWEST_DOCUMENTS = 20  # of a language, for a threshold of its own
DOCUMENTS = 5_000


def calibrate(
    preset: str,
    reference: str,
    *,
    folder: str = ".",
    english: str | None = None,
    method: str | None = None,
    keep: float = 0.97,
    words: str | None = None,
    fixed: Sequence[str] = (),
    text: str = "text",
    documents: int = DOCUMENTS,
) -> dict[str, Any]:
    """A row per rule, and under `preset` the new preset. `reference` and `english` are paths or globs below `folder`."""
    chosen = _method(method, english, keep)
    if words is not None:
        find_cutter(words)
    source = find_preset(preset, folder)
    for name in fixed:
        if name not in source["rules"]:
            raise InputError(f"Preset {preset} has no rule '{name}'.{suggest(name, source['rules'])}")
    scorers = {name: dict(settings or {}) for name, settings in (source.get("scorers") or {}).items()}
    rules = {label: dict(rule) for label, rule in source["rules"].items()}
    texts = sample_texts(reference, folder, text=text, most=documents)
    theirs = _with_words(scorers, words)
    listed = _replace_stop_words(rules, theirs, texts, words, fixed)
    table, other = measure(texts, rules, theirs, folder), None
    if english:
        other = measure(sample_texts(english, folder, text=text, most=documents), source["rules"], scorers, folder)
    dropped = failing(measure(texts, source["rules"], {**scorers, **theirs}, folder), source["rules"], folder)
    known = measured(rules, theirs)
    rows = [
        _rule(label, rule, table, other, dropped, known, (chosen, keep), label in fixed)
        for label, rule in rules.items()
    ]
    made: dict[str, Any] = {
        "name": preset.rsplit("/", 1)[-1].removesuffix(".yaml").lower() + "_calibrated",
        "source": f"preset {preset}, calibrated by {chosen} on {len(texts):,} documents of {reference}",
        "scorers": theirs,
        "rules": {row["rule"]: row["made"] for row in rows if row["made"] is not None},
    }
    after = failing(measure(texts, made["rules"], theirs, folder), made["rules"], folder)
    for row in rows:
        if row["rule"] in after:
            row["drops"] = float(after[row["rule"]].mean())
    return {
        "preset": made,
        "from": preset,
        "method": chosen,
        "reference": reference,
        "documents": len(texts),
        "english_documents": other.num_rows if other is not None else None,
        "rules": rows,
        "stop_words": [word._asdict() for word in listed],
        "kept": kept_share(after),
        "kept_before": kept_share(dropped),
    }


def kept_share(failed: Mapping[str, npt.NDArray[np.bool_]]) -> float:
    """The share of documents that fail no rule."""
    return float(1 - np.logical_or.reduce(list(failed.values())).mean()) if failed else 1.0


def confidences(workspace: Workspace, label: str) -> dict[str, Any]:
    """FineWeb2's least confidence of each language, from what the language scorer `label` gave to all snapshots."""
    labels = [use.label for use in workspace.recipe.scorers]
    if label not in labels:
        raise FactoryError(f"No scorer is labelled '{label}'.{suggest(label, labels)}")
    columns = workspace.recipe.scorer(label).columns
    if not {f"{label}_label", f"{label}_score"} <= set(columns):
        raise FactoryError(f"Scorer '{label}' names no language: it has {', '.join(columns)}.")
    current, tables = Current(workspace), []
    for snapshot, part in current.documents():
        found = [current.column(f"{label}_{name}", snapshot, part) for name in ("label", "score")]
        if None in found:
            raise FactoryError(f"The scores of '{label}' for {snapshot} are not there yet. 'factory run' makes them.")
        tables.append(pa.table(dict(zip(("label", "score"), found, strict=True))))
    table = pa.concat_tables(tables).combine_chunks()
    names = table.column("label").to_numpy(zero_copy_only=False)
    scores = table.column("score").to_numpy(zero_copy_only=False).astype(np.float64)
    rows = []
    for name in sorted({name for name in names.tolist() if name is not None}):
        own = scores[names == name]
        own = own[np.isfinite(own)]
        enough = len(own) >= FEWEST_DOCUMENTS
        bound = _outward(lid_threshold(own), "min") if enough else None
        rows.append(
            {
                "language": name,
                "documents": len(own),
                "median": float(np.median(own)) if len(own) else None,
                "deviation": float(np.std(own)) if len(own) else None,
                "threshold": bound,
                "kept": float(np.mean(own >= bound)) if bound is not None else None,
            }
        )
    rows.sort(key=lambda row: (-row["documents"], row["language"]))
    return {"scorer": label, "languages": rows}


def reference_stop_words(
    reference: str, *, folder: str = ".", words: str = "unicode", text: str = "text", documents: int = DOCUMENTS
) -> list[StopWord]:
    """The stop words of reference documents."""
    return stop_words(sample_texts(reference, folder, text=text, most=documents), words)


def preset_text(found: Mapping[str, Any]) -> str:
    """The new preset as a file that explains itself; rules that are not used stand in it as comments."""
    preset = found["preset"]
    lines = [
        f"# {found['from']}, with bounds for the texts of {found['reference']}: {found['documents']:,} documents, "
        f"{found['kept']:.1%} of them kept.",
        f"name: {json.dumps(preset['name'], ensure_ascii=False)}",
        f"source: {json.dumps(preset['source'], ensure_ascii=False)}",
        "scorers:",
        *(f"  {name}: {json.dumps(settings, ensure_ascii=False)}" for name, settings in preset["scorers"].items()),
        "rules:",
    ]
    for row in found["rules"]:
        if row["made"] is None:
            lines.append(f"  # {row['rule']}: {row['why']}")
        else:
            lines += [f"  {row['rule']}:", *(f"    {key}: {_plain(value)}" for key, value in row["made"].items())]
    return "\n".join(lines) + "\n"


def confidence_text(found: Mapping[str, Any]) -> str:
    """A table for the filter in_range_by."""
    lines = [
        f"# The least confidence of each language by scorer {found['scorer']}, for in_range_by: {{min: this file}}."
    ]
    for row in found["languages"]:
        name = json.dumps(row["language"], ensure_ascii=False)
        if row["threshold"] is None:
            lines.append(f"# {name}: {row['documents']} documents are too few")
        else:
            lines.append(f"{name}: {row['threshold']:g}")
    return "\n".join(lines) + "\n"


def _method(method: str | None, english: str | None, keep: float) -> str:
    chosen = method or ("quantile" if english else KEEP)
    if chosen not in METHODS:
        raise InputError(f"No method is named '{chosen}'.{suggest(chosen, METHODS)}")
    if chosen in WITH_ENGLISH and not english:
        raise InputError(
            f"Method {chosen} compares with English texts: name them with --english, or use --method keep."
        )
    if not 0 < keep < 1:
        raise InputError(f"--keep is a share between 0 and 1 (got {keep}).")
    return chosen


def _with_words(scorers: Mapping[str, dict[str, Any]], words: str | None) -> dict[str, dict[str, Any]]:
    if words is None:
        return {name: dict(settings) for name, settings in scorers.items()}
    return {
        name: {**settings, "words": words}
        if "words" in find_stage("scorer", name).config.model_fields
        else dict(settings)
        for name, settings in scorers.items()
    }


def _replace_stop_words(
    rules: dict[str, dict[str, Any]],
    scorers: dict[str, dict[str, Any]],
    texts: list[str],
    words: str | None,
    fixed: Sequence[str],
) -> list[StopWord]:
    """Rules over English stop words become rules over those of the texts, which FineWeb2 asks two different ones of."""
    english = [
        label for label, rule in rules.items() if rule.get("column") == ENGLISH_STOP_WORDS and label not in fixed
    ]
    if not english:
        return []
    cutter = words or scorers["word_statistics"].get("words", "unicode")
    listed = stop_words(texts, cutter)
    scorers["stop_words"] = {"entries": [word.word for word in listed], "any_case": False, "words": cutter}
    for label in english:
        source = f"arXiv:2506.20920: stop words of the reference, different ones, as many as {rules[label].get('min')}"
        rules[label] = {**rules[label], "column": "stop_words.distinct", "source": source}
    return listed


def _rule(
    label: str,
    rule: Mapping[str, Any],
    table: pa.Table,
    english: pa.Table | None,
    dropped: Mapping[str, Any],
    known: Mapping[str, Sequence[str]],
    how: tuple[str, float],
    fixed: bool,
) -> dict[str, Any]:
    row: dict[str, Any] = {"rule": label, "column": rule.get("column"), "bounds": {}, "quantiles": None}
    row["drops_before"] = float(dropped[label].mean()) if label in dropped else None
    row |= {"drops": row["drops_before"], "made": dict(rule), "why": ""}
    stage, _, column = str(rule.get("column")).partition(".")
    if rule.get("column") not in table.column_names or label not in dropped:
        compares = find_stage("filter", rule["use"]).fit is not None
        why = "compares documents with each other" if compares else f"'{stage}' needs a trained model"
        return {**row, "why": f"{why}; stays as it is"}
    values = table.column(rule["column"])
    numbers = np.empty(0)
    if column in known.get(stage, ()) and not pa.types.is_boolean(values.type):
        numbers = values.to_numpy().astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        row["quantiles"] = np.quantile(numbers, QUANTILES).tolist() if len(numbers) else None
    if rule["use"] != "in_range":
        return {**row, "why": "is no bound; stays as it is"}
    sides = [side for side in ("min", "max") if rule.get(side) is not None]
    row["bounds"] = {side: {"before": rule[side], "after": rule[side]} for side in sides}
    if fixed or not pa.types.is_floating(values.type):
        return {**row, "why": "stays as asked" if fixed else "counts; stays as it is"}
    made, whys = dict(rule), []
    for side in sides:
        carried = _carried(how, numbers, english, rule, side, len(sides))
        row["bounds"][side]["after"] = carried.threshold
        whys.append((f"{side}: " if len(sides) > 1 else "") + carried.why)
        if carried.threshold is None:
            made.pop(side)
        else:
            made[side] = carried.threshold
    method = how[0] if how[0] != KEEP else f"loosened to keep {how[1]:.0%} of the reference"
    moved = [side for side in sides if made.get(side) != rule[side]]
    if moved:
        were = ", ".join(f"{side} {rule[side]:g}" for side in moved)
        made["source"] = f"{rule.get('source', '')} ({were}), calibrated: {method}"
    return {**row, "made": made if any(made.get(side) is not None for side in sides) else None, "why": "; ".join(whys)}


def _carried(
    how: tuple[str, float], values: Values, english: pa.Table | None, rule: Mapping[str, Any], side: Any, sides: int
) -> Carried:
    method, keep = how
    if method == KEEP:
        allowed = 1 - (1 - keep) / sides
        beyond = values < rule[side] if side == "min" else values > rule[side]
        if values.size and beyond.mean() <= 1 - allowed:
            return Carried(float(rule[side]), float(beyond.mean()), "stays: it keeps enough")
        bound = keep_share(values, allowed, side)
        carried = Carried(None, 0.0, "no values to go by") if math.isnan(bound) else guard(bound, values, side)
    else:
        # Maps that look at one side only get the language's values for both.
        theirs = english.column(rule["column"]).to_numpy() if english is not None else values
        carried = carry(method, theirs, values, float(rule[side]), side)
    if carried.threshold is None:
        return carried
    # A bound is compared as float32 and written with four digits: outward, so that nothing more is lost.
    return carried._replace(threshold=_outward(carried.threshold, side))


def _outward(bound: float, side: str, digits: int = 4) -> float:
    if not bound:
        return 0.0
    if float(f"{bound:.{digits}g}") == bound:
        return bound
    unit = 10.0 ** (math.floor(math.log10(abs(bound))) - digits + 1)
    return float(f"{(math.floor if side == 'min' else math.ceil)(bound / unit) * unit:.{digits}g}")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value, ensure_ascii=False)
