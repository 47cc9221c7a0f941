"""Markets with an edge of a known size: trends just strong enough for a wanted Sharpe ratio."""

from __future__ import annotations

import numpy as np
import truth_markets as markets
from truth_chain import settings_of

PLANTED_BARS = 5040  # 20 years
SHARPE = (1.0, 1.5)  # of the best of 100 parameter sets over the matched hold, after costs, on all bars


def best_sharpe(bars) -> float:
    """Return the best annual Sharpe ratio over the matched hold, after default costs, of 100 sets."""
    from engine.features.table import FeatureSet
    from engine.simulation import run
    from engine.stages.common import execution_of
    from engine.strategies import registry
    from engine.validation import out_of_sample as oos

    settings = settings_of(bars.symbol, "default costs")
    instrument = settings.instrument(bars.symbol)
    entry = next(e for e in settings.entries(bars.symbol) if e.strategy == "trend")
    execution = execution_of(instrument, entry)
    rng = np.random.default_rng(0)
    features, total = FeatureSet(bars, 0.01), oos.total_returns(bars, 250, len(bars))
    best = -np.inf
    for _ in range(100):
        params = {
            "fast": int(rng.integers(5, 61)), "slow": int(rng.integers(13, 41)) * 5,
            "adx_min": float(rng.integers(10, 31)), "stop_atr": float(rng.integers(4, 17)) / 4,
            "target_atr": float(rng.integers(4, 17)) / 2,
        }  # fmt: skip
        if params["fast"] >= params["slow"]:
            continue
        done = run(features, registry.get("trend"), params, execution, start=250, stop=len(bars))
        net = np.diff(done.equity, prepend=1e5) / np.concatenate([[1e5], done.equity[:-1]])
        x = net - oos.matched_returns(done.equity, done.position, bars.close[250:], total)
        best = max(best, float(x.mean() / x.std(ddof=1) * np.sqrt(markets.DAYS_A_YEAR)))
    return best


def planted(seed: int, n: int = PLANTED_BARS):
    """Return a trending market whose best parameters earn a Sharpe ratio inside `SHARPE`, and that ratio.

    The goal is drawn evenly inside; the strength of the trends is found by halving the interval.
    """
    goal = np.random.default_rng([seed, 3]).uniform(*SHARPE)
    low, high = 0.0, 0.5
    for _ in range(9):
        middle = (low + high) / 2
        bars = markets.trending(seed, n, middle)
        sharpe = best_sharpe(bars)
        if abs(sharpe - goal) < 0.05:
            break
        low, high = (middle, high) if sharpe < goal else (low, middle)
    return bars, sharpe
