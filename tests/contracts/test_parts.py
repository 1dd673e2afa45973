"""Parts: a digest is over content and nothing else, what is read is what was written, and rows beside rows belong together."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import IntegrityError
from factory.core.fingerprint import TableDigest, digest_table
from factory.storage import parts
from factory.storage.parts import (
    damage,
    find_part,
    iterate_part,
    read_aligned,
    read_part,
    write_file,
    write_part,
    write_thin_part,
)
from factory.storage.store import Store

TYPES = {
    "text": (pa.large_string(), st.text(max_size=8)),
    "word": (pa.string(), st.text(max_size=8)),
    "bytes": (pa.binary(), st.binary(max_size=8)),
    "count": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "key": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "score": (pa.float32(), st.floats(width=32)),
    "flag": (pa.bool_(), st.booleans()),
    "date": (pa.timestamp("ms", tz="UTC"), st.integers(0, 2**40)),
    "names": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=4), max_size=3)),
    "keys": (pa.list_(pa.uint64()), st.lists(st.integers(0, 2**64 - 1), max_size=3)),
    "place": (
        pa.struct([("file", pa.string()), ("offset", pa.int64()), ("lines", pa.list_(pa.int32()))]),
        st.fixed_dictionaries(
            {
                "file": st.none() | st.text(max_size=4),
                "offset": st.none() | st.integers(0, 2**62),
                "lines": st.none() | st.lists(st.integers(0, 9), max_size=2),
            }
        ),
    ),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in TYPES.items()])
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in TYPES.items()}), max_size=12)


def table_of(rows):
    return pa.Table.from_pylist(rows, SCHEMA)


def documents(count, start=0):
    names = pa.array([f"{number:032x}" for number in range(start, start + count)], pa.string())
    texts = pa.array([f"text of {number}" for number in range(start, start + count)], pa.large_string())
    return pa.RecordBatch.from_arrays([names, texts], names=["doc_id", "text"])


@given(rows=ROWS, cuts=st.lists(st.integers(0, 12), max_size=4))
@settings(max_examples=60, deadline=None)
def test_where_a_table_is_cut_into_batches_makes_no_difference(rows, cuts):
    table, digest = table_of(rows), TableDigest(SCHEMA)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut <= len(rows))})
    for start, stop in itertools.pairwise(bounds):
        digest.update(table.slice(start, stop - start))
    assert digest.hexdigest() == digest_table(table)


@given(rows=ROWS, start=st.integers(0, 12), length=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_a_slice_has_the_digest_of_its_rows(rows, start, length):
    assert digest_table(table_of(rows).slice(start, length)) == digest_table(table_of(rows[start : start + length]))


@given(rows=ROWS)
@settings(max_examples=40, deadline=None)
def test_parquet_keeps_the_digest(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(table_of(rows), sink)
    assert digest_table(pq.read_table(pa.BufferReader(sink.getvalue()))) == digest_table(table_of(rows))


@given(rows=ROWS, other=ROWS)
@settings(max_examples=60, deadline=None)
def test_other_rows_have_another_digest(rows, other):
    # repr, because NaN is not equal to itself.
    assert (digest_table(table_of(rows)) == digest_table(table_of(other))) == (repr(rows) == repr(other))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array(["ab", "c"]), pa.array(["a", "bc"])),
        (pa.array([None, ""]), pa.array(["", None])),
        (pa.array([0, None]), pa.array([0, 0])),
        (pa.array([1], pa.int32()), pa.array([1], pa.int64())),
        (pa.array([[1], []]), pa.array([[], [1]])),
        (pa.array([[], None], pa.list_(pa.int8())), pa.array([None, []], pa.list_(pa.int8()))),
        (pa.array([["a", "b"]]), pa.array([["ab"]])),
        (pa.array([{"a": None}]), pa.array([None], pa.struct([("a", pa.null())]))),
    ],
)
def test_values_that_look_alike_have_different_digests(left, right):
    assert digest_table(pa.table({"column": left})) != digest_table(pa.table({"column": right}))


def test_what_lies_under_a_null_is_no_content():
    hidden = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 3, 4], np.int32)), pa.py_buffer(b"xyza"))
    masked = pa.StringArray.from_buffers(2, *hidden.buffers()[1:], pa.py_buffer(b"\x02"), null_count=1)
    assert digest_table(pa.table({"column": masked})) == digest_table(pa.table({"column": pa.array([None, "a"])}))


def test_a_type_without_a_digest_is_refused_by_name():
    with pytest.raises(TypeError, match="column price: type decimal"):
        digest_table(pa.table({"price": pa.array([1], pa.decimal128(5))}))


def test_a_part_is_read_as_it_was_written(store):
    batches = [documents(3), documents(0), documents(2, start=3)]
    part = write_part(store, "folder", "name", batches[0].schema, batches, notes=lambda: {"seen": 5})
    table = pa.Table.from_batches(batches)
    assert read_part(store, part).equals(table)
    assert read_part(store, part, ["text"]).equals(table.select(["text"]))
    assert find_part(store, "folder", "name") == part
    assert (part.rows, part.notes, part.digest) == (5, {"seen": 5}, digest_table(table))


def test_an_empty_part_is_a_part(store):
    part = write_part(store, "folder", "name", documents(0).schema, [])
    assert read_part(store, part).num_rows == 0
    assert list(iterate_part(store, part, ["text"])) == []
    assert damage(store, part) is None


def test_the_bytes_of_a_part_do_not_depend_on_how_its_rows_arrived(tmp_path):
    store = Store(str(tmp_path))
    whole = write_part(store, "a", "name", documents(0).schema, [documents(1000)])
    cut = write_part(store, "b", "name", documents(0).schema, [documents(1, start=row) for row in range(1000)])
    assert (whole.digest, whole.ids) == (cut.digest, cut.ids)


def test_a_part_without_its_record_does_not_exist(store):
    part = write_part(store, "folder", "name", documents(0).schema, [documents(3)])
    store.delete("folder/name.json")
    assert find_part(store, "folder", "name") is None
    assert store.size(part.path)


def test_a_part_of_another_size_or_with_a_broken_record_counts_as_not_made(store):
    part = write_part(store, "folder", "name", documents(0).schema, [documents(3)])
    store.put(part.path, store.read(part.path)[:-1])
    assert find_part(store, "folder", "name") is None
    store.put("folder/name.json", b'{"name": "na')
    assert find_part(store, "folder", "name") is None


def test_an_attempt_that_dies_leaves_no_part(store):
    def dies():
        yield documents(3)
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        write_part(store, "folder", "name", documents(0).schema, dies())
    assert store.files() == {}


def test_every_altered_byte_is_detected(tmp_path):
    store = Store(str(tmp_path))
    part = write_part(store, "folder", "name", documents(0).schema, [documents(20)])
    sound = store.read(part.path)
    assert damage(store, part) is None
    for position in range(0, len(sound), 7):
        altered = bytearray(sound)
        altered[position] ^= 0x10
        store.put(part.path, bytes(altered))
        found = damage(store, part)
        # Some bytes of the footer say who wrote the file; those alone may change without changing what is read.
        assert found or read_part(store, part).equals(pa.Table.from_batches([documents(20)])), position


def test_an_altered_page_is_detected_also_when_one_column_is_read(store):
    part = write_part(store, "folder", "name", documents(0).schema, [documents(500)])
    data = bytearray(store.read(part.path))
    data[200] ^= 1  # in the pages of doc_id, which come first
    store.put(part.path, bytes(data))
    with pytest.raises(IntegrityError, match="is damaged"):
        read_part(store, part, ["doc_id"])
    with pytest.raises(IntegrityError, match="is damaged"):
        list(iterate_part(store, part, ["doc_id"]))


def test_other_content_in_a_sound_file_is_detected(store):
    part = write_part(store, "folder", "name", documents(0).schema, [documents(3)])
    other = write_part(store, "other", "name", documents(0).schema, [documents(3, start=7)])
    store.put(part.path, store.read(other.path))
    with pytest.raises(IntegrityError, match="does not hold what was written"):
        read_part(store, part)


def test_a_part_that_is_gone_is_named(store):
    part = write_part(store, "folder", "name", documents(0).schema, [documents(3)])
    store.delete(part.path)
    for use in (lambda: read_part(store, part), lambda: list(iterate_part(store, part, ["text"]))):
        with pytest.raises(IntegrityError, match=r"folder/name.parquet is listed in a manifest but is gone"):
            use()
    assert damage(store, part) == f"folder/name.parquet: gone, {part.bytes:,} were written"


def test_aligned_columns_stand_beside_their_documents(store):
    document = write_part(store, "documents", "one", documents(0).schema, [documents(3)])
    batches = [pa.RecordBatch.from_pydict({"words": [1, 2]}), pa.RecordBatch.from_pydict({"words": [3]})]
    thin = write_thin_part(store, "scores", document, {"words": pa.int64()}, batches)
    assert read_part(store, thin).column("row").to_pylist() == [0, 1, 2]
    table = read_aligned(store, document, [(thin, {"words": "statistics_words"})], own=["text"])
    assert table.column_names == ["text", "statistics_words"]
    assert table.column("statistics_words").to_pylist() == [1, 2, 3]


def test_columns_of_other_documents_are_refused(store):
    schema = documents(0).schema
    one, other = (write_part(store, "documents", str(at), schema, [documents(3, start=at)]) for at in (0, 5))
    words = [pa.RecordBatch.from_pydict({"words": [1, 2, 3]})]
    thin = write_thin_part(store, "scores", one, {"words": pa.int64()}, words)
    with pytest.raises(IntegrityError, match=r"stands beside other documents than documents/5.parquet"):
        read_aligned(store, other, [(thin, {"words": "words"})])


@pytest.mark.parametrize("rows", [2, 4])
def test_a_thin_part_has_exactly_the_rows_of_its_documents(store, rows):
    document = write_part(store, "documents", "one", documents(0).schema, [documents(3)])
    words = [pa.RecordBatch.from_pydict({"words": list(range(rows))})]
    with pytest.raises(IntegrityError, match=f"{rows} rows beside 3 documents"):
        write_thin_part(store, "scores", document, {"words": pa.int64()}, words)
    assert store.files("scores") == {}


def test_a_large_part_is_read_a_row_group_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 1 << 20)
    store, text = Store(str(tmp_path)), np.random.default_rng(0).bytes(1 << 19).hex()
    batch = pa.RecordBatch.from_pydict({"doc_id": ["0"], "text": pa.array([text], pa.large_string())})
    part = write_part(store, "folder", "name", batch.schema, [batch] * 64)
    before, most = pa.total_allocated_bytes(), 0
    for _ in iterate_part(store, part, ["text"]):
        most = max(most, pa.total_allocated_bytes() - before)
    assert pq.ParquetFile(tmp_path / part.path).metadata.num_row_groups >= 32
    assert most < 16 << 20  # of 64 MB of text


def test_a_file_that_is_no_table_is_checked_byte_by_byte(store, tmp_path):
    (tmp_path / "model").write_bytes(b"weights")
    part = write_file(store, "models", "model.bin", str(tmp_path / "model"))
    assert damage(store, part) is None
    store.put(part.path, b"weightz")
    assert damage(store, part) == "models/model.bin: not the bytes that were written"


def test_records_of_parts_are_plain_json(store):
    part = write_part(store, "folder", "name", documents(0).schema, [documents(3)])
    assert json.loads(store.read("folder/name.json")) == part.to_json()
