"""The stationary bootstrap, and Hansen's test of superior predictive ability on it.

Only means of resampled series are wanted here. A draw is a row of blocks of consecutive observations,
and the sum over a block is the difference of two running sums. T observations, K series, B draws.
"""

from __future__ import annotations

import math

import numpy as np

from engine.bars.model import Floats, Ints
from engine.validation.statistics import MIN_RETURNS, Statistic, undefined

DRAWS = 1000
_AT_ONCE = 4_000_000  # blocks held in memory together


def mean_block(count: int) -> int:
    """Return the default mean length of a block, the cube root of T rounded up.

    >>> mean_block(1270), mean_block(1000)
    (11, 10)
    """
    root = int(round(math.cbrt(count)))
    return root if root**3 >= count else root + 1


def stationary_blocks(count: int, block: float, draws: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw series by the stationary bootstrap.

    Parameters
    ----------
    count : int, >= 1
        T: observations; the series is joined to a circle.
    block : float, >= 1
        Mean length of a block; lengths are geometric.
    draws : int
        B.
    rng : Generator
        Seeded by the caller.

    Returns
    -------
    start, length : int64 array, shape (B, M)
        Blocks of each draw in their order: first observation, and how many follow it round the
        circle. The lengths of a row add up to T: the last block is cut, those after it are empty.

    Source: Politis and Romano 1994.
    """
    columns = math.ceil(1.25 * count / block) + 8
    length = rng.geometric(1.0 / block, (draws, columns))
    while (length.sum(axis=1) < count).any():
        length = np.concatenate([length, rng.geometric(1.0 / block, (draws, columns))], axis=1)
    start = rng.integers(0, count, length.shape)
    end = np.minimum(np.cumsum(length, axis=1), count)
    return start, np.diff(end, axis=1, prepend=0)


def bootstrap_means(values: Floats, *, draws: int, seed: int, block: float | None = None) -> Floats:
    """Return the means of K series over B draws of their common observations.

    Parameters
    ----------
    values : float64 array, shape (T, K)
        NaN where a series lacks an observation; a draw then takes those that it has.
    draws, seed : int
        B, and what seeds the draws.
    block : float, optional
        Mean length of a block; default `mean_block` of T.

    Returns
    -------
    float64 array, shape (B, K)

    NaN: a draw took no observation of that series.
    """
    count, series = values.shape
    mean_length = block or mean_block(count)
    here = ~np.isnan(values)
    # running sums over two rounds of the circle, so that no block has to be split
    sums = _running(np.where(here, values, 0.0))
    held = None if here.all() else _running(here.astype(np.float64))
    rng = np.random.default_rng(seed)
    rows = max(1, min(draws, int(_AT_ONCE * mean_length / count)))
    out = np.empty((draws, series))
    for done in range(0, draws, rows):
        start, length = stationary_blocks(count, mean_length, min(rows, draws - done), rng)
        end = start + length
        for k in range(series):
            total = (sums[end, k] - sums[start, k]).sum(axis=1)
            taken = count if held is None else (held[end, k] - held[start, k]).sum(axis=1)
            with np.errstate(invalid="ignore"):
                out[done : done + rows, k] = total / taken
    return out


def _running(values: Floats) -> Floats:
    """Return sums of the first 0, 1, .. 2T values of two rounds, shape (2T + 1, K)."""
    twice = np.cumsum(np.concatenate([values, values]), axis=0)
    return np.concatenate([np.zeros((1, values.shape[1])), twice])


def superior_predictive_ability(
    excess: Floats, *, seed: int, draws: int = DRAWS, block: float | None = None
) -> Statistic:
    """Return the p-value of "none of K series beats the benchmark", consistent form.

    Parameters
    ----------
    excess : float64 array, shape (T, K)
        Return of each series less that of the benchmark, no NaN.
    seed, draws, block
        As in `bootstrap_means`.

    NaN: fewer than 30 observations, or no series differs from the benchmark.
    Source: Hansen 2005; the bootstrap's own standard deviation studentises.
    """
    count = len(excess)
    if count < MIN_RETURNS:
        return undefined(f"{count} returns, needs {MIN_RETURNS}")
    mean = excess.mean(axis=0)
    drawn = bootstrap_means(excess, draws=draws, seed=seed, block=block)  # (B, K)
    deviation = drawn.std(axis=0, ddof=1)
    moves = deviation > 1e-12 * np.abs(excess).max(initial=0.0)
    if not moves.any():
        return undefined("no series differs from its benchmark")
    mean, drawn, deviation = mean[moves], drawn[:, moves], deviation[moves]
    found = max(0.0, float(np.max(mean / deviation)))
    # a series far below the benchmark is not recentred: it must not make the others look worse
    near = mean >= -deviation * math.sqrt(2.0 * math.log(math.log(count)))
    under_null = ((drawn - np.where(near, mean, 0.0)) / deviation).max(axis=1)
    return Statistic(float(np.mean(np.maximum(under_null, 0.0) >= found)))  # none above its benchmark: 1
