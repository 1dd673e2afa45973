"""How a run is computed: where, how fast and in how much memory. None of it enters a run's identity.

What changes the bits of the result, as a rule in the last place (about 1e-6 of a loss), and what does not:

- no bits: `recompute`, `checkpoint_every`, and on a CPU nothing else (a killed run ends with the bits of an undisturbed one);
- last bits, since sums are taken in another order: `device`, `threads`, `processes`, `micro_batch`, `compile`.

Precision is not among them: bfloat16 is another arithmetic, and a setting of the proxy.
"""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Machine:
    """`device` auto is CUDA where there is one. `micro_batch` is how many sequences are computed at once (None: all of a
    process's, fewer where memory is short). `recompute` keeps a block's input alone and computes the block again on the way
    back. `compile` compiles each block (torch.compile). `peak_flops` is one device's, where the table does not know it;
    `usd_per_hour` is the price of all devices together.
    """

    device: str = "auto"
    threads: int = 1
    checkpoint_every: int | None = None
    micro_batch: int | None = None
    recompute: bool = False
    compile: bool = False
    peak_flops: float | None = None
    usd_per_hour: float | None = None
