"""The smoothed objective: what a pair of offsets earns on average when both are off by a little.

Fs(u, v) = E F(u + e1, v + e2), e1 and e2 independent normal draws with standard deviation s. The
raw optimum stands on the edge of a cliff (one step further and a bar no longer fills); the smoothed
one stands where its neighbourhood earns, too. The expectation has a closed form: each leg of each
row needs the chance P that its level trades and the mean M of the level where it trades,

    P = Phi((t - m) / s)    M = m [Phi((t - m) / s) - Phi(-m / s)] + s [phi(m / s) - phi((t - m) / s)]

with m the level before its clip at 0 and t the highest level that trades. The low axis is the high
axis seen in a mirror (every move with its sign turned), so one set of kernels serves both:

    Fs = sum w_h (M_h - (c + f_c + f_e) P_h) + sum w_l (M_l - (-c + f_c + f_e) P_l)
       + for same-bar targets  sum w_l P_l (M_h - (c - f_c + f_t) P_h) + w_h P_h (M_l - (-c - f_c + f_t) P_l)

Maximised on a grid no wider than s / 2, then refined around its three best peaks: by Newton's method on each
axis where the exit is the close (the axes do not meet), else by halving a small grid. Exit `path` with
finer bars is the close plus the gain of `engine.search.levels.smoothed_path`; without any it is the close.
Axes: i rows, j and k points of the high and of the low axis.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numba import njit

from engine.bars.model import Floats
from engine.errors import LevelsInputError
from engine.search.levels.exact import BOUNDS, TIE, Bounds, solve
from engine.search.levels.smoothed_path import path_gain, path_terms
from engine.search.levels.summits import PEAKS, PRECISION, highest_on_grid, zoom
from engine.simulation.levels import EXITS, LevelsProblem
from engine.simulation.levels_finer import FinerBars
from engine.simulation.levels_problem import one_of

REACH = 9.0  # standard deviations beyond which nothing changes in float64
MOST_POINTS = {False: 20_000, True: 2_000}  # of one axis; on a grid of both
FORECAST, TOP, CLOSE, WEIGHT = range(4)  # columns of an axis, shape (n, 4)
_ROOT_2, _ROOT_2_PI = math.sqrt(2.0), math.sqrt(2.0 * math.pi)


@njit(cache=True, nogil=True, error_model="numpy")
def _phi(x):  # type: ignore[no-untyped-def]
    return math.exp(-0.5 * x * x) / _ROOT_2_PI


@njit(cache=True, nogil=True, error_model="numpy")
def _cdf(x):  # type: ignore[no-untyped-def]
    return 0.5 * math.erfc(-x / _ROOT_2)


@njit(cache=True, nogil=True, error_model="numpy")
def _chance_and_mean(m, top, s):  # type: ignore[no-untyped-def]
    """Return (P, M) of one level: its chance to trade, and its mean where it trades."""
    if top < 0.0:
        return 0.0, 0.0
    z, w = (top - m) / s, -m / s
    if z < -REACH:
        return 0.0, 0.0
    if w > REACH:  # the level is 0 whatever the draw
        return 1.0, 0.0
    chance = _cdf(z)
    return chance, m * (chance - _cdf(w)) + s * (_phi(w) - _phi(z))


@njit(cache=True, nogil=True, error_model="numpy")
def _leg(axis, point, cost, strict, s):  # type: ignore[no-untyped-def]
    """Return what the entries of one axis earn when closed at the close, its slope and its curvature."""
    total = slope = curvature = 0.0
    for i in range(len(axis)):
        top, weight = axis[i, TOP], axis[i, WEIGHT]
        if weight == 0.0 or top < 0.0 or (strict and top == 0.0):
            continue
        m, paid = axis[i, FORECAST] + point, axis[i, CLOSE] + cost
        z, w = (top - m) / s, -m / s
        if z < -REACH:
            continue
        if w > REACH:
            total -= weight * paid
            continue
        p, p_w, d, d_w = _cdf(z), _cdf(w), _phi(z), _phi(w)
        total += weight * (m * (p - p_w) + s * (d_w - d) - paid * p)
        slope += weight * (p - p_w + (paid - top) * d / s)
        curvature += weight * ((d_w - d) / s + (paid - top) * z * d / (s * s))
    return total, slope, curvature


@njit(cache=True, nogil=True, error_model="numpy")
def _summit(axis, start, low, high, cost, strict, s):  # type: ignore[no-untyped-def]
    """Return (point, value, evaluations) of the peak inside [low, high]: Newton's method, else bisection."""
    best, best_value, evaluations = start, -np.inf, 0
    point = start
    for _ in range(60):
        total, slope, curvature = _leg(axis, point, cost, strict, s)
        evaluations += 1
        if total > best_value:
            best, best_value = point, total
        if slope > 0.0:
            low = point
        elif slope < 0.0:
            high = point
        else:
            break
        step = -slope / curvature if curvature < 0.0 else np.inf
        if not low <= point + step <= high:
            step = 0.5 * (low + high) - point
        if abs(step) < 0.1 * PRECISION or high <= low:
            break
        point += step
    return best, best_value, evaluations


@njit(cache=True, nogil=True, error_model="numpy")
def _climb(axis, points, cost, strict, s):  # type: ignore[no-untyped-def]
    """Return the refined peaks of one axis, (point, value) each, shape (PEAKS, 2), and the evaluations."""
    count = len(points)
    values = np.empty(count)
    for j in range(count):
        values[j] = _leg(axis, points[j], cost, strict, s)[0]
    found, evaluations = np.full((PEAKS, 2), -np.inf), count
    free = np.ones(count, np.bool_)
    for j in range(count):
        left, right = values[max(j - 1, 0)], values[min(j + 1, count - 1)]
        free[j] = values[j] >= left and values[j] >= right
    for peak in range(PEAKS):
        chosen = -1
        for j in range(count):
            nearer = chosen >= 0 and values[j] == values[chosen] and abs(points[j]) < abs(points[chosen])
            if free[j] and (chosen < 0 or values[j] > values[chosen] or nearer):
                chosen = j
        if chosen < 0:
            break
        free[chosen] = False
        low, high = points[max(chosen - 1, 0)], points[min(chosen + 1, count - 1)]
        point, value, used = _summit(axis, points[chosen], low, high, cost, strict, s)
        found[peak, 0], found[peak, 1] = point, value
        evaluations += used
    return found, evaluations


@njit(cache=True, nogil=True, error_model="numpy")
def _factors(axis, points, f_e, f_t, f_c, touch, s):  # type: ignore[no-untyped-def]
    """Return entries' earnings, entries' chances and targets' worth of one axis, shape (3, n, points)."""
    out = np.zeros((3, len(axis), len(points)))
    for i in range(len(axis)):
        top, close, weight = axis[i, TOP], axis[i, CLOSE], axis[i, WEIGHT]
        enters = weight > 0.0 and not (touch and top == 0.0)
        for j in range(len(points)):
            p, mean = _chance_and_mean(axis[i, FORECAST] + points[j], top, s)
            if enters:
                out[0, i, j] = weight * (mean - (close + f_c + f_e) * p)
                out[1, i, j] = weight * p
            out[2, i, j] = mean - (close - f_c + f_t) * p
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _grid(high, low, us, vs, f_e, f_t, f_c, touch, target, s):  # type: ignore[no-untyped-def]
    """Return Fs on the grid us x vs, shape (J, K); ``vs`` in the mirror."""
    a = _factors(high, us, f_e, f_t, f_c, touch, s)
    b = _factors(low, vs, f_e, f_t, f_c, touch, s)
    out = np.zeros((len(us), len(vs)))
    for i in range(len(high)):
        for j in range(len(us)):
            for k in range(len(vs)):
                out[j, k] += a[0, i, j] + b[0, i, k]
                if target:
                    out[j, k] += b[1, i, k] * a[2, i, j] + a[1, i, j] * b[2, i, k]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _zoom(high, low, u, v, step_u, step_v, bounds, f_e, f_t, f_c, touch, s):  # type: ignore[no-untyped-def]
    """Return (u, v, value, evaluations) of the peak near a point of the grid; ``v`` in the mirror."""
    offsets = np.array(
        [0.0, -1.0, -0.5, 0.5, 1.0]
    )  # the point itself first: it stays where nothing is better
    value, evaluations = -np.inf, 0
    for _ in range(200):
        us = np.minimum(np.maximum(u + step_u * offsets, bounds[0]), bounds[1])
        vs = np.minimum(np.maximum(v + step_v * offsets, bounds[2]), bounds[3])
        values = _grid(high, low, us, vs, f_e, f_t, f_c, touch, True, s)
        evaluations += values.size
        at = values.argmax()
        j, k = at // 5, at % 5
        u, v, value = us[j], vs[k], values[j, k]
        inside = abs(offsets[j]) < 1.0 and abs(offsets[k]) < 1.0
        if inside:
            if max(step_u, step_v) < 0.5 * PRECISION:
                break
            step_u, step_v = 0.5 * step_u, 0.5 * step_v
    return u, v, value, evaluations


def _axes(p: LevelsProblem) -> tuple[Floats, Floats]:
    """Return the high axis and the mirrored low axis of the rows that trade, in an order of their values."""
    columns = np.column_stack(
        [p.forecast_high, p.high - p.delta, p.close, p.short_weight,
         -p.forecast_low, -(p.low + p.delta), -p.close, p.long_weight]
    )  # fmt: skip
    columns = columns[(p.short_weight > 0) | (p.long_weight > 0)] + 0.0  # no -0.0
    order = np.argsort(columns[:, 0], kind="stable")
    if not np.diff(columns[order, 0]).all():  # ties are ordered by the other columns
        order = np.lexsort(columns.T[::-1])
    columns = columns[order]
    return np.ascontiguousarray(columns[:, :4]), np.ascontiguousarray(columns[:, 4:])


def smoothed_value(
    problem: LevelsProblem, u: Floats | float, v: Floats | float, s: float, exit: str
) -> Floats:
    """Return the smoothed objective at pairs of offsets.

    Parameters
    ----------
    problem : LevelsProblem
        n rows.
    u, v : float or float64 array
        Offsets of the high and of the low; shapes that broadcast.
    s : float, > 0
        Standard deviation of the draws on each axis, in return units.
    exit : str
        `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).

    Returns
    -------
    float64 array
        In return units, the broadcast shape of ``u`` and ``v``.

    Raises
    ------
    LevelsInputError
        ``s`` is not positive and finite.
    """
    one_of("levels.policies", exit, EXITS)
    if not 0.0 < s < math.inf:
        raise LevelsInputError(f"{problem.name}: the smoothing width was {s}, expected a number > 0")
    us, vs = np.broadcast_arrays(np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64))
    flat = np.ascontiguousarray(us).ravel(), -np.ascontiguousarray(vs).ravel()
    rest = problem.fee_entry, problem.fee_target, problem.fee_close, problem.touch, float(s)
    high, low = (_factors(axis, points, *rest) for axis, points in zip(_axes(problem), flat, strict=True))
    total = high[0] + low[0]  # (n, K)
    if exit == "target":
        total += low[1] * high[2] + high[1] * low[2]
    values = np.asarray(total.sum(axis=0), dtype=np.float64)
    if exit == "path" and problem.finer is not None:
        fees = problem.fee_target, problem.fee_close
        values = values + path_gain(path_terms(problem), *flat, fees, float(s), grid=False)
    return values.reshape(us.shape)


def _points(axis: Floats, bounds: tuple[float, float], s: float, both: bool, name: str) -> Floats:
    """Return the grid of one axis: no wider than s / 2 where anything changes, with the bounds and 0."""
    lower, upper = bounds
    points = [lower, upper, min(max(0.0, lower), upper)]
    live = axis[axis[:, TOP] >= 0]
    if len(live):
        start = max(lower, float((-live[:, FORECAST]).min()) - REACH * s)
        stop = min(upper, float((live[:, TOP] - live[:, FORECAST]).max()) + REACH * s)
        if start < stop:
            count = math.ceil((stop - start) / (0.5 * s)) + 1
            most = MOST_POINTS[both]
            if count > most:
                raise LevelsInputError(
                    f"{name}: a smoothing width of {s:g} needs {count} grid points on [{start:g}, {stop:g}], "
                    f"at most {most} are tried; raise levels.smoothing or set levels.objective: sup"
                )
            points += np.linspace(start, stop, max(count, 2)).tolist()
    return np.unique(points)


def solve_smoothed(
    problem: LevelsProblem, s: float, exit: str, bounds: Bounds = BOUNDS
) -> tuple[float, float, float, int]:
    """Return the offsets with the highest smoothed value.

    Parameters
    ----------
    problem : LevelsProblem
        n rows.
    s : float, >= 0
        Standard deviation of the draws; at 0 the smoothed objective is the plain one, and the exact
        optimum is returned.
    exit : str
        `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).
    bounds : pair of (lower, upper)
        Of u, then of v, return units.

    Returns
    -------
    tuple of float, float, float, int
        u and v, to 1e-6; the smoothed value there; the evaluations (of pairs, or of points of one
        axis where the exit is the close). The order of the rows never changes the offsets. Ties go
        to the smallest |u| + |v|.

    Raises
    ------
    LevelsInputError
        The bounds are in the wrong order, or ``s`` is so small that the grid would be too long.
    """
    one_of("levels.policies", exit, EXITS)
    for axis, (lower, upper) in zip(("high", "low"), bounds, strict=True):
        if not -math.inf < lower < upper < math.inf:
            raise LevelsInputError(
                f"levels.bounds.{axis} was ({lower}, {upper}), expected two finite numbers, the lower first"
            )
    if s == 0.0:
        raw = solve(problem, exit=exit, bounds=bounds, abstain=False)
        return raw.u, raw.v, raw.profit, raw.evaluations
    axes, mirrored = _axes(problem), (-bounds[1][1], -bounds[1][0])
    if not len(axes[0]):
        return 0.0, 0.0, 0.0, 0
    path = exit == "path" and problem.finer is not None
    both = path or exit == "target"  # the axes meet
    us = _points(axes[0], bounds[0], s, both, problem.name)
    vs = _points(axes[1], mirrored, s, both, problem.name)
    fees, touch = (problem.fee_entry, problem.fee_target, problem.fee_close), problem.touch
    if exit == "target":
        found, evaluations = _search(axes, us, vs, (*bounds[0], *mirrored), fees, touch, s)
    elif path:
        found, evaluations = _search_path(
            path_terms(problem), axes, us, vs, (*bounds[0], *mirrored), fees, touch, s
        )
    else:
        cost = problem.fee_close + problem.fee_entry
        high, used_high = _climb(axes[0], us, cost, touch, s)
        low, used_low = _climb(axes[1], vs, cost, touch, s)
        evaluations = used_high + used_low
        found = [(a[0], b[0], a[1] + b[1]) for a in high.tolist() for b in low.tolist()]
    top = max(value for _, _, value in found)
    floor = top - TIE * max(1.0, abs(top))
    near = [(abs(u) + abs(w), u, -w, value) for u, w, value in found if value >= floor]
    _, u, v, value = min(near)
    return u, v + 0.0, value, int(evaluations)


def _search(
    axes: tuple[Floats, Floats], us: Floats, vs: Floats, limits: tuple[float, ...],
    fees: tuple[float, float, float], touch: bool, s: float,
) -> tuple[list[tuple[float, float, float]], int]:  # fmt: skip
    """Return the refined peaks (u, mirrored v, value) of same-bar targets, and the evaluations."""
    grid = _grid(*axes, us, vs, *fees, touch, True, s)
    bounds, evaluations, found = np.array(limits), grid.size, []
    for u, v in highest_on_grid(grid, us, vs):
        u, w, value, used = _zoom(*axes, u, v, 0.5 * s, 0.5 * s, bounds, *fees, touch, s)
        found.append((float(u), float(w), float(value)))
        evaluations += used
    return found, evaluations


def _search_path(
    terms: Floats, axes: tuple[Floats, Floats], us: Floats, vs: Floats, limits: tuple[float, ...],
    fees: tuple[float, float, float], touch: bool, s: float,
) -> tuple[list[tuple[float, float, float]], int]:  # fmt: skip
    """Return the refined peaks (u, mirrored v, value) of targets after the entry, and the evaluations."""

    def surface(u: Floats, v: Floats) -> Floats:
        high, low = (_factors(axis, x, *fees, touch, s)[0] for axis, x in zip(axes, (u, v), strict=True))
        flat = high.sum(axis=0)[:, None] + low.sum(axis=0)
        return np.asarray(flat + path_gain(terms, u, v, fees[1:], s, grid=True))

    peaks = highest_on_grid(surface(us, vs), us, vs)
    zoomed = [zoom(surface, peak, 0.5 * s, limits) for peak in peaks]
    return [(u, v, value) for u, v, value, _ in zoomed], us.size * vs.size + sum(one[3] for one in zoomed)


def warm() -> None:
    """Compile every kernel of this module on one row."""
    one, index = np.full(1, 0.01), np.ones(1, dtype=np.int64)
    tiny = LevelsProblem(one, one, -one, one, -one, one, one, one, one, index, 0.0, 0.0, 0.0, False)
    parted = replace(tiny, finer=FinerBars(np.array([0, 2]), one.repeat(2), -one.repeat(2)))
    for made, exit in ((tiny, "close"), (tiny, "target"), (parted, "path")):
        solve_smoothed(made, 0.01, exit)
        smoothed_value(made, 0.0, 0.0, 0.01, exit)
