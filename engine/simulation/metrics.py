"""Metrics of one run (`metrics`) by one compiled function, `summarise`, that sweeps use too.

Undefined is NaN, never 0 or infinity. r = simple returns of equity, the first against the initial
cash; daily returns are taken at the last bar of each UTC date. Moments come from power sums that
`account` adds bar by bar. T bars, M metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from engine.bars.model import Floats, Ints
from engine.simulation import slots
from engine.simulation.account import accumulate, book_trade, start_run
from engine.simulation.inputs import annual_days, day_starts, years_between

METRICS = (
    "roi", "cagr", "log_growth", "bps_per_bar", "sharpe", "sharpe_bar", "sortino",
    "max_drawdown", "max_drawdown_bars", "calmar", "profit_factor", "win_rate", "gross_profit",
    "exposure", "net_exposure", "gross_exposure", "turnover",
    "fees", "slippage", "financing", "dividends",
    "n_trades", "n_obs", "sum_r", "sumsq_r", "skew", "kurt", "final_equity", "years", "annual_days",
)  # fmt: skip
(
    ROI, CAGR, LOG_GROWTH, BPS_PER_BAR, SHARPE, SHARPE_BAR, SORTINO,
    MAX_DRAWDOWN, MAX_DRAWDOWN_BARS, CALMAR, PROFIT_FACTOR, WIN_RATE, GROSS_PROFIT,
    EXPOSURE, NET_EXPOSURE, GROSS_EXPOSURE, TURNOVER,
    FEES, SLIPPAGE, FINANCING, DIVIDENDS,
    N_TRADES, N_OBS, SUM_R, SUMSQ_R, SKEW, KURT, FINAL_EQUITY, YEARS, ANNUAL_DAYS,
) = range(30)  # fmt: skip

_compiled = njit(cache=True, nogil=True, error_model="numpy")
SPREAD = 4e-16  # a sum of squared deviations up to n * SPREAD * sum of squares is rounding: no spread


@_compiled
def _spread(n: float, total: float, squares: float) -> float:
    """Return the sum of squared deviations from the mean, 0 where only rounding is left."""
    rest = squares - total * total / n
    return rest if rest > SPREAD * n * squares else 0.0


@_compiled
def _returns(
    s: Floats, n: float, final: float, cash: float, years: float, annual: float, out: Floats
) -> None:
    """Metrics of bar and daily returns, from power sums."""
    total, squares, cubes, fourths = s[slots.SUM_1], s[slots.SUM_2], s[slots.SUM_3], s[slots.SUM_4]
    mean = total / n
    out[SUM_R], out[SUMSQ_R], out[BPS_PER_BAR] = total, squares, 1e4 * mean
    second = _spread(n, total, squares)
    if second > 0.0:
        variance = second / n
        if n > 1 and years > 0.0:
            out[SHARPE_BAR] = mean / math.sqrt(second / (n - 1)) * math.sqrt(n / years)
        third = cubes / n - mean * (3.0 * squares / n - 2.0 * mean * mean)
        fourth = fourths / n - mean * (4.0 * cubes / n - mean * (6.0 * squares / n - 3.0 * mean * mean))
        out[SKEW] = third / (variance * math.sqrt(variance))
        out[KURT] = fourth / (variance * variance)
    last = final / s[slots.DAY_EQUITY] - 1.0  # the day that the last bar ends
    days, day_sum = s[slots.DAYS] + 1.0, s[slots.DAY_SUM] + last
    day_squares = s[slots.DAY_SQUARES] + last * last
    day_losses = s[slots.DAY_LOSSES] + (last * last if last < 0.0 else 0.0)
    if days >= 2.0:
        mean = day_sum / days
        second = _spread(days, day_sum, day_squares)
        if second > 0.0:
            out[SHARPE] = mean / math.sqrt(second / (days - 1.0)) * math.sqrt(annual)
        if day_losses > 0.0:
            out[SORTINO] = mean / math.sqrt(day_losses / days) * math.sqrt(annual)


@_compiled
def summarise(s: Floats, cash: float, years: float, annual: float, core: bool, out: Floats) -> None:
    """Write the metrics of one run into ``out``, by METRICS.

    Parameters
    ----------
    s : float64 array, shape (N_STATE,)
        State after the last bar was accumulated and the last trade booked; not changed.
    cash, years, annual : float
        Initial cash, length of the run in years, annualisation factor of daily returns.
    core : bool
        True: only `add_drawdown` was called; metrics of returns, exposure and turnover stay NaN.
    out : float64 array, shape (M,)
        Written.

    NaN: where the table of `metrics` says so, and in every path metric when equity is not finite.
    """
    n, final = s[slots.BARS], s[slots.LAST_EQUITY]
    out[:] = np.nan
    out[YEARS], out[ANNUAL_DAYS], out[N_OBS] = years, annual, n
    out[FEES], out[SLIPPAGE] = s[slots.TOTAL_FEES], s[slots.TOTAL_SLIPPAGE]
    out[FINANCING], out[DIVIDENDS] = s[slots.TOTAL_FINANCED], s[slots.TOTAL_DIVIDENDS]
    out[N_TRADES], out[GROSS_PROFIT] = s[slots.CLOSED], s[slots.GAINS]
    if s[slots.CLOSED] > 0.0:
        out[WIN_RATE] = s[slots.WINS] / s[slots.CLOSED]
    if s[slots.LOSSES] > 0.0:
        out[PROFIT_FACTOR] = s[slots.GAINS] / s[slots.LOSSES]
    out[FINAL_EQUITY] = final
    if not np.isfinite(final):
        return
    out[ROI] = final / cash - 1.0
    out[MAX_DRAWDOWN], out[MAX_DRAWDOWN_BARS] = s[slots.DRAWDOWN], s[slots.DRAWDOWN_BARS]
    if s[slots.LOWEST] < s[slots.PEAK]:
        drawdown = 1.0 - s[slots.LOWEST] / s[slots.PEAK]
        if drawdown > out[MAX_DRAWDOWN]:
            out[MAX_DRAWDOWN], out[MAX_DRAWDOWN_BARS] = drawdown, n - 1.0 - s[slots.PEAK_BAR]
    if years > 0.0 and final > 0.0:
        yearly = (final / cash) ** (1.0 / years) - 1.0
        if np.isfinite(yearly):  # a few hours, compounded over a year, may overflow
            out[CAGR] = yearly
            if out[MAX_DRAWDOWN] > 0.0:
                out[CALMAR] = yearly / out[MAX_DRAWDOWN]
    if n > 0.0 and s[slots.RUINED] == 0.0 and final > 0.0:
        out[LOG_GROWTH] = 1e4 * math.log(final / cash) / n  # the sum of logs telescopes
    if core or n == 0.0:
        return
    out[EXPOSURE] = s[slots.HELD] / n
    mean_equity = (s[slots.EQUITY_SUM] + s[slots.SAME_BARS] * final) / n
    if years > 0.0 and mean_equity > 0.0:
        out[TURNOVER] = s[slots.TRADED_VALUE] / (mean_equity * years)
    if s[slots.RUINED] == 0.0:  # returns on an equity of zero or less mean nothing
        out[NET_EXPOSURE], out[GROSS_EXPOSURE] = s[slots.NET] / n, s[slots.GROSS] / n
        _returns(s, n, final, cash, years, annual, out)


def metrics(
    equity: Floats,
    position: Floats,
    close: Floats,
    ts: Ints,
    trades: Mapping[str, npt.NDArray[Any]],
    fills: Mapping[str, npt.NDArray[Any]],
    *,
    initial_cash: float,
    frame: str,
    calendar: str,
) -> dict[str, float]:
    """Return the metrics of one run.

    Parameters
    ----------
    equity, position, close : float64 array, shape (T,)
        Account currency, signed units and price at each close.
    ts : int64 array, shape (T,)
        Bar opens, microseconds UTC.
    trades, fills : mapping of arrays
        Tables as in `BacktestResult`.
    initial_cash : float
        e_0, the equity before the first bar.
    frame, calendar : str
        As in `Bars`; they give the end of the last bar and A, the annualisation of daily returns.

    Returns
    -------
    dict of float
        =================== ==================================================== ====================
        key                 formula                                              NaN when
        =================== ==================================================== ====================
        roi                 e_end/e_0 - 1                                        -
        cagr                (e_end/e_0)^(1/years) - 1                            e_end <= 0, years = 0,
                                                                                 overflow
        log_growth          1e4 * sum log(e_t/e_{t-1}) / T, bps per bar          equity <= 0, T = 0
        bps_per_bar         1e4 * mean bar return                                same
        sharpe              mean/sd (ddof 1) of daily returns * sqrt(A)          < 2 returns, sd = 0
        sharpe_bar          the same on bar returns, T/years periods             same
        sortino             mean / sqrt(mean(min(r, 0)^2)) * sqrt(A), daily      no negative return
        max_drawdown        max of 1 - e/peak, peak starts at e_0                -
        max_drawdown_bars   from its peak to the recovery, or to the end         -
        calmar              cagr / max_drawdown                                  drawdown 0, cagr NaN
        profit_factor       gains / losses of closed trades                      no losing trade
        win_rate            winning / closed trades                              no closed trade
        gross_profit        sum of pnl > 0 of closed trades                      -
        exposure            bars with a position at the close / T                T = 0
        net_exposure        mean of position*close/equity                        equity <= 0, T = 0
        gross_exposure      mean of its absolute value                           same
        turnover            sum of quantity*price of fills / mean(e) / years     years = 0
        fees, slippage, financing, dividends: sums over trades                   -
        n_trades, n_obs     closed trades, bars                                  -
        sum_r, sumsq_r      of bar returns                                       equity <= 0, T = 0
        skew, kurt          biased moments of bar returns, normal = 0 and 3      sd = 0
        final_equity, years, annual_days (A)                                     -
        =================== ==================================================== ====================

    Raises
    ------
    ConfigError
        The calendar is not known.

    NaN: equity that is not finite makes every path metric NaN. All metrics of returns are NaN
    when equity was <= 0 at a close.
    """
    state, settings = np.zeros(slots.N_STATE), np.zeros(slots.N_SETTINGS)
    settings[slots.CASH_0] = initial_cash
    start_run(state, settings)
    for quantity, price in zip(fills["quantity"].tolist(), fills["price"].tolist(), strict=True):
        state[slots.TRADED_VALUE] += abs(quantity) * price
    parts = ("fees", "slippage", "financing", "dividends", "pnl", "reason")
    columns = (np.asarray(trades[name], np.float64).tolist() for name in parts)
    for fees, slippage, financing, dividends, pnl, reason in zip(*columns, strict=True):
        book_trade(state, fees, slippage, financing, dividends, pnl, reason != slots.STILL_OPEN)
    accumulate(np.array(equity), np.array(position), np.array(close), day_starts(ts), state, 0, len(equity))
    out = np.empty(len(METRICS))
    summarise(
        state, float(initial_cash), years_between(ts, frame, calendar), annual_days(calendar), False, out
    )
    return dict(zip(METRICS, out.tolist(), strict=True))
