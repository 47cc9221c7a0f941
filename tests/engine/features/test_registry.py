import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features import registry, table
from engine.features.moving import ema, sma, volatility
from engine.features.registry import Parameter, feature
from engine.features.wilder import adx, atr

RECORDED = Path(__file__).with_name("digests.csv")


def fixture_bars() -> Bars:
    """90 bars by a generator written out here, so that no change elsewhere changes them."""
    state, rows, before = 12345, [], 5000
    for _ in range(90):
        draw = []
        for _ in range(4):
            state = (1103515245 * state + 12345) % 2**31
            draw.append(state >> 16)
        open_ = before + draw[0] % 41 - 20
        close = open_ + draw[1] % 201 - 100
        high, low = max(open_, close) + draw[2] % 50, min(open_, close) - draw[3] % 50
        rows.append([q / 100 for q in (open_, high, low, close)] + [1000.0 + draw[2]])
        before = close
    columns = np.array(rows).T
    ts = np.arange(90) * 86_400_000_000
    return Bars("TEST", "1d", "observed", ts, *columns, np.ones(90), np.zeros(90))


def digest(name: str) -> str:
    values = table.FeatureSet(fixture_bars(), 0.01).column(name)
    return hashlib.sha256("\n".join(f"{value:.12g}" for value in values).encode()).hexdigest()[:16]


def test_outputs_are_those_recorded_for_their_code_version():
    now = {
        (str(member), str(declared.code_version)): digest(str(member))
        for declared in map(registry.get, registry.names())
        if declared.compute.__module__.startswith("engine.")
        for member in table.parse(_usual(declared)).members()
    }
    with RECORDED.open(newline="") as file:
        recorded = {(row["column"], row["code_version"]): row["digest"] for row in csv.DictReader(file)}
    lines = [f"{name},{version},{value}" for (name, version), value in now.items()]
    assert now == recorded, (
        "an output changed: raise its code_version, then record in digests.csv:\n" + "\n".join(lines)
    )


def _usual(declared):
    values = tuple((p.name, 14 if p.whole else 2.0) for p in declared.parameters)
    return str(table.ColumnName(declared, "close" if declared.takes_column else None, values, None))


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
    @feature("twice", code_version=1, inputs=("close",), first_valid=lambda p: 0)
    def twice(close):
        return close * 2.0

    bars = make_bars(1, 5)
    assert "twice" in registry.names()
    assert table.FeatureSet(bars).column("twice").tolist() == (bars.close * 2.0).tolist()


def test_a_name_belongs_to_one_function(own_features):
    with pytest.raises(ConfigError) as caught:

        @feature("sma", code_version=1, inputs=("close",), first_valid=lambda p: 0)
        def other(close):
            return close

    assert str(caught.value) == "feature sma is already registered by engine.features.moving.sma"
    with pytest.raises(ConfigError, match=r"^feature name was 'Sma!', expected lower-case letters"):
        feature("Sma!", code_version=1, inputs=("close",), first_valid=lambda p: 0)


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
    )
    def noted(close, n):
        lengths.append(len(close))
        return close, close

    for length in (0, 4, 5, 6):
        first, second = noted(np.ones(length), 5)
        assert len(first) == len(second) == length
        assert np.isnan(first).all() == (length <= 5)
    assert lengths == [6]
