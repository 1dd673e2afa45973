"""Rows into buckets: all of them, in their order, whatever their columns are."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.storage.exchange import cut, read_rows, write_rows
from factory.storage.store import Store

COLUMNS = {
    "wide": pa.array(range(1 << 63, (1 << 63) + 40), pa.uint64()),
    "narrow": pa.array(range(-20, 20), pa.int8()),
    "real": pa.array([number / 7 for number in range(40)], pa.float32()),
    "holes": pa.array([None if number % 3 else number for number in range(40)], pa.int64()),
    "lists": pa.array([[number] * (number % 4) for number in range(40)], pa.list_(pa.uint32())),
    "yes": pa.array([number % 5 == 0 for number in range(40)]),
}


@given(
    st.lists(st.integers(0, 4), max_size=40),
    st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1),
    st.integers(0, 40),
    st.sampled_from([np.uint64, np.int64, np.uint16]),
)
@settings(deadline=None)
def test_every_bucket_has_its_rows_in_their_order(target, names, middle, kind):
    table = pa.table({name: COLUMNS[name][: len(target)] for name in sorted(names)})
    pieces = pa.concat_tables([table.slice(0, middle), table.slice(middle)])
    found = list(cut(pieces, np.array(target, kind), 5))
    assert len(found) == 5
    for bucket, rows in enumerate(found):
        expected = table.filter(pa.array([number == bucket for number in target], pa.bool_()))
        assert rows.combine_chunks().equals(expected.combine_chunks())


def test_a_row_without_a_bucket_is_refused_and_what_was_put_there_is_read_back(tmp_path):
    table = pa.table({"key": [1, 2, 3]})
    with pytest.raises(ValueError, match="bucket 7, and there are 2"):
        list(cut(table, np.array([0, 7, 1]), 2))
    store = Store(str(tmp_path))
    write_rows(store, "exchange", "a", 3, np.array([2, 0, 2]), table)
    assert [read_rows(store, "exchange", bucket, ["a"]).column("key").to_pylist() for bucket in range(3)] == [
        [2],
        [],
        [1, 3],
    ]
