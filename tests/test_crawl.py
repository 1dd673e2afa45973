import gzip
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from warcio.archiveiterator import ArchiveIterator

from factory.core.errors import InputError
from factory.core.robots import parse_robots
from factory.crawl.crawler import CrawlConfig, crawl, find_links, normalise_url
from factory.crawl.network import is_public
from factory.demo.server import Answer, serve

HTML = (("Content-Type", "text/html; charset=utf-8"),)
HOST = "site.test"


class Pages:
    """A site of fixed answers that remembers what it was asked for."""

    def __init__(self, answers: dict[str, str | Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, path: str) -> Answer:
        self.asked.append(path)
        answer = self.answers.get(path, Answer(404, b"no"))
        return Answer(200, answer.encode(), HTML) if isinstance(answer, str) else answer


def links(*paths: str) -> str:
    return "<html><body>" + "".join(f'<p>a page<a href="{path}">link</a></p>' for path in paths) + "</body></html>"


def settings(address: str, **changes: object) -> CrawlConfig:
    values = {
        "seeds": (f"http://{HOST}/",),
        "snapshot": "s1",
        "resolve": {HOST: address},
        "delay": 0,
        "timeout": 5,
        "date": "2026-10-15T12:00:00Z",
    }
    return CrawlConfig.model_validate(values | changes)


def fetch(pages: Pages, directory: Path, **changes: object) -> dict:
    with serve(pages) as address:
        return crawl(settings(address, **changes), str(directory))


def records(directory: Path) -> list[tuple[str, bytes]]:
    found = []
    for path in sorted(Path(directory).glob("*.warc.gz")):
        with path.open("rb") as stream:
            found += [
                (record.rec_headers["WARC-Target-URI"], record.content_stream().read())
                for record in ArchiveIterator(stream, check_digests="raise")
                if record.rec_type == "response"
            ]
    return found


@contextmanager
def raw_server(reply: bytes | None) -> Iterator[str]:
    """Sends `reply` whatever it is asked, or accepts and stays silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def work() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted.append(connection)
            if reply is not None:
                connection.recv(4096)
                connection.sendall(reply)
                connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield "{}:{}".format(*listener.getsockname())
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in accepted:
        connection.close()


# Robots


def test_what_robots_forbids_is_never_asked_for(tmp_path):
    pages = Pages(
        {"/robots.txt": "User-agent: *\nDisallow: /private", "/": links("/private/a", "/public"), "/public": "ok"}
    )
    summary = fetch(pages, tmp_path)
    assert sorted(pages.asked) == ["/", "/public", "/robots.txt"]
    assert summary["outcomes"] == {"robots": 1, "stored": 2}


def test_a_redirect_into_a_forbidden_place_is_not_followed(tmp_path):
    moved = Answer(302, b"", (("Location", "/private/a"),))
    pages = Pages({"/robots.txt": "User-agent: *\nDisallow: /private", "/": links("/moved"), "/moved": moved})
    assert fetch(pages, tmp_path)["outcomes"]["robots"] == 1
    assert "/private/a" not in pages.asked


def test_a_site_whose_robots_file_is_broken_is_left_alone(tmp_path):
    pages = Pages({"/robots.txt": Answer(500), "/": "ok"})
    assert fetch(pages, tmp_path)["outcomes"] == {"robots_http_500": 1}
    assert "/" not in pages.asked


def test_a_site_without_robots_file_may_be_read(tmp_path):
    assert fetch(Pages({"/": "ok"}), tmp_path)["pages"] == 1


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("User-agent: *\nAllow: /a\nDisallow: /a", "/a", True),
        ("User-agent: *\nDisallow: /*.pdf$", "/x/y.pdf", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/x/y.pdf?z", True),
        ("User-agent: *\nDisallow: /a%3cd", "/a%3Cd", False),
        ("User-agent: other\nDisallow: /", "/a", True),
        ("User-agent: *\nAllow: /\n\nUser-agent: Corpus-Factory\nUser-agent: x\nDisallow: /", "/a", False),
        ("# nothing\nDisallow: /\n", "/a", True),
    ],
)
def test_robots_rules_mean_what_the_standard_says(text, path, allowed):
    assert parse_robots(text.encode(), "corpus-factory/0.1 (about)").allows(path) is allowed


@given(st.binary(max_size=300), st.text(max_size=50))
def test_no_robots_file_breaks_the_parser(data, path):
    assert parse_robots(b"User-agent: *\nDisallow: " + data, "x").allows("/" + path) in (True, False)


def test_requests_to_a_host_keep_the_longest_delay_asked_for(tmp_path):
    pages = Pages({"/robots.txt": "User-agent: *\nCrawl-delay: 0.2", "/": links("/a", "/b"), "/a": "a", "/b": "b"})
    start = time.monotonic()
    assert fetch(pages, tmp_path, delay=0.01)["pages"] == 3
    assert time.monotonic() - start >= 0.4


def test_pages_that_ask_not_to_be_kept_or_followed_are_not(tmp_path):
    pages = Pages(
        {
            "/": links("/archive", "/follow"),
            "/archive": '<html><head><meta name="robots" content="noarchive"></head>',
            "/follow": Answer(200, links("/secret").encode(), (*HTML, ("X-Robots-Tag", "nofollow"))),
        }
    )
    assert fetch(pages, tmp_path)["outcomes"] == {"noarchive": 1, "stored": 2}
    assert "/secret" not in pages.asked


# Safety


def test_loopback_is_refused_unless_resolve_names_it(tmp_path):
    pages = Pages({"/": "internal"})
    with serve(pages) as address:
        summary = crawl(
            settings(address, seeds=(f"http://{address}/", f"http://localhost:{address[10:]}/")), str(tmp_path)
        )
    assert summary["outcomes"] == {"refused_address": 2}
    assert pages.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0",
     "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known(address):
    assert not is_public(address)


def test_public_addresses_are_public():
    assert is_public("1.1.1.1")
    assert is_public("2606:4700::1111")


@pytest.mark.parametrize(
    "url", ["ftp://a.test/", "file:///etc/passwd", "http://", "http://user:word@a.test/", "javascript:x", "http://a b/"]
)
def test_an_address_that_is_not_for_a_crawler_is_refused_by_name(url):
    with pytest.raises(ValidationError, match="is not an address to crawl"):
        CrawlConfig(seeds=(url,), snapshot="s")


def test_links_that_leave_the_scope_are_counted_and_not_followed(tmp_path):
    pages = Pages(
        {"/": links("http://elsewhere.test/", "/a"), "/a": Answer(301, b"", (("Location", "http://elsewhere.test/"),))}
    )
    summary = fetch(pages, tmp_path)
    assert summary["off_scope_links"] == 1
    assert summary["outcomes"] == {"redirect_off_scope": 1, "stored": 1}


# Addresses


def test_equal_addresses_have_one_spelling():
    spellings = ["HTTP://A.test:80/x#part", "http://a.test/x", "http://a.test./x"]
    assert {normalise_url(url) for url in spellings} == {"http://a.test/x"}


@given(st.text(max_size=80))
def test_a_normalised_address_stays_as_it_is(text):
    url = normalise_url(text, "http://a.test/b/")
    assert url is None or normalise_url(url) == url


def test_links_are_found_in_every_spelling_of_the_attribute():
    html = b"""<a href="/1">x</a><A class=x HREF='2'>x</A><a href=3>x</a><a href="#top">x</a><a href="?q=1&amp;r=2">x</a>"""
    html += b"""<a href="/1">again</a>"""
    assert list(find_links(html, "http://a.test/d/e?z=/y", 100)) == [
        "http://a.test/1",
        "http://a.test/d/2",
        "http://a.test/d/3",
        "http://a.test/d/e?q=1&r=2",
    ]


# What is written


def tree() -> dict[str, str | Answer]:
    pages: dict[str, str | Answer] = {"/": links(*(f"/p{n}" for n in range(30)), "/missing")}
    for number in range(30):
        pages[f"/p{number}"] = links(f"/p{number}/deep") + f"page {number} ä" * 50
        pages[f"/p{number}/deep"] = "deep" * number
    return pages


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(directory).iterdir()}


def test_the_same_pages_give_the_same_bytes_whatever_the_concurrency(tmp_path):
    fetch(Pages(tree()), tmp_path / "one", file_bytes=3000, concurrency=1, host_concurrency=1)
    fetch(Pages(tree()), tmp_path / "two", file_bytes=3000, concurrency=32, host_concurrency=32)
    first = digests(tmp_path / "one" / "s1")
    assert first == digests(tmp_path / "two" / "s1")
    assert len(first) > 2


def test_another_reader_finds_every_record_and_every_digest_right(tmp_path):
    summary = fetch(Pages(tree()), tmp_path, file_bytes=3000)
    found = dict(records(tmp_path / "s1"))
    assert len(found) == summary["pages"] == sum(file["records"] for file in summary["files"]) == 61
    assert found[f"http://{HOST}/p7/deep"] == b"deep" * 7


def test_every_address_found_has_one_outcome(tmp_path):
    moved = {
        "/p3": Answer(301, b"", (("Location", "/new"),)),
        "/p4": Answer(301, b"", (("Location", "/new"),)),
        "/new": "n",
    }
    for limit in (5, 1000):
        summary = fetch(Pages(tree() | moved), tmp_path / str(limit), max_pages=limit)
        assert summary["found"] == sum(summary["outcomes"].values()) + summary["left"]
    assert summary["outcomes"] == {"http_404": 1, "redirect": 1, "redirect_to_known": 1, "stored": 58}
    assert summary["left"] == 0


def test_packed_bodies_are_kept_unpacked(tmp_path):
    text = "<html>" + "many words " * 500
    for packed in (True, False):
        fetch(Pages({"/": text}), tmp_path / str(packed), compressed=packed)
        assert records(tmp_path / str(packed) / "s1") == [(f"http://{HOST}/", text.encode())]


def test_a_snapshot_that_is_there_is_not_crawled_again(tmp_path):
    first = fetch(Pages({"/": "a"}), tmp_path)
    pages = Pages({"/": "b"})
    assert fetch(pages, tmp_path) == first
    assert pages.asked == []
    with pytest.raises(InputError, match="other settings"):
        fetch(pages, tmp_path, max_pages=7)


def test_a_crawl_that_was_killed_leaves_no_snapshot_and_its_remains_are_removed(tmp_path):
    remains = tmp_path / ".tmp-s1-999999999"
    remains.mkdir()
    (remains / "s1-00000.warc.gz.tmp").write_bytes(b"half")
    fetch(Pages({"/": "a"}), tmp_path)
    assert os.listdir(tmp_path) == ["s1"]


def test_a_folder_that_is_no_crawl_is_not_taken_for_one(tmp_path):
    (tmp_path / "s1").mkdir()
    with pytest.raises(InputError, match="no crawl of ours"):
        fetch(Pages({"/": "a"}), tmp_path)


# Bounds and bad servers


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(500), "http_500"),
        (Answer(404), "http_404"),
        (Answer(200, b"x" * 5000, HTML), "too_large"),
        (Answer(200, gzip.compress(b"x" * 5000), (*HTML, ("Content-Encoding", "gzip"))), "too_large"),
        (Answer(200, b"not gzip", (*HTML, ("Content-Encoding", "gzip"))), "encoding"),
        (Answer(200, gzip.compress(os.urandom(500))[:-20], (*HTML, ("Content-Encoding", "gzip"))), "encoding"),
        (Answer(200, b"x", (*HTML, ("Content-Encoding", "br"))), "encoding"),
        (Answer(200, b"x", (("Content-Type", "image/png"),)), "content_type"),
        (Answer(302, b"", (("Location", "/bad"),)), "too_many_redirects"),
        (Answer(302, b"", (("Location", "mailto:x"),)), "bad_redirect"),
    ],
)  # fmt: skip
def test_a_bad_page_is_counted_by_its_kind_and_the_next_one_is_kept(tmp_path, answer, outcome):
    pages = Pages({"/": links("/bad", "/good"), "/bad": answer, "/good": "good"})
    summary = fetch(pages, tmp_path, max_page_bytes=1000)
    assert summary["outcomes"] == {outcome: 1, "stored": 2}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (None, "timeout"),
        (b"", "bad_http"),
        (b"nonsense\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhalf", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "bad_http"),
    ],
)
def test_a_server_that_misbehaves_costs_one_outcome(tmp_path, reply, outcome):
    pages = Pages({"/": links("http://bad.test/robots.txt", "/good"), "/good": "good"})
    with serve(pages) as address, raw_server(reply) as bad:
        config = settings(address, hosts=(HOST, "bad.test"), resolve={HOST: address, "bad.test": bad}, timeout=0.5)
        summary = crawl(config, str(tmp_path))
    assert summary["outcomes"] == {outcome: 1, "stored": 2}


def test_nobody_listening_is_unreachable(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = settings(f"127.0.0.1:{port}", seeds=(f"http://{HOST}/robots.txt",), attempts=1)
    assert crawl(config, str(tmp_path))["outcomes"] == {"unreachable": 1}


def test_the_bounds_on_pages_and_bytes_hold(tmp_path):
    summary = fetch(Pages(tree()), tmp_path / "pages", max_pages=7)
    assert (summary["pages"], summary["stopped"]) == (7, "max_pages")
    summary = fetch(Pages(tree()), tmp_path / "bytes", max_bytes=4000)
    assert summary["bytes"] <= 4000
    assert summary["stopped"] == "max_bytes"


def test_the_bound_on_time_holds(tmp_path):
    start = time.monotonic()
    summary = fetch(Pages(tree()), tmp_path, delay=0.2, max_seconds=0.7)
    assert summary["stopped"] == "max_seconds"
    assert time.monotonic() - start < 5
    assert summary["left"] > 0


def test_a_busy_server_is_asked_again_later(tmp_path):
    answers = [Answer(503, b"", (("Retry-After", "0"),)), Answer(200, b"<html>here", HTML)]

    def respond(host: str, path: str) -> Answer:
        return Answer(404) if path == "/robots.txt" else answers.pop(0)

    with serve(respond) as address:
        assert crawl(settings(address), str(tmp_path))["outcomes"] == {"stored": 1}


def test_a_page_made_to_be_slow_is_read_in_time_that_grows_with_its_size():
    start = time.process_time()
    assert list(find_links(b"<a " * 1_000_000 + b"<a href='/x'>", "http://a.test/", 100)) == ["http://a.test/x"]
    assert time.process_time() - start < 5
