"""factory funnel: what each rule drops."""

from typing import Annotated

import typer

from factory.cli.options import (
    DEFAULT_RECIPE,
    Experiments,
    Json,
    RecipePath,
    Snapshots,
    StorePlace,
    open_workspace,
    print_json,
    print_rich,
)


def command(
    experiment: Experiments = None,
    snapshot: Snapshots = None,
    number: Annotated[
        int, typer.Option("--examples", "-n", min=0, help="Dropped documents to show for each rule.")
    ] = 0,
    recipe: RecipePath = DEFAULT_RECIPE,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Documents and tokens per rule: how many fail it at all, how many it is the first to drop, how many it alone drops."""
    from factory.recipes.funnel import examples, funnels
    from factory.reports import terminal

    workspace = open_workspace(recipe, store)
    found = funnels(workspace, experiment or (), snapshot or ())
    shown = {
        item["experiment"]: {
            rule: examples(workspace, item["experiment"], rule, number, snapshots=snapshot or ())
            for rule in (["error"] if item["errors"] else [])
            + [step["rule"] for step in item["rules"] if step["failed"]]
        }
        for item in (found if number else ())
    }
    if as_json:
        print_json([{**item, "examples": shown.get(item["experiment"], {})} for item in found])
        return
    print_rich(terminal.funnel_summary(found))
    for item in found:
        if item["rules"] or experiment:
            print_rich("", terminal.funnel(item))
        for rule, rows in shown.get(item["experiment"], {}).items():
            print_rich(f"\n{item['experiment']}: {rule}", terminal.examples(rows))
