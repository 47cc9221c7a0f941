"""Rules as plain arrays for the compiled code: `compile_rules` for one, `compile_configs` for many.

One `Program` holds the configs whose rules have the same shape; they differ in numbers and columns
only. Its code is a list of conditions; a condition names a pair of values to compare, and several
may share a pair. Axes: P configs, N pairs, C conditions, L price levels, K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from engine.bars.model import Floats, Ints
from engine.errors import ConfigError
from engine.strategies.configs import check_configs
from engine.strategies.expressions import OPERATORS, Column, any_of, atr, column
from engine.strategies.params import Choice, Params
from engine.strategies.registry import StrategyClass, rules_of
from engine.strategies.rules import ENTER_LONG, ENTER_SHORT, EXIT_LONG, EXIT_SHORT, Rules
from engine.strategies.sizes import Fraction, Notional, Risk, Size, Units
from engine.strategies.symbolic import SymbolicName, Trace, Untraceable, evaluate, spellings, text_of

PAIR, OPERATOR, ENDS, BIT = range(4)  # columns of the code
STARTS_CLAUSE, ENDS_CLAUSE = 1, 2  # flags in ENDS
LEFT_ROW, LEFT_LAG, RIGHT_ROW, RIGHT_LAG = range(4)  # of each pair in `rows`; RIGHT_ROW -1: a constant
LEFT_SCALE, LEFT_OFFSET, RIGHT_SCALE, RIGHT_OFFSET = range(4)  # in `constants`; RIGHT_OFFSET: the constant
ALL_IN = Fraction(1.0)
SIZES = (Fraction, Risk, Units, Notional)
FEWEST_TO_TRACE = 4  # tracing costs about three calls of the strategy


@dataclass(frozen=True, eq=False)
class Program:
    """P configs of one shape.

    Parameters
    ----------
    configs : int64 array, shape (P,)
        Their numbers in the list they come from.
    code : int64 array, shape (C, 4)
        Per condition: its pair, its index into OPERATORS, whether it starts (1) and ends (2) a
        clause, and the bit of its group (1 enter long, 2 enter short, 4 exit long, 8 exit short).
    rows : int64 array, shape (P, 4 N)
        Per pair: left row of the feature table, left lag in bars, right row (-1: constant), right lag.
    constants : float64 array, shape (P, 4 N)
        Per pair: left scale and offset, right scale and offset; value = table * scale + offset.
    level_rows, level_lags : int64 array, shape (P, L)
        Stop, trail, size, limit entry, then the K targets by distance; row -1: not asked for.
    level_scales, level_offsets : float64 array, shape (P, L)
    shares : float64 array, shape (P, K)
        Share of the initial quantity that each target closes.
    size_kind : int
        0 fraction, 1 risk, 2 units, 3 notional.
    size_values : float64 array, shape (P,)

    NaN: none.
    """

    configs: Ints
    code: Ints
    rows: Ints
    constants: Floats
    level_rows: Ints
    level_lags: Ints
    level_scales: Floats
    level_offsets: Floats
    shares: Floats
    size_kind: int
    size_values: Floats

    def shape(self) -> tuple[bytes, int, int]:
        """Return what configs must have in common to be one program."""
        return self.code.tobytes(), self.shares.shape[1], self.size_kind

    def same_as(self, other: Program, p: int) -> bool:
        """Return whether config ``p`` here is the only config of ``other``."""
        return self.shape() == other.shape() and all(
            np.array_equal(getattr(self, name)[p], getattr(other, name)[0]) for name in PER_CONFIG
        )


PER_CONFIG = (
    "rows", "constants", "level_rows", "level_lags", "level_scales", "level_offsets", "shares", "size_values",
)  # fmt: skip


class Names(dict[str, int]):
    """Column names -> rows of a feature table, numbered as they are first asked for."""

    def __missing__(self, name: str) -> int:
        """Give a new name the next row."""
        self[name] = row = len(self)
        return row


class _Writer:
    """Collects the numbers of one program, each given by its value in every config."""

    def __init__(self, rows: Mapping[str, int], values: Mapping[str, Sequence[Any]], count: int) -> None:
        self.rows, self.values, self.count = rows, values, count

    def number(self, value: Any) -> Any:
        """Return a number, or one per config where it is a symbol."""
        return evaluate(value, self.values, self.count) if type(value) not in (int, float) else value

    def row(self, name: str) -> Any:
        """Return a column's row, or one per config where its name holds a symbol."""
        if type(name) is not SymbolicName:
            return self.rows[name]
        names = spellings(name, self.values, self.count)
        known = {spelt: self.rows[column(spelt).name] for spelt in dict.fromkeys(names)}
        return [known[spelt] for spelt in names]

    def column(self, value: Column | None) -> tuple[Any, Any, Any, Any]:
        """Return row, lag, scale and offset."""
        if value is None:
            return -1, 0, 1.0, 0.0
        number = self.number
        return self.row(value.name), number(value.bars_back), number(value.scale), number(value.offset)

    def array(self, columns: Sequence[Any], dtype: type) -> Any:
        """Return the columns side by side, shape (P, len(columns))."""
        made: Any = np.empty((self.count, len(columns)), dtype)
        for k, values in enumerate(columns):
            made[:, k] = values
        return made


def _pair_key(left: Column, right: Any) -> str:
    def shown(value: Column) -> tuple[str, ...]:
        return (str.__str__(value.name), *map(text_of, (value.scale, value.offset, value.bars_back)))

    return repr((shown(left), shown(right) if type(right) is Column else text_of(right)))


def _compile(rules: Rules, writer: _Writer, sides: str, size: Size) -> Program:
    """Write rules, whose numbers may be symbols, as arrays."""
    pairs: dict[str, int] = {}
    code: list[tuple[int, int, int, int]] = []
    rows: list[Any] = []
    constants: list[Any] = []
    for bit, group in (
        (ENTER_LONG, rules.enter_long),
        (ENTER_SHORT, rules.enter_short if sides == "both" else None),
        (EXIT_LONG, rules.exit_long),
        (EXIT_SHORT, rules.exit_short),
    ):
        for clause in () if group is None else any_of(group).clauses:
            for k, condition in enumerate(clause):
                key = _pair_key(condition.left, condition.right)
                if key not in pairs:
                    pairs[key] = len(pairs)
                    left = writer.column(condition.left)
                    if type(condition.right) is Column:
                        right = writer.column(condition.right)
                    else:
                        right = (-1, 0, 1.0, writer.number(condition.right))
                    rows += [*left[:2], *right[:2]]
                    constants += [*left[2:], *right[2:]]
                ends = (k == 0) * STARTS_CLAUSE + (k == len(clause) - 1) * ENDS_CLAUSE
                code.append((pairs[key], OPERATORS.index(condition.operator), ends, bit))

    size = rules.size or size
    value = getattr(size, fields(size)[0].name)
    apart = None
    if isinstance(size, Risk):
        if size.atr is None and rules.stop is None:
            raise ConfigError("size Risk without atr takes the stop's distance, but there is no stop")
        apart = rules.stop if size.atr is None else size.atr * atr(14)
    levels = [
        rules.stop,
        rules.trail,
        apart,
        rules.enter_limit,
        *(distance for distance, _ in rules.targets),
    ]
    level = list(zip(*map(writer.column, levels), strict=True))
    program = Program(
        np.arange(writer.count),
        np.array(code, np.int64).reshape(-1, 4),
        writer.array(rows, np.int64),
        writer.array(constants, np.float64),
        writer.array(level[0], np.int64),
        writer.array(level[1], np.int64),
        writer.array(level[2], np.float64),
        writer.array(level[3], np.float64),
        writer.array([share for _, share in rules.targets], np.float64),
        SIZES.index(type(size)),
        writer.array([writer.number(value)], np.float64)[:, 0],
    )
    if not (program.size_values > 0.0).all():
        raise Untraceable
    if isinstance(size, Risk) and size.atr is not None and not (program.level_scales[:, 2] > 0.0).all():
        raise Untraceable
    return program


def compile_rules(
    rules: Rules, rows: Mapping[str, int], *, sides: str = "both", size: Size = ALL_IN
) -> Program:
    """Write the rules of one config as arrays.

    Parameters
    ----------
    rules : Rules
        What to write.
    rows : mapping of str to int
        Row of each column in the feature table; `Names` numbers them.
    sides : str
        ``both``, or ``long``, which never enters short.
    size : Fraction, Risk, Units or Notional
        Size where the rules name none.

    Returns
    -------
    Program
        With P = 1.
    """
    return _compile(rules, _Writer(rows, {}, 1), sides, size)


def compile_configs(
    strategy: StrategyClass,
    configs: Sequence[Mapping[str, Any]],
    rows: Mapping[str, int],
    *,
    sides: str = "both",
    size: Size = ALL_IN,
    symbol: str = "",
) -> list[Program]:
    """Write the rules of P configs as few programs.

    Configs with the same choices are traced together, with symbols for their numbers. Where that
    cannot be done (the rules branch on a number), the strategy is called once per config; the
    programs hold the same numbers, bit for bit.

    Parameters
    ----------
    strategy : StrategyClass
        A registered class of kind ``rules``.
    configs : sequence of mappings, length P
        Parameters that are left out have their defaults.
    rows, sides, size
        As in `compile_rules`.
    symbol : str
        Named in errors.

    Returns
    -------
    list of Program
        Each config is in one of them.

    Raises
    ------
    ConfigError, SimulationError
        As `registry.check` and `registry.rules_of`, of the first config that they refuse.
    """
    values = check_configs(strategy, configs)
    declared = strategy.parameters
    chosen = [[(type(v), v) for v in values[n]] for n, d in declared.items() if isinstance(d, Choice)]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for p, key in enumerate(zip(*chosen, strict=True) if chosen else [()] * len(configs)):
        groups.setdefault(key, []).append(p)
    programs: list[Program] = []
    alone: list[int] = []
    for group in groups.values():
        taken = {name: [column[p] for p in group] for name, column in values.items()}
        program = _trace(strategy, taken, rows, sides, size) if len(group) >= FEWEST_TO_TRACE else None
        if program is None:
            alone += group
        else:
            programs.append(replace(program, configs=np.array(group)))
    singles: dict[tuple[bytes, int, int], list[Program]] = {}
    for p in sorted(alone):
        rules = rules_of(strategy, {name: column[p] for name, column in values.items()}, symbol)
        program = replace(compile_rules(rules, rows, sides=sides, size=size), configs=np.array([p]))
        singles.setdefault(program.shape(), []).append(program)
    return programs + [_joined(group) for group in singles.values()]


def _trace(
    strategy: StrategyClass,
    values: Mapping[str, list[Any]],
    rows: Mapping[str, int],
    sides: str,
    size: Size,
) -> Program | None:
    """Write the rules of configs that differ in numbers only from one call; None: that cannot be done."""
    trace = Trace()
    first = {name: column[0] for name, column in values.items()}
    stand_ins = {
        name: value if isinstance(strategy.parameters[name], Choice) else trace.symbol(name)
        for name, value in first.items()
    }
    count = max(map(len, values.values()), default=0)
    try:
        rules = strategy.rules(Params(stand_ins))
        program = _compile(rules, _Writer(rows, values, count), sides, size)
        plain = compile_rules(strategy.rules(Params(first)), rows, sides=sides, size=size)
    except Exception:  # whatever it is: called with each config's own numbers, the strategy says so in full
        return None
    return None if trace.refused or not program.same_as(plain, 0) else program


def _joined(programs: Sequence[Program]) -> Program:
    """Return programs of one shape as one."""
    stacked: dict[str, Any] = {
        name: np.concatenate([getattr(program, name) for program in programs])
        for name in ("configs", *PER_CONFIG)
    }
    return replace(programs[0], **stacked)
