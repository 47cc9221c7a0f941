import pytest

from engine.errors import ConfigError
from engine.strategies.expressions import (
    AnyOf,
    Column,
    Condition,
    adx,
    any_of,
    atr,
    bollinger,
    column,
    cross_above,
    cross_below,
    ema,
    highest,
    log_return,
    lowest,
    minus_di,
    plus_di,
    price,
    roc,
    rsi,
    sma,
    tr,
    volatility,
    volume_sma,
)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        (sma("close", 20), "sma.close.n=20"),
        (ema("high", 5), "ema.high.n=5"),
        (bollinger("close", 20, 2.0, "upper"), "bollinger.close.n=20.k=2:upper"),
        (highest(20), "highest.n=20"),
        (lowest(20, "low"), "lowest.low.n=20"),
        (volume_sma(5), "volume_sma.n=5"),
        (roc(5), "roc.n=5"),
        (log_return(1), "log_return.n=1"),
        (volatility(20), "volatility.n=20"),
        (tr(), "tr"),
        (atr(14), "atr.n=14"),
        (rsi(14), "rsi.n=14"),
        (plus_di(14), "plus_di.n=14"),
        (minus_di(14), "minus_di.n=14"),
        (adx(14), "adx.n=14"),
        (price("volume"), "volume"),
        (column("close"), "close"),
    ],
)
def test_words_are_columns(expression, name):
    assert expression == Column(name)


def test_arithmetic_is_scale_and_offset():
    assert 2 * atr(14) == atr(14) * 2.0 == Column("atr.n=14", scale=2.0)
    assert (2 * atr(14) + 1) * 3 - 0.5 == Column("atr.n=14", scale=6.0, offset=2.5)
    assert 1 + rsi(2) == Column("rsi.n=2", offset=1.0)


def test_lags_add_up():
    assert sma("close", 5).lag(1).lag(2).bars_back == 3
    assert sma("close", 5).lag(0) == sma("close", 5)


@pytest.mark.parametrize("bars", [-1, 1.0, True, None])
def test_a_lag_never_reads_the_future(bars):
    with pytest.raises(ConfigError) as caught:
        rsi(14).lag(bars)
    assert str(caught.value) == f"rsi.n=14: lag was {bars!r}, expected a whole number of bars >= 0"


def test_and_spreads_over_or():
    a, b, c = rsi(2) > 1, rsi(2) > 2, rsi(2) > 3
    assert (a | b) & c == AnyOf(((a, c), (b, c)))
    assert a & b & c == AnyOf(((a, b, c),))
    assert a | b & c == AnyOf(((a,), (b, c)))
    assert c & (a | b) == AnyOf(((c, a), (c, b)))


def test_a_number_may_stand_on_the_left():
    assert (20 <= rsi(14)) == Condition(rsi(14), ">=", 20.0)
    assert (20 > rsi(14)) == Condition(rsi(14), "<", 20.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sma("clse", 5), "column 'sma.clse.n=5': price column 'clse' is not known. Closest: close."),
        (lambda: price("closing"), "bar column 'closing' is not known. Closest: close."),
        (lambda: rsi(1), "feature rsi: n was 1, expected an integer from 2 to 100000"),
        (
            lambda: column("bollinger.close.n=20.k=2"),
            "column 'bollinger.close.n=20.k=2' stands for several, expected one of its outputs: "
            "mid, upper, lower, pct_b",
        ),
        (
            lambda: price("close") - atr(14),
            "cannot subtract from close: found atr.n=14, expected a finite number (not another column)",
        ),
        (
            lambda: rsi(2) * float("nan"),
            "cannot multiply rsi.n=2: found nan, expected a finite number (not another column)",
        ),
        (
            lambda: rsi(2) > "x",
            "cannot compare with it: found 'x', expected a finite number (not another column)",
        ),
        (
            lambda: 1 < rsi(2) < 3,
            "a condition has a value per bar; join conditions with & and | (and, or, not cannot)",
        ),
        (lambda: bool(rsi(2)), "rsi.n=2 has a value per bar; join comparisons with & and |"),
        (
            lambda: bool((rsi(2) > 1) | (rsi(2) > 2)),
            "a condition has a value per bar; join conditions with & and | (and, or, not cannot)",
        ),
        (lambda: cross_above(30, rsi(2)), "found 30, expected a column such as sma('close', 10)"),
        (
            lambda: cross_below(rsi(2), None),
            "cannot compare with it: found None, expected a finite number (not another column)",
        ),
        (
            lambda: Condition(rsi(2), "cross_abov", 1.0),
            "operator 'cross_abov' is not known. Closest: cross_above, cross_below.",
        ),
        (
            lambda: any_of(True),
            "found True, expected a condition such as sma('close', 10) > sma('close', 30)",
        ),
    ],
)
def test_refuses_what_has_no_meaning(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message
