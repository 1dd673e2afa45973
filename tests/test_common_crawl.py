"""Crawls over HTTP: the bytes are the right ones whatever the network does, and an index gives exactly the records it names."""

import gzip
import io
import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from range_server import serve

from factory.core.errors import FactoryError, InputError, RecipeError
from factory.core.registry import find_stage
from factory.core.stage import InputFile, InputPart
from factory.execution.local import LocalExecutor
from factory.recipes import listings
from factory.recipes.explain import explain
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.stages.sources import ranged
from factory.stages.sources.archives import frames
from factory.stages.sources.common_crawl import GAP, Entry, plan_runs
from factory.stages.sources.headers import read_headers
from factory.stages.sources.ranged import Client, Patience, RangedFile, identity_of

DATA = Path(__file__).parents[2] / "shared" / "data"
QUICK = Patience(attempts=4, first_pause=0.001, longest_pause=0.01, silence=5)
BYTES = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def server():
    with serve() as running:
        yield running


@pytest.fixture
def quick(monkeypatch):
    """The client every source uses, with short pauses; closed at the end."""
    made = Client(QUICK)
    monkeypatch.setattr(ranged, "_client_of", lambda _pid: made)
    yield made
    made.close()


# Ranges


FAULTS = [(503, "0"), (429, "0"), "cut", "wrong", "reset", "slow"]


@pytest.mark.parametrize("faults", [*([fault] for fault in FAULTS), ["cut"] * 6, FAULTS], ids=str)
def test_whatever_the_network_does_the_bytes_are_those_asked_for(server, quick, faults):
    server.files["/a"], server.faults["/a"] = BYTES, list(faults)
    assert quick.read(f"{server.url}/a", 1000, 1_500_000) == BYTES[1000:1_500_000]
    assert server.faults["/a"] == []


def test_a_range_that_broke_off_goes_on_where_it_stopped(server, quick):
    server.files["/a"], server.faults["/a"] = BYTES, ["cut"]
    quick.read(f"{server.url}/a", 0, 1_000_000)
    assert [headers["Range"] for _, _, headers in server.requests] == ["bytes=0-999999", "bytes=500000-999999"]


def test_it_says_who_asks_and_uses_its_connection_again(server, quick):
    server.files["/a"] = BYTES
    for start in range(0, 100_000, 10_000):
        quick.read(f"{server.url}/a", start, start + 10)
    assert all(headers["User-Agent"].startswith("corpus-factory/") for _, _, headers in server.requests)
    assert len(quick._idle[server.url]) == 1


def test_it_gives_up_when_nothing_comes_any_more(server, quick):
    server.files["/a"], server.faults["/a"] = BYTES, [(503, "0")] * 20
    with pytest.raises(InputError, match=r"answers 503 \(4 attempts in a row brought nothing\)"):
        quick.read(f"{server.url}/a", 0, 10)
    assert len(server.requests) == QUICK.attempts


@pytest.mark.parametrize(
    ("path", "faults", "message"),
    [
        ("/none", [], "answers 404: there is no such file"),
        ("/a", [(403, "0")], "answers 403: access is refused"),
        ("/a", ["whole"], "ignores Range"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(server, quick, path, faults, message):
    server.files["/a"], server.faults[path] = BYTES, faults
    with pytest.raises(InputError, match=message):
        quick.read(f"{server.url}{path}", 0, 10)
    assert len(server.requests) == 1


def test_a_file_that_changed_is_an_error(server, quick):
    server.files["/a"] = BYTES
    pinned = identity_of(*quick.look_up(f"{server.url}/a"))
    stream = RangedFile(f"{server.url}/a", len(BYTES), pinned, quick)
    assert stream.read(10) == BYTES[:10]
    server.etag = '"two"'
    stream.seek(2_000_000)
    with pytest.raises(InputError, match="changed since its content was pinned"):
        stream.read(10)


def test_a_stream_gives_the_bytes_of_the_file_in_any_order(server, quick):
    server.files["/a"] = BYTES
    stream, chance = RangedFile(f"{server.url}/a", len(BYTES), None, quick), random.Random(2)
    for _ in range(30):
        at, size = chance.randrange(len(BYTES)), chance.choice([1, 100, 300_000, 4_000_000])
        stream.seek(at)
        assert stream.read(size) == BYTES[at : at + size]
    stream.seek(0)
    assert stream.read() == BYTES


def test_a_host_that_is_not_there_is_said_so(quick):
    with pytest.raises(InputError, match="refuses the connection"):
        quick.read("http://127.0.0.1:9/a", 0, 10)
    with pytest.raises(InputError, match="is this machine online"):
        quick.look_up("http://no-such-host.invalid/a")


def test_a_server_without_head_is_asked_for_a_byte(server, quick):
    server.files["/a"] = BYTES
    handler = server.RequestHandlerClass
    no_head = {"do_HEAD": lambda self: self.plain(405, b"", {}, body=False)}
    server.RequestHandlerClass = type("NoHead", (handler,), no_head)
    assert quick.look_up(f"{server.url}/a").size == len(BYTES)


def test_redirects_are_followed_and_never_to_something_less_safe(server, quick):
    server.files["/b"] = BYTES
    server.moved["/a"] = "/b"
    assert quick.read(f"{server.url}/a", 5, 50) == BYTES[5:50]
    server.moved["/loop"] = "/loop"
    with pytest.raises(InputError, match="redirects"):
        quick.read(f"{server.url}/loop", 0, 10)
    with pytest.raises(InputError, match="not https"):
        ranged._follow("https://a.example/x", "https://a.example/x", "http://a.example/x")


# Index slices


@pytest.fixture(scope="module")
def archives():
    """Name to bytes of the crawl's archives, and an index row for each response."""
    if not DATA.exists():
        pytest.skip("the real data is not here")
    lines = zstandard.decompress((DATA / "warc" / "pages.jsonl.zst").read_bytes(), max_output_size=1 << 26).split(b"\n")
    known = {page["record_id"]: page for page in map(json.loads, filter(None, lines))}
    files, rows = {}, []
    for path in sorted((DATA / "warc").glob("crawl-2024*.warc.gz")):
        name, data = f"crawl-data/CC-MAIN-2024-10/warc/{path.name}", path.read_bytes()
        files[name] = data
        part = InputPart(InputFile(name, name, len(data), ""), 0, len(data))
        for frame in frames(io.BytesIO(data), part, 1 << 30):
            head = read_headers(frame.head)
            if head.get("warc-type") != "response":
                continue
            page = known[head["warc-record-id"]]
            rows.append(
                {
                    "url": head["warc-target-uri"],
                    "url_host_registered_domain": ".".join(page["host"].split(".")[-2:]),
                    "fetch_status": 200,
                    "content_digest": page["payload_digest"].removeprefix("sha1:"),
                    "content_mime_detected": "text/html",
                    "content_languages": {"de": "deu", "en": "eng"}.get(page["html_lang"]),
                    "content_truncated": None,
                    "warc_filename": name,
                    "warc_record_offset": frame.offset,
                    "warc_record_length": frame.length,
                }
            )
    return files, rows


INDEX = pa.schema(
    [
        *((name, pa.string()) for name in ("url", "url_host_registered_domain")),
        ("fetch_status", pa.int16()),
        *((name, pa.string()) for name in ("content_digest", "content_mime_detected", "content_languages")),
        ("content_truncated", pa.string()),
        ("warc_filename", pa.string()),
        ("warc_record_offset", pa.int32()),
        ("warc_record_length", pa.int32()),
    ]
)


def as_parquet(rows, row_group_size=64):
    sink = io.BytesIO()
    rows = sorted(rows, key=lambda row: row["url"])
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX), sink, row_group_size=row_group_size)
    return sink.getvalue()


def read_slice(data, archive, name="part-0.parquet", part_bytes=1 << 40, **config):
    stage = find_stage("source", "common_crawl")
    source = stage.make(stage.config(archive=archive, **config))
    rows, skipped = [], Counter()
    for part in source.split(InputFile(name, name, len(data), "identity"), part_bytes):
        for batch in source.read(io.BytesIO(data), part):
            batch.validate(full=True)
            rows += batch.to_pylist()
            skipped.update(json.loads((batch.schema.metadata or {}).get(b"skipped", b"{}")))
    return rows, skipped


@pytest.fixture
def crawl(server, quick, archives):
    files, rows = archives
    server.files |= {f"/{name}": data for name, data in files.items()}
    return server, rows


def test_a_hundred_rows_of_the_index_give_their_records_and_no_other(crawl):
    server, rows = crawl
    chosen = random.Random(3).sample([row for row in rows if re.match("https?://", row["url"])], 100)
    found, skipped = read_slice(as_parquet(chosen), server.url, mime=[])
    assert len(found) + sum(skipped.values()) == 100
    problems = Counter(row["error"].partition(":")[0] for row in found if row["error"])
    assert not {"digest", "mismatch", "truncated", "gzip", "parse"} & set(problems)
    by_place = {(row["warc_filename"], row["warc_record_offset"]): row for row in chosen}
    for row in found:
        wanted = by_place.pop((row["locator"]["file"], row["locator"]["offset"]))
        assert (row["url"], row["locator"]["length"]) == (wanted["url"], wanted["warc_record_length"])
    assert sum(skipped.values()) == len(by_place)


def test_a_slice_holds_what_reading_the_whole_archive_holds(crawl, archives):
    server, rows = crawl
    name = rows[0]["warc_filename"]
    data = archives[0][name]
    whole = find_stage("source", "warc")
    source = whole.make(whole.config())
    part = InputPart(InputFile(name, name, len(data), ""), 0, len(data))
    pages = {row["key"]: row for batch in source.read(io.BytesIO(data), part) for row in batch.to_pylist()}
    found, _ = read_slice(as_parquet(rows[:40]), server.url)
    assert found
    for row in found:
        page = pages[row["key"]]
        assert (row["payload"], row["date"], row["locator"]) == (page["payload"], page["date"], page["locator"])


def test_faults_and_cuts_change_nothing(crawl):
    server, rows = crawl
    index = as_parquet(rows[::29])
    calm, _ = read_slice(index, server.url)
    for path in server.files:
        server.faults[path] = [(503, "0"), "cut", "wrong", "reset"]
    assert read_slice(index, server.url)[0] == calm
    in_parts, _ = read_slice(index, server.url, part_bytes=2_000)
    assert sorted(in_parts, key=repr) == sorted(calm, key=repr)
    assert [(row["locator"]["file"], row["locator"]["offset"]) for row in calm] == sorted(
        (row["locator"]["file"], row["locator"]["offset"]) for row in calm
    )


def test_no_more_than_four_requests_are_under_way(crawl):
    server, rows = crawl
    for path in server.files:
        server.faults[path] = ["slow"] * 8
    read_slice(as_parquet(rows[::90]), server.url)
    assert 1 < server.most_under_way <= ranged.CONCURRENCY


def test_a_local_folder_is_an_archive_too(crawl, archives, tmp_path):
    server, rows = crawl
    for name, data in archives[0].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    index = as_parquet(rows[:20])
    assert read_slice(index, str(tmp_path))[0] == read_slice(index, server.url)[0]


def test_records_that_are_not_what_the_index_says_are_errors(crawl):
    server, rows = crawl
    good, other = rows[10], rows[11]
    wrong = [
        {**good, "content_digest": "A" * 32},
        {**rows[12], "url": "https://example.org/"},
        {**other, "warc_record_length": other["warc_record_length"] - 9},
        {**rows[13], "warc_record_offset": rows[13]["warc_record_offset"] + 5},
        {**rows[14], "warc_record_offset": 1 << 30},
        {**rows[15], "warc_filename": "../etc/passwd"},
        {**rows[16], "warc_record_length": None},
    ]
    found, _ = read_slice(as_parquet(wrong), server.url)
    problems = sorted(row["error"].partition(":")[0] for row in found)
    assert problems[:3] == ["digest", "gzip", "index"]
    assert problems.count("index") == 2
    assert {"mismatch", "truncated"} <= set(problems)
    assert len(found) == len(wrong)
    assert all(row["text"] is None and row["payload"] is None for row in found)


def test_settings_choose_rows_and_the_others_are_counted(crawl):
    server, rows = crawl
    index = as_parquet(rows)
    german = [row for row in rows if row["content_languages"] == "deu"]
    found, skipped = read_slice(index, server.url, languages=["deu"], limit=12)
    assert len(found) + sum(skipped.values()) == len(rows)
    assert skipped["not_chosen"] == len(rows) - len(german)
    assert {row["url"] for row in found} <= {row["url"] for row in german}
    domain = Counter(row["url_host_registered_domain"] for row in rows).most_common()[-1][0]
    alone, _ = read_slice(index, server.url, domains=[domain])
    assert {row["host"].endswith(domain) for row in alone} == {True}


def test_a_larger_limit_contains_the_smaller_one(crawl):
    server, rows = crawl
    index = as_parquet(rows)
    few, many = ({row["key"] for row in read_slice(index, server.url, limit=n)[0]} for n in (5, 15))
    assert few < many


def test_an_index_of_json_lines_gives_the_same_rows(crawl):
    server, rows = crawl
    names = {
        "url": "url",
        "content_digest": "digest",
        "warc_filename": "filename",
        "content_mime_detected": "mime-detected",
        "content_languages": "languages",
    }
    lines = []
    for row in rows[:25]:
        said = {new: row[old] for old, new in names.items() if row[old]}
        said |= {"offset": str(row["warc_record_offset"]), "length": str(row["warc_record_length"]), "status": "200"}
        lines.append(f"org,example)/ 20240301120000 {json.dumps(said)}\n".encode())
    expected = read_slice(as_parquet(rows[:25]), server.url)[0]
    plain = b"".join(lines)
    assert read_slice(plain, server.url, name="cdx-00000")[0] == expected
    assert read_slice(gzip.compress(plain), server.url, name="cdx-00000.gz")[0] == expected
    broken, _ = read_slice(plain + b"no such line\n", server.url, name="index.cdxj")
    assert [row["error"] for row in broken if row["error"]] == ["cdx: no line 'key timestamp {json}' of a CDXJ index"]


def test_a_real_index_of_json_lines_is_read():
    if not DATA.exists():
        pytest.skip("the real data is not here")
    folder = DATA / "warc_wild"
    index = (folder / "pywb__dupes.cdxj").read_bytes()
    index = index.replace(b'"dupes.warc.gz"', b'"pywb__dupes.warc.gz"')
    found, skipped = read_slice(index, str(folder), name="dupes.cdxj")
    assert [row["error"] for row in found if row["error"]] == []
    assert len(found) + sum(skipped.values()) == index.count(b"\n")


def test_an_index_without_a_needed_column_is_refused():
    table = pa.table({"url": ["http://a.example/"], "warc_filename": ["x"]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(InputError, match=r"no column 'warc_record_offset' .* 'fetch_status' \(for status\)"):
        read_slice(sink.getvalue(), "https://data.commoncrawl.org/")


def entries(*places):
    return [Entry("f", offset, length, "http://u", None, None, None) for offset, length in places]


def test_ranges_are_joined_over_gaps_of_less_than_a_mebibyte():
    runs = plan_runs(entries((0, 10), (10 + GAP - 1, 10), (20 + 2 * GAP, 10)))
    assert [(run.start, run.stop) for run in runs] == [(0, GAP + 19), (2 * GAP + 20, 2 * GAP + 30)]


def test_a_file_is_read_through_when_more_than_thirty_percent_is_chosen():
    chosen = entries(*((place * 3 * GAP, GAP) for place in range(5)))
    assert len(plan_runs(chosen, size=100 * GAP)) == 5
    assert len(plan_runs(chosen, size=15 * GAP)) == 1


def test_every_entry_is_in_exactly_one_run():
    chance = random.Random(5)
    places = sorted((chance.randrange(1 << 28), chance.randrange(1, 1 << 20)) for _ in range(300))
    for size in (None, 1 << 28):
        runs = plan_runs(entries(*places), size)
        assert [(e.offset, e.length) for run in runs for e in run.entries] == places
        assert all(run.start <= e.offset and e.offset + e.length <= run.stop for run in runs for e in run.entries)


# Lists of paths, in a recipe


RECIPE = """
name: cc
store: store
tokenizer: none
sources:
  crawl: {{use: {use}, uri: "{uri}", {more}}}
extract: [{{use: resiliparse}}]
experiments: {{raw: {{}}}}
"""


def recipe(folder, use="warc", uri="warc.paths.gz", more="part_bytes: 1048576"):
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(use=use, uri=uri, more=more))
    return load_recipe(str(path))


@pytest.fixture
def listed(server, quick):
    """Twenty small archives of a crawl, and their list."""
    page = b"<html><body><p>Words of page %d, enough of them to be read as a text by people.</p></body></html>"
    paths = []
    for number in range(20):
        body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page % number
        head = (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}>\r\nWARC-Date: 2024-03-01T00:00:00Z\r\n"
            f"WARC-Target-URI: http://a.example/{number}\r\nContent-Type: application/http; msgtype=response\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        path = f"crawl-data/CC-MAIN-2024-10/segments/1/warc/{number:05}.warc.gz"
        server.files[f"/{path}"] = gzip.compress(head.encode() + body + b"\r\n\r\n", mtime=0)
        paths.append(path)
    server.files["/crawl-data/CC-MAIN-2024-10/warc.paths.gz"] = gzip.compress("\n".join(paths).encode() + b"\n")
    return server


def test_a_list_of_paths_is_a_snapshot_and_planning_downloads_nothing(listed, tmp_path):
    uri = f"{listed.url}/crawl-data/CC-MAIN-2024-10/warc.paths.gz"
    made = recipe(tmp_path, uri=uri, more=f"base: {listed.url}/")
    with Workspace(made, LocalExecutor(1)) as workspace:
        assert workspace.snapshots == ["CC-MAIN-2024-10"]
        assert len(workspace.inputs["CC-MAIN-2024-10"]["crawl"]) == 20
        assert listed.counts() == {"HEAD": 20, "GET": 1}
        workspace.refresh()
        assert workspace.snapshots
    assert listed.counts() == {"HEAD": 20, "GET": 2}, "what a list's files are is remembered"


def test_a_listed_crawl_is_made_over_http(listed, tmp_path):
    uri = f"{listed.url}/crawl-data/CC-MAIN-2024-10/warc.paths.gz"
    made = recipe(tmp_path, uri=uri, more=f"base: {listed.url}/, limit_files: 4, every: 2")
    with Workspace(made, LocalExecutor(1)) as workspace:
        outcomes = workspace.run(["documents"])
        assert [(outcome.manifest.rows, outcome.passed) for outcome in outcomes] == [(4, True)]


def test_a_choice_of_paths_is_by_hash_and_grows():
    paths = [f"a/{number}.warc.gz" for number in range(1000)]
    assert listings.choose(paths, every=1, limit=None) == sorted(paths)
    tenth = listings.choose(paths, every=10, limit=None)
    assert 60 < len(tenth) < 150
    assert listings.choose(paths[::-1], every=10, limit=None) == tenth
    small, large = (set(listings.choose(paths, every=1, limit=n)) for n in (10, 50))
    assert len(small) == 10
    assert small < large


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("part_bytes: 1048576", "say what they are below"),
        ("base: 'https://x.example/', every: 0", "every: at least 1"),
        ("base: 3", "base: str is meant"),
    ],
)
def test_settings_of_a_list_that_cannot_be_are_said_so(tmp_path, more, message):
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, more=more)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"../../etc/passwd\n", "no path below a base"),
        (b"https://other.example/x\n", "no path below a base"),
        (b"", "is empty"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "damaged"),
        (b"\xff\xfe\n", "not a list of paths"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, content, message):
    (tmp_path / "warc.paths.gz").write_bytes(content)
    made = recipe(tmp_path, more="base: archives")
    with Workspace(made, LocalExecutor(1)) as workspace, pytest.raises(FactoryError, match=message):
        _ = workspace.inputs


def test_a_pattern_over_http_is_refused(tmp_path):
    made = recipe(tmp_path, uri="https://data.example/*.warc.gz", more="snapshot: one")
    with Workspace(made, LocalExecutor(1)) as workspace, pytest.raises(InputError, match="no listing over HTTP"):
        _ = workspace.inputs


def test_a_listed_index_reads_its_own_subset_and_crawl():
    stage = find_stage("source", "common_crawl")
    config = stage.config(crawl="CC-MAIN-2024-10")
    table = "cc-index/table/cc-main/warc/crawl=CC-MAIN-2024-10/subset={}/part-0.parquet"
    assert config.reads_path(table.format("warc"))
    assert not config.reads_path(table.format("robotstxt"))
    assert not config.reads_path(table.format("warc").replace("2024-10", "2023-50"))


def test_an_index_slice_is_made_in_a_recipe(crawl, tmp_path):
    server, rows = crawl
    folder = tmp_path / "crawl=CC-MAIN-2024-10" / "subset=warc"
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(as_parquet(rows[:30]))
    made = recipe(tmp_path, "common_crawl", "crawl=*/subset=warc/*.parquet", f"archive: '{server.url}'")
    with Workspace(made, LocalExecutor(1)) as workspace:
        assert workspace.snapshots == ["CC-MAIN-2024-10"]
        assert server.counts() == {}
        (outcome,) = workspace.run(["documents"])
        assert outcome.manifest.rows + sum(outcome.manifest.ledger["skipped"].values()) == 30
        (story, *_) = explain(workspace, next(row["url"] for row in rows[:30] if row["content_mime_detected"]))
        assert story["place"]["uri"] == f"{server.url}/{rows[0]['warc_filename']}"
        assert story["place"]["fetch"].startswith("curl -s -r ")
