from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features import directional, moving, registry
from engine.features.registry import feature
from engine.features.table import FeatureSet


def test_columns_are_the_functions_own_values():
    bars = make_bars(2, 80)
    features = FeatureSet(bars, 0.01)
    assert features.column("sma.high.n=5").tobytes() == moving.sma(bars.high, 5, tick=0.01).tobytes()
    assert (
        features.column("adx.n=5").tobytes() == directional.adx(bars.high, bars.low, bars.close, 5).tobytes()
    )
    assert features.column("volume_sma.n=5").tobytes() == moving.volume_sma(bars.volume, 5).tobytes()
    assert features.column("close") is bars.close


def test_columns_are_read_only_and_computed_once(own_features):
    calls = []

    @feature(
        "counted",
        code_version=1,
        inputs=("close",),
        outputs=("a", "b"),
        first_valid=lambda p: 0,
        window=lambda p: 1,
    )
    def counted(close):
        calls.append(1)
        return close * 1.0, close * 2.0

    features = FeatureSet(make_bars(1, 10))
    assert features.column("counted:b")[0] == 2 * features.column("counted:a")[0]
    assert features.column("counted:a") is features.column("counted:a")
    assert len(calls) == 1
    with pytest.raises(ValueError, match="read-only"):
        features.column("counted:a")[0] = 1.0


def test_a_group_is_no_column():
    with pytest.raises(ConfigError) as caught:
        FeatureSet(make_bars(1, 10)).column("bollinger.close.n=2.k=2")
    assert str(caught.value).startswith(
        "column 'bollinger.close.n=2.k=2' stands for several columns, expected one of "
        "bollinger.close.n=2.k=2:mid, "
    )


def test_first_valid_is_declared_whatever_the_length():
    features = FeatureSet(make_bars(1, 10))
    for name, first in (
        ("sma.close.n=200", 199),
        ("rsi.n=14", 14),
        ("adx.n=14", 27),
        ("tr", 1),
        ("close", 0),
    ):
        assert features.first_valid(name) == first


@pytest.mark.parametrize("tick", [-0.01, float("nan"), float("inf")])
def test_refuses_an_impossible_tick(tick):
    with pytest.raises(ConfigError, match=r"^tick was .*, expected 0 \(unknown\) or a positive price step$"):
        FeatureSet(make_bars(1, 10), tick)


NAMES = ("atr.n={}", "rsi.n={}", "adx.n={}", "ema.close.n={}", "sma.close.n={}", "sma.high.n={}",
         "plus_di.n={}", "highest.n={}", "volatility.n={}", "bollinger.open.n={}.k=2:lower")  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.sampled_from([1, 2, 9, 70, 700, 2500]),
    lengths=st.lists(st.integers(2, 220), min_size=1, max_size=11),
    tick=st.sampled_from([0.01, 0.0]),
    off=st.booleans(),
)
def test_a_table_has_the_bits_of_its_columns(seed, length, lengths, tick, off):
    bars = make_bars(seed, length)
    if off:  # one price off the tick
        bars = replace(bars, close=np.where(np.arange(length) == length // 2, bars.low + 0.004, bars.close))
    names = [form.format(n) for n in lengths for form in NAMES] + ["tr", "close", "volume"]
    np.random.default_rng(seed).shuffle(names)
    alone = FeatureSet(bars, tick)
    table, rows = FeatureSet(bars, tick).table_rows(names)
    assert table.shape == (len(set(names)), length) and table.flags.c_contiguous
    assert set(rows) == set(names) and sorted(rows[name] for name in set(names)) == list(range(len(table)))
    for name in names:
        assert table[rows[name]].tobytes() == alone.column(name).tobytes(), name


def test_prices_too_large_for_exact_ticks_of_the_longest_window_alone():
    """Sums of 2 are exact, sums of 200 are not: each length decides for itself, as when asked alone."""
    bars = make_bars(1, 300)
    bars = replace(bars, **{name: getattr(bars, name) * 2.0**38 for name in ("open", "high", "low", "close")})
    names = [f"sma.close.n={n}" for n in (2, 3, 200)]
    table, rows = FeatureSet(bars, 0.01).table_rows(names)
    for name in names:
        assert table[rows[name]].tobytes() == FeatureSet(bars, 0.01).column(name).tobytes()


def test_other_spellings_share_a_row_and_the_last_table_is_kept():
    features = FeatureSet(make_bars(1, 60), 0.01)
    names = ["highest.close.n=20", "rsi.n=3", "highest.n=20", "rsi.n=3", "close"]
    table, rows = features.table_rows(names)
    assert table.shape == (3, 60) and rows["highest.n=20"] == rows["highest.close.n=20"]
    assert features.table_rows(tuple(names))[0] is table
    assert features.table_rows(names[1:])[0] is not table
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1.0


def test_a_stored_column_is_taken_into_the_table():
    features = FeatureSet(make_bars(1, 60), 0.01)
    features.table_rows(["rsi.n=3"])
    features.preload("rsi.n=3", np.arange(60.0))
    table, rows = features.table_rows(["rsi.n=3"])
    assert table[rows["rsi.n=3"]].tolist() == list(range(60))


def test_a_table_is_written_into_an_array_that_is_given():
    features = FeatureSet(make_bars(1, 60), 0.01)
    out = np.full((4, 60), -1.0)
    names = ["atr.n=3", "atr.n=4", "volatility.n=3"]
    table, rows = features.table_rows(names, out=out)
    assert np.shares_memory(table, out) and table.shape == (3, 60) and set(out[3]) == {-1.0}
    assert out[rows["atr.n=4"]].tobytes() == features.column("atr.n=4").tobytes()
    out[:] = 0.0
    assert features.column("atr.n=3")[-1] > 0.0 and features.table_rows(names)[0][0, -1] > 0.0


@pytest.mark.parametrize(
    "out", [np.empty((1, 60)), np.empty((2, 59)), np.empty((2, 60), np.float32), np.empty((60, 2)).T]
)
def test_refuses_an_array_that_cannot_take_the_table(out):
    features = FeatureSet(make_bars(1, 60), 0.01)
    with pytest.raises(
        ConfigError, match=r"expected a writable C-contiguous float64 array of shape \(2 or more"
    ):
        features.table_rows(["atr.n=3", "atr.n=4"], out=out)


@pytest.mark.parametrize("name", ["bollinger.close.n=2.k=2", "smaa.close.n=2"])
def test_a_table_refuses_what_is_no_column(name):
    with pytest.raises(ConfigError):
        FeatureSet(make_bars(1, 10)).table_rows(["close", name])


def test_a_feature_registered_anew_is_read_anew(own_features):
    def declare(version):
        registry._REGISTERED.pop("counted", None)

        @feature(
            "counted", code_version=version, inputs=("close",), first_valid=lambda p: 0, window=lambda p: 1
        )
        def counted(close):
            return close * version

    features = [FeatureSet(make_bars(1, 10)) for _ in range(2)]
    for version in (1, 2):
        declare(version)
        assert (features[version - 1].column("counted") == version * features[0].bars.close).all()
