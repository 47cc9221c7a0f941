"""Metrics of one run (`metrics`) by one compiled function, `summarise`, that sweeps use too.

Undefined is NaN, never 0 or infinity. T bars, D days, M metrics. r = simple returns of equity,
the first against the initial cash; daily returns are taken at the last bar of each UTC date.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from engine.bars.model import Floats, Ints
from engine.simulation.inputs import Bytes, annual_days, day_ends, years_between
from engine.simulation.slots import FILL_COLUMNS, STILL_OPEN, TRADE_COLUMNS

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

# Columns of the kernel's trade and fill rows.
T_FEES, T_SLIPPAGE, T_FINANCING, T_DIVIDENDS, T_PNL, T_REASON = (
    TRADE_COLUMNS.index(name) for name in ("fees", "slippage", "financing", "dividends", "pnl", "reason")
)
F_QUANTITY, F_PRICE = FILL_COLUMNS.index("quantity"), FILL_COLUMNS.index("price")

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _sharpe_and_sortino(returns: Floats, periods: float) -> tuple[float, float]:
    """Return mean/sd (ddof 1) and mean/downside deviation, both times sqrt(periods a year)."""
    n = len(returns)
    if n < 2:
        return np.nan, np.nan
    mean = returns.sum() / n
    squares, downside = 0.0, 0.0
    for r in returns:
        squares += (r - mean) * (r - mean)
        if r < 0.0:
            downside += r * r
    sharpe = mean / math.sqrt(squares / (n - 1)) * math.sqrt(periods) if squares > 0.0 else np.nan
    sortino = mean / math.sqrt(downside / n) * math.sqrt(periods) if downside > 0.0 else np.nan
    return sharpe, sortino


@_compiled
def _path(
    equity: Floats, position: Floats, close: Floats, day_end: Bytes, cash: float, scratch: Floats, out: Floats
) -> None:
    """Metrics of the equity and position path; ``scratch`` float64[2, >= T] is overwritten."""
    n = len(equity)
    peak = low = cash
    peak_at, days, ruined = -1, 0, False
    drawdown, drawdown_bars, held, net, gross, total = 0.0, 0, 0, 0.0, 0.0, 0.0
    before, day_before, recovering = cash, cash, False
    for t in range(n):
        e = equity[t]
        if e >= peak:
            if recovering:
                drawdown_bars, recovering = t - peak_at, False
            peak = low = e
            peak_at = t
        elif e < low:  # division only here: the value is that of max(1 - e/peak) over all bars
            low = e
            if 1.0 - e / peak > drawdown:
                drawdown, recovering = 1.0 - e / peak, True
        scratch[0, t] = e / before - 1.0
        before = e
        if day_end[t]:
            scratch[1, days] = e / day_before - 1.0
            day_before = e
            days += 1
        ruined = ruined or not e > 0.0
        total += e
        if position[t] != 0.0:
            held += 1
            share = position[t] * close[t] / e
            net += share
            gross += abs(share)
    if recovering:
        drawdown_bars = n - 1 - peak_at
    out[MAX_DRAWDOWN], out[MAX_DRAWDOWN_BARS] = drawdown, drawdown_bars
    if n == 0:
        return
    out[EXPOSURE] = held / n
    mean_equity, years = total / n, out[YEARS]
    if years > 0.0 and mean_equity > 0.0:
        out[TURNOVER] /= mean_equity * years
    else:
        out[TURNOVER] = np.nan
    if ruined:
        return  # returns on an equity of zero or less mean nothing
    out[NET_EXPOSURE], out[GROSS_EXPOSURE] = net / n, gross / n
    r = scratch[0, :n]
    total_r = r.sum()
    mean = total_r / n
    squares, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for x in r:
        d = x - mean
        squares += x * x
        second += d * d
        third += d * d * d
        fourth += d * d * d * d
    out[SUM_R], out[SUMSQ_R], out[BPS_PER_BAR] = total_r, squares, 1e4 * mean
    if second > 0.0:
        variance = second / n
        if n > 1 and years > 0.0:
            out[SHARPE_BAR] = mean / math.sqrt(second / (n - 1)) * math.sqrt(n / years)
        out[SKEW] = third / n / (variance * math.sqrt(variance))
        out[KURT] = fourth / n / (variance * variance)
    out[LOG_GROWTH] = 1e4 * math.log(equity[n - 1] / cash) / n  # the sum of logs telescopes
    out[SHARPE], out[SORTINO] = _sharpe_and_sortino(scratch[1, :days], out[ANNUAL_DAYS])


@_compiled
def summarise(
    equity: Floats, position: Floats, close: Floats, day_end: Bytes, trades: Floats, fills: Floats,
    cash: float, years: float, days_a_year: float, scratch: Floats, out: Floats,
) -> None:  # fmt: skip
    """Write all metrics of one run into ``out``, float64 array, shape (M,), in the order of METRICS.

    ``trades`` and ``fills`` are the kernel's rows (TRADE_COLUMNS, FILL_COLUMNS); ``scratch`` is
    float64, shape (2, at least T), and is overwritten. NaN: where the table of `metrics` says so,
    and in every path metric when equity is not finite.
    """
    n = len(equity)
    out[:] = np.nan
    out[YEARS], out[ANNUAL_DAYS], out[N_OBS] = years, days_a_year, n
    out[FEES] = out[SLIPPAGE] = out[FINANCING] = out[DIVIDENDS] = out[TURNOVER] = 0.0
    for m in range(len(fills)):
        out[TURNOVER] += fills[m, F_QUANTITY] * fills[m, F_PRICE]
    closed, wins, gains, losses = 0, 0, 0.0, 0.0
    for m in range(len(trades)):
        out[FEES] += trades[m, T_FEES]
        out[SLIPPAGE] += trades[m, T_SLIPPAGE]
        out[FINANCING] += trades[m, T_FINANCING]
        out[DIVIDENDS] += trades[m, T_DIVIDENDS]
        if trades[m, T_REASON] != STILL_OPEN:
            pnl = trades[m, T_PNL]
            closed += 1
            if pnl > 0.0:
                wins += 1
                gains += pnl
            elif pnl < 0.0:
                losses -= pnl
    out[N_TRADES], out[GROSS_PROFIT] = closed, gains
    if closed > 0:
        out[WIN_RATE] = wins / closed
    if losses > 0.0:
        out[PROFIT_FACTOR] = gains / losses
    final = equity[n - 1] if n > 0 else cash
    out[FINAL_EQUITY] = final
    if not np.isfinite(final):
        out[TURNOVER] = np.nan
        return
    out[ROI] = final / cash - 1.0
    if n == 0:
        out[TURNOVER] = np.nan
    _path(equity, position, close, day_end, cash, scratch, out)
    if years > 0.0 and final > 0.0:
        yearly = (final / cash) ** (1.0 / years) - 1.0
        if np.isfinite(yearly):  # a few hours, compounded over a year, may overflow
            out[CAGR] = yearly
            if out[MAX_DRAWDOWN] > 0.0:
                out[CALMAR] = yearly / out[MAX_DRAWDOWN]


def rows(table: Mapping[str, npt.NDArray[Any]], columns: tuple[str, ...]) -> Floats:
    """Put the columns of a trade or fill table into rows, float64 array, shape (n, len(columns))."""
    out = np.empty((len(table[columns[0]]), len(columns)))
    for k, name in enumerate(columns):
        out[:, k] = table[name]
    return out


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
    out = np.empty(len(METRICS))
    summarise(
        np.array(equity), np.array(position), np.array(close), day_ends(ts),
        rows(trades, TRADE_COLUMNS), rows(fills, FILL_COLUMNS), initial_cash,
        years_between(ts, frame, calendar), annual_days(calendar), np.empty((2, len(equity))), out,
    )  # fmt: skip
    return dict(zip(METRICS, out.tolist(), strict=True))
