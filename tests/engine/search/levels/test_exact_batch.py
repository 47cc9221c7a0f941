"""The batched sweep gives the offsets of the solver of one problem, bit for bit."""

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.exact_batch import solve_targets
from engine.simulation.levels import LevelsProblem, problem
from engine.simulation.levels_batch import LevelsBatch


def random_problem(seed, n, touch, coarse):
    """Rows of both signs; ``coarse`` puts everything on a grid of 1 %, so that breaks tie."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    if coarse:
        low, high, up, down = (np.round(x, 2) for x in (low, high, up, down))
    close = np.clip(low + (high - low) * rng.random(n), low, high)
    weights = rng.choice([0.0, 1.0, 1.0, 2.5], (2, n))
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    fees = ((0.0, 0.0, 0.0), (0.0005, 0.0005, 0.0007))[seed % 2]
    index = np.arange(1, n + 1)
    return LevelsProblem(close, high, low, up, down, *weights, delta, np.full(n, 100.0), index, *fees, touch)


@pytest.mark.parametrize("bounds", [BOUNDS, ((-0.03, 0.03), (-0.001, 0.0)), ((0.002, 0.01), (-0.02, -0.005)),
                                    ((-1.0, 1.0), (-1.0, 1.0)), ((-1e-9, 1e-9), (0.0, 1e9))])  # fmt: skip
@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize("coarse", [True, False])
def test_every_problem_of_a_batch_gets_the_offsets_of_the_single_solver(bounds, touch, coarse):
    found = [random_problem(seed, [0, 1, 2, 5, 12, 40, 100][seed % 7], touch, coarse) for seed in range(70)]
    u, v, evaluations = solve_targets(LevelsBatch.of(found), bounds)
    for at, one in enumerate(found):
        alone = solve(one, exit="target", bounds=bounds)
        assert (u[at], v[at], evaluations[at]) == (alone.u, alone.v, alone.evaluations), at


def test_the_order_and_company_of_problems_never_change_an_answer():
    found = [random_problem(seed, 5 + 9 * seed, seed % 2 == 0, False) for seed in range(12)]
    u, v, _ = solve_targets(LevelsBatch.of(found), BOUNDS)
    back, down, _ = solve_targets(LevelsBatch.of(found[::-1]), BOUNDS)
    assert np.array_equal(u, back[::-1]) and np.array_equal(v, down[::-1])
    for at, one in enumerate(found):
        alone = solve_targets(LevelsBatch.of([one]), BOUNDS)
        assert (alone[0][0], alone[1][0]) == (u[at], v[at])


def test_real_bars_agree_too():
    bars = make_bars(3, 400)
    high, low = np.full(400, 0.012), np.full(400, -0.012)
    for objective in ("entry_exit", "always_on"):
        one = problem(
            bars, high, low, 100, 300, objective=objective, side="maxdiff", sides="both", fee_bps=5.0,
            slippage_bps=2.0, fee_mode="per_side", fill="through:1", tick=0.01,
        )  # fmt: skip
        u, v, _ = solve_targets(LevelsBatch.of([one]), BOUNDS)
        alone = solve(one, exit="target")
        assert (u[0], v[0]) == (alone.u, alone.v)
