"""Levels problems with finer bars, and what a pair of offsets earns on them by the words of the rules."""

import math
from dataclasses import replace

import numpy as np

from engine.bars.model import Bars
from engine.simulation.levels import LevelsProblem
from engine.simulation.levels_finer import FinerBars

FEES = ((0.0, 0.0, 0.0), (0.0005, 0.0, 0.0), (0.0005, 0.0005, 0.0007))


def finer_problem(seed, n, touch, coarse=False, most=8, fees=None):
    """Rows of 0 to ``most`` finer bars whose extremes are the bar's own; some stand on a 1 % grid.

    Flat bars, bars on one side of the base, exact zeros, crossed forecasts and idle legs occur.
    """
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most + 1, n) if most else np.zeros(n, dtype=int)
    starts = np.r_[0, np.cumsum(counts)]
    highs, lows, bars = [], [], []
    for count in counts:
        path = rng.normal(0, 0.004) + np.cumsum(rng.normal(0, 0.008, 2 * max(count, 1))).reshape(-1, 2)
        if rng.random() < 0.1:
            path[:] = rng.choice([0.0, path[0, 0]])
        path = np.round(path, 2) if coarse else path
        top, bottom = path.max(axis=1), path.min(axis=1)
        bars.append((top.max(), bottom.min(), path[-1, rng.integers(2)]))
        highs += top[:count].tolist()
        lows += bottom[:count].tolist()
    high, low, close = np.array(bars).reshape(n, 3).T
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    if coarse:
        up, down = np.round(up, 2), np.round(down, 2)
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    weights = rng.choice([0.0, 1.0, 1.0, 2.5], (2, n))
    return LevelsProblem(
        close, high, low, up, down, *weights, delta, np.full(n, 100.0), np.arange(1, n + 1),
        *(FEES[seed % 3] if fees is None else fees), touch, finer=FinerBars(starts, highs, lows),
    )  # fmt: skip


def first_and_later(trades_entry, trades_target):
    """Whether the target trades in a finer bar strictly after the first that trades the entry."""
    for s, enters in enumerate(trades_entry):
        if enters:
            return s, any(trades_target[s + 1 :])
    return None, False


def reference(p, u, v):
    """Exit `path` as section 3 words it, plain Python: (value, long targets, short targets)."""
    total, longs, shorts = [], [], []
    for i in range(len(p)):
        h = min(max(p.forecast_high[i] + u, 0.0), 10.0)
        l = min(max(p.forecast_low[i] + v, -1.0), 0.0)  # noqa: E741
        d = p.delta[i]
        parts = range(*p.finer.starts[i : i + 2]) if p.finer is not None else ()
        highs, lows = [p.finer.high[s] for s in parts], [p.finer.low[s] for s in parts]
        if p.touch:
            long_entry, short_entry = l > p.low[i], h < p.high[i]
            buys, sells = [l > x for x in lows], [h < x for x in highs]
            covers, takes = [l >= x for x in lows], [h <= x for x in highs]
        else:
            long_entry, short_entry = l >= p.low[i] + d, h <= p.high[i] - d
            buys = covers = [l >= x + d for x in lows]
            sells = takes = [h <= x - d for x in highs]
        long_target = bool(long_entry and first_and_later(buys, takes)[1])
        short_target = bool(short_entry and first_and_later(sells, covers)[1])
        longs.append(long_target and p.long_weight[i] > 0)
        shorts.append(short_target and p.short_weight[i] > 0)
        if long_entry:
            sold = h - p.fee_target if long_target else p.close[i] - p.fee_close
            total.append(p.long_weight[i] * (sold - l - p.fee_entry))
        if short_entry:
            bought = l + p.fee_target if short_target else p.close[i] + p.fee_close
            total.append(p.short_weight[i] * (h - bought - p.fee_entry))
    return math.fsum(total), longs, shorts


COLUMNS = ("close", "high", "low", "forecast_high", "forecast_low", "long_weight", "short_weight", "delta")


def with_rows(p, rows, **changes):
    """The problem of other rows of itself, by position; finer bars go with them."""
    columns = {name: getattr(p, name)[rows] for name in (*COLUMNS, "base", "index")}
    return replace(p, **columns, finer=None if p.finer is None else p.finer.take(np.asarray(rows)), **changes)


def parted(bars, parts=4, seed=0, frame="1h"):
    """Finer bars inside each bar, an hour apart; which of them hold the bar's high and low is drawn."""
    rng = np.random.default_rng(seed)
    n, rows = len(bars), np.arange(len(bars))
    shape = (parts, n)
    at = rng.random(shape) * (bars.high - bars.low) + bars.low
    high, low = np.maximum(at, at[::-1]), np.minimum(at, at[::-1])
    for column, extreme in ((high, bars.high), (low, bars.low)):
        column[rng.integers(0, parts, n), rows] = extreme
    opens, closes = low + 0.5 * (high - low), low + 0.5 * (high - low)
    closes[-1] = bars.close
    high[-1], low[-1] = np.maximum(high[-1], bars.close), np.minimum(low[-1], bars.close)
    ts = bars.ts + 3_600_000_000 * (14 + np.arange(parts))[:, None]
    columns = [np.ravel(x.T) for x in (ts, opens, high, low, closes)]
    rest = [np.repeat(x, parts) for x in (bars.volume / parts, bars.adj, np.zeros(n))]
    return Bars(bars.symbol, frame, bars.calendar, *columns, *rest)
