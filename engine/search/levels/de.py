"""Differential evolution of all problems at once: the solvers `de-numba` and `de-torch`.

Best/1/bin: each generation, every member is crossed with the best one plus a scaled difference of
two others, and replaced where the child is no worse. Both solvers run the same loop on the same
random numbers, drawn per problem; they differ in who scores: the compiled evaluator or torch.

Axes: P problems, N members, 2 offsets, G generations, the first one at random.
Source: Storn and Price 1997, strategy best/1/bin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.bars.model import Floats
from engine.search.levels.exact import Bounds
from engine.search.levels.objective import Found, Objective, Solver, Task

MEMBERS, GENERATIONS = 20, 30
SCALE = (0.5, 1.0)  # F, drawn for each member of each generation
CROSSING = 0.7  # CR


def draws(seeds: tuple[int, ...], generations: int, bounds: Bounds) -> tuple[Floats, Floats]:
    """Return the first members (P, N, 2), in return units, and the random numbers (G - 1, P, N, 6) in [0, 1).

    The first members are stratified: on each axis one in each of N equal parts.
    """
    first = np.empty((len(seeds), MEMBERS, 2))
    later = np.empty((generations - 1, len(seeds), MEMBERS, 6))
    for p, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        for axis, (lower, upper) in enumerate(bounds):
            parts = rng.permutation(MEMBERS) + rng.random(MEMBERS)
            first[p, :, axis] = np.clip(lower + (upper - lower) * parts / MEMBERS, lower, upper)
        later[:, p] = rng.random((generations - 1, MEMBERS, 6))
    return first, later


def evolve(
    library: Any, put: Callable[[Any], Any], values: Callable[[Any, Any], Any], first: Floats, later: Floats,
    bounds: Bounds,
) -> tuple[Any, Any]:  # fmt: skip
    """Return the best member of each problem, (P, 2), and its value, (P,).

    Parameters
    ----------
    library : module
        numpy or torch: the calls used have the same meaning in both.
    put : callable
        Turns a numpy array into an array of the library, on its device.
    values : callable
        ``values(u, v)``, both (P, N), gives the objective (P, N).
    first, later : float64 array
        Of `draws`.
    bounds : pair of (lower, upper)
        Of u, then of v, return units; a child beyond is set on the bound.
    """
    lower, upper = (put(np.array([pair[k] for pair in bounds])) for k in (0, 1))
    each = put(np.arange(len(first))[:, None])  # (P, 1)
    members = put(first)
    scores = values(members[:, :, 0], members[:, :, 1])
    self = np.arange(MEMBERS)
    for drawn in later:
        one = np.floor(drawn[..., 0] * (MEMBERS - 1)).astype(
            np.int64
        )  # two others, different from each other
        two = np.floor(drawn[..., 1] * (MEMBERS - 2)).astype(np.int64)
        two += two >= one
        one, two = put((self + 1 + one) % MEMBERS), put((self + 1 + two) % MEMBERS)
        forced = (drawn[..., 5] < 0.5)[..., None] == np.array([True, False])
        crosses = put((drawn[..., 3:5] < CROSSING) | forced)
        scale = put(SCALE[0] + (SCALE[1] - SCALE[0]) * drawn[..., 2:3])
        best = members[each, scores.argmax(1)[:, None]]  # (P, 1, 2)
        mutant = best + scale * (members[each, one] - members[each, two])
        child = library.clip(library.where(crosses, mutant, members), lower, upper)
        trial = values(child[:, :, 0], child[:, :, 1])
        better = trial >= scores
        members = library.where(better[..., None], child, members)
        scores = library.where(better, trial, scores)
    top = scores.argmax(1)[:, None]
    return members[each, top][:, 0], scores[each, top][:, 0]


def _found(best: Floats, generations: int) -> list[Found]:
    return [(float(u), float(v), generations * MEMBERS) for u, v in best]


def _numba(task: Task) -> list[Found]:
    generations = task.budget // MEMBERS
    first, later = draws(task.seeds, generations, task.bounds)
    best, _ = evolve(
        np, lambda x: x, lambda u, v: task.objective.values(task.batch, u, v, task.exit), first, later,
        task.bounds,
    )  # fmt: skip
    return _found(best, generations)


def _torch(task: Task) -> list[Found]:
    import torch

    generations = task.budget // MEMBERS
    tensors, live = task.objective.tensors(task.batch), task.exit == "target"
    first, later = draws(task.seeds, generations, task.bounds)
    best, _ = evolve(
        torch, lambda x: torch.as_tensor(x, device=tensors.options["device"]),
        lambda u, v: tensors.values(u, v, live), first, later, task.bounds,
    )  # fmt: skip
    return _found(best.cpu().numpy(), generations)


def numba_version(objective: Objective) -> str:
    """Return the version of the compiler of the package's own kernels."""
    import numba

    return f"numba {numba.__version__}"


def torch_version(objective: Objective) -> str:
    """Return the version of torch and the device it computes on."""
    import torch

    from engine.forecasts.devices import choose_device

    return f"torch {torch.__version__} on {choose_device(objective.device).name}"


SOLVERS = (
    Solver("de-numba", _numba, numba_version, MEMBERS * GENERATIONS, least=MEMBERS, stochastic=True),
    Solver(
        "de-torch", _torch, torch_version, MEMBERS * GENERATIONS, least=MEMBERS, stochastic=True, finer=False
    ),
)
