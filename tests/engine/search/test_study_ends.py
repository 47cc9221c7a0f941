"""What ends a study or a trial before its time: errors, a time limit, silence."""

import pytest
from landscape import Landscape, hill, key_of

from engine.config_sections import Leaf, Search
from engine.errors import LakeError, SearchError, SimulationError
from engine.search.inert import inert_parameters
from engine.search.ledger import from_rows, to_rows
from engine.search.space import Space
from engine.search.study import Task, ended
from engine.search.trial import best_of

SEARCH = Search(screen=0, max_trials=48, batch=16, sampler="random")


def raises(broken):
    """Return a score that raises as a strategy does, where ``broken(config, start)``."""

    def score(config, start):
        if broken(config, start):
            raise SimulationError(f"planted at x = {config['x']}")
        return hill(config, start)

    return score


@pytest.mark.parametrize("start", [0, 500])
def test_a_trial_whose_strategy_raises_fails_alone(start):
    """Whether in the first inner fold or in a later one; the others are as if it had never been."""
    odd = Landscape(raises(lambda c, s: c["x"] % 4 == 0 and s >= start)).run(SEARCH)
    failed = [t for t in odd if t.config["x"] % 4 == 0]
    assert failed
    for trial in failed:
        assert (trial.state, trial.outcome, trial.pruned_step) == ("FAIL", "ERROR", None)
        assert trial.error == f"planted at x = {trial.config['x']}"
        assert trial.bars_done == 0
    assert {t.state for t in odd if t not in failed} == {"COMPLETE", "PRUNED"}
    assert all(t.error is None for t in odd if t not in failed)
    assert best_of(odd).config["x"] % 4


def test_an_error_is_never_counted_as_pruned_and_comes_back_from_the_ledger():
    whole = Landscape(raises(lambda c, s: c["x"] % 4 == 0)).run(SEARCH)
    rows = to_rows(whole, {})
    assert {(r["state"], r["outcome"]) for r in rows if r["error"]} == {("FAIL", "ERROR")}
    from landscape import SPACE

    told = from_rows([row for row in rows if row["batch_no"] == 0], SPACE)
    again = Landscape(raises(lambda c, s: c["x"] % 4 == 0)).run(SEARCH, told=told)
    assert [(t.config, t.state, t.error) for t in again] == [(t.config, t.state, t.error) for t in whole]


def test_five_errors_in_a_row_end_the_study_with_the_last_one():
    message = r"study s: 5 trials in a row failed, trial 4 the last of them: planted at x = \d+"
    with pytest.raises(SearchError, match=message):
        Landscape(raises(lambda c, s: True)).run(SEARCH)


def test_four_errors_in_a_row_do_not():
    first = [t.config["x"] for t in Landscape().run(SEARCH)[:4]]
    trials = Landscape(raises(lambda c, s: c["x"] in first)).run(SEARCH)
    assert [t.outcome for t in trials[:4]] == ["ERROR"] * 4 and best_of(trials)


def test_an_error_that_no_trial_shows_alone_is_not_swallowed():
    class Batchwise(Landscape):
        def __call__(self, configs, start, stop):
            if len(configs) > 1:
                raise SimulationError("only together")
            return super().__call__(configs, start, stop)

    with pytest.raises(SimulationError, match="only together"):
        Batchwise().run(SEARCH)


def test_a_ledger_that_cannot_be_written_ends_the_study():
    """A refused save is no trial's failure: neither counted as pruned nor passed over."""

    def full(trials):
        raise LakeError("no space left on the disk")

    with pytest.raises(LakeError, match="no space left on the disk"):
        Landscape().run(SEARCH, save=full, save_bars=1)


def test_a_study_out_of_time_ends_after_a_whole_batch():
    left = [False, True]
    trials = Landscape().run(SEARCH, out_of_time=lambda: left.pop(0))
    assert key_of(trials) == key_of(Landscape().run(SEARCH))[:32]
    assert not left


def test_a_study_is_not_asked_for_the_time_before_its_first_batch_nor_after_its_last():
    asked = []
    Landscape().run(SEARCH, out_of_time=lambda: asked.append(1) and False)
    assert len(asked) == 2


@pytest.mark.parametrize("text, seconds", [("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), (None, None)])
def test_a_limit_is_in_seconds_minutes_or_hours(text, seconds):
    assert Search(timeout=text).timeout_s == seconds


@pytest.mark.parametrize("text", ["2", "0s", "1d", "2 h", "-1s", "1.5h", ""])
def test_another_limit_is_refused(text):
    with pytest.raises(ValueError, match="timeout"):
        Search(timeout=text)


def test_a_silent_study_ends_with_its_gates_and_still_after_a_kill():
    landscape = Landscape(trades=lambda c, s: 0, signals=lambda c, s: 4, blocked=(0, 3, 0, 1, 0))
    said = []
    trials = landscape.run(Search(screen=0, max_trials=96, batch=25, pruner="none"), progress=said.append)
    assert len(trials) == 25
    runs = 25 * 8
    why = (
        f"no trade in any trial ({4 * runs} entry signals; stopped by: conflicts 0, "
        f"orders_refused {3 * runs}, refused_levels 0, signals_unfilled {runs}, limits_expired 0)"
    )
    assert said == [f"study s ended after 25 trials: {why}"]
    from landscape import NONE, SPACE, SPANS

    told = from_rows(to_rows(trials, {}), SPACE)
    task = Task(landscape, SPACE, lambda c: True, SPANS, SEARCH, NONE, "s", "0")
    assert ended(task, told) == why
    assert inert_parameters(told) == []


def test_copies_of_a_failing_choice_are_duplicates_and_end_no_sound_study():
    space = Space({"x": Leaf(type="int", low=0, high=3)}, {"y": 0})
    trials = Landscape(raises(lambda c, s: c["x"] == 0)).run(SEARCH, space=space)
    failed = [t for t in trials if t.config["x"] == 0]
    assert len(failed) > 5 and [t.outcome for t in failed].count("ERROR") == 1
    assert {t.duplicate_of for t in failed} == {None, failed[0].number}
