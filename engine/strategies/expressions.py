"""The words of the rules: columns, conditions on them, and conditions joined by ``&`` and ``|``.

Everything here is frozen data; `rules.evaluate` turns it into arrays. While a strategy is traced
for many configs, a `Symbol` may stand in a column's name, scale, offset or lag, or on the right of
a condition (`engine.strategies.symbolic`).
"""

from __future__ import annotations

import functools
import math
import numbers
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from engine.errors import ConfigError, closest
from engine.features.table import BAR_COLUMNS, parse
from engine.strategies.symbolic import Symbol, SymbolicName, named

OPERATORS = (">", ">=", "<", "<=", "cross_above", "cross_below")


@dataclass(frozen=True)
class Column:
    """A column times a number plus a number, possibly some bars back.

    Parameters
    ----------
    name : str
        A feature's column, or open, high, low, close, volume.
    scale, offset : float
        Value = column * scale + offset.
    bars_back : int, >= 0
        0: the current bar's value. Later bars cannot be asked for.
    """

    name: str
    scale: float = 1.0
    offset: float = 0.0
    bars_back: int = 0

    def __hash__(self) -> int:
        """Hash what is never a symbol."""
        return hash(self.name)

    def __mul__(self, number: object) -> Column:
        factor = _number(number, f"multiply {self.name}")
        offset = self.offset if _is_zero(self.offset) else self.offset * factor
        return replace(self, scale=self.scale * factor, offset=offset)

    __rmul__ = __mul__

    def __add__(self, number: object) -> Column:
        return replace(self, offset=self.offset + _number(number, f"add to {self.name}"))

    __radd__ = __add__

    def __sub__(self, number: object) -> Column:
        return replace(self, offset=self.offset - _number(number, f"subtract from {self.name}"))

    def lag(self, bars: Any) -> Column:
        """Return the value some bars earlier.

        Raises
        ------
        ConfigError
            Not a whole number >= 0: a negative lag would read the future.
        """
        if type(bars) is Symbol:
            return replace(self, bars_back=bars.as_lag() + self.bars_back)
        if isinstance(bars, bool) or not isinstance(bars, numbers.Integral) or bars < 0:
            raise ConfigError(f"{self.name}: lag was {bars!r}, expected a whole number of bars >= 0")
        return replace(self, bars_back=self.bars_back + int(bars))

    def __gt__(self, other: object) -> Condition:
        return Condition(self, ">", _operand(other))

    def __ge__(self, other: object) -> Condition:
        return Condition(self, ">=", _operand(other))

    def __lt__(self, other: object) -> Condition:
        return Condition(self, "<", _operand(other))

    def __le__(self, other: object) -> Condition:
        return Condition(self, "<=", _operand(other))

    def __bool__(self) -> NoReturn:
        """Refuse: ``a < b < c`` and ``and`` ask for one truth value."""
        raise ConfigError(f"{self.name} has a value per bar; join comparisons with & and |")


@dataclass(frozen=True)
class Condition:
    """One comparison, true or false at each bar.

    Parameters
    ----------
    left : Column
        Left side.
    operator : str
        One of `OPERATORS`.
    right : Column or float
        Right side.
    """

    left: Column
    operator: str
    right: Column | float

    def __post_init__(self) -> None:
        """Refuse an operator that is none of `OPERATORS`."""
        if self.operator not in OPERATORS:
            raise ConfigError(f"operator {self.operator!r} is not known. {closest(self.operator, OPERATORS)}")

    def __and__(self, other: Condition | AnyOf) -> AnyOf:
        return any_of(self) & other

    def __or__(self, other: Condition | AnyOf) -> AnyOf:
        return any_of(self) | other

    def __bool__(self) -> NoReturn:
        """Refuse: ``and``, ``or`` and ``not`` ask for one truth value."""
        raise ConfigError(
            "a condition has a value per bar; join conditions with & and | (and, or, not cannot)"
        )


@dataclass(frozen=True)
class AnyOf:
    """Clauses of which at least one must hold; a clause holds when all its conditions do.

    Parameters
    ----------
    clauses : tuple of tuples of Condition
        The OR of ANDs.
    """

    clauses: tuple[tuple[Condition, ...], ...]

    def __and__(self, other: Condition | AnyOf) -> AnyOf:
        pairs = [(a, b) for a in self.clauses for b in any_of(other).clauses]
        return AnyOf(tuple(a + b for a, b in pairs))

    def __or__(self, other: Condition | AnyOf) -> AnyOf:
        return AnyOf(self.clauses + any_of(other).clauses)

    def __bool__(self) -> NoReturn:
        """Refuse: ``and``, ``or`` and ``not`` ask for one truth value."""
        raise ConfigError(
            "a condition has a value per bar; join conditions with & and | (and, or, not cannot)"
        )


def any_of(condition: object) -> AnyOf:
    """Return a condition as `AnyOf`; ConfigError for anything that is no condition."""
    if isinstance(condition, AnyOf):
        return condition
    if isinstance(condition, Condition):
        return AnyOf(((condition,),))
    raise ConfigError(
        f"found {condition!r}, expected a condition such as sma('close', 10) > sma('close', 30)"
    )


def cross_above(left: Column, right: Column | float) -> Condition:
    """Left is above right at this bar and was not at the bar before.

    Above, equal, above again is a new cross.
    """
    return Condition(_column(left), "cross_above", _operand(right))


def cross_below(left: Column, right: Column | float) -> Condition:
    """Left is below right at this bar and was not at the bar before."""
    return Condition(_column(left), "cross_below", _operand(right))


@functools.lru_cache(maxsize=4096)  # a search names the same few columns thousands of times
def column(name: str) -> Column:
    """Return any column by its name, e.g. ``column("bollinger.close.n=20.k=2:upper")``.

    Raises
    ------
    ConfigError
        No such feature, or a group of several outputs.
    """
    if name in BAR_COLUMNS:
        return Column(name)
    parsed = parse(name)
    if parsed.is_group:
        raise ConfigError(f"column {name!r} stands for several, expected one of its outputs: "
                          f"{', '.join(parsed.feature.outputs)}")  # fmt: skip
    return Column(str(parsed))


def price(name: str) -> Column:
    """Return a column of the bars: open, high, low, close or volume."""
    if name not in BAR_COLUMNS:
        raise ConfigError(f"bar column {name!r} is not known. {closest(name, BAR_COLUMNS)}")
    return Column(name)


def sma(name: str, n: int) -> Column:
    """Simple moving average of a price column."""
    return _feature("sma.", name, ".n=", n)


def ema(name: str, n: int) -> Column:
    """Exponential moving average of a price column."""
    return _feature("ema.", name, ".n=", n)


def bollinger(name: str, n: int, k: float, output: str) -> Column:
    """One of mid, upper, lower, pct_b of the Bollinger bands of a price column."""
    return _feature("bollinger.", name, ".n=", n, ".k=", k, ":", output)


def highest(n: int, name: str = "close") -> Column:
    """Highest of the last n values of a price column, this bar's included."""
    return _feature("highest.", name, ".n=", n)


def lowest(n: int, name: str = "close") -> Column:
    """Lowest of the last n values of a price column, this bar's included."""
    return _feature("lowest.", name, ".n=", n)


def volume_sma(n: int) -> Column:
    """Simple moving average of the volume."""
    return _feature("volume_sma.n=", n)


def roc(n: int) -> Column:
    """Return over n bars."""
    return _feature("roc.n=", n)


def log_return(n: int) -> Column:
    """Log return over n bars."""
    return _feature("log_return.n=", n)


def volatility(n: int) -> Column:
    """Standard deviation of the last n log returns."""
    return _feature("volatility.n=", n)


def tr() -> Column:
    """True range."""
    return column("tr")


def atr(n: int) -> Column:
    """Average true range."""
    return _feature("atr.n=", n)


def rsi(n: int) -> Column:
    """Relative strength index."""
    return _feature("rsi.n=", n)


def plus_di(n: int) -> Column:
    """Plus directional indicator."""
    return _feature("plus_di.n=", n)


def minus_di(n: int) -> Column:
    """Minus directional indicator."""
    return _feature("minus_di.n=", n)


def adx(n: int) -> Column:
    """Average directional index."""
    return _feature("adx.n=", n)


def _feature(*parts: object) -> Column:
    name = named(*parts)
    return Column(name) if type(name) is SymbolicName else column(name)  # the first is read when it is spelt


def _is_zero(number: Any) -> bool:
    return type(number) is not Symbol and number == 0.0


def _number(value: Any, purpose: str) -> float:
    if type(value) is Symbol:
        return value.as_float()  # type: ignore[no-any-return]
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        found = value.name if isinstance(value, Column) else repr(value)
        raise ConfigError(f"cannot {purpose}: found {found}, expected a finite number (not another column)")
    return float(value)


def _column(value: object) -> Column:
    if not isinstance(value, Column):
        raise ConfigError(f"found {value!r}, expected a column such as sma('close', 10)")
    return value


def _operand(value: object) -> Column | float:
    return value if type(value) is Column else _number(value, "compare with it")
