import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from engine.validation import bootstrap
from engine.validation.bootstrap import (
    bootstrap_means,
    mean_block,
    stationary_blocks,
    superior_predictive_ability,
)

_spec = importlib.util.spec_from_file_location("oracles", Path(__file__).with_name("oracles.py"))
oracles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracles)
KNOWN = json.loads(oracles.FILE.read_text())


def counts(count, block, draws, rng):
    """How often each draw took each observation, one after the other: the bootstrap in plain steps."""
    start, length = stationary_blocks(count, block, draws, rng)
    out = np.zeros((draws, count), dtype=int)
    for row in range(draws):
        for first, size in zip(start[row].tolist(), length[row].tolist(), strict=True):
            for step in range(size):
                out[row, (first + step) % count] += 1
    return out


@given(hs.integers(1, 60), hs.floats(1.0, 20.0), hs.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_means_are_those_of_the_plain_bootstrap(count, block, seed):
    values = np.random.default_rng(seed).normal(size=(count, 2))
    taken = counts(count, block, 7, np.random.default_rng(seed))
    assert (taken.sum(axis=1) == count).all()
    found = bootstrap_means(values, draws=7, seed=seed, block=block)
    np.testing.assert_allclose(found, taken @ values / count, rtol=1e-10, atol=1e-12)


def test_blocks_have_their_mean_length():
    for block in (12.0, 1.0):
        _, length = stationary_blocks(5000, block, 40, np.random.default_rng(0))
        assert 5000 * 40 / (length > 0).sum() == pytest.approx(block, rel=0.05)


def test_the_variance_of_drawn_means_is_that_of_the_mean():
    x = np.random.default_rng(2).normal(0, 1, (2000, 60))
    found = bootstrap_means(x, draws=500, seed=3).var(axis=0).mean() * len(x)
    assert found == pytest.approx(1.0, rel=0.05)
    slow = x[3:] + x[2:-1] + x[1:-2] + x[:-3]  # sixteen times the variance in the long run
    found = bootstrap_means(slow, draws=500, seed=3, block=40).var(axis=0).mean() * len(slow)
    assert found == pytest.approx(16.0, rel=0.08)


def test_a_series_that_lacks_observations_takes_those_it_has():
    values = np.random.default_rng(4).normal(size=(50, 2))
    values[:20, 1] = np.nan
    found = bootstrap_means(values, draws=30, seed=5)
    taken = counts(50, mean_block(50), 30, np.random.default_rng(5))
    wanted = (taken[:, 20:] @ values[20:, 1]) / taken[:, 20:].sum(axis=1)
    np.testing.assert_allclose(found[:, 1], wanted, rtol=1e-12)
    np.testing.assert_allclose(found[:, 0], taken @ values[:, 0] / 50, rtol=1e-12)


def test_long_series_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 30)
    found = bootstrap_means(np.arange(100.0)[:, None], draws=10, seed=0)
    assert found.shape == (10, 1) and len(set(found[:, 0].tolist())) == 10


@pytest.mark.parametrize("count, block", [(1, 1), (8, 2), (9, 3), (1000, 10), (1001, 11), (1270, 11)])
def test_mean_block_is_the_cube_root_rounded_up(count, block):
    assert mean_block(count) == block


def test_spa_is_that_of_arch_on_twenty_panels():
    found = [
        superior_predictive_ability(oracles.panel(number), seed=number, draws=2000, block=8).value
        for number in range(20)
    ]
    np.testing.assert_allclose(found, KNOWN["spa"], atol=0.03)
    assert sum(0.02 < p < 0.98 for p in KNOWN["spa"]) >= 10  # the panels are not all clear cases


def test_a_hopeless_series_costs_a_good_one_little():
    rng = np.random.default_rng(6)
    good = rng.normal(0.06, 1.0, 900)
    alone = superior_predictive_ability(good[:, None], seed=1).value
    hopeless = np.column_stack([good, *(rng.normal(-2.0, 1.0, 900) for _ in range(20))])
    assert abs(superior_predictive_ability(hopeless, seed=1).value - alone) < 0.02
    equal = np.column_stack([good, *(rng.normal(0.0, 1.0, 900) for _ in range(20))])
    assert superior_predictive_ability(equal, seed=1).value > alone + 0.1


def test_spa_where_there_is_nothing_to_find():
    found = superior_predictive_ability(np.zeros((20, 1)), seed=0)
    assert math.isnan(found.value) and found.reason == "20 returns, needs 30"
    losing = np.random.default_rng(0).normal(-5.0, 1.0, (100, 2))
    assert superior_predictive_ability(losing, seed=0).value == 1.0  # none is above its benchmark
    found = superior_predictive_ability(np.zeros((50, 3)), seed=0)
    assert math.isnan(found.value) and found.reason == "no series differs from its benchmark"
