"""Declared parameters of a strategy (`Int`, `Float`, `Choice`) and the values of one run (`Params`)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError, closest

Value = int | float | str | bool


@dataclass(frozen=True)
class Int:
    """A whole number.

    Parameters
    ----------
    low, high : int
        Bounds, both allowed.
    default : int
        Value where a run gives none.
    step : int
        Spacing of a search.
    log : bool
        Search on a logarithmic scale; needs low > 0.
    """

    low: int
    high: int
    default: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself."""
        for field in (self.low, self.high, self.default, self.step):
            if not _is_int(field):
                raise ConfigError(f"{self}: {field!r} is not a whole number")
        _check_declaration(self)

    def check(self, label: str, value: object) -> int:
        """Return the value; ConfigError where it is not a whole number within the bounds."""
        if not _is_int(value) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise ConfigError(f"{label} was {value!r}, expected an integer from {self.low} to {self.high}")
        return int(value)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Float:
    """A real number.

    Parameters
    ----------
    low, high : float
        Bounds, both allowed.
    default : float
        Value where a run gives none.
    step : float or None
        Spacing of a search; None: continuous.
    log : bool
        Search on a logarithmic scale; needs low > 0.
    """

    low: float
    high: float
    default: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself."""
        for field in (self.low, self.high, self.default, 1 if self.step is None else self.step):
            if not _is_number(field):
                raise ConfigError(f"{self}: {field!r} is not a finite number")
        _check_declaration(self)

    def check(self, label: str, value: object) -> float:
        """Return the value; ConfigError where it is not a finite number within the bounds."""
        if not _is_number(value) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise ConfigError(f"{label} was {value!r}, expected a number from {self.low:g} to {self.high:g}")
        return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Choice:
    """One of a few values.

    Parameters
    ----------
    choices : tuple
        The allowed values: strings, numbers or booleans, without repeats.
    default : one of the choices
        Value where a run gives none.
    """

    choices: tuple[Value, ...]
    default: Value

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself."""
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.choices or len(set(map(repr, self.choices))) != len(self.choices):
            raise ConfigError(f"{self}: expected at least one choice and no repeats")
        self.check("default", self.default)

    def check(self, label: str, value: object) -> Value:
        """Return the value; ConfigError where it is none of the choices (1, 1.0 and True differ)."""
        for choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        raise ConfigError(f"{label} was {value!r}. {closest(value, map(str, self.choices))}")


Declaration = Int | Float | Choice


class Params(Mapping[str, Any]):
    """Read-only values of one run: ``p.fast`` and ``p["fast"]`` are the same.

    Parameters
    ----------
    values : mapping of str to value
        Copied.

    >>> p = Params({"fast": 20})
    >>> p.fast, p["fast"], dict(p)
    (20, 20, {'fast': 20})
    """

    __slots__ = ("_values",)
    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getitem__(self, name: str) -> Any:
        """Return a value by name; KeyError where there is none, as mappings do."""
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        """Return a value by name; ConfigError with the closest names where there is none."""
        if name.startswith("_"):  # copy and the like ask for special names
            raise AttributeError(name)
        if name not in self._values:
            raise ConfigError(f"parameter {name!r} is not declared. {closest(name, self._values)}")
        return self._values[name]

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: the values of a run do not change."""
        raise ConfigError(f"parameter {name!r} cannot be set: the values of a run are read-only")

    def __reduce__(self) -> tuple[type[Params], tuple[dict[str, Any]]]:
        """Rebuild from the values; a worker process receives it so."""
        return Params, (self._values,)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values!r})"


def _is_int(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_declaration(declared: Int | Float) -> None:
    if not declared.low <= declared.default <= declared.high:
        raise ConfigError(f"{declared}: expected low <= default <= high")
    if declared.step is not None and declared.step <= 0:
        raise ConfigError(f"{declared}: step was {declared.step}, expected more than 0")
    if declared.log and declared.low <= 0:
        raise ConfigError(f"{declared}: a logarithmic scale needs low above 0")
