import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features.names import expand, parse
from engine.features.table import FeatureSet

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
