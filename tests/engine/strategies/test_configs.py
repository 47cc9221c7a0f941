import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.strategies.configs import check_configs, config_list
from engine.strategies.params import Choice, Float, Int
from engine.strategies.registry import Strategy, check, defaults, get, valid


class Choosing(Strategy):
    name = "choosing"
    parameters = {
        "fast": Int(2, 30, default=5),
        "slow": Int(31, 200, default=60),
        "wide": Float(-1.0, 9.0, default=2.0),
        "filtered": Choice((True, False, 1), True),
        "mode": Choice(("units", "money"), "units"),
    }


def draw(cls, rng):
    """One valid config, some parameters left to their defaults."""
    while True:
        config = {}
        for name, declared in cls.parameters.items():
            if isinstance(declared, Int):
                config[name] = int(rng.integers(declared.low, declared.high + 1))
            elif isinstance(declared, Float):
                config[name] = float(rng.uniform(declared.low, declared.high))
            else:
                config[name] = declared.choices[rng.integers(len(declared.choices))]
            if rng.random() < 0.1:
                del config[name]
        if valid(cls, {**defaults(cls), **config}):
            return config


BAD = [
    {"fats": 5},
    {"fast": 1},
    {"fast": 5.0},
    {"fast": True},
    {"slow": 30, "fast": 30},
    {"adx_min": float("nan")},
    {"adx_min": "x"},
    {"stop_atr": 99.0},
]


@pytest.mark.parametrize("bad", BAD)
def test_configs_are_refused_as_one_by_one(bad):
    trend = get("trend")
    configs = [{"fast": 10}, {"fast": np.int64(11), "stop_atr": 2}, bad, {"fast": 0}]
    with pytest.raises(ConfigError) as alone:
        check(trend, bad)
    with pytest.raises(ConfigError) as together:
        check_configs(trend, configs)
    assert str(together.value) == str(alone.value)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_checked_values_are_those_of_one_by_one(seed):
    rng = np.random.default_rng(seed)
    for cls in (get("trend"), Choosing):
        configs = [draw(cls, rng) for _ in range(5)]
        configs[0] |= {"fast": np.int32(20), "slow": 150}
        expected = [check(cls, config) for config in configs]
        found = check_configs(cls, configs)
        assert {name: [p[name] for p in expected] for name in cls.parameters} == found
        assert all(
            [type(v) for v in found[name]] == [type(p[name]) for p in expected] for name in cls.parameters
        )


def test_configs_may_be_arrays_by_parameter():
    assert config_list({"a": np.array([1, 2]), "b": [0.5, 1.5]}) == [{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}]
    assert config_list({}) == []
    with pytest.raises(ConfigError) as caught:
        config_list({"a": [1, 2], "b": (1,)})
    assert str(caught.value) == (
        "parameters had different numbers of values: a 2, b 1; expected one per config"
    )
