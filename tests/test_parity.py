"""Our rules judge real documents as datatrove's filters and DCLM's list do; docs/parity.md has the tables of thousands."""

import pytest
import verdicts

pytest.importorskip("datatrove", reason="datatrove is not installed (extra dev)")


@pytest.fixture(scope="module")
def documents(shared_data):
    return list(verdicts.documents(shared_data, 66, 40, 54))


def test_every_verdict_is_that_of_datatrove(documents):
    rows = verdicts.compare_with_datatrove(documents)
    assert [row.differences for row in rows if row.differences] == []
    assert all(row.documents > row.dropped > 0 for row in rows)


def test_every_verdict_is_that_of_dclms_rules(documents):
    pytest.importorskip("uniseg", reason="uniseg is not installed (extra dev)")
    rows = verdicts.compare_with_dclm(documents[::4])
    assert [row.differences for row in rows if row.differences] == []
    assert rows[-1].documents > rows[-1].dropped > 0
