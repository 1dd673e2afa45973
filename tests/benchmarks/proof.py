"""From tokens to scores beside the peers, on this machine: `make bench-training` (ARGS="--quick" in under three minutes).

Each part runs in a process of its own with one thread and gives figures as JSON; ours and the peers take turns, and ratios
are of CPU seconds, so that a busy machine is busy for both. Then one table: what was asked, what came, met or not met. Peers
that are not installed are named (`make bench-peers`), and nothing is claimed about them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BENCH = ROOT / ".bench"
LONGEST = 3600.0  # seconds one part may take
ASKED = {"minimal": 1.0, "trainer": 1.2, "loader": 50.0, "evaluation": 3.0, "tokens": 5.0, "mfu": 0.5}
PEERS = {
    "minimal_transformers": ("minimal loop, model of transformers", ASKED["minimal"]),
    "minimal_module": ("minimal loop, hand-written model", ASKED["minimal"]),
    "trainer": ("transformers.Trainer", ASKED["trainer"]),
}


@dataclass(frozen=True)
class Amount:
    """How much is measured: (scale, turns, steps a turn); (items, turns, width, layers); files of documents, turns."""

    training: tuple[tuple[str, int, int], ...]
    evaluation: tuple[tuple[int, int, int, int], ...]
    files: int
    turns: int


QUICK = Amount((("nano", 8, 5), ("tiny", 2, 1)), ((40, 1, 128, 2),), files=1, turns=1)
FULL = Amount(
    (("nano", 24, 8), ("tiny", 6, 2), ("micro_plain", 5, 1)),
    ((100, 2, 128, 2), (40, 1, 256, 6)),
    files=2,
    turns=3,
)


def training(amount: Amount) -> dict[str, Any]:
    from training import loader_speed, training_speed

    made = {}
    for scale, turns, steps in amount.training:
        speed = training_speed(scale, turns=turns, steps=steps)
        loader = loader_speed(scale)
        loader["times_the_model"] = loader["tokens_per_cpu_s"] / speed["tokens_per_cpu_s"]["loop"]
        made[scale] = {**speed, "loader": loader}
    return made


def evaluation(amount: Amount) -> dict[str, Any]:
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        return {"missing": f"tasks are read from {data}, which is not there"}
    from evaluation import measure

    return {
        f"width {width}, {layers} layers": measure(str(data), items=items, repeats=turns, width=width, layers=layers)
        for items, turns, width, layers in amount.evaluation
    }


def tokens(amount: Amount) -> dict[str, Any]:
    from tokens import measure

    return _with_documents(amount, lambda files: measure(files, venvs=_venvs(), repeats=amount.turns))


def readback(amount: Amount) -> dict[str, Any]:
    from readback import measure

    return _with_documents(amount, lambda files: measure(files, venvs=_venvs()))


def gpu(amount: Amount) -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"missing": "no GPU here"}
    from training import gpu_speed

    return gpu_speed()


PARTS: dict[str, Callable[[Amount], dict[str, Any]]] = {
    "training": training,
    "evaluation": evaluation,
    "tokens": tokens,
    "readback": readback,
    "gpu": gpu,
}


def _venvs() -> str:
    return os.environ.get("BENCH_VENVS", str(BENCH / "venvs"))


def _with_documents(amount: Amount, measure: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
    import bench_data

    folder = Path(os.environ.get("BENCH_DATA", BENCH / "data"))
    if not (folder / "small").exists():
        if not bench_data.SHARED.is_dir():
            return {"missing": f"documents are made from {bench_data.SHARED}, which is not there"}
        bench_data.documents(folder)
    return measure([str(file) for file in sorted((folder / "small").glob("*.jsonl"))[: amount.files]])


@dataclass(frozen=True)
class Row:
    """`came` is null where nothing was measured; `note` then says why."""

    what: str
    ours: str
    peer: str
    came: float | None
    asked: float | None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.came is None:
            return f"not measured: {self.note}"
        if self.asked is None:
            return self.note
        return ("met" if self.came >= self.asked else "not met") + (f" ({self.note})" if self.note else "")


def rows(found: dict[str, Any]) -> Iterator[Row]:
    for part, figures in found.items():
        if "missing" in figures:
            yield Row(part, "", "", None, None, figures["missing"])
        else:
            yield from ROWS[part](figures)


def _training_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for scale, speed in figures.items():
        rate = speed["tokens_per_cpu_s"]
        for name, (peer, asked) in PEERS.items():
            what = f"{scale}: {peer}"
            if name in speed["not_measured"]:
                yield Row(what, f"{rate['loop']:,} tokens", "", None, asked, speed["not_measured"][name])
                continue
            clock = f"by the clock {speed['times_faster_by_the_clock'][name]:.2f}"
            came = speed["times_faster_than"][name]
            yield Row(what, f"{rate['loop']:,} tokens", f"{rate[name]:,}", came, asked, clock)
        loader = speed["loader"]
        own = f"{loader['tokens_per_cpu_s']:,} tokens"
        yield Row(f"{scale}: data order", own, f"{rate['loop']:,}", loader["times_the_model"], ASKED["loader"])


def _evaluation_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for shape, made in figures.items():
        for task, one in made["tasks"].items():
            best = max(one["lm_eval_items_per_second"].values())
            note = (
                f"{one['of_the_floor']:.0%} of the floor, which is {one['most_possible']:.1f} times; "
                f"scores {one['apart']:.1e} apart"
            )
            what = f"lm-eval, {shape}: {task}"
            yield Row(
                what, f"{one['items_per_second']:.1f} items", f"{best:.1f}", one["ratio"], ASKED["evaluation"], note
            )


def _tokens_rows(figures: dict[str, Any]) -> Iterator[Row]:
    same = "same ids" if figures["same_ids"] else "IDS DIFFER"
    peer = figures["systems"]["datatrove"]
    for system in ("ours", "ours to file"):
        own = figures["systems"][system]
        if "missing" in own or "missing" in peer:
            reason = own.get("missing") or peer.get("missing")
            yield Row(f"encoding, {system}: datatrove", "", "", None, ASKED["tokens"], reason)
            continue
        rate = f"{own['mb_per_cpu_s']:.1f} MB"
        came = own["times_datatrove"]
        yield Row(f"encoding, {system}: datatrove", rate, f"{peer['mb_per_cpu_s']:.2f}", came, ASKED["tokens"], same)


def _readback_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for name, one in figures["formats"].items():
        if "missing" in one:
            yield Row(f"{name} read back", "", "", None, None, one["missing"])
            continue
        note = f"{figures['tokens']:,} ids " + ("equal" if one["same_ids"] else "DIFFER")
        written, read = one["written_tokens_per_cpu_s"], one["read_tokens_per_cpu_s"]
        same = float(one["same_ids"])
        yield Row(f"{name} read by {one['version']}", f"{written:,.0f} written", f"{read:,.0f} read", same, 1.0, note)


def _gpu_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for micro, one in figures["by_micro_batch"].items():
        what = f"MFU of {figures['scale']} on {figures['device']}, {micro} at once"
        note = "" if one["mfu"] is not None else "the peak of this device is not known"
        yield Row(what, f"{one['tokens_per_s']:,.0f} tokens by the clock", "", one["mfu"], ASKED["mfu"], note)


ROWS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "training": _training_rows,
    "evaluation": _evaluation_rows,
    "tokens": _tokens_rows,
    "readback": _readback_rows,
    "gpu": _gpu_rows,
}


def table(found: dict[str, Any]) -> str:
    lines = ["| beside | ours, per CPU s | theirs | times | asked | |", "|---|---:|---:|---:|---:|---|"]
    for row in rows(found):
        came = "" if row.came is None else f"{row.came:.2f}"
        asked = "" if row.asked is None else f"{row.asked:g}"
        lines.append(f"| {row.what} | {row.ours} | {row.peer} | {came} | {asked} | {row.verdict} |")
    return "\n".join(lines)


def run_part(name: str, quick: bool) -> dict[str, Any]:
    """One part in a process of its own; what goes wrong there is its figure."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", __file__, "--part", name, *(["--quick"] if quick else [])]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return {"missing": f"it took longer than {LONGEST:.0f} s"}
    if done.returncode:
        return {"missing": f"it failed with status {done.returncode}; what it said is above"}
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def conditions(quick: bool) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("torch", "transformers", "accelerate", "lm_eval", "tokenizers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "quick": quick,
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "python": platform.python_version(),
        "processor": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns: the ratios within some 10 %%")
    parser.add_argument("--only", default=",".join(PARTS), help="these parts, with commas between")
    parser.add_argument("--json", default=str(BENCH / "training.json"), help="where the figures go")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part](QUICK if asked.quick else FULL)))
        return
    names = asked.only.split(",")
    if unknown := set(names) - set(PARTS):
        sys.exit(f"No part is named {', '.join(sorted(unknown))}. Known: {', '.join(PARTS)}.")
    made: dict[str, Any] = {"conditions": conditions(asked.quick), "parts": {}}
    target = Path(asked.json)
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        begun = time.perf_counter()
        made["parts"][name] = run_part(name, asked.quick)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        target.write_text(json.dumps(made, indent=1) + "\n")  # what is measured stays, whatever comes after
    print(table(made["parts"]))
    print(f"figures: {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
