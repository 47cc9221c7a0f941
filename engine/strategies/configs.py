"""Many configs of one strategy, checked all at once: `config_list` and `check_configs`. P configs."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.strategies.params import Choice, Declaration, Int
from engine.strategies.registry import StrategyClass, check

Configs = Sequence[Mapping[str, Any]] | Mapping[str, Any]  # one mapping each, or arrays by parameter


def config_list(configs: Configs) -> Sequence[Mapping[str, Any]]:
    """Return configs as mappings, one each; arrays by parameter are taken apart.

    Raises
    ------
    ConfigError
        Arrays of different lengths.
    """
    if not isinstance(configs, Mapping):
        return configs
    columns = [list(getattr(values, "tolist", lambda v=values: v)()) for values in configs.values()]
    if len({len(values) for values in columns}) > 1:
        found = ", ".join(f"{name} {len(v)}" for name, v in zip(configs, columns, strict=True))
        raise ConfigError(f"parameters had different numbers of values: {found}; expected one per config")
    return [dict(zip(configs, values, strict=True)) for values in zip(*columns, strict=True)]


def check_configs(strategy: StrategyClass, configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return each parameter's P values: defaults filled in, names, bounds and relations checked.

    Raises
    ------
    ConfigError
        As `registry.check` of the first config that it refuses.
    """
    declared = strategy.parameters
    known = all(config.keys() <= declared.keys() for config in configs)
    made = {
        name: _inside(declaration, [config.get(name, declaration.default) for config in configs])
        for name, declaration in declared.items()
    }
    inside = {name: values for name, values in made.items() if values is not None}
    if known and len(inside) == len(declared) and _related(strategy, inside):
        return inside
    one_by_one = [check(strategy, config) for config in configs]  # slower; words the error
    return {name: [params[name] for params in one_by_one] for name in declared}


def _inside(declared: Declaration, values: list[Any]) -> list[Any] | None:
    """Return the values as `declared.check` would, all at once; None: some may be outside."""
    kinds = set(map(type, values))
    if isinstance(declared, Choice):
        choices = {(type(choice), choice) for choice in declared.choices}
        whole = kinds <= {str, int, float, bool} and {(type(v), v) for v in values} <= choices
        return values if whole else None
    if bool in kinds or not all(issubclass(kind, numbers.Real) for kind in kinds):
        return None
    if isinstance(declared, Int):
        whole = all(issubclass(kind, numbers.Integral) for kind in kinds)
        values = list(map(int, values)) if whole else []
        inside = whole and all(declared.low <= v <= declared.high for v in set(values))
        return values if inside else None
    values = list(map(float, values))
    made = np.array(values)
    return values if ((made >= declared.low) & (made <= declared.high)).all() else None


def _related(strategy: StrategyClass, values: Mapping[str, Sequence[Any]]) -> bool:
    compare = {"<": operator.lt, "<=": operator.le}
    return all(all(map(compare[sign], values[a], values[b])) for a, sign, b in strategy.relations)
