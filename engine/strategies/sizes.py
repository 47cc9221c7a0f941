"""How large a position is: `Fraction`, `Risk`, `Units` or `Notional`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.strategies.symbolic import Symbol


def _positive(name: str, value: float | Symbol) -> None:
    if type(value) is Symbol:
        return  # its values are checked when the configs are compiled
    if not (math.isfinite(value) and value > 0.0):
        raise ConfigError(f"{name} was {value}, expected a number above 0")


@dataclass(frozen=True)
class Fraction:
    """Put this fraction of the equity into a position; above 1 the cash rule decides."""

    fraction: float

    def __post_init__(self) -> None:
        """Refuse a fraction that is not positive."""
        _positive("size Fraction", self.fraction)


@dataclass(frozen=True)
class Risk:
    """Lose this share of the equity when the price moves by a distance.

    Parameters
    ----------
    share : float
        Share of the equity, e.g. .01.
    atr : float or None
        The distance in ATR(14) of the signal bar, whatever the stop; None: the stop's own distance.
    """

    share: float
    atr: float | None = None

    def __post_init__(self) -> None:
        """Refuse a share or a multiple that is not positive."""
        _positive("size Risk", self.share)
        if self.atr is not None:
            _positive("size Risk, atr", self.atr)


@dataclass(frozen=True)
class Units:
    """Trade this many units."""

    units: float

    def __post_init__(self) -> None:
        """Refuse a number of units that is not positive."""
        _positive("size Units", self.units)


@dataclass(frozen=True)
class Notional:
    """Trade this much money's worth."""

    amount: float

    def __post_init__(self) -> None:
        """Refuse an amount that is not positive."""
        _positive("size Notional", self.amount)


Size = Fraction | Risk | Units | Notional
