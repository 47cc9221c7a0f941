"""The levels objective against a scalar loop, its rows against the bars, and its trades and orders."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.errors import LevelsInputError
from engine.simulation import levels

RULES = {
    "objective": "entry_exit",
    "side": "maxdiff",
    "sides": "both",
    "fee_bps": 5.0,
    "slippage_bps": 2.0,
    "fee_mode": "per_side",
    "fill": "through:1",
    "tick": 0.01,
}
FEES = ((0.0, 0.0, 0.0), (0.0005, 0.0, 0.0), (0.0005, 0.0005, 0.0007))


def random_problem(rng, n, touch, fees, coarse):
    """Rows with bars on both sides of 0, exact zeros, ties, crossed forecasts and untraded legs."""
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    high, low = np.where(rng.random(n) < 0.1, 0.0, high), np.where(rng.random(n) < 0.1, 0.0, low)
    low = np.minimum(low, high)
    forecast = rng.normal(0, 0.02, (2, n))
    if coarse:
        high, low, forecast = np.round(high, 2), np.round(low, 2), np.round(forecast, 2)
    close = low + (high - low) * rng.choice([0.0, 0.3, 0.5, 1.0], n)
    close = np.clip(close, low, high)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], (2, n))
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    index = np.arange(1, n + 1)
    return levels.LevelsProblem(
        close, high, low, *forecast, *weights, delta, np.full(n, 100.0), index, *fees, touch, 0.01
    )


def reference_value(p, u, v, exit):
    """The objective as the specification words it: one row at a time, plain Python."""
    total = []
    for i in range(len(p)):
        h = min(max(p.forecast_high[i] + u, 0.0), 10.0)
        low_level = min(max(p.forecast_low[i] + v, -1.0), 0.0)
        if p.touch:
            long_entry, long_target = low_level > p.low[i], h <= p.high[i]
            short_entry, short_target = h < p.high[i], low_level >= p.low[i]
        else:
            long_entry = short_target = low_level >= p.low[i] + p.delta[i]
            short_entry = long_target = h <= p.high[i] - p.delta[i]
        if exit != "target":
            long_target = short_target = False
        if long_entry:
            sold = h - p.fee_target if long_target else p.close[i] - p.fee_close
            total.append(p.long_weight[i] * (sold - low_level - p.fee_entry))
        if short_entry:
            bought = low_level + p.fee_target if short_target else p.close[i] + p.fee_close
            total.append(p.short_weight[i] * (h - bought - p.fee_entry))
    return math.fsum(total)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 25), touch=st.booleans(), coarse=st.booleans())
def test_value_equals_a_plain_loop_for_every_trigger_exit_and_fee_rule(seed, n, touch, coarse):
    rng = np.random.default_rng(seed)
    offsets = [(0.0, 0.0), *rng.normal(0, 0.02, (2, 2)), np.round(rng.normal(0, 0.02, 2), 2)]
    for fees in FEES:
        p = random_problem(rng, n, touch, fees, coarse)
        for exit in levels.EXITS:
            for u, v in offsets:
                assert levels.value(p, u, v, exit) == pytest.approx(
                    reference_value(p, u, v, exit), rel=1e-12, abs=1e-12
                )


@pytest.mark.parametrize("touch", [True, False])
def test_path_without_finer_bars_is_close_bit_for_bit(touch):
    p = random_problem(np.random.default_rng(3), 200, touch, FEES[2], coarse=False)
    path, close = (levels.bar_net(p, 0.004, -0.003, exit) for exit in ("path", "close"))
    assert path.net.tobytes() == close.net.tobytes()
    assert not path.long_target.any() and not path.short_target.any()
    assert levels.bar_net(p, 0.004, -0.003, "target").long_target.any()


def one_row(close=0.0, high=0.01, low=-0.01, up=0.005, down=-0.005, a=1.0, b=1.0, delta=0.0, touch=True):
    columns = [np.array([x], dtype=float) for x in (close, high, low, up, down, a, b, delta, 100.0)]
    return levels.LevelsProblem(*columns, np.array([1]), 0.0, 0.0, 0.0, touch)


@pytest.mark.parametrize(
    ("row", "long", "short", "long_target", "short_target"),
    [
        # the bar's high is the base: at level 0 a target is touched, a short entry is not passed
        (one_row(close=-0.005, high=0.0, up=-0.001), True, False, True, False),
        (one_row(close=0.005, low=0.0, down=0.001), False, True, False, True),
        # touched exactly: strict for entries, enough for targets
        (one_row(high=0.005), True, False, True, False),
        (one_row(low=-0.005), False, True, False, True),
        # the whole bar below the base: nothing is sold; above it: nothing is bought
        (one_row(close=-0.02, high=-0.01, low=-0.03), True, False, False, False),
        (one_row(close=0.02, high=0.03, low=0.01), False, True, False, False),
        # closed trigger: delta through the level is enough, a hair less is not
        (one_row(high=0.0051, low=-0.02, delta=0.0001 - 1e-12, touch=False), True, True, True, True),
        (one_row(high=0.0051, low=-0.02, delta=0.0001 + 1e-12, touch=False), True, False, False, False),
        # clipped at the base: a crossed pair still trades at 0, never on the wrong side
        (one_row(up=-0.5, down=0.5), True, True, True, True),
    ],
)
def test_fills_at_the_edges(row, long, short, long_target, short_target):
    got = levels.bar_net(row, 0.0, 0.0, "target")
    assert (got.long[0], got.short[0]) == (long, short)
    assert (got.long_target[0], got.short_target[0]) == (long_target, short_target)


def test_costs_and_gross_are_told_apart():
    p = replace(one_row(close=0.002), fee_entry=0.001, fee_target=0.002, fee_close=0.004)
    target, close = levels.bar_net(p, 0.0, 0.0, "target"), levels.bar_net(p, 0.0, 0.0, "close")
    assert target.gross[0] == pytest.approx(0.02) and target.costs[0] == pytest.approx(0.006)
    assert close.gross[0] == pytest.approx(0.007 + 0.003) and close.costs[0] == pytest.approx(0.01)
    assert close.net[0] == pytest.approx(0.0)


def series(seed=0, n=400, **options):
    """Bars and two forecasts (log moves) with the noise of a real model, some of them crossed."""
    bars = make_bars(seed, n, **options)
    rng = np.random.default_rng(seed)
    return bars, rng.normal(0.008, 0.006, n), rng.normal(-0.008, 0.006, n)


@pytest.mark.parametrize("objective", ["entry_exit", "always_on"])
@pytest.mark.parametrize("exit", ["close", "target"])
def test_long_only_removes_the_short_leg_and_nothing_else(objective, exit):
    bars, up, down = series()
    both, long = (
        levels.problem(bars, up, down, 100, 300, **{**RULES, "objective": objective, "sides": sides})
        for sides in ("both", "long")
    )
    with_short, without = (levels.bar_net(p, 0.002, 0.001, exit) for p in (both, long))
    assert with_short.short.any() and not without.short.any() and not long.short_weight.any()
    assert without.net.tobytes() == (with_short.long_gross - with_short.long_costs).tobytes()


def test_no_row_at_all_earns_nothing():
    bars, up, down = series()
    p = levels.problem(bars, up, down, 100, 100, **RULES)
    assert len(p) == 0 and levels.value(p, 0.01, 0.01, "target") == 0.0
    assert len(levels.trades(p, bars, 0.0, 0.0, "close").index) == 0


@pytest.mark.parametrize(("base", "level", "tick", "buy", "price"), [
    (100.0, -0.00123, 0.01, True, 99.87),
    (100.0, 0.00123, 0.01, False, 100.13),
    (100.0, 0.0, 0.01, True, 100.0),
    (99.99, -0.0001 / 0.9999, 0.01, True, 99.98),  # on the tick but for rounding: stays there
    (99.99, 0.0001 / 0.9999, 0.01, False, 100.0),
    (100.0, -0.00123, 0.0, True, 99.877),
])  # fmt: skip
def test_prices_round_buys_down_and_sells_up(base, level, tick, buy, price):
    got = levels.order_prices(np.array([base]), np.array([level]), tick, buy=buy)
    assert got[0] == pytest.approx(price, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.01, -0.004])
@pytest.mark.parametrize("ticks", [1, 2])
def test_fills_are_those_of_the_order_on_the_tick_grid(shift, ticks):
    """Whole-tick arithmetic: a buy at L fills where low <= L - k ticks, a sell mirrored."""
    bars, up, down = series(5, 3000, price=20.0)
    p = levels.problem(
        bars, up, down, 1, 3000, **{**RULES, "fill": f"through:{ticks}", "objective": "always_on"}
    )
    got = levels.bar_net(p, -shift, shift, "close")
    assert (got.low_level == 0).sum() > 50
    buy = levels.order_prices(p.base, got.low_level, p.tick, buy=True)
    sell = levels.order_prices(p.base, got.high_level, p.tick, buy=False)
    whole = [np.rint(x / p.tick) for x in (buy, sell, bars.low[p.index], bars.high[p.index])]
    traded = p.long_weight > 0
    assert np.array_equal(got.long, traded & (whole[2] <= whole[0] - ticks))
    assert np.array_equal(got.short, traded & (whole[3] >= whole[1] + ticks))


@pytest.mark.parametrize("exit", levels.EXITS)
def test_trades_add_up_to_the_change_of_equity(exit):
    bars, up, down = series(2)
    up[150] = np.nan
    p = levels.problem(bars, up, down, 100, 300, **{**RULES, "objective": "always_on"})
    done, scored = levels.trades(p, bars, 0.001, 0.002, exit), levels.bar_net(p, 0.001, 0.002, exit)
    assert len(done.index) == scored.long.sum() + scored.short.sum() > 40
    equity = levels.equity(100_000.0, scored, 100, 300)
    assert equity[-1] - 100_000 == pytest.approx(100_000 * done.net.sum(), rel=1e-12)
    assert equity[51] == equity[50]  # the bar without a row
    assert np.array_equal(done.index, np.sort(done.index))
    # A trade's result follows from its levels; its prices are better by less than a tick a leg.
    moved = done.side * (done.exit_level - done.entry_level)
    assert done.gross == pytest.approx(moved, abs=1e-15)
    by_price = done.side * (done.exit_price - done.entry_price) * done.quantity
    assert (by_price >= done.gross - 1e-12).all()
    assert (by_price <= done.gross + 2 * p.tick.max() * done.quantity + 1e-12).all()
    at_close = ~done.at_target
    assert np.array_equal(done.exit_price[at_close], bars.close[done.index[at_close]])
    assert done.at_target.any() == (exit == "target")


@pytest.mark.parametrize("objective", ["entry_exit", "always_on"])
@pytest.mark.parametrize("exit", levels.EXITS)
def test_nothing_fills_in_a_bar_without_volume(objective, exit):
    bars, up, down = series(6)
    rules = {**RULES, "objective": objective}
    p = levels.problem(bars, up, down, 100, 300, **rules, fill_on_zero_volume=True)
    filled = levels.trades(p, bars, 0.0, 0.0, exit).index
    volume = bars.volume.copy()
    volume[filled[::2]] = 0.0
    quiet = replace(bars, volume=volume)
    p = levels.problem(quiet, up, down, 100, 300, **rules)
    got = levels.trades(p, quiet, 0.0, 0.0, exit).index
    assert got.tolist() == [t for t in filled.tolist() if volume[t] > 0] != filled.tolist()
    assert not levels.bar_net(p, 0.0, 0.0, exit).net[volume[p.index] == 0].any()


@pytest.mark.parametrize("objective", ["entry_exit", "always_on"])
@pytest.mark.parametrize("exit", ["close", "target"])
def test_next_orders_are_the_ones_that_one_more_bar_fills(objective, exit):
    bars, up, down = series(4, 260)
    rules = {**RULES, "objective": objective}
    live = {name: rules[name] for name in ("objective", "side", "sides", "tick")}
    done = levels.trades(levels.problem(bars, up, down, 200, 260, **rules), bars, 0.003, 0.002, exit)
    assert len(done.index) > 10
    for bar, side, quantity, price in zip(
        done.index, done.side, done.quantity, done.entry_price, strict=True
    ):
        orders = levels.next_levels(
            bars.slice(None, bar), up[:bar], down[:bar], 0.003, 0.002, exit=exit, **live
        )
        assert len(orders) == (2 if objective == "always_on" else 1)
        order = next(order for order in orders if order.leg == ("long" if side > 0 else "short"))
        assert (order.price, order.quantity) == (price, quantity)
        assert order.side == ("buy" if side > 0 else "sell")
        assert order.exit == exit and (order.target is not None) == (exit == "target")


def test_next_orders_need_a_forecast_and_skip_a_crossed_one():
    bars, up, down = series()
    live = {"objective": "always_on", "side": "maxdiff", "sides": "long", "exit": "path", "tick": 0.01}
    up[-1], down[-1] = 0.01, -0.01
    (order,) = levels.next_levels(bars, up, down, 0.0, 0.0, **live)
    assert (order.leg, order.exit, order.target) == ("long", "close", None)
    assert order.level == pytest.approx(math.exp(-0.01) - 1)
    down[-1] = 0.02
    assert levels.next_levels(bars, up, down, 0.0, 0.0, **live) == ()
    down[-1] = np.nan
    with pytest.raises(
        LevelsInputError, match=r"^TEST 1d: no finite forecast was issued at the last bar \(.*\); run the"
    ):
        levels.next_levels(bars, up, down, 0.0, 0.0, **live)


def test_arrays_are_frozen_and_the_kernel_compiles():
    levels.warm()
    with pytest.raises(ValueError, match="read-only"):
        one_row().close[0] = 1.0
