import math

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.forecasts.baselines import (
    HistoricalSimulation,
    Persistence,
    fhs_quantiles,
    fhs_spec,
    persistence_spec,
    windows_per_request,
)
from engine.forecasts.cuts import cut_positions, refit_groups
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.local_features import prepare, targets
from engine.forecasts.quality import run_over

SHAPE = ("1d", "observed", 2, DEFAULT_LEVELS)


def test_persistence_repeats_what_is_known():
    bars = make_bars(1, 120)
    found = run_over(bars, Persistence(persistence_spec(*SHAPE)), np.array([0, 50, 119]))
    assert found.shape == (3, 2, 3, 11)
    for row, t in enumerate((0, 50, 119)):
        expected = [math.log(bars.high[t] / bars.close[t]), math.log(bars.low[t] / bars.close[t]), 0.0]
        for field in range(3):
            assert found[row, :, field] == pytest.approx(expected[field], abs=1e-8)


def plain_quantile(values, level):
    ordered = sorted(values)
    position = level * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def test_fhs_equals_a_plain_computation():
    bars = make_bars(2, 400)
    window = prepare(bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume, "1d")
    rows = np.arange(70, 390)
    found = fhs_quantiles(window, rows, 2, np.array([395, 399]), DEFAULT_LEVELS)
    for v in range(3):
        scaled = [targets(window, np.array([i]), 2)[0, v] / window.sigma_mix[i] for i in rows]
        for k, level in enumerate(DEFAULT_LEVELS):
            unit = plain_quantile(scaled, level)
            assert found[0, v, k] == pytest.approx(unit * window.sigma_mix[395], rel=1e-12)
            assert found[1, v, k] == pytest.approx(unit * window.sigma_mix[399], rel=1e-12)


def test_fhs_as_a_forecaster_uses_the_rows_of_its_cut():
    bars = make_bars(3, 500)  # shorter than the lookback: the window is the whole history
    t = 480
    cut = int(cut_positions(refit_groups(bars.ts, "1d", "observed"))[t])
    window = prepare(bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume, "1d")
    found = run_over(bars, HistoricalSimulation(fhs_spec(*SHAPE)), np.array([t]))
    for step in (1, 2):
        expected = fhs_quantiles(window, np.arange(66, cut - step + 1), step, np.array([t]), DEFAULT_LEVELS)
        np.testing.assert_array_equal(found[:, step - 1], expected.astype(np.float32))


def test_fhs_skips_a_cut_with_fewer_than_100_rows():
    bars = make_bars(3, 300)
    cuts = cut_positions(refit_groups(bars.ts, "1d", "observed"))
    as_of = np.arange(110, 300)
    found = run_over(bars, HistoricalSimulation(fhs_spec(*SHAPE)), as_of)
    skipped = np.isnan(found).all(axis=(1, 2, 3))
    assert skipped.tolist() == [cuts[t] - 2 - 66 + 1 < 100 for t in as_of]
    assert skipped.any() and not skipped.all()


@pytest.mark.parametrize(("n", "free", "expected"), [(10, 0, 1), (10, 2**40, 10), (10**6, 2**30, 3942)])
def test_requests_fit_into_memory(n, free, expected):
    assert windows_per_request(fhs_spec(*SHAPE), n, free) == expected
