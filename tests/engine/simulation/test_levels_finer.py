"""Finer bars of a problem: taken from a series row by row, checked against their own bars."""

from dataclasses import replace

import numpy as np
import pytest
from finer import parted

from engine.bars.synthetic import make_bars
from engine.errors import LevelsInputError
from engine.simulation.levels import bar_net, problem
from engine.simulation.levels_finer import FinerBars
from engine.simulation.levels_problem import LevelsProblem

RULES = {
    "objective": "always_on", "side": "maxdiff", "sides": "both", "fee_bps": 5.0, "slippage_bps": 2.0,
    "fee_mode": "per_side", "fill": "through:1", "tick": 0.01,
}  # fmt: skip


def series(n=200):
    bars = make_bars(2, n, volatility=0.015)
    rng = np.random.default_rng(2)
    return bars, parted(bars), rng.normal(0.006, 0.003, n), rng.normal(-0.006, 0.003, n)


def one_row(**changes):
    row = {"close": [0.0], "high": [0.01], "low": [-0.02], "forecast_high": [0.0], "forecast_low": [0.0],
           "long_weight": [1.0], "short_weight": [0.0], "delta": [0.0], "base": [100.0], "index": [7],
           "fee_entry": 0.0, "fee_target": 0.0, "fee_close": 0.0, "touch": True, **changes}  # fmt: skip
    return LevelsProblem(**row)


def test_each_row_holds_the_moves_of_its_own_finer_bars_in_time_order():
    bars, finer, up, down = series()
    p = problem(bars, up, down, 50, 150, **RULES, finer=finer)
    assert len(p.finer) == len(p) == 100 and np.diff(p.finer.starts).tolist() == [4] * 100
    for i in (0, 3, 99):
        inside = slice(*p.finer.starts[i : i + 2])
        t = p.index[i]
        assert p.finer.high[inside] == pytest.approx(finer.high[4 * t : 4 * t + 4] / bars.close[t - 1] - 1)
        assert p.finer.low[inside] == pytest.approx(finer.low[4 * t : 4 * t + 4] / bars.close[t - 1] - 1)
        assert p.finer.high[inside].max() == p.high[i] and p.finer.low[inside].min() == p.low[i]


def test_rows_left_out_take_their_finer_bars_with_them():
    bars, finer, up, down = series()
    whole = problem(bars, up, down, 50, 150, **RULES, finer=finer)
    up[60] = np.nan
    p = problem(bars, up, down, 50, 150, **RULES, finer=finer)
    kept = np.delete(np.arange(100), 11)
    assert p.index.tolist() == whole.index[kept].tolist()
    expected = whole.finer.take(kept)
    assert (
        p.finer.high.tolist() == expected.high.tolist()
        and p.finer.starts.tolist() == expected.starts.tolist()
    )


def test_finer_bars_after_the_window_change_nothing():
    bars, finer, up, down = series()
    later = {name: getattr(finer, name).copy() for name in ("high", "low")}
    later["high"][4 * 150 :] *= 1.5
    known = replace(finer, **later)
    cut = problem(bars.slice(0, 150), up[:150], down[:150], 50, 150, **RULES, finer=finer.slice(0, 600))
    for p in (problem(bars, up, down, 50, 150, **RULES, finer=x) for x in (finer, known)):
        assert bar_net(p, 0.001, 0.0, "path").net.tobytes() == bar_net(cut, 0.001, 0.0, "path").net.tobytes()


def test_gaps_are_rows_without_finer_bars_and_none_at_all_is_no_finer_bars():
    bars, finer, up, down = series()
    p = problem(bars, up, down, 50, 150, **RULES, finer=finer.slice(4 * 100, None))
    assert np.diff(p.finer.starts).tolist() == [0] * 50 + [4] * 50
    assert problem(bars, up, down, 50, 150, **RULES, finer=finer.slice(4 * 150, None)).finer is None


@pytest.mark.parametrize("zero", [False, True])
def test_a_finer_bar_without_volume_fills_nothing_unless_the_setting_says_so(zero):
    bars, finer, up, down = series()
    volume = finer.volume.copy()
    volume[4 * 60 : 4 * 61 : 2] = 0.0
    quiet = replace(finer, volume=volume)
    p = problem(bars, up, down, 50, 150, **RULES, finer=quiet, fill_on_zero_volume=zero)
    traded = p.finer.starts[11] - p.finer.starts[10]
    assert p.index[10] == 60 and traded == (4 if zero else np.sum(volume[240:244] > 0)) and volume[241] > 0


@pytest.mark.parametrize("side, factor", [("high", 1.01), ("low", 0.99)])
def test_finer_bars_of_another_price_basis_are_refused_with_bar_and_row(side, factor):
    bars, finer, up, down = series()
    column = getattr(finer, side).copy()
    column[4 * 70 + 2] = factor * getattr(bars, side)[70]
    with pytest.raises(LevelsInputError, match=r"row 20 \(bar 70\): finer bar 2 has high .*one price basis"):
        problem(bars, up, down, 50, 150, **RULES, finer=replace(finer, **{side: column}))


@pytest.mark.parametrize(
    "high, low",
    [
        ([0.01, np.nan], [0.0, 0.0]),
        ([0.01, -0.01], [0.0, 0.0]),
        ([0.01, 0.0100001], [0.0, 0.0]),
        ([0.01, 0.0], [0.0, -0.0200001]),
    ],
)
def test_an_impossible_finer_bar_is_refused(high, low):
    with pytest.raises(LevelsInputError, match=r"^levels problem, row 0 \(bar 7\): finer bar 1 has high"):
        one_row(finer=FinerBars([0, 2], high, low))


def test_rounding_beyond_the_bar_is_moved_inside():
    p = one_row(finer=FinerBars([0, 2], [0.01 + 1e-15, 0.0], [0.0, -0.02 - 1e-15]))
    assert p.finer.high.tolist() == [0.01, 0.0] and p.finer.low.tolist() == [0.0, -0.02]


@pytest.mark.parametrize(
    "starts, high, low",
    [
        ([0, 2], [0.0], [0.0]),
        ([0, 1], [0.0], []),
        ([1, 1], [0.0], [0.0]),
        ([0, 2, 1], [0.0], [0.0]),
        ([], [], []),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(starts, high, low):
    with pytest.raises(LevelsInputError, match=r"^finer bars: (starts was|high has shape)"):
        FinerBars(starts, high, low)


def test_another_number_of_rows_is_refused():
    with pytest.raises(LevelsInputError, match=r"^levels problem: finer bars of 2 rows, expected 1"):
        one_row(finer=FinerBars([0, 1, 1], [0.0], [0.0]))


def test_bars_that_are_not_finer_or_of_another_symbol_are_refused():
    bars, finer, up, down = series()
    for wrong in (bars, replace(finer, frame="1d"), replace(finer, symbol="OTHER")):
        with pytest.raises(LevelsInputError, match=r"expected the same symbol in a finer frame"):
            problem(bars, up, down, 50, 150, **RULES, finer=wrong)
