"""Settings outside their range and impossible bars are refused before any number."""

import numpy as np
import pytest

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DataError
from engine.simulation.inputs import YEAR_SHARE, Execution, adjusted_tick, day_starts, prepare

DAY_US = 86_400_000_000


def changed(bars, **columns):
    names = ("ts", "open", "high", "low", "close", "volume", "adj", "dividend")
    arrays = {name: np.array(getattr(bars, name)) for name in names}
    for name, (row, value) in columns.items():
        arrays[name][row] = value
    return Bars(bars.symbol, bars.frame, bars.calendar, **arrays)


@pytest.mark.parametrize(
    ("columns", "rule", "text"),
    [
        ({"close": (3, np.nan)}, "E03", "a value is missing or infinite"),
        ({"volume": (3, np.inf)}, "E03", "a value is missing or infinite"),
        ({"low": (3, 0.0)}, "E04", "a price is zero or negative"),
        ({"high": (3, 0.01)}, "E05", "open or close lies outside"),
        ({"low": (3, 1e6)}, "E05", "open or close lies outside"),
        ({"ts": (3, 0)}, "E07", "a stamp is not after the one before"),
        ({"volume": (3, -1.0)}, "E10", "volume or dividend is negative"),
        ({"dividend": (3, -1.0)}, "E10", "volume or dividend is negative"),
    ],
)
def test_an_impossible_bar_is_refused_with_its_rule_and_stamp(columns, rule, text):
    bars = changed(make_bars(1, 10), **columns)
    with pytest.raises(DataError, match=text) as caught:
        prepare(bars, Execution(), 0, 10)
    assert caught.value.rule == rule
    assert caught.value.symbol == "TEST"
    assert len(caught.value.rows) == 1


def test_the_first_three_rows_are_named():
    bars = changed(make_bars(1, 10), low=([2, 4, 6, 8], 0.0))
    with pytest.raises(DataError) as caught:
        prepare(bars, Execution(), 0, 10)
    assert len(caught.value.rows) == 3


def test_bars_outside_the_span_are_not_read():
    bars = changed(make_bars(1, 10), low=([0, 9], 0.0))
    assert prepare(bars, Execution(), 1, 9).columns.shape == (8, 8)


@pytest.mark.parametrize("span", [(-1, 5), (6, 5), (0, 11)])
def test_a_span_outside_the_bars_is_refused(span):
    with pytest.raises(ConfigError, match="the series has 10 bars"):
        prepare(make_bars(1, 10), Execution(), *span)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"cash_rule": "cutt"}, r"execution.cash_rule was 'cutt'. Closest: cut"),
        ({"initial_cash": 0.0}, r"execution.initial_cash was 0.0; expected a number > 0"),
        ({"leverage": float("nan")}, r"execution.leverage was nan; expected a number > 0"),
        ({"tick": -0.01}, r"execution.tick was -0.01; expected a number >= 0"),
        ({"fee_bps": 10_000.0}, r"execution.fee_bps was 10000.0; expected < 10000"),
        ({"exit_fraction": 0.0}, r"execution.exit_fraction was 0.0; expected a number > 0"),
        ({"exit_fraction": 1.5}, r"execution.exit_fraction was 1.5; expected > 0 and <= 1"),
        ({"max_bars": -1}, r"execution.max_bars was -1; expected a whole number >= 0, or None"),
        ({"max_bars": 2.5}, r"execution.max_bars was 2.5; expected a whole number >= 0, or None"),
        ({"size": 1.0}, r"execution.size was 1.0; expected Fraction, Risk, Units or Notional"),
        ({"on_opposite": "reverse", "sides": "long"}, r"no short side to turn to"),
    ],
)
def test_settings_outside_their_range_are_refused(setting, text):
    with pytest.raises(ConfigError, match=text):
        Execution(**setting)


def test_days_start_at_the_first_bar_of_each_later_utc_date():
    ts = np.arange(5, dtype=np.int64) * (DAY_US // 2)
    assert day_starts(ts).tolist() == [0, 0, 1, 0, 1]
    assert day_starts(ts[:0]).tolist() == []


def test_a_stock_week_end_counts_three_days():
    bars = make_bars(1, 30, calendar="observed")
    shares = prepare(bars, Execution(), 0, 30).columns[YEAR_SHARE]
    assert shares[0] == 0.0
    assert shares[1:] == pytest.approx(np.diff(bars.ts) / DAY_US / 365.25)


def test_each_bar_has_the_raw_tick_on_its_own_basis():
    bars = changed(make_bars(1, 10), adj=([0, 1], 4.0))
    step = prepare(bars, Execution(tick=0.01), 0, 10).columns[-1]
    assert step.tolist() == [0.0025, 0.0025] + [0.01] * 8


def test_the_tick_of_adjusted_prices():
    bars = changed(make_bars(1, 10), adj=([0, 1], 4.0))
    assert adjusted_tick(bars, 0.01) == 0.0025


def test_no_value_of_a_span_depends_on_later_bars():
    bars = make_bars(1, 300, "1h")
    volume = np.where(np.arange(300) < 40, 0.0, bars.volume)
    bars = changed(bars, volume=(slice(None), volume))
    long, short = prepare(bars, Execution(tick=0.01), 10, 300), prepare(bars, Execution(tick=0.01), 10, 60)
    assert long.columns[:, :50].tobytes() == short.columns.tobytes()
    assert long.events[:50].tobytes() == short.events.tobytes()
    assert long.day_start[:50].tobytes() == short.day_start.tobytes()


def test_orders_fill_without_volume_until_the_series_has_had_any():
    volume = np.array([0.0, 0.0, 5.0, 0.0, 5.0])
    bars = changed(make_bars(1, 5), volume=(slice(None), volume))
    assert prepare(bars, Execution(), 0, 5).events.tolist() == [0, 0, 0, 1, 0]
    assert prepare(bars, Execution(), 3, 5).events.tolist() == [1, 0]
    assert prepare(bars, Execution(fill_on_zero_volume=True), 0, 5).events.tolist() == [0] * 5
