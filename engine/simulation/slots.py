"""Names of the rows, slots and codes that the bar loop and the code around it share.

The compiled loop reads plain arrays; these numbers say what stands where. They are constants of
the compiled code, and the disk cache of the compiler does not notice a change of this file alone.
"""

# Rows of Span.columns, float64[8, T].
OPEN, HIGH, LOW, CLOSE, DIVIDEND, YEAR_SHARE, TS, STEP = range(8)

# Slots of the settings vector that the compiled loop reads, float64[14]. Flags are 0 or 1.
(
    CASH_0, LEVERAGE, REFUSE, MIN_QTY, LOT, FEE, SLIP, BORROW, FINANCING,
    TOUCH, BASE_IS_CLOSE, TARGET_AT_ENTRY, REVERSE, CLOSE_AT_END, N_SETTINGS,
) = range(15)  # fmt: skip

# State slots. The last eight are counters, in the order of COUNTERS.
(
    CASH, POSITION, STOP, EXTREME, TRAILED, NEXT_TARGET, TARGET_PRICE, ENTRY_PRICE, ENTRY_BAR, BASE,
    SIGNAL_BAR, INITIAL, EXIT_VALUE, FEES, SLIPPAGE, FINANCED, DIVIDENDS, PNL, PENDING_EXIT,
    PENDING_SIDE, PENDING_BAR, PENDING_EQUITY, HALTED_BAR, N_FILLS,
) = range(24)  # fmt: skip
(
    SIGNALS_LONG, SIGNALS_SHORT, CONFLICTS, ORDERS_CUT, ORDERS_REFUSED, REFUSED_LEVELS,
    SIGNALS_UNFILLED, ENTRY_BEYOND_STOP,
) = range(24, 32)  # fmt: skip
N_STATE = 32
COUNTERS = (
    "signals_long", "signals_short", "conflicts", "orders_cut", "orders_refused", "refused_levels",
    "signals_unfilled", "entry_beyond_stop",
)  # fmt: skip

# Why a fill happened; PENDING_EXIT holds one of the exit reasons, 0 = no exit pending.
REASONS = ("entry", "signal", "reverse", "stop", "trail", "target", "end", "ruin", "open")
ENTRY, SIGNAL, REVERSED, STOPPED, TRAIL, TARGET, END, RUIN, STILL_OPEN = range(9)

FILL_COLUMNS = ("trade", "ts", "side", "quantity", "price", "fee", "reason")
TRADE_COLUMNS = (
    "trade", "side", "entry_ts", "exit_ts", "quantity", "entry_price", "exit_price", "fees", "slippage",
    "financing", "dividends", "pnl", "reason", "bars_held",
)  # fmt: skip

# Rows of `levels`, float64[3 + K, T]; a row that no signal asks for is left out by `asked`.
STOP_ROW, TRAIL_ROW, SIZE_ROW, TARGET_ROW = range(4)
LONG, SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8
FRACTION, RISK, UNITS, NOTIONAL = range(4)
DONE, BUFFERS_FULL, NOT_FINITE = range(3)
