"""How a Python function becomes a machine loop: without the interpreter lock, kept on disk, compiled at its first call.

A compiled kernel is kept under the content of its own file and of all files of this package that it imports, directly or
not: numba itself looks at the kernel's own file alone, and would run stale machine code after a constant or a function it
takes from another one has changed.

Kernels lie beside their source, or in numba's folder of the user where that cannot be written, or in NUMBA_CACHE_DIR.
Where none of these can be written they are compiled in each process. Whoever waits for a compiler is told, once.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event

Function = TypeVar("Function", bound=Callable[..., Any])

_IMPORTED = re.compile(rb"^[ \t]{0,40}from factory\.kernels\.(\w{1,80}) import", re.MULTILINE)


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
    """A part of bare kernels of this package, put in place where it is called."""
    compiled: Function = numba.njit(nogil=True, _nrt=False, forceinline=True)(function)
    return compiled


# What may be changed in sums of floats so that vectors make them. Not that there are no infinities and no NaN.
_REORDERED = {"contract", "nsz", "arcp", "reassoc", "afn"}


def float_kernel(function: Function) -> Function:
    """A kernel whose sums may be added in any order, a vector at a time; a division by nought gives infinity or NaN."""
    return _compiled(function, nogil=True, fastmath=_REORDERED, error_model="numpy")


def float_inner(function: Function) -> Function:
    """A part of such kernels of the same module, put in place where it is called."""
    compiled: Function = numba.njit(nogil=True, fastmath=_REORDERED, error_model="numpy", forceinline=True)(function)
    return compiled


def _compiled(function: Function, **options: Any) -> Function:
    try:
        kept: Any = numba.njit(cache=True, **options)(function)
        kept._cache._cache_file._source_stamp = _stamp(function.__module__.rpartition(".")[2])
    except RuntimeError:  # no folder can be written
        _Announcement.kept = False
        kept = numba.njit(**options)(function)
    made: Function = kept
    return made


@cache
def _stamp(module: str) -> str:
    """What the kernels of a module are compiled from."""
    waiting, known = [module, __name__.rpartition(".")[2]], dict[str, bytes]()
    while waiting:
        name = waiting.pop()
        path = Path(__file__).with_name(f"{name}.py")
        if name not in known and path.exists():
            known[name] = path.read_bytes()
            waiting += [found.decode() for found in _IMPORTED.findall(known[name])]
    return hashlib.sha256(
        b"\0".join(part for name in sorted(known) for part in (name.encode(), known[name]))
    ).hexdigest()


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
