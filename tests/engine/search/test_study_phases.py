"""The screen, the other pruners, the ends of a study, and going on after a kill."""

import pytest
from landscape import SPANS, Landscape, hill, key_of

from engine.config_sections import Constraints, Leaf, Search
from engine.search.ledger import from_rows, to_rows
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
    Search(screen=144, max_trials=1, batch=1),
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


def test_the_screen_keeps_three_eighths_then_half_beside_its_probes():
    trials = [t for t in Landscape().run(SCREENED) if t.batch == 0]
    assert {t.state for t in trials[:8]} == {"COMPLETE"}  # the probes
    steps = [t.pruned_step for t in trials[8:]]  # 56 -> 21 -> 10 -> 5
    assert [steps.count(step) for step in (3, 5, 7, None)] == [35, 11, 5, 5]


def test_after_its_probes_a_batch_runs_the_telling_folds_first():
    """Only two late folds tell one trial from another: the first rung already sees both."""

    def late(config, start):
        return hill(config, 0) if start in (500, 700) else 1.0

    landscape = Landscape(late)
    trials = [t for t in landscape.run(SCREENED) if t.batch == 0]
    order = [start for configs, start, _ in landscape.calls[8:16]]
    assert set(order[:2]) == {500, 700} and sorted(order) == [start for start, _ in SPANS]
    for trial in trials:
        ran = [start for configs, start, _ in landscape.calls[:16] if trial.config in configs]
        assert [k for k, score in enumerate(trial.fold_scores) if score is not None] == sorted(
            start // 100 for start in ran
        )
        assert len(ran) == len(trial.scores) == (trial.pruned_step or 8)
        assert trial.bars_done == 100 * len(ran)
    whole = {t.number: hill(t.config, 0) for t in trials}
    assert best_of(trials).number == max(whole, key=whole.get)


@pytest.mark.parametrize("search", [SCREENED, Search(screen=256, max_trials=32, batch=16)])
def test_a_row_does_not_depend_on_the_order_of_the_folds(search, monkeypatch):
    """Complete in both: the same bits, sums and hashes too, whichever fold was run first."""
    from engine.search import study

    learned = {t.key: t for t in Landscape().run(search) if t.batch == 0}
    monkeypatch.setattr(study, "fold_order", lambda scores: [4, 0, 7, 2, 1, 6, 3, 5])
    other = {t.key: t for t in Landscape().run(search) if t.batch == 0}
    both = [k for k in learned if learned[k].state == other[k].state == "COMPLETE"]
    assert len(both) > 8
    for key in both:
        assert key_of([learned[key]]) == key_of([other[key]])
        assert learned[key].turnover == other[key].turnover


WIDE = Search(screen=256, max_trials=16, batch=16)


def test_after_a_wide_screen_four_batches_look_around_its_best():
    trials = Landscape().run(WIDE)
    sizes = [sum(t.batch == batch for t in trials) for batch in range(6)]
    assert sizes[:5] == [256, 16, 16, 16, 16]
    assert sum(t.batch > 4 and t.duplicate_of is None for t in trials) == 16
    for batch in (1, 2, 3, 4):
        before = sorted(
            (t for t in trials if t.batch < batch and t.feasible), key=lambda t: (-t.value, t.number)
        )[:8]
        for trial in (t for t in trials if t.batch == batch):
            assert any(
                all(abs(trial.config[name] - near.config[name]) <= 10 for name in ("x", "y"))
                for near in before
            )


def test_looking_around_the_best_mostly_finds_better():
    better = 0
    for seed in range(6):
        trials = Landscape().run(Search(screen=144, max_trials=1, batch=1), seed=seed)
        better += best_of([t for t in trials if t.batch <= 4]).value > best_of(trials[:144]).value
    assert better >= 4


@pytest.mark.parametrize("change", [{"sampler": "random"}, {"screen": 143}, {"screen": 0}])
def test_nothing_looks_around_the_best_without_tpe_or_a_wide_screen(change):
    trials = Landscape().run(WIDE.model_copy(update=change))
    assert sum(t.batch > 0 or change.get("screen") == 0 for t in trials if t.duplicate_of is None) == 16


def test_without_a_feasible_point_the_sampler_goes_on_alone():
    trials = Landscape().run(WIDE, Constraints(min_trades=1000, max_drawdown=None))
    assert [sum(t.batch == batch for t in trials) for batch in range(2)] == [256, 16]


def test_a_known_bad_half_is_mostly_pruned_and_the_best_stays():
    same = 0
    for seed in range(10):

        def half(config, start):
            return hill(config, start) - 30 * (config["x"] < 50)

        runs = {
            pruner: Landscape(half).run(
                Search(screen=200, max_trials=1, batch=1, sampler="random", pruner=pruner), seed=seed
            )
            for pruner in ("halving", "none")
        }
        bad = [t for t in runs["halving"] if t.config["x"] < 50]
        assert sum(t.state == "PRUNED" for t in bad) >= 0.6 * len(bad)
        same += best_of(runs["halving"]).key == best_of(runs["none"]).key
    assert same >= 9


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


SMALL = Space(
    {"x": Leaf(type="int", low=40, high=96, step=8), "y": Leaf(type="int", low=0, high=90, step=10)}, {}
)
BY_NAME = [
    Search(screen=32, max_trials=32, batch=16),
    Search(screen=0, max_trials=48, batch=16, sampler="random"),
    Search(max_trials=80, batch=16, sampler="grid"),
]


@pytest.mark.parametrize("search", BY_NAME, ids=lambda s: s.sampler)
def test_from_the_rows_of_its_ledger_a_study_with_constraints_and_pruned_trials_goes_on(search):
    """What is read back is all that a killed study has: constraints, pruned steps and scores among it."""
    made = dict(trades=lambda c, s: 1 + c["x"] % 5, drawdown=lambda c, s: c["y"] / 100)
    asked = dict(limits=Constraints(min_trades=16, max_drawdown=0.45), space=SMALL)
    asked |= {"search": search, "valid": lambda c: c["x"] > c["y"]}
    whole = Landscape(**made).run(**asked)
    rows = to_rows(whole, {})
    assert {"VALID", "CONSTRAINT", "PRUNED"} <= {row["outcome"] for row in rows}
    names = (
        "trial_number", "batch_no", "state", "outcome", "params", "value", "fold_scores", "pruned_step",
        "constraints", "duplicate_of", "trades_hash", "bars_done",
    )  # fmt: skip

    def kept(rows):
        return [repr([row[name] for name in names]) for row in rows]  # a value may be NaN

    for cut in (0, 1):
        told = from_rows([row for row in rows if row["batch_no"] <= cut], SMALL)
        again = Landscape(**made)
        assert 0 < len(told) < len(rows) and kept(to_rows(again.run(**asked, told=told), {})) == kept(rows)
        done = [trial.config for trial in told if trial.ran]
        run_again = [c for configs, _, _ in again.calls if len(configs) > 1 for c in configs if c in done]
        assert run_again == []  # but for the best, alone


@pytest.mark.parametrize("search", TPE_AND_OTHERS, ids=lambda s: f"{s.sampler} {s.pruner}")
def test_saved_trials_are_whole_batches_each_once(search):
    saved = []
    whole = Landscape().run(search, save=lambda trials: saved.append(list(trials)), save_bars=1)
    assert sum(map(len, saved)) == len(whole)  # every batch has more than the one bar that is asked for
    assert key_of([t for part in saved for t in part]) == key_of(whole)
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
