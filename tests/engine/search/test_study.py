"""A study over a made landscape: halving, duplicates, constraints, what is best."""

import math
import re

import numpy as np
import pytest
from landscape import NONE, SPANS, Landscape, hill, key_of

from engine.config_sections import Constraints, Leaf, Search
from engine.errors import SearchError
from engine.search.ledger import summary
from engine.search.space import Space
from engine.search.trial import SpanResult, Trial, best_of, why_none


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_arguments_give_the_same_trials(sampler):
    search = Search(screen=0, max_trials=48, batch=16, sampler=sampler)
    assert key_of(Landscape().run(search)) == key_of(Landscape().run(search))


@pytest.mark.parametrize("other", [({"seed": 1}, False), ({"study_id": "t"}, True)])
def test_the_seed_changes_the_draws_and_the_study_s_id_does_not(other):
    changed, same = other
    assert (key_of(Landscape().run()) == key_of(Landscape().run(**changed))) == same


@pytest.mark.parametrize("chunk", [1, 3])
def test_trials_do_not_depend_on_how_the_evaluation_is_split(chunk):
    assert key_of(Landscape(chunk=chunk).run()) == key_of(Landscape().run())


def test_a_global_generator_is_neither_read_nor_moved():
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    first = key_of(Landscape().run())
    assert np.random.random(3).tolist() == expected.tolist()
    np.random.seed(99)
    assert key_of(Landscape().run()) == first


def test_trials_are_numbered_and_batched_in_order():
    trials = Landscape().run(Search(screen=0, max_trials=40, batch=16))
    assert [t.number for t in trials] == list(range(40))
    assert [t.batch for t in trials] == [0] * 16 + [1] * 16 + [2] * 8


def test_the_value_is_the_mean_of_the_fold_scores_done():
    for trial in Landscape().run():
        done = len(trial.fold_scores)
        for (start, _), score in zip(SPANS, trial.fold_scores, strict=False):
            assert score in (None, hill(trial.config, start))
        assert trial.value == math.fsum(trial.scores) / len(trial.scores)
        if trial.state == "COMPLETE":
            assert (done, trial.bars_done, trial.pruned_step) == (8, 800, None)


def test_halving_keeps_half_at_each_rung():
    batch = [
        t
        for t in Landscape().run(Search(screen=0, max_trials=16, batch=16, sampler="random"))
        if t.batch == 0
    ]
    assert {t.duplicate_of for t in batch} == {None}
    steps = sorted(t.pruned_step for t in batch if t.state == "PRUNED")
    assert steps == [3] * 8 + [5] * 4 + [7] * 2  # 16 -> 8 -> 4 -> 2

    def mean(trial, rung):
        return np.mean([hill(trial.config, start) for start, _ in SPANS[:rung]])

    for rung in (3, 5, 7):
        out = [mean(t, rung) for t in batch if t.pruned_step == rung]
        on = [mean(t, rung) for t in batch if len(t.fold_scores) > rung]
        assert min(on) >= max(out)


def test_pruned_trials_are_not_evaluated_further():
    landscape = Landscape()
    landscape.run(Search(screen=0, max_trials=16, batch=16, sampler="random"))
    assert [len(configs) for configs, _, _ in landscape.calls] == [16, 16, 16, 8, 8, 4, 4, 2] + [1] * 8


def test_without_a_pruner_every_trial_is_complete():
    trials = Landscape().run(Search(screen=0, max_trials=32, batch=16, pruner="none"))
    assert {t.state for t in trials} == {"COMPLETE"}


def test_a_pruned_trial_is_never_best_however_well_it_began():
    """Some are steady and good; the others lead at both rungs and lose it all after."""

    def fades(config, start):
        return 50.0 if config["x"] < 20 else 60.0 - 260 * (start >= 500)

    trials = Landscape(fades).run(Search(screen=0, max_trials=64, batch=16, sampler="random"))
    pruned = [t for t in trials if t.state == "PRUNED"]
    best = best_of(trials)
    assert max(t.value for t in pruned) > best.value
    assert best.state == "COMPLETE"


def test_the_best_trial_alone_without_pruning_gives_its_scores_again():
    landscape = Landscape()
    trials = landscape.run()
    best = best_of(trials)
    assert landscape.calls[-8:] == [([best.config], *span) for span in SPANS]
    alone = Landscape().run(
        Search(screen=0, max_trials=48, batch=16, pruner="none"), space=Space({}, best.config)
    )
    assert [t.fold_scores for t in alone] == [best.fold_scores]


def test_a_result_that_depends_on_the_batch_is_refused():
    class Leaky(Landscape):
        def __call__(self, configs, start, stop):
            result = super().__call__(configs, start, stop)
            return SpanResult(**{**vars(result), "score": result.score + 1e-9 * len(configs)})

    with pytest.raises(
        SearchError, match=r"study s: trial \d+ run alone gives .* must not depend on the batch"
    ):
        Leaky().run()


SMALL = Space({"x": Leaf(type="int", low=68, high=71)}, {"y": 30, "z": 1.5})


def test_a_duplicate_is_not_run_and_gets_the_earlier_true_value():
    landscape = Landscape()
    said = []
    trials = landscape.run(Search(screen=0, max_trials=40, batch=10), space=SMALL, progress=said.append)
    assert said == [
        f"study s ended after {len(trials)} trials: space exhausted: the last 200 trials were duplicates"
    ]
    copies = [t for t in trials if t.duplicate_of is not None]
    assert len(copies) >= 200
    for copy in copies:
        first = trials[copy.duplicate_of]
        assert first.duplicate_of is None and first.number < copy.number
        assert copy.outcome == "DUPLICATE"
        for name in ("config", "state", "value", "fold_scores", "pruned_step", "constraints"):
            assert getattr(copy, name) == getattr(first, name)
        assert (copy.trades, copy.bars_done) == (0, 0)  # nothing was run for it
    run_at_first_span = [c for configs, start, _ in landscape.calls[:-8] if start == 0 for c in configs]
    assert len(run_at_first_span) == 4


def test_duplicates_add_nothing_to_the_number_of_looks():
    count, pruned, best = summary(Landscape().run(Search(screen=0, max_trials=40, batch=10), space=SMALL))
    assert count == 4 and best.config["x"] in (69, 70)
    assert pruned < count


def test_a_duplicate_of_a_pruned_trial_is_pruned():
    trials = Landscape().run(Search(screen=0, max_trials=60, batch=12), space=Space(
        {"x": Leaf(type="int", low=0, high=19)}, {"y": 30, "z": 1.5}))  # fmt: skip
    copies = [t for t in trials if t.duplicate_of is not None and trials[t.duplicate_of].state == "PRUNED"]
    assert copies
    assert {t.state for t in copies} == {"PRUNED"}


def test_invalid_parameters_are_not_run_and_add_no_look():
    landscape = Landscape()
    trials = landscape.run(
        Search(screen=0, max_trials=48, batch=16), valid=lambda config: config["x"] < config["y"]
    )
    wrong = [t for t in trials if t.config["x"] >= t.config["y"]]
    assert wrong
    for trial in wrong:
        assert (trial.state, trial.outcome, trial.fold_scores) == ("FAIL", "INVALID_PARAMS", [])
        assert math.isnan(trial.value)
    assert all(config["x"] < config["y"] for configs, _, _ in landscape.calls for config in configs)
    assert summary(trials)[0] == len({t.key for t in trials if t not in wrong})


def test_all_parameters_invalid_gives_no_candidate():
    trials = Landscape().run(valid=lambda config: False)
    assert summary(trials) == (0, 0, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_fails_its_trial(bad):
    def score(config, start):
        return bad if config["x"] % 2 and start == 100 else hill(config, start)

    trials = Landscape(score).run(Search(screen=0, max_trials=48, batch=16, pruner="none"))
    odd = [t for t in trials if t.config["x"] % 2]
    assert odd
    assert {(t.state, t.outcome) for t in odd} == {("FAIL", "INVALID_NUMERIC")}
    assert best_of(trials).config["x"] % 2 == 0


@pytest.mark.parametrize("signals, outcome", [(4, "ZERO_TRADES_BLOCKED"), (0, "ZERO_TRADES_NO_SIGNAL")])
def test_no_trade_is_told_apart_by_its_signals(signals, outcome):
    landscape = Landscape(trades=lambda c, s: 0, signals=lambda c, s: signals)
    trials = landscape.run(limits=Constraints(min_trades=1, max_drawdown=None))
    complete = [t for t in trials if t.state == "COMPLETE" and t.duplicate_of is None]
    assert {t.outcome for t in complete} == {outcome}
    assert best_of(trials) is None
    assert {t.constraints["min_trades"] for t in complete} == {1.0}


def test_why_no_trial_qualified_counts_each_constraint_over_the_trials_that_ran_to_the_end():
    landscape = Landscape(trades=lambda c, s: c["x"] % 2)  # on each of the inner folds
    limits = Constraints(min_trades=10_000, max_trades=1, max_drawdown=None)
    trials = landscape.run(Search(screen=0, max_trials=48, batch=16, pruner="none"), limits=limits)
    own = [t for t in trials if t.duplicate_of is None]
    odd = sum(t.config["x"] % 2 for t in own)
    assert 0 < odd < len(own)
    copy = Trial(len(trials), 3, trials[0].chosen, trials[0].config)
    copy.copy_of(trials[0])
    trials.append(copy)  # is not counted again
    assert why_none(trials) == (
        f"min_trades broken by {len(own)} of {len(own)} that ran to the end, max_trades by {odd}"
    )


def test_why_no_trial_qualified_where_none_ran_to_the_end():
    invalid = Landscape().run(valid=lambda config: False)
    assert re.fullmatch(r"no trial came to a valid end: INVALID_PARAMS \d+", why_none(invalid))
    undefined = Landscape(lambda config, start: math.nan).run(Search(screen=0, max_trials=16, batch=16))
    assert re.fullmatch(r"no trial came to a valid end: INVALID_NUMERIC \d+", why_none(undefined))


OFF = dict(min_trades=None, max_drawdown=None)
LIMITS = [
    (Constraints(min_trades=41, max_drawdown=None), {"min_trades": 1.0}, False),
    (Constraints(min_trades=40, max_drawdown=None), {"min_trades": 0.0}, True),
    (Constraints(min_trades=None, max_trades=39, max_drawdown=None), {"max_trades": 1.0}, False),
    (Constraints(min_trades=None, max_trades=40, max_drawdown=None), {"max_trades": 0.0}, True),
    (Constraints(min_trades=None, max_drawdown=0.0625), {"max_drawdown": 0.0625}, False),
    (Constraints(min_trades=None, max_drawdown=0.125), {"max_drawdown": 0.0}, True),
    (Constraints(**OFF, min_profit_factor=1.5), {"min_profit_factor": 0.0}, True),
    (Constraints(**OFF, min_profit_factor=2.0), {"min_profit_factor": 8.0}, False),
    (NONE, {}, True),
]  # fmt: skip


@pytest.mark.parametrize("limits, values, feasible", LIMITS)
def test_constraints_are_met_at_zero_or_below(limits, values, feasible):
    """8 folds of 5 trades, gains 3, losses 2, drawdown .125."""
    trial = Landscape(drawdown=lambda c, s: 0.125).run(limits=limits, space=Space({}, {"x": 1, "y": 1}))[0]
    assert trial.constraints == values
    assert (trial.feasible, trial.outcome) == (feasible, "VALID" if feasible else "CONSTRAINT")
    assert (best_of([trial]) is trial) == feasible


def test_the_best_is_the_best_feasible_one():
    trials = Landscape(trades=lambda c, s: 5 if c["x"] < 50 else 0).run(
        Search(screen=0, max_trials=48, batch=16, pruner="none"), Constraints(min_trades=1, max_drawdown=None)
    )
    best = best_of(trials)
    assert best.config["x"] < 50
    assert best.value == max(t.value for t in trials if t.config["x"] < 50)
    assert max(t.value for t in trials) > best.value


def test_what_breaks_a_constraint_for_good_is_cut_first():
    """The best half draws down too far from the first fold on: none of it survives a rung."""
    trials = Landscape(drawdown=lambda c, s: 0.9 if c["x"] > 50 else 0.1).run(
        Search(screen=0, max_trials=16, batch=16, sampler="random"),
        Constraints(min_trades=None, max_drawdown=0.5),
    )
    doomed = [t for t in trials if t.config["x"] > 50]
    assert len(doomed) > 4
    assert {t.state for t in doomed} == {"PRUNED"}
    assert best_of(trials).config["x"] <= 50


def test_a_pruned_trial_is_not_blamed_for_the_trades_it_could_not_make():
    trials = Landscape().run(limits=Constraints(min_trades=40, max_drawdown=None))
    assert {t.constraints["min_trades"] for t in trials if t.state == "PRUNED"} == {0.0}


def test_ties_go_to_the_first_trial():
    trials = Landscape(lambda c, s: 1.0).run(Search(screen=0, max_trials=32, batch=16, pruner="none"))
    assert best_of(trials) is trials[0]


def test_with_nothing_to_search_one_trial_is_run():
    trials = Landscape().run(space=Space({}, {"x": 70, "y": 30}))
    assert [(t.number, t.config, t.state) for t in trials] == [(0, {"x": 70, "y": 30}, "COMPLETE")]


def test_an_error_in_a_run_is_not_swallowed():
    def broken(config, start):
        raise ZeroDivisionError("planted")

    with pytest.raises(ZeroDivisionError, match="planted"):
        Landscape(broken).run()


def test_a_long_study_says_how_far_it_is():
    said = []
    Landscape().run(Search(screen=0, max_trials=48, batch=16), progress=said.append, save_bars=1)
    assert said == [f"study s: {count} trials so far" for count in (16, 32, 48)]


@pytest.mark.parametrize("screen, trials", [(0, 96), (64, 32)])
def test_a_planted_optimum_is_found_closer_than_by_random_draws(screen, trials):
    wins = 0
    for seed in range(12):
        found = {
            sampler: best_of(
                Landscape().run(
                    Search(screen=screen, max_trials=trials, batch=16, sampler=sampler), seed=seed
                )
            ).value
            for sampler in ("tpe", "random")
        }
        wins += found["tpe"] > found["random"]
    assert wins >= 9


def test_pruning_mostly_keeps_the_best_of_the_unpruned_study():
    same = 0
    for seed in range(10):
        values = [
            best_of(
                Landscape().run(
                    Search(screen=0, max_trials=64, batch=16, sampler="random", pruner=p), seed=seed
                )
            ).value
            for p in ("halving", "none")
        ]
        same += values[0] == values[1]
    assert same >= 9
