"""Run a strategy of kind ``bars``: its compiled function is called at the close of each bar.

`Expert.loop` stands where `kernel.bar_loop` stands for rules: the same `advance` fills and marks a
bar, the function says what it wants, the same `decide` orders it. Only the small loop around them
is compiled anew per function; what a function raises passes through it. T bars of the span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit, types

from engine.bars.model import Floats, iso
from engine.errors import ConfigError, SimulationError
from engine.simulation.inputs import Bytes, Span
from engine.simulation.kernel import advance, count_signals, decide
from engine.simulation.slots import (
    BROKEN_BAR,
    BUFFERS_FULL,
    CLOSE,
    DONE,
    ENTRY_BAR,
    ENTRY_PRICE,
    HALTED_BAR,
    N_FILLS,
    NOT_FINITE,
    OUT_FRACTION,
    POSITION,
    SHORT,
    SIZE_ROW,
    STOP,
    T_NEXT,
    TARGET_ROW,
    Book,
    Plan,
)
from engine.strategies.expert import FRACTION
from engine.strategies.registry import StrategyClass, check, columns_of
from engine.strategies.rules import Fraction, Notional, Risk, Units, atr

if TYPE_CHECKING:
    from engine.features.table import FeatureSet
    from engine.simulation.workspace import Workspace

OTHER_BITS, NOT_A_NUMBER = -1, -2  # codes of `_drive` beside those of the kernel
_BARS = ("open", "high", "low", "close", "volume")
_OUT = ("fraction", "limit", "stop", "target", "size")
_MATRIX = types.Array(types.float64, 2, "A", readonly=True)
_VECTOR = types.Array(types.float64, 1, "C")
_PARAMETERS = types.Array(types.float64, 1, "C", readonly=True)
_SIX = types.UniTuple(types.float64, 6)  # type: ignore[no-untyped-call]
_ARGUMENTS = (
    types.int64, _MATRIX, _MATRIX, _PARAMETERS, _SIX, _VECTOR, _VECTOR,
)  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _position(
    s: Floats, t: int, close: float, equity: float
) -> tuple[float, float, float, float, float, float]:
    """Return what the function is told of its position at the close of bar t."""
    quantity = s[POSITION]
    if quantity == 0.0:
        return 0.0, np.nan, np.nan, np.nan, equity, np.nan
    stop = s[STOP] if np.isfinite(s[STOP]) else np.nan
    entry = s[ENTRY_PRICE]
    return quantity, entry, t - s[ENTRY_BAR], quantity * (close - entry), equity, stop


@njit(nogil=True, error_model="numpy")  # not cached: the function of a user is part of it
def _drive(
    bar: Any, known: Floats, shown: Floats, bars: Floats, table: Floats, p: Floats, memory: Floats,
    out: Floats, first: int, heard: int, columns: Floats, events: Bytes, bits: Bytes, plan: Plan,
    settings: Floats, book: Book, s: Floats, t0: int, t1: int,
) -> int:  # fmt: skip
    """Run the bars [t0, t1); ``s[T_NEXT]`` is the bar the function was last asked about.

    The function is handed ``bars`` and ``table``, views of ``shown``, which holds NaN beyond the
    current bar: what is not there cannot be read, by whatever way. Each bar is copied from ``known``.
    """
    if s[BROKEN_BAR] >= 0.0:
        book.equity[t0:t1], book.position[t0:t1] = np.nan, np.nan
        s[T_NEXT] = t1
        return NOT_FINITE
    if t0 > 0 and np.isnan(shown[0, first + t0 - 1]):  # goes on from a state: the bars before are known
        shown[:, first : first + t0] = known[:, first : first + t0]
    room = len(book.fills) - 4 if book.record else 1 << 60
    for t in range(t0, t1):
        s[T_NEXT] = t
        if s[N_FILLS] > room:
            count_signals(bits, s, t0, t)
            return BUFFERS_FULL
        marked = advance(columns, events, plan, settings, book, s, t)
        if not np.isfinite(marked):
            s[BROKEN_BAR] = t
            book.equity[t:t1], book.position[t:t1] = np.nan, np.nan
            count_signals(bits, s, t0, t)
            s[T_NEXT] = t1
            return NOT_FINITE
        if s[HALTED_BAR] < 0.0:
            out[:] = np.nan
            now = first + t + 1
            for k in range(len(known)):
                shown[k, now - 1] = known[k, now - 1]
            pos = _position(s, t, columns[CLOSE, t], marked)
            told = bar(now - 1, bars[:, :now], table[:, :now], p, pos, memory, out)
            if told < 0 or told > 15:
                out[0] = told
                return OTHER_BITS
            for k in range(5):
                if np.isinf(out[k]):
                    return NOT_A_NUMBER
            if out[FRACTION] <= 0.0:
                return NOT_A_NUMBER
            bits[t] = told & heard
        if bits[t] != 0 or s[HALTED_BAR] >= 0.0:
            for k in range(5):
                s[OUT_FRACTION + k] = out[k]
            decide(s, t, bits[t], marked, columns, plan, settings)
    count_signals(bits, s, t0, t1)
    s[T_NEXT] = t1
    return DONE


class Expert:
    """One strategy of kind ``bars`` with one set of parameters on one span.

    Parameters
    ----------
    features : FeatureSet
        Columns of the whole series.
    strategy : StrategyClass
        Of kind ``bars``.
    params : mapping
        Parameters by name; those left out have their defaults.
    span : Span
        Checked bars and settings.

    Attributes
    ----------
    plan : Plan
        The settings' size; a strategy of this kind has no levels but those it asks for.
    memory : float64 array, shape (m,)
        What the function keeps from bar to bar; zeros before the first. Together with the state of
        the run it is all that is needed to go on later.

    Raises
    ------
    ConfigError
        Parameters that are not declared, columns that do not exist, or a function that cannot be
        compiled.
    """

    def __init__(
        self, features: FeatureSet, strategy: StrategyClass, params: Mapping[str, Any], span: Span
    ) -> None:
        compile_bar(strategy)
        self.strategy, self.span, self.params = strategy, span, check(strategy, params)
        names = columns_of(strategy, params, span.bars.symbol)
        self.memory = np.zeros(strategy.state_size)
        series = [getattr(span.bars, name) for name in _BARS] + [features.column(name) for name in names]
        self._known = np.ascontiguousarray([column[: span.stop] for column in series])
        self._shown = np.full_like(self._known, np.nan)
        self._shown[:, : span.start] = self._known[:, : span.start]
        self._bars, self._table = self._shown[: len(_BARS)].view(), self._shown[len(_BARS) :].view()
        self._bars.flags.writeable = self._table.flags.writeable = False
        self._p = np.array([float(value) for value in self.params.values()])
        self._p.flags.writeable = False
        self._out = np.empty(len(_OUT))
        self.plan = _plan(features, span)

    def loop(
        self, columns: Floats, events: Bytes, bits: Bytes, plan: Plan, settings: Floats, book: Book,
        s: Floats, t0: int, t1: int,
    ) -> int:  # fmt: skip
        """Run the bars [t0, t1) as `kernel.bar_loop` does; the function's bits are written into ``bits``.

        Raises
        ------
        SimulationError
            The function raised, or returned or set what it may not; names strategy, symbol, bar
            and parameters.
        """
        heard = 15 if self.span.execution.sides == "both" else 15 - SHORT
        try:
            code = _drive(
                self.strategy.bar, self._known, self._shown, self._bars, self._table, self._p, self.memory,
                self._out, self.span.start, heard, columns, events, bits, plan, settings, book, s, t0, t1,
            )  # fmt: skip
        except Exception as error:
            raise SimulationError(f"{self._where(s)}: raised {type(error).__name__}: {error}") from error
        if code == OTHER_BITS:
            raise SimulationError(
                f"{self._where(s)}: returned {self._out[0]:g}, expected a sum of 1 enter long, 2 enter "
                "short, 4 exit long, 8 exit short"
            )
        if code == NOT_A_NUMBER:
            found = ", ".join(f"{name} {value:g}" for name, value in zip(_OUT, self._out, strict=True))
            raise SimulationError(
                f"{self._where(s)}: set out to {found}; expected finite numbers, NaN for the setting's "
                "value, and a fraction above 0"
            )
        return int(code)

    def _where(self, s: Floats) -> str:
        bars = self.span.bars
        stamp = iso(int(bars.ts[self.span.start + int(s[T_NEXT])]))
        return f"strategy {self.strategy.name} on {bars.symbol}, bar {stamp}, with {dict(self.params)}"


def run_expert(
    work: Workspace,
    features: FeatureSet,
    strategy: StrategyClass,
    params: Mapping[str, Any],
    prune_every: int = 0,
    pruning_callback: Callable[[int, float], bool] | None = None,
) -> None:
    """Run the workspace's span, as `Workspace.run` does on signals.

    Raises
    ------
    ConfigError, SimulationError
        As in `Expert` and `Expert.loop`.
    """
    expert = Expert(features, strategy, params, work.span)
    work.start(np.zeros(work.span.stop - work.span.start, dtype=np.uint8), expert.plan, expert.loop)
    work.go(prune_every, pruning_callback)


def compile_bar(strategy: StrategyClass) -> None:
    """Compile the function of a strategy of kind ``bars``, once per process.

    Raises
    ------
    ConfigError
        It cannot be compiled, with file and line, or it returns no whole number.
    """
    from numba.core.errors import NumbaError

    bar = strategy.bar
    if _ARGUMENTS in bar.overloads:
        return
    code = bar.py_func.__code__
    try:
        bar.compile(_ARGUMENTS)
    except NumbaError as error:
        line = getattr(getattr(error, "loc", None), "line", code.co_firstlineno)
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        told = " ".join(line for line in lines[1:4] if not line.startswith("File "))
        raise ConfigError(
            f"{Path(code.co_filename).name}:{line}: strategy {strategy.name}: bar cannot be compiled: {told}"
        ) from error
    returned = bar.overloads[_ARGUMENTS].signature.return_type
    if not isinstance(returned, types.Integer | types.Boolean):
        raise ConfigError(
            f"{Path(code.co_filename).name}:{code.co_firstlineno}: strategy {strategy.name}: bar returns "
            f"{returned}, expected a whole number"
        )


def _plan(features: FeatureSet, span: Span) -> Plan:
    """Return the plan of an entry without levels, sized by the settings."""
    size = span.execution.size
    rows = np.full(TARGET_ROW, -1, dtype=np.int64)
    table = np.empty((1, span.stop - span.start))
    if isinstance(size, Risk) and size.atr is not None:
        rows[SIZE_ROW] = 0
        table[0] = features.column(atr(14).name)[span.start : span.stop] * size.atr
    kind = (Fraction, Risk, Units, Notional).index(type(size))
    value = float(getattr(size, fields(size)[0].name))
    none = np.zeros(TARGET_ROW)
    lag = np.zeros(TARGET_ROW, dtype=np.int64)
    return Plan(table, rows, np.ones(TARGET_ROW), none, lag, 0, np.empty(0), kind, value)
