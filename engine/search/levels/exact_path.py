"""The exact solver of exit ``path`` with finer bars: one sweep over every pair of candidates.

The argument is that of `engine.search.levels.exact`: inside a cell earnings never fall as u grows
nor rise as v grows, so a corner is best. Breaks are those of the entries, and the tops and bottoms
of the staircases (`engine.simulation.levels_corners`). For a fixed u the target of a leg counts from
one buy level on, that of the first corner above its sell level; so each corner is one event in v that
changes the earnings of a range of u, those between the top of the corner before and its own.

The sweep holds, for every u, F as a line in v.
Axes: p problems, i rows, c corners, j points of u, k points of v.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from engine.bars.model import Floats, Ints
from engine.search.levels.breaks import first_buy, first_clipped, sell_count
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_problem import BOTTOM, CLOSE, DOWN, LONG, SHORT, TOP, UP

ALL = -1  # as first point of an event: it changes the earnings of every u alike


@njit(cache=True, nogil=True, error_model="numpy")
def _points(rows, n, starts, tops, bottoms, low_axis, lower, upper, step):  # type: ignore[no-untyped-def]
    """Return the sorted distinct candidates of one axis: u, or v where ``low_axis``."""
    points = np.empty(3 + n + starts[0, n] - starts[0, 0] + starts[1, n] - starts[1, 0])
    points[0], points[1], points[2] = lower, upper, min(max(0.0, lower), upper)
    m = 3
    for i in range(n):
        if low_axis:
            trades = rows[LONG, i] > 0 and rows[BOTTOM, i] <= 0
            point = rows[BOTTOM, i] - rows[DOWN, i] + step
        else:
            trades = rows[SHORT, i] > 0 and rows[TOP, i] >= 0
            point = rows[TOP, i] - rows[UP, i] - step
        if trades and lower <= point <= upper:
            points[m] = point
            m += 1
        for leg in range(2):
            for c in range(starts[leg, i], starts[leg, i + 1]):
                point = bottoms[c] - rows[DOWN, i] + step if low_axis else tops[c] - rows[UP, i] - step
                if lower <= point <= upper:
                    points[m] = point
                    m += 1
    return np.unique(points[:m])


@njit(cache=True, nogil=True, error_model="numpy")
def _events(rows, n, starts, tops, bottoms, f_e, f_t, f_c, strict, u, v, spans, changes):  # type: ignore[no-untyped-def]
    """Fill what happens as v rises; return how many events.

    ``spans`` (E, 3): point of v, first u, one past the last. ``changes`` (E, 4): F gains
    add - v * fall + lift * max(up + u, 0) on those u; columns add, fall, lift, up.
    """
    count = 0
    for i in range(n):
        up, down, close, a, b = rows[UP, i], rows[DOWN, i], rows[CLOSE, i], rows[LONG, i], rows[SHORT, i]
        clip = first_clipped(down, v)  # the buy level is 0 from here on
        if a > 0:
            k = first_buy(down, rows[BOTTOM, i], strict, v)
            clipped = clip <= k
            spans[count] = k, ALL, 0
            changes[count] = (
                a * (close - (0.0 if clipped else down) - f_c - f_e), 0.0 if clipped else a, 0.0, 0.0,
            )  # fmt: skip
            count += 1
            if not clipped:
                spans[count] = clip, ALL, 0
                changes[count] = a * down, -a, 0.0, 0.0
                count += 1
        first = 0
        for c in range(starts[0, i], starts[0, i + 1]):  # targets of the long
            stop = sell_count(up, tops[c], False, u)
            spans[count] = first_buy(down, bottoms[c], strict, v), first, stop
            changes[count] = a * (f_c - f_t - close), 0.0, a, up
            count += 1
            first = stop
        first = 0
        for c in range(starts[1, i], starts[1, i + 1]):  # targets of the short
            stop, k = sell_count(up, tops[c], strict, u), first_buy(down, bottoms[c], False, v)
            clipped = clip <= k
            spans[count] = k, first, stop
            changes[count] = (
                b * (close - (0.0 if clipped else down) + f_c - f_t), 0.0 if clipped else b, 0.0, 0.0,
            )  # fmt: skip
            count += 1
            if not clipped:
                spans[count] = clip, first, stop
                changes[count] = b * down, -b, 0.0, 0.0
                count += 1
            first = stop
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep(rows, n, starts, tops, bottoms, f_e, f_t, f_c, strict, u_lo, u_hi, v_lo, v_hi, step, tie):  # type: ignore[no-untyped-def]
    """Return (u, v, evaluations) of one problem whose first n rows may trade."""
    u = _points(rows, n, starts, tops, bottoms, False, u_lo, u_hi, step)
    v = _points(rows, n, starts, tops, bottoms, True, v_lo, v_hi, step)
    fixed_j, slope_j = np.zeros(len(u)), np.zeros(len(u))
    for i in range(n):
        up, b = rows[UP, i], rows[SHORT, i]
        if b > 0:  # shorts enter on u alone
            for j in range(sell_count(up, rows[TOP, i], strict, u)):
                fixed_j[j] += b * (max(up + u[j], 0.0) - rows[CLOSE, i] - f_c - f_e)
    most = 2 * (n + starts[0, n] - starts[0, 0] + starts[1, n] - starts[1, 0])
    spans, changes = np.empty((most, 3), np.int64), np.empty((most, 4))
    count = _events(rows, n, starts, tops, bottoms, f_e, f_t, f_c, strict, u, v, spans, changes)
    order = np.argsort(spans[:count, 0], kind="mergesort")
    fixed, slope, at = 0.0, 0.0, 0
    best_u, best_v, best, top_value, floor = 0.0, 0.0, -np.inf, -np.inf, -np.inf
    for k in range(len(v)):
        while at < count and spans[order[at], 0] == k:
            event = order[at]
            add, fall, lift, up = changes[event]
            if spans[event, 1] == ALL:
                fixed += add
                slope += fall
            else:
                for j in range(spans[event, 1], spans[event, 2]):
                    fixed_j[j] += add + lift * max(up + u[j], 0.0)
                    slope_j[j] += fall
            at += 1
        line = fixed - v[k] * slope
        for j in range(len(u)):
            gain = line + fixed_j[j] - v[k] * slope_j[j]
            if gain < floor:
                continue
            if gain > top_value:
                top_value = gain
                floor = gain - tie * max(1.0, abs(gain))
            far, farthest = abs(u[j]) + abs(v[k]), abs(best_u) + abs(best_v)
            nearer = far < farthest or (far == farthest and (u[j], v[k]) < (best_u, best_v))
            if best < floor or nearer:
                best_u, best_v, best = u[j], v[k], gain
    return best_u, best_v, len(u) * len(v)


def solve_paths(
    batch: LevelsBatch, bounds: tuple[tuple[float, float], tuple[float, float]], step: float, tie: float
) -> tuple[Floats, Floats, Ints]:
    """Return the best offsets of every problem of a batch with finer bars, and the pairs looked at.

    Parameters
    ----------
    batch : LevelsBatch
        P problems, some with finer bars; one in which nothing trades is answered (0, 0) with 0 pairs.
    bounds : pair of (lower, upper)
        Of u, then of v, return units; finite, the lower first (the caller checks).
    step, tie : float
        Distance of a candidate from its break, and what still counts as equal: those of
        `engine.search.levels.exact`.

    Returns
    -------
    tuple of arrays, shape (P,)
        u and v in return units, float64; pairs, int64.
    """
    assert batch.corners is not None  # noqa: S101  (the caller looked)
    corners, limits = batch.corners, (*map(float, bounds[0]), *map(float, bounds[1]))
    u, v, evaluations = np.zeros(len(batch)), np.zeros(len(batch)), np.zeros(len(batch), np.int64)
    trading = ((batch.rows[LONG] != 0) | (batch.rows[SHORT] != 0)).sum(axis=1)  # they stand first
    for p, n in enumerate(trading.tolist()):
        if n:
            legs = corners.starts[:, p], corners.top, corners.bottom
            rule = *batch.fees[p].tolist(), bool(batch.touch[p])
            u[p], v[p], evaluations[p] = _sweep(batch.rows[:, p], n, *legs, *rule, *limits, step, tie)  # type: ignore[call-arg]
    return u, v, evaluations
