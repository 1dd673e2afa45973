"""Exported tokens read by the readers of others: every id compared, and how long each took.

`measure` encodes JSON lines with `text`, writes them as a Megatron token file (the store's own format) and as MDS shards,
and has megatron-core and mosaicml-streaming read both in an environment of their own, `VENVS/tokens`. Run with a reader's
name this file is that other side, which knows nothing of the factory: it prints the digest of all ids it saw.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 512


def measure(files: list[str], *, venvs: str) -> dict[str, Any]:
    """By format: whether the reader saw the ids that were written, tokens per CPU second of writing and of reading."""
    python = Path(venvs) / "tokens" / "bin" / "python"
    if not python.exists():
        return {"missing": f"{python} is not here (make bench-peers)"}
    import numpy as np
    import pyarrow as pa
    import tokens as encoding

    from factory.storage.token_formats import WRITERS, finish
    from factory.training.tokenizer import Encoder

    with tempfile.TemporaryDirectory(prefix="bench-readback-") as scratch:
        tokenizer = os.path.join(scratch, "tokenizer.json")
        encoding.train(files, tokenizer)
        encoder = Encoder(tokenizer)
        texts = encoding.read_texts(files)
        batches, digest, count = [], hashlib.sha256(), 0
        for at in range(0, len(texts), BATCH):
            ids, lengths = encoder.encode(pa.array(texts[at : at + BATCH], pa.large_string()))
            digest.update(ids.astype("<i8").tobytes())
            count += len(ids)
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
            names = pa.array([f"d{number}" for number in range(at, at + len(lengths))])
            rows = pa.ListArray.from_arrays(offsets, pa.array(ids))
            batches.append(pa.record_batch({"doc_id": names, "ids": rows}))
        made: dict[str, Any] = {"documents": len(texts), "tokens": count, "formats": {}}
        for name in ("megatron", "mds"):
            folder = Path(scratch, name)
            folder.mkdir()
            begun = time.process_time()
            names = WRITERS[name](str(folder), 0, 1, batches[0].schema, batches)
            sizes = [{"path": one, "bytes": (folder / one).stat().st_size} for one in names]
            shards = [{"files": sizes, "rows": len(texts)}]
            for own, data in finish(name, batches[0].schema, shards, "").items():
                (folder / own).write_bytes(data)
            written = time.process_time() - begun
            command = [str(python), "-W", "ignore", __file__, name, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                made["formats"][name] = {"missing": done.stderr.strip().splitlines()[-1][:300]}
                continue
            seen = json.loads(done.stdout.splitlines()[-1])
            made["formats"][name] = {
                "same_ids": seen["digest"] == digest.hexdigest() and seen["rows"] == len(texts),
                "version": seen["version"],
                "written_tokens_per_cpu_s": count / written,
                "read_tokens_per_cpu_s": count / seen["cpu_s"],
            }
        return made


def read_megatron(folder: str) -> Any:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    file = IndexedDataset(str(next(Path(folder).glob("*.bin")).with_suffix("")), mmap=True)
    return (file[number] for number in range(len(file)))


def read_mds(folder: str) -> Any:
    import types
    from importlib.machinery import ModuleSpec

    try:
        import torchvision.datasets  # noqa: F401
    except Exception:  # only the pictures of that package need it, and it rarely fits a torch without CUDA
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            module: Any = types.ModuleType(f"torchvision{name}")
            module.__spec__ = ModuleSpec(module.__name__, None)
            module.VisionDataset, module.to_tensor = object, None
            sys.modules[module.__name__] = module
    from streaming import StreamingDataset

    data = StreamingDataset(local=folder, shuffle=False, batch_size=1)
    return (data[number]["ids"] for number in range(len(data)))


def main(name: str, folder: str) -> None:
    from importlib.metadata import version

    rows = {"megatron": read_megatron, "mds": read_mds}[name](folder)
    digest, count, begun = hashlib.sha256(), 0, time.process_time()
    for ids in rows:
        digest.update(ids.astype("<i8").tobytes())
        count += 1
    seconds = time.process_time() - begun
    package = {"megatron": "megatron-core", "mds": "mosaicml-streaming"}[name]
    said = {"digest": digest.hexdigest(), "rows": count, "cpu_s": seconds, "version": version(package)}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
