import math
from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.config_sections import Leaf
from engine.features.table import FeatureSet
from engine.search.folds import inner_spans
from engine.search.space import Space, make_space
from engine.simulation import Execution, run, sweep
from engine.strategies import registry
from engine.validation import overfitting as of

TREND = registry.get("trend")
LEAVES = {
    "fast": Leaf(type="int", low=5, high=60),
    "slow": Leaf(type="int", low=20, high=200, step=5),
    "adx_min": Leaf(type="float", low=10, high=30),
}
SPACE = make_space(TREND.parameters, LEAVES, search_all=False)
CHOSEN = SPACE.config({"fast": 20, "slow": 100, "adx_min": 20.0})


@pytest.fixture(scope="module")
def features():
    return FeatureSet(make_bars(3, 500, volatility=0.02), 0.01)


def test_returns_of_trials_are_those_of_single_runs(features):
    configs = [CHOSEN, {**CHOSEN, "fast": 5}]
    found = of.trial_returns(features, TREND, configs, Execution(), 250, 500)
    for k, config in enumerate(configs):
        equity = run(features, TREND, config, Execution(), start=250, stop=500).equity
        wanted = np.diff(equity, prepend=1e5) / np.concatenate([[1e5], equity[:-1]])
        np.testing.assert_allclose(found[:, k], wanted, rtol=1e-12, atol=1e-15)
    assert of.trial_returns(features, TREND, [], Execution(), 250, 500).shape == (250, 0)


def test_hours_are_summed_to_days():
    hour = 3_600_000_000
    ts = np.arange(50, dtype=np.int64) * hour + 5 * hour  # from 05:00: 19, 24 and 7 bars
    found = of.by_day(np.ones((50, 2)), ts)
    assert found.tolist() == [[19.0, 19.0], [24.0, 24.0], [7.0, 7.0]]
    assert of.by_day(np.zeros((0, 3)), ts[:0]).shape == (0, 3)


def test_the_value_is_that_of_the_search(features):
    spans = inner_spans(250, 500, 4)
    found = of.mean_values(features, TREND, [CHOSEN], Execution(), spans)
    each = [sweep(features, TREND, [CHOSEN], Execution(), start=a, stop=b).log_growth[0] for a, b in spans]
    assert found.tolist() == [pytest.approx(np.mean(each))]


def test_neighbours_are_steps_choices_and_points_nearby():
    near = of.neighbours(SPACE, TREND, CHOSEN, seed=1)
    single = [c for c in near if sum(c[k] != CHOSEN[k] for k in SPACE.searched) == 1]
    steps = {(k, c[k]) for c in single for k in SPACE.searched if c[k] != CHOSEN[k]}
    assert {("fast", 19), ("fast", 21), ("slow", 95), ("slow", 105)} <= steps
    assert {("adx_min", 19.0), ("adx_min", 21.0)} <= steps
    assert CHOSEN not in near and len({repr(c) for c in near}) == len(near) and 30 < len(near) <= 38
    for config in near:
        assert abs(config["fast"] - 20) <= 6 and abs(config["slow"] - 100) <= 20
        assert abs(config["adx_min"] - 20) <= 2.0
        assert config["slow"] % 5 == 0 and isinstance(config["fast"], int)
        assert all(config[k] == v for k, v in SPACE.fixed.items())
    assert near == of.neighbours(SPACE, TREND, CHOSEN, seed=1)
    assert near != of.neighbours(SPACE, TREND, CHOSEN, seed=2)


def test_neighbours_stay_inside_the_bounds_and_the_relations():
    edge = SPACE.config({"fast": 60, "slow": 65, "adx_min": 10.0})
    for config in of.neighbours(SPACE, TREND, edge, seed=0):
        assert config["fast"] <= 60 and config["fast"] < config["slow"] and config["adx_min"] >= 10.0


def test_choices_and_log_axes_have_neighbours():
    space = Space({"side": Leaf(type="categorical", choices=("a", "b", "c")),
                   "rate": Leaf(type="float", low=0.001, high=1.0, log=True)}, {})  # fmt: skip
    near = of.neighbours(space, replace_relations(), {"side": "a", "rate": 0.1}, seed=0)
    assert {c["side"] for c in near} == {"a", "b", "c"}
    rates = [c["rate"] for c in near]
    assert 0.04 < min(rates) < 0.06 and 0.15 < max(rates) < 0.21  # 10 % of three decades


def replace_relations():
    class Free(TREND):
        relations = ()

    return Free


def test_many_trials_are_thinned_evenly():
    configs = [{"k": k} for k in range(1000)]
    kept = [c["k"] for c in of.thinned(configs)]
    assert len(kept) == 128 and kept[0] == 0 and kept[-1] == 999
    assert max(np.diff(kept)) - min(np.diff(kept)) <= 1
    assert of.thinned(configs[:5]) == configs[:5]


def test_a_ruined_trial_earns_nothing_from_there_on(features, monkeypatch):
    done = run(features, TREND, CHOSEN, Execution(), start=250, stop=500)
    equity = np.concatenate([np.linspace(1e5, -10.0, 100), np.full(150, -10.0)])
    monkeypatch.setattr(of, "run", lambda *a, **k: replace(done, equity=equity))
    found = of.trial_returns(features, TREND, [CHOSEN], Execution(), 250, 500)[:, 0]
    assert found[99] < -1 and (found[100:] == 0).all() and not math.isnan(found.sum())
