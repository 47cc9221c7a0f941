"""Wilder's averages: true range, average true range, RSI.  Axes: T bars, R lengths.

Seeds and first indices are TA-Lib's. Recursive: values start at the first stored bar of the
symbol and are never re-seeded on a window.
Source: J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats, Ints
from engine.features.chains import in_quarters, true_range, wilder_next
from engine.features.compiled import kernel
from engine.features.registry import Parameter, Step, feature, wilder_lookback

PRICES = ("high", "low", "close")
BLOCK = 512  # bars worked on at a time, so that what lengths share stays in the cache


@kernel
def _tr(high: Floats, low: Floats, close: Floats, out: Floats) -> None:
    out[:1] = np.nan
    later_high, later_low, values = high[1:], low[1:], out[1:]
    for k in range(len(values)):
        values[k] = true_range(later_high[k], later_low[k], close[k])


@feature(
    "tr",
    code_version=1,
    inputs=PRICES,
    first_valid=lambda p: 1,
    window=lambda p: 2,
)
def tr(high: Floats, low: Floats, close: Floats, out: Floats | None = None) -> Floats:
    """True range: the bar's range, the close before it included.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN at index 0, which has no close before it.

    NaN: a NaN input makes its own bar and, for the close, the next bar NaN.
    """
    out = np.empty(len(close)) if out is None else out
    _tr(high, low, close, out)
    return out


@kernel
def _smooth_rows(x: Floats, values: Floats, keep: Floats, add: Floats, out: Floats, start: int) -> None:
    """Go on with R averages of the same x, in ``values`` and from ``out[:, start]``.

    Four side by side: while one value waits for the one before it, three others are computed.
    """
    final = len(values) - 1
    for j in range(0, len(values), 4):
        j1, j2, j3 = min(j + 1, final), min(j + 2, final), min(j + 3, final)
        v0, v1, v2, v3 = values[j], values[j1], values[j2], values[j3]
        k0, k1, k2, k3 = keep[j], keep[j1], keep[j2], keep[j3]
        a0, a1, a2, a3 = add[j], add[j1], add[j2], add[j3]
        o0, o1, o2, o3 = out[j][start:], out[j1][start:], out[j2][start:], out[j3][start:]
        for i in range(len(x)):
            v0 = wilder_next(v0, x[i], k0, a0)
            v1 = wilder_next(v1, x[i], k1, a1)
            v2 = wilder_next(v2, x[i], k2, a2)
            v3 = wilder_next(v3, x[i], k3, a3)
            o0[i], o1[i], o2[i], o3[i] = v0, v1, v2, v3
        values[j], values[j1], values[j2], values[j3] = v0, v1, v2, v3


@kernel
def _atr(high: Floats, low: Floats, close: Floats, n: int, state: Floats, out: Floats) -> None:
    """See `Step`; state: bars seen, value, close before."""
    seen, value, before = int(state[0]), state[1], state[2]
    seeding = min(max(n + 1 - seen, 0), len(close))
    for i in range(seeding):
        out[i] = np.nan
        if seen + i > 0:
            value += true_range(high[i], low[i], before)
            if seen + i == n:
                value /= n
                out[i] = value
        before = close[i]
    if 0 < seeding < len(close):
        last = seeding - 1
        h, lo, c = high[last:], low[last:], close[last:]
        seeding = last + in_quarters(True, h, lo, c, n, value, out[last:])
        value, before = out[seeding - 1], close[seeding - 1]
    keep, add = (n - 1.0) / n, 1.0 / n
    for i in range(seeding, len(close)):
        value = wilder_next(value, true_range(high[i], low[i], before), keep, add)
        before = close[i]
        out[i] = value
    state[0], state[1], state[2] = seen + len(close), value, before


@kernel
def _atr_rows(high: Floats, low: Floats, close: Floats, lengths: Ints, out: Floats) -> None:
    start = min(len(close), lengths.max() + 1)
    states = np.zeros((len(lengths), 3))
    for j in range(len(lengths)):
        _atr(high[:start], low[:start], close[:start], lengths[j], states[j], out[j][:start])
    values, keep, add = states[:, 1].copy(), (lengths - 1.0) / lengths, 1.0 / lengths
    ranges = np.empty(BLOCK + 1)
    for a in range(start, len(close), BLOCK):
        b = min(a + BLOCK, len(close))
        _tr(high[a - 1 : b], low[a - 1 : b], close[a - 1 : b], ranges[: b - a + 1])
        _smooth_rows(ranges[1 : b - a + 1], values, keep, add, out, a)


_ATR = Step(_atr, 3)


@feature(
    "atr",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]),
    step=_ATR,
    lookback=lambda p: wilder_lookback(int(p["n"])),
    rows=_atr_rows,
)
def atr(high: Floats, low: Floats, close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Average true range, Wilder's smoothing.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    n : int, >= 1
        Smoothing length in bars.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN before index n, where it is the mean of the true ranges 1..n.

    NaN: a NaN input makes every later value NaN.
    Source: a*((n-1)/n) + TR*(1/n), seeded as in TA-Lib.

    >>> atr(np.array([2.0, 3, 4]), np.array([1.0, 2, 3]), np.array([1.5, 2.5, 3.5]), 2)
    array([nan, nan, 1.5])
    """
    return _ATR.run((high, low, close), n, out)


@kernel
def _gain_loss(price: float, before: float) -> tuple[float, float]:
    """Return gain and loss of one bar; a NaN price is neither, and stays visible as a gain."""
    change = price - before
    loss = -change if change < 0.0 else 0.0
    return (0.0 if change <= 0.0 else change), loss


@kernel
def _strength(gain: float, loss: float) -> float:
    both = gain + loss
    share = 100.0 * (gain / both)
    return 0.0 if both == 0.0 else share


@kernel
def _rsi(close: Floats, n: int, state: Floats, out: Floats) -> None:
    """See `Step`; state: bars seen, average gain, average loss, close before."""
    seen, gains, losses, before = int(state[0]), state[1], state[2], state[3]
    seeding = min(max(n + 1 - seen, 0), len(close))
    for i in range(seeding):
        out[i] = np.nan
        if seen + i > 0:
            gain, loss = _gain_loss(close[i], before)
            gains += gain
            losses += loss
            if seen + i == n:
                gains /= n
                losses /= n
                out[i] = _strength(gains, losses)
        before = close[i]
    keep, add = (n - 1.0) / n, 1.0 / n
    for i in range(seeding, len(close)):
        gain, loss = _gain_loss(close[i], before)
        gains = wilder_next(gains, gain, keep, add)
        losses = wilder_next(losses, loss, keep, add)
        before = close[i]
        out[i] = _strength(gains, losses)
    state[0], state[1], state[2], state[3] = seen + len(close), gains, losses, before


@kernel
def _rsi_rows(close: Floats, lengths: Ints, out: Floats) -> None:
    start = min(len(close), lengths.max() + 1)
    states = np.zeros((len(lengths), 4))
    for j in range(len(lengths)):
        _rsi(close[:start], lengths[j], states[j], out[j][:start])
    gains, losses = states[:, 1].copy(), states[:, 2].copy()
    keep, add = (lengths - 1.0) / lengths, 1.0 / lengths
    gain, loss = np.empty(BLOCK), np.empty(BLOCK)
    average_loss = np.empty((len(lengths), BLOCK))
    for a in range(start, len(close), BLOCK):
        m = min(BLOCK, len(close) - a)
        before, price = close[a - 1 :], close[a:]
        for k in range(m):
            gain[k], loss[k] = _gain_loss(price[k], before[k])
        _smooth_rows(gain[:m], gains, keep, add, out, a)
        _smooth_rows(loss[:m], losses, keep, add, average_loss, 0)
        for j in range(len(lengths)):
            row, below = out[j][a : a + m], average_loss[j]
            for k in range(m):
                row[k] = _strength(row[k], below[k])


_RSI = Step(_rsi, 4)


@feature(
    "rsi",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
    step=_RSI,
    lookback=lambda p: wilder_lookback(int(p["n"])),
    rows=_rsi_rows,
)
def rsi(close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Relative strength index: share of the gains in all changes, in percent.

    Parameters
    ----------
    close : float64 array, shape (T,)
        Prices, oldest first.
    n : int, >= 2
        Smoothing length in bars.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        0 to 100. NaN before index n. Prices that never moved give 0, as in TA-Lib.

    NaN: a NaN input makes every later value NaN.
    Source: gains and losses smoothed by G*((n-1)/n) + gain*(1/n), seeds = means of the first n.
    """
    return _RSI.run((close,), n, out)
