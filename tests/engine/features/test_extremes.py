import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.extremes import highest, lowest

NAN = math.nan


def slow_extreme(x, n, choose):
    """Of each window: NaN where it holds one."""
    windows = [x[t - n + 1 : t + 1] if t >= n - 1 else [NAN] for t in range(len(x))]
    return [NAN if any(map(math.isnan, window)) else choose(window) for window in windows]


PRICES = st.one_of(st.integers(1, 9).map(float), st.just(NAN))


@settings(max_examples=200, deadline=None)
@given(x=st.lists(PRICES, min_size=1, max_size=120), n=st.integers(1, 70))
def test_equals_the_definition(x, n):
    np.testing.assert_array_equal(highest(np.array(x), n), slow_extreme(x, n, max))
    np.testing.assert_array_equal(lowest(np.array(x), n), slow_extreme(x, n, min))


@pytest.mark.parametrize("n", [1, 3, 4, 15, 16, 17, 63, 64, 257, 1024, 1500])
def test_blocks_of_bars_leave_no_seam(n):
    x = np.random.default_rng(n).integers(1, 10_000, 5000).astype(float)
    np.testing.assert_array_equal(highest(x, n), slow_extreme(x.tolist(), n, max))
    np.testing.assert_array_equal(lowest(x, n), slow_extreme(x.tolist(), n, min))


@pytest.mark.parametrize("function", [highest, lowest])
def test_length_one_is_the_value_itself_and_constant_prices_stay(function):
    x = np.arange(30.0) % 7
    assert function(x, 1).tolist() == x.tolist()
    assert set(function(np.full(30, 5.0), 4)[3:].tolist()) == {5.0}
