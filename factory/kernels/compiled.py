"""How a Python function becomes a machine loop: without the interpreter lock, kept on disk, compiled at its first call.

A compiled kernel is kept under the name, size and time of *its own* file. A kernel must therefore call compiled functions
of its own module only: a change in another module would go unnoticed and the stale machine code would run. The same is
true of a constant it takes from another module: who changes one touches the modules that read it. The
instructions of `factory.kernels.lanes` are the exception, as part of the language.

Kernels lie beside their source, or in numba's folder of the user where that cannot be written, or in NUMBA_CACHE_DIR.
Where none of these can be written they are compiled in each process. Whoever waits for a compiler is told, once.
"""

import logging
from collections.abc import Callable
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
        kept: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        _Announcement.kept = False
        kept = numba.njit(**options)(function)
    return kept


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
