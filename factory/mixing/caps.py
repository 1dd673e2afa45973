"""Mixtures as rows of an array, within bounds on repetition: projected, rounded, moved, with a domain left out.

`caps` are the largest shares that repeat no domain beyond its bound: max_epochs x its tokens / the budget.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError

Array = npt.NDArray[np.float64]

DIGITS = 6  # a mixture is written to 1e-6; the largest share takes what rounding leaves
EMPTY = 1e-12


def check_caps(caps: Array) -> None:
    """Raise FactoryError where the bounds leave room for less than the whole budget."""
    room = float(caps.sum())
    if room < 1 - 1e-9:
        raise FactoryError(
            f"search: the bounds on repetition leave room for {room:.1%} of the experiment's tokens. "
            "Lower the tokens of its mixture, or raise max_epochs."
        )


def under_caps(mixtures: Array, caps: Array) -> Array:
    """Each mixture, as near as the bounds allow: what is above a bound goes to the others in proportion to their shares.

    This is the projection in Kullback-Leibler divergence, p_j = min(cap_j, c w_j). Where no domain with a share has room
    left, the rest goes to the others in proportion to their room. A mixture within the bounds stays as it is.
    """
    check_caps(caps)
    wanted = np.atleast_2d(np.asarray(mixtures, dtype=np.float64))
    result, full = wanted.copy(), np.zeros(wanted.shape, dtype=bool)
    for _ in range(wanted.shape[1]):
        over = (result > caps) & ~full
        if not over.any():
            break
        full |= over
        left = 1 - np.where(full, caps, 0.0).sum(axis=1, keepdims=True)
        shares, room = np.where(full, 0.0, wanted), np.where(full, 0.0, caps)
        basis = np.where(shares.sum(axis=1, keepdims=True) > EMPTY, shares, room)
        whole = basis.sum(axis=1, keepdims=True)
        filled = basis * np.divide(left, whole, out=np.zeros_like(whole), where=whole > 0)
        # Rows that were within their bounds are left alone, to the last digit.
        result = np.where(full.any(axis=1, keepdims=True), np.where(full, caps, filled), result)
    return result.reshape(np.shape(mixtures))


def is_within(shares: Array, caps: Array) -> bool:
    return bool(np.all(shares <= caps * (1 + 1e-9) + EMPTY))


def rounded(shares: Array, caps: Array | None = None) -> Array:
    """Shares with six digits that sum to 1; none is rounded above its bound, and the largest with room takes the residual."""
    parts = 10**DIGITS
    limits = np.full(len(shares), float(parts)) if caps is None else np.floor(caps * parts + 1e-6)
    units = np.minimum(np.rint(shares * parts), limits)
    residual = parts - units.sum()
    fits = (units + residual <= limits) & (units + residual >= 0) & (shares > 0)
    if not fits.any():  # caps so tight that no domain alone takes it: as near as a double comes
        return under_caps(shares / shares.sum(), caps) if caps is not None else shares / shares.sum()
    units[int(np.argmax(np.where(fits, units, -1.0)))] += residual
    return np.asarray(units / parts, dtype=np.float64)


def rounded_within(shares: Array, caps: Array) -> Array:
    """The same, where a mixture that is beyond its bounds may stay so: one within them is not rounded out of them."""
    return rounded(shares, caps if is_within(shares, caps) else None)


def named(names: Sequence[str], shares: Array) -> dict[str, float]:
    return {name: float(share) for name, share in zip(names, shares, strict=True)}


def vector(names: Sequence[str], weights: Mapping[str, float]) -> Array:
    """The shares in the order of `names`; a domain that is not named has none."""
    return np.array([weights.get(name, 0.0) for name in names], dtype=np.float64)


def moved(shares: Array, domain: int, step: float) -> Array:
    """`step` of the tokens moved to one domain, taken from all in proportion to their shares."""
    result = (1 - step) * shares
    result[domain] += step
    return np.asarray(result, dtype=np.float64)


def without(shares: Array, domain: int) -> Array:
    """One domain left out, its tokens refilled from the others in proportion to their shares."""
    rest = shares.copy()
    rest[domain] = 0.0
    if rest.sum() <= 0:
        raise FactoryError("search: the only domain of a mixture cannot be left out; take a base with others.")
    return np.asarray(rest / rest.sum(), dtype=np.float64)
