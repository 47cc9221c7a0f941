"""Highest and lowest of the last bars.  Axis: T bars."""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats
from engine.features.compiled import kernel
from engine.features.registry import COLUMN, Parameter, feature

BLOCK = 1024


@kernel
def _higher(a: float, b: float) -> float:
    return a if (a > b) | (a != a) else b


@kernel
def _lower(a: float, b: float) -> float:
    return a if (a < b) | (a != a) else b


@kernel
def _of_four(x: Floats, p: int, q: int, r: int, low: bool, out: Floats) -> None:
    """Write the extreme of ``x[k], x[k+p], x[k+q], x[k+r]`` into ``out[k]``."""
    second, third, fourth = x[p:], x[q:], x[r:]
    if low:
        for k in range(len(out)):
            out[k] = _lower(_lower(x[k], second[k]), _lower(third[k], fourth[k]))
    else:
        for k in range(len(out)):
            out[k] = _higher(_higher(x[k], second[k]), _higher(third[k], fourth[k]))


@kernel
def _extreme(x: Floats, n: int, low: bool, out: Floats) -> None:
    """Write the extreme of each window of n.

    Extremes of 1, 4, 16, ... bars are each made from four of the size before; four of the
    largest that fits cover the window. So the work grows with log4(n), and all of it is
    vectorised; extremes of extremes are not rounded, whatever the order.
    """
    out[: n - 1] = np.nan
    block = max(BLOCK, 2 * n)
    one, two = np.empty(block + n), np.empty(block + n)
    for a in range(n - 1, len(x), block):
        m = min(block, len(x) - a)
        bars = x[a - n + 1 : a + m]
        if n < 4:
            _of_four(bars, min(1, n - 1), min(2, n - 1), n - 1, low, out[a : a + m])
            continue
        width, size = 4, m + n - 4
        source, other = one, two
        _of_four(bars, 1, 2, 3, low, source[:size])
        while 4 * width <= n:
            size -= 3 * width
            _of_four(source, width, 2 * width, 3 * width, low, other[:size])
            source, other = other, source
            width *= 4
        last = n - width
        _of_four(source, min(width, last), min(2 * width, last), last, low, out[a : a + m])


@feature(
    "highest",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    window=lambda p: int(p["n"]),
    default_column="close",
)
def highest(x: Floats, n: int, out: Floats | None = None) -> Floats:
    """Highest of the last n values, the current bar's included; float64 shape (T,), NaN before index n-1.

    ``highest.n=20`` reads the close, ``highest.high.n=20`` the high. A breakout compares with
    the value of the bar before: ``price("close") > highest(20).lag(1)``.
    NaN: a NaN input makes the windows that hold it NaN.
    """
    out = np.empty(len(x)) if out is None else out
    _extreme(x, n, False, out)
    return out


@feature(
    "lowest",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    window=lambda p: int(p["n"]),
    default_column="close",
)
def lowest(x: Floats, n: int, out: Floats | None = None) -> Floats:
    """Lowest of the last n values, the current bar's included; float64 shape (T,), NaN before index n-1.

    NaN: a NaN input makes the windows that hold it NaN.
    """
    out = np.empty(len(x)) if out is None else out
    _extreme(x, n, True, out)
    return out
