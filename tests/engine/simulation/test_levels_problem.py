"""The rows of a levels problem: what they hold, what they may not know, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, LevelsInputError
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


def series(seed=0, n=400, **options):
    """Bars and two forecasts (log moves) with the noise of a real model, some of them crossed."""
    bars = make_bars(seed, n, **options)
    rng = np.random.default_rng(seed)
    return bars, rng.normal(0.008, 0.006, n), rng.normal(-0.008, 0.006, n)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"close": [np.nan]}, "forecast_probe, row 0 (bar 1): close is not finite"),
        ({"forecast_low": [np.inf]}, "forecast_probe, row 0 (bar 1): forecast_low is not finite"),
        ({"low": [0.02]}, "row 0 (bar 1): the high lies below the low"),
        ({"close": [0.02]}, "row 0 (bar 1): the close lies outside [low, high]"),
        ({"high": [10.0]}, "row 0 (bar 1): a move is outside (-1, 10)"),
        ({"low": [-1.0]}, "row 0 (bar 1): a move is outside (-1, 10)"),
        ({"long_weight": [-1.0]}, "row 0 (bar 1): a weight is outside [0, 10]"),
        ({"short_weight": [11.0]}, "row 0 (bar 1): a weight is outside [0, 10]"),
        ({"delta": [-1e-9]}, "row 0 (bar 1): delta is negative or the base not positive"),
        ({"fee_close": -0.1}, "forecast_probe: fee_close was -0.1, expected a number >= 0"),
        ({"delta": [0.0, 0.0]}, "delta has shape (2,), index (1,); expected one value per row"),
    ],
)
def test_refuses_impossible_rows_by_name(change, message):
    columns = [np.array([x]) for x in (0.0, 0.01, -0.01, 0.005, -0.005, 1.0, 1.0, 0.0, 100.0)]
    row = levels.LevelsProblem(*columns, np.array([1]), 0.0, 0.0, 0.0, touch=True)
    with pytest.raises(LevelsInputError) as error:
        replace(row, name="forecast_probe", **change)
    assert message in str(error.value)


def test_a_row_holds_the_forecast_and_the_close_of_the_bar_before():
    bars, up, down = series()
    p = levels.problem(bars, up, down, 100, 300, **RULES)
    assert len(p) == 200 and p.index[0] == 100
    for row, j in ((0, 100), (57, 157), (199, 299)):
        base = bars.close[j - 1]
        assert p.base[row] == base
        assert p.close[row] == bars.close[j] / base - 1
        assert p.high[row] == bars.high[j] / base - 1
        assert p.low[row] == bars.low[j] / base - 1
        assert p.forecast_high[row] == pytest.approx(math.exp(up[j - 1]) - 1, abs=1e-15)
        assert p.forecast_low[row] == pytest.approx(math.exp(down[j - 1]) - 1, abs=1e-15)
        assert p.delta[row] == pytest.approx(0.01 / bars.adj[j] / base, abs=2e-12)
    assert (p.fee_entry, p.fee_target, p.fee_close) == pytest.approx((5e-4, 5e-4, 7e-4))


def test_fee_per_leg_is_charged_once_and_slippage_in_both_modes():
    bars, up, down = series()
    p = levels.problem(bars, up, down, 100, 110, **{**RULES, "fee_mode": "per_leg"})
    assert (p.fee_entry, p.fee_target, p.fee_close) == pytest.approx((5e-4, 0.0, 2e-4))


def test_triggers_set_the_distance():
    bars, up, down = series()
    made = {fill: levels.problem(bars, up, down, 100, 110, **{**RULES, "fill": fill}) for fill in
            ("touch", "through:1", "through:3")}  # fmt: skip
    assert made["touch"].touch and not made["touch"].delta.any()
    assert made["through:3"].delta == pytest.approx(3 * made["through:1"].delta, abs=1e-11)
    unknown = levels.problem(bars, up, down, 100, 110, **{**RULES, "tick": 0.0})
    assert unknown.delta == pytest.approx(1e-9, rel=0.002) and not unknown.touch


def test_the_tick_is_the_raw_one_on_each_bar_s_own_basis():
    bars = replace(make_bars(0, 5), adj=np.array([4.0, 4.0, 2.0, 1.0, 1.0]))
    p = levels.problem(bars, np.full(5, 0.01), np.full(5, -0.01), 1, 5, **RULES)
    assert p.tick.tolist() == [0.0025, 0.005, 0.01, 0.01]  # outcome bars 1 to 4
    ticks_through = p.delta * p.base / p.tick
    assert ticks_through == pytest.approx(1.0, abs=1e-6)


def test_side_rules_and_long_only():
    bars, up, down = series()
    p = levels.problem(bars, up, down, 100, 300, **RULES)
    crossed = p.forecast_low >= p.forecast_high
    is_long = np.abs(p.forecast_high) > np.abs(p.forecast_low)
    assert crossed.any() and p.n_crossed == crossed.sum()
    traded = bars.volume[p.index] > 0  # nothing fills in a bar without volume
    assert 0 < (~traded).sum() < 20
    assert np.array_equal(p.long_weight, is_long & ~crossed & traded)
    assert np.array_equal(p.short_weight, ~is_long & ~crossed & traded)
    filled = levels.problem(bars, up, down, 100, 300, **RULES, fill_on_zero_volume=True)
    assert np.array_equal(filled.long_weight, is_long & ~crossed)

    momentum = levels.problem(
        bars, up, down, 100, 300, **{**RULES, "side": "momentum"}, fill_on_zero_volume=True
    )
    for row, j in enumerate(range(100, 300)):
        move = bars.close[j - 1] - bars.close[j - 21]
        wanted = (0.0, 0.0) if crossed[row] else (float(move > 0), float(move < 0))
        assert (momentum.long_weight[row], momentum.short_weight[row]) == wanted

    both = levels.problem(
        bars, up, down, 100, 300, **{**RULES, "objective": "always_on"}, fill_on_zero_volume=True
    )
    assert np.array_equal(both.long_weight, ~crossed) and np.array_equal(both.short_weight, ~crossed)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    bar=st.integers(30, 198),
    objective=st.sampled_from(["entry_exit", "always_on"]),
    side=st.sampled_from(["maxdiff", "momentum"]),
)
def test_a_later_bar_changes_no_earlier_row_and_only_its_own_outcome(seed, bar, objective, side):
    bars, up, down = series(seed % 7, 200)
    rules = {**RULES, "objective": objective, "side": side}
    before = levels.problem(bars, up, down, 25, 200, **rules)
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(200) >= bar, rng.uniform(0.5, 1.5, 200), 1.0)
    later_up, later_down = (np.where(np.arange(200) >= bar, -2 * x, x) for x in (up, down))
    changed = replace(
        bars, **{name: getattr(bars, name) * scale for name in ("open", "high", "low", "close")}
    )
    after = levels.problem(changed, later_up, later_down, 25, 200, **rules)
    row = bar - 25
    columns = (
        "close",
        "high",
        "low",
        "forecast_high",
        "forecast_low",
        "long_weight",
        "short_weight",
        "delta",
        "base",
    )
    for name in columns:
        assert getattr(before, name)[:row].tobytes() == getattr(after, name)[:row].tobytes(), name
        if name not in ("close", "high", "low"):
            assert getattr(before, name)[row] == getattr(after, name)[row], name
    first, second = (
        levels.bar_net(before, 0.003, -0.001, "close"),
        levels.bar_net(after, 0.003, -0.001, "close"),
    )
    assert first.net[:row].tobytes() == second.net[:row].tobytes()
    assert (first.high_level[row], first.low_level[row]) == (second.high_level[row], second.low_level[row])
    assert np.isclose(before.close[row], after.close[row]) == np.isclose(scale[bar], 1.0)


def test_rows_without_a_forecast_are_left_out_and_counted():
    bars, up, down = series()
    up[[110, 120]], down[130] = np.nan, np.inf
    p = levels.problem(bars, up, down, 100, 200, **RULES)
    assert p.n_dropped == 3 and len(p) == 97
    assert not {111, 121, 131} & set(p.index)


def test_refuses_more_than_a_fifth_of_the_rows_without_a_forecast():
    bars, up, down = series()
    up[100:121] = np.nan
    assert levels.problem(bars, up, down, 102, 202, **RULES).n_dropped == 20
    with pytest.raises(
        LevelsInputError,
        match=r"^TEST 1d entry_exit, outcome bars 101 to 201: 21 of 100 rows have no finite forecast, "
        r"the first issued at \d{4}-\d\d-\d\d; at most 20 % may lack one\. "
        r"Run the forecasts stage for these bars$",
    ):
        levels.problem(bars, up, down, 101, 201, **RULES)


def test_refuses_windows_and_names_it_cannot_use():
    bars, up, down = series()
    for start, stop, forecast in ((0, 10, up), (10, 9, up), (10, 401, up), (10, 20, up[:-1])):
        with pytest.raises(LevelsInputError, match="expected 1 <= start <= stop <= 400 bars"):
            levels.problem(bars, forecast, down, start, stop, **RULES)
    with pytest.raises(LevelsInputError, match="outcome bar 20 has fewer than 20 bars before its forecast"):
        levels.problem(bars, up, down, 20, 60, **{**RULES, "side": "momentum"}, fill_on_zero_volume=True)
    for setting, wrong in (("objective", "entry"), ("side", "max"), ("sides", "short"), ("fee_mode", "leg")):
        with pytest.raises(ConfigError, match=f"was '{wrong}'"):
            levels.problem(bars, up, down, 100, 200, **{**RULES, setting: wrong})
    for fill in ("through", "through:0", "through:1.5", "touching"):
        with pytest.raises(ConfigError, match="expected touch or through:k"):
            levels.problem(bars, up, down, 100, 200, **{**RULES, "fill": fill})
    with pytest.raises(ConfigError, match="levels.policies was 'closed'. Closest: close"):
        levels.value(levels.problem(bars, up, down, 100, 200, **RULES), 0.0, 0.0, "closed")
    with pytest.raises(LevelsInputError, match="expected two finite numbers"):
        levels.value(levels.problem(bars, up, down, 100, 200, **RULES), np.nan, 0.0, "close")
