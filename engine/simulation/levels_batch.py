"""Many levels problems scored at many offsets in one call: `LevelsBatch`, `levels_value`, `levels_grid`.

The same objective as `engine.simulation.levels.value`, compiled for P problems at once. Rows of
a batch stand in an order given by their values alone, those that trade first, and are summed in
that order: neither the order of a problem's bars nor the padding ever changes a bit.

Axes: P problems, T rows of the longest problem, K (and J) offsets of each problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from engine.bars.model import Floats, Ints
from engine.errors import LevelsInputError
from engine.simulation.levels_corners import Corners, corners_of, path_grid, path_values, ranks
from engine.simulation.levels_finer import FinerBars
from engine.simulation.levels_problem import (
    BOTTOM,
    CLOSE,
    DELTA,
    DOWN,
    EXITS,
    HIGH,
    LONG,
    LOW,
    ROWS,
    SHORT,
    TOP,
    UP,
    LevelsProblem,
    one_of,
)

Call = tuple[Callable[..., None], tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class LevelsBatch:
    """P problems padded to the longest, made by `LevelsBatch.of`.

    Parameters
    ----------
    problems : tuple of LevelsProblem
        The problems themselves, in the order asked for.
    rows : float64 array, shape (10, P, T)
        The columns of `ROWS`, then top = high - delta and bottom = low + delta; 0 beyond a problem's length.
    lengths : int64 array, shape (P,)
        Rows of each problem.
    fees : float64 array, shape (P, 3)
        At the entry, at a target, at the close; fractions of the base notional.
    touch : bool array, shape (P,)
        Entries fill strictly beyond the level.
    corners : Corners or None
        What finer bars tell of exit `path`; None where no problem has any.

    NaN: none; a problem refuses them.
    """

    problems: tuple[LevelsProblem, ...]
    rows: Floats
    lengths: Ints
    fees: Floats
    touch: npt.NDArray[np.bool_]
    corners: Corners | None = None

    def __len__(self) -> int:
        """Return the number of problems."""
        return len(self.problems)

    @classmethod
    def of(cls, problems: Sequence[LevelsProblem]) -> LevelsBatch:
        """Return the batch of the problems; none at all is a batch of shape (10, 0, 0)."""
        lengths = np.array([len(problem) for problem in problems], dtype=np.int64)
        rows = np.zeros((10, len(problems), int(lengths.max(initial=0))))
        orders = []
        for p, problem in enumerate(problems):
            columns = np.stack([getattr(problem, name) for name in ROWS])  # (8, n)
            idle = (columns[LONG] == 0) & (columns[SHORT] == 0)
            order = np.lexsort((*columns[::-1], idle))
            twins = (np.diff(columns[:, order]) == 0).all(axis=0).any()
            if twins and problem.finer is not None:  # equal rows, but perhaps for their finer bars
                order = np.lexsort((ranks(problem), *columns[::-1], idle))
            orders.append(order)
            columns = columns[:, order]
            rows[: DELTA + 1, p, : len(problem)] = columns
            rows[TOP, p, : len(problem)] = columns[HIGH] - columns[DELTA]
            rows[BOTTOM, p, : len(problem)] = columns[LOW] + columns[DELTA]
        fees = [(problem.fee_entry, problem.fee_target, problem.fee_close) for problem in problems]
        return cls(
            tuple(problems),
            rows,
            lengths,
            np.array(fees, dtype=np.float64).reshape(len(problems), 3),
            np.array([problem.touch for problem in problems], dtype=np.bool_),
            corners_of(problems, orders, rows.shape[2]),
        )

    def take(self, positions: Sequence[int]) -> LevelsBatch:
        """Return the problems at ``positions`` as a batch of their own, padded to the longest of them."""
        chosen = np.asarray(positions, dtype=np.int64)
        lengths = self.lengths[chosen]
        rows = np.ascontiguousarray(self.rows[:, chosen, : int(lengths.max(initial=0))])
        problems = tuple(self.problems[p] for p in chosen)
        corners = None if self.corners is None else self.corners.take(chosen, rows.shape[2])
        return LevelsBatch(problems, rows, lengths, self.fees[chosen], self.touch[chosen], corners)


@njit(cache=True, nogil=True, error_model="numpy")
def _values(rows, lengths, fees, touch, target, us, vs, out):  # type: ignore[no-untyped-def]
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
            for k in range(points):  # no branch on the offsets, so that it runs several at a time
                h = min(max(up + u[k], 0.0), 10.0)
                l = min(max(down + v[k], -1.0), 0.0)  # noqa: E741
                sold, bought = h <= top, l >= bottom
                short = (h < top) if strict else sold
                long = (l > bottom) if strict else bought
                out_of_long = h - f_t if target and sold else close - f_c
                out_of_short = l + f_t if target and bought else close + f_c
                gain = a * (out_of_long - l - f_e) if long else 0.0
                sums[k] += gain + (b * (h - out_of_short - f_e) if short else 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _grid(rows, lengths, fees, touch, target, us, vs, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (P, J, K) with the sum over the rows at every pair of us (P, J) and vs (P, K)."""
    wide, tall = us.shape[1], vs.shape[1]
    longs, bought, covers = np.empty(tall), np.empty(tall), np.empty(tall)
    for p in range(us.shape[0]):
        f_e, f_t, f_c = fees[p, 0], fees[p, 1], fees[p, 2]
        out[p] = 0.0
        for i in range(lengths[p]):
            a, b = rows[LONG, p, i], rows[SHORT, p, i]
            if a == 0.0 and b == 0.0:
                continue
            close, up, down = rows[CLOSE, p, i], rows[UP, p, i], rows[DOWN, p, i]
            top, bottom = rows[TOP, p, i], rows[BOTTOM, p, i]
            for k in range(tall):
                l = min(max(down + vs[p, k], -1.0), 0.0)  # noqa: E741
                trades = l >= bottom
                enters = (l > bottom) if touch[p] else trades
                longs[k] = a if enters else 0.0
                bought[k] = a * (close - f_c - l - f_e) if enters else 0.0
                covers[k] = b * (close + f_c - l - f_t) if trades and target else 0.0
            for j in range(wide):
                h = min(max(up + us[p, j], 0.0), 10.0)
                trades = h <= top
                enters = (h < top) if touch[p] else trades
                better = h - close + f_c - f_t if trades and target else 0.0
                sells = 1.0 if enters else 0.0
                short = b * (h - close - f_c - f_e) if enters else 0.0
                line = out[p, j]
                for k in range(tall):
                    line[k] += (bought[k] + short) + (better * longs[k] + sells * covers[k])


def _call(batch: LevelsBatch, exit: str, u: Floats, v: Floats, out: Floats, *, grid: bool) -> Call:
    """Return the kernel that scores an exit, and its arguments."""
    held = batch.rows, batch.lengths, batch.fees, batch.touch
    if exit == "path" and batch.corners is not None:
        corners = batch.corners
        parts = corners.starts, corners.top, corners.bottom
        return (path_grid if grid else path_values), (*held, *parts, u, v, out)
    return (_grid if grid else _values), (*held, exit == "target", u, v, out)


def offsets(batch: LevelsBatch, name: str, points: Floats) -> Floats:
    """Return offsets as a float64 array of shape (P, K), or refuse them.

    Raises
    ------
    LevelsInputError
        Another shape, or a value that is not finite.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) != len(batch):
        raise LevelsInputError(
            f"{name} has shape {points.shape}, expected ({len(batch)}, K): a row of offsets for each problem"
        )
    if not np.isfinite(points).all():
        p, k = np.argwhere(~np.isfinite(points))[0]
        raise LevelsInputError(
            f"{batch.problems[p].name}: {name}[{p}, {k}] was {points[p, k]}, expected a finite offset"
        )
    return points


def levels_value(batch: LevelsBatch, u: Floats, v: Floats, exit: str) -> Floats:
    """Return what each problem earns at its own K pairs of offsets, the sum of net moves over its rows.

    Parameters
    ----------
    batch : LevelsBatch
        P problems.
    u, v : float64 array, shape (P, K)
        Offsets of the high and of the low, return units; pair k is (u[p, k], v[p, k]).
    exit : str
        `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).

    Returns
    -------
    float64 array, shape (P, K)
        Return units; `engine.simulation.levels.value` to rounding.

    Raises
    ------
    LevelsInputError
        Wrong shapes. NaN: an offset that is not finite is refused too.
    """
    one_of("levels.policies", exit, EXITS)
    u, v = offsets(batch, "u", u), offsets(batch, "v", v)
    if u.shape != v.shape:
        raise LevelsInputError(f"u has shape {u.shape}, v {v.shape}; expected pairs, the same shape")
    out = np.empty(u.shape)
    kernel, held = _call(batch, exit, u, v, out, grid=False)
    kernel(*held)
    return out


def levels_grid(batch: LevelsBatch, u: Floats, v: Floats, exit: str) -> Floats:
    """Return what each problem earns at every pair of its J offsets ``u`` and K offsets ``v``.

    Parameters
    ----------
    batch : LevelsBatch
        P problems.
    u, v : float64 array, shapes (P, J) and (P, K)
        Offsets of the high and of the low, return units.
    exit : str
        `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).

    Returns
    -------
    float64 array, shape (P, J, K)
        Return units; equal to `levels_value` to rounding.

    Raises
    ------
    LevelsInputError
        Wrong shapes. NaN: an offset that is not finite is refused too.
    """
    one_of("levels.policies", exit, EXITS)
    u, v = offsets(batch, "u", u), offsets(batch, "v", v)
    out = np.empty((*u.shape, v.shape[1]))
    kernel, held = _call(batch, exit, u, v, out, grid=True)
    kernel(*held)
    return out


def levels_one(batch: LevelsBatch, p: int, exit: str) -> Callable[[float, float], float]:
    """Return a function of one pair of offsets (u, v) that scores problem ``p``, in return units.

    For solvers that ask for one candidate at a time; a call costs about a microsecond more than
    the rows. The offsets are not checked. Not for two threads at once.
    """
    one_of("levels.policies", exit, EXITS)
    one = batch.take([p])
    pair, out = np.zeros((2, 1, 1)), np.empty((1, 1))
    us, vs = pair
    kernel, held = _call(one, exit, us, vs, out, grid=False)

    def score(u: float, v: float) -> float:
        us[0, 0], vs[0, 0] = u, v
        kernel(*held)
        return float(out[0, 0])

    return score


def warm() -> None:
    """Compile every kernel of this module on one row."""
    one, index = np.full(1, 0.01), np.ones(1, dtype=np.int64)
    tiny = LevelsProblem(one, one, -one, one, -one, one, one, one, one, index, 0.0, 0.0, 0.0, False)
    parts = FinerBars(np.array([0, 2]), one.repeat(2), -one.repeat(2))
    for made, exit in ((tiny, "target"), (replace(tiny, finer=parts), "path")):
        batch = LevelsBatch.of([made])
        levels_value(batch, np.zeros((1, 1)), np.zeros((1, 1)), exit)
        levels_grid(batch, np.zeros((1, 1)), np.zeros((1, 1)), exit)
