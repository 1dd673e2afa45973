"""Shards of token ids in the formats of others: Megatron, Parquet, NumPy, MDS (MosaicML Streaming), Hugging Face datasets.

Rows come in as Arrow batches with the list column `ids` and columns about each row. A writer makes the files of one shard in
a folder and says their names; `finish` gives the small files that make shards a dataset. What a format has no place for
lies beside it, row for row, as Parquet. All of it follows published layouts; none needs the library that reads it.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from factory.core.errors import FactoryError
from factory.storage.tokens import TokenWriter

Batches = Iterable[pa.RecordBatch]
MDS_LIMIT = (1 << 32) - 1  # offsets of a shard have 32 bits
NPY_HEADER = 128


def write_megatron(folder: str, number: int, shards: int, schema: pa.Schema, batches: Batches) -> list[str]:
    """`tokens-00000.bin` and `.idx`, and the other columns in `tokens-00000.parquet`."""
    name = _name(number)
    with (
        TokenWriter(os.path.join(folder, name), _id_type(schema)) as writer,
        _beside(folder, name, schema, lists=True) as beside,
    ):
        for batch in batches:
            ids = batch.column("ids")
            writer.append(ids.flatten().to_numpy(), ids.value_lengths().to_numpy())
            beside(batch)
    return [f"{name}.bin", f"{name}.idx", f"{name}.parquet"]


def write_parquet(folder: str, number: int, shards: int, schema: pa.Schema, batches: Batches) -> list[str]:
    """`tokens-00000.parquet`: a row a document, its ids a list."""
    name = f"{_name(number)}.parquet"
    with pq.ParquetWriter(os.path.join(folder, name), schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return [name]


def write_numpy(folder: str, number: int, shards: int, schema: pa.Schema, batches: Batches) -> list[str]:
    """`tokens-00000.ids.npy`, one flat array to be mapped, `.offsets.npy` (int64, one more than rows), and a Parquet beside.

    Other list columns are flat arrays too.
    """
    name = _name(number)
    lists = [field.name for field in schema if pa.types.is_list(field.type)]
    names = [f"{name}.{column}.npy" for column in (*lists, "offsets")]
    total = np.zeros(1, np.int64)
    with ExitStack() as stack:
        arrays = {
            column: stack.enter_context(_Npy(os.path.join(folder, f"{name}.{column}.npy"), _values(schema, column)))
            for column in lists
        }
        offsets = stack.enter_context(_Npy(os.path.join(folder, f"{name}.offsets.npy"), np.dtype(np.int64)))
        beside = stack.enter_context(_beside(folder, name, schema, lists=False))
        offsets.append(total)
        for batch in batches:
            for column, array in arrays.items():
                array.append(batch.column(column).flatten().to_numpy(zero_copy_only=False))
            ends = total[-1] + np.cumsum(batch.column("ids").value_lengths().to_numpy(), dtype=np.int64)
            offsets.append(ends)
            total = ends[-1:] if len(ends) else total
            beside(batch)
    return [*names, f"{name}.parquet"]


def write_mds(folder: str, number: int, shards: int, schema: pa.Schema, batches: Batches) -> list[str]:
    """`shard.00000.mds`, as MosaicML Streaming's MDSWriter (format version 2) lays it out."""
    path = os.path.join(folder, f"shard.{number:05d}.mds")
    columns = _mds_columns(schema)
    config = json.dumps(_mds_config(columns), sort_keys=True).encode()
    sizes = [0]
    # The header holds the offset of every sample, so samples are written first.
    with open(path + ".samples", "w+b") as samples:
        for batch in batches:
            values = {name: encode(batch.column(name)) for name, (_, _, encode) in columns.items()}
            for row in zip(*values.values(), strict=True):
                head = [len(v) for v, (_, size, _) in zip(row, columns.values(), strict=True) if size is None]
                samples.write(struct.pack(f"<{len(head)}I", *head) + b"".join(row))
                sizes.append(4 * len(head) + sum(map(len, row)))
        offsets = np.cumsum(sizes, dtype=np.int64) + 4 + 4 * len(sizes) + len(config)
        if offsets[-1] > MDS_LIMIT:
            raise FactoryError(
                f"export: an MDS shard of {int(offsets[-1]):,} bytes, and offsets have 32 bits. Ask for smaller shards."
            )
        samples.seek(0)
        with open(path, "wb") as shard:
            shard.write(struct.pack("<I", len(sizes) - 1) + offsets.astype("<u4").tobytes() + config)
            _copy(samples, shard)
    os.unlink(path + ".samples")
    return [os.path.basename(path)]


def write_huggingface(folder: str, number: int, shards: int, schema: pa.Schema, batches: Batches) -> list[str]:
    """`data-00000-of-00004.arrow`, an Arrow stream: what `Dataset.save_to_disk` writes and `load_from_disk` maps."""
    name = f"data-{number:05d}-of-{shards:05d}.arrow"
    described = schema.with_metadata({"huggingface": json.dumps({"info": {"features": _features(schema)}})})
    with pa.OSFile(os.path.join(folder, name), "wb") as stream, pa.ipc.new_stream(stream, described) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(described.metadata))
    return [name]


Writer = Callable[[str, int, int, pa.Schema, Batches], list[str]]
WRITERS: Mapping[str, Writer] = {
    "megatron": write_megatron,
    "parquet": write_parquet,
    "numpy": write_numpy,
    "mds": write_mds,
    "huggingface": write_huggingface,
}


def finish(form: str, schema: pa.Schema, shards: Sequence[Mapping[str, Any]], digest: str) -> dict[str, bytes]:
    """The files that make shards a dataset; `shards` say their `files` (path, bytes) and `rows`, in order."""
    if form == "mds":
        listed = [
            {
                **_mds_config(_mds_columns(schema)),
                "raw_data": {"basename": shard["files"][0]["path"], "bytes": shard["files"][0]["bytes"], "hashes": {}},
                "samples": shard["rows"],
                "zip_data": None,
            }
            for shard in shards
        ]
        return {"index.json": json.dumps({"shards": listed, "version": 2}, sort_keys=True).encode()}
    if form == "huggingface":
        state: dict[str, Any] = {
            "_data_files": [{"filename": shard["files"][0]["path"]} for shard in shards],
            "_fingerprint": digest[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info = {"citation": "", "description": "", "features": _features(schema), "homepage": "", "license": ""}
        return {
            "dataset_info.json": json.dumps(info, indent=1, sort_keys=True).encode(),
            "state.json": json.dumps(state, indent=1, sort_keys=True).encode(),
        }
    return {}


def _name(number: int) -> str:
    return f"tokens-{number:05d}"


def _values(schema: pa.Schema, column: str) -> np.dtype[Any]:
    kind = schema.field(column).type.value_type
    return np.dtype(np.bool_) if pa.types.is_boolean(kind) else np.dtype(kind.to_pandas_dtype())


def _id_type(schema: pa.Schema) -> np.dtype[Any]:
    return _values(schema, "ids")


@contextmanager
def _beside(folder: str, name: str, schema: pa.Schema, *, lists: bool) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Columns other than `ids`, as Parquet; without those that are lists unless asked."""
    kept = [field for field in schema if field.name != "ids" and (lists or not pa.types.is_list(field.type))]
    own = pa.schema(kept)
    with pq.ParquetWriter(os.path.join(folder, f"{name}.parquet"), own, compression="zstd") as writer:
        yield lambda batch: writer.write_batch(batch.select(own.names))


class _Npy:
    """A one-dimensional .npy (format 1.0) that grows; its header, of one size, is written when the length is known."""

    def __init__(self, path: str, dtype: np.dtype[Any]) -> None:
        self._dtype, self._count = dtype.newbyteorder("<"), 0
        self._stream = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._stream.write(bytes(NPY_HEADER))

    def append(self, values: npt.NDArray[Any]) -> None:
        self._stream.write(np.ascontiguousarray(values, self._dtype).data.cast("B") if len(values) else b"")
        self._count += len(values)

    def __enter__(self) -> "_Npy":
        return self

    def __exit__(self, *_: object) -> None:
        described = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': ({self._count},), }}"
        header = b"\x93NUMPY\x01\x00" + struct.pack("<H", NPY_HEADER - 10)
        self._stream.seek(0)
        self._stream.write(header + described.ljust(NPY_HEADER - 11).encode() + b"\n")
        self._stream.close()


def _mds_columns(schema: pa.Schema) -> dict[str, tuple[str, int | None, Callable[[pa.Array], Iterator[bytes]]]]:
    """Encoding, size where it is fixed, and the bytes of each value, by column in MDS's order of names."""
    columns: dict[str, tuple[str, int | None, Callable[[pa.Array], Iterator[bytes]]]] = {}
    for name in sorted(schema.names):
        kind = schema.field(name).type
        if pa.types.is_string(kind):
            columns[name] = ("str", None, _mds_strings)
        elif pa.types.is_list(kind):
            # MDS has no booleans: 0 and 1 in a byte.
            dtype = _values(schema, name)
            stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
            columns[name] = (f"ndarray:{stored.name}", None, _mds_arrays(stored))
        else:
            dtype = np.dtype(kind.to_pandas_dtype())
            columns[name] = (dtype.name, dtype.itemsize, _mds_numbers(dtype))
    return columns


def _mds_config(columns: Mapping[str, tuple[str, int | None, Any]]) -> dict[str, Any]:
    return {
        "column_encodings": [encoding for encoding, _, _ in columns.values()],
        "column_names": list(columns),
        "column_sizes": [size for _, size, _ in columns.values()],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": None,
        "version": 2,
    }


def _mds_strings(column: pa.Array) -> Iterator[bytes]:
    return ((value or "").encode() for value in column.to_pylist())


def _mds_numbers(dtype: np.dtype[Any]) -> Callable[[pa.Array], Iterator[bytes]]:
    return lambda column: (value.tobytes() for value in column.to_numpy().astype(dtype.newbyteorder("<")))


def _mds_arrays(dtype: np.dtype[Any]) -> Callable[[pa.Array], Iterator[bytes]]:
    """An array of one dimension: a byte that says so and how wide its length is, the length, the values."""

    def encode(column: pa.Array) -> Iterator[bytes]:
        values = column.flatten().to_numpy(zero_copy_only=False).astype(dtype.newbyteorder("<"), copy=False)
        ends = np.cumsum(column.value_lengths().to_numpy())
        for first, last in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=False):
            length = last - first
            width = 0 if length < 1 << 8 else 1 if length < 1 << 16 else 2
            yield bytes([1 << 2 | width]) + struct.pack("<" + "BHI"[width], length) + values[first:last].tobytes()

    return encode


def _features(schema: pa.Schema) -> dict[str, Any]:
    features: dict[str, Any] = {}
    for field in schema:
        listed = pa.types.is_list(field.type)
        value = {"dtype": str(field.type.value_type if listed else field.type), "_type": "Value"}
        # All releases of the library read this name; those from 4 on write another.
        features[field.name] = {"feature": value, "_type": "Sequence"} if listed else value
    return features


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while chunk := source.read(8 << 20):
        target.write(chunk)
