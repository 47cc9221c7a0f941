"""Stand-ins for parameters, with which ``rules(p)`` is called once for thousands of configs.

A `Symbol` may go where a rule takes a number: into a column's name (``sma("close", p.fast)``), a
scale, an offset, a lag, the right side of a comparison, a size; and it may be added to, subtracted
from and multiplied with numbers and other symbols. Whatever would need its value now (a branch, a
comparison with a number, formatting, a type check) raises `Untraceable`; that strategy is then
called with each config's own numbers, which is slower and gives the same program.
Axis: P configs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

Values = Mapping[str, Sequence[Any]]  # parameter -> its P values, as `Declaration.check` returns them

_NUMBERS = (int, float)


class Untraceable(Exception):
    """A stand-in was asked for a value; caught where the strategy is traced."""


class Trace:
    """One tracing of ``rules(p)``; remembers a refusal that the strategy itself may have caught."""

    def __init__(self) -> None:
        self.refused = False

    def symbol(self, name: str) -> Symbol:
        """Return the stand-in for one parameter."""
        return Symbol(self, name, ())


def finite(value: Any) -> float:
    """Return a number as float; Untraceable where it is not finite, so that the plain way words the error."""
    number = float(value)
    if not math.isfinite(number):
        raise Untraceable
    return number


def whole(value: Any) -> int:
    """Return a lag as it is; Untraceable where it is not a whole number >= 0."""
    if type(value) is not int or value < 0:
        raise Untraceable
    return value


class Symbol:
    """The value that a parameter, or arithmetic on parameters, has in each config."""

    __slots__ = ("_arguments", "_function", "_text", "_trace")
    __array_ufunc__ = None  # numpy numbers leave the arithmetic to us

    def __init__(
        self, trace: Trace, text: str, arguments: tuple[Any, ...], function: Callable[..., Any] | None = None
    ) -> None:
        self._trace, self._text, self._arguments, self._function = trace, text, arguments, function

    def _apply(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if any(type(a) is not Symbol and type(a) not in _NUMBERS for a in arguments):
            return NotImplemented  # a Column on the other side answers
        shown = ", ".join(text_of(a) for a in arguments)
        return Symbol(self._trace, f"{function.__name__}({shown})", arguments, function)

    def __add__(self, other: Any) -> Any:
        return self._apply(operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self._apply(operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self._apply(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._apply(operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self._apply(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._apply(operator.mul, other, self)

    def __neg__(self) -> Any:
        return self._apply(operator.neg, self)

    def as_float(self) -> Any:
        """Return the symbol of ``float(value)``, finite; typed Any because it stands for a float."""
        return self._apply(finite, self)

    def as_lag(self) -> Any:
        """Return the symbol of a whole number >= 0; typed Any because it stands for an int."""
        return self._apply(whole, self)

    def _refuse(self, *_: Any) -> NoReturn:
        self._trace.refused = True
        raise Untraceable

    def _compare(self, other: Any) -> Any:
        if type(other) is Symbol or type(other) in (*_NUMBERS, bool, str, type(None)):
            self._refuse()
        return NotImplemented  # `20 < column` is asked of the column

    __lt__ = __le__ = __gt__ = __ge__ = _compare
    __eq__ = __ne__ = _refuse
    __hash__ = __bool__ = __int__ = __float__ = __index__ = __complex__ = _refuse
    __str__ = __repr__ = __format__ = __copy__ = __deepcopy__ = __reduce_ex__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __pow__ = __rpow__ = __abs__ = __round__ = __trunc__ = __floor__ = __ceil__ = __getattr__ = _refuse
    __class__ = property(_refuse)  # isinstance(p.n, int) would branch


class SymbolicName(str):
    """A column's name with stand-ins in it; as a string it only tells such names apart."""

    parts: tuple[str | Symbol, ...]

    def __new__(cls, parts: tuple[str | Symbol, ...]) -> SymbolicName:
        """Join the parts; a symbol shows its text in braces."""
        made = super().__new__(cls, "".join(p if type(p) is str else f"{{{text_of(p)}}}" for p in parts))
        made.parts = parts
        return made


def named(*parts: Any) -> str:
    """Return the parts as one column's name, with stand-ins kept where there are any."""
    if any(type(part) is Symbol for part in parts):
        return SymbolicName(tuple(part if type(part) is Symbol else str(part) for part in parts))
    return "".join(map(str, parts))


def text_of(value: Any) -> str:
    """Return a text that tells symbols and numbers apart: equal for equal values in every config."""
    return value._text if type(value) is Symbol else repr(value)


def evaluate(value: Any, values: Values, count: int) -> list[Any]:
    """Return a number's or symbol's value in each of ``count`` configs, by Python's own arithmetic.

    Raises
    ------
    Untraceable
        A value that the rules would refuse: infinite, or no lag.
    """
    if type(value) is not Symbol:
        return [value] * count
    if value._function is None:
        return list(values[value._text])
    arguments = [evaluate(argument, values, count) for argument in value._arguments]
    return list(map(value._function, *arguments))


def spellings(name: SymbolicName, values: Values, count: int) -> list[str]:
    """Return a column's name in each config."""
    parts = [[part] * count if type(part) is str else evaluate(part, values, count) for part in name.parts]
    seen: dict[tuple[Any, ...], str] = {}
    for key in dict.fromkeys(zip(*parts, strict=True)):  # few names for many configs
        seen[key] = "".join(map(str, key))
    return [seen[key] for key in zip(*parts, strict=True)]
