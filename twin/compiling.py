"""Compiled functions: numba, with the machine code kept on disk."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Return the function compiled on first use; later starts read the machine code.

    It is kept beside the source, or in the user's own cache folder where that cannot be written. Where neither
    can, every start compiles anew.
    """
    try:
        return cast("Function", njit(cache=True, error_model="numpy", nogil=True)(function))
    except RuntimeError:  # numba found no folder that it may write to
        return cast("Function", njit(error_model="numpy", nogil=True)(function))


def inlined(function: Function) -> Function:
    """Return the function as a part of the compiled ones that call it; it needs no machine code of its own."""
    return cast("Function", njit(error_model="numpy", forceinline=True)(function))
