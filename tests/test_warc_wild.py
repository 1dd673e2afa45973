"""Odd archives from the test collections of others: every sound record is read, every oddity is a row or a count by kind."""

import io
import json
from collections import Counter
from pathlib import Path

import pytest

from factory.core.manifest import Part
from factory.core.registry import find_stage
from factory.core.stage import InputFile
from factory.execution.local import LocalExecutor
from factory.execution.tasks import Context
from factory.recipes.load import check_recipe
from factory.recipes.steps import documents
from factory.recipes.workspace import Workspace

WILD = Path(__file__).parents[2] / "shared" / "data" / "warc_wild"
WHOLE = 1 << 40

FIRST_VISIT = "webarchive-discovery__BL-20140325121225068-00000-32090_opera_8443.warc.gz"
SECOND_VISIT = "webarchive-discovery__BL-20140325122341434-00000-32090_opera_8443.warc.gz"
# The same fetches twice: of the 34 pages of the first visit, the second has 28 as revisits and 6 that had changed.
VISIT = {"warcinfo": 1, "request": 62, "metadata": 62, "http_status_302": 1, "http_status_403": 1, "http_status_404": 3}
VISIT |= {"not_http": 3, "type_application": 7, "type_image": 7, "type_text": 9}
WGET = {"warcinfo": 1, "request": 1, "metadata": 1}

# name: pages (rows without error), kinds of errors, kinds of skipped records. Counted with warcio and fastwarc, and by eye
# where those two end early or disagree (wild.jsonl says where).
EXPECTED = {
    # Its line ends were changed: no record is as long as it says.
    "cc_net__sample.warc.txt": (0, {"length": 4}, {}),
    "cdx_toolkit__test_multi_cc1.jsonl": (0, {"parse": 1}, {}),
    "chatnoir-resiliparse__block-sized-records.warc": (0, {}, {"unknown_type": 3}),
    "dolma__sample-0001-part.warc.gz": (9, {}, {"warcinfo": 1, "request": 9}),
    "jwarc__gzip_extra_sl.warc.gz": (0, {}, {"warcinfo": 1}),
    "pywb__bad.cdx": (0, {"parse": 1}, {}),
    "pywb__dupes.cdxj": (0, {"parse": 1}, {}),
    # Nine revisits: one of the example page that is there, three of pages that are not, five of images, fonts and styles.
    "pywb__dupes.warc.gz": (
        2,
        {"revisit": 3},
        {"warcinfo": 1, "request": 12, "http_status_302": 1, "type_application": 2, "type_image": 2, "type_text": 2},
    ),
    "pywb__example-url-agnostic-orig.warc.gz": (1, {}, {"warcinfo": 1}),
    "pywb__example-url-agnostic-revisit.warc.gz": (0, {"revisit": 1}, {"warcinfo": 1}),
    "pywb__missing-status-text.warc": (0, {}, {"http_status_302": 1}),
    # Two records without a length that can be read, the version block too, and an empty one.
    "warcio__bad.arc": (0, {"parse": 3, "no_text": 1}, {}),
    "warcio__example-bad-non-chunked.warc.gz": (2, {}, {"warcinfo": 2, "request": 2}),
    "warcio__example-bad.warc.gz.bad": (2, {}, {"warcinfo": 1, "request": 2, "http_status_302": 1}),
    "warcio__example-digest.warc": (0, {}, {"request": 4}),
    "warcio__example-iana.org-chunked.warc": (1, {}, {"warcinfo": 1, "request": 1}),
    "warcio__example-resource.warc.gz": (1, {}, {"warcinfo": 2}),
    # The last record is cut.
    "warcio__example-trunc.warc": (0, {"length": 1}, {"warcinfo": 2, "request": 1}),
    "warcio__example-wget-bad-target-uri.warc.gz": (3, {}, WGET),
    "warcio__example-wrong-chunks.warc.gz": (1, {}, {"request": 1}),
    "warcio__example.arc.gz": (1, {}, {"warcinfo": 1}),
    "warcio__example.warc": (2, {}, {"warcinfo": 2, "request": 2}),
    "warcio__example.warc.gz": (2, {}, {"warcinfo": 2, "request": 2}),
    "warcio__post-test.warc.gz": (0, {}, {"request": 3, "type_application": 3}),
    "webarchive-commons__link-extraction-test.warc": (7, {}, {"warcinfo": 1}),
    "webarchive-commons__mutliple-headers.warc": (1, {}, {}),
    FIRST_VISIT: (34, {}, VISIT),
    SECOND_VISIT: (6, {"revisit": 28}, VISIT),
    "webarchive-discovery__transfer_compression_brotli.warc": (2, {}, WGET),
    "webarchive-discovery__transfer_compression_gzip.warc": (2, {}, WGET),
    "webarchive-discovery__transfer_compression_none.warc": (2, {}, WGET),
    "webarchive-discovery__truncated_datetime.warc": (2, {}, WGET),
    "whirlwind-python__whirlwind.warc.gz": (1, {}, {"warcinfo": 1, "request": 1, "metadata": 1}),
    "whirlwind-python__whirlwind.warc.wat.gz": (0, {}, {"warcinfo": 1, "metadata": 1}),
    "whirlwind-python__whirlwind.warc.wet.gz": (1, {}, {"warcinfo": 1}),
    "wild.jsonl": (0, {"parse": 1}, {}),
}


@pytest.fixture
def wild():
    if not WILD.exists():
        pytest.skip("../shared/data is not here")
    return WILD


class Folder:
    """Files of one folder as companions; says whether it was asked for them."""

    def __init__(self, folder, names):
        self.list = [
            InputFile(str(folder / name), name, (folder / name).stat().st_size, name) for name in sorted(names)
        ]
        self.asked = False
        self.made = Counter()

    def files(self):
        self.asked = True
        return self.list

    def open(self, file):
        return open(file.uri, "rb")

    def remembered(self, file, name, make):
        self.made[file.name] += 1
        return make()


def read(folder, name, part_bytes=WHOLE, names=(), **config):
    stage = find_stage("source", "warc")
    source = stage.make(stage.config(**config))
    companions = Folder(folder, {name, *names})
    file = next(file for file in companions.list if file.name == name)
    rows, skipped = [], Counter()
    for part in source.split(file, part_bytes):
        with open(file.uri, "rb") as stream:
            given = source.read_among(stream, part, companions) if names else source.read(stream, part)
            for batch in given:
                rows += batch.to_pylist()
                skipped.update(json.loads((batch.schema.metadata or {}).get(b"skipped", b"{}")))
    return rows, skipped


def kinds(rows):
    return Counter(row["error"].partition(":")[0] for row in rows if row["error"])


@pytest.mark.parametrize("name", EXPECTED)
def test_every_record_of_an_odd_archive_is_a_row_or_a_count(wild, name):
    rows, skipped = read(wild, name)
    assert (len(rows) - kinds(rows).total(), kinds(rows), skipped) == EXPECTED[name]


def test_every_odd_archive_has_its_numbers(wild):
    assert {path.name for path in wild.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("part_bytes", [300, 1_000, 7_777])
@pytest.mark.parametrize("name", EXPECTED)
def test_odd_archives_can_be_cut_anywhere(wild, name, part_bytes):
    if (wild / name).stat().st_size > 100_000 and part_bytes < 7_777:
        pytest.skip("thousands of parts say nothing that hundreds do not")
    assert read(wild, name, part_bytes) == read(wild, name)


def test_as_many_records_as_other_readers_find(wild):
    for line in (wild / "wild.jsonl").read_text().splitlines():
        item = json.loads(line)
        found = [int(text.split()[0]) for text in item["read_by"].values() if text[0] != "0"]
        name = Path(item["file"]).name
        pages, errors, skipped = EXPECTED[name]
        if found:
            assert pages + sum(errors.values()) + sum(skipped.values()) >= max(found), name


def test_a_revisit_has_the_payload_of_the_record_it_refers_to(wild):
    rows, _ = read(wild, "warcio__example.warc.gz")
    first, again = rows
    assert first["payload"] == again["payload"]
    assert first["key"] != again["key"]
    assert first["date"] < again["date"]
    meta = json.loads(again["meta"])
    assert meta["revisit_of"] == first["key"]


def test_revisits_are_found_in_another_file_of_the_source(wild):
    first, _ = read(wild, FIRST_VISIT)
    second, skipped = read(wild, SECOND_VISIT, names=[FIRST_VISIT])
    assert (len(second), kinds(second), skipped) == (34, {}, VISIT)
    payloads = {row["key"]: row["payload"] for row in first}
    originals = [json.loads(row["meta"]).get("revisit_of") for row in second]
    assert len(originals) - originals.count(None) == 28
    assert all(row["payload"] == payloads[key] for row, key in zip(second, originals, strict=True) if key)
    assert {row["date"].hour for row in second} == {12}
    assert not {row["key"] for row in first} & {row["key"] for row in second}


def test_a_revisit_of_another_address_is_found(wild):
    name, other = "pywb__example-url-agnostic-revisit.warc.gz", "pywb__example-url-agnostic-orig.warc.gz"
    (row,), _ = read(wild, name, names=[other])
    assert (row["url"], row["error"]) == ("http://test@example.com/", None)
    assert b"Example Domain" in row["payload"]


def test_where_a_file_is_cut_makes_no_difference_to_revisits(wild):
    whole = read(wild, SECOND_VISIT, names=[FIRST_VISIT])
    assert read(wild, SECOND_VISIT, 20_000, names=[FIRST_VISIT]) == whole


def test_other_files_are_looked_at_only_where_something_refers_to_them(wild):
    stage = find_stage("source", "warc")
    source = stage.make(stage.config())
    for name, asked in ((FIRST_VISIT, False), ("warcio__example.warc.gz", False), (SECOND_VISIT, True)):
        companions = Folder(wild, EXPECTED)
        file = next(file for file in companions.list if file.name == name)
        with open(file.uri, "rb") as stream:
            list(source.read_among(stream, source.split(file, WHOLE)[0], companions))
        assert companions.asked is asked
        assert max(companions.made.values(), default=1) == 1


def test_revisits_can_be_left_out(wild):
    rows, skipped = read(wild, SECOND_VISIT, revisits="skip")
    assert (len(rows), kinds(rows), skipped["revisit"]) == (6, {}, 55)


def test_digests_are_verified_when_asked(wild):
    data = (wild / "warcio__example.warc").read_bytes()
    assert read(wild, "warcio__example.warc", verify_digests=True) == read(wild, "warcio__example.warc")
    broken = data.replace(b"WARC-Payload-Digest: sha1:G7HR", b"WARC-Payload-Digest: sha1:C7HR")
    stage = find_stage("source", "warc")
    for verify, errors in ((False, {}), (True, {"digest": 1})):
        source = stage.make(stage.config(verify_digests=verify, revisits="skip"))
        (part,) = source.split(InputFile("a", "a.warc", len(broken), ""), WHOLE)
        rows = [row for batch in source.read(io.BytesIO(broken), part) for row in batch.to_pylist()]
        assert kinds(rows) == errors


# Through a recipe


@pytest.fixture
def visits(wild, tmp_path):
    """Two visits of the same pages as one source; the second refers to the first."""

    def make(*names):
        (tmp_path / "crawl").mkdir(exist_ok=True)
        for name in names:
            (tmp_path / "crawl" / name).write_bytes((wild / name).read_bytes())
        recipe = check_recipe(
            {
                "name": "visits",
                "sources": {"visits": {"use": "warc", "uri": "crawl/*.warc.gz", "snapshot": "one"}},
                "extract": [{"use": "resiliparse"}],
                "mixture": {"use": "natural", "tokens": 100},
            },
            folder=str(tmp_path),
        )
        return Workspace(recipe, LocalExecutor(1))

    return make


def made(workspace):
    """Parts of the documents by the file they are of, with their errors."""
    parts = {}
    for payload in documents._planned(workspace, workspace.graph["documents@one"]):
        found = documents._find(workspace.store, payload)
        part = found or Part.from_json(documents.make(payload, Context())["part"])
        parts[payload["part"]["file"]["name"]] = part.name, found is not None, dict(part.notes["errors"])
    return parts


def test_only_parts_that_refer_to_other_files_are_made_again_when_files_come(visits):
    alone = made(visits(SECOND_VISIT, "warcio__example.warc.gz"))
    assert alone[SECOND_VISIT][2]["revisit"] == 28
    both = made(visits(FIRST_VISIT))
    assert both["warcio__example.warc.gz"] == (alone["warcio__example.warc.gz"][0], True, {})
    name, was_there, errors = both[SECOND_VISIT]
    assert (name != alone[SECOND_VISIT][0], was_there, errors.get("revisit")) == (True, False, None)
    assert all(was_there for _, was_there, _ in made(visits()).values())
