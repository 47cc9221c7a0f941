"""Which rule holds up out of sample: the four large symbols of the sample, 70 folds of 20 test bars each.

EWMA(20) forecasts, default costs (5 bps a side, 2 bps slippage at the close), through:1, side by
maxdiff. All rules are frozen on their training window and scored on the same 20 bars after it.
Differences to the raw exact optimum of 60 bars are paired by bar and bootstrapped in blocks of 20.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from levels_problems import OBJECTIVES, SYMBOLS, forecasts

from engine.bars.model import Floats
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.smoothed import solve_smoothed
from engine.search.levels.width import smoothing_width
from engine.simulation.levels import bar_net, value
from engine.simulation.levels_problem import LevelsProblem, problem
from engine.sources import sample

FOLDS, TEST = 70, 20
SMOOTHING = 0.25
DRAWS = 2000
Offsets = tuple[float, float, float]  # u, v, and the objective there (abstain where not above 0)
Rule = Callable[[LevelsProblem, str], Offsets]


def _exact(train: LevelsProblem, exit: str) -> Offsets:
    found = solve(train, exit=exit)
    return found.u, found.v, found.profit


def _smoothed(train: LevelsProblem, exit: str) -> Offsets:
    return solve_smoothed(train, smoothing_width(train, SMOOTHING), exit, BOUNDS)[:3]


BASE = "exact, 60 bars"
RULES: dict[str, tuple[int, Rule]] = {
    "zero offsets": (60, lambda train, exit: (0.0, 0.0, np.inf)),
    BASE: (60, _exact),
    "exact, 500 bars": (500, _exact),
    "smoothed, 60 bars": (60, _smoothed),
    "smoothed, 500 bars": (500, _smoothed),
}


def walk(objective: str, exit: str) -> dict[str, tuple[float, Floats]]:
    """Return in-sample bps per bar and the out-of-sample net moves (symbols * FOLDS, TEST) of each rule."""
    inside: dict[str, list[float]] = {name: [] for name in RULES}
    outside: dict[str, list[Floats]] = {name: [] for name in RULES}
    for symbol in SYMBOLS:
        bars = sample(symbol)
        high, low = forecasts(bars)

        def rows(start: int, stop: int, bars=bars, high=high, low=low) -> LevelsProblem:
            return problem(
                bars, high, low, start, stop, objective=objective, side="maxdiff", sides="both",
                fee_bps=5.0, slippage_bps=2.0, fee_mode="per_side", fill="through:1", tick=0.01,
            )  # fmt: skip

        for back in range(FOLDS):
            at = len(bars) - (back + 1) * TEST
            test, trains = rows(at, at + TEST), {n: rows(at - n, at) for n in (60, 500)}
            for name, (n, rule) in RULES.items():
                u, v, aim = rule(trains[n], exit)
                earned = 1e4 * value(trains[n], u, v, exit) / n
                trades = name == "zero offsets" or min(earned, aim) > 0  # abstain, as by default
                net = bar_net(test, u, v, exit).net
                inside[name].append(earned if trades else 0.0)
                outside[name].append(1e4 * net if trades else np.zeros(TEST))
    return {name: (float(np.mean(inside[name])), np.array(outside[name])) for name in RULES}


def interval(differences: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean of (blocks, TEST), whole blocks drawn with replacement."""
    generator = np.random.default_rng(0)
    means = differences.mean(axis=1)
    drawn = means[generator.integers(0, len(means), (DRAWS, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def buy_and_hold() -> float:
    """Return the mean move of the test bars, bps per bar."""
    moves = []
    for symbol in SYMBOLS:
        close = sample(symbol).close[-FOLDS * TEST - 1 :]
        moves.append(float((close[1:] / close[:-1] - 1).mean()))
    return 1e4 * float(np.mean(moves))


def rows_of(row: Callable[..., dict]) -> list[dict]:
    """Return the benchmark's rows; each is held against the raw exact optimum of 60 bars out of sample."""
    found = []
    held = buy_and_hold()
    for objective in OBJECTIVES:
        for exit in ("close", "target"):
            walked = walk(objective, exit)
            base = walked[BASE][1]
            goal = float(np.floor(1e4 * base.mean()) / 1e4)
            setting = f"{objective}, {exit}" + (" (optimistic)" if exit == "target" else "")
            for name, (inside, outside) in walked.items():
                low, high = interval(outside - base)
                difference = float((outside - base).mean())
                detail = f"in-sample {inside:.1f}"
                if name != BASE:
                    detail += f", difference {difference:+.1f} [{low:.1f}, {high:.1f}]"
                found.append(
                    row(f"out of sample, {setting}: {name}", float(outside.mean()), "bps/bar", goal,
                        "higher", detail)
                    | {"table": "walk-forward", "setting": setting, "rule": name,
                       "in_sample": round(inside, 4), "difference": round(difference, 4),
                       "low": round(low, 4), "high": round(high, 4)}
                )  # fmt: skip
            for name, earned in (("no trade", 0.0), ("buy-and-hold", held)):
                found.append(
                    row(f"out of sample, {setting}: {name}", earned, "bps/bar", goal, "higher")
                    | {"table": "walk-forward", "setting": setting, "rule": name}
                )
    return found
