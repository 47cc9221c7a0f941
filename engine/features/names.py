"""Names of columns: `parse` takes one apart, `expand` checks a list.

A name is ``feature[.price column].parameter=value...[:output]``, for example
``sma.close.n=20``, ``rsi.n=14`` or ``bollinger.close.n=20.k=2:upper``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from engine.bars.model import PRICE_COLUMNS
from engine.errors import ConfigError, closest
from engine.features import (  # noqa: F401  (importing a module registers its features)
    bands,
    directional,
    extremes,
    moving,
    returns,
    wilder,
)
from engine.features.registry import Feature, get

BAR_COLUMNS = (*PRICE_COLUMNS, "volume")  # names that `FeatureSet` answers with the bars' own columns

_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_NAME = re.compile(
    rf"(?P<feature>\w+)(?:\.(?P<column>[A-Za-z]\w*)(?!\w*=))?"
    rf"(?P<parameters>(?:\.\w+={_NUMBER})*)(?::(?P<output>\w+))?"
)


@dataclass(frozen=True)
class ColumnName:
    """The parts of a column's name; ``str()`` of it is the one spelling used as a key.

    Parameters
    ----------
    feature : Feature
        The registered feature.
    column : str or None
        Price column it reads, where the name chooses one.
    parameters : tuple of (str, int or float)
        In the declared order.
    output : str or None
        One of the feature's outputs; None: it has one only, or all of them are meant.
    """

    feature: Feature
    column: str | None
    parameters: tuple[tuple[str, int | float], ...]
    output: str | None

    def __str__(self) -> str:
        """Return the name, parameters in declared order, whole numbers without a point."""
        return self._spelling

    @cached_property
    def _spelling(self) -> str:
        parts = [self.feature.name]
        if self.column is not None and self.column != self.feature.default_column:
            parts.append(self.column)
        parts += [f"{name}={_number(value)}" for name, value in self.parameters]
        return ".".join(parts) + (f":{self.output}" if self.output else "")

    @property
    def is_group(self) -> bool:
        """Whether the name means all of several outputs."""
        return bool(self.feature.outputs) and self.output is None

    def members(self) -> list[ColumnName]:
        """Return the single columns it stands for."""
        if not self.is_group:
            return [self]
        return [
            ColumnName(self.feature, self.column, self.parameters, output) for output in self.feature.outputs
        ]

    @property
    def first_valid(self) -> int:
        """Index of the first value that is not NaN."""
        return self.feature.first_valid(dict(self.parameters))

    @property
    def lookback(self) -> int:
        """Bars after the first value until its seed is forgotten (see `Feature`); 0 for a window."""
        return self.feature.lookback(dict(self.parameters))


def parse(name: str) -> ColumnName:
    """Take a column's name apart.

    Raises
    ------
    ConfigError
        Not the form of a name; or an unknown feature, price column, parameter or output (with the
        closest); or a parameter that is missing, given twice or outside its bounds.

    >>> str(parse("bollinger.close.k=2.0.n=20:upper"))
    'bollinger.close.n=20.k=2:upper'
    """
    column = _read(name)
    if get(column.feature.name) is not column.feature:  # registered anew since it was read
        _read.cache_clear()
        column = _read(name)
    return column


@lru_cache(maxsize=10_000)
def _read(name: str) -> ColumnName:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"column {name!r} is not the name of a feature; expected a form like sma.close.n=20, "
            "rsi.n=14 or bollinger.close.n=20.k=2:upper"
        )
    declared = get(match["feature"])
    where = f"column {name!r}"
    column = match["column"]
    if declared.takes_column:
        column = column or declared.default_column
        if column is None:
            raise ConfigError(f"{where} names no price column; expected e.g. {_example(declared)}")
        if column not in PRICE_COLUMNS:
            raise ConfigError(
                f"{where}: price column {column!r} is not known. {closest(column, PRICE_COLUMNS)}"
            )
    elif column is not None:
        raise ConfigError(f"{where}: {declared.name} takes no price column, found {column!r}")

    known = {parameter.name: parameter for parameter in declared.parameters}
    given: dict[str, int | float] = {}
    for key, text in re.findall(rf"\.(\w+)=({_NUMBER})", match["parameters"]):
        if key not in known:
            raise ConfigError(f"{where}: parameter {key!r} is not known. {closest(key, known)}")
        if key in given:
            raise ConfigError(f"{where} gives parameter {key} twice")
        value = float(text)
        whole = known[key].whole and value.is_integer()
        given[key] = known[key].check(declared.name, int(value) if whole else value)
    missing = [key for key in known if key not in given]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}; expected e.g. {_example(declared)}")

    output = match["output"]
    if output is not None and output not in declared.outputs:
        hint = (
            closest(output, declared.outputs) if declared.outputs else f"{declared.name} has one output only."
        )
        raise ConfigError(f"{where}: output {output!r} is not known. {hint}")
    return ColumnName(declared, column, tuple((key, given[key]) for key in known), output)


def expand(columns: Sequence[str]) -> list[str]:
    """Return single column names in one spelling: groups opened, repeats dropped, order kept.

    Raises
    ------
    ConfigError
        A name that `parse` refuses, or a column of the bars themselves.

    >>> expand(["rsi.n=14", "bollinger.close.n=20.k=2"])[1:3]
    ['bollinger.close.n=20.k=2:mid', 'bollinger.close.n=20.k=2:upper']
    """
    found: dict[str, None] = {}
    for name in columns:
        if name in BAR_COLUMNS:
            raise ConfigError(f"column {name!r} is part of the bars, expected the name of a feature")
        found.update((str(member), None) for member in parse(name).members())
    return list(found)


def single(name: str) -> ColumnName:
    """Return the one column of a feature that a name means.

    Raises
    ------
    ConfigError
        A name that `parse` refuses, a column of the bars themselves, or a group of several outputs.
    """
    if name in BAR_COLUMNS:
        raise ConfigError(f"column {name!r} is part of the bars, expected the name of a feature")
    column = parse(name)
    if column.is_group:
        options = ", ".join(str(member) for member in column.members())
        raise ConfigError(f"column {name!r} stands for several columns, expected one of {options}")
    return column


def _number(value: int | float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


def _example(declared: Feature) -> str:
    parts = [declared.name, *(["close"] if declared.takes_column and not declared.default_column else [])]
    return ".".join(parts + [f"{p.name}={_number(max(p.low, 2))}" for p in declared.parameters])
