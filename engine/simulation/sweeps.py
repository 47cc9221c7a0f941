"""Many configs of one strategy: `sweep` over one span, `sweep_spans` over several (inner folds).

The loop and the metrics are those of a single run, each config alone, so the numbers are equal
bit for bit whatever the number of configs or their order. P configs, T bars, M metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.bars.model import Floats, Ints
from engine.simulation.backtest import strategy_signals
from engine.simulation.inputs import Execution, prepare
from engine.simulation.metrics import METRICS
from engine.simulation.slots import COUNTERS
from engine.simulation.workspace import STATUSES, Workspace
from engine.strategies.registry import StrategyClass

if TYPE_CHECKING:
    from engine.features.table import FeatureSet


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

    NaN: undefined metrics, by the table of `engine.simulation.metrics.metrics`.
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
    statuses: tuple[str, ...] = STATUSES


class _Table:
    """Rows of P configs over one span, and the workspace that fills them."""

    def __init__(self, work: Workspace, count: int) -> None:
        self.work = work
        self.metrics = np.empty((count, len(METRICS)))  # (P, M)
        self.counters = np.zeros((count, len(COUNTERS)), dtype=np.int64)  # (P, 8)
        self.status = np.zeros(count, dtype=np.int64)
        self.trades_hash: list[str] = []

    def result(self) -> SweepResult:
        columns = dict(zip(METRICS, np.ascontiguousarray(self.metrics.T), strict=True))
        trades = columns.pop("n_trades").astype(np.int64)
        counters = dict(zip(COUNTERS, np.ascontiguousarray(self.counters.T), strict=True))
        span = self.work.span
        return SweepResult(
            span.start, span.stop, **columns, trades=trades, counters=counters,
            status=self.status, trades_hash=self.trades_hash,
        )  # fmt: skip


def sweep_spans(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Sequence[Mapping[str, Any]],
    execution: Execution,
    spans: Sequence[tuple[int, int]],
) -> list[SweepResult]:
    """Run P configs over several spans; signals of a config are made once.

    Parameters
    ----------
    features : FeatureSet
        Columns of the whole series.
    strategy : StrategyClass
        A registered class of kind ``rules``.
    configs : sequence of mappings, length P
        Parameters; those left out have their defaults.
    execution : Execution
        Settings of fills, size and costs.
    spans : sequence of (start, stop)
        Half-open ranges of bar indices; each starts flat with the initial cash.

    Returns
    -------
    list of SweepResult
        One per span, in their order.

    Raises
    ------
    ConfigError, DataError, SimulationError
        As in `engine.simulation.run`.

    NaN: as in `engine.simulation.run`.
    """
    tables = [
        _Table(Workspace(prepare(features.bars, execution, start, stop)), len(configs))
        for start, stop in spans
    ]
    for p, params in enumerate(configs):
        signals = strategy_signals(features, strategy, params, execution.sides)
        for table in tables:
            work = table.work
            work.run(signals)
            work.summarise(table.metrics[p])
            table.counters[p] = work.counters
            table.status[p] = work.status
            table.trades_hash.append(work.trades_hash())
    return [table.result() for table in tables]


def sweep(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Sequence[Mapping[str, Any]],
    execution: Execution,
    *,
    start: int,
    stop: int,
) -> SweepResult:
    """Run P configs over [start, stop); for the arguments and errors see `sweep_spans`.

    NaN: as in `engine.simulation.run`.
    """
    return sweep_spans(features, strategy, configs, execution, [(start, stop)])[0]
