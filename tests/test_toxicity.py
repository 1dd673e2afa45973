"""Toxicity by sentence: trained to the same bytes, the worst sentence of a long page is seen, nothing is made up."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_project import RECIPE, write_project

from factory.core.errors import FactoryError
from factory.kernels.sentences import cut_sentences
from factory.kernels.text import view_text
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.stages.fasttext_models import Shape, train
from factory.stages.scorers.toxicity import COLUMNS, MODEL_FILE, Settings, fit, plain_lines, toxicity

# Harmless words stand for harmful ones.
RUDE = ["you are a gruff old turnip", "what a turnip you are", "shut up you soggy noodle", "go away noodle head"]
KIND = ["the train leaves at nine", "we met at the library", "thank you for the soup", "rain is expected later"]
TEXTS = {
    "toxic": [f"{text} number {n}" for n in range(20) for text in RUDE],
    "clean": [f"{text} number {n}" for n in range(20) for text in KIND],
}
SETTINGS = Settings(toxic="rude.jsonl", clean="kind.jsonl", bucket=2000, dim=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toxicity")
    metrics = fit(SETTINGS, TEXTS, str(folder), 1)
    return folder / MODEL_FILE, metrics


@pytest.fixture(scope="module")
def judge(model):
    run = toxicity(SETTINGS, str(model[0]))
    return lambda *texts: run(pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])).to_pylist()


def test_training_twice_gives_the_same_bytes_whatever_the_order(model, tmp_path):
    fit(SETTINGS, {role: texts[::-1] for role, texts in TEXTS.items()}, str(tmp_path), 1)
    assert (tmp_path / MODEL_FILE).read_bytes() == model[0].read_bytes()
    assert model[1]["auc"] > 0.95


def test_one_rude_sentence_in_a_long_page_is_seen(judge):
    page = "The train leaves at nine. " * 50
    calm, rude = judge(page, page + "You are a gruff old turnip! We met at the library.")
    assert calm["max"] < 0.4 < rude["max"]
    assert rude["mean"] < 0.4
    assert rude["share_above"] == pytest.approx(1 / 52)
    assert (calm["sentences"], rude["sentences"]) == (50, 52)


def test_signs_and_case_change_nothing(judge):
    loud, plain = judge("TURNIP, you «noodle».", "turnip you noodle")
    assert loud["max"] == pytest.approx(plain["max"], abs=1e-6)


def test_what_has_no_word_has_no_score(judge):
    nothing, blank, dots = judge(None, "  \n ", "... !!")
    assert set(nothing.values()) == {None}
    assert blank == dots == {"max": None, "mean": None, "share_above": None, "sentences": 0}


def test_a_text_does_not_depend_on_its_neighbours(judge):
    texts = ["We met at the library. Noodle head!", None, "", "the soup", "you turnip\n\nyou noodle"]
    assert judge(*texts) == [row for text in texts for row in judge(text)]
    assert judge() == []


def test_a_sliced_batch_is_read_where_it_begins(model):
    run = toxicity(SETTINGS, str(model[0]))
    whole = pa.record_batch(
        [pa.array(["you turnip", None, "we met. at the library"], pa.large_string())], names=["text"]
    )
    assert run(whole.slice(1)).equals(run(whole).slice(1))
    assert run(whole).schema == pa.schema(COLUMNS)


def test_a_ready_model_is_asked_for_its_own_label(tmp_path):
    path = tmp_path / "nsfw.bin"
    train(
        [*RUDE, *KIND] * 5, (["bad"] * 4 + ["good"] * 4) * 5, str(path), Shape(dim=4, epoch=50, lr=0.5, bucket=100), 0
    )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    run = toxicity(Settings(model=str(path), label="bad", sha256=sha256), str(path))
    row = run(pa.record_batch([pa.array(["what a turnip you are"], pa.large_string())], names=["text"])).to_pylist()[0]
    assert row["max"] > 0.5
    with pytest.raises(FactoryError, match="no label 'toxic'"):
        toxicity(Settings(model=str(path)), str(path))


def test_mistaken_settings_are_explained():
    for settings in ({}, {"toxic": "a"}, {"toxic": "a", "clean": "b", "model": "c"}):
        with pytest.raises(ValidationError, match="files to learn from, or `model`"):
            Settings(**settings)
    with pytest.raises(ValidationError, match="sha256"):
        Settings(model="https://x.org/m.bin")
    with pytest.raises(FactoryError, match=r"needs 20 different toxic texts; 'rude\.jsonl' has 1"):
        fit(SETTINGS, {"toxic": ["a"], "clean": TEXTS["clean"]}, "", 0)


def test_a_recipe_trains_it_from_files_and_scores(tmp_path):
    recipe = write_project(tmp_path)
    for role, texts in TEXTS.items():
        (tmp_path / f"{role}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe.write_text(
        RECIPE.replace(
            "scorers:", "scorers:\n  tox: {use: toxicity, toxic: toxic.jsonl, clean: clean.jsonl, bucket: 2000, dim: 8}"
        )
    )
    with Workspace(load_recipe(str(recipe))) as opened:
        opened.run(["scores"])
        assert opened.need("scores", "tox", "2026-10").ledger["rows"] > 0


ENDS = [". ", "! ", '?" ', "...", "…) ", "\n", "。", "！", "।", ".", "?x", " "]


@given(st.lists(st.one_of(st.none(), st.lists(st.sampled_from([*ENDS, "ab", "ä", "3.5", "日"])).map("".join))))
def test_sentences_are_the_text_cut_and_nothing_left_out(texts):
    view = view_text(pa.array(texts, pa.large_string()))
    ends, starts = cut_sentences(view)
    bounds = np.concatenate([view.offsets[:1], ends])
    assert (np.diff(bounds) > 0).all()
    for row, text in enumerate(texts):
        pieces = [bytes(view.data[bounds[s] : bounds[s + 1]]).decode() for s in range(starts[row], starts[row + 1])]
        assert "".join(pieces) == (text or "")


def test_where_sentences_end():
    view = view_text(pa.array(['He said "no." Then 3.5 m! 雨。風！\nEnd'], pa.large_string()))
    ends, _ = cut_sentences(view)
    pieces = np.split(view.data, ends[:-1])
    assert [bytes(piece).decode() for piece in pieces] == [
        'He said "no." ',
        "Then 3.5 m! ",
        "雨。",
        "風！",
        "\n",
        "End",
    ]


def test_lines_are_what_the_model_reads():
    assert plain_lines(["A  «B»\n c-d!"]) == ["a b c d"]
