"""The perplexity of reference text, shuffled text and other text; the n-gram model against sums and against KenLM."""

import io
import json
import math

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from pydantic import ValidationError

from factory.core.errors import FactoryError
from factory.kernels.ngrams import hash_table, learn_ngrams, sentence_scores
from factory.stages.scorers import perplexity as scorer

BEGIN, END, VOCABULARY = 10, 11, 12
RNG = np.random.default_rng(0)
SENTENCES = [
    RNG.choice(9, RNG.integers(0, 9), p=[0.3, 0.2, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.03]).tolist() for _ in range(400)
]


def documents_of(path, split):
    with path.open("rb") as stream:
        lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream))
        return [item["text"] for item in map(json.loads, lines) if item["split"] == split]


def learned(order=4, prune=1):
    words = [word for sentence in SENTENCES for word in (BEGIN, *sentence, END)]
    return learn_ngrams(np.array(words, np.int32), VOCABULARY, order, prune)


def asked(model, *sentences):
    starts = np.cumsum([0, *map(len, sentences)])
    words = np.array([word for sentence in sentences for word in sentence], np.int32)
    return sentence_scores(model, hash_table(model), words, starts)


def score(function, *texts):
    return function(pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])).to_pylist()


@pytest.fixture(scope="module")
def trained(shared_data, tmp_path_factory):
    """A model of books and encyclopedia articles."""
    folder = tmp_path_factory.mktemp("perplexity")
    names = ("books", "wikipedia")
    texts = [text for name in names for text in documents_of(shared_data / "corpus" / f"{name}.jsonl.zst", "train")]
    config = scorer.Settings(reference="corpus/*.zst", vocab_size=4000)
    metrics = scorer.fit(config, {"reference": texts[::3]}, str(folder), 1)
    return scorer.perplexity(config, str(folder / scorer.MODEL_FILE)), metrics


def test_the_perplexity_of_a_document_is_that_of_cc_net():
    assert scorer.document_perplexity([-20, -10], [9, 4]) == pytest.approx(100)  # golden vector G19


def test_normal_lines_are_those_of_the_language_model():
    text = "Ça coûte 12 €…\n \x00\n“Hi”—x，y\t١２\r\n"
    assert scorer.normal_lines(text) == ["ca coute 00 €...", '"hi" - x,y 00']
    assert [scorer.normal_lines("\n".join(scorer.normal_lines(text)))] == [scorer.normal_lines(text)]


@pytest.mark.parametrize("prune", [0, 1, 3])
def test_the_chances_of_all_words_in_a_context_add_up_to_one(prune):
    model = learned(prune=prune)
    known = dict(zip(model.keys.tolist(), model.scores.tolist(), strict=True))
    assert len(known) == len(model.keys)
    assert (10 ** model.unigrams[:, 0].astype(float)).sum() == pytest.approx(1, abs=1e-5)
    for context in ([], [0], [0, 1], [0, 1, 2, 3], [9, 9], [1, 9, 0]):
        # What follows a context is the whole less what follows its ends: P(w …) summed over w is P(context).
        longer = [[*context, word] for word in range(VOCABULARY - 2)]
        whole = open_score(model, context)
        parts = [open_score(model, sentence) for sentence in longer] + [asked(model, context)[0]]
        assert sum(10**part for part in parts) == pytest.approx(10**whole, rel=1e-5)


def open_score(model, words):
    """log10 of the probability that a sentence begins so."""
    ends = asked(model, *(words[:at] for at in range(len(words) + 1)))
    # P(sentence, end) of a prefix is P(prefix) P(end | prefix), and P(prefix) is what is asked for.
    return ends[-1] - end_score(model, words)


def end_score(model, words):
    """log10 P(end | words), by the definition: back off until an n-gram is known."""
    hashes = {key: tuple(values) for key, values in zip(model.keys.tolist(), model.scores.tolist(), strict=True)}
    context = [BEGIN, *words][-(model.order - 1) :]
    weight = 0.0
    while context:
        found = hashes.get(hashed([*context, END]))
        if found:
            return weight + found[0]
        weight += model.unigrams[context[0], 1] if len(context) == 1 else hashes.get(hashed(context), (0, 0.0))[1]
        context = context[1:]
    return weight + model.unigrams[END, 0]


def hashed(words):
    value, most = 0, 2**64 - 1
    for word in reversed(words):
        value = ((value + word + 1) * 0x9E3779B97F4A7C15) & most
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & most
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & most
        value = (value ^ (value >> 31)) | 1
    return value


def arpa(model, words_of):
    """The model as a file every language-model tool reads; n-grams are found again among those of the sentences."""
    known = dict(zip(model.keys.tolist(), model.scores.tolist(), strict=True))
    names = [*map(str, range(VOCABULARY - 2)), "<s>", "</s>"]
    grams = {1: {(word,): model.unigrams[word] for word in range(VOCABULARY)}}
    for sentence in words_of:
        words = [BEGIN, *sentence, END]
        for size in range(2, model.order + 1):
            for at in range(len(words) - size + 1):
                gram = tuple(words[at : at + size])
                if hashed(gram) in known:
                    grams.setdefault(size, {})[gram] = known[hashed(gram)]
    grams[1][(VOCABULARY,)] = (-9.0, 0.0)
    names.append("<unk>")
    lines = ["\\data\\", *(f"ngram {size}={len(of)}" for size, of in grams.items())]
    for size, of in grams.items():
        lines += ["", f"\\{size}-grams:"]
        for gram, (chance, weight) in of.items():
            last = "" if size == model.order else f"\t{weight:.9f}"
            lines.append(f"{chance:.9f}\t{' '.join(names[word] for word in gram)}{last}")
    return "\n".join([*lines, "", "\\end\\", ""])


def test_kenlm_gives_the_same_probabilities(tmp_path):
    kenlm = pytest.importorskip("kenlm")
    model = learned(order=4, prune=1)
    path = tmp_path / "own.arpa"
    path.write_text(arpa(model, SENTENCES))
    quiet = kenlm.Config()
    quiet.show_progress = False
    other = kenlm.Model(str(path), quiet)
    sentences = [*SENTENCES[:50], [9, 9, 0], [8, 7, 6, 5, 4, 3]]
    wanted = [other.score(" ".join(map(str, sentence)), bos=True, eos=True) for sentence in sentences]
    assert asked(model, *sentences) == pytest.approx(wanted, abs=1e-4)


def test_a_ready_model_is_kenlms_with_its_pieces(tmp_path):
    pytest.importorskip("kenlm")
    proto = scorer._train_pieces(["ab ab ba", "ba ab"] * 50, 20)
    pieces = [
        scorer._processor(proto).id_to_piece(number) for number in range(scorer._processor(proto).get_piece_size())
    ]
    chance = -math.log10(len(pieces) + 1)
    known = [piece for piece in pieces if piece != "<unk>"]
    lines = [*(f"{chance}\t{word}\t0" for word in ("<unk>", "</s>", *known)), "-99\t<s>\t0"]
    head = ["\\data\\", f"ngram 1={len(lines)}", "ngram 2=1", "", "\\1-grams:"]  # KenLM wants a bigram
    path = tmp_path / "flat.arpa"
    path.write_text("\n".join([*head, *lines, "", "\\2-grams:", "-1\t<unk> <unk>", "", "\\end\\", ""]))
    config = scorer.Settings(model=str(path), pieces="sp.model")
    rows = score(scorer.perplexity(config, str(path), files={"sp.model": {"sp.model": proto}}), "AB ab\n\nba", "", None)
    assert rows[0]["perplexity"] == pytest.approx(len(pieces) + 1, rel=1e-5)
    assert [row["pieces"] for row in rows[1:]] == [0, None]
    assert [row["perplexity"] for row in rows[1:]] == [None, None]
    with pytest.raises(FactoryError, match="there are 0"):
        scorer.perplexity(config, str(path), files={})
    path.write_text("nothing")
    with pytest.raises(FactoryError, match="is no KenLM model"):
        scorer.perplexity(config, str(path), files={"sp.model": {"sp.model": proto}})


def test_reference_text_is_less_surprising_than_its_words_shuffled(trained):
    assert trained[1]["perplexity_of_shuffled_words"] > 3 * trained[1]["perplexity"]


def test_reference_text_is_less_surprising_than_other_text(trained, shared_data):
    def values(*names):
        texts = [text for name in names for text in documents_of(shared_data / "corpus" / f"{name}.jsonl.zst", "eval")]
        return np.array([row["perplexity"] for row in score(trained[0], *texts)])

    like, unlike = values("books", "wikipedia"), values("techdocs", "biomedical", "legal", "math", "code")
    assert np.mean(like[:, None] < unlike[None, :]) >= 0.9


def test_a_document_is_scored_alike_alone_and_among_others(trained):
    texts = ["It was a dark night.\n\nThe rain fell.", None, "zzz qqq 🦆", "", "\x00", "It was a dark night."]
    together = score(trained[0], *texts)
    assert together == [score(trained[0], text)[0] for text in texts]
    assert together[5]["perplexity"] < together[2]["perplexity"]
    assert [row["perplexity"] for row in (together[1], together[3], together[4])] == [None] * 3


def test_training_twice_gives_the_same_bytes_and_the_order_of_documents_does_not_matter(tmp_path):
    texts = [
        f"the {animal} number {n} sat on the mat\nand ate {n % 7} fish" for animal in ("cat", "dog") for n in range(40)
    ]
    contents = []
    for name, given in (("a", texts), ("b", texts[::-1] + texts[:3])):
        (tmp_path / name).mkdir()
        scorer.fit(scorer.Settings(source="crawl", vocab_size=200), {"reference": given}, str(tmp_path / name), 7)
        contents.append((tmp_path / name / scorer.MODEL_FILE).read_bytes())
    assert contents[0] == contents[1]


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FactoryError, match="at least; source 'crawl' has 1"):
        scorer.fit(scorer.Settings(source="crawl"), {"reference": ["a", "a", " "]}, str(tmp_path), 1)
    (tmp_path / "m").write_bytes(b"no model")
    with pytest.raises(FactoryError, match="is no model of perplexity"):
        scorer.perplexity(scorer.Settings(source="crawl"), str(tmp_path / "m"))
    for wrong, reason in (
        ({}, "named: none"),
        ({"reference": "a", "source": "b"}, "named: reference, source"),
        ({"model": "m.bin"}, "go together"),
        ({"model": "https://h/m.bin", "pieces": "sp.model"}, "needs the `sha256`"),
        ({"source": "a", "sha256": "ab" * 32}, "pins a ready model"),
    ):
        with pytest.raises(ValidationError, match=reason):
            scorer.Settings(**wrong)
