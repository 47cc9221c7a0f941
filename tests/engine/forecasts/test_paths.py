import numpy as np
import pytest

from engine.forecasts.paths import in_order, quantiles, served_levels


def test_quantiles_are_linear_between_the_plotting_positions():
    rng = np.random.default_rng(0)
    paths = rng.normal(size=(2, 8, 3, 3)).astype(np.float32)
    found = quantiles(paths, (0.1, 0.5, 0.9))
    assert found.shape == (2, 3, 3, 3) and found.dtype == np.float32
    position = (np.arange(1, 9) - 0.5) / 8
    one = np.interp([0.1, 0.5, 0.9], position, np.sort(paths[1, :, 2, 0]))
    assert np.allclose(found[1, 2, 0], one, atol=1e-7)


def test_levels_that_the_samples_cannot_tell_are_left_out():
    levels = (0.01, 0.05, 0.1, 0.5, 0.9, 0.95)
    assert served_levels(levels, 8) == (0.1, 0.5, 0.9)
    assert served_levels(levels, 10) == (0.05, 0.1, 0.5, 0.9, 0.95)
    assert served_levels(levels, 2) == (0.5,)


@pytest.mark.parametrize(
    ("bar", "expected", "changed"),
    [
        ([10, 12, 9, 11], [12, 9, 11], 0),
        ([10, 10.5, 9, 11], [11, 9, 11], 1),  # high below close
        ([8, 12, 9, 11], [12, 8, 11], 1),  # open below low
        ([10, 9, 12, 11], [12, 9, 11], 1),  # high below low
        ([10, 12, -3, 11], [12, 1e-5, 11], 1),  # no price
        ([10, 12, 0, 0], [12, 1e-5, 1e-5], 1),
    ],
)
def test_a_sampled_bar_is_put_in_order(bar, expected, changed):
    logs, count = in_order(np.array(bar, dtype=np.float32).reshape(1, 1, 1, 4), np.array([10.0]))
    assert np.allclose(np.exp(logs[0, 0, 0]) * 10, expected, rtol=1e-6)
    assert count.tolist() == [changed]
