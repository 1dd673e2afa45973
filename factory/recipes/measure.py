"""What texts measure, without a store: a preset's scorers over reference documents, and which of its rules each fails."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappush, heappushpop
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import ValidationError

from factory.core.config import Config, config_problems
from factory.core.errors import InputError, RecipeError
from factory.core.registry import find_stage
from factory.core.schema import DOCUMENT
from factory.core.stage import Stage
from factory.recipes.references import make_stage, pin_stage, read_texts

BATCH_TEXTS, BATCH_CHARACTERS = 512, 4_000_000

Rules = Mapping[str, Mapping[str, Any]]
Scorers = Mapping[str, Mapping[str, Any] | None]


def sample_texts(uri: str, folder: str, *, text: str = "text", most: int) -> list[str]:
    """The texts with the smallest hashes, at most so many: a larger sample contains the smaller one."""
    chosen: list[tuple[int, int, str]] = []
    for number, found in enumerate(read_texts(uri, folder, text)):
        item = -xxhash.xxh3_64_intdigest(found.encode("utf-8", "replace")), -number, found
        if len(chosen) < most:
            heappush(chosen, item)
        else:
            heappushpop(chosen, item)
    if not chosen:
        raise InputError(f"'{uri}' has no texts under '{text}'.")
    return [found for _, _, found in sorted(chosen, reverse=True)]


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in order, in lists that are bounded by number and by size."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == BATCH_TEXTS or size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def measured(rules: Rules, scorers: Scorers) -> dict[str, list[str]]:
    """The columns that can be measured of texts alone, by scorer: those that rules read and that need no trained model."""
    wanted: dict[str, list[str]] = {}
    for rule in rules.values():
        for name in (rule.get("column"), rule.get("by")):
            stage, dot, column = str(name or "").partition(".")
            if dot and stage in scorers and find_stage("scorer", stage).train is None:
                columns = wanted.setdefault(stage, [])
                if column not in columns:
                    columns.append(column)
    return wanted


def measure(texts: Iterable[str], rules: Rules, scorers: Scorers, folder: str) -> pa.Table:
    """A row per text with the columns that `rules` read, named `stage.column`; texts themselves are not kept."""
    made = [
        (name, columns, *_scorer(find_stage("scorer", name), scorers[name] or {}, folder))
        for name, columns in measured(rules, scorers).items()
    ]
    batches = []
    for batch in in_batches(texts):
        documents = {
            field.name: pa.array(batch, field.type) if field.name == "text" else pa.nulls(len(batch), field.type)
            for field in DOCUMENT
        }
        found: dict[str, pa.Array] = {}
        for name, columns, reads, score in made:  # all scorers on one batch: they share its segmentation
            scored = score(pa.record_batch({column: documents[column] for column in reads}))
            found |= {f"{name}.{column}": scored.column(column) for column in columns}
        batches.append(pa.record_batch(found))
    if not batches:
        raise InputError("there are no texts to measure.")
    return pa.Table.from_batches(batches).combine_chunks()


def failing(table: pa.Table, rules: Rules, folder: str) -> dict[str, npt.NDArray[np.bool_]]:
    """For each rule that this table can judge, which documents fail it; rules that compare documents are left out."""
    found = {}
    for label, rule in rules.items():
        stage = find_stage("filter", rule["use"])
        settings = {key: value for key, value in rule.items() if key not in ("use", "source")}
        config = _config(stage, settings, f"rules.{label}")
        if stage.fit is not None or not set(stage.reads_for(config)) <= set(table.column_names):
            continue
        (batch,) = table.select(list(stage.reads_for(config))).to_batches()
        judge = make_stage(stage, config, pinned=pin_stage(stage, config, folder), folder=folder)
        keep = judge(batch).column("keep").to_numpy(zero_copy_only=False)
        found[label] = ~keep
    return found


def _scorer(stage: Stage, settings: Mapping[str, Any], folder: str) -> tuple[tuple[str, ...], Callable[..., Any]]:
    config = _config(stage, settings, f"scorers.{stage.name}")
    made = make_stage(stage, config, pinned=pin_stage(stage, config, folder), folder=folder)
    return stage.reads_for(config), made


def _config(stage: Stage, settings: Mapping[str, Any], where: str) -> Config:
    try:
        return stage.config(**settings)
    except ValidationError as error:
        raise RecipeError(config_problems(where, error, stage.config)) from None
