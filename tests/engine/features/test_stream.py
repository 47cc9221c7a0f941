from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DataError
from engine.features import registry
from engine.features.registry import feature
from engine.features.stream import FeatureStream
from engine.features.table import BAR_COLUMNS, FeatureSet, expand, parse


def streamed(names, bars, tick):
    """Every column bar by bar, float64 (T,)."""
    stream = FeatureStream(names, tick)
    rows = [stream.append(*(float(getattr(bars, name)[t]) for name in BAR_COLUMNS)) for t in range(len(bars))]
    return {name: np.array([row[name] for row in rows]) for name in stream.names}


def differing(names, bars, tick):
    """Names whose values are not those of the whole series, bit for bit."""
    features = FeatureSet(bars, tick)
    found = streamed(names, bars, tick)
    return [name for name, values in found.items() if values.tobytes() != features.column(name).tobytes()]


@pytest.mark.parametrize("tick", [0.01, 0.0])
def test_bar_by_bar_and_whole_give_the_same_bits(sample_name, tick):
    assert differing([sample_name], make_bars(3, 300, tick=0.01), tick) == []


def test_all_features_together_on_a_long_series_with_prices_off_the_tick():
    bars = make_bars(5, 1000, tick=0.0)
    whole = make_bars(5, 1000)
    mixed = whole.close.copy()
    mixed[[100, 101, 400]] = bars.close[[100, 101, 400]].clip(whole.low[[100, 101, 400]])
    names = expand(["sma.close.n=30", "bollinger.close.n=20.k=2", "adx.n=14", "rsi.n=14", "highest.n=50"])
    mixed = np.minimum(mixed, whole.high)
    assert differing(names, replace(whole, close=mixed), 0.01) == []


def test_every_feature_declares_how_it_is_streamed():
    for declared in map(registry.get, registry.names()):
        assert (declared.window is None) != (declared.step is None)
        if declared.window is not None:
            for step in (0, 1, 18):
                p = {q.name: q.low + step if q.whole else q.low for q in declared.parameters}
                assert declared.window(p) == declared.first_valid(p) + 1


def test_a_window_that_is_too_short_is_seen(own_features):
    @feature("spread", code_version=1, inputs=("close",), first_valid=lambda p: 2, window=lambda p: 2)
    def spread(close):
        out = np.full(len(close), np.nan)
        out[2:] = close[2:] - close[:-2]
        return out

    assert differing(["spread"], make_bars(3, 50), 0.01) == ["spread"]


def test_a_feature_of_ones_own_in_plain_python_is_streamed(own_features):
    @feature("gap", code_version=1, inputs=("open", "close"), first_valid=lambda p: 1, window=lambda p: 2)
    def gap(open, close):
        return np.append(np.nan, open[1:] / close[:-1] - 1.0)

    assert differing(["gap", "sma.close.n=3"], make_bars(3, 50), 0.01) == []


def test_answers_the_names_asked_for_in_their_order():
    stream = FeatureStream(["rsi.n=3", "bollinger.close.n=2.k=2", "tr"])
    names = [str(m) for m in parse("bollinger.close.n=2.k=2").members()]
    assert stream.names == ("rsi.n=3", *names, "tr")
    for _ in range(3):
        assert tuple(stream.append(1.0, 2.0, 0.5, 1.5, 0.0)) == stream.names
    assert stream.seen == 3
    one = FeatureStream(["bollinger.close.n=2.k=2:pct_b"])
    assert list(one.append(1.0, 2.0, 0.5, 1.5, 0.0)) == ["bollinger.close.n=2.k=2:pct_b"]


@pytest.mark.parametrize(
    "bar", [(1, 2, 0.5, 3, 0), (1, 2, 1.1, 1.5, 0), (1, 2, 0, 1.5, 0), (1, float("nan"), 0.5, 1, 0)]
)
def test_refuses_a_bar_that_cannot_be_and_goes_on_as_if_it_had_not_come(bar):
    stream, other = FeatureStream(["ema.close.n=2"]), FeatureStream(["ema.close.n=2"])
    for close in (1.0, 1.25):
        stream.append(1.0, 2.0, 0.5, close, 0.0), other.append(1.0, 2.0, 0.5, close, 0.0)
    with pytest.raises(DataError) as caught:
        stream.append(*bar)
    assert str(caught.value) == (
        f"E05 bar 2 of the stream was open {bar[0]}, high {bar[1]}, low {bar[2]}, close {bar[3]}, "
        "volume 0, expected finite numbers with 0 < low <= open, close <= high"
    )
    assert stream.append(1.0, 2.0, 0.5, 1.5, 0.0) == other.append(1.0, 2.0, 0.5, 1.5, 0.0)


def test_refuses_unknown_names_and_an_impossible_tick():
    with pytest.raises(ConfigError, match=r"^feature 'smaa' is not known"):
        FeatureStream(["smaa.close.n=2"])
    with pytest.raises(ConfigError, match=r"^tick was -1, expected 0 \(unknown\) or a positive price step$"):
        FeatureStream(["tr"], tick=-1)
