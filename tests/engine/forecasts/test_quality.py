import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.forecasts import store
from engine.forecasts.baselines import HistoricalSimulation, fhs_spec
from engine.forecasts.infer import infer
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.quality import newey_west_t, pinball, quality, run_over, skill, verdict
from engine.lake.schemas import schema_of


def plain_pinball(y, quantiles, levels):
    total = 0.0
    for level, q in zip(levels, quantiles, strict=True):
        total += level * (y - q) if y >= q else (1 - level) * (q - y)
    return total / len(levels)


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_pinball_equals_a_plain_computation(seed):
    generator = np.random.default_rng(seed)
    y, q = generator.standard_normal(5), generator.standard_normal((5, 11))
    found = pinball(y, q, DEFAULT_LEVELS)
    assert found.tolist() == pytest.approx([plain_pinball(y[i], q[i], DEFAULT_LEVELS) for i in range(5)])


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 80))
def test_newey_west_equals_a_plain_computation(seed, n):
    x = np.random.default_rng(seed).standard_normal(n) + 0.2
    mean = math.fsum(x) / n
    d = [value - mean for value in x]
    variance = math.fsum(a * a for a in d) / n
    for lag in range(1, min(10, n - 1) + 1):
        variance += 2 * (1 - lag / 11) * math.fsum(d[i] * d[i - lag] for i in range(lag, n)) / n
    assert newey_west_t(x) == pytest.approx(mean / math.sqrt(variance / n), rel=1e-9)


@pytest.mark.parametrize(
    ("n", "gain", "t", "expected"),
    [
        (59, 0.5, 9.0, "unproven"), (60, 0.5, 2.1, "beats"), (60, 0.5, 2.0, "ties"),
        (60, -0.1, -2.1, "loses"), (60, -0.1, -2.0, "ties"), (250, 0.0, 0.0, "ties"),
    ],
)  # fmt: skip
def test_the_verdict_needs_skill_and_significance(n, gain, t, expected):
    assert verdict(n, gain, t) == expected


def test_fhs_itself_ties_and_noise_loses():
    generator = np.random.default_rng(0)
    y = generator.standard_normal(250) * 0.01
    fhs = np.tile(np.quantile(y, DEFAULT_LEVELS), (250, 1))
    persistence = np.zeros((250, 11))
    same = skill(y, fhs, fhs, persistence, DEFAULT_LEVELS)
    assert (same["verdict"], same["skill_fhs"], same["t_fhs"]) == ("ties", 0.0, 0.0)
    assert same["cover_80"] == pytest.approx(0.8, abs=0.01)
    noise = np.sort(generator.standard_normal((250, 11)) * 0.01, axis=1)
    assert skill(y, noise, fhs, persistence, DEFAULT_LEVELS)["verdict"] == "loses"


def test_coverage_is_undefined_without_its_levels():
    y = np.zeros(3)
    q = np.zeros((3, 2))
    assert math.isnan(skill(y, q, q, q, (0.2, 0.5))["cover_80"])


def test_the_table_scores_realised_bars_and_nothing_else(settings):
    bars = make_bars(1, 420)
    run = infer(bars, settings(horizon=2), "cpu")
    table = quality(bars, run.forecasts, run.inputs, run.spec, last_bars=None)
    assert table.schema == schema_of("forecast_quality")
    rows = table.to_pylist()
    assert [(r["step"], r["field"]) for r in rows] == [
        (k, f) for k in (1, 2) for f in ("high", "low", "close")
    ]
    assert {r["n"] for r in rows} == {420 - 249 - 2} and {r["span"] for r in rows} == {"clean"}
    last = quality(bars, run.forecasts, run.inputs, run.spec, last_bars=100).to_pylist()
    assert {r["n"] for r in last} == {100}

    as_of = np.arange(318, 418)
    y = np.log(bars.low[as_of + 2] / bars.close[as_of])
    stored = [store.matrix(run.forecasts, run.model_key, 2, "low", q, bars.ts)[as_of] for q in DEFAULT_LEVELS]
    model = np.stack(stored, axis=1)
    fhs = run_over(bars, HistoricalSimulation(fhs_spec("1d", "observed", 2, DEFAULT_LEVELS)), as_of)
    low = next(r for r in last if (r["step"], r["field"]) == (2, "low"))
    assert low["pinball"] == pytest.approx(pinball(y, model, DEFAULT_LEVELS).mean(), rel=1e-12)
    assert low["pinball_fhs"] == pytest.approx(pinball(y, fhs[:, 1, 1], DEFAULT_LEVELS).mean(), rel=1e-12)
    assert low["mae_zero"] == pytest.approx(np.abs(y).mean(), rel=1e-12)
    known = np.log(bars.low[as_of] / bars.close[as_of])[:, None].repeat(11, axis=1)
    assert low["pinball_persist"] == pytest.approx(pinball(y, known, DEFAULT_LEVELS).mean(), rel=1e-6)


def test_a_later_bar_adds_one_scored_as_of_and_leaves_the_others(settings):
    bars = make_bars(2, 400)
    run = infer(bars, settings(), "cpu")
    part = bars.slice(0, 399)
    shorter = quality(part, run.forecasts, run.inputs, run.spec, last_bars=None).to_pylist()
    longer = quality(bars, run.forecasts, run.inputs, run.spec, last_bars=None).to_pylist()
    assert {r["n"] for r in longer} == {150} and {r["n"] for r in shorter} == {149}


def test_nothing_realised_gives_no_rows(settings):
    bars = make_bars(3, 250)
    run = infer(bars, settings(), "cpu")
    assert run.forecasts.num_rows > 0
    assert quality(bars, run.forecasts, run.inputs, run.spec).num_rows == 0
