"""The compiled bar loop: `bar_loop` turns signals into fills, trades and equity.

`reference.py` is the specification; this file does the same arithmetic in the same order, so
that prices, quantities and equity agree. One state vector (float64[32], `slots.py`) holds all
that the loop knows between two bars. T bars, K targets.
"""
# ruff: noqa: I001  (the names of the slots would fill 80 lines)

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from engine.bars.model import Floats
from engine.simulation.inputs import Bytes
from engine.simulation.slots import (
    BASE, BASE_IS_CLOSE, BORROW, BUFFERS_FULL, CASH, CASH_0, CLOSE, CLOSE_AT_END, CONFLICTS, DIVIDEND,
    DIVIDENDS, DONE, END, ENTRY, ENTRY_BAR, ENTRY_BEYOND_STOP, ENTRY_PRICE, EXIT_LONG, EXIT_SHORT, EXIT_VALUE,
    EXTREME, FEE, FEES, FINANCED, FINANCING, FRACTION, HALTED_BAR, HIGH, INITIAL, LEVERAGE, LONG, LOT, LOW,
    MIN_QTY, N_FILLS, NEXT_TARGET, NOT_FINITE, OPEN, ORDERS_CUT, ORDERS_REFUSED, PENDING_BAR, PENDING_EQUITY,
    PENDING_EXIT, PENDING_SIDE, PNL, POSITION, REFUSE, REFUSED_LEVELS, REVERSE, REVERSED, RISK, RUIN, SHORT,
    SIGNAL, SIGNAL_BAR, SIGNALS_LONG, SIGNALS_SHORT, SIGNALS_UNFILLED, SIZE_ROW, SLIP, SLIPPAGE, STILL_OPEN,
    STEP, STOP, STOP_ROW, STOPPED, TARGET, TARGET_AT_ENTRY, TARGET_PRICE, TARGET_ROW, TOUCH, TRAIL, TRAIL_ROW,
    TRAILED, TS, UNITS, YEAR_SHARE,
)  # fmt: skip

Ints8 = npt.NDArray[np.int8]

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def whole_lots(quantity: float, lot: float) -> float:
    """Round a quantity down to whole lots; 0 = fractional."""
    if lot > 0.0:
        return math.floor(quantity / lot + 1e-9) * lot
    return quantity


@_compiled
def order_quantity(
    kind: int, value: float, distance: float, equity: float, cash: float, price: float, settings: Floats
) -> tuple[float, bool]:
    """Return the quantity after size, cash rule, lot and minimum (0 = refused), and whether it was cut."""
    unit_cost = price * (1.0 + settings[FEE])
    if kind == FRACTION:
        quantity = value * equity / unit_cost
    elif kind == RISK:
        quantity = value * equity / distance
    elif kind == UNITS:
        quantity = value
    else:
        quantity = value / price
    limit = settings[LEVERAGE] * cash / unit_cost
    cut = quantity > limit
    if cut:
        if settings[REFUSE] != 0.0:
            return 0.0, False
        quantity = limit
    quantity = whole_lots(quantity, settings[LOT])
    if not quantity > 0.0 or quantity < settings[MIN_QTY]:
        return 0.0, False
    return quantity, cut


@_compiled
def _fill(
    s: Floats, fills: Floats, trade: int, ts: float, side: float, quantity: float,
    price: float, reference: float, fee: float, reason: int,
) -> None:  # fmt: skip
    """Book one fill: cash, the trade's fee and slippage, a row of the fill list."""
    s[CASH] -= side * quantity * price + fee
    s[FEES] += fee
    s[SLIPPAGE] += quantity * abs(price - reference)
    row = fills[int(s[N_FILLS])]
    row[0], row[1], row[2], row[3], row[4], row[5], row[6] = trade, ts, side, quantity, price, fee, reason
    s[N_FILLS] += 1.0


@_compiled
def _write_trade(
    s: Floats, trades: Floats, trade: int, t: int, stamps: Floats, side: float, reason: int
) -> None:
    row = trades[trade]
    row[0], row[1], row[2], row[3], row[4] = trade, side, stamps[int(s[ENTRY_BAR])], stamps[t], s[INITIAL]
    row[5], row[6] = s[ENTRY_PRICE], s[EXIT_VALUE] / s[INITIAL]
    row[7], row[8], row[9], row[10], row[11] = s[FEES], s[SLIPPAGE], s[FINANCED], s[DIVIDENDS], s[PNL]
    row[12], row[13] = reason, t - s[ENTRY_BAR]


@_compiled
def _exit(
    s: Floats, fills: Floats, trades: Floats, trade: int, t: int, stamps: Floats, quantity: float,
    reference: float, slip: float, fee_rate: float, reason: int,
) -> int:  # fmt: skip
    """Sell (or cover) part or all of the position; return the number of closed trades."""
    side = 1.0 if s[POSITION] > 0.0 else -1.0
    price = reference * (1.0 - side * slip)
    fee = fee_rate * quantity * price
    rest = abs(s[POSITION]) - quantity
    _fill(s, fills, trade, stamps[t], -side, quantity, price, reference, fee, reason)
    s[EXIT_VALUE] += quantity * price
    s[PNL] += side * quantity * (price - s[ENTRY_PRICE]) - fee
    s[POSITION] = side * rest
    if rest > 0.0:
        return trade
    s[POSITION] = 0.0
    _write_trade(s, trades, trade, t, stamps, side, reason)
    return trade + 1


@_compiled
def _enter(
    s: Floats, fills: Floats, trade: int, t: int, columns: Floats, levels: Floats, asked: Ints8,
    size_kind: int, size_value: float, settings: Floats,
) -> bool:  # fmt: skip
    """Fill the pending entry at the open (row 8) and set its levels; False = refused."""
    side, signal = s[PENDING_SIDE], int(s[PENDING_BAR])
    s[PENDING_SIDE] = 0.0
    reference = columns[OPEN, t]
    price = reference * (1.0 + side * settings[SLIP])
    distance = levels[SIZE_ROW, signal] if asked[SIZE_ROW] else 1.0
    quantity, cut = order_quantity(
        size_kind, size_value, distance, s[PENDING_EQUITY], s[CASH], price, settings
    )
    if quantity == 0.0:
        s[ORDERS_REFUSED] += 1.0
        return False
    if cut:
        s[ORDERS_CUT] += 1.0
    fee = settings[FEE] * quantity * price
    s[FEES] = s[SLIPPAGE] = s[FINANCED] = s[DIVIDENDS] = s[EXIT_VALUE] = s[TRAILED] = s[NEXT_TARGET] = 0.0
    _fill(s, fills, trade, columns[TS, t], side, quantity, price, reference, fee, ENTRY)
    s[PNL] = -fee
    s[POSITION], s[INITIAL] = side * quantity, quantity
    s[ENTRY_PRICE], s[EXTREME], s[ENTRY_BAR] = price, price, t
    s[BASE] = columns[CLOSE, signal] if settings[BASE_IS_CLOSE] != 0.0 else price
    s[SIGNAL_BAR] = signal
    s[STOP] = s[BASE] - side * levels[STOP_ROW, signal] if asked[STOP_ROW] else -side * np.inf
    s[TARGET_PRICE] = (
        s[BASE] + side * levels[TARGET_ROW, signal] if len(asked) > TARGET_ROW else side * np.inf
    )
    if side * (reference - s[STOP]) <= 0.0:
        s[ENTRY_BEYOND_STOP] += 1.0
    return True


@_compiled
def _past_target(favourable: float, target: float, side: float, touch: float, tick: float) -> bool:
    """Row 12: whether the bar's best price fills a limit exit."""
    if touch != 0.0:
        return bool(side * (favourable - target) >= 0.0)
    if tick > 0.0:
        return bool(side * (favourable - (target + side * tick)) >= 0.0)
    return bool(side * (favourable - target) > 0.0)


@_compiled
def _take_targets(
    s: Floats, fills: Floats, trades: Floats, trade: int, t: int, columns: Floats, levels: Floats,
    shares: Floats, settings: Floats, favourable: float,
) -> int:  # fmt: skip
    """Row 15: fill every target the bar went past, by distance. Return the number of closed trades."""
    side = 1.0 if s[POSITION] > 0.0 else -1.0
    open_, count, touch, tick = columns[OPEN, t], len(shares), settings[TOUCH], columns[STEP, t]
    while s[POSITION] != 0.0 and _past_target(favourable, s[TARGET_PRICE], side, touch, tick):
        k, rest = int(s[NEXT_TARGET]), abs(s[POSITION])
        quantity = min(whole_lots(shares[k] * s[INITIAL], settings[LOT]), rest)
        if k == count - 1 or rest - quantity <= 1e-12 * s[INITIAL]:
            quantity = rest
        if quantity > 0.0:
            reference = open_ if side * (open_ - s[TARGET_PRICE]) >= 0.0 else s[TARGET_PRICE]
            trade = _exit(
                s, fills, trades, trade, t, columns[TS], quantity, reference, 0.0, settings[FEE], TARGET
            )
        if k < count - 1:
            s[NEXT_TARGET] += 1.0
            s[TARGET_PRICE] = s[BASE] + side * levels[TARGET_ROW + k + 1, int(s[SIGNAL_BAR])]
    return trade


@_compiled
def _decide(
    s: Floats, t: int, bits: int, equity: float, levels: Floats, asked: Ints8, settings: Floats
) -> None:
    """Rows 1, 3, 4, 5, 19: what the close of bar t orders for the next open that trades."""
    if s[HALTED_BAR] >= 0.0:
        s[PENDING_SIDE] = 0.0
        s[PENDING_EXIT] = float(RUIN) if s[POSITION] != 0.0 else 0.0
        return
    position, side = s[POSITION], 0.0
    long_clash = (bits & LONG) != 0 and (bits & (SHORT | EXIT_LONG)) != 0
    short_clash = (bits & SHORT) != 0 and (bits & (LONG | EXIT_SHORT)) != 0
    if position == 0.0:
        if (bits & LONG) != 0 and not long_clash:
            side = 1.0
        elif (bits & SHORT) != 0 and not short_clash:
            side = -1.0
        elif (bits & (LONG | SHORT)) != 0:
            s[CONFLICTS] += 1.0
    else:
        own_exit = EXIT_LONG if position > 0.0 else EXIT_SHORT
        opposite = SHORT if position > 0.0 else LONG
        if settings[REVERSE] != 0.0 and (bits & opposite) != 0:
            if short_clash if position > 0.0 else long_clash:
                s[CONFLICTS] += 1.0
            else:
                side = -1.0 if position > 0.0 else 1.0
                s[PENDING_EXIT], s[PENDING_SIDE] = float(REVERSED), 0.0
        if side == 0.0 and (bits & own_exit) != 0:
            s[PENDING_EXIT], s[PENDING_SIDE] = float(SIGNAL), 0.0
    if side == 0.0:
        return
    for row in range(len(asked)):
        if asked[row] and not (levels[row, t] > 0.0 and levels[row, t] < np.inf):
            s[REFUSED_LEVELS] += 1.0
            return
    s[PENDING_SIDE], s[PENDING_BAR], s[PENDING_EQUITY] = side, t, equity


@_compiled
def bar_loop(
    columns: Floats, traded: Bytes, bits: Bytes, levels: Floats, asked: Ints8, shares: Floats,
    size_kind: int, size_value: float, settings: Floats,
    equity: Floats, position: Floats, fills: Floats, trades: Floats, s: Floats, last: Floats,
) -> tuple[int, int]:  # fmt: skip
    """Run the bars of one span, from flat.

    Parameters
    ----------
    columns : float64 array, shape (8, T)
        Rows as in `inputs.Span`.
    traded, bits : uint8 array, shape (T,)
        Where orders may fill; 1 enter long, 2 enter short, 4 exit long, 8 exit short.
    levels : float64 array, shape (3 + K, T)
        Distances in price units: stop, trail, size, targets by distance.
    asked : int8 array, shape (3 + K,)
        1 where that row of ``levels`` is asked for.
    shares : float64 array, shape (K,)
        Share of the initial quantity that each target closes; the last closes the rest.
    size_kind, size_value
        0 fraction, 1 risk, 2 units, 3 notional, and its number.
    settings : float64 array, shape (14,)
        As in `inputs.Span`.
    equity, position : float64 array, shape (T,), written
        At each close.
    fills, trades : float64 array, shapes (capacity, 7) and (capacity, 14), written
        Columns FILL_COLUMNS and TRADE_COLUMNS; the open trade is the last row.
    s, last : float64 array, shape (32,), written
        State after the run, and state after the last close's decision, before `close_at_end` acts.

    Returns
    -------
    (code, n_trades) : int, int
        DONE, BUFFERS_FULL (call again with larger fills and trades) or NOT_FINITE; rows of trades,
        the open one included.

    NaN: a NaN distance at a signal bar refuses the entry; equity that is not finite ends the run.
    """
    n = columns.shape[1]
    fee_rate, slip, touch = settings[FEE], settings[SLIP], settings[TOUCH]
    room = len(fills) - len(shares) - 4
    s[:] = 0.0
    s[CASH], s[HALTED_BAR] = settings[CASH_0], -1.0
    stamps, trade = columns[TS], 0
    turning = LONG | SHORT if settings[REVERSE] != 0.0 else 0
    for t in range(n):
        if s[N_FILLS] > room:
            return BUFFERS_FULL, trade
        close = columns[CLOSE, t]
        entered = False
        if s[POSITION] != 0.0 and columns[DIVIDEND, t] > 0.0:  # row 6a
            paid = s[POSITION] * columns[DIVIDEND, t]
            s[CASH] += paid
            s[DIVIDENDS] += paid
            s[PNL] += paid
        if traded[t]:
            if s[PENDING_EXIT] != 0.0:
                trade = _exit(
                    s, fills, trades, trade, t, stamps, abs(s[POSITION]), columns[OPEN, t], slip, fee_rate,
                    int(s[PENDING_EXIT]),
                )  # fmt: skip
                s[PENDING_EXIT] = 0.0
            if s[PENDING_SIDE] != 0.0:
                entered = _enter(s, fills, trade, t, columns, levels, asked, size_kind, size_value, settings)
            if s[POSITION] != 0.0:
                side = 1.0 if s[POSITION] > 0.0 else -1.0
                adverse = columns[LOW, t] if side > 0.0 else columns[HIGH, t]
                favourable = columns[HIGH, t] if side > 0.0 else columns[LOW, t]
                if side * (adverse - s[STOP]) <= 0.0:  # rows 10, 11, 13
                    gapped = side * (columns[OPEN, t] - s[STOP]) <= 0.0
                    trade = _exit(
                        s, fills, trades, trade, t, stamps, abs(s[POSITION]),
                        columns[OPEN, t] if gapped else s[STOP], slip, fee_rate,
                        TRAIL if s[TRAILED] != 0.0 else STOPPED,
                    )  # fmt: skip
                elif not entered or settings[TARGET_AT_ENTRY] != 0.0:  # rows 12, 14, 15
                    if _past_target(favourable, s[TARGET_PRICE], side, touch, columns[STEP, t]):
                        trade = _take_targets(
                            s, fills, trades, trade, t, columns, levels, shares, settings, favourable
                        )
                if asked[TRAIL_ROW] and s[POSITION] != 0.0:  # row 16
                    if side * (favourable - s[EXTREME]) > 0.0:
                        s[EXTREME] = favourable
                    trailing = s[EXTREME] - side * levels[TRAIL_ROW, int(s[SIGNAL_BAR])]
                    if side * (trailing - s[STOP]) > 0.0:
                        s[STOP], s[TRAILED] = trailing, 1.0
        if s[POSITION] != 0.0:
            cost = 0.0
            if s[POSITION] < 0.0:
                cost += settings[BORROW] * -s[POSITION] * close * columns[YEAR_SHARE, t]
            if s[CASH] < 0.0:
                cost += settings[FINANCING] * -s[CASH] * columns[YEAR_SHARE, t]
            if cost != 0.0:
                s[CASH] -= cost
                s[FINANCED] += cost
                s[PNL] -= cost
        marked = s[CASH] + s[POSITION] * close
        equity[t], position[t] = marked, s[POSITION]
        if not np.isfinite(marked):
            equity[t:], position[t:] = np.nan, np.nan
            return NOT_FINITE, trade
        if marked <= 0.0 and s[HALTED_BAR] < 0.0:
            s[HALTED_BAR] = t
        bit = int(bits[t])
        s[SIGNALS_LONG] += bit & LONG
        s[SIGNALS_SHORT] += (bit & SHORT) >> 1
        heard = LONG | SHORT  # the bits that can order anything; others leave a waiting order as it is
        if s[POSITION] > 0.0:
            heard = EXIT_LONG | (turning & SHORT)
        elif s[POSITION] < 0.0:
            heard = EXIT_SHORT | (turning & LONG)
        if (bit & heard) != 0 or s[HALTED_BAR] >= 0.0:
            _decide(s, t, bit, marked, levels, asked, settings)
    if s[PENDING_EXIT] != 0.0 or s[PENDING_SIDE] != 0.0:
        s[SIGNALS_UNFILLED] += 1.0
    last[:] = s
    if n > 0 and s[POSITION] != 0.0:
        t = n - 1
        if settings[CLOSE_AT_END] != 0.0:  # row 18, also where the bar has no volume
            trade = _exit(
                s, fills, trades, trade, t, stamps, abs(s[POSITION]), columns[CLOSE, t], slip,
                fee_rate, END,
            )  # fmt: skip
            equity[t], position[t] = s[CASH], 0.0
        else:
            side, rest, close = np.sign(s[POSITION]), abs(s[POSITION]), columns[CLOSE, t]
            s[EXIT_VALUE] += rest * close
            s[PNL] += side * rest * (close - s[ENTRY_PRICE])
            _write_trade(s, trades, trade, t, stamps, side, STILL_OPEN)
            trade += 1
    return DONE, trade
