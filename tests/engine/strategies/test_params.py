import copy
import pickle

import pytest

from engine.errors import ConfigError
from engine.strategies.params import Choice, Float, Int, Params


def test_values_are_read_by_name_and_as_a_mapping():
    p = Params({"fast": 20, "slow": 100})
    assert (p.fast, p["slow"], dict(p), len(p), "fast" in p) == (20, 100, {"fast": 20, "slow": 100}, 2, True)
    assert repr(p) == "Params({'fast': 20, 'slow': 100})"


def test_values_are_read_only_and_copied():
    source = {"fast": 20}
    p = Params(source)
    source["fast"] = 1
    with pytest.raises(
        ConfigError, match="^parameter 'fast' cannot be set: the values of a run are read-only$"
    ):
        p.fast = 5
    with pytest.raises(TypeError):
        p["fast"] = 5
    assert p.fast == 20


def test_a_misspelt_name_names_the_closest():
    with pytest.raises(ConfigError, match=r"^parameter 'fats' is not declared\. Closest: fast\.$"):
        Params({"fast": 20, "slow": 1}).fats


def test_values_travel_to_other_processes():
    p = Params({"fast": 20})
    assert pickle.loads(pickle.dumps(p)) == p == copy.deepcopy(p)


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        (Int(2, 100, 20), [2, 100], [1, 101, 2.0, True, "5", None]),
        (Float(0.5, 10, 2), [0.5, 10, 3], [0.4, 10.1, float("nan"), float("inf"), True, "5", None]),
        (Choice(("a", 1, True), "a"), ["a", 1, True], ["b", 1.0, False, None]),
    ],
)
def test_values_are_checked_against_the_declaration(declared, good, bad):
    for value in good:
        assert declared.check("x", value) == value
    for value in bad:
        with pytest.raises(ConfigError, match="^x was "):
            declared.check("x", value)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (Int(2, 100, 20), "x was 101, expected an integer from 2 to 100"),
        (Float(0.5, 10, 2), "x was 101, expected a number from 0.5 to 10"),
        (Choice(("close", "open"), "open"), "x was 101. Known: close, open."),
    ],
)
def test_a_refused_value_says_what_was_expected(declared, message):
    with pytest.raises(ConfigError) as caught:
        declared.check("x", 101)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Int(5, 2, 3), "expected low <= default <= high"),
        (lambda: Int(2, 5, 9), "expected low <= default <= high"),
        (lambda: Int(2, 5, 3, step=0), "step was 0, expected more than 0"),
        (lambda: Int(0, 5, 3, log=True), "a logarithmic scale needs low above 0"),
        (lambda: Int(2, 5, 3.0), "3.0 is not a whole number"),
        (lambda: Float(0.0, 1.0, float("nan")), "nan is not a finite number"),
        (lambda: Float(0.0, 1.0, 2.0), "expected low <= default <= high"),
        (lambda: Float(0.0, 1.0, 0.5, step=-0.1), "step was -0.1, expected more than 0"),
        (lambda: Float(0.0, 1.0, 0.5, log=True), "a logarithmic scale needs low above 0"),
        (lambda: Choice((), "a"), "expected at least one choice and no repeats"),
        (lambda: Choice(("a", "a"), "a"), "expected at least one choice and no repeats"),
        (lambda: Choice(("a", "b"), "c"), "default was 'c'. Known: a, b."),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value).endswith(message)
