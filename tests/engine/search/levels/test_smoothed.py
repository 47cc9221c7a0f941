"""The smoothed objective against draws, against the plain one, and its maximum against grids."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import LevelsInputError
from engine.search.levels import exact, smoothed
from engine.search.levels.smoothed import smoothed_value, solve_smoothed
from engine.search.levels.width import smoothing_width
from engine.simulation.levels import LevelsProblem, value

COLUMNS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")


def random_problem(seed, n, touch, coarse=False):
    """Rows of both signs; ``coarse`` puts everything on a grid of 1 %: levels of exactly 0 occur."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    if coarse:
        low, high, up, down = (np.round(x, 2) for x in (low, high, up, down))
    close = np.clip(low + (high - low) * rng.random(n), low, high)
    weights = rng.choice([0.0, 1.0, 2.5], (2, n))
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    fees = (0.0004, 0.0005, 0.0007)
    base, index = np.full(n, 100.0), np.arange(1, n + 1)
    return LevelsProblem(close, high, low, up, down, *weights, delta, base, index, *fees, touch)


def plain(p, u, v, exit):
    """The plain objective at arrays of pairs, one row at a time."""
    total = np.zeros(np.shape(u))
    live = exit == "target"
    for i in range(len(p)):
        h, l = np.clip(p.forecast_high[i] + u, 0.0, 10.0), np.clip(p.forecast_low[i] + v, -1.0, 0.0)  # noqa: E741
        top, bottom = p.high[i] - p.delta[i], p.low[i] + p.delta[i]
        enters_long, enters_short = (l > bottom, h < top) if p.touch else (l >= bottom, h <= top)
        out = np.where(live & (h <= top), h - p.fee_target, p.close[i] - p.fee_close)
        back = np.where(live & (l >= bottom), l + p.fee_target, p.close[i] + p.fee_close)
        total = total + p.long_weight[i] * enters_long * (out - l - p.fee_entry)
        total = total + p.short_weight[i] * enters_short * (h - back - p.fee_entry)
    return total


@pytest.mark.parametrize("exit", ["close", "path", "target"])
@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize("coarse", [True, False])
def test_equals_the_mean_over_draws(exit, touch, coarse):
    """Within 4 standard errors of 300,000 draws; with s = 2 % most levels meet their clip."""
    for seed, s in enumerate((0.001, 0.005, 0.02)):
        p = random_problem(seed, 6, touch, coarse)
        rng = np.random.default_rng(seed + 100)
        u, v = rng.uniform(-0.01, 0.01, 2)
        draws = rng.normal(0, s, (2, 300_000))
        drawn = plain(p, u + draws[0], v + draws[1], exit)
        error = drawn.std() / math.sqrt(drawn.size)
        assert error > 0
        assert abs(float(smoothed_value(p, u, v, s, exit)) - drawn.mean()) < 4 * error, (seed, s)


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("touch", [True, False])
def test_tends_to_the_plain_objective_away_from_breaks(exit, touch):
    checked = 0
    for seed in range(40):
        p = random_problem(seed, 10, touch)
        rng = np.random.default_rng(seed)
        u, v = rng.uniform(-0.01, 0.01, 2)
        breaks_u = np.r_[p.high - p.delta - p.forecast_high, -p.forecast_high]
        breaks_v = np.r_[p.low + p.delta - p.forecast_low, -p.forecast_low]
        if min(np.abs(breaks_u - u).min(), np.abs(breaks_v - v).min()) > 2e-5:
            checked += 1
            assert float(smoothed_value(p, u, v, 1e-6, exit)) == pytest.approx(
                value(p, u, v, exit), abs=1e-12
            )
    assert checked > 15


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("touch", [True, False])
def test_the_maximum_beats_a_grid_and_random_points(exit, touch):
    for seed in range(12):
        p = random_problem(seed, [1, 4, 15, 60][seed % 4], touch, coarse=seed % 3 == 0)
        s = [0.001, 0.004, 0.02][seed % 3]
        u, v, best, evaluations = solve_smoothed(p, s, exit)
        assert max(abs(u), abs(v)) <= 0.03 and evaluations > 0
        assert best == pytest.approx(float(smoothed_value(p, u, v, s, exit)), rel=1e-12, abs=1e-14)
        axis, rng = np.linspace(-0.03, 0.03, 241), np.random.default_rng(seed)
        slack = 1e-9 * (p.long_weight.sum() + p.short_weight.sum())  # offsets are found to 1e-6
        assert smoothed_value(p, axis[:, None], axis[None, :], s, exit).max() <= best + slack, seed
        assert smoothed_value(p, *rng.uniform(-0.03, 0.03, (2, 5000)), s, exit).max() <= best + slack, seed


def test_the_two_methods_agree_where_the_axes_do_not_meet():
    """No bar rises above its base, so no target can trade and the axes are separate at both exits."""
    for seed in range(10):
        p = random_problem(seed, 30, touch=False)
        high = np.minimum(p.high, -0.001)
        low = np.minimum(p.low, high)
        p = replace(p, high=high, low=low, close=np.clip(p.close, low, high), short_weight=np.zeros(30))
        _, by_newton, best, _ = solve_smoothed(p, 0.004, "close")
        u, by_grid, other, _ = solve_smoothed(p, 0.004, "target")
        assert other == pytest.approx(best, abs=1e-10) and best != 0 and u == 0.0
        assert by_grid == pytest.approx(by_newton, abs=2e-6)


@pytest.mark.parametrize(
    "exit, seed, s", [("close", 274, 0.003), ("close", 277, 0.001), ("target", 164, 0.003)]
)
def test_finds_a_summit_that_is_not_beside_the_highest_point_of_the_grid(exit, seed, s):
    """Refining the one highest point of the grid alone ends on a lower summit of these problems."""
    p = random_problem(seed, 2 + seed % 6, bool(seed % 2))
    found = solve_smoothed(p, s, exit)[2]
    fine = np.linspace(-0.03, 0.03, 401)
    u, v = np.meshgrid(fine, fine)
    assert found >= np.max(smoothed_value(p, u, v, s, exit)) - 1e-12


@pytest.mark.parametrize("exit", ["close", "target"])
def test_the_order_of_the_rows_and_idle_rows_never_change_the_offsets(exit):
    for seed in range(10):
        p = random_problem(seed, 40, touch=seed % 2 == 0, coarse=seed % 3 == 0)
        first = solve_smoothed(p, 0.004, exit)
        order = np.random.default_rng(seed).permutation(40)
        shuffled = replace(p, **{name: getattr(p, name)[order] for name in (*COLUMNS, "base", "index")})
        padded = replace(
            p,
            **{name: np.r_[getattr(p, name), 0 * getattr(p, name)[:7]] for name in (*COLUMNS, "index")},
            base=np.r_[p.base, p.base[:7]],
        )
        assert solve_smoothed(shuffled, 0.004, exit) == first
        assert solve_smoothed(padded, 0.004, exit) == first
        assert smoothing_width(shuffled, 0.25) == smoothing_width(p, 0.25)


@pytest.mark.parametrize("bounds", [((-0.03, 0.03), (-0.001, 0.0)), ((0.002, 0.01), (-0.02, -0.005)),
                                    ((-0.9, 0.9), (-0.9, 0.9))])  # fmt: skip
@pytest.mark.parametrize("exit", ["close", "target"])
def test_honours_the_bounds_of_each_axis(bounds, exit):
    for seed in range(8):
        p = random_problem(seed, 25, touch=seed % 2 == 0)
        u, v, best, _ = solve_smoothed(p, 0.004, exit, bounds)
        assert bounds[0][0] <= u <= bounds[0][1] and bounds[1][0] <= v <= bounds[1][1]
        points = np.random.default_rng(seed).uniform(*np.array(bounds).T[:, :, None], (2, 2000))
        assert smoothed_value(p, *points, 0.004, exit).max() <= best + 1e-7


@pytest.mark.parametrize("exit", ["close", "target"])
def test_a_higher_fee_never_earns_more(exit):
    for seed in range(15):
        p = random_problem(seed, 30, touch=False)
        best = solve_smoothed(p, 0.004, exit)[2]
        for name in ("fee_entry", "fee_target", "fee_close"):
            dear = replace(p, **{name: getattr(p, name) + 0.001})
            assert solve_smoothed(dear, 0.004, exit)[2] <= best + 1e-9


@pytest.mark.parametrize("exit", ["close", "target"])
def test_a_stricter_trigger_never_earns_more(exit):
    """Bars reach well beyond their base, and the bounds are wide, so that only the distance counts."""
    for seed in range(15):
        p = random_problem(seed, 30, touch=False)
        p = replace(p, high=np.maximum(p.high, 0.003), low=np.minimum(p.low, -0.003), delta=np.full(30, 1e-4))
        wide = (-0.2, 0.2), (-0.2, 0.2)
        best = solve_smoothed(p, 0.002, exit, wide)[2]
        assert solve_smoothed(replace(p, delta=p.delta + 0.001), 0.002, exit, wide)[2] <= best + 1e-9


@pytest.mark.parametrize("exit", ["close", "target"])
def test_an_axis_that_nothing_depends_on_stays_at_0(exit):
    p = random_problem(3, 30, touch=False)
    buys = replace(p, short_weight=np.zeros(30))
    if exit == "close":
        assert solve_smoothed(buys, 0.004, exit)[0] == 0.0
    dead = replace(buys, long_weight=np.zeros(30))
    assert solve_smoothed(dead, 0.004, exit) == (0.0, 0.0, 0.0, 0)
    assert solve_smoothed(replace(buys, delta=np.full(30, 0.9)), 0.004, exit)[:3] == (0.0, 0.0, 0.0)


def test_without_width_the_answer_is_the_exact_one():
    p = random_problem(5, 30, touch=False)
    raw = exact.solve(p, exit="target")
    assert solve_smoothed(p, 0.0, "target") == (raw.u, raw.v, raw.profit, raw.evaluations)


def test_the_width_is_a_share_of_the_windows_volatility():
    p = random_problem(1, 60, touch=False)
    means = []
    for t in range(60):
        weights = (19 / 21) ** np.arange(t, -1, -1)
        means.append(math.sqrt((weights * p.close[: t + 1] ** 2).sum() / weights.sum()))
    assert smoothing_width(p, 0.25) == pytest.approx(0.25 * np.median(means), rel=1e-12)
    assert smoothing_width(p, {"absolute": 0.004}) == 0.004
    still = replace(p, close=np.zeros(60), high=np.maximum(p.high, 0), low=np.minimum(p.low, 0))
    assert smoothing_width(still, 0.25) == 0.0


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf, {"absolute": 0.0}, {"relative": 1.0}, {}])
def test_refuses_a_width_that_is_none(wrong):
    with pytest.raises(
        LevelsInputError, match=r"^levels\.smoothing was .*, expected a number > 0 .*\{absolute: x\}"
    ):
        smoothing_width(random_problem(0, 5, touch=True), wrong)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_refuses_to_smooth_by_a_width_that_is_none(wrong):
    with pytest.raises(LevelsInputError, match="the smoothing width was .*, expected a number > 0"):
        smoothed_value(random_problem(0, 5, touch=True), 0.0, 0.0, wrong, "close")


@pytest.mark.parametrize("exit", ["close", "target"])
def test_refuses_a_width_that_no_grid_can_follow(exit):
    with pytest.raises(LevelsInputError, match="raise levels.smoothing or set levels.objective: sup"):
        solve_smoothed(random_problem(0, 5, touch=True), 1e-9, exit)


def test_a_quiet_market_needs_no_long_grid():
    """Where all moves are tiny, only the stretch in which anything changes is gridded."""
    p = random_problem(2, 50, touch=False)
    quiet = replace(p, **{name: getattr(p, name) / 1e4 for name in COLUMNS[:5]}, delta=np.full(50, 1e-9))
    s = smoothing_width(quiet, 0.25)
    assert 0 < s < 1e-6
    assert solve_smoothed(quiet, s, "close")[3] < 5000


@pytest.mark.parametrize("bounds", [((0.01, 0.01), (-0.03, 0.03)), ((-0.03, 0.03), (0.0, -0.01))])
def test_refuses_bounds_in_the_wrong_order(bounds):
    with pytest.raises(LevelsInputError, match=r"^levels\.bounds\.(high|low) was \(.*\), expected two"):
        solve_smoothed(random_problem(0, 5, touch=True), 0.004, "close", bounds)


def test_warming_compiles_every_kernel():
    smoothed.warm()
    assert all(kernel.signatures for kernel in (smoothed._climb, smoothed._grid, smoothed._zoom))
