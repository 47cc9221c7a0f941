import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.search.pruning import (
    fold_order,
    known_scores,
    loses_race,
    probe_count,
    rungs,
    share_kept,
    survivors,
)
from engine.search.trial import Trial


@pytest.mark.parametrize(
    "folds, fold_bars, batch, expected",
    [
        (8, 125, 16, [3, 5, 7]),
        (32, 125, 200, [4, 8, 16]),
        (8, 100, 16, [3, 5, 7]),
        (8, 99, 16, [4, 6]),
        (8, 40, 16, []),  # 300 bars are 8 folds: too late for a rung
        (8, 50, 16, [6]),
        (4, 125, 10, [3]),
        (3, 500, 64, []),
        (8, 125, 8, []),
        (8, 125, 9, [3, 5, 7]),
        (40, 1000, 9, [5, 10, 20]),
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
    assert survivors(live, means, 1 / 2) == kept


@pytest.mark.parametrize("share", [1 / 2, 3 / 8])
@given(means=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_nobody_who_goes_on_is_worse_than_one_who_does_not(share, means):
    live = list(range(len(means)))
    kept = survivors(live, means, share)
    assert len(kept) == max(1, math.floor(len(means) * share))
    cut = [means[k] for k in live if k not in kept]
    assert not cut or min(means[k] for k in kept) >= max(cut)


def test_only_a_large_batch_is_cut_sharper_at_first():
    assert [[share_kept(rung, batch) for rung in range(3)] for batch in (16, 63, 64, 1024)] == [
        [0.5, 0.5, 0.5],
        [0.5, 0.5, 0.5],
        [0.375, 0.5, 0.5],
        [0.375, 0.5, 0.5],
    ]


@pytest.mark.parametrize(
    "batch, count",
    [(9, 0), (63, 0), (64, 8), (200, 8), (399, 8), (400, 16), (1024, 32), (65_536, 32)],
)
def test_probes_are_a_power_of_two_up_to_a_twenty_fifth_of_a_large_batch(batch, count):
    assert probe_count(batch) == count


def _one_by_one(scores):
    """The same choice, spelled out: at each step the variance that every choice would leave."""
    told = np.array(scores)
    among = np.cov(told, rowvar=False)
    among = 0.5 * among + 0.5 * np.diag(np.diag(among))
    order = []
    while len(order) < len(among):
        left = [fold for fold in range(len(among)) if fold not in order]
        unsure = {
            fold: sum(among[a, b] for a, b in itertools.product(left, left) if fold not in (a, b))
            for fold in left
        }
        order.append(min(left, key=lambda fold: unsure[fold]))
    return order


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_folds_leaves_the_least_variance_at_each_step(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 9)) + rng.normal(size=(12, 9)) + 5.0
    assert fold_order(scores.tolist()) == _one_by_one(scores)


def test_folds_that_tell_trials_apart_come_first():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 6)) * np.array([0.1, 4.0, 0.2, 8.0, 0.0, 2.0])
    assert fold_order(scores.tolist())[:3] == [3, 1, 5]


@pytest.mark.parametrize("rows, spoiled", [(7, 0), (9, 2)])
def test_too_few_whole_trials_leave_the_order_of_time(rows, spoiled):
    scores = np.random.default_rng(1).normal(size=(rows, 5))
    scores[:spoiled, 2] = math.nan
    assert fold_order(scores.tolist()) == [0, 1, 2, 3, 4]


def test_equal_folds_stay_in_the_order_of_time():
    assert fold_order([[1.0] * 6] * 8) == [0, 1, 2, 3, 4, 5]


def test_the_order_is_learned_from_the_first_trials_that_ran_on_all_folds():
    made = [Trial(k, 0, {}, {"x": k}, fold_scores=[float(k), 1.0]) for k in range(40)]
    made[0].state, made[1].duplicate_of, made[2].state = "PRUNED", 7, "FAIL"
    assert known_scores(made) == [[float(k), 1.0] for k in range(3, 35)]


@pytest.mark.parametrize(
    "gaps, out",
    [
        ([-1, -1, -1, -1.1], False),  # four folds decide nothing
        ([-1, -1, -1, -1, -1], True),  # no spread: any loss is sure
        ([0, 0, 0, 0, 0], False),
        ([1, 1, 1, 1, 1], False),
        ([-1, -2, -1, -2, -1], True),  # mean -1.4, t -5.7
        ([-3, 2, -3, 2, 1], False),  # mean -.2, t -.2
        ([-3, -4, 1, -2, 0], False),  # mean -1.6, t -1.7
        ([math.nan, 1, 1, 1, 1], True),
    ],
)
def test_a_race_is_lost_where_a_trial_lies_surely_behind(gaps, out):
    incumbent = [5.0, -2.0, 1.0, 0.5, 3.0, 4.0, 4.0, 4.0]
    scores = [a + gap for a, gap in zip(incumbent, gaps, strict=False)]
    assert loses_race(scores, incumbent) == out


def test_a_race_of_many_folds_begins_after_a_quarter_of_them():
    for k in range(5, 12):
        assert loses_race([-1.0] * k, [0.0] * 32) == (k >= 8)
