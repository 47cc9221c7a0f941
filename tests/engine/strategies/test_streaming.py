"""Bar by bar comes to the same as all bars at once: features, bits, levels and fills of every strategy.

The rules are read here in plain Python, one bar after the other, from values that `FeatureStream`
gives at that bar's close; nothing after the bar exists yet.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.features.stream import FeatureStream
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, simulate
from engine.strategies import registry
from engine.strategies.expressions import Column, any_of
from engine.strategies.params import Float, Int
from engine.strategies.registry import Strategy
from engine.strategies.rules import (
    TIE,
    Risk,
    Rules,
    Signals,
    adx,
    atr,
    bollinger,
    cross_above,
    cross_below,
    evaluate,
    highest,
    price,
    rsi,
    sma,
)

TICK = 0.01
EXECUTION = Execution(tick=TICK, borrow_bps_year=50.0)


class Words(Strategy):
    """Every word of the language."""

    name = "words"
    parameters = {"n": Int(2, 40, default=9), "k": Float(0.5, 3.0, default=1.5)}

    @staticmethod
    def rules(p):
        close, slow = price("close"), sma("close", 3 * p.n)
        return Rules(
            enter_long=cross_above(sma("close", p.n), slow) | (close > highest(p.n).lag(1)) & (rsi(5) < 90),
            enter_short=cross_below(rsi(7), 40) & (adx(5) >= 10) | (close <= slow * 0.96 - 0.05),
            exit_long=close.lag(2) >= bollinger("close", 20, 2.0, "upper"),
            exit_short=cross_above(close, slow.lag(1)),
            stop=p.k * atr(14).lag(1),
            trail=3 * atr(9) + 0.05,
            targets=((2 * atr(14), 0.5), (4 * atr(14), 1.0)),
            size=Risk(0.02, atr=2.0),
        )


class Stream:
    """What a live account would have: the values of the bars so far, and what the rules say of the last."""

    def __init__(self, rules):
        self.rules, self.rows = rules, []
        self.features = FeatureStream(rules.columns(), TICK)

    def value(self, column, bars_ago=0):
        at = len(self.rows) - 1 - bars_ago - column.bars_back
        if at < 0:
            return math.nan
        value = self.rows[at][column.name]
        value = value * column.scale if column.scale != 1.0 else value
        return value + column.offset if column.offset != 0.0 else value

    def gap(self, condition, bars_ago=0):
        """Left less right, and how far apart still counts as equal."""
        left = self.value(condition.left, bars_ago)
        if not isinstance(condition.right, Column):
            return left - condition.right, 0.0
        right = self.value(condition.right, bars_ago)
        return left - right, TIE * max(abs(left), abs(right)) if left == left and right == right else math.nan

    def holds(self, condition):
        now, tie = self.gap(condition)
        if condition.operator.startswith("cross"):
            before, earlier = self.gap(condition, 1)
            if condition.operator == "cross_above":
                return now > tie and before <= earlier
            return now < -tie and before >= -earlier
        return {">": now > tie, ">=": now >= -tie, "<": now < -tie, "<=": now <= tie}[condition.operator]

    def fires(self, group):
        if group is None:
            return False
        return any(all(self.holds(condition) for condition in clause) for clause in any_of(group).clauses)

    def append(self, bar):
        """Take a bar; return bits, stop, trail, size distance and targets at its close."""
        named = dict(zip(("open", "high", "low", "close", "volume"), bar, strict=True))
        self.rows.append({**named, **self.features.append(*bar)})
        rules = self.rules
        groups = (rules.enter_long, rules.enter_short, rules.exit_long, rules.exit_short)
        bits = sum(bit for bit, group in zip((1, 2, 4, 8), groups, strict=True) if self.fires(group))
        asked = [
            rules.stop,
            rules.trail,
            rules.size.atr * atr(14),
            *(distance for distance, _ in rules.targets),
        ]
        return bits, [None if column is None else self.value(column) for column in asked]


def streamed(rules, bars):
    """The signals of all bars, each made when its bar was the last one."""
    stream = Stream(rules)
    columns = [getattr(bars, name).tolist() for name in ("open", "high", "low", "close", "volume")]
    said = [stream.append(bar) for bar in zip(*columns, strict=True)]
    stop, trail, size, *targets = (
        None if column[0] is None else np.array(column)
        for column in zip(*(levels for _, levels in said), strict=True)
    )
    told = np.array([bits for bits, _ in said], dtype=np.uint8)
    shares = [share for _, share in rules.targets]
    return Signals(told, stop, tuple(zip(targets, shares, strict=True)), trail, 1, rules.size.share, size)


CASES = [
    *((registry.get(name), {}) for name in registry.names() if registry.get(name).kind == "rules"),
    (Words, {}),
    (Words, {"n": 4, "k": 0.75}),
]


@pytest.mark.parametrize(("cls", "params"), CASES, ids=lambda case: getattr(case, "name", None))
def test_bar_by_bar_gives_the_signals_and_fills_of_one_run(cls, params):
    bars = make_bars(21, 700, tick=TICK, volatility=0.015)
    features, rules = FeatureSet(bars, TICK), registry.rules_of(cls, params)
    live, batch = streamed(rules, bars), evaluate(rules, features, "both")
    np.testing.assert_array_equal(live.bits, batch.bits)
    assert np.bitwise_or.reduce(live.bits) == 15  # every group fired
    for name in ("stop", "trail", "size_distance"):
        if getattr(batch, name) is None:
            assert getattr(live, name) is None
        else:
            np.testing.assert_array_equal(getattr(live, name), getattr(batch, name))
    for (mine, share), (theirs, other) in zip(live.targets, batch.targets, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert share == other

    for start, stop in ((0, 700), (311, 640)):  # all bars, and a fold
        at_once = run(features, cls, params, EXECUTION, start=start, stop=stop)
        by_signals = simulate(bars, live, EXECUTION, start=start, stop=stop)
        in_pieces = run(features, cls, params, EXECUTION, start=start, stop=stop, prune_every=1,
                        pruning_callback=lambda step, value: False)  # fmt: skip
        assert len(at_once.trades["pnl"]) > 3
        for other in (by_signals, in_pieces):
            assert other.trades_hash == at_once.trades_hash and other.counters == at_once.counters
            np.testing.assert_array_equal(other.equity, at_once.equity)
            for column, values in at_once.fills.items():
                np.testing.assert_array_equal(other.fills[column], values)


def test_next_order_of_each_bar_is_what_the_next_bar_fills():
    """Bars arrive one at a time: the order told at a close is the entry that the following run books."""
    bars = make_bars(21, 260, tick=TICK, volatility=0.015)
    execution = replace(EXECUTION, close_at_end=False)
    done = run(FeatureSet(bars, TICK), Words, {}, execution, start=0, stop=260)
    entered = done.fills["reason"] == 0
    stamps, sides = done.fills["ts"][entered].tolist(), done.fills["side"][entered].tolist()
    told = {}
    for t in range(150, 259):
        part = bars.slice(0, t + 1)
        order = run(FeatureSet(part, TICK), Words, {}, execution, start=0, stop=t + 1).next_order
        if order.action == "enter" and bars.volume[t + 1] > 0:
            told[int(bars.ts[t + 1])] = order.side
    filled = {ts: side for ts, side in zip(stamps, sides, strict=True) if ts > bars.ts[150]}
    assert told and told == filled
