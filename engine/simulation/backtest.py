"""One backtest: `run` (a strategy with parameters) and `simulate` (signals), both to a `BacktestResult`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.bars.model import Bars, Floats
from engine.simulation import slots
from engine.simulation.inputs import Execution, prepare
from engine.simulation.kernel import order_quantity
from engine.simulation.slots import COUNTERS, FILL_COLUMNS, REASONS, TRADE_COLUMNS
from engine.simulation.workspace import INVALID_NUMERIC, STATUSES, Workspace
from engine.strategies.registry import StrategyClass, check
from engine.strategies.rules import Signals, evaluate

if TYPE_CHECKING:
    from engine.features.table import FeatureSet

Table = dict[str, npt.NDArray[Any]]
_INTEGERS = frozenset(("trade", "ts", "side", "reason", "entry_ts", "exit_ts", "bars_held"))


@dataclass(frozen=True)
class NextOrder:
    """What the next open would fill; from the position at the last close, before any forced close.

    Parameters
    ----------
    action : str
        ``enter``, ``exit``, ``hold`` (a position stays) or ``none`` (flat, no order).
    side : int
        +1 long, -1 short, of the position to enter, to exit or held; 0 with ``none``.
    stop, target : float
        Price levels, NaN = none. With ``enter`` and levels based on the fill they assume a fill
        at the last close with slippage.
    quantity : float
        Units; with ``enter`` after size, cash rule and lot at that same assumed price, so the
        open may change it; 0 = the order would be refused there.
    reverses : bool
        ``enter`` only: the open position of the other side is closed at the same open.
    reason : str
        With ``exit``: ``signal`` or ``ruin``; otherwise empty.
    """

    action: str = "none"
    side: int = 0
    stop: float = float("nan")
    target: float = float("nan")
    quantity: float = 0.0
    reverses: bool = False
    reason: str = ""


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What one run did.

    Parameters
    ----------
    start, stop : int
        Half-open range of bars.
    status : str
        ``valid``, ``no_signal``, ``blocked`` (signals, no fill), ``halted`` (equity <= 0 at a
        close) or ``invalid_numeric`` (equity not finite).
    halted_at : int or None
        Bar index of the close with equity <= 0.
    equity, position : float64 array, shape (T,)
        Account currency and signed units at each close of the span.
    trades : dict of arrays, shape (trades,)
        trade, side (+1 long, -1 short), entry_ts, exit_ts (bar opens, microseconds), quantity,
        entry_price, exit_price (weighted by quantity), fees, slippage, financing, dividends, pnl
        (net of all), reason (index into ``reasons``), bars_held. A trade still open is the last
        row: reason ``open``, the rest marked at the last close.
    fills : dict of arrays, shape (fills,)
        trade, ts, side (+1 buy, -1 sell), quantity, price, fee, reason.
    metrics : dict of float
        As in `engine.simulation.metrics.metrics`.
    counters : dict of int
        signals_long, signals_short (bars with that entry bit), conflicts, orders_cut,
        orders_refused, refused_levels, signals_unfilled, entry_beyond_stop.
    next_order : NextOrder
        What one more bar would fill at its open.
    trades_hash : str
        sha256 of the fill rows, hex: equal for runs that trade alike.
    reasons : tuple of str
        Names of the reason codes.

    NaN: equity and position from the bar on where equity was not finite; undefined metrics.
    """

    start: int
    stop: int
    status: str
    halted_at: int | None
    equity: Floats
    position: Floats
    trades: Table
    fills: Table
    metrics: dict[str, float]
    counters: dict[str, int]
    next_order: NextOrder
    trades_hash: str
    reasons: tuple[str, ...] = REASONS


def _table(rows: Floats, columns: tuple[str, ...]) -> Table:
    """Split rows into named columns; codes and stamps become int64."""
    return {
        name: rows[:, k].astype(np.int64 if name in _INTEGERS else np.float64)
        for k, name in enumerate(columns)
    }


def _levels(base: float, side: float, signals: Signals, bar: int, next_target: int) -> tuple[float, float]:
    """Return the stop and the next target of an entry signalled at ``bar``, NaN = none."""
    stop = target = float("nan")
    if signals.stop is not None:
        stop = base - side * float(signals.stop[bar])
    if next_target < len(signals.targets):
        target = base + side * float(signals.targets[next_target][0][bar])
    return stop, target


def _next_order(work: Workspace, signals: Signals) -> NextOrder:
    """Read the order that stands after the last close's decision."""
    s, span = work.last, work.span
    if work.status == INVALID_NUMERIC or span.stop == span.start:
        return NextOrder()
    held = float(s[slots.POSITION])
    if s[slots.PENDING_SIDE] != 0.0:
        side, bar = float(s[slots.PENDING_SIDE]), int(s[slots.PENDING_BAR])
        close, settings = float(span.columns[slots.CLOSE, -1]), span.settings
        price = close * (1.0 + side * settings[slots.SLIP])
        cash = float(s[slots.CASH])
        if held != 0.0:  # the position goes first, at the same assumed price
            exit_price = close * (1.0 - np.sign(held) * settings[slots.SLIP])
            cash += held * exit_price - settings[slots.FEE] * abs(held) * exit_price
        distance = 1.0 if signals.size_distance is None else float(signals.size_distance[span.start + bar])
        quantity, _ = order_quantity(
            signals.size_kind,
            signals.size_value,
            distance,
            float(s[slots.PENDING_EQUITY]),
            cash,
            price,
            settings,
        )
        base = float(span.columns[slots.CLOSE, bar]) if settings[slots.BASE_IS_CLOSE] else price
        stop, target = _levels(base, side, signals, span.start + bar, 0)
        return NextOrder("enter", int(side), stop, target, float(quantity), reverses=held != 0.0)
    if held == 0.0:
        return NextOrder()
    side = float(np.sign(held))
    if s[slots.PENDING_EXIT] != 0.0:
        return NextOrder("exit", int(side), quantity=abs(held), reason=REASONS[int(s[slots.PENDING_EXIT])])
    bar = span.start + int(s[slots.SIGNAL_BAR])
    _, target = _levels(float(s[slots.BASE]), side, signals, bar, int(s[slots.NEXT_TARGET]))
    stop = float(s[slots.STOP]) if np.isfinite(s[slots.STOP]) else float("nan")
    return NextOrder("hold", int(side), stop, target, abs(held))


def simulate(
    bars: Bars, signals: Signals, execution: Execution, *, start: int, stop: int, record: bool = True
) -> BacktestResult:
    """Fill the orders that signals ask for, bar by bar.

    Parameters
    ----------
    bars : Bars
        The whole series; only [start, stop) is read.
    signals : Signals
        Made from the whole series, T bars; decided on data up to each close.
    execution : Execution
        Settings of fills, size and costs.
    start, stop : int
        Half-open range of bar indices. The first bar is flat: decisions from its close on.
    record : bool
        False leaves equity, position, trades and fills of the result empty; metrics stay.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ConfigError
        The range does not lie in the bars.
    DataError
        A bar of the span is impossible.
    SimulationError
        Signals that no run can use.

    NaN: a NaN distance at a signal bar refuses that entry and counts it (``refused_levels``).
    """
    work = Workspace(prepare(bars, execution, start, stop))
    work.run(signals)
    metrics = work.metrics()
    fills, trades = (work.fills, work.trades) if record else (work.fills[:0], work.trades[:0])
    halted = int(work.state[slots.HALTED_BAR])
    return BacktestResult(
        start,
        stop,
        STATUSES[work.status],
        start + halted if halted >= 0 else None,
        work.equity if record else work.equity[:0],
        work.position if record else work.position[:0],
        _table(trades, TRADE_COLUMNS),
        _table(fills, FILL_COLUMNS),
        metrics,
        dict(zip(COUNTERS, work.counters.astype(int).tolist(), strict=True)),
        _next_order(work, signals),
        work.trades_hash(),
    )


def run(
    features: FeatureSet,
    strategy: StrategyClass,
    params: Mapping[str, Any],
    execution: Execution,
    *,
    start: int,
    stop: int,
    record: bool = True,
) -> BacktestResult:
    """Run a strategy with one set of parameters over [start, stop).

    Parameters
    ----------
    features : FeatureSet
        Columns of the whole series: the span reads slices of them, so that every span sees the
        same values.
    strategy : StrategyClass
        A registered class of kind ``rules`` (`engine.strategies.registry.get`).
    params : mapping
        Parameters by name; those left out have their defaults.
    execution : Execution
        Settings of fills, size and costs.
    start, stop : int
        Half-open range of bar indices.
    record : bool
        As in `simulate`.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ConfigError, DataError, SimulationError
        As in `simulate`; ConfigError also for parameters that the strategy does not declare.

    NaN: features are NaN before their first valid bar; NaN compares false, so nothing is signalled.
    """
    signals = strategy_signals(features, strategy, params, execution.sides)
    return simulate(features.bars, signals, execution, start=start, stop=stop, record=record)


def strategy_signals(
    features: FeatureSet, strategy: StrategyClass, params: Mapping[str, Any], sides: str
) -> Signals:
    """Return the signals of one set of parameters over the whole series, T bars.

    Raises
    ------
    ConfigError
        Parameters that the strategy does not declare, or a strategy without rules.
    """
    return evaluate(strategy.rules(check(strategy, params)), features, sides)
