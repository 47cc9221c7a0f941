import time

import numpy as np
import pytest
import torch

from engine.forecasts import local_fit
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.local_fit import fit, location_scale_quantiles, schedule

ROWS = 750


def data(seed, n, features=32):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, features))
    z = generator.standard_t(5, (n, 3)) * np.exp(0.2 * x[:, :1]) + 0.1 * x[:, 1:2]
    return x, z


def plain_fit(x, z, rows, levels):
    """Fit by automatic differentiation with torch's own Adam and one-cycle rate: the twin."""
    n, f = x.shape
    v, q, middle = z.shape[1], len(levels), levels.index(0.5)
    padded_x, padded_z = np.zeros((rows, f)), np.zeros((rows, v))
    padded_x[rows - n :] = np.clip((x - x.mean(0)) / (x.std(0) + 1e-3), -5, 5)
    padded_z[rows - n :] = z
    weight = torch.tensor(np.arange(rows) >= rows - n).double()
    start = np.quantile(z, levels, axis=0).T
    gaps = np.maximum(np.diff(start, axis=1), 1e-3)
    w = torch.zeros(f, 2 * v, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(2 * v, dtype=torch.float64, requires_grad=True)
    median = torch.tensor(start[:, middle].copy(), requires_grad=True)
    raw = torch.tensor(np.log(np.expm1(gaps)), requires_grad=True)
    level = torch.tensor(levels, dtype=torch.float64)
    tx, tz = torch.tensor(padded_x), torch.tensor(padded_z)

    def unit():
        gap = torch.nn.functional.softplus(raw)
        columns = []
        for k in range(q):
            if k < middle:
                columns.append(median - gap[:, k:middle].sum(1))
            else:
                columns.append(median + gap[:, middle:k].sum(1))
        return torch.stack(columns, 1)

    optimizer = torch.optim.Adam([w, b, median, raw], lr=0.05, betas=(0.95, 0.999))
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=60, pct_start=0.3, anneal_strategy="cos",
        div_factor=25.0, final_div_factor=1e4, base_momentum=0.85, max_momentum=0.95,
    )  # fmt: skip
    seen = []
    for _ in range(60):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.zero_grad()
        both = tx @ w + b
        predicted = both[:, :v, None] + unit() * torch.exp(both[:, v:, None])
        difference = tz[:, :, None] - predicted
        below = difference < -1e-9 * torch.exp(both[:, v:, None])
        loss = torch.where(below, (level - 1) * difference, level * difference)
        total = (loss * weight[:, None, None]).sum() / (n * v * q) + 0.03 * (w**2).sum()
        total.backward()
        optimizer.step()
        rate.step()
    return w.detach().numpy(), b.detach().numpy(), unit().detach().numpy(), seen


# 601 rows: every default level starts exactly on a target.
@pytest.mark.parametrize(("seed", "n", "features"), [(0, 750, 32), (1, 601, 32), (2, 250, 34)])
@pytest.mark.parametrize("levels", [DEFAULT_LEVELS, (0.1, 0.5, 0.6)])
def test_equals_automatic_differentiation_with_torchs_own_optimiser(seed, n, features, levels):
    x, z = data(seed, n, features)
    found = fit(x, z, ROWS, levels, "cpu")
    w, b, unit, _ = plain_fit(x, z, ROWS, levels)
    np.testing.assert_allclose(found.weights, w, atol=1e-9)
    np.testing.assert_allclose(found.bias, b, atol=1e-9)
    np.testing.assert_allclose(found.unit_quantiles, unit, atol=1e-9)


def test_the_schedule_is_torchs_one_cycle():
    x, z = data(0, 300, 3)
    np.testing.assert_allclose(schedule(), plain_fit(x, z, 300, (0.5, 0.9))[3], rtol=1e-12)


def test_a_fit_is_bit_equal_alone_after_others_and_with_more_threads():
    x, z = data(4, 700)
    alone = fit(x, z, ROWS, DEFAULT_LEVELS, "cpu")
    for seed in (5, 6):
        fit(*data(seed, 750), ROWS, DEFAULT_LEVELS, "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again = fit(x.copy(), z.copy(), ROWS, DEFAULT_LEVELS, "cpu")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    for name in ("mean", "spread", "weights", "bias", "unit_quantiles"):
        assert getattr(alone, name).tobytes() == getattr(again, name).tobytes()


def test_the_fit_runs_on_one_thread_and_gives_the_others_back(monkeypatch):
    seen, descend = [], local_fit._descend

    def watched(*tensors):
        seen.append(torch.get_num_threads())
        return descend(*tensors)

    monkeypatch.setattr(local_fit, "_descend", watched)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    fit(*data(4, 300), ROWS, DEFAULT_LEVELS, "cpu")
    assert (seen, torch.get_num_threads()) == ([1], 2)
    torch.set_num_threads(threads)


def test_quantiles_of_a_row_do_not_depend_on_the_other_rows():
    x, z = data(7, 400)
    fitted = fit(x, z, ROWS, DEFAULT_LEVELS, "cpu")
    sigma = np.full(63, 0.02)
    together = location_scale_quantiles(fitted, x[:63], sigma)
    for i in range(63):
        assert location_scale_quantiles(fitted, x[i : i + 1], sigma[:1]).tobytes() == together[i].tobytes()
        assert (
            location_scale_quantiles(fitted, x[: i + 1], sigma[: i + 1])[i].tobytes() == together[i].tobytes()
        )


def test_levels_never_cross():
    x, z = data(8, 250)
    z = np.round(z)  # many equal targets, so gaps start at their floor
    fitted = fit(x, z, ROWS, DEFAULT_LEVELS, "cpu")
    wild = np.random.default_rng(9).standard_normal((200, 32)) * 8
    assert (np.diff(location_scale_quantiles(fitted, wild, np.full(200, 0.02)), axis=2) > 0).all()


def test_learns_a_scale_that_depends_on_a_feature():
    generator = np.random.default_rng(10)
    x = np.clip(generator.standard_normal((750, 32)), -2, 2)
    z = generator.standard_normal((750, 3)) * np.exp(0.5 * x[:, :1])
    fitted = fit(x, z, ROWS, DEFAULT_LEVELS, "cpu")
    rows = np.zeros((2, 32))
    rows[:, 0] = (-1.5, 1.5)
    q = location_scale_quantiles(fitted, rows, np.ones(2))
    width = q[:, :, -2] - q[:, :, 1]
    assert (width[1] > 1.5 * width[0]).all()


@pytest.mark.slow
def test_one_fit_takes_at_most_60_ms_on_one_thread():
    x, z = data(11, 750)
    fit(x, z, ROWS, DEFAULT_LEVELS, "cpu")
    seconds = []
    for _ in range(9):
        begun = time.perf_counter()
        fit(x, z, ROWS, DEFAULT_LEVELS, "cpu")
        seconds.append(time.perf_counter() - begun)
    assert np.median(seconds) <= 0.060
