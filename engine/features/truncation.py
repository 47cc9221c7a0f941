"""The truncation check: does any value depend on bars after its own?

Used by the tests on every registered feature and strategy; authors of their own can call it
on theirs. It finds what it meets, at the chosen stamps and bars; it proves nothing beyond them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.bars.model import Bars

Arrays = Sequence[npt.NDArray[Any]]


def look_ahead(compute: Callable[[Bars], Arrays], bars: Bars, seed: int, stamps: int = 20) -> list[str]:
    """Return what was found to depend on later bars, one sentence each; an empty list is a pass.

    Parameters
    ----------
    compute : callable
        Bars -> arrays of shape (T,), any dtype; called with the first bars only, and with the
        last bar changed.
    bars : Bars
        T bars, at least 2.
    seed : int
        Chooses the random stamps.
    stamps : int
        Random stamps besides both ends.

    Returns
    -------
    list of str
        Values are compared bit for bit; NaN equals NaN of the same bits.

    >>> from engine.bars.synthetic import make_bars
    >>> look_ahead(lambda bars: [bars.close - bars.close.mean()], make_bars(0, 9), seed=0)[0]
    'array 0: the first 1 of 9 values change when the later bars are left out'
    """
    length = len(bars)
    whole = compute(bars)
    drawn = np.random.default_rng(seed).integers(0, length, stamps)
    found = []
    for t in sorted({0, length - 1, *map(int, drawn)}):
        for number, count in _differing(whole, compute(bars.slice(0, t + 1)), t + 1):
            values = f"the first {count} of {length} values"
            found.append(f"array {number}: {values} change when the later bars are left out")
    for factor in (0.37, 1.61803):  # off any price step, below and above
        for number, count in _differing(whole, compute(_last_bar_times(bars, factor)), length - 1):
            found.append(
                f"array {number}: the first {count} values change when the last bar alone is changed"
            )
    return found


def _differing(whole: Arrays, part: Arrays, count: int) -> list[tuple[int, int]]:
    """Return (number, count) of each array whose first ``count`` values are not the same bits."""
    pairs = enumerate(zip(whole, part, strict=True))
    return [(number, count) for number, (a, b) in pairs if a[:count].tobytes() != b[:count].tobytes()]


def _last_bar_times(bars: Bars, factor: float) -> Bars:
    changed = {}
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(bars, name).copy()
        column[-1] *= factor
        changed[name] = column
    return replace(bars, **changed)
