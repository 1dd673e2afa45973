"""Which family of functions a search fits: boosted trees, the exponential law, or whichever ranks held-out mixtures better."""

from typing import Literal

from factory.mixing.boosted import BoostedFit, fit_boosted
from factory.mixing.exponential import ExponentialFit, check_spread
from factory.mixing.regression import Fit, boosted, choose, exponential
from factory.mixing.trials import Rows
from factory.stages.searchers.guarded import Family, Space

Choice = Literal["auto", "boosted", "exponential"]


def choose_family(
    choice: Choice,
    rows: Rows,
    space: Space,
    seed: int,
    *,
    trees: BoostedFit | None = None,
    law: ExponentialFit | None = None,
) -> Family:
    """The family of this name, or the better one."""
    fits: dict[str, Fit] = {"exponential": exponential(law), "boosted": boosted(trees)}
    wanted = fits if choice == "auto" else {choice: fits[choice]}
    if "exponential" in wanted:
        check_spread(rows.mixtures, space.names)
    name, scores = choose(wanted, rows.mixtures, rows.values, seed)
    quick = exponential(law) if name == "exponential" else _same_number_of_trees(rows, seed, trees or BoostedFit())
    return Family(name, wanted[name], quick, scores)


def _same_number_of_trees(rows: Rows, seed: int, trees: BoostedFit) -> Fit:
    """Refits grow as many trees as the objectives' mean was found to need, without asking again each time."""
    rounds = fit_boosted(rows.mixtures, rows.scores, seed, trees).rounds
    return boosted(BoostedFit(max(1, rounds), trees.rate, trees.depth, trees.leaf, trees.l1, trees.l2, folds=0))
