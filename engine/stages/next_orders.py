"""What tonight's fit would do at the next open: paper only, nightfold places no orders."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from engine.bars.model import Bars, iso
from engine.config import Instrument, Strategy
from engine.features.table import FeatureSet
from engine.lake.publish import Lake
from engine.simulation import Execution, run
from engine.simulation.backtest import strategy_signals
from engine.simulation.levels import next_levels
from engine.simulation.slots import EXIT_LONG, EXIT_SHORT
from engine.stages.common import execution_of, median_forecasts
from engine.strategies import registry
from engine.strategies.registry import StrategyClass

NO_TRADE = ("abstain", "empty", "no_candidate")
ORDER_EQUITY = 100_000.0  # orders are stated for this much equity
Row = dict[str, Any]


def next_orders(
    lake: Lake, bars: Bars, features: FeatureSet, instrument: Instrument, entry: Strategy, nightly: list[Row]
) -> list[Row]:
    """Return rows of ``next_orders``: what tonight's fit decides at the last close.

    An order is stated from a flat position, in raw prices and shares; the note of a rules strategy
    says what the same signals mean for somebody who holds a position. A function of kind ``bars``
    sees its position and keeps a state: its order is that of the account that has traded the fit
    from the start of its training window on.
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
    if fit["status"] in NO_TRADE:
        why = {"abstain": "the fit lost on its own training window", "no_candidate": "no trial qualified"}
        return [{**common, "note": why.get(fit["status"], "nothing to trade in the training window")}]
    params = json.loads(fit["params"])
    strategy = registry.get(entry.strategy)
    raw = float(bars.adj[-1])  # not 1 only where a split is known that lies after the last bar
    if strategy.kind == "rules":
        execution = execution_of(instrument, entry)
        order = run(features, strategy, params, execution, start=len(bars) - 1, stop=len(bars)).next_order
        held = _if_held(
            int(strategy_signals(features, strategy, params, execution).bits[-1]), execution.sides
        )
        if order.action == "none":
            return [{**common, "note": f"no entry from flat; {held}"}]
        return [
            {
                **common, "action": order.action, "side": "long" if order.side > 0 else "short",
                **_kind_of(order.limit, raw), "stop": order.stop * raw, "target": order.target * raw,
                "quantity_per_100k": order.quantity / raw * ORDER_EQUITY / execution.initial_cash,
                "note": f"from flat, levels as if filled at {_price_of(order.limit)}; {held}",
            }
        ]  # fmt: skip
    if strategy.kind == "bars":
        return [
            {**common, **_account_order(features, strategy, params, execution_of(instrument, entry), fit)}
        ]
    high, low, _ = median_forecasts(lake, bars, entry.levels.level)
    assert strategy.objective is not None  # noqa: S101  (checked at registration)
    if not math.isfinite(high[-1] + low[-1]):
        return [{**common, "note": "no forecast was stored for the last bar"}]
    orders = next_levels(
        bars, high, low, params["u"], params["v"], objective=strategy.objective, side=entry.levels.side,
        sides=instrument.sides, exit=fit["policy"], tick=instrument.tick,
    )  # fmt: skip
    if not orders:
        return [{**common, "note": "the forecast gives no side"}]
    return [
        {
            **common, "action": "enter", "side": order.leg, "type": "limit", "limit": order.price * raw,
            "target": math.nan if order.target is None else order.target * raw,
            "quantity_per_100k": order.quantity / raw * ORDER_EQUITY, "valid_for": "next_bar",
            "note": "out at the bar's close" if order.exit == "close" else "out at the target or the close",
        }
        for order in orders
    ]  # fmt: skip


def _account_order(
    features: FeatureSet, strategy: StrategyClass, params: Row, execution: Execution, fit: Row
) -> Row:
    """Return what differs from no order, in the row of a strategy of kind ``bars``."""
    bars = features.bars
    start = int(np.searchsorted(bars.ts, fit["train_start"]))
    open_end = replace(execution, close_at_end=False)
    done = run(features, strategy, params, open_end, start=start, stop=len(bars))
    order, equity, raw = done.next_order, float(done.equity[-1]), float(bars.adj[-1])
    note = f"of the account that has traded this fit since {iso(int(bars.ts[start]))[:10]}"
    if order.action == "none" or not equity > 0.0:
        return {"note": f"no order {note}"}
    return {
        "action": order.action, "side": "long" if order.side > 0 else "short",
        **({} if order.action == "hold" else _kind_of(order.limit, raw)),
        "stop": order.stop * raw, "target": order.target * raw,
        "quantity_per_100k": order.quantity / raw * ORDER_EQUITY / equity, "note": note,
    }  # fmt: skip


def _kind_of(limit: float, raw: float) -> Row:
    """Return what says how an order fills; no limit is NaN."""
    if math.isfinite(limit):
        return {"type": "limit", "limit": limit * raw, "valid_for": "next_bar"}
    return {"type": "market", "valid_for": "next_open"}


def _price_of(limit: float) -> str:
    return "its limit" if math.isfinite(limit) else "the last close"


def _if_held(bits: int, sides: str) -> str:
    """Return what the last close's signals mean for a position that somebody holds."""
    long = "sell at the open" if bits & EXIT_LONG else "keep it"
    short = "buy back at the open" if bits & EXIT_SHORT else "keep it"
    return f"holding long: {long}" + (f", holding short: {short}" if sides == "both" else "")
