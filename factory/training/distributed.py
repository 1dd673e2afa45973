"""One run in several processes: parameters, gradients and moments are sharded over them (FSDP2), sequences dealt out.

`launch` starts the ranks of one machine and sees to it that none outlives it; `python -m factory.training.ranks JOB` is a
rank, and what torchrun starts on several machines. A rank is told who it is by its command line or by torchrun's rendezvous,
never by us reading the environment. All ranks make the same weights from the seed, and the loss is divided by the targets
of the global batch, so a run in N processes is the run in one but for the order in which sums are taken (about 1e-6).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from factory.core.errors import FactoryError

Report = Callable[[dict[str, Any]], None]

LOOK_SECONDS = 0.05
LAST_WORDS = 2000  # characters of a rank's own output that are shown when it fails
RESULT, JOB = "result.json", "job.json"


def launch(function: str, arguments: Mapping[str, Any], processes: int, report: Report | None = None) -> dict[str, Any]:
    """`function(arguments, report)` (as module:function) in so many processes of this machine; returns rank 0's result.

    When one fails or this process is interrupted, all are killed; raises FactoryError with what the first to fail said.
    """
    with tempfile.TemporaryDirectory(prefix="factory-ranks-") as folder:
        job = Path(folder) / JOB
        job.write_text(json.dumps({"function": function, "arguments": arguments}))
        ranks: list[subprocess.Popen[bytes]] = []
        logs: list[IO[bytes]] = []
        try:
            for rank in range(processes):
                logs.append(open(Path(folder) / f"rank-{rank}.log", "w+b"))  # noqa: SIM115 (closed below)
                ranks.append(_start(job, rank, processes, logs[-1]))
            told = _Told(Path(folder) / "told.jsonl", report)
            while any(rank.poll() is None for rank in ranks):
                told.pass_on()
                failed = [number for number, rank in enumerate(ranks) if rank.poll() not in (None, 0)]
                if failed:
                    raise _failure(failed, ranks, logs, folder)
                time.sleep(LOOK_SECONDS)
            told.pass_on()
            failed = [number for number, rank in enumerate(ranks) if rank.returncode]
            if failed:
                raise _failure(failed, ranks, logs, folder)
        finally:
            for process in ranks:
                process.kill()
                process.wait()
            for log in logs:
                log.close()
        result: dict[str, Any] = json.loads((Path(folder) / RESULT).read_text())
    return result


def world() -> tuple[int, int]:
    """(rank, number of processes) of this run: (0, 1) where there is but one."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def shard(model: Any, *, device: str, precision: str) -> None:
    """FSDP2 over all processes, block by block; gradients are summed, because the loss is divided by the global batch.

    In bf16 parameters are gathered and multiplied in bf16, and gradients are summed in float32.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.split(":")[0], (world()[1],))
    policy = MixedPrecisionPolicy()
    if precision == "bfloat16":
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )
    for block in model.model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in (*model.model.layers, model):
        module.set_gradient_divide_factor(1.0)
        # Gloo has no premultiplied sums, and a factor of one needs none.
        module.set_force_sum_reduction_for_comms(True)


def local(tensor: Any) -> Any:
    """What this process holds of a parameter: all of it, or its shard."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def gathered(tensor: Any) -> Any:
    """The whole of a parameter on the CPU; every process has to ask."""
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().cpu().contiguous()


def gathered_like(parameter: Any, part: Any) -> Any:
    """The whole of what is sharded as a parameter is: an average or a moment."""
    if not hasattr(parameter, "full_tensor"):
        return gathered(part)
    from torch.distributed.tensor import DTensor

    if isinstance(part, DTensor):
        return gathered(part)
    whole = DTensor.from_local(
        part, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
    return gathered(whole)


def scattered_like(parameter: Any, whole: Any) -> Any:
    """A whole tensor as a parameter is held: its inverse."""
    whole = whole.to(parameter.device)
    if not hasattr(parameter, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, parameter.device_mesh, parameter.placements)


def _start(job: Path, rank: int, processes: int, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    loopback = "lo" if sys.platform == "linux" else "lo0"
    command = [sys.executable, "-m", "factory.training.ranks", str(job), str(rank), str(processes)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": loopback}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def _failure(
    failed: list[int], ranks: "list[subprocess.Popen[bytes]]", logs: list[IO[bytes]], folder: str
) -> FactoryError:
    # The first to fail leaves its error, unless it was killed; the others fail because it is gone.
    errors = sorted(Path(folder).glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
    killed = [number for number in failed if (ranks[number].returncode or 0) < 0]
    if errors and not killed:
        told = json.loads(errors[0].read_text())
        return FactoryError(told["message"])
    rank = (killed or failed)[0]
    logs[rank].seek(0)
    words = logs[rank].read().decode(errors="replace")[-LAST_WORDS:].strip()
    return FactoryError(
        f"proxy: process {rank} of {len(ranks)} ended with status {ranks[rank].returncode}, the others were stopped. "
        f"Run again to go on from the last checkpoint. {words}".rstrip()
    )


class _Told:
    """Reports of rank 0, read from the file it writes them to."""

    def __init__(self, path: Path, report: Report | None) -> None:
        self._path, self._report, self._at = path, report, 0

    def pass_on(self) -> None:
        if self._report is None or not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                self._report(json.loads(line))
