"""Sources: every record is accounted for, in exactly one part, however a file is cut and whatever is broken in it."""

import base64
import gzip
import hashlib
import io
import itertools
import json
import random
import re
import time
import zlib
from collections import Counter
from pathlib import Path

import brotli
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import InputError
from factory.core.registry import find_stage
from factory.core.schema import RAW
from factory.core.stage import InputFile
from factory.stages.sources.jsonl import _parse

DATA = Path(__file__).parents[2] / "shared" / "data"
WHOLE = 1 << 40
PAGE = b"<!doctype html><html><body><p>Some words of a page, number %d.</p></body></html>"


def read(use, name, data, part_bytes=WHOLE, there=None, **config):
    """All rows of a file, in order, and the counts of skipped records; of its bytes only `there` may still be there."""
    stage = find_stage("source", use)
    source = stage.make(stage.config(**config))
    rows, skipped = [], Counter()
    parts = source.split(InputFile(name, name, len(data), "identity"), part_bytes)
    assert (parts[0].start, parts[-1].stop) == (0, len(data))
    assert all(left.stop == right.start for left, right in itertools.pairwise(parts))
    for part in parts:
        for batch in source.read(io.BytesIO(data[:there]), part):
            assert {f.name: f.type for f in batch.schema} == {
                "key": pa.string(),
                **{f.name: f.type for f in RAW if f.name not in ("doc_id", "source", "snapshot")},
            }
            batch.validate(full=True)
            assert batch.num_rows <= 1000
            rows += batch.to_pylist()
            skipped.update(json.loads((batch.schema.metadata or {}).get(b"skipped", b"{}")))
    return rows, skipped


def problems(rows):
    return [row["error"].partition(":")[0] for row in rows if row["error"]]


def record(content, kind="response", number=0, media="application/http; msgtype=response", length=None, **headers):
    head = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number}>",
        "WARC-Date": "2024-03-01T12:00:00Z",
        "WARC-Target-URI": f"http://Example.ORG:80/{number}",
        "Content-Type": media,
        "Content-Length": str(len(content) if length is None else length),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = ["WARC/1.0", *(f"{name}: {value}" for name, value in head.items() if value is not None), "", ""]
    return "\r\n".join(lines).encode() + content + b"\r\n\r\n"


def response(body, status="200 OK", media="text/html", **headers):
    head = {"Content-Type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in head.items() if value), "", ""]
    return "\r\n".join(lines).encode() + body


def pages(count, noise=0):
    source = random.Random(7)
    return [record(response(PAGE % n + source.randbytes(noise)), number=n) for n in range(count)]


def crawl(count, noise=0):
    """A small archive: a warcinfo record, then request and response records."""
    records = [record(b"software: x\r\n", "warcinfo", "info", "application/warc-fields")]
    for number, made in enumerate(pages(count, noise)):
        records += [record(b"GET / HTTP/1.1\r\n\r\n", "request", f"r{number}"), made]
    return records


def warc_gz(records):
    return b"".join(gzip.compress(each, mtime=0) for each in records)


def warc_zst(records):
    return b"".join(zstandard.compress(each) for each in records)


def skippable(content, number=0xD):
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


def warc_zst_with_dictionary(records, packed=False):
    """What IIPC proposes and ArchiveTeam does: frames that need the dictionary in front."""
    dictionary = zstandard.train_dictionary(4_000, [b"".join(pages(9))[start:] for start in range(0, 900, 9)])
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    content = dictionary.as_bytes()
    front = skippable(zstandard.compress(content) if packed else content)
    return front + b"".join(packer.compress(each) for each in records)


def warc_zst_with_packed_dictionary(records):
    return warc_zst_with_dictionary(records, packed=True)


PACKS = pytest.mark.parametrize(
    "pack",
    [warc_gz, b"".join, warc_zst, warc_zst_with_dictionary, warc_zst_with_packed_dictionary],
    ids=["gzip", "plain", "zstd", "dictionary", "packed dictionary"],
)


# WARC: one record, one row


def test_a_response_becomes_a_row_that_says_where_it_came_from():
    data = warc_gz(crawl(3))
    rows, skipped = read("warc", "a.warc.gz", data)
    assert [row["key"] for row in rows] == ["urn:uuid:0", "urn:uuid:1", "urn:uuid:2"]
    assert skipped == {"warcinfo": 1, "request": 3}
    row = rows[1]
    assert row["payload"] == PAGE % 1
    assert (row["host"], row["content_type"], row["error"]) == ("example.org", "text/html", None)
    assert row["date"].isoformat() == "2024-03-01T12:00:00+00:00"


@pytest.mark.parametrize("pack", [warc_gz, b"".join, warc_zst], ids=["gzip", "plain", "zstd"])
def test_the_locator_gives_the_record_back(pack):
    data = pack(crawl(5))
    for row in read("warc", "a.warc.gz", data)[0]:
        place = row["locator"]
        piece = data[place["offset"] : place["offset"] + place["length"]]
        (again,) = read("warc", "a.warc.gz", piece)[0]
        assert (again["key"], again["payload"]) == (row["key"], row["payload"])


@PACKS
@pytest.mark.parametrize("part_bytes", [1_000, 1_024, 1_777, 4_096, 50_000])
def test_every_record_is_in_exactly_one_part(pack, part_bytes):
    data = pack(crawl(150, noise=900))
    assert read("warc", "a.warc.gz", data, part_bytes) == read("warc", "a.warc.gz", data)


@PACKS
@given(seed=st.integers(0, 1 << 30), part_bytes=st.integers(1_000, 20_000))
@settings(max_examples=25, deadline=None)
def test_damage_is_in_exactly_one_part_too(pack, seed, part_bytes):
    source = random.Random(seed)
    data = bytearray(pack(crawl(60, noise=700)))
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(data))
        data[at : at + source.choice([1, 1, 10, 3000])] = source.randbytes(source.choice([1, 2, 10, 3000]))
    assert read("warc", "a.warc.gz", bytes(data), part_bytes) == read("warc", "a.warc.gz", bytes(data))


@PACKS
def test_an_archive_within_a_record_is_not_taken_for_records(pack):
    inner = response(pack(crawl(40, noise=300)), media="application/octet-stream")
    records = [*pages(20, noise=500), record(inner, number="inner"), *crawl(20, noise=500)]
    data = pack(records)
    assert read("warc", "a.warc.gz", data, 1_000) == read("warc", "a.warc.gz", data)
    assert len(read("warc", "a.warc.gz", data)[0]) == 40


def test_one_gzip_member_for_many_records_is_read():
    rows, skipped = read("warc", "a.warc.gz", gzip.compress(b"".join(crawl(30))), 1_000)
    assert (len(rows), skipped.total(), problems(rows)) == (30, 31, [])


def test_gzip_members_that_ignore_records_are_read():
    whole = b"".join(crawl(30, noise=400))
    data = b"".join(gzip.compress(whole[start : start + 999]) for start in range(0, len(whole), 999))
    rows, skipped = read("warc", "a.warc.gz", data, 1_000)
    assert [row["payload"] for row in rows] == [row["payload"] for row in read("warc", "a.warc", whole)[0]]
    assert skipped.total() == 31


# WARC: damage


def test_one_corrupt_member_of_a_thousand_costs_one_record():
    members = [gzip.compress(each) for each in pages(1_000)]
    members[500] = members[500][:60] + bytes([members[500][60] ^ 0xFF]) + members[500][61:]
    rows, _ = read("warc", "a.warc.gz", b"".join(members))
    assert [row["key"] for row in rows if not row["error"]] == [f"urn:uuid:{n}" for n in range(1_000) if n != 500]
    (bad,) = (row for row in rows if row["error"])
    assert bad["error"].startswith("gzip: ")
    assert bad["locator"] == {"file": "a.warc.gz", "offset": len(b"".join(members[:500])), "length": len(members[500])}


def test_a_wrong_checksum_is_reported_for_its_member():
    members = [gzip.compress(each) for each in pages(3)]
    members[1] = members[1][:-8] + b"\0\0\0\0" + members[1][-4:]
    rows, _ = read("warc", "a.warc.gz", b"".join(members))
    assert [row["error"] for row in rows][::2] == [None, None]
    assert (rows[1]["key"], problems(rows)) == ("urn:uuid:1", ["gzip"])


@pytest.mark.parametrize("cut", [1, 9, 60, 150])
def test_a_truncated_end_costs_the_last_record_only(cut):
    data = warc_gz(pages(10))[:-cut]
    rows, _ = read("warc", "a.warc.gz", data)
    assert [row["key"] for row in rows if not row["error"]][:9] == [f"urn:uuid:{n}" for n in range(9)]
    assert problems(rows) == ["truncated"]


def test_garbage_between_and_after_records_is_one_error_each():
    members = [gzip.compress(each) for each in pages(4)]
    rows, _ = read("warc", "a.warc.gz", b"".join([*members[:2], b"garbage" * 50, *members[2:], b"tail"]))
    assert len([row for row in rows if not row["error"]]) == 4
    assert len(problems(rows)) == 2


@pytest.mark.parametrize("length", [10, 90, 100_000, 10**17])
@pytest.mark.parametrize("pack", [warc_gz, b"".join, warc_zst], ids=["gzip", "plain", "zstd"])
def test_a_wrong_content_length_costs_one_record(pack, length):
    records = pages(5)
    records[2] = record(response(PAGE % 2), number=2, length=length)
    rows, _ = read("warc", "a.warc.gz", pack(records))
    assert [row["key"] for row in rows if not row["error"]] == [f"urn:uuid:{n}" for n in (0, 1, 3, 4)]
    assert [row["key"] for row in rows if row["error"]] == ["urn:uuid:2"]


def test_records_without_blank_lines_between_are_sound():
    rows, _ = read("warc", "a.warc", b"".join(each.removesuffix(b"\r\n\r\n") for each in pages(5)))
    assert (len(rows), problems(rows)) == (5, [])


def test_bare_newlines_in_heads_are_tolerated():
    records = [each.replace(b"\r\n\r\n", b"\n\n", 1).replace(b"\r\nWARC-", b"\nWARC-") for each in pages(3)]
    rows, _ = read("warc", "a.warc", b"".join(records))
    assert (len(rows), problems(rows)) == (3, [])


@pytest.mark.parametrize("data", [b"PK\x03\x04 something else", b"\x1f\x8bnothing", b"\0" * 5_000])
def test_a_file_that_is_no_archive_is_one_error(data):
    assert len(problems(read("warc", "a.warc.gz", data, 1_000)[0])) == 1


@pytest.mark.parametrize(
    ("use", "name"), [("warc", "a.warc.gz"), ("wet", "a.wet.gz"), ("jsonl", "a.jsonl"), ("jsonl", "a.jsonl.gz")]
)
def test_an_empty_file_has_no_rows(use, name):
    assert read(use, name, b"") == ([], {})


def test_a_record_that_is_too_large_is_refused_and_the_next_one_read():
    bomb = record(response(b"0" * 3_000_000), number="bomb")
    records = [*pages(2), bomb, *crawl(2)]
    for data in (warc_gz(records), b"".join(records), gzip.compress(b"".join(records))):
        rows, _ = read("warc", "a.warc.gz", data, max_record_bytes=200_000)
        assert len([row for row in rows if not row["error"]]) == 4
        assert problems(rows) == ["too_large"]


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=25, deadline=None)
def test_rows_do_not_depend_on_the_library_that_inflates(seed):
    source = random.Random(seed)
    data = bytearray(warc_gz(crawl(30, noise=700)))
    for _ in range(source.randrange(6)):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    with pytest.MonkeyPatch.context() as patch:
        usual = read("warc", "a.warc.gz", bytes(data))
        patch.setattr("factory.stages.sources.windows._FAST", zlib)
        assert read("warc", "a.warc.gz", bytes(data)) == usual


# WARC packed with zstd


def test_one_corrupt_frame_of_a_thousand_costs_one_record():
    frames = [zstandard.compress(each) for each in pages(1_000)]
    frames[500] = frames[500][:60] + bytes([frames[500][60] ^ 0xFF]) + frames[500][61:]
    rows, _ = read("warc", "a.warc.zst", b"".join(frames), 100_000)
    assert [row["key"] for row in rows if not row["error"]] == [f"urn:uuid:{n}" for n in range(1_000) if n != 500]
    (bad,) = (row for row in rows if row["error"])
    assert bad["locator"] == {"file": "a.warc.zst", "offset": len(b"".join(frames[:500])), "length": len(frames[500])}


def test_one_zstd_frame_for_many_records_is_read():
    rows, skipped = read("warc", "a.warc.zst", zstandard.compress(b"".join(crawl(30))), 1_000)
    assert (len(rows), skipped.total(), problems(rows)) == (30, 31, [])


def test_a_zstd_file_that_is_cut_costs_the_last_record_only():
    rows, _ = read("warc", "a.warc.zst", warc_zst(pages(10))[:-30])
    assert (len(rows), problems(rows)) == (10, ["truncated"])


@pytest.mark.parametrize("front", [b"", skippable(b"no dictionary"), skippable(b"\x37\xa4\x30\xec" + bytes(99))])
def test_frames_without_their_dictionary_are_an_error(front):
    """A dictionary that is missing, or damaged."""
    data = warc_zst_with_dictionary(pages(3))
    frames = data[8 + int.from_bytes(data[4:8], "little") :]
    assert problems(read("warc", "a.warc.zst", front + frames)[0]) == ["zstd"]


def test_skippable_frames_between_records_are_passed_over():
    records = [zstandard.compress(each) for each in pages(4)]
    rows, _ = read("warc", "a.warc.zst", skippable(b"x" * 99, 3).join(records), 100)
    assert (len(rows), problems(rows)) == (4, [])


def test_a_zstd_bomb_and_a_huge_window_are_refused_and_the_next_record_read():
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=30, strategy=1)
    ).compressobj()
    data = record(response(PAGE), number="wide")
    frames = [warc_zst([record(response(b"0" * 3_000_000))]), wide.compress(data) + wide.flush(), warc_zst(pages(1))]
    rows, _ = read("warc", "a.warc.zst", b"".join(frames), max_record_bytes=200_000)
    assert problems(rows) == ["too_large", "zstd"]
    assert rows[-1]["key"] == "urn:uuid:0"


# ARC


def arc_record(content, number=0, media="text/html", length=None, url=None, version=1):
    url = url or f"http://example.org/{number} with space"
    more = " 200 fac069150613fe55 - 99 a.arc.gz" if version == 2 else ""
    line = f"{url} 192.0.2.1 20040301120000 {media}{more} {len(content) if length is None else length}\n"
    return line.encode() + content + b"\n"


def arc(count, noise=0, version=1):
    """A version block, pages, and the look-up of a name."""
    source = random.Random(5)
    first = b"1 0 Test\nURL IP-address Archive-date Content-type Archive-length\n"
    records = [arc_record(first, url="filedesc://a.arc", media="text/plain", version=1)]
    for number in range(count):
        body = response(PAGE % number + source.randbytes(noise))
        records.append(arc_record(body, number, version=version))
    return [*records, arc_record(b"20040301120000\nexample.org 192.0.2.1", url="dns:example.org", media="text/dns")]


ARC_PACKS = pytest.mark.parametrize("pack", [warc_gz, b"".join, warc_zst], ids=["gzip", "plain", "zstd"])


@ARC_PACKS
@pytest.mark.parametrize("version", [1, 2])
def test_an_arc_record_becomes_the_row_its_warc_record_would_be(pack, version):
    rows, skipped = read("warc", "a.arc.gz", pack(arc(3, version=version)))
    assert [row["payload"] for row in rows] == [PAGE % n for n in range(3)]
    assert skipped == {"warcinfo": 1, "type_text": 1}
    assert (rows[1]["url"], rows[1]["host"]) == ("http://example.org/1 with space", "example.org")
    assert rows[1]["date"].isoformat() == "2004-03-01T12:00:00+00:00"
    assert rows[1]["key"] == f"a.arc.gz:{rows[1]['locator']['offset']}"


@ARC_PACKS
@pytest.mark.parametrize("part_bytes", [500, 1_777, 50_000])
def test_every_arc_record_is_in_exactly_one_part(pack, part_bytes):
    data = pack(arc(150, noise=900))
    assert len(read("warc", "a.arc", data)[0]) == 150
    assert read("warc", "a.arc", data, part_bytes) == read("warc", "a.arc", data)


@ARC_PACKS
@given(seed=st.integers(0, 1 << 30), part_bytes=st.integers(500, 20_000))
@settings(max_examples=15, deadline=None)
def test_damage_of_an_arc_is_in_exactly_one_part(pack, seed, part_bytes):
    source = random.Random(seed)
    data = bytearray(pack(arc(60, noise=700)))
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(200, len(data))
        data[at : at + source.choice([1, 1, 10, 3000])] = source.randbytes(source.choice([1, 2, 10, 3000]))
    assert read("warc", "a.arc", bytes(data), part_bytes) == read("warc", "a.arc", bytes(data))


@ARC_PACKS
@pytest.mark.parametrize("length", [3, 100_000, -1, "abc"])
def test_a_wrong_archive_length_costs_one_record(pack, length):
    records = arc(5)
    records[3] = arc_record(response(PAGE % 2), 2, length=length)
    rows, _ = read("warc", "a.arc", pack(records))
    assert [row["url"][-12] for row in rows if not row["error"]] == ["0", "1", "3", "4"]
    assert [row["url"][-12] for row in rows if row["error"]] == ["2"]


@pytest.mark.parametrize("line", ["http://x 1 12345678" * 400, "a:" + " 1" * 4_000, "filedesc:" + " " * 8_000])
def test_a_line_made_to_keep_patterns_busy_is_read_at_once(line):
    data = b"".join(arc(2)) + (line + "\n").encode() * 40
    started = time.process_time()
    assert len([row for row in read("warc", "a.arc", data)[0] if not row["error"]]) == 2
    assert time.process_time() - started < 5


# Revisits


def revisit(number, digest="sha1:A", status="200 OK", kind="identical-payload-digest", **headers):
    profile = f"http://netpreserve.org/warc/1.1/revisit/{kind}"
    head = response(b"", status, media=None)
    made = {"WARC_Date": "2024-04-01T12:00:00Z", "WARC_Target_URI": "http://example.org/0"} | headers
    return record(head, "revisit", f"again{number}", WARC_Profile=profile, WARC_Payload_Digest=digest, **made)


def original(number, digest="sha1:A", uri="http://example.org/0", **headers):
    return record(response(PAGE % number), number=number, WARC_Payload_Digest=digest, WARC_Target_URI=uri, **headers)


def resolved(revisit_record, *originals):
    rows, _ = read("warc", "a.warc.gz", warc_gz([*originals, revisit_record]))
    row = rows[-1]
    return row["error"] or int(re.search(rb"number (\d+)", row["payload"])[1])


def test_a_revisit_is_found_by_what_says_most():
    one = original(1, WARC_Date="2024-01-01T00:00:00Z")
    two = original(2, WARC_Date="2024-02-01T00:00:00Z")
    elsewhere = original(3, uri="http://example.org/other")
    by_id = revisit(0, WARC_Refers_To="<urn:uuid:2>")
    by_date = revisit(0, WARC_Refers_To_Target_URI="http://example.org/0", WARC_Refers_To_Date="2024-02-01T00:00:00Z")
    assert resolved(by_id, one, two) == resolved(by_date, one, two) == 2
    assert resolved(revisit(0), elsewhere, one, two) == 1
    assert resolved(revisit(0), elsewhere) == 3


def test_a_page_that_was_not_modified_is_the_last_capture_before():
    captures = [original(n, digest=None, WARC_Date=f"2024-0{n}-01T00:00:00Z") for n in (1, 2, 5)]
    unchanged = revisit(0, digest=None, status="304 Not Modified", kind="server-not-modified")
    assert resolved(unchanged, *captures) == 2
    assert resolved(unchanged, captures[2]).startswith("revisit: ")


def test_a_revisit_of_a_revisit_and_of_itself_is_an_error():
    assert resolved(revisit(0, digest=None, WARC_Refers_To="<urn:uuid:again0>")).startswith("revisit: ")
    assert resolved(revisit(1, WARC_Refers_To="<urn:uuid:again0>"), revisit(0)).startswith("revisit: ")


def test_a_revisit_of_what_is_no_document_is_counted():
    image = record(response(b"\x89PNG", media="image/png"), number=1, WARC_Payload_Digest="sha1:A")
    moved = revisit(2, status="302 Found")
    rows, skipped = read("warc", "a.warc.gz", warc_gz([image, revisit(0), moved]))
    assert (rows, skipped) == ([], {"type_image": 2, "http_status_302": 1})


@PACKS
@pytest.mark.parametrize("part_bytes", [700, 5_000])
def test_revisits_of_records_in_other_parts_are_found(pack, part_bytes):
    records = [original(n, digest=f"sha1:{n}", uri=f"http://example.org/{n}") for n in range(50)]
    again = [revisit(n, digest=f"sha1:{n}") for n in reversed(range(50))]
    data = pack([*again[:25], *records, *again[25:]])
    rows, _ = read("warc", "a.warc.gz", data, part_bytes)
    assert rows == read("warc", "a.warc.gz", data)[0]
    assert (len(rows), problems(rows)) == (100, [])


@pytest.mark.parametrize("pack", [warc_gz, b"".join, warc_zst], ids=["gzip", "plain", "zstd"])
@pytest.mark.parametrize("part_bytes", [1_000, WHOLE])
def test_a_file_that_shrinks_while_it_is_read_ends_in_an_error(pack, part_bytes):
    data = pack(crawl(20, noise=900))
    rows, _ = read("warc", "a.warc", data, part_bytes, there=len(data) - 5_000)
    assert rows[:10] == read("warc", "a.warc", data)[0][:10]
    assert set(problems(rows)) <= {"truncated", "gzip", "zstd", "parse", "length"}


# WARC: what a record holds


def test_what_a_page_says_of_itself_is_kept():
    made = response(PAGE, X_Robots_Tag="noai, noindex", Content_Language="gd", Last_Modified="Mon, 04 Mar 2024")
    (row,) = read("warc", "a.warc", record(made, WARC_Payload_Digest="sha1:A", WARC_Truncated="length"))[0]
    assert json.loads(row["meta"]) == {
        "http_status": 200,
        "payload_digest": "sha1:A",
        "truncated": "length",
        "last_modified": "Mon, 04 Mar 2024",
        "content_language": "gd",
        "x_robots_tag": "noai, noindex",
    }


def test_heads_in_any_bytes_are_read():
    """Line ends without returns, bytes that are not UTF-8, no record id, and a head that is folded."""
    made = response(PAGE, X_Note="\xe9").replace(b"\r\n", b"\n").replace("\xe9".encode(), b"\xe9")
    made = made.replace(b"Content-Type: text/html", b"Content-Type:\n text/html;\n\tcharset=latin-1")
    data = record(made, WARC_Record_ID=None, WARC_Target_URI="http://example.org/%")
    ((row,), _) = read("warc", "a.warc", data.replace(b"/%", b"/\xe9"))
    assert (row["key"], row["payload"], row["url"]) == ("a.warc:0", PAGE, "http://example.org/\xe9")
    assert row["content_type"] == "text/html; charset=latin-1"


def test_a_head_without_end_is_refused():
    rows, _ = read("warc", "a.warc", record(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000) + pages(1)[0])
    assert problems(rows) == ["too_large"]
    rows, _ = read("warc", "a.warc", b"WARC/1.0\r\n" + b"X: y\r\n" * 200_000 + b"\r\n\r\n" + pages(1)[0])
    assert problems(rows) == ["parse"]
    assert rows[-1]["key"] == "urn:uuid:0"


def test_several_responses_for_one_address_are_rows_of_their_own():
    records = [record(response(PAGE % n), number=n, WARC_Target_URI="http://example.org/") for n in range(3)]
    rows, _ = read("warc", "a.warc.gz", warc_gz(records))
    assert len({row["key"] for row in rows}) == len({row["payload"] for row in rows}) == 3


def test_kinds_of_records_are_counted():
    records = [
        record(b"x", "metadata", 1),
        record(b"", "revisit", 2),
        record(b"x", "resource", 3, "image/png"),
        record(b"<html><p>page</html>", "resource", 4, "text/html"),
        record(b"some text", "conversion", 5, "text/plain"),
        record(response(b"gone", "404 Not Found"), number=6),
        record(response(b"\x89PNG", media="image/png"), number=7),
        record(b"20240301120000 example.org", "response", 8, "text/dns"),
        record(b"x", "surprise", 9),
        record(response(b"<html><p>found by looking</html>", media=None), number=10),
        record(response(b"%PDF-1.4", media=None), number=11),
        record(response(b"plain words", media="text/plain"), number=12),
    ]
    rows, skipped = read("warc", "a.warc", b"".join(records))
    assert [row["key"] for row in rows] == [f"urn:uuid:{n}" for n in (2, 4, 5, 10, 12)]
    assert problems(rows) == ["revisit"]
    once = ("metadata", "http_status_404", "not_http", "unknown_type", "type_unknown")
    assert skipped == dict.fromkeys(once, 1) | {"type_image": 2}


def test_the_identified_type_goes_before_the_header():
    made = record(response(b"<html>x</html>", media="application/pdf"), WARC_Identified_Payload_Type="text/html")
    assert read("warc", "a.warc", made)[0][0]["content_type"] == "text/html"


def body_of(coded, **headers):
    (row,) = read("warc", "a.warc", record(response(coded, **headers)), max_html_bytes=100_000)[0]
    return row["payload"] if row["error"] is None else row["error"].partition(":")[0]


def chunked(body, size=10):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("coded", "headers"),
    [
        (gzip.compress(PAGE, mtime=0), {"Content_Encoding": "gzip"}),
        (zlib.compress(PAGE), {"Content_Encoding": "deflate"}),
        (zlib.compress(PAGE)[2:-4], {"Content_Encoding": "deflate"}),
        (brotli.compress(PAGE), {"Content_Encoding": "br"}),
        (zstandard.compress(PAGE), {"Content_Encoding": "zstd"}),
        (chunked(PAGE), {"Transfer_Encoding": "chunked"}),
        (chunked(gzip.compress(PAGE, mtime=0)), {"Transfer_Encoding": "chunked", "Content_Encoding": "x-gzip"}),
        (PAGE, {"Content_Encoding": "gzip", "Transfer_Encoding": "chunked"}),
        (PAGE, {"Content_Encoding": "br"}),
        (PAGE, {"Content_Encoding": "made-up"}),
    ],
)
def test_codings_are_undone_also_where_the_crawler_did_it_already(coded, headers):
    assert body_of(coded, **headers) == PAGE


@pytest.mark.parametrize(
    ("coded", "headers", "problem"),
    [
        (gzip.compress(PAGE, mtime=0)[:-9], {"Content_Encoding": "gzip"}, "truncated"),
        (gzip.compress(PAGE, mtime=0)[:-8] + b"12345678", {"Content_Encoding": "gzip"}, "http_body"),
        (brotli.compress(PAGE)[:-5], {"Content_Encoding": "br"}, "truncated"),
        (b"\xff\xfe\xfd", {"Content_Encoding": "br"}, "http_body"),
        (b"\xff\xfe\xfd", {"Content_Encoding": "made-up"}, "http_body"),
        (chunked(PAGE)[:-9], {"Transfer_Encoding": "chunked"}, "truncated"),
        (gzip.compress(b"0" * 10_000_000, mtime=0), {"Content_Encoding": "gzip"}, "too_large"),
        (brotli.compress(b"0" * 10_000_000), {"Content_Encoding": "br"}, "too_large"),
        (zstandard.compress(b"0" * 10_000_000), {"Content_Encoding": "zstd"}, "too_large"),
        (
            gzip.compress(gzip.compress(b"0" * 10_000_000, mtime=0), mtime=0),
            {"Content_Encoding": "gzip, gzip"},
            "too_large",
        ),
        (b"0" * 100_001, {}, "too_large"),
        (b"", {}, "no_text"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_an_error(coded, headers, problem):
    assert body_of(coded, **headers) == problem


@pytest.mark.parametrize("date", ["2024-03-01T", "yesterday", "", "9999-99-99T00:00:00Z", None])
def test_a_date_that_is_none_is_null(date):
    (row,) = read("warc", "a.warc", record(response(PAGE), WARC_Date=date))[0]
    assert (row["date"], row["error"]) == (None, None)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("<http://a.example/x>", "a.example"),
        ("http://user@B.example:8080/with space", "b.example"),
        ("https://bücher.example/ü", "bücher.example"),
        ("http://[::1]:80/", "[::1]"),
        ("dns:x", None),
        ("http://", None),
    ],
)
def test_hosts_of_odd_addresses(url, host):
    (row,) = read("warc", "a.warc", record(response(PAGE), WARC_Target_URI=url))[0]
    assert (row["url"], row["host"]) == (url.strip("<>"), host)


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5", "sha512"])
@pytest.mark.parametrize("header", ["WARC-Block-Digest", "WARC-Payload-Digest"])
def test_a_digest_that_does_not_fit_is_an_error_where_it_is_asked_for(name, header):
    made = response(PAGE)
    for data, problem in ((made if "Block" in header else PAGE, []), (b"other", ["digest"])):
        digest = base64.b32encode(hashlib.new(name, data).digest()).decode()
        data = record(made, **{header: f"{name}:{digest}"})
        assert problems(read("warc", "a.warc", data, verify_digests=True)[0]) == problem
        assert problems(read("warc", "a.warc", data)[0]) == []


@given(st.binary(max_size=3_000), st.sampled_from(["warc", "wet", "jsonl", "parquet", "text"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_never_raise(junk, use, archive):
    data = b"".join([*pages(1), junk, *pages(1)]) if archive else junk
    read(use, "a.bin", data, 700)


# WET


def test_conversion_records_are_text():
    records = [
        record(b"info", "warcinfo", "i", "application/warc-fields"),
        record("Grüße\r\nund Text\n".encode(), "conversion", 1, "text/plain", WARC_Identified_Content_Language="deu"),
        record(b"\xff\xfe bad", "conversion", 2, "text/plain"),
        record(b" \n", "conversion", 3, "text/plain"),
        record(response(PAGE), "response", 4),
    ]
    rows, skipped = read("wet", "a.wet.gz", warc_gz(records))
    assert [row["text"] for row in rows] == ["Grüße\nund Text\n", None, None]
    assert (problems(rows), skipped) == (["encoding", "no_text"], {"warcinfo": 1, "response": 1})
    assert json.loads(rows[0]["meta"])["languages"] == "deu"


# JSON lines


def lines(*records):
    return b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in records)


def test_a_line_is_a_document_and_the_rest_of_it_meta():
    line = {"id": 7, "text": "words", "url": "http://A.b/c", "date": "2020-02-03", "licence": "CC0", "n": 1.5, "x": [1]}
    (row,) = read("jsonl", "a.jsonl", lines(line))[0]
    assert (row["key"], row["text"], row["host"], row["license"]) == ("7", "words", "a.b", "CC0")
    assert (row["date"].year, json.loads(row["meta"])) == (2020, {"n": 1.5})


def test_bad_lines_are_errors_and_harm_no_other():
    data = lines(
        {"text": "one"},
        b'{"text": "cut\n',
        b'{"text": "\xff"}\n',
        b"[1]\n",
        {"body": "x"},
        {"text": None},
        {"text": 5},
        {"text": " "},
        b"[" * 100_000 + b"\n",
        {"text": "x" * 5_000},
        b"\n",
        {"text": "two"},
        b'{"text": "last, without newline"}',
    )
    rows, skipped = read("jsonl", "a.jsonl", data, max_line_bytes=4_000)
    assert [row["text"] for row in rows if not row["error"]] == ["one", "two", "last, without newline"]
    kinds = ["json", "encoding", "json", "no_text", "no_text", "no_text", "no_text", "too_large", "too_large"]
    assert (problems(rows), skipped) == (kinds, {"blank_line": 1})
    for row in rows:
        piece = data[row["locator"]["offset"] :][: row["locator"]["length"]]
        assert read("jsonl", "a.jsonl", piece)[0][0]["text"] == row["text"] or row["error"]


def test_lines_that_where_leaves_out_are_counted():
    data = lines(
        {"text": "one", "split": "train"}, {"text": "two", "split": "eval"}, {"text": "three"}, {"split": "train"}
    )
    rows, skipped = read("jsonl", "a.jsonl", data, where={"split": "train"})
    assert [row["text"] for row in rows] == ["one", None]
    assert (problems(rows), skipped) == (["no_text"], {"not_asked_for": 2})


def test_nesting_that_is_too_deep_is_an_error():
    assert problems(read("jsonl", "a.jsonl", b"[" * 100_000 + b"\n")[0]) == ["json"]


@given(st.lists(st.text(max_size=60), max_size=40), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_every_line_is_in_exactly_one_part(texts, part_bytes):
    data = b"".join(json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "ignore") + b"\n" for text in texts)
    assert read("jsonl", "a.jsonl", data, part_bytes) == read("jsonl", "a.jsonl", data)
    assert len(read("jsonl", "a.jsonl", data)[0]) == len(texts)


def test_odd_characters_come_through_in_one_normal_form():
    data = b'\xef\xbb\xbf{"text": "a\\u0000b\\r\\nc\\ud800d \xe2\x80\xa8 \xc2\x85 \xf0\x9f\x91\xa9"}\r\n'
    (row,) = read("jsonl", "a.jsonl", data)[0]
    assert row["text"] == "ab\ncd \u2028 \x85 \U0001f469"


def same(left, right):
    return json.dumps(left) == json.dumps(right)  # NaN and NaN, -0.0 and 0


def parsed(data):
    try:
        return _parse(data)
    except (ValueError, RecursionError) as error:
        return type(error).__name__


def slowly(data):
    try:
        return json.loads(data.decode().removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        return type(error).__name__


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.integers(10**18, 10**21))


@given(st.dictionaries(st.text(max_size=5), SCALARS, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_line_means_what_python_reads_in_it(record):
    for line in (json.dumps(record), json.dumps(record, ensure_ascii=False) + " "):
        data = line.encode("utf-8", "surrogatepass")
        assert same(parsed(data), slowly(data))


ODD_LINES = (
    b'{"a": 1e400}|{"a": -0}|{"a": 18446744073709551616}|{"a": 1.0E+2}|{"a": NaN}|{"a": -Infinity}|{"a": "\\ud800"}|{"a":'
    b' "\\ud83d\\ude00"}|{"a": 1, "a": 2}|{"a": 01}|{"a": 1.}|{"a": \x27x\x27}|{"a": "\t"}|{"a": "\x00"}|\xef\xbb\xbf{"a": 1}|'
    b'{"a": "\xff"}|{"a": "\xed\xa0\x80"}|{} {}|{"a": 1},|true|9007199254740993|{"a": 9007199254740993.0}|{"a": 1e22}'
)


@pytest.mark.parametrize("line", ODD_LINES.split(b"|"))
def test_odd_lines_mean_what_python_reads_in_them(line):
    assert same(parsed(line), slowly(line))


def test_a_number_that_needs_more_than_64_bits_stays_exact():
    (row,) = read("jsonl", "a.jsonl", lines({"id": 10**30, "text": "x", "n": -(10**40)}))[0]
    assert (row["key"], json.loads(row["meta"])) == (str(10**30), {"n": -(10**40)})


def test_a_compressed_file_that_needs_a_dictionary_is_an_error():
    dictionary = zstandard.train_dictionary(4_000, [b"".join(pages(9))[start:] for start in range(0, 900, 9)])
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    assert problems(read("jsonl", "a.jsonl.zst", packer.compress(lines({"text": "x" * 500})))[0]) == ["zstd"]


def compressors():
    return {
        "a.jsonl.gz": gzip.compress,
        "b.jsonl.gz": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
        "a.jsonl.zst": zstandard.compress,
        "b.jsonl.zst": lambda data: zstandard.compress(data[:50]) + zstandard.compress(data[50:]),
    }


@pytest.mark.parametrize("name", compressors())
def test_compressed_lines_are_the_same_lines(name):
    data = lines(*({"text": f"line {n}", "id": n} for n in range(2_000)))
    rows, _ = read("jsonl", name, compressors()[name](data), 1_000)
    assert [(row["key"], row["text"]) for row in rows] == [(str(n), f"line {n}") for n in range(2_000)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_compressed_file_that_is_cut_keeps_its_complete_lines(name):
    source = random.Random(3)
    data = lines(*({"text": source.randbytes(40).hex()} for _ in range(5_000)))
    rows, _ = read("jsonl", name, compressors()[name](data)[:-100_000])
    assert problems(rows) == ["truncated"]
    assert data.startswith(lines(*({"text": row["text"]} for row in rows[:-1])))
    assert len(rows) > (1_000 if name.endswith("gz") else 1)


def test_a_damaged_member_leaves_the_next_one():
    parts = [lines(*({"text": f"{name} {n}"} for n in range(50))) for name in "abc"]
    members = [bytearray(gzip.compress(part)) for part in parts]
    members[1][-6] ^= 0xFF
    rows, _ = read("jsonl", "a.jsonl.gz", b"".join(members) + b"garbage")
    texts = [row["text"] for row in rows if not row["error"]]
    assert texts == [f"{name} {n}" for name in "abc" for n in range(50)]
    assert problems(rows) == ["gzip", "gzip"]


def test_bombs_end_in_an_error():
    bomb = b'{"text": "' + b"0" * 60_000_000
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        data = compressors()[name](lines({"text": "one"}) + bomb)
        rows, _ = read("jsonl", name, data, max_line_bytes=1 << 20)
        assert [row["text"] for row in rows] == ["one", None]
        assert problems(rows) == ["too_large"]


def test_a_zstd_frame_with_a_huge_window_is_refused():
    settings = zstandard.ZstdCompressionParameters(window_log=30, strategy=1)
    writer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    data = writer.compress(lines({"text": "x"})) + writer.flush()
    assert problems(read("jsonl", "a.jsonl.zst", data)[0]) == ["zstd"]


# Parquet


def parquet(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_row_groups_are_in_exactly_one_part():
    table = pa.table({"text": [f"text {n}" for n in range(900)], "id": range(900), "score": [0.5] * 900})
    data = parquet(table, row_group_size=100)
    whole = read("parquet", "a.parquet", data)[0]
    assert [(row["key"], row["text"]) for row in whole] == [(str(n), f"text {n}") for n in range(900)]
    assert json.loads(whole[0]["meta"]) == {"score": 0.5}
    for part_bytes in (1, 1_000, 3_333):
        assert read("parquet", "a.parquet", data, part_bytes)[0] == whole


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_string_like_columns_are_cast(kind):
    table = pa.table({"body": pa.array(["one", None, "", "two"]).cast(kind)})
    rows, _ = read("parquet", "a.parquet", parquet(table), text="body")
    assert ([row["text"] for row in rows], problems(rows)) == (["one", None, None, "two"], ["no_text", "no_text"])
    assert [row["key"] for row in rows] == [f"a.parquet:{n}" for n in range(4)]


def test_dates_of_any_unit_are_seconds():
    for unit in ("s", "ms", "us", "ns"):
        when = pa.array([1_600_000_000]).cast(pa.timestamp("s")).cast(pa.timestamp(unit, "UTC"))
        (row,) = read("parquet", "a.parquet", parquet(pa.table({"text": ["x"], "date": when})))[0]
        assert row["date"].timestamp() == 1_600_000_000


def test_a_value_that_is_not_utf8_harms_its_row_only():
    table = pa.table({"text": pa.array([b"good", b"\xff\xfe", b"fine"]), "title": pa.array([b"a", b"\xff", b"c"])})
    bad = table.cast(pa.schema([("text", pa.binary()), ("title", pa.binary())]))
    assert problems(read("parquet", "a.parquet", parquet(bad))[0]) == ["encoding"]


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([["a"], ["b"]])])
def test_a_text_column_of_another_type_is_refused_with_the_columns_there_are(column):
    with pytest.raises(InputError, match=r"a\.parquet: column 'text' is .*Its columns: text \(.*, other \(string\)"):
        read("parquet", "a.parquet", parquet(pa.table({"text": column, "other": ["x", "y"]})))


def test_a_missing_column_is_refused_with_the_columns_there_are():
    with pytest.raises(InputError, match=r"a\.parquet has no column 'body'.*Its columns: text \(string\)"):
        read("parquet", "a.parquet", parquet(pa.table({"text": ["x"]})), text="body")


def test_damaged_files_are_one_error_and_damaged_groups_too():
    data = parquet(pa.table({"text": [f"{n} " * 50 for n in range(300)]}), row_group_size=100, use_dictionary=False)
    for broken in (b"", b"PAR1", data[:-20], b"no parquet at all" * 20):
        assert problems(read("parquet", "a.parquet", broken, 1_000)[0]) == ["parquet"]
    first = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0).data_page_offset
    rows, _ = read("parquet", "a.parquet", data[:first] + b"\xff" * 40 + data[first + 40 :])
    assert (len(rows), problems(rows)) == (201, ["parquet"])


def one_by_one(monkeypatch):
    """Rows made without the way column by column."""
    monkeypatch.setattr("factory.stages.sources.parquet.table_batch", lambda *_: None)


ODD_TEXTS = st.text(st.sampled_from('ab \n\r\0\ufeff\u2028\x1c\xa0é"\\\U0001f469'), max_size=6)
ADDRESSES = st.one_of(
    st.none(), ODD_TEXTS, st.text(st.sampled_from("aB.:/@[]#?\\ ü"), max_size=12).map(lambda text: f"http://{text}")
)
TIMES = [pa.date32(), pa.timestamp("us"), pa.timestamp("ms", "UTC"), pa.timestamp("s", "Asia/Tokyo")]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_table_read_by_columns_is_the_table_read_by_rows(drawn):
    rows = drawn.draw(st.integers(1, 6))

    def column(values, kind=None):
        return pa.array(drawn.draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows)), kind)

    kind = drawn.draw(st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]))
    columns = {
        "text": column(ODD_TEXTS, pa.string()).cast(kind),
        "id": column(st.integers(0, 99), pa.int32()) if drawn.draw(st.booleans()) else column(ODD_TEXTS, pa.string()),
        "url": column(ADDRESSES, pa.string()),
        "date": column(st.integers(-60_000, 60_000), pa.int32()).cast(pa.date32()),
        "title": column(ODD_TEXTS, pa.string()),
        drawn.draw(st.sampled_from(["license", "licence"])): column(ODD_TEXTS, pa.string()).dictionary_encode(),
        "x": column(st.floats(), pa.float64()),
        "small": column(st.floats(width=32), pa.float32()),
        "flag": column(st.booleans(), pa.bool_()),
        "n": column(st.integers(0, 2**64 - 1), pa.uint64()),
        "note": column(st.one_of(ODD_TEXTS, st.just("y" * 1_001)), pa.string()),
        "nothing": pa.nulls(rows),
    }
    when = drawn.draw(st.sampled_from(TIMES))
    columns["seen"] = column(st.integers(-60_000, 60_000), pa.int32()).cast(pa.date32()).cast(when)
    names = drawn.draw(st.sets(st.sampled_from(sorted(set(columns) - {"text"}))))
    data = parquet(pa.table({name: values for name, values in columns.items() if name == "text" or name in names}))
    by_columns = read("parquet", "a.parquet", data)
    with pytest.MonkeyPatch.context() as patch:
        one_by_one(patch)
        assert by_columns == read("parquet", "a.parquet", data)


def test_texts_that_fill_a_batch_are_spread_over_several():
    table = pa.table({"text": [f"{n} " + "x" * 2_000_000 for n in range(12)]})
    rows, _ = read("parquet", "a.parquet", parquet(table))
    assert [row["key"] for row in rows] == [f"a.parquet:{n}" for n in range(12)]


@pytest.mark.parametrize("kind", [pa.null(), pa.string(), pa.binary()])
def test_a_column_of_nothing_is_an_error_a_row(kind):
    rows, _ = read("parquet", "a.parquet", parquet(pa.table({"text": pa.nulls(3, kind)})))
    assert problems(rows) == ["no_text"] * 3


# Text files


def test_a_file_is_a_document_with_its_first_heading():
    data = b"\xef\xbb\xbf```\n# no heading\n```\r\n## The *title* ##\nwords\n"
    ((row,), _) = read("text", "dir/a.md", data)
    assert (row["key"], row["title"]) == ("dir/a.md", "The *title*")
    assert row["text"] == "```\n# no heading\n```\n## The *title* ##\nwords\n"


@pytest.mark.parametrize(
    ("data", "problem"), [(b"\xff", "encoding"), (b" \n", "no_text"), (b"", "no_text"), (b"x" * 99, "too_large")]
)
def test_files_that_are_no_text_are_errors(data, problem):
    assert problems(read("text", "a.txt", data, max_file_bytes=50)[0]) == [problem]


# Real archives and corpora


@pytest.fixture
def data():
    if not DATA.exists():
        pytest.skip("../shared/data is not here")
    return DATA


def unpack(path):
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
    return [json.loads(line) for line in text.split(b"\n") if line]


def test_crawl_files_balance_with_their_index(data):
    index = {page["record_id"].strip("<>"): page for page in unpack(data / "warc" / "pages.jsonl.zst")}
    responses, skipped = 0, Counter()
    for path in sorted((data / "warc").glob("*.warc.gz")):
        rows, counts = read("warc", path.name, path.read_bytes(), 3_000_000)
        skipped.update(counts)
        responses += len(rows)
        for row in rows:
            page = index[row["key"]]
            digest = base64.b32encode(hashlib.sha1(row["payload"]).digest()).decode()
            assert (row["url"], f"sha1:{digest}") == (page["url"], page["payload_digest"])
    assert skipped.pop("warcinfo") == 4
    assert responses + skipped.total() == len(index) == 5210


def test_corpora_are_read_completely(data):
    for path in sorted((data / "corpus").glob("*.jsonl.zst")):
        wanted = [(item["id"], item["text"].replace("\r\n", "\n").replace("\0", "")) for item in unpack(path)]
        rows, _ = read("jsonl", path.name, path.read_bytes())
        assert [(row["key"], row["text"]) for row in rows] == wanted, path.name
    rows, _ = read("parquet", "wikipedia.parquet", (data / "corpus" / "wikipedia.parquet").read_bytes())
    assert len(rows) == 60
    assert not problems(rows)
