"""The screen, the other pruners, the ends of a study, and going on after a kill."""

import pytest
from landscape import SPANS, Landscape, key_of

from engine.config_sections import Constraints, Leaf, Search
from engine.search.space import Space
from engine.search.trial import best_of

SCREENED = Search(screen=64, max_trials=32, batch=16)
TPE_AND_OTHERS = [
    SCREENED,
    SCREENED.model_copy(update={"pruner": "race"}),
    SCREENED.model_copy(update={"sampler": "random"}),
    *(SCREENED.model_copy(update={"pruner": f"optuna:{name}"})
      for name in ("median", "percentile", "sha", "hyperband", "wilcoxon")),
    Search(max_trials=32, batch=16, sampler="random"),
]  # fmt: skip


def test_the_screen_is_one_batch_of_distinct_valid_points_before_the_sampler():
    valid = lambda config: config["x"] < config["y"]  # noqa: E731
    trials = Landscape().run(SCREENED, valid=valid)
    screened = [t for t in trials if t.batch == 0]
    assert len(screened) == 64 == len({t.key for t in screened})
    assert all(valid(t.config) for t in screened)
    rest = [t for t in trials if t.batch > 0 and t.duplicate_of is None]
    assert len(rest) == 32
    xs = sorted(t.config["x"] for t in screened)
    assert xs[0] < 10 and xs[-1] > 80  # spread over the space


def test_the_screen_keeps_a_third_at_each_rung():
    steps = [t.pruned_step for t in Landscape().run(SCREENED) if t.batch == 0]
    assert (steps.count(3), steps.count(5), steps.count(None)) == (43, 14, 7)


@pytest.mark.parametrize("search", TPE_AND_OTHERS, ids=lambda s: f"{s.sampler} {s.pruner}")
def test_a_study_that_was_killed_goes_on_to_the_same_end(search):
    """Cut after every whole batch; what was told is not evaluated again."""
    whole = Landscape().run(search)
    for cut in sorted({t.batch for t in whole}):
        told = [t for t in whole if t.batch <= cut]
        landscape = Landscape()
        assert key_of(landscape.run(search, told=told)) == key_of(whole), cut
        assert (
            sum(len(configs) for configs, start, _ in landscape.calls if start == 0)
            <= len(whole) - len(told) + 1
        )


@pytest.mark.parametrize("search", TPE_AND_OTHERS, ids=lambda s: f"{s.sampler} {s.pruner}")
def test_saved_trials_are_whole_batches_each_once(search):
    saved = []
    whole = Landscape().run(search, save=lambda trials: saved.append(list(trials)), save_bars=1)
    assert key_of([t for part in saved for t in part]) == key_of(whole)[: sum(map(len, saved))]
    ends = {part[-1].number for part in saved}
    assert ends <= {max(t.number for t in whole if t.batch == batch) for batch in {t.batch for t in whole}}


def test_a_grid_is_walked_in_order_without_a_screen():
    space = Space(
        {"x": Leaf(type="int", low=1, high=3), "y": Leaf(type="float", low=0.0, high=1.0, step=0.5)}, {}
    )
    trials = Landscape().run(Search(screen=1024, max_trials=100, batch=4, sampler="grid"), space=space)
    assert [(t.config["x"], t.config["y"]) for t in trials] == [
        (x, y) for x in (1, 2, 3) for y in (0.0, 0.5, 1.0)
    ]
    assert [t.batch for t in trials] == [0] * 4 + [1] * 4 + [2]


def test_the_sampler_sees_complete_trials_and_some_pruned_ones(monkeypatch):
    from engine.search import sampling

    trials = Landscape().run(SCREENED)
    assert {t.state for t in sampling.seen_by_sampler(trials)} == {"COMPLETE", "PRUNED"}
    complete = [t.number for t in trials if t.state == "COMPLETE" and t.duplicate_of is None]
    monkeypatch.setattr(sampling, "MOST_SEEN", len(complete) + 3)
    seen = sampling.seen_by_sampler(trials)
    assert [t.number for t in seen] == sorted(t.number for t in seen)
    assert [t.number for t in seen if t.state == "COMPLETE"] == complete
    assert [t.number for t in seen if t.state == "PRUNED"] == [
        t.number for t in trials if t.state == "PRUNED"
    ][:3]


def test_a_race_stops_what_lies_surely_behind_and_keeps_the_best():
    race = SCREENED.model_copy(update={"pruner": "race"})
    trials = Landscape().run(race)
    stopped = [t for t in trials if t.state == "PRUNED"]
    assert stopped and {t.batch for t in stopped} >= {1}  # the screen has no incumbent to race
    assert not any(t.state == "PRUNED" for t in trials if t.batch == 0)
    incumbent = best_of([t for t in trials if t.batch == 0])
    for trial in (t for t in stopped if t.batch == 1):
        assert trial.pruned_step >= 5 and trial.value < incumbent.value


@pytest.mark.parametrize("name", ["median", "percentile", "sha", "hyperband"])
def test_optunas_pruners_stop_trials_by_name(name):
    trials = Landscape().run(SCREENED.model_copy(update={"pruner": f"optuna:{name}", "max_trials": 64}))
    assert any(t.state == "PRUNED" for t in trials)
    assert best_of(trials) is not None


def test_a_study_without_any_trade_ends_early_and_names_the_gate():
    said = []
    landscape = Landscape(trades=lambda c, s: 0, signals=lambda c, s: 2, blocked=(0, 7, 0, 0, 0))
    trials = landscape.run(Search(screen=0, max_trials=200, batch=10, pruner="none"), progress=said.append)
    assert len(trials) == 30
    assert said == [
        "study s ended after 30 trials: no trade in any trial (480 entry signals; stopped by: conflicts 0, "
        "orders_refused 1680, refused_levels 0, signals_unfilled 0, limits_expired 0)"
    ]


def test_one_trade_in_any_trial_lets_the_study_go_on():
    landscape = Landscape(trades=lambda c, s: int(c["x"] == 70))
    trials = landscape.run(Search(screen=0, max_trials=64, batch=16, pruner="none"), space=Space(
        {"x": Leaf(type="int", low=68, high=71), "y": Leaf(type="int", low=0, high=99)}, {}))  # fmt: skip
    assert len([t for t in trials if t.duplicate_of is None]) == 64


@pytest.mark.parametrize(
    "limits, value, feasible",
    [
        ({"max_fees_pct": 0.5}, 8 - 0.5 * 24, True),  # fees 1 a fold, gains 3 a fold
        ({"max_fees_pct": 0.25}, 8 - 0.25 * 24, False),
        ({"max_turnover": 2.0}, 1.0, False),
        ({"max_turnover": 3.0}, 0.0, True),
        ({"max_exposure": 0.25}, 0.25, False),
        ({"max_exposure": 0.5}, 0.0, True),
    ],
)
def test_fees_turnover_and_exposure_are_constraints(limits, value, feasible):
    trial = Landscape().run(
        limits=Constraints(min_trades=None, max_drawdown=None, **limits), space=Space({}, {"x": 1, "y": 1})
    )[0]
    assert trial.constraints == {next(iter(limits)): pytest.approx(value)}
    assert trial.feasible == feasible


def test_a_study_that_had_ended_stays_ended():
    """Killed after its trials were stored and before its fit was: going on adds nothing."""
    silent = dict(trades=lambda c, s: 0, signals=lambda c, s: 2)
    search = Search(screen=0, max_trials=200, batch=10, pruner="none")
    whole = Landscape(**silent).run(search)
    again = Landscape(**silent)
    assert key_of(again.run(search, told=whole)) == key_of(whole)
    assert len(whole) == 30
    assert [start for _, start, _ in again.calls] == [
        start for start, _ in SPANS
    ]  # the best, once more alone


def test_a_constraint_that_is_no_number_fails_its_trial():
    landscape = Landscape(turnover=float("nan"))
    trials = landscape.run(limits=Constraints(min_trades=None, max_drawdown=None, max_turnover=5.0))
    assert {(t.state, t.outcome) for t in trials if t.duplicate_of is None} == {("FAIL", "INVALID_NUMERIC")}
    assert all(t.constraints == {} for t in trials)
