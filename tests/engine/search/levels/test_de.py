"""Differential evolution of many problems at once: its draws, its steps, and its two scorers."""

import numpy as np
import pytest

from engine.search.levels.backends import SOLVERS, Objective
from engine.search.levels.de import GENERATIONS, MEMBERS, draws, evolve
from engine.search.levels.exact import BOUNDS
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


def test_the_first_members_are_stratified_and_each_problem_has_its_own_draws():
    bounds = ((-0.03, 0.03), (-0.001, 0.0))
    first, later = draws((1, 2, 1), 5, bounds)
    assert first.shape == (3, MEMBERS, 2) and later.shape == (4, 3, MEMBERS, 6)
    for axis, (lower, upper) in enumerate(bounds):
        parts = np.floor((first[..., axis] - lower) / (upper - lower) * MEMBERS)
        assert (np.sort(parts, axis=1) == np.arange(MEMBERS)).all()
    assert first[0].tobytes() == first[2].tobytes() != first[1].tobytes()
    assert later[:, 0].tobytes() == later[:, 2].tobytes() != later[:, 1].tobytes()


def slow_twin(score, first, later, bounds):
    """Best/1/bin on one problem, one member at a time."""
    members = first.tolist()
    scores = [score(*member) for member in members]
    for drawn in later:
        best = members[max(range(MEMBERS), key=lambda i: (scores[i], -i))]
        made = []
        for i in range(MEMBERS):
            others = [(i + 1 + k) % MEMBERS for k in range(MEMBERS - 1)]
            one = others[int(drawn[i, 0] * (MEMBERS - 1))]
            left = [other for other in others if other != one]
            two = left[int(drawn[i, 1] * (MEMBERS - 2))]
            forced = 0 if drawn[i, 5] < 0.5 else 1
            child = []
            for axis, (lower, upper) in enumerate(bounds):
                mutant = best[axis] + (0.5 + 0.5 * drawn[i, 2]) * (members[one][axis] - members[two][axis])
                crosses = axis == forced or drawn[i, 3 + axis] < 0.7
                child.append(min(max(mutant if crosses else members[i][axis], lower), upper))
            made.append(child)
        for i, child in enumerate(made):
            value = score(*child)
            if value >= scores[i]:
                members[i], scores[i] = child, value
    top = max(range(MEMBERS), key=lambda i: (scores[i], -i))
    return members[top], scores[top]


def test_the_batched_loop_is_the_loop_over_members():
    def bowl(u, v):
        return -((u - 0.0213) ** 2) - (v + 0.0107) ** 2 - 0.0001 * np.abs(np.floor(u * 1000) % 3)

    first, later = draws((11, 12), 8, BOUNDS)
    best, value = evolve(np, lambda x: x, bowl, first, later, BOUNDS)
    for p in range(2):
        member, score = slow_twin(bowl, first[p], later[:, p], BOUNDS)
        assert best[p].tolist() == pytest.approx(member, rel=1e-12) and value[p] == pytest.approx(
            score, rel=1e-12
        )


def test_it_climbs_a_smooth_hill_to_the_top():
    first, later = draws(tuple(range(5)), GENERATIONS, BOUNDS)
    best, _ = evolve(np, lambda x: x, lambda u, v: -((u - 0.02) ** 2) - (v + 0.01) ** 2, first, later, BOUNDS)
    np.testing.assert_allclose(best, [[0.02, -0.01]] * 5, atol=2e-4)


@pytest.mark.parametrize("exit", ["close", "target"])
@pytest.mark.parametrize("smooth", [False, True])
def test_torch_and_the_compiled_evaluator_take_the_same_steps(exit, smooth):
    batch = LevelsBatch.of([random_problem(seed) for seed in range(6)])
    objective = Objective(np.full(6, 0.004) if smooth else None)
    ask = {"objective": objective, "exit": exit, "bounds": BOUNDS, "budget": None, "seed": 5}
    here, there = (SOLVERS[name](batch, **ask) for name in ("de-numba", "de-torch"))
    for a, b in zip(here, there, strict=True):
        assert a.evaluations == b.evaluations == MEMBERS * GENERATIONS
        assert a.value == pytest.approx(b.value, rel=1e-9)


def test_it_scores_a_whole_generation_of_all_problems_in_one_call(monkeypatch):
    calls = []
    whole = Objective.values
    monkeypatch.setattr(
        Objective,
        "values",
        lambda self, batch, u, v, exit: calls.append(u.shape) or whole(self, batch, u, v, exit),
    )
    batch = LevelsBatch.of([random_problem(seed) for seed in range(6)])
    SOLVERS["de-numba"](batch, objective=Objective(), exit="target", bounds=BOUNDS, budget=205, seed=0)
    assert calls == [(6, MEMBERS)] * 10 + [(6, 1)]  # 200 evaluations each, and the answers scored again
