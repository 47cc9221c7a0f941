"""The bar loop: orders, fills, costs, equity and metrics of one strategy on one symbol.

One net position per run; no pyramiding, no order book, no cash shared between symbols.
Names are loaded when first used, so that importing the package loads no compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.simulation.backtest import BacktestResult, NextOrder, run, simulate, workspace_of
    from engine.simulation.inputs import Execution, adjusted_tick
    from engine.simulation.sweep_result import SweepResult
    from engine.simulation.sweeps import sweep, sweep_spans

__all__ = [
    "BacktestResult",
    "Execution",
    "NextOrder",
    "SweepResult",
    "adjusted_tick",
    "run",
    "simulate",
    "sweep",
    "sweep_spans",
    "warm",
    "workspace_of",
]

_HOMES = {
    "BacktestResult": "backtest",
    "NextOrder": "backtest",
    "run": "backtest",
    "simulate": "backtest",
    "workspace_of": "backtest",
    "Execution": "inputs",
    "adjusted_tick": "inputs",
    "SweepResult": "sweep_result",
    "sweep": "sweeps",
    "sweep_spans": "sweeps",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def warm() -> None:
    """Compile every kernel of the simulation, or load it from the disk cache."""
    import numpy as np

    from engine.bars.model import Bars
    from engine.features.table import FeatureSet
    from engine.simulation.backtest import run, simulate
    from engine.simulation.inputs import Execution
    from engine.strategies.registry import get
    from engine.strategies.rules import Signals

    one = np.ones(3)
    ts = np.arange(3, dtype=np.int64) * 86_400_000_000
    bars = Bars("WARM", "1d", "24/7", ts, one, one, one, one, one, one, 0.0 * one)
    signals = Signals(np.array([1, 0, 1], dtype=np.uint8), targets=((one, 1.0),))
    simulate(bars, signals, Execution(), start=0, stop=3)
    run(FeatureSet(bars), get("trend"), {}, Execution(), start=0, stop=3)
