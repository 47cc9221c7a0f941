"""`kernel`: the one way this project compiles a loop with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile a function with numba: cached on disk, without the interpreter lock, IEEE arithmetic only.

    No fastmath and no parallel loops, so that the same bars give the same bits everywhere.
    Division by zero gives inf or NaN as in numpy and raises nothing.
    """
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))
