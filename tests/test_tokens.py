"""Token files: what is written is what is read, and whatever is damaged says so."""

import os
import struct
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.core.errors import FactoryError, IntegrityError
from factory.storage.tokens import HEADER, TokenFile, TokenWriter

DOCUMENTS = [[1, 2, 3], [], [65_535], list(range(500))]


def write(prefix, documents, dtype="uint16"):
    with TokenWriter(prefix, dtype) as writer:
        for document in documents:
            writer.append(np.array(document, dtype=dtype), [len(document)])
    return writer.summary


def test_documents_come_back_in_order(tmp_path):
    summary = write(tmp_path / "part", DOCUMENTS)
    file = TokenFile(tmp_path / "part")
    assert [file.document(i).tolist() for i in range(len(file))] == DOCUMENTS
    assert (summary.documents, summary.tokens) == (4, 504) == (len(file), file.tokens)
    assert summary.digest == file.digest


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=8))
def test_how_documents_are_batched_does_not_matter(tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("tokens")
    one = write(folder / "one", documents, "int32")
    with TokenWriter(folder / "two", "int32") as writer:
        writer.append(np.array([*chain(*documents)], dtype=np.int64), [len(d) for d in documents])
    assert writer.summary == one
    assert (folder / "one.idx").read_bytes() == (folder / "two.idx").read_bytes()


def test_the_bytes_are_megatrons(tmp_path):
    write(tmp_path / "part", [[7, 8], [9]])
    assert (tmp_path / "part.bin").read_bytes() == struct.pack("<3H", 7, 8, 9)
    assert (tmp_path / "part.idx").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 8, 2, 3)
        + struct.pack("<2i", 2, 1)
        + struct.pack("<2q", 0, 4)
        + struct.pack("<3q", 0, 1, 2)
    )


def test_the_same_ids_cut_elsewhere_have_another_digest(tmp_path):
    assert write(tmp_path / "a", [[1, 2], [3]]).digest != write(tmp_path / "b", [[1], [2, 3]]).digest


def test_a_file_without_documents_can_be_read(tmp_path):
    write(tmp_path / "none", [])
    assert (len(TokenFile(tmp_path / "none")), TokenFile(tmp_path / "none").tokens) == (0, 0)


def test_an_id_that_does_not_fit_is_refused(tmp_path):
    writer = TokenWriter(tmp_path / "part", "uint16")
    with pytest.raises(FactoryError, match=r"65,536 does not fit uint16\. Ask for int32"):
        writer.append(np.array([65_536]), [1])
    writer.close()


def test_an_interrupted_writing_leaves_no_token_file(tmp_path):
    def texts():
        yield [1, 2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "part", texts())
    assert list(tmp_path.iterdir()) == []


def test_offsets_beyond_32_bits_are_right(tmp_path):
    # A sparse file of 5 documents of 2^30 tokens: 10 GiB by its length, a few kilobytes on the disk.
    size, documents = 2**30, 5
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(size * documents * 2)
        file.seek(size * 4 * 2)
        file.write(struct.pack("<2H", 11, 12))
    lengths = np.full(documents, size, dtype="<i4")
    pointers = np.arange(documents, dtype="<i8") * size * 2
    header = HEADER.pack(b"MMIDIDX\x00\x00", 1, 8, documents, documents + 1)
    index = header + lengths.tobytes() + pointers.tobytes() + np.arange(documents + 1, dtype="<i8").tobytes()
    (tmp_path / "big.idx").write_bytes(index)
    file = TokenFile(tmp_path / "big")
    assert file.tokens == 5 * 2**30
    assert file.document(4)[:3].tolist() == [11, 12, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda idx: b"XXXXXXX\x00\x00" + idx[9:], "not a token index"),
        (lambda idx: idx[:9] + struct.pack("<Q", 2) + idx[17:], "version 2; this reader knows version 1"),
        (lambda idx: idx[:17] + b"\x63" + idx[18:], "dtype code 99"),
        (lambda idx: idx[:-1], "truncated"),
        (lambda idx: idx[:10], "too short"),
        (lambda idx: idx[:34] + struct.pack("<i", 2) + idx[38:], "follow each other"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, change, message):
    write(tmp_path / "part", DOCUMENTS)
    index = tmp_path / "part.idx"
    index.write_bytes(change(index.read_bytes()))
    with pytest.raises(IntegrityError, match=message):
        TokenFile(tmp_path / "part")


def test_a_truncated_token_file_is_refused(tmp_path):
    write(tmp_path / "part", DOCUMENTS)
    os.truncate(tmp_path / "part.bin", 1_000)
    with pytest.raises(IntegrityError, match="1,000 bytes and its index describes 1,008"):
        TokenFile(tmp_path / "part")


def test_a_missing_index_says_that_the_file_was_never_finished(tmp_path):
    with pytest.raises(FactoryError, match="never finished"):
        TokenFile(tmp_path / "nothing")
