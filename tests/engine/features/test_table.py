import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features import moving, registry, wilder
from engine.features.registry import feature
from engine.features.table import FeatureSet, column_key, expand, parse

DEFAULT_COLUMNS = (
    "sma.close.n=20 sma.close.n=50 sma.close.n=200 ema.close.n=20 ema.close.n=50 rsi.n=14 atr.n=14 adx.n=14 "
    "bollinger.close.n=20.k=2 log_return.n=1 volatility.n=20"
).split()


def test_the_default_columns_expand_to_fourteen():
    found = expand(DEFAULT_COLUMNS)
    assert len(found) == 14
    assert found[8:12] == [f"bollinger.close.n=20.k=2:{o}" for o in ("mid", "upper", "lower", "pct_b")]
    assert expand(found) == found


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("bollinger.close.k=2.0.n=20:upper", "bollinger.close.n=20.k=2:upper"),
        ("bollinger.close.n=20.k=2.5:upper", "bollinger.close.n=20.k=2.5:upper"),
        ("bollinger.open.n=2.k=1e-2:mid", "bollinger.open.n=2.k=0.01:mid"),
        ("highest.close.n=20", "highest.n=20"),
        ("highest.high.n=20", "highest.high.n=20"),
        ("tr", "tr"),
    ],
)
def test_a_column_has_one_spelling(written, name):
    assert str(parse(written)) == name
    assert str(parse(name)) == name
    features = FeatureSet(make_bars(1, 60), 0.01)
    assert features.column(written) is features.column(name)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 10**5), k=st.floats(0.01, 100.0))
def test_every_name_is_read_back(n, k):
    name = f"bollinger.low.n={n}.k={k!r}:pct_b"
    assert dict(parse(name).parameters) == {"n": n, "k": k}
    assert parse(str(parse(name))) == parse(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smaa.close.n=2", "feature 'smaa' is not known. Closest: sma, ema."),
        ("sma.n=20", "column 'sma.n=20' names no price column; expected e.g. sma.close.n=2"),
        ("sma.clos.n=3", "column 'sma.clos.n=3': price column 'clos' is not known. Closest: close, low."),
        (
            "sma.volume.n=3",
            "column 'sma.volume.n=3': price column 'volume' is not known. Known: close, high, low, open.",
        ),
        ("rsi.close.n=4", "column 'rsi.close.n=4': rsi takes no price column, found 'close'"),
        ("sma.close.m=3", "column 'sma.close.m=3': parameter 'm' is not known. Known: n."),
        ("rsi.n=14.n=15", "column 'rsi.n=14.n=15' gives parameter n twice"),
        ("rsi", "column 'rsi' lacks n; expected e.g. rsi.n=2"),
        ("rsi.n=1", "feature rsi: n was 1, expected an integer from 2 to 100000"),
        ("rsi.n=2.5", "feature rsi: n was 2.5, expected an integer"),
        ("rsi.n=14:mid", "column 'rsi.n=14:mid': output 'mid' is not known. rsi has one output only."),
        (
            "bollinger.close.n=3.k=2:uper",
            "column 'bollinger.close.n=3.k=2:uper': output 'uper' is not known. Closest: upper.",
        ),
        (
            "rsi(14)",
            "column 'rsi(14)' is not the name of a feature; expected a form like sma.close.n=20, "
            "rsi.n=14 or bollinger.close.n=20.k=2:upper",
        ),
        ("close", "column 'close' is part of the bars, expected the name of a feature"),
    ],
)
def test_refuses_names_that_mean_nothing(name, message):
    with pytest.raises(ConfigError) as caught:
        expand([name])
    assert str(caught.value) == message


def test_columns_are_the_functions_own_values():
    bars = make_bars(2, 80)
    features = FeatureSet(bars, 0.01)
    assert features.column("sma.high.n=5").tobytes() == moving.sma(bars.high, 5, tick=0.01).tobytes()
    assert features.column("adx.n=5").tobytes() == wilder.adx(bars.high, bars.low, bars.close, 5).tobytes()
    assert features.column("volume_sma.n=5").tobytes() == moving.volume_sma(bars.volume, 5).tobytes()
    assert features.column("close") is bars.close


def test_columns_are_read_only_and_computed_once(own_features):
    calls = []

    @feature("counted", code_version=1, inputs=("close",), outputs=("a", "b"), first_valid=lambda p: 0)
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


def test_the_key_changes_with_everything_that_changes_the_values(monkeypatch):
    base = column_key("a" * 64, "sma.close.n=20", 0.01)
    assert base == column_key("a" * 64, "sma.close.n=20", 0.01) and len(base) == 64
    others = [
        column_key("b" * 64, "sma.close.n=20", 0.01),
        column_key("a" * 64, "sma.close.n=21", 0.01),
        column_key("a" * 64, "sma.high.n=20", 0.01),
        column_key("a" * 64, "ema.close.n=20", 0.01),
        column_key("a" * 64, "sma.close.n=20", 0.05),
    ]
    raised = dict(registry._REGISTERED)
    raised["sma"] = registry.Feature(**{**raised["sma"].__dict__, "code_version": 2})
    monkeypatch.setattr(registry, "_REGISTERED", raised)
    others.append(column_key("a" * 64, "sma.close.n=20", 0.01))
    assert len({base, *others}) == 7


def test_the_key_of_a_column_that_reads_no_tick_ignores_it():
    assert column_key("a" * 64, "rsi.n=14", 0.01) == column_key("a" * 64, "rsi.n=14")


def test_each_output_has_its_key_and_a_group_none():
    keys = {column_key("a" * 64, name) for name in expand(["bollinger.close.n=20.k=2"])}
    assert len(keys) == 4
    with pytest.raises(ConfigError, match="stands for several columns"):
        column_key("a" * 64, "bollinger.close.n=20.k=2")
