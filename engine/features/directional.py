"""Wilder's directional indicators: plus_di, minus_di, adx.  Axes: T bars, R lengths.

Seeds and first indices are TA-Lib's; recursive from the first stored bar, as in `wilder`.
Source: J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats, Ints
from engine.features.chains import true_range
from engine.features.compiled import kernel
from engine.features.registry import Parameter, Step, feature, wilder_lookback
from engine.features.wilder import PRICES

BLOCK = 64  # bars by lengths are buffered before they are written row by row
UNDEFINED = -1.0  # a DX of no moves at all


@kernel
def _moves(up: float, down: float) -> tuple[float, float]:
    """Return +DM and -DM: the larger of the moves outward, the other is 0."""
    return (up if (up > 0.0) & (up > down) else 0.0), (down if (down > 0.0) & (down > up) else 0.0)


@kernel
def _decayed(total: float, x: float, n: float) -> float:
    return total - total / n + x


@kernel
def _dx(plus: float, minus: float, ranges: float) -> float:
    """Return DX in percent from the smoothed sums, or `UNDEFINED`."""
    plus_di, minus_di = 100.0 * (plus / ranges), 100.0 * (minus / ranges)
    both = minus_di + plus_di
    dx = 100.0 * (abs(minus_di - plus_di) / both)
    return UNDEFINED if (ranges == 0.0) | (both == 0.0) else dx


@kernel
def _averaged(value: float, dx: float, n: float) -> float:
    """Return ADX after one more DX; an undefined one leaves it as it was."""
    following = (value * (n - 1.0) + dx) / n
    return value if dx == UNDEFINED else following


@kernel
def _di(high: Floats, low: Floats, close: Floats, n: int, up: bool, state: Floats, out: Floats) -> None:
    """See `Step`; state: bars seen, sum of the moves, sum of the ranges, the bar before (h, l, c)."""
    seen, total, ranges = int(state[0]), state[1], state[2]
    h, lo, c = state[3], state[4], state[5]
    for i in range(len(close)):
        out[i] = np.nan
        if seen + i > 0:
            plus, minus = _moves(high[i] - h, lo - low[i])
            move = plus if up else minus
            wide = true_range(high[i], low[i], c)
            if seen + i < n:  # the first n-1 moves are summed, then the sums decay
                total += move
                ranges += wide
            else:
                total = _decayed(total, move, float(n))
                ranges = _decayed(ranges, wide, float(n))
                share = 100.0 * (total / ranges)
                out[i] = 0.0 if ranges == 0.0 else share
        h, lo, c = high[i], low[i], close[i]
    state[0], state[1], state[2] = seen + len(close), total, ranges
    state[3], state[4], state[5] = h, lo, c


@kernel
def _plus_di(high: Floats, low: Floats, close: Floats, n: int, state: Floats, out: Floats) -> None:
    _di(high, low, close, n, True, state, out)


@kernel
def _minus_di(high: Floats, low: Floats, close: Floats, n: int, state: Floats, out: Floats) -> None:
    _di(high, low, close, n, False, state, out)


_PLUS_DI, _MINUS_DI = Step(_plus_di, 6), Step(_minus_di, 6)


@feature(
    "plus_di",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
    step=_PLUS_DI,
    lookback=lambda p: wilder_lookback(int(p["n"])),
)
def plus_di(high: Floats, low: Floats, close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Plus directional indicator: smoothed upward moves in percent of the smoothed true range.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    n : int, >= 2
        Smoothing length in bars.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        0 to 100. NaN before index n; 0 while the true range has never moved, as in TA-Lib.

    NaN: a NaN input makes every later value NaN.
    Source: sums over bars 1..n-1, then S - S/n + x.
    """
    return _PLUS_DI.run((high, low, close), n, out)


@feature(
    "minus_di",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: int(p["n"]),
    step=_MINUS_DI,
    lookback=lambda p: wilder_lookback(int(p["n"])),
)
def minus_di(high: Floats, low: Floats, close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Minus directional indicator: `plus_di` for the downward moves; float64 shape (T,), NaN before index n.

    NaN: a NaN input makes every later value NaN.
    """
    return _MINUS_DI.run((high, low, close), n, out)


@kernel
def _adx(high: Floats, low: Floats, close: Floats, n: int, state: Floats, out: Floats) -> None:
    """See `Step`; state: bars seen, sums of +DM, -DM and ranges, value, the bar before (h, l, c)."""
    seen, plus, minus, ranges, value = int(state[0]), state[1], state[2], state[3], state[4]
    h, lo, c = state[5], state[6], state[7]
    seeding = min(max(2 * n - seen, 0), len(close))
    for i in range(seeding):
        t = seen + i
        out[i] = np.nan
        if t > 0:
            plus_move, minus_move = _moves(high[i] - h, lo - low[i])
            wide = true_range(high[i], low[i], c)
            if t < n:
                plus += plus_move
                minus += minus_move
                ranges += wide
            else:
                plus = _decayed(plus, plus_move, float(n))
                minus = _decayed(minus, minus_move, float(n))
                ranges = _decayed(ranges, wide, float(n))
                dx = _dx(plus, minus, ranges)
                if dx != UNDEFINED:
                    value += dx
            if t == 2 * n - 1:
                value /= n
                out[i] = value
        h, lo, c = high[i], low[i], close[i]
    for i in range(seeding, len(close)):
        plus_move, minus_move = _moves(high[i] - h, lo - low[i])
        plus = _decayed(plus, plus_move, float(n))
        minus = _decayed(minus, minus_move, float(n))
        ranges = _decayed(ranges, true_range(high[i], low[i], c), float(n))
        value = _averaged(value, _dx(plus, minus, ranges), float(n))
        out[i] = value
        h, lo, c = high[i], low[i], close[i]
    state[0], state[1], state[2], state[3], state[4] = seen + len(close), plus, minus, ranges, value
    state[5], state[6], state[7] = h, lo, c


@kernel
def _adx_bar(
    plus_move: float, minus_move: float, wide: float, n: Floats, states: Floats, out: Floats
) -> None:
    """Advance R lengths by one bar; states float64 (4, R): sums of +DM, -DM and ranges, value."""
    pluses, minuses, ranges, values = states[0], states[1], states[2], states[3]
    for j in range(len(n)):
        plus = _decayed(pluses[j], plus_move, n[j])
        minus = _decayed(minuses[j], minus_move, n[j])
        total = _decayed(ranges[j], wide, n[j])
        value = _averaged(values[j], _dx(plus, minus, total), n[j])
        pluses[j], minuses[j], ranges[j], values[j] = plus, minus, total, value
        out[j] = value


@kernel
def _adx_rows(high: Floats, low: Floats, close: Floats, lengths: Ints, out: Floats) -> None:
    """All lengths side by side, bar by bar: divisions are what takes the time, and these are vectorised."""
    start = min(len(close), 2 * lengths.max())
    states = np.zeros((len(lengths), 8))
    for j in range(len(lengths)):
        _adx(high[:start], low[:start], close[:start], lengths[j], states[j], out[j][:start])
    sums = np.ascontiguousarray(states[:, 1:5].T)
    n = lengths.astype(np.float64)
    values = np.empty((BLOCK, len(lengths)))
    for a in range(start, len(close), BLOCK):
        m = min(BLOCK, len(close) - a)
        for k in range(m):
            t = a + k
            plus_move, minus_move = _moves(high[t] - high[t - 1], low[t - 1] - low[t])
            wide = true_range(high[t], low[t], close[t - 1])
            _adx_bar(plus_move, minus_move, wide, n, sums, values[k])
        for j in range(len(lengths)):
            row = out[j][a : a + m]
            for k in range(m):
                row[k] = values[k, j]


_ADX = Step(_adx, 8)


@feature(
    "adx",
    code_version=1,
    inputs=PRICES,
    parameters=(Parameter("n", 2),),
    first_valid=lambda p: 2 * int(p["n"]) - 1,
    step=_ADX,
    lookback=lambda p: wilder_lookback(int(p["n"]), stages=2),
    rows=_adx_rows,
)
def adx(high: Floats, low: Floats, close: Floats, n: int, out: Floats | None = None) -> Floats:
    """Average directional index: strength of a trend, whatever its direction.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Split-adjusted prices, oldest first.
    n : int, >= 2
        Smoothing length in bars.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        0 to 100. NaN before index 2n-1. A bar whose index is undefined (no moves at all)
        adds 0 to the seed and leaves later values as they were.

    NaN: a NaN input makes every later value NaN.
    Source: DX = 100*abs(+DI - -DI)/(+DI + -DI); seed = mean of DX over bars n..2n-1, then
    (A*(n-1) + DX)/n.
    """
    return _ADX.run((high, low, close), n, out)
