"""Every solver with finer bars: it reads them, or refuses with the names of those that can."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from finer import finer_problem

from engine.errors import LevelsInputError
from engine.search.levels.api import optimize_levels
from engine.search.levels.backends import SOLVERS, Objective, problem_seed
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.exact_torch import solve_torch
from engine.search.levels.multipliers import optimize_always_on_multipliers
from engine.search.levels.smoothed import smoothed_value, solve_smoothed
from engine.simulation.levels import value
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_torch import levels_grid_torch, levels_value_torch

PROBLEMS = [finer_problem(seed, 20, seed % 2 == 0) for seed in (1, 2, 5)]
BATCH = LevelsBatch.of(PROBLEMS)
REFUSING = ["exact-torch", "grid-gemm", "de-torch", "evox"]
READING = [
    pytest.param(
        name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason="not installed")
    )
    if name == "botorch"
    else name
    for name in ("exact", "de-numba", "scipy-de", "scipy-direct", "nevergrad", "optuna", "botorch")
]


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("smooth", [False, True])
def test_reads_finer_bars_and_never_beats_the_exact_answer(name, smooth):
    widths = np.array([0.004, 0.0, 0.006]) if smooth else np.zeros(3)
    aim = Objective(widths if smooth else None)
    answers = SOLVERS[name](BATCH, objective=aim, exit="path", bounds=BOUNDS, budget=60, seed=0)
    for p, width, answer in zip(PROBLEMS, widths, answers, strict=True):
        score = smoothed_value(p, answer.u, answer.v, width, "path") if width else None
        expected = value(p, answer.u, answer.v, "path") if score is None else float(score)
        assert answer.value == pytest.approx(expected, rel=1e-9, abs=1e-12)
        best = solve_smoothed(p, width, "path")[2]
        assert answer.value <= best + 1e-7
        if name == "exact":
            assert answer.value == pytest.approx(best, rel=1e-12, abs=1e-12)


def test_all_solvers_are_sorted_into_those_that_read_and_those_that_refuse():
    refusing = {name.split(":")[0] for name, solver in SOLVERS.items() if not solver.finer}
    assert refusing == set(REFUSING)


@pytest.mark.parametrize("name", REFUSING)
def test_a_torch_solver_refuses_finer_bars_and_names_solvers_that_read_them(name):
    ask = {"objective": Objective(), "bounds": BOUNDS, "budget": None, "seed": 0}
    with pytest.raises(LevelsInputError, match=rf"solver {name} cannot read finer bars.*exact, de-numba"):
        SOLVERS[name](BATCH, exit="path", **ask)
    if name == "exact-torch":  # other exits, and problems without finer bars, it solves
        for batch, exit in ((BATCH, "target"), (LevelsBatch.of([replace(PROBLEMS[0], finer=None)]), "path")):
            assert len(SOLVERS[name](batch, exit=exit, **ask)) == len(batch)


def test_the_torch_functions_refuse_finer_bars_too():
    u = np.zeros((3, 1))
    for ask in (
        lambda: levels_value_torch(BATCH, u, u, "path"),
        lambda: levels_grid_torch(BATCH, u, u, "path"),
        lambda: solve_torch(BATCH, "path", BOUNDS),
        lambda: Objective(form="torch").score(BATCH, 0, "path"),
    ):
        with pytest.raises(LevelsInputError, match="cannot read finer bars"):
            ask()


def test_a_seed_depends_on_finer_bars_where_they_are_read():
    bare = LevelsBatch.of([replace(p, finer=None) for p in PROBLEMS])
    for p in range(3):
        assert problem_seed(BATCH, p, "path", 7) != problem_seed(bare, p, "path", 7)
        assert problem_seed(BATCH, p, "close", 7) == problem_seed(bare, p, "close", 7)
    mixed = LevelsBatch.of([*PROBLEMS, bare.problems[0]])
    assert problem_seed(mixed, 3, "path", 7) == problem_seed(bare, 0, "close", 7)
    assert [problem_seed(mixed, p, "path", 7) for p in range(3)] == [
        problem_seed(BATCH, p, "path", 7) for p in range(3)
    ]


@pytest.mark.parametrize("objective", ["smoothed", "sup"])
def test_one_call_tells_the_three_exits_apart(objective):
    bare = replace(PROBLEMS[0], finer=None)
    jobs = [(p, exit) for p in (PROBLEMS[0], bare) for exit in ("path", "close", "target")]
    found = optimize_levels([p for p, _ in jobs], exit=[exit for _, exit in jobs], objective=objective)
    for i, (p, exit) in enumerate(jobs):
        assert found.profit[i] == value(p, *found.offsets[i], exit)
        assert found.exact_profit[i] == solve(p, exit=exit).profit
        assert found.regret[i] >= -1e-12
    assert found.exact_profit[0] != found.exact_profit[1] == found.exact_profit[3] == found.exact_profit[4]
    assert found.offsets[1].tolist() == found.offsets[3].tolist() == found.offsets[4].tolist()
    assert found.offsets[2].tolist() == found.offsets[5].tolist()


def test_the_familiar_function_takes_finer_bars_row_by_row():
    p = PROBLEMS[0]
    arrays = [getattr(p, name) for name in ("close", "high", "low", "forecast_high", "forecast_low")]
    rules = {"fee": 0.0, "delta": 1e-4, "objective": "sup"}
    with_them, without, closed = (
        optimize_always_on_multipliers(*arrays, finer=finer, exit=exit, **rules)
        for finer, exit in ((p.finer, "path"), (None, "path"), (p.finer, "close"))
    )
    assert without == closed != with_them
    close = arrays[0].copy()
    close[4] = np.nan  # a row left out takes its finer bars with it
    kept = np.delete(np.arange(20), 4)
    cut = optimize_always_on_multipliers(close, *arrays[1:], finer=p.finer, exit="path", **rules)
    assert cut == optimize_always_on_multipliers(
        *(column[kept] for column in arrays), finer=p.finer.take(kept), exit="path", **rules
    )
