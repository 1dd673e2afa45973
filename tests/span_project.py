"""A project of JSON lines with one linker that marks spans, run through the workspace, and what its links say."""

import io
import json
import random

import pyarrow as pa
import zstandard

from factory.core.registry import find_stage
from factory.execution.local import LocalExecutor
from factory.recipes.load import check_recipe
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part


def sentence(seed, words=12):
    chance = random.Random(str(seed))
    return " ".join("".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(words)).capitalize() + "."


def keys_of(stage, *texts, files=None, **settings):
    found = find_stage("linker", stage)
    config = found.config(**settings)
    made = found.make(config, files=files) if files else found.make(config)
    return made(pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])).to_pylist()


def corpus(shared_data, *names):
    found = []
    for name in names:
        with open(shared_data / "corpus" / f"{name}.jsonl.zst", "rb") as file:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8", newline="\n")
            found += [json.loads(line)["text"] for line in lines]
    return found


def write_snapshot(folder, name, texts, *, parts=1, order=0):
    """Documents, shuffled, dealt to so many files; the id of a document, and so its order, is its number."""
    (folder / "data" / name).mkdir(parents=True)
    rows = [
        json.dumps({"id": f"{number:06d}", "text": text, "url": f"https://host{number % 7}.example/{number}"}) + "\n"
        for number, text in enumerate(texts)
    ]
    random.Random(order).shuffle(rows)
    for part in range(parts):
        (folder / "data" / name / f"{part:03d}.jsonl").write_text("".join(rows[part::parts]), encoding="utf-8")


def workspace_of(folder, *, memory=1 << 30, workers=1, more=None, **linker):
    recipe = {
        "name": "spans",
        "sources": {"web": {"use": "jsonl", "uri": "data/*/*.jsonl", "snapshot": "{parent}"}},
        "linkers": {"seen": linker},
        "tokenizer": "none",
        "max_error_share": 1.0,
        **(more or {}),
    }
    return Workspace(check_recipe(recipe, folder=str(folder)), LocalExecutor(workers), memory=memory)


def links_of(workspace):
    """Per snapshot, in the order of doc_id: the document's text and its links."""
    found = {}
    for snapshot in workspace.snapshots:
        documents = {part.digest: part for part in workspace.need("documents", "", snapshot).parts}
        rows = []
        for part in workspace.need("links", "seen", snapshot).parts:
            about = read_part(workspace.store, documents[part.name], ["doc_id", "text"]).to_pylist()
            links = read_part(workspace.store, part).to_pylist()
            rows += [{**one, **other} for one, other in zip(about, links, strict=True)]
        for row in rows:
            del row["part"], row["row"]
        found[snapshot] = sorted(rows, key=lambda row: row["doc_id"])
    return found


def run(folder, **settings):
    """Links of all snapshots, and what their manifests note."""
    with workspace_of(folder, **settings) as workspace:
        workspace.run(["links"])
        notes = {name: dict(workspace.need("links", "seen", name).notes) for name in workspace.snapshots}
        assert not workspace.store.files("exchange")
        return links_of(workspace), notes


def text_left(row, join=""):
    """What is left of a document; every cut lies between characters."""
    data, kept, at = row["text"].encode(), [], 0
    for span in row["removed"]:
        assert at <= span["start"] < span["end"] <= len(data)
        kept.append(data[at : span["start"]].decode())
        at = span["end"]
    return join.join([*kept, data[at:].decode()])


def removed_texts(row):
    data = row["text"].encode()
    return [data[span["start"] : span["end"]].decode() for span in row["removed"]]
