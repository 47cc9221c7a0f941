from datetime import date
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from engine.bars.model import iso
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DeviceUnavailable
from engine.forecasts import devices, store
from engine.forecasts.cuts import window_starts
from engine.forecasts.infer import ewma_volatility, infer
from engine.forecasts.interface import ForecastBatch
from engine.lake.schemas import schema_of


def after(first, second):
    """Return both tables after the second inference joined the first."""
    forecasts = store.merge_forecasts(first.forecasts, second.forecasts, second.inputs)
    return forecasts, store.merge_inputs(first.inputs, second.inputs)


def test_a_first_run_answers_every_bar_with_history_enough(settings, positions_of):
    bars = make_bars(1, 420)
    found = infer(bars, settings(), "cpu")
    assert positions_of(bars, found.inputs) == list(range(249, 420))
    assert found.model_calls == 171 and found.device.name == "cpu"
    assert found.forecasts.schema == schema_of("forecasts")
    assert found.inputs.schema == schema_of("forecast_inputs")
    assert found.forecasts.num_rows == 171 * 1 * 3 * 11
    assert set(found.inputs["device"].to_pylist()) == {"cpu"}


def test_stored_rows_are_possible(settings):
    bars = make_bars(2, 420, volatility=0.05)
    found = infer(bars, settings(horizon=2), "cpu")
    for step in (1, 2):
        by_level = []
        for level in settings().levels:
            high, low, close = (
                store.matrix(found.forecasts, found.model_key, step, name, level, bars.ts)[249:]
                for name in ("high", "low", "close")
            )
            assert (low <= close).all() and (close <= high).all()
            by_level.append(np.stack([high, low, close]))
        assert (np.diff(np.stack(by_level), axis=0) >= 0).all()


def test_nothing_missing_builds_no_model(settings, counting):
    bars = make_bars(1, 420)
    first = infer(bars, settings(), "cpu")
    again = infer(bars, settings(), "no such device", first.inputs, build=counting.build)
    assert (counting.built, again.model_calls, again.device) == (0, 0, None)
    assert again.forecasts.num_rows == again.inputs.num_rows == 0
    forecasts, inputs = after(first, again)
    assert forecasts.equals(first.forecasts) and inputs.equals(first.inputs)


@pytest.mark.parametrize("n", [433, 434, 435, 436, 437])
def test_one_more_bar_is_one_more_as_of_and_equals_a_fresh_run(settings, counting, n):
    bars = make_bars(3, n)
    first = infer(bars.slice(0, n - 1), settings(), "cpu")
    night = infer(bars, settings(), "cpu", first.inputs, build=counting.build)
    assert counting.seen == [int(bars.ts[-1])] and night.model_calls == 1
    fresh = infer(bars, settings(), "cpu")
    forecasts, inputs = after(first, night)
    assert forecasts.equals(fresh.forecasts) and inputs.equals(fresh.inputs)


def test_eighty_nights_across_cuts_equal_one_run(settings):
    bars = make_bars(4, 480)
    run = infer(bars.slice(0, 400), settings(), "cpu")
    forecasts, inputs, fits = run.forecasts, run.inputs, set()
    for n in range(401, 481):
        night = infer(bars.slice(0, n), settings(), "cpu", inputs)
        forecasts = store.merge_forecasts(forecasts, night.forecasts, night.inputs)
        inputs = store.merge_inputs(inputs, night.inputs)
        fits.add(night.fits)
    fresh = infer(bars, settings(), "cpu")
    assert forecasts.equals(fresh.forecasts) and inputs.equals(fresh.inputs)
    assert fits == {1}


@pytest.mark.parametrize("ratio", [2.0, 0.1])
def test_a_split_of_the_history_infers_nothing_again(settings, counting, split, ratio):
    bars = make_bars(5, 420)
    first = infer(bars, settings(), "cpu")
    again = infer(split(bars, ratio), settings(), "cpu", first.inputs, build=counting.build)
    assert (counting.built, again.model_calls) == (0, 0)


def test_a_changed_bar_infers_the_windows_that_hold_it_and_replaces_their_rows(
    settings, counting, change_bar
):
    bars, at = make_bars(6, 1500), 410
    wish = settings(start=iso(int(bars.ts[1300])))
    first = infer(bars, wish, "cpu")
    starts = window_starts(bars.ts, "1d", "observed", 1000)
    holding = [t for t in range(1300, 1500) if starts[t] <= at]
    assert 0 < len(holding) < 200
    revised = change_bar(bars, at)
    again = infer(revised, wish, "cpu", first.inputs, build=counting.build)
    assert counting.seen == [int(bars.ts[t]) for t in holding]
    fresh = infer(revised, wish, "cpu")
    forecasts, inputs = after(first, again)
    assert forecasts.equals(fresh.forecasts) and inputs.equals(fresh.inputs)


def test_other_levels_are_another_model_beside_the_first(settings):
    bars = make_bars(7, 420)
    first = infer(bars, settings(), "cpu")
    second = infer(bars, settings(levels=(0.25, 0.5, 0.75)), "cpu", first.inputs)
    assert second.model_key != first.model_key and second.model_calls == first.model_calls
    forecasts, inputs = after(first, second)
    assert forecasts.num_rows == first.forecasts.num_rows + second.forecasts.num_rows
    assert inputs.num_rows == 2 * first.inputs.num_rows


def test_an_earlier_start_infers_only_what_is_new(settings, counting, positions_of):
    bars = make_bars(8, 420)
    later = date.fromisoformat(iso(int(bars.ts[400])))
    first = infer(bars, settings(start=later), "cpu")
    assert positions_of(bars, first.inputs) == list(range(400, 420))
    infer(bars, settings(), "cpu", first.inputs, build=counting.build)
    assert len(counting.seen) == 400 - 249


def test_too_little_history_is_stored_as_skipped_and_costs_no_call(settings):
    bars = make_bars(9, 130)
    found = infer(bars, settings(min_history_bars=1), "cpu")
    assert found.model_calls == 0 and found.forecasts.num_rows == 0
    assert found.inputs.num_rows == 31  # the model itself asks for 100 bars
    assert set(found.inputs["status"].to_pylist()) == {"skipped"}
    assert infer(bars.slice(0, 90), settings(min_history_bars=1), "cpu").inputs.num_rows == 0


class Spoiled:
    """Gives one blown-up window, one with crossing levels, one with high below low, and good ones."""

    def __init__(self, spec, device):
        self.spec, self.model_key = spec, "spoiled"

    def plan(self, n, free_bytes):
        return n

    def run(self, request):
        b, q = len(request.as_of), len(self.spec.levels)
        values = np.zeros((b, 1, 3, q), dtype=np.float32)
        values[:] = np.linspace(-0.01, 0.01, q)
        values[:, :, 0] += 0.005
        values[:, :, 1] -= 0.005
        values[0] *= 1e5
        values[1, 0, 2, [3, 4]] = values[1, 0, 2, [4, 3]]
        values[2, :, [0, 1]] = values[2, :, [1, 0]]
        return ForecastBatch(values, np.float32(self.spec.levels), ("ok",) * b, ("",) * b)


def test_nonsense_is_repaired_or_rejected_with_counts(settings):
    bars = make_bars(10, 260)
    found = infer(bars, settings(), "cpu", build=Spoiled)
    rows = found.inputs.to_pylist()
    assert [row["status"] for row in rows[:4]] == ["rejected", "repaired", "repaired", "ok"]
    assert rows[0]["reason"] == "a median lies beyond 10 sigma"
    assert [row["n_repaired"] for row in rows[1:4]] == [2, 22, 0]
    stamps = store.stamps_of(found.forecasts)
    assert int(bars.ts[249]) not in stamps and int(bars.ts[250]) in stamps
    assert found.model_calls == 11


def test_a_cpu_that_stands_in_for_an_absent_gpu_is_stored_with_its_reason(settings, monkeypatch):
    monkeypatch.setattr(devices, "_cuda_count", lambda: 0)
    bars = make_bars(11, 255)
    with pytest.raises(DeviceUnavailable):
        infer(bars, settings(), "cuda:0")
    found = infer(bars, settings(), "cuda:0", allow_cpu_fallback=True)
    row = found.inputs.to_pylist()[0]
    assert row["device"] == "cpu"
    assert row["reason"].startswith("fhs only: ")
    assert row["reason"].endswith("; cuda:0 is absent (0 CUDA devices), CPU allowed instead")


def test_refuses_a_start_that_is_no_date(settings):
    with pytest.raises(ConfigError, match="forecasts.start was 'soon'; expected an ISO date"):
        infer(make_bars(1, 300), settings(start="soon"), "cpu")


def test_no_bars_give_no_rows(settings):
    found = infer(make_bars(1, 1).slice(0, 0), settings(), "cpu")
    assert found.inputs.num_rows == 0 and found.model_calls == 0


def test_the_bound_uses_the_windows_own_volatility():
    bars = make_bars(12, 1200)
    starts = window_starts(bars.ts, "1d", "observed", 1000)
    as_of = np.array([50, 700, 1199])
    together = ewma_volatility(bars, starts, as_of)
    for i, t in enumerate(as_of):
        alone = ewma_volatility(bars.slice(0, int(t) + 1), starts, as_of[i : i + 1])
        assert alone[0] == together[i] > 0


def test_settings_may_be_any_object_with_those_fields(settings):
    bars = make_bars(13, 252)
    loose = SimpleNamespace(horizon=1, levels=[0.1, 0.5, 0.9], min_history_bars=250, start=None, seed=0)
    assert isinstance(infer(bars, loose, "cpu").forecasts, pa.Table)
