import json
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features import registry, table
from engine.features.directional import adx
from engine.features.moving import ema, sma
from engine.features.registry import Parameter, feature
from engine.features.returns import volatility
from engine.features.wilder import atr

RECORD = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("record.py"))))


def test_outputs_are_those_recorded_for_their_code_version():
    recorded = json.loads(RECORD.RECORDED.read_text())
    now = RECORD.outputs()
    changed = sorted(name for name in now.keys() | recorded.keys() if now.get(name) != recorded.get(name))
    assert not changed, (
        f"outputs of {changed} differ from those recorded: where that is meant, raise code_version, "
        f"then record anew: {RECORD.COMMAND}"
    )


def test_an_output_that_changed_without_a_higher_version_is_not_recorded():
    before = {"a": {"code_version": 1, "digest": "x"}, "gone": {"code_version": 1, "digest": "x"}}
    for version, digest, refused in ((1, "x", []), (1, "y", ["a"]), (2, "y", []), (2, "x", [])):
        now = {"a": {"code_version": version, "digest": digest}, "new": {"code_version": 1, "digest": "z"}}
        assert RECORD.unversioned(before, now) == refused


def test_values_are_those_of_ta_lib():
    """Recorded once with TA-Lib, which is no part of this project; bars 60 to 79 do not move."""
    recorded = json.loads(Path(__file__).with_name("talib.json").read_text())["columns"]
    features = table.FeatureSet(RECORD.bars_with_a_flat_stretch(), 0.01)
    covered = {table.parse(name).feature.name for name in recorded}
    assert set(registry.names()) - covered == {"log_return", "volatility"}  # it has no such indicators
    for name, values in recorded.items():
        expected = np.array([np.nan if value is None else value for value in values])
        ours = features.column(name)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15, err_msg=name)
        if name.startswith(("adx", "ema", "plus_di", "minus_di", "tr", "highest", "lowest")):
            np.testing.assert_array_equal(ours, expected, err_msg=name)


def test_first_value_stands_where_declared(sample_name):
    bars = make_bars(8, 120)
    for member in table.parse(sample_name).members():
        if str(member).endswith("pct_b"):
            continue  # also NaN where the bands have no width
        values = table.FeatureSet(bars, 0.01).column(str(member))
        assert (
            np.isnan(values[: member.first_valid]).all() and np.isfinite(values[member.first_valid :]).all()
        )


def test_a_series_that_is_too_short_is_all_nan(sample_name):
    first = table.parse(sample_name).first_valid
    for length in {1, first}:
        if 0 < length <= first:
            features = table.FeatureSet(make_bars(8, length), 0.01)
            for name in table.expand([sample_name]):
                assert np.isnan(features.column(name)).all() and len(features.column(name)) == length


def test_one_step_below_the_smallest_length_is_refused():
    for declared in map(registry.get, registry.names()):
        arrays = [make_bars(1, 30).close] * len(declared.inputs)
        values = {p.name: p.low for p in declared.parameters}
        for p in declared.parameters:
            too_low = p.low - 1
            with pytest.raises(ConfigError, match=rf"^feature {declared.name}: {p.name} was {too_low:g}"):
                declared.compute(*arrays, **{**values, p.name: too_low})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sma(x, 0), "feature sma: n was 0, expected an integer from 1 to 100000"),
        (lambda x: volatility(x, 1), "feature volatility: n was 1, expected an integer from 2 to 100000"),
        (lambda x: adx(x, x, x, 1), "feature adx: n was 1, expected an integer from 2 to 100000"),
        (lambda x: ema(x, 2.0), "feature ema: n was 2.0, expected an integer"),
        (lambda x: ema(x, True), "feature ema: n was True, expected an integer"),
        (lambda x: atr(x, x[1:], x, 2), "feature atr: arrays of [8, 9] bars, expected equal lengths"),
        (
            lambda x: ema(x.astype(np.float32), 2),
            "feature ema: x was ndarray float32 (9,), expected a contiguous float64 array of shape (T,)",
        ),
        (
            lambda x: ema(x.tolist(), 2),
            "feature ema: x was list  , expected a contiguous float64 array of shape (T,)",
        ),
    ],
)
def test_refuses_what_was_not_declared(call, message):
    with pytest.raises(ConfigError) as caught:
        call(np.arange(1.0, 10.0))
    assert str(caught.value) == message


def test_numpy_integers_are_integers():
    x = np.arange(1.0, 10.0)
    assert sma(x, np.int64(3)).tobytes() == sma(x, 3).tobytes()


def test_inputs_stay_writable_for_their_owner():
    x = np.arange(1.0, 10.0)
    sma(x, 3)
    x[0] = 5.0


def test_the_decorator_alone_makes_a_column(own_features):
    @feature("twice", code_version=1, inputs=("close",), first_valid=lambda p: 0, window=lambda p: 1)
    def twice(close):
        return close * 2.0

    bars = make_bars(1, 5)
    assert "twice" in registry.names()
    assert table.FeatureSet(bars).column("twice").tolist() == (bars.close * 2.0).tolist()


def test_a_name_belongs_to_one_function(own_features):
    with pytest.raises(ConfigError) as caught:

        @feature("sma", code_version=1, inputs=("close",), first_valid=lambda p: 0, window=lambda p: 1)
        def other(close):
            return close

    assert str(caught.value) == "feature sma is already registered by engine.features.moving.sma"
    with pytest.raises(ConfigError, match=r"^feature name was 'Sma!', expected lower-case letters"):
        feature("Sma!", code_version=1, inputs=("close",), first_valid=lambda p: 0, window=lambda p: 1)


def test_unknown_feature_names_the_closest():
    with pytest.raises(ConfigError, match=r"^feature 'volatilty' is not known\. Closest: volatility"):
        registry.get("volatilty")


def test_float_parameters_take_any_finite_number_within_bounds():
    k = Parameter("k", 0.01, 100.0, whole=False)
    assert k.check("bollinger", 2) == 2.0
    for bad in (float("nan"), float("inf"), 0.0, "2", None):
        with pytest.raises(ConfigError, match="^feature bollinger: k was "):
            k.check("bollinger", bad)


def test_a_function_is_never_called_on_a_series_that_is_too_short(own_features):
    lengths = []

    @feature(
        "noted",
        code_version=1,
        inputs=("close",),
        parameters=(Parameter("n", 1),),
        outputs=("a", "b"),
        first_valid=lambda p: p["n"],
        window=lambda p: p["n"] + 1,
    )
    def noted(close, n):
        lengths.append(len(close))
        return close, close

    for length in (0, 4, 5, 6):
        first, second = noted(np.ones(length), 5)
        assert len(first) == len(second) == length
        assert np.isnan(first).all() == (length <= 5)
    assert lengths == [6]


def test_a_feature_declares_a_window_or_a_step(own_features):
    step = registry.Step(lambda x, state, out: None, 1)
    for given, found in (({}, "neither"), ({"window": lambda p: 1, "step": step}, "both")):
        with pytest.raises(ConfigError) as caught:
            feature("late", code_version=1, inputs=("close",), first_valid=lambda p: 0, **given)
        assert str(caught.value) == (
            f"feature late declares {found} window and step, expected one: window=lambda p: bars that make "
            "a value, or step=Step(...) where it depends on all bars before"
        )


def test_an_array_given_for_the_values_is_written_and_returned(sample_name):
    bars, column = make_bars(8, 120), table.parse(sample_name)
    inputs = [
        getattr(bars, (column.column or n) if n == registry.COLUMN else n) for n in column.feature.inputs
    ]
    shape = (len(column.feature.outputs), 120) if column.feature.outputs else (120,)
    for length in (120, column.first_valid):
        arrays, out = [x[:length] for x in inputs], np.zeros((*shape[:-1], length))
        plain = column.feature.compute(*arrays, **dict(column.parameters))
        made = column.feature.compute(*arrays, **dict(column.parameters), out=out)
        assert np.array(made).tobytes() == np.array(plain).tobytes() == out.tobytes()
        assert all(np.shares_memory(row, out) for row in made) if column.feature.outputs else made is out


@pytest.mark.parametrize("out", [np.empty(8), np.empty(9, np.float32), np.empty(18)[::2], [0.0] * 9])
def test_refuses_an_array_that_cannot_take_the_values(out):
    with pytest.raises(
        ConfigError, match=r"^feature ema: out was .*, expected a writable contiguous float64"
    ):
        ema(np.arange(1.0, 10.0), 2, out=out)


@pytest.mark.parametrize("n", [2, 3, 14, 200, 5000])
def test_lookback_is_when_the_seed_weighs_less_than_a_millionth(n):
    keep = 1 - 1 / n
    once, twice = registry.wilder_lookback(n), registry.wilder_lookback(n, stages=2)
    assert keep**once < 1e-6 <= keep ** (once - 1)
    assert keep**twice * (1 + twice / n) < 1e-6 <= keep ** (twice - 1) * (1 + (twice - 1) / n)


@pytest.mark.parametrize("name", ["atr.n=14", "rsi.n=14", "ema.close.n=14", "plus_di.n=14", "adx.n=14"])
def test_after_the_lookback_the_start_of_the_series_no_longer_matters(name):
    column, features = table.parse(name), table.FeatureSet(make_bars(4, 900), 0.01)
    late = table.FeatureSet(features.bars.slice(200, 900), 0.01)
    apart = np.abs(late.column(name) - features.column(name)[200:])
    warm = column.first_valid + column.lookback
    assert apart[column.first_valid] > 1e-4 * abs(late.column(name)[-1])
    assert apart[warm:].max() < 1e-5 * apart[column.first_valid]
    assert features.lookback(name) == column.lookback > 0


def test_a_window_needs_no_lookback_and_wilders_needs_187():
    features = table.FeatureSet(make_bars(1, 10))
    assert [features.lookback(name) for name in ("sma.close.n=200", "close", "tr")] == [0, 0, 0]
    assert features.lookback("atr.n=14") == 187 and features.lookback("atr.n=1") == 1
    assert math.isclose(features.lookback("ema.close.n=27"), features.lookback("atr.n=14"))  # the same weight
