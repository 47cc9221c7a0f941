"""Made markets whose truth is known: random walks without an edge, and trends that can be traded.

``python benchmarks/truth_markets.py PLANT > data/inbox/PLANT.csv`` writes the planted symbol of
docs/search.md.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from engine.bars.model import Bars
from engine.bars.synthetic import to_csv

STEPS = 26  # steps of the price inside a bar, from which its high and low come
DAYS_A_YEAR = 252
GAP_SHARE = 0.25  # of a bar's variance lies between the close and the next open
FAT_TAILS = 5  # degrees of freedom of the steps of a bar's volatility and of its gap


def _volatility(rng: np.random.Generator, n: int, level: float) -> np.ndarray:
    """Return the volatility of each bar: clusters (persistence .97), now and then a burst, shape (T,)."""
    shock = rng.standard_t(FAT_TAILS, n) / math.sqrt(FAT_TAILS / (FAT_TAILS - 2))
    log_level = np.zeros(n)
    for t in range(1, n):
        log_level[t] = 0.97 * log_level[t - 1] + 0.08 * shock[t]
    return level * np.exp(log_level - 0.5 * log_level.var())


def make(symbol: str, seed: int, n: int, drift: np.ndarray | float, level: float = 0.015) -> Bars:
    """Return a market with a given drift per bar.

    Parameters
    ----------
    symbol : str
        Canonical key.
    seed, n : int
        What seeds the draws, and the number of daily bars.
    drift : float or float64 array, shape (T,)
        Expected log return of each bar. Beside it nothing about a bar can be known from those before
        but its volatility.
    level : float
        Typical standard deviation of a bar's log return.
    """
    rng = np.random.default_rng([seed, 77])
    sd = _volatility(rng, n, level)
    # one draw a bar scales all its steps: fat tails also of the day, whatever the number of steps
    scale = sd * np.sqrt((FAT_TAILS - 2) / rng.chisquare(FAT_TAILS, n))
    gap = math.sqrt(GAP_SHARE) * scale * rng.standard_normal(n)
    steps = math.sqrt((1 - GAP_SHARE) / STEPS) * scale[:, None] * rng.standard_normal((n, STEPS))
    steps = np.clip(steps + np.broadcast_to(drift, n)[:, None] / STEPS, -0.05, 0.05)
    gap = np.clip(gap, -0.2, 0.2)
    gap[0] = 0.0
    before = np.concatenate([[0.0], np.cumsum(gap + steps.sum(axis=1))[:-1]])
    opened = before + gap
    path = np.column_stack([opened, opened[:, None] + np.cumsum(steps, axis=1)])  # (T, STEPS + 1)
    base = 100.0 * math.exp(max(0.0, -float(path.min()) - 1.5))  # never below a price of some dollars
    price = np.round(base * np.exp(path), 2)
    days = np.busday_offset(np.datetime64("1993-01-04"), np.arange(n)).astype("datetime64[us]")
    return Bars(
        symbol, "1d", "observed", days.astype(np.int64), price[:, 0], price.max(axis=1), price.min(axis=1),
        price[:, -1], np.full(n, 1e6), np.ones(n), np.zeros(n),
    )  # fmt: skip


def null(seed: int, n: int = 2520) -> Bars:
    """Return a random walk: drift of -10 to +20 % a year, the same on every bar."""
    year = np.random.default_rng([seed, 1]).uniform(-0.10, 0.20)
    return make(f"NULL{seed}", seed, n, math.log1p(year) / DAYS_A_YEAR)


def trending(seed: int, n: int, strength: float, symbol: str = "") -> Bars:
    """Return a market whose drift turns: stretches of 60 to 180 bars, up and down by turns.

    Parameters
    ----------
    strength : float
        Drift of a stretch in typical standard deviations of a bar; 0.1 is a Sharpe ratio of 1.6 a
        year to somebody who always knew its sign.
    """
    rng = np.random.default_rng([seed, 2])
    lengths = rng.integers(60, 181, n // 60 + 2)
    signs = np.where(np.arange(len(lengths)) % 2 == rng.integers(2), 1.0, -1.0)
    drift = np.repeat(signs, lengths)[:n] * strength * 0.015
    return make(symbol or f"TREND{seed}", seed, n, drift)


if __name__ == "__main__":
    sys.stdout.write(to_csv(trending(1, 2500, 0.3, sys.argv[1])))
