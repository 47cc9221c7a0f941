"""The exact solver against brute force over corners, grids and random points, and its tie-break."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import LevelsInputError
from engine.search.levels import exact
from engine.simulation.levels import LevelsProblem, bar_net, order_prices, problem, value

FEES = ((0.0, 0.0, 0.0), (0.0005, 0.0005, 0.0007))
STEP = 1e-9
ROWS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")


def random_problem(seed, n, touch, coarse=False):
    """Rows of both signs; ``coarse`` puts everything on a grid of 1 %, so that breaks tie."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    if coarse:
        low, high, up, down = (np.round(x, 2) for x in (low, high, up, down))
    close = np.clip(low + (high - low) * rng.random(n), low, high)
    close = np.clip(np.round(close, 2), low, high) if coarse else close
    weights = rng.choice([0.0, 1.0, 1.0, 2.5], (2, n))
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    fees = FEES[seed % 2]
    return LevelsProblem(
        close, high, low, up, down, *weights, delta, np.full(n, 100.0), np.arange(1, n + 1), *fees, touch
    )


def values(p, u, v, exit):
    """The objective on arrays of offsets that broadcast, one row at a time."""
    total = np.zeros(np.broadcast_shapes(np.shape(u), np.shape(v)))
    for i in range(len(p)):
        h = np.clip(p.forecast_high[i] + u, 0.0, 10.0)
        level = np.clip(p.forecast_low[i] + v, -1.0, 0.0)
        top, bottom = p.high[i] - p.delta[i], p.low[i] + p.delta[i]
        sold = (h <= top) & (exit == "target")
        bought = (level >= bottom) & (exit == "target")
        enters_long = level > bottom if p.touch else level >= bottom
        enters_short = h < top if p.touch else h <= top
        out = np.where(sold, h - p.fee_target, p.close[i] - p.fee_close)
        back = np.where(bought, level + p.fee_target, p.close[i] + p.fee_close)
        total = total + p.long_weight[i] * enters_long * (out - level - p.fee_entry)
        total = total + p.short_weight[i] * enters_short * (h - back - p.fee_entry)
    return total


def corners(p, bounds):
    """Both sides of every break of both axes, 0 and the bounds: all corners of all cells, one-sided."""
    axes = []
    for breaks, (lower, upper) in zip(
        (p.high - p.forecast_high - p.delta, p.low - p.forecast_low + p.delta), bounds, strict=True
    ):
        points = [0.0, lower, upper, *(breaks - STEP), *(breaks + STEP)]
        axes.append(np.array(sorted(x for x in points if lower <= x <= upper)))
    return axes[0][:, None], axes[1][None, :]


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize("coarse", [True, False])
def test_finds_the_best_of_all_corners(exit, touch, coarse):
    for seed in range(60):
        p = random_problem(seed, [1, 2, 5, 12, 40][seed % 5], touch, coarse)
        found = exact.solve(p, exit=exit)
        best = values(p, *corners(p, exact.BOUNDS), exit).max()
        assert found.profit == pytest.approx(best, rel=1e-12, abs=1e-12), seed
        assert found.profit == value(p, found.u, found.v, exit)
        assert found.profit == pytest.approx(float(values(p, found.u, found.v, exit)), rel=1e-12, abs=1e-12)
        assert found.profit >= found.profit_zero - 1e-15


def beats_every_point(p, exit, grid, points, seed):
    found = exact.solve(p, exit=exit)
    axis = np.linspace(-0.03, 0.03, grid)
    rng = np.random.default_rng(seed)
    thrown = rng.uniform(-0.03, 0.03, (2, points))
    slack = STEP * (p.long_weight.sum() + p.short_weight.sum())  # the optimum stands one step off its break
    assert found.profit >= values(p, axis[:, None], axis[None, :], exit).max() - slack, seed
    assert found.profit >= values(p, thrown[0], thrown[1], exit).max() - slack, seed


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("touch", [True, False])
def test_is_never_beaten_by_a_grid_or_by_random_points(exit, touch):
    for seed in range(15):
        beats_every_point(random_problem(seed, 20, touch), exit, 61, 2000, seed)


@pytest.mark.slow
def test_is_never_beaten_by_a_fine_grid_or_many_random_points():
    for seed in range(500):
        p = random_problem(seed, [3, 10, 20, 30][seed % 4], touch=seed % 2 == 0)
        beats_every_point(p, ("close", "target")[seed // 2 % 2], 601, 100_000, seed)


@pytest.mark.parametrize("bounds", [((-0.03, 0.03), (-0.001, 0.0)), ((0.002, 0.01), (-0.02, -0.005)),
                                    ((-1.0, 1.0), (-1.0, 1.0))])  # fmt: skip
@pytest.mark.parametrize("exit", ["close", "target"])
def test_honours_the_bounds_of_each_axis(bounds, exit):
    for seed in range(20):
        p = random_problem(seed, 25, touch=seed % 2 == 0)
        found = exact.solve(p, exit=exit, bounds=bounds)
        assert bounds[0][0] <= found.u <= bounds[0][1] and bounds[1][0] <= found.v <= bounds[1][1]
        points = [[*bounds[a], min(max(0.0, bounds[a][0]), bounds[a][1])] for a in (0, 1)]
        u, v = corners(p, bounds)
        inside = (u.ravel()[:, None] >= bounds[0][0]) & (v.ravel()[None, :] >= bounds[1][0])
        best = np.where(inside, values(p, u, v, exit), -np.inf).max()
        assert (
            found.profit
            >= max(best, values(p, np.array(points[0])[:, None], np.array(points[1]), exit).max()) - 1e-12
        )


@pytest.mark.parametrize("bounds", [((0.01, 0.01), (-0.03, 0.03)), ((-0.03, 0.03), (0.0, -0.01)),
                                    ((-0.03, math.nan), (-0.03, 0.03))])  # fmt: skip
def test_refuses_bounds_in_the_wrong_order(bounds):
    with pytest.raises(
        LevelsInputError, match=r"^levels\.bounds\.(high|low) was \(.*\), expected two finite numbers"
    ):
        exact.solve(random_problem(0, 5, touch=True), exit="close", bounds=bounds)


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("coarse", [True, False])
def test_the_order_of_the_rows_and_idle_rows_never_change_the_offsets(exit, coarse):
    for seed in range(30):
        p = random_problem(seed, 40, touch=seed % 2 == 0, coarse=coarse)
        first = exact.solve(p, exit=exit)
        rng = np.random.default_rng(seed)
        order = rng.permutation(40)
        shuffled = replace(p, **{name: getattr(p, name)[order] for name in (*ROWS, "base", "index")})
        padded = replace(
            p,
            **{name: np.r_[getattr(p, name), 0 * getattr(p, name)[:7]] for name in (*ROWS, "index")},
            base=np.r_[p.base, p.base[:7]],
        )
        for other in (shuffled, padded):
            again = exact.solve(other, exit=exit)
            assert (again.u, again.v) == (first.u, first.v)
            assert again.profit == pytest.approx(first.profit, rel=1e-12, abs=1e-12)


def test_rows_that_tie_in_some_columns_still_have_one_order():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (60, 8)).astype(float)
    ordered = exact._canonical(rows)
    assert ordered.tolist() == sorted(row for row in rows.tolist() if row[5] or row[6])
    assert exact._canonical(rows[rng.permutation(60)]).tobytes() == ordered.tobytes()


@pytest.mark.parametrize("exit", ["close", "target"])
def test_an_axis_that_nothing_depends_on_stays_at_zero(exit):
    p = random_problem(1, 30, touch=False)
    short = exact.solve(replace(p, long_weight=np.zeros(30)), exit="close")
    long = exact.solve(replace(p, short_weight=np.zeros(30)), exit="close")
    assert short.v == 0.0 and short.u != 0.0 and long.u == 0.0 and long.v != 0.0
    # bars that never trade away from the base fill nothing anywhere
    flat = replace(p, close=np.zeros(30), high=np.zeros(30), low=np.zeros(30), delta=np.full(30, 1e-9))
    found = exact.solve(flat, exit=exit)
    assert (found.u, found.v, found.profit, found.status) == (0.0, 0.0, 0.0, "abstain")


def test_equal_values_take_the_nearest_offsets_then_the_smaller():
    # A long that may be bought anywhere above its low at level 0: every v >= -down earns the same.
    row = {"close": [0.02], "high": [0.02], "low": [-0.0005], "forecast_high": [0.5], "forecast_low": [0.01]}
    p = replace(
        random_problem(0, 1, touch=False), **row, long_weight=[1.0], short_weight=[0.0], delta=[0.001]
    )
    found = exact.solve(p, exit="close")
    assert (found.u, found.v, found.fills_long) == (0.0, 0.0, 0)  # trade-through impossible at the base
    found = exact.solve(replace(p, delta=[0.0005]), exit="close")
    assert (found.u, found.v, found.fills_long) == (0.0, 0.0, 1)


@pytest.mark.parametrize("exit", ["close", "target"])
def test_nothing_to_trade_is_empty(exit):
    p = random_problem(0, 6, touch=True)
    for idle in (
        replace(p, long_weight=np.zeros(6), short_weight=np.zeros(6)),
        replace(p, **{name: getattr(p, name)[:0] for name in (*ROWS, "base", "index")}),
    ):
        found = exact.solve(idle, exit=exit)
        assert (found.u, found.v, found.profit, found.profit_zero, found.status) == (0, 0, 0, 0, "empty")


def test_a_loss_abstains_only_where_asked():
    row = {"close": [-0.02], "high": [0.0], "low": [-0.02], "forecast_high": [0.01], "forecast_low": [0.05]}
    p = replace(random_problem(0, 1, touch=True), **row, long_weight=[1.0], short_weight=[0.0])
    kept = exact.solve(p, exit="close", abstain=False)
    assert (kept.status, kept.profit) == ("ok", -0.02)
    assert exact.solve(p, exit="close").status == "abstain"


@pytest.mark.parametrize("exit", ["close", "target"])
def test_a_higher_fee_never_raises_the_optimum(exit):
    for seed in range(30):
        p = random_problem(seed, 30, touch=seed % 2 == 0)
        last = math.inf
        for fee in (0.0, 0.0005, 0.002, 0.01):
            found = exact.solve(replace(p, fee_entry=fee, fee_target=fee, fee_close=2 * fee), exit=exit)
            assert found.profit <= last + 1e-12
            last = found.profit


def market(objective, fill, sides="both", n=1200):
    """Problems of real form: bars on a tick grid, forecasts known at the close before."""
    bars = make_bars(11, n)
    rng = np.random.default_rng(11)
    made = []
    for start in range(100, n - 100, 100):
        made.append(
            problem(bars, rng.normal(0.01, 0.004, n), rng.normal(-0.01, 0.004, n), start, start + 100,
                    objective=objective, side="maxdiff", sides=sides, fee_bps=5.0, slippage_bps=2.0,
                    fee_mode="per_side", fill=fill, tick=0.01)
        )  # fmt: skip
    return made


@pytest.mark.parametrize("exit", ["close", "target"])
def test_a_stricter_trigger_fills_a_subset_and_does_not_raise_the_optimum_on_bars(exit):
    for loose, strict in zip(market("always_on", "through:1"), market("always_on", "through:2"), strict=True):
        found = exact.solve(loose, exit=exit)
        assert exact.solve(strict, exit=exit).profit <= found.profit + 1e-12
        wide, narrow = (bar_net(p, found.u, found.v, exit) for p in (loose, strict))
        assert not (narrow.long & ~wide.long).any() and not (narrow.short & ~wide.short).any()


def test_a_stricter_trigger_can_raise_the_optimum_by_shedding_a_losing_fill():
    # Row 0 earns once v lifts its level; row 1 then stands at the base and loses its fee, unless
    # the trigger asks for more than the 1 bp that its low lies below the base.
    p = LevelsProblem(
        [0.05, 0.0], [0.06, 0.01], [-0.01, -1e-4], [0.1, 0.1], [-0.03, -0.01], [1, 1], [0, 0],
        [1e-4, 1e-4], [100.0, 100.0], [1, 2], 0.001, 0.001, 0.001, False,
    )  # fmt: skip
    loose, strict = (exact.solve(replace(p, delta=np.full(2, d)), exit="close") for d in (1e-4, 2e-4))
    assert (loose.fills_long, strict.fills_long) == (2, 1)
    assert strict.profit > loose.profit


@pytest.mark.parametrize("exit", ["close", "target"])
def test_solved_orders_fill_on_the_tick_grid_where_they_were_scored_as_filled(exit):
    for p in market("always_on", "through:1"):
        found = exact.solve(p, exit=exit)
        scored = bar_net(p, found.u, found.v, exit)
        buy = order_prices(p.base, scored.low_level, p.tick, buy=True)
        sell = order_prices(p.base, scored.high_level, p.tick, buy=False)
        low, high = p.base * (1 + p.low), p.base * (1 + p.high)
        bought, sold, low, high = (np.rint(price / p.tick) for price in (buy, sell, low, high))
        assert np.array_equal(scored.long, (p.long_weight > 0) & (low <= bought - 1))
        assert np.array_equal(scored.short, (p.short_weight > 0) & (high >= sold + 1))


@pytest.mark.parametrize("exit", ["close", "target"])
def test_long_only_solves_the_long_leg_alone(exit):
    for both, long in zip(market("always_on", "touch"), market("always_on", "touch", "long"), strict=True):
        alone = replace(both, short_weight=np.zeros(len(both)))
        assert exact.solve(long, exit=exit) == exact.solve(alone, exit=exit)
        assert exact.solve(long, exit=exit).fills_short == 0


def test_a_batch_solves_equal_problems_once(monkeypatch):
    made = market("entry_exit", "through:1", n=500)
    jobs = [(p, exit) for p in made for exit in ("path", "close", "target")]
    asked = []
    original = exact.solve
    monkeypatch.setattr(exact, "solve", lambda p, **options: asked.append(p) or original(p, **options))
    found = exact.solve_all(jobs)
    assert len(found) == len(jobs) == 9 and len(asked) == 6
    for (p, exit), solution in zip(jobs, found, strict=True):
        assert solution == original(p, exit=exit)
    assert found[0] is found[1] and found[0] != found[2]
    dearer = replace(made[0], fee_entry=0.01)
    assert exact.solve_all([(made[0], "close"), (dearer, "close")])[1] == original(dearer, exit="close")


def test_counts_of_a_solution_are_those_of_its_offsets():
    for p in market("always_on", "through:1", n=500):
        found = exact.solve(p, exit="target")
        scored = bar_net(p, found.u, found.v, "target")
        assert found.fills_long == scored.long.sum() > 0 and found.fills_short == scored.short.sum()
        assert found.fills_target == scored.long_target.sum() + scored.short_target.sum()
        assert found.evaluations > 100


def test_warm_compiles_every_kernel():
    exact.warm()
