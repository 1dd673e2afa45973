"""What an online method measures on the running model: losses, short runs, gradients; and the gradient of a step.

Measuring changes no weight and moves no cursor of the training. What is read for it is counted in `read`, by what for.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.mixing.dga import DgaSettings
from factory.mixing.simplex import Vector
from factory.training.domains import DomainStreams, Turns
from factory.training.loader import TokenStream
from factory.training.loop import clip, make_optimizer
from factory.training.scales import Scale


class OnlineRun:
    """The running model and what can be measured on it (see `online_methods.Run`); measuring changes no weight."""

    def __init__(
        self,
        *,
        model: Any,
        optimizer: Any,
        scale: Scale,
        streams: DomainStreams,
        steps: int,
        seed: int,
        device: str,
        precision: str,
        reference: Any,
        target: TokenStream | None,
        domain_target: Mapping[str, float] | None,
    ) -> None:
        self.model, self.optimizer, self.scale, self.streams = model, optimizer, scale, streams
        self.steps, self.seed, self.device, self.precision = steps, seed, device, precision
        self.reference, self.target, self.domain_target = reference, target, domain_target
        self.names = streams.names
        self.micro = scale.batch
        self.read: dict[str, int] = {}

    def held_out_losses(self) -> Vector:
        losses = []
        for domain in range(len(self.names)):
            rows = self.streams.held_out(domain)
            self._account("evaluation", rows)
            losses.append(self._nats(rows) / (len(rows) * self.scale.context))
        return np.asarray(losses)

    def short_run(self, shares: Vector, steps: int) -> Vector:
        kept = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        optimizer = make_optimizer(self.model, self.scale)
        turns = Turns(len(self.names))
        try:
            for _ in range(steps):
                cursors = turns.given.copy()
                owners = turns.take(shares, self.scale.batch)
                rows = self.rows(owners, cursors)
                self._account("short_runs", rows)
                for group in optimizer.param_groups:
                    group["lr"] = self.scale.peak_lr
                self.backward(rows, owners, np.full(len(self.names), 1.0 / len(rows)), optimizer)
                self.clip()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            return self.held_out_losses()
        finally:
            self.model.load_state_dict(kept)

    def alignments(self, mixtures: npt.ArrayLike, settings: DgaSettings, number: int) -> Vector:
        parameters = self._gradients_of(settings.gradients)
        count = settings.batches * self.scale.batch
        towards = self._target_gradient(parameters, count, number)
        products = []
        for shares in np.asarray(mixtures, dtype=np.float64):
            turns = Turns(len(self.names)).take(shares, count)
            counts = np.bincount(turns, minlength=len(self.names)).tolist()
            rows = [self.streams.probe(d, number * own, own) for d, own in enumerate(counts) if own]
            products.append(_inner(self._gradient(np.concatenate(rows), parameters), towards))
        return np.asarray(products)

    def token_losses(self, rows: npt.NDArray[np.int64]) -> tuple[Vector, Vector]:
        self._account("losses", rows)
        own = self._token_nats(self.model, rows)
        if self.reference is None:
            return own, np.zeros_like(own)
        self._account("reference", rows)
        return own, self._token_nats(self.reference, rows)

    def rows(self, owners: npt.NDArray[np.int64], cursors: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sequences of one step: each domain's next ones, in the order of the turns."""
        rows = np.empty((len(owners), self.scale.context + 1), dtype=np.int64)
        for domain in np.unique(owners).tolist():
            own = owners == domain
            rows[own] = self.streams.read(domain, int(cursors[domain]), int(own.sum()))
        return rows

    def backward(
        self, rows: npt.NDArray[np.int64], owners: npt.NDArray[np.int64], weights: Vector, optimizer: Any
    ) -> npt.NDArray[np.float64]:
        """Accumulate the gradient of Σ weight(domain) · loss per token over the sequences; returns each domain's nats.

        A domain is a forward pass of its own, `micro` sequences at a time, which is halved where memory is short.
        """
        import torch

        while True:
            nats = np.zeros(len(self.names))
            try:
                for domain in np.unique(owners).tolist():
                    for part in torch.from_numpy(rows[owners == domain]).split(self.micro):
                        summed, objective = self._losses(part)
                        (objective * (float(weights[domain]) / self.scale.context)).backward()
                        nats[domain] += float(summed)
                return nats
            except torch.OutOfMemoryError as error:
                optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                if self.micro == 1:
                    raise FactoryError(
                        f"proxy: one sequence of scale {self.scale.name} does not fit this device: {error}"
                    ) from error
                self.micro = max(1, self.micro // 2)

    def clip(self) -> float:
        return clip(list(self.model.parameters()), self.scale.clip)

    def _losses(self, rows: Any) -> tuple[Any, Any]:
        ids = rows.to(self.device)
        with self._precision():
            summed, objective = self.model(ids[:, :-1], ids[:, 1:], z_loss=self.scale.z_loss)
        return summed.detach(), objective

    def _nats(self, rows: npt.NDArray[np.int64]) -> float:
        import torch

        with torch.no_grad():
            return math.fsum(float(self._losses(part)[0]) for part in torch.from_numpy(rows).split(self.micro))

    def _token_nats(self, model: Any, rows: npt.NDArray[np.int64]) -> Vector:
        import torch

        losses = []
        with torch.no_grad(), self._precision():
            for part in torch.from_numpy(rows).split(self.micro):
                ids = part.to(self.device)
                logits = model(ids[:, :-1]).float()
                nats = logits.logsumexp(-1) - logits.gather(2, ids[:, 1:, None]).squeeze(2)
                losses.append(nats.flatten().double().cpu().numpy())
        return np.concatenate(losses)

    def _gradients_of(self, what: str) -> list[Any]:
        """The parameters whose gradients are compared: all, or those of the last block, the last norm and an untied head."""
        named = list(self.model.named_parameters())
        if what == "full":
            return [parameter for _, parameter in named]
        last = f"model.layers.{self.model.config.num_hidden_layers - 1}."
        kept = [parameter for name, parameter in named if name.startswith((last, "model.norm.", "lm_head."))]
        if not kept:
            raise FactoryError(f"dga: gradients: last asked, and the model has no parameters named {last}*.")
        return kept

    def _target_gradient(self, parameters: list[Any], count: int, number: int) -> list[Any]:
        if self.target is not None:
            places = (np.arange(count) + number * count) % len(self.target)
            return self._gradient(self.target.sequences(places), parameters)
        assert self.domain_target is not None
        total: list[Any] | None = None
        for domain, name in enumerate(self.names):
            share = self.domain_target.get(name, 0.0)
            if share <= 0:
                continue
            scaled = [share * part for part in self._gradient(self.streams.held_out(domain), parameters)]
            total = scaled if total is None else [one + other for one, other in zip(total, scaled, strict=True)]
        assert total is not None
        return total

    def _gradient(self, rows: npt.NDArray[np.int64], parameters: list[Any]) -> list[Any]:
        """The gradient of the mean loss per token, without weight decay and without the z-loss."""
        import torch

        self._account("gradients", rows)
        total: list[Any] | None = None
        for part in torch.from_numpy(rows).split(self.micro):
            ids = part.to(self.device)
            with self._precision():
                _, nats = self.model(ids[:, :-1], ids[:, 1:], z_loss=0.0)
            own = torch.autograd.grad(nats / (len(rows) * self.scale.context), parameters)
            total = list(own) if total is None else [one + other for one, other in zip(total, own, strict=True)]
        assert total is not None
        return total

    @contextmanager
    def _precision(self) -> Iterator[None]:
        import torch

        kind = self.device.split(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            yield

    def _account(self, what: str, rows: npt.NDArray[np.int64]) -> None:
        self.read[what] = self.read.get(what, 0) + rows.shape[0] * (rows.shape[1] - 1)


def _inner(one: list[Any], other: list[Any]) -> float:
    return math.fsum(float((a.double() * b.double()).sum()) for a, b in zip(one, other, strict=True))
