"""Daft's MinHash with a LSH of its own, from our documents to links: `links_peer.py WORKERS STORE OUT`.

The same work as `factory run links`: documents are read from Parquet and only links (doc_id, duplicate_of) are written.
Band tables and union-find as in the adapter of ../shared/bench. Runs in Daft's environment, without the factory.
"""

import sys
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet as pq

BANDS, ROWS, NGRAM = 14, 8, 5


def main(workers: int, store: str, out: str) -> None:
    daft.set_runner_native(num_threads=workers)
    parts = sorted(map(str, Path(store, "documents").rglob("*.parquet")))
    text = daft.col("text").normalize(remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True)
    signature = text.minhash(num_hashes=BANDS * ROWS, ngram_size=NGRAM, seed=1, hash_function="xxhash")
    made = daft.read_parquet(parts).select(daft.col("doc_id"), signature.alias("signature")).to_arrow()
    ids, signatures = made["doc_id"].to_pylist(), made["signature"].to_pylist()
    parent = list(range(len(ids)))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for band in range(BANDS):
        first: dict[tuple[int, ...], int] = {}
        for row, values in enumerate(signatures):
            one, other = find(first.setdefault(tuple(values[band * ROWS : band * ROWS + ROWS]), row)), find(row)
            if one != other:
                parent[max(one, other)] = min(one, other)
    stands = [ids[find(row)] for row in range(len(ids))]
    duplicate_of = [other if other != own else None for own, other in zip(ids, stands, strict=True)]
    pq.write_table(pa.table({"doc_id": ids, "duplicate_of": duplicate_of}), out)
    removed = [own for own, other in zip(ids, duplicate_of, strict=True) if other is not None]
    Path(f"{out}.removed").write_text("\n".join(removed))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
