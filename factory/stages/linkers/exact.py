"""Exact duplicates: documents of equal text, or of equal address.

The text is compared in the normal form of `factory.kernels.hashing`: NFC, no white space at the ends of lines, `\\n` between
them. `of: url` compares addresses without surrounding white space and fragment, with scheme and host in lower case; what
else may mean the same (query parameters, a final slash) stays apart. `of: normalised_url` compares them in the normal form
of `factory.stages.urls`: international names in punycode, no user, default port, fragment or final slash, dots and escapes
resolved, parameters in order of their names, and without those that only track visitors, which are utm_*, gclid, fbclid,
ref, sessionid, phpsessid and jsessionid. http and https, and www. or none, stay apart. What is empty or, normalised, no
address of the web, and a record with an error, has no key. Keys and checks are the halves of XXH3-128: among n documents two
that differ are taken for one with a chance of n**2 / 2**129.
"""

import re
from typing import Literal

import pyarrow as pa

from factory.core.config import Config
from factory.core.registry import register
from factory.core.stage import BatchFunction
from factory.stages.urls import normalise

COLUMNS = {"keys": pa.list_(pa.uint64()), "check": pa.uint64()}

_AUTHORITY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//([^/?]*@)?([^/?]*)")


class Settings(Config):
    of: Literal["text", "url", "normalised_url"] = "text"


def _reads(config: Settings) -> tuple[str, ...]:
    return ("text",) if config.of == "text" else ("url", "error")


@register("exact", version=1, reads=_reads, writes=COLUMNS, config=Settings)
def exact(config: Settings) -> BatchFunction:
    # Not above: importing numba takes longer than checking a recipe.
    import numpy as np

    from factory.kernels.hashing import hash_bytes, hash_contents, key_column
    from factory.kernels.text import view_text

    form = normal_url if config.of == "url" else normalise

    def text_keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        view = view_text(batch.column("text"))
        key, check, filled = hash_contents(*view)
        return write(key, check, filled & view.valid, view.valid)

    def url_keys(batch: pa.RecordBatch) -> pa.RecordBatch:
        usable = np.logical_and(
            batch.column("url").is_valid().to_numpy(zero_copy_only=False),
            batch.column("error").is_null().to_numpy(zero_copy_only=False),
        )
        addresses = [(form(url) or "").encode() if url else b"" for url in batch.column("url").to_pylist()]
        key, check = hash_bytes(addresses)
        return write(key, check, np.array([len(address) > 0 for address in addresses], np.bool_) & usable, usable)

    def write(
        key: "np.typing.NDArray[np.uint64]",
        check: "np.typing.NDArray[np.uint64]",
        linked: "np.typing.NDArray[np.bool_]",
        valid: "np.typing.NDArray[np.bool_]",
    ) -> pa.RecordBatch:
        columns = [key_column(key.reshape(-1, 1), linked, valid), pa.array(check, mask=~linked)]
        return pa.record_batch(columns, schema=pa.schema(COLUMNS))

    return text_keys if config.of == "text" else url_keys


def normal_url(url: str) -> str:
    """The address as it is compared."""
    address = url.strip().partition("#")[0]
    found = _AUTHORITY.match(address)
    if found is None:
        return address
    scheme, user, host = (part or "" for part in found.groups())
    return f"{scheme.lower()}//{user}{host.lower()}{address[found.end() :]}"
