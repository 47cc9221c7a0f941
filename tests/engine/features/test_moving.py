import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.features.moving import ema, sma, volume_sma

NAN = math.nan


def windows(x, n):
    return [None if t < n - 1 else x[t - n + 1 : t + 1] for t in range(len(x))]


def slow_mean(x, n):
    return [NAN if w is None else math.fsum(w) / n for w in windows(x, n)]


def slow_ema(x, n):
    out, value = [], NAN
    for t in range(len(x)):
        if t == n - 1:
            value = math.fsum(x[:n]) / n
        elif t >= n:
            value = x[t] * (2 / (n + 1)) + value * (1 - 2 / (n + 1))
        out.append(value)
    return out


def same(fast, slow):
    np.testing.assert_allclose(fast, slow, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 60),
    n=st.integers(2, 20),
    tick=st.sampled_from([0.01, 0.0]),
)
def test_equals_the_definitions(seed, length, n, tick):
    bars = make_bars(seed, length, tick=tick)
    x = bars.close.tolist()
    same(sma(bars.close, n, tick=tick), slow_mean(x, n))
    same(volume_sma(bars.volume, n), slow_mean(bars.volume.tolist(), n))
    same(ema(bars.close, n), slow_ema(x, n))


@pytest.mark.parametrize("function", [sma, ema, volume_sma])
def test_length_one_is_the_value_itself(function):
    x = make_bars(1, 30).close
    np.testing.assert_allclose(function(x, 1), x, rtol=1e-15)


@settings(max_examples=100, deadline=None)
@given(
    ticks=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    tick=st.sampled_from([0.01, 1e-5, 0.25]),
)
def test_averages_equal_in_ticks_are_equal_doubles(ticks, n, m, tick):
    x = np.array([round(q * tick, 7) for q in ticks])
    a, b = sma(x, n, tick=tick), sma(x, m, tick=tick)
    for t in range(max(n, m) - 1, len(x)):
        exact = sum(ticks[t - n + 1 : t + 1]) * m - sum(ticks[t - m + 1 : t + 1]) * n
        assert (float(a[t]) > float(b[t])) - (float(a[t]) < float(b[t])) == (exact > 0) - (exact < 0)


def test_a_price_off_the_tick_leaves_windows_without_it_as_they_were():
    x = make_bars(2, 60).close.copy()
    before = sma(x, 7, tick=0.01)
    x[30] += 0.004
    after = sma(x, 7, tick=0.01)
    untouched = np.r_[0:30, 37:60]
    assert before[untouched].tobytes() == after[untouched].tobytes()
    same(after[30:37], slow_mean(x.tolist(), 7)[30:37])


def test_prices_too_large_for_exact_ticks_are_added_as_they_are():
    x = np.array([3e15, 1e15, 2e15])
    assert sma(x, 3, tick=1e-8).tolist()[2] == 2e15


def test_a_running_sum_would_fail_where_this_does_not():
    x = np.array([1e16, 1.0, 1.0, 1.0, 1.0])
    assert sma(x, 2).tolist()[2:] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("function", [sma, ema])
def test_nan_stays_visible(function):
    x = np.array([1.0, 2.0, NAN, 3.0, 4.0, 5.0])
    out = function(x, 2)
    assert np.isnan(out[2:4]).all()
    assert np.isnan(out[4]) == (function is ema)


@pytest.mark.parametrize("function", [sma, ema])
def test_constant_prices(function):
    assert set(function(np.full(30, 5.0), 4)[4:].tolist()) == {5.0}


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    off=st.lists(st.integers(0, 5999), max_size=6),
    n=st.sampled_from([1, 2, 5, 64, 2047, 2048, 2500]),
)
def test_blocks_of_bars_leave_no_seam(seed, off, n):
    """Longer than two blocks, some prices off the tick: each value is that of its window alone."""
    x = make_bars(seed, 6000).close.copy()
    x[off] += 0.004
    whole = sma(x, n, tick=0.01)
    for t in {n - 1, 2047, 2048, 4096, 5999, *(o + d for o in off for d in (0, 1, n - 1, n))}:
        if n - 1 <= t < 6000:
            assert whole[t] == sma(x[t - n + 1 : t + 1].copy(), n, tick=0.01)[-1]


def test_whole_volumes_are_added_without_rounding_and_others_afresh():
    volume = np.array([2.0**52, 1.0, 2.0**52 - 1, 0.5, 3.0, 2.0])
    assert volume_sma(volume, 2).tolist()[1:] == [
        (2.0**52 + 1) / 2, 2.0**51, (2.0**52 - 1 + 0.5) / 2, 1.75, 2.5
    ]  # fmt: skip
