"""The exact solver with finer bars against brute force over all corners and random points, and its ties."""

from dataclasses import replace

import numpy as np
import pytest
from finer import finer_problem, reference, with_rows

from engine.search.levels import exact
from engine.search.levels.exact import BOUNDS, solve, solve_all
from engine.simulation.levels import LevelsProblem, bar_net, value
from engine.simulation.levels_batch import LevelsBatch, levels_grid, levels_value
from engine.simulation.levels_finer import FinerBars

STEP = 1e-9
WIDE = ((-0.9, 0.9), (-0.9, 0.9))
INSIDE = ((0.002, 0.01), (-0.02, -0.005))


def corners(p, bounds):
    """Both sides of every high and low of every bar and finer bar, 0 and the bounds: all corners."""
    row = np.repeat(np.arange(len(p)), np.diff(p.finer.starts))
    sells = np.r_[p.high - p.delta - p.forecast_high, p.finer.high - (p.delta + p.forecast_high)[row]]
    buys = np.r_[p.low + p.delta - p.forecast_low, p.finer.low + (p.delta - p.forecast_low)[row]]
    axes = []
    for breaks, (lower, upper) in zip((sells, buys), bounds, strict=True):
        points = np.unique(np.r_[0.0, lower, upper, breaks - STEP, breaks + STEP])
        axes.append(points[(lower <= points) & (points <= upper)])
    return axes


def test_brute_force_is_the_plain_loop():
    """What the tests below compare with: the batched grid, here against the rules' own words."""
    for seed in range(4):
        p = finer_problem(seed, 3, seed % 2 == 0, coarse=seed > 1, most=3)
        u, v = (axis[:: len(axis) // 12 + 1] for axis in corners(p, WIDE))
        grid = levels_grid(LevelsBatch.of([p]), u[None], v[None], "path")[0]
        expected = [[reference(p, a, b)[0] for b in v] for a in u]
        np.testing.assert_allclose(grid, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bounds", [BOUNDS, WIDE, INSIDE])
@pytest.mark.parametrize("touch", [True, False])
def test_has_no_regret_against_all_corners_and_random_points(bounds, touch):
    """80 problems of 0 to 8 rows with 0 to 8 finer bars each; every second one on a grid of 1 %."""
    better = 0
    for seed in range(80):
        p = finer_problem(seed, [0, 1, 2, 4, 8][seed % 5], touch, coarse=seed % 2 == 0)
        found = solve(p, exit="path", bounds=bounds, abstain=False)
        if found.status == "empty":
            continue
        batch, (u, v) = LevelsBatch.of([p]), corners(p, bounds)
        best = levels_grid(batch, u[None], v[None], "path").max()
        assert found.profit == pytest.approx(best, rel=1e-12, abs=1e-12), seed
        assert found.profit == value(p, found.u, found.v, "path")
        rng = np.random.default_rng(seed)
        thrown = levels_value(batch, *(rng.uniform(*pair, (1, 2000)) for pair in bounds), "path")
        assert thrown.max() <= found.profit + STEP * (p.long_weight.sum() + p.short_weight.sum()), seed
        assert bounds[0][0] <= found.u <= bounds[0][1] and bounds[1][0] <= found.v <= bounds[1][1]
        scored = bar_net(p, found.u, found.v, "path")
        assert found.fills_target == scored.long_target.sum() + scored.short_target.sum()
        better += found.profit > solve(p, exit="close", bounds=bounds).profit + 1e-6
    assert better > (3 if bounds == INSIDE else 15)  # finer bars mattered


@pytest.mark.slow
def test_has_no_regret_on_many_and_larger_problems():
    for seed in range(1000):
        p = finer_problem(seed, [3, 5, 8, 14][seed % 4], seed % 2 == 0, coarse=seed % 3 == 0)
        found = solve(p, exit="path", abstain=False)
        u, v = corners(p, BOUNDS)
        best = levels_grid(LevelsBatch.of([p]), u[None], v[None], "path").max()
        assert found.status == "empty" or found.profit == pytest.approx(best, rel=1e-12, abs=1e-12), seed


def test_the_optimum_lies_between_those_of_close_and_target_on_one_leg_without_costs():
    """Entries are the same, and no target earns less than leaving at the bar's low."""
    for seed in range(40):
        p = finer_problem(seed, 20, seed % 2 == 0, fees=(0.0, 0.0, 0.0))
        p = replace(p, short_weight=np.zeros(20), close=p.low)
        low, path, high = (solve(p, exit=exit).profit for exit in ("close", "path", "target"))
        assert low - 1e-12 <= path <= high + 1e-12


def test_a_higher_fee_never_raises_the_optimum_and_a_stricter_trigger_credits_a_subset():
    for seed in range(20):
        p = finer_problem(seed, 20, touch=False)
        last = np.inf
        for fee in (0.0, 0.0005, 0.002, 0.01):
            dear = replace(p, fee_entry=fee, fee_target=fee, fee_close=2 * fee)
            found = solve(dear, exit="path", abstain=False)
            assert found.profit <= last + 1e-12
            last = found.profit
        loose, strict = (bar_net(q, 0.0, 0.0, "path") for q in (p, replace(p, delta=p.delta + 0.002)))
        for leg in ("long", "short", "long_target", "short_target"):
            assert not (getattr(strict, leg) & ~getattr(loose, leg)).any()


def test_without_a_short_leg_the_long_leg_is_solved_alone():
    p = finer_problem(3, 30, touch=False)
    long = replace(p, short_weight=np.zeros(30))
    found = solve(long, exit="path")
    assert found.fills_short == 0 and found.fills_long > 0
    whole = bar_net(p, found.u, found.v, "path")
    assert found.profit == pytest.approx((whole.long_gross - whole.long_costs).sum(), rel=1e-12)


def test_one_bar_by_hand():
    """Base 100, finer lows 98, 99, 97 and highs 99, 103, 101: buy at 98 and sell at 103, less a tick each."""
    p = LevelsProblem(
        [-0.03], [0.03], [-0.03], [0.0], [0.0], [1.0], [0.0], [0.0001], [100.0], [1], 0.0, 0.0, 0.0, False,
        finer=FinerBars([0, 3], [-0.01, 0.03, 0.01], [-0.02, -0.01, -0.03]),
    )  # fmt: skip
    found = solve(p, exit="path", bounds=WIDE)
    assert found.u == pytest.approx(0.0299, abs=2e-9) and found.v == pytest.approx(-0.0199, abs=2e-9)
    assert found.profit == pytest.approx(0.0498, abs=1e-8) and found.fills_target == 1
    # target alone would buy at 97; the close leaves at 97, where the earliest cheap entry loses least
    assert solve(p, exit="target", bounds=WIDE).profit == pytest.approx(0.0598, abs=1e-8)
    assert solve(p, exit="close", bounds=WIDE).profit == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("coarse", [True, False])
def test_the_order_of_the_rows_and_idle_rows_never_change_the_offsets(coarse):
    for seed in range(30):
        p = finer_problem(seed, 40, seed % 2 == 0, coarse)
        first = solve(p, exit="path")
        shuffled = with_rows(p, np.random.default_rng(seed).permutation(40))
        idle = with_rows(p, np.r_[0:40, 0:7])
        weights = {name: np.r_[getattr(p, name), np.zeros(7)] for name in ("long_weight", "short_weight")}
        for other in (shuffled, replace(idle, **weights)):
            again = solve(other, exit="path")
            assert (again.u, again.v) == (first.u, first.v)
            assert again.profit == pytest.approx(first.profit, rel=1e-12, abs=1e-12)


def test_equal_values_take_the_nearest_offsets_then_the_smaller():
    """All finer bars at the base: every u earns the same target, and a level of 0 is bought by any v."""
    row = {"close": [0.0], "high": [0.0], "low": [0.0], "forecast_high": [-0.5], "forecast_low": [0.5]}
    p = replace(finer_problem(0, 1, touch=False), finer=None)
    p = replace(p, **row, delta=[0.0], long_weight=[1.0], short_weight=[0.0],
                finer=FinerBars([0, 2], [0.0, 0.0], [0.0, 0.0]))  # fmt: skip
    found = solve(p, exit="path", abstain=False)
    assert (found.u, found.v, found.fills_long, found.fills_target) == (0.0, 0.0, 1, 1)


def test_finer_bars_that_no_row_holds_are_solved_as_close():
    for seed in range(10):
        p = finer_problem(seed, 12, seed % 2 == 0, most=0)
        path, close = (solve(p, exit=exit) for exit in ("path", "close"))
        assert (path.u, path.v) == pytest.approx((close.u, close.v), abs=1e-15)
        assert path.profit == pytest.approx(close.profit, rel=1e-12, abs=1e-15)


def test_equal_jobs_are_solved_once_and_other_finer_bars_are_another_job(monkeypatch):
    asked = []
    original = exact.solve
    monkeypatch.setattr(exact, "solve", lambda p, **how: asked.append(p) or original(p, **how))
    p = finer_problem(1, 12, touch=False)
    same = replace(p, finer=p.finer.take(np.arange(12)))
    none = replace(p, finer=None)
    jobs = [(p, "path"), (same, "path"), (none, "path"), (none, "close"), (p, "close"), (p, "target")]
    found = solve_all(jobs)
    assert len(asked) == 3 and found[0] is found[1] and found[2] is found[3] is found[4]
    assert found[0] != found[2]
