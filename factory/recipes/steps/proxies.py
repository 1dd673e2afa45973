"""Proxies: a small model trained on each experiment's tokens, for every seed. The only thing that differs is the data."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from factory.core.fingerprint import hash_ids
from factory.core.manifest import Part
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.scale import proxy_scale
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file
from factory.storage.store import TEMPORARY, Store
from factory.training.scales import Scale

CHECKPOINT_EVERY = 50  # steps; a killed run goes on from the last of them
RECORD = "training.json"


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Trained proxies, one task each."""
    scale = proxy_scale(bench.recipe.proxy)
    tasks = []
    for work in works:
        tokens = work.one("tokens")
        budget = int(work.node.spec["tokens"])
        payload = {
            "store": bench.store.url,
            "folder": f"{work.folder}/{tokens.digest}",
            "tokens": {part.name: part.to_json() for part in tokens.parts},
            "tokenizer": work.one("models").parts[0].path,
            "policy": {name: tokens.notes["contract"][name] for name in ("bos", "eos")},
            "scale": asdict(scale),
            "seed": work.node.spec["seed"],
            "order": work.node.spec.get("order"),
            # One sequence less than what is there: the last target of the last sequence has to exist.
            "budget": budget - scale.context,
        }
        tasks.append(Task(work.node.name, f"{__name__}:make", payload, budget))

    results = bench.run_tasks("train proxies", tasks, unit="tokens")
    return {task.name: _made(results[task.name]) for task in tasks}


def _made(result: Mapping[str, Any]) -> Made:
    return Made(tuple(Part.from_json(part) for part in result["parts"]), notes={"record": result["record"]})


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: train one proxy, from its last checkpoint where a killed run left one."""
    from factory.training.proxy import reproducible_part, train_proxy
    from factory.training.seeds import seed_for

    store = Store(payload["store"])
    copies = payload["order"] == "copies"
    columns = ["repeats", *(["doc_id"] if copies else [])]
    index = read_part(store, Part.from_json(payload["tokens"]["index"]), columns)
    paths = [payload["tokens"][name]["path"] for name in ("tokens.bin", "tokens.idx")]
    run_seed, number = payload["seed"]
    hashes = hash_ids(index.column("doc_id").combine_chunks(), run_seed) if copies else None
    told = 0

    def report(message: Mapping[str, Any]) -> None:
        nonlocal told
        tokens = int(message.get("tokens", told))
        if tokens > told:
            context.report(
                {"advance": tokens - told, **{key: message[key] for key in ("step", "loss") if key in message}}
            )
            told = tokens

    with store.as_local(*paths, payload["tokenizer"]) as (shard, _, tokenizer):
        out = _work_folder(store, payload["folder"])
        record = train_proxy(
            tokens=shard.removesuffix(".bin"),
            repeats=index.column("repeats").to_numpy(),
            tokenizer_path=tokenizer,
            scale=Scale(**payload["scale"]),
            seed=seed_for(run_seed, f"proxy {number}"),
            total_tokens=payload["budget"],
            out_dir=out,
            threads=context.threads,
            checkpoint_every=CHECKPOINT_EVERY,
            report=report,
            hashes=hashes,
            **payload["policy"],
        )
    model = os.path.join(out, "model")
    names = sorted(os.listdir(model)) if record["valid"] else []
    with store.scratch() as scratch:
        # Copies: until the manifest is written, a killed run finds its finished model where it was.
        for name in names:
            shutil.copyfile(os.path.join(model, name), os.path.join(scratch, name))
        with open(os.path.join(scratch, RECORD), "w", encoding="utf-8") as stream:
            json.dump(reproducible_part(record), stream, sort_keys=True)
        parts = [write_file(store, payload["folder"], name, os.path.join(scratch, name)) for name in [*names, RECORD]]
    if not store.local:
        shutil.rmtree(out, ignore_errors=True)
    return {"parts": [part.to_json() for part in parts], "record": record}


def _work_folder(store: Store, folder: str) -> str:
    """Where checkpoints lie while training: beside a local store, so that they outlive a killed run."""
    if not store.local:
        return tempfile.mkdtemp(prefix="factory-proxy-")
    path = f"{store.root}/{TEMPORARY}training/{folder}"
    os.makedirs(path, exist_ok=True)
    return path
