"""Languages: fastText's predictions reproduced, scripts, the detector of every machine, thresholds by language."""

import itertools
import json
import random

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.core.errors import FactoryError, InputError
from factory.core.thresholds import MAPS, carry, confidence_from, lid_threshold
from factory.kernels.alphabets import script_table
from factory.stages.fasttext_models import load, load_predictor, one_line
from factory.stages.filters import in_range_by, near_median_by
from factory.stages.language_texts import letters, letters_of
from factory.stages.scorers import fasttext_language as fasttext_stage
from factory.stages.scorers import langid_language

ODD = [
    *("", " \n", "\u3000", "\u00a0x\u2003", "</s>", "__label__en", "a</s>b__label__c", "__la</s>bel__", "_ < __label __label__"),
    *("x" * 5000, "日本語" * 3000, "a\0b\tc\vd\fe\rf", "\x1c\x1d", "é", "<", "_", "😀" * 40, "a b " * 3, "\ufeff",
    "a" * 24 + " " + "a" * 25),
]  # fmt: skip
KINDS = {
    "tree": {"loss": "hs", "dim": 16, "minn": 2, "maxn": 4, "bucket": 20_000},
    "softmax": {"loss": "softmax", "dim": 10, "minn": 2, "maxn": 5, "bucket": 5_000, "wordNgrams": 2},
    "words": {"loss": "softmax", "dim": 8, "minn": 0, "maxn": 0, "bucket": 5_000, "wordNgrams": 3},
    "plain": {"loss": "softmax", "dim": 8, "minn": 0, "maxn": 0},
    "one_vs_all": {"loss": "ova", "dim": 8, "minn": 2, "maxn": 3, "bucket": 5_000},
}


def read_rows(path):
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def large(texts):
    return pa.array(texts, pa.large_string())


def words_of(source, letters_in):
    return ["".join(source.choices(letters_in, k=source.randint(1, 30))) for _ in range(400)]


@pytest.fixture(scope="module")
def lines():
    """Made-up languages with their own letters, some of several bytes."""
    source = random.Random(1)
    made = []
    for label, alphabet in (
        ("aa", "abcdefgh"),
        ("bb", "efghijklm"),
        ("cc", "äöüßéabc"),
        ("dd", "длячтогв"),
        ("ee", "日本語文字"),
    ):
        words = words_of(source, alphabet)
        made += [(label, " ".join(source.choices(words, k=source.randint(3, 60)))) for _ in range(120)]
    source.shuffle(made)
    return made


@pytest.fixture(scope="module", params=KINDS)
def model(request, lines, tmp_path_factory):
    import fasttext

    folder = tmp_path_factory.mktemp("models")
    (folder / "examples").write_text("".join(f"__label__{label} {line}\n" for label, line in lines), encoding="utf-8")
    settings = {"epoch": 3, "lr": 0.5, "minCount": 2, "thread": 12, "verbose": 0, **KINDS[request.param]}
    trained = fasttext.train_supervised(str(folder / "examples"), **settings)
    trained.save_model(str(folder / "model.bin"))
    return str(folder / "model.bin")


def test_probabilities_are_those_of_fasttext(model, lines):
    texts = [
        *ODD,
        *(line for _, line in lines),
        *("\n".join([a, b]) for (_, a), (_, b) in itertools.pairwise(lines)),
    ]
    table, known = load_predictor(model).ask(large(texts))
    plain = [one_line(text) for text in texts]
    reference = load(model).probabilities(plain)
    expected = np.array([bool(line.strip()) for line in plain]) & (reference.max(axis=1) > 0)
    assert known.tolist() == expected.tolist()
    assert np.abs(table - reference)[known].max() < 1e-5
    assert (table.argmax(axis=1) == reference.argmax(axis=1))[known].all()


def test_what_was_asked_before_changes_nothing(model, lines):
    predictor = load_predictor(model)
    texts = [line for _, line in lines[:50]]
    first = predictor.ask(large(texts))[0]
    source = random.Random(2)
    predictor.ask(large([" ".join(words_of(source, "abcdefghijk")) for _ in range(300)]))
    assert np.array_equal(predictor.ask(large(texts))[0], first)
    assert np.array_equal(np.vstack([predictor.ask(large([text]))[0] for text in texts]), first)


@pytest.mark.parametrize("kept", [0, 40, 200, 3000, -5])
def test_a_part_of_a_model_is_refused(model, tmp_path, kept):
    with open(model, "rb") as file:
        (tmp_path / "m.bin").write_bytes(file.read()[:kept])
    for read in (load_predictor, load):
        with pytest.raises(FactoryError, match=r"m\.bin is no fastText model"):
            read(str(tmp_path / "m.bin"))


def test_real_texts_get_the_labels_of_the_library(shared_data, tmp_path):
    import fasttext

    rows = read_rows(shared_data / "multilingual" / "langid.jsonl.zst")[::3]
    examples = tmp_path / "examples"
    examples.write_text("".join(f"__label__{row['lang']} {one_line(row['text'])}\n" for row in rows), encoding="utf-8")
    shape = {"loss": "hs", "dim": 16, "minn": 2, "maxn": 4, "bucket": 200_000}
    trained = fasttext.train_supervised(str(examples), epoch=2, lr=0.3, minCount=3, thread=12, verbose=0, **shape)
    trained.save_model(str(tmp_path / "m.bin"))
    texts = [row["text"] for row in rows]
    texts += [row["text"] for row in read_rows(shared_data / "multilingual" / "udhr.jsonl.zst")[::3]]
    table, known = load_predictor(str(tmp_path / "m.bin")).ask(large(texts))
    reference = load(str(tmp_path / "m.bin")).probabilities([one_line(text) for text in texts])
    assert known.all()
    assert (table.argmax(axis=1) == reference.argmax(axis=1)).all()
    assert np.abs(table - reference).max() < 1e-5


@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=8))
def test_letters_of_a_column_are_the_letters_of_its_texts(texts):
    column = letters_of(large(texts))
    column.validate(full=True)
    found = [None if text is None else " ".join(text.split()) for text in column.to_pylist()]
    assert found == [None if text is None else letters(text) for text in texts]


def test_shortcuts_stand_for_addresses_and_say_how_to_pin_them():
    for name in ("lid.176", "glotlid", "openlid"):
        with pytest.raises(ValidationError, match=r"fetch https://.* once, look at it, and put what `sha256sum` says"):
            fasttext_stage.Settings(model=name)
        uri, digest = fasttext_stage.model_uri(fasttext_stage.Settings(model=name, sha256="ab" * 32))
        assert uri.startswith("https://")
        assert digest == "ab" * 32


def test_pairs_hold_every_label_above_the_least(model):
    settings = fasttext_stage.Settings(model=model, languages=("aa",), pairs=0.01)
    function = fasttext_stage.fasttext_language(settings)
    batch = pa.record_batch([large(["abc def", None, "дтогв abc"])], names=["text"])
    rows = function(batch).to_pylist()
    assert rows[1]["pairs"] is None
    for row in (rows[0], rows[2]):
        scores = [pair["score"] for pair in row["pairs"]]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0.01
        assert row["pairs"][0] == {"label": row["label"], "score": row["score"]}


# --- scripts


def test_every_letter_has_a_script_or_belongs_to_many(shared_data):
    names, table = script_table()
    kinds = {"Latin": "Latn", "Cyrillic": "Cyrl", "Greek": "Grek", "Arabic": "Arab", "Hebrew": "Hebr", "Thai": "Thai"}
    import unicodedata

    for character in "aZéßЖЩαΩعשกあア中한अআગதతಕമ":
        assert table[ord(character)] not in (0, len(names) - 1), unicodedata.name(character)
    for row in read_rows(shared_data / "multilingual" / "langid.jsonl.zst")[::200]:
        counts = np.bincount([table[ord(character)] for character in row["text"]], minlength=len(names))
        counts[0] = 0
        if row["script"] in kinds:
            assert names[counts.argmax()] == kinds[row["script"]]


# --- the detector of every machine


def test_the_detector_says_what_its_package_says(shared_data):
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    texts = [row["text"] for row in read_rows(shared_data / "multilingual" / "langid.jsonl.zst")[::40]]
    texts += ["ALL IN CAPITALS", "e\u0301te\u0301", "12 34", "a\0b"]
    function = langid_language.langid_language(langid_language.Settings())
    rows = function(pa.record_batch([large(texts)], names=["text"])).to_pylist()
    for text, row in zip(texts, rows, strict=True):
        label, score = model.classify(text)
        assert row["label"] in (label, None)
        assert row["label"] is None or row["score"] == pytest.approx(score, abs=1e-4)


def test_the_detector_tells_most_languages_apart(shared_data):
    from benchmarks.languages import macro_f1

    rows = [row for row in read_rows(shared_data / "multilingual" / "langid.jsonl.zst") if len(row["text"]) >= 200]
    function = langid_language.langid_language(langid_language.Settings())
    batch = pa.record_batch([large([row["text"] for row in rows])], names=["text"])
    truth = [row["lang"].removesuffix("-Latn") for row in rows]
    assert macro_f1(function(batch)["label"].to_pylist(), truth) > 0.93


def test_a_language_the_detector_does_not_know_is_named():
    with pytest.raises(FactoryError, match="knows no 'xq'"):
        langid_language.langid_language(langid_language.Settings(languages=("xq",)))
    with pytest.raises(ValidationError, match="is installed"):
        langid_language.Settings(model="0.0.1")


# --- thresholds


@pytest.mark.parametrize(
    ("median", "deviation", "wanted"), [(0.98, 0.05, 0.90), (0.70, 0.25, 0.45), (0.50, 0.30, 0.30)]
)
def test_confidence_thresholds_of_fineweb2(median, deviation, wanted):
    assert confidence_from(median, deviation) == pytest.approx(wanted)
    assert lid_threshold(np.array([median - deviation, median, median + deviation] * 2)[[0, 2]]) == pytest.approx(
        wanted
    )


def test_maps_keep_the_place_of_a_bound():
    source = np.random.default_rng(1)
    here = source.normal(10, 2, 20_000)
    there = 3 * here + 5
    for side, bound in (("min", 7.0), ("max", 13.0)):
        for method in ("mean_std", "quantile"):
            assert carry(method, here, there, bound, side).threshold == pytest.approx(3 * bound + 5, rel=0.01)
        assert carry("tail_10", here, there, bound, side).removed == pytest.approx(0.1, abs=0.001)
        assert carry("english", here, here, bound, side).threshold == bound
        assert carry("median_ratio", here, 2 * here, bound, side).threshold == pytest.approx(2 * bound)
    assert set(MAPS) == {"english", "mean_std", "quantile", "tail_10", "median_ratio"}


def test_rules_that_would_remove_all_or_nothing_are_not_used():
    values = np.arange(100.0)
    assert carry("english", values, values, 90.0).threshold is None
    assert "would remove 90%" in carry("english", values, values, 90.0).why
    assert carry("english", values, values, -1.0).threshold is None
    assert carry("median_ratio", np.zeros(5), values, 1.0).threshold is None
    assert carry("quantile", values, np.array([np.nan]), 1.0).threshold is None


def test_bounds_come_from_a_file_beside_the_recipe():
    settings = in_range_by.InRangeBy(column="score", by="label", min="bounds.yaml", max={"fr": 0.95}, others="keep")
    files = {"bounds.yaml": {"bounds.yaml": b"fr: 0.8\nsw: 0.3\n"}}
    judge = in_range_by.in_range_by(settings, files=files)
    table = {"score": pa.array([0.8, 0.96, 0.3, 0.2, 0.1], pa.float32()), "label": ["fr", "fr", "sw", "sw", "xx"]}
    assert judge(pa.record_batch(table))["keep"].to_pylist() == [True, False, True, False, True]
    for content, reason in (
        (b"no: 0.5", "quote no"),
        (b"[1]", "a map from group"),
        (b"a: [", "neither JSON nor YAML"),
        (b"a: .nan", "no group with"),
    ):
        with pytest.raises(InputError, match=reason):
            in_range_by.in_range_by(settings, files={"bounds.yaml": {"bounds.yaml": content}})


def test_fitted_thresholds_are_those_of_each_language():
    config = near_median_by.NearMedianBy(column="score", by="label", min_documents=5)
    scores = np.array([0.9, 0.95, 0.99, 0.97, 0.96, 0.5, 0.7, 0.4, 0.6, 0.65, 0.9], np.float32)
    labels = ["a"] * 5 + ["b"] * 5 + ["rare"]
    table = pa.table({"score": scores, "label": labels, "doc_id": [str(n) for n in range(11)]})
    fitted = near_median_by.fit_thresholds(config, table)
    assert fitted["documents"] == {"a": 5, "b": 5, "rare": 1}
    assert fitted["min"] == {"a": 0.9, "b": pytest.approx(lid_threshold(scores[5:10]), abs=1e-6)}
    shuffled = table.take(np.random.default_rng(1).permutation(11))
    assert near_median_by.fit_thresholds(config, shuffled) == fitted
    keep = near_median_by.near_median_by(config, json.loads(json.dumps(fitted)))(table.to_batches()[0])[
        "keep"
    ].to_pylist()
    assert keep == [True] * 5 + [bool(score >= np.float32(fitted["min"]["b"])) for score in scores[5:10]] + [True]
