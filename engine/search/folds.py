"""Walk-forward folds: where each training part ends and its test part begins."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config_sections import Folds


@dataclass(frozen=True)
class Fold:
    """One outer fold, as half-open ranges of bar indices.

    Parameters
    ----------
    number : int
        From 0, oldest first; a new bar moves no fold.
    train_from, train_to, test_from, test_to : int
        Bar indices; no test bar lies before ``train_to + purge``.
    open : bool
        The test part is not full yet: its parameters are frozen, its score still grows.
    """

    number: int
    train_from: int
    train_to: int
    test_from: int
    test_to: int
    open: bool


def bars_needed(folds: Folds, purge_bars: int) -> int:
    """Return the bars that warm-up, training, purge and ``min_folds`` tests take together."""
    return folds.warmup_bars + folds.train_bars + purge_bars + folds.min_folds * folds.test_bars


def walk_forward(bars: int, folds: Folds, purge_bars: int) -> list[Fold]:
    """Cut a series into outer folds.

    Parameters
    ----------
    bars : int
        Length of the series.
    folds : Folds
        ``rolling``: training parts of ``train_bars``; ``anchored``: all bars since the warm-up.
    purge_bars : int
        Bars dropped between training and test, at least the longest holding time.

    Returns
    -------
    list of Fold
        Aligned at the start of the series. The last one may be open, even empty: its
        study runs as soon as the test part before it is full.
    """
    test_from = folds.warmup_bars + folds.train_bars + purge_bars
    cut: list[Fold] = []
    while test_from <= bars:
        train_to = test_from - purge_bars
        train_from = folds.warmup_bars if folds.scheme == "anchored" else train_to - folds.train_bars
        test_to = test_from + folds.test_bars
        cut.append(Fold(len(cut), train_from, train_to, test_from, min(test_to, bars), test_to > bars))
        test_from += folds.test_bars
    return cut


def nightly_window(bars: int, folds: Folds) -> tuple[int, int]:
    """Return the training range that ends at the last known bar: tonight's fit."""
    start = folds.warmup_bars if folds.scheme == "anchored" else bars - folds.train_bars
    return max(start, folds.warmup_bars), bars


def inner_spans(start: int, stop: int, count: int) -> list[tuple[int, int]]:
    """Cut a training part into ``count`` spans of nearly equal length, oldest first."""
    edges = [start + (stop - start) * k // count for k in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))
