"""The smoothed objective with finer bars against draws, against the plain one, and its maximum."""

import math
from dataclasses import replace

import numpy as np
import pytest
from finer import finer_problem, with_rows

from engine.search.levels.smoothed import smoothed_value, solve_smoothed
from engine.search.levels.smoothed_path import path_terms
from engine.simulation.levels import value
from engine.simulation.levels_batch import LevelsBatch, levels_value


@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize("coarse", [True, False])
def test_equals_the_mean_over_draws(touch, coarse):
    """Within 4 standard errors of 300,000 draws; with s = 2 % most levels meet their clip."""
    parts = []  # of the targets, in standard errors
    for seed, s in enumerate((0.001, 0.005, 0.02)):
        p = finer_problem(seed + 30, 8, touch, coarse, fees=(0.0004, 0.0005, 0.0007))
        rng = np.random.default_rng(seed + 100)
        u, v = rng.uniform(-0.01, 0.01, 2)
        draws = rng.normal(0, s, (2, 300_000))
        batch = LevelsBatch.of([p])
        drawn = levels_value(batch, (u + draws[0])[None], (v + draws[1])[None], "path")[0]
        error = drawn.std() / math.sqrt(drawn.size)
        ours = float(smoothed_value(p, u, v, s, "path"))
        assert 0 < error and abs(ours - drawn.mean()) < 4 * error, (seed, s)
        parts.append(abs(ours - float(smoothed_value(p, u, v, s, "close"))) / error)
    assert max(parts) > 100


@pytest.mark.parametrize("touch", [True, False])
def test_tends_to_the_plain_objective_away_from_breaks(touch):
    checked = 0
    for seed in range(40):
        p = finer_problem(seed, 10, touch)
        u, v = np.random.default_rng(seed).uniform(-0.01, 0.01, 2)
        row = np.repeat(np.arange(10), np.diff(p.finer.starts))
        sells = (
            np.r_[p.high - p.delta, p.finer.high - p.delta[row]],
            np.r_[p.forecast_high, p.forecast_high[row]],
        )
        buys = np.r_[p.low + p.delta, p.finer.low + p.delta[row]], np.r_[p.forecast_low, p.forecast_low[row]]
        breaks_u = np.r_[sells[0] - sells[1], -p.forecast_high]
        breaks_v = np.r_[buys[0] - buys[1], -p.forecast_low]
        if min(np.abs(breaks_u - u).min(), np.abs(breaks_v - v).min()) > 2e-5:
            checked += 1
            plain = value(p, u, v, "path")
            assert float(smoothed_value(p, u, v, 1e-6, "path")) == pytest.approx(plain, abs=1e-12)
    assert checked > 15


@pytest.mark.parametrize("touch", [True, False])
def test_the_maximum_beats_a_grid_and_random_points(touch):
    for seed in range(12):
        p = finer_problem(seed, [1, 4, 15, 60][seed % 4], touch, coarse=seed % 3 == 0)
        s = [0.001, 0.004, 0.02][seed % 3]
        u, v, best, evaluations = solve_smoothed(p, s, "path")
        assert max(abs(u), abs(v)) <= 0.03 and evaluations > 0
        assert best == pytest.approx(float(smoothed_value(p, u, v, s, "path")), rel=1e-12, abs=1e-14)
        axis, rng = np.linspace(-0.03, 0.03, 121), np.random.default_rng(seed)
        slack = 1e-9 * (p.long_weight.sum() + p.short_weight.sum())  # offsets are found to 1e-6
        assert smoothed_value(p, axis[:, None], axis[None, :], s, "path").max() <= best + slack, seed
        assert smoothed_value(p, *rng.uniform(-0.03, 0.03, (2, 3000)), s, "path").max() <= best + slack, seed


@pytest.mark.parametrize("bounds", [((-0.03, 0.03), (-0.001, 0.0)), ((0.002, 0.01), (-0.02, -0.005))])
def test_honours_the_bounds_of_each_axis(bounds):
    for seed in range(6):
        p = finer_problem(seed, 25, seed % 2 == 0)
        u, v, best, _ = solve_smoothed(p, 0.004, "path", bounds)
        assert bounds[0][0] <= u <= bounds[0][1] and bounds[1][0] <= v <= bounds[1][1]
        points = np.random.default_rng(seed).uniform(*np.array(bounds).T[:, :, None], (2, 2000))
        assert smoothed_value(p, *points, 0.004, "path").max() <= best + 1e-7


def test_the_order_of_the_rows_and_idle_rows_never_change_the_offsets():
    for seed in range(10):
        p = finer_problem(seed, 40, seed % 2 == 0, coarse=seed % 3 == 0)
        first = solve_smoothed(p, 0.004, "path")
        shuffled = with_rows(p, np.random.default_rng(seed).permutation(40))
        weights = {name: np.r_[getattr(p, name), np.zeros(7)] for name in ("long_weight", "short_weight")}
        padded = replace(with_rows(p, np.r_[0:40, 0:7]), **weights)
        assert solve_smoothed(shuffled, 0.004, "path") == first
        assert solve_smoothed(padded, 0.004, "path") == first


def test_a_target_that_cannot_come_later_adds_nothing():
    """One finer bar a row has no corner: the smoothed value is that of close."""
    p = finer_problem(3, 20, touch=False, most=1)
    assert len(path_terms(p)) == 0
    for u, v in ((0.0, 0.0), (0.004, -0.002)):
        path, close = (float(smoothed_value(p, u, v, 0.004, exit)) for exit in ("path", "close"))
        assert path == close
    none = replace(p, finer=None)
    assert solve_smoothed(none, 0.004, "path") == solve_smoothed(none, 0.004, "close")
