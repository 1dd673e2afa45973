"""Data sets of a hub, dumps of wikis, repositories of code: every record is accounted for, and the texts are the right ones."""

import bz2
import gzip
import io
import json
import os
import random
import re
import subprocess
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from range_server import serve

from factory.core.errors import InputError
from factory.core.registry import find_stage
from factory.core.stage import InputFile
from factory.execution.local import LocalExecutor
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.stages.sources import ranged
from factory.stages.sources.front_matter import split_front_matter
from factory.stages.sources.languages import language_of
from factory.stages.sources.licences import licence_of, spdx_header
from factory.stages.sources.ranged import Client, Patience, open_input
from factory.stages.sources.repositories import commit_of, origin_of
from factory.stages.sources.wikitext import wikitext_to_text

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
WHOLE = 1 << 40


def pin(place, name):
    data = Path(place).read_bytes()
    return InputFile(place, name, len(data), str(hash(data)))


def made(use, **config):
    stage = find_stage("source", use)
    return stage.make(stage.config(**config))


def rows_of(source, file, part_bytes=WHOLE, data=None):
    rows, skipped = [], Counter()
    for part in source.split(file, part_bytes):
        with io.BytesIO(data) if data is not None else open_input(file) as stream:
            for batch in source.read(stream, part):
                batch.validate(full=True)
                rows += batch.to_pylist()
                skipped.update(json.loads((batch.schema.metadata or {}).get(b"skipped", b"{}")))
    return rows, skipped


def read(use, name, data, part_bytes=WHOLE, **config):
    return rows_of(made(use, **config), InputFile(name, name, len(data), "identity"), part_bytes, data)


def found(use, uri, **config):
    source = made(use, **config)
    return source, [file for file, _ in source.find(str(uri), pin)]


def problems(rows):
    return [row["error"].partition(":")[0] for row in rows if row["error"]]


# Data sets of a hub

CARD = """---
license: cc-by-4.0
configs:
- config_name: en
  data_files:
  - split: train
    path: "en/train-*.parquet"
  - split: test
    path: ["en/test.jsonl"]
- config_name: de
  data_dir: de
---
# A data set
"""


def parquet_bytes(columns, **options):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def dataset(folder):
    """A data set with two configs, in four files of three formats."""
    files = {
        "README.md": CARD.encode(),
        "en/train-0.parquet": parquet_bytes(
            {"text": [f"one {n}" for n in range(40)], "n": range(40)}, row_group_size=7
        ),
        "en/train-1.parquet": parquet_bytes({"text": ["two", None], "n": [1, 2]}),
        "en/test.jsonl": b'{"text": "held out"}\n',
        "de/train.jsonl.zst": zstandard.compress(b'{"text": "drei"}\n{"text": "vier"}\n'),
        "de/dataset_info.json": b"{}",
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return files


def test_the_card_says_which_files_belong_to_a_split(tmp_path):
    dataset(tmp_path)
    source, files = found("huggingface", tmp_path, config="en")
    assert [file.name for file in files] == ["en/train-0.parquet", "en/train-1.parquet"]
    rows = [row for file in files for row in rows_of(source, file, 300)[0]]
    assert len(rows) == sum(pq.ParquetFile(file.uri).metadata.num_rows for file in files)
    assert [row["text"] for row in rows[:40]] == [f"one {n}" for n in range(40)]
    assert (rows[3]["key"], rows[3]["license"]) == ("en/train-0.parquet:3", "cc-by-4.0")
    meta = json.loads(rows[3]["meta"])
    assert meta == {"n": 3, "dataset": tmp_path.name, "config": "en", "split": "train"}
    assert problems(rows) == ["no_text"]


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"config": "en", "split": "test"}, ["en/test.jsonl"]),
        ({"config": "de"}, ["de/train.jsonl.zst"]),
        ({"config": "en", "split": None}, ["en/train-0.parquet", "en/train-1.parquet", "en/test.jsonl"]),
    ],
)
def test_configs_and_splits_choose_files(tmp_path, config, names):
    dataset(tmp_path)
    assert [file.name for file in found("huggingface", tmp_path, **config)[1]] == names


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "several configs: en, de"),
        ({"config": "fr"}, "no config is named 'fr'"),
        ({"config": "en", "split": "tset"}, "no file belongs to split 'tset'. Did you mean 'test'"),
    ],
)
def test_what_a_data_set_does_not_have_is_said_with_what_it_has(tmp_path, config, message):
    dataset(tmp_path)
    with pytest.raises(InputError, match=message):
        found("huggingface", tmp_path, **config)


def test_without_a_card_the_names_of_files_say_the_split(tmp_path):
    for name in ("a-train-0.jsonl", "a-validation-0.jsonl", "test/b.jsonl", "other.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}\n')
    names = {split: [f.name for f in found("huggingface", tmp_path, split=split)[1]] for split in ("train", "test")}
    assert names == {"train": ["a-train-0.jsonl", "other.jsonl"], "test": ["test/b.jsonl"]}


def test_a_changed_card_changes_what_files_stand_for(tmp_path):
    dataset(tmp_path)
    before = found("huggingface", tmp_path, config="de")[1]
    (tmp_path / "README.md").write_text(CARD.replace("cc-by-4.0", "mit"))
    assert before[0].identity != found("huggingface", tmp_path, config="de")[1][0].identity


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_files_are_read(tmp_path, kind):
    table = pa.table({"text": [f"row {n}" for n in range(1000)], "n": range(1000)})
    with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(tmp_path / "data.arrow", table.schema) as writer:
        writer.write_table(table, 300)
    source, (file,) = found("huggingface", tmp_path)
    rows, _ = rows_of(source, file)
    assert [row["text"] for row in rows] == table["text"].to_pylist()
    cut = (tmp_path / "data.arrow").read_bytes()[:9000]
    (tmp_path / "data.arrow").write_bytes(cut)
    assert problems(rows_of(source, found("huggingface", tmp_path)[1][0])[0]) == ["arrow"]


CHATS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello {role}"}],
    [{"from": "human", "value": "Q"}],
    [{"role": "user"}],
    None,
]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_rows_of_chats_are_joined_under_the_markers_of_their_roles(tmp_path, ending):
    chats = [*CHATS[:1], *CHATS[2:]] if ending == "parquet" else CHATS
    if ending == "parquet":
        (tmp_path / "a.parquet").write_bytes(parquet_bytes({"messages": chats, "n": range(len(chats))}))
    else:
        (tmp_path / "a.jsonl").write_text("".join(json.dumps({"messages": chat, "n": 0}) + "\n" for chat in chats))
    source, (file,) = found("huggingface", tmp_path, messages="messages", columns=["n"])
    rows, _ = rows_of(source, file)
    assert rows[0]["text"] == "<|user|>\nHi\n<|assistant|>\nHello {role}\n"
    meta = json.loads(rows[0]["meta"])
    assert (meta["is_chat"], meta["turns"], meta["n"]) == (True, 2, 0)
    assert problems(rows) == ["no_text", "no_text"]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one data set, its large files at another address, as hubs have them."""
    client = Client(Patience(attempts=3, first_pause=0.001, longest_pause=0.01))
    monkeypatch.setattr(ranged, "_client_of", lambda _pid: client)
    with serve() as server:
        files = dataset(tmp_path)
        tree = [{"type": "directory", "path": "en"}]
        for path, data in files.items():
            tree.append({"type": "file", "path": path, "size": len(data), "oid": f"{len(data):040x}"})
            server.files[f"/cdn/{path}"] = data
            server.moved[f"/datasets/owner/name/resolve/{COMMIT}/{path}"] = f"/cdn/{path}"
        api = "/api/datasets/owner/name"
        server.files[f"{api}/revision/main"] = json.dumps({"sha": COMMIT}).encode()
        first = f"{api}/tree/{COMMIT}?recursive=true"
        server.files[first] = json.dumps(tree[:3]).encode()
        server.headers[first] = {"Link": f'<{server.url}{first}&cursor=2>; rel="next"'}
        server.files[f"{first}&cursor=2"] = json.dumps(tree[3:]).encode()
        yield server
        client.close()


def test_a_data_set_of_a_hub_is_read_at_the_commit_a_branch_stands_at(hub, tmp_path):
    source, files = found("huggingface", f"{hub.url}/datasets/owner/name@main", config="en")
    assert all(f"/resolve/{COMMIT}/" in file.uri for file in files)
    rows = [row for file in files for row in rows_of(source, file)[0]]
    here, local = found("huggingface", tmp_path, config="en")
    assert [row["text"] for row in rows] == [row["text"] for file in local for row in rows_of(here, file)[0]]
    meta = json.loads(rows[0]["meta"])
    assert (meta["dataset"], meta["revision"], rows[0]["license"]) == ("owner/name", COMMIT, "cc-by-4.0")
    by_commit = found("huggingface", f"{hub.url}/datasets/owner/name/tree/{COMMIT}/en", config="en")[1]
    assert [file.identity for file in by_commit] == [file.identity for file in files]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("{}/datasets/owner/name", f"say which revision is meant: '@{COMMIT}' is main now"),
        ("{}/datasets/owner/name@gone", "answers 404"),
        ("{}/owner/name", "no data set is named"),
        ("ftp://x/datasets/a/b", "a folder, hf://"),
        ("{}/datasets/owner/..%2f@main", "is no name of a data set"),
        ("/no/such/folder", "there is no such folder"),
    ],
)
def test_misuse_of_a_hub_is_said_so(hub, uri, message):
    with pytest.raises(InputError, match=re.escape(message)):
        found("huggingface", uri.format(hub.url))


# Dumps of wikis

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de"><siteinfo>'
    "<sitename>Wikipedia</sitename><base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base><namespaces>"
    '<namespace key="0" case="first-letter" /><namespace key="6">Datei</namespace>'
    '<namespace key="14">Kategorie</namespace></namespaces></siteinfo>\n'
)


def page(number, text, title=None, ns=0, extra="", model="wikitext"):
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (
        f"  <page>\n<title>{title or f'Seite {number}'}</title><ns>{ns}</ns><id>{number}</id>{extra}<revision><id>{number + 1000}"
        f"</id><timestamp>2024-01-0{number % 9 + 1}T00:00:00Z</timestamp><contributor><id>7</id></contributor>"
        f'<model>{model}</model><text bytes="1" xml:space="preserve">{text}</text></revision></page>\n'
    )


def wiki_pages(count, words=40):
    chance = random.Random(count)
    text = lambda n: f"'''Seite {n}''' " + " ".join(f"[[w{chance.randrange(999)}]]" for _ in range(words))  # noqa: E731
    return [page(n, text(n)) for n in range(count)]


def multistream(pages, each=5):
    bodies = ["".join(pages[at : at + each]) for at in range(0, len(pages), each)]
    return b"".join(bz2.compress(body.encode()) for body in (HEAD, *bodies, "</mediawiki>"))


def dump(pages):
    return (HEAD + "".join(pages) + "</mediawiki>").encode()


def test_a_page_becomes_a_row_with_its_revision():
    rows, skipped = read("wikipedia", "d.xml", dump([page(3, "Ein ''Text'' der [[Datei:X.jpg|Wort]] [[Ort|Stadt]].")]))
    (row,) = rows
    assert (row["text"], row["title"], row["key"]) == ("Ein Text der Stadt.", "Seite 3", "page:3")
    assert (row["url"], row["license"]) == ("https://de.wikipedia.org/wiki/Seite_3", "CC-BY-SA-4.0")
    assert row["date"].isoformat() == "2024-01-04T00:00:00+00:00"
    assert json.loads(row["meta"])["revision"] == 1003
    assert not skipped


def test_what_is_no_article_is_counted():
    pages = [
        page(1, "Text."),
        page(2, "#REDIRECT [[x]]", extra='<redirect title="x" />'),
        page(3, "Talk", ns=1),
        page(4, "{}", model="json"),
        page(5, "{{nur Vorlage}}"),
        page(6, ""),
    ]
    rows, skipped = read("wikipedia", "d.xml", dump(pages))
    assert skipped == {"redirect": 1, "namespace_1": 1, "other_model": 1}
    assert problems(rows) == ["no_text", "no_text"]
    assert len(rows) + skipped.total() == len(pages)


@pytest.mark.parametrize(
    "pack", [dump, multistream, lambda pages: bz2.compress(dump(pages))], ids=["xml", "multi", "bz2"]
)
@pytest.mark.parametrize("part_bytes", [1_000, 1_777, 5_000, WHOLE])
def test_every_page_is_in_exactly_one_part(pack, part_bytes):
    pages = wiki_pages(60)
    whole = read("wikipedia", "d.xml", dump(pages))[0]
    data = pack(pages)
    keys = ("key", "text", "date", "url", "meta")
    rows, _ = read("wikipedia", "d.xml", data, part_bytes)
    assert [[row[key] for key in keys] for row in rows] == [[row[key] for key in keys] for row in whole]
    assert len(rows) == 60


def test_packed_dumps_are_the_same_pages_and_a_plain_one_says_where():
    pages = wiki_pages(30)
    whole = dump(pages)
    rows, _ = read("wikipedia", "d.xml", whole)
    packed, _ = read("wikipedia", "d.xml.gz", gzip.compress(whole), 1000)
    assert [row["text"] for row in packed] == [row["text"] for row in rows]
    for row in rows:
        place = row["locator"]
        assert whole[place["offset"] :].startswith(b"<page>")
        assert whole[: place["offset"] + place["length"]].endswith(b"</page>")


def test_pages_across_streams_are_read_once():
    whole = dump(wiki_pages(40))
    streams = [bz2.compress(whole[at : at + 3_333]) for at in range(0, len(whole), 3_333)]
    rows, _ = read("wikipedia", "d.xml.bz2", b"".join(streams), 900)
    assert [row["key"] for row in rows] == [f"page:{n}" for n in range(40)]


@pytest.mark.parametrize("part_bytes", [700, WHOLE])
def test_a_damaged_stream_costs_its_pages_only(part_bytes):
    pages = wiki_pages(30)
    data = bytearray(multistream(pages))
    starts = [match.start() for match in re.finditer(rb"BZh91AY&SY", bytes(data))]
    data[starts[3] + 60] ^= 0xFF
    rows, _ = read("wikipedia", "d.xml.bz2", bytes(data), part_bytes)
    assert problems(rows) == ["bz2"]
    assert [row["key"] for row in rows if not row["error"]] == [f"page:{n}" for n in range(30) if not 10 <= n < 15]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (dump([page(1, "x" * 200)])[:-40], "truncated"),
        (b"<html>" + b"x" * 3000, "xml"),
        (dump([page(1, "x")]).replace(b"<title>", b"<title>&undefined;"), "xml"),
        (b'<!DOCTYPE mediawiki [<!ENTITY a "aaaa">]>' + dump([page(1, "x")]), "xml"),
        (dump([page(1, "x")]).replace(b"<ns>", b"<a>" * 50 + b"</a>" * 50 + b"<ns>"), "xml"),
        (dump([page(1, "x" * 5000)]), "too_large"),
        (multistream([page(1, "Wort " * 50)])[:-90], "truncated"),
        (gzip.compress(dump([page(1, "x")]), mtime=0)[:-30], "truncated"),
    ],
)
def test_what_cannot_be_read_is_one_error(data, problem):
    name = "d.xml.gz" if data.startswith(b"\x1f\x8b") else "d.xml"
    rows, _ = read("wikipedia", name, data, max_page_bytes=3_000)
    assert problems(rows) == [problem]


@given(junk=st.binary(max_size=300), at=st.integers(0, 3000))
@settings(max_examples=40)
def test_arbitrary_bytes_in_a_dump_never_raise(junk, at):
    data = dump(wiki_pages(5))
    read("wikipedia", "d.xml", data[:at] + junk + data[at:], 1_000)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("'''A''' ''b'' '''''c'''''", "A b c"),
        ("[[a]] [[a|b]] [[:Category:c]] [[Category:d]] [[de:e]]", "a b Category:c"),
        ("x [[File:a.jpg|thumb|A [[link]] in {{it}}]] y", "x y"),
        ("{{a|{{b|c}}|[[d]]}}e", "e"),
        ("{{lang|fr|bon}} {{convert|5|km|mi}} {{nowrap|a b}}", "bon 5 km a b"),
        ("a<ref>b [[c]]</ref><ref name=x/> d<!-- e -->", "a d"),
        ("a<ref name='x'>b", "ab"),
        ("[http://a.b c d] [https://a.b] http://c.d", "c d http://c.d"),
        ("Einstein ({{IPA|x}}; {{lang|de|E}}) ({{x}})", "Einstein (E)"),
        ("<nowiki>[[a]] '''b'''</nowiki> &lt;c&gt; &amp;amp;", "[[a]] '''b''' <c> &amp;"),
        ("<math>\\frac{a}{b} & [[c]]</math>", "$\\frac{a}{b} & [[c]]$"),
        ("<pre>\n# a\n* b\n</pre>", "# a\n* b"),
        ("* a\n** b\n# c\n# d\n: e\n; f", "- a\n  - b\n1. c\n2. d\ne\nf"),
        ("a<br>b <sup>2</sup> <b>c</b> <unknown>", "a\nb 2 c <unknown>"),
        ("a\n== B ==\nc\n=== Empty ===\n== See also ==\n* d\n=== e ===\nf\n== G ==\nh", "a\n\nB\n\nc\n\nG\n\nh"),
        ('{| class="x"\n|+ C\n! A !! B\n|-\n| style="y" | [[1|one]] || {{x}}2\n|}', "C\nA | B\none | 2"),
        ("a [[b", "a [[b"),
        ("a {{b [[c]] d", "a {{b c d"),
        ("a ]] }} |} d", "a ]] }} |} d"),
        ("__NOTOC__\na", "a"),
    ],
)
def test_wikitext_becomes_the_text_a_reader_sees(source, text):
    assert wikitext_to_text(source) == text


def test_tables_can_be_left_out():
    assert wikitext_to_text("a\n{|\n| b\n|}\nc", tables=False) == "a\n\nc"


HOSTILE = [
    "{{",
    "{{a|",
    "[[",
    "[[a|",
    "<ref>",
    "<!--",
    "\n{|",
    "'''''",
    "[http://",
    "\n|",
    "[[{{]]}}",
    "=",
    "\n=",
    "(",
    "( ",
    "<",
]


@pytest.mark.parametrize("piece", [*HOSTILE, "<ref", "\n| a=", "\n{|\n|}", "&amp", "a=b ", "\n*", "<nowiki>x</nowiki>"])
def test_time_for_wikitext_grows_with_its_length(piece):
    text = piece * (400_000 // len(piece))
    started = time.process_time()
    wikitext_to_text(text)
    # Measured 0.1 to 1.5 s for a megabyte on an idle core; what is not linear would take minutes.
    assert time.process_time() - started < 5


@given(
    st.lists(st.sampled_from([*HOSTILE, "]]", "}}", "|}", "]", "</ref>", "a", "\n", "|", "-->", "'' "]), max_size=60)
)
def test_any_wikitext_gives_text(pieces):
    assert "\0" not in wikitext_to_text("".join(pieces))


# Repositories

MIT = (
    "MIT License\n\nCopyright (c) 2020 A\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof "
    "this software and associated files, to deal in it.\n\nThe above copyright notice and this permission notice shall be "
    "included in all\ncopies or substantial portions of the Software.\n"
)
NOTEBOOK = {
    "metadata": {"language_info": {"name": "python"}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "words"]},
        {"cell_type": "code", "source": "x = 1\n", "outputs": [{"data": "big"}]},
    ],
}
TREE = {
    "LICENSE": MIT.encode(),
    "src/main.py": b"print('one')\r\nprint('two')\n",
    "src/caf\u00e9.py": "x = 'é' \ufeff".encode(),
    "src/util.js": b"// SPDX-License-Identifier: Apache-2.0\nlet a = 1\n",
    "run": b"#!/usr/bin/env python3\nimport sys\n",
    "Makefile": b"all:\n\techo\n",
    "book.ipynb": json.dumps(NOTEBOOK).encode(),
    "bad.py": b"x = '\xff'\n",
    "bad.ipynb": b"{",
    "empty.py": b"\n",
    "marks.py": b"sep = '<file_sep>'\n",
    "node_modules/a/index.js": b"var a\n",
    "logo.png": b"\x89PNG\0\0",
    "a.min.js": b"var a\n",
    "long.js": b"var a=1;" * 100,
    "api_pb2.py": b"x = 1\n",
    "gen.go": b"// Code generated by protoc. DO NOT EDIT.\npackage a\n",
    "uv.lock": b"x\n",
    "data.bin2": b"words\n",
    "huge.py": b"x = 1\n" * 40_000,
}
SKIPPED = {
    "vendored": 1,
    "binary": 1,
    "minified": 2,
    "generated": 2,
    "lockfile": 1,
    "unknown_language": 1,
    "too_large": 1,
    "empty": 1,
}
LIMITS = {"max_file_bytes": 100_000}


def checkout(folder):
    for path, data in TREE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def tarball(entries, mode="w:gz", top="repo-1.0/"):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:
        for path, data in entries.items():
            info = tarfile.TarInfo(top + path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def zipped(entries, top="repo-1.0/"):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries.items():
            archive.writestr(top + path, data)
    return sink.getvalue()


def read_checkout(folder, **config):
    source, (file,) = found("code", folder, **LIMITS, **config)
    return rows_of(source, file)


def test_a_file_is_a_document_as_it_is(tmp_path):
    rows, skipped = read_checkout(checkout(tmp_path / "repo"))
    by_path = {json.loads(row["meta"])["path"]: row for row in rows}
    assert by_path["src/main.py"]["text"].encode() == TREE["src/main.py"]
    assert by_path["src/café.py"]["text"].encode() == TREE["src/café.py"]
    assert by_path["book.ipynb"]["text"] == "# # Title\n#\n# words\n\nx = 1\n"
    assert by_path["bad.py"]["error"].startswith("encoding:")
    assert by_path["bad.ipynb"]["error"].startswith("notebook:")
    assert skipped == SKIPPED
    assert len(rows) + skipped.total() == len(TREE)
    assert {name: json.loads(by_path[name]["meta"])["language"] for name in ("run", "Makefile", "book.ipynb")} == {
        "run": "Python",
        "Makefile": "Makefile",
        "book.ipynb": "Python",
    }


def test_the_licence_is_the_repositorys_or_the_files_own(tmp_path):
    rows, _ = read_checkout(checkout(tmp_path / "repo"))
    stated = {
        json.loads(row["meta"])["path"]: (row["license"], json.loads(row["meta"]).get("license_how")) for row in rows
    }
    assert stated["src/main.py"] == ("MIT", "file")
    assert stated["src/util.js"] == ("Apache-2.0", "header")
    (tmp_path / "repo" / "LICENSE").write_text("All rights reserved.")
    assert {row["license"] for row in read_checkout(tmp_path / "repo")[0]} == {None, "Apache-2.0"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zst", "zip"])
def test_an_archive_gives_what_the_checkout_gives(tmp_path, mode):
    rows, skipped = read_checkout(checkout(tmp_path / "repo"))
    name = {"zip": "repo.zip", "zst": "repo.tar.zst"}.get(mode, "repo.tar.gz")
    data = zipped(TREE) if mode == "zip" else tarball(TREE, "w" if mode == "zst" else mode)
    data = zstandard.compress(data) if mode == "zst" else data
    again, counts = read("code", name, data, **LIMITS)
    assert [(row["text"], row["license"], row["error"]) for row in again] == [
        (row["text"], row["license"], row["error"]) for row in rows
    ]
    assert counts == skipped


@pytest.mark.parametrize("max_files", [1, 3, 1000])
def test_the_marks_of_a_repository_document_give_its_files_back(tmp_path, max_files):
    checkout(tmp_path / "repo")
    single, _ = read_checkout(tmp_path / "repo")
    rows, skipped = read_checkout(tmp_path / "repo", group="repository", metadata=1.0, max_files=max_files)
    documents = [row["text"] for row in rows if row["error"] is None]
    texts = {}
    for document in documents:
        name, *files = document.split("<file_sep>")
        assert name == "<repo_name>repo"
        assert len(files) <= max_files
        texts |= {path: text for path, _, text in (file.partition("\n") for file in files)}
    wanted = {json.loads(row["meta"])["path"]: row["text"] for row in single if row["text"]}
    wanted.pop("marks.py")
    assert texts == wanted
    assert list(texts) == sorted(texts)
    assert skipped == {**SKIPPED, "holds_marker": 1}


def test_a_share_of_repository_documents_names_no_paths(tmp_path):
    checkout(tmp_path / "repo")
    (row,) = [row for row in read_checkout(tmp_path / "repo", group="repository", metadata=0.0)[0] if row["text"]]
    texts = row["text"].split("<file_sep>")
    assert texts[0] == ""
    assert len(texts) - 1 == json.loads(row["meta"])["files"]
    assert TREE["src/main.py"].decode() in texts


def test_by_language_first_a_document_holds_one_language(tmp_path):
    rows, _ = read_checkout(checkout(tmp_path / "repo"), group="language_repository", metadata=1.0)
    languages = [json.loads(row["meta"]).get("language") for row in rows if row["text"]]
    assert languages == ["JavaScript", "Makefile", "Python", "Text"]
    assert [row["license"] for row in rows if row["text"]] == ["Apache-2.0", "MIT", "MIT", "MIT"]


def test_this_repositorys_own_tree_comes_back_byte_for_byte():
    source, (file,) = found("code", ROOT / "factory", group="repository", metadata=1.0)
    rows, skipped = rows_of(source, file)
    files = [part.partition("\n") for row in rows for part in row["text"].split("<file_sep>")[1:]]
    assert len(files) == sum(json.loads(row["meta"])["files"] for row in rows) > 100
    assert all((ROOT / "factory" / path).read_bytes() == text.encode() for path, _, text in files)
    assert rows_of(source, file) == (rows, skipped)


def test_languages_limit_what_is_kept(tmp_path):
    rows, skipped = read_checkout(checkout(tmp_path / "repo"), languages=["JavaScript"])
    assert [json.loads(row["meta"])["path"] for row in rows] == ["src/util.js"]
    assert skipped["language_not_chosen"] == 12


def test_entries_that_are_no_files_of_a_repository_are_refused():
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, kind, link in [
            ("../up.py", tarfile.REGTYPE, ""),
            ("/etc/passwd.py", tarfile.REGTYPE, ""),
            ("link.py", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.py", tarfile.LNKTYPE, "ok.py"),
            ("dev", tarfile.CHRTYPE, ""),
            ("ok.py", tarfile.REGTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, data = kind, link, b"x = 1\n" if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    rows, skipped = read("code", "a.tar.gz", sink.getvalue())
    assert [row["key"] for row in rows] == ["a.tar.gz:ok.py"]
    assert skipped == {"unsafe_path": 2, "link": 3}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_repository_bytes": 100_000}, "too_large: unpacks to more than 100,000 bytes"),
        ({"max_repository_files": 5}, "too_large: more than 5 entries"),
    ],
)
def test_bombs_end_in_an_error(name, config, message):
    entries = {f"f{n}.py": b"a = 1\n" * 20_000 for n in range(10)}
    data = zipped(entries) if name.endswith("zip") else tarball(entries)
    (row,) = read("code", name, data, **config)[0]
    assert row["error"] == message


def test_a_huge_tar_header_is_not_read_into_memory():
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    (row,) = read("code", "a.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))[0]
    assert "a header of 1,073,741,824 bytes" in row["error"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.tar.zst"])
def test_damaged_archives_are_one_error(name):
    data = zipped(TREE) if name.endswith("zip") else tarball(TREE)
    for broken in (data[: len(data) // 2], b"junk" * 500, b""):
        assert problems(read("code", name, broken)[0]) == ["archive"]


def git(folder, *command):
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *command], cwd=folder, env=environment, capture_output=True, check=True)
    return done.stdout


def test_the_commit_and_the_origin_are_told_without_git(tmp_path):
    folder = checkout(tmp_path / "repo")
    assert (commit_of(folder), origin_of(folder)) == (None, None)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    git(folder, "remote", "add", "origin", "https://user:secret@example.org/owner/name.git")
    commit = git(folder, "rev-parse", "HEAD").decode().strip()
    assert (commit_of(folder), origin_of(folder)) == (commit, "owner/name")
    git(folder, "pack-refs", "--all")
    assert commit_of(folder) == commit
    archive = git(folder, "archive", "--format=tar.gz", "--prefix=name-1/", "HEAD")
    rows, _ = read("code", "name.tar.gz", archive, **LIMITS)
    assert {json.loads(row["meta"])["commit"] for row in rows if row["meta"]} == {commit}


def test_a_checkout_that_changes_while_it_is_read_is_an_error(tmp_path):
    source, (file,) = found("code", checkout(tmp_path / "repo"))
    (tmp_path / "repo" / "src" / "main.py").write_text("changed")
    with pytest.raises(InputError, match="changed since it was found"):
        rows_of(source, file)
    assert found("code", tmp_path / "repo")[1][0].identity != file.identity


def test_what_is_no_repository_is_said_so(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="neither a folder"):
        found("code", tmp_path / "*")


@pytest.mark.parametrize(
    ("path", "head", "language"),
    [
        ("a/b.RS", b"", "Rust"),
        ("Dockerfile.dev", b"", "Dockerfile"),
        ("CMakeLists.txt", b"", "CMake"),
        ("tool", b"#!/usr/bin/env -S node --x\n", "JavaScript"),
        ("tool", b"#!/bin/bash\n", "Shell"),
        ("tool", b"#!/usr/bin/python3.11\n", "Python"),
        ("tool", b"words", None),
        ("a.unknown", b"", None),
    ],
)
def test_languages_are_told_by_name_ending_or_first_line(path, head, language):
    assert language_of(path, head) == language


def test_licence_texts_are_told_from_each_other():
    if not DATA.exists():
        pytest.skip("the real data is not here")
    spdx = {"GPL-2": "GPL-2.0", "GPL-3": "GPL-3.0", "LGPL-3": "LGPL-3.0", "Artistic": "Artistic-1.0"}
    for path in (DATA / "LICENSES").glob("*.txt"):
        said = licence_of(path.read_text(encoding="utf-8", errors="replace"))
        assert (said or "").lower() == spdx.get(path.stem, path.stem).lower()
    texts = {name: (DATA / "LICENSES" / f"{name}.txt").read_text() for name in ("mit", "bsd-3-clause", "Apache-2.0")}
    assert licence_of("".join(texts.values())) is None


@pytest.mark.parametrize(
    ("head", "spdx"),
    [
        ("# SPDX-License-Identifier: MIT\n", "MIT"),
        ("/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */", "GPL-2.0-only OR BSD-3-Clause"),
        ("// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */", "GPL-2.0 WITH Linux-syscall-note"),
        ("no licence", None),
    ],
)
def test_a_files_header_says_its_licence(head, spdx):
    assert spdx_header(head) == spdx


def test_repositories_and_a_wiki_are_made_in_a_recipe(tmp_path):
    for name in ("one", "two"):
        checkout(tmp_path / "repos" / name)
    (tmp_path / "dewiki.xml.bz2").write_bytes(multistream(wiki_pages(40)))
    dataset(tmp_path / "hub")
    (tmp_path / "recipe.yaml").write_text(
        """
name: mixed
store: store
tokenizer: none
max_error_share: 0.5
sources:
  code: {use: code, uri: "repos/*", group: repository, snapshot: all, max_file_bytes: 100000}
  wiki: {use: wikipedia, uri: "*.xml.bz2", snapshot: all, part_bytes: 1024}
  hub: {use: huggingface, uri: hub, config: de, snapshot: all}
experiments: {raw: {}}
"""
    )
    with Workspace(load_recipe(str(tmp_path / "recipe.yaml")), LocalExecutor(1)) as workspace:
        assert workspace.snapshots == ["all"]
        (outcome,) = workspace.run(["documents"])
        # Of each repository one document and two files that cannot be read; pages; lines.
        assert outcome.manifest.rows == 2 * 3 + 40 + 2
        (tmp_path / "repos" / "two" / "run").write_text("#!/bin/sh\necho\n")
        workspace.refresh()
        assert next(iter(workspace.plan())).state == "make"


# Front matter


@pytest.mark.parametrize(
    ("text", "title", "license_", "body"),
    [
        ("---\ntitle: A\ndate: 2024-05-06\nlicense: MIT\nn: 3\n---\n\nBody", "A", "MIT", "Body"),
        ('+++\ntitle = "B"\n+++\nBody', "B", None, "Body"),
        ("---\n- a\n---\nBody", None, None, "---\n- a\n---\nBody"),
        ("---\nnot closed\n# H", "H", None, "---\nnot closed\n# H"),
        ("---\na: &x [1]\nb: *x\n---\n# H", "H", None, "---\na: &x [1]\nb: *x\n---\n# H"),
        ("# H\n---\ntitle: no\n---\n", "H", None, "# H\n---\ntitle: no\n---\n"),
    ],
)
def test_front_matter_gives_title_date_and_licence(text, title, license_, body):
    (row,) = read("text", "a.md", text.encode())[0]
    assert (row["title"], row["license"], row["text"]) == (title, license_, body)
    (plain,) = read("text", "a.txt", text.encode())[0]
    assert plain["text"] == text


def test_a_date_of_front_matter_is_the_documents():
    (row,) = read("text", "a.md", b"---\ndate: 2024-05-06\nauthor: Me\n---\nx")[0]
    assert (row["date"].isoformat(), json.loads(row["meta"])) == ("2024-05-06T00:00:00+00:00", {"author": "Me"})


def test_front_matter_that_is_hostile_is_text():
    started = time.process_time()
    for text in ("---\n" + "[" * 60_000 + "\n---\nx", "---\n" + "a: 1\n" * 40_000 + "---\nx", "---\n" * 9):
        front, body = split_front_matter(text)
        assert (dict(front), body) == ({}, text)
    assert time.process_time() - started < 5
