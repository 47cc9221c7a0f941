"""Columns bar by bar: `FeatureStream` gives at each bar the bits that `table.FeatureSet` gives for all bars.

A recursive feature goes on with the kernel that computes a whole series, one bar at a time
(`registry.Step`); any other is computed by its own function on the bars of its window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.bars.model import Floats
from engine.errors import ConfigError, DataError
from engine.features.names import BAR_COLUMNS, ColumnName, expand, parse
from engine.features.registry import COLUMN


class FeatureStream:
    """The columns of one symbol, one bar after the other from its first stored bar.

    Parameters
    ----------
    columns : sequence of str
        Names as `table.expand` takes them.
    tick : float
        Price step of the adjusted prices, 0 = unknown; as given to `table.FeatureSet`.

    Raises
    ------
    ConfigError
        A name that `expand` refuses, or an impossible tick.

    >>> stream = FeatureStream(["sma.close.n=2", "tr"], tick=0.5)
    >>> stream.append(10.0, 11.0, 9.0, 10.5, 100.0)
    {'sma.close.n=2': nan, 'tr': nan}
    >>> stream.append(10.5, 12.0, 10.5, 11.5, 100.0)
    {'sma.close.n=2': 11.0, 'tr': 1.5}
    """

    def __init__(self, columns: Sequence[str], tick: float = 0.0) -> None:
        if not (math.isfinite(tick) and tick >= 0.0):
            raise ConfigError(f"tick was {tick}, expected 0 (unknown) or a positive price step")
        self.names = tuple(expand(columns))
        self.seen = 0  # bars so far
        groups: dict[ColumnName, list[ColumnName]] = {}
        for member in map(parse, self.names):
            whole = ColumnName(member.feature, member.column, member.parameters, None)
            groups.setdefault(whole, []).append(member)
        self._live = [_Live.of(whole, members, tick) for whole, members in groups.items()]
        self._kept = max((live.window for live in self._live), default=1)
        self._bars = np.empty((len(BAR_COLUMNS), 2 * self._kept))  # the last bars stand before `_end`
        self._end = 0
        self._rows = dict(zip(BAR_COLUMNS, self._bars, strict=True))
        for row in self._rows.values():
            row.flags.writeable = False  # kernels are compiled for read-only bars

    def append(self, open: float, high: float, low: float, close: float, volume: float) -> dict[str, float]:  # noqa: A002
        """Take one bar; return every column's value at its close.

        Parameters
        ----------
        open, high, low, close : float
            Split-adjusted prices.
        volume : float
            Split-adjusted units.

        Returns
        -------
        dict of str to float
            By name, in the order of ``names``. NaN as in the whole column.

        Raises
        ------
        DataError
            No bar can look like this: a value is not finite, a price not positive, or open or
            close lies outside low to high. Nothing is taken.
        """
        bar = (open, high, low, close, volume)
        if not (all(map(math.isfinite, bar)) and 0 < low <= min(open, close) and high >= max(open, close)):
            raise DataError(
                f"bar {self.seen} of the stream was open {open}, high {high}, low {low}, close {close}, "
                f"volume {volume}, expected finite numbers with 0 < low <= open, close <= high",
                rule="E05",
            )
        if self._end == self._bars.shape[1]:
            self._bars[:, : self._kept] = self._bars[:, self._kept :]
            self._end = self._kept
        self._bars[:, self._end] = bar
        self._end += 1
        self.seen += 1
        found: dict[str, float] = {}
        for live in self._live:
            found.update(live.values(self._rows, self._end, self.seen))
        return {name: found[name] for name in self.names}


@dataclass
class _Live:
    """One feature with its parameters, in the middle of a series."""

    whole: ColumnName
    names: list[str]  # of the outputs asked for
    outputs: list[int]
    inputs: list[str]
    arguments: dict[str, float]
    window: int  # bars read at each bar
    first_valid: int
    state: Floats
    value: Floats
    advance: Callable[..., None] | None

    @classmethod
    def of(cls, whole: ColumnName, members: list[ColumnName], tick: float) -> _Live:
        declared, parameters = whole.feature, dict(whole.parameters)
        step = declared.step
        return cls(
            whole=whole,
            names=[str(member) for member in members],
            outputs=[declared.outputs.index(m.output) if m.output else 0 for m in members],
            inputs=[(whole.column or name) if name == COLUMN else name for name in declared.inputs],
            arguments={**parameters, **({"tick": tick} if declared.uses_tick else {})},
            window=1 if declared.window is None else declared.window(parameters),
            first_valid=whole.first_valid,
            state=np.zeros(step.size if step else 0),
            value=np.empty(1),
            advance=step.kernel if step else None,
        )

    def values(self, rows: dict[str, Floats], end: int, seen: int) -> dict[str, float]:
        """Return the values at the last of ``seen`` bars, which stand before ``end``."""
        start = end - min(self.window, seen)
        inputs = [rows[name][start:end] for name in self.inputs]
        if self.advance is not None:
            self.advance(*inputs, *self.arguments.values(), self.state, self.value)
            return {self.names[0]: float(self.value[0])}
        if seen <= self.first_valid:
            return dict.fromkeys(self.names, math.nan)
        made = self.whole.feature.function(*inputs, **self.arguments)
        arrays = made if self.whole.feature.outputs else (made,)
        return {name: float(arrays[i][-1]) for name, i in zip(self.names, self.outputs, strict=True)}
