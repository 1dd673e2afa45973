"""The token contract: what a tokenizer may be, what text may become, and that nothing is lost on the way."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_byte_pairs import DATA, library, real_texts
from tiny_project import RECIPE, write_project
from tokenizers import AddedToken, Tokenizer, models

from factory.core.errors import FactoryError, InputError
from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.training.tokenizer import END_OF_TEXT, Encoder, fertility, name_special_tokens, train_tokenizer
from tests.worlds import w8_tiny_text as worlds

WORDS = ["the cat sat on the mat", "and 1234 rats; they'd said so", "Ünïcode für alle", "def f(x):\n    return x"] * 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(WORDS, vocab_size=400, path=path)
    return path


def changed(path, folder, **sections):
    """A copy of a tokenizer with other sections."""
    described = {**json.loads(path.read_text()), **sections}
    # The library gives a token its id only where the model knows it.
    described["model"]["vocab"] |= {token["content"]: token["id"] for token in described["added_tokens"]}
    copy = folder / "tokenizer.json"
    copy.write_text(json.dumps(described))
    return copy


def added(path, *tokens):
    return [*json.loads(path.read_text())["added_tokens"], *tokens]


def token(number, content, special=True):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": special, **flags}


def test_the_same_texts_give_the_same_tokenizer_in_any_process_and_number_of_threads(tmp_path, trained, monkeypatch):
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    again = train_tokenizer(iter(WORDS), vocab_size=400, path=tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == trained.read_bytes()
    assert again["sha256"] == Encoder(trained).sha256


@given(st.binary(max_size=200))
def test_any_bytes_come_back(trained, data):
    encoder = Encoder(trained)
    assert encoder.check_round_trip([("a", data.decode("latin-1")), ("b", data.decode("utf-8", "replace"))]) == 2


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not here")
def test_real_documents_come_back_and_cost_so_many_bytes_a_token(tmp_path):
    texts = real_texts()
    train_tokenizer(texts[::5], vocab_size=4_000, path=tmp_path / "tokenizer.json")
    encoder = Encoder(tmp_path / "tokenizer.json")
    ids, lengths = encoder.encode(pa.array(texts))
    assert [encoder.decode(own[:-1]) for own in np.split(ids, np.cumsum(lengths)[:-1])] == texts
    reach = sum(len(text.encode()) for text in texts) / (lengths.sum() - len(texts))
    assert reach == pytest.approx(REACH, rel=0.01)


REACH = 2.725


def test_bytes_a_token_on_four_kinds_of_text_are_what_they_were(tmp_path):
    kinds, texts = zip(*worlds.corpus(300, seed=1), strict=True)
    train_tokenizer(texts, vocab_size=1_024, path=tmp_path / "tokenizer.json")
    found = fertility(Encoder(tmp_path / "tokenizer.json"), pa.array(texts, pa.large_string()), kinds)
    reach = {kind: row["bytes_per_token"] for kind, row in found.items()}
    assert reach == pytest.approx({"code": 3.851, "dialogue": 3.232, "noise": 1.203, "wiki": 3.367}, rel=0.01)


def test_a_tokenizer_without_an_end_is_refused_where_the_policy_wants_one(tmp_path, trained):
    path = changed(trained, tmp_path, added_tokens=[])
    described = json.loads(path.read_text())
    described["model"]["vocab"].pop(END_OF_TEXT, None)
    path.write_text(json.dumps(described))
    with pytest.raises(FactoryError, match=r"eos: true asked .* Special tokens it has: none\. Set eos: false"):
        Encoder(path)
    assert Encoder(path, eos=False).encode(pa.array(["the"]))[1].sum() > 0


def test_a_vocabulary_beyond_16_bits_takes_32_and_is_refused_where_16_are_asked(tmp_path, trained):
    path = changed(trained, tmp_path, added_tokens=added(trained, token(65_535, "<big>")))
    assert Encoder(trained).dtype == np.uint16
    assert Encoder(path).dtype == np.int32
    with pytest.raises(FactoryError, match=r"vocabulary has 65,536 entries .* Ask for int32"):
        Encoder(path, dtype="uint16")


def test_a_beginning_that_the_tokenizer_adds_itself_stands_once(tmp_path, trained):
    post = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    }
    post |= {"pair": post["single"], "special_tokens": {"<s>": {"id": "<s>", "ids": [400], "tokens": ["<s>"]}}}
    path = changed(trained, tmp_path, added_tokens=added(trained, token(400, "<s>")), post_processor=post)
    with pytest.raises(FactoryError, match=r"puts '<s>' around every text itself, .* Set bos: true"):
        Encoder(path)
    ids, _ = Encoder(path, bos=True).encode(pa.array(["the cat", "<s>the"]))
    assert (ids == 400).sum() == 2


@pytest.mark.parametrize("text", [END_OF_TEXT, f"a{END_OF_TEXT}b", f" {END_OF_TEXT} ", "<s></s>"])
def test_text_that_spells_a_control_token_stays_text(tmp_path, trained, text):
    path = changed(trained, tmp_path, added_tokens=added(trained, token(400, "<s>"), token(401, "</s>")))
    for encoder in (Encoder(trained), Encoder(path), Encoder(changed_model(path))):
        ids, _ = encoder.encode(pa.array([text]))
        assert not np.isin(ids[:-1], [encoder.eos_id, 400, 401]).any()
        assert encoder.decode(ids[:-1]) == text


def changed_model(path):
    """The same tokenizer, where only the library can encode."""
    copy = path.with_name("library.json")
    described = json.loads(path.read_text())
    described["normalizer"] = {"type": "Replace", "pattern": {"String": "\x00\x00"}, "content": "\x00\x00"}
    copy.write_text(json.dumps(described))
    assert Encoder(copy).library_alone is not None
    return copy


def test_a_control_token_that_text_can_become_is_refused(tmp_path, trained):
    path = changed(trained, tmp_path, added_tokens=[token(0, END_OF_TEXT, special=False)])
    with pytest.raises(FactoryError, match=r"text that says '<\|endoftext\|>' becomes that control token \(0\)"):
        Encoder(path)


def test_a_word_of_the_model_that_is_a_control_token_is_refused(tmp_path):
    tokenizer = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("<", -2.0), ("/", -2.0)], unk_id=0)
    )
    tokenizer.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(FactoryError, match="text that says '</s>' becomes that control token"):
        Encoder(tmp_path)


def test_names_go_with_a_tokenizer_in_one_file_and_its_bytes_stay_what_they_are(tmp_path, trained):
    path = changed(trained, tmp_path, added_tokens=added(trained, token(400, "<|im_end|>"), token(401, "<|im_start|>")))
    name_special_tokens(path, {"eos_token": "<|im_end|>"}, tmp_path / "named.json")
    plain, named = Encoder(path), Encoder(tmp_path / "named.json")
    assert (plain.eos_id, named.eos_id, named.bos_token) == (0, 400, None)
    assert named.sha256 == plain.sha256
    name_special_tokens(path, {"eos_token": "<end>"}, tmp_path / "named.json")
    with pytest.raises(
        FactoryError, match=r"'<end>' is not in its vocabulary. Special tokens it has: <\|endoftext\|>, <\|im_"
    ):
        Encoder(tmp_path / "named.json")


def test_what_is_saved_with_a_model_is_the_tokenizer_as_it_was_and_its_names(tmp_path, trained):
    path = changed(trained, tmp_path, added_tokens=added(trained, token(400, "<|im_end|>")))
    name_special_tokens(path, {"eos_token": "<|im_end|>"}, tmp_path / "named.json")
    (tmp_path / "saved").mkdir()
    Encoder(tmp_path / "named.json").save(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == path.read_bytes()
    assert Encoder(tmp_path / "saved").contract() == Encoder(tmp_path / "named.json").contract()


def test_fertility_counts_bytes_tokens_and_words_by_group(trained):
    encoder = Encoder(trained)
    texts = ["the cat sat", "on the mat", "Ünïcode"]
    found = fertility(encoder, pa.array(texts, pa.large_string()), ["en", "en", None])
    tokens = [len(library(trained).encode(text).ids) for text in texts]
    assert found["en"]["tokens"] == sum(tokens[:2])
    assert found["en"]["tokens_per_word"] == sum(tokens[:2]) / 6
    assert found["none"]["bytes_per_token"] == 9 / tokens[2]
    assert fertility(encoder, pa.array([""], pa.large_string()), ["none"])["none"]["bytes_per_token"] is None


def opened(folder, settings):
    recipe = folder / "recipe.yaml"
    if not recipe.exists():
        write_project(folder)
    recipe.write_text(RECIPE.replace("tokenizer: {vocab_size: 300, documents: 100}", f"tokenizer: {settings}"))
    return Workspace(load_recipe(str(recipe)), LocalExecutor(1))


def test_a_recipe_takes_a_folder_of_hugging_face_and_its_names(tmp_path, trained):
    folder = tmp_path / "ready"
    folder.mkdir()
    changed(trained, folder, added_tokens=added(trained, token(400, "<|im_end|>")))
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|im_end|>"}, "bos_token": null}')
    with opened(tmp_path, "{path: ready}") as workspace:
        workspace.run(["models/tokenizer", "encodings"])
        metrics = workspace.need("models", "tokenizer").notes["metrics"]
        assert (metrics["eos_token"], metrics["eos_id"], metrics["library_alone"]) == ("<|im_end|>", 400, None)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT}))
    with opened(tmp_path, "{path: ready}") as workspace:
        workspace.run(["models/tokenizer"])
        assert workspace.need("models", "tokenizer").notes["metrics"]["eos_token"] == END_OF_TEXT
    unknown = pytest.raises(FactoryError, match="'<end>' is not in its vocabulary")
    with opened(tmp_path, "{path: ready, eos_token: '<end>'}") as workspace, unknown:
        workspace.run(["models/tokenizer"])
    with pytest.raises(InputError, match=r"the folder has no tokenizer\.json \(found: 2026-10, 2026-11\)"):
        _ = opened(tmp_path, "{path: data}").graph


def test_a_trained_tokenizer_says_what_each_source_and_script_costs(tmp_path):
    with opened(tmp_path, "{vocab_size: 300, documents: 30}") as workspace:
        workspace.run(["models/tokenizer"])
        metrics = workspace.need("models", "tokenizer").notes["metrics"]
    assert set(metrics["by_source"]) == {"web"}
    assert metrics["by_script"]["Latn"]["tokens_per_word"] > 1
    assert metrics["by_source"]["web"]["documents"] == metrics["documents"] == 30
