"""Optimizers of other packages: what they are asked, and what their answers cost."""

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.search.levels import external
from engine.search.levels.backends import SOLVERS, Objective
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.objective import Recorder
from engine.simulation.levels import LevelsProblem
from engine.simulation.levels_batch import LevelsBatch


def random_problem(seed, n=60):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)), axis=0)
    close = np.clip(low + (high - low) * rng.random(n), low, high)
    return LevelsProblem(
        close, high, low, rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n),
        *rng.choice([0.0, 1.0], (2, n)), np.full(n, 1e-4), np.full(n, 100.0), np.arange(1, n + 1),
        0.0, 0.0, 0.0, False,
    )  # fmt: skip


PROBLEMS = [random_problem(seed) for seed in range(4)]
BATCH = LevelsBatch.of(PROBLEMS)


def run(name, budget=None, **options):
    return SOLVERS[name](
        BATCH, objective=Objective(**options), exit="target", bounds=BOUNDS, budget=budget, seed=1
    )


@pytest.mark.parametrize(
    ("name", "share"), [("scipy-de", 0.9), ("scipy-direct", 0.9), ("nevergrad", 0.7), ("optuna", 0.6)]
)
def test_each_comes_near_the_exact_optimum_with_its_own_budget(name, share):
    best = [solve(p, exit="target").profit for p in PROBLEMS]
    got = [answer.value for answer in run(name)]
    assert np.mean(np.array(got) / best) > share


@pytest.mark.parametrize("name", ["scipy-de", "scipy-direct", "nevergrad", "optuna"])
def test_every_call_of_the_objective_is_counted(name, monkeypatch):
    calls = []
    score = Recorder.__call__
    monkeypatch.setattr(Recorder, "__call__", lambda self, u, v: calls.append((u, v)) or score(self, u, v))
    answers = run(name, budget=60)
    assert sum(answer.evaluations for answer in answers) == len(calls)
    for answer in answers:
        assert (answer.u, answer.v) in calls


def test_the_form_with_one_torch_call_for_each_candidate_takes_the_same_steps():
    for name in ("scipy-direct", "nevergrad"):
        for fast, slow in zip(run(name, 60), run(name, 60, form="torch"), strict=True):
            assert (fast.u, fast.v, fast.evaluations) == (slow.u, slow.v, slow.evaluations)


def test_scipys_generations_follow_the_budget_and_direct_ends_the_round_it_is_in(monkeypatch):
    import scipy.optimize

    asked, polished = [], []
    original = scipy.optimize.differential_evolution

    def spy(f, bounds, **options):
        found = original(f, bounds, **options)
        asked.append((options["maxiter"], options["popsize"], options["atol"], options["polish"]))
        polished.append(found.nfev)
        return found

    monkeypatch.setattr(scipy.optimize, "differential_evolution", spy)
    few = run("scipy-de", 60)
    assert [answer.evaluations for answer in few] == polished and min(polished) > 60  # the polish on top
    run("scipy-de")
    assert asked == [(2, 10, 1e-5, True)] * 4 + [(50, 10, 1e-5, True)] * 4
    assert all(100 <= answer.evaluations <= 160 for answer in run("scipy-direct", 100))
    assert all(500 <= answer.evaluations <= 600 for answer in run("scipy-direct"))


def test_the_best_point_looked_at_is_the_answer_not_the_optimizers_own_recommendation(monkeypatch):
    seen = []
    score = Recorder.__call__
    monkeypatch.setattr(
        Recorder, "__call__", lambda self, u, v: seen.append((score(self, u, v), u, v)) or seen[-1][0]
    )
    answer = SOLVERS["nevergrad"](
        BATCH.take([0]), objective=Objective(), exit="target", bounds=BOUNDS, budget=50, seed=1
    )[0]
    assert (answer.value, answer.u, answer.v) == pytest.approx(max(seen), rel=1e-12)


def test_nevergrad_runs_the_algorithm_named():
    names = [external.nevergrad_solver(name).name for name in external.NEVERGRAD]
    assert names == ["nevergrad", "nevergrad:PortfolioDiscreteOnePlusOne"]
    first, second = (run(name, 60) for name in names)
    assert [(a.u, a.v) for a in first] != [(a.u, a.v) for a in second]
    for name in ("NGOpt", "MetaModelOnePlusOne"):
        with pytest.raises(ConfigError, match="Use nevergrad .TwoPointsDE. or nevergrad:PortfolioDiscrete"):
            external.nevergrad_solver(name)


@pytest.mark.parametrize("algorithm", external.EVOX)
def test_evox_scores_all_problems_in_one_step(algorithm, monkeypatch):
    pytest.importorskip("evox")
    import torch

    before = torch.random.get_rng_state()
    calls = []
    values = external.values_of
    monkeypatch.setattr(external, "values_of", lambda *given: calls.append(1) or values(*given))
    answers = SOLVERS["evox" if algorithm == "JaDE" else f"evox:{algorithm}"](
        BATCH, objective=Objective(), exit="target", bounds=BOUNDS, budget=200, seed=1
    )
    assert len(calls) <= 20 and len({(a.u, a.v) for a in answers}) == 4
    assert torch.equal(before, torch.random.get_rng_state()) and torch.get_default_dtype() == torch.float32
    best = [solve(p, exit="target").profit for p in PROBLEMS]
    assert np.mean([a.value / b for a, b in zip(answers, best, strict=True)]) > 0.5


def test_botorch_looks_at_thirty_points_at_most():
    pytest.importorskip("botorch")
    answers = SOLVERS["botorch"](
        BATCH.take([0]), objective=Objective(), exit="target", bounds=BOUNDS, budget=31, seed=1
    )
    assert answers[0].evaluations == 30
