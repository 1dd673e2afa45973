import hashlib
import http.client
import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from factory.core.errors import InputError
from factory.demo import markup
from factory.demo.harvest import domain_of, harvest
from factory.demo.inputs import make_inputs
from factory.demo.references import DOMAINS, split
from factory.demo.server import Answer, serve
from factory.demo.site import DOMAIN, SNAPSHOTS, Site

PAGES = 120


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("inputs")
    return directory, make_inputs(str(directory), pages=PAGES)


@pytest.fixture(scope="module")
def packages():
    return list(harvest(pages=PAGES))


def crawled(directory: Path, snapshot: str) -> dict[str, tuple[str, bytes]]:
    """{address: (content type, body)} as another library reads it."""
    pages = {}
    for path in sorted((directory / "crawl" / snapshot).glob("*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, check_digests="raise"):
                if record.rec_type == "response":
                    kind = record.http_headers.get_header("Content-Type")
                    pages[record.rec_headers["WARC-Target-URI"]] = kind, record.content_stream().read()
    return pages


def rows(directory: Path, folder: str) -> list[dict]:
    files = sorted((directory / folder).glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def digests(directory: Path) -> dict[str, str]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def runs(text: str, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[start:] for start in range(size)), strict=False))


# Reading what is installed


def test_nothing_that_is_read_is_imported_or_run(packages):
    read = {page.name for package in packages for page in package.pages if page.kind == "module"}
    list(harvest(pages=PAGES))
    assert len(read) > PAGES / 4
    assert not {"antigravity", "this", "turtle", "idlelib.idle"} & set(sys.modules)


def test_two_readings_are_equal(packages):
    assert list(harvest(pages=PAGES)) == packages


def test_a_larger_site_contains_more_of_every_domain(packages):
    def counts(some):
        names = [domain_of(package, page) for package in some for page in package.pages if page.kind != "license"]
        return {domain: names.count(domain) for domain in DOMAINS}

    small, large = counts(harvest(pages=40)), counts(packages)
    assert all(0 < small[domain] < large[domain] for domain in DOMAINS)


# Markup


@given(st.text(alphabet="ab <>&`*:[](){}|=-.>\n #_", max_size=300), st.sampled_from(["rst", "markdown", "text"]))
def test_no_text_becomes_a_tag_of_its_own(text, form):
    html = markup.to_html(markup.parse(text, form))
    tags = set(re.findall(r"</?(\w+)", html))
    assert tags <= {"p", "h3", "pre", "ul", "li", "dl", "dt", "dd", "code", "strong", "em", "a"}


def test_links_that_run_programs_are_shown_as_text():
    html = markup.to_html(markup.parse("[x](javascript:alert) and [y](https://a.test/?a&b)", "markdown"))
    assert html == '<p>x and <a href="https://a.test/?a&amp;b">y</a></p>'


def test_a_docstring_is_shown_as_its_author_meant_it():
    text = """Solve ``a x = b``.

    Parameters
    ----------
    a : array
        The matrix,
        which is square.

    >>> solve(a, b)
    x

    - first
    - second
      goes on
    """
    kinds = [(block.kind, markup.to_text(block)) for block in markup.parse(text, "rst")]
    assert kinds == [
        ("paragraph", "Solve a x = b."),
        ("heading", "Parameters"),
        ("definitions", "a : array\nThe matrix, which is square."),
        ("code", ">>> solve(a, b)\nx"),
        ("list", "• first\n• second goes on"),
    ]


# The site and its server


def test_every_page_of_the_site_can_be_served(packages):
    for snapshot in SNAPSHOTS:
        site = Site(packages, snapshot)
        for address in site.addresses:
            host, _, path = address.removeprefix("http://").partition("/")
            assert site.answer(host, f"/{path}").status == 200


def test_the_server_packs_remembers_and_refuses():
    page = Answer(200, b"words " * 200, (("Content-Type", "text/plain"),))
    with serve(lambda host, path: page if path == "/a" else Answer(404)) as address:
        connection = http.client.HTTPConnection(address)

        def ask(method, path, **headers):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

        status, headers, body = ask("GET", "/a")
        assert (status, body) == (200, page.body)
        assert ask("GET", "/a", **{"If-None-Match": headers["ETag"]})[0] == 304
        assert ask("GET", "/a", **{"Accept-Encoding": "gzip"})[1]["Content-Encoding"] == "gzip"
        assert ask("HEAD", "/a")[2] == b""
        assert [ask("GET", "/b")[0], ask("POST", "/a")[0]] == [404, 405]
        connection.close()


def test_a_page_that_fails_does_not_stop_the_server():
    def respond(host, path):
        return {"/a": Answer(200, b"a")}[path]

    with serve(respond) as address:
        connection = http.client.HTTPConnection(address)
        for path, status in (("/x", 500), ("/a", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
        connection.close()


# The inputs


def test_the_crawl_gets_every_page_that_robots_allows_and_no_other(made, packages):
    directory, _ = made
    for snapshot in SNAPSHOTS:
        allowed = {
            address
            for address in Site(split(packages).shown, snapshot).addresses
            if not re.match(rf"http://[^/]+\.{re.escape(DOMAIN)}/(_sources/|search)", address)
        }
        assert set(crawled(directory, snapshot)) == allowed


def test_the_second_snapshot_has_pages_added_removed_changed_and_repeated(made):
    directory, _ = made
    first, second = (crawled(directory, snapshot) for snapshot in SNAPSHOTS)
    both = first.keys() & second.keys()
    repeated = sum(first[address] == second[address] for address in both)
    assert len(second.keys() - first.keys()) >= 5
    assert len(first.keys() - second.keys()) >= 1
    assert len(both) - repeated >= 5
    assert repeated >= len(both) / 2


def test_the_sites_repeat_themselves_and_one_page_is_empty(made):
    directory, _ = made
    bodies = [body for _, body in crawled(directory, SNAPSHOTS[1]).values()]
    assert len(set(bodies)) < len(bodies)
    assert bodies.count(b"") == 1


def test_pages_decode_as_their_header_says(made):
    directory, _ = made
    for snapshot in SNAPSHOTS:
        for kind, body in crawled(directory, snapshot).values():
            body.decode(kind.partition("charset=")[2])


def test_held_out_text_is_nowhere_on_the_sites_or_in_the_references(made):
    directory, _ = made
    shown: set[tuple[str, ...]] = set()
    for snapshot in SNAPSHOTS:
        for kind, body in crawled(directory, snapshot).values():
            text = re.sub(
                r"&(\w+|#\d+);",
                lambda found: {"lt": "<", "gt": ">"}.get(found[1], " "),
                body.decode(kind.partition("charset=")[2]),
            )
            shown |= runs(re.sub(r"</?(?:code|strong|em|a)\b[^>]*>", "", text), 13)
    for row in rows(directory, "references"):
        shown |= runs(row["text"], 13)
    held_out = rows(directory, "heldout")
    assert {row["domain"] for row in held_out} >= {"stdlib", "packages"}
    assert not any(runs(row["text"], 13) & shown for row in held_out)


def test_tasks_have_one_right_choice_among_four_different_ones(made):
    directory, _ = made
    items = rows(directory, "tasks")
    assert items
    for item in items:
        assert len(set(item["choices"])) == 4
        assert item["gold"] in range(4)
        assert not item["choices"][item["gold"]].startswith(" ")


def test_making_the_inputs_twice_gives_the_same_bytes(made, tmp_path):
    directory, _ = made
    make_inputs(str(tmp_path), pages=PAGES)
    assert digests(tmp_path) == digests(directory)


def test_what_is_complete_is_left_and_what_was_cut_off_is_finished(made, tmp_path):
    directory, first = made
    make_inputs(str(tmp_path), pages=PAGES)
    (tmp_path / "inputs.json").unlink()
    lost = tmp_path / "crawl" / SNAPSHOTS[1]
    lost.rename(tmp_path / "crawl" / f".tmp-{SNAPSHOTS[1]}-999999999")
    kept = (tmp_path / "crawl" / SNAPSHOTS[0] / "crawl.json").stat().st_mtime_ns
    again = make_inputs(str(tmp_path), pages=PAGES)
    assert digests(tmp_path) == digests(directory)
    assert again["crawls"] == first["crawls"]
    assert (tmp_path / "crawl" / SNAPSHOTS[0] / "crawl.json").stat().st_mtime_ns == kept


def test_inputs_that_were_asked_for_differently_are_not_mixed(made):
    directory, _ = made
    with pytest.raises(InputError, match=f"pages {PAGES}, asked 7"):
        make_inputs(str(directory), pages=7)


def test_progress_never_goes_back(tmp_path):
    told: dict[str, list[int]] = {}
    make_inputs(str(tmp_path), pages=20, progress=lambda done, total, what: told.setdefault(what, []).append(done))
    assert set(told) >= {f"crawling {snapshot}" for snapshot in SNAPSHOTS}
    assert all(done == sorted(done) for done in told.values())
