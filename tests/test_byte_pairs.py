"""Ids made by compiled loops are those of the `tokenizers` library, for every text and every tokenizer that is read."""

import itertools
import json
import random
import time
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from factory.training.byte_pairs import PATTERNS
from factory.training.tokenizer import END_OF_TEXT, Encoder, train_tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data"
TEXTS = [
    "It's the cat's hat; they'll say we've I'm he'd THEY'LL DON'T it\u017fs '\u017f 'S  'LL 'Ve",
    "numbers 1 22 333 4444 55555 3.14 1,000,000 \u0661\u0662\u0663 \u00bd \u2167 \U0001d7ce x2y 2x",
    "line\r\n\r\n  next\n\n\n\tindent\t\tmore   \n end   ",
    "def f(x):\n    return x  # naïve café\n\n\nclass A: pass\r\n",
    "Das Schöne übt Größe. Ελληνικά και кириллица, слово за словом. हिन्दी में लिखा। ภาษาไทย 中文没有空格。日本語のテキスト",
    "한국어 텍스트 العربية עברית \u0e01\u0e34 e\u0301 \u1100\u1161 \ufb01 \u212b \u200b \u00a0\u2003x \u2028 \u0085y"
    " \u3000z \ufeff",
    "😀👩‍👩‍👧‍👦🇩🇪 emoji!!! ...---*** <|endoftext|> <s> </s> [INST] <tool> \x00\x01\x7f \ue000 \U0010ffff \U000e0041",
]
SPECIAL = [END_OF_TEXT, "<s>", "</s>"]
ODD = "".join(TEXTS) + "   \n\n\t\r  ''''sstlmdrev\u0300\u0301\u0345\u1161\u11a8"


@cache
def data_of(kind: str) -> bytes:
    """A tokenizer of a few hundred merges, whatever it cuts texts by."""
    gpt2, llama, tiktoken, qwen, long = PATTERNS
    split = {
        "llama": llama,
        "tiktoken": tiktoken,
        "qwen": qwen,
        "nfc": qwen,
        "long": long,
        "ignore": llama,
        "split": gpt2,
    }
    name = kind.partition("-")[0]
    if name in split:
        steps = [pre_tokenizers.Split(Regex(split[name]), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    else:
        first = {
            "gpt2": [],
            "ours": [pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")],
            "digits": [pre_tokenizers.Digits(individual_digits=True)],
        }
        steps = [*first[name], pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "ignore"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if name == "nfc":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("   ", normalized=True)])
    return tokenizer.to_str().encode()


KINDS = ["gpt2", "ours", "digits", "split", "llama", "tiktoken", "qwen", "long", "ignore", "nfc"]


@cache
def pair(kind: str) -> tuple[Encoder, Tokenizer]:
    path = FOLDER / f"{kind}.json"
    path.write_bytes(data_of(kind))
    return Encoder(path), library(path)


def library(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="session", autouse=True)
def _folder(tmp_path_factory):
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("tokenizers")


def assert_alike(encoder: Encoder, tokenizer: Tokenizer, texts: list[str]) -> None:
    assert encoder.library_alone is None
    ids, lengths = encoder.encode(pa.array(texts, pa.string()))
    found = np.split(ids, np.cumsum(lengths)[:-1]) if texts else []
    for text, own in zip(texts, found, strict=True):
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert own.tolist() == [*expected, encoder.eos_id], repr(text[:200])


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_all_kinds_have_the_ids_of_the_library(kind):
    cut = [text[first:last] for text in TEXTS for first, last in itertools.combinations(range(0, len(text), 7), 2)]
    assert_alike(*pair(kind), [*TEXTS, "", " ", "\n", "'", *cut])


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.text(st.sampled_from(ODD) | st.characters(codec="utf-8"), max_size=30), max_size=6))
def test_any_text_has_the_ids_of_the_library(kind, texts):
    assert_alike(*pair(kind), texts)


@pytest.mark.parametrize("kind", KINDS)
def test_random_neighbours_have_the_ids_of_the_library(kind):
    chance = random.Random(kind)
    texts = ["".join(chance.choices(ODD, k=chance.randint(1, 60))) for _ in range(1_500)]
    assert_alike(*pair(kind), texts)


@pytest.mark.parametrize("kind", ["llama", "digits"])
def test_every_character_is_what_the_library_holds_it_for(kind):
    codes = [code for code in range(0x32400) if not 0xD800 <= code < 0xE000]
    codes += [*range(0xE0000, 0xE0200), *range(0xEFFF0, 0xF0010), 0x10FFFF]
    # Between two letters, after a blank and a sign, doubled: wherever its class decides where a piece ends.
    parts = [f"a{chr(code)}b {chr(code)}{chr(code)} .{chr(code)}7" for code in codes]
    assert_alike(*pair(kind), ["|".join(parts[at : at + 4000]) for at in range(0, len(parts), 4000)])


@pytest.mark.parametrize("kind", ["ours", "llama", "ignore"])
def test_long_pieces_have_the_ids_of_the_library(kind):
    chance = random.Random(1)
    sizes = (15, 16, 17, 127, 128, 129, 1_023, 1_024, 1_025, 5_000)
    words = ["".join(chance.choices("abcdehinorst", k=size)) for size in sizes]
    words += ["a" * size for size in sizes] + ["中文没有空格" * size for size in (3, 30, 300)] + ["=" * 70_000]
    assert_alike(*pair(kind), [*words, " ".join(words), *words])


def test_a_word_of_ten_million_letters_takes_a_time_that_grows_like_its_length():
    encoder, tokenizer = pair("ours")
    seconds = {}
    for size in (100_000, 10_000_000):
        word = "".join(random.Random(2).choices("abcdehinorst", k=size))
        before = time.process_time()
        ids, _ = encoder.encode(pa.array([word]))
        seconds[size] = time.process_time() - before
        assert encoder.decode(ids[:-1]) == word
        if size == 100_000:
            assert ids[:-1].tolist() == tokenizer.encode(word, add_special_tokens=False).ids
    assert seconds[10_000_000] < 400 * max(seconds[100_000], 0.01)


def test_what_a_batch_is_and_what_was_encoded_before_change_no_id():
    encoder, _ = pair("ours")
    fresh = Encoder(FOLDER / "ours.json")
    texts = [*TEXTS, "", *TEXTS]
    whole, lengths = encoder.encode(pa.array(texts))
    single = [fresh.encode(pa.array([text]))[0] for text in texts]
    sliced, _ = fresh.encode(pa.array(["x", *texts, "y"], pa.large_string()).slice(1, len(texts)))
    assert np.array_equal(whole, np.concatenate(single))
    assert np.array_equal(whole, sliced)
    assert lengths.tolist() == [len(ids) for ids in single]


def test_a_memory_that_is_full_changes_no_id(tmp_path):
    encoder, tokenizer = pair("ours")
    chance = random.Random(3)
    texts = [" ".join("".join(chance.choices("abcdehinorst", k=9)) for _ in range(2_000)) for _ in range(90)]
    ids, lengths = encoder.encode(pa.array(texts))  # 180,000 words, and there is room for 131,072
    again, _ = encoder.encode(pa.array(texts))
    assert np.array_equal(ids, again)
    for at in (0, 44, 89):
        own = ids[lengths[:at].sum() : lengths[: at + 1].sum() - 1]
        assert own.tolist() == tokenizer.encode(texts[at], add_special_tokens=False).ids


def test_texts_with_added_tokens_and_texts_to_be_composed_are_left_to_the_library():
    encoder, _ = pair("nfc")
    texts = pa.array(["plain", "a <tool> b", "e\u0301", "three   blanks", "caf\u00e9 \uac00"])
    assert encoder._fast.settled(texts).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normaliser Lowercase"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer Whitespace"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
            "blank",
        ),
        ({"pre_tokenizer": None}, "no pre-tokenizer"),
    ],
)
def test_other_tokenizers_are_encoded_by_the_library(tmp_path, change, reason):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(data_of("gpt2")), **change}))
    encoder = Encoder(path)
    assert reason in encoder.library_alone
    ids, _ = encoder.encode(pa.array(["Some text"]))
    assert ids[:-1].tolist() == library(path).encode("Some text", add_special_tokens=False).ids


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not here")
@pytest.mark.parametrize("kind", ["ours", "llama"])
def test_real_documents_of_all_languages_have_the_ids_of_the_library(kind, tmp_path):
    texts = real_texts()
    path = tmp_path / "tokenizer.json"
    if kind == "ours":
        train_tokenizer(texts[::3], vocab_size=8_000, path=path)
    else:
        path.write_bytes(data_of(kind))
    assert_alike(Encoder(path), library(path), texts)


@cache
def real_texts() -> list[str]:
    """A few documents of every language and domain."""
    taken: dict[str, int] = {}
    texts = []
    for file in [*sorted((DATA / "corpus").glob("*.jsonl.zst")), *sorted((DATA / "multilingual").glob("*.jsonl.zst"))]:
        with zstandard.open(file, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                row = json.loads(line)
                key = f"{file.stem}/{row['lang']}"
                limit = 6 if "langid" in file.stem else 2 if "udhr" in file.stem else 12
                if taken.get(key, 0) < limit:
                    taken[key] = taken.get(key, 0) + 1
                    texts.append(row["text"][:20_000])
    return texts
