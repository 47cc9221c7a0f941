"""Make stored quantiles possible: bounded, increasing in the level, low <= close <= high.

`repair` counts what it changes and rejects an as-of bar whose model gave nonsense.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.bars.model import Floats, Ints
from engine.forecasts.interface import FIELDS, Bools, Floats32

# Axes: B windows, h steps, V fields, Q levels.
BOUND_FLOOR, BOUND_SIGMAS = 0.02, 10.0
MAX_CLAMPED_SHARE = 0.01
HIGH, LOW, CLOSE = (FIELDS.index(name) for name in ("high", "low", "close"))


@dataclass(frozen=True, eq=False)
class Repaired:
    """What `repair` returns.

    Parameters
    ----------
    quantiles : float32 array, shape (B, h, V, Q)
        Fit to be stored, except where ``rejected`` names a reason.
    n_clamped : int64 array, shape (B,)
        Values outside the bound.
    n_repaired : int64 array, shape (B,)
        Values changed afterwards by sorting or by the order of low, close and high.
    rejected : tuple of str, length B
        Why no row may be written; empty where all is well.
    """

    quantiles: Floats32
    n_clamped: Ints
    n_repaired: Ints
    rejected: tuple[str, ...]


def repair(quantiles: Floats32, levels: tuple[float, ...], sigma: Floats) -> Repaired:
    """Bound, sort and order quantiles, in that sequence.

    Parameters
    ----------
    quantiles : float32 array, shape (B, h, V, Q)
        Log return against the as-of close; V = high, low, close.
    levels : tuple of float, length Q
        Increasing, .5 among them.
    sigma : float64 array, shape (B,)
        Volatility per bar at the as-of bar, log units.

    Returns
    -------
    Repaired
        Bound: |value| <= max(.02, 10 * sigma * sqrt(step)). Rejected: more than 1 % of a window's
        values beyond it, or any of level .5, or any value not finite.

    NaN: a window holding one is rejected and returned unchanged.
    """
    b, h = quantiles.shape[:2]
    finite: Bools = np.all(np.isfinite(quantiles), axis=(1, 2, 3))  # (B,)
    steps = np.sqrt(np.arange(1, h + 1))
    bound = np.maximum(BOUND_FLOOR, BOUND_SIGMAS * sigma[:, None] * steps).astype(np.float32)[
        :, :, None, None
    ]
    clamped = np.clip(quantiles, -bound, bound)  # (B, h, V, Q)
    beyond = (clamped != quantiles) & finite[:, None, None, None]
    n_clamped = beyond.sum(axis=(1, 2, 3))
    per_window = quantiles[0].size if b else 1
    too_many = n_clamped > MAX_CLAMPED_SHARE * per_window
    median_beyond: Bools = np.any(beyond[:, :, :, levels.index(0.5)], axis=(1, 2))

    ordered = np.sort(clamped, axis=3)
    three = ordered[:, :, [HIGH, LOW, CLOSE]]
    ordered[:, :, HIGH], ordered[:, :, LOW] = three.max(axis=2), three.min(axis=2)
    n_repaired = ((ordered != clamped) & finite[:, None, None, None]).sum(axis=(1, 2, 3))

    rejected = []
    for i in range(b):
        if not finite[i]:
            rejected.append("a value is not finite")
        elif median_beyond[i]:
            rejected.append("a median lies beyond 10 sigma")
        elif too_many[i]:
            rejected.append(f"{int(n_clamped[i])} of {per_window} values lie beyond 10 sigma")
        else:
            rejected.append("")
    out = np.where(finite[:, None, None, None], ordered, quantiles)
    return Repaired(out, n_clamped.astype(np.int64), n_repaired.astype(np.int64), tuple(rejected))
