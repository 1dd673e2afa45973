"""Searches for people: the recommended mixture beside what there is, the best mixtures, and what the fit is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from factory.reports.terminal import table
from factory.reports.text import clean, count, duration, value

MOST_DOMAINS = 40
MOST_CANDIDATES = 5
MOST_PROPOSALS = 12
SHOWN_SHARES = 4  # of a mixture among others


def search(data: Mapping[str, Any]) -> RenderableType:
    """One search: shares, trials, predictions, effects, warnings."""
    title = f"{data['search']}: {data['method']} on the domains of {data['experiment']}, to lower {', '.join(data['objectives'])}"
    if not data["made"]:
        name = data["search"]
        return Group(
            Text(title, style="bold"),
            Text(f"Not made yet. 'factory run searches/{name}' trains its proxies; --dry-run shows what it would ask."),
        )
    failed = f", {data['failed']} broke down" if data["failed"] else ""
    spent = f"{count(data['tokens'])} tokens, {data['flops']:.3g} FLOPs, {duration(data['seconds'])} of training"
    blocks: list[RenderableType] = [
        Text(title, style="bold"),
        Text(f"{data['trials']} trials{failed} in {data['rounds']} rounds: {spent}", style="dim"),
        Text(""),
        _shares(data),
        Text(""),
        _best(data["best"]),
    ]
    if data["predicted"]:
        rows = [(name, *(f"{number:.4f}" for number in span)) for name, span in data["predicted"].items()]
        blocks += [Text(""), table(("metric", "predicted", "low", "high"), rows, numbers=(1, 2, 3), title="Predicted")]
    if data["effects"]:
        blocks += [Text(""), _effects(data["effects"])]
    if known := facts(data["notes"]):
        blocks += [Text(""), table(("fit", ""), known)]
    blocks += [Text(clean(text, 300), style="yellow") for text in data["warnings"]]
    use = f"mixture: {{use: searched, search: {data['search']}}}"
    blocks += [Text(""), Text(f"An experiment takes it with  {use}")]
    return Group(*blocks)


def _best(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Mixtures by the mean over their seeds; a single training stands out, since luck may be all of it."""
    rows = []
    for item in found:
        style = "" if item["seeds"] > 1 else "dim"
        deviation = "" if item["deviation"] is None else f"± {item['deviation']:.4f}"
        seeds = f"{item['seeds']} fresh" if item["fresh"] else str(item["seeds"])
        cells = (item["mixture"], item["role"], str(item["round"]), f"{item['objective']:.4f}", deviation, seeds)
        rows.append(
            [
                *(Text(clean(cell), style=style) for cell in cells),
                Text(mixture(item["weights"], SHOWN_SHARES), style=style),
            ]
        )
    header = ("mixture", "role", "round", "objective", "sd", "seeds", "shares")
    notes = ["Objective: the mean over seeds, sd theirs; of confirmed mixtures only fresh trainings count."]
    if any(item["seeds"] == 1 for item in found):
        notes.append("With one seed a mixture may owe its place to luck.")
    return Group(table(header, rows, numbers=(2, 3, 4, 5), title="Best mixtures"), Text(" ".join(notes), style="dim"))


def dry_run(data: Mapping[str, Any]) -> RenderableType:
    """What a search asks first."""
    domains = [
        (
            item["domain"],
            count(item["documents"]),
            count(item["tokens"]),
            f"{item['natural']:.3f}",
            f"{item['cap']:.3f}",
        )
        for item in data["domains"]
    ]
    shown = data["proposals"][:MOST_PROPOSALS]
    rows = [(item["name"], item["role"], item["seed"], mixture(item["weights"], SHOWN_SHARES)) for item in shown]
    more = len(data["proposals"]) - len(shown)
    return Group(
        Text(f"{data['search']}: {data['method']} on the domains of {data['experiment']}", style="bold"),
        table(("domain", "documents", "tokens", "natural", "largest share"), domains, numbers=(1, 2, 3, 4)),
        Text(""),
        table(("trial", "role", "seed", "mixture"), rows, numbers=(2,), title="First round"),
        Text(f"{more} more" if more > 0 else "", style="dim"),
        Text(
            f"{len(data['proposals'])} trials of {count(data['trial_tokens'])} tokens at {data['scale']}: "
            f"{count(data['tokens'])} tokens, {data['flops']:.3g} FLOPs. Later rounds depend on what these show."
        ),
    )


def mixture(weights: Mapping[str, float], most: int | None = None) -> str:
    """Shares, largest first: `web .50, code .30`; of `most` domains."""
    ranked = sorted(
        ((name, share) for name, share in weights.items() if share > 0), key=lambda item: (-item[1], item[0])
    )
    shown = [f"{name} {share:.2f}".replace(" 0.", " .") for name, share in ranked[:most]]
    return ", ".join(shown) + (f" and {len(ranked) - len(shown)} more" if len(ranked) > len(shown) else "")


def _shares(data: Mapping[str, Any]) -> RenderableType:
    candidates = dict(list(data["candidates"].items())[:MOST_CANDIDATES])
    ranked = sorted(data["domains"], key=lambda item: (-item["recommended"], item["domain"]))
    rows = [
        (
            item["domain"],
            f"{item['natural']:.3f}",
            f"{item['cap']:.3f}",
            Text(f"{item['recommended']:.3f}", style="bold"),
            f"{item['interval'][0]:.3f} to {item['interval'][1]:.3f}" if item["interval"] else "",
            *(f"{weights.get(item['domain'], 0.0):.3f}" for weights in candidates.values()),
        )
        for item in ranked[:MOST_DOMAINS]
    ]
    header = ("domain", "natural", "largest", "recommended", "interval", *candidates)
    return table(header, rows, numbers=(1, 2, 3, *range(5, len(header))), title="Shares of the training tokens")


def _effects(effects: Mapping[str, Mapping[str, float]]) -> RenderableType:
    metrics = list(dict.fromkeys(name for item in effects.values() for name in item))
    rows = [
        (domain, *(f"{item[name]:+.4f}" if name in item else "" for name in metrics))
        for domain, item in effects.items()
    ]
    return table(
        ("domain", *metrics), rows, numbers=range(1, len(metrics) + 1), title="Effect of a domain (below 0 helps)"
    )


def facts(notes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The plain numbers and texts of a finding's notes."""
    return [(name, value(item)) for name, item in notes.items() if not isinstance(item, (list, Mapping))]
