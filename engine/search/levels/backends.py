"""The solvers of the two-offset problem by name: `SOLVERS`, and `get`.

`exact` is the answer; the others are there to be measured against it, and for objectives that
have no exact form. All maximise the same `Objective`, within the bounds of each axis.

| name | how |
|---|---|
| `exact` | corners of all cells; of the smoothed objective its grid and refinement |
| `exact-torch` | the same corners as one matrix product in torch, all problems in one tensor: for a GPU |
| `grid-gemm` | 601 x 601 points as one matrix product in torch, then the corners near the best |
| `de-numba`, `de-torch` | differential evolution of all problems at once, 20 x 30 |
| `scipy-de`, `scipy-direct` | scipy's differential evolution and DIRECT |
| `nevergrad` | TwoPointsDE; `nevergrad:PortfolioDiscreteOnePlusOne` |
| `optuna` | TPE |
| `evox` | extra: JaDE; `evox:DE`, `evox:PSO`, `evox:SHADE`, `evox:CSO` |
| `botorch` | extra: GP-UCB, 10 points, then at most 20 |

Finer bars (exit `path`) are read by all but the torch forms: `exact-torch`, `grid-gemm`, `de-torch` and
`evox` refuse them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from engine.bars.model import Floats
from engine.errors import ConfigError, closest
from engine.search.levels import de, external
from engine.search.levels.exact import STEP, TIE, solve
from engine.search.levels.exact_batch import solve_targets
from engine.search.levels.exact_torch import best_on_grid, candidates, solve_torch
from engine.search.levels.objective import Answer, Found, Objective, Solver, Task, problem_seed
from engine.search.levels.smoothed import solve_smoothed
from engine.simulation.levels_batch import levels_grid
from engine.simulation.levels_torch import BatchTensors

__all__ = ["SOLVERS", "Answer", "Objective", "Solver", "get", "problem_seed"]

GRID = 601  # points of each axis
NEAR = 4  # corners looked at on either side
ROUNDS = 20
PRECISION = 1e-7  # of the offsets on the smoothed objective


def _exact(task: Task) -> list[Found]:
    problems, widths = task.batch.problems, task.objective.widths
    if widths is None and task.exit == "target":  # the sweep, in one compiled call over the batch
        u_all, v_all, counts = solve_targets(task.batch, task.bounds)
        return list(zip(u_all.tolist(), v_all.tolist(), counts.tolist(), strict=True))
    if widths is None:
        solved = [solve(problem, exit=task.exit, bounds=task.bounds, abstain=False) for problem in problems]
        return [(found.u, found.v, found.evaluations) for found in solved]
    found = []
    for problem, width in zip(problems, widths.tolist(), strict=True):
        u, v, _, evaluations = solve_smoothed(problem, width, task.exit, task.bounds)
        found.append((u, v, evaluations))
    return found


def _exact_torch(task: Task) -> list[Found]:
    if task.objective.widths is not None:  # smoothed, a summit need not be a corner
        return _grid_gemm(task)
    u, v, _, pairs = solve_torch(task.batch, task.exit, task.bounds, task.objective.device)
    return list(zip(u.tolist(), v.tolist(), pairs.tolist(), strict=True))


def grid_axis(lower: float, upper: float) -> Floats:
    """Return evenly spaced points of one axis, float64 (601,), return units; 0 itself if it lies inside."""
    points = np.linspace(lower, upper, GRID)
    if lower < 0 < upper:
        points[np.abs(points).argmin()] = 0.0
    return np.asarray(points, dtype=np.float64)


def _improve(us: Floats, vs: Floats, values: Floats, best: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Return the better of the held pairs (P, 2) and the best of each grid, with their values (P,)."""
    at = values.reshape(len(values), -1).argmax(1)
    each = np.arange(len(values))
    j, k = np.unravel_index(at, values.shape[1:])
    found = np.stack([us[each, j], vs[each, k]], 1)
    top = values[each, j, k]
    better = top > value + TIE * np.maximum(1.0, np.abs(value))
    return np.where(better[:, None], found, best), np.where(better, top, value)


def _around(points: Floats, held: Floats) -> Floats:
    """Return what is held, (P,), and the corners next to it, of ``points`` (P, T + 3): (P, 1 + 2 NEAR)."""
    window = np.empty((len(held), 2 * NEAR + 1))
    for p, row in enumerate(points):
        distinct = np.unique(row)
        start = int(np.searchsorted(distinct, held[p])) - NEAR
        window[p, 0] = held[p]
        window[p, 1:] = distinct[np.clip(np.arange(start, start + 2 * NEAR), 0, len(distinct) - 1)]
    return window


def _to_corners(task: Task, best: Floats) -> tuple[Floats, int]:
    """Return the pairs (P, 2) moved to the best corner near them, round by round, and the pairs looked at."""
    batch = task.batch
    axes = candidates(batch, task.bounds, STEP)
    value = levels_grid(batch, best[:, :1], best[:, 1:], task.exit)[:, 0, 0]
    looked = 1
    for _ in range(ROUNDS):
        us, vs = (_around(points, best[:, axis]) for axis, points in enumerate(axes))
        values = levels_grid(batch, us, vs, task.exit)
        looked += values[0].size
        moved, value = _improve(us, vs, values, best, value)
        if np.array_equal(moved, best):
            break
        best = moved
    return best, looked


def _to_summit(task: Task, tensors: BatchTensors, best: Floats) -> tuple[Floats, int]:
    """Return the pairs (P, 2) moved up the smoothed objective on shrinking grids, and the pairs looked at."""
    live, whole = task.exit == "target", slice(0, len(best))
    steps = np.array([(upper - lower) / (GRID - 1) for lower, upper in task.bounds])
    u, v = tensors.tensor(best[:, :1]), tensors.tensor(best[:, 1:])
    value, looked = tensors.values(u, v, live)[:, 0].cpu().numpy(), 1
    offsets = np.array([0.0, -1.0, -0.5, 0.5, 1.0])
    while steps.max() > PRECISION:
        us, vs = (np.clip(best[:, [axis]] + steps[axis] * offsets, *task.bounds[axis]) for axis in (0, 1))
        values = tensors.grid(whole, tensors.tensor(us), tensors.tensor(vs), live).cpu().numpy()
        looked += values[0].size
        best, value = _improve(us, vs, values, best, value)
        steps = steps / 2
    return best, looked


def _grid_gemm(task: Task) -> list[Found]:
    tensors = task.objective.tensors(task.batch)
    u, v = (np.tile(grid_axis(*pair), (len(task.batch), 1)) for pair in task.bounds)
    best = np.stack(best_on_grid(tensors, u, v, task.exit), 1)
    if task.objective.widths is None:
        best, looked = _to_corners(task, best)
    else:
        best, looked = _to_summit(task, tensors, best)
    return [(float(pair[0]), float(pair[1]), GRID * GRID + looked) for pair in best]


SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {
        solver.name: solver
        for solver in (
            Solver("exact", _exact, de.numba_version, 0),
            Solver("exact-torch", _exact_torch, de.torch_version, 0, finer=False),
            Solver("grid-gemm", _grid_gemm, de.torch_version, 0, finer=False),
            *de.SOLVERS,
            *external.SOLVERS,
        )
    }
)


def get(name: str) -> Solver:
    """Return a solver by its name.

    Raises
    ------
    ConfigError
        The name is unknown (the closest are named), or names an algorithm that does not work.
    """
    if name in SOLVERS:
        return SOLVERS[name]
    family, _, algorithm = name.partition(":")
    if family == "nevergrad" and algorithm:
        return external.nevergrad_solver(algorithm)
    if family == "evox" and algorithm:
        return external.evox_solver(algorithm)
    raise ConfigError(f"levels.solver was {name!r}. {closest(name, SOLVERS)}")
