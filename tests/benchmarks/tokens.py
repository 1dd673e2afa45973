"""Encoding beside its peers: CPU seconds per megabyte for the same documents, the same BPE and the same ids.

`tokens.py DOCUMENTS... [--venvs FOLDER] [--out FILE]` reads JSON lines and runs each system in a process of its own, one
thread each, after a warm-up; reading the documents is not timed. datatrove is timed in its own step, DocumentTokenizer,
which writes a token file; so is ours. The digest of all ids tells whether two systems made the same.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYSTEMS = ("ours", "ours to file", "tokenizers encode_batch", "tokenizers encode_batch_fast", "tiktoken", "datatrove")
VOCABULARY = 32_000
BATCH = 512
END = "<|endoftext|>"
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def measure(files: list[str], *, venvs: str | None = None, repeats: int = 3) -> dict[str, Any]:
    """Figures of all systems, as JSON; `venvs/base` holds datatrove. What cannot run says why."""
    with tempfile.TemporaryDirectory(prefix="bench-tokens-") as scratch:
        tokenizer = os.path.join(scratch, "tokenizer.json")
        train(files, tokenizer)
        found = {}
        for system in SYSTEMS:
            python = str(Path(venvs or "") / "base" / "bin" / "python") if system == "datatrove" else sys.executable
            if not Path(python).exists():
                found[system] = {"missing": f"{python} is not here (make bench-peers)"}
                continue
            command = [python, "-W", "ignore", __file__, *files, "--system", system, "--tokenizer", tokenizer]
            runs = [_json(command, scratch) for _ in range(repeats)]
            found[system] = min(runs, key=lambda run: run.get("cpu_s", 0.0))
    slowest = found.get("datatrove", {}).get("mb_per_cpu_s")
    ids = {row["digest"] for row in found.values() if "digest" in row}
    for row in found.values():
        if slowest and "mb_per_cpu_s" in row:
            row["times_datatrove"] = row["mb_per_cpu_s"] / slowest
    return {"systems": found, "same_ids": len(ids) == 1}


def _json(command: list[str], scratch: str) -> dict[str, Any]:
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "BENCH_SCRATCH": scratch}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"missing": done.stderr.strip().splitlines()[-1][:300]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def read_texts(files: list[str]) -> list[str]:
    return [json.loads(line)["text"] for file in files for line in open(file, encoding="utf-8")]


def train(files: list[str], path: str) -> None:
    """A byte-level BPE with GPT-2's pattern, which every system here can run."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(END, special=True, normalized=False)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read_texts(files)[::4], trainer)
    tokenizer.save(path)


def run(system: str, files: list[str], tokenizer: str) -> dict[str, Any]:
    """One system in this process."""
    texts = read_texts(files)
    size = sum(len(text.encode()) for text in texts)
    encode = PREPARE[system](tokenizer, texts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    ids = encode()
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cpu_s": seconds,
        "mb": size / 1e6,
        "documents": len(texts),
        "tokens": len(ids) // 2,
        "mb_per_cpu_s": size / 1e6 / seconds,
        "cpu_s_per_mb": seconds / (size / 1e6),
        "grown_mb": (peak - before) / 1024,
        "digest": hashlib.sha256(ids).hexdigest(),
    }


def _ours(path: str, texts: list[str], *, to_file: bool) -> Callable[[], bytes]:
    import numpy as np
    import pyarrow as pa

    from factory.storage.tokens import TokenWriter
    from factory.training.tokenizer import Encoder

    encoder = Encoder(path)
    batches = [pa.array(texts[at : at + BATCH], pa.large_string()) for at in range(0, len(texts), BATCH)]
    encoder.encode(pa.array(["warm-up"], pa.large_string()))

    def encode() -> bytes:
        if not to_file:
            return np.concatenate([encoder.encode(batch)[0] for batch in batches]).tobytes()
        prefix = os.path.join(os.environ["BENCH_SCRATCH"], "ours")
        with TokenWriter(prefix, encoder.dtype) as writer:
            for batch in batches:
                writer.append(*encoder.encode(batch))
        return Path(f"{prefix}.bin").read_bytes()

    return encode


def _tokenizers(path: str, texts: list[str], *, method: str) -> Callable[[], bytes]:
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    end = tokenizer.token_to_id(END)
    batch_of = getattr(tokenizer, method)

    def encode() -> bytes:
        parts = []
        for at in range(0, len(texts), BATCH):
            encodings = batch_of(texts[at : at + BATCH], add_special_tokens=False)
            parts += [np.array([*encoding.ids, end], np.uint16) for encoding in encodings]
        return np.concatenate(parts).tobytes()

    return encode


def _tiktoken(path: str, texts: list[str]) -> Callable[[], bytes]:
    import numpy as np
    import tiktoken

    described = json.loads(Path(path).read_bytes())["model"]
    seen = [byte for byte in range(256) if 0x21 <= byte <= 0x7E or (byte >= 0xA1 and byte != 0xAD)]
    hidden = [byte for byte in range(256) if byte not in seen]
    byte_of = {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}
    vocabulary = {token: number for token, number in described["vocab"].items() if token != END}
    # tiktoken takes ranks for ids: the bytes first, then what is merged, in order.
    ranked = [token for token in vocabulary if len(token) == 1]
    ranked += ["".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in described["merges"]]
    ranked = list(dict.fromkeys(ranked))
    ranks = {bytes(byte_of[letter] for letter in token): rank for rank, token in enumerate(ranked)}
    encoding = tiktoken.Encoding("bench", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    to_ids = np.array([vocabulary[token] for token in ranked], np.uint16)
    end = np.array([described["vocab"][END]], np.uint16)
    encoding.encode_ordinary("warm-up")

    def encode() -> bytes:
        parts = []
        for text in texts:
            parts += [to_ids[np.array(encoding.encode_ordinary(text), np.int64)], end]
        return np.concatenate(parts).tobytes()

    return encode


def _datatrove(path: str, texts: list[str]) -> Callable[[], bytes]:
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer

    folder = os.path.join(os.environ["BENCH_SCRATCH"], "datatrove")
    step = DocumentTokenizer(folder, tokenizer_name_or_path=path, eos_token=END, shuffle_documents=False)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    step.tokenizer  # noqa: B018 - loaded before the clock runs

    def encode() -> bytes:
        step.run(iter(documents), rank=0, world_size=1)
        (made,) = Path(folder).glob("*.ds")
        return made.read_bytes()

    return encode


PREPARE: dict[str, Callable[[str, list[str]], Callable[[], bytes]]] = {
    "ours": lambda path, texts: _ours(path, texts, to_file=False),
    "ours to file": lambda path, texts: _ours(path, texts, to_file=True),
    "tokenizers encode_batch": lambda path, texts: _tokenizers(path, texts, method="encode_batch"),
    "tokenizers encode_batch_fast": lambda path, texts: _tokenizers(path, texts, method="encode_batch_fast"),
    "tiktoken": _tiktoken,
    "datatrove": _datatrove,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="JSON lines with `text`")
    parser.add_argument("--venvs", default=os.environ.get("BENCH_VENVS", ".bench/venvs"))
    parser.add_argument("--out", help="where the figures go, besides the screen")
    parser.add_argument("--system", choices=SYSTEMS, help="only this one, in this process")
    parser.add_argument("--tokenizer", help="with --system")
    asked = parser.parse_args()
    if asked.system:
        print(json.dumps(run(asked.system, asked.files, asked.tokenizer)))
        return
    figures = measure(asked.files, venvs=asked.venvs)
    text = json.dumps(figures, indent=1)
    if asked.out:
        Path(asked.out).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
