"""How wide the smoothed objective draws: `smoothing_width`, from the setting ``levels.smoothing``."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from engine.errors import LevelsInputError
from engine.simulation.levels import LevelsProblem

Smoothing = float | Mapping[str, float]

EWMA_BARS = 20


def smoothing_width(problem: LevelsProblem, smoothing: Smoothing) -> float:
    """Return the standard deviation s of the draws, in return units.

    Parameters
    ----------
    problem : LevelsProblem
        n rows, at any order; they are read by ``index``.
    smoothing : float > 0, or {"absolute": x}
        A multiple of the median over the window of the EWMA(20) volatility of the close moves
        (root of the weighted mean square, weights (19/21)^k), or x itself.

    Returns
    -------
    float
        0 where no close moves, or without rows: there Fs is F.

    Raises
    ------
    LevelsInputError
        The number is not positive and finite, or the mapping is another one.
    """
    if isinstance(smoothing, Mapping):
        number = float(smoothing["absolute"]) if set(smoothing) == {"absolute"} else 0.0
    else:
        number = float(smoothing)
    if not 0.0 < number < math.inf:
        raise LevelsInputError(
            f"levels.smoothing was {smoothing}, expected a number > 0 (a multiple of the window's "
            "volatility) or {absolute: x} with x > 0 in return units"
        )
    if isinstance(smoothing, Mapping) or not len(problem):
        return number if isinstance(smoothing, Mapping) else 0.0
    squares = problem.close[np.argsort(problem.index, kind="stable")] ** 2
    keep = 1.0 - 2.0 / (EWMA_BARS + 1)
    above = below = 0.0
    volatility = np.empty(len(squares))
    for t, square in enumerate(squares.tolist()):
        above, below = keep * above + square, keep * below + 1.0
        volatility[t] = math.sqrt(above / below)
    return number * float(np.median(volatility))
