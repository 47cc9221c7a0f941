"""A strategy as data (`Rules`) and what it says at each bar (`evaluate` -> `Signals`).

    Rules(
        enter_long=cross_above(sma("close", 10), sma("close", 30)) & (adx(14) >= 20),
        exit_long=cross_below(sma("close", 10), sma("close", 30)),
        stop=2 * atr(14),
        targets=[(3 * atr(14), 0.5), (5 * atr(14), 1.0)],
        size=Risk(0.01, atr=2),
    )

Ties: a constant is compared exactly. Two columns are equal when they differ by at most
1e-12 of the larger one, always. Averages of prices on the tick are equal doubles when they
are equal, and otherwise further apart than that as long as n1 * n2 * price / tick < 1e12, so
for them the band changes nothing. NaN compares false, and a cross also needs the bar before.
Axis: T bars.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from engine.bars.model import Floats
from engine.errors import ConfigError, closest
from engine.features.table import BAR_COLUMNS, FeatureSet
from engine.strategies.expressions import (
    AnyOf,
    Column,
    Condition,
    adx,
    any_of,
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
from engine.strategies.sizes import Fraction, Notional, Risk, Size, Units

__all__ = [
    "AnyOf", "Column", "Condition", "Fraction", "Notional", "Risk", "Rules", "Signals", "Units", "adx", "atr",
    "bollinger", "column", "cross_above", "cross_below", "ema", "evaluate", "highest", "log_return", "lowest",
    "minus_di", "plus_di", "price", "roc", "rsi", "sma", "tr", "volatility", "volume_sma",
]  # fmt: skip

ENTER_LONG, ENTER_SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8
SIDES = ("both", "long")
TIE = 1e-12  # relative difference up to which two columns are equal
ALL_IN = Fraction(1.0)
MAX_CLAUSES, MAX_CONDITIONS = 4, 8

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """What a strategy does, as frozen data.

    Parameters
    ----------
    enter_long, enter_short, exit_long, exit_short : condition or None
        Up to 4 clauses (``|``) of up to 8 conditions (``&``). None never fires.
    stop, trail : Column or None
        Distance of the stop and of the trailing stop, in price units at the signal bar.
    targets : sequence of (Column, float)
        Distance, and fraction of the initial quantity to close there; kept by distance. Several
        targets must be multiples of one column, so that their order is the same at every bar.
    size : Fraction, Risk, Units, Notional or None
        Size of a position; None: the size of the execution settings.
    enter_limit : Column or None
        Price of a limit entry, good for the next bar only; None: entries at the next open.

    Raises
    ------
    ConfigError
        Too many clauses or conditions, targets without an order, a fraction outside (0, 1], or
        ``Risk`` without ``atr`` and without a stop.
    """

    enter_long: Condition | AnyOf | None = None
    enter_short: Condition | AnyOf | None = None
    exit_long: Condition | AnyOf | None = None
    exit_short: Condition | AnyOf | None = None
    stop: Column | None = None
    targets: tuple[tuple[Column, float], ...] = ()
    trail: Column | None = None
    size: Size | None = None
    enter_limit: Column | None = None

    def __post_init__(self) -> None:
        """Check the parts and bring them into one form."""
        for name in ("enter_long", "enter_short", "exit_long", "exit_short"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked(name, any_of(getattr(self, name))))
        for name in ("stop", "trail"):
            if getattr(self, name) is not None:
                _distance(name, getattr(self, name))
        if self.enter_limit is not None and not isinstance(self.enter_limit, Column):
            raise ConfigError(
                f"enter_limit was {self.enter_limit!r}, expected a price such as price('close') - 2"
            )
        object.__setattr__(self, "targets", _by_distance(tuple(self.targets)))
        if self.size is not None and not isinstance(self.size, Size):
            raise ConfigError(f"size was {self.size!r}, expected Fraction, Risk, Units, Notional or None")
        if isinstance(self.size, Risk) and self.size.atr is None and self.stop is None:
            raise ConfigError("size Risk without atr takes the stop's distance, but there is no stop")

    def columns(self) -> tuple[str, ...]:
        """Return the feature columns that are read, sorted; the bars' own columns are not among them."""
        found = [self.stop, self.trail, self.enter_limit, *(distance for distance, _ in self.targets)]
        for group in (self.enter_long, self.enter_short, self.exit_long, self.exit_short):
            for condition in (c for clause in _clauses(group) for c in clause):
                found += [condition.left, condition.right if isinstance(condition.right, Column) else None]
        if isinstance(self.size, Risk) and self.size.atr is not None:
            found.append(atr(14))
        return tuple(sorted({c.name for c in found if c is not None} - set(BAR_COLUMNS)))


@dataclass(frozen=True, eq=False)
class Signals:
    """What a strategy says at each bar, decided on data up to that bar's close.

    Parameters
    ----------
    bits : uint8 array, shape (T,)
        Sum of 1 enter long, 2 enter short, 4 exit long, 8 exit short.
    stop, trail : float64 array, shape (T,), or None
        Distances in price units at the signal bar; None: not asked for.
    targets : tuple of (float64 array of shape (T,), float)
        Distance and fraction of the initial quantity, nearest first.
    size_kind : int
        0 fraction, 1 risk, 2 units, 3 notional.
    size_value : float
        Fraction of the equity, share at risk, units, or money.
    size_distance : float64 array, shape (T,), or None
        For risk only: the distance, price units, whose loss is the share at risk.
    limit : float64 array, shape (T,), or None
        Price of the limit entry that a signal at this bar orders; None: entries at the next open.

    NaN: a distance or limit may be NaN or <= 0 at a signal bar: the simulator refuses and counts that entry.
    """

    bits: npt.NDArray[np.uint8]
    stop: Floats | None = None
    targets: tuple[tuple[Floats, float], ...] = ()
    trail: Floats | None = None
    size_kind: int = 0
    size_value: float = 1.0
    size_distance: Floats | None = None
    limit: Floats | None = None


def evaluate(rules: Rules, features: FeatureSet, sides: str, default_size: Size = ALL_IN) -> Signals:
    """Evaluate rules over all bars.

    Parameters
    ----------
    rules : Rules
        What to evaluate.
    features : FeatureSet
        Columns of the symbol; T bars.
    sides : str
        ``both``, or ``long``, which never enters short.
    default_size : Fraction, Risk, Units or Notional
        Size of rules that state none.

    Returns
    -------
    Signals
        Arrays of shape (T,); the value at t uses bars 0..t only.

    Raises
    ------
    ConfigError
        ``sides`` is neither, or the default size is a ``Risk`` that takes a stop's distance without one.
    """
    if sides not in SIDES:
        raise ConfigError(f"sides was {sides!r}. {closest(sides, SIDES)}")
    gaps: _Gaps = {}
    bits = np.zeros(len(features.bars), np.uint8)
    for bit, group in (
        (ENTER_LONG, rules.enter_long),
        (ENTER_SHORT, rules.enter_short if sides == "both" else None),
        (EXIT_LONG, rules.exit_long),
        (EXIT_SHORT, rules.exit_short),
    ):
        for clause in _clauses(group):
            holds = _holds(clause[0], features, gaps)
            for condition in clause[1:]:
                holds = holds & _holds(condition, features, gaps)
            bits |= holds.view(np.uint8) * np.uint8(bit)
    bits.flags.writeable = False

    stop = None if rules.stop is None else _values(rules.stop, features)
    size = default_size if rules.size is None else rules.size
    size_distance = None
    if isinstance(size, Risk):
        if size.atr is None and stop is None:
            raise ConfigError("size Risk without atr takes the stop's distance, but there is no stop")
        size_distance = stop if size.atr is None else _values(size.atr * atr(14), features)
    return Signals(
        bits=bits,
        stop=stop,
        targets=tuple((_values(distance, features), fraction) for distance, fraction in rules.targets),
        trail=None if rules.trail is None else _values(rules.trail, features),
        size_kind=(Fraction, Risk, Units, Notional).index(type(size)),
        size_value=float(getattr(size, fields(size)[0].name)),
        size_distance=size_distance,
        limit=None if rules.enter_limit is None else _values(rules.enter_limit, features),
    )


_Gaps = dict[tuple[Column, Column | float], tuple[Floats, Floats | float]]


def _values(column: Column, features: FeatureSet) -> Floats:
    """Return a column's values, shape (T,), NaN where the lagged bar is before the first."""
    values = features.column(column.name)
    if column.scale != 1.0:
        values = values * column.scale
    if column.offset != 0.0:
        values = values + column.offset
    if column.bars_back > 0:
        earlier = np.full(len(values), np.nan)
        earlier[column.bars_back :] = values[: max(len(values) - column.bars_back, 0)]
        return earlier
    return values


def _holds(condition: Condition, features: FeatureSet, gaps: _Gaps) -> Bools:
    """Return where a condition holds, shape (T,)."""
    pair = (condition.left, condition.right)
    if pair not in gaps:  # entries and exits often compare the same two columns
        gaps[pair] = _gap(*pair, features)
    gap, tie = gaps[pair]
    match condition.operator:
        case ">":
            return gap > tie
        case ">=":
            return gap >= -tie
        case "<":
            return gap < -tie
        case "<=":
            return gap <= tie
        case "cross_above":
            now, before = gap > tie, gap <= tie
        case _:
            now, before = gap < -tie, gap >= -tie
    crossed = np.zeros(len(now), np.bool_)
    crossed[1:] = now[1:] & before[:-1]
    return crossed


def _gap(left: Column, right: Column | float, features: FeatureSet) -> tuple[Floats, Floats | float]:
    """Return left - right and the size of gap that still counts as equal."""
    a = _values(left, features)
    if not isinstance(right, Column):
        return a - right, 0.0
    b = _values(right, features)
    return a - b, TIE * np.maximum(np.abs(a), np.abs(b))


def _clauses(group: Condition | AnyOf | None) -> tuple[tuple[Condition, ...], ...]:
    return () if group is None else any_of(group).clauses


def _checked(name: str, group: AnyOf) -> AnyOf:
    longest = max(len(clause) for clause in group.clauses)
    if len(group.clauses) > MAX_CLAUSES or longest > MAX_CONDITIONS:
        raise ConfigError(
            f"{name} has {len(group.clauses)} clauses of up to {longest} conditions, "
            f"expected at most {MAX_CLAUSES} clauses (|) of {MAX_CONDITIONS} conditions (&)"
        )
    return group


def _by_distance(targets: tuple[tuple[Column, float], ...]) -> tuple[tuple[Column, float], ...]:
    for distance, fraction in targets:
        _distance("target", distance)
        if not 0.0 < fraction <= 1.0:
            raise ConfigError(f"target fraction was {fraction}, expected more than 0 and at most 1")
    kinds = {(distance.name, distance.bars_back, distance.offset) for distance, _ in targets}
    if len(kinds) > 1:
        raise ConfigError("several targets were of different columns, expected multiples of one column")
    if len({distance for distance, _ in targets}) < len(targets):
        raise ConfigError("two targets have the same distance, expected different ones")
    return tuple(sorted(targets, key=lambda target: target[0].scale))


def _distance(name: str, value: object) -> None:
    if not isinstance(value, Column):
        raise ConfigError(f"{name} was {value!r}, expected a distance such as 2 * atr(14)")
