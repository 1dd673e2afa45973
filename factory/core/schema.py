"""The document row, and the columns that travel with it.

A *raw* batch is what a source yields: document columns, with `payload` (bytes as fetched) where the text has still to be
extracted. A *document* batch is what is stored. Thin tables (scores, links, decisions) hold `part`, `row` and their own
columns, in the order of the document part they stand beside.
"""

import hashlib

import pyarrow as pa

LOCATOR = pa.struct([("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])

DOCUMENT = pa.schema(
    [
        ("doc_id", pa.string()),  # 32 hex digits, see document_id
        ("text", pa.large_string()),  # null when `error` is set
        ("url", pa.string()),
        ("host", pa.string()),
        ("date", pa.timestamp("ms", tz="UTC")),
        ("snapshot", pa.string()),
        ("source", pa.string()),  # label of the source in the recipe
        ("locator", LOCATOR),  # where the record lies: file name, byte offset and length in the stored file
        ("title", pa.string()),
        ("license", pa.string()),
        ("error", pa.string()),  # "kind: detail" when the record could not become a document
        ("meta", pa.string()),  # a JSON object of what else the source knew, or null
    ]
)

# Byte ranges [start, end) of a text's UTF-8, sorted and apart from each other.
SPANS = pa.list_(pa.struct([("start", pa.uint32()), ("end", pa.uint32())]))

# What a rewriter wants done to a text when it is emitted, over the bytes of the text as it is stored.
EDITS = pa.list_(pa.struct([("start", pa.uint32()), ("end", pa.uint32()), ("replacement", pa.string())]))

PAYLOAD = (pa.field("payload", pa.large_binary()), pa.field("content_type", pa.string()))

RAW = pa.schema([*DOCUMENT, *PAYLOAD])

ALIGNMENT = (pa.field("part", pa.string()), pa.field("row", pa.uint32()))


def document_id(source: str, snapshot: str, key: str) -> str:
    """The identity of a record: 128 bits of SHA-256 over its source, its snapshot and its key within them.

    The key is the record's own id where it has one (WARC-Record-ID, an id column), else file name and offset; never a
    counter, so that it does not depend on how a file was split.
    """
    return hashlib.sha256(f"{source}\x1f{snapshot}\x1f{key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def thin(columns: dict[str, pa.DataType]) -> pa.Schema:
    """The schema of a table that stands beside documents."""
    return pa.schema([*ALIGNMENT, *((name, kind) for name, kind in columns.items())])
