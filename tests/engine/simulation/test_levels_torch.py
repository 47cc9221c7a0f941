"""The torch evaluators against the compiled ones; the smoothed form against random draws."""

import numpy as np
import pytest

from engine.errors import ConfigError, DeviceUnavailable, LevelsInputError
from engine.simulation.levels import LevelsProblem
from engine.simulation.levels_batch import LevelsBatch, levels_grid, levels_value
from engine.simulation.levels_torch import (
    BatchTensors,
    levels_grid_torch,
    levels_value_torch,
    one_value_torch,
)


def random_problem(seed, n, touch, coarse=False):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 0.02, (2, n)) + rng.normal(0, 0.005, n), axis=0)
    up, down = rng.normal(0.008, 0.012, n), rng.normal(-0.008, 0.012, n)
    if coarse:
        low, high, up, down = (np.round(x, 2) for x in (low, high, up, down))
    close = low + (high - low) * rng.choice([0.0, 0.4, 1.0], n)
    close = np.clip(close, low, high)
    delta = np.zeros(n) if touch else rng.choice([1e-9, 1e-4, 1e-3], n)
    fees = (0.0005, 0.0004, 0.0007) if seed % 2 else (0.0, 0.0, 0.0)
    return LevelsProblem(
        close, high, low, up, down, *rng.choice([0.0, 1.0, 2.5], (2, n)), delta, np.full(n, 100.0),
        np.arange(1, n + 1), *fees, touch,
    )  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    return LevelsBatch.of(
        [random_problem(s, n, s % 2 == 0, s % 3 == 0) for s in range(12) for n in (0, 1, 8, 30)]
    )


@pytest.fixture(scope="module")
def points(batch):
    u, v = np.random.default_rng(5).normal(0, 0.015, (2, len(batch), 11))
    return np.round(u, 2), np.round(v, 3)


@pytest.mark.parametrize("exit", ["close", "path", "target"])
def test_grids_and_pairs_are_those_of_the_compiled_evaluator(batch, points, exit):
    u, v = points
    expected = levels_grid(batch, u, v[:, :7], exit)
    np.testing.assert_allclose(levels_grid_torch(batch, u, v[:, :7], exit), expected, rtol=1e-12, atol=1e-12)
    pairs = levels_value_torch(batch, u, v, exit)
    np.testing.assert_allclose(pairs, levels_value(batch, u, v, exit), rtol=1e-12, atol=1e-12)


def test_a_memory_cap_cuts_the_batch_but_not_the_result(batch, points):
    u, v = points
    tensors = BatchTensors(batch, "cpu", "float64")
    assert len(list(tensors.chunks(u, v, True))) == 1
    parts = [part for part, _ in tensors.chunks(u, v, True, memory_bytes=200_000)]
    assert 1 < len(parts) < len(batch)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert len(list(tensors.chunks(u, v, True, memory_bytes=1))) == len(batch)
    whole = levels_grid_torch(batch, u, v, "target")
    for cap in (1, 200_000):
        cut = levels_grid_torch(batch, u, v, "target", memory_bytes=cap)
        np.testing.assert_allclose(cut, whole, rtol=1e-12, atol=1e-12)


def test_single_precision_is_near_where_no_break_is(batch):
    rng = np.random.default_rng(3)
    u, v = rng.uniform(-0.02, 0.02, (2, len(batch), 6))
    near = levels_grid_torch(batch, u, v, "target", dtype="float32")
    np.testing.assert_allclose(near, levels_grid(batch, u, v, "target"), atol=2e-6)


@pytest.mark.parametrize("exit", ["close", "target"])
def test_one_call_for_each_candidate_is_the_same_objective(batch, points, exit):
    u, v = points
    expected = levels_value(batch, u, v, exit)
    for p in range(len(batch)):
        score = one_value_torch(batch, p, exit)
        got = [score(a, b) for a, b in zip(u[p].tolist(), v[p].tolist(), strict=True)]
        np.testing.assert_allclose(got, expected[p], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize("exit", ["close", "target"])
def test_the_smoothed_form_is_the_mean_over_blurred_offsets(touch, exit):
    batch = LevelsBatch.of([random_problem(s, 12, touch, coarse=True) for s in range(3)])
    u, v = np.array([[0.004], [-0.02], [0.012]]), np.array([[-0.003], [0.02], [-0.011]])
    widths = np.array([0.004, 0.01, 0.002])
    draws = np.random.default_rng(0).normal(0, 1, (2, 3, 200_000)) * widths[:, None]
    sample = levels_value(batch, u + draws[0], v + draws[1], exit)
    error = sample.std(1) / np.sqrt(sample.shape[1])
    smooth = levels_value_torch(batch, u, v, exit, widths=widths)
    assert (np.abs(smooth[:, 0] - sample.mean(1)) <= 4 * error + 1e-12).all()
    grid = levels_grid_torch(batch, u, v, exit, widths=widths)
    np.testing.assert_allclose(grid[:, 0], smooth, rtol=1e-12, atol=1e-14)


def test_refuses_widths_devices_and_dtypes_it_does_not_know(batch, points):
    u, v = points
    for widths in (np.ones(3), np.zeros(len(batch)), np.full(len(batch), np.nan)):
        with pytest.raises(LevelsInputError, match="smoothing widths were"):
            levels_value_torch(batch, u, v, "close", widths=widths)
    with pytest.raises(ConfigError, match="dtype was 'float16'. Closest: float64, float32"):
        levels_grid_torch(batch, u, v, "close", dtype="float16")
    with pytest.raises(DeviceUnavailable, match="devices.device was cuda:99"):
        levels_grid_torch(batch, u, v, "close", device="cuda:99")


@pytest.fixture
def cuda():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda:0"


@pytest.mark.gpu
@pytest.mark.parametrize("exit", ["close", "target"])
def test_a_gpu_gives_what_the_cpu_gives(batch, points, exit, cuda):
    u, v = points
    here, there = (levels_grid_torch(batch, u, v, exit, device) for device in ("cpu", cuda))
    np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9)
    widths = np.full(len(batch), 0.004)
    here, there = (levels_grid_torch(batch, u, v, exit, d, widths=widths) for d in ("cpu", cuda))
    np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9)
