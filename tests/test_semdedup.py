"""Semantic duplicates: exact neighbours whatever the machine, the parts and the memory are, and the encoders they rest on."""

import io
import itertools
import json
import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError, InputError, RecipeError
from factory.core.registry import find_stage
from factory.execution.local import LocalExecutor
from factory.kernels import vectors as exact
from factory.kernels.hashed_words import bucket_weights, document_frequencies, hashed_vectors
from factory.kernels.text import view_text
from factory.kernels.vectors import (
    gini,
    lengths,
    nearest_centroids,
    raise_to_earlier,
    spherical_kmeans,
    unit_vectors,
)
from factory.recipes.load import check_recipe
from factory.recipes.references import pin_stage, pinned_paths
from factory.recipes.steps.links.neighbours import needs
from factory.recipes.workspace import Workspace
from factory.stages.embeddings import EncoderSettings, _shapes, model_files, transformer_encoder
from factory.stages.linkers.semdedup import Settings
from factory.stages.scorers.fasttext_quality import auc
from factory.storage.parts import read_part


def random_units(count, width=64, centres=20, seed=0):
    source = np.random.default_rng(seed)
    near = source.normal(size=(centres, width))[source.integers(0, centres, count)]
    return unit_vectors(near + source.normal(size=(count, width)))


def similarities(units, clusters=None):
    """By definition: for each vector the largest cosine with an earlier one of its clusters, in its order, and which."""
    whole = units.astype(np.int64)
    cosines = (whole @ whole.T) / lengths(units)[:, None] / lengths(units)[None, :]
    apart = np.tril(np.ones(cosines.shape, bool), -1)
    if clusters is not None:
        apart &= (clusters[:, :, None] == clusters[None, None, :, 0]).any(axis=1)
    cosines[~apart] = -np.inf
    return cosines.max(axis=1), np.where(apart.any(axis=1), cosines.argmax(axis=1), -1)


def found(units, cuts=(), at=None):
    at = np.arange(len(units)) if at is None else at
    best, nearest = np.full(len(units), -np.inf), np.full(len(units), -1)
    bounds = [0, *cuts, len(units)]
    for start, stop in itertools.pairwise(bounds):
        raise_to_earlier(units, at, units[start:stop], at[start:stop], best, nearest)
    return best, nearest


# --- whole numbers


def test_products_of_directions_are_exact_in_single_precision():
    for width in (3, 64, 768, 4096):
        units = random_units(200, width)
        products = units.astype(np.float32) @ units.astype(np.float32).T
        assert np.array_equal(products.astype(np.int64), units.astype(np.int64) @ units.astype(np.int64).T)
        assert np.abs(products).max() < 2**24
    assert (4000 + np.sqrt(exact.MOST_DIMENSIONS) / 2) ** 2 < 2**24


def test_rounding_moves_a_cosine_by_a_ten_thousandth():
    source = np.random.default_rng(1)
    vectors = source.normal(size=(400, 256))
    units = unit_vectors(vectors).astype(np.float64)
    true, kept = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, units))
    assert np.sqrt(np.mean((true @ true.T - kept @ kept.T) ** 2)) < 1.2e-4
    assert not unit_vectors(np.zeros((2, 8))).any()


def test_neighbours_are_those_of_the_definition():
    units = random_units(3000)
    best, nearest = found(units)
    wanted, which = similarities(units)
    assert np.abs(best[1:] - wanted[1:]).max() < 1e-12
    assert (best[0], nearest[0]) == (-np.inf, -1)
    assert np.array_equal(nearest, which)


def test_neighbours_do_not_depend_on_the_blocks_they_are_found_in(monkeypatch):
    units = np.concatenate([random_units(700), random_units(300)])  # the second 300 are copies: equal cosines
    best, nearest = found(units)
    monkeypatch.setattr(exact, "_PRODUCT_ROWS", 37)
    monkeypatch.setattr(exact, "_PRODUCT_COLUMNS", 101)
    for cuts in ((), (1,), (500,), (3, 250, 999)):
        again = found(units, cuts)
        assert np.array_equal(best, again[0])
        assert np.array_equal(nearest, again[1])


@settings(max_examples=30)
@given(st.integers(2, 60), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_the_number_removed_grows_with_epsilon(count, one, other, seed):
    best, _ = found(random_units(count, 16, 3, seed))
    low, high = sorted((one, other))
    assert (best > 1 - low).sum() <= (best > 1 - high).sum()


# --- clusters


def test_clusters_do_not_depend_on_the_order_of_the_sample():
    units = random_units(2000)
    centroids = spherical_kmeans(units, 20, 20, seed=7)
    mixed = units[np.random.default_rng(3).permutation(len(units))]
    assert np.array_equal(centroids, spherical_kmeans(mixed, 20, 20, seed=7))
    assert not np.array_equal(centroids, spherical_kmeans(units, 20, 20, seed=8))


def test_clusters_that_are_there_are_found_and_none_is_empty():
    source = np.random.default_rng(5)
    truth = source.integers(0, 12, 3000)
    units = unit_vectors(source.normal(size=(12, 64))[truth] + 0.3 * source.normal(size=(3000, 64)))
    number, nearness = nearest_centroids(units, spherical_kmeans(units, 12, 30, seed=0))
    purity = sum(np.bincount(truth[number == cluster]).max() for cluster in range(12)) / 3000
    assert purity > 0.9
    assert len(np.unique(number)) == 12
    assert nearness.mean() > 0.8


def test_there_are_no_more_clusters_than_different_vectors():
    units = np.repeat(random_units(3, 16), 50, axis=0)
    centroids = spherical_kmeans(units, 10, 5, seed=0)
    assert len(centroids) == 3
    assert (gini(np.array([5, 5, 5])), gini(np.array([0, 0, 9]))) == (0.0, pytest.approx(2 / 3))


def test_an_empty_cluster_gets_what_lies_farthest_from_the_others():
    number, nearness = np.array([0, 0, 0, 2]), np.array([0.9, 0.2, 0.8, 0.1])
    exact._fill_empty(number, nearness, 3)
    assert number.tolist() == [0, 1, 0, 2]


# --- documents


@cache
def corpus(folder):
    """Real documents of several kinds, cut to 3,000 characters."""
    made = []
    for name in ("wikipedia", "government", "howto", "textbook", "legal", "biomedical"):
        with open(folder / "corpus" / f"{name}.jsonl.zst", "rb") as stream:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(stream), encoding="utf-8", newline="\n")
            made += [json.loads(line)["text"][:3000] for line, _ in zip(lines, range(150), strict=False)]
    return [text for text in dict.fromkeys(made) if len(text.split()) > 60]


def edited(text, seed):
    """A tenth of the words left out, a tenth replaced by words of the text in other places, sentences in another order."""
    chance = random.Random(seed)
    words = text.split()
    kept = [chance.choice(words) if chance.random() < 0.1 else word for word in words if chance.random() >= 0.1]
    sentences = " ".join(kept).split(". ")
    chance.shuffle(sentences)
    return ". ".join(sentences)


RECIPE = {
    "name": "semantic",
    "sources": {"web": {"use": "jsonl", "uri": "data/*/*.jsonl", "snapshot": "{parent}"}},
    "tokenizer": "none",
}


def write_texts(folder, snapshots):
    for snapshot, texts in snapshots.items():
        path = folder / "data" / snapshot / "web.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ({"id": str(number), "text": text} for number, text in enumerate(texts))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def project(folder, store=None, memory=1 << 30, part_bytes=64 << 20, **linker):
    linked = {"use": "semdedup", "sources": ["web"], **linker}
    sources = {"web": {**RECIPE["sources"]["web"], "part_bytes": part_bytes}}
    recipe = check_recipe(
        {**RECIPE, "sources": sources, "linkers": {"semantic": linked}}, folder=str(folder), store=store
    )
    return Workspace(recipe, LocalExecutor(1), memory=memory)


def rows_of(workspace, snapshot):
    """Links with the vectors and texts beside them, by doc_id."""
    store, made = workspace.store, []
    documents = {part.digest: part for part in workspace.need("documents", "", snapshot).parts}
    keys = {part.name: part for part in workspace.need("keys", "semantic", snapshot).parts}
    for part in workspace.need("links", "semantic", snapshot).parts:
        columns = dict(_columns(store, documents[part.name], ["doc_id", "text"]))
        columns |= dict(_columns(store, keys[part.name], ["keys", "vector"]))
        columns |= dict(_columns(store, part, ["duplicate_of", "cluster", "max_similarity", "nearness"]))
        made += pa.table(columns).to_pylist()
    return {row["doc_id"]: row for row in made}


def _columns(store, part, names):
    table = read_part(store, part, names)
    return [(name, table.column(name)) for name in names]


def linked(workspace):
    with workspace:
        workspace.run(["links"])
        return {snapshot: rows_of(workspace, snapshot) for snapshot in workspace.snapshots}


def plain(rows):
    return {name: {key: row[key] for key in row if key != "text"} for name, row in rows.items()}


@pytest.fixture(scope="module")
def edits(shared_data, tmp_path_factory):
    """Originals in one snapshot; in the next edits of some of them, and documents of the same kinds that are no edits."""
    folder = tmp_path_factory.mktemp("edits")
    texts = corpus(shared_data)
    random.Random(0).shuffle(texts)
    half = len(texts) // 2
    originals, fresh = texts[:half], texts[half:]
    changed = [edited(text, seed) for seed, text in enumerate(originals[:150])]
    write_texts(folder, {"2026-01": originals, "2026-02": [*changed, *fresh]})
    return SimpleNamespace(folder=folder, changed=set(changed))


@pytest.fixture(scope="module")
def edits_linked(edits):
    return linked(project(edits.folder, clusters=5))


def test_edits_of_real_documents_are_told_from_other_documents(edits, edits_linked):
    rows = edits_linked["2026-02"].values()
    truth = np.array([row["text"] in edits.changed for row in rows])
    similar = np.array([-1.0 if row["max_similarity"] is None else row["max_similarity"] for row in rows])
    assert truth.sum() == 150
    assert auc(similar, truth) >= 0.95


def test_links_equal_brute_force(edits_linked):
    everything = [
        (snapshot, row["nearness"], name, row) for snapshot, rows in edits_linked.items() for name, row in rows.items()
    ]
    everything.sort(key=lambda item: item[:3])  # an earlier snapshot first, then the farthest from the centroid
    rows = [row for *_, row in everything]
    units = np.array([row["vector"] for row in rows], np.int16)
    wanted, which = similarities(units, np.array([row["keys"] for row in rows]))
    for row, similarity, at in zip(rows, wanted, which, strict=True):
        if at < 0:
            assert (row["max_similarity"], row["duplicate_of"]) == (None, None)
        else:
            assert row["max_similarity"] == pytest.approx(min(similarity, 1.0), abs=1e-6)
            assert row["duplicate_of"] == (rows[at]["doc_id"] if similarity > 0.9 else None)


def test_links_do_not_depend_on_parts_or_memory(edits, edits_linked, tmp_path):
    whole = {snapshot: plain(rows) for snapshot, rows in edits_linked.items()}
    size = max(path.stat().st_size for path in edits.folder.glob("data/*/*.jsonl"))
    for parts, memory in ((2, 1 << 20), (7, 200_000), (16, 1 << 30)):
        store = str(tmp_path / str(parts))
        workspace = project(edits.folder, store, memory=memory, part_bytes=max(1024, size // parts + 1), clusters=5)
        rows = linked(workspace)
        assert len(workspace.need("documents", "", "2026-02").parts) >= parts
        assert {snapshot: plain(found) for snapshot, found in rows.items()} == whole
        assert not list(Path(store).glob("exchange/**/*.blocks"))


def test_a_later_snapshot_changes_neither_centroids_nor_earlier_verdicts(edits, edits_linked, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "2026-01").symlink_to(edits.folder / "data" / "2026-01")
    alone = linked(project(tmp_path, clusters=5))
    assert plain(alone["2026-01"]) == plain(edits_linked["2026-01"])


@pytest.mark.parametrize("keep", ["hard", "easy", "first"])
def test_who_is_kept_is_who_comes_first_in_the_order(edits, edits_linked, tmp_path, keep):
    workspace = project(edits.folder, str(tmp_path / "store"), clusters=5, keep=keep, scope="global", epsilon=0.3)
    rows = {
        name: {**row, "at": (snapshot, name)}
        for snapshot, found in linked(workspace).items()
        for name, row in found.items()
    }
    pairs = [(rows[row["duplicate_of"]], row) for row in rows.values() if row["duplicate_of"]]
    assert len(pairs) > 80
    before = {
        "hard": lambda kept, gone: kept["nearness"] <= gone["nearness"],
        "easy": lambda kept, gone: kept["nearness"] >= gone["nearness"],
        "first": lambda kept, gone: kept["at"] < gone["at"],
    }[keep]
    assert all(before(kept, gone) and kept["cluster"] in gone["keys"] for kept, gone in pairs)


def test_another_epsilon_makes_no_vectors_and_no_centroids_again(edits, tmp_path):
    store = str(tmp_path / "store")
    removed = []
    for epsilon in (0.05, 0.2, 0.5):
        with project(edits.folder, store, clusters=5, epsilon=epsilon) as workspace:
            outcomes = workspace.run(["links"])
            made = {outcome.node.kind for outcome in outcomes if outcome.made}
            assert made == ({"documents", "models", "keys", "links"} if epsilon == 0.05 else {"links"})
            removed.append(sum(workspace.need("links", "semantic", s).notes["duplicates"] for s in workspace.snapshots))
    assert removed == sorted(removed)
    assert 0 < removed[0] < removed[-1]


def test_documents_without_words_are_never_neighbours(tmp_path):
    write_texts(tmp_path, {"one": ["...", "?!", "—", "one word", "one word", "漢字だけの文です", "漢字だけの文です"]})
    rows = dict(linked(project(tmp_path))["one"].items())
    for row in rows.values():
        wordless = row["text"] in ("...", "?!", "—")
        assert (row["vector"] is None, row["cluster"] is None, row["nearness"] is None) == (wordless,) * 3
        assert not wordless or (row["duplicate_of"], row["max_similarity"]) == (None, None)
    assert sum(row["duplicate_of"] is not None for row in rows.values()) == 2


def test_a_sample_without_words_says_so(tmp_path):
    write_texts(tmp_path, {"one": ["...", "?!"]})
    with pytest.raises(FactoryError, match="no document of web has words"):
        linked(project(tmp_path))


def test_hundreds_of_copies_are_one_document(tmp_path):
    write_texts(tmp_path, {"one": ["the same words in every document of this file"] * 300})
    rows = linked(project(tmp_path))["one"]
    kept = [row for row in rows.values() if row["duplicate_of"] is None]
    assert len(kept) == 1
    assert {row["max_similarity"] for row in rows.values()} == {None, 1.0}
    assert {row["duplicate_of"] for row in rows.values()} == {None, min(rows)}


def test_what_a_join_needs_is_bounded_by_memory_but_for_where_documents_stand():
    small, large = (needs(10_000_000, 10_000_000, memory) for memory in (64 << 20, 4 << 30))
    assert small.splits > large.splits
    assert small.memory < 300 << 20
    assert small.disk == large.disk > 10_000_000 * 512


# --- encoders


def test_hashed_vectors_tell_edits_from_other_texts_and_depend_on_nothing_else(shared_data):
    texts = corpus(shared_data)[:200]
    weights = bucket_weights(document_frequencies(view_text(pa.array(texts))), len(texts))
    together, filled = hashed_vectors(view_text(pa.array([*texts, *(edited(text, 1) for text in texts)])), weights)
    assert filled.all()
    alone = np.concatenate([hashed_vectors(view_text(pa.array([text])), weights)[0] for text in texts])
    assert np.array_equal(together[:200], alone)
    whole = together.astype(np.float64) / lengths(together)[:, None]
    cosines = whole[:200] @ whole[200:].T
    assert np.median(np.diag(cosines)) > 0.75
    assert (cosines.argmax(axis=1) == np.arange(200)).mean() > 0.98


def write_model(folder, kind="bert", **changes):
    """A transformer of a few thousand random weights, as Hugging Face lays one out."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, OPTConfig, OPTModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if kind == "bert":
        model = BertModel(
            BertConfig(
                vocab_size=300,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
                **changes,
            )
        )
    else:
        model = OPTModel(
            OPTConfig(
                vocab_size=300,
                hidden_size=32,
                word_embed_proj_dim=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                ffn_dim=64,
                max_position_embeddings=64,
                **changes,
            )
        )
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


SENTENCES = [
    "A short one.",
    "Rivers carry stones to the sea.",
    "",
    "x" * 500,
    "Rivers carry stones to the lake.",
    "Und?",
]


def encoder(folder, **options):
    config = EncoderSettings(model=str(folder), **{"max_tokens": 48, **options})
    stage = SimpleNamespace(name="test", files_for=lambda _: (), paths_for=model_files)
    return transformer_encoder(config, pinned_paths(stage, config, pinned=pin_stage(stage, config, "."), folder="."))


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("bert", "cls"), ("opt", "last"), ("opt", "mean")])
def test_a_transformers_vectors_do_not_depend_on_the_batch(tmp_path, kind, pooling):
    encode = encoder(write_model(tmp_path / kind, kind), pooling=pooling)
    together, filled = encode(pa.array(SENTENCES, pa.large_string()))
    assert filled.tolist() == [True, True, False, True, True, True]
    for turn in (SENTENCES[::-1], SENTENCES[2:4], SENTENCES * 3):
        again, _ = encode(pa.array(turn, pa.large_string()))
        wanted = [together[SENTENCES.index(text)].tolist() for text in turn]
        assert again.tolist() == wanted


@pytest.mark.parametrize("kind", ["bert", "opt"])
def test_batches_of_fixed_shapes_give_the_vectors_of_texts_alone(tmp_path, kind, monkeypatch):
    folder = write_model(tmp_path / kind, kind)
    alone, _ = encoder(folder)(pa.array(SENTENCES, pa.large_string()))
    monkeypatch.setattr(
        "factory.stages.embeddings._shapes",
        lambda sizes, config: _shapes(sizes, config.model_copy(update={"device": "cuda", "batch_tokens": 192})),
    )
    batched, _ = encoder(folder)(pa.array(SENTENCES, pa.large_string()))
    assert np.abs(alone.astype(int) - batched.astype(int)).max() <= 1


def test_shapes_of_batches_do_not_depend_on_neighbours():
    config = EncoderSettings(model="m", device="cuda", batch_tokens=256, max_tokens=512)
    made = list(_shapes([3, 64, 0, 65, 500, 1, 2, 600], config))
    assert made == [([0, 1, 5, 6], 64, 4), ([3], 128, 2), ([4], 512, 1), ([7], 512, 1)]


ENCODED = {"model": "encoder", "max_tokens": 48, "clusters": 3, "epsilon": 0.001}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A project linked with a transformer: 120 texts, and 40 of them again."""
    folder = tmp_path_factory.mktemp("encoded")
    write_model(folder / "encoder")
    chance = random.Random(1)
    words = ["river", "stone", "lamp", "cloud", "paper", "seven", "green", "walk", "under", "music"]
    texts = [" ".join(chance.choices(words, k=12)) for _ in range(120)]
    write_texts(folder, {"one": [*texts, *texts[:40]]})
    return SimpleNamespace(folder=folder, copies=set(texts[:40]), rows=linked(project(folder, **ENCODED))["one"])


def test_a_transformer_links_a_project_whatever_its_parts_are(encoded, tmp_path):
    rows = encoded.rows
    pieces = linked(project(encoded.folder, str(tmp_path / "store"), part_bytes=2000, **ENCODED))["one"]
    assert plain(rows) == plain(pieces)
    assert encoded.copies <= {row["text"] for row in rows.values() if row["duplicate_of"]}
    assert all(rows[row["duplicate_of"]]["cluster"] in row["keys"] for row in rows.values() if row["duplicate_of"])


def test_a_models_files_are_part_of_the_identity_and_other_files_are_not_read(encoded):
    def states():
        with project(encoded.folder, **ENCODED) as workspace:
            return {status.node.kind: status.state for status in workspace.plan()}

    (encoded.folder / "encoder" / "README.md").write_text("changed")
    assert states()["links"] == "cached"
    write_model(encoded.folder / "encoder", hidden_dropout_prob=0.2)
    assert (states()["documents"], states()["models"]) == ("cached", "make")


class Canary:
    """What a pickle can do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_neither_pickles_nor_code_of_a_model_are_ever_run(tmp_path):
    import torch

    folder, touched = write_model(tmp_path / "encoder"), tmp_path / "touched"
    torch.save({"a": Canary(touched)}, folder / "pytorch_model.bin", pickle_module=__import__("pickle"))
    (folder / "modeling_own.py").write_text(f"open({str(touched)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    encoder(folder)(pa.array(["some words"]))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    with pytest.raises(FactoryError, match="cannot be loaded"):
        encoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="nothing matches"):
        encoder(folder)
    assert not touched.exists()


def test_weights_of_another_model_are_refused(tmp_path):
    bert, opt = write_model(tmp_path / "bert"), write_model(tmp_path / "opt", "opt")
    (bert / "model.safetensors").write_bytes((opt / "model.safetensors").read_bytes())
    with pytest.raises(FactoryError, match="lack"):
        encoder(bert)


def test_more_tokens_than_a_model_has_positions_are_refused(tmp_path):
    with pytest.raises(FactoryError, match="knows 64 positions; lower `max_tokens`"):
        encoder(write_model(tmp_path / "bert"), max_tokens=65)


def test_a_gpu_that_is_not_there_is_said_only_when_it_is_asked_for(tmp_path, capfd):
    import torch

    folder = write_model(tmp_path / "bert")
    capfd.readouterr()
    encoder(folder)(pa.array(["some words"]))
    assert capfd.readouterr() == ("", "")
    if not torch.cuda.is_available():
        with pytest.raises(FactoryError, match="there is no GPU here"):
            encoder(folder, device="cuda")


@pytest.mark.parametrize(
    ("linker", "problem"),
    [
        ({"sources": []}, "sources"),
        ({"keep": "newest"}, "keep"),
        ({"pooling": "last"}, "`pooling` is a setting of transformers"),
        ({"model": "https://models.example/x"}, "local folder"),
        ({"model": "models/*"}, "one folder"),
        ({"epsilon": -1}, "epsilon"),
        ({"sources": ["wbe"]}, "learns from source 'wbe', which the recipe does not have. Did you mean 'web'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, linker, problem):
    with pytest.raises(RecipeError, match=problem):
        project(tmp_path, **linker)


def test_settings_read_by_the_join_alone_are_no_part_of_the_keys():
    stage = find_stage("linker", "semdedup")
    assert set(stage.join_settings) <= set(Settings.model_fields)
    assert stage.packages_for(Settings(sources=("web",))) == {}
    assert set(stage.packages_for(Settings(sources=("web",), model="m"))) == {"torch", "transformers", "tokenizers"}
