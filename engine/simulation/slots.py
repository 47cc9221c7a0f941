"""Names of the rows, slots and codes that the compiled functions and the code around them share.

The compiled loop reads plain arrays; these numbers say what stands where. They are constants of
the compiled code, and the disk cache of the compiler does not notice a change of this file alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Rows of Span.columns, float64[8, T], and bits of Span.events, uint8[T].
OPEN, HIGH, LOW, CLOSE, DIVIDEND, YEAR_SHARE, TS, STEP = range(8)
NO_FILL, PAYS = 1, 2  # no order fills in this bar (row 6); a dividend is paid (row 6a)

# Slots of the settings vector that the compiled loop reads. Flags are 0 or 1; MAX_BARS inf = none.
(
    CASH_0, LEVERAGE, REFUSE, MIN_QTY, LOT, FEE, SLIP, BORROW, FINANCING,
    TOUCH, BASE_IS_CLOSE, TARGET_AT_ENTRY, REVERSE, CLOSE_AT_END,
    LIMIT_IMPROVEMENT, EXIT_FRACTION, BREAKEVEN, MAX_BARS, N_SETTINGS,
) = range(19)  # fmt: skip

# State slots: the position and its trade,
(
    CASH, POSITION, STOP, EXTREME, TRAILED, TRAIL_DISTANCE, NEXT_TARGET, TARGET_PRICE, ONE_TARGET,
    ENTRY_PRICE, ENTRY_BAR, BASE, SIGNAL_BAR, INITIAL, EXIT_VALUE, FEES, SLIPPAGE, FINANCED, DIVIDENDS, PNL,
) = range(20)  # fmt: skip
# the order that waits for the next bar (NaN: not asked), and what an expert asked for this one,
(
    PENDING_EXIT, PENDING_SHARE, PENDING_SIDE, PENDING_BAR, PENDING_EQUITY, PENDING_LIMIT, PENDING_STOP,
    PENDING_TRAIL, PENDING_TARGET, PENDING_DISTANCE, PENDING_VALUE,
    OUT_FRACTION, OUT_LIMIT, OUT_STOP, OUT_TARGET, OUT_SIZE,
) = range(20, 36)  # fmt: skip
# the run (bars -1: never; T_NEXT = bars done),
HALTED_BAR, BROKEN_BAR, T_NEXT, N_FILLS, N_TRADES = range(36, 41)
# the account: sums over fills and trades (the hash in two halves of 32 bits),
(
    HASH_LOW, HASH_HIGH, TRADED_VALUE, TOTAL_FEES, TOTAL_SLIPPAGE, TOTAL_FINANCED, TOTAL_DIVIDENDS,
    CLOSED, WINS, GAINS, LOSSES,
) = range(41, 52)  # fmt: skip
# the account: the path of equity, up to and including the last bar that was accumulated (SAME_BARS: bars
# at LAST_EQUITY that are not yet in EQUITY_SUM),
(
    BARS, LAST_EQUITY, PEAK, PEAK_BAR, LOWEST, DRAWDOWN, DRAWDOWN_BARS, RUINED, EQUITY_SUM, SAME_BARS, HELD,
    NET, GROSS, SUM_1, SUM_2, SUM_3, SUM_4, DAYS, DAY_EQUITY, DAY_SUM, DAY_SQUARES, DAY_LOSSES,
) = range(52, 74)  # fmt: skip
# and counters, in the order of COUNTERS.
(
    SIGNALS_LONG, SIGNALS_SHORT, CONFLICTS, ORDERS_CUT, ORDERS_REFUSED, REFUSED_LEVELS,
    SIGNALS_UNFILLED, ENTRY_BEYOND_STOP, LIMITS_EXPIRED,
) = range(74, 83)  # fmt: skip
N_STATE = 83
COUNTERS = (
    "signals_long", "signals_short", "conflicts", "orders_cut", "orders_refused", "refused_levels",
    "signals_unfilled", "entry_beyond_stop", "limits_expired",
)  # fmt: skip

# Why a fill happened; PENDING_EXIT holds one of the exit reasons, 0 = no exit pending.
REASONS = ("entry", "signal", "reverse", "stop", "trail", "target", "end", "ruin", "open", "max_bars")
ENTRY, SIGNAL, REVERSED, STOPPED, TRAIL, TARGET, END, RUIN, STILL_OPEN, TIMED = range(10)

FILL_COLUMNS = ("trade", "ts", "side", "quantity", "price", "fee", "reason")
TRADE_COLUMNS = (
    "trade", "side", "entry_ts", "exit_ts", "quantity", "entry_price", "exit_price", "fees", "slippage",
    "financing", "dividends", "pnl", "reason", "bars_held",
)  # fmt: skip

STOP_ROW, TRAIL_ROW, SIZE_ROW, LIMIT_ROW, TARGET_ROW = range(5)  # rows of Plan
LONG, SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8
FRACTION, RISK, UNITS, NOTIONAL = range(4)
DONE, BUFFERS_FULL, NOT_FINITE = range(3)


class Plan(NamedTuple):
    """What an entry asks for besides its bit; level l at span bar t = column * scale + offset.

    Parameters
    ----------
    table : float64 array, shape (R, W)
        Columns of prices or distances.
    rows : int64 array, shape (4 + K,)
        Row of ``table`` per level, -1 = not asked: stop, trail and size distance, limit (a price),
        then K targets by distance.
    scale, offset : float64 array, shape (4 + K,)
    lag : int64 array, shape (4 + K,)
        Bars back.
    first : int
        Column of ``table`` at the span's bar 0.
    shares : float64 array, shape (K,)
        Share of the initial quantity that each target closes; the last closes the rest.
    size_kind, size_value
        FRACTION, RISK, UNITS or NOTIONAL, and its number.

    NaN: a NaN, infinite or non-positive level at a signal bar refuses the entry.
    """

    table: Floats
    rows: Ints
    scale: Floats
    offset: Floats
    lag: Ints
    first: int
    shares: Floats
    size_kind: int
    size_value: float


class Book(NamedTuple):
    """Where a run is written.

    Parameters
    ----------
    equity, position : float64 array, shape (T,)
        Account currency and signed units at each close.
    fills, trades : float64 array, shapes (capacity, 7) and (capacity, 14)
        Columns FILL_COLUMNS and TRADE_COLUMNS; not read when ``record`` is False.
    record : bool
        Whether fills and trades are written; the state's sums do not need them.
    """

    equity: Floats
    position: Floats
    fills: Floats
    trades: Floats
    record: bool
