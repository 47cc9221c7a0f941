"""Moving averages, extremes and returns: sma, ema, highest, lowest, volume_sma, roc, log_return, volatility.

Axis: T bars. Every value uses bars up to its own and is known at the close of that bar.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from engine.bars.model import Floats, Ints
from engine.features.compiled import kernel
from engine.features.registry import COLUMN, Parameter, feature

EXACT = 2.0**53  # integers below this are exact in float64


@kernel
def on_ticks(x: Floats, n: int, tick: float) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return prices as whole ticks, int64 shape (T,), and where that is exact, bool shape (T,).

    A price is on the tick when it is within 1e-9 of itself of a whole number of ticks, and
    small enough that n of them add without rounding. Decided price by price: one price off
    the tick must not change values before it.
    """
    whole = np.zeros(len(x), np.int64)
    exact = np.zeros(len(x), np.bool_)
    if tick > 0.0:
        for t in range(len(x)):
            q = np.rint(x[t] / tick)
            if abs(x[t] - q * tick) <= 1e-9 * abs(x[t]) and abs(q) * n < EXACT:
                whole[t] = np.int64(q)
                exact[t] = True
    return whole, exact


@kernel
def window_mean(x: Floats, n: int, tick: float) -> Floats:
    """Return the mean of each window of n, exact integers first wherever the whole window is on ticks."""
    out = np.full(len(x), np.nan)
    whole, exact = on_ticks(x, n, tick)
    total = 0
    on = 0
    for t in range(len(x)):
        total += whole[t]
        on += exact[t]
        if t >= n:
            total -= whole[t - n]
            on -= exact[t - n]
        if t >= n - 1:
            if on == n:
                out[t] = float(total) / float(n) * tick
            else:
                add = 0.0
                for i in range(t - n + 1, t + 1):
                    add += x[i]
                out[t] = add / n
    return out


@feature(
    "sma",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    uses_tick=True,
)
def sma(x: Floats, n: int, tick: float = 0.0) -> Floats:
    """Simple moving average of the last n values.

    Parameters
    ----------
    x : float64 array, shape (T,)
        A price column, oldest first.
    n : int, >= 1
        Window in bars.
    tick : float
        Price step, 0 = unknown. Windows of prices on the tick are added as integers, so that
        equal averages are equal doubles; other windows are added afresh, without a running sum.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN before index n-1.

    NaN: a NaN input makes the n windows that hold it NaN.
    Source: sum / n; the quotient of an exact integer sum is rounded once.

    >>> sma(np.array([1.0, 2.0, 4.0]), 2)
    array([nan, 1.5, 3. ])
    """
    return window_mean(x, n, float(tick))


@feature(
    "volume_sma",
    code_version=1,
    inputs=("volume",),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
)
def volume_sma(volume: Floats, n: int) -> Floats:
    """Simple moving average of the volume, float64 shape (T,), in units; NaN before index n-1.

    NaN: a NaN input makes the n windows that hold it NaN.
    """
    return window_mean(volume, n, 0.0)


@kernel
def _ema(x: Floats, n: int) -> Floats:
    out = np.full(len(x), np.nan)
    value = 0.0
    for i in range(n):
        value += x[i]
    value /= n
    out[n - 1] = value
    weight = 2.0 / (n + 1.0)
    for t in range(n, len(x)):
        value = (x[t] - value) * weight + value
        out[t] = value
    return out


@feature(
    "ema",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
)
def ema(x: Floats, n: int) -> Floats:
    """Exponential moving average with weight 2/(n+1).

    Parameters
    ----------
    x : float64 array, shape (T,)
        A price column, oldest first.
    n : int, >= 1
        Length in bars.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN before index n-1, where it is the mean of the first n values.

    NaN: a NaN input makes every later value NaN.
    Source: seeded as in TA-Lib.

    >>> ema(np.array([1.0, 2.0, 4.0]), 2)
    array([       nan, 1.5       , 3.16666667])
    """
    return _ema(x, n)


@kernel
def _highest(x: Floats, n: int, sign: float) -> Floats:
    """Return the highest of sign*x over each window, times sign."""
    out = np.full(len(x), np.nan)
    for t in range(n - 1, len(x)):
        best = sign * x[t - n + 1]
        for i in range(t - n + 2, t + 1):
            value = sign * x[i]
            if value > best or value != value:
                best = value
        out[t] = sign * best
    return out


@feature(
    "highest",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    default_column="close",
)
def highest(x: Floats, n: int) -> Floats:
    """Highest of the last n values, the current bar's included; float64 shape (T,), NaN before index n-1.

    ``highest.n=20`` reads the close, ``highest.high.n=20`` the high. A breakout compares with
    the value of the bar before: ``price("close") > highest(20).lag(1)``.
    NaN: a NaN input makes the windows that hold it NaN.
    """
    return _highest(x, n, 1.0)


@feature(
    "lowest",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    default_column="close",
)
def lowest(x: Floats, n: int) -> Floats:
    """Lowest of the last n values, the current bar's included; float64 shape (T,), NaN before index n-1.

    NaN: a NaN input makes the windows that hold it NaN.
    """
    return _highest(x, n, -1.0)


@kernel
def _roc(x: Floats, n: int) -> Floats:
    out = np.full(len(x), np.nan)
    for t in range(n, len(x)):
        out[t] = x[t] / x[t - n] - 1.0
    return out


@feature(
    "roc",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]),
)
def roc(close: Floats, n: int) -> Floats:
    """Return over n bars, close / close n bars ago - 1; float64 shape (T,), NaN before index n.

    NaN: a NaN input makes the two values that read it NaN.
    """
    return _roc(close, n)


@kernel
def _log_return(x: Floats, n: int) -> Floats:
    out = np.full(len(x), np.nan)
    for t in range(n, len(x)):
        out[t] = math.log(x[t] / x[t - n])
    return out


@feature(
    "log_return",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]),
)
def log_return(close: Floats, n: int) -> Floats:
    """Natural log of close / close n bars ago; float64 shape (T,), NaN before index n.

    NaN: a NaN input makes the two values that read it NaN.
    """
    return _log_return(close, n)


@kernel
def _volatility(x: Floats, n: int) -> Floats:
    out = np.full(len(x), np.nan)
    returns = _log_return(x, 1)
    for t in range(n, len(x)):
        mean = 0.0
        for i in range(t - n + 1, t + 1):
            mean += returns[i]
        mean /= n
        squares = 0.0
        for i in range(t - n + 1, t + 1):
            squares += (returns[i] - mean) * (returns[i] - mean)
        out[t] = math.sqrt(squares / (n - 1))
    return out


@feature(
    "volatility",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
)
def volatility(close: Floats, n: int) -> Floats:
    """Standard deviation (ddof 1) of the last n one-bar log returns.

    Parameters
    ----------
    close : float64 array, shape (T,)
        Prices, oldest first.
    n : int, >= 2
        Number of returns in the window.

    Returns
    -------
    float64 array, shape (T,)
        Log return per bar (not annualised). NaN before index n.

    NaN: a NaN input makes the windows that hold it NaN.
    Source: two passes over each window, so a flat window gives exactly 0.
    """
    return _volatility(close, n)
