"""The account of a run in its state: sums over fills, trades and bars, from which `metrics.summarise` reads.

Sums are added strictly in the order of the bars, so that a run in chunks has the bits of a run
in one piece. r = equity / equity of the bar before - 1; T bars.
"""
# ruff: noqa: I001  (the names of the slots would fill 40 lines)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

from engine.simulation.inputs import Bytes
from engine.simulation.slots import (
    BARS, BROKEN_BAR, CASH, CASH_0, CLOSED, DAYS, DAY_EQUITY, DAY_LOSSES, DAY_SQUARES, DAY_SUM, DRAWDOWN,
    DRAWDOWN_BARS, EQUITY_SUM, GAINS, GROSS, HALTED_BAR, HASH_HIGH, HASH_LOW, HELD, LAST_EQUITY, LOSSES,
    LOWEST, NET, OUT_FRACTION, OUT_SIZE, PEAK, PEAK_BAR, PENDING_LIMIT, PENDING_VALUE, RUINED, SAME_BARS,
    SUM_1, SUM_2, SUM_3, SUM_4, TOTAL_DIVIDENDS, TOTAL_FEES, TOTAL_FINANCED, TOTAL_SLIPPAGE, TRADED_VALUE,
    WINS, Floats,
)  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])
BLOCK = 32  # bars that are looked at together
UNCOUNTED: dict[str, Any] = dict(cache=True, nogil=True, error_model="numpy", _nrt=False)


def core(function: Function) -> Function:
    """Compile a function that runs per bar or per fill into the code of its callers.

    UNCOUNTED: references to arrays are not counted, so nothing may be allocated in it. Both
    together make the loop about 50 times faster.
    """
    compiled: Function = njit(forceinline=True, **UNCOUNTED)(function)
    return compiled


_PRIME = np.uint64(0x9E3779B97F4A7C15)
_HALF, _LOW_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)


@core
def start_run(s: Floats, settings: Floats) -> None:
    """Make ``s``, float64 array, shape (N_STATE,), the state before the first bar: flat, with the cash."""
    s[:] = 0.0
    s[CASH] = s[LAST_EQUITY] = s[PEAK] = s[LOWEST] = s[DAY_EQUITY] = settings[CASH_0]
    s[HALTED_BAR] = s[BROKEN_BAR] = s[PEAK_BAR] = -1.0
    s[PENDING_LIMIT : PENDING_VALUE + 1] = np.nan
    s[OUT_FRACTION : OUT_SIZE + 1] = np.nan


@core
def book_fill(s: Floats, ts: float, signed: float, price: float, fee: float, reason: int) -> None:
    """Add one fill to the traded value and to the rolling 64-bit hash of all fills."""
    s[TRADED_VALUE] += abs(signed) * price
    h = (np.uint64(s[HASH_HIGH]) << _HALF) | np.uint64(s[HASH_LOW])
    h = (h ^ (np.uint64(np.int64(ts)) << np.uint64(4)) ^ np.uint64(reason)) * _PRIME
    h = (h ^ (h >> _HALF) ^ np.float64(signed).view(np.uint64)) * _PRIME
    h = (h ^ (h >> _HALF) ^ np.float64(price).view(np.uint64)) * _PRIME
    h = (h ^ (h >> _HALF) ^ np.float64(fee).view(np.uint64)) * _PRIME
    h ^= h >> _HALF
    s[HASH_HIGH], s[HASH_LOW] = np.float64(h >> _HALF), np.float64(h & _LOW_HALF)


@core
def book_trade(
    s: Floats, fees: float, slippage: float, financed: float, dividends: float, pnl: float, closed: bool
) -> None:
    """Add one trade to the sums; a trade still open has costs, but is no win or loss."""
    s[TOTAL_FEES] += fees
    s[TOTAL_SLIPPAGE] += slippage
    s[TOTAL_FINANCED] += financed
    s[TOTAL_DIVIDENDS] += dividends
    if closed:
        s[CLOSED] += 1.0
        if pnl > 0.0:
            s[WINS] += 1.0
            s[GAINS] += pnl
        elif pnl < 0.0:
            s[LOSSES] -= pnl


@core
def add_drawdown(equity: Floats, s: Floats, t0: int, t1: int) -> None:
    """Add the closes of bars [t0, t1) to the drawdown; all that ``metrics="core"`` needs.

    Only the lowest close since the last peak is kept: 1 - lowest/peak is divided when a new peak
    comes or the run ends, and has the bits of the largest 1 - e/peak.
    """
    peak, lowest, peak_bar = s[PEAK], s[LOWEST], s[PEAK_BAR]
    for t in range(t0, t1):
        e = equity[t]
        if e >= peak:
            if lowest < peak and 1.0 - lowest / peak > s[DRAWDOWN]:
                s[DRAWDOWN], s[DRAWDOWN_BARS] = 1.0 - lowest / peak, t - peak_bar
            peak = lowest = e
            peak_bar = np.float64(t)
        elif e < lowest:
            lowest = e
            if not e > 0.0:
                s[RUINED] = 1.0
    s[PEAK], s[LOWEST], s[PEAK_BAR] = peak, lowest, peak_bar
    if t1 > t0:
        s[BARS] += t1 - t0
        s[LAST_EQUITY] = equity[t1 - 1]


@core
def accumulate(
    equity: Floats, position: Floats, close: Floats, day_start: Bytes, s: Floats, t0: int, t1: int
) -> None:
    """Add bars [t0, t1) to the sums in ``s``.

    The sum of equity is one of products, bars times equity, for each run of equal closes.

    Parameters
    ----------
    equity, position, close : float64 array, shape (T,)
        At each close.
    day_start : uint8 array, shape (T,)
        1 on the first bar of a later UTC date than that of the bar before it in the span.
    s : float64 array, shape (N_STATE,), written
        The state.
    t0, t1 : int
        Bars of the span, those before t0 already in the sums.

    NaN: equity that is NaN makes the sums NaN.
    """
    before, total, same = s[LAST_EQUITY], s[EQUITY_SUM], s[SAME_BARS]
    held, net, gross = s[HELD], s[NET], s[GROSS]
    first, second, third, fourth = s[SUM_1], s[SUM_2], s[SUM_3], s[SUM_4]
    t = t0
    while t < t1:
        if t + BLOCK <= t1:  # whole blocks in which nothing changes
            changed = 0
            marks, sizes, days = equity[t : t + BLOCK], position[t : t + BLOCK], day_start[t : t + BLOCK]
            for i in range(BLOCK):
                changed += (marks[i] != before) | (sizes[i] != 0.0) | (days[i] != 0)
            if changed == 0:
                same += BLOCK
                t += BLOCK
                continue
        for k in range(t, min(t + BLOCK, t1)):
            e = equity[k]
            if day_start[k] != 0:
                r = before / s[DAY_EQUITY] - 1.0
                s[DAYS] += 1.0
                s[DAY_SUM] += r
                s[DAY_SQUARES] += r * r
                if r < 0.0:
                    s[DAY_LOSSES] += r * r
                s[DAY_EQUITY] = before
            if e != before:  # an unchanged bar adds nothing to the sums of returns
                total += same * before
                same = 0.0
                r = e / before - 1.0
                square = r * r
                first += r
                second += square
                third += square * r
                fourth += square * square
                before = e
                if not e > 0.0:
                    s[RUINED] = 1.0
            same += 1.0
            if position[k] != 0.0:
                held += 1.0
                share = position[k] * close[k] / e
                net += share
                gross += abs(share)
        t += BLOCK
    s[EQUITY_SUM], s[SAME_BARS], s[HELD], s[NET], s[GROSS] = total, same, held, net, gross
    s[SUM_1], s[SUM_2], s[SUM_3], s[SUM_4] = first, second, third, fourth
    add_drawdown(equity, s, t0, t1)
