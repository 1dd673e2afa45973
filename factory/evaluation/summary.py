"""From the items of a run to numbers that are better when lower: of each task, and of each of its domains.

A domain's score is the weighted mean of its items, a task's the mean over its domains, as everywhere; a metric of which more
is better is taken from 1.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory.evaluation.tasks import HIGHER_IS_BETTER


def lowered(items: pa.Table) -> dict[str, float]:
    """`task` and `task/domain` to a number; NaN where an item of it has no finite value."""
    found: dict[str, float] = {}
    for task in pc.unique(items.column("task")).to_pylist():
        own = items.filter(pc.equal(items.column("task"), task)).combine_chunks()
        flip = HIGHER_IS_BETTER[own.column("metric")[0].as_py()]
        names = own.column("domain").to_numpy(zero_copy_only=False).astype(str)
        values = own.column("value").to_numpy(zero_copy_only=False).astype(np.float64)
        weights = own.column("weight").to_numpy()
        scores = {}
        for name in np.unique(names):
            chosen = names == name
            mean = float((values[chosen] * weights[chosen]).sum() / weights[chosen].sum())
            scores[str(name)] = 1 - mean if flip else mean
        found[task] = float(np.mean(list(scores.values())))
        found.update({f"{task}/{name}": value for name, value in scores.items()})
    return found
