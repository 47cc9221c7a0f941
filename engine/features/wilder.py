"""Wilder's indicators: true range, average true range, RSI, directional indicators, ADX.

Axis: T bars. Seeds and first indices are TA-Lib's. Recursive: values start at the first
stored bar of the symbol and are never re-seeded on a window.
Source: J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats
from engine.features.compiled import kernel
from engine.features.registry import Parameter, feature

PRICES = ("high", "low", "close")


@kernel
def _true_range(high: float, low: float, before: float) -> float:
    """Return the largest of the three distances, or NaN if one is NaN."""
    widest = high - low
    for distance in (abs(high - before), abs(low - before)):
        if distance > widest or distance != distance:
            widest = distance
    return widest


@kernel
def _tr(high: Floats, low: Floats, close: Floats) -> Floats:
    out = np.full(len(close), np.nan)
    for t in range(1, len(close)):
        out[t] = _true_range(high[t], low[t], close[t - 1])
    return out


@feature("tr", code_version=1, inputs=PRICES, first_valid=lambda p: 1)
def tr(high: Floats, low: Floats, close: Floats) -> Floats:
    """True range: the bar's range, the close before it included.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN at index 0, which has no close before it.

    NaN: a NaN input makes its own bar and, for the close, the next bar NaN.
    """
    return _tr(high, low, close)


@kernel
def _atr(high: Floats, low: Floats, close: Floats, n: int) -> Floats:
    ranges = _tr(high, low, close)
    out = np.full(len(close), np.nan)
    value = 0.0
    for t in range(1, n + 1):
        value += ranges[t]
    value /= n
    out[n] = value
    keep, add = (n - 1.0) / n, 1.0 / n
    for t in range(n + 1, len(close)):
        value = value * keep + ranges[t] * add
        out[t] = value
    return out


@feature(
    "atr",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]),
)
def atr(high: Floats, low: Floats, close: Floats, n: int) -> Floats:
    """Average true range, Wilder's smoothing.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    n : int, >= 1
        Smoothing length in bars.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN before index n, where it is the mean of the true ranges 1..n.

    NaN: a NaN input makes every later value NaN.
    Source: a*((n-1)/n) + TR*(1/n), seeded as in TA-Lib.

    >>> atr(np.array([2.0, 3, 4]), np.array([1.0, 2, 3]), np.array([1.5, 2.5, 3.5]), 2)
    array([nan, nan, 1.5])
    """
    return _atr(high, low, close, n)


@kernel
def _rsi(close: Floats, n: int) -> Floats:
    out = np.full(len(close), np.nan)
    gains = 0.0
    losses = 0.0
    keep, add = (n - 1.0) / n, 1.0 / n
    for t in range(1, len(close)):
        change = close[t] - close[t - 1]
        gain = change if change > 0.0 else 0.0
        loss = -change if change < 0.0 else 0.0
        if change != change:  # a NaN price is neither gain nor loss; it must stay visible
            gain = change
        if t <= n:
            gains += gain
            losses += loss
            if t == n:
                gains /= n
                losses /= n
        else:
            gains = gains * keep + gain * add
            losses = losses * keep + loss * add
        if t >= n:
            both = gains + losses
            out[t] = 0.0 if both == 0.0 else 100.0 * (gains / both)
    return out


@feature(
    "rsi",
    code_version=1,
    inputs=("close",),
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
)
def rsi(close: Floats, n: int) -> Floats:
    """Relative strength index: share of the gains in all changes, in percent.

    Parameters
    ----------
    close : float64 array, shape (T,)
        Prices, oldest first.
    n : int, >= 2
        Smoothing length in bars.

    Returns
    -------
    float64 array, shape (T,)
        0 to 100. NaN before index n. Prices that never moved give 0, as in TA-Lib.

    NaN: a NaN input makes every later value NaN.
    Source: gains and losses smoothed by G*((n-1)/n) + gain*(1/n), seeds = means of the first n.
    """
    return _rsi(close, n)


@kernel
def _directional(high: Floats, low: Floats, close: Floats, n: int) -> tuple[Floats, Floats, Floats]:
    """Return +DI, -DI and DX (-1 where undefined), NaN before index n."""
    plus = np.full(len(close), np.nan)
    minus = np.full(len(close), np.nan)
    dx = np.full(len(close), np.nan)
    sum_plus = 0.0
    sum_minus = 0.0
    sum_range = 0.0
    for t in range(1, len(close)):
        up = high[t] - high[t - 1]
        down = low[t - 1] - low[t]
        plus_move = up if up > 0.0 and up > down else 0.0
        minus_move = down if down > 0.0 and down > up else 0.0
        wide = _true_range(high[t], low[t], close[t - 1])
        if t < n:  # the first n-1 moves are summed, then the sums decay
            sum_plus += plus_move
            sum_minus += minus_move
            sum_range += wide
            continue
        sum_plus = sum_plus - sum_plus / n + plus_move
        sum_minus = sum_minus - sum_minus / n + minus_move
        sum_range = sum_range - sum_range / n + wide
        if sum_range == 0.0:
            plus[t], minus[t], dx[t] = 0.0, 0.0, -1.0
            continue
        plus[t] = 100.0 * (sum_plus / sum_range)
        minus[t] = 100.0 * (sum_minus / sum_range)
        both = minus[t] + plus[t]
        dx[t] = -1.0 if both == 0.0 else 100.0 * (abs(minus[t] - plus[t]) / both)
    return plus, minus, dx


@feature(
    "plus_di",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
)
def plus_di(high: Floats, low: Floats, close: Floats, n: int) -> Floats:
    """Plus directional indicator: smoothed upward moves in percent of the smoothed true range.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    n : int, >= 2
        Smoothing length in bars.

    Returns
    -------
    float64 array, shape (T,)
        0 to 100. NaN before index n; 0 while the true range has never moved, as in TA-Lib.

    NaN: a NaN input makes every later value NaN.
    Source: sums over bars 1..n-1, then S - S/n + x.
    """
    return _directional(high, low, close, n)[0]


@feature(
    "minus_di",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
)
def minus_di(high: Floats, low: Floats, close: Floats, n: int) -> Floats:
    """Minus directional indicator: `plus_di` for the downward moves; float64 shape (T,), NaN before index n.

    NaN: a NaN input makes every later value NaN.
    """
    return _directional(high, low, close, n)[1]


@kernel
def _adx(high: Floats, low: Floats, close: Floats, n: int) -> Floats:
    dx = _directional(high, low, close, n)[2]
    out = np.full(len(close), np.nan)
    value = 0.0
    for t in range(n, len(close)):
        if t < 2 * n:
            if dx[t] != -1.0:
                value += dx[t]
            if t == 2 * n - 1:
                value /= n
        elif dx[t] != -1.0:
            value = (value * (n - 1.0) + dx[t]) / n
        if t >= 2 * n - 1:
            out[t] = value
    return out


@feature(
    "adx",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: 2 * int(p["n"]) - 1,
)
def adx(high: Floats, low: Floats, close: Floats, n: int) -> Floats:
    """Average directional index: strength of a trend, whatever its direction.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    n : int, >= 2
        Smoothing length in bars.

    Returns
    -------
    float64 array, shape (T,)
        0 to 100. NaN before index 2n-1. A bar whose index is undefined (no moves at all)
        adds 0 to the seed and leaves later values as they were.

    NaN: a NaN input makes every later value NaN.
    Source: DX = 100*abs(+DI - -DI)/(+DI + -DI); seed = mean of DX over bars n..2n-1, then
    (A*(n-1) + DX)/n.
    """
    return _adx(high, low, close, n)
