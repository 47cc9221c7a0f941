"""Buffers of one span and the one call of the bar loop; single runs and sweeps both go through here."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from engine.bars.model import Floats
from engine.errors import SimulationError
from engine.simulation import slots
from engine.simulation.inputs import Span
from engine.simulation.kernel import bar_loop
from engine.simulation.metrics import METRICS, summarise
from engine.simulation.slots import FILL_COLUMNS, SIGNALS_LONG, TARGET_ROW, TRADE_COLUMNS

if TYPE_CHECKING:
    from engine.strategies.rules import Signals

STATUSES = ("valid", "no_signal", "blocked", "halted", "invalid_numeric")
VALID, NO_SIGNAL, BLOCKED, HALTED, INVALID_NUMERIC = range(5)


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
    state, last : float64 array, shape (32,)
        The kernel's state after the run, and at the last close before `close_at_end` acts.
    n_trades, status : int
        Rows of trades (an open one included), index into STATUSES.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        n = span.stop - span.start
        self.equity, self.position = np.empty(n), np.empty(n)
        self.state, self.last = np.zeros(slots.N_STATE), np.zeros(slots.N_STATE)
        self.n_trades, self.status = 0, NO_SIGNAL
        self._close = np.array(span.columns[slots.CLOSE])
        self._bits = np.zeros(n, dtype=np.uint8)
        self._levels = np.empty((TARGET_ROW, n))
        self._asked = np.zeros(TARGET_ROW, dtype=np.int8)
        self._shares = np.empty(0)
        self._scratch = np.empty((2, n))
        self._make_records(min(1024, 4 * n + 64))

    def _make_records(self, capacity: int) -> None:
        self._fills = np.empty((capacity, len(FILL_COLUMNS)))
        self._trades = np.empty((capacity // 2 + 2, len(TRADE_COLUMNS)))

    def _load(self, signals: Signals) -> None:
        """Copy the span's part of the signals into buffers of one dtype and layout."""
        start, stop, count = self.span.start, self.span.stop, len(signals.targets)
        if len(self._levels) != TARGET_ROW + count:
            self._levels = np.empty((TARGET_ROW + count, stop - start))
            self._asked = np.zeros(TARGET_ROW + count, dtype=np.int8)
            self._shares = np.empty(count)
        self._bits[:] = signals.bits[start:stop]
        rows = {
            slots.STOP_ROW: signals.stop,
            slots.TRAIL_ROW: signals.trail,
            slots.SIZE_ROW: signals.size_distance,
        }
        for k, (distance, share) in enumerate(signals.targets):
            rows[TARGET_ROW + k] = distance
            self._shares[k] = share
        for row, column in rows.items():
            self._asked[row] = column is not None
            if column is not None:
                self._levels[row] = column[start:stop]

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

    def run(self, signals: Signals) -> None:
        """Run the bar loop on one set of signals.

        Raises
        ------
        SimulationError
            Signals that no run can use: too short, or an impossible size or target share.
        """
        self._check(signals)
        self._load(signals)
        span = self.span
        while True:
            code, self.n_trades = bar_loop(
                span.columns, span.traded, self._bits, self._levels, self._asked, self._shares,
                signals.size_kind, signals.size_value, span.settings,
                self.equity, self.position, self._fills, self._trades, self.state, self.last,
            )  # fmt: skip
            if code != slots.BUFFERS_FULL:
                break
            self._make_records(2 * len(self._fills) + 2 * len(self._shares) + 16)
        if code == slots.NOT_FINITE:
            self.status = INVALID_NUMERIC
            self.last[:] = self.state
        elif self.state[slots.HALTED_BAR] >= 0.0:
            self.status = HALTED
        elif self.state[slots.N_FILLS] > 0.0:
            self.status = VALID
        else:
            signalled = self.state[SIGNALS_LONG] + self.state[slots.SIGNALS_SHORT] > 0.0
            self.status = BLOCKED if signalled else NO_SIGNAL

    @property
    def fills(self) -> Floats:
        """Fill rows of the last run, float64 array, shape (fills, 7), columns FILL_COLUMNS."""
        return self._fills[: int(self.state[slots.N_FILLS])]

    @property
    def trades(self) -> Floats:
        """Trade rows of the last run, float64 array, shape (trades, 14), columns TRADE_COLUMNS."""
        return self._trades[: self.n_trades]

    @property
    def counters(self) -> Floats:
        """Counters of the last run, float64 array, shape (8,), in the order of COUNTERS."""
        return self.state[SIGNALS_LONG:]

    def trades_hash(self) -> str:
        """Return the sha256 of the fill rows' bytes, hex."""
        return hashlib.sha256(self.fills.data).hexdigest()

    def summarise(self, out: Floats) -> None:
        """Write the metrics of the last run into ``out``, float64 array, shape (len(METRICS),)."""
        span = self.span
        summarise(
            self.equity, self.position, self._close, span.day_end, self.trades, self.fills,
            float(span.settings[slots.CASH_0]), span.years, span.annual_days, self._scratch, out,
        )  # fmt: skip

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last run by name."""
        out = np.empty(len(METRICS))
        self.summarise(out)
        return dict(zip(METRICS, out.tolist(), strict=True))
