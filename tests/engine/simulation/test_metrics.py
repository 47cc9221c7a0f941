"""Metrics against plain two-pass formulas, and NaN in every cell that is undefined."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.bars.model import known_at
from engine.errors import ConfigError
from engine.simulation import simulate
from engine.simulation.inputs import annual_days
from engine.simulation.metrics import METRICS, metrics

YEAR_US = 365.25 * 86_400e6
NO_TRADES = {
    name: np.zeros(0)
    for name in (
        "trade", "side", "entry_ts", "exit_ts", "quantity", "entry_price", "exit_price", "fees",
        "slippage", "financing", "dividends", "pnl", "reason", "bars_held",
    )
}  # fmt: skip
NO_FILLS = {name: np.zeros(0) for name in ("trade", "ts", "side", "quantity", "price", "fee", "reason")}
DAY_US = 86_400_000_000


def plain(result, bars, execution):
    """Section 8's formulas, each written out on lists."""
    nan = math.nan
    cash = execution.initial_cash
    close = bars.close[result.start : result.stop].tolist()
    ts = bars.ts[result.start : result.stop].tolist()
    equity, position = result.equity.tolist(), result.position.tolist()
    n = len(equity)
    out = dict.fromkeys(METRICS, nan)
    closed = [
        pnl for pnl, reason in zip(result.trades["pnl"].tolist(), result.trades["reason"], strict=True)
        if result.reasons[reason] != "open"
    ]  # fmt: skip
    end = int(known_at(np.array(ts[-1:]), bars.frame, bars.calendar)[0]) if n else 0
    years = (end - ts[0]) / YEAR_US if n else 0.0
    days_a_year = {"24/7": 365.0, "observed": 252.0}[bars.calendar]
    final = equity[-1] if n else cash
    gains, losses = sum(p for p in closed if p > 0), -sum(p for p in closed if p < 0)
    out.update(
        roi=final / cash - 1, n_obs=n, n_trades=len(closed), gross_profit=gains, final_equity=final,
        years=years, annual_days=days_a_year,
        **{k: sum(result.trades[k].tolist()) for k in ("fees", "slippage", "financing", "dividends")},
    )  # fmt: skip
    if closed:
        out["win_rate"] = sum(p > 0 for p in closed) / len(closed)
    if losses:
        out["profit_factor"] = gains / losses
    peaks = [max([cash, *equity[: t + 1]]) for t in range(n)]
    out["max_drawdown"] = max([0.0] + [1 - e / p for e, p in zip(equity, peaks, strict=True)])
    if not n:
        return {**out, "max_drawdown_bars": 0.0}
    if final > 0:
        growth = math.log(final / cash) / years
        out["cagr"] = math.expm1(growth) if growth < 700 else nan  # a year of such hours overflows
        if out["max_drawdown"] > 0:
            out["calmar"] = out["cagr"] / out["max_drawdown"]
    out["exposure"] = sum(p != 0 for p in position) / n
    if sum(equity) > 0:
        traded = sum((result.fills["quantity"] * result.fills["price"]).tolist())
        out["turnover"] = traded / (sum(equity) / n) / years
    if min(equity) <= 0:
        return out
    shares = [p * c / e for p, c, e in zip(position, close, equity, strict=True)]
    out["net_exposure"], out["gross_exposure"] = sum(shares) / n, sum(map(abs, shares)) / n
    before = [cash, *equity]
    r = [b / a - 1 for a, b in zip(before[:-1], before[1:], strict=True)]
    out["log_growth"] = 1e4 * sum(math.log(b / a) for a, b in zip(before[:-1], before[1:], strict=True)) / n
    out["bps_per_bar"], out["sum_r"], out["sumsq_r"] = 1e4 * sum(r) / n, sum(r), sum(x * x for x in r)
    mean = statistics.fmean(r)
    second = sum((x - mean) ** 2 for x in r) / n
    if second > 0:
        out["skew"] = sum((x - mean) ** 3 for x in r) / n / second**1.5
        out["kurt"] = sum((x - mean) ** 4 for x in r) / n / second**2
    last_of_day = [e for t, e in enumerate(equity) if t + 1 == n or ts[t] // DAY_US != ts[t + 1] // DAY_US]
    daily = [b / a - 1 for a, b in zip([cash, *last_of_day][:-1], last_of_day, strict=True)]
    for name, returns, periods in (("sharpe", daily, days_a_year), ("sharpe_bar", r, n / years)):
        if len(returns) > 1 and statistics.stdev(returns) > 0:
            out[name] = statistics.fmean(returns) / statistics.stdev(returns) * math.sqrt(periods)
    downside = math.sqrt(sum(min(x, 0) ** 2 for x in daily) / len(daily))
    if downside > 0 and len(daily) > 1:
        out["sortino"] = statistics.fmean(daily) / downside * math.sqrt(days_a_year)
    return out


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_metrics_equal_the_plain_formulas(random_case, seed):
    bars, signals, execution, start, stop = random_case(seed)
    result = simulate(bars, signals, execution, start=start, stop=stop)
    expected = plain(result, bars, execution)
    assert set(result.metrics) == set(METRICS) == set(expected)
    for name, value in expected.items():
        if name != "max_drawdown_bars":
            assert result.metrics[name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), name
    if (result.equity > 0).all():
        assert result.metrics["max_drawdown"] == expected["max_drawdown"]  # bit for bit


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_metrics_of_the_tables_are_those_of_the_run(random_case, seed):
    bars, signals, execution, start, stop = random_case(seed)
    result = simulate(bars, signals, execution, start=start, stop=stop)
    again = metrics(
        result.equity, result.position, bars.close[start:stop], bars.ts[start:stop], result.trades,
        result.fills, initial_cash=execution.initial_cash, frame=bars.frame, calendar=bars.calendar,
    )  # fmt: skip
    assert np.array(list(again.values())).tobytes() == np.array(list(result.metrics.values())).tobytes()


def of_equity(equity, *, calendar="24/7", frame="1d", step=DAY_US):
    equity = np.array(equity, dtype=float)
    n = len(equity)
    return metrics(
        equity, np.zeros(n), np.ones(n), np.arange(n) * step, NO_TRADES, NO_FILLS,
        initial_cash=100.0, frame=frame, calendar=calendar,
    )  # fmt: skip


def undefined(values):
    return {name for name, value in values.items() if math.isnan(value)}


TRADE_METRICS = {"profit_factor", "win_rate"}


def test_a_flat_run_has_no_ratio():
    flat = of_equity([100.0] * 5)
    assert undefined(flat) == TRADE_METRICS | {"sharpe", "sharpe_bar", "sortino", "calmar", "skew", "kurt"}
    assert (flat["roi"], flat["log_growth"], flat["max_drawdown"]) == (0.0, 0.0, 0.0)


def test_a_run_without_bars():
    empty = of_equity([])
    defined = {"roi", "max_drawdown", "max_drawdown_bars", "gross_profit", "fees", "slippage", "financing",
               "dividends", "n_trades", "n_obs", "final_equity", "years", "annual_days"}  # fmt: skip
    assert undefined(empty) == set(METRICS) - defined
    assert (empty["roi"], empty["n_obs"], empty["final_equity"]) == (0.0, 0.0, 100.0)


def test_rising_equity_has_no_drawdown_and_no_sortino():
    rising = of_equity([101.0, 103.0, 104.0])
    assert undefined(rising) == TRADE_METRICS | {"sortino", "calmar"}


def test_one_bar_has_no_sharpe():
    assert {"sharpe", "sharpe_bar", "sortino", "skew", "kurt"} <= undefined(of_equity([101.0]))


def test_ruin_leaves_no_growth_no_returns_no_exposure():
    ruined = of_equity([50.0, -10.0, -10.0])
    assert {"cagr", "calmar", "log_growth", "bps_per_bar", "sharpe", "sharpe_bar", "sortino", "net_exposure",
            "gross_exposure", "sum_r", "skew"} <= undefined(ruined)  # fmt: skip
    assert ruined["max_drawdown"] == pytest.approx(1.1)
    assert ruined["roi"] == pytest.approx(-1.1)


def test_equity_that_is_not_finite_leaves_no_path_metric():
    broken = of_equity([100.0, math.nan])
    assert {"roi", "cagr", "max_drawdown", "turnover", "exposure", "sharpe"} <= undefined(broken)


@pytest.mark.parametrize(
    ("equity", "bars"),
    [
        ([100.0, 90.0, 100.0, 101.0], 2.0),  # recovered at bar 2, peak at bar 0
        ([110.0, 90.0, 100.0, 101.0], 3.0),  # never recovered: to the end
        ([90.0, 80.0], 2.0),  # the peak is the initial cash, before bar 0
        ([90.0, 100.0, 99.0, 98.0], 2.0),  # a later, smaller one does not count
    ],
)
def test_the_length_of_the_drawdown(equity, bars):
    assert of_equity(equity)["max_drawdown_bars"] == bars


def test_returns_are_annualised_by_calendar():
    equity = [101.0, 100.0, 102.0]
    crypto, stocks = of_equity(equity), of_equity(equity, calendar="observed")
    assert crypto["annual_days"] == 365.0
    assert stocks["annual_days"] == 252.0
    for calendar, days in (("weekdays", 261.0), ("XNYS", 252.0)):
        assert annual_days(calendar) == days
    assert crypto["sharpe"] / stocks["sharpe"] == pytest.approx(math.sqrt(365 / 252))


def test_intraday_returns_are_taken_at_the_end_of_each_utc_date():
    hourly = of_equity(np.linspace(100, 130, 72), frame="1h", step=DAY_US // 24)
    ends = np.linspace(100, 130, 72)[[23, 47, 71]]
    r = np.diff(np.concatenate([[100.0], ends])) / np.concatenate([[100.0], ends[:-1]])
    assert hourly["sharpe"] == pytest.approx(r.mean() / r.std(ddof=1) * math.sqrt(365))


def test_an_unknown_calendar_is_named():
    with pytest.raises(ConfigError, match=r"calendar 'observd' is not known. Closest: observed"):
        of_equity([100.0], calendar="observd")
