"""Bollinger bands.  Axis: T bars."""

from __future__ import annotations

import math

import numpy as np

from engine.bars.model import Floats
from engine.features.compiled import kernel
from engine.features.moving import on_ticks, window_mean
from engine.features.registry import COLUMN, Parameter, feature


@kernel
def _deviation(x: Floats, n: int, tick: float) -> Floats:
    """Return the population standard deviation of each window.

    Distances are taken from the window's oldest value first (in whole ticks where the window
    is on ticks): a window of one price then gives exactly 0.
    """
    out = np.full(len(x), np.nan)
    whole, exact = on_ticks(x, n, tick)
    shifted = np.empty(n)
    on = 0
    for t in range(len(x)):
        on += exact[t]
        if t >= n:
            on -= exact[t - n]
        if t < n - 1:
            continue
        first = t - n + 1
        mean = 0.0
        for i in range(n):
            if on == n:
                shifted[i] = float(whole[first + i] - whole[first])
            else:
                shifted[i] = x[first + i] - x[first]
            mean += shifted[i]
        mean /= n
        squares = 0.0
        for i in range(n):
            squares += (shifted[i] - mean) * (shifted[i] - mean)
        out[t] = math.sqrt(squares / n) * (tick if on == n else 1.0)
    return out


@kernel
def _bollinger(x: Floats, n: int, k: float, tick: float) -> tuple[Floats, Floats, Floats, Floats]:
    mid = window_mean(x, n, tick)
    sd = _deviation(x, n, tick)
    upper = np.empty(len(x))
    lower = np.empty(len(x))
    pct_b = np.empty(len(x))
    for t in range(len(x)):
        upper[t] = mid[t] + k * sd[t]
        lower[t] = mid[t] - k * sd[t]
        width = upper[t] - lower[t]
        pct_b[t] = (x[t] - lower[t]) / width if width > 0.0 else np.nan
    return mid, upper, lower, pct_b


@feature(
    "bollinger",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 2), Parameter("k", 0.01, 100.0, whole=False)),
    outputs=("mid", "upper", "lower", "pct_b"),
    first_valid=lambda p: int(p["n"]) - 1,
    uses_tick=True,
)
def bollinger(x: Floats, n: int, k: float, tick: float = 0.0) -> tuple[Floats, Floats, Floats, Floats]:
    """Bollinger bands: the moving average and k standard deviations around it.

    Parameters
    ----------
    x : float64 array, shape (T,)
        A price column, oldest first.
    n : int, >= 2
        Window in bars.
    k : float, .01 to 100
        Half width in standard deviations (ddof 0, two passes over each window).
    tick : float
        Price step, 0 = unknown; as in `sma`.

    Returns
    -------
    mid, upper, lower : float64 array, shape (T,)
        Price units. NaN before index n-1; mid is `sma`.
    pct_b : float64 array, shape (T,)
        (x - lower) / (upper - lower), not clipped; NaN also where the bands have no width.

    NaN: a NaN input makes the n windows that hold it NaN.
    Source: J. Bollinger; population deviation as in TA-Lib.
    """
    return _bollinger(x, n, float(k), float(tick))
