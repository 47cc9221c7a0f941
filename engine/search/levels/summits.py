"""The highest summits of a surface known on a grid: `highest_on_grid` picks them, `zoom` refines one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.bars.model import Floats

PEAKS = 3  # peaks of the grid that are refined
PRECISION = 1e-6  # of the offsets
_OFFSETS = np.array([0.0, -1.0, -0.5, 0.5, 1.0])  # the point itself first: it stays where nothing is better

Surface = Callable[[Floats, Floats], Floats]  # (J,) and (K,) points -> values (J, K)


def highest_on_grid(grid: Floats, us: Floats, vs: Floats) -> list[tuple[float, float]]:
    """Return the points of at most 3 peaks of a grid, the highest first; ties to the smallest |u| + |v|.

    Parameters
    ----------
    grid : float64 array, shape (J, K)
        Values at every pair of points.
    us, vs : float64 array, shapes (J,) and (K,)
        The points.
    """
    around = np.pad(grid, 1, constant_values=-np.inf)
    highest = np.max([around[1 + a : around.shape[0] - 1 + a, 1 + b : around.shape[1] - 1 + b]
                      for a in (-1, 0, 1) for b in (-1, 0, 1)], axis=0)  # fmt: skip
    j, k = np.nonzero(grid >= highest)
    order = np.lexsort((us[j], np.abs(us[j]) + np.abs(vs[k]), -grid[j, k]))[:PEAKS]
    return [(us[j[peak]], vs[k[peak]]) for peak in order.tolist()]


def zoom(
    surface: Surface, at: tuple[float, float], step: float, limits: tuple[float, ...]
) -> tuple[float, float, float, int]:
    """Return (u, v, value, evaluations) of the peak near a point, by halving a grid of 5 x 5 around it.

    Parameters
    ----------
    surface : callable
        The values.
    at : pair of float
        A peak of a coarser grid.
    step : float
        Half the width of the first grid.
    limits : tuple of 4 floats
        Lower and upper bound of u, then of v.
    """
    (u, v), value, evaluations = at, -np.inf, 0
    u_lo, u_hi, v_lo, v_hi = limits
    for _ in range(200):
        us, vs = np.clip(u + step * _OFFSETS, u_lo, u_hi), np.clip(v + step * _OFFSETS, v_lo, v_hi)
        values = surface(us, vs)
        evaluations += values.size
        j, k = divmod(int(values.argmax()), 5)
        u, v, value = us[j], vs[k], values[j, k]
        if abs(_OFFSETS[j]) < 1.0 and abs(_OFFSETS[k]) < 1.0:
            if step < 0.5 * PRECISION:
                break
            step *= 0.5
    return float(u), float(v), float(value), evaluations
