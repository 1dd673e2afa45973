"""Extraction: characters, text form, limits, metadata, structure, purity, and agreement with gold text."""

import html
import json
import random
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
import zstandard

from factory.core.registry import find_stage
from factory.core.schema import RAW
from factory.evaluation.extraction import Page, agree, gold_pages, kept_snippets, make_extractor, sample, score, words
from factory.kernels.pages import look_at
from factory.stages.extractors.charset import decode
from factory.stages.licences import parse_licence

DATA = Path(__file__).parents[2] / "shared" / "data"
GOLD = DATA / "extraction_gold"
EXTRACTORS = ("resiliparse", "trafilatura")
both = pytest.mark.parametrize("extractor", EXTRACTORS)


@cache
def made(extractor, settings):
    stage = find_stage("extractor", extractor)
    config = stage.config(**dict(settings))
    return stage.make(config), stage.reads_for(config), stage.writes_for(config)


def extract(*pages, content_type="text/html", extractor="resiliparse", url=None, date=None, meta=None, **settings):
    function, reads, writes = made(extractor, tuple(settings.items()))
    known = {"content_type": content_type, "url": url, "date": date, "meta": meta}
    rows = [known | {"payload": page.encode() if isinstance(page, str) else page} for page in pages]
    out = function(pa.RecordBatch.from_pylist(rows, schema=pa.schema([RAW.field(name) for name in reads])))
    assert {field.name: field.type for field in out.schema} == writes
    return out.to_pylist()


def meta_of(row):
    return json.loads(row["meta"] or "{}")


def read_lines(path):
    if not path.exists():
        pytest.skip(f"../shared/data/{path.relative_to(DATA)} is not here")
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    return [line for line in data.split(b"\n") if line]


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


def test_a_page_cut_in_a_character_stays_utf8():
    row = extract(page(RUSSIAN).encode()[:-400] + b"\xd0", content_type="text/html; charset=windows-1251")[0]
    assert row["text"].startswith(RUSSIAN[:200])
    assert meta_of(row) == {"charset": "utf-8", "charset_how": "lossy", "n_replacement": 1}


def test_a_declared_charset_that_gives_control_characters_is_not_believed():
    korean = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. " * 20
    row = extract(page(korean).encode("cp949"), content_type="text/html; charset=iso-8859-1")[0]
    assert "자유로우며" in row["text"] or meta_of(row)["charset_how"] == "header"
    (row,) = extract(page(RUSSIAN).encode("koi8-r"), content_type="text/html; charset=x-mac-nonsense")
    assert row["text"] == RUSSIAN.strip()


def test_plain_utf8_says_nothing_of_its_charset():
    assert extract(page(RUSSIAN))[0]["meta"] is None
    assert meta_of(extract(page(RUSSIAN).encode("cp1251"))[0]) == {"charset": "cp1251", "charset_how": "detected"}


ENCODINGS = {
    "cp1252": ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "fi"),
    "cp1251": ("ru", "bg", "uk", "sr", "be"),
    "koi8-r": ("ru",),
    "cp949": ("ko",),
    "euc-kr": ("ko",),
    "cp932": ("ja",),
    "shift_jis": ("ja",),
    "euc-jp": ("ja",),
    "gb18030": ("zh",),
    "big5": ("zh",),
}


def test_texts_of_2000_characters_come_back_from_encodings_nobody_declares():
    texts: dict[str, list[str]] = {}
    for line in read_lines(DATA / "multilingual" / "langid.jsonl.zst"):
        item = json.loads(line)
        texts.setdefault(item["lang"], []).append(item["text"])
    tried = same = 0
    for encoding, languages in ENCODINGS.items():
        right = []
        for language in languages:
            joined = "\n".join(texts.get(language, ())).encode(encoding, "ignore").decode(encoding)
            for start in range(0, min(len(joined) - 2_000, 40_000), 2_000):
                payload = joined[start : start + 2_000].encode(encoding)
                if not payload.isascii():
                    right.append(decode(payload, "").text == joined[start : start + 2_000])
        print(f"{encoding}: {sum(right)} of {len(right)}")
        assert sum(right) >= 0.97 * len(right)
        tried, same = tried + len(right), same + sum(right)
    assert tried >= 400
    assert same >= 0.97 * tried


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


@both
def test_random_bytes_never_raise_with_structure(extractor):
    source = random.Random(2)
    tags = [
        b"<table><tr>",
        b"<td>",
        b"<pre>",
        b"<code>",
        b"</",
        b"<math><msup>",
        b"<mi>",
        b"\\(",
        b"\\)",
        b"$$",
        b"MathJax",
        b"x",
        b">",
    ]
    pages = [b"".join(source.choices(tags, k=50)) for _ in range(150)]
    rows = extract(*pages, extractor=extractor, structure=True)
    assert all((row["text"] is None) != (row["error"] is None) for row in rows)


@pytest.mark.parametrize(
    "html",
    [
        b"<div>" * 100_000 + b"deep",
        b"<article><Div>" * 50_000 + b"deep",
        b"<p " + b" ".join(b"a%d=1" % number for number in range(200_000)) + b">x",
        b"<p>x" * 3_000_000,
        b"<ul><li>a" * 200_000,
    ],
    ids=["div", "article", "attributes", "bytes", "lists"],
)
@both
def test_pages_that_would_take_for_ever_are_refused(html, extractor):
    assert extract(html, extractor=extractor)[0]["error"].startswith("too_large: ")


N = 50_000
HARD = {
    "spans": b"<span>" * N + b"deep",
    "tables": b"<table><tr><td>" * N + b"deep",
    "colspan": b"<table><tr><th>a<th>b<tr><td colspan=1000000000>word<td rowspan=9000000000000000>x</table>",
    "entities": b"<p>" + b"&CounterClockwiseContourIntegral;" * 100_000,
    "laughs": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><p>&b;&b; words',
    "attributes": b"<p a=1 b=2 c=3>x" * 20_000,
    "brackets": b"<" * 9_900_000,
    "comment": b"<p>words<!--" + b"-" * 3_000_000,
    "comments": b"<!--" * 500_000,
    "scripts": b"<p>words<script>" * 200_000,
    "cdata": b"<math><![CDATA[" * N,
    "nul": b"\0" * 1_000_000 + b"<p>words",
    "surrogates": b"<p>&#xD800;&#xDFFF;&#0;&#x110000; words",
    "line": b"<p>" + b"word " * 1_900_000,
    "metas": b'<meta name="author" content="' * 200_000,
    "json": b'<script type="application/ld+json">' + b"[" * 200_000 + b"</script><p>words",
    "pres": b"<pre>" * N + b"x",
    "codes": b"<code>x</code>" * 15_000,
    "delimiters": b"MathJax " + b"\\(" * 500_000,
    "dollars": b"MathJax inlineMath: [['$','$']] " + b"$x" * 500_000,
    "mathml": b"<math>" + b"<mrow>" * N + b"<mi>x",
    "katex": b'<span class="katex">' * N,
    "rows": b"<table>" + b"<tr><td>a<td>b" * 6_000,
    "links": b"<ul><li><a href=x>" * 400 + b"words",
    "formatting": b"<p>words" + b"<a><b><i>" * 400_000,
}


@pytest.mark.parametrize("structure", [False, True], ids=["plain", "structure"])
@pytest.mark.parametrize("name", HARD)
@both
def test_hard_pages_are_done_in_seconds(name, extractor, structure):
    extract("<p>warm</p>", extractor=extractor, structure=structure)
    began = time.process_time()
    (row,) = extract(HARD[name], extractor=extractor, structure=structure)
    assert time.process_time() - began < 20
    assert (row["text"] is None) != (row["error"] is None)


def test_shapes_that_only_look_bad_are_read():
    table = b"<table>" + b"<tr><td>cell</td></tr>" * 50_000 + b"</table>"
    wide = b"<div>row of a flat page</div>" * 20_000
    span = b"<table><tr><td colspan=9000000000000000>word</td></tr></table>"
    assert all(row["error"] is None for row in extract(table, wide, span, main_content=False))


def test_a_page_does_not_depend_on_its_neighbours():
    pages = [page(f"paragraph {number} of the page").encode() for number in range(20)]
    assert extract(*pages)[::-1] == extract(*pages[::-1])


def test_a_look_at_a_page_sees_what_searches_see():
    assert look_at(b"<DIV><div/><article></div><divide><p>").depth == 3
    look = look_at(
        b"x" * 70 + b"<ul><li><UL></ul>" + b" " * 40 + b"</ul >y<a rel=nofollow,license href=creativecommons.org/l>"
    )
    assert look.lists == [(70, 133)]
    assert (look.has_rel_license, look.links_creative_commons, look.has_json_ld, look.has_nul) == (
        True,
        True,
        False,
        False,
    )
    assert look_at(b'<script type="application/ld+json">\0').has_json_ld
    assert look_at(b"<p " + b"a" * 20_001).long_tag
    assert not look_at(b"<p>" + b"a" * 30_001).long_tag


HEAD = """<html lang="de_AT"><head><title> A &amp; B </title><!-- <meta name="author" content="Nobody"> -->
<meta content='Ann "A." Lee' name=Author><meta property="article:published_time" content="2024-02-30T00:00:00Z">
<meta name="date" content="2024/02/29"><link rel="shortlink canonical" href="../c?x=1&amp;y=2">
<meta name="robots" content="NoIndex, noai , noai"><meta name="tdm-reservation" content="1">
<meta property="og:title" content="Other"></head><body><p>words of the page</p></body></html>"""


@both
def test_a_page_says_who_when_where_and_whether(extractor):
    (row,) = extract(HEAD, extractor=extractor, url="https://ex.org/a/b/d", meta='{"http_status": 200, "robots": "x"}')
    assert row["title"] == "A & B"
    assert meta_of(row) == {
        "http_status": 200,
        "robots": "noindex, noai",
        "html_lang": "de-AT",
        "author": 'Ann "A." Lee',
        "published": "2024-02-29",
        "canonical_url": "https://ex.org/a/c?x=1&y=2",
        "tdm_reservation": "1",
    }
    assert extract(HEAD, extractor=extractor, metadata=False, meta='{"a": 1}')[0]["meta"] == '{"a": 1}'


def test_a_dates_search_ends_with_the_day_of_the_crawl():
    html = "<html><body><article><h1>News</h1><p>Published on 5 March 2031. " + "Words of the article. " * 40
    day = datetime(2031, 3, 6, tzinfo=UTC)
    assert meta_of(extract(html, extractor="trafilatura", dates=True, date=day)[0])["published"] == "2031-03-05"
    before = datetime(2024, 3, 6, tzinfo=UTC)
    assert "published" not in meta_of(extract(html, extractor="trafilatura", dates=True, date=before)[0])


CC = "https://creativecommons.org/licenses/"


def licence_of(body, head=""):
    (row,) = extract(f"<html><head>{head}</head><body><main><p>words</p></main>{body}</body></html>")
    meta = meta_of(row)
    return (
        row["license"],
        meta.get("license_how"),
        [item["confidence"] for item in json.loads(meta.get("licenses", "[]"))],
    )


def test_licences_are_trusted_in_the_order_rel_json_meta_anchor():
    anchor, rel = f'<a href="{CC}by-nc/4.0/">x</a>', f'<a rel="nofollow license" href="{CC}by/4.0/deed.de">x</a>'
    json_ld = f'<script type="application/ld+json">{{"@type": "Article", "license": "{CC}by-sa/3.0/"}}</script>'
    meta = '<meta name="dcterms.license" content="CC0 1.0">'
    assert licence_of(anchor + rel, json_ld + meta) == (f"{CC}by/4.0/deed.de", "rel", [1.0, 0.75, 0.667, 0.625])
    assert licence_of(anchor, json_ld + meta) == (f"{CC}by-sa/3.0/", "jsonld", [1.0, 0.75, 0.667])
    assert licence_of(anchor, meta) == ("CC0 1.0", "meta", [1.0, 0.75])
    assert licence_of(anchor) == (f"{CC}by-nc/4.0/", "anchor", [1.0])


def test_the_licence_of_a_picture_is_not_that_of_the_page():
    json_ld = f'<script type="application/ld+json">{{"@type": "ImageObject", "license": "{CC}by/4.0/"}}</script>'
    assert licence_of("", json_ld) == (None, None, [])
    assert licence_of(f'<a href="{CC}by/4.0/">one</a><a href="{CC}by/4.0/deed.fr">same</a>')[2] == [1.0]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("http://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/deed.en", "CC0-1.0"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 3.0 License", "CC-BY-NC-SA-3.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://creativecommons.org/licenses/", None),
        ("all rights reserved", None),
    ],
)
def test_licences_have_names(value, name):
    assert parse_licence(value).name == name


def test_licence_links_are_right_about_pages_of_the_crawl():
    found = [json.loads(line) for line in read_lines(DATA / "licence_and_robots" / "licence_markup.jsonl.zst")]
    wanted = {item["record_id"].strip("<>"): item["page_licence"] for item in found if item["rel_license_tags"]}
    stage = find_stage("source", "warc")
    from factory.core.stage import InputFile

    path = DATA / "warc" / "crawl-2026-09-00000.warc.gz"
    source = stage.make(stage.config())
    (part,) = source.split(InputFile(str(path), path.name, path.stat().st_size, ""), 1 << 40)
    right = total = 0
    with path.open("rb") as stream:
        for batch in source.read(stream, part):
            rows = [row for row in batch.to_pylist() if row["key"] in wanted and row["payload"]]
            for row, out in zip(rows, extract(*(row["payload"] for row in rows)), strict=True):
                total += 1
                right += parse_licence(out["license"] or "").name == wanted[row["key"]]
    assert total >= 50
    assert right >= 0.95 * total


def test_licence_meta_is_read_where_there_is_no_link():
    html = page("words", '<meta name="DC.Rights" content="CC BY 4.0">').encode()
    assert extract(html)[0]["license"] == "CC BY 4.0"


def test_lists_of_prose_are_main_content_and_lists_of_links_are_not():
    html = """<body><p>Intro.</p><ul><li>see <a href=a>this long link</a> and that<ul><li>inner</ul></li></ul>
    <ul><li><a href=a>Home</a></li><li><a href=b>News</a></li></ul>
    <div><ul><li><b><a href=c>Term</a></b>: what it is</ul></div>"""
    text = extract(html)[0]["text"]
    assert [line.strip() for line in text.split("\n") if line] == [
        "Intro.", "• see this long link and that", "• inner", "• Term: what it is"
    ]  # fmt: skip
    assert extract(html, lists=False, fallback=False)[0]["text"] == "Intro."


def test_where_the_rules_leave_nothing_all_text_outside_navigation_is_taken():
    html = "<body><nav>Menu</nav><div class=sidebar><p>" + "All the words of the page. " * 20 + "</p></div><footer>Foot"
    (row,) = extract(html)
    assert row["text"] == ("All the words of the page. " * 20).strip()
    assert meta_of(row) == {"extracted_by": "all_text"}
    assert extract(html, fallback=False)[0]["error"].startswith("no_text")


FORMS = {
    "paren": lambda tex: rf"\({html.escape(tex)}\)",
    "bracket": lambda tex: rf"\[{html.escape(tex)}\]",
    "dollars": lambda tex: f"$${html.escape(tex)}$$",
    "dollar": lambda tex: f"${html.escape(tex)}$",
    "mathjax2": lambda tex: (
        '<span class="MathJax_Preview">[x]</span><span class="MathJax"><span class="math">glyphs</span>'
        f'<span class="MJX_Assistive_MathML"><math><mi>x</mi></math></span></span><script type="math/tex">{tex}</script>'
    ),
    "mathjax2 display": lambda tex: (
        '<div class="MathJax_Display"><span class="MathJax">glyphs</span></div>'
        f'<script type="math/tex; mode=display">% <![CDATA[\n{tex} %]]></script>'
    ),
    "mathjax4": lambda tex: (
        '<mjx-container jax="CHTML"><mjx-math aria-hidden="true"><mjx-mi>x</mjx-mi></mjx-math><mjx-assistive-mml>'
        f'<math data-latex="{html.escape(tex)}"><mi>x</mi></math></mjx-assistive-mml></mjx-container>'
    ),
    "katex": lambda tex: (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>x</mi></mrow><annotation '
        f'encoding="application/x-tex">{html.escape(tex)}</annotation></semantics></math></span>'
        '<span class="katex-html" aria-hidden="true">glyphs</span></span>'
    ),
    "katex display": lambda tex: f'<span class="katex-display">{FORMS["katex"](tex)}</span>',
    "mathml": lambda tex: (
        f'<math><semantics><mi>x</mi><annotation encoding="TeX">{html.escape(tex)}</annotation></semantics></math>'
    ),
    "alttext": lambda tex: f'<math alttext="{html.escape(tex)}" display="block"><mi>x</mi></math>',
    "wikipedia": lambda tex: (
        '<span class="mwe-math-element"><span style="display: none;"><math><semantics><mi>x</mi><annotation '
        f'encoding="application/x-tex">{{\\displaystyle {html.escape(tex)}}}</annotation></semantics></math></span>'
        f'<img class="mwe-math-fallback-image-inline" alt="{{\\displaystyle {html.escape(tex)}}}"></span>'
    ),
    "codecogs": lambda tex: f'<img src="https://latex.codecogs.com/svg.latex?\\dpi{{150}}%20{quote(tex, safe="")}">',
    "wordpress": lambda tex: (
        f'<img class="latex" alt="x" src="https://s0.wp.com/latex.php?latex={quote(tex, safe="")}&amp;bg=fff">'
    ),
    "alt": lambda tex: f'<img class="tex" src="a.png" alt="{html.escape(tex)}">',
    "stack exchange": lambda tex: f'<span class="math-container">${html.escape(tex)}$</span>',
    "pandoc": lambda tex: rf'<span class="math inline">\({html.escape(tex)}\)</span>',
}
RENDERER = r"""<script>MathJax = {tex: {inlineMath: [['$', '$'], ['\\(', '\\)']]}};</script>
<script src="mathjax@3/tex.js"></script>"""


@cache
def formulas():
    found = []
    for line in read_lines(DATA / "corpus" / "math.jsonl.zst"):
        found += re.findall(r"(?<![\\$])\$([^$\n]{2,200})\$(?!\$)", json.loads(line)["text"])[:20]
    unique = [tex for tex in dict.fromkeys(found) if re.search(r"[\\^_]", tex)]
    random.Random(1).shuffle(unique)
    return unique


def squeeze(text):
    return "".join(text.split())


@both
def test_the_tex_of_formulas_comes_back_and_each_once(extractor):
    wanted = right = 0
    for form, write in FORMS.items():
        batch = formulas()[:100]
        sentences = "".join(
            f"<p>In line {n} of the text {write(tex)} holds, and the sentence goes on.</p>"
            for n, tex in enumerate(batch)
        )
        html = f"<html><head>{RENDERER}</head><body><nav>Menu</nav><article>{sentences}</article></body></html>"
        text = squeeze(extract(html, extractor=extractor, structure=True)[0]["text"])
        assert "glyphs" not in text
        assert "$$$" not in text
        counts = [text.count(f"${squeeze(tex)}$") for tex in batch]
        assert all(
            count <= [squeeze(other) for other in batch].count(squeeze(tex))
            for count, tex in zip(counts, batch, strict=True)
        ), form
        wanted, right = wanted + len(batch), right + sum(map(bool, counts))
    assert right >= 0.98 * wanted


@pytest.mark.parametrize(
    ("mathml", "tex"),
    [
        ("<msup><mi>x</mi><mn>2</mn></msup><mo>≤</mo><mi>α</mi><mi>b</mi>", r"x^2\leq\alpha b"),
        ("<mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mn>1</mn></mrow></mfrac>", r"\frac{a}{b+1}"),
        ("<msubsup><mo>∫</mo><mn>0</mn><mi>∞</mi></msubsup><mi>sin</mi><mi>x</mi>", r"\int_0^{\infty}\sin x"),
        ("<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>", r"\sum_{i=1}^n"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot><msqrt><mi>y</mi><mi>z</mi></msqrt>", r"\sqrt[3]{x}\sqrt{yz}"),
        ("<mover><mi>v</mi><mo>→</mo></mover><munder><mi>lim</mi><mi>n</mi></munder>", r"\vec{v}\lim_n"),
        ('<mi mathvariant="double-struck">R</mi><mo>\u2062</mo><mtext>for all</mtext>', r"\mathbb{R}\text{for all}"),
        ("<mfenced open='[' close=']'><mi>a</mi><mi>b</mi></mfenced>", r"\left[a,b\right]"),
        (
            "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr></mtable>",
            r"\begin{matrix} 1 & 2 \end{matrix}",
        ),
    ],
)
def test_mathml_without_tex_is_read_as_tex(mathml, tex):
    text = extract(f"<main><p>where <math>{mathml}</math> is</p></main>", structure=True)[0]["text"]
    assert text == f"where ${tex}$ is"


def test_dollars_are_money_where_no_page_says_otherwise():
    html = "<main><p>It costs $5 or $6_a, MathJax or not, and <code>\\(x\\)</code> is code.</p></main>"
    assert extract(html, structure=True)[0]["text"] == "It costs $5 or $6_a, MathJax or not, and `\\(x\\)` is code."


CODE = 'def f(x):\n\treturn  "a  b"   # `x`\n\n\n    <tag> & "q"'


@both
def test_code_comes_back_byte_for_byte_with_its_language(extractor):
    lines = "<br>".join(html.escape(line) for line in CODE.split("\n"))
    blocks = [
        '<div class="highlight-python notranslate"><div class="highlight">'
        f"<pre><span></span>{html.escape(CODE)}\n</pre></div></div>",
        f'<pre><code class="language-python">{html.escape(CODE)}</code></pre>',
        '<table class="highlight-python"><tr><td class="linenos"><pre>1\n2</pre></td>'
        f"<td><pre>{html.escape(CODE)}</pre></td></tr></table>",
        f'<pre class="brush: python">{lines}</pre>',
        f'<ul><li>an item with <pre data-lang="python">{html.escape(CODE)}</pre></li></ul>',
    ]
    body = "".join(
        f"<p>Paragraph {n} of the text says what the code does.</p>{block}" for n, block in enumerate(blocks)
    )
    (row,) = extract(f"<article>{body}</article>", extractor=extractor, structure=True)
    assert row["text"].count(f"\n\n```python\n{CODE}\n```") == len(blocks)
    assert meta_of(row)["n_code_blocks"] == len(blocks)


def test_code_with_fences_gets_longer_fences():
    assert extract("<pre>```\nx\n```</pre>", structure=True)[0]["text"] == "````\n```\nx\n```\n````"


TABLES = """<main><p>Before.</p><table><caption>Sizes</caption><thead><tr><th>Name<th>Size</thead>
<tr><td>a|b<td><p>1</p><p>2</p><tr><td colspan=2>whole<tr><td>c</table>
<table><tr><td>x<td>1<tr><td>y<td>2</table>
<table><tr><td><p>Only layout,</p><table><tr><th>k<th>v<tr><td>1<td>2</table></td></tr></table>
<table><tr><td>one<td><td><tr><td><td><td></table></main>"""


def test_tables_of_data_are_kept_and_those_for_layout_unwrapped():
    (row,) = extract(TABLES, structure=True)
    assert row["text"].split("\n\n") == [
        "Before.",
        "Sizes",
        "| Name | Size |\n| --- | --- |\n| a\\|b | 1 2 |\n| whole |  |\n| c |  |",
        "x\t1\ny\t2",
        "Only layout,",
        "| k | v |\n| --- | --- |\n| 1 | 2 |",
        "one",
    ]
    assert meta_of(row) == {"n_tables": 3}


def test_code_blocks_of_documentation_are_those_of_their_sources():
    fenced = re.compile(r"^(`{3,})[^\n`]*\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)
    pages = total = right = 0
    for line in read_lines(GOLD / "source-pair.jsonl.zst")[::2]:
        item = json.loads(line)
        text = extract(item["html"].encode("utf-8", "ignore"), structure=True)[0]["text"] or ""
        gold = "\n".join(line.strip() for line in item["gold_text"].split("\n"))
        blocks = [
            "\n".join(line.strip() for line in match[2].strip("\n").split("\n")) for match in fenced.finditer(text)
        ]
        pages += bool(blocks)
        total, right = total + len(blocks), right + sum(block in gold for block in blocks)
    assert pages >= 40
    assert right >= 0.95 * total


@both
def test_a_page_without_structure_is_the_same_with_and_without(extractor):
    html = page("Words of a page, and more of them. " * 10)
    assert extract(html, extractor=extractor, structure=True) == extract(html, extractor=extractor)


@both
def test_what_a_worker_saw_before_changes_nothing(extractor):
    lines = read_lines(GOLD / "wcxb.jsonl.zst")[:12] + read_lines(GOLD / "readability-test.jsonl.zst")[:2]
    common = "<p>" + "The same paragraph of boilerplate on every single page of the site, word for word. " * 3 + "</p>"
    pages = [
        json.loads(line)["html"].replace("</body>", f"{common}</body>").encode("utf-8", "ignore") for line in lines
    ]
    once = extract(*pages, extractor=extractor)
    order = list(range(len(pages)))
    for seed in range(2):
        random.Random(seed).shuffle(order)
        again = extract(*(pages[place] for place in order for _ in range(1 + seed)), extractor=extractor)
        assert again == [once[place] for place in order for _ in range(1 + seed)]


def test_agreement_counts_every_word_as_often_as_it_occurs():
    assert agree("a b b c", "b b d") == (0.5, 2 / 3, 4 / 7)
    assert agree("", "") == (1, 1, 1)
    assert agree("a", "") == (0, 0, 0)
    assert words("日本go 2x") == {"日": 1, "本": 1, "go": 1, "2x": 1}
    assert kept_snippets("a  b\nc", ["b c", "d"]) == 0.5
    assert kept_snippets("a", []) is None


def test_a_sample_is_the_same_in_any_order_and_grows():
    pages = [Page(str(number), b"") for number in range(100)]
    assert sample(pages, 10) == sample(pages[::-1], 10)
    assert sample(pages, 10) == sample(pages, 20)[:10]
    assert sample(pages, 10) != sample(pages, 10, seed=1)


FLOORS = {
    "resiliparse": {"wcxb": 0.88, "source-pair": 0.97, "readability-test": 0.96},
    "resiliparse:structure=true": {"wcxb": 0.88, "source-pair": 0.96, "readability-test": 0.93},
    "trafilatura": {"wcxb": 0.80, "source-pair": 0.95, "readability-test": 0.97},
}


@pytest.mark.parametrize("spec", FLOORS)
def test_main_content_agrees_with_gold_text(spec):
    extractor = make_extractor(spec)
    for source, floor in FLOORS[spec].items():
        pages = list(gold_pages(read_lines(GOLD / f"{source}.jsonl.zst")))[:: 4 if source == "source-pair" else 1]
        figures = score(extractor, pages)["gold"][source]
        print(f"{spec} on {source}: F1 {figures['f1']:.3f} over {figures['pages']} pages")
        assert figures["f1"] >= floor


def test_snippets_are_kept_and_left_out():
    pages = list(gold_pages(read_lines(GOLD / "trafilatura-eval.jsonl.zst")))
    figures = score(make_extractor("resiliparse"), pages)["gold"]
    assert min(made["contains"] for made in figures.values()) >= 0.98
    assert min(made["leaves_out"] for made in figures.values()) >= 0.85


def factory(*arguments):
    command = [str(Path(sys.executable).parent / "factory"), "extract", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_extractors_are_shown_side_by_side(tmp_path):
    item = {
        "id": "1",
        "source": "mine",
        "html": TABLES,
        "gold_text": "Before. Only layout,",
        "must_contain": ["Before."],
    }
    (tmp_path / "gold.jsonl").write_text(json.dumps(item) + "\n")
    (tmp_path / "page.html").write_text(page("Other words of a page."))
    places = [tmp_path / "page.html", "--gold", tmp_path / "gold.jsonl"]
    made = json.loads(factory(*places, "--against", "resiliparse:structure=true", "--json").stdout)
    assert set(made["extractors"]) == {"resiliparse", "resiliparse:structure=true"}
    assert made["extractors"]["resiliparse"]["gold"]["mine"]["contains"] == 1
    assert len(made["pages"]) == 2
    shown = factory(*places, "--against", "resiliparse:structure=true", "--lines", 100).stdout
    assert "+| k | v |" in shown
    assert "snippets kept" in shown
    assert factory(places[0]).stdout == "Other words of a page.\n"


def test_a_mistake_says_what_there_is(tmp_path):
    (tmp_path / "page.html").write_text(page("words"))
    wrong = factory(tmp_path / "page.html", "--extractor", "resiliparse:lsts=1")
    assert wrong.returncode != 0
    assert "no setting 'lsts=1'" in wrong.stderr
    assert "lists" in wrong.stderr
    assert "Nothing to extract from" in factory().stderr
    assert "not a public address" in factory("http://127.0.0.1:9/").stderr
