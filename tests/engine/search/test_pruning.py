import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.search.pruning import loses_race, rungs, survivors


@pytest.mark.parametrize(
    "folds, fold_bars, batch, expected",
    [
        (8, 125, 16, [3, 5]),
        (32, 125, 200, [4, 12]),
        (8, 100, 16, [3, 5]),
        (8, 99, 16, [4, 6]),
        (8, 40, 16, []),  # 300 bars are 8 folds: too late for a rung
        (8, 50, 16, [6]),
        (4, 125, 10, [3]),
        (3, 500, 64, []),
        (8, 125, 8, []),
        (8, 125, 9, [3, 5]),
        (40, 1000, 9, [5, 15]),
    ],
)
def test_rungs_hold_three_folds_and_three_hundred_bars(folds, fold_bars, batch, expected):
    assert rungs(folds, fold_bars, batch) == expected


@pytest.mark.parametrize(
    "live, means, kept",
    [
        ([0, 1, 2, 3, 4, 5], [1, 5, 2, 9, 3, 4], [1, 3, 5]),
        ([7, 8, 9], [1, 1, 1], [7]),
        ([4, 2, 9], [3, 3, 1], [2]),  # a tie goes to the lower number
        ([5], [-3], [5]),
        ([5, 6], [-3, -4], [5]),
        ([1, 2, 3], [math.nan, -5, -9], [2]),
        ([1, 2, 3], [math.nan, math.nan, math.nan], [1]),
        ([3, 1, 2, 0, 4, 5], [1, 9, 9, 9, 9, 0], [1, 2, 0]),
    ],
)
def test_the_better_half_goes_on(live, means, kept):
    assert survivors(live, means, 16) == kept


@pytest.mark.parametrize("batch, share", [(16, 2), (63, 2), (64, 3), (1024, 3)])
@given(means=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_nobody_who_goes_on_is_worse_than_one_who_does_not(batch, share, means):
    live = list(range(len(means)))
    kept = survivors(live, means, batch)
    assert len(kept) == max(1, len(means) // share)
    cut = [means[k] for k in live if k not in kept]
    assert not cut or min(means[k] for k in kept) >= max(cut)


@pytest.mark.parametrize(
    "gaps, out",
    [
        ([-1, -1, -1, -1.1], False),  # four folds decide nothing
        ([-1, -1, -1, -1, -1], True),  # no spread: any loss is sure
        ([0, 0, 0, 0, 0], False),
        ([1, 1, 1, 1, 1], False),
        ([-1, -2, -1, -2, -1], True),  # mean -1.4, t -5.7
        ([-3, 2, -3, 2, 1], False),  # mean -.2, t -.2
        ([math.nan, 1, 1, 1, 1], True),
    ],
)
def test_a_race_is_lost_where_a_trial_lies_surely_behind(gaps, out):
    incumbent = [5.0, -2.0, 1.0, 0.5, 3.0, 4.0, 4.0, 4.0]
    scores = [a + gap for a, gap in zip(incumbent, gaps, strict=False)]
    assert loses_race(scores, incumbent) == out
