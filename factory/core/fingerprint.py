"""Two hashes that never mix: the fingerprint of what was asked, the digest of what was made."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no spaces, no NaN. Raises TypeError on anything but plain data."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def fingerprint(spec: Mapping[str, Any]) -> str:
    """20 hex digits that name what should be made: stage, version, settings and the digests it reads."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:20]


def digest_bytes(data: bytes | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def digest_all(digests: Iterable[str]) -> str:
    """The digest of a set of parts: independent of their order."""
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(digests)).encode())


def hash_ids(doc_ids: pa.Array, seed: int) -> np.ndarray:
    """hash(seed, doc_id) as uint64: the only source of randomness in choosing documents.

    A document's number does not depend on its neighbours or its part, so membership survives any re-sharding, and the
    documents below a threshold contain those below a smaller one.
    """
    hashes = (xxhash.xxh3_64_intdigest(doc_id, seed) for doc_id in doc_ids.cast(pa.large_binary()).to_pylist())
    return np.fromiter(hashes, dtype=np.uint64, count=len(doc_ids))


def digest_table(table: pa.Table | pa.RecordBatch) -> str:
    """32 hex digits over names, types and values, however the table is chunked, sliced or stored."""
    digest = TableDigest(table.schema)
    digest.update(table)
    return digest.hexdigest()


class TableDigest:
    """The digest of a table that arrives in batches; where they are cut makes no difference."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows = 0
        self._streams: dict[str, Any] = {}

    def update(self, batch: pa.Table | pa.RecordBatch) -> None:
        self._rows += batch.num_rows
        for field in self._schema:
            column = batch.column(field.name)
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
                self._add(field.name, chunk)

    def hexdigest(self) -> str:
        fields = [f"{field.name}:{_type_name(field.type)}" for field in self._schema]
        streams = [f"{path}={stream.hexdigest()}" for path, stream in sorted(self._streams.items())]
        return xxhash.xxh3_128_hexdigest("\x1f".join([str(self._rows), *fields, *streams]).encode())

    def _feed(self, path: str, data: Any) -> None:
        if not len(data):
            return  # an empty batch must leave no trace
        self._streams.setdefault(path, xxhash.xxh3_128()).update(data)

    def _add(self, path: str, array: pa.Array) -> None:
        array = _plain(array)
        kind = array.type
        self._feed(f"{path}?", pc.is_valid(array).cast(pa.uint8()).to_numpy())
        if pa.types.is_null(kind):
            return
        if pa.types.is_struct(kind):
            for index in range(kind.num_fields):
                self._add(f"{path}.{kind.field(index).name}", pc.struct_field(array, index))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._feed(f"{path}#", pc.list_value_length(array).fill_null(0).cast(pa.int64()).to_numpy())
            self._add(f"{path}[]", array.flatten())
        elif _is_text(kind):
            self._feed(f"{path}#", pc.binary_length(array).fill_null(0).cast(pa.int64()).to_numpy())
            self._feed(path, _text_bytes(array))
        elif pa.types.is_boolean(kind):
            self._feed(path, array.fill_null(False).cast(pa.uint8()).to_numpy())
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            values = array.fill_null(0) if array.null_count else array
            self._feed(path, np.ascontiguousarray(values.to_numpy()))
        else:
            raise TypeError(f"column {path}: type {kind} has no digest; store it as text or numbers")


def _plain(array: pa.Array) -> pa.Array:
    """The same values in one of the few types a digest knows."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_map(kind):  # a list of pairs, in the order they are stored
        return array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if pa.types.is_fixed_size_binary(kind):
        return array.cast(pa.binary())
    if pa.types.is_temporal(kind):
        return array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return array


def _type_name(kind: pa.DataType) -> str:
    # Parquet renames the items of a list; their name is no content.
    if pa.types.is_map(kind):
        return f"map<{_type_name(kind.key_type)}, {_type_name(kind.item_type)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_type_name(field.type)}' for field in kind)}>"
    return str(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
    )


def _text_bytes(array: pa.Array) -> memoryview | bytes:
    # Bytes under a null slot are garbage; fill_null rewrites the array without them.
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    if array.null_count:
        array = array.fill_null("" if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) else b"")
    if not len(array):
        return b""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64 if wide else np.int32)
    first, last = int(offsets[array.offset]), int(offsets[array.offset + len(array)])
    return memoryview(array.buffers()[2])[first:last] if last > first else b""
