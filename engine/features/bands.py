"""Bollinger bands.  Axis: T bars."""

from __future__ import annotations

import math

import numpy as np

from engine.bars.model import Floats
from engine.features.compiled import kernel
from engine.features.moving import NEAR, last_off_tick, mean_rows, to_ticks
from engine.features.registry import COLUMN, Parameter, feature

BLOCK = 512


@kernel
def _deviations(x: Floats, n: int, scale: float, mean: Floats, out: Floats) -> None:
    """Write the population deviation of ``x[k], ..., x[k+n-1]``, times scale, into ``out[k]``.

    Distances are taken from the window's oldest value first: a window of one price then gives
    exactly 0. All windows advance together, each adding oldest first.
    """
    m = len(out)
    mean[:m] = 0.0
    out[:] = 0.0
    done = 0
    while done + 4 <= n:
        p, q, r, s = x[done:], x[done + 1 :], x[done + 2 :], x[done + 3 :]
        for k in range(m):
            mean[k] = mean[k] + (p[k] - x[k]) + (q[k] - x[k]) + (r[k] - x[k]) + (s[k] - x[k])
        done += 4
    for i in range(done, n):
        p = x[i:]
        for k in range(m):
            mean[k] += p[k] - x[k]
    for k in range(m):
        mean[k] /= n
    done = 0
    while done + 4 <= n:
        p, q, r, s = x[done:], x[done + 1 :], x[done + 2 :], x[done + 3 :]
        for k in range(m):
            e, f, g, h = (
                p[k] - x[k] - mean[k],
                q[k] - x[k] - mean[k],
                r[k] - x[k] - mean[k],
                s[k] - x[k] - mean[k],
            )
            out[k] = out[k] + e * e + f * f + g * g + h * h
        done += 4
    for i in range(done, n):
        p = x[i:]
        for k in range(m):
            e = p[k] - x[k] - mean[k]
            out[k] += e * e
    for k in range(m):
        out[k] = math.sqrt(out[k] / n) * scale


@kernel
def _bands(x: Floats, mid: Floats, sd: Floats, k: float, upper: Floats, lower: Floats, pct_b: Floats) -> None:
    for i in range(len(x)):
        above, below = mid[i] + k * sd[i], mid[i] - k * sd[i]
        share = (x[i] - below) / (above - below)
        upper[i], lower[i], pct_b[i] = above, below, share if above - below > 0.0 else np.nan


@kernel
def _bollinger(x: Floats, n: int, k: float, tick: float, out: Floats) -> None:
    """Write mid, upper, lower and pct_b into the four rows of ``out``."""
    mid, upper, lower, pct_b = out[0], out[1], out[2], out[3]
    mean_rows(x, np.array([n]), tick, NEAR, out[:1])
    out[1:, : n - 1] = np.nan
    block = max(BLOCK, n)
    whole, price = np.empty(block + n, np.int64), np.empty(block + n)
    last = np.empty(block, np.int64)
    mean, on_tick, afresh = np.empty(block), np.empty(block), np.empty(block)
    for a in range(n - 1, len(x), block):
        m = min(block, len(x) - a)
        first = a - n + 1
        off = m + n - 1
        if tick > 0.0:
            off = to_ticks(x[first : a + m], tick, NEAR, float(n), whole)
        if off < m + n - 1:
            for i in range(m + n - 1):
                price[i] = float(whole[i])
            _deviations(price, n, tick, mean, on_tick[:m])
        sd = on_tick
        if off > 0:
            _deviations(x[first:], n, 1.0, mean, afresh[:m])
            sd = afresh
        if 0 < off < m + n - 1:
            last_off_tick(x, first, a, -1, tick, NEAR, float(n), last)
            last_off_tick(x, a, a + m, last[n - 2], tick, NEAR, float(n), last)
            for i in range(m):
                if last[i] <= a + i - n:
                    afresh[i] = on_tick[i]
        _bands(x[a : a + m], mid[a:], sd, k, upper[a:], lower[a:], pct_b[a:])


@feature(
    "bollinger",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 2), Parameter("k", 0.01, 100.0, whole=False)),
    outputs=("mid", "upper", "lower", "pct_b"),
    first_valid=lambda p: int(p["n"]) - 1,
    window=lambda p: int(p["n"]),
    uses_tick=True,
)
def bollinger(
    x: Floats, n: int, k: float, tick: float = 0.0, out: Floats | None = None
) -> tuple[Floats, Floats, Floats, Floats]:
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
    out : float64 array, shape (4, T), optional
        Its rows are written and returned instead of new arrays.

    Returns
    -------
    mid, upper, lower : float64 array, shape (T,)
        Price units. NaN before index n-1; mid is `sma`.
    pct_b : float64 array, shape (T,)
        (x - lower) / (upper - lower), not clipped; NaN also where the bands have no width.

    NaN: a NaN input makes the n windows that hold it NaN.
    Source: J. Bollinger; population deviation as in TA-Lib.
    """
    out = np.empty((4, len(x))) if out is None else out
    _bollinger(x, n, float(k), float(tick), out)
    return out[0], out[1], out[2], out[3]
