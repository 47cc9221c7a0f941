"""Successive halving at fold boundaries, on the current mean score of a batch.

Not the median of the best value so far (Optuna's MedianPruner): on cumulative returns that
rule compares early peaks and loses the best trial more often than not.
Source: Jamieson & Talwalkar 2016; rungs of at least 3 folds and 300 bars are a choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MIN_FOLDS, MIN_BARS, MIN_BATCH = 3, 300, 9
KEEP = 2  # one in so many goes on; a third lost more in batches this small (docs/search.md)


def rungs(inner_folds: int, fold_bars: int, batch: int) -> list[int]:
    """Return after how many inner folds a batch is cut.

    Parameters
    ----------
    inner_folds : int
        Folds of a training part.
    fold_bars : int
        Bars of one inner fold.
    batch : int
        Trials evaluated together.

    Returns
    -------
    list of int
        Empty where halving is off: a batch under 9 trials, or under 4 folds.
    """
    if batch < MIN_BATCH or inner_folds < MIN_FOLDS + 1:
        return []
    first = max(MIN_FOLDS, math.ceil(inner_folds / 8), math.ceil(MIN_BARS / max(fold_bars, 1)))
    second = max(math.ceil(3 * inner_folds / 8), first + 2)
    return [rung for rung in (first, second) if rung < inner_folds]


def survivors(live: Sequence[int], means: Sequence[float]) -> list[int]:
    """Return which trials go on: the better half, at least one, in the order given.

    Parameters
    ----------
    live : sequence of int
        Trial numbers still running.
    means : sequence of float
        Mean score so far of each; a tie goes to the lower trial number.

    NaN: ranks last.
    """
    keep = max(1, len(live) // KEEP)
    ranked = sorted(
        zip(live, means, strict=True),
        key=lambda pair: (-pair[1] if pair[1] == pair[1] else math.inf, pair[0]),
    )
    kept = {number for number, _ in ranked[:keep]}
    return [number for number in live if number in kept]
