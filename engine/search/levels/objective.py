"""What every levels solver is given and gives back: `Objective`, `Answer`, `Solver`.

A solver sees a batch of problems through the objective alone, so all of them, from the exact one
to a random search, answer the same question and can be compared.

Each problem's seed is a hash of the seed asked for and of the problem's own numbers (rounded, so
that another processor's last bit does not matter): its answer does not depend on its place in
the batch, nor on the order of its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.bars.model import Floats
from engine.errors import ConfigError, LevelsInputError
from engine.search.levels.exact import Bounds
from engine.search.levels.smoothed import smoothed_value
from engine.simulation.levels_batch import LevelsBatch, levels_one, levels_value
from engine.simulation.levels_problem import DELTA, EXITS, one_of
from engine.simulation.levels_torch import BatchTensors, one_value_torch, refuse_finer

Score = Callable[[float, float], float]
FORMS = ("compiled", "torch")


@dataclass(frozen=True, eq=False)
class Objective:
    """What is maximised, and where it is computed.

    Parameters
    ----------
    widths : float64 array, shape (P,), or None
        Smoothing width of each problem, return units; 0 = that problem's plain objective.
        None = plain for all (`sup`).
    device : str
        Of the solvers that work in torch: `cpu`, `cuda:N` or `auto`.
    form : str
        How solvers that try one candidate at a time score it: `compiled`, or `torch`, one torch
        call per candidate (the familiar slow form, for comparison; plain objective only).
    """

    widths: Floats | None = None
    device: str = "cpu"
    form: str = "compiled"

    def take(self, positions: Sequence[int]) -> Objective:
        """Return the objective of the problems at ``positions``."""
        widths = (
            None if self.widths is None else np.asarray(self.widths)[np.asarray(positions, dtype=np.int64)]
        )
        return replace(self, widths=widths)

    def values(self, batch: LevelsBatch, u: Floats, v: Floats, exit: str) -> Floats:
        """Return the objective at K pairs of each problem, compiled; float64 (P, K), return units."""
        values = levels_value(batch, u, v, exit)
        if self.widths is not None:
            for p, width in enumerate(np.asarray(self.widths).tolist()):
                if width > 0:
                    values[p] = smoothed_value(batch.problems[p], u[p], v[p], width, exit)
        return values

    def score(self, batch: LevelsBatch, p: int, exit: str) -> Score:
        """Return a function of one pair (u, v) that scores problem ``p``, in return units."""
        width = 0.0 if self.widths is None else float(self.widths[p])
        if self.form == "torch":
            return one_value_torch(batch, p, exit)
        if width == 0.0:
            return levels_one(batch, p, exit)
        problem = batch.problems[p]
        return lambda u, v: float(smoothed_value(problem, u, v, width, exit))

    def tensors(self, batch: LevelsBatch) -> BatchTensors:
        """Return the batch on the device, float64; all widths above 0, or None."""
        return BatchTensors(batch, self.device, "float64", self.widths)


@dataclass(frozen=True)
class Answer:
    """A solver's answer to one problem.

    Parameters
    ----------
    u, v : float
        Offsets of the high and of the low, return units.
    evaluations : int
        Pairs of offsets scored to find them.
    backend_version : str
        Library and version that searched, and the device where it is torch.
    value : float
        The objective scored again at (u, v), return units.
    """

    u: float
    v: float
    evaluations: int
    backend_version: str
    value: float


@dataclass(frozen=True)
class Task:
    """What a solver's own code is given: problems that trade, all plain or all smoothed.

    ``seeds`` has one number below 2**32 for each problem. ``budget`` None = the solver's own.
    """

    batch: LevelsBatch
    objective: Objective
    exit: str
    bounds: Bounds
    budget: int
    seeds: tuple[int, ...]


Found = tuple[float, float, int]  # u, v, evaluations


class Recorder:
    """Scores candidates of one problem one at a time, counts them and keeps the best.

    A candidate outside the bounds is refused: no solver may look there.
    """

    def __init__(self, score: Score, bounds: Bounds) -> None:
        self._score, self._bounds = score, bounds
        self.evaluations = 0
        self.best, self.at = -np.inf, (0.0, 0.0)

    def __call__(self, u: float, v: float) -> float:
        """Return the objective at (u, v), return units."""
        for axis, offset, (lower, upper) in zip(("high", "low"), (u, v), self._bounds, strict=True):
            if not lower <= offset <= upper:
                raise LevelsInputError(
                    f"a solver tried {offset} on the {axis} axis, expected an offset in [{lower}, {upper}]"
                )
        self.evaluations += 1
        value = self._score(u, v)
        if value > self.best:
            self.best, self.at = value, (u, v)
        return value

    @property
    def found(self) -> Found:
        """Return the best point and the evaluations it took."""
        return (*self.at, self.evaluations)


def one_by_one(task: Task, search: Callable[[Recorder, int], None]) -> list[Found]:
    """Run ``search(recorder, seed)`` on each problem; the best point it looked at is the answer."""
    found = []
    for p, seed in enumerate(task.seeds):
        recorder = Recorder(task.objective.score(task.batch, p, task.exit), task.bounds)
        search(recorder, seed)
        found.append(recorder.found)
    return found


def problem_seed(batch: LevelsBatch, p: int, exit: str, seed: int) -> int:
    """Return the seed of problem ``p``, below 2**32: a hash of ``seed`` and the problem's numbers.

    Moves are rounded to 1e-9, so that two processors that differ in a last bit still agree.
    """
    rows = np.round(batch.rows[: DELTA + 1, p, : batch.lengths[p]], 9)
    rows = rows[:, (rows[5] != 0) | (rows[6] != 0)] + 0.0  # no -0.0
    fees = np.round(batch.fees[p], 9)
    head = f"{seed}|{bool(batch.touch[p])}|{exit == 'target'}|{fees.tolist()}|".encode()
    corners, tail = batch.corners, b""
    if exit == "path" and corners is not None:
        for starts in corners.starts[:, p]:  # nothing is added where no target can trade
            held = slice(starts[0], starts[-1])
            tail += np.repeat(np.arange(len(starts) - 1), np.diff(starts)).tobytes()
            tail += b"".join((np.round(x[held], 9) + 0.0).tobytes() for x in (corners.top, corners.bottom))
    return int.from_bytes(hashlib.sha256(head + rows.tobytes() + tail).digest()[:4], "little")


@dataclass(frozen=True)
class Solver:
    """A named way to maximise the objective.

    Parameters
    ----------
    name : str
        As in `levels.solver`.
    search : callable
        ``search(task) -> [(u, v, evaluations), ...]``, one per problem.
    version : callable
        ``version(objective) -> str``.
    budget : int
        Evaluations per problem where none are asked for; 0 = it does not search and takes no budget.
    least : int
        Evaluations it cannot do without.
    most : int
        Evaluations it never exceeds, whatever the budget; 0 = no such limit.
    stochastic : bool
        The seed matters.
    finer : bool
        It can read finer bars; one that cannot refuses exit `path` on problems that have any.
    """

    name: str
    search: Callable[[Task], list[Found]]
    version: Callable[[Objective], str]
    budget: int
    least: int = 1
    most: int = 0
    stochastic: bool = False
    finer: bool = True

    def __call__(
        self, batch: LevelsBatch, *, objective: Objective, exit: str, bounds: Bounds,
        budget: int | None, seed: int,
    ) -> list[Answer]:  # fmt: skip
        """Solve every problem of a batch.

        Parameters
        ----------
        batch : LevelsBatch
            P problems.
        objective : Objective
            What is maximised.
        exit : str
            `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).
        bounds : pair of (lower, upper)
            Of u, then of v, return units; each axis's own are honoured.
        budget : int or None
            Evaluations per problem; None = the solver's own. A population is not cut, so that it is
            rounded down to whole generations; a final polish comes on top. No effect on solvers that
            do not search (``Solver.budget`` 0).
        seed : int
            The same seed gives the same bits.

        Returns
        -------
        list of Answer, length P
            A problem in which no row trades is answered (0, 0) with 0 evaluations.

        Raises
        ------
        LevelsInputError
            A lower bound is not below its upper bound, a width is not a number >= 0, or exit `path`
            is asked of problems with finer bars that the solver cannot read.
        ConfigError
            The budget is too small for the solver, or form `torch` is asked of a smoothed objective.
        MissingExtra
            The solver's package is not installed.
        """
        one_of("levels.policies", exit, EXITS)
        one_of("form", objective.form, FORMS)
        for axis, (lower, upper) in zip(("high", "low"), bounds, strict=True):
            if not -np.inf < lower < upper < np.inf:
                raise LevelsInputError(
                    f"levels.bounds.{axis} was ({lower}, {upper}), expected two finite numbers, "
                    "the lower first"
                )
        if not self.finer:
            refuse_finer(batch, exit, f"solver {self.name}")
        budget = self.budget if budget is None else budget
        if self.budget and budget < self.least:
            raise ConfigError(f"levels.budget was {budget}; solver {self.name} needs at least {self.least}")
        budget = min(budget, self.most) if self.most else budget
        widths = (
            np.zeros(len(batch)) if objective.widths is None else np.asarray(objective.widths, np.float64)
        )
        if widths.shape != (len(batch),) or not np.all((widths >= 0) & (widths < np.inf)):
            raise LevelsInputError(
                f"smoothing widths were {widths}, expected one number >= 0 for each of {len(batch)} problems"
            )
        if objective.form == "torch" and widths.any():
            raise ConfigError("the form 'torch' scores the plain objective; use form 'compiled' to smooth")
        limits = tuple((float(lower), float(upper)) for lower, upper in bounds)
        version = self.version(objective)
        answers = [Answer(0.0, 0.0, 0, version, 0.0)] * len(batch)
        trades = batch.rows[5:7].any((0, 2))
        for smooth in (False, True):
            chosen = np.flatnonzero(trades & ((widths > 0) == smooth)).tolist()
            if not chosen:
                continue
            part = batch if len(chosen) == len(batch) else batch.take(chosen)
            aim = replace(objective, widths=widths[chosen] if smooth else None)
            drawn = range(len(part)) if self.stochastic else ()
            seeds = tuple(problem_seed(part, p, exit, seed) for p in drawn) or (0,) * len(part)
            found = self.search(Task(part, aim, exit, (limits[0], limits[1]), budget, seeds))
            u, v = (np.array([[pair[k]] for pair in found], dtype=np.float64) for k in (0, 1))
            values = aim.values(part, u, v, exit)
            for q, p in enumerate(chosen):
                evaluations = int(found[q][2])
                answers[p] = Answer(float(u[q, 0]), float(v[q, 0]), evaluations, version, float(values[q, 0]))
        return answers
