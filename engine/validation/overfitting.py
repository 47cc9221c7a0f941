"""What a search's own trials say about its result: their returns side by side, and their neighbours.

The returns of trials are not stored; they are run again from the ledger's parameters, in one go over
all training bars, a bounded number of them. T bars, D days, N trials.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.bars.model import Floats, Ints
from engine.config_sections import Leaf
from engine.features.table import FeatureSet
from engine.search.space import Space, Value
from engine.simulation import Execution, run, sweep_spans
from engine.strategies.registry import StrategyClass, valid

MOST_TRIALS = 128  # of which returns are recomputed; more are thinned evenly
NEAR_POINTS, NEAR_SHARE, NO_STEP_SHARE = 32, 0.10, 0.05
_DAY_US = 86_400_000_000
Config = dict[str, Value]


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of one strategy of one symbol, of all folds and nights in the ledger.

    Parameters
    ----------
    count : int
        Distinct effective configurations that ran, pruned ones included, duplicates not.
    sharpes : float64 array, shape (M,)
        Sharpe ratio per bar of every run of at least 30 bars, complete or pruned.
    complete : list of dict
        Distinct configurations that ran to the end in an outer fold, oldest fold first.
    """

    count: int
    sharpes: Floats
    complete: list[Config]


def thinned(configs: Sequence[Config], most: int = MOST_TRIALS) -> list[Config]:
    """Return at most so many configurations, evenly picked, the first and the last among them."""
    if len(configs) <= most:
        return list(configs)
    picked = np.linspace(0, len(configs) - 1, most).round().astype(int)
    return [configs[i] for i in picked]


def trial_returns(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Sequence[Config],
    execution: Execution,
    start: int,
    stop: int,
) -> Floats:
    """Return the daily returns of configurations run over the bars [start, stop).

    Parameters
    ----------
    features, strategy, execution
        As in `engine.simulation.run`.
    configs : sequence of dict, length N
        Parameters.
    start, stop : int
        Bar indices, half-open.

    Returns
    -------
    float64 array, shape (D, N)
        Sums of plain bar returns of each UTC day; a ruined account earns nothing from there on.
    """
    columns = []
    for config in configs:
        done = run(features, strategy, config, execution, start=start, stop=stop)
        before = np.concatenate([[execution.initial_cash], done.equity[:-1]])
        alive = before > 0
        columns.append(np.where(alive, done.equity / np.where(alive, before, 1.0) - 1.0, 0.0))
    bars = np.column_stack(columns) if columns else np.zeros((stop - start, 0))
    return by_day(bars, features.bars.ts[start:stop])


def by_day(returns: Floats, ts: Ints) -> Floats:
    """Return sums over each UTC day, shape (D, N), of returns per bar, shape (T, N)."""
    if not len(returns):
        return returns
    first = np.flatnonzero(np.diff(ts // _DAY_US, prepend=-1))
    return np.asarray(np.add.reduceat(returns, first, axis=0))


def mean_values(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Sequence[Config],
    execution: Execution,
    spans: Sequence[tuple[int, int]],
) -> Floats:
    """Return the search's value of configurations: mean log growth over spans, bps per bar, shape (P,).

    NaN: ruin.
    """
    results = sweep_spans(features, strategy, configs, execution, spans)
    return np.asarray(np.mean([result.log_growth for result in results], axis=0))


def neighbours(space: Space, strategy: StrategyClass, chosen: Mapping[str, Value], seed: int) -> list[Config]:
    """Return the configurations around a chosen one, each once, none of them itself.

    One step down and up on every numeric axis (without a step: 5 % of its range), every other
    choice of a categorical one, and 32 seeded points within 10 % of the range on all numeric axes.
    """
    centre = {name: chosen[name] for name in space.searched}
    near: list[dict[str, Value]] = []
    for name, leaf in space.searched.items():
        if leaf.choices is not None:
            near += [{**centre, name: choice} for choice in leaf.choices if choice != centre[name]]
            continue
        share = NO_STEP_SHARE if leaf.type == "float" and leaf.step is None else 0.0
        for sign in (-1.0, 1.0):
            near.append({**centre, name: _moved(leaf, centre[name], sign * share, sign)})
    numeric = [name for name, leaf in space.searched.items() if leaf.choices is None]
    if numeric:
        key = hashlib.sha256(repr((seed, sorted(centre.items()))).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
        for shares in rng.uniform(-NEAR_SHARE, NEAR_SHARE, (NEAR_POINTS, len(numeric))):
            moved = {name: _moved(space.searched[name], centre[name], float(share), 0.0)
                     for name, share in zip(numeric, shares, strict=True)}  # fmt: skip
            near.append({**centre, **moved})
    found: dict[str, Config] = {}
    for params in near:
        config = space.config(params)
        if params != centre and valid(strategy, config):
            found.setdefault(repr(sorted(params.items())), config)
    return list(found.values())


def _moved(leaf: Leaf, value: Value, share: float, steps: float) -> Value:
    """Return a value moved by a share of its range and by whole steps, on the grid, inside the bounds."""
    low, high, at = float(leaf.low or 0.0), float(leaf.high or 0.0), float(value)
    step = float(leaf.step or 1) if leaf.type == "int" else float(leaf.step or 0.0)
    if leaf.log:
        span = math.log(high / low)
        moved = math.exp(math.log(at) + share * span) + steps * step
    else:
        moved = at + share * (high - low) + steps * step
    if step:
        moved = low + round((moved - low) / step) * step
    moved = min(max(moved, low), high)
    return int(round(moved)) if leaf.type == "int" else moved
