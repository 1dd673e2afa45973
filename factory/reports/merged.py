"""What an average of models was made of, for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table


def terminal(data: Mapping[str, Any]) -> RenderableType:
    """A row for each model that was given, and for what else was scored on the way."""
    scores = data.get("scores") or data.get("nats_per_token") or {}
    rows = [
        (
            name,
            f"{data['weights'].get(name, 0.0):.4f}" if name in {**data["weights"], **data.get("scores", {})} else "",
            shown,
        )
        for name in dict.fromkeys([*data["weights"], *scores])
        for shown in [f"{scores[name]:.4f}" if name in scores else ""]
    ]
    rows += [(" + ".join(one["models"]), "", f"{one['score']:.4f}") for one in data.get("tried", ())]
    header = ["model", "weight", data.get("metric", "nats/token").partition("@")[0]]
    if not scores:
        header, rows = header[:2], [row[:2] for row in rows]
    return Group(
        table(header, rows, numbers=range(1, len(header))), Text(f"{data['checkpoint']}: {data['model_digest']}")
    )
