"""One window of forecast-level rows: `LevelsProblem` and `problem`, which makes it from bars and forecasts.

One row = one outcome bar j: base = close of bar j-1, forecast issued at that close. Nothing of
bar j or later enters the row's base, forecast, weights or trade-through distance. What the rows
mean and earn: `engine.simulation.levels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from engine.bars.model import Bars, Floats, Ints, iso
from engine.errors import ConfigError, LevelsInputError, closest
from engine.simulation.levels_finer import FinerBars, finer_moves, has_trades

Flags = npt.NDArray[np.bool_]

EXITS = ("path", "close", "target")
MOMENTUM_BARS = 20
MAX_DROPPED_SHARE = 0.2
MAX_WEIGHT = 10.0
STRICT = 1e-9  # trade-through distance where the tick is unknown, in return units
ROUNDING = 1e-12  # taken off the distance, so that rounding cannot refuse an exact tick
ROWS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")
# Where a row stands in arrays of them; after those, the highest level a sell and the lowest a buy trades at.
CLOSE, HIGH, LOW, UP, DOWN, LONG, SHORT, DELTA, TOP, BOTTOM = range(10)


@dataclass(frozen=True, eq=False)
class LevelsProblem:
    """One window of n outcome bars, ready to be scored at any pair of offsets.

    Parameters
    ----------
    close, high, low : float64 array, shape (n,)
        Moves of the outcome bar against the base, e.g. close / base - 1.
    forecast_high, forecast_low : float64 array, shape (n,)
        Forecast simple moves against the same base.
    long_weight, short_weight : float64 array, shape (n,)
        In [0, 10], multiples of the bar's notional; 0 = the leg is not traded.
    delta : float64 array, shape (n,)
        Trade-through distance in return units; 0 for `touch`.
    base : float64 array, shape (n,)
        Close of the bar before, in price units.
    index : int64 array, shape (n,)
        Position of the outcome bar in the series.
    fee_entry, fee_target, fee_close : float, >= 0
        Fees as fractions of the base notional: on entry, at a target, at the close.
    touch : bool
        True: entries fill strictly beyond the level, targets at it. False: both fill when the
        bar trades ``delta`` through the level.
    tick : float64 array, shape (n,)
        Price step of the outcome bar, in split-adjusted prices; 0 = unknown.
    name : str
        Names the problem in messages.
    n_dropped, n_crossed : int
        Rows left out (a value not finite), and rows kept with weights 0 (low forecast >= high).
    finer : FinerBars or None
        Finer bars inside each row, read by exit `path` alone; without any it equals `close`.

    Raises
    ------
    LevelsInputError
        A value is not finite or impossible, or a finer bar reaches beyond its bar; names the row.

    NaN: refused here; `problem` leaves such rows out and counts them.
    """

    close: Floats
    high: Floats
    low: Floats
    forecast_high: Floats
    forecast_low: Floats
    long_weight: Floats
    short_weight: Floats
    delta: Floats
    base: Floats
    index: Ints
    fee_entry: float
    fee_target: float
    fee_close: float
    touch: bool
    tick: Floats | float = 0.0
    name: str = "levels problem"
    n_dropped: int = 0
    n_crossed: int = 0
    finer: FinerBars | None = None

    def __post_init__(self) -> None:
        """Freeze and check the arrays."""
        for field in fields(self)[:10]:
            dtype = np.int64 if field.name == "index" else np.float64
            column = np.ascontiguousarray(getattr(self, field.name), dtype=dtype).view()
            column.flags.writeable = False
            object.__setattr__(self, field.name, column)
            if column.shape != np.shape(self.index):
                raise LevelsInputError(
                    f"{self.name}: {field.name} has shape {column.shape}, index {np.shape(self.index)}; "
                    "expected one value per row"
                )
        for name in ("fee_entry", "fee_target", "fee_close", "tick"):
            amount = getattr(self, name)
            if not np.all((np.asarray(amount) >= 0) & (np.asarray(amount) < np.inf)):
                raise LevelsInputError(f"{self.name}: {name} was {amount}, expected a number >= 0")
        for name in (*ROWS, "base"):
            self._refuse(~np.isfinite(getattr(self, name)), f"{name} is not finite")
        weights = np.stack([self.long_weight, self.short_weight])
        weighty: Flags = np.any((weights < 0) | (weights > MAX_WEIGHT), axis=0)
        self._refuse(weighty, "a weight is outside [0, 10]")
        self._refuse(self.high < self.low, "the high lies below the low")
        self._refuse((self.close < self.low) | (self.close > self.high), "the close lies outside [low, high]")
        self._refuse((self.low <= -1) | (self.high >= 10), "a move is outside (-1, 10)")
        self._refuse((self.delta < 0) | (self.base <= 0), "delta is negative or the base not positive")
        if self.finer is not None:
            within = self.finer.within(self.high, self.low, self.name, self.index)
            object.__setattr__(self, "finer", within)

    def _refuse(self, wrong: Flags, what: str) -> None:
        """Raise for the first marked row."""
        if wrong.any():
            row = int(wrong.argmax())
            raise LevelsInputError(
                f"{self.name}, row {row} (bar {self.index[row]}): {what}; repair the bars "
                "or the forecast of that row"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)


def one_of(setting: str, value: str, known: Sequence[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``known``."""
    if value not in known:
        raise ConfigError(f"{setting} was {value!r}. {closest(value, known)}")


def _trigger_ticks(fill: str) -> int:
    """Return the ticks of ``through:k``, 0 for ``touch``."""
    if fill == "touch":
        return 0
    head, _, ticks = fill.partition(":")
    if head != "through" or not ticks.isdecimal() or int(ticks) < 1:
        raise ConfigError(f"levels.fill was {fill!r}, expected touch or through:k with k >= 1 ticks")
    return int(ticks)


def leg_weights(
    bars: Bars, origin: Ints, high: Floats, low: Floats, objective: str, side: str, sides: str
) -> tuple[Floats, Floats, Flags]:
    """Return long weights, short weights and crossed forecasts of the rows issued at bars ``origin``."""
    one_of("objective", objective, ("entry_exit", "always_on"))
    one_of("levels.side", side, ("maxdiff", "momentum"))
    one_of("sides", sides, ("both", "long"))
    if objective == "always_on":
        a, b = np.ones(len(origin)), np.ones(len(origin))
    elif side == "maxdiff":
        a = (np.abs(high) > np.abs(low)).astype(np.float64)
        b = 1.0 - a
    else:
        if len(origin) and origin.min() < MOMENTUM_BARS:
            raise LevelsInputError(
                f"{bars.symbol} {bars.frame}: outcome bar {origin.min() + 1} has fewer than "
                f"{MOMENTUM_BARS} bars before its forecast, which levels.side momentum reads; "
                "lengthen folds.warmup_bars or use levels.side: maxdiff"
            )
        move = bars.close[origin] - bars.close[origin - MOMENTUM_BARS]
        a, b = (move > 0).astype(np.float64), (move < 0).astype(np.float64)
    crossed = low >= high
    a[crossed] = b[crossed] = 0.0
    return a, (np.zeros_like(b) if sides == "long" else b), crossed


def bar_ticks(bars: Bars, rows: Ints, tick: float) -> Floats:
    """Return the price step of each bar in split-adjusted prices: the raw ``tick`` on its own basis."""
    return np.asarray(tick / bars.adj[rows])


def problem(
    bars: Bars, forecast_high: Floats, forecast_low: Floats, start: int, stop: int, *,
    objective: str, side: str, sides: str, fee_bps: float, slippage_bps: float, fee_mode: str,
    fill: str, tick: float, fill_on_zero_volume: bool = False,
    max_dropped_share: float = MAX_DROPPED_SHARE, finer: Bars | None = None,
) -> LevelsProblem:  # fmt: skip
    """Make the rows of the outcome bars [start, stop); T bars in the series.

    Parameters
    ----------
    bars : Bars
        One symbol's series.
    forecast_high, forecast_low : float64 array, shape (T,)
        Log returns of the next bar's high and low against this close, issued at this close.
    start, stop : int
        Half-open range of outcome bars, ``start`` >= 1.
    objective : str
        `entry_exit` (one side per bar) or `always_on` (both legs on every bar).
    side : str
        Side rule of `entry_exit`: `maxdiff` (long where the forecast high is the larger move) or
        `momentum` (sign of the last 20 bars' move).
    sides : str
        `both`, or `long`: no short leg at all.
    fee_bps, slippage_bps : float
        Fee of each side; slippage of an exit at the close.
    fee_mode : str
        `per_side`, or `per_leg`: the fee once, on the entry. Slippage is charged in both.
    fill : str
        `touch` or `through:k`, k in ticks.
    tick : float
        The instrument's tick in raw prices; 0 = unknown, a trade beyond the level is enough.
    fill_on_zero_volume : bool
        Whether orders fill in a bar without volume of a series that has any.
    max_dropped_share : float
        Share of rows that may lack a forecast; 1 where bars without one are simply not traded.
    finer : Bars or None
        The same symbol in a finer frame, on the same price basis, for exit `path`; it may have gaps.

    Raises
    ------
    LevelsInputError
        More than 20 % of the rows lack a finite value, or a row or finer bar is impossible.
    ConfigError
        A name is unknown.

    NaN: a row without a finite forecast is left out and counted in ``n_dropped``.
    """
    one_of("levels.fee_mode", fee_mode, ("per_side", "per_leg"))
    ticks = _trigger_ticks(fill)
    name = f"{bars.symbol} {bars.frame} {objective}, outcome bars {start} to {stop}"
    if not 1 <= start <= stop <= len(bars) or not len(forecast_high) == len(forecast_low) == len(bars):
        raise LevelsInputError(
            f"{name}: expected 1 <= start <= stop <= {len(bars)} bars and forecasts of that "
            f"length, found {len(forecast_high)} and {len(forecast_low)}"
        )
    rows = np.arange(start, stop, dtype=np.int64)
    with np.errstate(over="ignore"):
        high, low = np.expm1(forecast_high[rows - 1]), np.expm1(forecast_low[rows - 1])
    usable = np.isfinite(high) & np.isfinite(low)
    dropped = int((~usable).sum())
    if dropped > max_dropped_share * len(rows):
        raise LevelsInputError(
            f"{name}: {dropped} of {len(rows)} rows have no finite forecast, the first issued at "
            f"{iso(bars.ts[rows[~usable][0] - 1])}; at most {100 * max_dropped_share:.0f} % may lack one. "
            "Run the forecasts stage for these bars"
        )
    rows, high, low = rows[usable], high[usable], low[usable]
    a, b, crossed = leg_weights(bars, rows - 1, high, low, objective, side, sides)
    if not fill_on_zero_volume:
        trades = has_trades(bars.volume)[rows]
        a, b = (np.where(trades, weight, 0.0) for weight in (a, b))
    base, step = bars.close[rows - 1], bar_ticks(bars, rows, tick)
    distance = ticks * step / base if tick > 0 else np.full(len(rows), STRICT)
    fee, slip = fee_bps / 1e4, slippage_bps / 1e4
    late = fee if fee_mode == "per_side" else 0.0
    parts = None
    if finer is not None:
        parts = finer_moves(bars, finer, rows, base, fill_on_zero_volume=fill_on_zero_volume)
    return LevelsProblem(
        bars.close[rows] / base - 1, bars.high[rows] / base - 1, bars.low[rows] / base - 1, high, low, a, b,
        np.zeros(len(rows)) if not ticks else distance - np.minimum(ROUNDING, distance / 1000), base, rows,
        fee, late, late + slip, ticks == 0, step, name, dropped, int(crossed.sum()), parts,
    )  # fmt: skip
