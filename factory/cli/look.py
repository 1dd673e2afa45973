"""factory look: documents a rule dropped."""

from typing import Annotated

import typer

from factory.cli.options import (
    DEFAULT_RECIPE,
    Json,
    RecipePath,
    Snapshots,
    StorePlace,
    open_workspace,
    print_json,
    print_rich,
)


def command(
    rule: Annotated[
        str,
        typer.Option(
            "--dropped-by", metavar="RULE", help="A rule, or a preset's label; 'error' for quarantined records."
        ),
    ],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Default: the last one that has the rule.")
    ] = None,
    snapshot: Snapshots = None,
    number: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many documents of each rule.")] = 5,
    near: Annotated[bool, typer.Option("--near-threshold", help="Those that only just failed, nearest first.")] = False,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Show documents a rule dropped: their text, and the value they failed with."""
    from factory.recipes.funnel import examples, find_rules, funnels
    from factory.reports import terminal

    workspace = open_workspace(recipe, store)
    found = funnels(workspace, [experiment] if experiment else (), snapshot or ())
    label, rules = find_rules(found, rule)
    shown = {
        name: examples(workspace, label, name, number, snapshots=snapshot or (), near=near, text=True) for name in rules
    }
    if as_json:
        print_json({"experiment": label, "rules": shown})
        return
    for name, rows in shown.items():
        if rows or len(shown) == 1:
            print_rich(f"\n{label}: {name}", terminal.examples(rows))
