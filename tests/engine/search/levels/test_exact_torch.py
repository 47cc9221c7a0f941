"""The exact solver in torch: brute force, grids, the compiled solver, and its tie-break."""

from dataclasses import replace

import numpy as np
import pytest

from engine.search.levels import backends, optimize_levels
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.exact_torch import candidates, solve_torch
from engine.simulation.levels import LevelsProblem, value
from engine.simulation.levels_batch import LevelsBatch, levels_grid, levels_value

STEP = 1e-9
ROWS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")
NARROW = ((-0.03, 0.03), (-0.001, 0.0))


def random_problem(seed, n, touch, coarse=False):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    if coarse:
        low, high, up, down = (np.round(x, 2) for x in (low, high, up, down))
    close = np.clip(low + (high - low) * rng.choice([0.0, 0.4, 1.0], n), low, high)
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    fees = (0.0005, 0.0005, 0.0007) if seed % 2 else (0.0, 0.0, 0.0)
    return LevelsProblem(
        close, high, low, up, down, *rng.choice([0.0, 1.0, 2.5], (2, n)), delta, np.full(n, 100.0),
        np.arange(1, n + 1), *fees, touch,
    )  # fmt: skip


def mixed(count, coarse=(False, True)):
    return [
        random_problem(s, [0, 1, 2, 7, 30][s % 5], s % 2 == 0, coarse[s % 3 % len(coarse)])
        for s in range(count)
    ]


@pytest.mark.parametrize("exit", ["close", "path", "target"])
@pytest.mark.parametrize("bounds", [BOUNDS, NARROW, ((0.002, 0.01), (-0.02, -0.005))])
def test_earns_what_the_compiled_solver_earns(exit, bounds):
    problems = mixed(100)
    u, v, profit, pairs = solve_torch(LevelsBatch.of(problems), exit, bounds)
    for p, problem in enumerate(problems):
        found = solve(problem, exit=exit, bounds=bounds, abstain=False)
        if found.status == "empty":
            continue
        assert profit[p] == pytest.approx(found.profit, rel=1e-9, abs=1e-12), p
        assert profit[p] == pytest.approx(value(problem, u[p], v[p], exit), rel=1e-12, abs=1e-12)
        assert bounds[0][0] <= u[p] <= bounds[0][1] and bounds[1][0] <= v[p] <= bounds[1][1]
    assert (pairs == (30 + 3) ** 2).all()


@pytest.mark.parametrize("exit", ["close", "target"])
def test_is_the_best_of_all_corners_and_never_beaten_by_grid_or_random_points(exit):
    problems = mixed(60)
    batch = LevelsBatch.of(problems)
    _, _, profit, _ = solve_torch(batch, exit, BOUNDS)
    rng = np.random.default_rng(0)
    axis = np.tile(np.linspace(-0.03, 0.03, 61), (len(batch), 1))
    slack = STEP * np.array([p.long_weight.sum() + p.short_weight.sum() for p in problems])
    assert (profit + slack >= levels_grid(batch, axis, axis, exit).max((1, 2))).all()
    thrown = rng.uniform(-0.03, 0.03, (2, len(batch), 2000))
    assert (profit + slack >= levels_value(batch, *thrown, exit).max(1)).all()
    for p, problem in enumerate(problems):
        axes = []
        for breaks in (problem.high - problem.forecast_high - problem.delta,
                       problem.low - problem.forecast_low + problem.delta):  # fmt: skip
            near = [0.0, -0.03, 0.03, *(breaks - STEP), *(breaks + STEP)]
            axes.append(np.array([[x for x in near if -0.03 <= x <= 0.03]]))
        best = levels_grid(batch.take([p]), *axes, exit).max()
        assert profit[p] == pytest.approx(best, rel=1e-12, abs=1e-12), p


@pytest.mark.slow
def test_is_never_beaten_by_a_fine_grid_or_many_random_points():
    rng = np.random.default_rng(1)
    for seed in range(0, 500, 25):
        problems = [random_problem(s, [3, 10, 20, 30][s % 4], s % 2 == 0) for s in range(seed, seed + 25)]
        batch = LevelsBatch.of(problems)
        exit = ("close", "target")[seed // 25 % 2]
        _, _, profit, _ = solve_torch(batch, exit, BOUNDS)
        slack = STEP * batch.rows[[5, 6]].sum((0, 2))
        axis = np.tile(np.linspace(-0.03, 0.03, 601), (len(batch), 1))
        assert (profit + slack >= levels_grid(batch, axis, axis, exit).max((1, 2))).all()
        thrown = rng.uniform(-0.03, 0.03, (2, len(batch), 100_000))
        assert (profit + slack >= levels_value(batch, *thrown, exit).max(1)).all()


@pytest.mark.parametrize("exit", ["close", "target"])
def test_single_precision_keeps_all_but_a_thousandth(exit):
    batch = LevelsBatch.of([random_problem(s, 60, s % 2 == 0) for s in range(20)])
    _, _, profit, _ = solve_torch(batch, exit, BOUNDS)
    _, _, single, _ = solve_torch(batch, exit, BOUNDS, dtype="float32")
    assert (profit > 0).all() and (single >= 0.999 * profit).all() and (single <= profit + 1e-12).all()


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("coarse", [True, False])
def test_order_padding_and_company_never_change_the_offsets(exit, coarse):
    problems = [random_problem(s, 25, s % 2 == 0, coarse) for s in range(12)]
    first = solve_torch(LevelsBatch.of(problems), exit, BOUNDS)
    rng = np.random.default_rng(0)
    names = (*ROWS, "base", "index")
    shuffled = [
        replace(p, **{name: getattr(p, name)[order] for name in names})
        for p, order in ((p, rng.permutation(25)) for p in problems)
    ]
    longest = random_problem(99, 70, touch=True)
    for batch, memory in ((shuffled, 2**30), ([*problems, longest], 2**30), (problems, 1)):
        again = solve_torch(LevelsBatch.of(batch), exit, BOUNDS, memory_bytes=memory)
        for axis in (0, 1):
            assert again[axis][:12].tobytes() == first[axis].tobytes()
        assert again[2][:12] == pytest.approx(first[2], rel=1e-12, abs=1e-12)


def test_ties_go_to_the_nearest_offsets_and_an_idle_axis_stays_at_zero():
    problems = [random_problem(s, 20, touch=False) for s in range(6)]
    short = LevelsBatch.of([replace(p, long_weight=np.zeros(20)) for p in problems])
    assert not solve_torch(short, "close", BOUNDS)[1].any()
    nothing = LevelsBatch.of(
        [replace(p, long_weight=np.zeros(20), short_weight=np.zeros(20)) for p in problems]
    )
    u, v, profit, _ = solve_torch(nothing, "target", BOUNDS)
    assert not u.any() and not v.any() and not profit.any()


def one_short(high):
    row = {"close": 0.0, "high": high, "low": 0.0, "up": 0.01, "down": -0.5, "a": 0.0, "b": 1.0, "delta": 0.0}
    columns = [np.array([x]) for x in row.values()]
    return LevelsProblem(*columns, np.array([100.0]), np.array([1]), 0.0, 0.0, 0.0, False)


def test_a_corner_that_earns_a_hair_more_than_a_nearer_one_is_taken():
    problem = one_short(0.01 + STEP + 1e-13)  # the sell trades up to u = 1e-13
    u, v, profit, _ = solve_torch(LevelsBatch.of([problem]), "close", BOUNDS)
    found = solve(problem, exit="close")
    assert (u[0], v[0]) == (found.u, found.v) and 0.5e-13 < u[0] < 2e-13 and profit[0] == found.profit


def test_single_precision_is_not_misled_by_a_bound_on_a_break():
    problem = one_short(0.04 - 1e-9)  # at the bound u = 0.03 it does not trade, though float32 sees it trade
    u, _, profit, _ = solve_torch(LevelsBatch.of([problem]), "close", BOUNDS, dtype="float32")
    assert 0.0299 < u[0] < 0.03 and profit[0] == pytest.approx(0.04, rel=1e-3)


@pytest.mark.parametrize("exit", ["close", "target"])
def test_the_solver_s_name_reaches_it_and_all_problems_are_one_tensor(exit, monkeypatch):
    asked = []
    monkeypatch.setattr(backends, "solve_torch", lambda *given: asked.append(given) or solve_torch(*given))
    problems = mixed(20)
    found = optimize_levels(problems, solver="exact-torch", objective="sup", exit=exit, device="cpu")
    ((batch, *rest),) = asked
    assert (
        rest == [exit, BOUNDS, "cpu"] and len(batch) == sum(status != "empty" for status in found.status) > 12
    )
    assert np.abs(found.regret).max() < 1e-9 and found.backend_version.endswith("on cpu")
    exact = optimize_levels(problems, objective="sup", exit=exit)
    np.testing.assert_allclose(found.profit, exact.profit, rtol=1e-9, atol=1e-12)


def test_corners_out_of_bounds_become_a_bound():
    problem = random_problem(3, 30, touch=False)
    for axis, (lower, upper) in zip(candidates(LevelsBatch.of([problem]), NARROW, STEP), NARROW, strict=True):
        assert axis.shape == (1, 33) and lower <= axis.min() and axis.max() <= upper
        assert {lower, upper, 0.0} <= set(axis.ravel().tolist())


@pytest.fixture
def cuda():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda:0"


@pytest.mark.gpu
@pytest.mark.parametrize("exit", ["close", "target"])
def test_a_gpu_finds_what_the_cpu_finds(exit, cuda):
    batch = LevelsBatch.of(mixed(100))
    here, there = (solve_torch(batch, exit, BOUNDS, device) for device in ("cpu", cuda))
    np.testing.assert_allclose(there[2], here[2], rtol=1e-9, atol=1e-9)
