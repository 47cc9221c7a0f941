from dataclasses import replace

import numpy as np
import pytest
from finer import parted

from engine.bars.synthetic import make_bars
from engine.config import Settings, Strategy
from engine.config_sections import AbsoluteWidth, Bounds, Levels
from engine.errors import LevelsInputError
from engine.search.levels.api import optimize_levels
from engine.search.levels.exact import solve
from engine.search.levels_fit import LevelsFitter
from engine.simulation.levels import value
from engine.strategies import registry

FROM, TO = 60, 160
NAMES = ("levels_entry_exit", "levels_always_on")
INSTRUMENT = Settings.model_validate({"symbols": {"TEST": {}}}).instrument("TEST")


@pytest.fixture(scope="module")
def bars():
    return make_bars(8, 220, volatility=0.015)


def _forecasts(bars):
    rng = np.random.default_rng(3)
    high = 0.006 + 0.004 * rng.random(len(bars))
    return high, -0.006 - 0.004 * rng.random(len(bars))


def _fitter(
    bars, name=NAMES[0], *, high=None, low=None, key="m", levels=None, instrument=INSTRUMENT, **entry
):
    usual = _forecasts(bars)
    return LevelsFitter(
        bars, usual[0] if high is None else high, usual[1] if low is None else low, key, registry.get(name),
        Strategy(strategy=name, levels=levels or Levels(), **entry), instrument,
    )  # fmt: skip


def _moved(column, t):
    out = column.copy()
    out[t] += 1e-4
    return out


@pytest.mark.parametrize("name", NAMES)
def test_bars_and_forecasts_after_the_window_change_nothing(bars, with_bar, name):
    high, low = _forecasts(bars)
    cut = _fitter(bars.slice(0, TO), name, high=high[:TO], low=low[:TO])
    fitters = [
        _fitter(bars, name),
        _fitter(with_bar(bars, TO, 1.2), name),
        # issued at the window's last close, so its outcome lies behind the window
        _fitter(bars, name, high=_moved(high, TO - 1), low=_moved(low, TO)),
    ]
    for fitter in fitters:
        assert fitter.study_id(FROM, TO) == cut.study_id(FROM, TO)
        assert fitter.data_id(TO) == cut.data_id(TO)
        assert fitter.fit(FROM, TO, print) == cut.fit(FROM, TO, print)


@pytest.mark.parametrize("bar", [0, FROM - 1, FROM, TO - 1])
def test_any_bar_inside_or_before_the_window_is_another_fit(bars, with_bar, bar):
    assert _fitter(with_bar(bars, bar, 1.001)).study_id(FROM, TO) != _fitter(bars).study_id(FROM, TO)


@pytest.mark.parametrize("bar", [FROM - 1, FROM, TO - 2])
@pytest.mark.parametrize("which", ["high", "low"])
def test_any_forecast_used_is_part_of_the_fit(bars, which, bar):
    column = dict(zip(("high", "low"), _forecasts(bars), strict=True))[which]
    other = _fitter(bars, **{which: _moved(column, bar)})
    assert other.study_id(FROM, TO) != _fitter(bars).study_id(FROM, TO)


@pytest.mark.parametrize(
    "change",
    [
        dict(key="other"),
        dict(levels=Levels(policies=("close",))),
        dict(levels=Levels(fill="touch")),
        dict(levels=Levels(bounds=Bounds(high=(-0.01, 0.01)))),
        dict(levels=Levels(abstain=False)),
        dict(levels=Levels(side="momentum")),
        dict(levels=Levels(solver="de-numba")),
        dict(levels=Levels(objective="sup")),
        dict(levels=Levels(smoothing=0.5)),
        dict(levels=Levels(smoothing=AbsoluteWidth(absolute=0.25))),
        dict(levels=Levels(budget=200)),
        dict(levels=Levels(shrink=0.5)),
        dict(instrument=INSTRUMENT.model_copy(update={"tick": 0.05})),
        dict(instrument=INSTRUMENT.model_copy(update={"sides": "long"})),
        dict(name_="levels_always_on"),
    ],
    ids=str,
)
def test_what_may_change_a_fit_is_another_fit(bars, change):
    change = dict(change)
    other = _fitter(bars, change.pop("name_", NAMES[0]), **change)
    assert other.study_id(FROM, TO) != _fitter(bars).study_id(FROM, TO)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_tells_what_its_offsets_earn_on_the_window(bars, name):
    fitter = _fitter(bars, name, levels=Levels(abstain=False, policies=("path", "target", "close")))
    fits = fitter.fit(FROM, TO, print)
    rows = fitter.problem(FROM, TO)
    assert [fit.policy for fit in fits] == ["path", "target", "close"]
    for fit in fits:
        assert (fit.solver, fit.trials, fit.trial_number) == ("exact", [], None)
        earned = value(rows, fit.params["u"], fit.params["v"], fit.policy) * 1e4 / (TO - FROM)
        assert fit.in_sample == pytest.approx(earned, abs=1e-12)
        untuned = value(rows, 0.0, 0.0, fit.policy) * 1e4 / (TO - FROM)
        assert fit.in_sample_untuned == pytest.approx(untuned, abs=1e-12)
        assert fit.in_sample >= fit.in_sample_untuned
        best = solve(rows, exit=fit.policy).profit * 1e4 / (TO - FROM)
        assert fit.regret == pytest.approx(best - fit.in_sample, abs=1e-12) and fit.objective == "smoothed"


def test_the_raw_optimum_is_the_exact_solvers(bars):
    fitter = _fitter(bars, levels=Levels(objective="sup", policies=("close", "target")))
    for fit in fitter.fit(FROM, TO, print):
        best = solve(fitter.problem(FROM, TO), exit=fit.policy)
        assert (fit.params, fit.n_trials, fit.status) == (
            {"u": best.u, "v": best.v},
            best.evaluations,
            best.status,
        )
        assert (fit.objective, fit.regret) == ("sup", 0.0)


@pytest.mark.parametrize(
    "levels",
    [
        Levels(objective="sup"),
        Levels(smoothing=1.0),
        Levels(smoothing=AbsoluteWidth(absolute=0.001)),
        Levels(shrink=0.5),
        Levels(solver="de-numba"),
    ],
    ids=str,
)
def test_each_setting_changes_the_offsets(bars, levels):
    usual = _fitter(bars).fit(FROM, TO, print)[0]
    other = _fitter(bars, levels=levels).fit(FROM, TO, print)[0]
    assert other.params != usual.params
    assert (other.solver, other.objective) == (levels.solver, levels.objective)
    if levels.shrink < 1:
        assert other.params == {name: 0.5 * offset for name, offset in usual.params.items()}


def test_the_budget_and_the_seed_count_for_a_searching_solver(bars):
    def searched(budget, seed):
        fitter = _fitter(
            bars, levels=Levels(solver="scipy-direct" if seed is None else "de-numba", budget=budget)
        )
        fitter.seed = seed or 0
        return fitter.fit(FROM, TO, print)[0]

    assert searched(100, None).n_trials < searched(400, None).n_trials
    assert searched(300, 1) == searched(300, 1) and searched(300, 1).params != searched(300, 2).params


def test_the_seed_names_another_fit_of_a_searching_solver_only(bars):
    for solver, same in (("exact", True), ("de-numba", False)):
        ids = [
            LevelsFitter(
                bars,
                *_forecasts(bars),
                "m",
                registry.get(NAMES[0]),
                Strategy(strategy=NAMES[0], levels=Levels(solver=solver)),
                INSTRUMENT,
                seed,
            ).study_id(FROM, TO)
            for seed in (0, 1)
        ]
        assert (ids[0] == ids[1]) == same


def test_the_number_of_simulations_is_no_part_of_a_fit(bars):
    assert _fitter(bars, levels=Levels(num_simulations=35)).study_id(FROM, TO) == _fitter(bars).study_id(
        FROM, TO
    )


def test_the_policy_that_earned_most_in_training_is_chosen(bars):
    fits = _fitter(bars, levels=Levels(policies=("close", "target"))).fit(FROM, TO, print)
    assert sum(fit.selected for fit in fits) == 1
    assert max(fits, key=lambda fit: fit.in_sample).selected


def test_a_tie_goes_to_the_policy_named_first(bars):
    """Without finer bars, path and close come to the same."""
    for policies in (("path", "close"), ("close", "path")):
        fits = _fitter(bars, levels=Levels(policies=policies)).fit(FROM, TO, print)
        assert [fit.selected for fit in fits] == [True, False]
        assert fits[0].in_sample == fits[1].in_sample


def test_a_losing_fit_abstains_and_earns_nothing(bars):
    dear = INSTRUMENT.model_copy(update={"cost": INSTRUMENT.cost.model_copy(update={"fee_bps": 900.0})})
    narrow = Bounds(high=(-0.003, 0.0), low=(0.0, 0.003))  # levels so near that something always trades
    fit = _fitter(bars, instrument=dear, levels=Levels(bounds=narrow)).fit(FROM, TO, print)[0]
    assert (fit.status, fit.in_sample) == ("abstain", 0.0)


def test_the_window_s_first_row_uses_the_forecast_of_the_bar_before(bars):
    rows = _fitter(bars).problem(FROM, TO)
    assert rows.index.tolist() == list(range(FROM, TO))
    assert rows.base[0] == bars.close[FROM - 1]
    assert rows.forecast_high[0] == np.expm1(_forecasts(bars)[0][FROM - 1])


def test_another_symbol_is_another_fit(bars):
    assert _fitter(replace(bars, symbol="OTHER")).study_id(FROM, TO) != _fitter(bars).study_id(FROM, TO)


def test_the_device_setting_reaches_the_torch_solvers_alone(bars):
    from engine.errors import DeviceUnavailable
    from engine.search.levels.api import uses_torch

    names = ("exact", "exact-torch", "grid-gemm", "de-numba", "de-torch", "evox:PSO")
    assert [name for name in names if uses_torch(name)] == [
        "exact-torch", "grid-gemm", "de-torch", "evox:PSO",
    ]  # fmt: skip
    rows = _fitter(bars).problem(FROM, TO)
    assert optimize_levels(rows, solver="exact", device="cuda:99").profit[0] >= 0  # no device is asked for
    with pytest.raises(DeviceUnavailable, match="cuda:99"):
        optimize_levels(rows, solver="de-torch", device="cuda:99")


def _based(bars, base, policies=("path", "close"), **change):
    usual = _forecasts(bars)
    levels = Levels(policies=policies, abstain=False)
    strategy = Strategy(strategy="levels_always_on", levels=levels)
    return LevelsFitter(
        bars, *usual, "m", registry.get("levels_always_on"), strategy, INSTRUMENT, base=base, **change
    )


def test_finer_bars_make_path_another_fit_and_are_part_of_its_id(bars):
    with_them, without = _based(bars, parted(bars)), _based(bars, None)
    (path, close), (as_close, same) = with_them.fit(FROM, TO, print), without.fit(FROM, TO, print)
    assert close.params == same.params == as_close.params != path.params
    assert path.in_sample == pytest.approx(
        1e4 / (TO - FROM) * value(with_them.problem(FROM, TO), path.params["u"], path.params["v"], "path")
    )
    assert with_them.study_id(FROM, TO) != without.study_id(FROM, TO)
    other = _based(bars, parted(bars, seed=1))
    assert other.study_id(FROM, TO) != with_them.study_id(FROM, TO)
    assert without.data_id(TO) == _fitter(bars).data_id(TO)


def test_finer_bars_after_the_window_change_nothing(bars):
    base = parted(bars)
    high = base.high.copy()
    high[4 * TO] *= 1.1
    first = _based(bars, base)
    for other in (_based(bars, replace(base, high=high)), _based(bars, base.slice(0, 4 * TO))):
        assert other.study_id(FROM, TO) == first.study_id(FROM, TO)
        assert other.fit(FROM, TO, print) == first.fit(FROM, TO, print)
    high[4 * TO - 1] *= 1.0001
    assert _based(bars, replace(base, high=high)).study_id(FROM, TO) != first.study_id(FROM, TO)


def test_a_torch_solver_refuses_a_fit_with_finer_bars(bars):
    rows = _based(bars, parted(bars)).problem(FROM, TO)
    with pytest.raises(LevelsInputError, match="solver de-torch cannot read finer bars"):
        optimize_levels(rows, solver="de-torch")
