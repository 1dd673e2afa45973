"""Mixture reuse: after domains were added or changed, only they are searched again (Olmix, arXiv:2602.12237).

The domains that did not change keep their ratios and count as one virtual domain, so the new swarm has as many dimensions as
there were changes, and one. What is solved is expanded exactly: p = [ρ p̃, p_affected], ρ the share of the virtual domain.
Partial reuse re-opens some unaffected domains as well: those the same metrics depend on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory.core.errors import FactoryError, suggest

VIRTUAL = "(unchanged)"


@dataclass(frozen=True)
class Reuse:
    """`frozen` are the ratios of the unchanged domains (they sum to 1), `open` the names of those that are searched."""

    frozen: Mapping[str, float]
    open: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The domains of the smaller problem, the virtual one first."""
        return (VIRTUAL, *self.open)

    def expand(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The whole mixture of a solution of the smaller problem."""
        share = weights[VIRTUAL]
        return {name: share * ratio for name, ratio in self.frozen.items()} | {
            name: weights[name] for name in self.open
        }

    def collapse(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The smaller problem's mixture of a whole one, as if the unchanged domains had their ratios."""
        share = sum(weights.get(name, 0.0) for name in self.frozen)
        return {VIRTUAL: share} | {name: weights.get(name, 0.0) for name in self.open}

    def cap(self, caps: Mapping[str, float]) -> dict[str, float]:
        """The bounds of the smaller problem: the virtual domain is as large as its first domain to be used up lets it."""
        tightest = min((caps[name] / ratio for name, ratio in self.frozen.items() if ratio > 0), default=1.0)
        return {VIRTUAL: min(1.0, tightest)} | {name: caps[name] for name in self.open}


def reuse(
    solved: Mapping[str, float], domains: Sequence[str], affected: Iterable[str], reopened: Iterable[str] = ()
) -> Reuse:
    """What stays of an earlier mixture over today's `domains`. New domains are affected by themselves."""
    changed = {*affected, *reopened}
    unknown = sorted(changed - set(domains))
    if unknown:
        raise FactoryError(f"search: no domain is named '{unknown[0]}'.{suggest(unknown[0], domains)}")
    open_ = tuple(name for name in domains if name in changed or name not in solved)
    kept = {name: solved[name] for name in domains if name not in open_}
    total = sum(kept.values())
    if total <= 0:
        raise FactoryError(
            "search: no unchanged domain has a share in the earlier mixture, so there is nothing to reuse. Search all domains."
        )
    return Reuse({name: share / total for name, share in kept.items()}, open_)


def coupled(
    effects: Mapping[str, Mapping[str, float]], affected: Iterable[str], unaffected: Iterable[str], share: float = 0.5
) -> tuple[str, ...]:
    """Unaffected domains that move the same metrics as an affected one: candidates for partial reuse.

    `effects` is domain x metric. A metric an affected domain moves by at least `share` of what any domain moves it is shared
    with every domain that moves it as much.
    """
    metrics = sorted({metric for row in effects.values() for metric in row})
    most = {metric: max(abs(row.get(metric, 0.0)) for row in effects.values()) for metric in metrics}

    def moves(name: str) -> set[str]:
        row = effects.get(name, {})
        return {metric for metric in metrics if most[metric] > 0 and abs(row.get(metric, 0.0)) >= share * most[metric]}

    common = set().union(*(moves(name) for name in affected))
    return tuple(name for name in unaffected if moves(name) & common)
