"""The compiled loop equals the plain-Python reference, and both keep the books."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.simulation import simulate
from engine.simulation.reference import Reference
from engine.simulation.slots import REASONS

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def assert_same(fast, slow):
    assert fast.fills["ts"].tolist() == [f["ts"] for f in slow.fills]
    assert fast.fills["side"].tolist() == [f["side"] for f in slow.fills]
    assert fast.fills["trade"].tolist() == [f["trade"] for f in slow.fills]
    assert [fast.reasons[r] for r in fast.fills["reason"]] == [f["reason"] for f in slow.fills]
    for name in ("price", "quantity", "fee"):
        np.testing.assert_allclose(fast.fills[name], [f[name] for f in slow.fills], rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(fast.equity, slow.equity, rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(fast.position, slow.position, rtol=1e-12, atol=0.0)
    assert fast.counters == slow.counters
    assert [fast.reasons[r] for r in fast.trades["reason"]] == [t["reason"] for t in slow.trades]
    for name in ("side", "entry_ts", "exit_ts", "bars_held"):
        assert fast.trades[name].tolist() == [t[name] for t in slow.trades], name
    for name in (
        "quantity",
        "entry_price",
        "exit_price",
        "fees",
        "slippage",
        "financing",
        "dividends",
        "pnl",
    ):
        np.testing.assert_allclose(fast.trades[name], [t[name] for t in slow.trades], rtol=1e-12, atol=1e-12)
    halted = None if slow.halted_at is None else slow.halted_at + fast.start
    assert fast.halted_at == halted


def assert_books_balance(result, bars, execution):
    """Sum of pnl, and equity rebuilt from the fills, meet the equity curve (sections 6.3, 6.4)."""
    bound = 1e-9 * max(1.0, execution.initial_cash / 1e5) * max(1.0, execution.leverage)
    final = result.equity[-1] if len(result.equity) else execution.initial_cash
    assert abs(np.sum(result.trades["pnl"]) - (final - execution.initial_cash)) <= bound
    if execution.borrow_bps_year or execution.financing_bps_year:
        return
    cash, units, row = execution.initial_cash, 0.0, 0
    for k, t in enumerate(range(result.start, result.stop)):
        cash += units * bars.dividend[t]
        while row < len(result.fills["ts"]) and result.fills["ts"][row] == bars.ts[t]:
            signed = result.fills["side"][row] * result.fills["quantity"][row]
            cash -= signed * result.fills["price"][row] + result.fills["fee"][row]
            units += signed
            row += 1
        assert abs(cash + units * bars.close[t] - result.equity[k]) <= bound
    assert row == len(result.fills["ts"])


def compare(random_case, seed):
    bars, signals, execution, start, stop = random_case(seed)
    slow = Reference(bars, signals, execution, start, stop)
    fast = simulate(bars, signals, execution, start=start, stop=stop)
    assert_same(fast, slow)
    return fast


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32 - 1))
def test_compiled_loop_equals_the_reference(random_case, seed):
    compare(random_case, seed)


@settings(max_examples=500, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_books_balance_at_every_bar_and_at_the_end(random_case, seed):
    bars, signals, execution, start, stop = random_case(seed)
    result = simulate(bars, signals, execution, start=start, stop=stop)
    assert_books_balance(result, bars, execution)
    if execution.leverage <= 1.0 and (result.position >= 0.0).all():
        cash = result.equity - result.position * bars.close[start:stop]
        assert (cash >= -1e-9 * execution.initial_cash).all()


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32 - 1))
def test_compiled_loop_equals_the_reference_in_many_cases(random_case, seed):
    compare(random_case, seed)


def test_the_random_cases_reach_every_rule(random_case):
    seen, counted, statuses = set(), set(), set()
    for seed in range(150):
        result = compare(random_case, seed)
        reasons = [result.reasons[r] for r in result.fills["reason"]]
        reasons += [result.reasons[r] for r in result.trades["reason"]]
        seen.update(reasons)
        counted.update(name for name, count in result.counters.items() if count)
        statuses.add(result.status)
    assert seen == set(REASONS)
    assert counted == set(result.counters)
    assert {"valid", "no_signal", "halted", "blocked"} <= statuses
