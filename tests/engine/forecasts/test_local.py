import csv
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars
from engine.forecasts.baselines import (
    HistoricalSimulation,
    Persistence,
    fhs_quantiles,
    fhs_spec,
    persistence_spec,
)
from engine.forecasts.cuts import cut_positions, refit_groups, window_starts
from engine.forecasts.interface import DEFAULT_LEVELS, FIELDS
from engine.forecasts.local import LOCAL_VERSION, LocalForecaster, local_spec
from engine.forecasts.local_features import prepare, targets
from engine.forecasts.local_fit import fit, location_scale_quantiles
from engine.forecasts.quality import newey_west_t, pinball, realised, run_over
from engine.forecasts.running import requests

SAMPLE = Path(__file__).parents[3] / "data" / "sample"
RECORDED = [
    [-3.939e-06, 0.008911536, 0.02269103],
    [-0.021643063, -0.00689656, 0.003923206],
    [-0.015526189, 0.001515025, 0.019024195],
]  # high, low, close at levels .1, .5, .9
FORECASTERS = {
    "local": (LocalForecaster, local_spec),
    "fhs": (HistoricalSimulation, fhs_spec),
    "persistence": (Persistence, persistence_spec),
}


def forecaster(name="local", frame="1d", calendar="observed", horizon=1):
    kind, spec = FORECASTERS[name]
    return kind(spec(frame, calendar, horizon, DEFAULT_LEVELS))


@pytest.mark.parametrize("name", FORECASTERS)
@pytest.mark.parametrize(("frame", "calendar"), [("1d", "observed"), ("1h", "24/7")])
def test_a_forecast_never_depends_on_later_bars(name, frame, calendar, change_bar):
    bars = make_bars(4, 520, frame, calendar=calendar)
    as_of = np.arange(400, 520)
    full = run_over(bars, forecaster(name, frame, calendar, 2), as_of)
    for t in (400, 447, 448, 501, 518):
        part = bars.slice(0, t + 1)
        alone = run_over(part, forecaster(name, frame, calendar, 2), np.array([t]))
        assert alone.tobytes() == full[t - 400].tobytes()
    later = run_over(change_bar(bars, 460, 1.2), forecaster(name, frame, calendar, 2), as_of)
    assert later[:60].tobytes() == full[:60].tobytes()
    assert later[60].tobytes() != full[60].tobytes()


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_window_is_bit_equal_alone_in_a_batch_and_in_another_order(name):
    bars = make_bars(5, 600)
    model, as_of = forecaster(name), np.arange(440, 600)
    starts = window_starts(bars.ts, "1d", "observed", model.spec.lookback)
    together = run_over(bars, model, as_of)
    (request,) = requests(bars, starts, as_of, len(as_of), 1)
    order = np.random.default_rng(0).permutation(len(as_of))
    shuffled = replace(
        request, bars=request.bars[order], mask=request.mask[order], stamps=request.stamps[order],
        as_of=request.as_of[order],
    )  # fmt: skip
    assert model.run(shuffled).quantiles.tobytes() == together[order].astype(np.float32).tobytes()
    for chosen in (0, 77, 159):
        alone = run_over(bars, forecaster(name), as_of[chosen : chosen + 1])
        assert alone.tobytes() == together[chosen].tobytes()
    small = [run_over(bars, model, as_of[i : i + 7]) for i in range(0, 160, 7)]
    assert np.concatenate(small).tobytes() == together.tobytes()


def test_a_fresh_process_gives_the_same_bits():
    code = (
        "import hashlib, numpy as np\n"
        "from engine.bars.synthetic import make_bars\n"
        "from engine.forecasts.local import LocalForecaster, local_spec\n"
        "from engine.forecasts.quality import run_over\n"
        f"model = LocalForecaster(local_spec('1d', 'observed', 1, {DEFAULT_LEVELS}))\n"
        "found = run_over(make_bars(6, 480), model, np.arange(420, 480))\n"
        "print(hashlib.sha256(found.tobytes()).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    run_over(make_bars(7, 480), forecaster(), np.arange(420, 480))
    here = run_over(make_bars(6, 480), forecaster(), np.arange(420, 480))
    assert answer.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()


def test_bars_older_than_the_lookback_change_nothing(change_bar):
    bars = make_bars(8, 1300)
    as_of = np.array([1299])
    start = int(window_starts(bars.ts, "1d", "observed", 1000)[1299])
    before = run_over(bars, forecaster(), as_of)
    assert run_over(change_bar(bars, start - 1, 1.3), forecaster(), as_of).tobytes() == before.tobytes()
    assert run_over(bars.slice(start, None), forecaster(), as_of - start).tobytes() == before.tobytes()
    assert run_over(change_bar(bars, start + 300, 1.3), forecaster(), as_of).tobytes() != before.tobytes()


def test_rows_at_the_cut_decide_between_skipping_fhs_alone_and_both():
    bars = make_bars(9, 500)
    as_of = np.arange(110, 500)
    model, fhs = forecaster(), forecaster("fhs")
    starts = window_starts(bars.ts, "1d", "observed", 1000)
    (request,) = requests(bars, starts, as_of, len(as_of), 1)
    batch = model.run(request)
    historical = run_over(bars, fhs, as_of)
    rows = cut_positions(refit_groups(bars.ts, "1d", "observed"))[as_of] - 1 - 66 + 1
    kinds = set()
    for i, n in enumerate(rows.tolist()):
        if n < 100:
            kinds.add("skipped")
            assert batch.status[i] == "skipped" and np.isnan(batch.quantiles[i]).all()
            assert batch.reason[i] == f"{max(n, 0)} training rows at the cut, 100 needed"
        elif n < 250:
            kinds.add("fhs")
            assert (batch.status[i], batch.reason[i]) == ("ok", f"fhs only: {n} training rows at the cut")
            np.testing.assert_array_equal(batch.quantiles[i], historical[i].astype(np.float32))
        else:
            kinds.add("both")
            assert (batch.status[i], batch.reason[i]) == ("ok", "")
            assert (batch.quantiles[i] != historical[i].astype(np.float32)).any()
    assert kinds == {"skipped", "fhs", "both"}
    assert batch.meta["fits"] == len(set(rows[rows >= 250].tolist()))


def test_a_forecast_is_the_mean_of_fhs_and_the_location_scale_model():
    bars, t, step = make_bars(12, 1300), 1290, 2
    cut = int(cut_positions(refit_groups(bars.ts, "1d", "observed"))[t])
    part = bars.slice(cut - 1000, t + 1)
    window = prepare(part.ts, part.open, part.high, part.low, part.close, part.volume, "1d")
    rows, here = np.arange(1000 - step - 750 + 1, 1000 - step + 1), np.array([len(part) - 1])
    z = targets(window, rows, step) / window.sigma[rows, None]
    fitted = fit(window.features[rows], z, 750, DEFAULT_LEVELS, "cpu")
    ridge = location_scale_quantiles(fitted, window.features[here], window.sigma[here])
    historical = fhs_quantiles(window, rows, step, here, DEFAULT_LEVELS)
    found = run_over(bars, forecaster(horizon=2), np.array([t]))
    np.testing.assert_array_equal(found[:, step - 1], ((historical + ridge) / 2).astype(np.float32))


def test_an_unusable_window_is_skipped_and_costs_the_others_nothing():
    bars = make_bars(10, 400)
    starts = window_starts(bars.ts, "1d", "observed", 1000)
    (request,) = requests(bars, starts, np.array([398, 399]), 2, 1)
    values = request.bars.copy()
    values[0, 200, 3] = np.nan
    batch = forecaster().run(replace(request, bars=values))
    assert (batch.status, batch.reason[0]) == (("skipped", "ok"), "a value is not finite")
    assert batch.quantiles[1].tobytes() == forecaster().run(request).quantiles[1].tobytes()


def test_levels_are_monotone():
    found = run_over(make_bars(11, 700), forecaster(horizon=3), np.arange(350, 700))
    assert (np.diff(found, axis=3) >= 0).all()


def daily_bars(step_volatility, seed, steps=20):
    """Make daily bars from paths of ``steps`` normal moves inside the day, without gaps or ticks."""
    n = len(step_volatility)
    draws = (
        np.random.default_rng(seed).standard_normal((n, steps)) * step_volatility[:, None] / np.sqrt(steps)
    )
    inside = np.cumsum(draws, axis=1)
    start = np.concatenate([[0.0], np.cumsum(inside[:-1, -1])])
    path = np.log(100.0) + start[:, None] + np.concatenate([np.zeros((n, 1)), inside], axis=1)
    day = np.busday_offset(np.datetime64("2000-01-03", "D"), np.arange(n), roll="forward")
    ts = day.astype("datetime64[us]").astype(np.int64)
    columns = (np.exp(x) for x in (path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1]))
    return Bars("MADE", "1d", "observed", ts, *columns, np.full(n, 1e6), np.ones(n), np.zeros(n))


def student_t_bars(n, seed):
    """Return i.i.d. daily returns with Student-t tails, 5 degrees of freedom."""
    chi2 = np.random.default_rng([seed, 5]).chisquare(5, n)
    return daily_bars(0.015 * np.sqrt(3 / 5) * np.sqrt(5 / chi2), seed)


def garch_bars(n, seed):
    """Return GARCH(.05, .12, .83) daily returns in percent."""
    draws = np.random.default_rng(seed).standard_normal((n, 20))  # the draws of daily_bars
    shocks = draws.sum(axis=1) / np.sqrt(20)
    variance = np.full(n, 1.0)
    for t in range(1, n):
        variance[t] = 0.05 + (0.12 * shocks[t - 1] ** 2 + 0.83) * variance[t - 1]
    return daily_bars(0.01 * np.sqrt(variance), seed)


def losses(bars, quantiles, as_of, levels=DEFAULT_LEVELS):
    y = realised(bars, as_of, 1)
    return np.stack([pinball(y[:, v], quantiles[:, 0, v], levels) for v in range(3)], axis=1)


def coverage(bars, quantiles, as_of):
    y = realised(bars, as_of, 1)
    return ((y >= quantiles[:, 0, :, 1]) & (y <= quantiles[:, 0, :, 9])).mean(axis=0)


def test_ten_to_ninety_covers_about_four_fifths_of_student_t_days():
    bars = student_t_bars(1600, 1)
    as_of = np.arange(400, 1599)
    assert coverage(bars, run_over(bars, forecaster(), as_of), as_of) == pytest.approx(0.80, abs=0.04)


@pytest.mark.slow
def test_coverage_and_loss_on_5000_student_t_days():
    bars = student_t_bars(5900, 2)
    as_of = np.arange(899, 5899)
    model, fhs = run_over(bars, forecaster(), as_of), run_over(bars, forecaster("fhs"), as_of)
    assert coverage(bars, model, as_of) == pytest.approx(0.80, abs=0.02)
    assert (losses(bars, model, as_of).mean(0) <= 1.01 * losses(bars, fhs, as_of).mean(0)).all()


@pytest.mark.slow
def test_beats_rolling_quantiles_by_one_percent_on_garch_days():
    # Seven levels, as where the claim was measured: the middle ones hold little of the volatility, so
    # with all eleven the close gains .96 % (high 2.3, low 2.5).
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    model_losses, rolling_losses = [], []
    as_of = np.arange(899, 4499)
    for seed in (1, 2, 3, 4):
        bars = garch_bars(4500, seed)
        model = LocalForecaster(local_spec("1d", "observed", 1, levels))
        cuts = cut_positions(refit_groups(bars.ts, "1d", "observed"))
        rolling = np.empty((len(as_of), 1, 3, 7))
        for cut in np.unique(cuts[as_of]):
            moves = realised(bars, np.arange(cut - 750, cut), 1)
            rolling[cuts[as_of] == cut, 0] = np.quantile(moves, levels, axis=0).T
        model_losses.append(losses(bars, run_over(bars, model, as_of), as_of, levels))
        rolling_losses.append(losses(bars, rolling, as_of, levels))
    model_mean, rolling_mean = np.concatenate(model_losses).mean(0), np.concatenate(rolling_losses).mean(0)
    assert (model_mean <= 0.99 * rolling_mean).all()


def sample_bars(symbol):
    """Read one committed sample file, split-adjusted."""
    rows = list(csv.DictReader((SAMPLE / f"{symbol}.csv").open()))
    ts = np.array([row["date"] for row in rows], dtype="datetime64[us]").astype(np.int64)
    adj = np.ones(len(ts))
    for event in csv.DictReader((SAMPLE / "events.csv").open()):
        if event["symbol"] == symbol and event["kind"] == "split":
            adj[ts < np.datetime64(event["date"], "us").astype(np.int64)] *= float(event["value"])
    prices = [np.array([float(row[name]) for row in rows]) / adj for name in ("open", "high", "low", "close")]
    volume = np.array([float(row["volume"]) for row in rows]) * adj
    return Bars(symbol, "1d", "observed", ts, *prices, volume, adj, np.zeros(len(ts)))


def test_recorded_forecasts_of_the_sample_are_unchanged():
    # A change here is a change of outputs: raise LOCAL_VERSION, so that stored rows are inferred again.
    bars = sample_bars("AAPL")
    t = int(np.searchsorted(bars.ts, np.datetime64("2010-01-04", "us").astype(np.int64)))
    found = run_over(bars, forecaster(), np.array([t]))[0, 0][:, [1, 5, 9]]
    assert LOCAL_VERSION == 1
    np.testing.assert_allclose(found, RECORDED, atol=2e-8)


@pytest.mark.slow
def test_no_worse_than_fhs_on_the_sample():
    model_losses, fhs_losses = [], []
    for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
        bars = sample_bars(symbol)
        as_of = np.arange(863, len(bars) - 1)
        model_losses.append(losses(bars, run_over(bars, forecaster(), as_of), as_of))
        fhs_losses.append(losses(bars, run_over(bars, forecaster("fhs"), as_of), as_of))
    model, fhs = np.concatenate(model_losses), np.concatenate(fhs_losses)
    gain = 1.0 - model.mean(axis=0) / fhs.mean(axis=0)
    assert (gain >= 0.0).all(), dict(zip(FIELDS, gain, strict=True))
    assert all(newey_west_t(fhs[:, v] - model[:, v]) > 2.0 for v in range(3))
