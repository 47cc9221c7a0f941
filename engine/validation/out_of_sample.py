"""Out-of-sample runs: each fold's frozen parameters on its own test bars, stitched to one account.

The account goes on from fold to fold: a fold starts with the equity that the one before left,
so that the sum of all trades is the change of equity over the whole stitched span.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.bars.model import Bars, Floats
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, simulate
from engine.simulation import levels as levels_simulation
from engine.simulation.levels_problem import LevelsProblem
from engine.simulation.metrics import metrics
from engine.simulation.slots import END, FILL_COLUMNS, REASONS, TARGET, TRADE_COLUMNS
from engine.strategies.registry import StrategyClass
from engine.strategies.rules import Signals

Table = dict[str, npt.NDArray[Any]]
LEVELS_REASONS = tuple("close" if i == END else name for i, name in enumerate(REASONS))
_EXACT = frozenset(("trade", "ts", "side", "reason", "entry_ts", "exit_ts", "bars_held"))


@dataclass(frozen=True, eq=False)
class Piece:
    """What an account did on the bars [start, stop).

    Parameters
    ----------
    fold : int
        Outer fold, -1 for stitched folds.
    start, stop : int
        Bar indices, half-open.
    cash : float
        Equity before the first bar.
    equity, position : float64 array, shape (stop - start,)
        Account currency and signed units at each close.
    trades, fills : dict of arrays
        Tables as in `engine.simulation.BacktestResult`.
    reasons : tuple of str
        Names of the reason codes.
    compounded : bool
        False: every bar trades a fixed notional, the account's first cash.
    status : str
        Of the run.
    """

    fold: int
    start: int
    stop: int
    cash: float
    equity: Floats
    position: Floats
    trades: Table
    fills: Table
    reasons: tuple[str, ...] = REASONS
    compounded: bool = True
    status: str = "valid"
    _known: dict[float, dict[str, float]] = field(default_factory=dict, init=False, repr=False)

    def metrics(self, bars: Bars, notional: float) -> dict[str, float]:
        """Return the metrics of `engine.simulation.metrics.metrics` on these bars.

        ``bps_per_bar`` is log growth where the account compounds (the measure that the search
        maximises). Where every bar trades the same ``notional``, all is measured against that:
        ``bps_per_bar`` is the mean net move, ``roi`` and ``max_drawdown`` are sums over notional,
        the ratios rest on net moves, and ``cagr`` and ``calmar`` are NaN. NaN: as there.
        """
        if notional in self._known:
            return self._known[notional]
        span = slice(self.start, self.stop)
        moves = self.returns(notional)
        # a path whose bar returns are the net moves gives their ratios, whatever the account holds
        path = self.equity if self.compounded else np.asarray(notional * np.cumprod(1.0 + moves), np.float64)
        found = metrics(
            path, self.position, bars.close[span], bars.ts[span], self.trades, self.fills,
            initial_cash=self.cash if self.compounded else notional, frame=bars.frame, calendar=bars.calendar,
        )  # fmt: skip
        found["bps_per_bar"] = found["log_growth"]
        if not self.compounded and len(moves):
            traded = float(self.fills["quantity"] @ self.fills["price"])
            found["bps_per_bar"], found["roi"] = 1e4 * float(moves.mean()), float(moves.sum())
            found["max_drawdown"] = float(np.max(self.drawdown(notional)))
            found["turnover"] = traded / notional / found["years"] if found["years"] > 0 else math.nan
            found["cagr"] = found["calmar"] = math.nan
        self._known[notional] = found
        return found

    def drawdown(self, notional: float) -> Floats:
        """Return the fall of equity from its highest value so far, the first cash included, at each close.

        A share of that highest value where the account compounds; of ``notional`` where every bar trades
        the same one. ``max_drawdown`` of `metrics` is its largest value.

        Returns
        -------
        float64 array, shape (stop - start,)
            0 at a new peak; may pass 1 where a fixed notional lost more than the account held.
        """
        peak = np.maximum.accumulate(np.maximum(self.equity, self.cash))
        return np.asarray((peak - self.equity) / (peak if self.compounded else notional), dtype=np.float64)

    def returns(self, notional: float) -> Floats:
        """Return net returns per bar, float64, shape (stop - start,)."""
        before = np.concatenate([[self.cash], self.equity[:-1]])
        return np.asarray((self.equity - before) / (before if self.compounded else notional))


def empty_table(columns: Sequence[str]) -> Table:
    """Return a trade or fill table without rows."""
    return {name: np.zeros(0, dtype=np.int64 if name in _EXACT else np.float64) for name in columns}


def flat_piece(fold: int, start: int, stop: int, cash: float, *, status: str, compounded: bool) -> Piece:
    """Return the account that trades nothing."""
    bars = stop - start
    return Piece(
        fold, start, stop, cash, np.full(bars, cash), np.zeros(bars),
        empty_table(TRADE_COLUMNS), empty_table(FILL_COLUMNS), compounded=compounded, status=status,
    )  # fmt: skip


def rules_piece(
    features: FeatureSet,
    strategy: StrategyClass,
    params: Mapping[str, Any],
    execution: Execution,
    fold: int,
    start: int,
    stop: int,
    cash: float,
    *,
    open_fold: bool,
) -> Piece:
    """Run frozen parameters on one test span; in the open fold the last position stays, marked."""
    if stop == start or cash <= 0:
        return flat_piece(fold, start, stop, cash, status="empty", compounded=True)
    execution = replace(execution, initial_cash=cash, close_at_end=not open_fold)
    done = run(features, strategy, params, execution, start=start, stop=stop)
    return Piece(
        fold, start, stop, cash, done.equity, done.position, done.trades, done.fills, status=done.status
    )


def levels_piece(
    bars: Bars, problem: LevelsProblem, u: float, v: float, policy: str, slippage_bps: float,
    fold: int, start: int, stop: int, cash: float, notional: float,
) -> Piece:  # fmt: skip
    """Run frozen offsets on one test span; every position is closed inside its own bar."""
    scored = levels_simulation.bar_net(problem, u, v, policy)
    filled = levels_simulation.trades(problem, bars, u, v, policy)
    net = np.zeros(stop - start)
    net[scored.index - start] = scored.net
    count, ts = len(filled.index), bars.ts[filled.index]
    number = np.arange(count, dtype=np.int64)
    quantity, weight = filled.quantity * notional, filled.quantity * bars.close[filled.index - 1]
    slippage = np.where(filled.at_target, 0.0, weight * slippage_bps / 1e4) * notional
    fees = filled.costs * notional - slippage
    entry_fee = weight * problem.fee_entry * notional
    # prices as scored, before the order's rounding to the tick, slippage in the exit: fills rebuild pnl
    base, slip = bars.close[filled.index - 1], np.where(filled.at_target, 0.0, slippage_bps / 1e4)
    entry_price = base * (1.0 + filled.entry_level)
    exit_price = base * (1.0 + filled.exit_level - filled.side * slip)
    reason = np.where(filled.at_target, TARGET, END).astype(np.int64)
    zero = np.zeros(count)
    trades: Table = {
        "trade": number, "side": filled.side, "entry_ts": ts, "exit_ts": ts, "quantity": quantity,
        "entry_price": entry_price, "exit_price": exit_price, "fees": fees,
        "slippage": slippage, "financing": zero, "dividends": zero, "pnl": filled.net * notional,
        "reason": reason, "bars_held": np.zeros(count, dtype=np.int64),
    }  # fmt: skip
    fills: Table = {
        "trade": np.repeat(number, 2), "ts": np.repeat(ts, 2),
        "side": np.ravel(np.column_stack([filled.side, -filled.side])), "quantity": np.repeat(quantity, 2),
        "price": np.ravel(np.column_stack([entry_price, exit_price])),
        "fee": np.ravel(np.column_stack([entry_fee, fees - entry_fee])),
        "reason": np.ravel(np.column_stack([np.zeros_like(reason), reason])),
    }  # fmt: skip
    status = "valid" if count else "blocked"
    return Piece(
        fold, start, stop, cash, cash + notional * np.cumsum(net), np.zeros(stop - start), trades, fills,
        LEVELS_REASONS, compounded=False, status=status,
    )  # fmt: skip


def stitch(pieces: Sequence[Piece]) -> Piece:
    """Join the pieces of consecutive folds to one account; trades are numbered through."""
    offsets = np.cumsum([0, *(len(piece.trades["trade"]) for piece in pieces)])

    def join(tables: Sequence[Table], columns: Sequence[str]) -> Table:
        joined = {name: np.concatenate([table[name] for table in tables]) for name in columns}
        shift = [np.full(len(t["trade"]), offset) for t, offset in zip(tables, offsets[:-1], strict=True)]
        return {**joined, "trade": joined["trade"] + np.concatenate(shift)}

    first = pieces[0]
    return replace(
        first,
        fold=-1,
        stop=pieces[-1].stop,
        equity=np.concatenate([piece.equity for piece in pieces]),
        position=np.concatenate([piece.position for piece in pieces]),
        trades=join([piece.trades for piece in pieces], TRADE_COLUMNS),
        fills=join([piece.fills for piece in pieces], FILL_COLUMNS),
        reasons=next((p.reasons for p in pieces if len(p.trades["trade"])), first.reasons),
        status="valid",
    )


def buy_and_hold(bars: Bars, execution: Execution, start: int, stop: int) -> Piece:
    """Return the account that buys with all its cash at the first open and holds; dividends to cash."""
    first = max(start - 1, 0)  # decided at the close before, so filled at the first open
    signals = Signals(np.ones(len(bars), dtype=np.uint8), size_kind=0, size_value=1.0)
    whole = replace(execution, close_at_end=False)
    done = simulate(bars, signals, whole, start=first, stop=stop)
    skip = start - first
    return Piece(
        -1, start, stop, whole.initial_cash, done.equity[skip:], done.position[skip:], done.trades, done.fills
    )


def total_returns(bars: Bars, start: int, stop: int) -> Floats:
    """Return the symbol's return per bar, dividends in, no costs; shape (stop - start,), start >= 1."""
    before = bars.close[start - 1 : stop - 1]
    return np.asarray((bars.close[start:stop] + bars.dividend[start:stop]) / before - 1.0)


def matched_returns(equity: Floats, position: Floats, close: Floats, total: Floats) -> Floats:
    """Return what an exposure-matched hold earns per bar; all arrays of shape (T,), on the same bars.

    Parameters
    ----------
    equity, position, close : float64 array
        Account currency, signed units and price at each close.
    total : float64 array
        Return of the symbol per bar, as in `total_returns`.

    NaN: none; an account that was ruined is held against no trade.
    """
    if not len(equity) or not equity.min() > 0:
        return np.zeros(len(equity))
    return np.asarray(float(np.mean(position * close / equity)) * total)


def matched_hold(bars: Bars, tuned: Piece, notional: float) -> Piece:
    """Return the exposure-matched hold: the tuned account's mean net exposure, held all the time.

    What a strategy earns above it is not mere drift. A strategy that is flat at every close is
    held against no trade.
    """
    exposure = tuned.metrics(bars, notional)["net_exposure"]
    exposure = 0.0 if not np.isfinite(exposure) else exposure
    growth = 1.0 + exposure * total_returns(bars, tuned.start, tuned.stop)
    equity = np.asarray(tuned.cash * np.cumprod(growth), dtype=np.float64)
    return Piece(
        tuned.fold, tuned.start, tuned.stop, tuned.cash, equity,
        exposure * equity / bars.close[tuned.start : tuned.stop],
        empty_table(TRADE_COLUMNS), empty_table(FILL_COLUMNS),
    )  # fmt: skip


def part(bars: Bars, hold: Piece, fold: int, start: int, stop: int) -> Piece:
    """Return the bars [start, stop) of `buy_and_hold`: fills, costs and dividends that fell there."""
    a, b = start - hold.start, stop - hold.start
    cash = float(hold.equity[a - 1]) if a > 0 else hold.cash
    equity, position = hold.equity[a:b], hold.position[a:b]
    before = np.concatenate([[hold.position[a - 1] if a > 0 else 0.0], position[:-1]])
    inside = (hold.fills["ts"] >= bars.ts[start]) & (hold.fills["ts"] <= bars.ts[stop - 1])
    fills = {name: column[inside] for name, column in hold.fills.items()}
    trades = dict(hold.trades)  # one, still open: what it earned and cost inside this part
    if len(trades["trade"]):
        entered = len(fills["trade"]) > 0
        trades["dividends"] = np.array([float(before @ bars.dividend[start:stop])])
        trades["pnl"] = np.array([float(equity[-1]) - cash])
        for name in ("fees", "slippage"):
            trades[name] = trades[name] * entered
    return replace(
        hold, fold=fold, start=start, stop=stop, cash=cash, equity=equity, position=position,
        trades=trades, fills=fills,
    )  # fmt: skip
