"""Sweeps for the search's benchmark: the scores of many configurations on every inner fold.

A sweep is a matrix (trials, folds) of net log growth, bps per bar. What a pruner does with it is
then replayed through the study itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WINDOWS, TRIALS = 10, 200
LONG = ("AAPL", "IBM", "MSFT")  # 32 inner folds of 94 bars; GOOG is too young for that
OFF = {"min_trades": None, "max_drawdown": None}


def fitters() -> dict:
    """Return symbol -> (fitter of the trend strategy, number of bars), for the sample's four symbols."""
    from engine.config_file import load
    from engine.sources import sample

    settings = load(ROOT / "nightfold.yaml").settings
    return {symbol: (fitter_of(symbol, sample(symbol)), len(sample(symbol))) for symbol in settings.symbols}


def fitter_of(symbol: str, bars):  # noqa: ANN001, ANN201
    """Return the fitter of the trend strategy on these bars, at a sample symbol's costs."""
    from engine.config_file import load
    from engine.features.table import FeatureSet
    from engine.search.rules_fit import RulesFitter
    from engine.simulation import adjusted_tick
    from engine.stages.common import execution_of
    from engine.strategies import registry

    settings = load(ROOT / "nightfold.yaml").settings
    instrument = settings.instrument(symbol)
    entry = next(e for e in settings.entries(symbol) if e.strategy == "trend")
    features = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
    return RulesFitter(features, registry.get("trend"), entry, execution_of(instrument, entry), settings.seed)


def windows() -> list:
    """Return (fitter, train_from, train_to) of 40 training windows of 1,000 bars."""
    from engine.search.folds import walk_forward

    found = []
    for fitter, bars in fitters().values():
        folds = walk_forward(bars, fitter.entry.folds, 0)
        for number in np.linspace(0, len(folds) - 1, WINDOWS).astype(int):
            found.append((fitter, folds[number].train_from, folds[number].train_to))
    return found


def task_of(fitter, start: int, stop: int, folds: int, draw: int = 0, **search):  # noqa: ANN001, ANN003, ANN201
    """Return the study of one window with other search settings; `draw` seeds it."""
    from engine.search.folds import inner_spans
    from engine.search.study import Task
    from engine.strategies.registry import valid

    settings = fitter.entry.search.model_copy(update=search)
    limits = fitter.entry.constraints.model_copy(update=OFF)
    return Task(
        fitter._evaluate,
        fitter.space,
        lambda c: valid(fitter.strategy, c),
        inner_spans(start, stop, folds),
        settings,
        limits,
        "bench",
        f"{draw} {fitter.features.bars.symbol} {start}",
    )


def trend_sweep(fitter, start: int, stop: int, folds: int, draw: int) -> np.ndarray:  # noqa: ANN001
    """Return the fold scores of the first 200 points of a screen of the trend strategy."""
    from engine.search.study import run_study

    task = task_of(
        fitter, start, stop, folds, draw,
        sampler="random", screen=TRIALS, max_trials=1, batch=1, pruner="none",
    )  # fmt: skip
    return np.array([trial.scores for trial in run_study(task) if trial.batch == 0])


def average_sweep(symbol: str, chunks: int, seed: int) -> np.ndarray:
    """Return the chunk scores of 200 random crossings of two averages: one continuous run each.

    Long while the mean close of ``fast`` bars is above that of ``slow``, else short; 5 bps a side.
    """
    from engine.sources import sample

    close = sample(symbol).close * sample(symbol).adj
    rng = np.random.default_rng([seed, 1])
    fast = rng.integers(2, 51, TRIALS)
    slow = np.array([rng.integers(f + 1, 251) for f in fast])
    total = np.concatenate([[0.0], np.cumsum(close)])
    move = np.diff(np.log(close))
    edges = 249 + (len(move) - 249) * np.arange(chunks + 1) // chunks
    scores = np.empty((TRIALS, chunks))
    for k in range(TRIALS):
        mean_fast, mean_slow = ((total[250:-1] - total[250 - n : -1 - n]) / n for n in (fast[k], slow[k]))
        side = np.sign(mean_fast - mean_slow)
        net = np.zeros(len(move))
        net[249:] = side * move[249:]
        net[250:] -= 5e-4 * np.abs(np.diff(side))
        sums = np.add.reduceat(net[: edges[-1]], edges[:-1])
        scores[k] = 1e4 * sums / np.diff(edges)
    return scores


def made_sweep(seed: int, folds: int) -> np.ndarray:
    """Return a sweep of the trend strategy on a made market: a random walk, or drift that turns."""
    from truth_markets import null, trending

    bars = 250 + folds * (125 if folds < 32 else 100)
    market = null(seed, bars) if seed % 2 else trending(seed, bars, 0.1)
    return trend_sweep(fitter_of("AAPL", market), 250, bars, folds, seed)


def sweeps(kind: str, folds: int) -> list[np.ndarray]:
    """Return 40 sweeps: ``trend`` on the sample, ``made`` markets, or moving ``average``s on the sample."""
    if kind == "made":
        return [made_sweep(seed, folds) for seed in range(40)]
    if kind == "average":
        return [average_sweep(LONG[k % 3], folds, k) for k in range(40)]
    if folds < 32:
        return [trend_sweep(*window, folds, draw) for draw, window in enumerate(windows())]
    found = fitters()
    return [trend_sweep(*_whole(*found[LONG[k % 3]]), folds, k) for k in range(40)]


def _whole(fitter, bars: int) -> tuple:  # noqa: ANN001
    return fitter, fitter.entry.folds.warmup_bars, bars
