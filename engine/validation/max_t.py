"""Which of several procedures earned more than luck explains: the studentised max-T bootstrap.

All procedures ever looked at are resampled together, bar by bar, so that their correlation counts
and a hopeless one costs the others no more than a useless one. T bars, K procedures, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.bars.model import Floats
from engine.validation.bootstrap import DRAWS, bootstrap_means
from engine.validation.statistics import MIN_RETURNS


def max_t(excess: Floats, *, seed: int, draws: int = DRAWS) -> tuple[Floats, Floats]:
    """Return each procedure's t and its p-value against the best of all of them.

    t_k = mean / w_k, w_k = standard deviation of the mean over the draws. In a draw each procedure's
    t* is its drawn mean less its mean, over w_k; p_j = (1 + draws whose largest t* reaches t_j) /
    (1 + draws): at most a share p of panels without any edge shows so large a t anywhere.

    Parameters
    ----------
    excess : float64 array, shape (T, K)
        Return above the matched hold; NaN where a procedure has no evidence on that bar.
    seed, draws : int
        What seeds the draws, and their number.

    Returns
    -------
    t, p : float64 array, shape (K,)

    NaN: fewer than 30 bars, or an excess that does not vary; such a procedure is left out.
    Source: White 2000; Romano and Wolf 2005 (single step).
    """
    count = excess.shape[1]
    t, p = np.full(count, np.nan), np.full(count, np.nan)
    counted = (~np.isnan(excess)).sum(axis=0) >= MIN_RETURNS
    if not counted.any():
        return t, p
    values = excess[:, counted]
    values = values[~np.isnan(values).all(axis=1)]
    mean = np.nanmean(values, axis=0)
    drawn = bootstrap_means(values, draws=draws, seed=seed) - mean  # (B, K')
    drawn = np.where(np.isnan(drawn), 0.0, drawn)  # a draw that missed a short procedure altogether
    deviation = drawn.std(axis=0, ddof=1)
    moves = deviation > 1e-12 * np.nanmax(np.abs(values), axis=0)
    kept = np.flatnonzero(counted)[moves]
    if len(kept):
        t[kept] = mean[moves] / deviation[moves]
        largest = np.sort((drawn[:, moves] / deviation[moves]).max(axis=1))
        reach = draws - np.searchsorted(largest, t[kept], side="left")
        p[kept] = (1 + reach) / (1 + draws)
    return t, p


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Return the false discovery rate at which each of several p-values would be let through.

    NaN: stays NaN and is not counted. Source: Benjamini and Hochberg 1995.

    >>> benjamini_hochberg([0.01, 0.5, 0.03])
    [0.03, 0.5, 0.045]
    """
    values = np.asarray(p, dtype=np.float64)
    q = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(-values[known], kind="stable")]  # largest first
    ranks = np.arange(len(order), 0, -1)
    q[order] = np.minimum(np.minimum.accumulate(values[order] * len(order) / np.maximum(ranks, 1)), 1.0)
    return [float(value) for value in q]
