"""Training one proxy: token file, scale and seed in; a model in Hugging Face layout and a record out.

`out_dir` is the run's own: `checkpoints/` while it runs, then `model/` and, last, `record.json`. Called again it goes on
from its last whole checkpoint, or returns the record. What the record says apart from `MEASURED` follows from the
arguments alone (to the bit on a CPU with the same number of threads).
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.core.errors import FactoryError
from factory.core.fingerprint import digest_bytes
from factory.storage.tokens import TokenFile
from factory.training.checkpoint import find_checkpoint, read_state, restore, save_checkpoint, save_model
from factory.training.flops import exact_flops, simple_flops
from factory.training.loader import TokenStream
from factory.training.loop import Progress, Report, make_optimizer, reproducible, train
from factory.training.model import build_model, model_config, weights_digest
from factory.training.scales import Scale
from factory.training.schedule import check_steps, learning_rate
from factory.training.tokenizer import Encoder

MEASURED = ("seconds", "tokens_per_s", "device", "threads")
FINAL_SHARE = 0.1


def train_proxy(
    *,
    tokens: str | Path,
    repeats: npt.ArrayLike | None,
    tokenizer_path: str | Path,
    scale: Scale,
    seed: int,
    total_tokens: int,
    out_dir: str | Path,
    device: str = "auto",
    threads: int = 1,
    checkpoint_every: int | None = None,
    bos: bool = False,
    eos: bool = True,
    report: Report | None = None,
    hashes: npt.NDArray[np.uint64] | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and return the record; `valid` is false, with a `reason`, where the loss broke down.

    With `hashes`, one of each document, copies are read in the order of theirs (see `TokenStream`).
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    encoder = Encoder(tokenizer_path, bos=bos, eos=eos)
    file = TokenFile(tokens)
    stream = TokenStream(file, repeats, context=scale.context, seed=seed, hashes=hashes)
    steps = _steps(stream, scale, total_tokens, encoder)
    spec = _spec(file, repeats, encoder, scale, seed=seed, total_tokens=total_tokens)
    if hashes is not None:
        spec["order_digest"] = digest_bytes(hashes.astype("<u8").tobytes())
    finished = _finished(out, spec)
    if finished is not None:
        return finished

    device = choose_device(device)
    with reproducible(device, threads):
        # A model's configuration names the tokens it has seen around documents and no others.
        config = model_config(
            scale,
            vocabulary=encoder.vocabulary,
            bos_id=encoder.bos_id if encoder.bos else None,
            eos_id=encoder.eos_id if encoder.eos else None,
        )
        model = build_model(config, seed=seed).to(device)
        optimizer = make_optimizer(model, scale)
        progress = _resume(out / "checkpoints", spec, model, optimizer, report)
        reason = train(
            model,
            optimizer,
            stream,
            scale,
            progress,
            steps=steps,
            device=device,
            save=lambda done: _save(out / "checkpoints", model, encoder, optimizer, done, spec),
            save_every=checkpoint_every,
            report=report,
        )
        record = {
            "status": "complete" if reason is None else "invalid",
            "valid": reason is None,
            "reason": reason,
            "seed": seed,
            **_results(progress, scale, encoder.vocabulary, steps),
            "model_digest": weights_digest(model) if reason is None else None,
            "spec": spec,
            "device": device,
            "threads": threads,
        }
        if reason is None:
            save_model(out / "model", model, encoder)
    _write_json(out / "record.json", record)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
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


def reproducible_part(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what was measured: what may enter a digest."""
    return {key: value for key, value in record.items() if key not in MEASURED}


def _steps(stream: TokenStream, scale: Scale, total_tokens: int, encoder: Encoder) -> int:
    steps = total_tokens // scale.step_tokens
    check_steps(scale, steps, total_tokens)
    if steps * scale.batch > len(stream):
        raise FactoryError(
            f"proxy: {total_tokens:,} tokens asked, and the mixture gives {stream.tokens:,} in {len(stream):,} sequences of "
            f"{scale.context} ({steps * scale.batch:,} needed). Lower the proxy's tokens, or raise the mixture's."
        )
    biggest = int(stream.file.ids.max()) if stream.file.tokens <= 1 << 24 else 0  # large files are checked when written
    if biggest >= encoder.vocabulary or stream.file.dtype != encoder.dtype:
        raise FactoryError(
            f"proxy: {stream.file.prefix} ({stream.file.dtype.name}, ids up to {biggest:,}) was not made by {encoder.path} "
            f"({encoder.dtype.name}, {encoder.vocabulary:,} entries). Write the tokens again with this tokenizer."
        )
    return steps


def _spec(
    file: TokenFile, repeats: npt.ArrayLike | None, encoder: Encoder, scale: Scale, *, seed: int, total_tokens: int
) -> dict[str, Any]:
    """All that decides the weights."""
    counts = np.ones(len(file), dtype=np.int64) if repeats is None else np.asarray(repeats, dtype=np.int64)
    return {
        "tokens_digest": file.digest,
        "repeats_digest": digest_bytes(counts.astype("<i8").tobytes()),
        "contract": encoder.contract(),
        "scale": asdict(scale),
        "seed": seed,
        "total_tokens": total_tokens,
    }


def _finished(out: Path, spec: dict[str, Any]) -> dict[str, Any] | None:
    path = out / "record.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    _same_run(out, spec, record["spec"])
    return record


def _resume(root: Path, spec: dict[str, Any], model: Any, optimizer: Any, report: Report | None) -> Progress:
    path, problems = find_checkpoint(root)
    if report is not None:
        for problem in problems:
            report({"event": "checkpoint_damaged", "problem": problem})
    if path is None:
        return Progress()
    state = read_state(path)
    _same_run(root.parent, spec, state.pop("spec"))
    restore(path, model, optimizer)
    if report is not None:
        report({"event": "resumed", "step": state["step"]})
    return Progress.from_json(state)


def _save(root: Path, model: Any, encoder: Encoder, optimizer: Any, progress: Progress, spec: dict[str, Any]) -> None:
    save_checkpoint(root, model, encoder, optimizer, {**progress.to_json(), "spec": spec})


def _same_run(out: Path, asked: dict[str, Any], found: dict[str, Any]) -> None:
    different = [key for key in asked if asked[key] != found.get(key)]
    if different:
        raise FactoryError(
            f"proxy: {out} holds another run (its {', '.join(different)} differ). Give this run a folder of its own."
        )


def _results(progress: Progress, scale: Scale, vocabulary: int, steps: int) -> dict[str, Any]:
    losses = [loss for _, _, loss in progress.curve]
    last = losses[-max(1, round(FINAL_SHARE * len(losses))) :]
    seen = progress.step * scale.step_tokens
    parameters = scale.parameters(vocabulary)
    return {
        "scale": scale.name,
        "steps": steps,
        "steps_done": progress.step,
        "tokens_seen": seen,
        "loss": sum(last) / len(last) if last else None,
        "first_loss": losses[0] if losses else None,
        "loss_curve": progress.curve,
        "parameters": {"total": parameters.total, "non_embedding": parameters.non_embedding},
        "flops_6nd": simple_flops(scale, vocabulary, seen),
        "flops": exact_flops(scale, vocabulary, seen),
        "flops_convention": "6 (non-embedding + head) + 6 layers·width·context per token, causal attention",
        "sum_lr": sum(learning_rate(scale, step, steps) for step in range(progress.step)),
        "consumption_digest": progress.consumed,
        "seconds": progress.seconds,
        "tokens_per_s": seen / progress.seconds if progress.seconds else None,
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n")
    os.replace(temporary, path)
