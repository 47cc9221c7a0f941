"""What tonight's fit would do at the next open: paper only, nightfold places no orders."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.bars.model import Bars, iso
from engine.config import Instrument, Strategy
from engine.features.table import FeatureSet
from engine.lake.publish import Lake
from engine.simulation import Execution, NextOrder
from engine.simulation.backtest import strategy_signals
from engine.simulation.carry import carry_on
from engine.simulation.fills import SLACK
from engine.simulation.levels import next_levels
from engine.simulation.slots import EXIT_LONG, EXIT_SHORT
from engine.stages._forward import NO_TRADE, account_at, fitted
from engine.stages.common import execution_of, median_forecasts
from engine.strategies import registry
from engine.strategies.registry import StrategyClass

ORDER_EQUITY = 100_000.0  # orders are stated for this much equity
Row = dict[str, Any]


def next_orders(
    lake: Lake, bars: Bars, features: FeatureSet, instrument: Instrument, entry: Strategy, nightly: list[Row],
    carried: Row | None = None, *, finer: bool = False,
) -> list[Row]:  # fmt: skip
    """Return rows of ``next_orders``: what tonight's fit decides at the last close, one row an order.

    The position is that of ``carried``, the newest row of the forward record; without one it is flat.
    Raw prices at the instrument's tick (`on_tick`) and shares, quantities per `ORDER_EQUITY` of the
    record's equity. The note of a rules
    strategy says what the same signals mean for somebody who holds something else. A levels order of
    policy path has a target where the symbol has finer bars (``finer``): its fit and backtest credit one.
    """
    asof = int(bars.ts[-1])
    tonight = [r for r in nightly if r["strategy"] == entry.label and r["asof"] == asof and r["selected"]]
    if not tonight:
        return []
    fit = tonight[0]
    common: Row = {
        "symbol": bars.symbol, "strategy": entry.label, "policy": fit["policy"], "asof": asof,
        "action": "none", "side": "", "type": "", "limit": math.nan, "stop": math.nan, "target": math.nan,
        "quantity_per_100k": 0.0, "valid_for": "", "note": "",
    }  # fmt: skip
    strategy = registry.get(entry.strategy)
    if strategy.kind != "levels":
        rows = _of_account(bars, features, instrument, entry, fit, carried)
        return [_priced({**common, **row}, instrument.tick) for row in rows]
    if fit["status"] in NO_TRADE:
        return [{**common, "note": _why(fit)}]
    params, raw = fitted(fit) or {}, float(bars.adj[-1])
    high, low, _ = median_forecasts(lake, bars, entry.levels.level)
    assert strategy.objective is not None  # noqa: S101  (checked at registration)
    if not math.isfinite(high[-1] + low[-1]):
        return [{**common, "note": "no forecast was stored for the last bar"}]
    exit = "target" if fit["policy"] == "path" and finer else fit["policy"]  # good once the entry filled
    orders = next_levels(
        bars, high, low, params["u"], params["v"], objective=strategy.objective, side=entry.levels.side,
        sides=instrument.sides, exit=exit, tick=instrument.tick,
    )  # fmt: skip
    if not orders:
        return [{**common, "note": "the forecast gives no side"}]
    rows = [
        {
            **common, "action": "enter", "side": order.leg, "type": "limit", "limit": order.price * raw,
            "target": math.nan if order.target is None else order.target * raw,
            "quantity_per_100k": order.quantity / raw * ORDER_EQUITY, "valid_for": "next_bar",
            "note": "out at the bar's close" if order.exit == "close" else "out at the target or the close",
        }
        for order in orders
    ]  # fmt: skip
    return [_priced(row, instrument.tick) for row in rows]


def on_tick(price: float, tick: float, *, buy: bool) -> float:
    """Return a raw price at the tick, as the simulator rounds limits: a buy down, a sale up.

    So a limit never pays more and a target never takes less than what was computed, and a stop, which
    the simulator leaves where it was computed, never loses more. A tick of 0 (unknown) leaves the price.
    NaN: no price, which stays NaN.
    """
    if tick <= 0.0 or not math.isfinite(price):
        return price
    steps = price / tick
    whole = math.floor(steps + SLACK) if buy else math.ceil(steps - SLACK)
    # 471.79, not 471.79000000000002; below one tick no step is left
    return float(f"{whole * tick:.12g}") if whole > 0 else price


def _priced(row: Row, tick: float) -> Row:
    """Return an order with its prices at the tick; stop and target trade the other way than its limit."""
    long = row["side"] == "long"
    buys = {"limit": long, "stop": not long, "target": not long}
    return row | {name: on_tick(row[name], tick, buy=buy) for name, buy in buys.items()}


def _of_account(
    bars: Bars, features: FeatureSet, instrument: Instrument, entry: Strategy, fit: Row, carried: Row | None
) -> list[Row]:
    """Return what differs from no order, in the rows of a strategy that may hold a position."""
    last, raw = len(bars) - 1, float(bars.adj[-1])  # raw: not 1 where a split is known after the last bar
    strategy, execution = registry.get(entry.strategy), execution_of(instrument, entry)
    account, _ = account_at(carried, bars, last, execution.initial_cash)
    params = fitted(fit)
    done = carry_on(
        features, strategy, params, execution, account, at=last, stop=last + 1,
        memory_from=int(np.searchsorted(bars.ts, fit["train_start"])),
    )  # fmt: skip
    order = done.order
    held_since = f"held since {iso(account.entry_ts)[:10]} in the forward record"
    since = held_since if account.position != 0.0 else ""
    note = _why(fit, since)
    if params is not None:
        note = _note(features, strategy, params, execution, order, since)
    if order.action == "none":
        return [{"note": note}]
    per = ORDER_EQUITY / done.equity / raw if done.equity > 0.0 else math.nan  # used up: a share of nothing
    row: Row = {
        "action": order.action, "side": "long" if order.side > 0 else "short",
        **({} if order.action == "hold" else _kind_of(order.limit, raw)),
        "stop": order.stop * raw, "target": order.target * raw, "quantity_per_100k": order.quantity * per,
        "note": note,
    }  # fmt: skip
    if not order.reverses:
        return [row]
    held = "long" if account.position > 0 else "short"
    leave: Row = {"action": "exit", "side": held, **_kind_of(math.nan, raw), "note": note}
    return [{**leave, "quantity_per_100k": abs(account.position) * per}, row]


def _note(
    features: FeatureSet, strategy: StrategyClass, params: Row, execution: Execution, order: NextOrder,
    since: str,
) -> str:  # fmt: skip
    """Return what the order rests on, and what the signals mean for somebody who holds something else."""
    opens = f", levels as if filled at {_price_of(order.limit)}" if order.action == "enter" else ""
    stands = (since or "from flat") + opens if since or opens else "no entry from flat"
    if strategy.kind == "bars":  # its function would have to be asked anew, with another position
        return stands
    bits = int(strategy_signals(features, strategy, params, execution).bits[-1])
    rules = registry.rules_of(strategy, params, features.bars.symbol)
    longs, shorts = rules.enter_long is not None, rules.enter_short is not None
    return "; ".join([stands, *_if_held(bits, longs, shorts and execution.sides == "both")])


def _why(fit: Row, since: str = "") -> str:
    """Return why a fit trades nothing."""
    why = {"abstain": "the fit lost on its own training window", "no_candidate": "no trial qualified"}
    said = why.get(fit["status"], "nothing to trade in the training window")
    return f"{said}; {since}" if since else said


def _kind_of(limit: float, raw: float) -> Row:
    """Return what says how an order fills; no limit is NaN."""
    if math.isfinite(limit):
        return {"type": "limit", "limit": limit * raw, "valid_for": "next_bar"}
    return {"type": "market", "valid_for": "next_open"}


def _price_of(limit: float) -> str:
    return "its limit" if math.isfinite(limit) else "the last close"


def _if_held(bits: int, longs: bool, shorts: bool) -> list[str]:
    """Return what the last close's signals mean for a position of a side that the strategy takes."""
    long = "sell at the open" if bits & EXIT_LONG else "keep it"
    short = "buy back at the open" if bits & EXIT_SHORT else "keep it"
    said = [f"holding long: {long}"] * longs + [f"holding short: {short}"] * shorts
    return [", ".join(said)] if said else []
