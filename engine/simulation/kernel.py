"""The compiled bar loop: `bar_loop` turns signals into fills, trades and equity.

`reference.py` is the specification; this file does the same arithmetic in the same order, so
that prices, quantities and equity agree. One state vector (`slots.py`) holds all that a run
knows between two bars, so that bars may be run in pieces: `start_run`, `bar_loop` for any
pieces in order, `finish_run`. A loop of one's own calls `advance` and `decide` per bar.
"""
# ruff: noqa: I001  (the names of the slots would fill 60 lines)

from __future__ import annotations

import numpy as np
from numba import njit

from engine.simulation.account import BLOCK, UNCOUNTED, Function, core, start_run
from engine.simulation.fills import (
    AT_OPEN, NOT_ENTERED, SLACK, enter, exit_quantity, leave, take_targets, write_trade,
)  # fmt: skip
from engine.simulation.inputs import Bytes
from engine.simulation.orders import decide
from engine.simulation.slots import (
    BORROW, BROKEN_BAR, BUFFERS_FULL, CASH, CLOSE, DIVIDEND, DIVIDENDS, DONE, END, ENTRY_BAR, ENTRY_PRICE,
    EXIT_LONG, EXIT_SHORT, EXIT_VALUE, EXTREME, FEE, FINANCED, FINANCING, HALTED_BAR, HIGH, LIMITS_EXPIRED,
    LONG, LOT, LOW, MAX_BARS, NOT_FINITE, NO_FILL, N_FILLS, OPEN, PAYS, PENDING_EXIT,
    PENDING_LIMIT, PENDING_SIDE, PNL, POSITION, REVERSE, SHORT, SIGNALS_LONG, SIGNALS_SHORT,
    SIGNALS_UNFILLED, SLIP, STILL_OPEN, STOP, STOPPED, TARGET_AT_ENTRY, TARGET_PRICE, TIMED, TRAIL,
    TRAILED, TRAIL_DISTANCE, TS, T_NEXT, YEAR_SHARE, Book, Floats, Plan,
)  # fmt: skip

__all__ = ["advance", "bar_loop", "count_signals", "decide", "finish_run", "start_run"]

ORDER = np.arange(BLOCK, dtype=np.uint8)


def _compiled(function: Function) -> Function:
    """Compile a function that is called from outside; as `core`, but not put into its callers."""
    compiled: Function = njit(**UNCOUNTED)(function)
    return compiled


@core
def _fill_orders(s: Floats, book: Book, t: int, columns: Floats, plan: Plan, settings: Floats) -> None:
    """Rows 7 to 16 of a bar that trades."""
    open_, slip, fee_rate = columns[OPEN, t], settings[SLIP], settings[FEE]
    how = NOT_ENTERED
    if s[PENDING_EXIT] != 0.0:
        quantity = exit_quantity(s, settings[LOT])
        leave(s, book, t, columns[TS], quantity, open_, slip, fee_rate, int(s[PENDING_EXIT]))
        s[PENDING_EXIT] = 0.0
    if s[PENDING_SIDE] != 0.0:
        how = enter(s, book, t, columns, plan, settings)
    if s[POSITION] == 0.0:
        return
    side = 1.0 if s[POSITION] > 0.0 else -1.0
    high, low = columns[HIGH], columns[LOW]
    worst, best = (low, high) if side > 0.0 else (high, low)
    if not np.isinf(s[STOP]) and side * (worst[t] - s[STOP]) <= 0.0:  # rows 10, 11, 13
        reference = open_ if side * (open_ - s[STOP]) <= 0.0 else s[STOP]
        reason = TRAIL if s[TRAILED] != 0.0 else STOPPED
        leave(s, book, t, columns[TS], abs(s[POSITION]), reference, slip, fee_rate, reason)
    elif how == NOT_ENTERED or (how == AT_OPEN and settings[TARGET_AT_ENTRY] != 0.0):  # rows 12, 14, 15
        if not np.isinf(s[TARGET_PRICE]):
            take_targets(s, book, t, columns, plan, settings, best[t])
    if s[POSITION] != 0.0 and not np.isnan(s[TRAIL_DISTANCE]):  # row 16
        if side * (best[t] - s[EXTREME]) > 0.0:
            s[EXTREME] = best[t]
        trailing = s[EXTREME] - side * s[TRAIL_DISTANCE]
        if side * (trailing - s[STOP]) > 0.0:
            s[STOP], s[TRAILED] = trailing, 1.0


@core
def advance(
    columns: Floats, events: Bytes, plan: Plan, settings: Floats, book: Book, s: Floats, t: int
) -> float:
    """Fill, charge and mark bar t (rows 6 to 17); return the equity at its close, also into ``book``."""
    close = columns[CLOSE, t]
    if s[POSITION] != 0.0 and (events[t] & PAYS) != 0:  # row 6a
        paid = s[POSITION] * columns[DIVIDEND, t]
        s[CASH] += paid
        s[DIVIDENDS] += paid
        s[PNL] += paid
    trades = (events[t] & NO_FILL) == 0
    if trades:
        if s[PENDING_EXIT] != 0.0 or s[PENDING_SIDE] != 0.0 or s[POSITION] != 0.0:
            _fill_orders(s, book, t, columns, plan, settings)
    elif s[PENDING_SIDE] != 0.0 and not np.isnan(s[PENDING_LIMIT]):  # row 6: a limit is good for one bar
        s[PENDING_SIDE] = 0.0
        s[LIMITS_EXPIRED] += 1.0
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
        if trades and t - s[ENTRY_BAR] >= settings[MAX_BARS]:  # row 17
            leave(s, book, t, columns[TS], abs(s[POSITION]), close, settings[SLIP], settings[FEE], TIMED)
            s[PENDING_EXIT] = 0.0
    marked = s[CASH] + s[POSITION] * close
    book.equity[t], book.position[t] = marked, s[POSITION]
    if marked <= 0.0 and s[HALTED_BAR] < 0.0:
        s[HALTED_BAR] = t
    return float(marked)


@core
def count_signals(bits: Bytes, s: Floats, t0: int, t1: int) -> None:
    """Count the entry bits of bars [t0, t1)."""
    long = short = 0
    for t in range(t0, t1):
        long += bits[t] & LONG
        short += (bits[t] & SHORT) >> 1
    s[SIGNALS_LONG] += long
    s[SIGNALS_SHORT] += short


@core
def _heard(position: float, turning: int) -> int:
    """Return the bits that can order anything; others leave a waiting order as it is."""
    if position > 0.0:
        return EXIT_LONG | (turning & SHORT)
    if position < 0.0:
        return EXIT_SHORT | (turning & LONG)
    return LONG | SHORT


@core
def _quiet(
    close: Floats, events: Bytes, bits: Bytes, book: Book, cash: float, held: float, heard: int,
    t: int, t1: int,
) -> int:  # fmt: skip
    """Mark bars up to the first one with a bit that is heard or, while a position is held, an event.

    That bar is marked too, and some after it, whose own turn comes. Whole blocks have loops of
    one length, without a branch inside.
    """
    wanted, also = np.uint8(heard), np.uint8(255 if held != 0.0 else 0)
    while t + BLOCK <= t1:
        told, happens, prices = bits[t : t + BLOCK], events[t : t + BLOCK], close[t : t + BLOCK]
        equity, position = book.equity[t : t + BLOCK], book.position[t : t + BLOCK]
        first, good = np.uint8(BLOCK), 0
        for i in range(BLOCK):
            one = ORDER[i] if ((told[i] & wanted) | (happens[i] & also)) != 0 else np.uint8(BLOCK)
            first = one if one < first else first
        if held == 0.0:
            for i in range(BLOCK):
                equity[i] = cash
                position[i] = 0.0
        else:
            for i in range(BLOCK):
                e = cash + held * prices[i]
                equity[i] = e
                position[i] = held
                good += (e > 0.0) & (e < np.inf)
            if good < BLOCK:
                return t
        t += int(first)
        if first < BLOCK:
            return t
    while t < t1:
        e = cash + held * close[t] if held != 0.0 else cash
        book.equity[t], book.position[t] = e, held
        if ((bits[t] & wanted) | (events[t] & also)) != 0 or not 0.0 < e < np.inf:
            break
        t += 1
    return t


@core
def _scan(worst: Floats, best: Floats, s: Floats, near: float, side: float, t: int, t1: int) -> int:
    """Return the first bar that may reach the stop or target; before it only the trailing stop moves."""
    stop, extreme, distance = s[STOP], s[EXTREME], s[TRAIL_DISTANCE]
    trails = not np.isnan(distance)
    while t < t1:
        if side * (worst[t] - stop) <= 0.0 or side * (best[t] - near) >= 0.0:
            break
        if trails and side * (best[t] - extreme) > 0.0:
            extreme = best[t]
            trailing = extreme - side * distance
            if side * (trailing - stop) > 0.0:
                stop, s[TRAILED] = trailing, 1.0
        t += 1
    s[STOP], s[EXTREME] = stop, extreme
    return t


@core
def _watch(
    columns: Floats, events: Bytes, bits: Bytes, book: Book, s: Floats, heard: int, side: float,
    t: int, t1: int,
) -> tuple[int, bool]:  # fmt: skip
    """Run bars of a position with levels, as `_skip`, block by block."""
    held, cash, close = s[POSITION], s[CASH], columns[CLOSE]
    worst, best = (columns[LOW], columns[HIGH]) if side > 0.0 else (columns[HIGH], columns[LOW])
    near = s[TARGET_PRICE] - side * abs(s[TARGET_PRICE]) * SLACK  # `take_targets` looks in full
    while t < t1:
        end = min(t + BLOCK, t1)
        told = _quiet(close, events, bits, book, cash, held, heard, t, end)
        t = _scan(worst, best, s, near, side, t, told)
        if t < told:
            return t, False
        if told < end:
            if events[told] != 0 or not 0.0 < book.equity[told] < np.inf:
                return told, False
            return told, _scan(worst, best, s, near, side, told, told + 1) > told
    return t, False


@core
def _skip(
    columns: Floats, events: Bytes, bits: Bytes, settings: Floats, book: Book, s: Floats, heard: int,
    t: int, t1: int,
) -> tuple[int, bool]:  # fmt: skip
    """Run bars in which no order can fill and none can be made.

    Returns the first bar that needs more, and whether it is marked and needs only a decision.
    """
    held, cash, close = s[POSITION], s[CASH], columns[CLOSE]
    if held == 0.0:
        if s[HALTED_BAR] >= 0.0:
            book.equity[t:t1], book.position[t:t1] = cash, 0.0
            return t1, False
        return _quiet(close, events, bits, book, cash, 0.0, heard, t, t1), True
    if s[HALTED_BAR] >= 0.0 or (held < 0.0 and settings[BORROW] > 0.0):
        return t, False
    if cash < 0.0 and settings[FINANCING] > 0.0:
        return t, False
    end = int(min(float(t1), s[ENTRY_BAR] + settings[MAX_BARS]))
    if not (np.isinf(s[STOP]) and np.isinf(s[TARGET_PRICE]) and np.isnan(s[TRAIL_DISTANCE])):
        if held > 0.0:
            return _watch(columns, events, bits, book, s, heard, 1.0, t, end)
        return _watch(columns, events, bits, book, s, heard, -1.0, t, end)
    t = _quiet(close, events, bits, book, cash, held, heard, t, end)
    return t, t < end and events[t] == 0 and 0.0 < book.equity[t] < np.inf


@core
def _loop(
    columns: Floats, events: Bytes, bits: Bytes, plan: Plan, settings: Floats, book: Book, s: Floats,
    t0: int, t1: int, fast: bool,
) -> int:  # fmt: skip
    """Run the bars of `bar_loop`; not ``fast``: each of them in full."""
    if s[BROKEN_BAR] >= 0.0:
        book.equity[t0:t1], book.position[t0:t1] = np.nan, np.nan
        return NOT_FINITE
    room = len(book.fills) - len(plan.shares) - 4 if book.record else 1 << 60
    turning = LONG | SHORT if settings[REVERSE] != 0.0 else 0
    t, marked = t0, 0.0
    while t < t1:
        heard = _heard(s[POSITION], turning)
        ready = False
        if fast and s[PENDING_EXIT] == 0.0 and s[PENDING_SIDE] == 0.0:
            t, ready = _skip(columns, events, bits, settings, book, s, heard, t, t1)
            if t >= t1:
                break
        if ready:
            marked = book.equity[t]
        else:
            if s[N_FILLS] > room:
                count_signals(bits, s, t0, t)
                s[T_NEXT] = t
                return BUFFERS_FULL
            marked = advance(columns, events, plan, settings, book, s, t)
            if not np.isfinite(marked):
                s[BROKEN_BAR] = t
                book.equity[t:t1], book.position[t:t1] = np.nan, np.nan
                count_signals(bits, s, t0, t)
                s[T_NEXT] = t1
                return NOT_FINITE
            heard = _heard(s[POSITION], turning)
        if (bits[t] & heard) != 0 or s[HALTED_BAR] >= 0.0:
            decide(s, t, bits[t], marked, columns, plan, settings)
        t += 1
    count_signals(bits, s, t0, t1)
    s[T_NEXT] = t1
    return DONE


@_compiled
def bar_loop(
    columns: Floats, events: Bytes, bits: Bytes, plan: Plan, settings: Floats, book: Book, s: Floats,
    t0: int, t1: int,
) -> int:  # fmt: skip
    """Run the bars [t0, t1) of one span; t0 is where the state stands (0 after `start_run`).

    Parameters
    ----------
    columns, events, settings
        As in `inputs.Span`.
    bits : uint8 array, shape (T,)
        1 enter long, 2 enter short, 4 exit long, 8 exit short.
    plan : Plan
        Levels and size of entries.
    book : Book
        Written: equity and position of [t0, t1), new fills and trades.
    s : float64 array, shape (N_STATE,), written
        The state.
    t0, t1 : int
        Bars of the span, 0 <= t0 <= t1 <= T.

    Returns
    -------
    int
        DONE; BUFFERS_FULL: enlarge fills and trades and go on at ``s[T_NEXT]``; NOT_FINITE:
        equity at bar ``s[BROKEN_BAR]`` is not finite, and NaN from there on.

    NaN: a NaN level at a signal bar refuses the entry.
    """
    return int(_loop(columns, events, bits, plan, settings, book, s, t0, t1, True))


@_compiled
def plain_loop(
    columns: Floats, events: Bytes, bits: Bytes, plan: Plan, settings: Floats, book: Book, s: Floats,
    t0: int, t1: int,
) -> int:  # fmt: skip
    """Do what `bar_loop` does without skipping a bar: the twin that tests compare it with, bit for bit."""
    return int(_loop(columns, events, bits, plan, settings, book, s, t0, t1, False))


@_compiled
def finish_run(columns: Floats, settings: Floats, book: Book, s: Floats, n: int, close_out: bool) -> None:
    """End a run after n bars: close or mark the position (row 18), count a waiting order.

    ``close_out`` closes at the last close, with costs, and changes its equity and position, so
    that the last bar is accumulated after this call. Copy ``s`` before, to read the next order or
    to go on later.
    """
    if s[PENDING_EXIT] != 0.0 or s[PENDING_SIDE] != 0.0:
        s[SIGNALS_UNFILLED] += 1.0
    if n == 0 or s[POSITION] == 0.0 or s[BROKEN_BAR] >= 0.0:
        return
    t = n - 1
    close, rest = columns[CLOSE, t], abs(s[POSITION])
    if close_out:  # also where the bar has no volume
        leave(s, book, t, columns[TS], rest, close, settings[SLIP], settings[FEE], END)
        book.equity[t], book.position[t] = s[CASH], 0.0
    else:
        side = 1.0 if s[POSITION] > 0.0 else -1.0
        s[EXIT_VALUE] += rest * close
        s[PNL] += side * rest * (close - s[ENTRY_PRICE])
        write_trade(s, book, t, columns[TS], side, STILL_OPEN)
