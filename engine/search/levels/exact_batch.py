"""The exact sweep of same-bar targets over a whole batch in one compiled call: `solve_targets`.

Bit for bit the offsets of `engine.search.levels.exact.solve`, without a Python call per problem. A
batch holds its rows in canonical order already. Two things make it faster than the sweep there:
a row's breaks are looked for where its own candidates stand and settled by the same comparisons (two
instead of seven), and a row of F is computed only where a bound on its highest value reaches the
best so far: from one point of v to the next no value rises by more than the events there add.

Axes: p problems, i rows, j points of u, k points of v.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from engine.bars.model import Floats, Ints
from engine.search.levels.exact import STEP, TIE, Bounds
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_problem import BOTTOM, CLOSE, DELTA, DOWN, HIGH, LONG, LOW, SHORT, TOP, UP

BUCKETS = 256  # of one axis
SLACK = 1e-9  # of the bound on a row of F, far above its rounding


@njit(cache=True, nogil=True, error_model="numpy")
def _clipped(value, lower, upper):  # type: ignore[no-untyped-def]
    """Return the value within its limits; min and max ask about NaN, which no problem holds."""
    value = value if value > lower else lower
    return value if value < upper else upper


@njit(cache=True, nogil=True, error_model="numpy")
def _sort(points, owners, m, lower, scale, counts, scratch, order):  # type: ignore[no-untyped-def]
    """Sort the first m points and their owners: into buckets, then by insertion of the few out of place."""
    counts[:] = 0
    for i in range(m):
        counts[int(_clipped((points[i] - lower) * scale, 0.0, BUCKETS - 1.0)) + 1] += 1
    for b in range(BUCKETS):
        counts[b + 1] += counts[b]
    for i in range(m):
        b = int(_clipped((points[i] - lower) * scale, 0.0, BUCKETS - 1.0))
        scratch[counts[b]], order[counts[b]] = points[i], owners[i]
        counts[b] += 1
    for i in range(m):
        j = i
        while j > 0 and points[j - 1] > scratch[i]:
            points[j], owners[j] = points[j - 1], owners[j - 1]
            j -= 1
        points[j], owners[j] = scratch[i], order[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _points(rows, p, n, low_axis, lower, upper, points, scale, counts, scratch, order, ranks):  # type: ignore[no-untyped-def]
    """Fill the sorted distinct candidates of one axis and where each row's own stands; return how many.

    A row that trades nowhere, or whose candidate lies outside the bounds, has the end it falls off.
    """
    points[0], points[1], points[2] = lower, upper, min(max(0.0, lower), upper)
    owners = np.full(n + 3, n)  # of the three points above: no row
    m, last = 3, n + 3
    for i in range(n):
        if low_axis:
            trades = rows[BOTTOM, p, i] <= 0
            point = rows[LOW, p, i] - rows[DOWN, p, i] + rows[DELTA, p, i] + STEP
        else:
            trades = rows[TOP, p, i] >= 0
            point = rows[HIGH, p, i] - rows[UP, p, i] - rows[DELTA, p, i] - STEP
        if trades and lower <= point <= upper:
            points[m], owners[m] = point, i
            m += 1
        else:
            ranks[i] = last if (point > upper if trades else low_axis) else -1
    _sort(points, owners, m, lower, scale, counts, scratch, order)
    distinct = 0
    for i in range(m):
        if i == 0 or points[i] != points[distinct - 1]:
            points[distinct] = points[i]
            distinct += 1
        ranks[owners[i]] = distinct - 1
    for i in range(n):
        ranks[i] = min(ranks[i], distinct)
    return distinct


@njit(cache=True, nogil=True, error_model="numpy")
def _buckets(points, lower, scale, starts):  # type: ignore[no-untyped-def]
    """Fill ``starts[b]`` with the number of sorted points that lie in the buckets before b."""
    at = 0
    for b in range(BUCKETS):
        while at < len(points) and (points[at] - lower) * scale < b:
            at += 1
        starts[b] = at


@njit(cache=True, nogil=True, error_model="numpy")
def _guess(offset, lower, scale, starts):  # type: ignore[no-untyped-def]
    return starts[int(_clipped((offset - lower) * scale, 0.0, BUCKETS - 1.0))]


@njit(cache=True, nogil=True, error_model="numpy")
def _sells(at, forecast, top, strict, u):  # type: ignore[no-untyped-def]
    """Return how many of the sorted ``u``, from the left, let a sell trade; ``at`` is a guess."""
    while at < len(u):
        level = _clipped(forecast + u[at], 0.0, 10.0)
        if not ((level < top) if strict else (level <= top)):
            break
        at += 1
    while at > 0:
        level = _clipped(forecast + u[at - 1], 0.0, 10.0)
        if (level < top) if strict else (level <= top):
            break
        at -= 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _buys(at, forecast, bottom, strict, v):  # type: ignore[no-untyped-def]
    """Return the first of the sorted ``v`` at which a buy at the level trades; ``at`` is a guess."""
    while at < len(v):
        level = _clipped(forecast + v[at], -1.0, 0.0)
        if (level > bottom) if strict else (level >= bottom):
            break
        at += 1
    while at > 0:
        level = _clipped(forecast + v[at - 1], -1.0, 0.0)
        if not ((level > bottom) if strict else (level >= bottom)):
            break
        at -= 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _above(at, forecast, points):  # type: ignore[no-untyped-def]
    """Return the first of the sorted points with forecast + point >= 0; ``at`` is a guess."""
    while at < len(points) and forecast + points[at] < 0:
        at += 1
    while at > 0 and forecast + points[at - 1] >= 0:
        at -= 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _highest(values):  # type: ignore[no-untyped-def]
    """Return the maximum, four at a time."""
    a = b = c = d = -np.inf
    j = 0
    while j + 3 < len(values):
        a = values[j] if values[j] > a else a
        b = values[j + 1] if values[j + 1] > b else b
        c = values[j + 2] if values[j + 2] > c else c
        d = values[j + 3] if values[j + 3] > d else d
        j += 4
    while j < len(values):
        a = values[j] if values[j] > a else a
        j += 1
    return max(max(a, b), max(c, d))


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep(rows, p, n, f_e, f_t, f_c, strict, u, v, ranks, near_v, v_lo, sv, work, ints):  # type: ignore[no-untyped-def]
    """Return (u, v) of the best pair of candidates: every u at once, v upwards.

    F(u[j], v) = fixed - v * slope + fixed_j[j] - v * slope_j[j] between two events.
    """
    fixed_j, slope_j, gains = work[0, : len(u)], work[1, : len(u)], work[2, : len(u)]
    fixed_j[:] = 0.0
    slope_j[:] = 0.0
    entries, covers, clip, buys_long, buys_short = ints[0], ints[1], ints[2], ints[3], ints[4]
    # Events of each point of v as linked lists: 3 i long entry, 3 i + 1 short target, 3 i + 2 clip at 0.
    first, following = ints[5], ints[6]
    first[: len(v) + 1] = -1
    for i in range(n):
        up, down, a, b = rows[UP, p, i], rows[DOWN, p, i], rows[LONG, p, i], rows[SHORT, p, i]
        top, bottom, close = rows[TOP, p, i], rows[BOTTOM, p, i], rows[CLOSE, p, i]
        clip[i] = _above(_guess(-down, v_lo, sv, near_v), down, v)
        bought = _buys(max(ranks[1, i], 0), down, bottom, False, v)
        sold = _sells(min(ranks[0, i] + 1, len(u)), up, top, False, u)
        entries[i], covers[i], buys_long[i], buys_short[i] = 0, 0, len(v), len(v)
        if a > 0:
            buys_long[i] = _buys(bought, down, bottom, strict, v)
            covers[i] = sold
        if b > 0:
            buys_short[i] = bought
            entries[i] = _sells(sold, up, top, strict, u)
            for j in range(entries[i]):
                level = up + u[j]
                fixed_j[j] += b * ((level if level > 0.0 else 0.0) - close - f_c - f_e)
        for kind in range(3):
            k = buys_long[i] if kind == 0 else (buys_short[i] if kind == 1 else clip[i])
            following[3 * i + kind] = first[k]
            first[k] = 3 * i + kind
    fixed, slope = 0.0, 0.0
    best_u, best_v, best, top_value, floor = 0.0, 0.0, -np.inf, -np.inf, -np.inf
    line, bound = 0.0, np.inf
    for k in range(len(v)):
        event, rise = first[k], 0.0  # rise: the most that the events here add to any u
        while event >= 0:
            i, kind = event // 3, event % 3
            up, down, a, b, close = (
                rows[UP, p, i], rows[DOWN, p, i], rows[LONG, p, i], rows[SHORT, p, i], rows[CLOSE, p, i],
            )  # fmt: skip
            level, falls = (0.0, 0.0) if clip[i] <= k else (down, 1.0)  # clipped: the level is 0 from here on
            if kind == 0:
                fixed += a * (close - level - f_c - f_e)
                slope += a * falls
                for j in range(covers[i]):
                    high = up + u[j]
                    fixed_j[j] += a * ((high if high > 0.0 else 0.0) - close + f_c - f_t)
                if covers[i] > 0:
                    rise += max(a * (max(up + u[covers[i] - 1], 0.0) - close + f_c - f_t), 0.0)
            elif kind == 1:
                gain, fall = b * (close - level + f_c - f_t), b * falls
                for j in range(entries[i]):
                    fixed_j[j] += gain
                    slope_j[j] += fall
                rise += max(gain - v[k] * fall, 0.0)
            else:
                if buys_long[i] < k:
                    fixed += a * down
                    slope -= a
                if buys_short[i] < k:
                    for j in range(entries[i]):
                        fixed_j[j] += b * down
                        slope_j[j] -= b
                    rise += max(b * (down + v[k]), 0.0)
            event = following[event]
        before, line = line, fixed - v[k] * slope
        bound += line - before + rise
        if bound + SLACK < floor:
            continue
        for j in range(len(u)):
            gains[j] = line + fixed_j[j] - v[k] * slope_j[j]
        bound = _highest(gains)
        if bound < floor:
            continue
        for j in range(len(u)):
            gain = gains[j]
            if gain < floor:
                continue
            if gain > top_value:
                top_value = gain
                floor = gain - TIE * max(1.0, abs(gain))
            far, farthest = abs(u[j]) + abs(v[k]), abs(best_u) + abs(best_v)
            nearer = far < farthest or (
                far == farthest and (u[j] < best_u or (u[j] == best_u and v[k] < best_v))
            )
            if best < floor or nearer:
                best_u, best_v, best = u[j], v[k], gain
    return best_u, best_v


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep_all(rows, lengths, fees, touch, u_lo, u_hi, v_lo, v_hi, us, vs, evaluations):  # type: ignore[no-untyped-def]
    """Fill the answers of every problem, each of shape (P,)."""
    longest = rows.shape[2]
    points_u, points_v = np.empty(longest + 3), np.empty(longest + 3)
    near_v, ranks = np.empty(BUCKETS, np.int64), np.empty((2, longest + 1), np.int64)
    su, sv = BUCKETS / (u_hi - u_lo), BUCKETS / (v_hi - v_lo)
    counts, order = np.empty(BUCKETS + 1, np.int64), np.empty(longest + 3, np.int64)
    scratch = np.empty(longest + 3)
    work, ints = np.empty((3, longest + 3)), np.empty((7, 3 * longest + 4), np.int64)
    for p in range(len(lengths)):
        n = lengths[p]
        while n > 0 and rows[LONG, p, n - 1] == 0 and rows[SHORT, p, n - 1] == 0:
            n -= 1  # a batch puts the rows that do not trade last
        if n == 0:
            us[p], vs[p], evaluations[p] = 0.0, 0.0, 0
            continue
        sells = _points(rows, p, n, False, u_lo, u_hi, points_u, su, counts, scratch, order, ranks[0])
        buys = _points(rows, p, n, True, v_lo, v_hi, points_v, sv, counts, scratch, order, ranks[1])
        u, v = points_u[:sells], points_v[:buys]
        _buckets(v, v_lo, sv, near_v)
        f_e, f_t, f_c = fees[p, 0], fees[p, 1], fees[p, 2]
        us[p], vs[p] = _sweep(rows, p, n, f_e, f_t, f_c, touch[p], u, v, ranks, near_v, v_lo, sv, work, ints)
        evaluations[p] = len(u) * len(v)


def solve_targets(batch: LevelsBatch, bounds: Bounds) -> tuple[Floats, Floats, Ints]:
    """Return the best offsets of every problem with same-bar targets, and the pairs looked at.

    Parameters
    ----------
    batch : LevelsBatch
        P problems; one in which nothing trades is answered (0, 0) with 0 pairs.
    bounds : pair of (lower, upper)
        Of u, then of v, return units; finite, the lower first (the caller checks).

    Returns
    -------
    tuple of arrays, shape (P,)
        u and v in return units, float64; pairs, int64.
    """
    u, v, evaluations = np.zeros(len(batch)), np.zeros(len(batch)), np.zeros(len(batch), np.int64)
    limits = *map(float, bounds[0]), *map(float, bounds[1])
    _sweep_all(batch.rows, batch.lengths, batch.fees, batch.touch, *limits, u, v, evaluations)  # type: ignore[call-arg]
    return u, v, evaluations


def warm() -> None:
    """Compile every kernel of this module on no problem at all."""
    solve_targets(LevelsBatch.of([]), ((-0.03, 0.03), (-0.03, 0.03)))
