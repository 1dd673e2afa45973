"""Personal data: found where it was planted and not elsewhere, in linear time; redacted once and for all."""

import json
import random
import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from planted_items import MAKERS, SENTENCES, planted
from pydantic import ValidationError
from tiny_project import RECIPE, write_project

from factory.core.errors import FactoryError
from factory.core.schema import EDITS
from factory.kernels.edits import apply_edits
from factory.recipes.export import export
from factory.recipes.load import load_recipe
from factory.recipes.workspace import Workspace
from factory.stages.personal_items import FINEWEB_EMAILS, KINDS, entropy, passes_luhn, passes_mod_97
from factory.stages.rewriters.redact import Redact, redact
from factory.stages.rewriters.repair_encoding import edits_of, repair_encoding
from factory.stages.rewriters.symbol_lines import SymbolLines, symbol_lines
from factory.stages.scorers.pii import Settings, pii

DETECT = pii(Settings())
PLANTED = 500


def batch(*texts):
    return pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])


def found(text, detect=DETECT):
    return [
        (text.encode()[i["start"] : i["end"]].decode(), i["kind"]) for i in detect(batch(text)).to_pylist()[0]["found"]
    ]


def redacted(texts, detect=DETECT, **settings):
    spans = detect(batch(*texts)).column("found")
    rows = pa.record_batch([spans, pa.array(texts, pa.large_string())], names=["found", "text"])
    edits = redact(Redact(column="found", **settings))(rows).column("edits")
    return apply_edits(rows.column("text"), [edits]).to_pylist()


@pytest.mark.parametrize(
    ("kind", "recall"),
    [
        ("email", 0.98),
        ("ipv4", 0.98),
        ("ipv6", 0.98),
        ("card", 0.98),
        ("iban", 0.98),
        ("key", 0.98),
        ("ssn", 0.98),
        ("phone", 0.8),
    ],
)
def test_what_was_planted_in_five_hundred_pages_is_found_where_it_stands(kind, recall):
    pages = [planted(kind, number) for number in range(PLANTED)]
    rows = DETECT(batch(*(text for text, _, _ in pages))).column("found").to_pylist()
    wanted = [{"start": start, "end": end, "kind": kind} for _, start, end in pages]
    hits = sum(item in row for item, row in zip(wanted, rows, strict=True))
    others = [item for one, row in zip(wanted, rows, strict=True) for item in row if item != one]
    assert hits >= recall * PLANTED
    assert len(others) <= PLANTED - hits + 2


def test_ordinary_sentences_hold_nothing():
    assert found(" ".join(SENTENCES)) == []


def test_what_looks_like_an_address_is_left_alone():
    text = (
        "react@16.7.0 icon@3x.png @jane @user@mastodon.social git@github.com:a/b A@B.T x@w.dot(y) a@b std::vector 12:34:56 "
        "jane..roe@corp.org @font-face foo@bar.notaword me@localhost https://name@host.org/ #020 7123 4567 "
        "ftp://user:password@host.org email@example.com"
    )
    assert found(text) == []


def test_an_address_ends_where_the_sentence_goes_on():
    assert found("To me@there.com.Contact us, you@here.de, or 'it@x.org'.") == [
        ("me@there.com", "email"),
        ("you@here.de", "email"),
        ("it@x.org", "email"),
    ]


def test_addresses_on_ordinary_pages_stand_alone(shared_data):
    """At most one false address in a thousand pages: each is a name and a host with nothing of a word around it."""
    shape = re.compile(r"[\w.%+'~-]{1,64}@[\w.-]{1,200}\.[A-Za-z]{2,20}")
    pages, false = 0, 0
    for name in ("wikipedia", "books", "howto", "textbook", "government"):
        with zstandard.open(
            shared_data / "corpus" / f"{name}.jsonl.zst", "rt", encoding="utf-8", newline="\n"
        ) as lines:
            texts = [json.loads(line)["text"] for line in lines]
        pages += len(texts)
        for text, row in zip(texts, DETECT(batch(*texts)).column("found").to_pylist(), strict=True):
            raw = text.encode()
            for item in row:
                if item["kind"] == "email":
                    around = raw[max(0, item["start"] - 1) : item["start"]] + raw[item["end"] : item["end"] + 1]
                    whole = shape.fullmatch(raw[item["start"] : item["end"]].decode())
                    false += whole is None or around.isalnum()
    assert pages > 1000
    assert false <= pages / 1000


@pytest.mark.parametrize(
    "unit",
    [
        "@",
        "1.",
        "a.",
        "a@",
        "1 ",
        "+1",
        "(",
        "1:",
        "2001:",
        "::",
        "eyJ.",
        "sk-",
        "://",
        "AB12",
        "-----BEGIN " + "PRIVATE KEY-----",
        "a@b.",
    ],
)
def test_no_text_takes_long(unit):
    for text in (unit * (1_000_000 // len(unit)), unit * (999_999 // len(unit)) + "@", "x" * 1_000_000 + "@" + unit):
        begin = time.process_time()
        DETECT(batch(text))
        assert time.process_time() - begin < 10


def test_time_is_linear_in_the_text():
    def seconds(text):
        begin = time.process_time()
        DETECT(batch(text))
        return time.process_time() - begin

    once, again = ("a." * 50_000 + "@") * 2, ("a." * 50_000 + "@") * 20
    seconds(once)
    assert seconds(again) < 100 * max(seconds(once), 0.001)


@given(st.text(alphabet="0123456789  ()-./+@:ABab\u00a0ä\n", max_size=120))
@hypothesis_settings(max_examples=300)
def test_any_text_can_be_looked_at_and_redacted_once(text):
    once = redacted([text], policy="tag")
    assert redacted(once, policy="tag") == once


def test_counts_agree_with_what_was_found():
    texts = [planted(kind, n)[0] for kind in MAKERS for n in range(20)]
    for row in DETECT(batch(*texts)).to_pylist():
        assert row["total"] == len(row["found"]) == sum(row[kind] for kind in KINDS)
        ends = [0, *(item["end"] for item in row["found"])]
        assert all(end <= item["start"] < item["end"] for end, item in zip(ends, row["found"], strict=False))


def test_only_the_kinds_that_were_asked_for_are_columns():
    detect = pii(Settings(kinds=("email", "ipv4")))
    assert detect(batch("x")).schema.names == ["found", "email", "ipv4", "total"]
    assert found("a@b.org 212-555-0123 4539 1488 0343 6467", detect) == [("a@b.org", "email")]


def test_phones_of_a_country_are_found_where_the_recipe_names_it():
    assert found("Es el 91 411 22 33.") == []
    assert found("Es el 91 411 22 33.", pii(Settings(regions=("ES",)))) == [("91 411 22 33", "phone")]


def test_mistaken_settings_are_explained():
    with pytest.raises(ValidationError, match="Did you mean 'email'"):
        Settings(kinds=("emial",))
    with pytest.raises(FactoryError, match="no region with phone numbers"):
        pii(Settings(regions=("XX",)))
    with pytest.raises(ValidationError, match="fineweb says nothing about 'phone'"):
        Redact(column="x", policy={"phone": "fineweb"})
    with pytest.raises(FactoryError, match="takes spans with their kind"):
        redact(Redact(column="n"))(pa.record_batch([pa.array([1]), pa.array(["x"])], names=["n", "text"]))


def test_check_digits():
    assert passes_luhn("4539148803436467")
    assert not passes_luhn("4539148803436468")
    assert passes_mod_97("GB82WEST12345698765432")
    assert not passes_mod_97("GB00WEST12345698765432")
    assert entropy(b"aaaa") == 0
    assert entropy(b"abcd") == 2


ITEMS = st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 300)).map(
    lambda drawn: MAKERS[drawn[0]](random.Random(repr(drawn)))
)
TEXTS = st.lists(
    st.one_of(ITEMS, st.sampled_from([*SENTENCES, "\n", "tel", "häß", "https://joe:hunter2@db.org/x", "é"])), max_size=8
)


@pytest.mark.parametrize("policy", ["tag", "fineweb", "synthetic"])
@given(parts=TEXTS, glue=st.sampled_from([" ", ", ", "\n", " - ", "; "]))
@hypothesis_settings(max_examples=200)
def test_redacting_twice_changes_nothing(policy, parts, glue):
    once = redacted([glue.join(parts)], policy=policy)
    assert redacted(once, policy=policy) == once


@pytest.mark.parametrize("policy", ["tag", "synthetic", "remove"])
def test_nothing_is_left_of_what_was_found_and_all_else_stays_byte_for_byte(policy):
    for kind in MAKERS:
        pages = [planted(kind, number) for number in range(50)]
        spans = DETECT(batch(*(text for text, _, _ in pages))).column("found").to_pylist()
        for (text, _, _), items, made in zip(pages, spans, redacted([p[0] for p in pages], policy=policy), strict=True):
            raw, at = made.encode(), 0
            last = 0
            for item in items:
                between = text.encode()[last : item["start"]]
                place = raw.index(between, at)
                assert place == at or last
                at, last = place + len(between), item["end"]
                assert text.encode()[item["start"] : item["end"]] not in raw
            assert raw.endswith(text.encode()[last:])


def test_one_value_is_the_same_everywhere_and_another_under_another_key():
    texts = ["jane.roe@corp.org and 62.4.19.200", "again: jane.roe@corp.org!"]
    one, two = redacted(texts, policy="synthetic", key="a")
    fake = re.search(r"\S+@\S+\.example", one)[0]
    assert fake in two
    assert len(fake.partition("@")[0]) == len("jane.roe")
    assert re.search(r"\b10\.\d+\.\d+\.\d+$", one)
    assert redacted(texts, policy="synthetic", key="b") != [one, two]


def test_fineweb_replaces_mail_and_public_addresses_only():
    made = redacted(["a@b.org and 62.4.19.200, (212) 643-2190"], policy="fineweb")[0]
    assert any(made.startswith(mail) for mail in FINEWEB_EMAILS)
    assert made.endswith(", (212) 643-2190")
    assert "62.4.19.200" not in made


def test_kinds_that_are_left_out_stay():
    assert redacted(["a@b.org, (212) 643-2190"], kinds=("phone",)) == ["a@b.org, <PHONE>"]


def test_the_exported_corpus_is_redacted_and_without_the_lines_c4_drops(tmp_path):
    recipe = write_project(tmp_path)
    page = tmp_path / "data" / "2026-10" / "mail.jsonl"
    page.write_text(
        json.dumps(
            {
                "id": "m",
                "text": "Write to jane@corp.org before the end of the month.\nMenu\nnaÃ¯ve people, joe@corp.org, agreed.",
            }
        )
        + "\n"
    )
    recipe.write_text(
        RECIPE.replace("scorers:", "scorers:\n  c4: {use: c4}\n  pii: {use: pii}")
        .replace("tokenizer: {vocab_size: 300, documents: 100}", "tokenizer: none")
        .replace("mixture: {use: natural, tokens: 20000, max_epochs: 4, by: host}\n", "")
        + "rewrite:\n  repair: {use: repair_encoding}\n  redact: {use: redact, column: pii_found}\n"
        + "  lines: {use: remove_spans, column: c4_removed}\n"
    )
    with Workspace(load_recipe(str(recipe))) as opened:
        opened.run()
        made = export(opened, "raw", str(tmp_path / "out"))
    texts = [
        text
        for file in made["files"]
        for text in pq.read_table(tmp_path / "out" / file["path"]).column("text").to_pylist()
        if "<EMAIL>" in (text or "")
    ]
    assert texts == ["Write to <EMAIL> before the end of the month.\nnaïve people, <EMAIL>, agreed."]


def rewritten(rewrite, *texts):
    rows = batch(*texts)
    return apply_edits(rows.column("text"), [rewrite(rows).column("edits")]).to_pylist()


REPAIR = repair_encoding(None)
WORDS = (  # noqa: SIM905 (as it is read)
    "café naïve Zürich façade Ångström señor – — “quoted” ‘single’ … déjà vu Łódź Привет こんにちは 中文 für £5 10° ½ ©"
).split()


def mojibake(text):
    for encoding in ("windows-1252", "latin-1"):
        try:
            return text.encode().decode(encoding)
        except UnicodeDecodeError:
            continue
    return text


def test_text_read_in_a_wrong_encoding_is_repaired():
    whole = [f"The {a} stood beside the {b} for years." for a in WORDS for b in WORDS]
    broken = [mojibake(text) for text in whole]
    right = sum(made == text for made, text in zip(rewritten(REPAIR, *broken), whole, strict=True))
    assert right > 0.95 * len(whole)


def test_repairing_twice_changes_nothing():
    texts = [mojibake(f"{a} {b}\n{b}\x00 x\ufeff") for a in WORDS for b in WORDS]
    once = rewritten(REPAIR, *texts)
    assert rewritten(REPAIR, *once) == once


def test_sound_english_documents_are_not_changed(shared_data):
    texts = []
    for name in ("wikipedia", "books", "government", "howto"):
        with zstandard.open(
            shared_data / "corpus" / f"{name}.jsonl.zst", "rt", encoding="utf-8", newline="\n"
        ) as lines:
            texts += [json.loads(line)["text"] for line in lines]
    changed = sum(bool(edits) for edits in REPAIR(batch(*texts)).column("edits").to_pylist())
    assert changed < 0.01 * len(texts)


def test_an_edit_of_the_encoding_leaves_the_rest_of_the_line_to_others():
    assert edits_of("write to a@b.org, Ã¤h, now") == [(18, 24, "äh,")]


@given(
    st.lists(st.sampled_from(["|", " | ", "", "a", "a|b", "||", "ä"]), max_size=12).map("\n".join),
    st.sampled_from(["\n", ""]),
)
def test_symbol_lines_go_and_others_stay(text, replacement):
    clean = symbol_lines(SymbolLines(replacement=replacement))
    once = rewritten(clean, text)
    assert not any(line.strip() and not line.strip("| ") for line in once[0].split("\n"))
    assert [line for line in once[0].split("\n") if line.strip()] == [
        line for line in text.split("\n") if line.strip("| ")
    ]
    assert rewritten(clean, *once) == once


def test_symbol_lines_are_those_of_fineweb2():
    formatter = pytest.importorskip("datatrove.pipeline.formatters.symbol_lines_remover").SymbolLinesFormatter
    theirs = formatter(symbols_to_remove=["|"], replace_char="\n")
    texts = ["a\n|\n| |\nb", "|\na", "a\n||", "a\n\n|\n   \nb | c", "|"]
    assert rewritten(symbol_lines(SymbolLines()), *texts) == [theirs.format(text) for text in texts]


def test_edits_are_on_whole_characters():
    texts = ["Ã©tÃ© ä", "\x00ä\x00", "ä\n|\nä"]
    for rewrite in (REPAIR, symbol_lines(SymbolLines())):
        edits = rewrite(batch(*texts)).column("edits")
        assert edits.type == EDITS
        apply_edits(pa.array(texts, pa.large_string()), [edits])
