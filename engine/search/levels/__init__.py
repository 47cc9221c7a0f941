"""Forecast levels: solvers of the two-offset problem, and the familiar functions on top of them.

`optimize_levels` solves many problems in one call; `backtest_forecasts` repeats it over walk-forward
windows of stored forecasts. Names are imported when first used, so that this package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "LevelsResult": "api",
    "Multipliers": "multipliers",
    "backtest_forecasts": "simulations",
    "cut_windows": "windows",
    "levels_grid": "engine.simulation.levels_batch",
    "levels_value": "engine.simulation.levels_batch",
    "optimize_always_on_multipliers": "multipliers",
    "optimize_entry_exit_multipliers": "multipliers",
    "optimize_levels": "api",
}


def __getattr__(name: str) -> Any:
    """Return a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    return getattr(import_module(home if "." in home else f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(_HOME)
