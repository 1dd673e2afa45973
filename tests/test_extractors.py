"""Extraction: characters, text form, limits, and agreement with gold text."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard

from factory.core.registry import find_stage

GOLD = Path(__file__).parents[2] / "shared" / "data" / "extraction_gold"
COLUMNS = {
    "payload": pa.large_binary(),
    "content_type": pa.string(),
    "text": pa.large_string(),
    "title": pa.string(),
    "license": pa.string(),
    "error": pa.string(),
}


def extract(*pages, content_type="text/html", **settings):
    stage = find_stage("extractor", "resiliparse")
    rows = [{"payload": page, "content_type": content_type} for page in pages]
    batch = pa.RecordBatch.from_pylist(rows, schema=pa.schema(COLUMNS))
    out = stage.make(stage.config(**settings))(batch)
    assert {field.name: field.type for field in out.schema} == stage.writes_for(stage.config())
    return out.to_pylist()


def page(words: str, head: str = "") -> str:
    return f"<html><head>{head}</head><body><main><p>{words}</p></main></body></html>"


RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах. " * 20


def test_the_header_charset_decides_where_bytes_are_not_utf8():
    (row,) = extract(page(RUSSIAN).encode("cp1251"), content_type="text/html; charset=windows-1251")
    assert row["text"] == RUSSIAN.strip()


def test_the_page_declares_its_charset_when_the_header_does_not():
    html = page(RUSSIAN, '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">')
    assert extract(html.encode("koi8-r"))[0]["text"] == RUSSIAN.strip()


def test_a_charset_nobody_declares_is_detected():
    assert extract(page(RUSSIAN).encode("cp1251"))[0]["text"] == RUSSIAN.strip()


@pytest.mark.parametrize("label", ["windows-1251", "iso-8859-1", "no-such-charset", "utf-16"])
def test_valid_utf8_is_utf8_whatever_the_header_says(label):
    assert extract(page(RUSSIAN).encode(), content_type=f"text/html; charset={label}")[0]["text"] == RUSSIAN.strip()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_decides(encoding):
    row = extract(page(RUSSIAN).encode(encoding), content_type="text/html; charset=iso-8859-1")[0]
    assert row["text"] == RUSSIAN.strip()


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("windows-1252", "«Él pidió jamón», señaló la niña — ¿y después? "),
        ("euc-kr", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. "),
        ("shift_jis", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"),
        ("gb2312", "人人生而自由，在尊严和权利上一律平等。"),
        ("iso-2022-jp", "すべての人間は、生まれながらにして自由である。"),
    ],
)
def test_legacy_encodings_that_are_declared_come_back(encoding, words):
    html = page(words * 30, f"<meta charset={encoding}>")
    assert extract(html.encode(encoding))[0]["text"] == (words * 30).strip()


def test_nul_surrogates_and_carriage_returns_do_not_reach_the_text():
    (row,) = extract(b"a\0b\r\nc \xed\xa0\x80 d", content_type="text/plain")
    assert row["text"].startswith("ab\nc")
    row["text"].encode()
    (row,) = extract(b"<pre>one\r\ntwo&#xD800;&#0;\0</pre>", main_content=False)
    assert "\r" not in row["text"]
    assert "\0" not in row["text"]
    row["text"].encode()


def test_random_bytes_never_raise():
    source = random.Random(1)
    pages = [bytes(source.randrange(256) for _ in range(source.randrange(1, 400))) for _ in range(200)]
    tags = [
        b"<div>",
        b"<table>",
        b"</p>",
        b"<!--",
        b"<![CDATA[",
        b"&#x110000;",
        b"<svg>",
        b"\xff",
        b"<a rel=license href=",
    ]
    pages += [b"".join(source.choices(tags, k=60)) for _ in range(200)]
    assert all((row["text"] is None) != (row["error"] is None) for row in extract(*pages))


@pytest.mark.parametrize(
    "html",
    [
        b"<div>" * 100_000 + b"deep",
        b"<article><Div>" * 50_000 + b"deep",
        b"<p " + b" ".join(b"a%d=1" % number for number in range(200_000)) + b">x",
        b"<p>x" * 3_000_000,
    ],
    ids=["div", "article", "attributes", "bytes"],
)
def test_pages_that_would_take_for_ever_are_refused(html):
    assert extract(html)[0]["error"].startswith("too_large: ")


def test_shapes_that_only_look_bad_are_read():
    table = b"<table>" + b"<tr><td>cell</td></tr>" * 50_000 + b"</table>"
    wide = b"<div>row of a flat page</div>" * 20_000
    span = b"<table><tr><td colspan=9000000000000000>word</td></tr></table>"
    assert all(row["error"] is None for row in extract(table, wide, span, main_content=False))


def test_a_page_does_not_depend_on_its_neighbours():
    pages = [page(f"paragraph {number} of the page").encode() for number in range(20)]
    assert extract(*pages)[::-1] == extract(*pages[::-1])


def test_licence_meta_is_read_where_there_is_no_link():
    html = page("words", '<meta name="DC.Rights" content="CC BY 4.0">').encode()
    assert extract(html)[0]["license"] == "CC BY 4.0"


def words(text: str) -> Counter:
    return Counter(re.findall(r"\w+", text.lower()))


def word_f1(found: str, wanted: str) -> float:
    found_words, wanted_words = words(found), words(wanted)
    shared = (found_words & wanted_words).total()
    return 2 * shared / max(found_words.total() + wanted_words.total(), 1)


def test_main_content_agrees_with_gold_text():
    if not GOLD.exists():
        pytest.skip("../shared/data/extraction_gold is not here")
    floors = {"wcxb": 0.85, "source-pair": 0.95, "readability-test": 0.95}
    for name, floor in floors.items():
        data = zstandard.ZstdDecompressor().stream_reader((GOLD / f"{name}.jsonl.zst").read_bytes()).read()
        gold = [json.loads(line) for line in data.split(b"\n") if line]
        found = extract(*(item["html"].encode("utf-8", "ignore") for item in gold))
        scores = [word_f1(row["text"] or "", item["gold_text"]) for row, item in zip(found, gold, strict=True)]
        mean = sum(scores) / len(scores)
        print(f"{name}: word F1 {mean:.3f} over {len(scores)} pages, lowest {min(scores):.3f}")
        assert mean >= floor
