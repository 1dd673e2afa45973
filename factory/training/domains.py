"""The pool as one stream for each domain, and the order in which sequences of the domains take turns.

Each domain has its own cursor over its sequences in a seeded order; when it has been read to its end, it begins again in
another. Some sequences of each are held out and never trained on. Whose turn it is follows from the shares asked so far and
from what was given: no random number, and never more than one sequence too many.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.storage.tokens import TokenFile
from factory.training.loader import TokenStream, permute
from factory.training.seeds import seed_for

Rows = npt.NDArray[np.int64]
HELD_OUT_SHARE = 0.2  # of a domain's sequences at most: small domains are held out less, not trained less


class DomainStreams:
    """Sequences of `context` + 1 tokens, by domain. `domains` holds a number for each document; below 0 is in none."""

    def __init__(
        self,
        file: TokenFile,
        domains: npt.ArrayLike,
        names: Sequence[str],
        *,
        context: int,
        seed: int,
        held_out: int,
    ) -> None:
        owners = np.asarray(domains, dtype=np.int64)
        if len(owners) != len(file):
            raise FactoryError(f"{len(owners):,} domain numbers for the {len(file):,} documents of {file.prefix}.")
        if len(owners) and int(owners.max()) >= len(names):
            raise FactoryError(f"domain number {int(owners.max())} and {len(names)} names.")
        self.names, self.seed, self.context = tuple(names), seed, context
        self._streams, self._held = [], []
        for number, name in enumerate(names):
            stream = TokenStream(
                file, (owners == number).astype(np.int64), context=context, seed=seed_for(seed, f"domain {name}")
            )
            least = 1 + bool(held_out)
            if len(stream) < least:
                raise FactoryError(
                    f"domain '{name}' has {stream.tokens:,} tokens, {len(stream)} sequences of {context}; at least {least} are "
                    "needed. Leave it out of the mixture, or merge it with another."
                )
            self._streams.append(stream)
            self._held.append(min(held_out, max(1, int(HELD_OUT_SHARE * len(stream)))) if held_out else 0)

    def __len__(self) -> int:
        return len(self._streams)

    def trained_on(self, domain: int) -> int:
        """How many sequences a domain has for training: an epoch."""
        return len(self._streams[domain]) - self._held[domain]

    def tokens(self, domain: int) -> int:
        return self._streams[domain].tokens

    def read(self, domain: int, first: int, count: int) -> Rows:
        """`count` sequences of a domain from its cursor `first` on; the order is another in each epoch."""
        return self._read(domain, first, count, "epoch")

    def probe(self, domain: int, first: int, count: int) -> Rows:
        """Training sequences in an order of their own, for gradients: no cursor of the training moves."""
        return self._read(domain, first, count, "probe")

    def held_out(self, domain: int) -> Rows:
        stream = self._streams[domain]
        return stream.sequences(np.arange(self.trained_on(domain), len(stream)))

    def _read(self, domain: int, first: int, count: int, what: str) -> Rows:
        size = self.trained_on(domain)
        places = np.arange(first, first + count)
        order = np.empty(count, dtype=np.int64)
        for epoch in np.unique(places // size).tolist():
            own = places // size == epoch
            order[own] = permute(places[own] % size, size, seed_for(self.seed, f"{what} {epoch} of {domain}"))
        return self._streams[domain].sequences(order)


class Turns:
    """Whose turn it is, one sequence at a time (the chairman assignment of Tijdeman 1980).

    While shares stand still, what each domain was given is always within one sequence of what was asked for it. When they
    change, what is owed is carried on; even then no domain is ever given a whole sequence too many.
    """

    def __init__(self, count: int) -> None:
        self.asked = np.zeros(count)
        self.given = np.zeros(count, dtype=np.int64)

    def take(self, shares: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
        """The domains of the next `count` sequences."""
        weights = np.asarray(shares, dtype=np.float64)
        if (
            weights.shape != self.asked.shape
            or not np.isfinite(weights).all()
            or abs(float(weights.sum()) - 1.0) > 1e-6
        ):
            raise FactoryError(f"{len(self.asked)} shares that sum to 1 are needed; got {weights.tolist()}.")
        slack = 1.0 / max(1, 2 * len(weights) - 2)
        turns = np.empty(count, dtype=np.int64)
        for place in range(count):
            self.asked += weights
            owed = self.asked - self.given
            late = 1.0 - slack - owed
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                deadline = np.where(weights > 0, late / weights, np.where(late > 0, np.inf, 0.0))
            deadline[owed < slack - 1e-9] = np.inf
            # Where only domains without a share are owed anything, deadlines tell nothing.
            turn = int(deadline.argmin()) if np.isfinite(deadline).any() else int(owed.argmax())
            self.given[turn] += 1
            turns[place] = turn
        return turns

    def to_json(self) -> dict[str, Any]:
        return {"asked": self.asked.tolist(), "given": self.given.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        self.asked = np.asarray(state["asked"], dtype=np.float64)
        self.given = np.asarray(state["given"], dtype=np.int64)
