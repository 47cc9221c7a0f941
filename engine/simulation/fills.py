"""Compiled fills: size and cash rule, entries, exits and targets, each booked once.

`reference.py` is the specification; this file does the same arithmetic in the same order.
``s`` is the state (`slots.py`), t a bar of the span, side +1 long, -1 short.
"""
# ruff: noqa: I001  (the names of the slots would fill 60 lines)

from __future__ import annotations

import math

import numpy as np

from engine.simulation.account import book_fill, book_trade, core
from engine.simulation.slots import (
    BASE, BASE_IS_CLOSE, BREAKEVEN, CASH, CLOSE, DIVIDENDS, ENTRY, ENTRY_BAR, ENTRY_BEYOND_STOP, ENTRY_PRICE,
    EXIT_VALUE, EXTREME, FEE, FEES, FINANCED, FRACTION, HIGH, INITIAL, LEVERAGE, LIMITS_EXPIRED,
    LIMIT_IMPROVEMENT, LOT, LOW, MIN_QTY, NEXT_TARGET, N_FILLS, N_TRADES, ONE_TARGET, OPEN, ORDERS_CUT,
    ORDERS_REFUSED, PENDING_BAR, PENDING_DISTANCE, PENDING_EQUITY, PENDING_LIMIT, PENDING_SHARE, PENDING_SIDE,
    PENDING_STOP, PENDING_TARGET, PENDING_TRAIL, PENDING_VALUE, PNL, POSITION, REFUSE, RISK, SIGNAL_BAR, SLIP,
    SLIPPAGE, STEP, STILL_OPEN, STOP, TARGET, TARGET_PRICE, TARGET_ROW, TOUCH, TRAILED, TRAIL_DISTANCE, TS,
    UNITS, Book, Floats, Plan,
)  # fmt: skip

SLACK = 1e-6  # ticks
NOT_ENTERED, AT_OPEN, AT_LIMIT = range(3)


@core
def level(plan: Plan, row: int, t: int) -> float:
    """Return one level of the plan at span bar t, NaN where the lagged bar is before the first."""
    at = plan.first + t - plan.lag[row]
    if at < 0:
        return np.nan
    value = plan.table[plan.rows[row], at]
    if plan.scale[row] != 1.0:
        value *= plan.scale[row]
    if plan.offset[row] != 0.0:
        value += plan.offset[row]
    return float(value)


@core
def whole_lots(quantity: float, lot: float) -> float:
    """Round a quantity down to whole lots; 0 = fractional."""
    if lot > 0.0:
        return math.floor(quantity / lot + 1e-9) * lot
    return quantity


@core
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


@core
def exit_quantity(s: Floats, lot: float) -> float:
    """Row 4: what a pending exit closes; a share is of the initial quantity, at least one lot."""
    rest = float(abs(s[POSITION]))
    if s[PENDING_SHARE] < 1.0:
        quantity = max(whole_lots(s[PENDING_SHARE] * s[INITIAL], lot), lot)
        if rest - quantity > 1e-12 * s[INITIAL]:
            return quantity
    return rest


@core
def _fill(
    s: Floats, book: Book, ts: float, side: float, quantity: float,
    price: float, reference: float, fee: float, reason: int,
) -> None:  # fmt: skip
    """Book one fill: cash, the trade's fee and slippage, the account's sums, a row of the fill list."""
    s[CASH] -= side * quantity * price + fee
    s[FEES] += fee
    s[SLIPPAGE] += quantity * abs(price - reference)
    book_fill(s, ts, side * quantity, price, fee, reason)
    if book.record:
        row = book.fills[int(s[N_FILLS])]
        row[0], row[1], row[2], row[3] = s[N_TRADES], ts, side, quantity
        row[4], row[5], row[6] = price, fee, reason
    s[N_FILLS] += 1.0


@core
def write_trade(s: Floats, book: Book, t: int, stamps: Floats, side: float, reason: int) -> None:
    """Book the trade that ends, or is still open, at bar t."""
    if book.record:
        row = book.trades[int(s[N_TRADES])]
        row[0], row[1], row[2], row[3] = s[N_TRADES], side, stamps[int(s[ENTRY_BAR])], stamps[t]
        row[4], row[5], row[6] = s[INITIAL], s[ENTRY_PRICE], s[EXIT_VALUE] / s[INITIAL]
        row[7], row[8], row[9], row[10], row[11] = s[FEES], s[SLIPPAGE], s[FINANCED], s[DIVIDENDS], s[PNL]
        row[12], row[13] = reason, t - s[ENTRY_BAR]
    book_trade(s, s[FEES], s[SLIPPAGE], s[FINANCED], s[DIVIDENDS], s[PNL], reason != STILL_OPEN)
    s[N_TRADES] += 1.0


@core
def leave(
    s: Floats, book: Book, t: int, stamps: Floats, quantity: float, reference: float, slip: float,
    fee_rate: float, reason: int,
) -> None:  # fmt: skip
    """Sell (or cover) part or all of the position."""
    side = 1.0 if s[POSITION] > 0.0 else -1.0
    price = reference * (1.0 - side * slip)
    fee = fee_rate * quantity * price
    rest = abs(s[POSITION]) - quantity
    _fill(s, book, stamps[t], -side, quantity, price, reference, fee, reason)
    s[EXIT_VALUE] += quantity * price
    s[PNL] += side * quantity * (price - s[ENTRY_PRICE]) - fee
    s[POSITION] = side * rest
    if not rest > 0.0:
        s[POSITION] = 0.0
        write_trade(s, book, t, stamps, side, reason)


@core
def reached(best: float, limit: float, side: float, touch: float, tick: float) -> bool:
    """Rows 9 and 12: whether the bar's best price fills a limit; side +1 sells, -1 buys.

    A millionth of a tick less is enough, so that rounding cannot refuse an exact tick.
    """
    if touch != 0.0:
        return bool(side * (best - limit) >= -SLACK * tick)
    if tick > 0.0:
        return bool(side * (best - (limit + side * tick)) >= -SLACK * tick)
    return bool(side * (best - limit) > 0.0)


@core
def enter(s: Floats, book: Book, t: int, columns: Floats, plan: Plan, settings: Floats) -> int:
    """Fill the pending entry at the open (row 8) or at its limit (row 9), and set its levels."""
    side, signal, limit = s[PENDING_SIDE], int(s[PENDING_BAR]), s[PENDING_LIMIT]
    s[PENDING_SIDE] = 0.0
    if np.isnan(limit):
        how, reference = AT_OPEN, columns[OPEN, t]
        price = reference * (1.0 + side * settings[SLIP])
    else:
        best = columns[LOW, t] if side > 0.0 else columns[HIGH, t]
        if not reached(best, limit, -side, settings[TOUCH], columns[STEP, t]):
            s[LIMITS_EXPIRED] += 1.0
            return NOT_ENTERED
        how, price = AT_LIMIT, limit
        if settings[LIMIT_IMPROVEMENT] != 0.0 and side * (columns[OPEN, t] - limit) < 0.0:
            price = columns[OPEN, t]
        reference = price
    quantity, cut = order_quantity(
        plan.size_kind, s[PENDING_VALUE], s[PENDING_DISTANCE], s[PENDING_EQUITY], s[CASH], price, settings
    )
    if quantity == 0.0:
        s[ORDERS_REFUSED] += 1.0
        return NOT_ENTERED
    if cut:
        s[ORDERS_CUT] += 1.0
    fee = settings[FEE] * quantity * price
    s[FEES] = s[SLIPPAGE] = s[FINANCED] = s[DIVIDENDS] = s[EXIT_VALUE] = s[TRAILED] = s[NEXT_TARGET] = 0.0
    _fill(s, book, columns[TS, t], side, quantity, price, reference, fee, ENTRY)
    s[PNL] = -fee
    s[POSITION], s[INITIAL] = side * quantity, quantity
    s[ENTRY_PRICE], s[EXTREME], s[ENTRY_BAR] = price, price, t
    s[BASE] = columns[CLOSE, signal] if settings[BASE_IS_CLOSE] != 0.0 else price
    s[SIGNAL_BAR], s[TRAIL_DISTANCE] = signal, s[PENDING_TRAIL]
    s[STOP] = -side * np.inf if np.isnan(s[PENDING_STOP]) else s[BASE] - side * s[PENDING_STOP]
    s[TARGET_PRICE] = side * np.inf
    s[ONE_TARGET] = 0.0 if np.isnan(s[PENDING_TARGET]) else 1.0
    if s[ONE_TARGET] != 0.0:
        s[TARGET_PRICE] = s[BASE] + side * s[PENDING_TARGET]
    elif len(plan.shares) > 0:
        s[TARGET_PRICE] = s[BASE] + side * level(plan, TARGET_ROW, signal)
    if side * (columns[OPEN, t] - s[STOP]) <= 0.0:
        s[ENTRY_BEYOND_STOP] += 1.0
    return how


@core
def take_targets(
    s: Floats, book: Book, t: int, columns: Floats, plan: Plan, settings: Floats, best: float
) -> None:
    """Row 15: fill every target the bar went past, by distance."""
    side = 1.0 if s[POSITION] > 0.0 else -1.0
    open_, touch, tick = columns[OPEN, t], settings[TOUCH], columns[STEP, t]
    count = 1 if s[ONE_TARGET] != 0.0 else len(plan.shares)
    while s[POSITION] != 0.0 and reached(best, s[TARGET_PRICE], side, touch, tick):
        k, rest = int(s[NEXT_TARGET]), abs(s[POSITION])
        quantity = rest
        if k < count - 1:
            quantity = min(whole_lots(plan.shares[k] * s[INITIAL], settings[LOT]), rest)
            if rest - quantity <= 1e-12 * s[INITIAL]:
                quantity = rest
        if quantity > 0.0:
            reference = open_ if side * (open_ - s[TARGET_PRICE]) >= 0.0 else s[TARGET_PRICE]
            leave(s, book, t, columns[TS], quantity, reference, 0.0, settings[FEE], TARGET)
            if settings[BREAKEVEN] != 0.0 and side * (s[ENTRY_PRICE] - s[STOP]) > 0.0:
                s[STOP], s[TRAILED] = s[ENTRY_PRICE], 0.0
        if k < count - 1:
            s[NEXT_TARGET] += 1.0
            s[TARGET_PRICE] = s[BASE] + side * level(plan, TARGET_ROW + k + 1, int(s[SIGNAL_BAR]))
