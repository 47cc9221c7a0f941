"""What one run needs beside its signals: `Execution` (all settings) and `prepare` (checked bars of a span).

Everything the bar loop reads is cut to the span here, so that nothing outside it can be read.
"""
# ruff: noqa: I001  (the names of the slots would fill 25 lines)

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from numba import njit

from engine.bars.calendars import EXCHANGE
from engine.bars.model import Bars, Floats, iso, known_at
from engine.errors import ConfigError, DataError, closest
from engine.strategies.sizes import Fraction, Size
from engine.simulation.slots import (
    BASE_IS_CLOSE, BORROW, BREAKEVEN, CASH_0, CLOSE, CLOSE_AT_END, DIVIDEND, EXIT_FRACTION, FEE, FINANCING,
    HIGH, LEVERAGE, LIMIT_IMPROVEMENT, LOT, LOW, MAX_BARS, MIN_QTY, NO_FILL, N_SETTINGS, OPEN, PAYS, REFUSE,
    REVERSE, SLIP, STEP, TARGET_AT_ENTRY, TOUCH, TS, YEAR_SHARE,
)  # fmt: skip

Bytes = npt.NDArray[np.uint8]

YEAR_US = 365.25 * 86_400e6
DAY_US = 86_400_000_000
ANNUAL_DAYS = {"24/7": 365.0, "weekdays": 261.0, "observed": 252.0}  # factor of daily returns, by calendar

_CHOICES = {
    "cash_rule": ("cut", "refuse"),
    "limit_fill": ("through", "touch"),
    "level_base": ("fill", "signal_close"),
    "target_in_entry_bar": ("never", "after_open_entry"),
    "on_opposite": ("hold", "reverse"),
    "sides": ("both", "long"),
}


@dataclass(frozen=True)
class Execution:
    """How orders of one run are filled, sized and charged.

    Parameters
    ----------
    initial_cash : float, > 0
        Account currency.
    leverage : float, > 0
        An entry is worth at most ``leverage`` times the cash, fee included; shorts alike.
    cash_rule : {"cut", "refuse"}
        An order above that limit is cut to it, or dropped.
    min_qty : float, >= 0
        Smaller orders are refused, in units.
    limit_fill : {"through", "touch"}
        A target fills when the price goes one tick beyond it, or already when it is met.
    level_base : {"fill", "signal_close"}
        Stops and targets are measured from the fill price, or from the close that gave the signal.
    limit_improvement : bool
        A limit entry fills at the open when that is better than the limit.
    target_in_entry_bar : {"never", "after_open_entry"}
        Whether a target may fill in the bar of an entry at the open; never in that of a limit entry.
    breakeven_after_first : bool
        The first target that fills moves the stop to the entry price, from the next bar on.
    exit_fraction : float, > 0 and <= 1
        An exit signal closes this fraction of the initial quantity: in whole lots, at least one, at
        most the rest. Turns, stops and ruin close all.
    max_bars : int >= 0, or None
        Out at the close of that many bars after the entry bar; 0 = its own close. None: never.
    on_opposite : {"hold", "reverse"}
        An opposite entry signal in a position is ignored, or turns the position at one open.
    fill_on_zero_volume : bool
        Whether orders fill in a bar of a traded series that has no volume.
    close_at_end : bool
        Close at the last close of the run, with costs; otherwise the trade stays open, marked.
    tick : float, >= 0
        Price step in raw prices, 0 = unknown; a bar's own step is tick / its ``adj``.
    lot : float, >= 0
        Quantities are whole lots, rounded down; 0 = fractional. In split-adjusted units.
    size : Fraction, Risk, Units or Notional
        Of a strategy that states no size of its own.
    sides : {"both", "long"}
        ``long`` drops short entries (applied where signals are made).
    fee_bps, slippage_bps : float, >= 0 and < 10000
        Of the traded value, each side; slippage on market and stop fills.
    borrow_bps_year, financing_bps_year : float, >= 0
        On short notional and on negative cash, by elapsed time / 365.25 days.

    Raises
    ------
    ConfigError
        A value is outside its list or range.

    >>> Execution(fee_bps=10.0).fee_bps
    10.0
    """

    initial_cash: float = 100_000.0
    leverage: float = 1.0
    cash_rule: str = "cut"
    min_qty: float = 0.0
    limit_fill: str = "through"
    level_base: str = "fill"
    limit_improvement: bool = False
    target_in_entry_bar: str = "never"
    breakeven_after_first: bool = False
    exit_fraction: float = 1.0
    max_bars: int | None = None
    on_opposite: str = "hold"
    fill_on_zero_volume: bool = False
    close_at_end: bool = True
    tick: float = 0.0
    lot: float = 0.0
    size: Size = Fraction(1.0)
    sides: str = "both"
    fee_bps: float = 5.0
    slippage_bps: float = 2.0
    borrow_bps_year: float = 0.0
    financing_bps_year: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their list or range."""
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"execution.{name} was {value!r}. {closest(value, known)}")
        for field in fields(self):
            if field.type != "float":
                continue
            value = getattr(self, field.name)
            positive = field.name in ("initial_cash", "leverage", "exit_fraction")
            if not math.isfinite(value) or value < 0.0 or (positive and value == 0.0):
                raise ConfigError(
                    f"execution.{field.name} was {value!r}; expected a number {'> 0' if positive else '>= 0'}"
                )
        for name in ("fee_bps", "slippage_bps"):
            if getattr(self, name) >= 1e4:
                raise ConfigError(f"execution.{name} was {getattr(self, name)!r}; expected < 10000 (100 %)")
        if self.exit_fraction > 1.0:
            raise ConfigError(f"execution.exit_fraction was {self.exit_fraction!r}; expected > 0 and <= 1")
        whole = isinstance(self.max_bars, int) and not isinstance(self.max_bars, bool)
        if self.max_bars is not None and not (whole and self.max_bars >= 0):
            raise ConfigError(
                f"execution.max_bars was {self.max_bars!r}; expected a whole number >= 0, or None"
            )
        if not isinstance(self.size, Size):
            raise ConfigError(f"execution.size was {self.size!r}; expected Fraction, Risk, Units or Notional")
        if self.on_opposite == "reverse" and self.sides != "both":
            raise ConfigError(
                "execution.on_opposite was 'reverse' with sides 'long': there is no short side to turn to. "
                "Set execution.on_opposite: hold, or sides: both for the symbol"
            )


@dataclass(frozen=True, eq=False)
class Span:
    """Checked bars [start, stop) in the form the bar loop reads; T = stop - start.

    Parameters
    ----------
    bars, execution
        What it was made of.
    columns : float64 array, shape (8, T)
        Rows open, high, low, close, dividend, share of a year since the bar before, ts, price step.
    events : uint8 array, shape (T,)
        Sum of NO_FILL (row 6) and PAYS (a dividend, row 6a).
    day_start : uint8 array, shape (T,)
        1 on the first bar of a later UTC date than that of the bar before it in the span.
    settings : float64 array, shape (N_SETTINGS,)
        The execution settings as numbers.
    years : float
        From the first bar's open to the last bar's end, / 365.25 days; 0 without bars.
    annual_days : float
        Annualisation factor A of daily returns.

    NaN: none. No value at bar t depends on later bars.
    """

    bars: Bars
    execution: Execution
    start: int
    stop: int
    columns: Floats
    events: Bytes
    day_start: Bytes
    settings: Floats
    years: float
    annual_days: float


@njit(cache=True, nogil=True, error_model="numpy")
def _broken_rows(columns: Floats, volume: Floats, rows: npt.NDArray[np.int64]) -> int:
    """Return the first broken rule (0 = none) and put its first rows, at most 3, into ``rows``."""
    n = columns.shape[1]
    for rule in range(1, 6):
        found = 0
        for t in range(n):
            o, h, lo, c = columns[OPEN, t], columns[HIGH, t], columns[LOW, t], columns[CLOSE, t]
            v, d = volume[t], columns[DIVIDEND, t]
            if rule == 1:
                bad = not np.isfinite(o + h + lo + c + v + d)
            elif rule == 2:
                bad = min(o, h, lo, c) <= 0.0
            elif rule == 3:
                bad = h < max(o, c) or lo > min(o, c)
            elif rule == 4:
                bad = t > 0 and columns[TS, t] <= columns[TS, t - 1]
            else:
                bad = v < 0.0 or d < 0.0
            if bad:
                rows[found] = t
                found += 1
                if found == 3:
                    break
        if found:
            rows[found:] = -1
            return rule
    return 0


_RULES = {
    1: ("E03", "a value is missing or infinite", "finite open, high, low, close, volume and dividend"),
    2: ("E04", "a price is zero or negative", "prices > 0"),
    3: ("E05", "open or close lies outside [low, high]", "low <= open, close <= high"),
    4: ("E07", "a stamp is not after the one before", "strictly increasing ts"),
    5: ("E10", "volume or dividend is negative", "volume >= 0 and dividend >= 0"),
}


def _check(bars: Bars, columns: Floats, volume: Floats) -> None:
    rows = np.full(3, -1, dtype=np.int64)
    rule = int(_broken_rows(columns, volume, rows))
    if rule:
        key, found, expected = _RULES[rule]
        stamps = tuple(iso(int(columns[TS, row])) for row in rows if row >= 0)
        raise DataError(
            f"{found}: symbol {bars.symbol}, frame {bars.frame}, bars {', '.join(stamps)}; "
            f"expected {expected}. Run: nightfold check",
            rule=key,
            symbol=bars.symbol,
            rows=stamps,
        )


def settings_vector(execution: Execution) -> Floats:
    """Return the execution settings as numbers, float64 array, shape (N_SETTINGS,); rates as fractions."""
    settings = np.zeros(N_SETTINGS)
    settings[CASH_0] = execution.initial_cash
    settings[LEVERAGE] = execution.leverage
    settings[REFUSE] = execution.cash_rule == "refuse"
    settings[MIN_QTY] = execution.min_qty
    settings[LOT] = execution.lot
    settings[FEE] = execution.fee_bps / 1e4
    settings[SLIP] = execution.slippage_bps / 1e4
    settings[BORROW] = execution.borrow_bps_year / 1e4
    settings[FINANCING] = execution.financing_bps_year / 1e4
    settings[TOUCH] = execution.limit_fill == "touch"
    settings[BASE_IS_CLOSE] = execution.level_base == "signal_close"
    settings[TARGET_AT_ENTRY] = execution.target_in_entry_bar == "after_open_entry"
    settings[REVERSE] = execution.on_opposite == "reverse"
    settings[CLOSE_AT_END] = execution.close_at_end
    settings[LIMIT_IMPROVEMENT] = execution.limit_improvement
    settings[EXIT_FRACTION] = execution.exit_fraction
    settings[BREAKEVEN] = execution.breakeven_after_first
    settings[MAX_BARS] = np.inf if execution.max_bars is None else execution.max_bars
    return settings


def adjusted_tick(bars: Bars, tick: float) -> float:
    """Return the instrument's price step on the split-adjusted grid: tick / largest ``adj``, 0 = unknown."""
    return tick / float(bars.adj.max()) if len(bars) else tick


def annual_days(calendar: str) -> float:
    """Return the annualisation factor of daily returns: 365 for ``24/7``, 261 for ``weekdays``, else 252.

    Raises
    ------
    ConfigError
        The calendar is not known.
    """
    if EXCHANGE.fullmatch(calendar):
        return ANNUAL_DAYS["observed"]
    if calendar not in ANNUAL_DAYS:
        raise ConfigError(f"calendar {calendar!r} is not known. {closest(calendar, ANNUAL_DAYS)}")
    return ANNUAL_DAYS[calendar]


def day_starts(ts: npt.NDArray[np.int64]) -> Bytes:
    """Mark each bar whose UTC date is not that of the bar before. uint8 array, shape (T,)."""
    starts = np.zeros(len(ts), dtype=np.uint8)
    day = ts // DAY_US
    starts[1:] = day[1:] != day[:-1]
    return starts


def years_between(ts: npt.NDArray[np.int64], frame: str, calendar: str) -> float:
    """Return years of 365.25 days from the first bar's open to the last bar's end, 0 without bars."""
    if len(ts) == 0:
        return 0.0
    return float(known_at(ts[-1:], frame, calendar)[0] - ts[0]) / YEAR_US


def prepare(bars: Bars, execution: Execution, start: int, stop: int) -> Span:
    """Check the bars of [start, stop) once and lay them out for the bar loop.

    Parameters
    ----------
    bars : Bars
        The whole series.
    execution : Execution
        Settings of the run.
    start, stop : int
        Half-open range of bar indices, 0 <= start <= stop <= T.

    Returns
    -------
    Span
        Copies; the bars stay untouched.

    Raises
    ------
    ConfigError
        The range does not lie in the bars.
    DataError
        A bar of the span is impossible (E03, E04, E05, E07, E10), with its first 3 rows.

    NaN: refused by E03.
    """
    if not 0 <= start <= stop <= len(bars):
        raise ConfigError(
            f"bars [{start}, {stop}) of {bars.symbol} do not exist: the series has {len(bars)} bars; "
            "expected 0 <= start <= stop <= their number"
        )
    ts = bars.ts[start:stop]
    end = known_at(ts, bars.frame, bars.calendar)
    columns = np.zeros((8, stop - start))
    for row, name in enumerate(("open", "high", "low", "close", "dividend")):
        columns[row] = getattr(bars, name)[start:stop]
    columns[YEAR_SHARE, 1:] = np.diff(end) / YEAR_US
    columns[STEP] = execution.tick / bars.adj[start:stop]  # the raw step, on each bar's own basis
    columns[TS] = ts  # microseconds stay exact in float64 until the year 2255
    volume = np.array(bars.volume[start:stop])
    _check(bars, columns, volume)
    events = np.zeros(len(ts), dtype=np.uint8)
    if not execution.fill_on_zero_volume:  # before its first bar with volume a series has none at all
        seen = np.logical_or.accumulate(bars.volume[:stop] > 0.0)[start:]
        events[seen & (volume == 0.0)] = NO_FILL
    events[columns[DIVIDEND] > 0.0] |= PAYS
    return Span(
        bars, execution, start, stop, columns, events, day_starts(ts), settings_vector(execution),
        years_between(ts, bars.frame, bars.calendar), annual_days(bars.calendar),
    )  # fmt: skip
