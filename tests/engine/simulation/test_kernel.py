"""One named test per row of the fill table; `case` runs each long and, mirrored, short.

More on limit entries and sizes in test_fills.py, row 20 (pieces) in test_kernel_pieces.py.
"""

import numpy as np
import pytest

QUIET = (100.0, 101.0, 99.0, 100.0)  # a bar that reaches no level of these tests
ENTER, OPPOSITE, EXIT, EXIT_OPPOSITE = 1, 2, 4, 8  # as if long; `case` mirrors them


def bar_of(fill_ts):
    return int(fill_ts // 86_400_000_000)


def test_row_1_a_signal_fills_at_the_next_open(case):
    result = case.simulate([(103.0, 104.0, 102.0, 103.0), QUIET])
    assert bar_of(result.fills["ts"][0]) == 1
    assert result.fills["price"][0] == case.price(103.0)


def test_row_1_a_signal_of_the_last_bar_is_kept_and_counted(case):
    result = case.simulate([], stop=5.0, targets=((10.0, 1.0),))
    assert len(result.fills["ts"]) == 0
    assert result.counters["signals_unfilled"] == 1
    assert result.status == "blocked"
    order = result.next_order
    assert (order.action, order.side) == ("enter", 1 if case.side == "long" else -1)
    assert (order.stop, order.target, order.quantity) == (case.price(95.0), case.price(110.0), 1.0)


def test_row_2_the_first_bar_is_flat_and_only_decides(case):
    result = case.simulate([QUIET])
    assert result.position[0] == 0.0
    assert result.equity[0] == 100_000.0
    assert abs(result.position[1]) == 1.0


@pytest.mark.parametrize("bits", [ENTER | OPPOSITE, ENTER | EXIT])
def test_row_3_contradicting_bits_order_nothing_and_are_counted(case, bits):
    result = case.simulate([QUIET, QUIET], bits={0: bits})
    assert result.counters["conflicts"] == 1
    assert len(result.fills["ts"]) == 0


def test_row_3_exit_bits_while_flat_are_ignored(case):
    result = case.simulate([QUIET], bits={0: EXIT | EXIT_OPPOSITE})
    assert result.status == "no_signal"
    assert result.counters["conflicts"] == 0


def test_row_3_an_entry_with_the_other_sides_exit_is_an_entry(case):
    result = case.simulate([QUIET], bits={0: ENTER | EXIT_OPPOSITE})
    assert abs(result.position[1]) == 1.0


def test_row_4_an_exit_bit_closes_at_the_next_open(case):
    result = case.simulate([QUIET, (102.0, 103.0, 101.0, 102.0), QUIET], bits={1: EXIT})
    assert case.exits(result) == [(2, 102.0, "signal")]


def test_row_4_a_second_entry_bit_is_ignored(case):
    result = case.simulate([QUIET] * 3, bits={1: ENTER, 2: ENTER})
    assert len(result.fills["ts"]) == 1


def test_row_4_an_exit_bit_may_close_a_fraction_of_the_initial_quantity(case):
    bits = {1: EXIT, 2: EXIT, 3: EXIT}
    result = case.simulate([QUIET] * 5, bits=bits, exit_fraction=0.4, size=(2, 10.0))
    assert result.fills["quantity"].tolist() == [10.0, 4.0, 4.0, 2.0]
    assert case.exits(result) == [(bar, 100.0, "signal") for bar in (2, 3, 4)]
    assert result.trades["bars_held"].tolist() == [3]


def test_row_4_a_fraction_below_a_lot_closes_one_lot(case):
    result = case.simulate([QUIET] * 3, bits={1: EXIT}, exit_fraction=0.1, size=(2, 3.0), lot=1.0)
    assert result.fills["quantity"].tolist() == [3.0, 1.0]
    waiting = case.simulate([QUIET] * 1, bits={1: EXIT}, exit_fraction=0.1, size=(2, 3.0), lot=1.0)
    assert (waiting.next_order.action, waiting.next_order.quantity) == ("exit", 1.0)


def test_row_5_an_opposite_entry_is_ignored_by_default(case):
    result = case.simulate([QUIET] * 3, bits={1: OPPOSITE})
    assert len(result.fills["ts"]) == 1


def test_row_5_reverse_turns_at_one_open_with_both_fees(case):
    result = case.simulate([QUIET] * 3, bits={1: OPPOSITE}, on_opposite="reverse", fee_bps=10.0)
    assert case.exits(result) == [(2, 100.0, "reverse")]
    assert [bar_of(ts) for ts in result.fills["ts"]] == [1, 2, 2]
    assert result.fills["fee"] == pytest.approx([0.1, 0.1, 0.1])
    assert result.position[1] == -result.position[2]


def test_row_5_a_contradicting_reversal_is_counted(case):
    result = case.simulate([QUIET] * 3, bits={1: OPPOSITE | ENTER}, on_opposite="reverse")
    assert result.counters["conflicts"] == 1
    assert len(result.fills["ts"]) == 1


def test_row_6_a_bar_without_volume_fills_nothing_and_the_next_open_does(case):
    volume = np.array([1000.0, 1000.0, 0.0, 1000.0])
    rows = [QUIET, (100.0, 100.0, 90.0, 91.0), (92.0, 93.0, 91.0, 92.0)]
    result = case.simulate(rows, stop=5.0, volume=volume)
    assert case.exits(result) == [(3, 92.0, "stop")]
    assert abs(result.position[2]) == 1.0
    assert result.equity[2] == pytest.approx(100_000.0 - 9.0)


def test_row_6_a_waiting_order_stays_and_a_newer_decision_replaces_it(case):
    volume = np.array([1000.0, 0.0, 1000.0, 1000.0])
    stays = case.simulate([QUIET] * 3, volume=volume)
    assert bar_of(stays.fills["ts"][0]) == 2
    replaced = case.simulate([QUIET] * 3, bits={1: OPPOSITE}, volume=volume)
    assert replaced.fills["side"][0] == -stays.fills["side"][0]


def test_row_6_a_series_without_any_volume_trades(case):
    result = case.simulate([QUIET], volume=np.zeros(2))
    assert len(result.fills["ts"]) == 1


def test_row_6_can_be_switched_off(case):
    result = case.simulate([QUIET, QUIET], volume=np.array([1000.0, 0.0, 1000.0]), fill_on_zero_volume=True)
    assert bar_of(result.fills["ts"][0]) == 1


def test_row_6a_a_dividend_is_paid_once_to_the_holder_over_the_close(case):
    dividend = np.array([0.0, 0.0, 1.0, 0.0])
    result = case.simulate([QUIET] * 3, dividend=dividend)
    side = 1.0 if case.side == "long" else -1.0
    assert result.equity[-1] == pytest.approx(100_000.0 + side)
    assert result.trades["dividends"].tolist() == [side]
    assert result.trades["pnl"] == pytest.approx([side])


def test_row_6a_a_later_split_changes_nothing(case):
    paid = dict(dividend=np.array([0.0, 0.0, 1.0, 0.0]))
    split = case.simulate([QUIET] * 3, adj=np.array([2.0, 2.0, 2.0, 1.0]), **paid)
    assert split.equity.tolist() == case.simulate([QUIET] * 3, **paid).equity.tolist()


def test_row_6a_an_entry_at_that_open_gets_none_and_an_exit_does(case):
    entered = case.simulate([QUIET] * 2, dividend=np.array([0.0, 1.0, 0.0]))
    assert entered.trades["dividends"].tolist() == [0.0]
    left = case.simulate([QUIET] * 3, bits={1: EXIT}, dividend=np.array([0.0, 0.0, 1.0, 0.0]))
    assert abs(left.trades["dividends"][0]) == 1.0


def test_rows_7_and_8_market_orders_pay_slippage_on_both_sides(case):
    result = case.simulate([QUIET] * 3, bits={1: EXIT}, slippage_bps=100.0)
    side = 1.0 if case.side == "long" else -1.0
    assert result.fills["price"] == pytest.approx([100.0 + side, 100.0 - side])
    assert result.trades["slippage"] == pytest.approx([2.0])


@pytest.mark.parametrize(
    ("low", "settings", "fills"),
    [
        (97.99, {}, [98.0]),  # one tick through the limit
        (98.0, {}, []),
        (98.0, {"limit_fill": "touch"}, [98.0]),
        (97.995, {"tick": 0.0}, [98.0]),
        (98.0, {"tick": 0.0}, []),
    ],
)
def test_row_9_a_limit_entry_fills_at_its_price_without_slippage_for_one_bar_only(case, low, settings, fills):
    rows = [(100.0, 101.0, low, 100.0), (100.0, 101.0, 90.0, 100.0)]
    result = case.simulate(rows, limit=98.0, slippage_bps=100.0, **settings)
    assert result.fills["price"].tolist() == [case.price(price) for price in fills]
    assert result.counters["limits_expired"] == 1 - len(fills)
    assert result.trades["slippage"].tolist() == [0.0] * len(fills)


@pytest.mark.parametrize(
    ("bar", "price"),
    [
        ((101.0, 111.0, 94.0, 100.0), 95.0),  # rows 10, 13: both reachable, the stop wins
        ((93.0, 97.0, 90.0, 96.0), 93.0),  # gap through the stop
        ((100.0, 101.0, 95.0, 100.0), 95.0),  # a touch is enough
        ((112.0, 115.0, 94.0, 100.0), 95.0),  # row 13 even when the bar opened beyond the target
    ],
)
def test_row_10_and_13_the_stop(case, bar, price):
    result = case.simulate([QUIET, bar], stop=5.0, targets=((10.0, 1.0),))
    assert case.exits(result) == [(2, price, "stop")]


def test_row_10_the_stop_pays_slippage_a_target_does_not(case):
    stopped = case.simulate([QUIET, (100.0, 100.0, 94.0, 96.0)], stop=5.0, slippage_bps=100.0)
    level = stopped.fills["price"][0] - 5.0 if case.side == "long" else stopped.fills["price"][0] + 5.0
    slip = 0.99 if case.side == "long" else 1.01
    assert stopped.fills["price"][1] == pytest.approx(level * slip)
    paid = case.simulate([QUIET, (100.0, 130.0, 100.0, 106.0)], targets=((10.0, 1.0),), slippage_bps=100.0)
    assert abs(paid.fills["price"][1] - paid.fills["price"][0]) == pytest.approx(10.0)


def test_row_10_the_stop_is_live_in_the_entry_bar(case):
    result = case.simulate([(100.0, 101.0, 94.0, 96.0)], stop=5.0)
    assert case.exits(result) == [(1, 95.0, "stop")]
    assert result.trades["bars_held"].tolist() == [0]


def test_row_11_an_open_beyond_the_stop_fills_entry_and_stop_there_and_is_counted(case):
    result = case.simulate([(93.0, 94.0, 92.0, 93.0)], stop=5.0, level_base="signal_close")
    assert result.fills["price"].tolist() == [case.price(93.0)] * 2
    assert result.counters["entry_beyond_stop"] == 1


@pytest.mark.parametrize(
    ("bar", "limit_fill", "tick", "exits"),
    [
        ((112.0, 115.0, 108.0, 110.0), "through", 0.01, [(2, 112.0, "target")]),  # gap: at the open
        ((101.0, 110.0, 100.0, 105.0), "through", 0.01, []),
        ((101.0, 110.01, 100.0, 105.0), "through", 0.01, [(2, 110.0, "target")]),
        ((101.0, 110.0, 100.0, 105.0), "touch", 0.01, [(2, 110.0, "target")]),
        ((101.0, 110.0, 100.0, 105.0), "through", 0.0, []),
        ((101.0, 110.001, 100.0, 105.0), "through", 0.0, [(2, 110.0, "target")]),
    ],
)
def test_row_12_the_target(case, bar, limit_fill, tick, exits):
    result = case.simulate([QUIET, bar], stop=5.0, targets=((10.0, 1.0),), limit_fill=limit_fill, tick=tick)
    assert case.exits(result) == exits


def test_row_14_the_target_does_not_fill_in_the_entry_bar_unless_allowed(case):
    bar = (100.0, 112.0, 99.0, 105.0)
    assert case.exits(case.simulate([bar], stop=5.0, targets=((10.0, 1.0),))) == []
    allowed = case.simulate([bar], stop=5.0, targets=((10.0, 1.0),), target_in_entry_bar="after_open_entry")
    assert case.exits(allowed) == [(1, 110.0, "target")]


def test_row_15_break_even_after_the_first_target_acts_from_the_next_bar(case):
    rows = [QUIET, (104.0, 111.0, 99.0, 109.0), (109.0, 109.0, 99.0, 100.0)]
    targets = ((10.0, 0.5), (20.0, 1.0))
    result = case.simulate(rows, stop=5.0, targets=targets, breakeven_after_first=True)
    assert case.exits(result) == [(2, 110.0, "target"), (3, 100.0, "stop")]
    assert case.exits(case.simulate(rows, stop=5.0, targets=targets)) == [(2, 110.0, "target")]
    without_stop = case.simulate(rows, targets=targets, breakeven_after_first=True)
    assert case.exits(without_stop) == [(2, 110.0, "target"), (3, 100.0, "stop")]


def test_row_15_targets_close_shares_of_the_initial_quantity(case):
    rows = [QUIET, (104.0, 111.0, 103.0, 109.0), (109.0, 121.0, 108.0, 120.0)]
    result = case.simulate(rows, targets=((10.0, 0.5), (20.0, 1.0)), fee_bps=10.0)
    assert case.exits(result) == [(2, 110.0, "target"), (3, 120.0, "target")]
    assert result.fills["quantity"].tolist() == [1.0, 0.5, 0.5]
    assert len(result.trades["pnl"]) == 1
    fees = [0.001 * q * p for q, p in zip(result.fills["quantity"], result.fills["price"], strict=True)]
    assert result.trades["pnl"] == pytest.approx([15.0 - sum(fees)])
    if case.side == "long":
        assert result.trades["pnl"] == pytest.approx([14.785])
        assert result.trades["exit_price"] == pytest.approx([115.0])


def test_row_15_several_targets_may_fill_in_one_bar_rounded_down_to_the_lot(case):
    result = case.simulate(
        [QUIET, (104.0, 131.0, 103.0, 130.0)],
        targets=((10.0, 0.3), (20.0, 0.3), (30.0, 0.4)), size=(2, 5.0), lot=1.0,
    )  # fmt: skip
    assert case.exits(result) == [(2, p, "target") for p in (110.0, 120.0, 130.0)]
    assert result.fills["quantity"].tolist() == [5.0, 1.0, 1.0, 3.0]


def test_row_15_a_stop_closes_all_that_a_target_left(case):
    rows = [QUIET, (104.0, 111.0, 103.0, 109.0), (96.0, 97.0, 94.0, 95.0)]
    result = case.simulate(rows, stop=5.0, targets=((10.0, 0.5), (20.0, 1.0)))
    assert case.exits(result) == [(2, 110.0, "target"), (3, 95.0, "stop")]
    assert result.reasons[result.trades["reason"][0]] == "stop"


def test_row_16_the_trailing_stop_counts_the_entry_bar_and_acts_from_the_next_bar(case):
    rows = [(100.0, 104.0, 97.0, 103.0), (103.0, 104.0, 98.9, 99.0)]
    result = case.simulate(rows, trail=5.0)
    assert case.exits(result) == [(2, 99.0, "trail")]


def test_row_16_the_trailing_stop_never_loosens_and_waits_behind_no_volume(case):
    rows = [
        (100.0, 100.0, 99.0, 100.0), (100.0, 140.0, 100.0, 120.0), (120.0, 120.0, 115.0, 116.0),
        (116.0, 116.0, 94.0, 96.0),
    ]  # fmt: skip
    volume = np.array([1000.0, 1000.0, 0.0, 1000.0, 1000.0])
    result = case.simulate(rows, trail=20.0, stop=5.0, volume=volume)
    assert case.exits(result) == [(4, 100.0, "trail")]


@pytest.mark.parametrize(("max_bars", "bar"), [(0, 1), (2, 3)])
def test_row_17_max_bars_closes_at_the_close_with_slippage(case, max_bars, bar):
    rows = [QUIET, QUIET, (100.0, 104.0, 99.0, 103.0), QUIET]
    result = case.simulate(rows, max_bars=max_bars, slippage_bps=100.0)
    close = case.price(100.0 if bar == 1 else 103.0)
    assert [(b, reason) for b, _, reason in case.exits(result)] == [(bar, "max_bars")]
    assert result.fills["price"][1] == pytest.approx(close * (0.99 if case.side == "long" else 1.01))
    assert result.trades["bars_held"].tolist() == [max_bars]
    assert result.position[bar] == 0.0


def test_row_17_waits_for_a_bar_with_volume_and_a_stop_comes_first(case):
    volume = np.array([1000.0, 1000.0, 0.0, 1000.0])
    waits = case.simulate([QUIET] * 3, max_bars=1, volume=volume)
    assert case.exits(waits) == [(3, 100.0, "max_bars")]
    stopped = case.simulate([QUIET, (100.0, 100.0, 94.0, 96.0)], max_bars=1, stop=5.0)
    assert case.exits(stopped) == [(2, 95.0, "stop")]


def test_row_18_the_last_bar_closes_with_costs_or_leaves_the_trade_open(case):
    closed = case.simulate([QUIET, QUIET], close_at_end=True, slippage_bps=100.0)
    side = 1.0 if case.side == "long" else -1.0
    assert case.exits(closed) == [(2, 99.0, "end")]
    assert closed.position[-1] == 0.0
    assert closed.equity[-1] == pytest.approx(100_000.0 - 2.0)
    opened = case.simulate([QUIET, (100.0, 103.0, 100.0, 102.0)])
    assert opened.reasons[opened.trades["reason"][0]] == "open"
    assert opened.position[-1] == side
    assert opened.trades["pnl"] == pytest.approx([2.0])
    assert opened.metrics["n_trades"] == 0


def test_row_18_a_last_bar_without_volume_closes_all_the_same(case):
    result = case.simulate([QUIET, QUIET], close_at_end=True, volume=np.array([1000.0, 1000.0, 0.0]))
    assert result.reasons[result.trades["reason"][0]] == "end"


def test_row_19_ruin_closes_at_the_next_open_and_ends_all_entries(case):
    rows = [QUIET, (70.0, 70.0, 40.0, 40.0), (45.0, 46.0, 44.0, 45.0), (45.0, 46.0, 44.0, 45.0)]
    result = case.simulate(rows, bits={3: ENTER}, size=(0, 2.0), leverage=2.0, initial_cash=1000.0)
    assert case.exits(result) == [(3, 45.0, "ruin")]
    assert (result.status, result.halted_at) == ("halted", 2)
    assert len(result.trades["pnl"]) == 1
    assert np.isnan(result.metrics["log_growth"]) and np.isnan(result.metrics["sharpe"])


@pytest.mark.parametrize("distance", [np.nan, 0.0, -1.0, np.inf])
@pytest.mark.parametrize("level", ["stop", "trail", "targets"])
def test_a_distance_that_is_no_distance_refuses_the_entry(case, level, distance):
    asked = ((distance, 1.0),) if level == "targets" else distance
    result = case.simulate([QUIET, QUIET], **{level: asked})
    assert result.counters["refused_levels"] == 1
    assert result.status == "blocked"


def test_more_fills_than_the_first_buffers_hold(case):
    bars = 2500
    bits = {t: ENTER if t % 2 == 0 else EXIT for t in range(bars)}
    result = case.simulate([QUIET] * (bars - 1), bits=bits)
    assert len(result.fills["ts"]) == bars - 1
    assert len(result.trades["pnl"]) == bars // 2
