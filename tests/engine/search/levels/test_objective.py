"""The objective that solvers see: its forms, its seeds, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import ConfigError, LevelsInputError
from engine.search.levels.exact import BOUNDS
from engine.search.levels.objective import Objective, Recorder, Solver, problem_seed
from engine.search.levels.smoothed import smoothed_value
from engine.simulation.levels import LevelsProblem, value
from engine.simulation.levels_batch import LevelsBatch

ROWS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")


def random_problem(seed, n=20, touch=False):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)), axis=0)
    close = np.clip(low + (high - low) * rng.random(n), low, high)
    return LevelsProblem(
        close, high, low, rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n),
        *rng.choice([0.0, 1.0], (2, n)), np.full(n, 0.0 if touch else 1e-4), np.full(n, 100.0),
        np.arange(1, n + 1), 0.0005, 0.0, 0.0002, touch,
    )  # fmt: skip


PROBLEMS = [random_problem(seed) for seed in range(3)]
BATCH = LevelsBatch.of(PROBLEMS)
WIDTHS = np.array([0.004, 0.0, 0.006])


@pytest.mark.parametrize("exit", ["close", "target"])
def test_every_form_scores_the_same_objective(exit):
    u, v = np.random.default_rng(0).uniform(-0.02, 0.02, (2, 3, 4))
    for widths in (None, WIDTHS):
        objective = Objective(widths)
        got = objective.values(BATCH, u, v, exit)
        for p, problem in enumerate(PROBLEMS):
            width = 0.0 if widths is None else widths[p]
            for k in range(4):
                pair = u[p, k], v[p, k]
                plain = value(problem, *pair, exit)
                expected = float(smoothed_value(problem, *pair, width, exit)) if width else plain
                assert got[p, k] == pytest.approx(expected, rel=1e-12, abs=1e-12)
                assert objective.score(BATCH, p, exit)(*pair) == pytest.approx(expected, rel=1e-12, abs=1e-12)
                slow = Objective(form="torch").score(BATCH, p, exit)(*pair)
                assert slow == pytest.approx(plain, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("exit", ["close", "target"])
def test_torch_and_compiled_smoothing_agree(exit):
    problems = [random_problem(seed, touch=seed % 2 == 0) for seed in range(6)]
    problems += [replace(p, **{name: np.round(getattr(p, name), 2) for name in ROWS[:5]}) for p in problems]
    batch, objective = LevelsBatch.of(problems), Objective(np.full(12, 0.004))
    u, v = np.random.default_rng(0).uniform(-0.03, 0.03, (2, 12, 8))
    tensors = objective.tensors(batch)
    here = tensors.values(tensors.tensor(u), tensors.tensor(v), exit == "target").numpy()
    np.testing.assert_allclose(here, objective.values(batch, u, v, exit), rtol=1e-9, atol=1e-12)


def test_a_seed_belongs_to_the_problem_not_to_its_place():
    turned, order = LevelsBatch.of(PROBLEMS[::-1]), np.random.default_rng(0).permutation(20)
    names = (*ROWS, "base", "index")
    shuffled = LevelsBatch.of(
        [replace(PROBLEMS[0], **{key: getattr(PROBLEMS[0], key)[order] for key in names})]
    )
    mine = problem_seed(BATCH, 0, "target", 7)
    assert mine == problem_seed(turned, 2, "target", 7) == problem_seed(shuffled, 0, "target", 7)
    nudged = LevelsBatch.of([replace(PROBLEMS[0], forecast_high=PROBLEMS[0].forecast_high * (1 + 2e-16))])
    assert mine == problem_seed(nudged, 0, "target", 7)
    others = {
        problem_seed(BATCH, 1, "target", 7),
        problem_seed(BATCH, 0, "target", 8),
        problem_seed(BATCH, 0, "close", 7),
        problem_seed(LevelsBatch.of([replace(PROBLEMS[0], fee_entry=0.001)]), 0, "target", 7),
        problem_seed(LevelsBatch.of([replace(PROBLEMS[0], touch=True)]), 0, "target", 7),
    }
    assert len(others) == 5 and mine not in others and all(0 <= seed < 2**32 for seed in others)
    assert problem_seed(BATCH, 0, "path", 7) == problem_seed(BATCH, 0, "close", 7)


def test_a_recorder_keeps_the_best_point_counts_and_refuses_what_is_out_of_bounds():
    score = Recorder(lambda u, v: -((u - 0.01) ** 2) - v * v, BOUNDS)
    for u in (0.0, 0.012, 0.03):
        score(u, 0.001)
    assert score.found == (0.012, 0.001, 3)
    with pytest.raises(
        LevelsInputError, match=r"a solver tried 0.031 on the high axis, expected an offset in"
    ):
        score(0.031, 0.0)


def solver(**options):
    return Solver(
        "made", lambda task: [(0.0, 0.0, 1)] * len(task.seeds), lambda objective: "made 1", 10, **options
    )


def test_problems_are_given_plain_or_smoothed_but_never_mixed():
    seen = []

    def search(task):
        seen.append((task.objective.widths, len(task.batch), task.budget))
        return [(0.001, -0.001, 5)] * len(task.batch)

    answers = Solver("made", search, lambda objective: "made 1", 10, most=30)(
        BATCH, objective=Objective(WIDTHS), exit="close", bounds=BOUNDS, budget=50, seed=0
    )
    assert [(None if w is None else w.tolist(), n, budget) for w, n, budget in seen] == [
        (None, 1, 30), ([0.004, 0.006], 2, 30)
    ]  # fmt: skip
    for problem, width, answer in zip(PROBLEMS, WIDTHS, answers, strict=True):
        pair = 0.001, -0.001
        expected = smoothed_value(problem, *pair, width, "close") if width else value(problem, *pair, "close")
        assert answer.value == pytest.approx(float(expected), rel=1e-12)
        assert (answer.u, answer.v, answer.evaluations, answer.backend_version) == (*pair, 5, "made 1")


def test_refuses_what_cannot_be_solved():
    ask = {"exit": "close", "bounds": BOUNDS, "budget": None, "seed": 0}
    for widths in (np.ones(2), np.array([0.1, -0.1, 0.1]), np.array([0.1, np.nan, 0.1])):
        with pytest.raises(LevelsInputError, match="expected one number >= 0 for each of 3 problems"):
            solver()(BATCH, objective=Objective(widths), **ask)
    with pytest.raises(ConfigError, match="the form 'torch' scores the plain objective"):
        solver()(BATCH, objective=Objective(WIDTHS, form="torch"), **ask)
    with pytest.raises(ConfigError, match="form was 'slow'"):
        solver()(BATCH, objective=Objective(form="slow"), **ask)
    with pytest.raises(ConfigError, match="levels.policies was 'closed'. Closest: close"):
        solver()(BATCH, objective=Objective(), **{**ask, "exit": "closed"})
    with pytest.raises(ConfigError, match="levels.budget was 5; solver made needs at least 8"):
        solver(least=8)(BATCH, objective=Objective(), **{**ask, "budget": 5})
