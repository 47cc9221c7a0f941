"""Exit ``path`` as a staircase: at which pairs of levels finer bars show the target after the entry.

A long enters at the first finer bar that trades its buy level. The dearer the level, the earlier
that is, and the more time is left for the target. So for one bar the pairs (sell level h, buy level
l) that earn the target are a union of quadrants

    h <= top_k  and  l >= bottom_k

with one corner for each record of the running low: bottom_k is that low (plus the trade-through
distance), top_k the highest high strictly after it (minus the distance). Shorts mirror it: top_k is
a record of the running high, bottom_k the lowest low strictly after. Corners are kept in order, tops
and bottoms both rising, those inside another's quadrant left out. For a given h the first corner
with h <= top_k decides: the target counts from l >= bottom_k on. Exit ``target`` would be one corner
a bar, its own high and low; exit ``close`` none.

Axes: P problems, T rows of the longest problem, K (and J) offsets of each problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from engine.bars.model import Floats, Ints
from engine.simulation.levels_finer import ranges
from engine.simulation.levels_problem import BOTTOM, CLOSE, DOWN, LONG, SHORT, TOP, UP, LevelsProblem


@dataclass(frozen=True, eq=False)
class Corners:
    """The staircases of a batch.

    Parameters
    ----------
    starts : int64 array, shape (2, P, T + 1)
        Long legs, then short legs: row i of problem p holds the corners [starts[leg, p, i],
        starts[leg, p, i + 1]). Rows beyond a problem's length hold none.
    top, bottom : float64 array, shape (m,)
        Highest sell level and lowest buy level of each corner, moves against the base.

    NaN: none.
    """

    starts: Ints
    top: Floats
    bottom: Floats

    def take(self, chosen: Ints, rows: int) -> Corners:
        """Return the staircases of the problems at ``chosen``, of their first ``rows`` rows."""
        return replace(self, starts=np.ascontiguousarray(self.starts[:, chosen, : rows + 1]))


@njit(cache=True, nogil=True, error_model="numpy")
def _stairs(starts, high, low, delta, weight, strict, out_starts, tops, bottoms):  # type: ignore[no-untyped-def]
    """Fill the corners of the long legs of n rows, tops and bottoms rising; return how many."""
    before = np.empty(len(high))  # lowest low of the finer bars before
    count = 0
    for i in range(len(starts) - 1):
        lowest = np.inf
        for s in range(starts[i], starts[i + 1]):
            before[s] = lowest
            lowest = min(lowest, low[s])
        after, last = -np.inf, -np.inf
        for s in range(starts[i + 1] - 1, starts[i] - 1, -1):
            top, bottom = after - delta[i], low[s] + delta[i]
            record = weight[i] > 0 and low[s] < before[s]
            tradable = top >= 0 and (bottom < 0 if strict else bottom <= 0)  # levels are clipped at 0
            if record and tradable and top > last:
                tops[count], bottoms[count] = top, bottom
                count += 1
                last = top
            after = max(after, high[s])
        out_starts[i + 1] = count
    return count


def stairs(problem: LevelsProblem) -> tuple[tuple[Ints, Floats, Floats], tuple[Ints, Floats, Floats]]:
    """Return the corners of the long legs and of the short legs of a problem with finer bars.

    Each is (int64 array of shape (n + 1,), tops, bottoms): the layout of `Corners`, in the
    problem's own order of rows. A leg that is not traded has none.
    """
    finer = problem.finer
    assert finer is not None  # noqa: S101  (the caller looked)
    legs = []
    for high, low, weight in (
        (finer.high + 0.0, finer.low + 0.0, problem.long_weight),  # new arrays: one compiled signature
        (-finer.low, -finer.high, problem.short_weight),  # a short is a long in the mirror
    ):
        starts = np.zeros(len(finer) + 1, dtype=np.int64)
        tops, bottoms = np.empty(len(high)), np.empty(len(high))
        count = _stairs(finer.starts, high, low, problem.delta, weight, problem.touch, starts, tops, bottoms)
        legs.append((starts, tops[:count], bottoms[:count]))
    long, (starts, tops, bottoms) = legs
    row = np.repeat(np.arange(len(finer)), np.diff(starts))
    order = starts[row] + starts[row + 1] - 1 - np.arange(starts[-1])  # rising in the mirror is falling
    return long, (starts, -bottoms[order] + 0.0, -tops[order] + 0.0)


def ranks(problem: LevelsProblem) -> Ints:
    """Return a number for each row, int64 (n,): equal where the corners are, else ordered by their values."""
    keys = [
        tuple(column[starts[i] : starts[i + 1]].tobytes() for starts, *columns in legs for column in columns)
        for legs in [stairs(problem)]
        for i in range(len(problem))
    ]
    place = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return np.array([place[key] for key in keys], dtype=np.int64)


def corners_of(problems: Sequence[LevelsProblem], orders: Sequence[Ints], rows: int) -> Corners | None:
    """Return the staircases of a batch, None where no problem has finer bars.

    Parameters
    ----------
    problems, orders : sequence of P problems, and of P int64 arrays
        Each problem, and the order in which the batch holds its rows.
    rows : int
        Rows of the longest problem.
    """
    if all(problem.finer is None for problem in problems):
        return None
    starts = np.zeros((2, len(problems), rows + 1), dtype=np.int64)
    tops, bottoms, total = [], [], 0
    for p, (problem, order) in enumerate(zip(problems, orders, strict=True)):
        legs = () if problem.finer is None else stairs(problem)
        starts[:, p] = total
        for leg, (own, top, bottom) in enumerate(legs):
            ends, at = ranges(own[:-1][order], own[1:][order])
            starts[leg, p, : len(ends)] = total + ends
            starts[leg, p, len(ends) :] = total + ends[-1]
            tops.append(top[at])
            bottoms.append(bottom[at])
            total += len(at)
    empty = [np.zeros(0)]
    return Corners(starts, np.concatenate(empty + tops), np.concatenate(empty + bottoms))


@njit(cache=True, nogil=True, error_model="numpy")
def path_values(rows, lengths, fees, touch, starts, tops, bottoms, us, vs, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (P, K) with the sum over the rows at each pair (us, vs), both (P, K)."""
    points = us.shape[1]
    for p in range(us.shape[0]):
        f_e, f_t, f_c = fees[p, 0], fees[p, 1], fees[p, 2]
        u, v, sums, strict = us[p], vs[p], out[p], touch[p]
        for k in range(points):
            sums[k] = 0.0
        for i in range(lengths[p]):
            a, b = rows[LONG, p, i], rows[SHORT, p, i]
            if a == 0.0 and b == 0.0:
                continue
            close, up, down = rows[CLOSE, p, i], rows[UP, p, i], rows[DOWN, p, i]
            top, bottom = rows[TOP, p, i], rows[BOTTOM, p, i]
            for k in range(points):
                h = min(max(up + u[k], 0.0), 10.0)
                l = min(max(down + v[k], -1.0), 0.0)  # noqa: E741
                sold = bought = False
                for c in range(starts[0, p, i], starts[0, p, i + 1]):
                    if h <= tops[c]:
                        sold = l > bottoms[c] if strict else l >= bottoms[c]
                        break
                for c in range(starts[1, p, i], starts[1, p, i + 1]):
                    if (h < tops[c]) if strict else (h <= tops[c]):
                        bought = l >= bottoms[c]
                        break
                short = (h < top) if strict else (h <= top)
                long = (l > bottom) if strict else (l >= bottom)
                out_of_long = h - f_t if sold else close - f_c
                out_of_short = l + f_t if bought else close + f_c
                gain = a * (out_of_long - l - f_e) if long else 0.0
                sums[k] += gain + (b * (h - out_of_short - f_e) if short else 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def path_grid(rows, lengths, fees, touch, starts, tops, bottoms, us, vs, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (P, J, K) with the sum over the rows at every pair of us (P, J) and vs (P, K)."""
    wide, tall = us.shape[1], vs.shape[1]
    levels, bought, covers = np.empty(tall), np.empty(tall), np.empty(tall)
    for p in range(us.shape[0]):
        f_e, f_t, f_c = fees[p, 0], fees[p, 1], fees[p, 2]
        out[p] = 0.0
        strict = touch[p]
        for i in range(lengths[p]):
            a, b = rows[LONG, p, i], rows[SHORT, p, i]
            if a == 0.0 and b == 0.0:
                continue
            close, up, down = rows[CLOSE, p, i], rows[UP, p, i], rows[DOWN, p, i]
            top, bottom = rows[TOP, p, i], rows[BOTTOM, p, i]
            for k in range(tall):
                l = min(max(down + vs[p, k], -1.0), 0.0)  # noqa: E741
                enters = (l > bottom) if strict else (l >= bottom)
                levels[k] = l
                bought[k] = a * (close - f_c - l - f_e) if enters else 0.0
                covers[k] = b * (close + f_c - l - f_t)
            for j in range(wide):
                h = min(max(up + us[p, j], 0.0), 10.0)
                enters = (h < top) if strict else (h <= top)
                short = b * (h - close - f_c - f_e) if enters else 0.0
                better = a * (h - close + f_c - f_t)
                long_from = short_from = np.inf  # the lowest buy level whose target counts
                for c in range(starts[0, p, i], starts[0, p, i + 1]):
                    if h <= tops[c]:
                        long_from = bottoms[c]
                        break
                for c in range(starts[1, p, i], starts[1, p, i + 1]):
                    if (h < tops[c]) if strict else (h <= tops[c]):
                        short_from = bottoms[c]
                        break
                line = out[p, j]
                for k in range(tall):
                    l = levels[k]  # noqa: E741
                    sold = (l > long_from) if strict else (l >= long_from)
                    gain = (better if sold else 0.0) + (covers[k] if l >= short_from else 0.0)
                    line[k] += (bought[k] + short) + gain
