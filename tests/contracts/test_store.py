"""A store keeps its promises, on a local folder and on S3 alike: whole or not at all, and one winner."""

import ctypes
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from factory.core.errors import StoreError
from factory.storage.parts import write_part
from factory.storage.store import TEMPORARY, Store


def test_what_is_put_can_be_read_and_replaced(store):
    store.put("folder/file", b"first")
    store.put("folder/file", b"second")
    assert store.read("folder/file") == b"second"
    assert store.size("folder/file") == 6


def test_a_file_that_is_not_there_is_said_to_be_missing(store):
    assert store.size("folder/file") is None
    with pytest.raises(FileNotFoundError):
        store.read("folder/file")
    store.delete("folder/file")


def test_put_new_keeps_the_first(store):
    assert store.put_new("folder/file", b"first") is True
    assert store.put_new("folder/file", b"second") is False
    assert store.read("folder/file") == b"first"


def test_of_eight_racing_writers_exactly_one_wins(store_url):
    stores = [Store(store_url) for _ in range(8)]
    for race in range(3):
        start = threading.Barrier(8)

        def write(number, path=f"race/{race}", start=start):
            start.wait()
            return stores[number].put_new(path, b"%d" % number)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert won.count(True) == 1
        assert stores[0].read(f"race/{race}") == b"%d" % won.index(True)


def test_a_large_file_arrives_whole(store, tmp_path):
    # Above the size where S3 clients cut an upload into pieces.
    content = os.urandom(1 << 20) * 60
    (tmp_path / "large").write_bytes(content)
    store.put_file("folder/large", str(tmp_path / "large"))
    assert store.size("folder/large") == len(content)
    with store.open("folder/large") as stream:
        stream.seek(-100, os.SEEK_END)
        assert stream.read() == content[-100:]
    assert store.read("folder/large") == content


def test_a_listing_holds_finished_files_below_the_folder_and_nothing_beside_it(store):
    for name in ("a/one", "a/deep/two", "ab/three", "four"):
        store.put(name, b"1234")
    assert store.files("a") == {"a/deep/two": 4, "a/one": 4}
    assert list(store.files()) == ["a/deep/two", "a/one", "ab/three", "four"]
    assert store.files("missing") == {}


def test_a_listing_sees_at_once_what_others_wrote(store, store_url):
    assert store.files("a") == {}
    Store(store_url).put("a/one", b"1")
    assert store.files("a") == {"a/one": 1}
    Store(store_url).delete("a/one")
    assert store.files("a") == {}


def test_files_on_their_way_are_invisible(store):
    with store.scratch() as folder:
        path = os.path.join(folder, "unfinished")
        with open(path, "wb") as stream:
            stream.write(b"half")
        store.put(f"a/{TEMPORARY}0123-file", b"left behind by a dead attempt")
        assert store.files() == {}
        assert store.files("a") == {}
        store.put_file("a/file", path)
    assert store.files() == {"a/file": 4}


def test_as_local_gives_names_that_libraries_can_open(store):
    store.put("model/weights.bin", b"weights")
    store.put("model/config.json", b"{}")
    with store.as_local("model/weights.bin", "model/config.json") as names:
        assert [Path(name).read_bytes() for name in names] == [b"weights", b"{}"]
    assert store.read("model/weights.bin") == b"weights"


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc/passwd"])
def test_no_path_leaves_the_store(store, path, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for use in (
        lambda: store.read(path),
        lambda: store.put(path, b""),
        lambda: store.put_new(path, b""),
        lambda: store.put_file(path, str(tmp_path / "file")),
        lambda: store.delete(path),
        lambda: store.files(path),
        lambda: store.as_local(path).__enter__(),
    ):
        with pytest.raises(StoreError, match="would leave the store"):
            use()
    assert not (tmp_path / "outside").exists()


def test_a_listing_is_whole_while_others_write(tmp_path):
    store, stop = Store(str(tmp_path)), threading.Event()
    for number in range(20):
        store.put(f"a/{number}", b"old")

    def rewrite():
        while not stop.is_set():
            store.put("a/5", b"new")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(rewrite)
        lengths = {len(store.files("a")) for _ in range(300)}
        stop.set()
    assert lengths == {20}


def test_a_file_where_the_store_should_be_is_an_error_and_no_lost_race(tmp_path):
    (tmp_path / "file").write_bytes(b"something else")
    store = Store(str(tmp_path / "file"))
    for use in (store.put, store.put_new):
        with pytest.raises(StoreError, match=r"cannot write .*file/a/b"):
            use("a/b", b"")
    with pytest.raises(StoreError, match="cannot list"):
        store.files()
    with pytest.raises(StoreError, match="cannot write"), store.scratch():
        pass


def test_a_store_without_write_permission_says_so(tmp_path):
    if os.geteuid() == 0:
        done = _as_nobody(tmp_path / "store")
    else:
        (tmp_path / "store").mkdir(mode=0o500)
        done = _write_in_a_child(tmp_path / "store")
    assert "StoreError: cannot write" in done.stderr
    assert "permission denied. Choose another store or change its rights." in done.stderr


def test_a_full_disk_leaves_nothing_at_the_final_name_and_says_what_to_do(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if ctypes.CDLL(None, use_errno=True).mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=1m"):
        pytest.skip("mounting a small disk is not permitted here; the file size limit below covers the same path")
    try:
        _expect_full(Store(str(folder)))
    finally:
        ctypes.CDLL(None).umount2(os.fsencode(folder), 2)


def test_a_file_that_grows_over_its_limit_is_reported_like_a_full_disk(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        _expect_full(Store(str(tmp_path)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_unknown_kind_of_store_is_refused_with_what_is_meant():
    with pytest.raises(StoreError, match="A folder, s3://bucket/prefix or another fsspec URL"):
        Store("nosuch://somewhere")


@pytest.mark.service
def test_a_bucket_that_does_not_exist_is_named(s3_store_url):
    store = Store("s3://no-such-bucket/prefix")
    for use in (store.put, store.put_new):
        with pytest.raises(StoreError, match=r"cannot write s3://no-such-bucket/prefix/a: .*NoSuchBucket"):
            use("a", b"")


@pytest.mark.service
def test_a_wrong_secret_is_refused_and_not_printed(s3_store_url):
    done = _write_in_a_child(s3_store_url, AWS_SECRET_ACCESS_KEY="not-the-secret-of-anybody")
    assert "StoreError: cannot write s3://factory/a: permission denied." in done.stderr
    assert "not-the-secret-of-anybody" not in done.stderr + done.stdout


@pytest.mark.service
def test_missing_keys_are_a_store_error(s3_store_url, tmp_path):
    done = _write_in_a_child(s3_store_url, HOME=str(tmp_path), AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert "StoreError: cannot write s3://factory/a" in done.stderr


def _expect_full(store):
    noise = pa.array([os.urandom(1 << 16).hex() for _ in range(32)])
    batch = pa.RecordBatch.from_arrays([noise], names=["doc_id"])
    with pytest.raises(StoreError, match="The disk is full: free space and run again"):
        write_part(store, "folder", "part", batch.schema, [batch])
    with pytest.raises(StoreError, match="The disk is full"):
        store.put("folder/file", os.urandom(2 << 20))
    assert store.files() == {}
    store.put("folder/file", b"small")  # and the store works on
    assert store.files() == {"folder/file": 5}


def _write_in_a_child(url, prefix=(), **environment):
    script = "import sys; from factory.storage.store import Store; Store(sys.argv[1]).put('a', b'')"
    changed = {**os.environ, **environment}
    known = {name: value for name, value in changed.items() if value is not None}
    command = [*prefix, sys.executable, "-c", script, str(url)]
    done = subprocess.run(command, capture_output=True, text=True, env=known, timeout=120)
    assert done.returncode != 0
    return done


def _as_nobody(folder):
    """Root may write everywhere, so a write is tried without root's right to."""
    folder.mkdir(mode=0o500)
    drop = "import ctypes,os,sys; os.setgroups([]); os.chown(sys.argv[1], 1, 1); "
    # Without CAP_DAC_OVERRIDE (1) in the bounding set, the program that follows obeys permissions like anybody.
    drop += "[ctypes.CDLL(None).prctl(24, number, 0, 0, 0) for number in (1, 2)]; os.execv(sys.argv[2], sys.argv[2:])"
    return _write_in_a_child(folder, prefix=(sys.executable, "-c", drop, str(folder)))
