"""Mixture: how many epochs of each domain the training sees, from what was selected and what was asked."""

import pyarrow as pa

from factory.recipes.work import Bench, Made, Work
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
    """Mixtures: a little arithmetic each, done here."""
    return {work.node.name: _mix(bench, work) for work in works}


def _mix(bench: Bench, work: Work) -> Made:
    mixture = bench.recipe.experiment(work.node.label).mixture
    assert mixture is not None  # the node is there because the experiment has one
    selection = work.one("selection")
    available = {str(domain): int(tokens) for domain, tokens in selection.notes["tokens"].items()}
    epochs = mixture.stage.make(mixture.config)(available)
    asked = {domain: available[domain] * epochs.get(domain, 0.0) for domain in available}
    total = sum(asked.values())
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
    part = write_part(bench.store, work.folder, selection.digest, MIXTURE, [batch], ids="")
    return Made((part,), notes={"epochs": epochs, "tokens": total, "available": sum(available.values())})
