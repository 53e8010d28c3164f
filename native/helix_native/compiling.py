"""How kernels are compiled: numba's options under three names, and where it keeps what it compiled.

Only entries are kept on disk: what they call is a part of them there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from helix_native.kernel_cache import folder

_F = TypeVar("_F", bound=Callable[..., Any])

_config: Any = numba.config
if "/kernels-" not in _config.CACHE_DIR:  # before the first function that is cached is defined
    _config.CACHE_DIR = folder(_config.CACHE_DIR)

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  #: no wrappers for Python: a part of the compile time


def _jit(function: _F, **options: Any) -> _F:
    return cast(_F, numba.njit(nogil=True, error_model="numpy", **options)(function))


def entry(function: _F) -> _F:
    """Compile without the interpreter's lock, kept on disk; callable from Python."""
    return _jit(function, cache=True)


def compiled(function: _F) -> _F:
    """The same for what only compiled code calls."""
    return _jit(function, _nrt=True, **_INNER)


def borrowing(function: _F) -> _F:
    """The same for what allocates no array and returns none: compiled without counting references.

    Counting takes an atomic instruction for every array of every table at hand wherever a loop or a call begins, which
    was three quarters of the time of a short pass.  numba refuses a function that allocates or returns a new array.
    """
    return _jit(function, _nrt=False, **_INNER)


def inlined(function: _F) -> _F:
    """The same for what is pasted into its callers, and is of their kind."""
    return _jit(function, inline="always", **_INNER)
