"""Sampled paths of future bars: put in order, and turned into quantiles.

Axes: B windows, S samples, h steps, V = high, low, close, Q levels.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats, Ints
from engine.forecasts.interface import Floats32

SMALLEST_RATIO = 1e-6  # of the as-of close: a price at or below 0 becomes this, and is bounded later


def served_levels(levels: tuple[float, ...], samples: int) -> tuple[float, ...]:
    """Return the levels that S paths can tell: those inside [.5/S, 1 - .5/S].

    >>> served_levels((0.05, 0.1, 0.5, 0.9, 0.95), 8)
    (0.1, 0.5, 0.9)
    """
    edge = 0.5 / samples
    return tuple(level for level in levels if edge <= level <= 1.0 - edge)


def in_order(ohlc: Floats32, as_of_close: Floats) -> tuple[Floats32, Ints]:
    """Return the high, low and close of possible bars, as log returns.

    Parameters
    ----------
    ohlc : float32 array, shape (B, S, h, 4)
        Prices as sampled: open, high, low, close.
    as_of_close : float64 array, shape (B,)
        In the same unit.

    Returns
    -------
    float32 array, shape (B, S, h, V)
        high = the largest of the four, low = the smallest.
    int64 array, shape (B,)
        Bars of all paths whose high or low that changed, or where a price was not positive.

    NaN: passed on.
    """
    ratio = ohlc.astype(np.float64) / as_of_close[:, None, None, None]
    positive = np.maximum(ratio, SMALLEST_RATIO)
    high, low = positive.max(axis=-1), positive.min(axis=-1)
    changed = (high != ratio[..., 1]) | (low != ratio[..., 2]) | (ratio <= 0.0).any(axis=-1)
    logs = np.log(np.stack([high, low, positive[..., 3]], axis=-1))
    return logs.astype(np.float32), changed.sum(axis=(1, 2)).astype(np.int64)


def quantiles(paths: Floats32, levels: tuple[float, ...]) -> Floats32:
    """Return quantiles over the samples.

    Parameters
    ----------
    paths : float32 array, shape (B, S, h, V)
        Log returns.
    levels : tuple of float, length Q
        Among `served_levels`.

    Returns
    -------
    float32 array, shape (B, h, V, Q)
        Linear between the plotting positions (k - .5) / S. Source: Hazen 1914.
    """
    found = np.quantile(paths.astype(np.float64), levels, axis=1, method="hazen")  # (Q, B, h, V)
    return np.moveaxis(found, 0, -1).astype(np.float32)
