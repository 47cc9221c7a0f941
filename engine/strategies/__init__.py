"""Strategies: declared parameters and rules as data, or a compiled function; nothing here trades.

Start with `trend` (a whole strategy), then `rules` (the language it is written in), then `user`
(files of one's own). What a strategy is written with can be imported from here; names are loaded
when first used, so that importing the package loads no compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.strategies.expert import bar_function
    from engine.strategies.params import Choice, Float, Int
    from engine.strategies.registry import Strategy, strategy
    from engine.strategies.rules import (
        Fraction,
        Notional,
        Risk,
        Rules,
        Units,
        adx,
        atr,
        bollinger,
        column,
        cross_above,
        cross_below,
        ema,
        highest,
        log_return,
        lowest,
        minus_di,
        plus_di,
        price,
        roc,
        rsi,
        sma,
        tr,
        volatility,
        volume_sma,
    )

__all__ = [
    "Choice", "Float", "Fraction", "Int", "Notional", "Risk", "Rules", "Strategy", "Units", "adx", "atr",
    "bar_function", "bollinger", "column", "cross_above", "cross_below", "ema", "highest", "log_return",
    "lowest", "minus_di", "plus_di", "price", "roc", "rsi", "sma", "strategy", "tr", "volatility",
    "volume_sma",
]  # fmt: skip

_HOMES = {"Choice": "params", "Float": "params", "Int": "params", "Strategy": "registry",
          "strategy": "registry", "bar_function": "expert"}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'rules')}"), name)
