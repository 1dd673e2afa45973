"""Paragraphs seen before: the filter is as large as theory says, the verdicts are BFF's, and nothing depends on parts."""

import io
import json
import random
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from factory.core.errors import FactoryError, RecipeError
from factory.execution.local import LocalExecutor
from factory.kernels.bloom import Layers, bits_per_element, contains, fill_ratio, filter_words, hash_count, screen
from factory.recipes.gc import garbage
from factory.recipes.load import check_recipe
from factory.recipes.steps.links.paragraphs import needs
from factory.recipes.workspace import Workspace
from factory.stages.linkers.bloom_paragraph import Settings, bloom_paragraph
from factory.storage.parts import read_part

LINKS = ("removed", "removed_bytes", "removed_share", "seen_share")


def sentence(seed, words=30):
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(words))


def keys_of(*texts, **settings):
    batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])
    return bloom_paragraph(Settings(**settings))(batch).to_pylist()


def corpus(shared_data, name):
    with open(shared_data / "corpus" / f"{name}.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8", newline="\n")
        return [json.loads(line)["text"] for line in lines]


def write_snapshot(folder, name, texts, parts=1):
    """Documents with an id each, dealt to so many files."""
    (folder / "data" / name).mkdir(parents=True)
    rows = [json.dumps({"id": f"{name}-{number}", "text": text}) + "\n" for number, text in enumerate(texts)]
    for part in range(parts):
        (folder / "data" / name / f"{part:03d}.jsonl").write_text("".join(rows[part::parts]))


@cache
def executor():
    return LocalExecutor(1)


@pytest.fixture(scope="module", autouse=True)
def workers():
    """One pool for all projects of this file."""
    yield
    executor().close()


def workspace_of(folder, *, memory=1 << 30, **linker):
    recipe = check_recipe(
        {
            "name": "paragraphs",
            "sources": {"web": {"use": "jsonl", "uri": "data/*/*.jsonl", "snapshot": "{parent}"}},
            "linkers": {"seen": {"use": "bloom_paragraph", **linker}},
            "tokenizer": "none",
            "max_error_share": 1.0,
        },
        folder=str(folder),
    )
    return Workspace(recipe, executor(), memory=memory)


def links_of(workspace):
    """Links of every document by its text, in each snapshot; no snapshot has a text twice."""
    found = {}
    for snapshot in workspace.snapshots:
        texts = {
            part.digest: read_part(workspace.store, part, ["text"])
            for part in workspace.need("documents", "", snapshot).parts
        }
        for part in workspace.need("links", "seen", snapshot).parts:
            rows = read_part(workspace.store, part).to_pylist()
            for text, row in zip(texts[part.name].column("text").to_pylist(), rows, strict=True):
                found[snapshot, text] = {name: row[name] for name in LINKS}
    return found


def run(folder, **settings):
    workspace = workspace_of(folder, **settings)
    workspace.run(["links"])
    return links_of(workspace), {s: dict(workspace.need("links", "seen", s).notes) for s in workspace.snapshots}


def text_without(text, spans):
    data, kept, at = text.encode(), b"", 0
    for span in spans:
        kept, at = kept + data[at : span["start"]], span["end"]
    return (kept + data[at:]).decode()


# --- the filter


@pytest.mark.parametrize(("chance", "bits", "hashes"), [(1e-2, 9.585, 7), (1e-3, 14.378, 10), (1e-6, 28.755, 20)])
def test_a_filter_takes_the_bits_and_hashes_that_theory_says(chance, bits, hashes):
    assert bits_per_element(chance) == pytest.approx(bits, abs=5e-4)
    assert hash_count(chance) == hashes


@pytest.mark.parametrize("chance", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("elements", [1_000, 300_000])
def test_a_full_filter_is_half_full_and_errs_as_rarely_as_asked(chance, elements):
    source = np.random.default_rng(3)
    keys, others = (source.integers(0, 2**64, count, dtype=np.uint64) for count in (elements, 1_000_000))
    size = filter_words(elements, chance)
    layers = Layers(np.zeros(size, np.uint64), np.array([0, size]), np.array([hash_count(chance)]))
    done = screen(
        keys, np.array([0, elements]), np.array([elements], np.uint32), np.array([0, 1]), np.array([0]), layers, 0.8
    )
    assert done.inserted == elements
    assert contains(layers, keys).all()
    assert fill_ratio(layers.words) <= 0.5
    rate = contains(layers, others).mean()
    assert 0.5 * fill_ratio(layers.words) ** hash_count(chance) < rate < chance + 4 * np.sqrt(chance / 1e6)


# --- n-grams


def test_a_paragraph_has_all_its_n_grams_and_a_short_one_none():
    text = f"{sentence(1, 13)}\n{sentence(2, 20)}\n\nA menu | of words\n{sentence(3, 12)}"
    (row,) = keys_of(text)
    assert row["counts"] == [1, 8, 0, 0, 0]
    assert len(set(row["keys"])) == 9
    assert row["spans"][0] == {"start": 0, "end": len(sentence(1, 13))}
    assert row["spans"][-1]["end"] == len(text)
    assert all(before["end"] == after["start"] for before, after in zip(row["spans"], row["spans"][1:], strict=False))


def test_a_shorter_paragraph_is_one_n_gram_where_the_least_allows_it():
    full, shorter, shortest = keys_of(sentence(3, 13), sentence(3, 12), sentence(3, 4), min_ngram=5)
    assert [len(row["keys"]) for row in (full, shorter, shortest)] == [1, 1, 0]
    assert full["keys"] != shorter["keys"]


def test_an_n_gram_is_the_same_wherever_it_stands():
    words = sentence(5, 40).split()
    whole, middle = keys_of(" ".join(words), "x, y!\n" + " ".join(words[10:30]))
    assert whole["keys"][10:18] == middle["keys"]


def test_n_grams_of_repeated_words_differ():
    texts = [" ".join(random.Random(seed).choices(["buffalo", "Buffalo"], k=13)) for seed in range(2000)]
    keys = {row["keys"][0] for row in keys_of(*texts)}
    assert len(keys) == len(set(texts))


def test_a_least_of_more_words_than_an_n_gram_is_refused():
    with pytest.raises(ValueError, match="min_ngram 14 is above ngram 13"):
        Settings(min_ngram=14)


# --- verdicts


def test_a_copied_paragraph_goes_and_a_copied_document_goes_whole(tmp_path):
    first = f"{sentence(1)}\n{sentence(2)}"
    partly = f"{sentence(1)}\n{sentence(7, 60)}\n{sentence(8, 60)}"
    write_snapshot(tmp_path, "a", [first])
    write_snapshot(tmp_path, "b", [first + "\n", partly, "too short"])
    links, notes = run(tmp_path)
    assert links["a", first]["removed"] == []
    assert links["b", first + "\n"] == {
        "removed": [{"start": 0, "end": len(first) + 1}],
        "removed_bytes": len(first) + 1,
        "removed_share": 1.0,
        "seen_share": 1.0,
    }
    row = links["b", partly]
    assert text_without(partly, row["removed"]) == f"\n{sentence(7, 60)}\n{sentence(8, 60)}"
    assert row["seen_share"] == pytest.approx(18 / (18 + 48 + 48))
    assert links["b", "too short"] == {"removed": [], "removed_bytes": 0, "removed_share": 0.0, "seen_share": None}
    assert (notes["b"]["seen"], notes["b"]["removed_paragraphs"]) == (1, 3)


def test_what_is_left_out_is_not_put_in(tmp_path):
    # b is dropped for its old paragraph, so that its new one is new again in c.
    old, new = sentence(1, 112), sentence(2, 22)
    write_snapshot(tmp_path, "a", [old])
    write_snapshot(tmp_path, "b", [f"{old}\n{new}"])
    write_snapshot(tmp_path, "c", [new])
    links, _ = run(tmp_path)
    assert links["b", f"{old}\n{new}"]["seen_share"] == pytest.approx(100 / 110)
    assert links["c", new]["seen_share"] == 0.0


def test_a_share_of_exactly_the_threshold_is_enough(tmp_path):
    words = sentence(1, 112).split()
    write_snapshot(tmp_path, "a", [" ".join(words[:92])])  # 80 of the 100 n-grams
    write_snapshot(tmp_path, "b", [" ".join(words)])
    write_snapshot(tmp_path, "c", [" ".join([*words[:91], "other", *words[91:111]])])
    links, _ = run(tmp_path)
    assert links["b", " ".join(words)]["removed_share"] == 1.0
    assert [row["removed_share"] for (snapshot, _), row in links.items() if snapshot == "c"] == [0.0]


def test_repetitions_within_a_document_are_no_ones_copy(tmp_path):
    text = "\n".join([sentence(1)] * 5)
    write_snapshot(tmp_path, "a", [text])
    links, _ = run(tmp_path)
    assert links["a", text]["seen_share"] == 0.0


def test_a_document_without_text_has_no_links(tmp_path):
    write_snapshot(tmp_path, "a", ["", sentence(1)])
    workspace = workspace_of(tmp_path)
    workspace.run(["links"])
    (part,) = workspace.need("links", "seen", "a").parts
    rows = read_part(workspace.store, part).to_pylist()
    assert [[row[name] for name in LINKS] for row in rows] == [[None] * 4, [[], 0, 0.0, 0.0]]


# --- laws


def mixed_texts(count=60, seed=0):
    """Documents of own paragraphs and of some that many share."""
    chance = random.Random(seed)
    return [
        "\n".join(
            sentence(
                f"{seed}-{n}-{p}" if chance.random() < 0.5 else f"shared-{chance.randint(0, 40)}", chance.randint(5, 60)
            )
            for p in range(6)
        )
        for n in range(count)
    ]


def write_mixed(folder, parts=1):
    for number, snapshot in enumerate(("a", "b")):
        copies = [text + "\n" for text in mixed_texts(20, 0)]
        write_snapshot(folder, snapshot, [*mixed_texts(60, number), *copies], parts)


@pytest.mark.parametrize("shards", [1, 3])
def test_links_are_the_same_for_any_number_of_parts_and_any_memory(tmp_path, shards):
    found = []
    for parts, memory in ((1, 1 << 30), (2, 1 << 19), (7, 1 << 20), (16, 1 << 22)):
        folder = tmp_path / str(parts)
        write_mixed(folder, parts)
        found.append(run(folder, memory=memory, shards=shards))
    assert any(row["removed"] for row in found[0][0].values())
    assert all(links == found[0][0] for links, _ in found)
    assert all(notes["b"]["filters"] == found[0][1]["b"]["filters"] for _, notes in found)


def test_a_later_snapshot_reads_the_filters_and_agrees_with_all_at_once(tmp_path):
    write_mixed(tmp_path / "once")
    once, _ = run(tmp_path / "once")
    later = tmp_path / "later"
    write_mixed(later)
    (later / "data" / "b").rename(later / "b")
    first, _ = run(later)
    (later / "b").rename(later / "data" / "b")
    kept = {path: path.stat().st_mtime_ns for path in (later / ".factory" / "index").rglob("*.bits")}
    both, _ = run(later)
    assert both == once
    assert first == {key: row for key, row in once.items() if key[0] == "a"}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_another_threshold_does_not_cut_texts_again(tmp_path):
    write_snapshot(tmp_path, "a", [sentence(1)])
    run(tmp_path)
    made = [item.node.kind for item in workspace_of(tmp_path, threshold=0.5, shards=2).run(["links"]) if item.made]
    assert made == ["links"]


def test_filters_of_current_links_are_no_garbage(tmp_path):
    write_mixed(tmp_path)
    run(tmp_path)
    files = [str(path) for path in (tmp_path / ".factory" / "index").rglob("*.bits")]
    assert len(files) == 2
    found = garbage(workspace_of(tmp_path).store, older_than_hours=0)["files"]
    assert not [path for path in found if path.startswith("index/")]


def test_filters_that_are_gone_are_made_again(tmp_path):
    write_mixed(tmp_path)
    once, _ = run(tmp_path)
    for path in [
        *(tmp_path / ".factory" / "index").rglob("*.bits"),
        *(tmp_path / ".factory" / "links").rglob("b/manifest*"),
    ]:
        path.unlink()
    assert run(tmp_path)[0] == once


def test_global_and_incremental_agree_and_a_snapshot_alone_knows_nothing_of_others(tmp_path):
    found = {}
    for scope in ("incremental", "global", "snapshot"):
        write_mixed(tmp_path / scope)
        for number, snapshot in enumerate("cd"):
            write_snapshot(tmp_path / scope, snapshot, [*mixed_texts(60, 7 + number), sentence("once in each")])
        found[scope], _ = run(tmp_path / scope, scope=scope)
    assert found["global"] == found["incremental"]
    assert found["incremental"]["d", sentence("once in each")]["removed_share"] == 1.0
    assert found["snapshot"]["d", sentence("once in each")]["seen_share"] == 0.0


def test_a_filter_that_does_not_fit_is_refused_with_the_number_of_shards_that_does(tmp_path):
    write_snapshot(tmp_path, "a", [sentence(n, 400) for n in range(150)])
    with pytest.raises(FactoryError, match=r"shards: 2"):
        workspace_of(tmp_path, memory=1 << 16).run(["links"])
    assert not [path for path in (tmp_path / ".factory" / "exchange").rglob("*") if path.is_file()]
    links, _ = run(tmp_path, memory=1 << 16, shards=2)
    assert len(links) == 150


def test_the_needs_follow_from_the_n_grams():
    need = needs(1_000_000, 600_000_000, 1 << 30)
    assert need.memory > 600_000_000 * 9.585 / 8
    assert needs(1_000_000, 600_000_000, 1 << 30, {"shards": 10}).memory < need.memory / 3


def test_a_keep_policy_is_refused_since_the_order_says_who_stands(tmp_path):
    with pytest.raises(RecipeError, match="keep"):
        workspace_of(tmp_path, keep="newest")


# --- real text


def has_an_ngram(text):
    return any(len(line.split()) >= 14 for line in text.split("\n"))


def test_a_second_copy_of_real_documents_goes(shared_data, tmp_path):
    texts = [text for name in ("howto", "wikipedia", "textbook") for text in corpus(shared_data, name)]
    texts = list(dict.fromkeys(text for text in texts if text.strip()))
    write_snapshot(tmp_path, "a", texts)
    write_snapshot(tmp_path, "b", [text + "\n" for text in texts])
    links, notes = run(tmp_path)
    long = [text for text in texts if len(text.split()) >= 14]
    dropped = [links["b", text + "\n"]["removed_share"] == 1.0 for text in long]
    assert np.mean([gone for text, gone in zip(long, dropped, strict=True) if has_an_ngram(text)]) == 1.0
    assert np.mean(dropped) >= 0.99
    assert notes["a"]["filters"]["fill"] <= 0.5
    assert notes["b"]["filters"]["fill"] <= 0.01


@pytest.mark.parametrize("names", [["wikipedia"], ["books", "howto", "textbook", "legal"]], ids=["articles", "others"])
def test_distinct_documents_lose_next_to_no_paragraphs(shared_data, tmp_path, names):
    texts = [text for name in names for text in corpus(shared_data, name)]
    lost = {}
    for chance in (0.01, 1e-6):
        write_snapshot(tmp_path / str(chance), "a", texts)
        _, notes = run(tmp_path / str(chance), false_positives=chance)
        lost[chance] = notes["a"]["removed_paragraphs"] / notes["a"]["paragraphs"]
    # What a filter without errors removes too are true copies: licences, notices, headings of a series.
    assert lost[0.01] - lost[1e-6] < 0.0005
    assert names != ["wikipedia"] or lost[0.01] < 0.005
