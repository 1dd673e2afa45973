"""How a Python function becomes a machine loop: without the interpreter lock, kept on disk, compiled at its first call.

A compiled kernel is kept under the content of all files of this package: numba itself looks at the kernel's own file alone,
and would run stale machine code after a constant or a function it takes from another one has changed.

Kernels lie beside their source, or in numba's folder of the user where that cannot be written, or in NUMBA_CACHE_DIR.
Where none of these can be written they are compiled in each process. Whoever waits for a compiler is told, once.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """A loop called from Python with arrays."""
    return _compiled(function, nogil=True)


def inner(function: Function) -> Function:
    """A part of kernels of the same module; it is kept as a part of them."""
    compiled: Function = numba.njit(nogil=True)(function)
    return compiled


def bare_kernel(function: Function) -> Function:
    """A kernel that allocates nothing and calls only `bare_inner` functions.

    Without numba's reference counting, which otherwise takes an atomic step at each call that is given an array: the
    loops over characters are three times as fast.
    """
    return _compiled(function, nogil=True, _nrt=False)


def bare_inner(function: Function) -> Function:
    """A part of bare kernels of the same module, put in place where it is called."""
    compiled: Function = numba.njit(nogil=True, _nrt=False, forceinline=True)(function)
    return compiled


def _compiled(function: Function, **options: Any) -> Function:
    try:
        kept: Any = numba.njit(cache=True, **options)(function)
        kept._cache._cache_file._source_stamp = _sources()
    except RuntimeError:  # no folder can be written
        _Announcement.kept = False
        kept = numba.njit(**options)(function)
    made: Function = kept
    return made


@cache
def _sources() -> str:
    """What all kernels are compiled from."""
    hasher = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        hasher.update(path.name.encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()


class _Announcement(event.Listener):  # type: ignore[misc]
    """Says that kernels are being compiled, when the first one of this package is."""

    kept = True
    made = False

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if self.made or not module.startswith(f"{__package__}."):
            return
        _Announcement.made = True
        how_often = (
            "once per machine" if self.kept else "in each process, set NUMBA_CACHE_DIR to a folder to keep them in"
        )
        logging.getLogger(__package__).warning("compiling kernels (%s, some 30 seconds)", how_often)

    def on_end(self, event: Any) -> None:
        """Nothing is said at the end."""


event.register("numba:compile", _Announcement())
