"""Averages whose value follows from the one before: Wilder's of the true range, the exponential.

Each value waits for the one before it, so one chain leaves the processor idle most of the
time; `in_quarters` computes a long series as four.  Axis: T bars.
"""

from __future__ import annotations

from engine.bars.model import Floats
from engine.features.compiled import kernel

FORGOTTEN = 60  # lengths until a wrong start weighs e**-60, far below one rounding


@kernel
def true_range(high: float, low: float, before: float) -> float:
    """Return the largest of the three distances, or NaN if one is NaN."""
    widest, up, down = high - low, abs(high - before), abs(low - before)
    widest = up if (up > widest) | (up != up) else widest
    return down if (down > widest) | (down != down) else widest


@kernel
def wilder_next(value: float, x: float, keep: float, add: float) -> float:
    """Return Wilder's average after one more x; keep = (n-1)/n, add = 1/n."""
    return value * keep + x * add


@kernel
def ema_next(value: float, x: float, weight: float) -> float:
    """Return the exponential average after one more x; weight = 2/(n+1)."""
    return (x - value) * weight + value


@kernel
def _next(wilder: bool, value: float, x: Floats, low: Floats, close: Floats, t: int, n: int) -> float:
    if wilder:
        return float(wilder_next(value, true_range(x[t], low[t], close[t - 1]), (n - 1.0) / n, 1.0 / n))
    return float(ema_next(value, x[t], 2.0 / (n + 1.0)))


@kernel
def in_quarters(
    wilder: bool, x: Floats, low: Floats, close: Floats, n: int, value: float, out: Floats
) -> int:
    """Go on from ``value`` at bar 0; return the bars written, 1 where the series is too short to gain.

    ``wilder``: the average true range, x = high; else the exponential average of x.
    The later quarters start from a guess, early enough that it is forgotten to the last bit;
    where it was not, the true chain overwrites values until it meets one of its own. Equal from
    there on: a value and the bars alone make the next. So the bits are those of one chain.
    """
    quarter = (len(out) - 1) // 4
    early = FORGOTTEN * n
    if quarter < 8 * early:
        return 1
    second, third, last = quarter, 2 * quarter, 3 * quarter
    v1, v2, v3 = value, value, value
    for t in range(quarter + 1 - early, quarter + 1):
        v1 = _next(wilder, v1, x, low, close, t, n)
        v2 = _next(wilder, v2, x, low, close, t + second, n)
        v3 = _next(wilder, v3, x, low, close, t + third, n)
    for t in range(1, quarter + 1):
        value = _next(wilder, value, x, low, close, t, n)
        v1 = _next(wilder, v1, x, low, close, t + second, n)
        v2 = _next(wilder, v2, x, low, close, t + third, n)
        v3 = _next(wilder, v3, x, low, close, t + last, n)
        out[t], out[t + second], out[t + third], out[t + last] = value, v1, v2, v3
    written = 4 * quarter + 1
    for start in (second + 1, third + 1, last + 1):
        value = out[start - 1]
        for t in range(start, written):
            value = _next(wilder, value, x, low, close, t, n)
            if value == out[t]:
                break
            out[t] = value
    return written
