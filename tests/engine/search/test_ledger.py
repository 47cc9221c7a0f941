import hashlib
import json
import math

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.config import Strategy
from engine.config_sections import Constraints, Folds, Leaf, Search
from engine.features.table import FeatureSet
from engine.lake.schemas import schema_of
from engine.search.folds import inner_spans
from engine.search.ledger import from_rows, summary, to_rows
from engine.search.rules_fit import RulesFitter
from engine.search.space import Space
from engine.search.trial import Trial
from engine.simulation import Execution, run
from engine.strategies import registry

COMMON = dict(symbol="TEST", strategy="trend", fold=3, study_id="a", data_id="d", config_hash="c", seed=0)
START, STOP = 150, 750


@pytest.fixture(scope="module")
def study():
    """A study on real bars, its trials and what is needed to run one again."""
    bars = make_bars(4, 800, volatility=0.015)
    features, execution = FeatureSet(bars, 0.01), Execution(tick=0.01, close_at_end=True)
    entry = Strategy(
        strategy="trend",
        parameters={
            "fast": Leaf(type="int", low=2, high=60),
            "slow": Leaf(type="int", low=10, high=80, step=5),
            "adx_min": Leaf(type="float", low=0, high=20),
        },
        folds=Folds(warmup_bars=150, train_bars=600, inner_folds=4),
        search=Search(screen=0, max_trials=40, batch=10),
        constraints=Constraints(min_trades=4),
    )
    fitter = RulesFitter(features, registry.get("trend"), entry, execution, 0)
    return features, execution, fitter.fit(START, STOP, print)[0].trials


def _again(features, execution, trial):
    """Return its inner folds, run one by one; None where it was not run."""
    spans = zip(inner_spans(START, STOP, 4), trial.fold_scores, strict=False)
    trend = registry.get("trend")
    return [
        None if score is None else run(features, trend, trial.config, execution, start=a, stop=b)
        for (a, b), score in spans
    ]


def test_moments_of_a_trial_are_those_of_its_bar_returns(study):
    features, execution, trials = study
    rows = to_rows(trials, COMMON)
    checked = 0
    for trial, row in zip(trials, rows, strict=True):
        if trial.duplicate_of is not None or not trial.trades:
            continue
        paths = [
            np.concatenate([[execution.initial_cash], r.equity])
            for r in _again(features, execution, trial)
            if r is not None
        ]
        returns = np.concatenate([path[1:] / path[:-1] - 1 for path in paths])
        assert row["bars_done"] == len(returns)
        z = (returns - returns.mean()) / returns.std()
        assert row["sr"] == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-8, abs=1e-10)
        assert row["skew"] == pytest.approx((z**3).mean(), rel=1e-6, abs=1e-6)
        assert row["kurt"] == pytest.approx((z**4).mean(), rel=1e-6)
        checked += 1
    assert checked >= 15


def test_any_trial_run_again_gives_its_row_bit_for_bit(study):
    features, execution, trials = study
    for trial, row in zip(trials, to_rows(trials, COMMON), strict=True):
        assert json.loads(row["params"]) == trial.config
        if trial.duplicate_of is not None or trial.outcome == "INVALID_PARAMS":
            continue
        results = _again(features, execution, trial)
        assert row["fold_scores"] == [r and r.metrics["log_growth"] for r in results]
        results = [result for result in results if result is not None]
        assert row["trades"] == sum(r.metrics["n_trades"] for r in results)
        assert row["fees"] == sum(r.metrics["fees"] for r in results)
        assert row["max_drawdown"] == max(r.metrics["max_drawdown"] for r in results)
        assert row["folds_done"] == len(results)
        fills = ""
        for result in results:
            fills = hashlib.sha256((fills + result.trades_hash).encode()).hexdigest()[:16]
        assert (row["trades_hash"], row["params_hash"]) == (fills, Trial(0, 0, {}, trial.config).key)


def test_a_trial_read_back_from_its_row_is_what_a_study_goes_on_from(study):
    space = Space({name: Leaf(type="int", low=2, high=80) for name in ("fast", "slow", "adx_min")}, {})
    rows = to_rows(study[2], COMMON)
    back = from_rows(rows[::-1], space)
    for trial, again in zip(study[2], back, strict=True):
        for name in ("number", "batch", "chosen", "config", "state", "outcome", "fold_scores", "pruned_step",
                     "constraints", "duplicate_of", "trades_hash", "bars_done", "trades"):  # fmt: skip
            assert getattr(again, name) == getattr(trial, name), name
        assert again.value == trial.value or (math.isnan(again.value) and math.isnan(trial.value))


def test_the_ledger_tells_every_outcome_apart(study):
    trials = study[2]
    outcomes = {(t.state, t.outcome) for t in trials}
    assert {("COMPLETE", "VALID"), ("PRUNED", "PRUNED"), ("FAIL", "INVALID_PARAMS")} <= outcomes
    count, pruned, best = summary(trials)
    ran = [t for t in trials if t.outcome != "INVALID_PARAMS" and t.duplicate_of is None]
    assert (count, pruned) == (len({t.key for t in ran}), sum(t.state == "PRUNED" for t in ran))
    assert best.value == max(t.value for t in trials if t.state == "COMPLETE" and t.feasible)


def test_rows_have_the_declared_columns(study):
    for row in to_rows(study[2], COMMON):
        assert set(row) == set(schema_of("trials").names)


@pytest.mark.parametrize("bars", [0, 1])
def test_no_spread_has_no_shape(bars):
    row = to_rows([Trial(0, 0, {}, {}, bars_done=bars)], COMMON)[0]
    assert np.isnan([row["sr"], row["skew"], row["kurt"], row["value"]]).all()


def test_a_constant_account_has_no_sharpe():
    row = to_rows([Trial(0, 0, {}, {}, bars_done=100)], COMMON)[0]
    assert np.isnan([row["sr"], row["skew"], row["kurt"]]).all()
