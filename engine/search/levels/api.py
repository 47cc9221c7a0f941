"""One call for many levels problems: `optimize_levels`, with any solver and either objective.

Whatever a solver claims, the profit reported is `engine.simulation.levels.value` at its offsets, beside
the raw exact optimum, so the regret is always known. Equal problems are solved once; exit `path` of a
problem without finer bars is `close`. Axes: P problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.bars.model import Floats, Ints
from engine.errors import ConfigError, LevelsInputError
from engine.forecasts.devices import choose_device
from engine.search.levels import backends
from engine.search.levels.exact import BOUNDS, Bounds, LevelsSolution, job_key, solve
from engine.search.levels.objective import Answer, Objective
from engine.search.levels.smoothed import smoothed_value
from engine.search.levels.width import Smoothing, smoothing_width
from engine.simulation.levels import EXITS, LevelsProblem, bar_net, value
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_problem import ROWS, one_of

OBJECTIVES = ("smoothed", "sup")
KEPT_BP = (1.0, 5.0, 10.0)
NO_GAIN = 1e-12  # possible improvement below which its share is undefined


@dataclass(frozen=True, eq=False)
class LevelsResult:
    """What `optimize_levels` found, one entry a problem.

    Parameters
    ----------
    offsets : float64 array, shape (P, 2)
        u (high) and v (low), return units, after the shrinking.
    profit : float64 array, shape (P,)
        The plain objective at the offsets, return units, in-sample.
    objective_value : float64 array, shape (P,)
        What was maximised, at the offsets: the smoothed value, or the profit.
    exact_profit, regret : float64 array, shape (P,)
        The raw exact optimum inside the bounds, and what the profit lacks of it.
    gain : float64 array, shape (P,)
        Share of the possible improvement over zero offsets; NaN where that is below 1e-12.
    profit_zero : float64 array, shape (P,)
        The plain objective at zero offsets. No trade earns 0.
    evaluations : int64 array, shape (P,)
        Candidates the solver looked at.
    fills : int64 array, shape (P, 3)
        Filled longs, filled shorts, exits at a target.
    kept : float64 array, shape (P, 3)
        Share of the profit left with both offsets moved by 1, 5, 10 basis points, mean of the four
        directions; NaN where the profit is not above 0.
    n_dropped, n_crossed : int64 array, shape (P,)
        Rows left out of the problem, and rows with a crossed forecast.
    status : tuple of str
        `ok`; `empty`: no row trades, offsets 0; `abstain`: it loses in-sample, by the objective or plainly.
    exit : tuple of str
        As asked for.
    backend, backend_version : str
        The solver used.
    objective : str
        `smoothed` or `sup`.
    widths : float64 array, shape (P,)
        Standard deviation of the smoothing, return units; NaN for `sup`.
    seed : int
        Of the searching solvers.
    """

    offsets: Floats
    profit: Floats
    objective_value: Floats
    exact_profit: Floats
    regret: Floats
    gain: Floats
    profit_zero: Floats
    evaluations: Ints
    fills: Ints
    kept: Floats
    n_dropped: Ints
    n_crossed: Ints
    status: tuple[str, ...]
    exit: tuple[str, ...]
    backend: str
    backend_version: str
    objective: str
    widths: Floats
    seed: int

    def __len__(self) -> int:
        """Return the number of problems."""
        return len(self.status)


class _Found(NamedTuple):
    """One solved problem: everything that differs between problems."""

    offsets: tuple[float, float]
    profit: float
    objective_value: float
    exact_profit: float
    profit_zero: float
    evaluations: int
    fills: tuple[int, int, int]
    kept: tuple[float, ...]
    status: str


def uses_torch(name: str) -> bool:
    """Say whether a solver computes on torch, so that the device matters to it."""
    return name.split(":")[0] in ("exact-torch", "grid-gemm", "de-torch", "evox")


def require_finer(solver: str, policies: Sequence[str], symbols: Sequence[str]) -> None:
    """Refuse exit `path` of symbols read in a finer frame to a solver that cannot read finer bars.

    Raises
    ------
    ConfigError
        Names the symbols, and the settings that mend it.
    """
    if "path" in policies and symbols and not backends.get(solver).finer:
        can = ", ".join(name for name, known in backends.SOLVERS.items() if known.finer)
        raise ConfigError(
            f"levels.solver {solver} cannot read finer bars, which exit path needs of symbols with a "
            f"base_frame ({', '.join(symbols)}). Set levels.solver to one that can ({can}), or "
            "levels.policies without path"
        )


def check_solver(name: str) -> None:
    """Refuse a solver that is not known, or whose package is absent.

    Raises
    ------
    ConfigError
        The name is not known; lists the closest.
    MissingExtra
        Its package is not installed; gives the pip line.
    """
    backends.get(name).version(Objective())


def optimize_levels(
    problems: LevelsProblem | Sequence[LevelsProblem], *, solver: str = "exact", objective: str = "smoothed",
    smoothing: Smoothing = 0.25, exit: str | Sequence[str] = "path", bounds: Bounds = BOUNDS,
    budget: int = 300, seed: int = 0, shrink: float = 1.0, abstain: bool = True, device: str = "cpu",
) -> LevelsResult:  # fmt: skip
    """Return the best offsets of each problem, and what they are worth.

    Parameters
    ----------
    problems : LevelsProblem or sequence of P of them
        Their trigger (touch, or through k ticks) and fees are part of them.
    solver : str
        `exact`, or a name of `engine.search.levels.backends`.
    objective : str
        `smoothed`: the mean over offsets moved by a normal draw, which holds up better out of
        sample; `sup`: the raw optimum.
    smoothing : float or {"absolute": x}
        Width of the draws, see `smoothing_width`.
    exit : str, or one a problem
        `path` (finer bars tell the order; `close` without them), `close` or `target` (optimistic).
    bounds : pair of (lower, upper)
        Of u, then of v.
    budget, seed : int
        Evaluations and seed of the searching solvers.
    shrink : float in [0, 1]
        The offsets are multiplied by it after the fit, and stay inside the bounds.
    abstain : bool
        Mark a problem that loses in-sample as `abstain`; its offsets are still told.
    device : str
        `auto`, `cpu` or `cuda:N`, of the solvers that compute on torch.

    Raises
    ------
    ConfigError
        A name is not known.
    MissingExtra
        The solver's package is not installed. Never another solver in its place.
    DeviceUnavailable
        A CUDA device was asked for and is absent.
    LevelsInputError
        Bounds, shrink or smoothing are impossible.

    NaN: see the fields of `LevelsResult`.
    """
    problems = [problems] if isinstance(problems, LevelsProblem) else list(problems)
    exits = [exit] * len(problems) if isinstance(exit, str) else list(exit)
    one_of("levels.objective", objective, OBJECTIVES)
    search = backends.get(solver)
    if len(exits) != len(problems):
        raise LevelsInputError(
            f"{len(exits)} exits for {len(problems)} problems; expected one each, or one name"
        )
    for name in exits:
        one_of("levels.policies", name, EXITS)
    if not 0.0 <= shrink <= 1.0:
        raise LevelsInputError(f"levels.shrink was {shrink}, expected a number in [0, 1]")
    keys = [job_key(problem, name, (*ROWS, "index")) for problem, name in zip(problems, exits, strict=True)]
    once = {key: (problem, key[0]) for key, problem in zip(keys, problems, strict=True)}
    jobs = list(once.values())
    smooth = objective == "smoothed"
    widths = [smoothing_width(problem, smoothing) if smooth else np.nan for problem, _ in jobs]
    raw = [solve(problem, exit=name, bounds=bounds, abstain=False) for problem, name in jobs]
    place = choose_device(device).name if uses_torch(solver) else "cpu"
    answers: list[Answer] = [Answer(0.0, 0.0, 0, "", 0.0)] * len(jobs)
    for name in EXITS:
        at = [i for i, job in enumerate(jobs) if job[1] == name]
        batch = LevelsBatch.of([jobs[i][0] for i in at])
        aim = Objective(np.array([widths[i] for i in at]) if smooth else None, device=place)
        for i, answer in zip(
            at, search(batch, objective=aim, exit=name, bounds=bounds, budget=budget, seed=seed), strict=True
        ):
            answers[i] = answer
    found = [
        _score(*job, width, best, answer, bounds, shrink, abstain)
        for job, width, best, answer in zip(jobs, widths, raw, answers, strict=True)
    ]
    solved = dict(zip(once, found, strict=True))
    width_of = dict(zip(once, widths, strict=True))
    every = [solved[key] for key in keys]

    def column(name: str, *shape: int) -> Floats:
        return np.array([getattr(one, name) for one in every], dtype=np.float64).reshape(len(every), *shape)

    profit, exact, zero = column("profit"), column("exact_profit"), column("profit_zero")
    possible = exact - zero
    possible[np.abs(possible) < NO_GAIN] = np.nan
    return LevelsResult(
        offsets=column("offsets", 2),
        profit=profit,
        objective_value=column("objective_value"),
        exact_profit=exact,
        regret=exact - profit,
        gain=(profit - zero) / possible,
        profit_zero=zero,
        evaluations=column("evaluations").astype(np.int64),
        fills=column("fills", 3).astype(np.int64),
        kept=column("kept", len(KEPT_BP)),
        n_dropped=np.array([problem.n_dropped for problem in problems], dtype=np.int64),
        n_crossed=np.array([problem.n_crossed for problem in problems], dtype=np.int64),
        status=tuple(one.status for one in every),
        exit=tuple(exits),
        backend=solver,
        backend_version=search.version(Objective()),
        objective=objective,
        widths=np.array([width_of[key] for key in keys], dtype=np.float64),
        seed=seed,
    )


def _score(
    problem: LevelsProblem, exit: str, width: float, best: LevelsSolution, answer: Answer,
    bounds: Bounds, shrink: float, abstain: bool,
) -> _Found:  # fmt: skip
    """Return what an answer is worth."""
    if best.status == "empty":
        undefined = (np.nan,) * len(KEPT_BP)
        return _Found((0.0, 0.0), 0.0, 0.0, 0.0, 0.0, 0, (0, 0, 0), undefined, "empty")
    u, v, aim = answer.u, answer.v, answer.value
    if shrink < 1.0:
        (u_low, u_high), (v_low, v_high) = bounds
        u, v = min(max(u * shrink, u_low), u_high), min(max(v * shrink, v_low), v_high)
        aim = float(smoothed_value(problem, u, v, width, exit)) if width > 0.0 else aim
    scored = bar_net(problem, u, v, exit)
    profit = float(scored.net.sum())
    aim = aim if width > 0.0 else profit  # a width of 0 or none: the objective is the plain one
    moves = [(x * 1e-4, (-1, 1)) for x in KEPT_BP]
    kept = [
        sum(value(problem, u + a * x, v + b * x, exit) for a in signs for b in signs) / 4.0
        for x, signs in moves
    ]
    return _Found(
        (u, v), profit, aim, best.profit, best.profit_zero, answer.evaluations,
        (int(scored.long.sum()), int(scored.short.sum()),
         int(scored.long_target.sum() + scored.short_target.sum())),
        tuple(k / profit if profit > 0.0 else np.nan for k in kept),
        "abstain" if abstain and min(profit, aim) <= 0.0 else "ok",
    )  # fmt: skip
