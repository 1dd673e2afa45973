"""The sections `extract` and `scorers`, and the sources that stages learn from."""

from collections.abc import Mapping
from typing import Any

from factory.core.errors import suggest
from factory.recipes.checks.checker import Checker, present, stage_meant
from factory.recipes.recipe import LinkerUse, Use


def read_extractors(checker: Checker, data: Mapping[str, Any]) -> list[Use]:
    items = enumerate(checker.sequence(data, "extract"))
    return present([checker.use("extractor", f"extract[{i}]", "extract", item) for i, item in items])


def read_scorers(checker: Checker, data: Mapping[str, Any]) -> list[Use]:
    scorers = []
    for label, item in checker.section(data, "scorers").items():
        scorer = checker.use("scorer", f"scorers.{label}", label, item)
        if scorer is None:
            checker.broken[label] = stage_meant("scorer", item)
        else:
            scorers.append(scorer)
    return scorers


def check_training_sources(checker: Checker, scorers: list[Use], linkers: list[LinkerUse], sources: list[str]) -> None:
    """Report the sources stages learn from that the recipe does not have."""
    for where, use in [*(("scorers", use) for use in scorers), *(("linkers", use) for use in linkers)]:
        training = use.stage.train
        if training is None or training.ready(use.config) is not None:
            continue
        for sample in training.samples(use.config):
            if sample.source is not None and sample.source not in sources:
                checker.report(
                    f"{where}.{use.label}: learns from source '{sample.source}', which the recipe does not have."
                    f"{suggest(sample.source, sources)}"
                )
