"""The probability of backtest overfitting, by combinatorially symmetric cross-validation.

Of many trials on the same bars: how often is the one that was best on half of the blocks below the
middle on the other half? T returns, N trials, S blocks, J halves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from engine.bars.model import Floats

BLOCKS = 16
MIN_TRIALS = 10
_HALVES_AT_ONCE = 1_500


@dataclass(frozen=True)
class Overfitting:
    """What the halves of one returns matrix say.

    Parameters
    ----------
    probability : float
        Share of halves whose best trial is in the lower half on the other blocks. .5: choosing by
        the past is as good as drawing lots.
    median_logit : float
        Median of ln(w / (1 - w)), w the relative rank there; below 0 is bad.
    share_losing : float
        Share of halves whose best trial loses money on the other blocks.
    reason : str
        Why the numbers are NaN; empty where they are defined.
    """

    probability: float
    median_logit: float
    share_losing: float
    reason: str = ""


@cache
def _halves(blocks: int) -> Floats:
    """Return every choice of half of the blocks as a row of 0 and 1, shape (J, S)."""
    chosen = list(combinations(range(blocks), blocks // 2))
    rows = np.zeros((len(chosen), blocks))
    rows[np.arange(len(chosen))[:, None], np.array(chosen)] = 1.0
    return rows


def _sharpe(total: Floats, squares: Floats, count: int) -> Floats:
    """Return Sharpe ratios from sums and sums of squares; a trial that did not move has 0."""
    mean = total / count
    variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
    flat = variance <= 1e-12 * squares / count
    return np.where(flat, 0.0, mean / np.sqrt(np.where(flat, 1.0, variance)))


def backtest_overfitting(returns: Floats, blocks: int = BLOCKS) -> Overfitting:
    """Return the probability of backtest overfitting.

    Parameters
    ----------
    returns : float64 array, shape (T, N)
        One column a trial, all on the same bars, oldest first, no NaN.
    blocks : int, even
        S equal blocks in time order; the oldest rows that do not fill one are left out.

    NaN: fewer than 10 trials, or fewer than two rows a block; ``reason`` says which.
    Source: Bailey, Borwein, Lopez de Prado, Zhu 2017.
    """
    count, trials = returns.shape
    if trials < MIN_TRIALS:
        return Overfitting(math.nan, math.nan, math.nan, f"{trials} complete trials, needs {MIN_TRIALS}")
    rows = count // blocks
    if rows < 2:
        return Overfitting(math.nan, math.nan, math.nan, f"{count} returns, needs {2 * blocks}")
    cut = returns[count - rows * blocks :].reshape(blocks, rows, trials)
    sums, squares = cut.sum(axis=1), (cut**2).sum(axis=1)  # (S, N)
    half = rows * blocks // 2
    ranks, losing = [], []
    halves = _halves(blocks)
    for first in range(0, len(halves), _HALVES_AT_ONCE):
        chosen = halves[first : first + _HALVES_AT_ONCE]
        inside, inside_squares = chosen @ sums, chosen @ squares  # two matrix products give every half
        best = np.argmax(_sharpe(inside, inside_squares, half), axis=1)
        outside = _sharpe(sums.sum(axis=0) - inside, squares.sum(axis=0) - inside_squares, half)
        mine = outside[np.arange(len(best)), best][:, None]
        rank = (outside < mine).sum(axis=1) + ((outside == mine).sum(axis=1) + 1) / 2  # ties: the mean rank
        ranks.append(rank / (trials + 1))
        losing.append(mine[:, 0] < 0)
    w = np.concatenate(ranks)
    logit = np.log(w / (1.0 - w))
    return Overfitting(
        float(np.mean(logit <= 0)), float(np.median(logit)), float(np.mean(np.concatenate(losing)))
    )
