"""Curation beside its peers, on the same documents: `make bench-curation`.

Runs the harness of ../shared/bench: every system in turn, pinned to one core and to two, peers and ours timed alike (after
imports and a warm-up). Then prints where our own time goes, beside the floors of this machine. Peers live in environments
of their own (BENCH_VENVS, default .bench/venvs; `make bench-peers` makes them); those that are not there are left out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HARNESS = ROOT.parent / "shared" / "bench"
BENCH = ROOT / ".bench"
# Per stage: the peers of the harness, and our rows (name, how, further environment).
STAGES: dict[str, tuple[list[str], list[tuple[str, str, str]]]] = {
    "extract": (
        ["datatrove", "fastwarc+resiliparse (DCLM)"],
        [("factory", "run", ""), ("factory plain extraction", "run", "BENCH_EXTRACT=plain")],
    ),
    "lid": (["datatrove", "fasttext", "fasttext_kall", "py3langid", "cld2"], [("factory", "direct", "")]),
    "filters": (
        ["datatrove", "nemo-curator (direct)", "dolma gopher_v2+c4_v2"],
        [
            ("factory", "direct", ""),
            ("factory Gopher only", "direct", "BENCH_RULES=gopher"),
            ("factory spacy_en", "direct", "BENCH_WORDS=spacy_en"),
            ("factory run", "run", ""),
        ],
    ),
    "pipeline": (["datatrove"], [("factory", "run", ""), ("factory spacy_en", "run", "BENCH_WORDS=spacy_en")]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--repeats", default="3")
    parser.add_argument("--workers", default="1,2")
    options = parser.parse_args()
    if not HARNESS.is_dir():
        sys.exit(f"The harness of {HARNESS} is not there; without it there is nothing to compare with.")
    data = Path(os.environ.get("BENCH_DATA", BENCH / "data"))
    venvs = Path(os.environ.get("BENCH_VENVS", BENCH / "venvs"))
    data.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, HERE / "bench_data.py", data], check=True)
    systems = json.loads((HARNESS / "systems.json").read_text())
    for stage in options.stages.split(","):
        peers, ours = STAGES[stage]
        there = [name for name in peers if (venvs / systems[stage]["systems"][name]["venv"]).is_dir()]
        for name in set(peers) - set(there):
            print(f"{stage}: {name} is not installed ('make bench-peers')", file=sys.stderr)
        command = [sys.executable, HARNESS / "run.py", "--only", stage, "--data", data, "--venvs", venvs]
        command += ["--scratch", BENCH / "out", "--results", BENCH / "results.json", "--src", BENCH]
        command += ["--repeats", options.repeats, "--workers", options.workers]
        for name in there:
            command += ["--system", name]
        if not there:
            command += ["--system", "none"]
        for name, how, more in ours:
            row = f"env {more} {sys.executable} {HERE / 'ours.py'} --stage {stage} --how {how} "
            row += "--workers {workers} --data {data} --out {out} {inputs}"
            command += ["--add", f"{name}:{stage}={row}"]
        print(f"\n== {stage}", flush=True)
        subprocess.run(command, check=True)
    floors(data)


def floors(data: Path) -> None:
    """Where our own time goes, on one core, beside what cannot be had cheaper on this machine."""
    print("\n== where the time goes: 16,000 documents, one process, MB of text per CPU second")
    files = sorted(map(str, (data / "large").iterdir()))
    for words in ("unicode", "spacy_en"):
        command = [sys.executable, str(HERE / "ours.py"), "--stage", "filters", "--how", "direct"]
        command += ["--data", str(data), "--out", str(BENCH / "out" / f"floors-{words}"), *files]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "BENCH_WORDS": words}
        )
        spent = json.loads(done.stdout.splitlines()[-1])
        size = spent["bytes_in"] / 1e6
        shown = ", ".join(f"{name} {size / seconds:,.0f}" for name, seconds in spent["parts"].items() if seconds)
        judged = sum(seconds for name, seconds in spent["parts"].items() if name not in ("read", "write"))
        print(f"{words}: {shown}")
        print(
            f"  signals and rules {size / judged:,.0f} MB/s, {spent['docs_in'] / judged:,.0f} documents per CPU second"
        )
    for name, rate in machine(files).items():
        print(f"floor, {name}: {rate:,.0f} MB/s")


def machine(files: list[str]) -> dict[str, float]:
    """MB per CPU second of a scan of the bytes, of decoding JSON, and of decoding Parquet with zstd."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = b"".join(Path(name).read_bytes() for name in files)
    size = len(raw) / 1e6
    rates = {}
    mark = time.process_time()
    int(np.frombuffer(raw, np.uint8).sum())
    rates["sum of the bytes"] = size / (time.process_time() - mark)
    mark = time.process_time()
    texts = [json.loads(line)["text"] for line in raw.split(b"\n") if line]
    rates["json.loads of each line"] = size / (time.process_time() - mark)
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string())}), sink, compression="zstd")
    mark = time.process_time()
    pq.read_table(io.BytesIO(sink.getvalue()))
    rates["Parquet, zstd"] = size / (time.process_time() - mark)
    return rates


if __name__ == "__main__":
    main()
