"""Exported tokens: every format gives back the ids of the store, whole or not at all, and the readers of others agree."""

import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_project import tiny  # noqa: F401

from factory.core.errors import FactoryError
from factory.execution.local import LocalExecutor
from factory.recipes import token_export
from factory.recipes.load import load_recipe
from factory.recipes.token_export import FORMATS, export_tokens
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part
from factory.storage.token_formats import WRITERS, finish
from factory.storage.tokens import TokenFile, TokenWriter

# A Python with megatron-core and mosaicml-streaming, which do not go with this project's own packages.
PEER = Path(os.environ.get("BENCH_VENVS", Path(__file__).parents[1] / ".bench" / "venvs")) / "tokens" / "bin" / "python"
with_peer = pytest.mark.skipif(not PEER.exists(), reason=f"{PEER} is not here: see docs/export.md")


@pytest.fixture(scope="module")
def workspace(tiny):  # noqa: F811
    with Workspace(load_recipe(str(tiny)), LocalExecutor(1)) as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(workspace):
    """The index of an experiment's tokens, and its documents."""
    manifest = workspace.need("tokens", "top")
    parts = {part.name: part for part in manifest.parts}
    file = TokenFile(workspace.store.full(parts["tokens.bin"].path).removesuffix(".bin"))
    index = read_part(workspace.store, parts["index"])
    return index, [file.document(number).tolist() for number in range(len(file))]


def read_back(form, folder):
    """Lists of ids, and the other columns, of an exported folder: by the libraries this project has."""
    if form == "huggingface":
        import datasets

        table = datasets.load_from_disk(str(folder)).data.table
        return table.column("ids").to_pylist(), table
    tables = [pq.read_table(path) for path in sorted(folder.glob("tokens-*.parquet"))]
    if form == "parquet":
        table = pa.concat_tables(tables)
        return table.column("ids").to_pylist(), table
    if form == "numpy":
        found = []
        for path in sorted(folder.glob("*.ids.npy")):
            ids, offsets = np.load(path, mmap_mode="r"), np.load(str(path).replace(".ids.", ".offsets."))
            found += [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
        return found, pa.concat_tables(tables)
    if form == "megatron":
        files = [TokenFile(path.with_suffix("")) for path in sorted(folder.glob("*.idx"))]
        return [file.document(i).tolist() for file in files for i in range(len(file))], pa.concat_tables(tables)
    return read_mds(folder)


def read_mds(folder):
    """MDS by its layout: number of samples, their offsets, then sizes and values of each sample."""
    rows = []
    for shard in json.loads((folder / "index.json").read_bytes())["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        (count,) = struct.unpack_from("<I", data)
        offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert (count, offsets[-1]) == (shard["samples"], len(data)) == (shard["samples"], shard["raw_data"]["bytes"])
        rows += [mds_row(data[a:b], shard) for a, b in itertools.pairwise(offsets)]
    table = pa.Table.from_pylist([{key: value for key, value in row.items() if key != "ids"} for row in rows])
    return [row["ids"] for row in rows], table


def mds_row(data, shard):
    fixed = shard["column_sizes"]
    free = sum(size is None for size in fixed)
    sizes, at, row = iter(struct.unpack_from(f"<{free}I", data)), 4 * free, {}
    for name, encoding, size in zip(shard["column_names"], shard["column_encodings"], fixed, strict=True):
        own = data[at : at + (size or next(sizes))]
        at += len(own)
        if encoding == "str":
            row[name] = own.decode()
        elif encoding.startswith("ndarray:"):
            row[name] = np.frombuffer(own[1 + (1 << (own[0] & 3)) :], encoding[8:]).tolist()
        else:
            row[name] = np.frombuffer(own, encoding)[0].item()
    return row


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_the_documents_of_the_store(workspace, stored, tmp_path, form):
    index, documents = stored
    made = export_tokens(workspace, "top", str(tmp_path / "out"), form, shard_tokens=5_000)
    ids, table = read_back(form, tmp_path / "out")
    assert ids == documents
    for column in ("doc_id", "domain", "snapshot", "repeats"):
        assert table.column(column).to_pylist() == index.column(column).to_pylist()
    assert made["written"] > 2
    assert (made["samples"], made["tokens"]) == (len(documents), sum(map(len, documents)))


@pytest.mark.parametrize("form", FORMATS)
def test_repeated_documents_come_as_often_as_the_mixture_takes_them(workspace, stored, tmp_path, form):
    index, documents = stored
    repeats = index.column("repeats").to_pylist()
    export_tokens(workspace, "top", str(tmp_path / "out"), form, repeat=True, shard_tokens=7_000)
    ids, table = read_back(form, tmp_path / "out")
    passes = [number for copy in range(max(repeats)) for number in range(len(repeats)) if repeats[number] > copy]
    assert max(repeats) > 1
    assert ids == [documents[number] for number in passes]
    assert table.column("copy").to_pylist() == sorted(table.column("copy").to_pylist())


def test_the_sums_are_those_of_the_files_and_nothing_else_lies_there(workspace, tmp_path):
    made = export_tokens(workspace, "top", str(tmp_path / "out"), "mds", shard_tokens=9_000)
    listed = {file["path"]: file["sha256"] for file in made["files"]}
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out").iterdir()}
    assert set(there) == {*listed, "tokens.json", "SHA256SUMS"}
    assert all(there[name] == listed[name] for name in listed)
    assert f"{listed['index.json']}  index.json\n" in (tmp_path / "out" / "SHA256SUMS").read_text()


def test_what_is_there_is_not_written_again_and_what_is_damaged_is(workspace, tmp_path):
    target = tmp_path / "out"
    made = export_tokens(workspace, "top", str(target), "numpy", shard_tokens=5_000)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    assert export_tokens(workspace, "top", str(target), "numpy", shard_tokens=5_000)["written"] == 0
    os.truncate(target / "tokens-00001.ids.npy", 10)
    assert export_tokens(workspace, "top", str(target), "numpy", shard_tokens=5_000)["files"] == made["files"]
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_an_export_that_broke_off_goes_on_and_is_not_mistaken_for_another(workspace, tmp_path, monkeypatch):
    target = str(tmp_path / "out")

    def breaks_off(label, tasks, unit):
        if tasks[2:]:
            Workspace.run_tasks(workspace, label, tasks[:2], unit)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workspace, "run_tasks", breaks_off, raising=False)
        with pytest.raises(KeyboardInterrupt):
            export_tokens(workspace, "top", target, "parquet", shard_tokens=5_000)
    assert not (tmp_path / "out" / "tokens.json").exists()
    with pytest.raises(FactoryError, match="an unfinished export of other tokens"):
        export_tokens(workspace, "raw", target, "parquet", shard_tokens=5_000)
    made = export_tokens(workspace, "top", target, "parquet", shard_tokens=5_000)
    assert made["written"] == len([file for file in made["files"] if file["path"].endswith(".parquet")]) - 2


def test_a_dry_run_writes_nothing_and_says_how_much_it_would_be(workspace, stored, tmp_path):
    planned = export_tokens(workspace, "top", str(tmp_path / "out"), "megatron", shard_tokens=5_000, dry_run=True)
    assert not (tmp_path / "out").exists()
    made = export_tokens(workspace, "top", str(tmp_path / "out"), "megatron", shard_tokens=5_000)
    assert (planned["tokens"], planned["shards"]) == (made["tokens"], made["written"])
    assert planned["id_bytes"] == sum(f["bytes"] for f in made["files"] if f["path"].endswith(".bin"))


def test_other_options_and_unknown_formats_are_refused(workspace, tmp_path):
    target = str(tmp_path / "out")
    export_tokens(workspace, "top", target, "parquet")
    with pytest.raises(FactoryError, match=r"holds other tokens .* they differ in rows"):
        export_tokens(workspace, "top", target, "parquet", repeat=True)
    with pytest.raises(FactoryError, match="Did you mean 'megatron'"):
        export_tokens(workspace, "top", target, "megatorn")
    with pytest.raises(FactoryError, match="Leave --repeat out"):
        export_tokens(workspace, "top", target, "parquet", repeat=True, packed=True)


@pytest.fixture(scope="module")
def masked(tiny, tmp_path_factory):  # noqa: F811
    """The same project, with documents of one sequence kept apart."""
    folder = shutil.copytree(tiny.parent, tmp_path_factory.mktemp("masked") / "tiny")
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "packing: {use: best_fit, document_mask: true}\n")
    with Workspace(load_recipe(str(recipe)), LocalExecutor(1)) as opened:
        opened.run(["tokens"])
        yield opened


@pytest.mark.parametrize("form", ["parquet", "numpy", "mds"])
def test_packed_sequences_come_in_the_order_the_proxy_reads_them(workspace, masked, tmp_path, form):
    for project, folder in ((workspace, tmp_path / "plain"), (masked, tmp_path / "masked")):
        made = export_tokens(project, "top", str(folder), form, packed=True, shard_tokens=6_000)
        ids, table = read_back(form, folder)
        with order_of(project) as order:
            batches = [order.batch(step) for step in range(order.steps)]
            assert made["tokens"] == order.tokens
        assert ids == [row for batch in batches for row in batch.ids.tolist()]
        assert table.column("step").to_pylist() == [n for n, batch in enumerate(batches) for _ in batch.ids]
        assert made["written"] > 1
        if form == "parquet" and project is masked:
            assert table.column("targets").to_pylist() == [row for batch in batches for row in batch.targets.tolist()]
            assert table.column("documents").to_pylist() == [r for batch in batches for r in batch.documents.tolist()]


def order_of(project):
    manifest = project.need("tokens", "top")
    parts = {part.name: part.to_json() for part in manifest.parts}
    plan = token_export.training_plan(project, project.recipe.experiment("top"), manifest, 0)
    return token_export.opened_order(project.store, {"parts": parts, "plan": plan})


def test_a_proxy_the_recipe_does_not_train_has_no_order(workspace, tmp_path):
    with pytest.raises(FactoryError, match="proxies/top@nano-7 is not in the recipe"):
        export_tokens(workspace, "top", str(tmp_path / "out"), "numpy", packed=True, seed=7)


def test_an_mds_shard_beyond_its_offsets_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("factory.storage.token_formats.MDS_LIMIT", 1_000)
    batch = pa.record_batch({"ids": pa.array([list(range(600))], pa.list_(pa.uint16()))})
    with pytest.raises(FactoryError, match="Ask for smaller shards"):
        WRITERS["mds"](str(tmp_path), 0, 1, batch.schema, [batch])


def small_table():
    chance = np.random.default_rng(5)
    rows = [chance.integers(0, 70_000, size) for size in (1, 2, 255, 256, 65_535, 65_536, 3)]
    return pa.record_batch(
        {
            "doc_id": [f"d{number}" for number in range(len(rows))],
            "ids": pa.array([row.tolist() for row in rows], pa.list_(pa.int32())),
            "repeats": pa.array(range(len(rows)), pa.uint32()),
        }
    )


READ_MEGATRON = """
import json, sys
from megatron.core.datasets.indexed_dataset import IndexedDataset
found = []
for prefix in sys.argv[1:]:
    made = IndexedDataset(prefix, mmap=True)
    pieces, middle = [made[i] for i in range(len(made))], made.get(0, offset=1, length=2).tolist()
    lengths, documents = made.sequence_lengths.tolist(), made.document_indices.tolist()
    found.append([str(pieces[0].dtype), documents, lengths, [p.tolist() for p in pieces], middle])
print(json.dumps(found))
"""
READ_MDS = """
import json, sys, types
from importlib.machinery import ModuleSpec
try:
    import torchvision.datasets
except Exception:  # only the pictures of that package need it, and it rarely fits a torch without CUDA
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
    sys.modules["torchvision.datasets"].VisionDataset = object
    sys.modules["torchvision.transforms.functional"].to_tensor = None
from streaming import StreamingDataset
data = StreamingDataset(local=sys.argv[1], shuffle=False, batch_size=1)
rows = [data[i] for i in range(len(data))]
print(json.dumps([{k: v.tolist() if hasattr(v, "tolist") else v for k, v in row.items()} for row in rows]))
"""


def run_peer(program, *arguments):
    command = [str(PEER), "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


@with_peer
def test_megatrons_own_reader_reads_the_token_files_of_the_store(tmp_path):
    documents = [[7, 8, 9, 10], [], [65_499], list(range(300))]
    for dtype in ("uint16", "int32"):
        with TokenWriter(tmp_path / dtype, dtype) as writer:
            for document in documents:
                writer.append(np.array(document, dtype), [len(document)])
    read = [[dtype, [0, 1, 2, 3, 4], [4, 0, 1, 300], documents, [8, 9]] for dtype in ("uint16", "int32")]
    assert run_peer(READ_MEGATRON, tmp_path / "uint16", tmp_path / "int32") == read


@with_peer
def test_mosaics_own_reader_reads_exported_shards(tmp_path):
    batch = small_table()
    halves = [batch.slice(0, 4), batch.slice(4)]
    shards = []
    for number, half in enumerate(halves):
        (name,) = WRITERS["mds"](str(tmp_path), number, 2, batch.schema, [half])
        files = [{"path": name, "bytes": (tmp_path / name).stat().st_size}]
        shards.append({"files": files, "rows": half.num_rows})
    (index,) = finish("mds", batch.schema, shards, "").values()
    (tmp_path / "index.json").write_bytes(index)
    assert run_peer(READ_MDS, tmp_path) == batch.to_pylist()


def test_the_library_of_datasets_knows_the_types_of_exported_columns(tmp_path):
    import datasets

    batch = small_table()
    names = WRITERS["huggingface"](str(tmp_path), 0, 1, batch.schema, [batch])
    for name, data in finish(
        "huggingface", batch.schema, [{"files": [{"path": names[0]}]}], "0123456789abcdef"
    ).items():
        (tmp_path / name).write_bytes(data)
    found = datasets.load_from_disk(str(tmp_path))
    assert found.features["ids"] == datasets.List(datasets.Value("int32"))
    assert found.to_list() == batch.to_pylist()
    streamed = datasets.load_dataset(
        "arrow", data_files=str(tmp_path / "*.arrow"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert streamed.to_list() == batch.to_pylist()
