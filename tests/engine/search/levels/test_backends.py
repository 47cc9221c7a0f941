"""What every solver promises: the same objective, its bounds, its seed, its count, its version."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import ConfigError, LevelsInputError, MissingExtra
from engine.search.levels import backends
from engine.search.levels.backends import SOLVERS, Objective, get
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.smoothed import smoothed_value, solve_smoothed
from engine.simulation.levels import LevelsProblem, value
from engine.simulation.levels_batch import LevelsBatch

EXTRAS = ("evox", "botorch")
NARROW = ((-0.03, 0.03), (-0.001, 0.0))
ROWS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")
BUDGET = 40


def family(name):
    return name.partition(":")[0]


def present(name):
    return family(name) not in EXTRAS or importlib.util.find_spec(family(name)) is not None


ALL = [
    pytest.param(name, marks=pytest.mark.skipif(not present(name), reason="an extra that is not installed"))
    for name in SOLVERS
]
STOCHASTIC = [param for param in ALL if SOLVERS[param.values[0]].stochastic]


def random_problem(seed, n=40):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    touch = seed % 2 == 0
    close = np.clip(low + (high - low) * rng.choice([0.0, 0.4, 1.0], n), low, high)
    return LevelsProblem(
        close, high, low, rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n),
        *rng.choice([0.0, 1.0, 2.5], (2, n)), np.zeros(n) if touch else rng.choice([1e-9, 1e-4], n),
        np.full(n, 100.0), np.arange(1, n + 1), 0.0005, 0.0, 0.0002, touch,
    )  # fmt: skip


PROBLEMS = [random_problem(seed) for seed in range(3)]
BATCH = LevelsBatch.of(PROBLEMS)
WIDTHS = np.array([0.004, 0.0, 0.006])  # the second one is plain


def run(name, batch=BATCH, widths=None, exit="target", bounds=BOUNDS, budget=BUDGET, seed=0, **options):
    objective = Objective(widths, **options)
    return SOLVERS[name](batch, objective=objective, exit=exit, bounds=bounds, budget=budget, seed=seed)


def best(problem, width, exit, bounds=BOUNDS):
    if width > 0:
        return solve_smoothed(problem, width, exit, bounds)[2]
    return solve(problem, exit=exit, bounds=bounds).profit


def test_the_solvers_of_the_settings_are_all_there():
    assert set(SOLVERS) >= {
        "exact", "exact-torch", "grid-gemm", "de-numba", "de-torch", "scipy-de", "scipy-direct", "nevergrad",
        "optuna", "evox", "botorch",
    }  # fmt: skip
    assert all(get(name) is solver and solver.name == name for name, solver in SOLVERS.items())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("smooth", [False, True])
def test_answers_are_scored_again_on_the_one_objective_and_never_beat_the_exact_one(name, smooth):
    widths = WIDTHS if smooth else np.zeros(3)
    answers = run(name, widths=WIDTHS if smooth else None)
    assert len(answers) == 3
    for problem, width, answer in zip(PROBLEMS, widths, answers, strict=True):
        u, v = answer.u, answer.v
        expected = smoothed_value(problem, u, v, width, "target") if width else value(problem, u, v, "target")
        assert answer.value == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
        assert answer.value <= best(problem, width, "target") + 1e-7
        assert answer.backend_version.split()[1][0].isdigit()


@pytest.mark.parametrize("name", ALL)
def test_evaluations_are_counted_and_kept_to_the_budget(name):
    solver = SOLVERS[name]
    most = solver.most or BUDGET
    for exit in ("close", "target"):
        for answer in run(name, exit=exit):
            assert answer.evaluations > 0
            if family(name) not in ("exact", "exact-torch", "grid-gemm", "scipy-de", "scipy-direct"):
                assert 0.9 * min(most, BUDGET) <= answer.evaluations <= BUDGET
    if solver.budget:
        with pytest.raises(ConfigError, match=rf"levels.budget was 0; solver {name} needs at least"):
            run(name, budget=0)


@pytest.mark.parametrize("name", ALL)
def test_the_bounds_of_each_axis_are_honoured(name):
    for bounds in (NARROW, ((0.001, 0.004), (-0.02, -0.005))):
        for exit in ("close", "target"):
            for answer in run(name, exit=exit, bounds=bounds, widths=WIDTHS):
                assert bounds[0][0] <= answer.u <= bounds[0][1], answer
                assert bounds[1][0] <= answer.v <= bounds[1][1], answer
    with pytest.raises(LevelsInputError, match=r"levels.bounds.low was \(0.0, -0.01\), expected two finite"):
        run(name, bounds=((-0.03, 0.03), (0.0, -0.01)))


@pytest.mark.parametrize("name", ALL)
def test_one_seed_gives_the_same_bits(name):
    assert run(name, seed=3) == run(name, seed=3)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_another_seed_tries_other_points(name):
    first, second = run(name, seed=3), run(name, seed=4)
    assert all((a.u, a.v) != (b.u, b.v) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", [param for param in ALL if param not in STOCHASTIC])
def test_a_solver_without_chance_ignores_the_seed(name):
    assert run(name, seed=3) == run(name, seed=4)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_problems_and_of_rows_never_changes_an_answer(name):
    first = run(name)
    turned = run(name, LevelsBatch.of(PROBLEMS[::-1]))
    rng = np.random.default_rng(0)
    shuffled = []
    for p in PROBLEMS:
        order = rng.permutation(len(p))
        rows = {key: getattr(p, key)[order] for key in (*ROWS, "base", "index")}
        shuffled.append(replace(p, **rows))
    assert [(a.u, a.v) for a in turned[::-1]] == [(a.u, a.v) for a in first]
    assert [(a.u, a.v) for a in run(name, LevelsBatch.of(shuffled))] == [(a.u, a.v) for a in first]


@pytest.mark.parametrize("name", [param for param in ALL if family(param.values[0]) != "evox"])
def test_company_never_changes_an_answer(name):
    alone = [run(name, LevelsBatch.of([p]))[0] for p in PROBLEMS]
    assert [(a.u, a.v) for a in run(name)] == [(a.u, a.v) for a in alone]


@pytest.mark.parametrize("name", ALL)
def test_a_problem_without_trades_is_answered_zero_without_a_search(name):
    none = np.zeros(40)
    idle = replace(PROBLEMS[0], long_weight=none, short_weight=none)
    empty = replace(PROBLEMS[0], **{key: getattr(PROBLEMS[0], key)[:0] for key in (*ROWS, "base", "index")})
    answers = run(name, LevelsBatch.of([idle, PROBLEMS[1], empty]))
    for answer in (answers[0], answers[2]):
        assert (answer.u, answer.v, answer.evaluations, answer.value) == (0.0, 0.0, 0, 0.0)
    assert answers[1].evaluations > 0
    assert run(name, LevelsBatch.of([])) == []


@pytest.mark.parametrize("exit", ["close", "target"])
def test_the_exact_solver_is_the_exact_solver(exit):
    for answer, problem in zip(run("exact", exit=exit), PROBLEMS, strict=True):
        found = solve(problem, exit=exit)
        assert (answer.u, answer.v, answer.evaluations) == (found.u, found.v, found.evaluations)
    for answer, problem, width in zip(run("exact", exit=exit, widths=WIDTHS), PROBLEMS, WIDTHS, strict=True):
        if width:
            found = solve_smoothed(problem, width, exit, BOUNDS)
            assert (answer.u, answer.v, answer.evaluations) == (found[0], found[1], found[3])


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("smooth", [False, True])
def test_the_polished_grid_is_nearly_exact(exit, smooth):
    problems = [random_problem(seed) for seed in range(12)]
    widths = np.full(12, 0.004) if smooth else np.zeros(12)
    batch = LevelsBatch.of(problems)
    answers = run("grid-gemm", batch, widths, exit)
    top = np.array([best(problem, width, exit) for problem, width in zip(problems, widths, strict=True)])
    gap = top - [answer.value for answer in answers]
    assert (gap > -1e-7).all() and gap.sum() <= (1e-6 if smooth else 1e-4) * np.abs(top).sum()
    assert all(answer.evaluations > 601 * 601 for answer in answers)


def test_zero_itself_is_a_point_of_the_grid():
    for bounds in ((-0.03, 0.03), (-0.01, 0.03), (-0.001, 0.0)):
        axis = backends.grid_axis(*bounds)
        assert (
            len(axis) == 601 and 0.0 in axis and (axis[0], axis[-1]) == bounds and (np.diff(axis) > 0).all()
        )
    assert 0.0 not in backends.grid_axis(0.01, 0.02)


def test_unknown_solvers_answer_with_the_closest():
    with pytest.raises(ConfigError, match=r"levels.solver was 'scipy'. Closest: scipy-d"):
        get("scipy")
    with pytest.raises(ConfigError, match=r"levels.solver was nevergrad:TwoPointDE. Closest: TwoPointsDE"):
        get("nevergrad:TwoPointDE")
    with pytest.raises(ConfigError, match=r"levels.solver was evox:GWO. Known: CSO, DE, JaDE, PSO, SHADE"):
        get("evox:GWO")
    for name in ("NGOpt", "NGOpt10", "MetaModel"):
        with pytest.raises(ConfigError, match=rf"nevergrad:{name}, which fails on numpy 2.4 .*TypeError"):
            get(f"nevergrad:{name}")


@pytest.mark.parametrize("name", ["evox", "evox:PSO", "botorch"])
def test_an_absent_extra_is_an_error_with_the_line_that_installs_it(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, family(name), None)
    extra = family(name)
    with pytest.raises(
        MissingExtra,
        match=rf"^levels.solver {extra} needs {extra}, which is not installed. "
        rf'Run, in the root of the project: pip install -c constraints.txt -e "\.\[{extra}\]"$',
    ):
        run(name)
