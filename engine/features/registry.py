"""What a feature is, and the `feature` decorator that registers one.

A feature is a plain function: input columns and parameters in, one column (or several
outputs) out, each value known at the close of its bar. The decorator declares the rest:
bounds of the parameters, first valid index, version of the code. It also wraps the function,
so that a bad parameter is refused and a series that is too short gives NaN in one place.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from engine.bars.model import Floats
from engine.errors import ConfigError, closest

Call = ParamSpec("Call")
Result = TypeVar("Result")

COLUMN = "column"  # an input that the column's name chooses: the `close` of sma.close.n=20
LONGEST = 100_000  # upper bound of every length in bars


@dataclass(frozen=True)
class Parameter:
    """A declared parameter of a feature.

    Parameters
    ----------
    name : str
        Name in the column's name, e.g. ``n``.
    low, high : float
        Bounds, both allowed.
    whole : bool
        True: an integer, e.g. a length in bars. False: a finite number.
    """

    name: str
    low: float
    high: float = LONGEST
    whole: bool = True

    def check(self, feature: str, value: object) -> int | float:
        """Return the value as int or float.

        Raises
        ------
        ConfigError
            Not a number of the declared kind, or outside the bounds.
        """
        kind = "an integer" if self.whole else "a number"
        wanted = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool | np.bool_) or not isinstance(value, wanted):
            raise ConfigError(f"feature {feature}: {self.name} was {value!r}, expected {kind}")
        number = int(cast(Any, value)) if self.whole else float(cast(Any, value))
        if not (math.isfinite(number) and self.low <= number <= self.high):
            raise ConfigError(
                f"feature {feature}: {self.name} was {number}, "
                f"expected {kind} from {self.low:g} to {self.high:g}"
            )
        return number


@dataclass(frozen=True)
class Feature:
    """A registered feature.

    Parameters
    ----------
    name : str
        First part of its columns' names.
    code_version : int
        Part of every stored column's key; raised whenever an output changes.
    inputs : tuple of str
        Bar columns it reads; `COLUMN` stands for the one in the column's name.
    parameters : tuple of Parameter
        In the order of the column's name.
    outputs : tuple of str
        Names of several outputs, or empty for one.
    first_valid : callable
        Parameters -> index of the first value that is not NaN.
    default_column : str or None
        Price column meant when the name gives none; None: the name must give one.
    uses_tick : bool
        The function takes ``tick`` (price step, 0 = unknown).
    compute : callable
        The decorated function.
    """

    name: str
    code_version: int
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    first_valid: Callable[[Mapping[str, Any]], int]
    default_column: str | None
    uses_tick: bool
    compute: Callable[..., Any]

    @property
    def takes_column(self) -> bool:
        """Whether the column's name says which price column is read."""
        return COLUMN in self.inputs


_REGISTERED: dict[str, Feature] = {}


def feature(
    name: str,
    *,
    code_version: int,
    inputs: tuple[str, ...],
    first_valid: Callable[[Mapping[str, Any]], int],
    parameters: tuple[Parameter, ...] = (),
    outputs: tuple[str, ...] = (),
    default_column: str | None = None,
    uses_tick: bool = False,
) -> Callable[[Callable[Call, Result]], Callable[Call, Result]]:
    """Register a function as a feature; for the arguments see `Feature`.

    The function takes one array per input, in their order, then its parameters by name.
    Its wrapped form checks parameters and arrays, hands over read-only views (so that one
    compiled version serves), and answers NaN where the series is too short.

    Raises
    ------
    ConfigError
        The name is not lower-case letters, digits and ``_``, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"feature name was {name!r}, expected lower-case letters, digits and _")

    def register(function: Callable[Call, Result]) -> Callable[Call, Result]:
        taken = _REGISTERED.get(name)
        if taken is not None and _origin(taken.compute) != _origin(function):
            raise ConfigError(f"feature {name} is already registered by {_origin(taken.compute)}")
        signature = inspect.signature(function)
        array_names = list(signature.parameters)[: len(inputs)]

        @functools.wraps(function)
        def checked(*args: Call.args, **kwargs: Call.kwargs) -> Result:
            given = signature.bind(*args, **kwargs).arguments
            for parameter in parameters:
                if parameter.name in given:  # absent: the function's own default
                    given[parameter.name] = parameter.check(name, given[parameter.name])
            arrays = [_array(name, label, given[label]) for label in array_names]
            lengths = {len(array) for array in arrays}
            if len(lengths) > 1:
                raise ConfigError(f"feature {name}: arrays of {sorted(lengths)} bars, expected equal lengths")
            given.update(zip(array_names, arrays, strict=True))
            if lengths.pop() <= first_valid(given):
                short = tuple(np.full(len(arrays[0]), np.nan) for _ in outputs or ("",))
                return cast(Result, short if outputs else short[0])
            return cast(Result, cast(Any, function)(**given))

        _REGISTERED[name] = Feature(
            name, code_version, inputs, parameters, outputs, first_valid, default_column, uses_tick, checked
        )
        return checked

    return register


def get(name: str) -> Feature:
    """Return a registered feature.

    Raises
    ------
    ConfigError
        No feature has that name; the closest three are named.
    """
    if name not in _REGISTERED:
        raise ConfigError(f"feature {name!r} is not known. {closest(name, _REGISTERED)}")
    return _REGISTERED[name]


def names() -> tuple[str, ...]:
    """Return the registered names, sorted (those of the modules imported so far; `table` imports all)."""
    return tuple(sorted(_REGISTERED))


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _array(feature_name: str, label: str, value: object) -> Floats:
    """Return a read-only view of a float64 array, or refuse anything else."""
    if not (
        isinstance(value, np.ndarray)
        and value.dtype == np.float64
        and value.ndim == 1
        and value.flags.c_contiguous
    ):
        raise ConfigError(
            f"feature {feature_name}: {label} was {type(value).__name__} "
            f"{getattr(value, 'dtype', '')} {getattr(value, 'shape', '')}, "
            "expected a contiguous float64 array of shape (T,)"
        )
    view = value.view()
    view.flags.writeable = False
    return view
