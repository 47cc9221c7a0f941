"""What a sweep gives back: `SweepResult`, one row per config.

Axes: P configs, T bars of the span, D UTC dates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.bars.model import Floats, Ints
from engine.simulation import slots
from engine.simulation.inputs import Span
from engine.simulation.lockstep import Outcome
from engine.simulation.metrics import METRICS
from engine.simulation.slots import COUNTERS
from engine.simulation.workspace import (
    BLOCKED,
    HALTED,
    INVALID_NUMERIC,
    NO_SIGNAL,
    PRUNED,
    STATUSES,
    VALID,
)


@dataclass(frozen=True, eq=False)
class SweepResult:
    """Results of P configs over one span; row p belongs to ``configs[p]``.

    Parameters
    ----------
    start, stop : int
        Half-open range of bars.
    log_growth, bps_per_bar : float64 array, shape (P,)
        Bps per bar: of log growth, and mean bar return.
    roi, cagr, sharpe, sharpe_bar, sortino, calmar : float64 array, shape (P,)
    max_drawdown, max_drawdown_bars : float64 array, shape (P,)
    profit_factor, win_rate, gross_profit, turnover, exposure, net_exposure, gross_exposure : float64 array
    fees, slippage, financing, dividends, final_equity : float64 array, shape (P,)
        Account currency.
    n_obs, sum_r, sumsq_r, skew, kurt : float64 array, shape (P,)
        Of the T bar returns.
    years, annual_days : float64 array, shape (P,)
        The same in every row.
    trades : int64 array, shape (P,)
        Closed trades.
    counters : dict of int64 arrays, shape (P,)
        As in `BacktestResult`.
    status : int64 array, shape (P,)
        Index into ``statuses``.
    trades_hash : list of str, length P
        Equal for configs that trade alike.
    state : float64 array, shape (P, N_STATE)
        After the last bar, before anything is forced there: give it back to go on to a later stop.
    pruned_at : int64 array, shape (P,)
        Bars done when ``on_chunk`` stopped the config; -1: it was not stopped.
    daily_returns : float64 array, shape (P, D), or None
        Of equity, at the last bar of each UTC date, the first against the initial cash.

    NaN: undefined metrics, by the table of `engine.simulation.metrics.metrics`; with
    ``metrics="core"`` also those of returns, exposure and turnover; daily returns after a config
    was stopped, or of an equity that is not positive.
    """

    start: int
    stop: int
    roi: Floats
    cagr: Floats
    log_growth: Floats
    bps_per_bar: Floats
    sharpe: Floats
    sharpe_bar: Floats
    sortino: Floats
    max_drawdown: Floats
    max_drawdown_bars: Floats
    calmar: Floats
    profit_factor: Floats
    win_rate: Floats
    gross_profit: Floats
    exposure: Floats
    net_exposure: Floats
    gross_exposure: Floats
    turnover: Floats
    fees: Floats
    slippage: Floats
    financing: Floats
    dividends: Floats
    n_obs: Floats
    sum_r: Floats
    sumsq_r: Floats
    skew: Floats
    kurt: Floats
    final_equity: Floats
    years: Floats
    annual_days: Floats
    trades: Ints
    counters: dict[str, Ints]
    status: Ints
    trades_hash: list[str]
    state: Floats
    pruned_at: Ints
    daily_returns: Floats | None = None
    statuses: tuple[str, ...] = STATUSES


def _statuses(ended: Floats) -> Ints:
    """Return `workspace.status_of` each state, shape (P,)."""
    signals = ended[:, slots.SIGNALS_LONG] + ended[:, slots.SIGNALS_SHORT]
    found = [
        ended[:, slots.BROKEN_BAR] >= 0.0,
        ended[:, slots.HALTED_BAR] >= 0.0,
        ended[:, slots.N_FILLS] > 0.0,
        signals > 0.0,
    ]
    return np.select(found, [INVALID_NUMERIC, HALTED, VALID, BLOCKED], NO_SIGNAL).astype(np.int64)


def _hashes(ended: Floats) -> list[str]:
    """Return `workspace.hash_of` each state."""
    halves = np.ascontiguousarray(ended[:, [slots.HASH_HIGH, slots.HASH_LOW]].astype(">u4"))
    text = halves.tobytes().hex()
    return [text[k : k + 16] for k in range(0, len(text), 16)]


def _returns(days: Floats, cash: float) -> Floats:
    """Return the daily returns of equity at the end of each day, shape (P, D)."""
    before = np.column_stack([np.full(len(days), cash), days[:, :-1]])
    before[~(before > 0.0)] = np.nan
    returns: Floats = days / before - 1.0
    return returns


def outcome_of(count: int, days: int) -> Outcome:
    """Return room for the results of P configs over D dates."""
    return Outcome(
        np.empty((count, slots.N_STATE)),
        np.empty((count, slots.N_STATE)),
        np.empty((count, len(METRICS))),
        np.full((count, days), np.nan),
    )


def result_of(span: Span, outcome: Outcome, pruned_at: Ints, daily_returns: bool) -> SweepResult:
    """Return the results of configs that have ended."""
    ended, first = outcome.ended, slots.SIGNALS_LONG
    columns = dict(zip(METRICS, np.ascontiguousarray(outcome.metrics.T), strict=True))
    trades = columns.pop("n_trades").astype(np.int64)
    counters = ended[:, first : first + len(COUNTERS)].T.astype(np.int64)
    return SweepResult(
        span.start,
        span.stop,
        **columns,
        trades=trades,
        counters=dict(zip(COUNTERS, counters, strict=True)),
        status=np.where(pruned_at >= 0, PRUNED, _statuses(ended)),
        trades_hash=_hashes(ended),
        state=outcome.states,
        pruned_at=pruned_at,
        daily_returns=_returns(outcome.days, span.settings[slots.CASH_0]) if daily_returns else None,
    )
