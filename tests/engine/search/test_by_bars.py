"""Trials looked at every N scored bars: one scale over the folds, cut inside a fold, the same ledger."""

import math

import numpy as np
import pytest
from landscape import SPACE, Landscape

from engine.bars.synthetic import make_bars
from engine.config import Strategy
from engine.config_sections import Constraints, Folds, Leaf, Search
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.search.folds import inner_spans
from engine.search.ledger import from_rows, to_rows
from engine.search.pruning import bar_rungs
from engine.search.rerun import rerun, running_value
from engine.search.rules_fit import RulesFitter
from engine.search.trial import best_of
from engine.simulation import Execution, run
from engine.strategies import registry

SPANS = ((0, 500), (500, 1000), (1000, 1500), (1500, 2001))  # 2001 bars: rungs after 300 and 751


def search(pruner="halving", report="bars:100", **more):
    return Search(**{"screen": 0, "max_trials": 48, "batch": 16, **more}, pruner=pruner, report=report)


PRUNERS = ["halving", "optuna:median", "optuna:percentile", "optuna:sha", "optuna:hyperband"]


@pytest.mark.parametrize(
    "bars, batch, expected",
    [
        (8000, 16, [1000, 3000]),
        (2001, 16, [300, 751]),
        (1000, 16, [300, 375]),
        (400, 16, [300, 325]),
        (310, 16, [300]),
        (300, 16, []),
        (8000, 8, []),
    ],
)
def test_rungs_are_an_eighth_and_three_eighths_and_hold_three_hundred_bars(bars, batch, expected):
    assert bar_rungs(bars, batch) == expected


@pytest.mark.parametrize("objective", ["log_growth", "roi"])
def test_the_running_value_ends_as_the_mean_of_the_fold_scores(objective):
    scores, gain = [3.0, -1.0], 0.02
    last = 1e4 * (math.log1p(gain) / 250 if objective == "log_growth" else gain)
    at_end = running_value(objective, scores, 250, gain, 250)
    assert at_end == (3.0 - 1.0 + last) / 3
    # with the account standing still, a part of a fold thins out what was earned before
    assert running_value(objective, scores, 125, 0.0, 250) == 2.0 / 2.5
    assert running_value("log_growth", scores, 10, -1.0, 250) == -math.inf


@pytest.mark.parametrize("pruner", PRUNERS)
def test_trials_are_cut_inside_a_fold_and_the_best_is_not(pruner):
    trials = Landscape().run(search(pruner), spans=SPANS)
    pruned = [t for t in trials if t.state == "PRUNED" and t.duplicate_of is None]
    assert any(t.pruned_step % 500 for t in pruned)
    for trial in pruned:
        assert trial.bars_done == trial.pruned_step == max(trial.reported)
        assert len(trial.fold_scores) == sum(stop <= trial.pruned_step for _, stop in SPANS)
        assert trial.value == trial.reported[trial.pruned_step]
    assert best_of(trials).state == "COMPLETE"


def test_the_last_report_of_a_trial_that_was_not_cut_is_its_value():
    complete = [t for t in Landscape().run(search(), spans=SPANS) if t.state == "COMPLETE"]
    assert complete
    steps = [start + bars for start, stop in SPANS for bars in range(100, stop - start, 100)]
    for trial in (t for t in complete if t.duplicate_of is None):
        assert list(trial.reported) == sorted({*steps, *(stop for _, stop in SPANS)})
        assert trial.reported[2001] == trial.value == math.fsum(trial.fold_scores) / 4


def test_halving_keeps_half_at_the_first_look_after_each_rung():
    batch = [t for t in Landscape().run(search(sampler="random", max_trials=16), spans=SPANS) if t.batch == 0]
    steps = sorted(t.pruned_step for t in batch if t.state == "PRUNED")
    assert steps == [300] * 8 + [800] * 4  # 16 -> 8 -> 4; 751 bars are passed at 800


@pytest.mark.parametrize("pruner", ["halving", "optuna:sha"])
def test_a_study_that_was_killed_goes_on_to_the_same_end(pruner):
    whole = Landscape().run(search(pruner), spans=SPANS)
    rows = to_rows(whole, {})
    for cut in sorted({t.batch for t in whole}):
        told = from_rows([row for row in rows if row["batch_no"] <= cut], SPACE)
        again = Landscape().run(search(pruner), spans=SPANS, told=told)
        assert [(t.config, t.state, t.value, t.pruned_step, t.reported) for t in again] == [
            (t.config, t.state, t.value, t.pruned_step, t.reported) for t in whole
        ]


def test_one_look_a_fold_reports_what_reporting_by_folds_does():
    by_bars = Landscape().run(search(report="bars:600"), spans=SPANS)
    assert {step for t in by_bars for step in t.reported} == {500, 1000, 1500, 2001}


@pytest.fixture(scope="module")
def fitter():
    """Make fitters of `trend` on real bars that report as asked."""
    bars = make_bars(4, 1400, volatility=0.015)
    features = FeatureSet(bars, 0.01)

    def make(report="bars:50", pruner="halving", **more):
        entry = Strategy(
            strategy="trend",
            parameters={
                "fast": Leaf(type="int", low=2, high=60),
                "slow": Leaf(type="int", low=10, high=80, step=5),
                "adx_min": Leaf(type="float", low=0, high=20),
            },
            folds=Folds(warmup_bars=150, train_bars=1203, inner_folds=3),
            search=Search(screen=32, max_trials=32, batch=16, report=report, pruner=pruner, **more),
            constraints=Constraints(min_trades=4),
        )
        return RulesFitter(features, registry.get("trend"), entry, Execution(tick=0.01), 0)

    return make


WINDOW = (150, 1353)


def test_real_bars_are_cut_inside_folds_and_every_trial_runs_again_alone_bit_for_bit(fitter):
    one = fitter()
    task = one.task(*WINDOW)
    trials = one.fit(*WINDOW, print)[0].trials
    inside = [t for t in trials if t.state == "PRUNED" and t.bars_done % 401 and t.duplicate_of is None]
    assert len(inside) > 8
    for trial in [t for t in trials if t.ran]:
        (was, now) = (to_rows([t], {})[0] for t in (trial, rerun(task, trial)))
        for name in ("fold_scores", "bars_done", "trades", "fees", "trades_hash", "sr", "max_drawdown"):
            assert np.array_equal(was[name], now[name], equal_nan=name == "sr"), (trial.number, name)
        assert was["value"] == now["value"]


def test_the_reported_value_is_the_growth_of_the_account_to_that_bar(fitter):
    one = fitter()
    trials = one.fit(*WINDOW, print)[0].trials
    trial = next(t for t in trials if t.state == "COMPLETE" and t.trades > 10)
    growth = 0.0
    for start, stop in inner_spans(*WINDOW, 3):
        for bars in [*range(50, stop - start, 50), stop - start]:
            part = run(
                one.features, one.strategy, trial.config, one.execution, start=start, stop=stop,
                prune_every=bars, pruning_callback=lambda step, value: True,
            ) if bars < stop - start else run(
                one.features, one.strategy, trial.config, one.execution, start=start, stop=stop
            )  # fmt: skip
            gained = 1e4 * math.log1p(part.metrics["roi"])
            folds = (start - WINDOW[0] + bars) / (stop - start)
            step = start - WINDOW[0] + bars
            assert trial.reported[step] == pytest.approx((growth + gained / 401) / folds, rel=1e-9, abs=1e-12)
        growth += gained / 401


def test_without_a_cut_reporting_by_bars_changes_no_score(fitter):
    reported = fitter("bars:50", "optuna:median").fit(*WINDOW, print)[0].trials
    plain = {t.key: t for t in fitter("folds", "none").fit(*WINDOW, print)[0].trials}
    same = [t for t in reported if t.state == "COMPLETE" and t.key in plain]
    assert same
    for trial in same:
        assert (trial.fold_scores, trial.trades_hash) == (
            plain[trial.key].fold_scores,
            plain[trial.key].trades_hash,
        )


REFUSED = [
    ({"pruner": "race"}, "report bars:100: pruner race compares whole inner folds. Set report: folds"),
    ({"pruner": "none"}, "report bars:100: pruner none cuts no trial. Set report: folds"),
    ({"pruner": "optuna:wilcoxon"}, "report bars:100: pruner optuna:wilcoxon compares whole inner folds"),
    ({"objective": "sharpe"}, "report bars:100 needs objective log_growth or roi, .* found sharpe"),
]


@pytest.mark.parametrize("more, message", REFUSED)
def test_what_cannot_be_told_at_every_bar_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        Search(report="bars:100", **more)


def test_a_searched_size_is_refused_as_its_objective_is_sharpe(monkeypatch, fitter):
    from engine.search import rules_fit

    monkeypatch.setattr(rules_fit, "size_is_searched", lambda *_: True)
    message = r"search\.report bars:50: objective auto is sharpe here, .* Set search\.report: folds"
    with pytest.raises(ConfigError, match=message):
        fitter()
    monkeypatch.setattr(registry.get("trend"), "kind", "bars")
    with pytest.raises(ConfigError, match=r"strategy trend is of kind bars, run one trial after the other"):
        fitter()
