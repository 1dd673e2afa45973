"""One process of a run in several: `python -m factory.training.ranks JOB [RANK PROCESSES]`.

JOB is a JSON file with a function (module:function) and its arguments. With rank and number the processes meet in a file
beside it, on this machine; without them they are torchrun's (`torchrun … -m factory.training.ranks JOB`) and meet where it
says, over any number of machines. Rank 0 writes the result beside the job.
"""

import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from factory.core.errors import FactoryError
from factory.training.distributed import RESULT

WAIT_SECONDS = 600  # for a process that is behind, before it is given up


def main(job: Path, rank: int | None, processes: int | None) -> None:
    """Run the job's function in this process as one of several."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    asked = json.loads(job.read_text())
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    wait = timedelta(seconds=WAIT_SECONDS)
    if rank is None or processes is None:
        dist.init_process_group(backend, timeout=wait)
        rank = dist.get_rank()
    else:
        _die_with_parent()
        store = dist.FileStore(str(job.with_name("meeting")), processes)
        dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=wait)
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    module, _, name = asked["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    try:
        result = function(asked["arguments"], _reporter(job) if rank == 0 else None)
    except Exception as error:
        known = isinstance(error, FactoryError)
        told = {"message": str(error) if known else f"proxy: process {rank}: {traceback.format_exc(limit=-6)}"}
        _write(job.with_name(f"error-{rank}.json"), told)
        # The others wait for this process in a collective: only its end tells them.
        os._exit(1)
    if rank == 0:
        _write(job.with_name(RESULT), result)
    dist.barrier()
    dist.destroy_process_group()


def _reporter(job: Path) -> Any:
    stream = open(job.with_name("told.jsonl"), "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (lives as long as we)
    return lambda message: stream.write(json.dumps(message) + "\n") and None


def _write(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


def _die_with_parent() -> None:
    """A rank whose launcher was killed ends, also while it computes."""
    parent = os.getppid()

    def watch() -> None:
        pause = threading.Event()
        while not pause.wait(1.0):
            if os.getppid() != parent:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    numbers = [*map(int, sys.argv[2:4]), None, None]
    main(Path(sys.argv[1]), numbers[0], numbers[1])
