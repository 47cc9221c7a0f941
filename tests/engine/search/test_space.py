import pytest

from engine.config_sections import Leaf
from engine.errors import ConfigError
from engine.search.space import make_space
from engine.strategies.params import Choice, Float, Int

DECLARED = {
    "fast": Int(2, 100, default=20),
    "width": Float(0.5, 10.0, default=2.0),
    "speed": Float(0.1, 10.0, default=1.0, log=True),
    "side": Choice(("long", "both"), default="both"),
    "flag": Choice((True, False), default=False),
}


def _space(*, search_all=False, **leaves):
    return make_space(DECLARED, {k: Leaf(**v) for k, v in leaves.items()}, search_all=search_all)


def test_what_is_not_named_stays_at_its_default():
    space = _space(width={"type": "float", "low": 1, "high": 3, "step": 0.5})
    assert list(space.searched) == ["width"]
    assert space.fixed == {"fast": 20, "speed": 1.0, "side": "both", "flag": False}
    assert space.config({"width": 2.5}) == {**space.fixed, "width": 2.5}


def test_search_all_takes_the_declared_bounds():
    space = _space(search_all=True, fast={"type": "fixed", "value": 7})
    assert space.fixed == {"fast": 7}
    distributions = space.distributions()
    assert list(distributions) == ["width", "speed", "side", "flag"]
    assert (distributions["width"].low, distributions["width"].high, distributions["width"].step) == (
        0.5,
        10.0,
        None,
    )
    assert distributions["speed"].log and not distributions["width"].log
    assert distributions["side"].choices == ("long", "both")


def test_settings_become_distributions():
    made = _space(
        fast={"type": "int", "low": 5, "high": 60, "step": 5},
        width={"type": "float", "low": 1, "high": 4, "step": 0.25},
        side={"type": "categorical", "choices": ["long"]},
    ).distributions()
    assert (made["fast"].low, made["fast"].high, made["fast"].step) == (5, 60, 5)
    assert (made["width"].low, made["width"].high, made["width"].step) == (1.0, 4.0, 0.25)
    assert made["side"].choices == ("long",)


@pytest.mark.parametrize(
    "leaf, expected",
    [
        ({"fast": {"type": "fixed", "value": 20.0}}, ("fast", 20, int)),
        ({"width": {"type": "fixed", "value": 3}}, ("width", 3.0, float)),
        ({"flag": {"type": "fixed", "value": True}}, ("flag", True, bool)),
    ],
)
def test_fixed_values_have_the_declared_type(leaf, expected):
    name, value, kind = expected
    assert _space(**leaf).fixed[name] == value
    assert type(_space(**leaf).fixed[name]) is kind


@pytest.mark.parametrize(
    "leaf, found",
    [
        ({"fast": {"type": "int", "low": 1, "high": 60}}, "found 1. "),
        ({"fast": {"type": "fixed", "value": 101}}, "found 101. "),
        ({"fast": {"type": "fixed", "value": 2.5}}, "found 2.5. "),
        ({"fast": {"type": "fixed", "value": "9"}}, "found '9'. "),
        ({"width": {"type": "float", "low": 0.25, "high": 2}}, "found 0.25. "),
    ],
)
def test_a_number_outside_is_said_as_it_was_written(leaf, found):
    with pytest.raises(ConfigError) as refused:
        _space(**leaf)
    assert found in str(refused.value)


def test_choices_of_a_number_have_the_declared_type():
    space = _space(
        fast={"type": "categorical", "choices": [5.0, 10]}, width={"type": "categorical", "choices": [1, 2.5]}
    )
    assert [(v, type(v)) for v in space.searched["fast"].choices] == [(5, int), (10, int)]
    assert [(v, type(v)) for v in space.searched["width"].choices] == [(1.0, float), (2.5, float)]


REFUSED = [
    ({"fats": {"type": "fixed", "value": 3}}, r"parameter 'fats' is not declared .* Closest: fast"),
    ({"fast": {"type": "int", "low": 1, "high": 60}}, r"'fast' is declared as int from 2 to 100; found 1\. "),
    ({"fast": {"type": "int", "low": 2, "high": 101}}, r"from 2 to 100; found 101\. Narrow it"),
    ({"fast": {"type": "float", "low": 2, "high": 3}}, r"'fast' is declared as int; found type float"),
    ({"width": {"type": "int", "low": 1, "high": 3}}, r"'width' is declared as float; found type int"),
    ({"fast": {"type": "fixed", "value": 2.5}}, r"declared as int from 2 to 100; found 2\.5"),
    ({"fast": {"type": "fixed", "value": True}}, r"declared as int from 2 to 100; found True"),
    ({"fast": {"type": "fixed", "value": "20"}}, r"declared as int from 2 to 100; found '20'"),
    ({"fast": {"type": "categorical", "choices": [5, 500]}}, r"from 2 to 100; found 500"),
    ({"width": {"type": "fixed", "value": 11.0}}, r"declared as float from 0\.5 to 10\.0; found 11\.0"),
    ({"side": {"type": "categorical", "choices": ["long", "short"]}},
     r"'side' is one of \['long', 'both'\]; found \['short'\]"),
    ({"side": {"type": "int", "low": 1, "high": 2}}, r"'side' is one of \['long', 'both'\]; found int"),
    ({"side": {"type": "fixed", "value": "Long"}}, r"found \['Long'\]"),
]  # fmt: skip


@pytest.mark.parametrize("leaves, message", REFUSED, ids=[str(leaves) for leaves, _ in REFUSED])
def test_refuses_what_is_not_declared(leaves, message):
    with pytest.raises(ConfigError, match=message):
        _space(**leaves)
