"""What a study searches: the strategy's declared parameters, narrowed by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.config_sections import Leaf
from engine.errors import ConfigError, closest
from engine.strategies.params import Choice, Float, Int

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = str | int | float | bool
Declared = Mapping[str, Int | Float | Choice]


@dataclass(frozen=True)
class Space:
    """Searched and fixed parameters of one strategy entry.

    Parameters
    ----------
    searched : dict
        Name to `Leaf` (type int, float or categorical), in the order of the declaration.
    fixed : dict
        Name to value.
    """

    searched: dict[str, Leaf]
    fixed: dict[str, Value]

    def config(self, chosen: Mapping[str, Value]) -> dict[str, Value]:
        """Return the effective configuration: what was chosen, and the fixed rest."""
        return {**self.fixed, **chosen}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the searched parameters as Optuna distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, BaseDistribution] = {}
        for name, leaf in self.searched.items():
            if leaf.type == "categorical":
                made[name] = CategoricalDistribution(list(leaf.choices or ()))
            elif leaf.type == "int":
                made[name] = IntDistribution(
                    int(leaf.low or 0), int(leaf.high or 0), log=leaf.log, step=int(leaf.step or 1)
                )
            else:
                made[name] = FloatDistribution(
                    leaf.low or 0.0, leaf.high or 0.0, log=leaf.log, step=leaf.step
                )
        return made


def make_space(declared: Declared, leaves: Mapping[str, Leaf], *, search_all: bool) -> Space:
    """Narrow a strategy's declared parameters by the settings.

    A parameter that the settings do not name stays at its default, unless ``search_all``.

    Raises
    ------
    ConfigError
        A parameter is not declared (closest three), or lies outside its declaration.
    """
    for name, leaf in leaves.items():
        if name not in declared:
            raise ConfigError(
                f"parameter {name!r} is not declared by this strategy. {closest(name, declared)}"
            )
        _check_inside(name, leaf, declared[name])
    searched: dict[str, Leaf] = {}
    fixed: dict[str, Value] = {}
    for name, parameter in declared.items():
        leaf = leaves.get(name) or (
            _whole(parameter) if search_all else Leaf(type="fixed", value=parameter.default)
        )
        if leaf.type == "fixed":
            value = leaf.value
            assert value is not None  # noqa: S101  (refused by Leaf)
            fixed[name] = _typed(parameter, value)
        elif leaf.choices is not None:
            typed = tuple(_typed(parameter, choice) for choice in leaf.choices)
            searched[name] = Leaf(type="categorical", choices=typed)
        else:
            searched[name] = leaf
    return Space(searched, fixed)


def _typed(parameter: Int | Float | Choice, value: Value) -> Value:
    """Return a value of the settings in the declared type: YAML writes 20 where 20.0 is meant."""
    if isinstance(parameter, Choice):
        return value
    return float(value) if isinstance(parameter, Float) else int(value)


def _whole(parameter: Int | Float | Choice) -> Leaf:
    if isinstance(parameter, Choice):
        return Leaf(type="categorical", choices=tuple(parameter.choices))
    kind: Any = "int" if isinstance(parameter, Int) else "float"
    given: dict[str, Any] = {"low": parameter.low, "high": parameter.high}
    if parameter.log:
        given["log"] = True
    elif parameter.step is not None:
        given["step"] = parameter.step
    return Leaf(type=kind, **given)


def _check_inside(name: str, leaf: Leaf, declared: Int | Float | Choice) -> None:
    if isinstance(declared, Choice):
        asked: list[Any] = [leaf.value] if leaf.type == "fixed" else list(leaf.choices or ())
        outside = [value for value in asked if value not in declared.choices]
        if leaf.type not in ("categorical", "fixed") or outside:
            raise ConfigError(
                f"parameter {name!r} is one of {list(declared.choices)}; found {outside or leaf.type}"
            )
        return
    kind = "int" if isinstance(declared, Int) else "float"
    numbers: list[Any] = [leaf.value] if leaf.type == "fixed" else list(leaf.choices or (leaf.low, leaf.high))
    whole = kind == "float" or all(isinstance(x, int | float) and x == int(x) for x in numbers)
    if leaf.type in ("int", "float") and leaf.type != kind:
        raise ConfigError(f"parameter {name!r} is declared as {kind}; found type {leaf.type}")
    for number in numbers:
        kept_as_float = kind == "int" and whole and isinstance(number, float)  # a bound of 1, as 1.0
        found = int(number) if kept_as_float else number
        if isinstance(number, bool | str) or not whole or not declared.low <= number <= declared.high:
            raise ConfigError(
                f"parameter {name!r} is declared as {kind} from {declared.low} to {declared.high}; "
                f"found {found!r}. Narrow it to that range in nightfold.yaml"
            )
