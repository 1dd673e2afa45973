"""fastText classifiers: trained to the same bytes, asked about whole texts, honest about what they do not know."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from pydantic import ValidationError

from factory.core.errors import FactoryError, IntegrityError
from factory.kernels.bags import hash_words
from factory.kernels.text import view_text
from factory.stages.fasttext_models import END, Shape, load, one_line, train
from factory.stages.scorers import fasttext_language as language
from factory.stages.scorers import fasttext_quality as quality

SMALL = Shape(dim=4, epoch=50, lr=0.5, bucket=500, word_ngrams=2)
LINES = ["red green blue"] * 5 + ["uno dos tres"] * 5
LABELS = ["colour"] * 5 + ["number"] * 5
QUALITY = quality.Settings(positives="books/*.jsonl", negatives="crawl", bucket=2000, dim=4, epoch=20)


def score(function, *values):
    return function(pa.record_batch([pa.array(values, pa.large_string())], names=["text"]))


def documents(subject, count):
    return [
        f"{subject} number {n} has {' '.join(subject * 2 for _ in range(n % 7))} about {subject}" for n in range(count)
    ]


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    metrics = language.fit(language.Settings(), {}, str(folder), 1)
    return str(folder / language.MODEL_FILE), metrics


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    metrics = quality.fit(
        QUALITY, {"positive": documents("book", 60), "negative": documents("spam", 60)}, str(folder), 1
    )
    return quality.fasttext_quality(QUALITY, str(folder / quality.MODEL_FILE)), metrics


def test_training_twice_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        # Memory that was used before: fastText's own training starts from whatever lies there.
        np.full(300_000, np.nan, np.float32).sum()
        train(LINES, LABELS, str(tmp_path / name), SMALL, seed)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_loaded_model_says_what_the_trained_one_said(tmp_path):
    trained = train(LINES, LABELS, str(tmp_path / "m.bin"), SMALL, 1)
    loaded = load(str(tmp_path / "m.bin"))
    assert loaded.labels == trained.labels
    assert np.array_equal(loaded.probabilities(LINES), trained.probabilities(LINES))
    assert loaded.probabilities(LINES)[0, loaded.labels.index("colour")] > 0.9


def test_the_features_that_were_learned_are_those_fasttext_asks_about(tmp_path):
    lines = ["grün 緑 vert rouge", "vert grün 緑", "dos tres uno", "tres uno dos"]
    classifier = train(lines, ["colour", "colour", "number", "number"], str(tmp_path / "m.bin"), SMALL, 1)
    words = [*lines[0].split(), END]
    hashes = hash_words(*view_text(pa.array(words, pa.large_string()))[:2])
    known = len(classifier.model.get_words())
    pairs = [known + int((int(a) * 116049371 + int(b)) % 2**64 % SMALL.bucket) for a, b in itertools.pairwise(hashes)]
    rows = [classifier.model.get_word_id(word) for word in words] + pairs
    values = classifier.model.get_output_matrix() @ classifier.model.get_input_matrix()[rows].mean(axis=0)
    shares = np.exp(values) / np.exp(values).sum()
    assert classifier.probabilities(lines[:1])[0] == pytest.approx(shares, abs=2e-5)


def test_a_text_cannot_end_or_label_itself(tmp_path):
    classifier = train(LINES, LABELS, str(tmp_path / "m.bin"), SMALL, 1)
    plain, tricky = "red green blue", "red </s> green\n__label__number blue"
    assert one_line(tricky).split() == ["red", "green", "number", "blue"]
    shares = classifier.probabilities([one_line(plain), one_line("red </s>\ngreen blue")])
    assert np.array_equal(shares[0], shares[1])


def test_a_model_of_another_content_is_refused(tmp_path):
    path = tmp_path / "m.bin"
    train(LINES, LABELS, str(path), SMALL, 1)
    assert load(str(path), hashlib.sha256(path.read_bytes()).hexdigest()).labels
    with pytest.raises(IntegrityError, match="was asked for"):
        load(str(path), "0" * 64)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 4000])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "m.bin"
    path.write_bytes(content)
    with pytest.raises(FactoryError, match=r"m\.bin is no fastText model"):
        load(str(path))
    with pytest.raises(FactoryError, match="There is no fastText model"):
        load(str(tmp_path / "absent.bin"))


def test_a_model_is_pinned_and_its_languages_are_known():
    digest = "ab" * 32
    assert language.model_uri(language.Settings()) is None
    ready = language.Settings(model="https://host/lid.bin", sha256=digest, languages=("en", "eng_Latn"))
    assert language.model_uri(ready) == ("https://host/lid.bin", digest)
    for wrong, reason in (
        ({"model": "https://host/lid.bin"}, "needs the `sha256`"),
        ({"model": "http://host/lid.bin", "sha256": digest}, "https address"),
        ({"languages": ("en", "xq")}, "knows no 'xq'"),
        ({"languages": ("en", "en")}, "named twice"),
        ({"languages": ("a b",)}, "no label of a language"),
    ):
        with pytest.raises(ValidationError, match=reason):
            language.Settings(**wrong)


def test_a_ready_model_is_used_as_it_is(tmp_path):
    path = str(tmp_path / "lid.bin")
    train(LINES, ["en"] * 5 + ["es"] * 5, path, SMALL, 1)
    result = score(
        language.fasttext_language(language.Settings(model=path, languages=("es",))), "uno\ndos", None, " \n"
    )
    assert result.schema.names == ["label", "score", "es"]
    assert result["label"].to_pylist() == ["es", None, None]
    assert result["score"][0] == result["es"][0]
    with pytest.raises(FactoryError, match="knows no 'fr'"):
        language.fasttext_language(language.Settings(model=path, languages=("fr",)))


def test_the_own_language_model_is_the_same_bytes_each_time(own_model, tmp_path):
    language.fit(language.Settings(), {}, str(tmp_path), 1)
    assert (tmp_path / language.MODEL_FILE).read_bytes() == Path(own_model[0]).read_bytes()
    assert own_model[1]["accuracy"] > 0.9
    assert own_model[1]["accuracy_en"] > 0.9


def test_languages_are_told_apart_and_nothing_is_made_up(own_model):
    function = language.fasttext_language(language.Settings(languages=("en", "de")), own_model[0])
    result = score(
        function,
        "The parser reads one line at a time and returns None when the end of the file is reached.",
        "Die Funktion gibt die Anzahl der Zeichen zurück, die in der Datei gelesen wurden.",
        "この関数はファイルから読み込まれた文字の数を返します。",
        None,
        "",
        "12:30 -- 4.5 %\n",
    )
    assert result["label"].to_pylist() == ["en", "de", "ja", None, None, None]
    assert result["en"].to_pylist()[0] > 0.65 > result["en"].to_pylist()[1]
    assert result["de"].to_pylist()[3:] == [None] * 3
    assert max(result["score"].drop_null().to_pylist()) <= 1


def test_a_language_does_not_depend_on_line_feeds_or_neighbours(own_model):
    function = language.fasttext_language(language.Settings(), own_model[0])
    alone = score(function, "one sentence here\nand another one there")
    among = score(function, "другой текст", "one sentence here \n\n and another one there", None)
    assert among.slice(1, 1).to_pylist() == alone.to_pylist()


def read_texts(path, languages):
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
        rows = (json.loads(line) for line in file)
        return [(row["lang"], row["text"]) for row in rows if languages is None or row["lang"] in languages]


@pytest.mark.parametrize("corpus", ["techdocs", "howto", "government", "books"])
def test_english_documents_are_recognised(own_model, shared_data, corpus):
    texts = [text for _, text in read_texts(shared_data / "corpus" / f"{corpus}.jsonl.zst", {"en"}) if len(text) >= 200]
    scores = score(language.fasttext_language(language.Settings(), own_model[0]), *texts[:150])["en"].to_pylist()
    assert np.mean(np.array(scores) >= 0.65) > 0.97


def test_other_languages_are_seldom_taken_for_english(own_model, shared_data):
    known = set(load(own_model[0]).labels) - {"en"}
    rows = read_texts(shared_data / "multilingual" / "langid.jsonl.zst", known)[::5]
    result = score(language.fasttext_language(language.Settings(), own_model[0]), *(text for _, text in rows))
    labels, english = result["label"].to_pylist(), np.array(result["en"].fill_null(0))
    assert np.mean(english >= 0.65) < 0.03  # some of these texts are untranslated English
    assert np.mean([label == truth for label, (truth, _) in zip(labels, rows, strict=True)]) > 0.75


def test_quality_is_the_probability_of_the_references(judge):
    function, metrics = judge
    assert metrics["auc"] > 0.95
    assert metrics["held_out_positives"] + metrics["positives"] == 60
    good, bad = score(function, "another book about a book", "more spam about spam")["score"].to_pylist()
    assert good > 0.5 > bad


def test_line_feeds_and_words_beyond_the_limit_change_no_quality(judge):
    function, _ = judge
    text = "a book about many things"
    same = score(function, text, text.replace(" ", "\n\n"), f"{text}\r\n").column("score").to_pylist()
    assert len(set(same)) == 1
    long = " ".join(["book"] * 1000)
    cut = score(function, long, f"{long} {'spam ' * 5000}", None, " \n").column("score").to_pylist()
    assert cut[0] == cut[1]
    assert cut[2:] == [None, None]


def test_quality_training_depends_on_the_documents_and_not_on_their_order(tmp_path):
    texts = {"positive": documents("book", 40), "negative": documents("spam", 40)}
    turned = {role: [*reversed(values), values[0]] for role, values in texts.items()}
    contents = []
    for name, given in (("a", texts), ("b", turned)):
        (tmp_path / name).mkdir()
        quality.fit(QUALITY, given, str(tmp_path / name), 3)
        contents.append((tmp_path / name / quality.MODEL_FILE).read_bytes())
    assert contents[0] == contents[1]


def test_labels_without_meaning_teach_nothing(tmp_path):
    source = np.random.default_rng(1)
    words = [f"w{n}" for n in range(300)]
    found = []
    for seed in range(12):
        texts = [" ".join(source.choice(words, 40)) for _ in range(1200)]
        sides = {"positive": texts[:600], "negative": texts[600:]}
        found.append(quality.fit(QUALITY, sides, str(tmp_path), seed)["auc"])
    # 60 against 60 without meaning: 0.5 with a deviation of 0.053, and of 0.053 / sqrt(12) for the mean.
    assert np.mean(found) == pytest.approx(0.5, abs=3 * 0.053 / 12**0.5)


def test_too_few_references_are_refused(tmp_path):
    with pytest.raises(FactoryError, match=r"needs 20 different positive documents; 'books/\*\.jsonl' has 1"):
        quality.fit(QUALITY, {"positive": ["same"] * 50, "negative": documents("spam", 50)}, str(tmp_path), 1)


def test_auc_is_the_share_of_pairs_in_order():
    scores = np.array([0.9, 0.8, 0.8, 0.1], np.float32)
    assert quality.auc(scores, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)
