"""Spans that go: which copy stays, what counts, and that neither parts, order nor memory has a say."""

import json
import random
import re
from itertools import pairwise

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from span_project import (
    corpus,
    keys_of,
    links_of,
    removed_texts,
    run,
    sentence,
    text_left,
    workspace_of,
    write_snapshot,
)

from factory.kernels.covers import Ranges, cover
from factory.kernels.occurrences import OccurrenceTable, Orders
from factory.recipes.export import export
from factory.recipes.steps.links.spans import needs

FOOTER = "All rights reserved. Follow us on social media.\n"
COLUMNS = ("removed", "removed_bytes", "removed_share", "copies", "bytes_left", "pieces_left", "words_left")


def pages(count, footer=FOOTER, seed=0):
    return [f"{sentence((seed, i, 0))}\n{sentence((seed, i, 1))}\n{footer}" for i in range(count)]


def test_a_planted_footer_goes_from_all_documents_but_the_first(tmp_path):
    write_snapshot(tmp_path, "a", [*pages(50), *pages(30, footer="", seed=1)])
    links, notes = run(tmp_path, use="lines")
    gone = [row for row in links["a"] if row["removed"]]
    assert len(gone) == 49
    assert all(removed_texts(row) == [FOOTER] for row in gone)
    assert [row["copies"] for row in links["a"] if row["text"].endswith(FOOTER)] == [50] * 50
    (first,) = [row for row in links["a"] if row["text"].endswith(FOOTER) and not row["removed"]]
    assert first["doc_id"] == min(row["doc_id"] for row in links["a"] if row["text"].endswith(FOOTER))
    assert notes["a"]["removed_pieces"] == 49
    assert notes["a"]["removed_bytes"] == 49 * len(FOOTER)


def test_the_report_names_the_most_copied_lines_with_their_hosts(tmp_path):
    write_snapshot(tmp_path, "a", pages(50) + pages(20, footer="Subscribe to our newsletter\n", seed=1), parts=3)
    _, notes = run(tmp_path, use="lines")
    first, second = notes["a"]["most_removed"]
    assert (first["text"], first["copies"], first["documents"], first["hosts"]) == (FOOTER.strip(), 50, 50, 7)
    assert first["top_hosts"] == {f"host{i}.example": 8 if i == 0 else 7 for i in range(5)}
    assert (second["text"], second["copies"]) == ("Subscribe to our newsletter", 20)


@pytest.mark.parametrize(
    "linker", [{"use": "lines"}, {"use": "sentences", "n": 1}, {"use": "exact_substring", "length": 5}]
)
def test_how_many_copies_are_too_many_makes_no_keys_again(tmp_path, linker):
    write_snapshot(tmp_path, "a", pages(12))
    few, _ = run(tmp_path, **linker, keep="none", over=12)
    with workspace_of(tmp_path, **linker, keep="first", over=2) as workspace:
        made = {outcome.node.kind for outcome in workspace.run(["links"]) if outcome.made}
        many = links_of(workspace)
    assert made == {"links"}
    assert [sum(bool(row["removed"]) for row in found["a"]) for found in (few, many)] == [0, 11]


@pytest.mark.parametrize(
    ("keep", "over", "gone"), [("none", 6, 50), ("none", 50, 0), ("first", 1, 49), ("none", 49, 50)]
)
def test_keep_and_over_say_how_many_go(tmp_path, keep, over, gone):
    write_snapshot(tmp_path, "a", pages(50))
    links, _ = run(tmp_path, use="lines", keep=keep, over=over)
    assert sum(bool(row["removed"]) for row in links["a"]) == gone


def test_with_within_remove_a_line_that_a_document_repeats_is_reduced_to_one_and_counts_once(tmp_path):
    write_snapshot(tmp_path, "a", [("A refrain of a song\n" * 9) + sentence(1), sentence(2), "short\nshort\nshort\n"])
    links, notes = run(tmp_path, use="lines", keep="none", over=1, within="remove")
    rows = {row["text"][:5]: row for row in links["a"]}
    assert text_left(rows["A ref"]) == "A refrain of a song\n" + sentence(1)
    assert rows["A ref"]["copies"] == 1
    assert rows["short"]["removed"] == []
    assert rows["short"]["copies"] is None
    assert rows["A ref"]["pieces_left"] == 2
    assert notes["a"]["removed_pieces"] == notes["a"]["removed_pieces_within"] == 8
    assert notes["a"]["removed_bytes"] == notes["a"]["removed_bytes_within"] == 8 * len("A refrain of a song\n")


LOOP = "    while True:  # again\n"


@pytest.mark.parametrize(
    ("settings", "copies_left", "within"),
    [
        ({}, [3, 3, 3, 1, 0], 0),
        ({"within": "remove"}, [1, 1, 1, 1, 0], 6),
        ({"over": 3}, [3, 0, 0, 0, 0], 0),
        ({"over": 3, "within": "remove"}, [1, 0, 0, 0, 0], 2),
        ({"over": 3, "keep": "none"}, [0, 0, 0, 0, 0], 0),
        ({"over": 3, "keep": "none", "within": "remove"}, [0, 0, 0, 0, 0], 0),
    ],
)
def test_repeats_within_a_document_go_with_their_line_or_by_themselves_when_asked(
    tmp_path, settings, copies_left, within
):
    # Ids are hashes: where a first document is elected all that have the line are alike.
    texts = [f"{LOOP}{sentence((i, 0))}\n{LOOP * 2}" for i in range(4)] + [sentence(4)]
    if not settings or settings == {"within": "remove"}:
        texts[3] = f"{LOOP}{sentence(3)}"
    write_snapshot(tmp_path, "a", texts, parts=2)
    links, notes = run(tmp_path, use="lines", **settings)
    left = [text_left(row).count(LOOP) for row in links["a"]]
    assert sorted(left, reverse=True) == copies_left
    lines = [row["text"].count("\n") + (not row["text"].endswith("\n")) for row in links["a"]]
    gone = [row["text"].count(LOOP) - count for row, count in zip(links["a"], left, strict=True)]
    assert [row["pieces_left"] for row in links["a"]] == [whole - one for whole, one in zip(lines, gone, strict=True)]
    assert notes["a"]["pieces"] == sum(lines)
    assert notes["a"]["removed_pieces"] == sum(gone)
    assert notes["a"]["removed_pieces_within"] == within
    assert notes["a"]["removed_bytes_within"] == within * len(LOOP)
    assert notes["a"]["removed_bytes"] == sum(gone) * len(LOOP)


def test_within_makes_no_keys_again(tmp_path):
    write_snapshot(tmp_path, "a", [LOOP * 3 + sentence(1)])
    kept, _ = run(tmp_path, use="lines")
    with workspace_of(tmp_path, use="lines", within="remove") as workspace:
        assert {outcome.node.kind for outcome in workspace.run(["links"]) if outcome.made} == {"links"}
        assert [links["a"][0]["removed_bytes"] for links in (kept, links_of(workspace))] == [0, 2 * len(LOOP)]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=7), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_repeat_names_the_piece_it_repeats(texts):
    for lines, row in zip(texts, keys_of("lines", *map("\n".join, texts), min_chars=1), strict=True):
        text = "\n".join(lines)
        pieces = [text[span["start"] : span["end"]].strip() for span in row["spans"]]
        assert pieces == list(dict.fromkeys(lines))
        again = [text[span["start"] : span["end"]].strip() for span in row["repeats"]]
        assert [pieces[number] for number in row["repeat_of"]] == again
        assert len(pieces) + len(again) == len(lines)


def test_code_and_displayed_mathematics_stay():
    code = "import numpy as np\n"
    text = f"{code}```python\n{code}```\n$$\nx = y + z + a\n$$\n$$ a + b + c $$"
    (row,) = keys_of("lines", text)
    assert [text[s["start"] : s["end"]] for s in row["spans"]] == [code]
    assert row["repeats"] == []


def test_cc_net_compares_lines_without_case_digits_and_wide_punctuation():
    lines = "Page 12 of 345 …", "  page 98 of 765\u3002 ", "page 12 of 45"
    assert len({str(row["keys"]) for row in keys_of("lines", *lines)}) == 3
    loose = [row["keys"] for row in keys_of("lines", *lines, normal="cc_net")]
    assert loose[0] == keys_of("lines", "PAGE ٣٤ of 000 —", normal="cc_net")[0]["keys"]
    assert loose[1] == keys_of("lines", "PAGE ١١ of 000", normal="cc_net")[0]["keys"]
    assert loose[2] not in loose[:2]


@given(st.text(alphabet=st.sampled_from("aÄßσΣ19٣。…\x07 \t—éİ中"), min_size=1, max_size=30))
@settings(deadline=None)
def test_the_cc_net_form_is_the_published_one(text):
    punctuation = "，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►"
    lower = re.sub(r"\d", "0", "".join({"ς": "σ"}.get(c, c) for c in text.strip().lower().replace("i̇", "i")))
    normal = re.sub(f"[{punctuation}\x00-\x1f\x7f-\x9f]", "", lower)
    one, other, inner = keys_of("lines", text, f"x{normal}x", f"x{text.strip()}x", normal="cc_net", min_chars=1)
    assert inner["keys"] == other["keys"]
    assert bool(one["keys"]) == bool(normal)


def test_a_shared_block_of_four_sentences_stays_in_the_first_document_alone(tmp_path):
    block = " ".join(sentence(("block", i)) for i in range(4))
    texts = [f"{sentence(('a', i, 0))} {block} {sentence(('a', i, 1))} {sentence(('a', i, 2))}" for i in range(2)]
    write_snapshot(tmp_path, "a", texts)
    links, _ = run(tmp_path, use="sentences")
    first, second = links["a"]
    assert first["removed"] == []
    assert removed_texts(second) == [block + " "]
    assert [row["pieces_left"] for row in links["a"]] == [7, 3]
    assert [row["words_left"] for row in links["a"]] == [7 * 12, 3 * 12]


def test_a_sentence_is_compared_by_its_words_alone():
    texts = "One, two! Three? Four 12.", "one two.\n\n* * *\nTHREE.  Four 7", "One two. Three. Five."
    one, other, longer = keys_of("sentences", *texts)
    assert one["keys"] == other["keys"] != longer["keys"]
    assert [row["words"] for row in (one, other)] == [[2, 1, 2]] * 2
    assert other["spans"][0]["end"] == len("one two.\n\n* * *\n")  # what is blank belongs to the one before


def test_earlier_snapshots_count_and_what_they_kept_stays(tmp_path):
    for number, name in enumerate("abc"):
        write_snapshot(tmp_path, name, pages(4, seed=number), parts=number + 1)
    links, _ = run(tmp_path, use="lines")
    gone = {name: sum(bool(row["removed"]) for row in rows) for name, rows in links.items()}
    assert gone == {"a": 0, "b": 4, "c": 4}  # 4 are not too many; 8 and 12 are, and the first is in a
    assert [row["copies"] for row in links["b"]] == [8] * 4


def test_snapshots_one_by_one_give_what_all_at_once_gives(tmp_path):
    found = []
    for at_once in (True, False):
        folder = tmp_path / str(at_once)
        for number, name in enumerate("abc"):
            write_snapshot(folder, name, pages(5, seed=number) + [sentence(i) for i in range(8)])
            if not at_once:
                links, _ = run(folder, use="lines", over=1)
        found.append(links if not at_once else run(folder, use="lines", over=1)[0])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("scope", "gone"), [("snapshot", [0, 0, 0]), ("global", [11, 12, 12]), ("incremental", [3, 4, 4])]
)
def test_the_scope_says_what_is_counted_together(tmp_path, scope, gone):
    for number, name in enumerate("abc"):
        texts = pages(12 if scope == "global" else 4, seed=number)
        write_snapshot(tmp_path, name, texts)
    links, _ = run(tmp_path, use="lines", scope=scope, over={"snapshot": 4, "global": 30, "incremental": 3}[scope])
    assert [sum(bool(row["removed"]) for row in rows) for rows in links.values()] == gone


@pytest.mark.parametrize(("use", "keep"), [("lines", "first"), ("sentences", "first"), ("exact_substring", "none")])
def test_links_are_the_same_for_any_parts_order_and_memory(tmp_path, use, keep):
    chance = random.Random(7)
    shared = [sentence(("s", i), 30) for i in range(12)]
    texts = [
        "\n".join(chance.choices(shared, k=4) + [sentence(("own", i, j), 20) for j in range(3)]) for i in range(60)
    ]
    texts[5] = texts[9] = "😀 ünïcode " * 40
    found = []
    for parts, memory in ((1, 1 << 30), (2, 1 << 20), (7, 1 << 17), (16, 1 << 30)):
        folder = tmp_path / f"{parts}"
        for name in "ab":
            write_snapshot(folder, name, texts[:40] if name == "a" else texts[20:], parts=parts, order=parts)
        links, notes = run(folder, use=use, keep=keep, over=1, memory=memory)
        assert any(row["removed"] for row in links["a"])
        assert all(text_left(row) is not None for rows in links.values() for row in rows)
        found.append((links, notes))
    assert all(other == found[0] for other in found[1:])


def test_documents_without_text_have_no_links_and_short_ones_lose_nothing(tmp_path):
    write_snapshot(tmp_path, "a", ["", "word", sentence(3)])
    links, _ = run(tmp_path, use="sentences")
    missing, *others = sorted(links["a"], key=lambda row: row["text"] is not None)
    assert all(missing[name] is None for name in COLUMNS)
    assert [(row["removed"], row["removed_share"], row["copies"]) for row in others] == [([], 0.0, None)] * 2


def test_a_line_in_every_document_takes_one_entry_and_linear_time():
    table = OccurrenceTable(10)
    keys = np.full(1_000_000, 7, np.uint64)
    for _ in range(3):
        table.count(keys)
    assert table.filled == 1
    assert len(table.counts) < 100
    assert table.verdicts(keys[:1], np.zeros(1, np.int64), 1, keep_first=False)[0].tolist() == [3_000_000]


TRIPLES = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3))


@given(st.lists(TRIPLES, min_size=1, max_size=40), st.integers(1, 3))
@settings(deadline=None)
def test_counts_and_elections_are_those_of_a_dictionary(triples, over):
    rows = [(*triple, place) for place, triple in enumerate(triples)]
    table = OccurrenceTable(1)  # grows
    key, high, low = (np.array(column, np.uint64) for column in zip(*triples, strict=True))
    place = np.arange(len(rows))
    half = len(rows) // 2
    for piece in (slice(half, None), slice(0, half)):
        table.count(key[piece])
    table.open_election(over)
    for piece in (slice(half, None), slice(0, half)):
        table.elect(key[piece], Orders(high[piece], low[piece], place[piece]))
    copies, removed = table.verdicts(key, place, over, keep_first=True)
    of_key = {one: sorted(row[1:] for row in rows if row[0] == one) for one, *_ in rows}
    assert copies.tolist() == [len(of_key[row[0]]) for row in rows]
    assert removed.tolist() == [len(of_key[row[0]]) > over and of_key[row[0]][0] != row[1:] for row in rows]


@given(st.data())
@settings(deadline=None)
def test_a_cover_is_the_union_of_what_goes(data):
    cuts = sorted(data.draw(st.sets(st.integers(0, 60), max_size=14)))
    units = list(pairwise(cuts))
    width = data.draw(st.integers(1, 4))
    pieces = max(0, len(units) - width + 1)
    removed = np.array([data.draw(st.booleans()) for _ in range(pieces)], np.bool_)
    starts = data.draw(st.lists(st.integers(0, 60), max_size=4))
    always = sorted((start, start + data.draw(st.integers(0, 9))) for start in starts)
    found = cover(_ranges(units), np.array([0, pieces], np.int64), removed, _ranges(always))
    gone = {at for piece in np.flatnonzero(removed) for s, e in units[piece : piece + width] for at in range(s, e)}
    gone |= {at for s, e in always for at in range(s, e)}
    spans = list(zip(found.ranges.starts.tolist(), found.ranges.ends.tolist(), strict=True))
    assert {at for s, e in spans for at in range(s, e)} == gone
    assert found.sizes.tolist() == [len(gone)]
    assert all(one[1] < other[0] for one, other in pairwise(spans))


def _ranges(pairs):
    starts, ends = ([pair[side] for pair in pairs] for side in (0, 1))
    return Ranges(np.array(starts, np.uint32), np.array(ends, np.uint32), np.array([0, len(pairs)], np.int64))


@given(
    st.lists(
        st.one_of(st.none(), st.text(alphabet=st.sampled_from("aé中😀\n .!?`$1\u00a0\u200b")), st.text()), max_size=6
    )
)
@settings(deadline=None, max_examples=60)
def test_pieces_lie_between_characters(texts):
    for stage, more in (
        ("lines", {"min_chars": 1}),
        ("lines", {"min_chars": 1, "normal": "cc_net"}),
        ("sentences", {"n": 1}),
    ):
        for text, row in zip(texts, keys_of(stage, *texts, **more), strict=True):
            assert (row["keys"] is None) == (text is None)
            last = 0
            for span in [] if text is None else row["spans"]:
                assert last <= span["start"] < span["end"]
                text.encode()[span["start"] : span["end"]].decode()
                last = span["end"]


@given(st.lists(st.one_of(st.none(), st.text()), max_size=8), st.data())
@settings(deadline=None, max_examples=40)
def test_keys_do_not_depend_on_the_batch(texts, data):
    at = data.draw(st.integers(0, len(texts)))
    for stage, more in (("lines", {}), ("sentences", {}), ("exact_substring", {"length": 2})):
        parts = (keys_of(stage, *piece, **more) for piece in (texts[:at], texts[at:]))
        assert keys_of(stage, *texts, **more) == [row for part in parts for row in part]


def test_ordinary_text_loses_few_lines_and_all_are_listed(shared_data, tmp_path):
    texts = corpus(shared_data, "wikipedia", "books")
    write_snapshot(tmp_path, "a", texts, parts=2)
    links, notes = run(tmp_path, use="lines")
    assert notes["a"]["removed_pieces"] < 0.01 * notes["a"]["pieces"]
    listed = {piece["text"] for piece in notes["a"]["most_removed"]}
    lost = {line.strip()[:200] for row in links["a"] for piece in removed_texts(row) for line in piece.split("\n")}
    assert listed
    assert listed <= lost
    links, notes = run(tmp_path, use="sentences")
    assert sum(row["removed_bytes"] for row in links["a"]) < 0.01 * notes["a"]["text_bytes"]


def test_what_is_needed_is_said_beforehand_and_stays_within_memory():
    for keys in (10**4, 10**8, 10**10):
        found = needs(10**6, keys, 1 << 30)
        assert found.memory <= 1 << 30
        assert found.disk >= 12 * keys
    assert needs(10, 10**8, 1 << 30).splits < needs(10, 10**8, 1 << 22).splits


REWRITE = {
    "rewrite": {"footers": {"use": "remove_spans", "column": "seen_removed"}},
    "filters": {"left": {"use": "in_range", "column": "seen_bytes_left", "min": 1}},
}


def test_footers_are_gone_from_what_is_exported_and_a_document_of_nothing_else_is_dropped(tmp_path):
    texts = [*pages(50), FOOTER]
    write_snapshot(tmp_path, "a", texts)
    with workspace_of(tmp_path, use="lines", keep="none", more=REWRITE) as workspace:
        workspace.run(["decisions"])
        export(workspace, "base", str(tmp_path / "out"), "jsonl")
    files = sorted((tmp_path / "out").rglob("*.jsonl*"))
    rows = [json.loads(line) for file in files for line in read_lines(file)]
    assert sorted(row["text"] for row in rows) == sorted(text.removesuffix(FOOTER) for text in texts[:50])


def read_lines(path):
    data = path.read_bytes()
    return (zstandard.ZstdDecompressor().stream_reader(data).read() if path.suffix == ".zst" else data).splitlines()
