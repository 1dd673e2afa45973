"""Mixtures that any learned one has to beat, and that are always among a search's trials.

Natural, uniform, UniMax (arXiv:2304.09151) and single sources: published comparisons repeatedly found one of them at least as
good as what was learned.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError, suggest
from factory.core.search import Problem, Proposal
from factory.mixing.caps import named, under_caps, vector
from factory.mixing.shares import fill_evenly

Array = npt.NDArray[np.float64]

NAMES = ("natural", "uniform", "unimax")


def baseline(problem: Problem, name: str) -> Array:
    """The shares of a baseline within the bounds of the target, so that it can be adopted."""
    sizes = np.array([domain.tokens for domain in problem.domains], dtype=np.float64)
    caps = caps_of(problem)
    if name == "natural":
        return under_caps(sizes / sizes.sum(), caps)
    if name == "uniform":
        return under_caps((sizes > 0) / (sizes > 0).sum(), caps)
    filled = vector(problem.names, fill_evenly(dict(zip(problem.names, caps, strict=True)), 1.0))
    return np.asarray(filled / filled.sum(), dtype=np.float64)


def caps_of(problem: Problem) -> Array:
    return vector(problem.names, problem.caps)


def baseline_proposals(problem: Problem, names: Sequence[str], single: Sequence[str]) -> list[Proposal]:
    """One trial for each baseline; a single source is a reference, whatever the bounds on its repetition."""
    found = [Proposal(name, named(problem.names, baseline(problem, name)), role="baseline") for name in names]
    for source in single_sources(problem, single):
        shares = np.array([float(name == source) for name in problem.names])
        found.append(Proposal(f"single-{source}", named(problem.names, shares), role="baseline"))
    return found


def single_sources(problem: Problem, single: Sequence[str]) -> list[str]:
    """The domains that are trained alone; `largest` stands for the largest, `all` for every one."""
    known = {domain.name: domain.tokens for domain in problem.domains if domain.tokens}
    found: dict[str, None] = {}
    for name in single:
        if name == "all":
            found |= dict.fromkeys(known)
        elif name == "largest":
            found[max(known, key=lambda domain: known[domain])] = None
        elif name in known:
            found[name] = None
        else:
            raise FactoryError(f"search: no domain is named '{name}'.{suggest(name, [*known, 'largest', 'all'])}")
    return list(found)
