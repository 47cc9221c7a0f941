"""Where, among sorted candidates, an order begins to trade: the comparisons of `engine.simulation.levels`.

Shared by the compiled exact solvers.
"""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def sell_count(forecast, top, strict, u):  # type: ignore[no-untyped-def]
    """Return how many of the sorted ``u``, from the left, let a sell at the level trade."""
    left, right = 0, len(u)
    while left < right:
        middle = (left + right) // 2
        level = min(max(forecast + u[middle], 0.0), 10.0)
        if (level < top) if strict else (level <= top):
            left = middle + 1
        else:
            right = middle
    return left


@njit(cache=True, nogil=True, error_model="numpy")
def first_buy(forecast, bottom, strict, v):  # type: ignore[no-untyped-def]
    """Return the first of the sorted ``v`` at which a buy at the level trades."""
    left, right = 0, len(v)
    while left < right:
        middle = (left + right) // 2
        level = min(max(forecast + v[middle], -1.0), 0.0)
        if (level > bottom) if strict else (level >= bottom):
            right = middle
        else:
            left = middle + 1
    return left


@njit(cache=True, nogil=True, error_model="numpy")
def first_clipped(forecast, points):  # type: ignore[no-untyped-def]
    """Return the first of the sorted points with forecast + point >= 0: the clip's edge."""
    left, right = 0, len(points)
    while left < right:
        middle = (left + right) // 2
        if forecast + points[middle] >= 0:
            right = middle
        else:
            left = middle + 1
    return left
