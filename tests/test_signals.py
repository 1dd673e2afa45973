"""Quality signals beside plain Python that computes them one document at a time, and on real text."""

import hashlib
import io
import itertools
import json
import math
import re
import string
import time
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError
from factory.core.registry import find_stage
from factory.kernels.buckets import bucket_grams
from factory.kernels.rpv2 import COUNTS, LINE_COUNTS, count_signals
from factory.kernels.text import view_text
from factory.stages.filters import in_quantiles as quantiles
from factory.stages.scorers import importance as weights

BULLETS = tuple("•‣▶◀◦■□▪▫–")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Characters with something odd about their case, their decomposition, their number or the space they are.
CHARACTERS = st.sampled_from(
    [
        *"abE AB\n\x00\x1c.!?…#{}1²٣ΣσsıİẞßÅ é\u0301\u0323\u0345\u0315ﬁ한글漢ᾂ”•–\u3000\u200b\u2028",
        "lorem ipsum",
        "Javascript ",
    ]
)


def texts_of(path, count=None):
    with path.open("rb") as stream:
        lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream))
        return [json.loads(line)["text"] for _, line in zip(range(count or 10**9), lines, strict=False)]


def large(texts):
    return pa.array(texts, pa.large_string())


def scores(name, *texts, model=(), files=None, **config):
    stage = find_stage("scorer", name)
    more = {} if files is None else {"files": files}
    columns = {
        column: large(texts) if column == "text" else pa.nulls(len(texts), pa.string()) for column in stage.reads
    }
    return stage.make(stage.config(**config), *model, **more)(pa.record_batch(columns)).to_pylist()


def normal(text):
    return unicodedata.normalize("NFD", re.sub(r"\s+", " ", text.translate(NO_PUNCTUATION).lower().strip()))


def plain_counts(text):
    """What `count_signals` counts, by the definitions."""
    raw, content = re.findall(r"\w+|[^\w\s]+", text), normal(text)
    words, lines = content.split(), re.findall(r"[^\n]*\n|[^\n]+$", text)
    tally = Counter(words)
    counts = {
        "characters": len(text),
        "lines": len(lines),
        "raw_words": len(raw),
        "all_caps_words": sum(map(str.isupper, raw)),
        "alphabetic_words": sum(bool(re.search("[a-zA-Z]", word)) for word in raw),
        "symbols": sum(map(text.count, ("#", "...", "…"))),
        "curly_brackets": text.count("{") + text.count("}"),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines),
        "sentences": len(re.findall(r"\b[^.!?]+[.!?]*", text)),
        "words": len(words),
        "word_characters": sum(map(len, words)),
        "distinct_words": len(tally),
        "lorem_ipsum": content.count("lorem ipsum"),
    }
    for n in range(2, 11):
        grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
        copies = Counter(grams)
        if n <= 4:
            gram, count = (copies.most_common(1) or [((), 0)])[0]
            counts[f"top_{n}"] = sum(map(len, gram)) * count if count > 1 else 0
        else:
            covered = {at + place for at, gram in enumerate(grams) if copies[gram] > 1 for place in range(n)}
            counts[f"duplicate_{n}"] = sum(len(words[place]) for place in covered)
    entropy = -sum(n / len(words) * math.log(n / len(words)) for n in tally.values())
    return [counts[name] for name in COUNTS], entropy, [plain_line(line) for line in lines]


def plain_line(line):
    content = normal(line)
    counts = {
        "characters": len(line),
        "upper": sum(map(str.isupper, line)),
        "terminal": line.rstrip().endswith((".", "!", "?", "”")),
        "bullet": line.lstrip().startswith(BULLETS),
        "words": len(content.split()),
        "normal_characters": len(content),
        "numeric": sum(map(str.isnumeric, content)),
        "javascript": content.split().count("javascript"),
    }
    return [int(counts[name]) for name in LINE_COUNTS]


def assert_counted(texts):
    counted = count_signals(view_text(large(texts)))
    for row, text in enumerate(texts):
        counts, entropy, lines = plain_counts(text)
        assert dict(zip(COUNTS, counted.counts[row].tolist(), strict=True)) == dict(zip(COUNTS, counts, strict=True))
        assert counted.entropy[row] == pytest.approx(entropy, abs=1e-9)
        assert counted.lines[counted.starts[row] : counted.starts[row + 1]].tolist() == lines


@settings(max_examples=300)
@given(st.lists(st.lists(CHARACTERS, max_size=60).map("".join), max_size=4))
def test_signals_are_counted_as_plain_python_counts_them(texts):
    assert_counted(texts)


@settings(max_examples=50)
@given(st.lists(st.text(max_size=80), max_size=4))
def test_any_character_is_normalised_as_python_does(texts):
    assert_counted(texts)


def test_signals_of_real_documents_are_those_of_plain_python(shared_data):
    texts = texts_of(shared_data / "corpus" / "howto.jsonl.zst", 100) + texts_of(
        shared_data / "corpus/math.jsonl.zst", 20
    )
    texts += texts_of(shared_data / "corpus" / "code.jsonl.zst", 40)
    texts += texts_of(shared_data / "multilingual" / "udhr.jsonl.zst", 11_000)[::40]
    assert_counted(texts)


def test_a_thousand_combining_marks_are_put_in_order():
    assert_counted(["a" + "\u0301\u0323\u0315" * 1000 + " b\u0323\u0301 b\u0301\u0323"])


def test_words_that_lose_their_marks_become_one():
    text = "Dont don't DON'T do-nt"
    (row,) = scores("rpv2", text)
    assert (row["word_count"], row["frac_unique_words"]) == (4, 0.25)


def test_lists_hold_one_value_a_line():
    rows = scores("rpv2", "One.\n\n• two", "", None, lines=True)
    assert [row["each_line_num_words"] for row in rows] == [[1, 0, 2], [], None]
    assert rows[0]["each_line_start_with_bulletpoint"] == [0, 0, 1]
    assert rows[0]["lines_start_with_bulletpoint"] == pytest.approx(1 / 3)


def test_the_buckets_of_dsir_are_those_of_sha_256():
    texts = ["the cat", "data", "don't  stop\u3000wörd_2 " + "x" * 200]
    found, starts, words = bucket_grams(view_text(large(texts)), 10_000)
    assert found[:4].tolist() == [8288, found[1], 143, 1943]  # golden vector G21
    grams = re.findall(r"\w+|[^\w\s]+", texts[2])
    wanted = [*grams, *(f"{one} {two}" for one, two in itertools.pairwise(grams))]
    buckets = [int(hashlib.sha256(gram.encode()).hexdigest(), 16) % 10_000 for gram in wanted]
    assert sorted(found[starts[2] :].tolist()) == sorted(buckets)
    assert words.tolist() == [2, 1, len(grams)]


def test_importance_is_the_log_ratio_of_two_bags(tmp_path):
    config = weights.Settings(target="books/*", raw="crawl", buckets=1000)
    books, spam = (
        [f"the old house number {n}" for n in range(40)],
        [f"buy cheap pills {n} right now" for n in range(40)],
    )
    metrics = weights.fit(config, {"target": books, "raw": spam}, str(tmp_path), 1)
    assert metrics["auc"] == 1.0
    model = [str(tmp_path / weights.MODEL_FILE)]
    book, other, nothing = scores("importance", "The old house", "buy pills", "", model=model, target="b", raw="c")
    assert book["score"] > 0 > other["score"]
    assert book["per_gram"] == pytest.approx(book["score"] / 5)
    assert book["length_corrected"] != book["score"]
    assert nothing["score"] is None
    again = tmp_path / "again"
    again.mkdir()
    weights.fit(config, {"target": books[::-1], "raw": spam}, str(again), 1)
    assert (again / weights.MODEL_FILE).read_bytes() == (tmp_path / weights.MODEL_FILE).read_bytes()


def test_importance_finds_the_books_among_other_texts(shared_data, tmp_path):
    books = texts_of(shared_data / "corpus" / "books.jsonl.zst", 120)
    others = texts_of(shared_data / "corpus" / "techdocs.jsonl.zst", 120)
    metrics = weights.fit(weights.Settings(target="b", raw="c"), {"target": books, "raw": others}, str(tmp_path), 1)
    assert metrics["auc"] > 0.95


def test_importance_says_what_it_lacks(tmp_path):
    with pytest.raises(FactoryError, match="needs 20 different target documents; 'b' has 1"):
        weights.fit(weights.Settings(target="b", raw="c"), {"target": ["a"] * 50, "raw": []}, str(tmp_path), 1)
    (tmp_path / "m").write_bytes(b"no model")
    with pytest.raises(FactoryError, match="is no model of importance"):
        scores("importance", "a", model=[str(tmp_path / "m")], target="b", raw="c")


def test_a_word_list_is_a_file_with_an_entry_a_line(shared_data):
    listed = (shared_data / "toxicity" / "ldnoobw.jsonl.zst").open("rb")
    entries = [json.loads(line) for line in io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(listed))]
    for language in ("en", "de", "ja", "th", "zh"):
        words = [entry["word"] for entry in entries if entry["lang"] == language]
        content = {"list.txt": {"list.txt": "\r\n".join(words).encode()}}
        text = " , ".join(words)
        (row, name) = scores("bad_words", text, "Scunthorpe", files=content, file="list.txt", language=language)
        assert row["distinct"] == len({word.lower() for word in words})
        assert row["hits"] >= row["distinct"]
        assert name["hits"] == 0


def test_languages_without_spaces_are_searched_within():
    assert scores("bad_words", "這裡有壞詞語", entries=["壞詞"], language="zh")[0]["hits"] == 1
    assert scores("bad_words", "abadword", entries=["bad"], language="en")[0]["hits"] == 0
    assert scores("bad_words", "abadword", entries=["bad"], anywhere=True)[0]["hits"] == 1
    assert scores("bad_words", "bad worse", entries=["bad", "worse"], allow=["Worse"])[0]["hits"] == 1


@given(st.lists(st.text("ab c", min_size=1, max_size=4), min_size=1, max_size=5), st.text("abAB c_.\n", max_size=60))
def test_entries_are_found_as_a_regular_expression_finds_them(entries, text):
    tidy = {" ".join(entry.split()) for entry in entries} - {""}
    if not tidy:
        return
    found = {}
    for entry in tidy:
        pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, entry.split())) + r"(?!\w)"
        found[entry] = sum(bool(re.compile(pattern).match(text.lower(), at)) for at in range(len(text)))
    (row,) = scores("bad_words", text, entries=entries)
    assert (row["hits"], row["distinct"]) == (sum(found.values()), sum(map(bool, found.values())))


def test_a_word_list_that_is_none_is_refused():
    for files, reason in (
        ({}, "no word list at 'a.txt'"),
        ({"a.txt": {"a.txt": b"\n \n"}}, "is empty"),
        ({"a.txt": {"a.txt": b"\xff\xfe"}}, "is not UTF-8"),
        ({"a.txt": {"a.txt": b"x" * 500}}, "An entry is a line"),
    ):
        with pytest.raises(FactoryError, match=reason):
            scores("bad_words", "a", files=files, file="a.txt")


def test_stop_words_of_another_language_come_from_a_file():
    files = {"fr.txt": {"fr.txt": b"le\nde\nla\n"}}
    (row,) = scores("stop_words", "Le chat de la voisine", files=files, file="fr.txt")
    assert (row["count"], row["distinct"]) == (3, 3)
    (row,) = scores("stop_words", "Le chat de la voisine", files=files, file="fr.txt", any_case=False)
    assert row["count"] == 2


def test_runs_are_those_of_a_search_by_hand():
    def by_hand(words, longest):
        best = min(1, len(words))
        for period in range(1, longest + 1):
            for start in range(len(words)):
                group, times = words[start : start + period], 1
                while group and words[start + times * period : start + (times + 1) * period] == group:
                    times += 1
                best = max(best, times)
        return best

    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(["a", "b", "c"], size)) for size in rng.integers(0, 40, 100)]
    found = [row["repetitions"] for row in scores("repeated_runs", *texts, longest_period=5)]
    assert found == [by_hand(text.split(), 5) for text in texts]


def test_articles_repeat_little_and_no_one_of_them_is_dropped(shared_data):
    articles = texts_of(shared_data / "corpus" / "wikipedia.jsonl.zst")
    found = [row["repetitions"] for row in scores("repeated_runs", *articles)]
    assert np.median(found) <= 4
    assert max(found) < 32
    assert scores("repeated_runs", "ab " * 40)[0] == {"repetitions": 40, "period": 1}


@pytest.mark.parametrize(
    ("text", "inline", "display"),
    [
        ("$x$", 1, 0),
        ("$E = mc^2$ and $$a$$", 1, 1),
        ("costs $5 or $6", 0, 0),
        ("$5 = five$", 1, 0),
        ("a$b$c", 0, 0),
        (r"\$x=1\$", 0, 0),
        (r"\(x\) \[y\] \\[2pt]", 1, 1),
        ("$ x = 1 $", 0, 0),
        ("$$ a \n\n b $$", 0, 0),
    ],
)
def test_formulas_are_told_from_money(text, inline, display):
    (row,) = scores("math_density", text)
    assert (row["inline_formulas"], row["display_formulas"]) == (inline, display)


def test_mathematics_is_denser_than_prose(shared_data):
    papers = scores("math_density", *texts_of(shared_data / "corpus" / "math.jsonl.zst", 200))
    novels = scores("math_density", *texts_of(shared_data / "corpus" / "books.jsonl.zst", 100))
    assert np.median([row["tex_commands_per_1000"] for row in papers]) > 5
    assert max(row["formula_fraction"] for row in novels) < 0.01


def test_program_text_passes_the_bounds_of_its_preset(shared_data):
    stage = find_stage("scorer", "code_statistics")
    with (shared_data / "corpus" / "code.jsonl.zst").open("rb") as stream:
        lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream))
        files = [json.loads(line) for line in lines]
    meta = [json.dumps({"language": file["programming_language"]}) for file in files]
    batch = {"text": large([file["text"] for file in files]), "url": pa.nulls(len(files), pa.string()), "meta": meta}
    rows = stage.make(stage.config())(pa.record_batch(batch)).to_pylist()
    assert np.mean([row["alphanumeric_fraction"] >= 0.25 for row in rows]) > 0.97
    assert np.mean([row["mean_line_length"] <= 100 for row in rows]) > 0.95
    assert np.mean([0.01 <= row["comment_fraction"] <= 0.8 for row in rows]) > 0.8


@pytest.mark.parametrize(
    ("language", "text", "comments"),
    [
        ("python", "x = '''\n# no\n'''\n", 0),
        ("python", "# yes\n'''yes'''\nx = 'it\\'s # no'\n", 14),
        ("c", "char c = '\"'; // \"\n", 4),
        ("javascript", "x = `// no`; /* yes\n*/", 9),
        ("sql", "a -- b\n'-- no'", 4),
        ("tex", "a % b", 3),
        ("html", "<p><!-- b --></p>", 10),
        ("ocaml", "let f (* b *) = 1", 7),
        ("text", "# // -- %", 0),
    ],
)
def test_comments_are_found_outside_of_strings(language, text, comments):
    (row,) = scores("code_statistics", text, language=language)
    assert row["comment_fraction"] == pytest.approx(comments / len(text))


def test_a_language_without_known_comments_is_refused():
    with pytest.raises(FactoryError, match=r"no comments of 'pythn'.*Did you mean 'python'"):
        scores("code_statistics", "a", language="pythn")


HOSTILE = (
    "$a ",
    "\\(",
    "$$",
    "<",
    "<a",
    "</",
    "<script>",
    "/*",
    "''' ",
    '"',
    "`",
    "ab ",
    "\\x",
    "12 ",
    "{",
    "[",
    "a\u0301\u0323",
)


@pytest.mark.parametrize(
    "name", ["rpv2", "code_statistics", "math_density", "repeated_runs", "bad_words", "stop_words"]
)
def test_no_text_takes_time_out_of_proportion(name):
    config = {"entries": ["a a a a a b", "ab ab"]} if name == "bad_words" else {}
    scores(name, "compiled", **config)
    for part in HOSTILE:
        text = part * (200_000 // len(part))
        begun = time.process_time()
        scores(name, text, **config)
        assert time.process_time() - begun < 5, part


def test_cuts_leave_the_asked_shares_on_either_side():
    table = pa.table({"ppl": np.random.default_rng(0).permutation(1000).astype(np.float32)})
    shares = []
    for low, high in ((0, 0.3), (0.3, 0.6), (0.6, 1)):
        config = quantiles.InQuantiles(column="ppl", low=low, high=high)
        judge = quantiles.in_quantiles(config, json.loads(json.dumps(quantiles.fit_cuts(config, table))))
        shares.append(sum(judge(table.to_batches()[0]).column("keep").to_pylist()))
    assert shares == [300, 300, 400]


def test_cuts_are_those_of_a_language_and_nan_is_in_no_bucket():
    values = [*range(10), *range(100, 110), math.nan, None]
    table = pa.table({"ppl": pa.array(values, pa.float64()), "lang": ["en"] * 10 + ["de"] * 10 + ["en", "de"]})
    config = quantiles.InQuantiles(column="ppl", high=0.5, by="lang")
    keep = quantiles.in_quantiles(config, quantiles.fit_cuts(config, table))(table.to_batches()[0])
    assert keep.column("keep").to_pylist() == [*([True] * 5 + [False] * 5) * 2, False, False]
    with pytest.raises(ValueError, match="lies below"):
        quantiles.InQuantiles(column="ppl", low=0.5, high=0.5)
