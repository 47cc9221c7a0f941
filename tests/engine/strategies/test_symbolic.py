import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.strategies.expressions import adx, atr, price, sma
from engine.strategies.symbolic import (
    Symbol,
    SymbolicName,
    Trace,
    Untraceable,
    evaluate,
    named,
    spellings,
    text_of,
)

VALUES = {"n": [2, 3, 10], "x": [0.5, -1.25, 3.0]}


def symbols():
    trace = Trace()
    return trace, trace.symbol("n"), trace.symbol("x")


FORMULAS = [
    lambda n, x: n,
    lambda n, x: n + 1,
    lambda n, x: 2 * n - 1,
    lambda n, x: 1 - n * x,
    lambda n, x: -(x * 0.1 + n) * 3,
    lambda n, x: n * n * n - 10**20,
    lambda n, x: x - 0.1 - 0.2,
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_arithmetic_is_that_of_the_numbers(formula):
    _, n, x = symbols()
    expected = [formula(*pair) for pair in zip(VALUES["n"], VALUES["x"], strict=True)]
    found = evaluate(formula(n, x), VALUES, 3)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_scale_and_an_offset_have_the_bits_of_the_numbers(a, b):
    trace = Trace()
    p, q = trace.symbol("p"), trace.symbol("q")
    values = {"p": [a], "q": [b]}
    plain, traced = (atr(14) * a + b) * 0.3 - a, (atr(14) * p + q) * 0.3 - p
    assert evaluate(traced.scale, values, 1)[0].hex() == float(plain.scale).hex()
    assert evaluate(traced.offset, values, 1)[0].hex() == float(plain.offset).hex()


def test_a_number_is_the_same_in_every_config():
    assert evaluate(1.5, VALUES, 3) == [1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    "look",
    [
        bool,
        int,
        float,
        str,
        repr,
        hash,
        abs,
        round,
        math.floor,
        math.isfinite,
        lambda n: f"{n}",
        lambda n: n == 3,
        lambda n: n != 3,
        lambda n: n > 3,
        lambda n: 3 >= n,
        lambda n: n < n,
        lambda n: n in (1, 2),
        lambda n: {n: 1},
        lambda n: isinstance(n, int),
        lambda n: n / 2,
        lambda n: n // 2,
        lambda n: n % 2,
        lambda n: 2**n,
        lambda n: range(n),
        lambda n: [0, 1][n],
        lambda n: n.real,
        lambda n: max(n, 2),
        lambda n: sma("close", 5) * 2 if n else 0,
        lambda n: math.sqrt(n),
        lambda n: copy.copy(n),
    ],
)
def test_whatever_needs_the_value_is_refused_and_remembered(look):
    trace, n, _ = symbols()
    with pytest.raises(Untraceable):
        look(n)
    assert trace.refused


@pytest.mark.parametrize("other", ["2", None, np.float64(2.0), True, [1]])
def test_other_things_are_no_numbers(other):
    _, n, _ = symbols()
    with pytest.raises((TypeError, Untraceable)):
        n * other


def test_a_column_on_either_side_takes_the_symbol():
    _, n, x = symbols()
    assert type((x * atr(14)).scale) is type((atr(14) * x).scale) is Symbol
    assert text_of((x > adx(14)).right) == text_of((adx(14) < x).right)
    assert (x > adx(14)).operator == "<"
    assert evaluate(price("close").lag(n).lag(1).bars_back, VALUES, 3) == [3, 4, 11]


@pytest.mark.parametrize("values", [[1.0], [-1], [True]])
def test_a_lag_must_be_a_whole_number(values):
    trace = Trace()
    lagged = price("close").lag(trace.symbol("n"))
    with pytest.raises(Untraceable):
        evaluate(lagged.bars_back, {"n": values}, 1)


def test_numbers_must_be_finite():
    trace = Trace()
    scaled = atr(14) * (trace.symbol("x") * 1e308)
    with pytest.raises(Untraceable):
        evaluate(scaled.scale, {"x": [1e9]}, 1)


def test_names_are_spelt_per_config():
    _, n, x = symbols()
    assert named("sma.", "close", ".n=", 5) == "sma.close.n=5"
    name = sma("close", n * 2).name
    assert type(name) is SymbolicName
    assert spellings(name, VALUES, 3) == ["sma.close.n=4", "sma.close.n=6", "sma.close.n=20"]
    both = named("bollinger.close.n=", n, ".k=", x, ":upper")
    assert spellings(both, {"n": [5, 5, 5], "x": [2.0, 1.5, 2.0]}, 3) == [
        "bollinger.close.n=5.k=2.0:upper",
        "bollinger.close.n=5.k=1.5:upper",
        "bollinger.close.n=5.k=2.0:upper",
    ]


def test_texts_tell_symbols_apart():
    _, n, x = symbols()
    shown = [text_of(v) for v in (n, x, n + 1, n - 1, n * 1, n * 1.0, 1 + n, n.as_float(), 1, 1.0, -n)]
    assert len(set(shown)) == len(shown)
    assert text_of(n + 1) == text_of(n + 1)
    assert sma("close", n) == sma("close", n)
