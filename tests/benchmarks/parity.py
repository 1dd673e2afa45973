"""How often our rules and the published filters judge a document alike: the tables of docs/parity.md.

    python tests/benchmarks/parity.py [--data ../shared/data] [--documents 3200] [--dclm 1100]

datatrove takes a second for some 25 documents. Ends with 1 if a filter differs on more than one document in a thousand.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import verdicts

DATA = Path(__file__).parents[3] / "shared" / "data"
MOST = 0.001


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--documents", type=int, default=3200)
    options.add_argument("--dclm", type=int, default=1100)
    asked = options.parse_args()
    if not asked.data.is_dir():
        print(f"no real data at {asked.data}; name its folder with --data")
        return 2
    differing = 0.0
    for title, count, compare in (
        ("datatrove", asked.documents, verdicts.compare_with_datatrove),
        ("DCLM's RefinedWeb list", asked.dclm, verdicts.compare_with_dclm),
    ):
        documents = list(verdicts.documents(asked.data, count // 2, count // 7, count - count // 2 - count // 7))
        begin = time.perf_counter()
        rows = compare(documents)
        print(f"\n## {title}: {len(documents):,} documents, {time.perf_counter() - begin:.0f} s\n")
        print(verdicts.table(rows))
        differing = max(differing, *(len(row.differences) / max(1, row.documents) for row in rows))
    return int(differing > MOST)


if __name__ == "__main__":
    sys.exit(main())
