"""Problems of the forecast-levels benchmark: real windows of the sample, synthetic ones, and the seed recipe.

All use the rules of the public two-offset recipe they are compared on: touch fills, same-bar
targets (optimistic), 5 bps once per filled entry, offsets within +-3 %.

Seed recipe: torch.manual_seed(42), n = 100, float32 standard normal draws in this order: close,
high, low, high forecast, low forecast. Its best pair still loses, so it is judged by gain alone.
Synthetic: the same with n = 200 and seeds from 0, bought where the forecast high is the larger
move. Real: forecasts are the EWMA(20) of the bars' own high and low moves, issued one bar before.
A share of the exact profit means nothing where that profit is about 0, so the compared problems
are those whose exact optimum earns 1 bp a bar or more.
"""

from __future__ import annotations

from itertools import count, islice

import numpy as np

from engine.bars.model import Bars, Floats
from engine.search.levels.exact import solve
from engine.simulation.levels_problem import LevelsProblem, problem
from engine.sources import sample

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
LENGTHS = (6, 60, 100, 200)
WINDOWS = 3  # of each symbol and length
FEE_BPS = 5.0
LEAST_PROFIT = 1e-4  # per bar, of the exact optimum
SYNTHETIC = 40
OBJECTIVES = ("entry_exit", "always_on")
EWMA_BARS = 20
SMOOTHING = 2.0 / (EWMA_BARS + 1)


def ewma(moves: Floats) -> Floats:
    """Return the exponential mean of moves (T,), known at each bar's close; the first is NaN."""
    mean = np.full(len(moves), np.nan)
    mean[1] = moves[1]
    for t in range(2, len(moves)):
        mean[t] = mean[t - 1] + SMOOTHING * (moves[t] - mean[t - 1])
    return mean


def forecasts(bars: Bars) -> tuple[Floats, Floats]:
    """Return forecast log moves (T,) of the next bar's high and low, issued at each close."""
    base = np.concatenate([[np.nan], bars.close[:-1]])
    high, low = ewma(bars.high / base - 1), ewma(bars.low / base - 1)
    return np.log1p(high), np.log1p(low)


def windows(symbol: str, n: int, number: int, step: int, objectives: tuple[str, ...]) -> list[LevelsProblem]:
    """Return ``number`` windows of n outcome bars for each objective, the newest first."""
    bars = sample(symbol)
    high, low = forecasts(bars)
    found = []
    for back in range(number):
        stop = len(bars) - back * step
        for objective in objectives:
            found.append(
                problem(
                    bars, high, low, stop - n, stop, objective=objective, side="maxdiff", sides="both",
                    fee_bps=FEE_BPS, slippage_bps=0.0, fee_mode="per_leg", fill="touch", tick=0.01,
                )
            )  # fmt: skip
    return found


def earns(one: LevelsProblem) -> bool:
    """Tell whether the exact optimum earns enough to take shares of it."""
    return solve(one, exit="target").profit >= LEAST_PROFIT * len(one)


def real() -> list[LevelsProblem]:
    """Return windows of four symbols, four lengths, three spans two years apart, objectives in turn."""
    found = []
    for at, symbol in enumerate(SYMBOLS):
        for n in LENGTHS:
            pairs = windows(symbol, n, WINDOWS, 500, OBJECTIVES)
            found += [pairs[2 * back + (back + at) % 2] for back in range(WINDOWS)]
    return [one for one in found if earns(one)]


def drawn(seed: int, n: int, rule: str) -> LevelsProblem:
    """Return a synthetic problem; ``rule`` is `order` (the seed recipe) or `maxdiff`."""
    import torch

    torch.manual_seed(seed)
    draws = [torch.randn(n, dtype=torch.float32) for _ in range(5)]
    close = 0.02 * draws[0]
    high, low = close + 0.01 * draws[1].abs(), close - 0.01 * draws[2].abs()
    up, down = 0.01 * draws[3] + 0.005, 0.01 * draws[4] - 0.005
    buys = up > down if rule == "order" else up.abs() > down.abs()
    columns = [x.to(torch.float64).numpy() for x in (close, high, low, up, down)]
    long = buys.to(torch.float64).numpy()
    return LevelsProblem(
        *columns, long, 1.0 - long, np.zeros(n), np.full(n, 100.0), np.arange(1, n + 1),
        FEE_BPS / 1e4, 0.0, 0.0, True, name=f"drawn {seed}",
    )  # fmt: skip


def synthetic() -> list[LevelsProblem]:
    """Return 40 problems of 200 bars, those of the first seeds that earn enough."""
    found = (drawn(seed, 200, "maxdiff") for seed in count())
    return list(islice(filter(earns, found), SYNTHETIC))


def recipe() -> LevelsProblem:
    """Return the seed recipe."""
    return drawn(42, 100, "order")


def grown(n: int, seed: int = 0) -> LevelsProblem:
    """Return a synthetic problem of n bars, both legs on every bar, for the growth of time with n."""
    one = drawn(seed, n, "maxdiff")
    return LevelsProblem(
        one.close, one.high, one.low, one.forecast_high, one.forecast_low, np.ones(n), np.ones(n),
        one.delta, one.base, one.index, one.fee_entry, one.fee_target, one.fee_close, one.touch,
    )  # fmt: skip
