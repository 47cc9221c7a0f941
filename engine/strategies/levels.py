"""The built-in levels strategies: they name a problem; its levels are solved anew in every fold.

The arithmetic of the two problems lives with the simulation, the solvers with the search.
"""

from __future__ import annotations

from engine.strategies.registry import Strategy, strategy


@strategy("levels_entry_exit")
class LevelsEntryExit(Strategy):
    """One side per bar: in at one forecast level, out at the other or by the bar's close."""

    kind = "levels"
    objective = "entry_exit"
    holding_bars = 0


@strategy("levels_always_on")
class LevelsAlwaysOn(Strategy):
    """Both sides on every bar: buy at the forecast low, sell at the forecast high, out by its close."""

    kind = "levels"
    objective = "always_on"
    holding_bars = 0
