"""The exact solver of the two-offset problem: the best pair on a window, by walking its corners.

Earnings F(u, v) are piecewise linear with breaks parallel to the axes. Inside a cell F never
falls as u grows and never rises as v grows, so the best value lies at the right end of a cell
in u and at the left end in v. Candidates are therefore one step `STEP` before each break where
a sell stops trading, one step after each break where a buy starts, 0, and the bounds.

`close`: F(u, v) = K(u) + G(v), one sorted pass per axis, O(n log n). `target`: all pairs of
candidates in one sweep over v that keeps, for every u, F as a line in v, O(n^2). `path` with finer
bars: such a sweep too, in `engine.search.levels.exact_path`; without any it is `close`. Which rows trade
at which candidate is decided by the comparisons of `engine.simulation.levels` itself, and the
profit reported is always that module's value at the offsets returned.

Ties: among values within 1e-15 * max(1, |F|) of the best the smallest |u| + |v|, then u, then v.
Rows are put in a canonical order first, so their order never changes the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from engine.bars.model import Floats
from engine.errors import LevelsInputError
from engine.search.levels.breaks import first_buy, first_clipped, sell_count
from engine.search.levels.exact_path import solve_paths
from engine.simulation.levels import EXITS, LevelsProblem, bar_net, value
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_finer import FinerBars
from engine.simulation.levels_problem import CLOSE, DELTA, DOWN, HIGH, LONG, LOW, ROWS, SHORT, UP, one_of

Bounds = tuple[tuple[float, float], tuple[float, float]]

BOUNDS: Bounds = ((-0.03, 0.03), (-0.03, 0.03))
STEP = 1e-9  # from a break to the side that trades; far above rounding, far below a tick
TIE = 1e-15


@njit(cache=True, nogil=True, error_model="numpy")
def _canonical(rows):  # type: ignore[no-untyped-def]
    """Return the rows of a (n, 8) matrix that trade, ordered by their values alone."""
    order = np.argsort(rows[:, CLOSE])
    kept = np.empty_like(rows)
    m = 0
    for i in order:
        if rows[i, LONG] == 0 and rows[i, SHORT] == 0:
            continue
        at = m
        while at > 0:  # argsort ordered the first column; equal values are ordered by the others
            before = False
            for column in range(8):
                if rows[i, column] != kept[at - 1, column]:
                    before = rows[i, column] < kept[at - 1, column]
                    break
            if not before:
                break
            kept[at] = kept[at - 1]
            at -= 1
        kept[at] = rows[i]
        m += 1
    return kept[:m]


@njit(cache=True, nogil=True, error_model="numpy")
def _points(rows, low_axis, lower, upper):  # type: ignore[no-untyped-def]
    """Return the sorted distinct candidates of one axis: u, or v where ``low_axis``."""
    points = np.empty(len(rows) + 3)
    points[0], points[1], points[2] = lower, upper, min(max(0.0, lower), upper)
    m = 3
    for i in range(len(rows)):
        if low_axis:
            trades = rows[i, LOW] + rows[i, DELTA] <= 0
            point = rows[i, LOW] - rows[i, DOWN] + rows[i, DELTA] + STEP
        else:
            trades = rows[i, HIGH] - rows[i, DELTA] >= 0
            point = rows[i, HIGH] - rows[i, UP] - rows[i, DELTA] - STEP
        if trades and lower <= point <= upper:
            points[m] = point
            m += 1
    return np.unique(points[:m])


@njit(cache=True, nogil=True, error_model="numpy")
def _best(values, points):  # type: ignore[no-untyped-def]
    """Return the point of the best value on one axis, ties by |point|, then by point."""
    top = values.max()
    floor = top - TIE * max(1.0, abs(top))
    chosen = np.inf
    for j in range(len(points)):
        if values[j] >= floor and abs(points[j]) < abs(chosen):
            chosen = points[j]
    return chosen


@njit(cache=True, nogil=True, error_model="numpy")
def _separable(rows, f_e, f_c, touch, u_lo, u_hi, v_lo, v_hi):  # type: ignore[no-untyped-def]
    """Return (u, v, evaluations) for exits at the close: one sorted pass per axis."""
    rows = _canonical(rows)
    u, v = _points(rows, False, u_lo, u_hi), _points(rows, True, v_lo, v_hi)
    # Index k of each array changes the running sum of the pass when it reaches point k.
    fixed_u, slope_u = np.zeros(len(u) + 1), np.zeros(len(u) + 1)
    fixed_v, slope_v = np.zeros(len(v) + 1), np.zeros(len(v) + 1)
    for i in range(len(rows)):
        r = rows[i]
        if r[SHORT] > 0:  # shorts trade on u[:stop]; their level is 0 on u[:clip]
            stop = sell_count(r[UP], r[HIGH] - r[DELTA], touch, u)
            clip = min(first_clipped(r[UP], u), stop)
            fixed_u[stop] += r[SHORT] * (r[UP] - r[CLOSE] - f_c - f_e)
            slope_u[stop] += r[SHORT]
            fixed_u[clip] -= r[SHORT] * r[UP]
            slope_u[clip] -= r[SHORT]
        if r[LONG] > 0:  # longs trade on v[start:]; their level is 0 on v[clip:]
            start = first_buy(r[DOWN], r[LOW] + r[DELTA], touch, v)
            clip = max(first_clipped(r[DOWN], v), start)
            fixed_v[start] += r[LONG] * (r[CLOSE] - r[DOWN] - f_c - f_e)
            slope_v[start] -= r[LONG]
            fixed_v[clip] += r[LONG] * r[DOWN]
            slope_v[clip] += r[LONG]
    gains_u, gains_v = np.empty(len(u)), np.empty(len(v))
    fixed, slope = 0.0, 0.0
    for j in range(len(u) - 1, -1, -1):
        fixed += fixed_u[j + 1]
        slope += slope_u[j + 1]
        gains_u[j] = fixed + slope * u[j]
    fixed, slope = 0.0, 0.0
    for k in range(len(v)):
        fixed += fixed_v[k]
        slope += slope_v[k]
        gains_v[k] = fixed + slope * v[k]
    return _best(gains_u, u), _best(gains_v, v), len(u) + len(v)


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep(rows, f_e, f_t, f_c, touch, u_lo, u_hi, v_lo, v_hi):  # type: ignore[no-untyped-def]
    """Return (u, v, evaluations) for same-bar targets: every pair of candidates, v upwards.

    Axes: i rows, j points of u, k points of v.
    F(u[j], v) = fixed - v * slope + fixed_j[j] - v * slope_j[j] between two events.
    """
    rows = _canonical(rows)
    u, v = _points(rows, False, u_lo, u_hi), _points(rows, True, v_lo, v_hi)
    n = len(rows)
    fixed_j, slope_j = np.zeros(len(u)), np.zeros(len(u))
    entries, covers = np.zeros(n, np.int64), np.zeros(n, np.int64)  # prefixes of u: short entry, long target
    clip = np.empty(n, np.int64)
    # Events of each point of v as linked lists: 3 i long entry, 3 i + 1 short target, 3 i + 2 clip at 0.
    first, following = np.full(len(v) + 1, -1), np.full(3 * n, -1)
    buys = np.full((n, 2), len(v))
    for i in range(n):
        r = rows[i]
        top, bottom = r[HIGH] - r[DELTA], r[LOW] + r[DELTA]
        clip[i] = first_clipped(r[DOWN], v)
        if r[LONG] > 0:
            buys[i, 0] = first_buy(r[DOWN], bottom, touch, v)
            covers[i] = sell_count(r[UP], top, False, u)
        if r[SHORT] > 0:
            buys[i, 1] = first_buy(r[DOWN], bottom, False, v)
            entries[i] = sell_count(r[UP], top, touch, u)
            for j in range(entries[i]):
                fixed_j[j] += r[SHORT] * (max(r[UP] + u[j], 0.0) - r[CLOSE] - f_c - f_e)
        for kind in range(3):
            k = buys[i, kind] if kind < 2 else clip[i]
            following[3 * i + kind] = first[k]
            first[k] = 3 * i + kind
    fixed, slope = 0.0, 0.0
    best_u, best_v, best, top_value, floor = 0.0, 0.0, -np.inf, -np.inf, -np.inf
    for k in range(len(v)):
        event = first[k]
        while event >= 0:
            i, kind = event // 3, event % 3
            r = rows[i]
            if kind < 2:
                clipped = clip[i] <= k  # the level is 0 from here on
                level, falls = (0.0, 0.0) if clipped else (r[DOWN], 1.0)
                if kind == 0:
                    fixed += r[LONG] * (r[CLOSE] - level - f_c - f_e)
                    slope += r[LONG] * falls
                    for j in range(covers[i]):
                        fixed_j[j] += r[LONG] * (max(r[UP] + u[j], 0.0) - r[CLOSE] + f_c - f_t)
                else:
                    for j in range(entries[i]):
                        fixed_j[j] += r[SHORT] * (r[CLOSE] - level + f_c - f_t)
                        slope_j[j] += r[SHORT] * falls
            else:
                if buys[i, 0] < k:
                    fixed += r[LONG] * r[DOWN]
                    slope -= r[LONG]
                if buys[i, 1] < k:
                    for j in range(entries[i]):
                        fixed_j[j] += r[SHORT] * r[DOWN]
                        slope_j[j] -= r[SHORT]
            event = following[event]
        line = fixed - v[k] * slope
        for j in range(len(u)):
            gain = line + fixed_j[j] - v[k] * slope_j[j]
            if gain < floor:
                continue
            if gain > top_value:
                top_value = gain
                floor = gain - TIE * max(1.0, abs(gain))
            far, farthest = abs(u[j]) + abs(v[k]), abs(best_u) + abs(best_v)
            nearer = far < farthest or (far == farthest and (u[j], v[k]) < (best_u, best_v))
            if best < floor or nearer:
                best_u, best_v, best = u[j], v[k], gain
    return best_u, best_v, len(u) * len(v)


@dataclass(frozen=True)
class LevelsSolution:
    """The best offsets of one problem, and what they earn on it (in-sample).

    Parameters
    ----------
    u, v : float
        Offsets of the high and of the low, return units.
    profit, profit_zero : float
        `engine.simulation.levels.value` at (u, v) and at (0, 0), return units.
    evaluations : int
        Pairs of candidates looked at (points of both axes for exits at the close).
    fills_long, fills_short, fills_target : int
        Filled entries, and exits credited at the target, at (u, v).
    status : str
        `ok`; `empty`: no row trades, offsets 0; `abstain`: the profit is not above 0 and the
        caller trades nothing.
    """

    u: float
    v: float
    profit: float
    profit_zero: float
    evaluations: int
    fills_long: int
    fills_short: int
    fills_target: int
    status: str


def solve(
    problem: LevelsProblem, *, exit: str, bounds: Bounds = BOUNDS, abstain: bool = True
) -> LevelsSolution:
    """Return the offsets with the highest value on the problem.

    Parameters
    ----------
    problem : LevelsProblem
        n rows.
    exit : str
        `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).
    bounds : pair of (lower, upper)
        Of u, then of v, return units.
    abstain : bool
        Mark a profit that is not above 0 as `abstain`.

    Raises
    ------
    LevelsInputError
        A lower bound is not below its upper bound.
    """
    one_of("levels.policies", exit, EXITS)
    for axis, (lower, upper) in zip(("high", "low"), bounds, strict=True):
        if not -np.inf < lower < upper < np.inf:
            raise LevelsInputError(
                f"levels.bounds.{axis} was ({lower}, {upper}), expected two finite numbers, the lower first"
            )
    if not (problem.long_weight.any() or problem.short_weight.any()):
        return LevelsSolution(0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, "empty")
    rows: Floats = np.column_stack([getattr(problem, name) for name in ROWS])
    limits = *map(float, bounds[0]), *map(float, bounds[1])
    if exit == "target":
        u, v, evaluations = _sweep(
            rows, problem.fee_entry, problem.fee_target, problem.fee_close, problem.touch, *limits
        )
    elif exit == "path" and problem.finer is not None:
        found = solve_paths(LevelsBatch.of([problem]), bounds, STEP, TIE)
        u, v, evaluations = (column[0].item() for column in found)
    else:
        u, v, evaluations = _separable(rows, problem.fee_entry, problem.fee_close, problem.touch, *limits)
    scored = bar_net(problem, u, v, exit)
    profit = float(scored.net.sum())
    return LevelsSolution(
        u,
        v,
        profit,
        value(problem, 0.0, 0.0, exit),
        evaluations,
        int(scored.long.sum()),
        int(scored.short.sum()),
        int(scored.long_target.sum() + scored.short_target.sum()),
        "abstain" if abstain and profit <= 0 else "ok",
    )


def job_key(
    problem: LevelsProblem, exit: str, columns: Sequence[str] = ROWS
) -> tuple[str, tuple[object, ...]]:
    """Return what decides a solution: the exit as it is simulated, and the numbers that enter.

    Exit `path` is `close` where the problem has no finer bars, and only there do they not matter.
    """
    finer = problem.finer if exit == "path" else None
    parts = [] if finer is None else [finer.starts, finer.high, finer.low]
    fees = problem.fee_entry, problem.fee_target, problem.fee_close
    arrays = (column.tobytes() for column in (*(getattr(problem, name) for name in columns), *parts))
    name = "close" if exit == "path" and finer is None else exit
    return name, (problem.touch, *fees, *arrays)


def solve_all(
    jobs: Sequence[tuple[LevelsProblem, str]], *, bounds: Bounds = BOUNDS, abstain: bool = True
) -> list[LevelsSolution]:
    """Solve (problem, exit) jobs, equal ones once (`job_key`)."""
    known: dict[object, LevelsSolution] = {}
    solutions = []
    for problem, exit in jobs:
        key = job_key(problem, exit)
        if key not in known:
            known[key] = solve(problem, exit=exit, bounds=bounds, abstain=abstain)
        solutions.append(known[key])
    return solutions


def warm() -> None:
    """Compile every kernel of this module, and the evaluator, on one row."""
    one, index = np.full(1, 0.01), np.ones(1, dtype=np.int64)
    tiny = LevelsProblem(one, one, -one, one, -one, one, one, one, one, index, 0.0, 0.0, 0.0, False)
    parted = replace(tiny, finer=FinerBars(np.array([0, 2]), one.repeat(2), -one.repeat(2)))
    solve_all([(tiny, "close"), (tiny, "target"), (parted, "path")])
