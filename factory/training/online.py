"""Training one proxy whose mixture changes while it runs: token file, domains and a method in; model, shares and record out.

Each step reads sequences of the domains in turns by the current shares (`factory.training.domains`), a method looks at the
running model and moves them (`factory.training.online_methods`). The folder is the run's own, as that of `train_proxy`: called
again it goes on from its last whole checkpoint, or returns the record. No random number is drawn: the state is the model, the
optimizer, the cursors and the plain numbers of the method, and a run that was stopped ends with the same bits.

`weights` of the record is what the method found, by domain: the average over the steps that were trained for the mixture (not
those of probes), or the last one. `accounting` says what else was read to find it.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from factory.core.errors import FactoryError
from factory.core.fingerprint import digest_bytes
from factory.mixing.simplex import Vector, uniform
from factory.storage.tokens import TokenFile
from factory.training.checkpoint import find_checkpoint, read_state, restore, save_checkpoint, save_model
from factory.training.domains import DomainStreams, Turns
from factory.training.flops import exact_flops, simple_flops
from factory.training.guard import Guard
from factory.training.loader import TokenStream
from factory.training.loop import Report, make_optimizer, reproducible
from factory.training.measuring import OnlineRun
from factory.training.model import build_model, check_vocabulary, model_config, read_model, weights_digest
from factory.training.online_methods import METHODS, Method, make_settings
from factory.training.proxy import choose_device
from factory.training.records import check_same_run, finished_record, write_json
from factory.training.scales import Scale
from factory.training.schedule import check_steps, learning_rate
from factory.training.tokenizer import Encoder

FINAL_SHARE = 0.1
TRAJECTORY = 200  # entries at most, besides those where something was measured
DEFAULT_TAKE = "average"


@dataclass
class Standing:
    """Where an online run stands; plain numbers, exact in JSON."""

    step: int = 0
    seconds: float = 0.0
    consumed: str = ""
    curve: list[list[float]] = field(default_factory=list)  # [step, tokens, loss in nats per token]
    trajectory: list[dict[str, Any]] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)  # of each domain, over the last steps
    counted: list[int] = field(default_factory=list)  # sequences they are of
    shares_sum: list[float] = field(default_factory=list)
    shares_steps: int = 0
    probe_steps: int = 0
    tokens_read: dict[str, int] = field(default_factory=dict)  # beside training: by what for

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "Standing":
        return cls(**{**state, "guards": [Guard(**guard) for guard in state["guards"]]})


def train_online(
    *,
    tokens: str | Path,
    domains: npt.ArrayLike,
    names: Sequence[str],
    method: str,
    settings: Mapping[str, Any],
    tokenizer_path: str | Path,
    scale: Scale,
    seed: int,
    total_tokens: int,
    out_dir: str | Path,
    start: Mapping[str, float] | None = None,
    reference: str | Path | None = None,
    target: str | Path | None = None,
    init: str | Path | None = None,
    device: str = "auto",
    threads: int = 1,
    precision: str = "float32",
    checkpoint_every: int | None = None,
    bos: bool = False,
    eos: bool = True,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and return the record; `valid` is false, with a `reason`, where the loss broke down.

    `domains` numbers the domain of each document of the token file (below 0: none), `names` names them, `start` are the shares
    begun with (even ones without). `reference` is a checkpoint of the same tokenizer (DoReMi), `target` a token file (DGA),
    `init` a checkpoint to go on from.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    config = make_settings(method, settings)
    encoder = Encoder(tokenizer_path, bos=bos, eos=eos)
    file = TokenFile(tokens)
    owners = np.asarray(domains, dtype=np.int64)
    held_out = int(getattr(config, "held_out", 0))
    streams = DomainStreams(file, owners, names, context=scale.context, seed=seed, held_out=held_out)
    steps = _steps(file, scale, total_tokens, encoder)
    shares = _start(names, start)
    _check_method(method, config, names, reference=reference, target=target)
    spec = {
        "tokens_digest": file.digest,
        "domains_digest": digest_bytes(owners.astype("<i8").tobytes()),
        "names": list(names),
        "method": method,
        "settings": config.model_dump(mode="json"),
        "start": shares.tolist(),
        "reference": _folder_digest(reference),
        "target": TokenFile(target).digest if target is not None else None,
        "init": _folder_digest(init),
        "contract": encoder.contract(),
        "scale": asdict(scale),
        "precision": precision,
        "seed": seed,
        "total_tokens": total_tokens,
    }
    finished = finished_record(out, spec)
    if finished is not None:
        return finished

    device = choose_device(device)
    with reproducible(device, threads, seed):
        for folder in (reference, init):
            if folder is not None:
                check_vocabulary(folder, encoder.path, encoder.vocabulary)
        model = _model(scale, encoder, seed=seed, init=init).to(device)
        run = OnlineRun(
            model=model,
            optimizer=make_optimizer(model, scale),
            scale=scale,
            streams=streams,
            steps=steps,
            seed=seed,
            device=device,
            precision=precision,
            reference=read_model(reference).to(device).eval() if reference is not None else None,
            target=TokenStream(TokenFile(target), None, context=scale.context, seed=seed)
            if target is not None
            else None,
            domain_target=getattr(config, "target", None),
        )
        mixer = METHODS[method][0](len(names), config, shares)
        turns = Turns(len(names))
        standing = _resume(out / "checkpoints", spec, run, mixer, turns, report)

        def save() -> None:
            state = {**standing.to_json(), "method": mixer.to_json(), "turns": turns.to_json(), "spec": spec}
            save_checkpoint(out / "checkpoints", model, encoder, run.optimizer, state)

        reason = _train(run, mixer, turns, standing, save=save, save_every=checkpoint_every, report=report)
        record = {
            "status": "complete" if reason is None else "invalid",
            "valid": reason is None,
            "reason": reason,
            "seed": seed,
            **_results(run, mixer, turns, standing, encoder.vocabulary),
            "model_digest": weights_digest(model) if reason is None else None,
            "spec": spec,
            "device": device,
            "threads": threads,
        }
        if reason is None:
            save_model(out / "model", model, encoder)
    write_json(out / "record.json", record)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return record


def _train(
    run: OnlineRun,
    mixer: Method,
    turns: Turns,
    standing: Standing,
    *,
    save: Callable[[], None],
    save_every: int | None,
    report: Report | None,
) -> str | None:
    """Run to the last step; returns why the run is invalid, or None. `standing` is moved along."""
    scale, steps = run.scale, run.steps
    run.model.train()
    while standing.step < steps:
        begun = time.perf_counter()
        step = standing.step
        measured = mixer.before(run, step)
        _note(standing, mixer, run, measured)
        cursors = turns.given.copy()
        owners = turns.take(mixer.sampling, scale.batch)
        rows = run.rows(owners, cursors)
        weights = mixer.weights(run, rows, owners)
        rate = learning_rate(scale, step, steps)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        nats = run.backward(rows, owners, weights, run.optimizer)
        gradient = run.clip()
        counts = np.bincount(owners, minlength=len(run.names))
        reason = _judge(standing, step, nats / np.maximum(counts, 1) / scale.context, counts, gradient)
        if reason is not None:
            return reason
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        loss = float(nats.sum()) / (scale.batch * scale.context)
        standing.step += 1
        standing.consumed = xxhash.xxh3_128_hexdigest(standing.consumed.encode() + owners.tobytes() + rows.tobytes())
        standing.curve.append([standing.step, standing.step * scale.step_tokens, loss])
        if standing.step > steps - max(1, round(FINAL_SHARE * steps)):
            standing.nats = [one + float(other) for one, other in zip(standing.nats, nats, strict=True)]
            standing.counted = [one + int(other) for one, other in zip(standing.counted, counts, strict=True)]
        if mixer.probing:
            standing.probe_steps += 1
        else:
            standing.shares_sum = [one + float(two) for one, two in zip(standing.shares_sum, mixer.shares, strict=True)]
            standing.shares_steps += 1
        standing.tokens_read = dict(run.read)
        seconds = time.perf_counter() - begun
        standing.seconds += seconds
        if save_every and standing.step % save_every == 0 and standing.step < steps:
            save()
        if report is not None:
            report(
                {
                    "event": "step",
                    "step": standing.step,
                    "steps": steps,
                    "tokens": standing.step * scale.step_tokens,
                    "loss": loss,
                    "lr": rate,
                    "gradient_norm": gradient,
                    "shares": mixer.shares.tolist(),
                    "tokens_per_s": scale.step_tokens / seconds,
                }
            )
    return None


def _note(standing: Standing, mixer: Method, run: OnlineRun, measured: Mapping[str, Any] | None) -> None:
    """Keep what was measured, and the shares every so often where they change at every step."""
    every = max(1, run.steps // TRAJECTORY)
    last = standing.trajectory[-1]["shares"] if standing.trajectory else None
    now = mixer.shares.tolist()
    if measured is not None or last is None or (standing.step % every == 0 and now != last):
        standing.trajectory.append({"step": standing.step, "shares": now, **(measured or {})})


def _judge(
    standing: Standing, step: int, losses: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], gradient: float
) -> str | None:
    """Each domain is guarded by itself: a mixture that turns to a harder domain is no break-down."""
    for domain in np.flatnonzero(counts).tolist():
        reason = standing.guards[domain].problem(step, float(losses[domain]), gradient)
        if reason is not None:
            return reason
    return None


def _results(run: OnlineRun, mixer: Method, turns: Turns, standing: Standing, vocabulary: int) -> dict[str, Any]:
    scale, done = run.scale, standing.step
    seen = done * scale.step_tokens
    losses = [loss for _, _, loss in standing.curve]
    last = losses[-max(1, round(FINAL_SHARE * len(losses))) :]
    parameters = scale.parameters(vocabulary)
    average = np.asarray(standing.shares_sum) / max(1, standing.shares_steps)
    if not standing.shares_steps:
        average = mixer.shares
    take = getattr(mixer.settings, "take", DEFAULT_TAKE)
    final = dict(zip(run.names, mixer.shares.tolist(), strict=True))
    averaged = dict(zip(run.names, average.tolist(), strict=True))
    held_out = run.held_out_losses().tolist() if getattr(mixer.settings, "held_out", 0) else [None] * len(run.names)
    per_domain = {}
    for domain, name in enumerate(run.names):
        given, counted = int(turns.given[domain]), standing.counted[domain]
        per_domain[name] = {
            "sequences": given,
            "tokens_seen": given * scale.context,
            "epochs": given / run.streams.trained_on(domain),
            "loss": standing.nats[domain] / (counted * scale.context) if counted else None,
            "held_out_loss": held_out[domain],
        }
    read = {f"{what}_tokens": tokens for what, tokens in sorted(standing.tokens_read.items())}
    return {
        "method": run_method(mixer),
        "weights": final if take == "final" else averaged,
        "take": take,
        "weights_average": averaged,
        "weights_final": final,
        "trajectory": standing.trajectory,
        "domains": per_domain,
        "accounting": {
            "training_tokens": seen,
            "probe_tokens": standing.probe_steps * scale.step_tokens,  # of them: trained on for a measurement
            **read,
        },
        "scale": scale.name,
        "steps": run.steps,
        "steps_done": done,
        "tokens_seen": seen,
        "loss": sum(last) / len(last) if last else None,
        "first_loss": losses[0] if losses else None,
        "loss_curve": standing.curve,
        "parameters": {"total": parameters.total, "non_embedding": parameters.non_embedding},
        "flops_6nd": simple_flops(scale, vocabulary, seen),
        "flops": exact_flops(scale, vocabulary, seen) + _measuring_flops(scale, vocabulary, standing.tokens_read),
        "flops_measuring": _measuring_flops(scale, vocabulary, standing.tokens_read),
        "flops_convention": "6 (non-embedding + head) + 6 layers·width·context per token, causal attention; forward alone: 1/3",
        "sum_lr": sum(learning_rate(scale, step, run.steps) for step in range(done)),
        "consumption_digest": standing.consumed,
        "seconds": standing.seconds,
        "tokens_per_s": seen / standing.seconds if standing.seconds else None,
    }


def run_method(mixer: Method) -> str:
    return next(name for name, (kind, _) in METHODS.items() if type(mixer) is kind)


def _measuring_flops(scale: Scale, vocabulary: int, read: Mapping[str, int]) -> float:
    """Gradients and short runs cost what training costs, losses a third of it; a reference is taken to be of this scale."""
    both = read.get("gradients", 0) + read.get("short_runs", 0)
    forward = sum(read.get(what, 0) for what in ("evaluation", "losses", "reference"))
    return exact_flops(scale, vocabulary, both) + exact_flops(scale, vocabulary, forward) / 3


def _start(names: Sequence[str], start: Mapping[str, float] | None) -> Vector:
    if start is None:
        return uniform(len(names))
    shares = np.asarray([float(start.get(name, 0.0)) for name in names])
    unknown = sorted(set(start) - set(names))
    if unknown or float(shares.min()) < 0 or abs(float(shares.sum()) - 1.0) > 1e-6:
        raise FactoryError(
            f"online: the shares to start with sum to {float(shares.sum()):.6g}"
            + (f", and {', '.join(unknown)} is no domain" if unknown else "")
            + f". Domains: {', '.join(names)}."
        )
    return shares


def _check_method(
    method: str,
    config: Any,
    names: Sequence[str],
    *,
    reference: str | Path | None,
    target: str | Path | None,
) -> None:
    if method == "doremi" and config.reference and reference is None:
        raise FactoryError(
            "doremi: a reference model is needed and none is given. Train one on the natural mixture first, or set "
            "reference: false for plain group DRO, which runs after noise."
        )
    if method == "dga" and target is None:
        asked: Mapping[str, float] = config.target or {}
        unknown = sorted(set(asked) - set(names))
        if unknown or abs(math.fsum(asked.values()) - 1.0) > 1e-6 or min(asked.values(), default=0.0) < 0:
            raise FactoryError(
                "dga: a target is needed: a token file, or shares of domains that sum to 1 "
                f"({dict(asked)} asked). Domains: {', '.join(names)}."
            )


def _steps(file: TokenFile, scale: Scale, total_tokens: int, encoder: Encoder) -> int:
    steps = total_tokens // scale.step_tokens
    check_steps(scale, steps, total_tokens)
    biggest = int(file.ids.max()) if 0 < file.tokens <= 1 << 24 else 0  # large files are checked when written
    if biggest >= encoder.vocabulary or file.dtype != encoder.dtype:
        raise FactoryError(
            f"proxy: {file.prefix} ({file.dtype.name}, ids up to {biggest:,}) was not made by {encoder.path} "
            f"({encoder.dtype.name}, {encoder.vocabulary:,} entries). Write the tokens again with this tokenizer."
        )
    return steps


def _model(scale: Scale, encoder: Encoder, *, seed: int, init: str | Path | None) -> Any:
    if init is not None:
        return read_model(init)
    config = model_config(
        scale,
        vocabulary=encoder.vocabulary,
        bos_id=encoder.bos_id if encoder.bos else None,
        eos_id=encoder.eos_id if encoder.eos else None,
    )
    return build_model(config, seed=seed)


def _folder_digest(folder: str | Path | None) -> str | None:
    """The digest of a checkpoint's files: what a run that starts or measures with it depends on."""
    if folder is None:
        return None
    hasher = xxhash.xxh3_128()
    for path in sorted(Path(folder).glob("*.safetensors")):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def _resume(
    root: Path, spec: dict[str, Any], run: OnlineRun, mixer: Method, turns: Turns, report: Report | None
) -> Standing:
    path, problems = find_checkpoint(root)
    if report is not None:
        for problem in problems:
            report({"event": "checkpoint_damaged", "problem": problem})
    if path is None:
        mixer.begin(run)
        count = len(run.names)
        return Standing(
            guards=[Guard() for _ in range(count)],
            nats=[0.0] * count,
            counted=[0] * count,
            shares_sum=[0.0] * count,
        )
    state = read_state(path)
    check_same_run(root.parent, spec, state.pop("spec"))
    mixer.restore(state.pop("method"))
    turns.restore(state.pop("turns"))
    restore(path, run.model, run.optimizer)
    standing = Standing.from_json(state)
    run.read = dict(standing.tokens_read)
    if report is not None:
        report({"event": "resumed", "step": standing.step})
    return standing
