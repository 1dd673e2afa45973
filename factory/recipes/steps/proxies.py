"""Proxies: a small model trained on each experiment's tokens, for every seed. The only thing that differs is the data.

The files of the finished model bear their own names; those of models kept on the way lie below the name of their step.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from factory.core.errors import FactoryError
from factory.core.fingerprint import hash_ids
from factory.core.manifest import Manifest, Part
from factory.core.mixture import copy_hashes, numbered_copies, repeats
from factory.core.seeds import seed_for
from factory.execution.tasks import Context, Payload, Task
from factory.mixing.budget import match_repetition
from factory.recipes.scale import proxy_scale
from factory.recipes.steps.tokens import read_index
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file
from factory.storage.store import TEMPORARY, Store
from factory.storage.tokens import TokenFile
from factory.training.records import step_name, step_of
from factory.training.scales import Scale

Report = Callable[[Mapping[str, Any]], None]

CHECKPOINT_EVERY = 50  # steps; a killed run goes on from the last of them
RECORD = "training.json"
TRIAL_COLUMNS = ("doc_id", "domain", "length", "repeats")
LAID_OUT = ("packing", "phases", "conditioning")  # of a node's spec: how documents become sequences


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made | FactoryError]:
    """Trained proxies, one task each; one that cannot be trained leaves the others alone."""
    tasks = []
    for work in works:
        drawn = work.of("mixture")  # a seed that draws documents of its own reads the pool by the mixture's plan
        tokens = work.one("pools" if drawn else "tokens")
        start = next((manifest for manifest in work.of("proxies")), None)  # the proxy it goes on from
        payload = {
            **payload_of(
                bench,
                work.node.label,
                tokens,
                work.one("models"),
                work.node.spec,
                start=start,
                epochs=drawn[0].notes["epochs"] if drawn else None,
            ),
            "folder": f"{work.folder}/{tokens.digest}",
        }
        tasks.append(Task(work.node.name, f"{__name__}:make", payload, int(work.node.spec["tokens"])))

    failed: dict[str, FactoryError] = {}
    results = bench.run_tasks("train proxies", tasks, unit="tokens", failed=failed)
    return {**failed, **{name: _made(result) for name, result in results.items()}}


def payload_of(
    bench: Bench,
    experiment: str,
    tokens: Manifest,
    tokenizer: Manifest,
    spec: Mapping[str, Any],
    *,
    start: Manifest | None = None,
    epochs: Mapping[str, float] | None = None,
    seen: float | None = None,
) -> dict[str, Any]:
    """What `make` is told, apart from its folder: `spec` is a node's (scale, seed, tokens, how documents are laid out).

    With `epochs` by domain, `tokens` is a pool and they say how often its documents are read, and
    `seen` is the share of each domain they are read from (None: all). `start` is a trained proxy to go
    on from; the recipe's own checkpoint is used where it names one.
    """
    proxy = bench.recipe.experiment(experiment).proxy
    scale = proxy_scale(proxy)
    init = None if start is None else [part.path for part in model_files(start)]
    return {
        "store": bench.store.url,
        "experiment": experiment,
        "tokens": {part.name: part.to_json() for part in tokens.parts},
        "tokenizer": tokenizer.parts[0].path,
        "policy": {name: tokens.notes["contract"][name] for name in ("bos", "eos")},
        "scale": asdict(scale),
        "seed": spec["seed"],
        "order": spec.get("order"),
        "spec": {name: spec[name] for name in LAID_OUT if name in spec},
        "epochs": None if epochs is None else dict(epochs),
        "seen": seen,
        "init": init,  # files of a checkpoint in the store
        "init_folder": os.path.join(bench.recipe.folder, proxy.init)
        if proxy.init is not None and proxy.init_experiment is None
        else None,
        "average": proxy.average,
        "checkpoints": spec.get("checkpoints", 1),
        "precision": proxy.precision,
        "processes": proxy.processes,
        "usd_per_hour": proxy.usd_per_hour,
        "machine": proxy.machine.model_dump(mode="json", exclude_none=True),
        # One sequence less than what is there: the last target of the last sequence has to exist.
        "budget": int(spec["tokens"]) - scale.context,
    }


def _made(result: Mapping[str, Any]) -> Made:
    return Made(tuple(Part.from_json(part) for part in result["parts"]), notes={"record": result["record"]})


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: train one proxy, from its last checkpoint where a killed run left one."""
    return _keep(payload, context, _train)


def make_online(payload: Payload, online: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Task: train one proxy whose shares change while it runs; `epochs` are what it starts with.

    A model in `init` is the reference of DoReMi, and what the others go on from.
    """
    return _keep({**payload, "online": dict(online)}, context, _train_online)


def train(job: Mapping[str, Any], report: Report | None) -> dict[str, Any]:
    """Train the proxy of a job in this process, or as one of several; returns the record. Called by name in each."""
    from factory.training.machine import Machine
    from factory.training.order import open_order
    from factory.training.proxy import check_tokens, train_proxy
    from factory.training.tokenizer import Encoder

    payload, files = job["payload"], job["files"]
    scale, (run_seed, number) = Scale(**payload["scale"]), payload["seed"]
    plan = {**payload["spec"], "bos": payload["policy"]["bos"]}
    if payload["order"] == "copies":
        plan["copies"] = run_seed
    index = training_index(Store(payload["store"]), payload["tokens"], plan, payload)
    check_tokens(TokenFile(files["tokens"]), Encoder(files["tokenizer"], **payload["policy"]))
    seed = seed_for(run_seed, f"proxy {number}")
    return train_proxy(
        order=open_order(files["tokens"], index, plan, scale=scale, seed=seed, total_tokens=payload["budget"]),
        tokenizer_path=files["tokenizer"],
        scale=scale,
        seed=seed,
        out_dir=files["out"],
        init=files["init"],
        average=payload["average"],
        checkpoints=payload["checkpoints"],
        precision=payload["precision"],
        machine=Machine(**job["machine"]),
        report=report,
        **payload["policy"],
    )


def training_index(
    store: Store, parts: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any], drawn: Mapping[str, Any]
) -> pa.Table:
    """The index `open_order` wants: a tokens dataset's own, or a pool's with the copies that this training draws.

    `drawn` has epochs by domain (None: nothing is drawn), the share `seen` of each, and the seed (of the run, and its number).
    """
    if drawn["epochs"] is None:
        return read_index(store, parts, plan)
    index = read_index(store, parts, plan, TRIAL_COLUMNS)
    counts = trial_repeats(index, drawn["epochs"], draw_seed(*drawn["seed"]), seen=drawn["seen"])
    return index.set_column(index.column_names.index("repeats"), "repeats", pa.array(counts))


def draw_seed(run_seed: int, number: int) -> int:
    """By which hash a training of this seed takes documents: fresh trainings of a mixture read other documents of its domains.

    A small training reads a handful of documents of a domain. Were they the same for every seed, which ones they are would be
    part of what is confirmed. Those of the same seed draw the same, so that mixtures are compared on equal terms.
    """
    return run_seed if number == 0 else seed_for(run_seed, f"documents {number}")


def trial_repeats(
    index: pa.Table, epochs: Mapping[str, float], seed: int, *, seen: float | None = None
) -> npt.NDArray[np.uint32]:
    """How often each document of a pool is read when every domain is read so many times: that of `steps/tokens.py`.

    `index` has doc_id, domain, length and repeats (the copies a selection takes, each a document to the mixture). Documents of
    domains without epochs are not read. A larger share contains the smaller, whatever the other domains are. With `seen`, as
    many tokens are read from that share of each domain alone, which is then repeated the more (see `match_repetition`).
    """
    domains = index.column("domain").combine_chunks().dictionary_encode()
    names, numbers = domains.dictionary.to_pylist(), domains.indices.to_numpy()
    unknown = sorted(set(epochs) - set(names))
    if unknown:
        raise FactoryError(f"The pool has no domain '{unknown[0]}'. It has {', '.join(sorted(names))}.")
    hashes = hash_ids(index.column("doc_id").combine_chunks(), seed)
    lengths = index.column("length").to_numpy().astype(np.int64)
    copies = index.column("repeats").to_numpy()
    counts = np.zeros(index.num_rows, np.uint32)
    for name, times in epochs.items():
        own = np.flatnonzero(numbers == names.index(name))
        of, number = numbered_copies(copies[own])
        keys, sizes = copy_hashes(hashes[own][of], number), lengths[own][of]
        if seen is None:
            taken = repeats(times, keys, sizes)
        else:
            visible = match_repetition(keys, sizes, np.zeros(len(of), np.int64), seen)
            taken = np.zeros(len(of), np.uint32)
            more = float(sizes.sum()) / max(1.0, float(sizes[visible].sum()))
            taken[visible] = repeats(times * more, keys[visible], sizes[visible])
        counts[own] = np.bincount(of, taken, len(own)).astype(np.uint32)
    return counts


def _train(job: Mapping[str, Any], report: Report) -> dict[str, Any]:
    from factory.training.distributed import launch

    processes = int(job["payload"]["processes"])
    return train(job, report) if processes == 1 else launch(f"{__name__}:train", job, processes, report)


def _train_online(job: Mapping[str, Any], report: Report) -> dict[str, Any]:
    from factory.training.online import train_online

    payload, files = job["payload"], job["files"]
    online, (run_seed, number) = payload["online"], payload["seed"]
    index = read_part(Store(payload["store"]), Part.from_json(payload["tokens"]["index"]), ["domain", "length"])
    domains = index.column("domain").to_pylist()
    lengths = index.column("length").to_numpy().astype(np.int64)
    names = sorted(set(domains))
    place = {name: at for at, name in enumerate(names)}
    owners = np.array([place[name] for name in domains], np.int64)
    start = None
    if payload["epochs"]:
        sizes = np.bincount(owners, lengths, len(names))
        read = {name: payload["epochs"].get(name, 0.0) * sizes[at] for name, at in place.items()}
        start = {name: float(value / sum(read.values())) for name, value in read.items()}
    reference, begin = reference_and_start(online["method"], payload, files["init"])
    return train_online(
        tokens=files["tokens"],
        domains=owners,
        names=names,
        method=online["method"],
        settings=online["settings"],
        tokenizer_path=files["tokenizer"],
        scale=Scale(**payload["scale"]),
        seed=seed_for(run_seed, f"proxy {number}"),
        total_tokens=payload["budget"],
        out_dir=files["out"],
        start=start,
        reference=reference,
        init=begin,
        threads=job["machine"]["threads"],
        checkpoint_every=CHECKPOINT_EVERY,
        precision=payload["precision"],
        report=report,
        **payload["policy"],
    )


def reference_and_start(method: str, payload: Mapping[str, Any], model: str | None) -> tuple[str | None, str | None]:
    """The model an online run is measured against, and the one it goes on from.

    DoReMi measures with a trial's model and goes on from the recipe's checkpoint, as that trial did.
    """
    if method != "doremi":
        return None, model
    return (model if payload["init"] else None), payload["init_folder"]


def _keep(
    payload: Payload, context: Context, run: Callable[[Mapping[str, Any], Report], dict[str, Any]]
) -> dict[str, Any]:
    """Run a training with its files at hand, and put what it made into the store."""
    from factory.training.proxy import KEPT, reproducible_part

    store = Store(payload["store"])
    paths = [payload["tokens"][name]["path"] for name in ("tokens.bin", "tokens.idx")]
    told = 0

    def report(message: Mapping[str, Any]) -> None:
        nonlocal told
        tokens = int(message.get("tokens", told))
        if tokens > told:
            context.report(
                {"advance": tokens - told, **{key: message[key] for key in ("step", "loss") if key in message}}
            )
            told = tokens

    with store.as_local(*paths, payload["tokenizer"], *(payload["init"] or ())) as (shard, _, tokenizer, *init):
        out = _work_folder(store, payload["folder"])
        files = {
            "tokens": shard.removesuffix(".bin"),
            "tokenizer": tokenizer,
            "init": os.path.dirname(init[0]) if init else payload["init_folder"],
            "out": out,
        }
        machine = {
            "threads": context.threads,
            "checkpoint_every": CHECKPOINT_EVERY,
            "usd_per_hour": payload["usd_per_hour"],
            **payload.get("machine", {}),
        }
        try:
            record = run({"payload": dict(payload), "files": files, "machine": machine}, report)
        except FactoryError as error:  # of many that train side by side, say which
            raise type(error)(f"experiments.{payload['experiment']}: {error}") from error
    model = os.path.join(out, "model")
    found = {name: os.path.join(model, name) for name in sorted(os.listdir(model))} if record["valid"] else {}
    for step in record.get("kept_after", ()) if record["valid"] else ():
        folder = os.path.join(out, KEPT, step_name(step))
        found |= {f"{step_name(step)}/{name}": os.path.join(folder, name) for name in sorted(os.listdir(folder))}
    with store.scratch() as scratch:
        # Copies: until the manifest is written, a killed run finds its finished model where it was.
        for name, path in found.items():
            os.makedirs(os.path.dirname(os.path.join(scratch, name)), exist_ok=True)
            shutil.copyfile(path, os.path.join(scratch, name))
        with open(os.path.join(scratch, RECORD), "w", encoding="utf-8") as stream:
            json.dump(reproducible_part(record), stream, sort_keys=True)
        parts = [write_file(store, payload["folder"], name, os.path.join(scratch, name)) for name in [*found, RECORD]]
    if not store.local:
        shutil.rmtree(out, ignore_errors=True)
    return {"parts": [part.to_json() for part in parts], "record": record}


def model_files(proxy: Manifest) -> list[Part]:
    """The files of the finished model; none where the training broke down."""
    return [part for part in proxy.parts if part.name != RECORD and "/" not in part.name]


def kept_models(proxy: Manifest) -> dict[int, list[Part]]:
    """The files of the models kept on the way, by the steps they were trained for, in that order."""
    found: dict[int, list[Part]] = {}
    for part in proxy.parts:
        if "/" in part.name:
            found.setdefault(step_of(part.name.partition("/")[0]), []).append(part)
    return dict(sorted(found.items()))


def remove_work(store: Store, folder: str) -> None:
    """Remove what a finished training has left beside a local store: nobody goes on from it."""
    if store.local:
        shutil.rmtree(_local_work(store, folder), ignore_errors=True)


def _work_folder(store: Store, folder: str) -> str:
    """Where checkpoints lie while training: beside a local store, so that they outlive a killed run."""
    if not store.local:
        return tempfile.mkdtemp(prefix="factory-proxy-")
    os.makedirs(_local_work(store, folder), exist_ok=True)
    return _local_work(store, folder)


def _local_work(store: Store, folder: str) -> str:
    return f"{store.root}/{TEMPORARY}training/{folder}"
