"""Faults of the input, each through a whole recipe: the books balance, siblings are untouched, what is bad is a row that says
where and why or a count by kind, memory and CPU time are bounded, and what has to stop a run says what to do.

Held elsewhere, and not here again (fault -> the tests that hold it):

| fault | held by |
|---|---|
| lines that are no JSON, of each kind | test_sources: bad lines are errors and harm no other; odd lines mean … |
| compressed files cut or damaged anywhere | test_sources: a compressed file that is cut …; damage is in exactly one part too |
| bombs in the codings of a record, nested ones too | test_sources: a body that cannot be decoded is an error |
| bombs of tar and zip | test_more_sources: bombs end in an error |
| zstd windows and dictionaries of archives | test_sources: a zstd bomb and a huge window …; frames without their dictionary … |
| damaged row groups, string-like and null columns | test_sources: damaged files are one error …; string-like columns … |
| CSV: formulas, quotes, newlines | nothing: no source reads CSV, and no corpus is exported as CSV |
| a checkout that changes while it is read | test_more_sources: a checkout that changes while it is read is an error |
| heads, lengths, dates, addresses, digests of WARC | test_sources, test_warc_wild |
| charsets that are wrong or missing, NULs, surrogates in pages | test_extractors |
| workers that die by signals, memory or CPU time | contracts/test_executor, test_steps |
| wikitext, ARC lines, front matter made to be slow | test_more_sources, test_sources |
| remote files that break off, change or lie | test_common_crawl |
"""

import bz2
import gzip
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import hostile_strings
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fault_tasks import MODULES, FaultExecutor
from test_sources import PAGE, record, response, warc_gz

from factory.core import registry
from factory.core.errors import InputError, LedgerError
from factory.core.registry import stages
from factory.core.schema import DOCUMENT
from factory.execution.local import LocalExecutor
from factory.recipes.load import check_recipe
from factory.recipes.progress import Silent
from factory.recipes.workspace import Workspace
from factory.storage.parts import read_part

EXAMPLES = Path(__file__).parent / "examples"
MB = 1 << 20
WORDS = "Plain words of a sound document, with its own number {}."


def lines(*texts, **fields):
    return b"".join(json.dumps({"text": text, **fields}, ensure_ascii=False).encode() + b"\n" for text in texts)


def workspace(folder, sources, executor=None, **sections):
    sources = {label: {"snapshot": "one", **source} for label, source in sources.items()}
    recipe = {"name": "faults", "sources": sources, "tokenizer": "none", "max_error_share": 1.0, **sections}
    return Workspace(check_recipe(recipe, folder=str(folder)), executor or LocalExecutor(1))


def documents(made):
    """Rows of the documents, in the order of the parts."""
    manifest = made.need("documents", "", "one")
    return [row for part in manifest.parts for row in read_part(made.store, part).to_pylist()]


def texts(rows):
    return sorted(row["text"] for row in rows if row["text"] is not None)


def kinds(rows):
    return dict(Counter(row["error"].partition(":")[0] for row in rows if row["error"]))


def balanced(outcome):
    """The books of documents, which balance with the rows there are."""
    books = outcome.manifest.ledger
    assert books["records"] == books["rows"] + sum(books["skipped"].values())
    assert books["rows"] == sum(part.rows for part in outcome.manifest.parts)
    return books


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


# One folder with every kind of broken file in it, each beside sound records, and a file in which nothing is wrong


def bomb(line, copies, pack):
    return pack(lines("before") + line * copies + lines("after"))


def utf16(text):
    return json.dumps({"text": text}).encode("utf-16")


CUT = gzip.compress(lines(*(f"{number} {os.urandom(8).hex()}" for number in range(1, 400))), mtime=0)
MEMBERS = [bytearray(gzip.compress(lines(name), mtime=0)) for name in "abc"]
MEMBERS[1][-6] ^= 0xFF
NO_DICTIONARY = zstandard.ZstdCompressor(
    dict_data=zstandard.train_dictionary(2_000, [json.dumps({"text": WORDS.format(n)}).encode() for n in range(400)])
).compress(lines("with a dictionary"))
WIDE = zstandard.ZstdCompressor(
    compression_params=zstandard.ZstdCompressionParameters(window_log=30, strategy=1)
).compressobj()

# file: its bytes, the texts that come out, the kinds of errors
LINES = {
    "sound.jsonl": (lines("one", "two"), ["one", "two"], {}),
    "invalid byte.jsonl": (lines("a") + b'{"text": "b\xff"}\n' + lines("c"), ["a", "c"], {"encoding": 1}),
    "malformed line.jsonl": (lines("a") + b'{"text": "b\n{]\n' + lines("c"), ["a", "c"], {"json": 2}),
    "truncated last line.jsonl": (lines("a") + b'{"text": "b', ["a"], {"json": 1}),
    "wrong checksum.jsonl.gz": (b"".join(map(bytes, MEMBERS)), ["a", "b", "c"], {"gzip": 1}),
    "trailing garbage.jsonl.gz": (gzip.compress(lines("a"), mtime=0) + b"garbage", ["a"], {"gzip": 1}),
    "no gzip.jsonl.gz": (lines("a"), [], {"gzip": 1}),
    "one long line.jsonl.gz": (bomb(b"0" * MB, 70, gzip.compress), ["before"], {"too_large": 1}),
    "many short lines.jsonl.gz": (bomb(b" " * MB + b"\n", 150, gzip.compress), ["before"], {"too_large": 1}),
    "many short lines.jsonl.zst": (bomb(b" " * MB + b"\n", 150, zstandard.compress), ["before"], {"too_large": 1}),
    "packed twice.jsonl.gz": (gzip.compress(gzip.compress(lines("a"))), [], {"encoding": 1}),
    "no dictionary.jsonl.zst": (NO_DICTIONARY, [], {"zstd": 1}),
    "wide window.jsonl.zst": (WIDE.compress(lines("a")) + WIDE.flush(), [], {"zstd": 1}),
    "empty.jsonl": (b"", [], {}),
    "blank.jsonl": (b"\n \n\n", [], {}),
    "nothing but nulls.jsonl": (b'{"text": null}\n{}\n', [], {"no_text": 2}),
    "long line.jsonl": (lines("a", "x" * 3 * MB, "c"), ["a", "c"], {"too_large": 1}),
    "utf-16.jsonl": (utf16("a"), [], {"encoding": 1}),
    "deep.jsonl": (b"[" * 200_000 + b"\n" + b'{"a":' * 100_000 + b"\n" + lines("c"), ["c"], {"json": 2}),
    "odd characters.jsonl": (
        b'\xef\xbb\xbf{"text": "\\ud800a\\u0000b"}\r\n' + lines("c\u2028d", "\U0001f469\u200d\U0001f680" * 3),
        ["ab", "c\u2028d", "\U0001f469\u200d\U0001f680" * 3],
        {},
    ),
}
TABLES = {
    "sound.parquet": (["one", "two"], {}),
    "truncated footer.parquet": ([], {"parquet": 1}),
    "zero bytes.parquet": ([], {"parquet": 1}),
    "bad magic.parquet": ([], {"parquet": 1}),
    "not utf-8.parquet": (["good"], {"encoding": 1}),
    "nulls.parquet": ([], {"no_text": 3}),
    "dictionary.parquet": (["a", "a", "b"], {}),
    "no rows.parquet": ([], {}),
}
BAD_MEMBER = bytearray(gzip.compress(record(response(PAGE % 3), number=3), mtime=0))
BAD_MEMBER[60] ^= 0xFF
ARCHIVES = {
    "corrupt member.warc.gz": (
        warc_gz([record(response(PAGE % n), number=n) for n in range(3)]) + BAD_MEMBER,
        3,
        {"gzip": 1},
    ),
    "wrong length.warc": (
        record(response(PAGE % 1), number=11)
        + record(response(PAGE % 2), number=12, length=10**15)
        + record(response(PAGE % 3), number=13, length=3)
        + record(response(PAGE % 4), number=14),
        2,
        {"length": 2},
    ),
    "no date and odd address.warc": (
        record(response(PAGE % 1), number=21, WARC_Date="yesterday")
        + record(response(PAGE % 2), number=22, WARC_Date=None, WARC_Target_URI="http://b\u00fccher.example/a b"),
        2,
        {},
    ),
    "unknown coding.warc": (
        record(response(b"\xff\xfe\xfd", Content_Encoding="made-up"), number=31)
        + record(response(PAGE % 1), number=32),
        1,
        {"http_body": 1},
    ),
    "other records.warc": (
        record(b"x", "metadata", 41)
        + record(b"GET / HTTP/1.1\r\n\r\n", "request", 42)
        + record(response(PAGE % 1), number=43),
        1,
        {},
    ),
}
WIKI = b'<mediawiki xml:lang="de"><siteinfo><base>https://de.wikipedia.org/wiki/X</base></siteinfo>'


def wiki_page(number, text=b"Ein Text.", more=b""):
    return (
        b"<page><title>T%d</title><ns>0</ns><id>%d</id>%s<revision><id>9</id>"
        b"<model>wikitext</model><text>%s</text></revision></page>" % (number, number, more, text)
    )


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
DUMPS = {
    "sound.xml": (WIKI + wiki_page(1) + wiki_page(2) + b"</mediawiki>", 2, {}),
    "entities.xml": (
        WIKI + wiki_page(3, b"Wort " * 20_000) + wiki_page(4, b"&b;", LAUGHS) + wiki_page(5) + b"</mediawiki>",
        2,
        {"xml": 1},
    ),
    "declared.xml": (LAUGHS + WIKI + wiki_page(6) + b"</mediawiki>", 0, {"xml": 1}),
    "bomb.xml.bz2": (
        bz2.compress(WIKI + wiki_page(7))
        + bz2.compress(b" " * 100 * MB)
        + bz2.compress(wiki_page(8) + b"</mediawiki>"),
        2,
        {"too_large": 1},
    ),
}


def write_tables(folder):
    folder.mkdir(parents=True)

    def write(name, values, kind=None):
        pq.write_table(pa.table({"text": pa.array(values, kind)}), folder / name)

    write("sound.parquet", ["one", "two"])
    write("not utf-8.parquet", [b"good", b"\xff\xfe"], pa.binary())
    write("nulls.parquet", [None, None, None], pa.string())
    write("dictionary.parquet", ["a", "b", "a"], pa.dictionary(pa.int32(), pa.string()))
    write("no rows.parquet", [], pa.string())
    sound = (folder / "sound.parquet").read_bytes()
    (folder / "truncated footer.parquet").write_bytes(sound[:-30])
    (folder / "zero bytes.parquet").write_bytes(b"")
    (folder / "bad magic.parquet").write_bytes(b"PAR9" + sound[4:-4] + b"PAR9")


def write_museum(folder):
    for place, files in (("lines", LINES), ("archives", ARCHIVES), ("dumps", DUMPS)):
        (folder / place).mkdir(parents=True)
        for name, (content, _, _) in files.items():
            (folder / place / name).write_bytes(content)
    write_tables(folder / "tables")


MUSEUM = {
    "lines": {"use": "jsonl", "uri": "lines/*.jsonl*", "max_line_bytes": 2 * MB},
    "tables": {"use": "parquet", "uri": "tables/*.parquet"},
    "archives": {"use": "warc", "uri": "archives/*.warc*"},
    "dumps": {"use": "wikipedia", "uri": "dumps/*.xml*"},
}
STAGES = {
    "extract": [{"use": "resiliparse", "main_content": False}],
    "linkers": {"same": {"use": "exact"}},
    "filters": {"copy": {"use": "is_absent", "column": "same_duplicate_of"}},
    "experiments": {"all": {}},
}


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    """The folder after a whole run with one worker, and what the run gave."""
    folder = tmp_path_factory.mktemp("museum")
    write_museum(folder)
    with workspace(folder, MUSEUM, **STAGES) as made:
        outcomes = {outcome.node.kind: outcome for outcome in made.run(["decisions"])}
        rows = documents(made)
    return folder, rows, outcomes


def of_file(museum, source, name):
    return [row for row in museum[1] if (row["source"], row["locator"]["file"]) == (source, name)]


@pytest.mark.parametrize("name", LINES)
def test_a_broken_file_of_lines_costs_what_is_broken_in_it(museum, name):
    rows = of_file(museum, "lines", name)
    _, sound, broken = LINES[name]
    assert (texts(rows), kinds(rows)) == (sorted(sound), broken)


@pytest.mark.parametrize("name", TABLES)
def test_a_broken_table_costs_what_is_broken_in_it(museum, name):
    rows = of_file(museum, "tables", name)
    assert (texts(rows), kinds(rows)) == TABLES[name]


@pytest.mark.parametrize(("source", "files"), [("archives", ARCHIVES), ("dumps", DUMPS)])
def test_a_broken_archive_or_dump_costs_what_is_broken_in_it(museum, source, files):
    for name, (_, sound, broken) in files.items():
        rows = of_file(museum, source, name)
        assert (len(texts(rows)), kinds(rows)) == (sound, broken), name


def test_what_is_bad_says_its_file_its_place_and_why(museum):
    bad = [row for row in museum[1] if row["error"]]
    sizes = {path.name: path.stat().st_size for path in museum[0].rglob("*") if path.is_file()}
    for row in bad:
        place = row["locator"]
        assert 0 <= place["offset"] <= sizes[place["file"]]
        kind, _, detail = row["error"].partition(": ")
        assert kind.isidentifier()
        assert len(detail) > 5, row
        assert row["text"] is None


def test_with_every_fault_at_once_the_books_balance(museum):
    _, rows, outcomes = museum
    books = balanced(outcomes["documents"])
    assert books["rows"] == len(rows)
    assert books["errors"] == dict(sorted(kinds(rows).items()))
    assert books["skipped"] == {"blank_line": 3 + 64 + 101, "metadata": 1, "request": 1}
    decided = outcomes["decisions"].manifest.ledger
    assert decided["rows"] == len(rows)
    assert decided["rows"] == decided["kept"] + sum(decided["dropped"].values()) + sum(decided["errors"].values())
    assert len({row["doc_id"] for row in rows}) == len(rows)


def test_broken_files_beside_it_change_nothing_about_a_sound_one(museum, tmp_path):
    for place, name in (("lines", "sound.jsonl"), ("tables", "sound.parquet"), ("dumps", "sound.xml")):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).write_bytes((museum[0] / place / name).read_bytes())
    with workspace(
        tmp_path, {label: source for label, source in MUSEUM.items() if label != "archives"}, **STAGES
    ) as made:
        made.run(["documents"])
        alone = documents(made)
    beside = [row for row in museum[1] if row["locator"]["file"].startswith("sound.")]
    assert sorted(alone, key=repr) == sorted(beside, key=repr)


def test_three_workers_make_of_broken_files_what_one_makes(museum, tmp_path):
    write_museum(tmp_path)
    with workspace(tmp_path, MUSEUM, LocalExecutor(3), **STAGES) as made:
        found = {outcome.node.kind: outcome.manifest.digest for outcome in made.run(["decisions"])}
    assert found == {kind: outcome.manifest.digest for kind, outcome in museum[2].items()}


def test_more_errors_than_the_budget_allows_stop_the_run_and_are_told(museum):
    told = r"documents@one did not pass: errors: \d+\.\d+% of .*First: \w+: "
    with workspace(museum[0], MUSEUM, max_error_share=0.01, **STAGES) as made, pytest.raises(LedgerError, match=told):
        made.run(["decisions"])


def test_a_cut_file_keeps_its_complete_lines_and_says_that_it_is_cut(data):
    (data / "a.jsonl.gz").write_bytes(CUT[:-900])
    (data / "b.jsonl").write_bytes(lines("sibling"))
    with workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl*"}}) as made:
        (outcome,) = made.run(["documents"])
        rows = documents(made)
    balanced(outcome)
    assert kinds(rows) == {"truncated": 1}
    numbers = sorted(int(text.split()[0]) for text in texts(rows) if text != "sibling")
    assert numbers == list(range(1, len(numbers) + 1))
    assert 100 < len(numbers) < 399


def test_sources_without_a_record_do_not_pass(data):
    (data / "a.jsonl").write_bytes(b"")
    made = workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl"}}, **STAGES)
    with made, pytest.raises(LedgerError, match="not_empty: 0 rows"):
        made.run(["decisions"])
    (data / "empty").mkdir()
    with (
        workspace(data, {"a": {"use": "jsonl", "uri": "empty"}}) as made,
        pytest.raises(InputError, match="nothing matches"),
    ):
        made.run(["documents"])


# Memory and CPU time

MEASURE = """
import json, resource, sys, time
from factory.core.registry import find_stage
from factory.core.stage import InputFile
from factory.stages.sources.ranged import open_input
def peak():
    try:
        status = open("/proc/self/status").read()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
use, path, size, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
stage = find_stage("source", use)
source = stage.make(stage.config(**settings))
file = InputFile(path, path.rsplit("/", 1)[1], size, "identity")
before, began, errors, rows = peak(), time.process_time(), [], 0
for part in source.split(file, 64 << 20):
    with open_input(file) as stream:
        for batch in source.read(stream, part):
            rows += batch.num_rows
            errors += [error for error in batch.column("error").to_pylist() if error]
print(json.dumps({"rows": rows, "errors": errors, "memory": peak() - before, "seconds": time.process_time() - began}))
"""


def measured(use, path, **settings):
    """Rows, errors, memory beyond that of the libraries and CPU seconds of reading a file in a process of its own."""
    command = [sys.executable, "-c", MEASURE, use, str(path), str(path.stat().st_size), json.dumps(settings)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_a_line_of_300_mb_is_an_error_read_in_little_memory(data):
    path = data / "a.jsonl"
    with path.open("wb") as out:
        out.write(lines("before") + b'{"text": "')
        out.seek(300 * MB, os.SEEK_CUR)  # a hole in the file: read as NULs, and kept nowhere
        out.write(b'"}\n' + lines("after"))
    found = measured("jsonl", path)
    assert (found["rows"], [error.partition(":")[0] for error in found["errors"]]) == (3, ["too_large"])
    assert found["memory"] < 120 * MB
    assert found["seconds"] < 5
    with workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl"}}) as made:
        balanced(made.run(["documents"])[0])
        assert texts(documents(made)) == ["after", "before"]


def gzip_of_gigabyte(path, head=b""):
    """A member of 1 GB of zeros in 1 MB: one packed block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    front = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(16 * MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(front + block * 64)


@pytest.mark.parametrize(("use", "name"), [("jsonl", "a.jsonl.gz"), ("warc", "a.warc.gz"), ("wet", "a.wet.gz")])
def test_a_gigabyte_in_a_megabyte_is_one_error_read_in_little_memory(data, use, name):
    head = record(response(PAGE), length=1 << 31).partition(b"<!doctype")[0] if use != "jsonl" else b'{"text": "'
    gzip_of_gigabyte(data / name, head)
    found = measured(use, data / name)
    assert [error.partition(":")[0] for error in found["errors"]] in (["too_large"], ["too_large", "truncated"])
    assert found["memory"] < 250 * MB
    assert found["seconds"] < 15


def test_a_wiki_that_unpacks_without_end_is_left_in_time(data):
    path = data / "a.xml.bz2"
    path.write_bytes(bz2.compress(WIKI + wiki_page(1)) + bz2.compress(bytes(100 * MB)) * 6)
    found = measured("wikipedia", path)
    assert found["rows"] == 7
    assert {error.partition(":")[0] for error in found["errors"]} == {"too_large"}
    assert found["memory"] < 120 * MB


def table(rows):
    return b"<table>" + b"<tr><td>1<td>2</tr>" * rows + b"</table>"


MONSTERS = {
    "nested": b"<div>" * 100_000 + b"deep",
    "attributes": b"<p " + b" ".join(b"a%d=1" % number for number in range(200_000)) + b">x",
    "table": table(1_000_000),
    "span": b"<table><tr><td colspan=9000000000000000 rowspan=65535>word in a wide cell</td></tr></table>",
    "line": b"<p>" + b"x" * (50 * MB),
    "unclosed": b"<a><b><i>" * 10_000,
    "entities": b"&amp;&lt;&#x41;" * 300_000,
    "comments": b"<!--" * 500_000,
}


def test_monstrous_pages_are_errors_or_texts_in_bounded_time_and_the_rest_is_read(data):
    pages = [record(response(b"<html><body>" + page), number=name) for name, page in MONSTERS.items()]
    sound = [record(response(PAGE % number), number=number) for number in range(2)]
    (data / "a.warc.gz").write_bytes(b"".join(gzip.compress(page, 1) for page in [sound[0], *pages, sound[1]]))
    before = os.times()
    with workspace(data, {"a": {"use": "warc", "uri": "*.warc.gz"}}, extract=[{"use": "resiliparse"}]) as made:
        (outcome,) = made.run(["documents"])
        rows = documents(made)
    after = os.times()
    assert balanced(outcome)["records"] == len(MONSTERS) + 2
    assert kinds(rows)["too_large"] >= 3
    assert set(kinds(rows)) <= {"too_large", "no_text"}
    assert [row["error"] for row in (rows[0], rows[-1])] == [None, None]
    assert after.children_user + after.children_system - before.children_user - before.children_system < 60


def test_a_page_too_much_for_its_worker_costs_that_page(data, faulty_stages):
    (data / "a.jsonl").write_bytes(lines("one", "SEGFAULT", "two", "ABORT", "three"))
    with workspace(
        data, {"a": {"use": "jsonl", "uri": "*.jsonl"}}, FaultExecutor(1), extract=[{"use": "deadly_extractor"}]
    ) as made:
        (outcome,) = made.run(["documents"])
        rows = documents(made)
    assert balanced(outcome)["errors"] == {"crashed": 2}
    assert texts(rows) == ["one", "three", "two"]
    assert {row["error"] for row in rows if row["error"]} == {"crashed: its worker process died on it"}
    assert [row["locator"]["offset"] for row in rows if row["error"]] == [
        len(lines("one")),
        len(lines("one", "SEGFAULT", "two")),
    ]


@pytest.fixture
def faulty_stages(monkeypatch):
    """The stages of fault_stages in the catalogue of this process, until the test ends."""
    registry.stages()
    monkeypatch.setattr(registry, "_stages", dict(registry._stages))
    for module in MODULES:
        known = sys.modules.get(module)
        importlib.reload(known) if known else importlib.import_module(module)


def test_a_scorer_that_raises_or_dies_on_a_row_leaves_that_row_without_a_score(data, faulty_stages):
    (data / "a.jsonl").write_bytes(lines("four", "RAISE", "three", "SEGFAULT", "x"))
    (data / "b.jsonl").write_bytes(lines("sibling"))
    sections = {
        "scorers": {"size": {"use": "brittle_scorer"}},
        "filters": {"long": {"use": "in_range", "column": "size_length", "min": 2}},
    }
    source = {"a": {"use": "jsonl", "uri": "*.jsonl"}}
    with workspace(data, source, FaultExecutor(1), **sections, experiments={"all": {}}) as made:
        outcomes = {outcome.node.kind: outcome for outcome in made.run(["decisions"])}
        parts = made.need("scores", "size", "one").parts
        lengths = [value for part in parts for value in read_part(made.store, part).column("length").to_pylist()]
    assert sorted(lengths, key=repr) == sorted([4, None, 5, None, 1, 7], key=repr)
    assert outcomes["scores"].manifest.notes["failed"] == 2
    assert any(
        "RuntimeError: this text is not to my taste" in cause for cause in outcomes["scores"].manifest.notes["causes"]
    )
    ledger = {"rows": 6, "kept": 3, "dropped": {"long": 1}, "errors": {"crashed": 2}}
    assert outcomes["decisions"].manifest.ledger == ledger
    strict = workspace(data, source, FaultExecutor(1), max_error_share=0.1, **sections, experiments={"all": {}})
    with strict, pytest.raises(LedgerError, match="computed: 2 of 6 rows could not be computed: crashed: "):
        strict.run(["decisions"])


def test_a_document_whose_score_crashed_is_not_kept_by_a_rule_that_asks_for_absence(data, faulty_stages):
    (data / "a.jsonl").write_bytes(lines("four", "RAISE", *("x" * n for n in range(1, 40))))
    sections = {
        "scorers": {"size": {"use": "brittle_scorer"}},
        "filters": {"without": {"use": "is_absent", "column": "size_length"}},
    }
    with workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl"}}, FaultExecutor(1), **sections) as made:
        (outcome,) = [outcome for outcome in made.run(["decisions"]) if outcome.node.kind == "decisions"]
    assert outcome.manifest.ledger["kept"] == 0
    assert outcome.manifest.ledger["errors"] == {"crashed": 1}


# Files that are not what they seem


def test_a_file_of_many_names_is_read_once_and_a_circle_of_links_ends(data):
    (data / "x").mkdir()
    (data / "x" / "a.jsonl").write_bytes(lines("one", "two"))
    (data / "x" / "again.jsonl").symlink_to("a.jsonl")
    os.link(data / "x" / "a.jsonl", data / "x" / "hard.jsonl")
    (data / "x" / "circle").symlink_to(data)
    (data / "y").symlink_to(data / "x")
    for uri in (".", "**/*.jsonl", "*/*.jsonl"):
        with workspace(data, {"a": {"use": "jsonl", "uri": uri}}) as made:
            assert balanced(made.run(["documents"])[0])["rows"] == 2
            (file,) = made.inputs["one"]["a"]
            assert file.name.endswith("x/a.jsonl")


def test_files_behind_a_link_to_a_folder_are_read(data, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "b.jsonl").write_bytes(lines("behind a link"))
    (data / "near").mkdir()
    (data / "near" / "a.jsonl").write_bytes(lines("near"))
    (data / "far").symlink_to(tmp_path / "disk")
    for uri in ("*/*.jsonl", "."):
        with workspace(data, {"a": {"use": "jsonl", "uri": uri}}) as made:
            made.run(["documents"])
            assert texts(documents(made)) == ["behind a link", "near"]


@pytest.mark.parametrize("what", ["dangling", "of itself", "pipe"])
def test_what_is_no_file_is_named_and_never_waited_for(data, what):
    (data / "a.jsonl").write_bytes(lines("one"))
    place = data / "b.jsonl"
    if what == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("nowhere.jsonl" if what == "dangling" else "b.jsonl")
    made = workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl"}})
    with made, pytest.raises(InputError, match=r"b\.jsonl: .*narrow the source's uri"):
        made.run(["documents"])


def test_other_bytes_are_never_kept_under_the_identity_of_what_was_there_before(data):
    path = data / "a.jsonl"
    path.write_bytes(lines("before"))
    source = {"a": {"use": "jsonl", "uri": "*.jsonl"}}
    with workspace(data, source) as made:
        made.plan()
        path.write_bytes(lines("after!"))  # of the same size
        with pytest.raises(InputError, match=r"a\.jsonl changed while it was read\. Run again"):
            made.run(["documents"])
    for content in ("after!", "before"):
        path.write_bytes(lines(content))
        with workspace(data, source) as made:
            (outcome,) = made.run(["documents"])
            assert (outcome.made, texts(documents(made))) == (True, [content])


class AppendAtFirst(Silent):
    """Somebody who appends to a file when the first part of it is done."""

    def __init__(self, path):
        self.path, self.done = path, False

    def advance(self, amount):
        if not self.done:
            self.done = True
            with self.path.open("ab") as out:
                out.write(lines("more"))


def test_a_file_that_grows_between_its_parts_is_taken_whole_or_not_at_all(data):
    path = data / "a.jsonl"
    path.write_bytes(lines(*(WORDS.format(number) for number in range(20_000))))
    source = {"a": {"use": "jsonl", "uri": "*.jsonl", "part_bytes": MB // 4}}
    with workspace(data, source) as made:
        made.progress = AppendAtFirst(path)
        with pytest.raises(InputError, match="changed while it was read"):
            made.run(["documents"])
        assert made.progress.done
        assert made.find("documents", "", "one") is None
    with workspace(data, source) as made:
        assert balanced(made.run(["documents"])[0])["rows"] == 20_001


QUALITY = {"use": "fasttext_quality", "negatives": "a", "documents": 20, "dim": 4, "bucket": 1_000}


@pytest.fixture
def references(data):
    """Two files of one name in two folders, that a model learns from; the source beside them."""
    for folder in ("good/a", "good/b"):
        (data / folder).mkdir(parents=True)
        (data / folder / "part.jsonl").write_bytes(lines(*(f"good words {folder} {number}" for number in range(25))))
    (data / "web.jsonl").write_bytes(lines(*(WORDS.format(number) for number in range(40))))

    def make():
        scorers = {"quality": {**QUALITY, "positives": "good/*/*.jsonl"}}
        return workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl"}}, scorers=scorers)

    return make


@pytest.mark.parametrize("folder", ["a", "b"])
def test_every_reference_counts_whatever_its_name(references, data, folder):
    with references() as made:
        made.run(["models"])
    (data / "good" / folder / "part.jsonl").write_bytes(lines("something else altogether"))
    with references() as made:
        assert {status.node.name: status.state for status in made.plan()}["models/quality"] == "make"


def test_a_reference_that_changes_after_the_plan_stops_the_run(references, data):
    with references() as made:
        made.plan()
        (data / "good" / "b" / "part.jsonl").write_bytes(lines("something else altogether"))
        with pytest.raises(InputError, match=r"a file of good/\*/\*\.jsonl changed while the recipe ran"):
            made.run(["models"])
        assert made.find("models", "quality") is None


def test_an_id_that_two_documents_share_stops_the_run_with_both_places(data):
    (data / "a.jsonl").write_bytes(lines("one", id="x") + lines("two", id="y"))
    (data / "b.jsonl").write_bytes(lines("zero") + lines("three", id="x"))
    with workspace(data, {"a": {"use": "jsonl", "uri": "*.jsonl"}}, **STAGES) as made:
        place = len(lines("zero"))
        with pytest.raises(
            LedgerError,
            match=rf"1 doc_ids are there more than once, such as .* at a\.jsonl\+0, .* at b\.jsonl\+{place}\. Give",
        ):
            made.run(["decisions"])
        assert made.find("documents", "", "one") is None


def test_shards_without_a_text_column_or_with_another_type_are_named_and_nothing_is_published(data):
    pq.write_table(pa.table({"text": ["one"], "id": ["a"]}), data / "a.parquet")
    source = {"a": {"use": "parquet", "uri": "*.parquet"}}
    for column, told in (
        ({"body": ["two"]}, "has no column 'text'.*body"),
        ({"text": [2.5]}, "'text' is double, not text"),
    ):
        pq.write_table(pa.table(column), data / "b.parquet")
        with workspace(data, source, **STAGES) as made:
            with pytest.raises(InputError, match=rf"b\.parquet.*{told}"):
                made.run(["decisions"])
            assert made.find("documents", "", "one") is None


def test_shards_may_differ_in_what_is_beside_the_text(data):
    pq.write_table(pa.table({"text": ["one"], "id": ["a"], "n": [1]}), data / "a.parquet")
    pq.write_table(pa.table({"extra": ["e"], "text": ["two"], "n": ["x"]}), data / "b.parquet")
    with workspace(data, {"a": {"use": "parquet", "uri": "*.parquet"}}) as made:
        balanced(made.run(["documents"])[0])
        rows = sorted(documents(made), key=lambda row: row["text"])
    assert [(row["text"], json.loads(row["meta"])) for row in rows] == [
        ("one", {"n": 1}),
        ("two", {"extra": "e", "n": "x"}),
    ]


# Nothing that stands in a document is fetched, and nothing in it takes long


@pytest.fixture
def listener():
    """A server that nobody may talk to: its address; the test fails if somebody did, by whatever library."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def documents_with_entities(address, canary):
    """(media type, content): entities within each other, of a file and of an address, and whatever else names an address."""
    grow = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha" * 10}">' for n in range(10))
    dtd = f'<!DOCTYPE x SYSTEM "{address}/a.dtd" [<!ENTITY f SYSTEM "{canary}"><!ENTITY u SYSTEM "{address}/u">{grow}]>'
    body = "<p>Words of the page that everybody may read.</p><p>&f; &u; &l9;</p>"
    loads = f"<link rel=stylesheet href={address}/c><img src={address}/i><iframe src={address}/f></iframe>"
    image = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{address}/i"/><text>&l9;</text></svg>'
    xhtml = f'<?xml version="1.0"?>{dtd}<html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body></html>'
    yield "application/xhtml+xml", xhtml
    yield "text/html", f"{dtd}<html><head><base href={address}/></head><body>{loads}{body}</body></html>"
    yield "text/html", f"<html><body>{image}{body}</body></html>"
    yield "application/rss+xml", f"{dtd}<rss><channel><item><title>&l9;</title></item></channel></rss>"
    yield "application/atom+xml", f"{dtd}<feed><entry><title>&f;</title></entry></feed>"
    yield "text/xml", f"{dtd}<urlset><url><loc>{address}/p</loc></url></urlset>"
    yield "image/svg+xml", f"{dtd}{image}"


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_entities_are_not_expanded_and_nothing_is_fetched(data, tmp_path, listener, extractor):
    canary = tmp_path / "canary.txt"
    canary.write_text("a secret of this machine")
    made_of = list(documents_with_entities(listener, canary.as_uri()))
    records = [
        record(response(text.encode(), media=media), number=number) for number, (media, text) in enumerate(made_of)
    ]
    (data / "a.warc").write_bytes(b"".join([*records, record(response(PAGE % 7), number="sound")]))
    (data / "b.xml").write_bytes(
        WIKI
        + wiki_page(0, b"Wort " * 20_000)
        + wiki_page(1, b"&f;", f'<!DOCTYPE x [<!ENTITY f SYSTEM "{canary.as_uri()}">]>'.encode())
        + wiki_page(2)
        + b"</mediawiki>"
    )
    sources = {"web": {"use": "warc", "uri": "*.warc"}, "wiki": {"use": "wikipedia", "uri": "*.xml"}}
    with workspace(data, sources, extract=[{"use": extractor}]) as made:
        books = balanced(made.run(["documents"])[0])
        rows = documents(made)
    assert books["records"] == len(made_of) + 4
    assert "a secret" not in json.dumps(rows, default=str)
    assert not [row for row in rows if "ha" * 20 in (row["text"] or "") or len(row["text"] or "") > 200_000]
    assert [row["error"] is None for row in rows if row["source"] == "wiki"] == [True, False, True]
    assert "number 7" in "".join(row["text"] or "" for row in rows)


# What patterns see is shorter, or has been through something, before they see it: (the change, where it is made).
PREPARED = {
    "factory.stages.sources.text._HEADING": lambda text: text[:600],  # _first_heading looks at so much of a line
    "factory.stages.sources.wikitext._HEADING": lambda text: hostile_strings.single_spaces(text),  # and so does _lines
}
# Kept in a record of settings and called from there, with `match` alone.
WAYS = {
    "factory.stages.sources.archives._WARC_BEGINS": ("match",),
    "factory.stages.sources.arc.ARC_BEGINS": ("match",),
}


class TooLongError(Exception):
    """A pattern took longer than it may."""


@pytest.fixture
def cpu_of():
    """CPU seconds of a use of a pattern, at most two."""

    def ring(*_):
        raise TooLongError

    def measure(pattern, way, text):
        signal.setitimer(signal.ITIMER_VIRTUAL, 2.0)
        began = time.process_time()
        try:
            use(pattern, way, text)
        except TooLongError:
            return 2.0
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return time.process_time() - began

    before = signal.signal(signal.SIGVTALRM, ring)
    yield measure
    signal.signal(signal.SIGVTALRM, before)


def use(pattern, way, text):
    if isinstance(pattern.pattern, bytes):
        text = text.encode("utf-8", "replace")
    if way in ("sub", "subn"):
        getattr(pattern, way)(text[:0], text)
    else:
        found = getattr(pattern, way)(text)
        if way == "finditer":
            for _ in found:
                pass


def test_no_pattern_takes_long_on_text_made_against_it(cpu_of):
    """A megabyte in less than two CPU seconds. Time is taken on a little first: where it grows no faster than the text, the
    megabyte follows from it."""
    found = hostile_strings.patterns()
    assert len(found) > 100
    slow = []
    for name, (pattern, ways) in found.items():
        prepare = PREPARED.get(name, lambda text: text)
        for attack in hostile_strings.attacks(pattern.pattern, pattern.flags):
            for way in WAYS.get(name, ways):
                little, more, whole = (prepare(hostile_strings.string(attack, size)) for size in (1 << 14, 1 << 16, MB))
                first = cpu_of(pattern, way, little)
                if first < 0.0004:  # also a square of this would be done in two seconds
                    continue
                second = cpu_of(pattern, way, more)
                if second < 0.1 and second < 7 * first:
                    continue
                if second >= 2 or cpu_of(pattern, way, whole) >= 2:
                    slow.append(f"{name}.{way} on {attack}")
        if len(slow) > 3:
            break
    assert slow == []


HOSTILE_TEXTS = (
    *(
        "a",
        " ",
        "\n",
        "a ",
        "a\n",
        ".",
        "-",
        "(",
        "1 ",
        "12-",
        "a@",
        "a@a.",
        "http://",
        "http://a.b/ ",
        "<a ",
        "</div>",
        "{{",
    ),
    *(
        "a" + "\u0301" * 50,
        "中",
        "ก",
        "\U0001f469\u200d",
        "\\begin{",
        "$",
        "Ã©",
        "\x80",
        "+1 (555) ",
        "eyJa.",
        "\xa0",
        "DE89 ",
    ),
)
READ_AS_TEXT = [
    stage
    for stage in stages()
    if stage.kind in ("normalizer", "scorer", "linker", "rewriter")
    and (EXAMPLES / f"{stage.name}@{stage.version}.json").exists()
]


@pytest.mark.parametrize("stage", READ_AS_TEXT, ids=lambda stage: stage.name)
def test_the_time_of_a_stage_grows_with_the_text_whatever_stands_there(stage, tmp_path):
    example = json.loads((EXAMPLES / f"{stage.name}@{stage.version}.json").read_text())
    config = stage.config(**example["config"])
    reads = stage.reads_for(config)
    if not {"text", "url"} & set(reads) or not set(reads) <= set(DOCUMENT.names):
        pytest.skip("reads what other stages wrote")
    model = [str(tmp_path / stage.train.file)] if stage.train is not None else []
    if stage.train is not None:
        stage.train.fit(config, example["learns"], str(tmp_path), 0)
    function = stage.make(config, *model)

    def seconds(text):
        given = {"text": text, "url": f"http://a.test/{text}"}
        columns = {name: pa.array([given.get(name)], DOCUMENT.field(name).type) for name in reads}
        began = time.process_time()
        function(pa.RecordBatch.from_pydict(columns))
        return time.process_time() - began

    def grows_too_fast(piece):
        """A square of the length would be sixteen times as much, and what is next to nothing may be anything."""
        least, most = (min(seconds((piece * size)[:size]) for _ in range(2)) for size in (MB // 16, MB // 4))
        return most > 0.2 and most > 9 * least

    seconds("words to warm up with")
    slow = [piece for piece in HOSTILE_TEXTS if grows_too_fast(piece)]
    assert slow == []


# Load


def test_a_busy_machine_changes_no_byte(data, tmp_path):
    body = b"".join(b"<p>%s</p>" % (WORDS.format(number) * 3).encode() for number in range(300))
    page = b"<html><body><main>" + body + b"</main></body></html>"
    for folder in ("idle", "busy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.warc.gz").write_bytes(warc_gz([record(response(page), number=n) for n in range(6)]))

    def digests(folder):
        source = {"a": {"use": "warc", "uri": "*.warc.gz"}}
        with workspace(tmp_path / folder, source, **STAGES) as made:
            return {outcome.node.name: outcome.manifest.digest for outcome in made.run(["decisions"])}

    idle = digests("idle")
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        busy = digests("busy")
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert busy == idle
