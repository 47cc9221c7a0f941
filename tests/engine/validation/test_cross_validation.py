import importlib.util
import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from engine.validation.cross_validation import backtest_overfitting

_spec = importlib.util.spec_from_file_location("oracles", Path(__file__).with_name("oracles.py"))
oracles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracles)


def _plain(returns, blocks):
    """The definition, half by half."""
    rows = len(returns) // blocks
    cut = returns[len(returns) - rows * blocks :].reshape(blocks, rows, -1)
    logits, losing = [], []
    for inside in combinations(range(blocks), blocks // 2):
        a = cut[list(inside)].reshape(-1, returns.shape[1])
        b = cut[[k for k in range(blocks) if k not in inside]].reshape(-1, returns.shape[1])
        train, test = (x.mean(axis=0) / np.maximum(x.std(axis=0, ddof=1), 1e-300) for x in (a, b))
        best = int(np.argmax(train))
        w = rankdata(test)[best] / (returns.shape[1] + 1)
        logits.append(math.log(w / (1 - w)))
        losing.append(test[best] < 0)
    return np.mean(np.array(logits) <= 0), np.median(logits), np.mean(losing)


def test_it_is_the_definition_and_leaves_out_the_oldest_rows():
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(203, 12)) * 0.01
    returns[:, 3] = 0.0  # a trial that never traded
    returns[:, 7] = returns[:, 6]  # a tie
    found = backtest_overfitting(returns, blocks=8)
    wanted = _plain(returns, 8)
    assert (found.probability, found.median_logit, found.share_losing) == pytest.approx(wanted)


def test_it_is_that_of_ffn():
    known = json.loads(oracles.FILE.read_text())["pbo"]
    for first, (probability, logit) in enumerate(known):
        trials = np.column_stack([oracles.series(k % 9 + 0.1 * k) for k in range(first, first + 12)])
        found = backtest_overfitting(trials, blocks=8)
        assert found.probability == pytest.approx(probability, abs=1e-9)
        assert found.median_logit == pytest.approx(logit, abs=1e-9)


def test_noise_is_a_coin_and_a_planted_winner_is_found():
    draws = [np.random.default_rng(seed).normal(size=(240, 50)) for seed in range(60)]
    found = [backtest_overfitting(noise, blocks=8).probability for noise in draws]
    assert 0.4 <= np.mean(found) <= 0.6
    planted = draws[0].copy()
    planted[:, 17] += 0.5
    outcome = backtest_overfitting(planted)
    assert outcome.probability < 0.05 and outcome.share_losing < 0.05 and outcome.median_logit > 2


@pytest.mark.parametrize(
    "shape, reason",
    [((200, 9), "9 complete trials, needs 10"), ((31, 20), "31 returns, needs 32")],
)
def test_too_little_is_undefined_with_its_reason(shape, reason):
    found = backtest_overfitting(np.random.default_rng(0).normal(size=shape))
    assert found.reason == reason
    assert all(math.isnan(x) for x in (found.probability, found.median_logit, found.share_losing))
