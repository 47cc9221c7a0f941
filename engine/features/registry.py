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
SEED_WEIGHT = 1e-6  # a seed that weighs less is forgotten


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
class Step:
    """How a recursive feature goes from bar to bar: one kernel for a whole series, a part of it and one bar.

    Parameters
    ----------
    kernel : callable
        Compiled; takes the input columns of the next bars, the parameters, ``state`` and ``out``
        (float64, one value per bar), fills ``out`` and leaves ``state`` for the bar after.
        A state of zeros stands before the first bar of a series.
    size : int
        Length of the state, float64.
    """

    kernel: Callable[..., None]
    size: int

    def run(self, inputs: tuple[Floats, ...], n: int, out: Floats | None) -> Floats:
        """Return the values of a whole series, float64 shape (T,), in ``out`` where one is given."""
        out = np.empty(len(inputs[0])) if out is None else out
        self.kernel(*inputs, n, np.zeros(self.size), out)
        return out


@dataclass(frozen=True)
class Feature:
    """A registered feature.

    Parameters
    ----------
    name : str
        First part of its columns' names.
    code_version : int
        Raised whenever an output changes; recorded with a digest of the output.
    inputs : tuple of str
        Bar columns it reads; `COLUMN` stands for the one in the column's name.
    parameters : tuple of Parameter
        In the order of the column's name.
    outputs : tuple of str
        Names of several outputs, or empty for one.
    first_valid : callable
        Parameters -> index of the first value that is not NaN.
    window : callable or None
        Parameters -> number of bars, the value's own included, that alone make a value.
    step : Step or None
        How a value follows from those before it, where no window does; exactly one of the two.
    lookback : callable
        Parameters -> bars after the first value until its seed weighs less than `SEED_WEIGHT`;
        0 for a window. For a warning only: values are never cut.
    rows : callable or None
        Compiled; takes the inputs, int64 array of R values of the one parameter, ``tick`` where
        ``uses_tick``, and ``out`` float64 (R, T): many columns in one call, the bits of one by one.
    default_column : str or None
        Price column meant when the name gives none; None: the name must give one.
    uses_tick : bool
        The function takes ``tick`` (price step, 0 = unknown).
    takes_out : bool
        The function takes ``out``, an array for its values.
    function : callable
        The function as it was written: arguments are not checked, the series is long enough.
    compute : callable
        The function with its arguments checked.
    """

    name: str
    code_version: int
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    first_valid: Callable[[Mapping[str, Any]], int]
    window: Callable[[Mapping[str, Any]], int] | None
    step: Step | None
    lookback: Callable[[Mapping[str, Any]], int]
    rows: Callable[..., None] | None
    default_column: str | None
    uses_tick: bool
    takes_out: bool
    function: Callable[..., Any]
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
    window: Callable[[Mapping[str, Any]], int] | None = None,
    step: Step | None = None,
    lookback: Callable[[Mapping[str, Any]], int] = lambda p: 0,
    rows: Callable[..., None] | None = None,
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
        The name is not lower-case letters, digits and ``_``, or is taken; or neither or both of
        ``window`` and ``step`` are given.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"feature name was {name!r}, expected lower-case letters, digits and _")
    if (window is None) == (step is None):
        raise ConfigError(
            f"feature {name} declares {'neither' if step is None else 'both'} window and step, expected one: "
            "window=lambda p: bars that make a value, or step=Step(...) where it depends on all bars before"
        )

    def register(function: Callable[Call, Result]) -> Callable[Call, Result]:
        taken = _REGISTERED.get(name)
        if taken is not None and _origin(taken.compute) != _origin(function):
            raise ConfigError(f"feature {name} is already registered by {_origin(taken.compute)}")
        signature = inspect.signature(function)
        array_names = list(signature.parameters)[: len(inputs)]
        width = (len(outputs),) if outputs else ()

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
            out = given.get("out")
            if out is not None:
                _check_out(name, out, (*width, len(arrays[0])))
            given.update(zip(array_names, arrays, strict=True))
            if lengths.pop() <= first_valid(given):
                short = np.empty((*width, len(arrays[0]))) if out is None else out
                short[...] = np.nan
                return cast(Result, tuple(short) if outputs else short)
            return cast(Result, cast(Any, function)(**given))

        _REGISTERED[name] = Feature(
            name=name,
            code_version=code_version,
            inputs=inputs,
            parameters=parameters,
            outputs=outputs,
            first_valid=first_valid,
            window=window,
            step=step,
            lookback=lookback,
            rows=rows,
            default_column=default_column,
            uses_tick=uses_tick,
            takes_out="out" in signature.parameters,
            function=function,
            compute=checked,
        )
        return checked

    return register


def wilder_lookback(n: float, stages: int = 1) -> int:
    """Return the bars until Wilder's smoothing of length n has forgotten its seed.

    The seed's weight after k bars is r**k with r = 1 - 1/n, and r**k * (1 + k/n) where the
    smoothed series is itself smoothed (two stages).

    >>> wilder_lookback(14), wilder_lookback(14, stages=2), wilder_lookback(1)
    (187, 225, 1)
    """
    if n == 1:
        return 1
    bars = 0.0
    for _ in range(50):  # a contraction: each round gains a digit or more
        late = math.log1p(bars / n) if stages == 2 else 0.0
        bars = (math.log(SEED_WEIGHT) - late) / math.log1p(-1.0 / n)
    return math.ceil(bars)


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


def _check_out(feature_name: str, out: object, shape: tuple[int, ...]) -> None:
    """Refuse anything but a writable contiguous float64 array of that shape."""
    if not (
        isinstance(out, np.ndarray)
        and out.dtype == np.float64
        and out.shape == shape
        and out.flags.c_contiguous
        and out.flags.writeable
    ):
        raise ConfigError(
            f"feature {feature_name}: out was {type(out).__name__} "
            f"{getattr(out, 'dtype', '')} {getattr(out, 'shape', '')}, "
            f"expected a writable contiguous float64 array of shape {shape}"
        )
