"""Domains: labels that are learned, clusters of a bounded size, and what mixtures and filters do to their shares."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from factory.core.errors import FactoryError, InputError, RecipeError
from factory.core.mixture import repeats
from factory.core.registry import find_stage
from factory.execution.local import LocalExecutor
from factory.kernels.agglomeration import merge_balanced, summed
from factory.kernels.vectors import nearest_centroids, spherical_kmeans, unit_vectors
from factory.mixing.domains import correct_shares, implicit_mixture, mutual_information
from factory.mixing.shares import product_shares, total_variation
from factory.recipes.domains import domains
from factory.recipes.load import check_recipe
from factory.recipes.references import read_records
from factory.recipes.workspace import Workspace
from factory.stages.scorers import clusters, host_domain, taxonomy
from factory.storage.parts import read_part
from tests.worlds import w5_planted_clusters as w5


@pytest.fixture(scope="module")
def world():
    points, planted = w5.planted()
    return points, planted, w5.as_texts(points)


def score(function, name, values):
    batch = pa.record_batch([pa.array(values, pa.large_string())], names=[name])
    return function(batch).to_pylist()


# --- taxonomies


@pytest.fixture(scope="module")
def classifier(world, tmp_path_factory):
    _, planted, texts = world
    settings = taxonomy.Settings(references="labelled.jsonl", bucket=20_000, dim=16, epoch=5)
    learns = {"labelled": texts, "labelled.label": [f"topic {label:02}" for label in planted]}
    folder = tmp_path_factory.mktemp("taxonomy")
    metrics = taxonomy.fit(settings, learns, str(folder), 0)
    return settings, metrics, str(folder / taxonomy.MODEL_FILE)


def test_twenty_planted_labels_are_told_apart(classifier):
    _, metrics, _ = classifier
    assert metrics["macro_f1"] >= 0.95
    assert metrics["held_out"] == 200
    assert np.sum(metrics["confusion"]) == 200
    assert metrics["labels"] == [f"topic_{label:02}" for label in range(20)]


def test_a_ready_model_labels_other_texts_of_the_same_world(classifier):
    _, metrics, path = classifier
    points, planted = w5.planted()
    texts = w5.as_texts(points, seed=1)
    function = taxonomy.taxonomy(taxonomy.Settings(model=path), path)
    rows = score(function, "text", texts)
    assert np.mean([row["label"] == f"topic_{label:02}" for row, label in zip(rows, planted, strict=True)]) > 0.95
    assert sum(rows[0]["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert rows[0]["confidence"] == max(rows[0]["probabilities"])
    assert metrics["labels"][int(np.argmax(rows[0]["probabilities"]))] == rows[0]["label"]


def test_references_that_cannot_be_learned_from_say_why(tmp_path):
    settings = taxonomy.Settings(references="labelled.jsonl", labels=("a b", "c"))
    learns = {"labelled": [f"text {n}" for n in range(30)], "labelled.label": ["a b"] * 25 + ["c"] * 5}
    with pytest.raises(FactoryError, match=r"20 different documents of each; in 'labelled\.jsonl' 'c' has 5"):
        taxonomy.fit(settings, learns, str(tmp_path), 0)
    with pytest.raises(FactoryError, match=r"the label 'a_c', which is none\. Did you mean 'a_b'"):
        taxonomy.fit(settings, {"labelled": ["x"], "labelled.label": ["a/c"]}, str(tmp_path), 0)
    with pytest.raises(FactoryError, match="has no label"):
        taxonomy.fit(settings, {"labelled": ["x"], "labelled.label": [""]}, str(tmp_path), 0)
    with pytest.raises(ValidationError, match="either `references`"):
        taxonomy.Settings()


def test_a_reference_without_a_label_is_named_by_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "label": "a"}\n{"text": "two"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: no text under 'label'"):
        list(read_records("a.jsonl", str(tmp_path), ("text", "label")))


def test_shares_are_corrected_by_known_confusions():
    truth, noise = np.array([0.5, 0.25, 0.15, 0.07, 0.03]), 0.1
    chances = np.full((5, 5), noise / 4) + np.eye(5) * (1 - noise - noise / 4)
    labels = list("abcde")
    drawn = np.random.default_rng(0)
    true = drawn.choice(5, 40_000, p=truth)
    seen = np.array([drawn.choice(5, p=chances[label]) for label in true])
    observed = dict(zip(labels, np.bincount(seen, minlength=5) / len(seen), strict=True))
    corrected = correct_shares(observed, labels, chances)
    assert max(abs(observed[label] - share) for label, share in zip(labels, truth, strict=True)) > 0.03
    assert max(abs(corrected[label] - share) for label, share in zip(labels, truth, strict=True)) < 0.01


def test_correction_gives_shares_even_where_the_equations_do_not():
    corrected = correct_shares({"a": 0.99, "b": 0.01}, ["a", "b"], [[95, 5], [20, 80]])
    assert corrected["b"] == pytest.approx(0, abs=1e-6)
    assert sum(corrected.values()) == pytest.approx(1)
    with pytest.raises(FactoryError, match="none of them empty"):
        correct_shares({"a": 1.0}, ["a", "b"], [[1, 0], [0, 0]])


# --- clusters


def test_planted_clusters_are_found_and_put_together_again(world):
    points, planted, _ = world
    units = unit_vectors(points)
    centroids = spherical_kmeans(units, 80, 50, 0)
    number, _ = nearest_centroids(units, centroids)
    masses = np.bincount(number, minlength=len(centroids))
    group = merge_balanced(summed(units, number, len(centroids)), masses, w5.CLUSTERS, 0.15)
    assert w5.adjusted_rand(planted, group[number]) >= 0.9
    assert np.bincount(group[number]).max() / len(units) <= 0.15


@pytest.mark.parametrize("cap", [0.15, 0.25])
def test_a_continuum_is_not_chained_into_one_giant(cap):
    angles = np.linspace(0, np.pi / 2, 3_000)
    units = unit_vectors(np.stack([np.cos(angles), np.sin(angles), np.full(3_000, 0.3)], axis=1))
    centroids = spherical_kmeans(units, 60, 20, 0)
    number, _ = nearest_centroids(units, centroids)
    masses = np.bincount(number, minlength=60)
    sums = summed(units, number, 60)
    assert np.bincount(merge_balanced(sums, masses, 7, cap)[number]).max() <= cap * 3_000
    assert np.bincount(merge_balanced(sums, masses, 2, 1.0)[number]).max() > 0.4 * 3_000


def test_the_order_of_documents_does_not_change_the_clusters(world, tmp_path):
    _, _, texts = world
    settings = clusters.Settings(sources=("web",), clusters=8, fine=30, rounds=5)
    labels = []
    for name, order in (("a", texts[::4]), ("b", texts[::4][::-1])):
        (tmp_path / name).mkdir()
        clusters.fit(settings, {"web": order}, str(tmp_path / name), 0)
        labels.append(
            score(clusters.clusters(settings, str(tmp_path / name / clusters.MODEL_FILE)), "text", texts[:50])
        )
    assert labels[0] == labels[1]


def test_every_cluster_has_a_card_and_none_more_than_its_share(world, tmp_path):
    _, planted, texts = world
    settings = clusters.Settings(sources=("web",), clusters=20, fine=60)
    metrics = clusters.fit(settings, {"web": texts}, str(tmp_path), 0)
    rows = score(clusters.clusters(settings, str(tmp_path / clusters.MODEL_FILE)), "text", texts)
    found = np.array([int(row["label"][1:]) for row in rows])
    assert w5.adjusted_rand(planted, found) >= 0.9
    assert metrics["largest_share"] <= 0.15
    assert sum(card["documents"] for card in metrics["cards"].values()) == 2000
    assert all(row["fine"].startswith(f"{row['label']}/") for row in rows)
    # The words of a card are those its documents have more often than others.
    top = metrics["cards"]["c00"]["terms"][0]
    has = np.array([top in text.split() for text in texts])
    assert has[found == 0].mean() > has[found != 0].mean() + 0.2


def test_documents_that_are_all_the_same_cannot_be_clusters(tmp_path):
    settings = clusters.Settings(sources=("web",))
    with pytest.raises(FactoryError, match=r"100\.0% of the sample's bytes are one document, or documents"):
        clusters.fit(settings, {"web": ["one and the same words"] * 50}, str(tmp_path), 0)
    with pytest.raises(ValidationError, match="hold 40% of the tokens"):
        clusters.Settings(sources=("web",), clusters=4, max_share=0.1)


# --- sites


def test_small_sites_are_one_domain_together(tmp_path):
    urls = (
        [f"https://big.org/{n}" for n in range(5)]
        + [f"https://www{n}.mid.org/" for n in range(3)]
        + ["http://one.net/"]
    )
    settings = host_domain.Settings(sources=("web",), min_documents=3)
    metrics = host_domain.fit(settings, {"web": urls}, str(tmp_path), 0)
    assert (metrics["sites"], metrics["named"], metrics["largest"]) == (3, 2, {"big.org": 5, "mid.org": 3})
    function = host_domain.host_domain(settings, str(tmp_path / host_domain.MODEL_FILE))
    found = function(pa.record_batch([pa.array([*urls[-2:], None])], names=["url"])).column("label").to_pylist()
    assert found == ["mid.org", "other", None]


def test_sites_may_need_so_many_bytes_and_only_the_largest_are_named(tmp_path):
    learns = {"web": ["https://a.org/", "https://b.org/", "https://b.org/2"], "web.text": ["x" * 100, "y", "z"]}
    by_bytes = host_domain.Settings(sources=("web",), min_documents=1, min_bytes=50)
    assert host_domain.fit(by_bytes, learns, str(tmp_path), 0)["largest"] == {"a.org": 1}
    most = host_domain.Settings(sources=("web",), min_documents=1, most=1)
    assert host_domain.fit(most, learns, str(tmp_path), 0)["largest"] == {"b.org": 2}


# --- shares


def cells_of(counts, seed=0):
    """Documents of two taxonomies that hardly depend on each other: their cells and sizes."""
    drawn = np.random.default_rng(seed)
    topics = drawn.choice(20, counts, p=drawn.dirichlet(np.full(20, 5.0)))
    formats = drawn.choice(4, counts, p=[0.4, 0.3, 0.2, 0.1])
    names = np.array([f"t{topic:02}/f{kind}" for topic, kind in zip(topics, formats, strict=True)])
    return names, drawn.integers(100, 900, counts)


def test_a_product_mixture_hits_the_marginals_at_a_tenth_of_the_pool():
    names, sizes = cells_of(20_000)
    drawn = np.random.default_rng(1)
    hashes = drawn.integers(0, 2**64, len(names), dtype=np.uint64)
    topics = dict(zip([f"t{n:02}" for n in range(20)], drawn.dirichlet(np.full(20, 3.0)), strict=True))
    formats = {"f0": 0.1, "f1": 0.2, "f2": 0.3, "f3": 0.4}
    topics = {name: share / sum(topics.values()) for name, share in topics.items()}
    available = {str(cell): int(sizes[names == cell].sum()) for cell in np.unique(names)}
    stage = find_stage("mixer", "product")
    settings = {
        "factors": (topics, formats),
        "max_epochs": 1,
        "when_short": "rescale",
        "tokens": int(sizes.sum() * 0.1),
    }
    epochs = stage.make(stage.config(**settings))(available)
    taken = np.zeros(len(names))
    for cell, share in epochs.items():
        own = names == cell
        taken[own] = repeats(share, hashes[own], sizes[own]) * sizes[own]
    selected = {str(cell): float(taken[names == cell].sum() / taken.sum()) for cell in available}
    for place, shares in enumerate((topics, formats)):
        found = dict.fromkeys(shares, 0.0)
        for cell, share in selected.items():
            found[cell.split("/")[place]] += share
        assert total_variation(found, shares) <= 0.03
    assert taken.sum() <= 0.11 * sizes.sum()


def test_independent_labels_share_no_information_and_equal_ones_all():
    independent = product_shares(({"a": 0.3, "b": 0.7}, {"x": 0.2, "y": 0.8}))
    assert mutual_information(independent) == pytest.approx(0, abs=1e-12)
    assert mutual_information({"a/x": 0.3, "b/y": 0.7}) == pytest.approx(1)
    assert mutual_information({"a/x": 0.3, "b/x": 0.7}) is None


def test_a_filters_mixture_is_what_it_leaves_of_each_domain():
    found = implicit_mixture({"web": 800, "wiki": 200}, {"web": 100, "wiki": 100})
    assert found["total_variation"] == pytest.approx(0.3)
    assert {row["domain"]: row["factor"] for row in found["domains"]} == pytest.approx({"web": 0.625, "wiki": 2.5})
    assert implicit_mixture({"web": 800}, {})["domains"][0]["factor"] is None


# --- in a recipe

TOPICS = {
    "health": "doctor patient medicine hospital disease treatment symptom nurse surgery clinic",
    "sport": "football match team goal player league coach season stadium referee",
}


def text_of(topic, seed, words):
    chance = random.Random(f"{topic}{seed}")
    return " ".join(chance.choices(TOPICS[topic].split(), k=words))


RECIPE = {
    "name": "topics",
    "sources": {label: {"use": "jsonl", "uri": f"{label}.jsonl", "snapshot": "2026"} for label in ("web", "books")},
    "scorers": {
        "words": {"use": "word_statistics"},
        "topic": {"use": "taxonomy", "references": "labelled.jsonl", "dim": 8, "bucket": 2000},
        "site": {"use": "host_domain", "sources": ["web"], "min_documents": 5},
    },
    "filters": {"long": {"use": "in_range", "column": "words_words", "min": 20}},
    "tokenizer": {"vocab_size": 270, "documents": 20},
    "mixture": {
        "use": "temperature",
        "by": ["source", "topic_label"],
        "best_first": "words_words",
        "source_temperature": 2,
        "tokens": 4_000,
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two sources of two topics, made up to the tokens: only to be looked at."""
    folder = tmp_path_factory.mktemp("topics")
    labelled = [{"text": text_of(t, f"r{n}", 30), "label": t} for t in TOPICS for n in range(25)]
    counts = {"web": {"health": 20, "sport": 10}, "books": {"health": 10, "sport": 9}}
    for source, topics in counts.items():
        rows = [
            {"id": f"{t}{n}", "url": f"https://{t}{n % 2}.org/{n}", "text": text_of(t, f"{source}{n}", 10 + 3 * n)}
            for t, count in topics.items()
            for n in range(count)
        ]
        (folder / f"{source}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    with Workspace(check_recipe(RECIPE, folder=str(folder)), LocalExecutor(1)) as workspace:
        workspace.run(["tokens", "scores"])
        yield workspace


def test_domains_are_cells_of_source_and_topic_and_the_budget_is_beside_them(made):
    notes = made.need("mixture", "base").notes
    assert sorted(notes["epochs"]) == ["books/health", "books/sport", "web/health", "web/sport"]
    budget = notes["budget"]
    assert budget["tokens"] == pytest.approx(4_000)
    assert budget["domains"]["web/health"]["effective_tokens"] <= budget["domains"]["web/health"]["tokens"]
    assert 0 < budget["repeat_efficiency"] <= 1


def test_within_a_cell_the_best_documents_are_taken_first(made):
    scored = pa.concat_tables(
        [read_part(made.store, part) for part in made.need("selection", "base").parts]
    ).to_pylist()
    tokens = made.need("tokens", "base")
    (index,) = (part for part in tokens.parts if part.name == "index")
    repeats_of = {row["doc_id"]: row["repeats"] for row in read_part(made.store, index).to_pylist()}
    for cell in {row["domain"] for row in scored}:
        ranked = sorted((row for row in scored if row["domain"] == cell), key=lambda row: -row["score"])
        times = [repeats_of.get(row["doc_id"], 0) for row in ranked]
        assert times == sorted(times, reverse=True)
    assert min(repeats_of.get(row["doc_id"], 0) for row in scored) == 0


def test_the_mixture_a_rule_implies_is_reported(made):
    found = domains(made, "base", ["topic_label"])
    assert {row["domain"] for row in found["domains"]} == {"health", "sport"}
    (rule,) = found["rules"]
    assert (rule["rule"], rule["kept"]) == ("long", found["kept"])
    assert sum(found["corrected"].values()) == pytest.approx(1)
    cells = domains(made, "base")
    assert cells["by"] == ["source", "topic_label"]
    assert 0 <= cells["overlap"] < 1
    assert cells["before"] == found["before"]
    sites = domains(made, "base", ["site_label"])
    assert "health0.org" in {row["domain"] for row in sites["domains"]}
    with pytest.raises(FactoryError, match="Did you mean 'topic_label'"):
        domains(made, "base", ["topic_labl"])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"by": ["source", "topic_labl"]},
            "mixture.by: no column of texts is named 'topic_labl'. Did you mean 'topic_label'",
        ),
        ({"by": []}, "mixture.by: a column of texts is meant"),
        ({"by": "topic_confidence"}, "mixture.by: no column of texts is named 'topic_confidence'"),
        ({"best_first": "topic_label"}, "mixture.best_first: no column of numbers is named 'topic_label'"),
    ],
)
def test_columns_a_mixture_cannot_use_are_refused(tmp_path, changed, problem):
    with pytest.raises(RecipeError) as error:
        check_recipe({**RECIPE, "mixture": {**RECIPE["mixture"], **changed}}, folder=str(tmp_path))
    assert any(item.startswith(problem) for item in error.value.problems)
