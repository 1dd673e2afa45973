"""Mixture: how many epochs of each domain the training sees, from what was selected and what was asked.

Where an experiment has phases, each has epochs of its own (in the notes); the rows are of the whole training.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from factory.core.config import Config
from factory.core.fingerprint import fingerprint
from factory.core.manifest import Manifest
from factory.core.mixture import Budget, check_epochs
from factory.mixing.budget import plan
from factory.recipes.recipe import Experiment, Mixture
from factory.recipes.work import Bench, Made, Work
from factory.stages.mixers.searched import RECOMMENDED
from factory.storage.parts import write_part

MIXTURE = pa.schema(
    [
        ("domain", pa.string()),
        ("documents", pa.int64()),
        ("available_tokens", pa.int64()),
        ("epochs", pa.float64()),
        ("asked_tokens", pa.float64()),
        ("asked_share", pa.float64()),
    ]
)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Mixtures: a little arithmetic each, done here; raises for the first whose budget its selection cannot fill."""
    return {work.node.name: _mix(bench, work) for work in works}


def _mix(bench: Bench, work: Work) -> Made:
    experiment = bench.recipe.experiment(work.node.label)
    assert experiment.mixture is not None  # the node is there because the experiment has one
    selection = work.one("selection")
    available = {str(domain): int(tokens) for domain, tokens in selection.notes["tokens"].items()}
    notes: dict[str, Any] = {}
    if experiment.phases:
        notes["phases"] = _phases(experiment, work, available)
        epochs = {
            domain: math.fsum(phase["epochs"].get(domain, 0.0) for phase in notes["phases"]) for domain in available
        }
        _check_phases(experiment, available, epochs)
    else:
        epochs = mixed(experiment.mixture, work, available)
    asked = {domain: available[domain] * epochs.get(domain, 0.0) for domain in available}
    total = sum(asked.values())
    notes["budget"] = _budget(experiment, selection, asked)
    rows = [
        {
            "domain": domain,
            "documents": selection.notes["documents"][domain],
            "available_tokens": available[domain],
            "epochs": epochs.get(domain, 0.0),
            "asked_tokens": asked[domain],
            "asked_share": asked[domain] / total if total else 0.0,
        }
        for domain in sorted(available)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=MIXTURE)
    # The rows are of the whole training: phases that share it out otherwise are another mixture.
    name = "-".join([selection.digest, *([fingerprint(notes["phases"])] if experiment.phases else [])])
    part = write_part(bench.store, work.folder, name, MIXTURE, [batch], ids="")
    return Made((part,), notes={"epochs": epochs, "tokens": total, "available": sum(available.values()), **notes})


def _budget(experiment: Experiment, selection: Manifest, asked: Mapping[str, float]) -> dict[str, Any]:
    """What the tokens of each domain are worth; copies that the selection makes are repetitions, not tokens of their own."""
    unique = selection.notes.get("unrepeated", selection.notes)["tokens"]
    settings = experiment.mixture.config if experiment.mixture is not None else None
    epochs = {domain: tokens / unique[domain] for domain, tokens in asked.items() if unique.get(domain)}
    worth = plan(
        epochs, {str(domain): int(tokens) for domain, tokens in unique.items()}, allow_red=_allows_red(settings)
    )
    return asdict(worth)


def _allows_red(settings: Config | None) -> bool:
    return isinstance(settings, Budget) and settings.allow_red


def mixed(mixture: Mixture, work: Work, available: Mapping[str, int]) -> dict[str, float]:
    """The epochs of each domain by a mixture of the recipe."""
    if mixture.search is None:
        made = mixture.stage.make(mixture.config)
    else:
        finding = work.one("searches", mixture.search).notes["finding"]
        made = mixture.stage.make(mixture.config, {**finding["candidates"], RECOMMENDED: finding["weights"]})
    epochs: dict[str, float] = made(available)
    return epochs


def _phases(experiment: Experiment, work: Work, available: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"label": phase.label, "share": phase.share, "epochs": mixed(phase.mixture, work, available)}
        for phase in experiment.phases
    ]


def _check_phases(experiment: Experiment, available: Mapping[str, int], epochs: Mapping[str, float]) -> None:
    """Phases repeat a domain together as often as the bound on it allows, not each of them."""
    assert experiment.mixture is not None
    budgets = [use.config for use in (experiment.mixture, *(phase.mixture for phase in experiment.phases))]
    bounds = [budget.bounds(available) for budget in budgets if isinstance(budget, Budget)]
    most = {domain: max(bound[domain] for bound in bounds) for domain in available}
    check_epochs(experiment.mixture.config.model_dump()["tokens"], epochs, most)
