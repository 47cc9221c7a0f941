"""Limit entries, sizes, the cash rule, the costs of holding; `case` runs each long and, mirrored, short."""

import numpy as np
import pytest

QUIET = (100.0, 101.0, 99.0, 100.0)  # a bar that reaches no level of these tests
ENTER, OPPOSITE, EXIT, EXIT_OPPOSITE = 1, 2, 4, 8  # as if long; `case` mirrors them


def test_row_9_a_price_exactly_one_tick_beyond_the_limit_fills_at_every_price(case):
    for ticks in range(9000, 9990, 11):
        limit, low = ticks / 100.0, (ticks - 1) / 100.0
        row = (100.0, 101.0, low, 100.0)
        assert len(case.simulate([row], limit=limit).fills["ts"]) == 1, limit
        assert len(case.simulate([row], limit=low).fills["ts"]) == 0, low
        assert len(case.simulate([row], limit=low, limit_fill="touch").fills["ts"]) == 1, low


def test_row_9_a_better_open_fills_at_the_limit_unless_improvement_is_on(case):
    bar = (96.0, 101.0, 95.0, 100.0)
    assert case.simulate([bar], limit=98.0).fills["price"].tolist() == [case.price(98.0)]
    better = case.simulate([bar], limit=98.0, limit_improvement=True)
    assert better.fills["price"].tolist() == [case.price(96.0)]


def test_row_9_the_limit_is_rounded_away_from_the_price(case):
    asked = 98.0074 if case.side == "long" else 98.0074  # a buy rounds down, a sell (its mirror) up
    result = case.simulate([(100.0, 101.0, 90.0, 100.0)], limit=asked)
    assert result.fills["price"] == pytest.approx([case.price(98.0)], abs=1e-9)


def test_row_9_the_size_is_taken_at_the_limit_and_a_stop_is_live_in_its_bar(case):
    bar = (100.0, 101.0, 94.0, 100.0)
    result = case.simulate([bar], limit=98.0, size=(3, 980.0), stop=3.0)
    price = 98.0 if case.side == "long" else 102.0
    assert result.fills["quantity"] == pytest.approx([980.0 / price] * 2)
    assert case.exits(result) == [(1, 95.0, "stop")]


@pytest.mark.parametrize("limit", [np.nan, np.inf])
def test_row_9_a_limit_that_is_no_price_refuses_the_entry(case, limit):
    result = case.simulate([QUIET, QUIET], limit=limit)
    assert (result.status, result.counters["refused_levels"]) == ("blocked", 1)


def test_row_9_a_bar_without_volume_lets_a_limit_expire_and_a_reversal_exits_first(case):
    volume = np.array([1000.0, 0.0, 1000.0])
    expired = case.simulate([(100.0, 101.0, 90.0, 100.0)] * 2, limit=98.0, volume=volume)
    assert (len(expired.fills["ts"]), expired.counters["limits_expired"]) == (0, 1)
    rows = [(100.0, 101.0, 90.0, 100.0), QUIET, QUIET]
    turned = case.simulate(rows, limit=98.0, bits={1: OPPOSITE}, on_opposite="reverse")
    assert case.exits(turned) == [(2, 100.0, "reverse")]  # the other side's limit, 98, is better: filled
    assert turned.position[2] == -turned.position[1]


def test_row_9_the_next_order_is_the_limit(case):
    order = case.simulate([], limit=98.0, stop=3.0).next_order
    assert (order.action, order.limit, order.stop) == ("enter", case.price(98.0), case.price(95.0))


def test_row_14_a_limit_entry_never_meets_its_target_in_its_bar(case):
    bar = (100.0, 112.0, 97.0, 105.0)
    result = case.simulate(
        [bar], limit=98.0, targets=((10.0, 1.0),), target_in_entry_bar="after_open_entry"
    )  # fmt: skip
    assert case.exits(result) == []


def test_size_fraction_1_spends_exactly_all_cash(case):
    result = case.simulate([QUIET], size=(0, 1.0), initial_cash=1000.0, fee_bps=10.0)
    assert result.fills["quantity"][0] == pytest.approx(9.990010, abs=5e-7)
    if case.side == "long":
        assert result.equity[-1] - result.position[-1] * 100.0 == pytest.approx(0.0, abs=1e-9)
    assert result.counters["orders_cut"] == 0


def test_size_risk_units_and_notional(case):
    risk = case.simulate([QUIET], size=(1, 0.01), size_distance=4.0)
    assert risk.fills["quantity"][0] == 100_000.0 * 0.01 / 4.0
    assert case.simulate([QUIET], size=(2, 7.0)).fills["quantity"][0] == 7.0
    assert case.simulate([QUIET], size=(3, 5000.0)).fills["quantity"][0] == 50.0


def test_the_cash_rule_cuts_or_refuses(case):
    cut = case.simulate([QUIET], size=(2, 3000.0))
    assert (cut.fills["quantity"][0], cut.counters["orders_cut"]) == (1000.0, 1)
    levered = case.simulate([QUIET], size=(2, 3000.0), leverage=2.0)
    assert levered.fills["quantity"][0] == 2000.0
    refused = case.simulate([QUIET], size=(2, 3000.0), cash_rule="refuse")
    assert (refused.status, refused.counters["orders_refused"]) == ("blocked", 1)


def test_lots_round_down_and_small_orders_are_refused(case):
    assert case.simulate([QUIET], size=(2, 7.9), lot=2.0).fills["quantity"][0] == 6.0
    assert case.simulate([QUIET], size=(2, 1.9), lot=2.0).counters["orders_refused"] == 1
    assert case.simulate([QUIET], size=(2, 1.9), min_qty=2.0).counters["orders_refused"] == 1


def test_borrow_is_charged_on_short_notional_by_elapsed_time(case):
    result = case.simulate([QUIET] * 3, borrow_bps_year=365.25)
    daily = 100.0 * 365.25 / 1e4 / 365.25
    expected = 0.0 if case.side == "long" else 3 * daily
    assert result.trades["financing"] == pytest.approx([expected])
    assert result.equity[-1] == pytest.approx(100_000.0 - expected)


def test_financing_is_charged_on_negative_cash(case):
    result = case.simulate(
        [QUIET], size=(0, 3.0), leverage=3.0, initial_cash=1000.0, financing_bps_year=365.25
    )
    expected = 2000.0 * 365.25 / 1e4 / 365.25 if case.side == "long" else 0.0
    assert result.trades["financing"] == pytest.approx([expected])
    assert result.trades["pnl"] == pytest.approx([-expected])


@pytest.mark.parametrize(("adj", "high", "fills"), [
    (1.0, 105.01, True), (1.0, 105.008, False),
    (2.0, 105.005, True), (2.0, 105.004, False),
    (0.1, 105.1, True), (0.1, 105.09, False),
])  # fmt: skip
def test_row_13_one_tick_beyond_a_target_is_the_raw_tick_on_the_bar_s_own_basis(case, adj, high, fills):
    """A split two bars later makes the step of the bars before it smaller, a reverse one larger."""
    rows = [QUIET, (100.0, high, 99.0, 100.0), QUIET]
    result = case.simulate(rows, targets=((5.0, 1.0),), adj=np.array([1.0, 1.0, adj, 1.0]))
    assert case.exits(result) == ([(2, 105.0, "target")] if fills else [])
