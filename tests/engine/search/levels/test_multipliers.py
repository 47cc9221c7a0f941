"""The familiar names on plain arrays."""

import numpy as np
import pytest

from engine.errors import ConfigError, LevelsInputError
from engine.search.levels import (
    cut_windows,
    optimize_always_on_multipliers,
    optimize_entry_exit_multipliers,
    optimize_levels,
)
from engine.simulation.levels import LevelsProblem

FEE = 0.0005


def window(seed=0, n=60):
    rng = np.random.default_rng(seed)
    close = 0.02 * rng.normal(size=n)
    high, low = close + 0.01 * np.abs(rng.normal(size=n)), close - 0.01 * np.abs(rng.normal(size=n))
    return close, high, low, 0.01 * rng.random(n) + 0.002, -0.01 * rng.random(n) - 0.002


def made(moves, a, b, *, touch=False, delta=1e-9, fees=(FEE, FEE, FEE)):
    n = len(moves[0])
    weights = np.full(n, a) if np.isscalar(a) else a, np.full(n, b) if np.isscalar(b) else b
    return LevelsProblem(
        *moves, *weights, np.full(n, 0.0 if touch else delta), np.ones(n), np.arange(n), *fees, touch
    )


@pytest.mark.parametrize("options", [{}, {"objective": "sup"}, {"exit": "target", "shrink": 0.5}])
def test_entry_exit_is_one_problem_with_one_side_a_bar(options):
    moves = window()
    position = np.random.default_rng(1).choice([-2.0, 0.0, 1.0], 60)
    found = optimize_entry_exit_multipliers(*moves, position, fee=FEE, **options)
    same = optimize_levels(made(moves, np.maximum(position, 0), np.maximum(-position, 0)), **options)
    assert found == (*same.offsets[0], same.profit[0])
    assert (found.H, found.L, found.profit) == tuple(found)


def test_always_on_is_one_problem_with_both_legs_on_every_bar():
    moves = window(2)
    found = optimize_always_on_multipliers(*moves, fee=FEE, exit="target")
    same = optimize_levels(made(moves, 1.0, 1.0), exit="target")
    assert found == (*same.offsets[0], same.profit[0])
    weighted = optimize_always_on_multipliers(*moves, 2.0, -0.5, fee=FEE)
    same = optimize_levels(made(moves, 2.0, 0.5))
    assert weighted == (*same.offsets[0], same.profit[0])


def test_long_only_has_no_short_leg():
    moves = window(3)
    found = optimize_always_on_multipliers(*moves, fee=FEE, long_only=True, objective="sup")
    same = optimize_levels(made(moves, 1.0, 0.0), objective="sup")
    assert found == (*same.offsets[0], same.profit[0]) and found.H == 0.0
    short = optimize_entry_exit_multipliers(*moves, -np.ones(60), fee=FEE, long_only=True)
    assert short == (0.0, 0.0, 0.0)


def test_fees_fill_and_distance_are_taken_as_named():
    moves = window(4)
    position = np.ones(60)
    once = optimize_entry_exit_multipliers(
        *moves, position, fee=FEE, slippage=0.001, fee_mode="per_leg", fill="touch"
    )
    same = optimize_levels(made(moves, 1.0, 0.0, touch=True, fees=(FEE, 0.0, 0.001)))
    assert once == (*same.offsets[0], same.profit[0])
    far = optimize_entry_exit_multipliers(*moves, position, fee=FEE, slippage=0.001, delta=0.002)
    same = optimize_levels(made(moves, 1.0, 0.0, delta=0.002, fees=(FEE, FEE, FEE + 0.001)))
    assert far == (*same.offsets[0], same.profit[0])


def test_rows_that_are_not_finite_are_left_out_and_crossed_ones_not_traded():
    moves = [column.copy() for column in window(5)]
    for row, column in ((3, 0), (7, 3), (9, 4)):
        moves[column][row] = [np.nan, np.inf, -np.inf][column % 3]
    moves[3][20], moves[4][20] = -0.01, 0.01
    kept = np.ones(60, dtype=bool)
    kept[[3, 7, 9]] = False
    rest = [column[kept] for column in moves]
    weight = np.where(rest[4] >= rest[3], 0.0, 1.0)
    assert (weight == 0).sum() == 1
    same = optimize_levels(made(rest, weight, weight))
    assert optimize_always_on_multipliers(*moves, fee=FEE) == (*same.offsets[0], same.profit[0])


def test_nothing_to_trade_is_0():
    nothing = [np.zeros(0)] * 6
    assert optimize_entry_exit_multipliers(*nothing, fee=FEE) == (0.0, 0.0, 0.0)
    assert optimize_entry_exit_multipliers(*window(), np.zeros(60), fee=FEE) == (0.0, 0.0, 0.0)


def test_refuses_too_many_bad_rows_and_impossible_ones():
    moves = [column.copy() for column in window()]
    moves[0][10:23] = np.nan
    with pytest.raises(
        LevelsInputError,
        match=r"^always_on: 13 of 60 rows have a value that is not finite, the first is row 10; at most 20 %",
    ):
        optimize_always_on_multipliers(*moves, fee=FEE)
    moves = [column.copy() for column in window()]
    moves[1][4] = moves[2][4] - 0.1
    with pytest.raises(LevelsInputError, match=r"^always_on, row 4 .*: the high lies below the low"):
        optimize_always_on_multipliers(*moves, fee=FEE)
    with pytest.raises(LevelsInputError, match=r"^always_on: fee_entry was -1.0"):
        optimize_always_on_multipliers(*window(), fee=-1.0)
    with pytest.raises(LevelsInputError, match="a weight is outside"):
        optimize_entry_exit_multipliers(*window(), np.full(60, 11.0), fee=FEE)
    with pytest.raises(LevelsInputError, match="expected one value a row in each"):
        optimize_entry_exit_multipliers(*window(), np.ones(59), fee=FEE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fill": "tuch"}, r"^fill was 'tuch'\. Closest: touch\.$"),
        ({"fee_mode": "leg"}, r"^fee_mode was 'leg'\."),
        ({"solver": "scipy"}, r"^levels\.solver was 'scipy'\. Closest: scipy-de"),
    ],
)
def test_refuses_names_that_are_not_known(options, message):
    with pytest.raises(ConfigError, match=message):
        optimize_always_on_multipliers(*window(), fee=FEE, **options)


def test_the_first_published_setting_makes_140_problems_for_each_exit():
    """70 simulations of 6 bars, two ways to trade: solved in one call, none of them reads its test bar."""
    moves = window(6, 100)
    windows = cut_windows(100, 70, 6, 1, 1)
    parts = [[column[w.train_start : w.train_end] for column in moves] for w in windows]
    problems = [made(part, 1.0, short) for part in parts for short in (0.0, 1.0)]
    for exit in ("close", "target"):
        result = optimize_levels(problems, exit=exit, objective="sup")
        assert len(result) == 140 and (result.profit >= result.profit_zero - 1e-15).all()
