"""Training one proxy: a data order, a scale and a seed in; a model in Hugging Face layout and a record out.

`out_dir` is the run's own: `checkpoints/` while it runs and `kept/` for models of the way, where they are asked for, then
`model/` and, last, `record.json`. Called again it goes on
from its last whole checkpoint, or returns the record. What the record says apart from `MEASURED` follows from the
arguments alone (to the bit on a CPU with the same number of threads and processes). In a run of several processes each
calls this with the same arguments; rank 0 writes.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from factory.core.errors import FactoryError
from factory.storage.tokens import TokenFile
from factory.training.averaging import Average, average_steps
from factory.training.checkpoint import (
    check_whole,
    find_checkpoint,
    model_weights,
    read_state,
    restore,
    save_checkpoint,
    save_model,
    save_weights,
)
from factory.training.distributed import shard, world
from factory.training.flops import CONVENTION, exact_flops, measured, simple_flops
from factory.training.loop import Progress, Report, make_optimizer, reproducible, train
from factory.training.machine import Machine, Precision
from factory.training.model import (
    build_model,
    check_vocabulary,
    digest_weights,
    model_config,
    read_config,
    read_model,
    scale_of,
)
from factory.training.order import Order
from factory.training.records import check_same_run, finished_record, kept_steps, step_name, write_json
from factory.training.scales import Scale
from factory.training.schedule import annealed_steps, check_steps, learning_rate
from factory.training.tokenizer import Encoder

MEASURED = (
    "seconds",
    "tokens_per_s",
    "flops_per_s",
    "mfu",
    "peak_flops",
    "device_name",
    "devices",
    "device_hours",
    "usd_per_hour",
    "dollars",
    "device",
    "threads",
    "processes",
    "torch",
)
FINAL_SHARE = 0.1
KEPT = "kept"  # the folder of the models that a run keeps of its way
PRECISIONS = ("float32", "bfloat16")


def train_proxy(
    *,
    order: Order,
    tokenizer_path: str | Path,
    scale: Scale,
    seed: int,
    out_dir: str | Path,
    bos: bool = False,
    eos: bool = True,
    init: str | Path | None = None,
    average: int = 1,
    checkpoints: int = 1,
    precision: Precision = "float32",
    machine: Machine | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and return the record; `valid` is false, with a `reason`, where the loss broke down.

    `init` is a checkpoint in Hugging Face layout whose weights, and shape, the run starts from (moments are fresh);
    `average` the number of snapshots whose average is the model; of `checkpoints` evenly spaced models, all but the last
    lie in `kept/`.
    """
    out, machine = Path(out_dir), machine or Machine()
    out.mkdir(parents=True, exist_ok=True)
    encoder = Encoder(tokenizer_path, bos=bos, eos=eos)
    if init is not None:
        check_whole(Path(init))
        check_vocabulary(init, encoder.path, encoder.vocabulary)
        scale = scale_of(read_config(init), scale)
    check_steps(scale, order.steps, order.tokens)
    snapshots = _snapshots(scale, order.steps, average)
    on_the_way = _kept(order.steps, checkpoints, average)
    if precision not in PRECISIONS:
        raise FactoryError(f"proxy: precision '{precision}' is not one of {', '.join(PRECISIONS)}.")
    device = choose_device(machine.device)
    with reproducible(device, machine.threads, seed):
        start = None if init is None else read_model(init)
        spec = {
            "order_digest": order.digest,
            "contract": encoder.contract(),
            "scale": asdict(scale),
            "seed": seed,
            "init": None if start is None else digest_weights(model_weights(start)),
            "average": average,
            "precision": precision,
            **({"checkpoints": checkpoints} if checkpoints > 1 else {}),
        }
        finished = finished_record(out, spec)
        if finished is not None:
            return finished
        model = start or _new_model(scale, encoder, order, seed)
        _place(model, machine, device, precision)
        optimizer = make_optimizer(model, scale)
        mean = Average(model, decay=scale.ema, at=snapshots) if scale.ema or snapshots else None
        folders = [out / KEPT / step_name(step) for step in on_the_way]
        progress = _resume(out / "checkpoints", folders, spec, model, optimizer, mean, report)
        annealed = frozenset(annealed_steps(scale, order.steps)[:-1])

        def keep(step: int) -> None:
            if step in annealed:
                save_weights(_annealed(out, step), model)
            if step in on_the_way:
                save_model(out / KEPT / step_name(step), model, encoder, average=mean if scale.ema else None)

        reason = train(
            model,
            optimizer,
            order,
            scale,
            progress,
            device=device,
            precision=precision,
            micro_batch=machine.micro_batch,
            average=mean,
            save=lambda done: _save(out / "checkpoints", model, encoder, optimizer, mean, done, spec),
            save_every=machine.checkpoint_every,
            keep=keep,
            report=report,
        )
        record = {
            "status": "complete" if reason is None else "invalid",
            "valid": reason is None,
            "reason": reason,
            "seed": seed,
            **_results(progress, scale, encoder.vocabulary, order),
            "average": {"snapshots_after": snapshots, "ema": scale.ema},
            **({"kept_after": on_the_way} if on_the_way else {}),
            "optimizer": "fresh",  # moments never come from the model a run starts from
            "model_digest": None,
            "spec": spec,
            "device": device,
            "threads": machine.threads,
            "processes": world()[1],
            "torch": torch_release(),
            **_measured(progress, scale, encoder.vocabulary, order, machine, device),
        }
        if reason is None:
            if mean is not None:
                mean.put()
            record["model_digest"] = digest_weights(model_weights(model))
            save_model(out / "model", model, encoder, [_annealed(out, step) for step in sorted(annealed)])
    if world()[0] == 0:
        write_json(out / "record.json", record)
        for folder in ("checkpoints", "annealed"):
            shutil.rmtree(out / folder, ignore_errors=True)
    return record


def choose_device(asked: str) -> str:
    """`auto` is CUDA where there is one, else the CPU."""
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.split(":")[0] not in ("cpu", "cuda"):
        raise FactoryError(f"proxy: device '{asked}' is not one of auto, cpu, cuda, cuda:N.")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise FactoryError(
            f"proxy: device '{asked}' asked, and torch {torch.__version__} finds no CUDA. Use device auto or cpu."
        )
    return asked


def torch_release() -> str:
    """The library that computes a run: another release may give other last bits."""
    import torch

    return str(torch.__version__)


def check_tokens(file: TokenFile, encoder: Encoder) -> None:
    """Refuse tokens of another tokenizer before anything is trained on them."""
    biggest = (
        int(file.ids.max()) if 0 < file.tokens <= 1 << 24 else 0
    )  # those of large files are checked as they are read
    if biggest >= encoder.vocabulary or file.dtype != encoder.dtype:
        raise FactoryError(
            f"proxy: {file.prefix} ({file.dtype.name}, ids up to {biggest:,}) was not made by {encoder.path} "
            f"({encoder.dtype.name}, {encoder.vocabulary:,} entries). Write the tokens again with this tokenizer."
        )


def reproducible_part(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what was measured: what may enter a digest."""
    return {key: value for key, value in record.items() if key not in MEASURED}


def _snapshots(scale: Scale, steps: int, average: int) -> list[int]:
    if average < 1 or not 0 <= scale.ema < 1 or (average > 1 and scale.ema):
        raise FactoryError(
            f"proxy: average {average} with ema {scale.ema} cannot be: a number of snapshots, or a decay below 1, not both."
        )
    return average_steps(scale, steps, average) if average > 1 else []


def _new_model(scale: Scale, encoder: Encoder, order: Order, seed: int) -> Any:
    # A model's configuration names the tokens it has seen around documents and no others.
    config = model_config(
        scale,
        vocabulary=encoder.vocabulary,
        bos_id=encoder.bos_id if encoder.bos else None,
        eos_id=encoder.eos_id if encoder.eos else None,
    )
    return build_model(config, seed=seed)


def _place(model: Any, machine: Machine, device: str, precision: str) -> None:
    model.recompute = machine.recompute
    model.to(device)
    model.compiled = machine.compile
    if machine.compile:
        for block in model.model.layers:  # alike, so that they are compiled once
            block.compile()
    if world()[1] > 1:
        shard(model, device=device, precision=precision)


def _annealed(out: Path, step: int) -> Path:
    return out / "annealed" / f"annealed-{step:010d}.safetensors"


def _kept(steps: int, checkpoints: int, average: int) -> list[int]:
    """After which steps models of the way are kept."""
    if checkpoints > 1 and average > 1:
        raise FactoryError(
            f"proxy: checkpoints {checkpoints} with average {average}: the last model would be an average and those before it "
            "not, which no curve may join. Leave one out, or take overrides: {ema: 0.99}, which averages all of them."
        )
    return kept_steps(steps, checkpoints)[:-1]


def _resume(
    root: Path,
    kept: list[Path],
    spec: dict[str, Any],
    model: Any,
    optimizer: Any,
    average: Average | None,
    report: Report | None,
) -> Progress:
    path, problems = find_checkpoint(root, kept)
    if report is not None:
        for problem in problems:
            report({"event": "checkpoint_damaged", "problem": problem})
    if path is None:
        return Progress()
    state = read_state(path)
    check_same_run(root.parent, spec, state.pop("spec"))
    state.pop("averaged", None)
    restore(path, model, optimizer, average)
    if report is not None:
        report({"event": "resumed", "step": state["step"]})
    return Progress.from_json(state)


def _save(
    root: Path,
    model: Any,
    encoder: Encoder,
    optimizer: Any,
    average: Average | None,
    progress: Progress,
    spec: dict[str, Any],
) -> None:
    save_checkpoint(root, model, encoder, optimizer, {**progress.to_json(), "spec": spec}, average)


def _results(progress: Progress, scale: Scale, vocabulary: int, order: Order) -> dict[str, Any]:
    losses = [loss for _, _, loss in progress.curve]
    last = losses[-max(1, round(FINAL_SHARE * len(losses))) :]
    seen = progress.step * (order.tokens // order.steps)
    parameters = scale.parameters(vocabulary)
    return {
        "scale": scale.name,
        "steps": order.steps,
        "steps_done": progress.step,
        "tokens_seen": seen,
        "targets_counted": progress.targets,
        "loss": sum(last) / len(last) if last else None,
        "first_loss": losses[0] if losses else None,
        "loss_curve": progress.curve,
        "parameters": {"total": parameters.total, "non_embedding": parameters.non_embedding},
        "flops_6nd": simple_flops(scale, vocabulary, seen),
        "flops": exact_flops(scale, vocabulary, seen),
        "flops_convention": CONVENTION,
        "sum_lr": sum(learning_rate(scale, step, order.steps) for step in range(progress.step)),
        "consumption_digest": progress.consumed,
    }


def _measured(
    progress: Progress, scale: Scale, vocabulary: int, order: Order, machine: Machine, device: str
) -> dict[str, Any]:
    import platform

    import torch

    seen = progress.step * (order.tokens // order.steps)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return measured(
        exact_flops(scale, vocabulary, seen),
        seen,
        progress.seconds,
        device_name=name,
        devices=world()[1],
        usd_per_hour=machine.usd_per_hour,
        peak=machine.peak_flops,
    )
