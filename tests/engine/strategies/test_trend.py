import numpy as np

from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.strategies.registry import check, get
from engine.strategies.rules import evaluate

TREND = get("trend")
BARS = make_bars(11, 700)


def signals(sides="both", **params):
    return evaluate(TREND.rules(check(TREND, params)), FeatureSet(BARS, 0.01), sides)


def test_bits_are_the_state_of_the_averages_and_the_strength():
    features = FeatureSet(BARS, 0.01)
    fast, slow = features.column("ema.close.n=20"), features.column("ema.close.n=100")
    strong = features.column("adx.n=14") >= 20.0
    expected = (fast > slow) * (8 + strong * 1) + (fast < slow) * (4 + strong * 2)
    assert signals().bits.tolist() == expected.tolist()
    assert set(np.unique(signals().bits)) == {0, 4, 6, 8, 9}  # every state is met, none contradicts itself


def test_long_only_never_enters_short_and_still_leaves():
    assert set(np.unique(signals("long").bits)) == {0, 4, 8, 9}


def test_no_signal_before_every_column_is_valid():
    assert not signals().bits[:99].any() and signals().bits[99]


def test_size_is_the_same_whatever_the_stop():
    one, other = signals(stop_atr=1.0), signals(stop_atr=4.0)
    assert not np.array_equal(one.stop, other.stop, equal_nan=True)
    assert (one.size_kind, one.size_value) == (other.size_kind, other.size_value) == (1, 0.01)
    assert one.size_distance.tobytes() == other.size_distance.tobytes()


def test_stop_and_target_are_multiples_of_atr():
    atr = FeatureSet(BARS, 0.01).column("atr.n=14")
    made = signals(stop_atr=1.25, target_atr=5.5)
    assert made.stop.tobytes() == (atr * 1.25).tobytes()
    ((distance, fraction),) = made.targets
    assert distance.tobytes() == (atr * 5.5).tobytes() and fraction == 1.0
    assert made.trail is None


def test_columns_of_the_defaults():
    assert TREND.rules(check(TREND, {})).columns() == (
        "adx.n=14", "atr.n=14", "ema.close.n=100", "ema.close.n=20",
    )  # fmt: skip
