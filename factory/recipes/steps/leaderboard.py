"""Leaderboard: experiments judged against the base, with intervals over seeds and items; never ranked within the noise."""

import json
import os
from typing import Any

import pyarrow as pa

from factory.core.fingerprint import digest_all
from factory.core.manifest import Manifest
from factory.evaluation.leaderboard import leaderboard
from factory.evaluation.runs import Run
from factory.evaluation.table import EVALUATION
from factory.recipes.work import Bench, Made, Work
from factory.storage.parts import read_part, write_file, write_part

ROWS = pa.schema(
    [
        ("rank", pa.int32()),
        ("experiment", pa.string()),
        ("scale", pa.string()),
        ("seeds", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("seed_low", pa.float64()),
        ("seed_high", pa.float64()),
        ("item_low", pa.float64()),
        ("item_high", pa.float64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("verdict", pa.string()),
        ("tokens", pa.float64()),
        ("unique_tokens", pa.float64()),
        ("documents_kept", pa.float64()),
        ("flops", pa.float64()),
    ]
)


def make_all(bench: Bench, works: list[Work]) -> dict[str, Made]:
    """The leaderboard of a recipe."""
    return {work.node.name: _make(bench, work) for work in works}


def _make(bench: Bench, work: Work) -> Made:
    runs = [_run(bench, work, proxy) for proxy in work.of("proxies")]
    board = leaderboard(runs, bench.recipe.base)
    data = board.to_json()
    header, cells = board.table()
    folder = f"{work.folder}/{runs_digest(work)}"
    with bench.store.scratch() as scratch:
        name = os.path.join(scratch, "leaderboard.json")
        with open(name, "w", encoding="utf-8") as stream:
            json.dump(data, stream, sort_keys=True, indent=1)
        full = write_file(bench.store, folder, "leaderboard.json", name)
    batch = pa.RecordBatch.from_pylist([_row(row, data["primary"]) for row in data["rows"]], schema=ROWS)
    table = write_part(bench.store, folder, "rows", ROWS, [batch], ids="")
    return Made((full, table), notes={"header": header, "rows": cells, "board": data})


def runs_digest(work: Work) -> str:
    """What the leaderboard was made of: names its folder, so that boards of other runs stay beside it."""
    return digest_all(f"{name}={manifest.digest}" for name, manifest in work.upstream.items())


def _run(bench: Bench, work: Work, proxy: Manifest) -> Run:
    scale, _, seed = proxy.partition.rpartition("-")
    evaluated = next(m for m in work.of("evaluations") if (m.label, m.partition) == (proxy.label, proxy.partition))
    tokens, selection = work.one("tokens", proxy.label), work.one("selection", proxy.label)
    record = proxy.notes["record"]
    facts: dict[str, Any] = {
        "valid": record["valid"],
        "reason": record["reason"],
        "parameters": record["parameters"],
        "tokens_seen": record["tokens_seen"],
        "unique_tokens": tokens.notes["unique_tokens"],
        "epochs": tokens.notes["tokens"] / max(1, tokens.notes["unique_tokens"]),
        "flops": record["flops"],
        "documents_kept": selection.rows,
    }
    items = (
        pa.concat_tables([read_part(bench.store, part) for part in evaluated.parts])
        if evaluated.parts
        else EVALUATION.empty_table()
    )
    return Run(proxy.label, scale, int(seed), facts, items)


def _row(row: dict[str, Any], metric: str) -> dict[str, Any]:
    primary, against = row["primary"] or {}, row["against_base"] or {}
    seeds, items, gap = (
        (primary.get("seed_interval") or {}),
        (primary.get("item_interval") or {}),
        (against.get("interval") or {}),
    )
    return {
        "rank": row["rank"],
        "experiment": row["experiment"],
        "scale": row["scale"],
        "seeds": len(row["seeds"]),
        "metric": metric,
        "value": primary.get("value"),
        "seed_low": seeds.get("low"),
        "seed_high": seeds.get("high"),
        "item_low": items.get("low"),
        "item_high": items.get("high"),
        "difference": against.get("difference"),
        "difference_low": gap.get("low"),
        "difference_high": gap.get("high"),
        "verdict": row["verdict"],
        **{name: row["facts"].get(name) for name in ("tokens", "unique_tokens", "documents_kept", "flops")},
    }
