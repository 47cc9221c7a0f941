"""Buffers of one span and the calls of the bar loop for one run; a run may be made in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engine.bars.model import Floats, Ints
from engine.errors import SimulationError
from engine.simulation import slots
from engine.simulation.account import accumulate, start_run
from engine.simulation.inputs import Bytes, Span, years_between
from engine.simulation.kernel import bar_loop, finish_run
from engine.simulation.metrics import METRICS, summarise
from engine.simulation.signals import signal_bits
from engine.simulation.slots import (
    COUNTERS,
    FILL_COLUMNS,
    SIGNALS_LONG,
    TRADE_COLUMNS,
    Book,
    Plan,
)

if TYPE_CHECKING:
    from engine.strategies.program import Program
    from engine.strategies.rules import Signals

Loop = Callable[[Floats, Bytes, Bytes, Plan, Floats, Book, Floats, int, int], int]
TILE = 16_384  # bars
STATUSES = ("valid", "no_signal", "blocked", "halted", "invalid_numeric", "pruned")
VALID, NO_SIGNAL, BLOCKED, HALTED, INVALID_NUMERIC, PRUNED = range(6)


def status_of(state: Floats) -> int:
    """Return the index into STATUSES of a run with this state, float64 array, shape (N_STATE,)."""
    if state[slots.BROKEN_BAR] >= 0.0:
        return INVALID_NUMERIC
    if state[slots.HALTED_BAR] >= 0.0:
        return HALTED
    if state[slots.N_FILLS] > 0.0:
        return VALID
    return BLOCKED if state[SIGNALS_LONG] + state[slots.SIGNALS_SHORT] > 0.0 else NO_SIGNAL


def hash_of(state: Floats) -> str:
    """Return the rolling hash of all fills as 16 hex digits: equal for runs that trade alike."""
    return f"{int(state[slots.HASH_HIGH]):08x}{int(state[slots.HASH_LOW]):08x}"


def plan_of(signals: Signals, start: int, stop: int) -> Plan:
    """Return the levels and the size of ready signals for the span [start, stop), one table row each."""
    columns = [signals.stop, signals.trail, signals.size_distance, signals.limit]
    columns += [distance for distance, _ in signals.targets]
    rows = np.full(len(columns), -1, dtype=np.int64)
    asked = [k for k, column in enumerate(columns) if column is not None]
    rows[asked] = np.arange(len(asked))
    table = np.empty((max(len(asked), 1), stop - start))
    for row, k in enumerate(asked):
        table[row] = columns[k][start:stop]  # type: ignore[index]
    shares = np.array([share for _, share in signals.targets], dtype=np.float64)
    count = len(columns)
    return Plan(
        table, rows, np.ones(count), np.zeros(count), np.zeros(count, dtype=np.int64), 0,
        shares, signals.size_kind, float(signals.size_value),
    )  # fmt: skip


class Workspace:
    """The buffers that runs over one span share; a run overwrites what the run before left.

    Parameters
    ----------
    span : Span
        Checked bars and settings.

    Attributes
    ----------
    equity, position : float64 array, shape (T,)
        At each close of the last run.
    state, last : float64 array, shape (N_STATE,)
        The state after the run, and at its last close before `close_at_end` acts.
    status, done : int
        Index into STATUSES; bars of the span that were run.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        n = span.stop - span.start
        self.equity, self.position = np.empty(n), np.empty(n)
        self.state, self.last = np.zeros(slots.N_STATE), np.zeros(slots.N_STATE)
        self.status, self.done = NO_SIGNAL, 0
        self._close = span.columns[slots.CLOSE]
        self._own_bits = np.empty(n, np.uint8)
        self._make_records(min(1024, 4 * n + 64))

    def _make_records(self, capacity: int) -> None:
        self._fills = np.empty((capacity, len(FILL_COLUMNS)))
        self._trades = np.empty((capacity // 2 + 2, len(TRADE_COLUMNS)))
        self._book = Book(self.equity, self.position, self._fills, self._trades, True)

    def _check(self, signals: Signals) -> None:
        length, shares = len(signals.bits), [share for _, share in signals.targets]
        if length < self.span.stop:
            raise SimulationError(
                f"signals hold {length} bars; expected at least {self.span.stop}, the stop of the run. "
                "Signals are made from the columns of the whole series"
            )
        if not (math.isfinite(signals.size_value) and signals.size_value > 0.0):
            raise SimulationError(f"size value was {signals.size_value!r}; expected a number > 0")
        if signals.size_kind not in (0, 1, 2, 3):
            raise SimulationError(
                f"size kind was {signals.size_kind!r}; expected 0 fraction, 1 risk, 2 units, 3 notional"
            )
        if signals.size_kind == slots.RISK and signals.size_distance is None:
            raise SimulationError("size is a risk without a distance; expected size_distance, or a stop")
        if not all(0.0 < share <= 1.0 for share in shares):
            raise SimulationError(f"target shares were {shares}; expected each > 0 and <= 1")

    def start(self, bits: Bytes, plan: Plan, loop: Loop = bar_loop) -> None:
        """Begin a run on the span's bits, uint8 array, shape (T,); ``loop`` may also write them."""
        self._bits, self.plan, self._loop = bits, plan, loop
        self.done = self._added = 0
        start_run(self.state, self.span.settings)

    def stand_at(self, bar: int) -> None:
        """Let a run that was begun go on at a bar of the span, from a state that the caller sets."""
        self.done = self._added = bar

    def go(self, prune_every: int, pruning_callback: Callable[[int, float], bool] | None) -> None:
        """Run to the span's end, or to a call of the callback (`backtest.run`) that answers True."""
        n = self.span.stop - self.span.start
        if pruning_callback is not None:
            for step in range(prune_every, n, prune_every):
                self._run_to(step)
                if self.state[slots.BROKEN_BAR] >= 0.0:
                    break
                value = float(self.equity[step - 1] / self.span.settings[slots.CASH_0] - 1.0)
                if pruning_callback(step, value):
                    self._finish()
                    return
        self._run_to(n)
        self._finish()

    def _run_to(self, stop: int) -> None:
        """Run up to a bar, in tiles that stay in the cache until their sums are added."""
        span, n = self.span, self.span.stop - self.span.start
        while self.done < stop:
            code = self._loop(
                span.columns, span.events, self._bits, self.plan, span.settings, self._book, self.state,
                self.done, min(self.done + TILE, stop),
            )  # fmt: skip
            self.done = int(self.state[slots.T_NEXT])
            if code == slots.BUFFERS_FULL:
                fills, trades = self._fills, self._trades
                self._make_records(2 * len(fills) + 2 * len(self.plan.shares) + 16)
                self._fills[: len(fills)], self._trades[: len(trades)] = fills, trades
            elif self.done - self._added >= TILE and self.done < n:
                self._add(self.done)

    def _add(self, stop: int) -> None:
        """Add the bars up to ``stop`` to the account's sums."""
        accumulate(
            self.equity, self.position, self._close, self.span.day_start, self.state, self._added, stop
        )
        self._added = stop

    def _finish(self) -> None:
        """End the run after the bars done: before the span's end it is pruned, and nothing is forced."""
        n, span = self.done, self.span
        self.last[:] = self.state
        whole = n == span.stop - span.start
        close_out = whole and span.settings[slots.CLOSE_AT_END] != 0.0
        finish_run(span.columns, span.settings, self._book, self.state, n, close_out)
        self._add(n)
        self.status = status_of(self.state) if whole else PRUNED

    def run(self, signals: Signals) -> None:
        """Run the span on one set of signals.

        Raises
        ------
        SimulationError
            Signals that no run can use: too short, or an impossible size or target share.
        """
        self._check(signals)
        start, stop = self.span.start, self.span.stop
        self.start(np.array(signals.bits[start:stop]), plan_of(signals, start, stop))
        self.go(0, None)

    def start_program(self, program: Program, table: Floats, rows: Ints) -> None:
        """Begin a run on a program of one config; ``rows`` are those of its columns in ``table``."""
        span = self.span
        pairs = np.array(program.rows[0])
        pairs[0::2] = rows[pairs[0::2]]
        count = span.stop - span.start
        signal_bits(program.code, program.constants[0], pairs, table, span.start, 0, count, self._own_bits)
        plan = Plan(
            table, rows[program.level_rows[0]], program.level_scales[0], program.level_offsets[0],
            program.level_lags[0], span.start, program.shares[0], program.size_kind,
            float(program.size_values[0]),
        )  # fmt: skip
        self.start(self._own_bits, plan)

    @property
    def fills(self) -> Floats:
        """Fill rows of the last run, float64 array, shape (fills, 7), columns FILL_COLUMNS."""
        return self._fills[: int(self.state[slots.N_FILLS])]

    @property
    def trades(self) -> Floats:
        """Trade rows of the last run, float64 array, shape (trades, 14), columns TRADE_COLUMNS."""
        return self._trades[: int(self.state[slots.N_TRADES])]

    @property
    def counters(self) -> Floats:
        """Counters of the last run, float64 array, shape (9,), in the order of COUNTERS."""
        return self.state[SIGNALS_LONG : SIGNALS_LONG + len(COUNTERS)]

    def trades_hash(self) -> str:
        """Return `hash_of` the last run."""
        return hash_of(self.state)

    def summarise(self, out: Floats) -> None:
        """Write the metrics of the last run into ``out``, float64 array, shape (len(METRICS),)."""
        span, years = self.span, self.span.years
        if self.done < span.stop - span.start:
            ts = span.bars.ts[span.start : span.start + self.done]
            years = years_between(ts, span.bars.frame, span.bars.calendar)
        summarise(self.state, float(span.settings[slots.CASH_0]), years, span.annual_days, False, out)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last run by name."""
        out = np.empty(len(METRICS))
        self.summarise(out)
        return dict(zip(METRICS, out.tolist(), strict=True))
