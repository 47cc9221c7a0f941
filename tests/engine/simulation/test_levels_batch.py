"""The batched evaluators against the single one; neither order nor padding nor company changes a bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError, LevelsInputError
from engine.simulation import levels_batch
from engine.simulation.levels import EXITS, LevelsProblem, value
from engine.simulation.levels_batch import LevelsBatch, levels_grid, levels_one, levels_value

ROWS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")
FEES = ((0.0, 0.0, 0.0), (0.0005, 0.0, 0.0), (0.0005, 0.0005, 0.0007))


def random_problem(rng, n):
    """Rows with exact zeros, ties, crossed forecasts and legs not traded, under either trigger."""
    touch, coarse = rng.random(2) < 0.5
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    high, low = np.where(rng.random(n) < 0.1, 0.0, high), np.where(rng.random(n) < 0.1, 0.0, low)
    forecast = rng.normal(0, 0.02, (2, n))
    if coarse:
        high, low, forecast = np.round(high, 2), np.round(low, 2), np.round(forecast, 2)
    low = np.minimum(low, high)
    close = np.clip(low + (high - low) * rng.choice([0.0, 0.3, 0.5, 1.0], n), low, high)
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    return LevelsProblem(
        close, high, low, *forecast, *rng.choice([0.0, 0.5, 1.0, 3.0], (2, n)), delta,
        np.full(n, 100.0), np.arange(1, n + 1), *FEES[rng.integers(3)], bool(touch),
    )  # fmt: skip


def changed(p, rows):
    return replace(p, **{name: getattr(p, name)[rows] for name in (*ROWS, "base", "index")})


def some_offsets(rng, problems, points):
    offsets = rng.normal(0, 0.02, (2, problems, points))
    return np.where(rng.random(offsets.shape) < 0.5, np.round(offsets, 2), offsets)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), exit=st.sampled_from(EXITS))
def test_values_and_grids_are_those_of_the_single_evaluator(seed, exit):
    rng = np.random.default_rng(seed)
    problems = [random_problem(rng, n) for n in (0, 1, 9, 30)]
    batch = LevelsBatch.of(problems)
    u, v = some_offsets(rng, 4, 5)
    expected = [[[value(p, a, b, exit) for b in v[i]] for a in u[i]] for i, p in enumerate(problems)]
    grid = levels_grid(batch, u, v, exit)
    np.testing.assert_allclose(grid, expected, rtol=1e-12, atol=1e-12)
    pairs = levels_value(batch, u, v, exit)
    np.testing.assert_allclose(pairs, np.diagonal(expected, axis1=1, axis2=2), rtol=1e-12, atol=1e-12)
    for i in range(4):
        score = levels_one(batch, i, exit)
        assert [score(a, b) for a, b in zip(u[i], v[i], strict=True)] == pairs[i].tolist()


@pytest.mark.parametrize("exit", ["close", "target"])
def test_the_order_of_rows_idle_rows_and_company_change_no_bit(exit):
    rng = np.random.default_rng(0)
    problems = [random_problem(rng, n) for n in (40, 3, 40, 17)]
    u, v = some_offsets(rng, 4, 9)
    first = LevelsBatch.of(problems)
    values, grid = levels_value(first, u, v, exit), levels_grid(first, u, v, exit)
    shuffled = LevelsBatch.of([changed(p, rng.permutation(len(p))) for p in problems])
    idle = {"long_weight": np.zeros(60), "short_weight": np.zeros(60)}
    padding = replace(random_problem(rng, 60), **idle)
    longer = LevelsBatch.of([*problems, padding])
    names = (*ROWS, "base", "index")
    extended = [
        replace(p, **{name: np.r_[getattr(padding, name)[:5], getattr(p, name)] for name in names})
        for p in problems
    ]
    for other in (shuffled, LevelsBatch.of(extended), longer.take(range(4))):
        assert levels_value(other, u, v, exit).tobytes() == values.tobytes()
        assert levels_grid(other, u, v, exit).tobytes() == grid.tobytes()
    wide = levels_value(longer, np.pad(u, ((0, 1), (0, 3))), np.pad(v, ((0, 1), (0, 3))), exit)
    assert wide[:4, :9].tobytes() == values.tobytes() and not wide[4].any()
    turned = levels_value(first.take([2, 0]), u[[2, 0]], v[[2, 0]], exit)
    assert turned.tobytes() == values[[2, 0]].tobytes()


def test_one_call_scores_every_pair_of_every_problem():
    rng = np.random.default_rng(1)
    batch = LevelsBatch.of([random_problem(rng, 12) for _ in range(7)])
    u, v = rng.normal(0, 0.02, (2, 7, 300))
    assert levels_value(batch, u, v, "target").shape == (7, 300)
    assert levels_grid(batch, u[:, :40], v[:, :50], "target").shape == (7, 40, 50)


def test_an_empty_batch_and_empty_problems_score_nothing():
    none = LevelsBatch.of([])
    assert len(none) == 0 and levels_value(none, np.zeros((0, 3)), np.zeros((0, 3)), "close").shape == (0, 3)
    empty = LevelsBatch.of([changed(random_problem(np.random.default_rng(0), 4), slice(0))] * 2)
    assert (
        levels_grid(empty, np.zeros((2, 3)), np.zeros((2, 4)), "target").tolist()
        == np.zeros((2, 3, 4)).tolist()
    )


def test_refuses_offsets_of_another_shape_or_not_finite():
    batch = LevelsBatch.of([random_problem(np.random.default_rng(0), 4)] * 2)
    fine = np.zeros((2, 3))
    for wrong in (np.zeros(3), np.zeros((3, 2)), np.zeros((2, 3, 1))):
        with pytest.raises(LevelsInputError, match=r"^u has shape .*, expected \(2, K\)"):
            levels_value(batch, wrong, fine, "close")
    with pytest.raises(LevelsInputError, match=r"expected pairs, the same shape"):
        levels_value(batch, fine, np.zeros((2, 4)), "close")
    gap = fine.copy()
    gap[1, 2] = np.nan
    with pytest.raises(LevelsInputError, match=r"v\[1, 2\] was nan, expected a finite offset"):
        levels_grid(batch, fine, gap, "close")
    with pytest.raises(ConfigError, match=r"levels.policies was 'closed'. Closest: close"):
        levels_grid(batch, fine, fine, "closed")


def test_warm_compiles_every_kernel():
    levels_batch.warm()
