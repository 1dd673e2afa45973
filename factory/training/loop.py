"""The training loop: from a position in the data order to the end of the schedule, one global batch per step.

Everything a later step depends on is the model, the optimizer and `Progress`; the batch, the rate and the order follow
from the step number. On a CPU the arithmetic is float32 and deterministic, on CUDA bf16 autocast over float32 weights.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import xxhash

from factory.core.errors import FactoryError
from factory.training.guard import Guard
from factory.training.loader import TokenStream
from factory.training.scales import Scale
from factory.training.schedule import learning_rate

Report = Callable[[dict[str, Any]], None]


@dataclass
class Progress:
    """Where a run stands. `consumed` chains the digests of all batches: what was read, not what should have been."""

    step: int = 0
    seconds: float = 0.0
    consumed: str = ""
    curve: list[list[float]] = field(default_factory=list)  # [step, tokens, loss in nats per token]
    guard: Guard = field(default_factory=Guard)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Progress":
        return cls(**{**state, "guard": Guard(**state["guard"])})


def make_optimizer(model: Any, scale: Scale) -> Any:
    """AdamW; weight decay on matrices only, neither on norms nor on embeddings."""
    import torch

    decayed: list[Any] = []
    others: list[Any] = []
    embedding = model.get_input_embeddings().weight
    for parameter in model.parameters():
        (decayed if parameter.ndim >= 2 and parameter is not embedding else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": scale.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=scale.peak_lr, betas=(scale.beta1, scale.beta2), eps=1e-8, fused=True)


def train(
    model: Any,
    optimizer: Any,
    stream: TokenStream,
    scale: Scale,
    progress: Progress,
    *,
    steps: int,
    device: str,
    save: Callable[[Progress], None],
    save_every: int | None = None,
    report: Report | None = None,
) -> str | None:
    """Run to the last step; returns why the run is invalid, or None. `progress` is moved along."""
    micro = scale.batch
    model.train()
    while progress.step < steps:
        begun = time.perf_counter()
        step = progress.step
        rows = stream.batch(step * scale.batch, scale.batch)
        rate = learning_rate(scale, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, micro = _backward(model, optimizer, rows, scale, micro=micro, device=device)
        gradient = _clip(model, scale.clip)
        problem = progress.guard.problem(step, loss, gradient)
        if problem is not None:
            return problem
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.consumed = xxhash.xxh3_128_hexdigest(progress.consumed.encode() + rows.tobytes())
        progress.curve.append([progress.step, progress.step * scale.step_tokens, loss])
        seconds = time.perf_counter() - begun
        progress.seconds += seconds
        if save_every and progress.step % save_every == 0 and progress.step < steps:
            save(progress)
        if report is not None:
            report(
                {
                    "event": "step",
                    "step": progress.step,
                    "steps": steps,
                    "tokens": progress.step * scale.step_tokens,
                    "loss": loss,
                    "lr": rate,
                    "gradient_norm": gradient,
                    "tokens_per_s": scale.step_tokens / seconds,
                }
            )
    return None


@contextmanager
def reproducible(device: str, threads: int) -> Iterator[None]:
    """Deterministic algorithms on a CPU and a fixed number of threads, put back afterwards.

    Sums are split by thread, so another number of threads gives other last bits. On CUDA cuBLAS would need a setting of the
    process environment, which is not ours to change: equal to about 1e-6 there, not to the bit.
    """
    import torch

    threads_before, deterministic_before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device == "cpu")
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before)


def _backward(model: Any, optimizer: Any, rows: Any, scale: Scale, *, micro: int, device: str) -> tuple[float, int]:
    """Accumulate the gradient of one global batch, `micro` sequences at a time; halves `micro` when memory is short."""
    import torch

    while True:
        try:
            total = torch.zeros((), device=device)
            for part in torch.from_numpy(rows).split(micro):
                nats, objective = _loss(model, part.to(device), scale, device)
                # Divided by the whole batch: accumulating must not weigh short parts more.
                (objective / (scale.batch * scale.context)).backward()
                total += nats.detach()
            return float(total) / (scale.batch * scale.context), micro
        except torch.OutOfMemoryError as error:
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            if micro == 1:
                raise FactoryError(
                    f"proxy: one sequence of scale {scale.name} does not fit this device: {error}"
                ) from error
            micro = max(1, micro // 2)


def _loss(model: Any, rows: Any, scale: Scale, device: str) -> tuple[Any, Any]:
    """Summed nats of the next token, and the objective: those plus the z-loss, coefficient · logsumexp² (2204.02311)."""
    import torch

    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.startswith("cuda")):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    logits = logits.flatten(0, 1).float()
    normaliser = torch.logsumexp(logits, dim=-1)
    nats = (normaliser - logits.gather(1, rows[:, 1:].reshape(-1, 1)).squeeze(1)).sum()
    return nats, nats + scale.z_loss * normaliser.square().sum()


def _clip(model: Any, most: float) -> float:
    import torch

    return float(torch.nn.utils.clip_grad_norm_(model.parameters(), most))
