"""Documents taken as often as their copies suggest: the published weights, and what they become on the way to a training."""

import json
import random
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from factory.core.errors import RecipeError
from factory.core.fingerprint import hash_ids
from factory.core.mixture import copy_hashes, numbered_copies
from factory.execution.local import LocalExecutor
from factory.recipes.explain import explain
from factory.recipes.export import export
from factory.recipes.funnel import funnels
from factory.recipes.load import check_recipe
from factory.recipes.workspace import Workspace
from factory.reports import terminal
from factory.stages.selectors.rehydrate import Rehydrate, fit, pooled, rehydrate, repeats_of, smoothed
from factory.storage.parts import read_part
from factory.storage.tokens import TokenFile, TokenWriter
from factory.training.loader import TokenStream

HAND_MADE = {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}


@cache
def executor():
    return LocalExecutor(1)


@pytest.fixture(scope="module", autouse=True)
def workers():
    """One pool for all projects of this file."""
    yield
    executor().close()


def table(sizes, removed, **columns):
    return pa.table({"size": pa.array(sizes, pa.uint32()), **columns, "removed": pa.array(removed)})


def of_rates(rates, documents=1000):
    """A table whose cluster sizes 1, 2, ... lose these shares of so many documents each."""
    sizes = np.repeat(np.arange(1, len(rates) + 1), documents)
    return table(sizes, np.concatenate([np.arange(documents) < round(rate * documents) for rate in rates]))


def weights_of(config, found):
    return [row[-1] for row in fit(config, found)["groups"][""]["bins"]]


def repeats(config, fitted, **columns):
    return rehydrate(config, fitted)(pa.record_batch(columns)).column("repeats").to_pylist()


# --- weights


def test_the_published_example_has_the_published_weights():
    assert repeats_of(np.array([0.7, 0.5, 0.3, 0.3, 0.8]), 0.6, 10).tolist() == [1, 4, 10, 10, 1]


def test_sizes_that_lose_more_than_all_documents_are_taken_once():
    found = fit(Rehydrate(column="size", smooth=1), of_rates([0.7, 0.5, 0.3, 0.35, 0.8]))["groups"][""]
    assert found["removed"] == pytest.approx(0.53)
    for _, documents, rate, even, weight in found["bins"]:
        assert (documents, rate) == (1000, even)
        assert weight == 1 or rate < found["removed"]
    assert [row[-1] for row in found["bins"]] == [1, 2, 10, 8, 1]


def test_rates_are_smoothed_but_for_the_ends():
    assert smoothed(np.array([0.9, 0.1, 0.5, 0.2, 0.3, 0.8]), 5).tolist() == pytest.approx(
        [0.9, 0.1, 0.4, 0.38, 0.3, 0.8]
    )
    assert smoothed(np.array([0.9, 0.1, 0.5]), 5).tolist() == [0.9, 0.1, 0.5]


def test_where_all_sizes_lose_alike_nothing_is_repeated():
    assert weights_of(Rehydrate(column="size"), of_rates([0.5] * 9)) == [1] * 9


def test_sparse_sizes_are_pooled_in_bins_that_double():
    documents = np.array([1000, 500, 200, 100, 50, *[10] * 34])
    starts = pooled(np.arange(1, 40), documents, 100)
    assert (starts + 1).tolist() == [1, 2, 3, 4, 5, 20]
    assert np.add.reduceat(documents, starts).min() >= 100
    assert pooled(np.array([1, 7, 9000]), np.array([1000, 5, 1]), 100).tolist() == [0]
    assert pooled(np.array([3, 7, 9000]), np.array([1, 5, 1]), 1).tolist() == [0, 1, 2]


def test_one_document_of_a_giant_cluster_does_not_set_the_scale():
    found = of_rates([0.7, 0.5, 0.3])
    giant = pa.concat_tables([found, table([50_000], [False])])
    config = Rehydrate(column="size", smooth=1)
    assert weights_of(config, giant) == weights_of(config, found) == [1, 1, 10]
    assert weights_of(config.model_copy(update={"pool": 1}), giant)[-1] == 10


def test_a_size_that_was_not_met_is_of_the_bin_before():
    config = Rehydrate(column="size", smooth=1)
    fitted = fit(config, of_rates([0.7, 0.5, 0.3]))
    assert repeats(config, fitted, size=pa.array([1, 3, 4, 10**6, None], pa.uint32())) == [1, 10, 10, 10, 1]


def test_each_language_has_its_own_weights():
    config = Rehydrate(column="size", by="lang", smooth=1)
    parts = [
        of_rates(rates).append_column("lang", pa.array([lang] * 2000))
        for lang, rates in (("it", [0.8, 0.2]), ("fr", [0.2, 0.8]))
    ]
    fitted = fit(config, pa.concat_tables(parts))
    sizes, langs = pa.array([1, 2, 1, 2, 2], pa.uint32()), pa.array(["it", "it", "fr", "fr", "de"])
    assert repeats(config, fitted, size=sizes, lang=langs) == [1, 10, 10, 1, 1]


def test_steps_given_by_hand_are_taken_as_they_are():
    config = Rehydrate(column="size", weights=HAND_MADE)
    fitted = fit(config, of_rates([0.9, 0.1, 0.5]))
    sizes = pa.array([1, 2, 3, 4, 5, 99, 100, 999, 1000], pa.uint32())
    assert repeats(config, fitted, size=sizes) == [1, 2, 3, 3, 5, 5, 8, 8, 1]
    assert Rehydrate(**json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smooth": 4}, "no middle"),
        ({"weights": {0: 1}}, "0: 1"),
        ({"weights": {1: 0}}, "1: 0"),
        ({"weights": {1: 2}, "by": "lang"}, "leave out weights, or by"),
        ({"max_repeats": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Rehydrate(column="size", **settings)


# --- copies


def test_copies_are_numbered_and_have_hashes_of_their_own():
    documents, copies = numbered_copies(np.array([2, 0, 3]))
    assert (documents.tolist(), copies.tolist()) == ([0, 0, 2, 2, 2], [0, 1, 0, 1, 2])
    hashes = hash_ids(pa.array([f"{n:032x}" for n in range(5000)]), 1)
    many, number = numbered_copies(np.full(5000, 10))
    found = copy_hashes(hashes[many], number)
    assert len(np.unique(found)) == 50_000
    assert np.array_equal(found[number == 0], hashes)
    assert abs(np.corrcoef(found[number == 0].astype(float), found[number == 1].astype(float))[0, 1]) < 0.05


def test_a_stream_of_copies_holds_each_as_often_as_asked_and_few_side_by_side(tmp_path):
    counts = np.where(np.arange(500) % 10 == 0, 10, 1)
    with TokenWriter(tmp_path / "part", "uint16") as writer:
        writer.append(np.arange(500, dtype=np.uint16), np.ones(500, np.int64))
    file, hashes = TokenFile(tmp_path / "part"), hash_ids(pa.array([f"{n:032x}" for n in range(500)]), 3)
    stream = TokenStream(file, counts, context=7, seed=1, hashes=hashes)
    found = [stream.locate(offset) for offset in range(stream.tokens)]
    assert Counter(document for document, _ in found) == {n: int(count) for n, count in enumerate(counts)}
    assert len(set(found)) == stream.tokens
    beside = sum(one[0] == other[0] for one, other in pairwise(found))
    assert beside <= 15  # by chance 950 * 10 / 950; passes of the 50 alone would not mix with the others
    last = [document for document, _ in found[-100:]]
    assert sum(counts[document] == 1 for document in last) > 20


# --- the chain


def text_of(number, words):
    chance = random.Random(number)
    return " ".join("".join(chance.choices("abcdefghij", k=5)) for _ in range(words))


def write_files(folder, parts):
    """Clusters of sizes 1 to 4 over two snapshots; of each size another share is too short."""
    rows = {"a": [], "b": []}
    short = {1: 8, 2: 5, 3: 2, 4: 7}  # of ten
    for size, lost in short.items():
        for cluster in range(40):
            text = text_of(size * 1000 + cluster, 3 if cluster % 10 < lost else 40)
            for copy in range(size):
                snapshot = "ab"[(cluster + copy) % 2]
                rows[snapshot].append(json.dumps({"id": f"{size}-{cluster}-{copy}", "text": text}) + "\n")
    for snapshot, lines in rows.items():
        random.Random(snapshot).shuffle(lines)
        (folder / "data" / snapshot).mkdir(parents=True)
        for part in range(parts):
            (folder / "data" / snapshot / f"{part}.jsonl").write_text("".join(lines[part::parts]))


SELECTION = {"use": "rehydrate", "column": "same_cluster_size", "smooth": 1, "pool": 10}


def workspace_of(folder, **changes):
    recipe = {
        "name": "copies",
        "sources": {"web": {"use": "jsonl", "uri": "data/*/*.jsonl", "snapshot": "{parent}"}},
        "scorers": {"words": {"use": "word_statistics"}},
        "linkers": {"same": {"use": "exact", "scope": "global"}},
        "filters": {
            "long": {"use": "in_range", "column": "words_words", "min": 10},
            "copy": {"use": "is_absent", "column": "same_duplicate_of"},
        },
        "tokenizer": {"vocab_size": 270, "documents": 50},
        "mixture": {"use": "natural", "tokens": 100_000, "max_epochs": 8},
        **changes,
    }
    return Workspace(check_recipe({k: v for k, v in recipe.items() if v is not None}, folder=str(folder)), executor())


def index_of(workspace, experiment="base"):
    tokens = workspace.need("tokens", experiment)
    (index,) = (part for part in tokens.parts if part.name == "index")
    return read_part(workspace.store, index)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with and without repeats, made up to the tokens: only to be looked at."""
    folder = tmp_path_factory.mktemp("copies")
    write_files(folder, 1)
    experiments = {"base": {}, "once": {"selection": None}, "hand": {"selection": {"weights": HAND_MADE}}}
    workspace = workspace_of(folder, selection=SELECTION, experiments=experiments)
    workspace.run(["tokens"])
    return folder, workspace


def selected(workspace, experiment="base"):
    parts = workspace.need("selection", experiment).parts
    return pa.concat_tables([read_part(workspace.store, part) for part in parts]).to_pylist()


def test_repeats_follow_what_filters_remove_of_documents_that_stand_for_their_cluster(made):
    notes = made[1].need("selection", "base").notes
    group = notes["fitted"]["groups"][""]
    assert group["removed"] == pytest.approx((8 + 5 + 2 + 7) / 40)
    assert [row[:3] for row in group["bins"]] == [[1, 40, 0.8], [2, 40, 0.5], [3, 40, 0.2], [4, 40, 0.7]]
    assert [row[-1] for row in group["bins"]] == [1, 2, 10, 1]


def test_the_planned_rows_are_the_sum_of_the_weights(made):
    rows, notes = selected(made[1]), made[1].need("selection", "base").notes
    kept = {1: 8, 2: 20, 3: 32, 4: 12}
    planned = sum(count * weight for count, weight in zip(kept.values(), (1, 2, 10, 1), strict=True))
    assert len(rows) == sum(kept.values())
    assert sum(row["repeats"] for row in rows) == planned == notes["documents"]["web"]
    assert notes["unrepeated"]["documents"] == {"web": 72}
    assert notes["tokens"]["web"] == sum(row["repeats"] * row["tokens"] for row in rows)


def test_repeats_multiply_with_the_epochs_of_the_mixture(made):
    workspace = made[1]
    epochs = workspace.need("mixture", "base").notes["epochs"]["web"]
    repeats_by_id = {row["doc_id"]: row["repeats"] for row in selected(workspace)}
    index = index_of(workspace).to_pylist()
    assert epochs > 1.1
    for row in index:
        copies = repeats_by_id[row["doc_id"]]
        assert int(epochs) * copies <= row["repeats"] <= (int(epochs) + 1) * copies
    read = sum(row["repeats"] * row["length"] for row in index)
    assert 0 <= read - 100_000 < max(row["length"] for row in index)


def test_without_a_selection_the_tokens_are_those_of_a_recipe_that_has_none(made, tmp_path):
    write_files(tmp_path, 1)
    plain = workspace_of(tmp_path)
    plain.run(["tokens"])
    assert plain.need("tokens", "base").digest == made[1].need("tokens", "once").digest
    assert plain.need("selection", "base").digest == made[1].need("selection", "once").digest
    assert "repeats" not in selected(plain)[0]
    assert plain.graph["tokens/base"].spec == {"seed": 0, "bos": False, "eos": True}


def test_tokens_of_documents_taken_once_are_those_of_no_selection(made):
    folder, workspace = made
    ones = workspace_of(folder, name="ones", selection={**SELECTION, "weights": {1: 1}})
    ones.run(["tokens"])
    assert ones.need("tokens", "base").digest == workspace.need("tokens", "once").digest


def test_repeats_do_not_depend_on_parts(made, tmp_path):
    write_files(tmp_path, 5)
    other = workspace_of(tmp_path, selection=SELECTION)
    other.run(["selection"])
    wanted = Counter((row["snapshot"], row["tokens"], row["repeats"]) for row in selected(made[1]))
    assert Counter((row["snapshot"], row["tokens"], row["repeats"]) for row in selected(other)) == wanted
    assert other.need("selection", "base").notes["fitted"] == made[1].need("selection", "base").notes["fitted"]


def test_a_document_says_how_often_it_is_taken(made):
    workspace = made[1]
    row = next(row for row in selected(workspace) if row["repeats"] == 10)
    (story,) = explain(workspace, row["doc_id"])
    ending = {item["label"]: item for item in story["experiments"]}
    assert ending["base"]["copies"] == 10
    assert ending["base"]["repeats"] > 10
    assert ending["base"]["decodes"]["same"]
    assert ending["once"]["copies"] is None


def test_the_funnel_counts_documents_with_their_repeats(made):
    found = {item["experiment"]: item["repeated"] for item in funnels(made[1])}
    assert found["base"]["documents"] == 8 + 40 + 320 + 12
    assert found["once"] is None


def test_steps_given_by_hand_hold_for_an_experiment(made):
    found = Counter(row["repeats"] for row in selected(made[1], "hand"))
    assert found == {1: 8, 2: 20, 3: 32 + 12}


def test_an_exported_corpus_says_how_often_to_take_each_document(made, tmp_path):
    workspace = made[1]
    corpus = export(workspace, "base", str(tmp_path / "out"))
    assert (corpus["documents"], corpus["copies"]) == (72, 380)
    assert corpus["selection"]["stage"] == "rehydrate"
    files = [pa.parquet.read_table(path) for path in (tmp_path / "out").rglob("*.parquet")]
    written = {row["doc_id"]: row["repeats"] for file in files for row in file.to_pylist()}
    assert written == {row["doc_id"]: row["repeats"] for row in selected(workspace)}
    assert "380 with repeats" in str(terminal.exported(corpus))
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    plain = export(workspace, "once", str(tmp_path / "plain"))
    assert "with repeats" not in str(terminal.exported(plain))
    assert "copies" not in plain


def test_copies_that_an_experiment_keeps_are_taken_once_beside_the_document_that_stands_for_them(made):
    folder, workspace = made
    keeping = workspace_of(
        folder,
        name="keeping",
        selection=SELECTION,
        filters={"long": {"use": "in_range", "column": "words_words", "min": 10}},
    )
    keeping.run(["selection"])
    kept = {1: 8, 2: 20, 3: 32, 4: 12}  # clusters
    weights = (1, 2, 10, 1)
    stand = {row["doc_id"]: row["repeats"] for row in selected(workspace)}
    rows = selected(keeping)
    assert len(rows) == sum(size * clusters for size, clusters in kept.items())
    for row in rows:
        assert row["repeats"] == stand.get(row["doc_id"], 1)
    planned = sum(
        clusters * (weight + size - 1) for (size, clusters), weight in zip(kept.items(), weights, strict=True)
    )
    assert sum(row["repeats"] for row in rows) == planned == keeping.need("selection", "base").notes["documents"]["web"]


def test_a_recipe_that_only_curates_repeats_what_it_exports(made, tmp_path):
    folder, _ = made
    curating = workspace_of(folder, name="curating", selection=SELECTION, tokenizer="none", mixture=None)
    curating.run()
    lines = export(curating, "base", str(tmp_path / "out"), "jsonl")
    assert lines["copies"] == 380
    assert curating.need("selection", "base").notes["unrepeated"]["documents"] == {"web": 72}


def test_another_column_than_there_is_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"selection: reads 'same_size', which no stage writes"):
        workspace_of(tmp_path, selection={"use": "rehydrate", "column": "same_size"})
    with pytest.raises(RecipeError, match=r"selection\.use: No selector is named 'hydrate'"):
        workspace_of(tmp_path, selection={"use": "hydrate", "column": "same_cluster_size"})
