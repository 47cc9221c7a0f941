import math
from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.config import Strategy
from engine.config_sections import Constraints, Folds, Leaf, Promotion, Search
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.search.folds import inner_spans
from engine.search.rules_fit import RulesFitter
from engine.search.trial import best_of
from engine.simulation import Execution, run
from engine.strategies import registry

FROM, TO = 150, 550
PARAMETERS = {
    "fast": Leaf(type="int", low=2, high=60),
    "slow": Leaf(type="int", low=10, high=80, step=5),
    "adx_min": Leaf(type="fixed", value=10),
}


def _entry(**changes):
    given = {
        "strategy": "trend",
        "parameters": PARAMETERS,
        "folds": Folds(warmup_bars=150, train_bars=400, inner_folds=4),
        "search": Search(screen=0, max_trials=20, batch=10),
        "constraints": Constraints(min_trades=3),
    }
    return Strategy(**{**given, **changes})


def _fitter(bars, entry=None, *, execution=None, seed=0):
    execution = execution or Execution(tick=0.01)
    return RulesFitter(FeatureSet(bars, 0.01), registry.get("trend"), entry or _entry(), execution, seed)


@pytest.fixture(scope="module")
def bars():
    return make_bars(4, 640, volatility=0.015)


def test_bars_after_the_window_change_nothing(bars, with_bar):
    longer, shorter = _fitter(bars), _fitter(bars.slice(0, TO))
    other = _fitter(with_bar(bars, TO, 1.2))
    assert longer.study_id(FROM, TO) == shorter.study_id(FROM, TO) == other.study_id(FROM, TO)
    assert longer.data_id(TO) == shorter.data_id(TO) == other.data_id(TO)
    fits = [fitter.fit(FROM, TO, print)[0] for fitter in (longer, shorter, other)]
    assert [(f.params, f.in_sample, f.in_sample_untuned, f.n_trials) for f in fits[1:]] == [
        (fits[0].params, fits[0].in_sample, fits[0].in_sample_untuned, fits[0].n_trials)
    ] * 2


@pytest.mark.parametrize("bar", [0, 100, FROM, TO - 1])
def test_any_bar_inside_or_before_the_window_is_another_study(bars, with_bar, bar):
    fitter, other = _fitter(bars), _fitter(with_bar(bars, bar, 1.001))
    assert fitter.study_id(FROM, TO) != other.study_id(FROM, TO)
    assert fitter.data_id(TO) != other.data_id(TO)


OTHER = {
    "seed": dict(seed=1),
    "fee": dict(execution=Execution(tick=0.01, fee_bps=6.0)),
    "sides": dict(execution=Execution(tick=0.01, sides="long")),
    "trials": dict(entry=_entry(search=Search(screen=0, max_trials=30, batch=10))),
    "constraint": dict(entry=_entry(constraints=Constraints(min_trades=4))),
    "bounds": dict(entry=_entry(parameters={**PARAMETERS, "fast": Leaf(type="int", low=2, high=50)})),
    "fixed": dict(entry=_entry(parameters={**PARAMETERS, "adx_min": Leaf(type="fixed", value=11)})),
    "inner folds": dict(entry=_entry(folds=Folds(inner_folds=5))),
    "name": dict(entry=_entry(name="trend_two")),
}
SAME = {
    "promotion": dict(entry=_entry(promotion=Promotion(confidence=0.9))),
    "symbols": dict(entry=_entry(symbols=("TEST",))),
    "number of tests": dict(entry=_entry(folds=Folds(inner_folds=4, test_bars=7, min_folds=1))),
    "20 or 20.0": dict(entry=_entry(parameters={**PARAMETERS, "adx_min": Leaf(type="fixed", value=10.0)})),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_may_change_a_fit_is_another_study(bars, change):
    assert _fitter(bars, **OTHER[change]).study_id(FROM, TO) != _fitter(bars).study_id(FROM, TO)


@pytest.mark.parametrize("change", SAME)
def test_what_cannot_change_a_fit_is_the_same_study(bars, change):
    assert _fitter(bars, **SAME[change]).study_id(FROM, TO) == _fitter(bars).study_id(FROM, TO)


def test_another_window_or_symbol_is_another_study(bars):
    ids = {_fitter(bars).study_id(*span) for span in ((FROM, TO), (FROM + 1, TO), (FROM, TO + 1))}
    ids.add(_fitter(replace(bars, symbol="OTHER")).study_id(FROM, TO))
    assert len(ids) == 4


def test_the_strategys_own_code_is_part_of_the_study(bars, monkeypatch):
    real = registry.code_id
    before = _fitter(bars).study_id(FROM, TO)
    monkeypatch.setattr(
        registry, "code_id", lambda name: ("edited", {}) if name == "engine.strategies.trend" else real(name)
    )
    assert _fitter(bars).study_id(FROM, TO) != before


RANDOM = Search(screen=0, max_trials=20, batch=10, sampler="random")


def _draws(fitter, start=FROM, stop=TO):
    return [trial.chosen for trial in fitter.fit(start, stop, print)[0].trials]


def test_neither_new_code_nor_a_corrected_bar_redraws_a_study(bars, with_bar, monkeypatch):
    """The study is another one, and is evaluated anew, at the same points."""
    import engine.search.rules_fit as module

    entry = _entry(search=RANDOM)
    before = _fitter(bars, entry)
    drawn = _draws(before)
    assert len({tuple(sorted(params.items())) for params in drawn}) > 10
    for bar in (100, FROM + 50, TO - 1, TO):
        assert _draws(_fitter(with_bar(bars, bar, 1.01), entry)) == drawn, bar
    monkeypatch.setattr(module, "code_id", lambda name: ("edited", {}))
    assert _fitter(bars, entry).study_id(FROM, TO) != before.study_id(FROM, TO)
    assert _draws(_fitter(bars, entry)) == drawn
    # the model-based sampler draws its first batch before it has seen a value
    assert _draws(_fitter(with_bar(bars, 300, 1.01)))[:10] == _draws(_fitter(bars))[:10]


@pytest.mark.parametrize("change", ["symbol", "label", "first bar", "last bar", "seed"])
def test_symbol_label_window_and_seed_name_the_draws(bars, change):
    entry = _entry(search=RANDOM)
    other = {
        "symbol": lambda: _draws(_fitter(replace(bars, symbol="OTHER"), entry)),
        "label": lambda: _draws(_fitter(bars, _entry(search=RANDOM, name="other"))),
        "first bar": lambda: _draws(_fitter(bars, entry), FROM + 1),
        "last bar": lambda: _draws(_fitter(bars, entry), FROM, TO - 1),
        "seed": lambda: _draws(_fitter(bars, entry, seed=1)),
    }[change]()
    assert other != _draws(_fitter(bars, entry))


def test_the_chosen_trial_is_frozen_with_its_value(bars):
    fitter = _fitter(bars)
    fit = fitter.fit(FROM, TO, print)[0]
    best = best_of(fit.trials)
    assert (fit.params, fit.trial_number, fit.in_sample) == (best.config, best.number, best.value)
    assert (fit.solver, fit.objective, fit.policy, fit.selected, fit.status) == (
        "optuna:tpe", "log_growth", "", True, "ok"
    )  # fmt: skip
    assert set(fit.params) == set(registry.get("trend").parameters)
    assert fit.params["adx_min"] == 10.0 and fit.params["fast"] < fit.params["slow"]


def test_in_sample_is_the_mean_of_direct_runs_on_the_inner_folds(bars):
    """Each starts flat with the initial cash and closes at its end."""
    fitter = _fitter(bars)
    fit = fitter.fit(FROM, TO, print)[0]
    trend, execution = registry.get("trend"), Execution(tick=0.01, close_at_end=True)
    for params, value in (
        (fit.params, fit.in_sample),
        (registry.defaults(trend), fit.in_sample_untuned),
    ):
        scores = [
            run(fitter.features, trend, params, execution, start=a, stop=b).metrics["log_growth"]
            for a, b in inner_spans(FROM, TO, 4)
        ]
        assert value == pytest.approx(np.mean(scores), abs=1e-12)


def test_no_feasible_trial_is_an_outcome(bars):
    fit = _fitter(bars, _entry(constraints=Constraints(min_trades=10_000))).fit(FROM, TO, print)[0]
    assert (fit.status, fit.params, fit.trial_number, fit.selected) == ("no_candidate", {}, None, True)
    assert math.isnan(fit.in_sample)
    assert fit.n_trials > 0


def test_gains_and_losses_of_a_trial_are_those_of_its_trades(bars):
    entry = _entry(constraints=Constraints(min_trades=None, max_drawdown=None, min_profit_factor=1.0))
    fitter = _fitter(bars, entry)
    trend, execution = registry.get("trend"), Execution(tick=0.01, close_at_end=True)
    checked = 0
    for trial in fitter.fit(FROM, TO, print)[0].trials:
        if trial.state != "COMPLETE" or trial.duplicate_of is not None:
            continue
        spans = inner_spans(FROM, TO, 4)
        runs = [run(fitter.features, trend, trial.config, execution, start=a, stop=b) for a, b in spans]
        pnl = np.concatenate([r.trades["pnl"] for r in runs])
        assert trial.gross_profit == pytest.approx(pnl[pnl > 0].sum(), rel=1e-9)
        assert trial.gross_loss == pytest.approx(-pnl[pnl < 0].sum(), rel=1e-9)
        short = -pnl.sum()
        assert trial.constraints["min_profit_factor"] == pytest.approx(short, abs=1e-6)
        checked += 1
    assert checked >= 3


def test_undeclared_parameters_are_refused(bars):
    with pytest.raises(ConfigError, match="parameter 'fats' is not declared .* Closest: fast"):
        _fitter(bars, _entry(parameters={"fats": Leaf(type="fixed", value=3)}))


OBJECTIVES = {
    "log_growth": lambda m: m["log_growth"],
    "roi": lambda m: 1e4 * m["roi"],
    "sharpe": lambda m: m["sharpe"],
    "calmar": lambda m: m["calmar"],
    "profit_per_trade": lambda m: 1e4 * m["roi"] / m["n_trades"],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_score_is_the_objective_of_a_direct_run(bars, objective):
    search = Search(screen=32, max_trials=10, batch=10, objective=objective, pruner="none")
    fitter = _fitter(bars, _entry(search=search))
    fit = fitter.fit(FROM, TO, print)[0]
    assert fit.objective == objective
    trend, execution = registry.get("trend"), Execution(tick=0.01, close_at_end=True)
    checked = 0
    for trial in fit.trials[:12]:
        if trial.outcome != "VALID":
            continue
        for (start, stop), score in zip(inner_spans(FROM, TO, 4), trial.fold_scores, strict=True):
            metrics = run(fitter.features, trend, trial.config, execution, start=start, stop=stop).metrics
            assert score == (OBJECTIVES[objective](metrics) if metrics["n_trades"] else 0.0)
            checked += 1
    assert checked >= 8


def test_how_a_search_is_run_changes_no_study(bars):
    one = _fitter(bars, _entry(search=Search(mode="in-process")))
    other = _fitter(bars, _entry(search=Search(mode="subprocess", max_concurrent=3)))
    assert one.study_id(FROM, TO) == other.study_id(FROM, TO)


def test_growth_is_not_maximised_where_the_search_sets_the_size():
    """Larger positions would pass for skill."""
    from engine.search.rules_fit import objective_of
    from engine.search.space import make_space
    from engine.strategies.params import Choice, Float
    from engine.strategies.registry import Strategy
    from engine.strategies.rules import Fraction, Risk, Rules, atr, price, sma

    ALL_IN = Fraction(1.0)  # noqa: N806

    class Sized(Strategy):
        name = "sized"
        parameters = {"size": Float(0.1, 1.0, 0.5), "stop": Float(1.0, 3.0, 2.0), "k": Float(0.9, 1.1, 1.0)}

        @staticmethod
        def rules(p):
            return Rules(enter_long=price("close") > p.k * sma("close", 5), stop=p.stop * atr(14),
                         size=Fraction(p.size))  # fmt: skip

    class Unsized(Sized):
        @staticmethod
        def rules(p):
            return Rules(enter_long=price("close") > p.k * sma("close", 5), stop=p.stop * atr(14))

    class ByChoice(Sized):
        parameters = {"mode": Choice(("a", "big", "b"), "a")}

        @staticmethod
        def rules(p):
            return Rules(enter_long=price("close") > 1.0, size=Fraction(1.0 if p.mode == "big" else 0.1))

    class ByStop(Sized):
        @staticmethod
        def rules(p):
            return Rules(
                enter_long=price("close") > p.k * sma("close", 5), stop=p.stop * atr(14), size=Risk(0.01)
            )

    def chosen(cls, *searched, default=ALL_IN):
        leaves = {name: Leaf(type="float", low=p.low, high=p.high) for name, p in cls.parameters.items()
                  if name in searched}  # fmt: skip
        return objective_of(cls, make_space(cls.parameters, leaves, search_all=False), "auto", default)

    assert chosen(Sized, "size") == "sharpe"
    assert chosen(Sized, "stop", "k") == "log_growth"
    assert chosen(ByStop, "stop") == "sharpe"
    assert chosen(ByStop, "k") == "log_growth"
    assert chosen(Unsized, "stop") == "log_growth"
    assert chosen(Unsized, "stop", default=Risk(0.01)) == "sharpe"  # the settings' size
    space = make_space(ByChoice.parameters, {}, search_all=True)
    assert objective_of(ByChoice, space, "auto", ALL_IN) == "sharpe"
    trend = registry.get("trend")
    for cls, asked in ((Sized, "log_growth"), (trend, "auto")):
        space = make_space(cls.parameters, {}, search_all=True)
        assert objective_of(cls, space, asked, ALL_IN) == "log_growth"
