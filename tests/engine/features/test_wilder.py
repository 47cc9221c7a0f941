import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.features.directional import adx, minus_di, plus_di
from engine.features.wilder import atr, rsi, tr

NAN = math.nan

# Five bars, worked out by hand for n = 2:
# true ranges 2, 2.5, 3.5, 2; changes +1, +1, -2.5, -.5; +DM 1, 1, 0, 0; -DM 0, 0, 1.5, 1
HIGH = np.array([10.0, 11.0, 12.0, 11.5, 9.0])
LOW = np.array([8.0, 9.0, 9.5, 8.0, 7.0])
CLOSE = np.array([9.0, 10.0, 11.0, 8.5, 8.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (tr(HIGH, LOW, CLOSE), [NAN, 2, 2.5, 3.5, 2]),
        (atr(HIGH, LOW, CLOSE, 2), [NAN, NAN, 2.25, 2.875, 2.4375]),
        (rsi(CLOSE, 2), [NAN, NAN, 100, 200 / 7, 200 / 9]),
        # sums at bars 2, 3, 4: +DM 1.5, .75, .375; -DM 0, 1.5, 1.75; range 3.5, 5.25, 4.625
        (plus_di(HIGH, LOW, CLOSE, 2), [NAN, NAN, 150 / 3.5, 75 / 5.25, 37.5 / 4.625]),
        (minus_di(HIGH, LOW, CLOSE, 2), [NAN, NAN, 0, 150 / 5.25, 175 / 4.625]),
        # DX 100, 100/3, 137.5/2.125; the first ADX is the mean of the first two
        (adx(HIGH, LOW, CLOSE, 2), [NAN, NAN, NAN, 200 / 3, (200 / 3 + 137.5 / 2.125) / 2]),
    ],
    ids=["tr", "atr", "rsi", "plus_di", "minus_di", "adx"],
)
def test_example_worked_by_hand(values, expected):
    np.testing.assert_allclose(values, expected, rtol=1e-14)


def slow_tr(bars):
    h, lo, c = bars.high.tolist(), bars.low.tolist(), bars.close.tolist()
    return [NAN] + [max(h[t], c[t - 1]) - min(lo[t], c[t - 1]) for t in range(1, len(c))]


def slow_wilder(x, first, n):
    """Mean of n values from ``first`` on, then (a*(n-1) + x)/n."""
    out, value = [NAN] * len(x), NAN
    for t in range(first + n - 1, len(x)):
        value = math.fsum(x[first : first + n]) / n if t == first + n - 1 else (value * (n - 1) + x[t]) / n
        out[t] = value
    return out


def slow_rsi(c, n):
    changes = [0.0] + [b - a for a, b in zip(c, c[1:], strict=False)]
    gains = slow_wilder([max(d, 0.0) for d in changes], 1, n)
    losses = slow_wilder([max(-d, 0.0) for d in changes], 1, n)
    return [0.0 if g + x == 0 else 100 * g / (g + x) for g, x in zip(gains, losses, strict=True)]


def slow_directional(bars, n):
    h, lo, ranges = bars.high.tolist(), bars.low.tolist(), slow_tr(bars)
    plus, minus, dx = [NAN] * len(h), [NAN] * len(h), [NAN] * len(h)
    sums = [0.0, 0.0, 0.0]
    for t in range(1, len(h)):
        up, down = h[t] - h[t - 1], lo[t - 1] - lo[t]
        moves = [up if up > max(down, 0) else 0.0, down if down > max(up, 0) else 0.0, ranges[t]]
        keep = 1.0 if t < n else (n - 1) / n
        sums = [s * keep + move for s, move in zip(sums, moves, strict=True)]
        if t >= n:
            plus[t], minus[t] = (100 * s / sums[2] if sums[2] else 0.0 for s in sums[:2])
            both = plus[t] + minus[t]
            dx[t] = None if both == 0 else 100 * abs(plus[t] - minus[t]) / both
    return plus, minus, dx


def slow_adx(bars, n):
    dx, value = slow_directional(bars, n)[2], NAN
    out = [NAN] * len(dx)
    for t in range(2 * n - 1, len(dx)):
        if t == 2 * n - 1:
            value = math.fsum(d or 0.0 for d in dx[n : 2 * n]) / n
        elif dx[t] is not None:
            value += (dx[t] - value) / n
        out[t] = value
    return out


def same(fast, slow):
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 60),
    n=st.integers(2, 20),
    volatility=st.sampled_from([0.0, 1e-4, 0.02]),
    tick=st.sampled_from([0.01, 1.0]),
)
def test_equals_the_definitions(seed, length, n, volatility, tick):
    bars = make_bars(seed, length, volatility=volatility, tick=tick)
    prices = (bars.high, bars.low, bars.close)
    same(tr(*prices), slow_tr(bars))
    same(atr(*prices, n), slow_wilder(slow_tr(bars), 1, n))
    same(rsi(bars.close, n), slow_rsi(bars.close.tolist(), n))
    plus, minus, _ = slow_directional(bars, n)
    same(plus_di(*prices, n), plus)
    same(minus_di(*prices, n), minus)
    same(adx(*prices, n), slow_adx(bars, n))


def test_atr_of_length_one_is_the_true_range():
    bars = make_bars(1, 30)
    prices = (bars.high, bars.low, bars.close)
    np.testing.assert_array_equal(atr(*prices, 1), tr(*prices))


def test_constant_prices_give_zero_everywhere():
    flat = np.full(40, 7.0)
    for function in (atr, plus_di, minus_di, adx):
        assert set(function(flat, flat, flat, 5)[9:].tolist()) == {0.0}
    assert set(rsi(flat, 5)[5:].tolist()) == {0.0}


def test_prices_that_stop_moving_keep_the_last_adx():
    bars = make_bars(4, 60)
    prices = [np.append(column, np.full(5, bars.close[-1])) for column in (bars.high, bars.low, bars.close)]
    up = [np.arange(60.0) + 100 + shift for shift in (1, -1, 0)]  # only upward moves: DX stays 100
    stopped = [np.append(column, np.full(5, column[-1])) for column in up]
    assert adx(*stopped, 5)[-1] == pytest.approx(100.0, rel=1e-12)
    assert np.isfinite(adx(*prices, 5)[9:]).all()


def test_rsi_of_rising_prices_is_100_and_of_falling_0():
    rising = np.arange(1.0, 30.0)
    assert set(rsi(rising, 3)[3:].tolist()) == {100.0}
    assert set(rsi(rising[::-1].copy(), 3)[3:].tolist()) == {0.0}


def test_nan_stays_visible():
    bars = make_bars(5, 40)
    close = bars.close.copy()
    close[20] = NAN
    for function in (atr, plus_di, minus_di, adx):
        out = function(bars.high, bars.low, close, 5)
        assert np.isfinite(out[9:20]).all() and np.isnan(out[21:]).all()
    assert np.isnan(rsi(close, 5)[20:]).all()


def test_ranges_keep_a_nan_in_any_of_their_prices():
    prices = [np.array([9.0, 9.0, 9.0]), np.array([7.0, 7.0, 7.0]), np.array([8.0, 8.0, 8.0])]
    for column, stamp in ((0, 1), (1, 1), (2, 0)):
        spoiled = [p.copy() for p in prices]
        spoiled[column][stamp] = NAN
        assert np.isnan(tr(*spoiled)).tolist() == [True, True, False]
