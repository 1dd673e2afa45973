"""The domains a task's rows will have, from its settings and files alone: as `asking.ask` names them, without a model."""

from collections.abc import Mapping

from factory.evaluation import core, harness_tasks, longtail, membership, olmes, temporal, toxicity
from factory.evaluation.asking import of
from factory.evaluation.bits_per_byte import read_documents
from factory.evaluation.multiple_choice import read_items
from factory.evaluation.tasks import (
    BitsPerByte,
    Core,
    Harness,
    LongTail,
    Membership,
    MultipleChoice,
    Olmes,
    TaskSettings,
    Temporal,
    Toxicity,
)


def task_domains(config: TaskSettings, files: Mapping[str, bytes]) -> set[str]:
    """The domains of the items that are asked; `files` as `evaluate.read_task` gives them."""
    own = {name: data for name, data in files.items() if not name.startswith("@")}
    match config:
        case Temporal():
            return {document.domain for document in temporal.read_dated(config, own)}
        case Toxicity():
            return {document.domain for document in toxicity.read_labelled(config, own)}
        case BitsPerByte():
            return {document.domain for document in read_documents(config, own)}
        case Membership():
            return {membership.MEMBER, membership.OTHER}
        case Core():
            core.read_core(config, own)
            return {"all"}
        case Olmes():
            formulation = "cloze" if config.formulation == "best" else config.formulation
            return {item.domain for item in olmes.read_olmes(config, own, of(files, "shots"), formulation)[0]}
        case Harness():
            return {item.domain for item in harness_tasks.read_items(config, own, of(files, "shots"))}
        case MultipleChoice():
            items, _ = read_items(config, own, of(files, "shots"))
            if not isinstance(config, LongTail) or config.counts is None:
                return {item.domain for item in items}
            counts = longtail.read_counts(of(files, "counts") or {})
            rows = [{"item": item.id} for item in items]
            return {str(row["domain"]) for row in longtail.group_rows(config, rows, counts)}
    return set()
