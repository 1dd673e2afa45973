"""How the shares of an online run change: what each method measures on the running model, and when.

The numbers are those of `factory.mixing`; here they meet a `Run`, which measures. A method says what sequences to read next
(`sampling`), what mixture that stands for (`shares`) and how much each domain's loss weighs (`weights`), and changes that
before a step or once the step's sequences are known. Its state is plain numbers.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from factory.core.config import Config, config_problems
from factory.core.errors import FactoryError, suggest
from factory.mixing import aioli, dga, doremi, skill_it
from factory.mixing.simplex import Vector, uniform
from factory.training.seeds import seed_for

Rows = npt.NDArray[np.int64]


class FixedSettings(Config):
    """Shares that never change: the control of all others, and what a mixture found online is confirmed with."""

    held_out: int = Field(16, ge=1)


class Run(Protocol):
    """What a method may ask of the running model. Everything it reads is accounted for, and nothing of it is trained on."""

    names: tuple[str, ...]
    steps: int
    seed: int

    def held_out_losses(self) -> Vector:
        """Nats per token of every domain's held-out sequences."""

    def short_run(self, shares: Vector, steps: int) -> Vector:
        """Those losses after so many steps on these shares from where the model is; the model stays where it is."""

    def alignments(self, mixtures: Rows | Vector, settings: dga.DgaSettings, number: int) -> Vector:
        """⟨gradient on each mixture (a row of shares), gradient on the target⟩."""

    def token_losses(self, rows: Rows) -> tuple[Vector, Vector]:
        """Nats of every predicted token, row by row: of the model and of the reference."""


class Method:
    """Fixed shares; the other methods override what they do differently."""

    settings: Any

    def __init__(self, count: int, settings: Any, start: Vector) -> None:
        self.settings = settings
        self.count = count
        self.shares: Vector = start

    @property
    def sampling(self) -> Vector:
        """What the sequences of the next step are drawn by."""
        return self.shares

    @property
    def probing(self) -> bool:
        """Whether the next step belongs to a measurement and not to the mixture."""
        return False

    def begin(self, run: Run) -> None:
        """Before the first step of a run that starts anew."""

    def before(self, run: Run, step: int) -> Mapping[str, Any] | None:
        """Before a step; returns what was measured where shares changed."""
        return None

    def weights(self, run: Run, rows: Rows, owners: Rows) -> Vector:
        """How much a sequence of each domain counts in the loss of this step."""
        return np.full(self.count, 1.0 / len(rows))

    def to_json(self) -> dict[str, Any]:
        return {"shares": self.shares.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.shares = np.asarray(state["shares"], dtype=np.float64)


class SkillIt(Method):
    """Rounds of equal length; the losses after each give the shares of the next."""

    settings: skill_it.SkillItSettings

    def __init__(self, count: int, settings: skill_it.SkillItSettings, start: Vector) -> None:
        super().__init__(count, settings, start)
        self.graph = np.eye(count)
        self.first: list[float] = []
        self.losses: list[list[float]] = []

    def begin(self, run: Run) -> None:
        self.first = run.held_out_losses().tolist()
        self.graph = self._estimate(run)
        self.shares = skill_it.shares(self.graph, [], self.settings)

    def before(self, run: Run, step: int) -> Mapping[str, Any] | None:
        every = max(1, run.steps // self.settings.rounds)
        if step == 0:
            return {"held_out": self.first, "graph": self.graph.tolist()}
        if step % every or step // every >= self.settings.rounds:
            return None
        self.losses.append(run.held_out_losses().tolist())
        self.shares = skill_it.shares(self.graph, self.losses, self.settings, self.first)
        return {"held_out": self.losses[-1]}

    def _estimate(self, run: Run) -> npt.NDArray[np.float64]:
        given = self.settings.graph
        if not isinstance(given, str):
            graph = np.asarray(given, dtype=np.float64)
            if graph.shape != (self.count, self.count):
                raise FactoryError(f"skill-it: a graph of {self.count} x {self.count} is needed, not {graph.shape}.")
            return graph
        if given == "identity":
            return np.eye(self.count)
        single = np.eye(self.count)
        alone = np.stack([run.short_run(single[own], self.settings.graph_steps) for own in range(self.count)])
        if given == "alone":
            return skill_it.graph_from_alone(self.first, alone)
        paired = np.zeros((self.count, self.count))
        for one in range(self.count):
            for other in range(one):
                after = run.short_run((single[one] + single[other]) / 2, self.settings.graph_steps)
                paired[one, other], paired[other, one] = after[other], after[one]
        return skill_it.graph_from_pairs(np.diagonal(alone), paired, binary=self.settings.binary)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "graph": self.graph.tolist(), "first": self.first, "losses": self.losses}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.graph = np.asarray(state["graph"], dtype=np.float64)
        self.first, self.losses = list(state["first"]), list(state["losses"])


class DoReMi(Method):
    """Sequences of all domains alike, losses weighed: the shares are the weights, moved once a step by the whole batch."""

    settings: doremi.DoReMiSettings

    def __init__(self, count: int, settings: doremi.DoReMiSettings, start: Vector) -> None:
        super().__init__(count, settings, uniform(count))
        self.dro = doremi.GroupDro(count, settings)

    @property
    def sampling(self) -> Vector:
        return uniform(self.count)

    def weights(self, run: Run, rows: Rows, owners: Rows) -> Vector:
        own, reference = run.token_losses(rows)
        if not self.settings.reference:
            reference = np.zeros_like(own)
        self.shares = self.dro.update(own, reference, np.repeat(owners, rows.shape[1] - 1))
        counts = np.bincount(owners, minlength=self.count)
        return self.shares / np.maximum(counts, 1)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "dro": self.dro.to_json()}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.dro.restore(state["dro"])


class Dga(Method):
    """Every so many steps the gradient on each domain is compared with that on the target."""

    settings: dga.DgaSettings

    def __init__(self, count: int, settings: dga.DgaSettings, start: Vector) -> None:
        super().__init__(count, settings, start)
        self.alignment = dga.Alignment(count, settings, None if settings.basis is not None else start)
        self.shares = self.alignment.shares

    def before(self, run: Run, step: int) -> Mapping[str, Any] | None:
        if step % self.settings.every:
            return None
        mixtures = np.eye(self.count) if self.alignment.basis is None else self.alignment.basis
        products = run.alignments(mixtures, self.settings, step // self.settings.every)
        self.shares = self.alignment.update(products)
        return {"alignments": products.tolist(), "eta": self.alignment.eta}

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "alignment": self.alignment.to_json()}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.alignment.restore(state["alignment"])


class Aioli(Method):
    """Rounds that begin with short probes, which are training too; then the round's shares."""

    settings: aioli.AioliSettings

    def __init__(self, count: int, settings: aioli.AioliSettings, start: Vector) -> None:
        super().__init__(count, settings, start)
        taken = aioli.probe_share(count, settings)
        if taken > 1:
            raise FactoryError(
                f"aioli: the probes of a round are {round(taken * settings.every)} steps ({count} domains, {settings.sweeps} "
                f"sweeps of {settings.probe_steps} steps) and a round has {settings.every}. Lengthen the rounds, or lower "
                "sweeps or probe_steps."
            )
        self.probes = aioli.Probes(count, settings)
        self.losses: Vector = np.zeros(count)
        self.probed: int | None = None  # the domain the next step is a probe of

    @property
    def sampling(self) -> Vector:
        return self.shares if self.probed is None else np.asarray(self.probes.mixtures[self.probed])

    @property
    def probing(self) -> bool:
        return self.probed is not None

    def before(self, run: Run, step: int) -> Mapping[str, Any] | None:
        length, probes = self.settings.probe_steps, self.count * self.settings.sweeps
        number, place = divmod(step, self.settings.every)
        if number * self.settings.every + probes * length >= run.steps:
            return None  # a round that ends with its probes teaches nothing
        if place == 0:
            self.probes = aioli.Probes(self.count, self.settings)
            self.losses = run.held_out_losses()
            self.probed = self._turn(run, number, 0)
            return None
        probe, within = divmod(place, length)
        if within or probe > probes or self.probed is None:
            return None
        after = run.held_out_losses()
        self.probes.add(self.probed, self.losses, after)
        self.losses = after
        if probe < probes:
            self.probed = self._turn(run, number, probe)
            return None
        self.probed = None
        self.shares = self.probes.next_shares(self.shares)
        return {"held_out": after.tolist(), "law": self.probes.law.tolist()}

    def _turn(self, run: Run, number: int, probe: int) -> int:
        """Each sweep visits the domains in an order of its own: the model drifts while it is probed."""
        sweep, place = divmod(probe, self.count)
        order = np.random.default_rng(seed_for(run.seed, f"sweep {sweep} of round {number}")).permutation(self.count)
        return int(order[place])

    def to_json(self) -> dict[str, Any]:
        own = {"drops": self.probes.drops.tolist(), "losses": self.losses.tolist(), "probed": self.probed}
        return {**super().to_json(), **own}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.probes.drops = np.asarray(state["drops"], dtype=np.float64)
        self.losses, self.probed = np.asarray(state["losses"], dtype=np.float64), state["probed"]


METHODS: dict[str, tuple[type[Method], type[Config]]] = {
    "fixed": (Method, FixedSettings),
    "skill_it": (SkillIt, skill_it.SkillItSettings),
    "doremi": (DoReMi, doremi.DoReMiSettings),
    "dga": (Dga, dga.DgaSettings),
    "aioli": (Aioli, aioli.AioliSettings),
}


def make_settings(method: str, settings: Mapping[str, Any]) -> Config:
    """The checked settings of a method; raises FactoryError with everything that is wrong with them."""
    if method not in METHODS:
        raise FactoryError(f"No online method is named '{method}'.{suggest(method, METHODS)}")
    config = METHODS[method][1]
    try:
        return config(**settings)
    except ValidationError as error:
        raise FactoryError("\n".join(config_problems(method, error, config))) from error
