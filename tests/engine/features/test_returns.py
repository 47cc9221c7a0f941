import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.features.returns import log_return, roc, volatility

NAN = math.nan


def slow_roc(x, n):
    return [NAN if t < n else (x[t] - x[t - n]) / x[t - n] for t in range(len(x))]


def slow_log_return(x, n):
    return [NAN if t < n else math.log(x[t]) - math.log(x[t - n]) for t in range(len(x))]


def slow_volatility(x, n):
    steps = slow_log_return(x, 1)
    return [NAN if t < n else statistics.stdev(steps[t - n + 1 : t + 1]) for t in range(len(x))]


def same(fast, slow):
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 60), n=st.integers(2, 20))
def test_equals_the_definitions(seed, length, n):
    close = make_bars(seed, length).close
    same(roc(close, n), slow_roc(close.tolist(), n))
    same(log_return(close, n), slow_log_return(close.tolist(), n))
    same(volatility(close, n), slow_volatility(close.tolist(), n))


@pytest.mark.parametrize("n", [2, 3, 5, 1023, 1024, 1025, 1500])
def test_blocks_of_bars_leave_no_seam(n):
    close = make_bars(3, 4000).close
    whole = volatility(close, n)
    for t in {n, n + 1, n + 1023, n + 1024, n + 2047, n + 2048, 3999}:
        if t < 4000:
            assert whole[t] == volatility(close[t - n : t + 1].copy(), n)[-1]


@pytest.mark.parametrize("function", [roc, log_return, volatility])
def test_constant_prices_give_zero(function):
    assert set(function(np.full(30, 5.0), 4)[4:].tolist()) == {0.0}


def test_nan_stays_visible():
    x = np.array([1.0, 2.0, NAN, 3.0, 4.0, 5.0])
    assert np.isnan(roc(x, 2)).tolist() == [True, True, True, False, True, False]
    assert np.isnan(log_return(x, 2)).tolist() == [True, True, True, False, True, False]
    assert np.isnan(volatility(x, 2)).tolist() == [True, True, True, True, True, False]
