"""Walk-forward windows of the named functions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LevelsInputError
from engine.search.levels.windows import PRESETS, Window, cut_windows, windows_that_fit

LENGTH = st.integers(1, 40)


@given(st.integers(1, 400), st.integers(1, 30), LENGTH, LENGTH, LENGTH, st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_no_test_bar_is_in_its_training_part_and_the_count_is_as_asked(n, sims, train, test, step, first):
    fit = windows_that_fit(n, train, test, step, first=first)
    if sims > fit:
        with pytest.raises(LevelsInputError, match=rf"hold {fit if fit else 'no simulation'}"):
            cut_windows(n, sims, train, test, step, first=first)
        return
    windows = cut_windows(n, sims, train, test, step, first=first)
    assert [window.sim for window in windows] == list(range(sims))
    assert windows[0].test_end == n and windows[-1].train_start >= first
    for window in windows:
        trained, tested = (
            set(range(window.train_start, window.train_end)),
            set(range(window.test_start, window.test_end)),
        )
        assert (len(trained), len(tested)) == (train, test) and not trained & tested
        assert max(trained) < min(tested) and window.train_end == window.test_start
    for newer, older in zip(windows, windows[1:], strict=False):
        assert newer.test_end - older.test_end == step


@given(st.integers(1, 400), LENGTH, LENGTH, LENGTH)
@settings(max_examples=100, deadline=None)
def test_as_many_fit_as_are_said_to(n, train, test, step):
    fit = windows_that_fit(n, train, test, step)
    assert (n - train - test - fit * step) < 0
    if fit:
        assert cut_windows(n, fit, train, test, step)[-1].train_start >= 0


def test_the_presets():
    long = PRESETS["long"]
    assert windows_that_fit(1900, long.train, long.test, long.step) == 70
    assert windows_that_fit(1899, long.train, long.test, long.step) == 69
    seed = PRESETS["seed70"]
    windows = cut_windows(100, 70, seed.train, seed.test, seed.step)
    assert windows[0] == Window(0, 93, 99, 99, 100) and windows[69] == Window(69, 24, 30, 30, 31)
    assert windows_that_fit(76, seed.train, seed.test, seed.step) == 70


def test_says_how_many_fit():
    with pytest.raises(
        LevelsInputError,
        match=r"^levels windows: 70 simulations of 500 \+ 20 bars, 20 apart, were asked for; 1000 outcome "
        r"bars hold 25 and 1900 are needed\. Ask for 1 to 25, or bring a longer history$",
    ):
        cut_windows(1000, 70, 500, 20, 20)
    with pytest.raises(
        LevelsInputError, match=r"^levels windows: 90 outcome bars hold no simulation of 500 \+"
    ):
        cut_windows(100, 70, 500, 20, 20, first=10)
    with pytest.raises(LevelsInputError, match="0 simulations of .*Ask for 1 to 25"):
        cut_windows(1000, 0, 500, 20, 20)


@pytest.mark.parametrize("name", ["train", "test", "step"])
def test_refuses_a_part_without_bars(name):
    lengths = {"train": 5, "test": 2, "step": 1} | {name: 0}
    with pytest.raises(LevelsInputError, match=rf"^levels windows: {name} was 0, expected at least 1 bar$"):
        cut_windows(100, 1, **lengths)
