"""Compiled functions: numba, with the machine code kept on disk."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.extending import intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Row = TypeVar("Row", bound=np.generic)


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


def _uncounted(_typing: Any, array: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.return_type)(context, builder, arguments[0])
        for owner in ("meminfo", "parent"):
            setattr(view, owner, getattr(view, owner).type(None))
        return view._getvalue()

    return array(array), build


uncounted = cast("Callable[[NDArray[Row]], NDArray[Row]]", intrinsic(_uncounted))
"""Returns an array, in compiled code, as one that has no owner: parts that it is handed to count no references.

Each count is an atomic step; together they took four times as long as the work. The caller of the compiled function
must hold the array.
"""
