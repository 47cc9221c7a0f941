import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.repair import repair

LEVELS = (0.1, 0.5, 0.9)


def quantiles(high, low, close):
    return np.array([[[high, low, close]]], dtype=np.float32)


def plain_repair(values, sigma):
    """Return (values, clamped, repaired) of one window [h][V][Q], plainly."""
    clamped = repaired = 0
    out = []
    for step, fields in enumerate(values, start=1):
        bound = float(np.float32(max(0.02, 10 * sigma * math.sqrt(step))))
        bounded = [[max(-bound, min(bound, x)) for x in field] for field in fields]
        clamped += sum(
            a != b for p, q in zip(fields, bounded, strict=True) for a, b in zip(p, q, strict=True)
        )
        high, low, close = (sorted(field) for field in bounded)
        final = [
            [max(three) for three in zip(low, high, close, strict=True)],
            [min(three) for three in zip(low, high, close, strict=True)],
            close,
        ]
        repaired += sum(
            a != b for p, q in zip(bounded, final, strict=True) for a, b in zip(p, q, strict=True)
        )
        out.append(final)
    return out, clamped, repaired


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([1e-4, 0.01, 0.3]), st.sampled_from([1.0, 1e5])
)
def test_stored_rows_are_always_possible(seed, steps, sigma, blow_up):
    generator = np.random.default_rng(seed)
    values = (generator.standard_normal((2, steps, 3, 11)) * 0.05).astype(np.float32)
    values[generator.random(values.shape) < 0.02] *= blow_up
    found = repair(values, DEFAULT_LEVELS, np.array([sigma, sigma]))
    high, low, close = (found.quantiles[:, :, v] for v in range(3))
    assert (low <= close).all() and (close <= high).all()
    assert (np.diff(found.quantiles, axis=3) >= 0).all()
    assert found.quantiles.dtype == np.float32
    for i in range(2):
        expected, clamped, repaired = plain_repair(values[i].tolist(), sigma)
        assert found.quantiles[i].tolist() == expected
        assert (found.n_clamped[i], found.n_repaired[i]) == (clamped, repaired)
        median = np.abs(values[i][:, :, 5]) > [
            [max(0.02, 10 * sigma * math.sqrt(k + 1))] for k in range(steps)
        ]
        assert bool(found.rejected[i]) == (bool(median.any()) or clamped > 0.01 * values[i].size)


def test_possible_rows_are_left_alone():
    given_ = quantiles([0.0, 0.01, 0.02], [-0.02, -0.01, 0.0], [-0.01, 0.0, 0.01])
    found = repair(given_, LEVELS, np.array([0.01]))
    np.testing.assert_array_equal(found.quantiles, given_)
    assert (found.n_clamped[0], found.n_repaired[0], found.rejected[0]) == (0, 0, "")


def test_a_high_below_the_low_is_put_in_order_and_counted():
    found = repair(quantiles([-0.01] * 3, [0.01] * 3, [0.0] * 3), LEVELS, np.array([0.01]))
    np.testing.assert_array_equal(found.quantiles, quantiles([0.01] * 3, [-0.01] * 3, [0.0] * 3))
    assert found.n_repaired[0] == 6


def test_crossing_levels_are_sorted_and_counted():
    found = repair(quantiles([0.03, 0.02, 0.04], [-0.04] * 3, [0.0] * 3), LEVELS, np.array([0.01]))
    np.testing.assert_array_equal(found.quantiles[0, 0, 0], np.float32([0.02, 0.03, 0.04]))
    assert found.n_repaired[0] == 2


def test_the_bound_has_a_floor_of_two_percent_and_grows_with_the_step():
    values = np.zeros((2, 4, 3, 11), dtype=np.float32)
    values[0, :, 0, 10] = 9.0
    values[1, 0, 0, 10] = 9.0
    found = repair(values, DEFAULT_LEVELS, np.array([0.01, 1e-5]))
    assert found.quantiles[0, :, 0, 10] == pytest.approx([0.1 * math.sqrt(k) for k in (1, 2, 3, 4)], rel=1e-6)
    assert found.quantiles[1, 0, 0, 10] == np.float32(0.02)


def test_a_median_beyond_the_bound_rejects_the_window():
    values = np.zeros((1, 1, 3, 11), dtype=np.float32)
    values[0, 0, 0, 5] = 9.0
    found = repair(values, DEFAULT_LEVELS, np.array([0.01]))
    assert found.rejected == ("a median lies beyond 10 sigma",)


def test_more_than_one_percent_beyond_the_bound_rejects_the_window():
    values = np.zeros((2, 7, 3, 11), dtype=np.float32)  # 231 values: 2 are allowed
    values[0, :2, 0, 10], values[1, :3, 0, 10] = 9.0, 9.0
    found = repair(values, DEFAULT_LEVELS, np.array([0.01, 0.01]))
    assert found.rejected == ("", "3 of 231 values lie beyond 10 sigma")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_rejects_its_window_alone(value):
    values = np.zeros((2, 1, 3, 11), dtype=np.float32)
    values[0, 0, 2, 3] = value
    found = repair(values, DEFAULT_LEVELS, np.array([0.01, 0.01]))
    assert found.rejected == ("a value is not finite", "")


def test_no_windows_are_no_trouble():
    found = repair(np.zeros((0, 1, 3, 11), dtype=np.float32), DEFAULT_LEVELS, np.zeros(0))
    assert found.rejected == () and found.quantiles.shape == (0, 1, 3, 11)
