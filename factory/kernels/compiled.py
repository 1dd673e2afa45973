"""How a Python function becomes a machine loop: without the interpreter lock, kept on disk, compiled at its first call.

A compiled kernel is kept under the name, size and time of *its own* file. A kernel must therefore call compiled functions
of its own module only: a change in another module would go unnoticed and the stale machine code would run.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """A loop called from Python with arrays."""
    compiled: Function = numba.njit(cache=True, nogil=True)(function)
    return compiled


def inner(function: Function) -> Function:
    """A part of kernels of the same module; it is kept as a part of them."""
    compiled: Function = numba.njit(nogil=True)(function)
    return compiled


def bare_kernel(function: Function) -> Function:
    """A kernel that allocates nothing and calls only `bare_inner` functions.

    Without numba's reference counting, which otherwise takes an atomic step at each call that is given an array: the
    loops over characters are three times as fast.
    """
    compiled: Function = numba.njit(cache=True, nogil=True, _nrt=False)(function)
    return compiled


def bare_inner(function: Function) -> Function:
    """A part of bare kernels of the same module, put in place where it is called."""
    compiled: Function = numba.njit(nogil=True, _nrt=False, forceinline=True)(function)
    return compiled
