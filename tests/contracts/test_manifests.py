"""Manifests: written last, once, and never changed; readers follow what has passed its gates."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pytest

from factory.core.errors import IntegrityError
from factory.core.manifest import Manifest
from factory.storage.manifests import (
    current,
    find_manifest,
    find_pointer,
    missing_parts,
    point,
    pointers,
    write_manifest,
)
from factory.storage.parts import write_part
from factory.storage.store import Store


def made(store, texts=("a", "b"), folder="scores/words/f00", **changes):
    """A dataset of one part."""
    batch = pa.RecordBatch.from_pydict({"doc_id": [f"{n:032x}" for n in range(len(texts))], "text": list(texts)})
    part = write_part(store, folder, "one", batch.schema, [batch])
    known = {
        "kind": "scores",
        "label": "words",
        "partition": "2026-10",
        "fingerprint": "f00",
        "spec": {"use": "word_statistics", "version": 1},
        "inputs": {"documents@2026-10": "d1"},
        "parts": (part,),
    }
    return Manifest(**{**known, **changes})


def test_a_manifest_is_found_as_it_was_written(store):
    manifest = made(store, ledger={"rows": 2}, notes={"words": 3}, run={"seconds": 1.5})
    assert find_manifest(store, manifest.path) is None
    assert write_manifest(store, manifest) == manifest
    assert find_manifest(store, manifest.path) == manifest


def test_the_path_depends_on_what_was_asked_and_of_what_and_on_nothing_else(store):
    manifest = made(store)
    assert replace(manifest, parts=(), ledger={"rows": 9}, run={"host": "other"}).path == manifest.path
    assert replace(manifest, fingerprint="f01").path != manifest.path
    assert replace(manifest, inputs={"documents@2026-10": "d2"}).path != manifest.path
    assert replace(manifest, partition="2026-11").path != manifest.path


def test_of_writers_with_the_same_content_all_get_the_manifest_of_the_first(store_url):
    manifest = made(Store(store_url))

    def write(number):
        return write_manifest(Store(store_url), replace(manifest, run={"writer": number}))

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(write, range(6)))
    assert len({json.dumps(result.run) for result in results}) == 1
    assert find_manifest(Store(store_url), manifest.path) == results[0]


def test_other_content_from_the_same_inputs_is_a_stage_that_is_not_deterministic(store):
    first = write_manifest(store, made(store, folder="a"))
    with pytest.raises(IntegrityError, match=r"scores/words@2026-10: made twice .* The stage .* is not deterministic"):
        write_manifest(store, made(store, texts=("a", "c"), folder="b"))
    assert find_manifest(store, first.path) == first


def test_a_manifest_whose_parts_were_deleted_is_replaced_by_what_is_made_again(store):
    first = write_manifest(store, made(store, folder="a"))
    store.delete(first.parts[0].path)
    second = made(store, texts=("a", "c"), folder="b")
    assert write_manifest(store, second) == second
    assert find_manifest(store, first.path) == second


def test_parts_that_are_gone_or_cut_are_missing(store):
    manifest = made(store)
    path = manifest.parts[0].path
    assert missing_parts(store, manifest) == []
    store.put(path, store.read(path)[:-1])
    assert missing_parts(store, manifest) == [path]
    store.delete(path)
    assert missing_parts(store, manifest) == [path]


def test_an_altered_manifest_is_refused(store):
    manifest = write_manifest(store, made(store))
    sound = store.read(manifest.path)
    digest = manifest.parts[0].digest.encode()
    for altered in (
        sound[:-20],
        b"[]",
        sound.replace(digest, digest[::-1], 1),
        sound.replace(b'"f00"', b'"f01"', 1),
        sound.replace(b'"rows": 2', b'"rows": 3', 1),
    ):
        assert altered != sound
        store.put(manifest.path, altered)
        with pytest.raises(IntegrityError, match=r"is not a manifest any more .* Remove it"):
            find_manifest(store, manifest.path)


def test_the_digest_of_a_dataset_does_not_depend_on_the_order_of_its_parts(store):
    parts = [made(store, texts=(text,), folder=f"scores/{text}").parts[0] for text in "abc"]
    parts = [replace(part, name=str(number)) for number, part in enumerate(parts)]
    manifest = made(store, parts=tuple(parts))
    assert replace(manifest, parts=tuple(parts[::-1])).digest == manifest.digest
    assert replace(manifest, parts=tuple(parts[:2])).digest != manifest.digest


def test_a_reader_follows_the_pointer_which_moves_when_gates_have_passed(store):
    first = write_manifest(store, made(store, folder="a"))
    assert current(store, "web", "scores", "words", "2026-10") is None
    point(store, "web", first, {"ledger": True}, {})
    assert current(store, "web", "scores", "words", "2026-10") == first
    second = write_manifest(store, made(store, texts=("x",), folder="b", fingerprint="f01"))
    assert current(store, "web", "scores", "words", "2026-10") == first
    point(store, "web", second, {"ledger": True}, {})
    assert current(store, "web", "scores", "words", "2026-10") == second


def test_recipes_have_pointers_of_their_own(store):
    manifest = write_manifest(store, made(store))
    point(store, "web", manifest, {"ledger": True}, {})
    assert find_pointer(store, "other", "scores", "words", "2026-10") is None
    assert [pointer["name"] for pointer in pointers(store, "web")] == ["scores/words@2026-10"]
    assert pointers(store, "other") == []


def test_a_dataset_without_partitions_has_a_pointer_too(store):
    manifest = write_manifest(store, made(store, kind="leaderboard", label="", partition=""))
    point(store, "web", manifest, {}, {})
    assert current(store, "web", "leaderboard") == manifest
