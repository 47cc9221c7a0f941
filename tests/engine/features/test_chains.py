import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.features import registry
from engine.features.moving import ema
from engine.features.wilder import atr

BARS = 30_003  # long enough to be computed in quarters


def one_chain(name, inputs, n):
    """The whole series in two parts: one that goes on is not cut into quarters."""
    step = registry.get(name).step
    state, out = np.zeros(step.size), np.empty(BARS)
    for part in (slice(0, n + 1), slice(n + 1, BARS)):
        step.kernel(*(x[part] for x in inputs), n, state, out[part])
    return out


@pytest.mark.parametrize("kind", ["walk", "still after 500 bars", "still now and then", "NaN at bar 9000"])
@pytest.mark.parametrize("n", [1, 2, 14])
def test_quarters_have_the_bits_of_one_chain(kind, n):
    bars = make_bars(6, BARS)
    high, low, close = bars.high.copy(), bars.low.copy(), bars.close.copy()
    still = np.zeros(BARS, bool)
    if kind == "still after 500 bars":  # a guess of the range is then never forgotten, only overwritten
        still[500:] = True
    if kind == "still now and then":
        still = np.arange(BARS) % 9000 > 20
    for column in (high, low, close):
        column[still] = 7.0
    if kind == "NaN at bar 9000":
        high[9000] = close[9000] = np.nan
    for name, made in (("atr", atr(high, low, close, n)), ("ema", ema(close, n))):
        chain = one_chain(name, (high, low, close) if name == "atr" else (close,), n)
        assert made.tobytes() == chain.tobytes()
        assert np.isnan(chain[9000:]).all() == (kind == "NaN at bar 9000")
