"""Models the curation needs: a tokenizer, and whatever a scorer learns. Trained from a sample, or fetched and verified."""

import os
import shutil
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from factory.core.errors import InputError
from factory.core.fingerprint import hash_ids
from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.execution.tasks import Context, Payload, Task
from factory.recipes.recipe import Use
from factory.recipes.references import (
    TOKENIZER,
    TOKENIZER_NAMES,
    check_sha256,
    pin_files,
    pinned_paths,
    read_records,
)
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file
from factory.storage.store import Store

MAX_MODEL_BYTES = 4 << 30
NAMED_TOKENIZER = "tokenizer.named.json"


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """Models, one task each."""
    tasks = [Task(work.node.name, f"{__name__}:make", _payload(bench, work)) for work in works]
    results = bench.run_tasks("models", tasks, unit="models")
    return {task.name: _made(results[task.name]) for task in tasks}


def _made(result: Mapping[str, Any]) -> Made:
    return Made(tuple(Part.from_json(part) for part in result["parts"]), notes={"metrics": result["metrics"]})


def _payload(bench: Bench, work: Work) -> dict[str, Any]:
    recipe = bench.recipe
    payload: dict[str, Any] = {
        "store": bench.store.url,
        "folder": work.folder,
        "inputs": recipe.folder,
        "seed": recipe.seed,
        "files": dict(work.node.files),
    }
    payload["documents"] = [part.to_json() for manifest in work.of("documents") for part in manifest.parts]
    own: dict[str, Any]
    if work.node.label == "tokenizer":
        settings = recipe.tokenizer
        assert settings is not None
        ready = (settings.path, settings.sha256) if settings.path is not None else None
        own = {"tokenizer": settings.model_dump(mode="json")}
    else:
        use = _use(bench, work.node.label)
        assert use.stage.train is not None
        ready = use.stage.train.ready(use.config)
        kind = "scorer" if use.stage.kind == "scorer" else "linker"
        own = {"stage": {"kind": kind, **use.identity}, "pinned": work.node.spec.get("files", {})}
    return {**payload, **own, "ready": ready}


def _use(bench: Bench, label: str) -> Use:
    return next(use for use in [*bench.recipe.scorers, *bench.recipe.linkers] if use.label == label)


def make(payload: Payload, context: Context) -> dict[str, Any]:
    """Task: one model."""
    store = Store(payload["store"])
    metrics: dict[str, Any]
    with store.scratch() as scratch:
        if payload["ready"] and "tokenizer" in payload:
            name, metrics = _fetch_tokenizer(payload, scratch)
        elif payload["ready"]:
            metrics = {"fetched": True}
            uri, _ = payload["ready"]
            name = _fetch(uri, payload["files"]["sha256"], payload["inputs"], scratch)
        elif "tokenizer" in payload:
            name, metrics = _train_tokenizer(store, payload, scratch)
        else:
            name, metrics = _train_stage(store, payload, scratch)
        part = write_file(store, payload["folder"], name, os.path.join(scratch, name))
    return {"parts": [part.to_json()], "metrics": metrics}


def _train_tokenizer(store: Store, payload: Payload, scratch: str) -> tuple[str, dict[str, Any]]:
    from factory.training.tokenizer import train_tokenizer

    settings = payload["tokenizer"]
    rows = sample_rows(
        store, payload["documents"], settings["documents"], payload["seed"], columns=("text", "source", "doc_id")
    )
    texts = [text for text, _, _ in rows]
    path = os.path.join(scratch, TOKENIZER)
    made = train_tokenizer(texts, vocab_size=settings["vocab_size"], path=path)
    counted = {"documents": len(texts), "characters": sum(len(text) for text in texts)}
    return TOKENIZER, {**made, **counted, **_fertility(path, texts, [source for _, source, _ in rows])}


def _fertility(path: str, texts: list[str], sources: list[str]) -> dict[str, Any]:
    """How far its tokens reach, by source and by script: what a language pays for having had little say in the training."""
    from factory.training.tokenizer import Encoder, fertility

    encoder = Encoder(path, eos=False)
    array = pa.array(texts, pa.large_string())
    scorer = find_stage("scorer", "script")
    scripts = scorer.make(scorer.config())(pa.record_batch({"text": array})).column("script").to_pylist()
    return {"by_source": fertility(encoder, array, sources), "by_script": fertility(encoder, array, scripts)}


def _fetch_tokenizer(payload: Payload, scratch: str) -> tuple[str, dict[str, Any]]:
    """A ready tokenizer as one file that says what it calls BOS and EOS; refused here if it cannot do what is asked."""
    from factory.training.tokenizer import Encoder, name_special_tokens, special_names

    settings, pinned, inputs = payload["tokenizer"], payload["files"], payload["inputs"]
    path: str = settings["path"]
    names = {key: settings[key] for key in ("bos_token", "eos_token") if settings[key] is not None}
    if "://" not in path and os.path.isdir(os.path.join(inputs, path)):
        if "names" in pinned:
            own = _fetch(os.path.join(path, TOKENIZER_NAMES), pinned["names"], inputs, scratch)
            names = {**special_names(os.path.join(scratch, own)), **names}
        path = os.path.join(path, TOKENIZER)
    name = _fetch(path, pinned["sha256"], inputs, scratch)
    file = os.path.join(scratch, name)
    if names:
        name, plain = NAMED_TOKENIZER, file
        file = os.path.join(scratch, name)
        name_special_tokens(plain, names, file)
    encoder = Encoder(file, bos=settings["bos"], eos=settings["eos"])
    return name, {"fetched": True, **encoder.contract(), "library_alone": encoder.library_alone}


def _train_stage(store: Store, payload: Payload, scratch: str) -> tuple[str, dict[str, Any]]:
    described = payload["stage"]
    stage = find_stage(described["kind"], described["stage"])
    config = stage.config(**described["settings"])
    assert stage.train is not None
    texts: dict[str, list[str]] = {}
    for item in stage.train.samples(config):
        rows: list[tuple[str, ...]]
        if item.uri is not None:
            found = list(read_records(item.uri, payload["inputs"], item.columns))
            first = pa.array([row[0] for row in found], pa.string())
            order = np.argsort(hash_ids(first, payload["seed"]), kind="stable")[: item.documents]
            rows = [found[index] for index in sorted(order)]
        else:
            assert item.source is not None
            rows = sample_rows(
                store, payload["documents"], item.documents, payload["seed"], source=item.source, columns=item.columns
            )
        for place, column in enumerate(item.columns):
            texts[item.role if place == 0 else f"{item.role}.{column}"] = [row[place] for row in rows]
        if not texts[item.role]:
            raise InputError(f"{stage.name}: no documents to learn from as '{item.role}' ({item.uri or item.source}).")
    uris = [item.uri for item in stage.train.samples(config) if item.uri is not None]
    if pin_files(uris, payload["inputs"]) != payload["files"]:
        raise InputError(f"{stage.name}: a file of {', '.join(uris)} changed while the recipe ran. Run it again.")
    large: dict[str, Any] = {}
    if stage.paths is not None:
        large["paths"] = pinned_paths(stage, config, pinned=payload["pinned"], folder=payload["inputs"])
    metrics = stage.train.fit(config, texts, scratch, payload["seed"], **large)
    return stage.train.file, metrics


def sample(
    store: Store, parts: list[dict[str, Any]], documents: int, seed: int, source: str | None = None
) -> list[str]:
    """Texts of the documents with the smallest hash(seed, doc_id): a larger sample contains a smaller one."""
    return [text for (text,) in sample_rows(store, parts, documents, seed, source=source)]


def sample_rows(
    store: Store,
    parts: list[dict[str, Any]],
    documents: int,
    seed: int,
    *,
    source: str | None = None,
    columns: tuple[str, ...] = ("text",),
) -> list[tuple[str, ...]]:
    """The same with other columns; "" is null, and documents without the first column are left out."""
    hashes: list[np.ndarray] = []
    for data in parts:
        told = sorted({"doc_id", "source", "error", columns[0]} - {"text"})
        table = read_part(store, Part.from_json(data), told)
        found = hash_ids(table.column("doc_id").combine_chunks(), seed)
        wrong = ~table.column("error").is_null().to_numpy()
        if columns[0] != "text":
            wrong |= table.column(columns[0]).is_null().to_numpy()
        if source is not None:
            wrong |= np.array([value != source for value in table.column("source").to_pylist()], dtype=bool)
        found[wrong] = np.iinfo(np.uint64).max
        hashes.append(found)
    pool = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    pool = pool[pool < np.iinfo(np.uint64).max][:documents]
    if not len(pool):
        return []
    chosen: list[tuple[int, tuple[str, ...]]] = []
    for data, found in zip(parts, hashes, strict=True):
        rows = np.flatnonzero(found <= pool[-1])
        if len(rows):
            table = read_part(store, Part.from_json(data), list(columns)).take(pa.array(rows))
            values = zip(*(table.column(column).to_pylist() for column in columns), strict=True)
            chosen += [
                (int(found[row]), tuple(value or "" for value in record))
                for row, record in zip(rows, values, strict=True)
            ]
    return [record for _, record in sorted(chosen)]


def _fetch(uri: str, sha256: str | None, folder: str, scratch: str) -> str:
    name = uri.rsplit("/", 1)[-1] or "model"
    target = os.path.join(scratch, name)
    if "://" not in uri:
        shutil.copyfile(os.path.join(folder, uri), target)
    elif uri.startswith(("https://", "http://")):
        _download(uri, target)
    else:
        import fsspec

        fs, path = fsspec.core.url_to_fs(uri)
        fs.get_file(path, target)
    check_sha256(target, sha256)
    return name


def _download(url: str, target: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "corpus-factory"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer, open(target, "wb") as out:
            size = 0
            while chunk := answer.read(1 << 20):
                size += len(chunk)
                if size > MAX_MODEL_BYTES:
                    raise InputError(f"{url}: larger than {MAX_MODEL_BYTES:,} bytes; not a model this factory loads.")
                out.write(chunk)
    except OSError as error:
        raise InputError(f"{url}: {error}. Download the model yourself and give its path.") from error
