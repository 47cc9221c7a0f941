import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.strategies.expressions import OPERATORS, Column, Condition
from engine.strategies.rules import (
    Fraction,
    Notional,
    Risk,
    Rules,
    Signals,
    Units,
    adx,
    atr,
    cross_above,
    cross_below,
    ema,
    evaluate,
    highest,
    price,
    rsi,
    sma,
)

NAN = math.nan


def closes(*values):
    x = np.array(values, dtype=float)
    n = len(x)
    return Bars("TEST", "1d", "observed", np.arange(n) * 86_400_000_000, x, x, x, x,
                np.ones(n), np.ones(n), np.zeros(n))  # fmt: skip


def fires(condition, bars, tick=0.0):
    bits = evaluate(Rules(enter_long=condition), FeatureSet(bars, tick), "both").bits
    return np.flatnonzero(bits).tolist()


def slow_value(column, features, t):
    """One column's value at one bar, by the definition."""
    t -= column.bars_back
    return float(features.column(column.name)[t]) * column.scale + column.offset if t >= 0 else NAN


def slow_gap(condition, features, t):
    a, b = slow_value(condition.left, features, t), condition.right
    if not isinstance(b, Column):
        return a - b, 0.0
    b = slow_value(b, features, t)
    return a - b, 1e-12 * max(abs(a), abs(b))


def slow_condition(condition, features, t):
    gap, tie = slow_gap(condition, features, t)
    before, tie_before = slow_gap(condition, features, t - 1) if t else (NAN, 0.0)
    return {
        ">": gap > tie,
        ">=": gap >= -tie,
        "<": gap < -tie,
        "<=": gap <= tie,
        "cross_above": gap > tie and before <= tie_before,
        "cross_below": gap < -tie and before >= -tie_before,
    }[condition.operator]


def columns():
    names = [
        "close",
        "sma.close.n=2",
        "sma.close.n=3",
        "ema.close.n=3",
        "highest.high.n=4",
        "rsi.n=3",
        "atr.n=2",
    ]
    number = st.sampled_from([1.0, 1.0, 0.5, 2.0])
    offset = st.sampled_from([0.0, 0.0, 1.0, -0.5])
    return st.builds(Column, st.sampled_from(names), number, offset, st.integers(0, 4))


def conditions():
    right = st.one_of(columns(), st.sampled_from([0.0, 50.0, 99.5, 100.0]))
    return st.builds(Condition, columns(), st.sampled_from(OPERATORS), right)


def groups():
    clause = st.lists(conditions(), min_size=1, max_size=3)

    def joined(clauses):
        parts = []
        for clause in clauses:
            part = clause[0]
            for condition in clause[1:]:
                part = part & condition
            parts.append(part)
        whole = parts[0]
        for part in parts[1:]:
            whole = whole | part
        return whole

    return st.one_of(st.none(), st.lists(clause, min_size=1, max_size=3).map(joined))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 30),
    volatility=st.sampled_from([0.0, 2e-4, 0.02]),  # few ticks: many ties
    four=st.tuples(groups(), groups(), groups(), groups()),
    sides=st.sampled_from(["both", "long"]),
)
def test_bits_equal_the_definition_bar_by_bar(seed, length, volatility, four, sides):
    features = FeatureSet(make_bars(seed, length, volatility=volatility), 0.01)
    rules = Rules(*four)
    expected = []
    for t in range(length):
        bits = 0
        four_rules = (rules.enter_long, rules.enter_short, rules.exit_long, rules.exit_short)
        for bit, group in zip((1, 2, 4, 8), four_rules, strict=True):
            held = group is not None and any(
                all(slow_condition(condition, features, t) for condition in clause)
                for clause in group.clauses
            )
            bits += bit * (held and not (bit == 2 and sides == "long"))
        expected.append(bits)
    signals = evaluate(rules, features, sides)
    assert signals.bits.dtype == np.uint8
    assert signals.bits.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    ticks=st.lists(st.integers(9990, 10010), min_size=2, max_size=80),
    fast=st.integers(1, 10),
    slow=st.integers(1, 20),
)
def test_crosses_of_averages_equal_the_exact_integer_comparison(ticks, fast, slow):
    bars = closes(*[round(q * 0.01, 2) for q in ticks])

    def gap(t):  # of the two means, times fast * slow: an integer
        return sum(ticks[t - fast + 1 : t + 1]) * slow - sum(ticks[t - slow + 1 : t + 1]) * fast

    first = max(fast, slow)
    up = [t for t in range(first, len(ticks)) if gap(t) > 0 and gap(t - 1) <= 0]
    down = [t for t in range(first, len(ticks)) if gap(t) < 0 and gap(t - 1) >= 0]
    a, b = sma("close", fast), sma("close", slow)
    assert fires(cross_above(a, b), bars, 0.01) == up
    assert fires(cross_below(a, b), bars, 0.01) == down


def test_above_equal_above_again_is_a_new_cross():
    assert fires(cross_above(price("close"), 10.0), closes(9, 11, 10, 11, 11, 9, 12)) == [1, 3, 6]
    assert fires(cross_below(price("close"), 10.0), closes(11, 9, 10, 9, 9, 11, 8)) == [1, 3, 6]


def test_columns_closer_than_rounding_are_equal_and_constants_are_exact():
    bars = closes(0.1 + 0.2, 0.3)  # .30000000000000004 and .3
    back = price("close").lag(1)
    assert fires(price("close") < back, bars) == []
    assert fires(price("close") <= back, bars) == [1]
    assert fires(price("close") >= back, bars) == [1]
    assert fires(price("close") > 0.3, bars) == [0]


def test_nothing_fires_before_every_column_is_valid():
    bars = make_bars(2, 60)
    assert fires(sma("close", 7) > 0, bars)[0] == 6
    assert fires(sma("close", 7).lag(3) > 0, bars)[0] == 9
    assert fires((sma("close", 7) > 0) & (adx(9) >= 0), bars)[0] == 17
    assert fires(sma("close", 7) < 1e9, bars)[0] == 6


def test_a_cross_needs_the_bar_before():
    bars = closes(*range(10, 30))  # always above its average
    assert fires(price("close") > sma("close", 5), bars)[0] == 4
    assert fires(cross_above(price("close"), sma("close", 5)), bars) == []
    falling_then_up = closes(10, 9, 8, 7, 20)
    assert fires(cross_above(price("close"), sma("close", 4)), falling_then_up) == [4]
    assert fires(cross_above(price("close"), sma("close", 5)), falling_then_up) == []


def test_a_lag_longer_than_the_series_never_fires():
    assert fires(price("close").lag(9) > 0, closes(1, 2, 3)) == []


def test_a_breakout_compares_with_the_bar_before():
    bars = closes(1, 2, 3, 2, 4)
    assert fires(price("close") > highest(2).lag(1), bars) == [2, 4]


def test_sides_long_never_enters_short():
    rules = Rules(
        enter_long=price("close") > 2, enter_short=price("close") < 2, exit_short=price("close") > 2
    )
    features = FeatureSet(closes(1, 2, 3))
    assert evaluate(rules, features, "both").bits.tolist() == [2, 0, 9]
    assert evaluate(rules, features, "long").bits.tolist() == [0, 0, 9]
    with pytest.raises(ConfigError, match=r"^sides was 'short'\. "):
        evaluate(rules, features, "short")


def test_distances_and_sizes_become_arrays_at_the_signal_bar():
    features = FeatureSet(make_bars(3, 60), 0.01)
    a = features.column("atr.n=5")
    rules = Rules(
        enter_long=rsi(3) > 50,
        stop=2 * atr(5),
        targets=[(5 * atr(5), 1.0), (3 * atr(5), 0.5)],
        trail=2.5 * atr(5),
        size=Risk(0.01, atr=2),
    )
    signals = evaluate(rules, features, "both")
    assert signals.stop.tobytes() == (a * 2.0).tobytes()
    assert signals.trail.tobytes() == (a * 2.5).tobytes()
    assert [(d.tobytes(), f) for d, f in signals.targets] == [
        ((a * 3.0).tobytes(), 0.5),
        ((a * 5.0).tobytes(), 1.0),
    ]
    assert (signals.size_kind, signals.size_value) == (1, 0.01)
    assert signals.size_distance.tobytes() == (features.column("atr.n=14") * 2.0).tobytes()


@pytest.mark.parametrize(
    ("size", "kind", "value"),
    [(Fraction(0.5), 0, 0.5), (Risk(0.02), 1, 0.02), (Units(3), 2, 3.0), (Notional(1000), 3, 1000.0)],
)
def test_sizes_without_atr(size, kind, value):
    features = FeatureSet(make_bars(3, 30))
    signals = evaluate(Rules(enter_long=rsi(3) > 50, stop=1.5 * atr(3), size=size), features, "both")
    assert (signals.size_kind, signals.size_value) == (kind, value)
    if kind == 1:
        assert signals.size_distance.tobytes() == signals.stop.tobytes()
    else:
        assert signals.size_distance is None


def test_the_smallest_rules_ask_for_nothing():
    signals = evaluate(Rules(), FeatureSet(make_bars(3, 30)), "both")
    assert not signals.bits.any()
    assert (signals.stop, signals.targets, signals.trail) == (None, (), None)
    assert (signals.size_kind, signals.size_value, signals.size_distance) == (0, 1.0, None)
    assert Signals(signals.bits).size_kind == 0


def test_columns_are_all_that_is_read_and_no_column_of_the_bars():
    rules = Rules(
        enter_long=cross_above(ema("close", 5), ema("close", 9)) & (price("close") > 3),
        exit_short=rsi(3) > 1,
        stop=2 * atr(7),
        targets=((3 * atr(8), 1.0),),
        trail=atr(9),
        size=Risk(0.01, atr=2),
    )
    assert rules.columns() == (
        "atr.n=14", "atr.n=7", "atr.n=8", "atr.n=9", "ema.close.n=5", "ema.close.n=9", "rsi.n=3",
    )  # fmt: skip


def test_rules_are_frozen_and_comparable():
    make = lambda: Rules(enter_long=rsi(3) > 1, targets=[(atr(3), 1.0)])  # noqa: E731
    assert make() == make() and hash(make()) == hash(make())
    with pytest.raises(AttributeError):
        make().stop = atr(3)


def many(count, join):
    group = rsi(2) > 0
    for level in range(1, count):
        group = join(group, rsi(2) > level)
    return group


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Rules(enter_long=many(5, lambda a, b: a | b)),
            "enter_long has 5 clauses of up to 1 conditions, "
            "expected at most 4 clauses (|) of 8 conditions (&)",
        ),
        (
            lambda: Rules(exit_short=many(9, lambda a, b: a & b)),
            "exit_short has 1 clauses of up to 9 conditions, "
            "expected at most 4 clauses (|) of 8 conditions (&)",
        ),
        (
            lambda: Rules(enter_long=True),
            "found True, expected a condition such as sma('close', 10) > sma('close', 30)",
        ),
        (lambda: Rules(stop=2.0), "stop was 2.0, expected a distance such as 2 * atr(14)"),
        (lambda: Rules(trail=rsi(2) > 1), None),
        (lambda: Rules(targets=[(2.0, 1.0)]), "target was 2.0, expected a distance such as 2 * atr(14)"),
        (
            lambda: Rules(targets=[(atr(3), 1.5)]),
            "target fraction was 1.5, expected more than 0 and at most 1",
        ),
        (
            lambda: Rules(targets=[(atr(3), 0.5), (atr(4), 1.0)]),
            "several targets were of different columns, expected multiples of one column",
        ),
        (
            lambda: Rules(targets=[(atr(3), 0.5), (atr(3), 1.0)]),
            "two targets have the same distance, expected different ones",
        ),
        (lambda: Rules(size=1.0), "size was 1.0, expected Fraction, Risk, Units, Notional or None"),
        (
            lambda: Rules(enter_limit=99.0),
            "enter_limit was 99.0, expected a price such as price('close') - 2",
        ),
        (
            lambda: Rules(size=Risk(0.01)),
            "size Risk without atr takes the stop's distance, but there is no stop",
        ),
    ],
)
def test_refuses_rules_that_contradict_themselves(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    if message is None:
        assert str(caught.value).startswith("trail was Condition(")
    else:
        assert str(caught.value) == message
