"""The training loop: from a position in the data order to the end of the schedule, one global batch per step.

Everything a later step depends on is the model, the optimizer, the average and `Progress`; the batch, the rate and the
order follow from the step number. The loss is the mean over the counted targets of the global batch, whichever process or
part of a batch they are in. On a CPU the arithmetic is deterministic; in bfloat16, matrices are multiplied in bf16 over
float32 weights, sums, norms and the loss.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xxhash

from factory.core.errors import FactoryError
from factory.training.averaging import Average
from factory.training.distributed import local, world
from factory.training.guard import Guard
from factory.training.order import Batch, Order
from factory.training.scales import Scale
from factory.training.schedule import learning_rate

Report = Callable[[dict[str, Any]], None]

DIGEST = 16  # bytes of a sequence's


@dataclass
class Progress:
    """Where a run stands. `consumed` chains the digests of all sequences, those of a step in ascending order: what was read,
    not what should have been, and by however many processes."""

    step: int = 0
    seconds: float = 0.0
    consumed: str = ""
    targets: int = 0  # predictions that counted
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
    order: Order,
    scale: Scale,
    progress: Progress,
    *,
    device: str,
    precision: str = "float32",
    micro_batch: int | None = None,
    average: Average | None = None,
    save: Callable[[Progress], None] = lambda progress: None,
    save_every: int | None = None,
    keep: Callable[[int], None] = lambda step: None,
    report: Report | None = None,
) -> str | None:
    """Run to the last step of the order; returns why the run is invalid, or None. `progress` is moved along.

    `keep` is called with the number of steps done after every one; it keeps models of the way, where they are asked for.
    """
    steps, rank_and_world = order.steps, world()
    parameters = list(model.parameters())
    tokens = order.tokens // steps
    rows = int(model.shape.rows)
    micro = micro_batch
    model.train()
    while progress.step < steps:
        begun = time.perf_counter()
        step = progress.step
        batch = order.batch(step, rank=rank_and_world[0], world=rank_and_world[1])
        if batch.ids.size and int(batch.ids.max()) >= rows:
            raise FactoryError(
                f"proxy: token {int(batch.ids.max()):,} at step {step}, and the model has {rows:,} embeddings. "
                "Write the tokens again with this tokenizer."
            )
        rate = learning_rate(scale, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        share = _share(batch, device)
        loss, micro = _backward(model, optimizer, batch, share, scale, micro=micro, device=device, precision=precision)
        gradient = clip(parameters, scale.clip)
        problem = progress.guard.problem(step, loss, gradient)
        if problem is not None:
            return problem
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.consumed = xxhash.xxh3_128_hexdigest(progress.consumed.encode() + share.digests)
        progress.targets += share.counted
        progress.curve.append([progress.step, progress.step * tokens, loss])
        if average is not None:
            average.after(progress.step)
        seconds = time.perf_counter() - begun
        progress.seconds += seconds
        keep(progress.step)
        if save_every and progress.step % save_every == 0 and progress.step < steps:
            save(progress)
        if report is not None:
            report(
                {
                    "event": "step",
                    "step": progress.step,
                    "steps": steps,
                    "tokens": progress.step * tokens,
                    "loss": loss,
                    "lr": rate,
                    "gradient_norm": gradient,
                    "tokens_per_s": tokens / seconds,
                }
            )
    return None


@contextmanager
def reproducible(device: str, threads: int, seed: int) -> Iterator[None]:
    """Deterministic algorithms on a CPU, a fixed number of threads and a generator of the run's own, put back afterwards.

    Sums are split by thread, so another number of threads gives other last bits. On CUDA cuBLAS would need a setting of the
    process environment, which is not ours to change: equal to about 1e-6 there, not to the bit.
    """
    import torch

    # Not use_deterministic_algorithms, which is the same and imports the compiler: seconds in every process.
    threads_before, deterministic_before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fill_before = torch.utils.deterministic.fill_uninitialized_memory
    state_before = torch.get_rng_state()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error" if device == "cpu" else "default")
    # It would write NaN into every new tensor, which costs a pass over memory and finds only what reads before it writes.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.default_generator.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_deterministic_debug_mode(deterministic_before)
        torch.utils.deterministic.fill_uninitialized_memory = fill_before
        torch.set_rng_state(state_before)


def clip(parameters: list[Any], most: float) -> float:
    """Scale all gradients so that their common norm is at most this; returns the norm before, that of all shards."""
    import torch

    gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if world()[1] > 1:
        square = norm.square()
        torch.distributed.all_reduce(square)
        norm = square.sqrt()
    value = float(norm)
    if value > most:
        torch._foreach_mul_(gradients, most / (value + 1e-6))
    return value


@dataclass(frozen=True)
class _Share:
    """What the processes of a step tell each other: counted targets, the most sequences one has, all sequences' digests."""

    counted: int
    rows: int
    digests: bytes


def _share(batch: Batch, device: str) -> _Share:
    counted = batch.ids[:, 1:].size if batch.targets is None else int(batch.targets.sum())
    digests = _digests(batch)
    ranks = world()[1]
    if ranks > 1:
        import torch

        def gather(values: Any) -> Any:
            mine = torch.from_numpy(np.ascontiguousarray(values)).to(device)
            everyone = [torch.empty_like(mine) for _ in range(ranks)]
            torch.distributed.all_gather(everyone, mine)
            return torch.stack(everyone).cpu().numpy()

        sizes = gather(np.array([counted, len(batch.ids)]))
        padded = np.zeros((int(sizes[:, 1].max()), DIGEST), np.uint8)
        padded[: len(digests)] = digests
        everyone = gather(padded)
        digests = np.concatenate([own[:count] for own, count in zip(everyone, sizes[:, 1], strict=True)])
        counted, rows = int(sizes[:, 0].sum()), len(padded)
    else:
        rows = len(batch.ids)
    if not counted:
        raise FactoryError(
            "proxy: a step has no target that counts. Pack the documents otherwise, or mask less of them."
        )
    return _Share(counted, rows, b"".join(sorted(row.tobytes() for row in digests)))


def _digests(batch: Batch) -> Any:
    """One digest for each sequence, masks included."""
    masks = [mask for mask in (batch.targets, batch.documents) if mask is not None]
    rows = [b"".join(part[row].tobytes() for part in (batch.ids, *masks)) for row in range(len(batch.ids))]
    return np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, rows)), np.uint8).reshape(-1, DIGEST)


def _backward(
    model: Any,
    optimizer: Any,
    batch: Batch,
    share: _Share,
    scale: Scale,
    *,
    micro: int | None,
    device: str,
    precision: str,
) -> tuple[float, int]:
    """Accumulate the gradient of one global batch, `micro` sequences at a time; halves `micro` when memory is short.

    Processes make the same number of parts, since each part is gathered and summed by all: one that has no more sequences
    computes a part of padding that counts for nothing.
    """
    import torch

    micro = min(micro or share.rows, share.rows)
    while True:
        try:
            total = torch.zeros((), device=device)
            for begin in range(0, share.rows, micro):
                nats, objective = _loss(model, batch, begin, micro, scale, device, precision)
                # Divided by the whole batch: accumulating must not weigh short parts more.
                (objective / share.counted).backward()
                total += nats
            if world()[1] > 1:
                torch.distributed.all_reduce(total)
            return float(total) / share.counted, micro
        except torch.OutOfMemoryError as error:
            if micro == 1 or world()[1] > 1:
                # Alone a process cannot take smaller parts: the others would wait for it.
                raise FactoryError(
                    f"proxy: {micro} sequences of scale {scale.name} do not fit this device: {error} "
                    "Use more processes, or recompute; with several processes set micro_batch."
                ) from error
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            micro = max(1, micro // 2)


def _loss(
    model: Any, batch: Batch, begin: int, count: int, scale: Scale, device: str, precision: str
) -> tuple[Any, Any]:
    """Summed nats of the counted targets of some sequences, and the objective: those plus the z-loss (2204.02311)."""
    import torch

    part = slice(begin, begin + count)
    ids = batch.ids[part]
    targets = None if batch.targets is None else batch.targets[part]
    documents = None if batch.documents is None else batch.documents[part]
    if not len(ids):
        ids, documents = np.zeros((1, batch.ids.shape[1]), np.int64), None
        targets = np.zeros((1, batch.ids.shape[1] - 1), np.bool_)
    rows = _on(ids, device)
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        nats, objective = model(
            rows[:, :-1],
            rows[:, 1:],
            counted=None if targets is None else _on(targets, device),
            documents=None if documents is None else _on(documents, device),
            z_loss=scale.z_loss,
        )
    return nats.detach(), objective


def _on(values: Any, device: str) -> Any:
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor
