"""Columns by name: `FeatureSet` computes them, one by one or as the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from engine.bars.model import Bars, Floats
from engine.errors import ConfigError
from engine.features.names import BAR_COLUMNS, ColumnName, expand, parse, single
from engine.features.registry import COLUMN

__all__ = ["BAR_COLUMNS", "ColumnName", "FeatureSet", "expand", "parse"]


def owned(table: Floats) -> Floats:
    """Return the writable array behind a table of `FeatureSet.table_rows`.

    Compiled code is compiled once, for one kind of array; nobody may write to it.
    """
    return cast(Floats, table.base)


class FeatureSet:
    """The columns of one symbol, computed when first asked for and kept.

    Parameters
    ----------
    bars : Bars
        All stored bars of the symbol: recursive features start at its first bar, whatever the fold.
    tick : float
        Price step of the adjusted prices, 0 = unknown.
    """

    def __init__(self, bars: Bars, tick: float = 0.0) -> None:
        if not (np.isfinite(tick) and tick >= 0.0):
            raise ConfigError(f"tick was {tick}, expected 0 (unknown) or a positive price step")
        self.bars = bars
        self.tick = float(tick)
        self._columns: dict[str, Floats] = {name: getattr(bars, name) for name in BAR_COLUMNS}
        self._table: tuple[tuple[str, ...], Floats, dict[str, int]] | None = None

    def column(self, name: str) -> Floats:
        """Return a column, float64 shape (T,), read-only.

        A column of the bars (open, high, low, close, volume) is answered as it stands.
        NaN: before `first_valid`; `pct_b` also where the bands have no width.

        Raises
        ------
        ConfigError
            A name that `parse` refuses, or a group of several outputs.
        """
        if name not in self._columns:
            column = single(name)
            if str(column) not in self._columns:
                self._compute(column)
            self._columns[name] = self._columns[str(column)]  # another spelling is the same array
        return self._columns[name]

    def table_rows(self, names: Sequence[str], out: Floats | None = None) -> tuple[Floats, dict[str, int]]:
        """Return many columns as the rows of one table; those of one feature are computed together.

        The last table is kept: asking for the same names again costs nothing. Its columns are
        not kept one by one, so that a long search does not fill the memory.

        Parameters
        ----------
        names : sequence of str
            What `column` takes; repeats and other spellings share a row. Rows stand in any order.
        out : float64 array, shape (R or more, T), C-contiguous, optional
            Its first rows are written and returned instead of a new array; not kept here.

        Returns
        -------
        table : float64 array, shape (R, T), C-contiguous, read-only
            Each row has the bits of `column`.
        rows : dict of str to int
            Every name as it was given -> its row.

        NaN: as in `column`.

        Raises
        ------
        ConfigError
            A name that `column` refuses, or an ``out`` of another type or shape.
        """
        asked = tuple(names)
        if out is None and self._table is not None and self._table[0] == asked:
            return self._table[1:]
        spelled = {name: name if name in BAR_COLUMNS else str(single(name)) for name in asked}
        known: list[str] = []
        missing: dict[tuple[str, str | None], list[ColumnName]] = {}
        for name in dict.fromkeys(spelled.values()):
            if name in self._columns:
                known.append(name)
            else:
                column = parse(name)
                missing.setdefault((column.feature.name, column.column), []).append(column)
        order = known + [str(column) for group in missing.values() for column in group]
        table = self._room(len(order), out)
        for row, name in enumerate(known):
            table[row] = self._columns[name]
        row = len(known)
        for group in missing.values():
            self._fill(group, table[row : row + len(group)])
            row += len(group)
        place = {name: row for row, name in enumerate(order)}
        table = table.view()
        table.flags.writeable = False
        rows = {name: place[spelling] for name, spelling in spelled.items()}
        if out is None:
            self._table = (asked, table, rows)
        return table, rows

    def preload(self, name: str, values: Floats) -> None:
        """Take a stored column, float64 shape (T,), instead of computing it.

        Raises
        ------
        ConfigError
            The name is refused by `parse`, or the length differs from the bars'.
        """
        if len(values) != len(self.bars):
            raise ConfigError(f"column {name!r} has {len(values)} rows, expected {len(self.bars)}")
        values = values.view()
        values.flags.writeable = False
        self._columns[str(single(name))] = values
        self._table = None

    def first_valid(self, name: str) -> int:
        """Return the index of a column's first value; it may lie beyond the last bar."""
        return 0 if name in BAR_COLUMNS else parse(name).first_valid

    def lookback(self, name: str) -> int:
        """Return the bars after a column's first value until its seed is forgotten; 0 for a window."""
        return 0 if name in BAR_COLUMNS else parse(name).lookback

    def _inputs(self, column: ColumnName) -> list[Floats]:
        names = column.feature.inputs
        return [getattr(self.bars, (column.column or name) if name == COLUMN else name) for name in names]

    def _call(self, column: ColumnName, **more: Any) -> Any:
        """Call the feature's function: names are checked and bars are well formed, so nothing is checked."""
        tick = {"tick": self.tick} if column.feature.uses_tick else {}
        return column.feature.function(*self._inputs(column), **dict(column.parameters), **tick, **more)

    def _compute(self, column: ColumnName) -> None:
        declared = column.feature
        if len(self.bars) <= column.first_valid:
            bars = len(self.bars)
            made: Any = np.full((len(declared.outputs), bars) if declared.outputs else bars, np.nan)
        else:
            made = self._call(column)
        if not declared.outputs:
            made.flags.writeable = False
            self._columns[str(column)] = made
            return
        group = ColumnName(declared, column.column, column.parameters, None)
        for member, array in zip(group.members(), made, strict=True):
            array.flags.writeable = False
            self._columns[str(member)] = array

    def _fill(self, group: list[ColumnName], table: Floats) -> None:
        """Write the columns of one feature and price column, float64 shape (R, T)."""
        declared = group[0].feature
        if declared.rows is not None and len(group) > 1:
            lengths = np.array([column.parameters[0][1] for column in group], np.int64)
            tick = (self.tick,) if declared.uses_tick else ()
            declared.rows(*self._inputs(group[0]), lengths, *tick, table)
            return
        for column, row in zip(group, table, strict=True):
            if declared.outputs or not declared.takes_out or len(self.bars) <= column.first_valid:
                row[:] = self.column(str(column))
            else:
                self._call(column, out=row)

    def _room(self, rows: int, out: Floats | None) -> Floats:
        if out is None:
            return np.empty((rows, len(self.bars)))
        if not (
            out.dtype == np.float64
            and out.ndim == 2
            and len(out) >= rows
            and out.shape[1] == len(self.bars)
            and out.flags.c_contiguous
            and out.flags.writeable
        ):
            raise ConfigError(
                f"table_rows: out was {out.dtype} {out.shape}, expected a writable C-contiguous float64 "
                f"array of shape ({rows} or more, {len(self.bars)})"
            )
        return out[:rows]
