"""An account that goes on with the position it holds, under other parameters than opened it.

At one close, bar ``at``, the new parameters decide on the account as it stands; from the next bar
on they trade it. A position keeps the stop, the target and the trailing distance that it has:
these are orders in the market. What is new to it are the exit signals and, where there are
several targets, the later ones. An order that still waited is dropped: the new decision stands
in its place. So the order that `carry_on` returns for its last bar is the one it fills when it is
called again on that bar, with more bars after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.bars.model import Bars, Floats, iso
from engine.errors import SimulationError
from engine.features.table import FeatureSet
from engine.simulation import slots
from engine.simulation.backtest import NextOrder, next_order_of, start_rules
from engine.simulation.expert import Expert
from engine.simulation.inputs import Bytes, Execution, prepare
from engine.simulation.workspace import Workspace, plan_of
from engine.strategies.registry import StrategyClass
from engine.strategies.rules import Signals

LEAVE = slots.EXIT_LONG | slots.EXIT_SHORT


@dataclass(frozen=True)
class Account:
    """What an account holds at a close; prices and units are those of the bars.

    Parameters
    ----------
    cash : float
        Account currency.
    position : float
        Signed units, 0 = flat; all that follows but ``halted`` is then without meaning.
    initial : float
        Units at the entry: what shares of exits and targets are taken of.
    entry_price, base : float
        Fill, and the price that distances are measured from.
    extreme : float
        Best price since the entry.
    stop, target, trail : float
        Two prices and the trailing distance; NaN = none.
    trailed, one_target, next_target : int
        Whether the stop has trailed, whether the target is the only one (set by a bar function),
        and the number of the next target.
    signal_ts, entry_ts : int
        Bars of the signal and of the entry, microseconds UTC.
    halted : bool
        Its equity was used up: it is closed and trades no more.
    """

    cash: float
    position: float = 0.0
    initial: float = 0.0
    entry_price: float = math.nan
    base: float = math.nan
    extreme: float = math.nan
    stop: float = math.nan
    target: float = math.nan
    trail: float = math.nan
    trailed: int = 0
    one_target: int = 0
    next_target: int = 0
    signal_ts: int = 0
    entry_ts: int = 0
    halted: bool = False


PRICES = ("entry_price", "base", "extreme", "stop", "target", "trail")  # fields of Account
_SLOTS = {
    "cash": slots.CASH, "position": slots.POSITION, "initial": slots.INITIAL,
    "entry_price": slots.ENTRY_PRICE, "base": slots.BASE, "extreme": slots.EXTREME, "stop": slots.STOP,
    "target": slots.TARGET_PRICE, "trail": slots.TRAIL_DISTANCE, "trailed": slots.TRAILED,
    "one_target": slots.ONE_TARGET, "next_target": slots.NEXT_TARGET,
}  # fmt: skip
_WHOLE = ("trailed", "one_target", "next_target")


@dataclass(frozen=True)
class Carried:
    """What an account did from one close to a later one.

    Parameters
    ----------
    account : Account
        At the last close, before that close's decision.
    order : NextOrder
        What the last close's decision would fill at the next bar.
    before, equity : float
        Equity at the first close and at the last.
    costs : float
        Fees, slippage and financing in between, account currency.
    fills : int
        Number of fills in between.
    """

    account: Account
    order: NextOrder
    before: float
    equity: float
    costs: float
    fills: int


def carry_on(
    features: FeatureSet,
    strategy: StrategyClass,
    params: Mapping[str, Any] | None,
    execution: Execution,
    account: Account,
    *,
    at: int,
    stop: int,
    memory_from: int = 0,
) -> Carried:
    """Decide at the close of bar ``at`` on an account, and run it over the bars after it.

    Parameters
    ----------
    features : FeatureSet
        Columns of the whole series.
    strategy : StrategyClass
        Of kind ``rules`` or ``bars``.
    params : mapping or None
        Parameters by name; None: trade nothing, and leave what is held at the next open.
    execution : Execution
        Settings of fills, size and costs; nothing is closed at the end, whatever they say.
    account : Account
        As it stands at the close of bar ``at``.
    at, stop : int
        The bars (at, stop) are run; ``stop`` = at + 1 only asks for the order.
    memory_from : int
        A function of kind ``bars`` remembers what it would from this bar on, in an account of its own.

    Raises
    ------
    ConfigError, DataError, SimulationError
        As in `engine.simulation.run`; SimulationError also where equity is no longer finite.

    NaN: as in `engine.simulation.run`.
    """
    bars, execution = features.bars, replace(execution, close_at_end=False)
    first = min(_bar_of(bars, account.signal_ts), at) if account.position != 0.0 else at
    span = prepare(bars, execution, first, stop)
    # bar `at` is over: no order fills in it again, it pays nothing again, costs no day again
    span.events[at - first], span.columns[slots.YEAR_SHARE, at - first] = slots.NO_FILL, 0.0
    work, count = Workspace(span), stop - first
    if params is None:
        leave = Signals(np.full(stop, LEAVE, dtype=np.uint8))
        work.start(np.array(leave.bits[first:]), plan_of(leave, first, stop))
    elif strategy.kind == "bars":
        expert = Expert(features, strategy, params, span)
        expert.memory[:] = _memory(features, strategy, params, execution, memory_from, at)
        bits: Bytes = np.zeros(count, dtype=np.uint8)
        work.start(bits, expert.plan, expert.loop)
    else:
        start_rules(work, features, strategy, params)
    _put(work, account, at)
    work.go(0, None)
    if work.state[slots.BROKEN_BAR] >= 0.0:
        raise SimulationError(
            f"strategy {strategy.name} on {bars.symbol}: equity is not a finite number at bar "
            f"{iso(int(bars.ts[first + int(work.state[slots.BROKEN_BAR])]))}, with {params}"
        )
    costs = sum(work.state[slot] for slot in
                (slots.TOTAL_FEES, slots.TOTAL_SLIPPAGE, slots.TOTAL_FINANCED))  # fmt: skip
    return Carried(
        _read(work), next_order_of(work), float(work.equity[at - first]), float(work.equity[-1]),
        float(costs), int(work.state[slots.N_FILLS]),
    )  # fmt: skip


def _bar_of(bars: Bars, ts: int) -> int:
    """Return the bar of a stamp, or the last one before it where bars were corrected away."""
    return max(int(np.searchsorted(bars.ts, ts, side="right")) - 1, 0)


def _memory(
    features: FeatureSet, strategy: StrategyClass, params: Mapping[str, Any], execution: Execution,
    start: int, stop: int,
) -> Floats:  # fmt: skip
    """Return what a bar function remembers before bar ``stop``, in an account of its own from ``start``."""
    span = prepare(features.bars, execution, min(start, stop), stop)
    expert, work = Expert(features, strategy, params, span), Workspace(span)
    work.start(np.zeros(span.stop - span.start, dtype=np.uint8), expert.plan, expert.loop)
    work.go(0, None)
    return expert.memory


def _put(work: Workspace, account: Account, at: int) -> None:
    """Make the state of a run that was begun that of the account at bar ``at`` of the series."""
    s, bars, first = work.state, work.span.bars, work.span.start
    work.stand_at(at - first)
    s[slots.CASH] = account.cash
    if account.halted:
        s[slots.HALTED_BAR] = 0.0
    if account.position == 0.0:
        return
    for name, slot in _SLOTS.items():
        s[slot] = getattr(account, name)
    side = math.copysign(1.0, account.position)
    s[slots.STOP] = -side * np.inf if math.isnan(account.stop) else account.stop
    s[slots.TARGET_PRICE] = side * np.inf if math.isnan(account.target) else account.target
    s[slots.SIGNAL_BAR] = _bar_of(bars, account.signal_ts) - first
    s[slots.ENTRY_BAR] = _bar_of(bars, account.entry_ts) - first


def _read(work: Workspace) -> Account:
    """Return the account of a run's last state."""
    s, span = work.last, work.span
    halted = bool(s[slots.HALTED_BAR] >= 0.0)
    if s[slots.POSITION] == 0.0:
        return Account(float(s[slots.CASH]), halted=halted)
    found = {name: float(s[slot]) for name, slot in _SLOTS.items()}
    found |= {name: math.nan for name in ("stop", "target") if math.isinf(found[name])}
    whole = {name: int(found[name]) for name in _WHOLE}
    signal, entry = (int(span.bars.ts[span.start + int(s[slot])])
                     for slot in (slots.SIGNAL_BAR, slots.ENTRY_BAR))  # fmt: skip
    return Account(**{**found, **whole}, signal_ts=signal, entry_ts=entry, halted=halted)  # type: ignore[arg-type]
