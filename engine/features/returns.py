"""Returns: roc, log_return, volatility.  Axis: T bars."""

from __future__ import annotations

import math

import numpy as np

from engine.bars.model import Floats
from engine.features.compiled import kernel
from engine.features.moving import window_means
from engine.features.registry import Parameter, feature

BLOCK = 1024


@kernel
def _roc(x: Floats, n: int, out: Floats) -> None:
    out[:n] = np.nan
    later, values = x[n:], out[n:]
    for k in range(len(later)):
        values[k] = later[k] / x[k] - 1.0


@feature(
    "roc",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]),
    window=lambda p: int(p["n"]) + 1,
)
def roc(close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Return over n bars, close / close n bars ago - 1; float64 shape (T,), NaN before index n.

    NaN: a NaN input makes the two values that read it NaN.
    """
    out = np.empty(len(close)) if out is None else out
    _roc(close, n, out)
    return out


@kernel
def _log_ratios(later: Floats, before: Floats, out: Floats) -> None:
    for k in range(len(later)):
        out[k] = math.log(later[k] / before[k])


@kernel
def _log_return(x: Floats, n: int, out: Floats) -> None:
    out[:n] = np.nan
    _log_ratios(x[n:], x, out[n:])


@feature(
    "log_return",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]),
    window=lambda p: int(p["n"]) + 1,
)
def log_return(close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Natural log of close / close n bars ago; float64 shape (T,), NaN before index n.

    NaN: a NaN input makes the two values that read it NaN.
    """
    out = np.empty(len(close)) if out is None else out
    _log_return(close, n, out)
    return out


@kernel
def _deviations(x: Floats, n: int, mean: Floats, out: Floats) -> None:
    """Write the deviation (ddof 1) of ``x[k], ..., x[k+n-1]`` into ``out[k]``; all windows side by side."""
    m = len(out)
    out[:] = 0.0
    window_means(x, n, mean[:m])
    done = 0
    while done + 4 <= n:
        p, q, r, s = x[done:], x[done + 1 :], x[done + 2 :], x[done + 3 :]
        for k in range(m):
            e, f, g, h = p[k] - mean[k], q[k] - mean[k], r[k] - mean[k], s[k] - mean[k]
            out[k] = out[k] + e * e + f * f + g * g + h * h
        done += 4
    for i in range(done, n):
        p = x[i:]
        for k in range(m):
            e = p[k] - mean[k]
            out[k] += e * e
    for k in range(m):
        out[k] = math.sqrt(out[k] / (n - 1))


@kernel
def _volatility(x: Floats, n: int, out: Floats) -> None:
    out[:n] = np.nan
    block = max(BLOCK, n)
    mean = np.empty(block)
    kept = n - 1
    returns = np.empty(kept + block)  # those before the block, then its own
    _log_ratios(x[1:n], x, returns[:kept])
    for a in range(n, len(x), block):
        if a > n:
            returns[:kept] = returns[block:].copy()
        m = min(block, len(x) - a)
        _log_ratios(x[a : a + m], x[a - 1 :], returns[kept:])
        _deviations(returns, n, mean, out[a : a + m])


@feature(
    "volatility",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
    window=lambda p: int(p["n"]) + 1,
)
def volatility(close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Standard deviation (ddof 1) of the last n one-bar log returns.

    Parameters
    ----------
    close : float64 array, shape (T,)
        Prices, oldest first.
    n : int, >= 2
        Number of returns in the window.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        Log return per bar (not annualised). NaN before index n.

    NaN: a NaN input makes the windows that hold it NaN.
    Source: two passes over each window, so a flat window gives exactly 0.
    """
    out = np.empty(len(close)) if out is None else out
    _volatility(close, n, out)
    return out
