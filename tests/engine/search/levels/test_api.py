"""`optimize_levels`: equal to the exact solver, honest about what an answer earns, and its options."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from engine import search
from engine.errors import ConfigError, LevelsInputError
from engine.search.levels import exact, optimize_levels
from engine.search.levels.smoothed import smoothed_value, solve_smoothed
from engine.search.levels.width import smoothing_width
from engine.simulation.levels import LevelsProblem, bar_net, value


def random_problem(seed, n, touch=False, long_only=False):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)), axis=0)
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    close = low + (high - low) * rng.random(n)
    a, b = rng.choice([0.0, 1.0], (2, n))
    delta = np.zeros(n) if touch else np.full(n, 1e-4)
    return LevelsProblem(
        close, high, low, up, down, a, 0.0 * b if long_only else b, delta, np.full(n, 100.0), np.arange(n),
        0.0005, 0.0005, 0.0007, touch, name=f"problem {seed}", n_dropped=seed % 3, n_crossed=seed % 2,
    )  # fmt: skip


PROBLEMS = [random_problem(seed, 30, touch=seed % 2 == 0) for seed in range(8)]


@pytest.mark.parametrize("exit", ["path", "close", "target"])
def test_sup_is_the_exact_solver(exit):
    result = optimize_levels(PROBLEMS, objective="sup", exit=exit)
    assert (
        len(result) == 8
        and result.exit == (exit,) * 8
        and (result.backend, result.objective) == ("exact", "sup")
    )
    assert result.backend_version.startswith("numba ") and np.isnan(result.widths).all()
    for i, p in enumerate(PROBLEMS):
        one = exact.solve(p, exit=exit)
        assert result.offsets[i].tolist() == [one.u, one.v]
        assert (result.profit[i], result.profit_zero[i]) == (one.profit, one.profit_zero)
        assert result.fills[i].tolist() == [one.fills_long, one.fills_short, one.fills_target]
        assert (result.evaluations[i], result.status[i]) == (one.evaluations, one.status)
        assert result.regret[i] == 0.0 and result.gain[i] == 1.0
        assert result.objective_value[i] == pytest.approx(one.profit, abs=1e-14)
    assert result.n_dropped.tolist() == [p.n_dropped for p in PROBLEMS]
    assert result.n_crossed.tolist() == [p.n_crossed for p in PROBLEMS]


@pytest.mark.parametrize("exit", ["close", "target"])
def test_smoothed_carries_the_plain_profit_and_the_raw_optimum(exit):
    result = optimize_levels(PROBLEMS, exit=exit)
    assert result.objective == "smoothed"
    for i, p in enumerate(PROBLEMS):
        width = smoothing_width(p, 0.25)
        u, v, _, evaluations = solve_smoothed(p, width, exit)
        assert result.offsets[i].tolist() == [u, v] and result.evaluations[i] == evaluations
        assert result.widths[i] == width and result.profit[i] == value(p, u, v, exit)
        assert result.objective_value[i] == float(smoothed_value(p, u, v, width, exit))
        best = exact.solve(p, exit=exit)
        assert result.exact_profit[i] == best.profit
        assert result.regret[i] == best.profit - result.profit[i] >= 0
        possible = best.profit - best.profit_zero
        assert result.gain[i] == pytest.approx((result.profit[i] - best.profit_zero) / possible, rel=1e-12)
        scored = bar_net(p, u, v, exit)
        assert result.fills[i].tolist()[:2] == [scored.long.sum(), scored.short.sum()]
        for k, move in enumerate((1e-4, 5e-4, 1e-3)):
            around = [value(p, u + a * move, v + b * move, exit) for a in (-1, 1) for b in (-1, 1)]
            share = np.mean(around) / result.profit[i] if result.profit[i] > 0 else np.nan
            assert result.kept[i, k] == pytest.approx(share, rel=1e-12, nan_ok=True)


def test_each_problem_has_its_own_exit_and_equal_ones_one_answer():
    p = PROBLEMS[1]
    result = optimize_levels([p, p, PROBLEMS[3], p], exit=["path", "target", "close", "close"])
    assert result.offsets[0].tolist() == result.offsets[3].tolist()
    alone = optimize_levels(p, exit="target")
    assert result.offsets[1].tolist() == alone.offsets[0].tolist()
    assert result.offsets[2].tolist() == optimize_levels(PROBLEMS[3], exit="close").offsets[0].tolist()


@pytest.mark.parametrize("name", ["close", "forecast_high", "forecast_low", "long_weight", "delta", "index"])
def test_problems_that_differ_in_one_column_are_solved_apart(name):
    p = PROBLEMS[1]
    column = getattr(p, name)
    changed = {"index": column[::-1], "close": 0.5 * (p.high + p.low)}.get(name, column * 0.9)
    other = replace(p, **{name: changed})
    together, alone = optimize_levels([p, other], exit="target"), optimize_levels(other, exit="target")
    assert together.objective_value[1] == alone.objective_value[0] != together.objective_value[0]


@pytest.mark.parametrize("fee", ["fee_entry", "fee_target", "fee_close"])
def test_problems_that_differ_in_one_fee_are_solved_apart(fee):
    other = replace(PROBLEMS[1], **{fee: 0.002})
    together = optimize_levels([PROBLEMS[1], other], exit="target", objective="sup")
    assert together.profit[1] == exact.solve(other, exit="target").profit < together.profit[0]


def test_no_problem_at_all_is_an_empty_answer():
    result = optimize_levels([])
    assert len(result) == 0 and result.offsets.shape == (0, 2) and result.kept.shape == (0, 3)


@pytest.mark.parametrize("objective", ["smoothed", "sup"])
def test_where_nothing_trades_the_answer_is_empty(objective):
    none = random_problem(0, 0)
    flat = replace(PROBLEMS[0], long_weight=np.zeros(30), short_weight=np.zeros(30))
    result = optimize_levels([none, flat], objective=objective, bounds=((0.01, 0.02), (-0.02, -0.01)))
    assert result.status == ("empty", "empty") and not result.offsets.any() and not result.profit.any()
    assert np.isnan(result.gain).all() and np.isnan(result.kept).all() and not result.evaluations.any()


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("objective", ["smoothed", "sup"])
def test_one_row_is_solved(exit, objective):
    for seed in range(10):
        p = random_problem(seed, 1)
        result = optimize_levels(p, exit=exit, objective=objective)
        assert result.status[0] in ("ok", "abstain", "empty")
        assert result.profit[0] <= result.exact_profit[0] + 1e-15


def test_shrinking_moves_the_offsets_towards_0_and_scores_them_there():
    full, half = optimize_levels(PROBLEMS), optimize_levels(PROBLEMS, shrink=0.5)
    assert half.offsets == pytest.approx(0.5 * full.offsets, abs=0)
    for i, p in enumerate(PROBLEMS):
        assert half.profit[i] == value(p, *half.offsets[i], "path")
        assert half.objective_value[i] == float(smoothed_value(p, *half.offsets[i], half.widths[i], "path"))
    assert not optimize_levels(PROBLEMS, shrink=0.0).offsets.any()
    assert optimize_levels(PROBLEMS, shrink=0.0).profit.tolist() == full.profit_zero.tolist()


def test_shrunk_offsets_stay_inside_the_bounds():
    bounds = ((0.01, 0.02), (-0.02, -0.01))
    offsets = optimize_levels(PROBLEMS, shrink=0.1, bounds=bounds).offsets
    assert (offsets[:, 0] == 0.01).all() and (offsets[:, 1] == -0.01).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_refuses_a_shrink_outside_0_to_1(wrong):
    with pytest.raises(LevelsInputError, match=r"^levels\.shrink was .*, expected a number in \[0, 1\]$"):
        optimize_levels(PROBLEMS, shrink=wrong)


def test_a_fit_that_loses_abstains_unless_told_not_to():
    dear = [replace(p, fee_entry=0.5) for p in PROBLEMS]
    narrow = ((-0.003, 0.0), (0.0, 0.003))  # so near that something always trades
    for objective in ("smoothed", "sup"):
        assert set(optimize_levels(dear, bounds=narrow, objective=objective).status) == {"abstain"}
        assert set(optimize_levels(dear, bounds=narrow, objective=objective, abstain=False).status) == {"ok"}


def test_abstains_where_only_one_of_smoothed_and_plain_profit_is_positive():
    seen = set()
    for seed in range(60):
        result = optimize_levels(random_problem(seed, 8), smoothing={"absolute": 0.01})
        signs = result.profit[0] > 0, result.objective_value[0] > 0
        seen.add(signs)
        assert (result.status[0] == "ok") == all(signs)
    assert len(seen) >= 3


def test_a_fixed_width_is_taken_as_it_is():
    assert (optimize_levels(PROBLEMS, smoothing={"absolute": 0.004}).widths == 0.004).all()


def test_long_only_removes_the_short_leg_bit_for_bit():
    for seed in range(6):
        both, long = random_problem(seed, 30), random_problem(seed, 30, long_only=True)
        gone = replace(both, short_weight=np.zeros(30))
        for objective in ("smoothed", "sup"):
            a, b = (optimize_levels(p, objective=objective, exit="target") for p in (gone, long))
            assert a.offsets.tolist() == b.offsets.tolist() and a.profit.tolist() == b.profit.tolist()
            assert a.fills[0, 1] == 0


def test_padding_a_batch_changes_nothing():
    sizes = [random_problem(seed, n) for seed, n in enumerate((3, 40, 11))]
    for objective in ("smoothed", "sup"):
        for exit in ("close", "target"):
            together = optimize_levels(sizes, objective=objective, exit=exit)
            alone = [optimize_levels(p, objective=objective, exit=exit) for p in sizes]
            assert together.offsets.tolist() == [one.offsets[0].tolist() for one in alone]
            assert together.profit.tolist() == [one.profit[0] for one in alone]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "exat"}, r"^levels\.solver was 'exat'\. Closest: exact"),
        ({"objective": "smooth"}, r"^levels\.objective was 'smooth'\. Closest: smoothed"),
        ({"exit": "pth"}, r"^levels\.policies was 'pth'\. Closest: path"),
    ],
)
def test_refuses_names_that_are_not_known(options, message):
    with pytest.raises(ConfigError, match=message):
        optimize_levels(PROBLEMS, **options)


def test_refuses_as_many_exits_as_there_are_not_problems():
    with pytest.raises(LevelsInputError, match="^2 exits for 8 problems; expected one each, or one name$"):
        optimize_levels(PROBLEMS, exit=["path", "close"])


def test_another_solver_is_recorded_and_measured_against_the_exact_one():
    result = optimize_levels(PROBLEMS[:2], solver="de-numba", exit="target", objective="sup", seed=7)
    assert (result.backend, result.seed) == ("de-numba", 7) and (result.regret >= -1e-12).all()
    assert (
        result.exact_profit.tolist()
        == optimize_levels(PROBLEMS[:2], exit="target", objective="sup").profit.tolist()
    )


def test_importing_the_package_stays_light():
    code = (
        "import sys, engine.search.levels as l; light = 'numba' not in sys.modules;"
        "l.optimize_levels; l.backtest_forecasts; l.cut_windows; l.levels_value; l.levels_grid;"
        "l.optimize_entry_exit_multipliers; l.optimize_always_on_multipliers; l.LevelsResult;"
        "heavy = {'torch', 'optuna', 'nevergrad', 'pandas'} & set(sys.modules); print(light, heavy)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "True set()\n"
    with pytest.raises(AttributeError, match="has no attribute 'optimise'"):
        search.levels.optimise  # noqa: B018
    assert "optimize_levels" in dir(search.levels)
