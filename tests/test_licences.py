"""Licences: what they allow, by truth table; what a page says of its own, measured on real pages."""

import itertools
import json

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.core.registry import find_stage
from factory.core.stage import InputFile, InputPart
from factory.stages.licence_classes import CLASSES, UNKNOWN, all_of, any_of, terms_of
from factory.stages.scorers.licence import COLUMNS, Settings, licence

WIKIPEDIA = "//en.wikipedia.org/wiki/Wikipedia:Text_of_Creative_Commons_Attribution-ShareAlike_3.0_Unported_License"
ONE_OF_EACH = {
    "open": "MIT",
    "share_alike": "CC-BY-SA-4.0",
    "unknown": "see below",
    "non_commercial": "CC-BY-NC-4.0",
    "no_derivatives": "CC-BY-ND-4.0",
    "restricted": "All rights reserved",
}


def score(*rows, **settings):
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in ("license", "meta", "url")}
    return licence(Settings(**settings))(pa.RecordBatch.from_pydict(columns)).to_pylist()


@pytest.mark.parametrize(("one", "other"), list(itertools.product(CLASSES, CLASSES)))
def test_of_two_licences_the_stricter_one_counts(one, other):
    made = all_of([terms_of(ONE_OF_EACH[one]), terms_of(ONE_OF_EACH[other])])
    assert made.use_class == max(one, other, key=CLASSES.index)
    if "unknown" in (one, other):  # never upgrades
        assert made.use_class not in ("open", "share_alike")
        assert made.spdx is None


@pytest.mark.parametrize(("one", "other"), list(itertools.product(CLASSES, CLASSES)))
def test_of_a_choice_the_freer_known_one_counts(one, other):
    made = any_of([terms_of(ONE_OF_EACH[one]), terms_of(ONE_OF_EACH[other])])
    known = [use_class for use_class in (one, other) if use_class != "unknown"]
    assert made.use_class == (min(known, key=CLASSES.index) if known else "unknown")


TERMS = st.sampled_from([*ONE_OF_EACH.values(), "CC0-1.0", "GPL-3.0-or-later", "CC-BY-NC-ND-3.0"]).map(terms_of)


@given(st.lists(TERMS, min_size=1, max_size=5), st.randoms())
def test_order_and_repetition_do_not_matter(terms, chance):
    mixed = terms * 2
    chance.shuffle(mixed)
    assert all_of(mixed)[1:] == all_of(terms)[1:]
    assert all_of([all_of(terms), terms[0]])[1:] == all_of(terms)[1:]


@pytest.mark.parametrize(
    ("nc", "nd", "sa", "port"),
    list(itertools.product([False, True], [False, True], [False, True], ["", "de/", "us/deed.en"])),
)
def test_creative_commons_by_its_letters(nc, nd, sa, port):
    if nd and sa:
        return
    kind = "by" + "-nc" * nc + "-nd" * nd + "-sa" * sa
    for version in ("1.0", "2.0", "2.5", "3.0", "4.0"):
        terms = terms_of(f"https://creativecommons.org/licenses/{kind}/{version}/{port}")
        assert terms.spdx == f"CC-{kind.upper()}-{version}"
        assert (terms.attribution, terms.share_alike, terms.non_commercial, terms.no_derivatives) == (True, sa, nc, nd)
        wanted = "no_derivatives" if nd else "non_commercial" if nc else "share_alike" if sa else "open"
        assert terms.use_class == wanted


@pytest.mark.parametrize(
    ("written", "spdx", "use_class"),
    [
        ("cc-by-4.0", "CC-BY-4.0", "open"),
        ("CC BY", None, "open"),
        ("Creative Commons Attribution-ShareAlike 3.0", "CC-BY-SA-3.0", "share_alike"),
        (WIKIPEDIA, "CC-BY-SA-3.0", "share_alike"),
        ("creativecommons.org/licenses/by-nd-nc/1.0", "CC-BY-NC-ND-1.0", "no_derivatives"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", "open"),
        ("Public Domain", None, "open"),
        ("GNU General Public License v3.0", "GPL-3.0", "share_alike"),
        ("https://www.gnu.org/licenses/old-licenses/gpl-2.0.html", "GPL-2.0", "share_alike"),
        ("https://www.gnu.org/copyleft/fdl.html", None, "share_alike"),
        ("LGPL-2.1-or-later", "LGPL-2.1-or-later", "share_alike"),
        ("GPL-2.0+", "GPL-2.0+", "share_alike"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0", "open"),
        ("(MIT OR GPL-2.0) AND CC-BY-NC-4.0", "(MIT OR GPL-2.0) AND CC-BY-NC-4.0", "non_commercial"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0", "share_alike"),
        ("MIT AND made-up", None, "unknown"),
        ("MIT license, text all rights reserved", None, "unknown"),
        ("BUSL-1.1", "BUSL-1.1", "restricted"),
        ("llama3", None, "restricted"),
        ("other", None, "unknown"),
        ("/licence.html", None, "unknown"),
        ("MIT OR", None, "unknown"),
        ("", None, "unknown"),
    ],
)  # fmt: skip
def test_names_as_people_write_them(written, spdx, use_class):
    assert terms_of(written)[:2] == (spdx, use_class)


@given(st.text(max_size=60))
def test_any_text_has_a_class(text):
    assert terms_of(text).use_class in CLASSES


@pytest.mark.parametrize("unit", ["(", "MIT OR ", "gnu ", "cc-", "by-", "license ", " ", "a/"])
def test_long_values_are_cut(unit):
    assert terms_of(unit * 200_000).use_class in CLASSES


def test_the_public_domain_asks_for_nothing_and_unknown_promises_nothing():
    assert terms_of("CC0-1.0").attribution is False
    assert terms_of("who knows") == UNKNOWN
    assert set(UNKNOWN) == {None, "unknown"}


def test_broken_metadata_is_no_evidence():
    rows = score(*({"meta": meta} for meta in ("[]", "{", '{"licenses": "[{"}', '{"licenses": 3, "license_how": 4}')))
    assert {row["use_class"] for row in rows} == {"unknown"}


def test_a_site_counts_where_the_page_says_nothing():
    sites = {"wiki.example": "CC-BY-SA-4.0"}
    said, silent, other = score(
        {"url": "https://wiki.example/a", "license": "CC-BY-NC-4.0"},
        {"url": "https://de.wiki.example/b"},
        {"url": "https://notwiki.example/c"},
        sites=sites,
    )
    assert (said["use_class"], said["how"]) == ("non_commercial", "meta")
    assert (silent["use_class"], silent["how"]) == ("share_alike", "site")
    assert other["use_class"] == "unknown"
    with pytest.raises(ValidationError, match="no licence known here"):
        Settings(sites={"a.example": "something"})


def test_real_pages_state_their_own_licence_by_rel(shared_data):
    """Precision of `rel` at least 0.95 and all of them found; links alone are right about half the time (see the docs)."""
    with zstandard.open(
        shared_data / "licence_and_robots" / "licence_markup.jsonl.zst", "rt", encoding="utf-8"
    ) as lines:
        marked = {row["record_id"].strip("<>"): row for row in map(json.loads, lines)}
    name = "crawl-2024-10-00001.warc.gz"
    path = shared_data / "warc" / name
    source, extractor = find_stage("source", "warc"), find_stage("extractor", "resiliparse")
    config = extractor.config()
    extract, reads = extractor.make(config), list(extractor.reads_for(config))
    right = {"rel": [], "anchor": []}
    missed = 0
    with open(path, "rb") as stream:
        part = InputPart(InputFile(str(path), name, path.stat().st_size, name), 0, path.stat().st_size)
        for batch in source.make(source.config()).read(stream, part):
            made = extract(batch.select(reads))
            columns = [made.column("license"), made.column("meta"), batch.column("url")]
            rows = licence(Settings())(pa.record_batch(columns, names=["license", "meta", "url"])).to_pylist()
            for key, row in zip(batch.column("key").to_pylist(), rows, strict=True):
                page = marked.get(key)
                if row["how"] in right and page:
                    right[row["how"]].append(row["spdx"] == page["page_licence"])
                missed += bool(page and page["rel_license_tags"] and row["how"] != "rel")
    assert len(right["rel"]) > 100
    assert sum(right["rel"]) >= 0.95 * len(right["rel"])
    assert missed <= 0.02 * len(right["rel"])
    assert len(right["anchor"]) > 0


def test_columns_are_those_declared():
    assert list(score({"license": "MIT"})[0]) == list(COLUMNS)
