import math

import numpy as np
import pytest

from engine.validation.bootstrap import mean_block, stationary_blocks
from engine.validation.max_t import benjamini_hochberg, max_t


def _t5(rng, shape):
    return rng.standard_t(5, shape) / math.sqrt(5 / 3)


def test_it_is_the_definition_draw_by_draw():
    x = np.random.default_rng(0).normal(0.05, 1.0, (60, 3))
    x[:25, 2] = np.nan
    t, p = max_t(x, seed=9, draws=200)
    start, length = stationary_blocks(60, mean_block(60), 200, np.random.default_rng(9))
    stars = []
    for first, size in zip(start, length, strict=True):
        bars = np.concatenate([np.arange(a, a + n) % 60 for a, n in zip(first, size, strict=True)])
        drawn = [x[bars, k] for k in range(3)]
        drawn = [values[~np.isnan(values)] for values in drawn]
        stars.append([values.mean() for values in drawn])
    stars, mean, held = np.array(stars), np.nanmean(x, axis=0), np.array([60, 60, 35])
    w = np.std(np.sqrt(held) * stars, axis=0, ddof=1)
    t_star = np.sqrt(held) * (stars - mean) / w
    np.testing.assert_allclose(t, np.sqrt(held) * mean / w, rtol=1e-9)
    wanted = [(1 + np.sum(t_star.max(axis=1) >= value)) / 201 for value in t]
    np.testing.assert_allclose(p, wanted, rtol=1e-12)


def test_more_procedures_make_p_larger_and_copies_do_not():
    rng = np.random.default_rng(1)
    x = rng.normal(0.08, 1.0, (800, 1))
    alone = max_t(x, seed=1)[1][0]
    many = max_t(np.column_stack([x, rng.normal(size=(800, 9))]), seed=1)[1][0]
    copies = max_t(np.column_stack([x, np.repeat(x, 9, axis=1)]), seed=1)[1][0]
    assert many > 2 * alone and copies == pytest.approx(alone)


def test_a_losing_neighbour_costs_no_more_than_a_useless_one():
    """CHECK 15: a column at Sharpe -4 raises p by no more than one at 0 does."""
    rng = np.random.default_rng(2)
    for _ in range(10):
        x = _t5(rng, (1270, 1)) + 1.2 / math.sqrt(252)
        other = _t5(rng, (1270, 1))
        useless = max_t(np.column_stack([x, other]), seed=3)[1][0]
        losing = max_t(np.column_stack([x, other - 4 / math.sqrt(252)]), seed=3)[1][0]
        assert losing <= useless + 0.03


def _size(panels, bars, draws):
    hits = 0
    for number in range(panels):
        rng = np.random.default_rng([5, number])
        hits += bool(np.nanmin(max_t(_t5(rng, (bars, 3)), seed=number, draws=draws)[1]) <= 0.05)
    return hits / panels


def test_a_panel_without_an_edge_qualifies_in_one_of_twenty():
    assert _size(400, 300, 400) == pytest.approx(0.05, abs=3.2 * math.sqrt(0.05 * 0.95 / 400))


@pytest.mark.slow
def test_two_thousand_panels_without_an_edge_qualify_in_five_per_cent():
    """CHECK 15: 2,000 panels of 3 columns, 1,270 bars, 1,000 draws: 5 % +- 1.5 at one look."""
    assert _size(2000, 1270, 1000) == pytest.approx(0.05, abs=0.015)


def test_serial_and_cross_correlation_are_counted():
    hits = 0
    for number in range(200):
        rng = np.random.default_rng([6, number])
        common = _t5(rng, (600, 1))
        x = common + 0.5 * _t5(rng, (600, 3))
        x[1:] += 0.4 * x[:-1]
        hits += bool(np.nanmin(max_t(x, seed=number, draws=300)[1]) <= 0.05)
    assert hits / 200 <= 0.05 + 3.2 * math.sqrt(0.05 * 0.95 / 200)


def test_what_cannot_be_tested_is_left_out():
    x = np.random.default_rng(0).normal(size=(200, 4))
    x[29:, 1] = np.nan
    x[:, 2] = 0.0
    x[:, 3] = 0.001
    t, p = max_t(x, seed=0)
    assert np.isnan(p[1:]).all() and np.isnan(t[1:]).all()
    assert p[0] == max_t(x[:, :1], seed=0)[1][0]
    assert np.isnan(max_t(np.full((50, 2), np.nan), seed=0)[1]).all()


def test_q_is_that_of_benjamini_and_hochberg():
    p = [0.001, 0.02, 0.04, 0.3, math.nan, 0.9]
    q = benjamini_hochberg(p)
    assert q[:4] == pytest.approx([0.005, 0.05, 0.04 * 5 / 3, 0.375]) and q[5] == pytest.approx(0.9)
    assert math.isnan(q[4])
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([0.04, 0.04]) == pytest.approx([0.04, 0.04])
