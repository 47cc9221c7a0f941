import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.features.bands import bollinger
from engine.features.moving import sma

NAN = math.nan


def slow_bollinger(x, n, k):
    rows = []
    for t in range(len(x)):
        if t < n - 1:
            rows.append((NAN, NAN, NAN))
            continue
        window = x[t - n + 1 : t + 1]
        mid, sd = statistics.fmean(window), statistics.pstdev(window)
        rows.append((mid, mid + k * sd, mid - k * sd))
    return np.array(rows).T


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 50),
    n=st.integers(2, 20),
    k=st.sampled_from([0.5, 2.0, 3.25]),
    tick=st.sampled_from([0.01, 0.0]),
    volatility=st.sampled_from([0.0, 1e-4, 0.02]),
)
def test_equals_the_definition(seed, length, n, k, tick, volatility):
    bars = make_bars(seed, length, tick=0.01, volatility=volatility)
    mid, upper, lower, pct_b = bollinger(bars.close, n, k, tick=tick)
    np.testing.assert_allclose([mid, upper, lower], slow_bollinger(bars.close.tolist(), n, k), rtol=1e-12)
    assert mid.tobytes() == sma(bars.close, n, tick=tick).tobytes()
    for t in range(length):
        width = upper[t] - lower[t]
        if width > 0:
            assert pct_b[t] == (bars.close[t] - lower[t]) / width
        else:
            assert math.isnan(pct_b[t])


def test_pct_b_is_not_clipped():
    x = np.array([1.0] * 9 + [2.0])
    assert bollinger(x, 10, 1.0)[3][-1] > 1.0


def test_one_price_has_no_width_whether_on_the_tick_or_not():
    for price, tick in ((100.07, 0.01), (100.07, 0.0), (0.1, 0.0), (1.07219, 1e-5)):
        mid, upper, lower, pct_b = bollinger(np.full(30, price), 7, 2.0, tick=tick)
        assert (upper[6:] == lower[6:]).all() and np.isnan(pct_b).all()
        np.testing.assert_allclose(mid[6:], price, rtol=1e-15)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    off=st.lists(st.integers(0, 2999), max_size=5),
    n=st.sampled_from([2, 20, 511, 512, 513, 1100]),
    tick=st.sampled_from([0.01, 0.0]),
)
def test_blocks_of_bars_leave_no_seam(seed, off, n, tick):
    """Some prices off the tick: each value is that of its window alone."""
    x = make_bars(seed, 3000).close.copy()
    x[off] += 0.004
    whole = np.array(bollinger(x, n, 2.0, tick=tick))
    for t in {
        n - 1,
        n + 510,
        n + 511,
        n + 512,
        n + 1023,
        2999,
        *(o + d for o in off for d in (0, 1, n - 1, n)),
    }:
        if n - 1 <= t < 3000:
            alone = np.array(bollinger(x[t - n + 1 : t + 1].copy(), n, 2.0, tick=tick))[:, -1]
            np.testing.assert_array_equal(whole[:, t], alone)


@pytest.mark.parametrize("off", [[30], [0, 59], [10, 16, 17, 40]])
def test_windows_with_a_price_off_the_tick_equal_the_definition(off):
    x = make_bars(2, 60).close.copy()
    x[off] += 0.004
    made = bollinger(x, 7, 2.0, tick=0.01)
    np.testing.assert_allclose(made[:3], slow_bollinger(x.tolist(), 7, 2.0), rtol=1e-12)
