"""The laws of the vocabulary: names of what was asked, choice by hash, books that balance, statistics that add up."""

import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.decisions import add_funnels, failed_labels, funnel_counts
from factory.core.errors import LedgerError
from factory.core.fingerprint import canonical_json, digest_all, fingerprint, hash_ids
from factory.core.ledger import (
    add_counts,
    decisions_ledger,
    documents_ledger,
    error_kind,
    error_share,
    imbalance,
    require_balance,
)
from factory.core.manifest import Manifest, Part, dataset_name
from factory.core.schema import document_id
from factory.core.statistics import drift, histogram, merge_histograms

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=20)
COUNTS = st.dictionaries(st.text(max_size=3), st.integers(0, 99), max_size=4)
VERDICTS = st.integers(0, 12).flatmap(
    lambda rows: st.tuples(
        st.lists(st.lists(st.booleans(), min_size=rows, max_size=rows), max_size=4),
        st.lists(st.booleans(), min_size=rows, max_size=rows),
        st.lists(st.integers(0, 500), min_size=rows, max_size=rows),
    )
)


def verdicts_of(found):
    keeps, errors, tokens = found
    labels = [f"rule{index}" for index in range(len(keeps))]
    table = np.array(keeps, dtype=bool).reshape(len(keeps), len(errors))
    return labels, table, np.array(errors, dtype=bool), np.array(tokens, dtype=np.int64)


# --- names


@given(value=st.dictionaries(st.text(max_size=4), PLAIN, max_size=5))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value):
    backwards = dict(reversed(list(value.items())))
    assert fingerprint(value) == fingerprint(backwards) == fingerprint(json.loads(canonical_json(value)))


def test_a_fingerprint_tells_values_apart_that_print_alike():
    values = [1, 1.5, "1", True, None, [1], [[1]], {"1": 1}, [], {}, "", "null"]
    assert len({fingerprint({"value": value}) for value in values}) == len(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object(), np.float32(1), b"x"])
def test_what_is_no_plain_data_has_no_fingerprint(value):
    with pytest.raises((TypeError, ValueError)):
        fingerprint({"value": value})


def test_a_fingerprint_stays_what_it_is():
    # Stores are addressed by it: a change here makes all of them stale.
    assert fingerprint({"use": "in_range", "version": 1, "config": {"min": 0.5}}) == "1453e63bb07faec5a7d6"


@given(digests=st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=6), data=st.data())
def test_the_digest_of_parts_does_not_depend_on_their_order(digests, data):
    assert digest_all(digests) == digest_all(data.draw(st.permutations(digests)))


def test_a_document_is_its_source_snapshot_and_key():
    ids = {document_id(*names) for names in itertools.product(("a", "ab"), ("b", ""), ("c", "bc"))}
    assert len(ids) == 8
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in ids)
    assert document_id("a", "b", "key \ud800 with a lone surrogate")


# --- choice by hash


@given(ids=NAMES, seed=st.integers(0, 2**64 - 1), cut=st.integers(0, 20))
def test_the_hash_of_a_document_does_not_depend_on_its_neighbours(ids, seed, cut):
    whole = hash_ids(pa.array(ids, pa.string()), seed)
    pieces = [hash_ids(pa.array(piece, pa.string()), seed) for piece in (ids[:cut], ids[cut:])]
    assert whole.dtype == np.uint64
    assert whole.tolist() == np.concatenate(pieces).tolist()


def test_hashes_are_spread_evenly_and_differ_by_seed():
    ids = pa.array([document_id("s", "t", str(n)) for n in range(20_000)])
    first, second = (hash_ids(ids, seed) / 2**64 for seed in (1, 2))
    for share in (0.01, 0.3, 0.9):
        # Five standard deviations of a binomial.
        spread = 5 * math.sqrt(share * (1 - share) / len(ids))
        assert abs((first < share).mean() - share) < spread
        assert abs(((first < share) & (second < share)).mean() - share**2) < spread


# --- books


@given(records=st.lists(st.tuples(st.integers(0, 99), COUNTS), max_size=4), lost=st.integers(1, 5))
def test_books_of_documents_balance_exactly_when_every_record_is_a_row_or_skipped(records, lost):
    notes = [
        {"records": rows + sum(skipped.values()), "rows": rows, "skipped": skipped, "errors": {}}
        for rows, skipped in records
    ]
    assert imbalance(documents_ledger(notes)) is None
    notes.append({"records": lost, "rows": 0, "skipped": {}, "errors": {}})
    assert imbalance(documents_ledger(notes)) is not None
    with pytest.raises(LedgerError, match="documents@x: the ledger does not balance"):
        require_balance("documents@x", documents_ledger(notes))


@given(notes=st.lists(st.tuples(st.integers(0, 99), COUNTS, COUNTS), max_size=4), doubled=st.integers(1, 5))
def test_books_of_decisions_balance_exactly_when_every_row_has_one_fate(notes, doubled):
    books = [
        {
            "rows": kept + sum(dropped.values()) + sum(errors.values()),
            "kept": kept,
            "dropped": dropped,
            "errors": errors,
        }
        for kept, dropped, errors in notes
    ]
    assert imbalance(decisions_ledger(books)) is None
    books.append({"rows": 0, "kept": doubled, "dropped": {}, "errors": {}})
    assert imbalance(decisions_ledger(books)) is not None


@given(counts=st.lists(COUNTS, max_size=5), data=st.data())
def test_counts_add_up_in_any_order(counts, data):
    total = add_counts(counts)
    assert add_counts(data.draw(st.permutations(counts))) == total
    assert sum(total.values()) == sum(sum(part.values()) for part in counts)
    assert list(total) == sorted(total)


def test_errors_are_counted_by_their_kind():
    assert error_kind("json: line 3: expecting ',': or so") == "json"
    assert error_kind("crashed") == "crashed"
    assert error_share({"rows": 4, "errors": {"json": 1}}) == 0.25
    assert error_share({"rows": 0, "errors": {}}) == 0.0


# --- verdicts


@given(found=VERDICTS)
def test_first_failures_add_up_to_all_that_is_dropped(found):
    labels, keeps, errors, tokens = verdicts_of(found)
    rows = funnel_counts(labels, keeps, errors, tokens)
    dropped = ~errors & ~keeps.all(axis=0)
    assert sum(row["first"] for row in rows) == dropped.sum()
    assert sum(row["first_tokens"] for row in rows) == tokens[dropped].sum()


@given(found=VERDICTS)
def test_only_counts_what_taking_the_rule_away_brings_back(found):
    labels, keeps, errors, tokens = verdicts_of(found)
    kept = ~errors & keeps.all(axis=0)
    for index, row in enumerate(funnel_counts(labels, keeps, errors, tokens)):
        without = ~errors & np.delete(keeps, index, axis=0).all(axis=0)
        assert row["only"] == without.sum() - kept.sum()
        assert row["only_tokens"] == tokens[without].sum() - tokens[kept].sum()
        assert row["only"] <= row["failed"]
        assert row["first"] <= row["failed"]


@given(found=VERDICTS, cut=st.integers(0, 12))
def test_funnels_of_parts_add_up_to_the_funnel_of_the_whole(found, cut):
    labels, keeps, errors, tokens = verdicts_of(found)
    pieces = [
        funnel_counts(labels, keeps[:, part], errors[part], tokens[part]) for part in (slice(0, cut), slice(cut, None))
    ]
    assert add_funnels(pieces) == funnel_counts(labels, keeps, errors, tokens)


@given(found=VERDICTS)
def test_every_document_has_the_list_of_rules_it_fails_in_the_order_of_the_recipe(found):
    labels, keeps, _, _ = verdicts_of(found)
    failed = failed_labels(labels, keeps).to_pylist()
    assert failed == [[label for label, keep in zip(labels, column, strict=True) if not keep] for column in keeps.T]


# --- statistics

NUMBERS = st.lists(st.none() | st.floats(-(2.0**99), 2.0**99, width=32), max_size=20)


@given(values=NUMBERS, cut=st.integers(0, 20))
@settings(deadline=None)
def test_histograms_of_parts_add_up_to_the_histogram_of_the_whole(values, cut):
    def counts(piece):
        return {"column": histogram(pa.array(piece, pa.float32()))}

    merged = merge_histograms([counts(values[:cut]), counts(values[cut:])])
    assert merged == {"column": dict(sorted(counts(values)["column"].items()))}
    assert sum(merged["column"].values()) == len(values)


@given(values=st.lists(st.none() | st.sampled_from(["en", "de", "null", ""]), max_size=20))
def test_a_histogram_of_texts_counts_every_row(values):
    assert sum(histogram(pa.array(values, pa.string())).values()) == len(values)


def test_bins_hold_a_quarter_of_a_doubling():
    assert histogram(pa.array([8.0, 9.4, 9.6, -8.0, 0.0, None])) == {"null": 1, "+12": 2, "+13": 1, "-12": 1, "0": 1}
    assert histogram(pa.array([1, 0, 3], pa.uint32())) == {"+0": 1, "0": 1, "+6": 1}


def test_a_text_column_of_many_values_keeps_the_most_frequent():
    counts = histogram(pa.array([str(n) for n in range(1000)] + ["often"] * 5))
    assert counts["often"] == 5
    assert sum(counts.values()) == 1005
    assert len(counts) == 201


@given(before=COUNTS, after=COUNTS)
def test_drift_is_symmetric_finite_and_never_negative(before, after):
    assert math.isfinite(drift(before, after))
    assert math.isclose(drift(before, after), drift(after, before), abs_tol=1e-9)
    assert drift(before, before) == 0.0


@given(counts=COUNTS.filter(lambda counts: all(counts.values())))
def test_more_of_the_same_is_no_drift(counts):
    assert math.isclose(drift(counts, {name: 7 * count for name, count in counts.items()}), 0.0, abs_tol=1e-9)


def test_a_shift_exceeds_what_is_usually_called_one():
    assert drift({"en": 900, "de": 100}, {"en": 500, "de": 500}) > 0.25
    assert drift({"en": 900, "de": 100}, {"en": 890, "de": 110}) < 0.01


# --- manifests


@given(notes=st.dictionaries(st.text(max_size=3), PLAIN, max_size=3), rows=st.lists(st.integers(0, 99), max_size=3))
def test_a_manifest_survives_json(notes, rows):
    parts = tuple(Part(str(n), f"folder/{n}.parquet", count, 10, f"d{n}", "ids", notes) for n, count in enumerate(rows))
    manifest = Manifest("scores", "words", "2026-10", "f00", {"use": "x"}, {"documents": "d"}, parts, notes=notes)
    told = json.loads(json.dumps(manifest.to_json()))
    assert Manifest.from_json(told) == manifest
    assert told["rows"] == manifest.rows == sum(rows)
    assert told["digest"] == manifest.digest


def test_a_dataset_is_called_by_kind_label_and_partition():
    assert dataset_name("scores", "words", "2026-10") == "scores/words@2026-10"
    assert dataset_name("documents", "", "2026-10") == "documents@2026-10"
    assert dataset_name("leaderboard", "", "") == "leaderboard"
