import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.forecasts.local_features import prepare, targets


def prepared(bars):
    return prepare(bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.frame)


def plain_row(bars, t):
    """Return (sigma, sigma_mix, features) at bar t in plain Python."""
    o, c = [math.log(x) for x in bars.open], [math.log(x) for x in bars.close]
    h = [max(math.log(x), a, b) for x, a, b in zip(bars.high, o, c, strict=True)]
    low = [min(math.log(x), a, b) for x, a, b in zip(bars.low, o, c, strict=True)]
    s = [None]
    for i in range(1, t + 1):
        body = (2 * math.log(2) - 1) * (c[i] - o[i]) ** 2
        s.append(max(1e-8, 0.5 * (h[i] - low[i]) ** 2 - body + (o[i] - c[i - 1]) ** 2))

    def ew(half_life):
        weights = [2 ** (-(t - i) / half_life) for i in range(1, t + 1)]
        return math.fsum(w * x for w, x in zip(weights, s[1:], strict=True)) / math.fsum(weights)

    sigma, mix = math.sqrt(ew(10)), math.sqrt((ew(2) + ew(8) + ew(30)) / 3)
    row = [math.log(math.sqrt(math.fsum(s[t - m + 1 : t + 1]) / m) / sigma) for m in (1, 2, 5, 22, 66)]
    volumes = [math.log(bars.volume[i] + 1) for i in range(t - 21, t + 1)]
    row.append(volumes[-1] - math.fsum(volumes) / 22)
    for i in range(t, t - 5, -1):
        change = c[i] - c[i - 1]
        row += [x / sigma for x in (change, h[i] - c[i], low[i] - c[i], abs(change))]
    stamp = np.datetime64(int(bars.ts[t]), "us").item()
    row += [float(stamp.weekday() == day) for day in range(5)]
    if bars.frame != "1d":
        angle = 2 * math.pi * (stamp.hour + stamp.minute / 60) / 24
        row += [math.sin(angle), math.cos(angle)]
    row.append(math.log(sigma))
    return sigma, mix, [min(8.0, max(-8.0, x)) for x in row]


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(67, 160),
    st.sampled_from([("1d", "observed"), ("1d", "24/7"), ("1h", "24/7"), ("30m", "observed")]),
    st.sampled_from([0.0005, 0.02, 0.1]),
)  # fmt: skip
def test_the_last_row_equals_a_plain_computation(seed, n, kind, volatility):
    bars = make_bars(seed, n, kind[0], calendar=kind[1], volatility=volatility)
    fast = prepared(bars)
    sigma, mix, row = plain_row(bars, n - 1)
    assert fast.sigma[-1] == pytest.approx(sigma, rel=1e-10)
    assert fast.sigma_mix[-1] == pytest.approx(mix, rel=1e-10)
    assert fast.features[-1].tolist() == pytest.approx(row, rel=1e-8, abs=1e-8)
    assert len(row) == (32 if kind[0] == "1d" else 34)


@pytest.mark.parametrize("frame", ["1d", "1h"])
def test_a_row_does_not_depend_on_later_bars_bit_for_bit(frame):
    bars = make_bars(2, 400, frame, calendar="24/7")
    full = prepared(bars)
    for t in (0, 1, 19, 20, 65, 66, 67, 100, 255, 398):
        part = prepared(bars.slice(0, t + 1))
        for name in ("sigma", "sigma_mix", "features", "known", "close"):
            assert getattr(part, name).tobytes() == getattr(full, name)[: t + 1].tobytes(), (name, t)


def test_rows_are_known_from_the_66th_variance_on():
    fast = prepared(make_bars(2, 100))
    assert np.flatnonzero(fast.known)[0] == 66
    assert np.isnan(fast.sigma[:20]).all() and not np.isnan(fast.sigma[20:]).any()


def test_constant_prices_stay_finite():
    bars = make_bars(2, 120, volatility=0.0)
    fast = prepared(bars)
    assert np.isfinite(fast.features[66:]).all()
    assert fast.sigma[-1] == pytest.approx(1e-4)


def test_targets_are_log_returns_of_the_later_bar():
    bars = make_bars(2, 50)
    found = targets(prepared(bars), np.array([10, 46]), 3)
    assert found[1, 0] == pytest.approx(math.log(bars.high[49] / bars.close[46]), abs=1e-14)
    assert found[0, 1] == pytest.approx(math.log(bars.low[13] / bars.close[10]), abs=1e-14)
    assert found[0, 2] == pytest.approx(math.log(bars.close[13] / bars.close[10]), abs=1e-14)
