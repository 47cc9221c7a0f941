"""The compiled signals have the bits of `rules.evaluate`, whatever the blocks and chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.simulation.signals import BLOCK, signal_bits
from engine.strategies.expressions import OPERATORS, Column, Condition, any_of
from engine.strategies.program import Names, compile_rules
from engine.strategies.rules import Rules, cross_above, cross_below, evaluate, price, sma

NAMES = [
    "close",
    "open",
    "sma.close.n=2",
    "sma.close.n=3",
    "ema.close.n=3",
    "highest.high.n=4",
    "rsi.n=3",
    "atr.n=2",
]


def compiled(rules, features, sides="both", spans=None, first=0, count=None):
    """Bits of `count` bars from `first` on, made in the given spans."""
    rows = Names()
    program = compile_rules(rules, rows, sides=sides)
    table, _ = features.table_rows(list(rows))
    count = len(features.bars) - first if count is None else count
    bits = np.full(count, 255, np.uint8)
    for t0, t1 in spans or [(0, count)]:
        signal_bits(program.code, program.constants[0], program.rows[0], table, first, t0, t1, bits)
    return bits


def columns(longest_lag):
    number = st.sampled_from([1.0, 1.0, 1.0, 0.5, 2.0, -1.0])
    offset = st.sampled_from([0.0, 0.0, 0.0, 1.0, -0.5])
    lag = st.one_of(st.just(0), st.integers(0, 4), st.integers(0, longest_lag))
    return st.builds(Column, st.sampled_from(NAMES), number, offset, lag)


def groups(longest_lag):
    right = st.one_of(columns(longest_lag), st.sampled_from([0.0, 50.0, 99.5, 100.0]))
    condition = st.builds(Condition, columns(longest_lag), st.sampled_from(OPERATORS), right)
    clause = st.lists(condition, min_size=1, max_size=4).map(lambda parts: joined(parts, "__and__"))
    return st.one_of(
        st.none(), st.lists(clause, min_size=1, max_size=3).map(lambda parts: joined(parts, "__or__"))
    )


def joined(parts, how):
    whole = any_of(parts[0])
    for part in parts[1:]:
        whole = getattr(whole, how)(part)
    return whole


def cuts(length, where):
    """Neighbouring spans that cover the bars."""
    edges = sorted({0, length, *(w % (length + 1) for w in where)})
    return list(zip(edges, edges[1:], strict=False)) or [(0, 0)]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.one_of(st.integers(0, 40), st.integers(BLOCK - 3, BLOCK + 3), st.integers(0, 3 * BLOCK)),
    volatility=st.sampled_from([0.0, 2e-4, 0.02]),  # few ticks: many ties
    four=st.tuples(groups(600), groups(600), groups(600), groups(600)),
    sides=st.sampled_from(["both", "long"]),
    where=st.lists(st.integers(0, 10**6), max_size=6),
    first=st.integers(0, 30),
)
def test_bits_are_those_of_the_rules(seed, length, volatility, four, sides, where, first):
    features = FeatureSet(make_bars(seed, max(length, 1), volatility=volatility).slice(0, length), 0.01)
    expected = evaluate(Rules(*four), features, sides).bits
    assert compiled(Rules(*four), features, sides).tobytes() == expected.tobytes()
    first = min(first, length)
    spans = cuts(length - first, where)
    part = compiled(Rules(*four), features, sides, spans, first)
    assert part.tobytes() == expected[first:].tobytes()


def ladder(*values):
    x = np.array(values, dtype=float)
    n = len(x)
    return FeatureSet(
        Bars("TEST", "1d", "observed", np.arange(n) * 86_400_000_000, x, x, x, x,
             np.ones(n), np.ones(n), np.zeros(n))
    )  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100, 500, 512, 513, 10**6])
def test_a_cross_is_seen_across_blocks_and_chunks(chunk):
    rng = np.random.default_rng(chunk)
    features = ladder(*(10.0 + rng.integers(0, 3, 1600)))  # a tie or a cross at nearly every bar
    rules = Rules(
        enter_long=cross_above(price("close"), price("close").lag(2)),
        exit_long=cross_below(price("close"), 11.0),
        enter_short=cross_above(price("close") * 2 - 11, price("close").lag(1)),
        exit_short=cross_below(price("close").lag(700), sma("close", 3)),
    )
    expected = evaluate(rules, features, "both").bits
    spans = [(t, min(t + chunk, 1600)) for t in range(0, 1600, chunk)]
    assert len(set(expected.tolist())) > 8
    assert compiled(rules, features, spans=spans).tobytes() == expected.tobytes()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("right", ["constant", "column", "scaled"])
def test_ties_nan_and_infinity_compare_as_in_the_rules(operator, right):
    third = 0.1 + 0.2  # .30000000000000004
    values = [
        0.3,
        third,
        -0.0,
        0.0,
        np.nan,
        np.inf,
        -np.inf,
        5e-324,
        1e300,
        0.3 * (1 + 3e-12),
        1.0,
        3.0,
        -0.3,
    ]
    rng = np.random.default_rng(0)
    drawn = rng.choice(values, (2, 1400))
    bars = make_bars(1, 1400)
    features = FeatureSet(bars)
    features.preload("sma.close.n=2", drawn[0])
    features.preload("sma.close.n=3", drawn[1])
    sides = {
        "constant": 0.3,
        "column": Column("sma.close.n=3"),
        "scaled": Column("sma.close.n=3", 1 / 3, 1e-17),
    }
    rules = Rules(enter_long=Condition(Column("sma.close.n=2"), operator, sides[right]))
    with np.errstate(all="ignore"):
        expected = evaluate(rules, features, "both").bits
    assert 0 < expected.sum() < 1400
    assert compiled(rules, features).tobytes() == expected.tobytes()


def test_bars_outside_the_range_are_left_alone():
    features = FeatureSet(make_bars(1, 30))
    bits = compiled(Rules(enter_long=price("close") > 0), features, spans=[(5, 9), (20, 21)])
    assert np.flatnonzero(bits != 255).tolist() == [5, 6, 7, 8, 20]
    assert set(bits[5:9].tolist()) == {1}


def test_rules_without_conditions_say_nothing():
    assert compiled(Rules(), FeatureSet(make_bars(1, 1000))).tolist() == [0] * 1000
