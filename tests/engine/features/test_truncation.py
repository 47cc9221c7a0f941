import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet, expand
from engine.features.truncation import look_ahead


@pytest.mark.parametrize("tick", [0.01, 0.0])
def test_no_feature_reads_later_bars(sample_name, tick):
    bars = make_bars(3, 240, tick=0.01)
    names = expand([sample_name])

    def compute(part):
        features = FeatureSet(part, tick)
        return [features.column(name) for name in names]

    assert look_ahead(compute, bars, seed=1) == []


def centred_swing(bars):
    """1 where the high is the highest of five bars, two of them later."""
    high, out = bars.high, np.zeros(len(bars))
    for t in range(2, len(bars) - 2):
        out[t] = float(high[t] == high[t - 2 : t + 3].max())
    return [out]


def whole_array_threshold(bars):
    return [(bars.close > np.quantile(bars.close, 0.7)).astype(np.uint8)]


def next_close(bars):
    return [np.append(bars.close[1:], np.nan)]


def off_tick_decided_over_all(bars):
    """The price step is trusted only when every price is on it: one later price changes earlier bits."""
    ticks = np.rint(bars.close / 0.01)
    on = bool((np.abs(bars.close - ticks * 0.01) <= 1e-9 * bars.close).all())
    return [ticks * 0.01 if on else bars.close.copy()]


@pytest.mark.parametrize(
    "planted", [centred_swing, whole_array_threshold, next_close, off_tick_decided_over_all]
)
def test_planted_look_ahead_is_caught(planted):
    assert look_ahead(planted, make_bars(3, 240), seed=1) != []


def test_a_value_of_the_bar_itself_passes():
    assert look_ahead(lambda bars: [bars.close * 2.0], make_bars(3, 240), seed=1) == []


def test_says_which_array_and_how_many_values():
    found = look_ahead(lambda bars: [bars.close, bars.close - bars.close.mean()], make_bars(0, 9), seed=0)
    assert found[0] == "array 1: the first 1 of 9 values change when the later bars are left out"
    assert found[-1] == "array 1: the first 8 values change when the last bar alone is changed"
