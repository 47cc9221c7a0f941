"""One backtest: `run` (a strategy with parameters) and `simulate` (signals), both to a `BacktestResult`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.bars.model import Bars, Floats
from engine.errors import ConfigError
from engine.features.table import FeatureSet, owned
from engine.simulation import slots
from engine.simulation.expert import run_expert
from engine.simulation.fills import exit_quantity, level, order_quantity
from engine.simulation.inputs import Execution, Span, prepare
from engine.simulation.slots import COUNTERS, FILL_COLUMNS, REASONS, TRADE_COLUMNS
from engine.simulation.workspace import PRUNED, STATUSES, Workspace
from engine.strategies.program import Names, compile_rules
from engine.strategies.registry import StrategyClass, rules_of
from engine.strategies.rules import Signals, evaluate

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
    limit : float
        ``enter`` only: the price of a limit order, good for one bar; NaN = at the open.
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
    limit: float = float("nan")


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What one run did.

    Parameters
    ----------
    start, stop : int
        Half-open range of bars.
    status : str
        ``valid``, ``no_signal``, ``blocked`` (signals, no fill), ``halted`` (equity <= 0 at a
        close), ``invalid_numeric`` (equity not finite) or ``pruned``.
    halted_at : int or None
        Bar index of the close with equity <= 0.
    equity, position : float64 array, shape (T,)
        Account currency and signed units at each close of the bars that were run; equity[t] is the
        current equity at bar t.
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
        orders_refused, refused_levels, signals_unfilled, entry_beyond_stop, limits_expired.
    next_order : NextOrder
        What one more bar would fill at its open.
    trades_hash : str
        64-bit hash of the fills, hex: equal for runs that trade alike.
    pruned_at : int or None
        Bars done when the pruning callback stopped the run; the open position is only marked.
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
    pruned_at: int | None = None
    reasons: tuple[str, ...] = REASONS


def _table(rows: Floats, columns: tuple[str, ...]) -> Table:
    """Split rows into named columns; codes and stamps become int64."""
    lists = np.array(rows.T, order="C")
    return {
        name: lists[k].astype(np.int64) if name in _INTEGERS else lists[k] for k, name in enumerate(columns)
    }


def next_order_of(work: Workspace) -> NextOrder:
    """Return the order that stands after the last close's decision of a workspace's run."""
    s, span, nan = work.last, work.span, float("nan")
    if s[slots.BROKEN_BAR] >= 0.0 or work.done == 0:
        return NextOrder()
    settings, held = span.settings, float(s[slots.POSITION])
    if s[slots.PENDING_SIDE] != 0.0:
        side, limit = float(s[slots.PENDING_SIDE]), float(s[slots.PENDING_LIMIT])
        bar = int(s[slots.PENDING_BAR])
        close = float(span.columns[slots.CLOSE, work.done - 1])
        price = close * (1.0 + side * settings[slots.SLIP]) if np.isnan(limit) else limit
        cash = float(s[slots.CASH])
        if held != 0.0:  # the position goes first, at the same assumed price
            exit_price = close * (1.0 - np.sign(held) * settings[slots.SLIP])
            cash += held * exit_price - settings[slots.FEE] * abs(held) * exit_price
        quantity, _ = order_quantity(
            work.plan.size_kind, float(s[slots.PENDING_VALUE]), float(s[slots.PENDING_DISTANCE]),
            float(s[slots.PENDING_EQUITY]), cash, price, settings,
        )  # fmt: skip
        base = float(span.columns[slots.CLOSE, bar]) if settings[slots.BASE_IS_CLOSE] else price
        target = float(s[slots.PENDING_TARGET])
        if np.isnan(target) and len(work.plan.shares):
            target = level(work.plan, slots.TARGET_ROW, bar)
        stop = base - side * float(s[slots.PENDING_STOP])
        target = base + side * target
        return NextOrder("enter", int(side), stop, target, float(quantity), held != 0.0, limit=limit)
    if held == 0.0:
        return NextOrder()
    side = 1 if held > 0.0 else -1
    if s[slots.PENDING_EXIT] != 0.0:
        quantity = float(exit_quantity(s, settings[slots.LOT]))
        return NextOrder("exit", side, quantity=quantity, reason=REASONS[int(s[slots.PENDING_EXIT])])
    stop, target = (float(x) if np.isfinite(x) else nan for x in (s[slots.STOP], s[slots.TARGET_PRICE]))
    return NextOrder("hold", side, stop, target, abs(held))


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
    return _result(work, record)


def _result(work: Workspace, record: bool) -> BacktestResult:
    """Read the result of the workspace's last run."""
    span, n = work.span, work.done if record else 0
    fills, trades = (work.fills, work.trades) if record else (work.fills[:0], work.trades[:0])
    halted = int(work.state[slots.HALTED_BAR])
    return BacktestResult(
        span.start,
        span.stop,
        STATUSES[work.status],
        span.start + halted if halted >= 0 else None,
        work.equity[:n],
        work.position[:n],
        _table(trades, TRADE_COLUMNS),
        _table(fills, FILL_COLUMNS),
        work.metrics(),
        dict(zip(COUNTERS, work.counters.astype(int).tolist(), strict=True)),
        next_order_of(work),
        work.trades_hash(),
        work.done if work.status == PRUNED else None,
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
    prune_every: int = 100,
    pruning_callback: Callable[[int, float], bool] | None = None,
    workspace: Workspace | None = None,
) -> BacktestResult:
    """Run a strategy with one set of parameters over [start, stop).

    Parameters
    ----------
    features : FeatureSet
        Columns of the whole series: the span reads slices of them, so that every span sees the
        same values.
    strategy : StrategyClass
        A registered class of kind ``rules`` or ``bars`` (`engine.strategies.registry.get`).
    params : mapping
        Parameters by name; those left out have their defaults.
    execution : Execution
        Settings of fills, size and costs.
    start, stop : int
        Half-open range of bar indices.
    record : bool
        As in `simulate`.
    prune_every : int, >= 1
        Bars between two calls of the callback.
    pruning_callback : callable (step, value) -> bool, or None
        Called after each ``prune_every`` bars while bars remain: step = bars done, value = equity /
        initial cash - 1 at that bar. True ends the run there, status ``pruned``: nothing is forced,
        the metrics are those of the part. Its exceptions pass through unchanged.
    workspace : Workspace or None
        Of these bars, this span and this execution (`workspace_of`): saves checks and buffers. The
        equity and position of a result are its buffers, which the next run overwrites.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ConfigError, DataError, SimulationError
        As in `simulate`; ConfigError also for parameters that the strategy does not declare, and
        for a workspace of something else.

    NaN: features are NaN before their first valid bar; NaN compares false, so nothing is signalled.
    """
    if prune_every < 1:
        raise ConfigError(f"prune_every was {prune_every!r}; expected a number of bars >= 1")
    work = workspace_of(features, execution, start, stop) if workspace is None else workspace
    if workspace is not None:
        _check_workspace(work.span, features.bars, execution, start, stop)
    if strategy.kind == "bars":
        run_expert(work, features, strategy, params, prune_every, pruning_callback)
    else:
        start_rules(work, features, strategy, params)
        work.go(prune_every, pruning_callback)
    return _result(work, record)


def start_rules(
    work: Workspace, features: FeatureSet, strategy: StrategyClass, params: Mapping[str, Any]
) -> None:
    """Begin a workspace's run on the rules of one set of parameters."""
    execution, names = work.span.execution, Names()
    rules = rules_of(strategy, params, features.bars.symbol)
    program = compile_rules(rules, names, sides=execution.sides, size=execution.size)
    table, row_of = features.table_rows(list(names))
    rows = np.array([row_of[name] for name in names] + [-1], dtype=np.int64)
    work.start_program(program, owned(table), rows)


def _check_workspace(span: Span, bars: Bars, execution: Execution, start: int, stop: int) -> None:
    same = span.execution is execution or span.execution == execution
    if not (same and span.bars is bars and (span.start, span.stop) == (start, stop)):
        raise ConfigError(
            f"the workspace is of {span.bars.symbol}, bars [{span.start}, {span.stop}), or of other bars or "
            f"settings; expected those of this run, bars [{start}, {stop}). Make one with workspace_of"
        )


def workspace_of(features: FeatureSet, execution: Execution, start: int, stop: int) -> Workspace:
    """Return buffers that many runs over [start, stop) can share, one after the other.

    Raises
    ------
    ConfigError, DataError
        As in `simulate`.
    """
    return Workspace(prepare(features.bars, execution, start, stop))


def strategy_signals(
    features: FeatureSet, strategy: StrategyClass, params: Mapping[str, Any], execution: Execution
) -> Signals:
    """Return the signals of one set of parameters over the whole series, T bars.

    Raises
    ------
    ConfigError, SimulationError
        As in `engine.strategies.registry.rules_of`.
    """
    rules = rules_of(strategy, params, features.bars.symbol)
    return evaluate(rules, features, execution.sides, execution.size)
