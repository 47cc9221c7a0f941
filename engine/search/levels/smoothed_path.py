"""The smoothed objective of exit ``path`` with finer bars: what the targets add to exits at the close.

A corner k of a staircase (`engine.simulation.levels_corners`) earns the target where the sell level
lies in (top_{k-1}, top_k] and the buy level at or above bottom_k. The two offsets are drawn apart,
so its mean is one product of a factor of each axis, that of the high side a difference of two:

    long    a [W(top_k) - W(top_{k-1})] P(bottom_k)      W(t) = M(t) - (c - f_c + f_t) P(t)
    short   b [P(top_k) - P(top_{k-1})] W'(bottom_k)     W' the same in the mirror, -c for c

with P the chance that a level trades and M its mean where it does (`engine.search.levels.smoothed`).
The low axis is the high axis in a mirror, every move with its sign turned; so are its points here.
Axes: c corners of both legs, j and k points of the high and of the low axis.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from engine.bars.model import Floats
from engine.simulation.levels import LevelsProblem
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_problem import CLOSE, DOWN, LONG, SHORT, UP

REACH = 9.0  # standard deviations beyond which nothing changes in float64
HIGHER, TOP, BELOW, LOWER, BOTTOM, CLOSES, WEIGHT, IS_LONG = range(8)  # columns of the terms
_ROOT_2, _ROOT_2_PI = math.sqrt(2.0), math.sqrt(2.0 * math.pi)


def path_terms(problem: LevelsProblem) -> Floats:
    """Return one row a corner, float64 (c, 8), in an order given by values alone.

    Columns: forecast high, top, top of the corner before (-1 where there is none, so that nothing
    trades), then forecast low and bottom in the mirror, the close, the leg's weight, 1 for longs.
    """
    batch = LevelsBatch.of([problem])
    if batch.corners is None:
        return np.zeros((0, 8))
    corners, terms = batch.corners, []
    for leg, weight in enumerate((LONG, SHORT)):
        starts = corners.starts[leg, 0]
        held = slice(starts[0], starts[-1])
        row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        top, bottom = corners.top[held], corners.bottom[held]
        below = np.concatenate([np.full(1, -1.0), top])[:-1]
        below[starts[:-1][np.diff(starts) > 0] - starts[0]] = -1.0
        close, up, down, size = (batch.rows[column, 0, row] for column in (CLOSE, UP, DOWN, weight))
        long = np.full(len(row), leg == 0, dtype=np.float64)
        terms.append(np.column_stack([up, top, below, -down, -bottom, close, size, long]))
    return np.concatenate(terms)


@njit(cache=True, nogil=True, error_model="numpy")
def _chance_and_mean(m, top, s):  # type: ignore[no-untyped-def]
    """Return (P, M) of one level: its chance to trade, and its mean where it trades."""
    z, w = (top - m) / s, -m / s
    if top < 0.0 or z < -REACH:
        return 0.0, 0.0
    if w > REACH:  # the level is 0 whatever the draw
        return 1.0, 0.0
    chance, clipped = 0.5 * math.erfc(-z / _ROOT_2), 0.5 * math.erfc(-w / _ROOT_2)
    near, far = math.exp(-0.5 * w * w) / _ROOT_2_PI, math.exp(-0.5 * z * z) / _ROOT_2_PI
    return chance, m * (chance - clipped) + s * (near - far)


@njit(cache=True, nogil=True, error_model="numpy")
def _halves(terms, us, ws, f_t, f_c, s):  # type: ignore[no-untyped-def]
    """Return the factors of the high axis (c, J) and of the mirrored low axis (c, K)."""
    high, low = np.empty((len(terms), len(us))), np.empty((len(terms), len(ws)))
    for c in range(len(terms)):
        long, weight, close = terms[c, IS_LONG] > 0.0, terms[c, WEIGHT], terms[c, CLOSES]
        for j in range(len(us)):
            m = terms[c, HIGHER] + us[j]
            p, mean = _chance_and_mean(m, terms[c, TOP], s)
            p_below, mean_below = _chance_and_mean(m, terms[c, BELOW], s)
            worth = (mean - mean_below) - (close - f_c + f_t) * (p - p_below)
            high[c, j] = worth if long else p - p_below
        for k in range(len(ws)):
            p, mean = _chance_and_mean(terms[c, LOWER] + ws[k], terms[c, BOTTOM], s)
            low[c, k] = weight * (p if long else mean - (-close - f_c + f_t) * p)
    return high, low


@njit(cache=True, nogil=True, error_model="numpy")
def _pairs(high, low):  # type: ignore[no-untyped-def]
    """Return the sums of the products at pairs of points, shape (K,)."""
    out = np.zeros(high.shape[1])
    for c in range(len(high)):
        for k in range(len(out)):
            out[k] += high[c, k] * low[c, k]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _products(high, low):  # type: ignore[no-untyped-def]
    """Return the sums of the products at every pair of points, shape (J, K)."""
    out = np.zeros((high.shape[1], low.shape[1]))
    for c in range(len(high)):
        for j in range(len(out)):
            for k in range(low.shape[1]):
                out[j, k] += high[c, j] * low[c, k]
    return out


def path_gain(
    terms: Floats, us: Floats, ws: Floats, fees: tuple[float, float], s: float, *, grid: bool
) -> Floats:
    """Return what targets after the entry add to exits at the close, on average, return units.

    Parameters
    ----------
    terms : float64 array, shape (c, 8)
        Of `path_terms`.
    us, ws : float64 array, shapes (J,) and (K,)
        Offsets of the high, and of the low in the mirror (-v).
    fees : pair of float
        At a target, at the close.
    s : float, > 0
        Standard deviation of the draws.
    grid : bool
        Every pair, shape (J, K); else pair by pair, shape (K,) with J = K.
    """
    high, low = _halves(terms, us, ws, *fees, s)
    return np.asarray(_products(high, low) if grid else _pairs(high, low))
