from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.config_sections import Forecasts
from engine.errors import ConfigError, ForecastError, WeightsNotFound
from engine.forecasts import backends
from engine.forecasts.infer import infer
from engine.forecasts.interface import ForecastRequest
from engine.forecasts.keys import model_key
from engine.forecasts.kronos.forecaster import KronosForecaster
from engine.forecasts.running import one_request, starts_of

LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture
def backend(kronos_folder):
    def of(frame="1d", calendar="observed", seed=0, **changes):
        values = {"model": "kronos", "weights": "weights", "levels": LEVELS, "samples": 8, "lookback": 40}
        settings = Forecasts.model_validate({**values, **changes})
        return backends.backend(settings, frame, calendar, seed, kronos_folder.parent)

    return of


@pytest.fixture
def settings_of():
    return lambda **changes: Forecasts.model_validate(
        {"model": "kronos", "weights": "weights", "levels": LEVELS, "samples": 8, "lookback": 40, **changes}
    )


def request_of(model, bars, as_of):
    return one_request(bars, starts_of(model.spec, bars.ts), np.array(as_of), model.spec.horizon)


@pytest.mark.parametrize(("frame", "calendar"), [("1d", "observed"), ("1h", "observed"), ("4h", "24/7")])
def test_answers_with_paths_and_their_quantiles(backend, frame, calendar):
    model = backend(frame, calendar, horizon=3)
    bars = make_bars(1, 90, frame, calendar=calendar)
    batch = model.build(model.spec, "cpu").run(request_of(model, bars, [20, 50, 70, 89]))
    assert batch.status[0] == "skipped" and batch.reason[0] == "21 bars, 32 needed"
    assert set(batch.status[1:]) <= {"ok", "repaired"}
    assert batch.paths.shape == (4, 8, 3, 3) and batch.quantiles.shape == (4, 3, 3, 3)
    assert np.isnan(batch.paths[0]).all() and np.isfinite(batch.quantiles[1:]).all()
    high, low, close = np.moveaxis(batch.paths[1:], -1, 0)
    assert (low <= close).all() and (close <= high).all() and (low < high).any()
    middle = np.sort(batch.paths[3, :, 2, 0])[3:5].mean()
    assert batch.quantiles[3, 2, 0, 1] == pytest.approx(middle, abs=1e-7)


def test_a_window_is_answered_alike_alone_permuted_and_beside_shorter_ones(backend):
    model, bars = backend(horizon=2), make_bars(2, 120)
    kronos = model.build(model.spec, "cpu")
    as_of = [35, 60, 80, 119, 90]
    together = kronos.run(request_of(model, bars, as_of))
    for i, t in enumerate(as_of):
        alone = kronos.run(request_of(model, bars, [t]))
        assert np.array_equal(alone.paths[0], together.paths[i]) and alone.reason[0] == together.reason[i]


def test_one_request_takes_windows_of_many_symbols_and_lengths(backend):
    model = backend(horizon=2)
    kronos = model.build(model.spec, "cpu")
    alone = [
        request_of(model, replace(make_bars(seed, 120), symbol=f"S{seed}"), as_of)
        for seed, as_of in ((2, [35, 119]), (3, [33]), (4, [90, 50, 119]))
    ]
    longest = max(one.bars.shape[1] for one in alone)

    def joined(name):
        parts = []
        for part in (getattr(one, name) for one in alone):
            padded = np.zeros((len(part), longest, *part.shape[2:]), dtype=part.dtype)
            padded[:, longest - part.shape[1] :] = part
            parts.append(padded)
        return np.concatenate(parts)

    arrays = {name: joined(name) for name in ("bars", "mask", "stamps")}
    arrays |= {
        name: np.concatenate([getattr(one, name) for one in alone]) for name in ("as_of", "future_stamps")
    }
    symbols = tuple(name for one in alone for name in one.symbols)
    together = kronos.run(ForecastRequest(columns=alone[0].columns, symbols=symbols, **arrays))
    apart = [kronos.run(one) for one in alone]
    assert np.array_equal(together.paths, np.concatenate([batch.paths for batch in apart]))
    assert together.reason == sum((batch.reason for batch in apart), ())


def test_bars_after_the_as_of_bar_change_nothing(backend):
    model, bars = backend(horizon=2), make_bars(3, 120)
    kronos = model.build(model.spec, "cpu")
    full = kronos.run(request_of(model, bars, [70]))
    cut = kronos.run(request_of(model, bars.slice(0, 71), [70]))
    assert np.array_equal(full.paths, cut.paths)


def test_twice_the_samples_begin_with_the_same(backend):
    bars = make_bars(4, 80)
    few, many = (backend(samples=n) for n in (8, 16))
    paths = [m.build(m.spec, "cpu").run(request_of(m, bars, [79])).paths for m in (few, many)]
    assert np.array_equal(paths[0], paths[1][:, :8])
    assert few.spec != many.spec


def test_unit_scale_makes_forecasts_the_same_after_a_split(backend):
    bars = make_bars(5, 80)
    for scale, alike in (("unit", True), ("none", False)):
        model = backend(price_scale=scale, horizon=2, temperature=0.5)
        kronos = model.build(model.spec, "cpu")
        request = request_of(model, bars, [60, 79])
        tiny = replace(request, bars=request.bars * np.array([2**-20] * 4 + [2.0**20]))
        paths = [kronos.run(one).paths for one in (request, tiny)]
        assert np.array_equal(*paths) == alike


def test_no_volume_and_no_amount_is_as_zeros(backend):
    model, bars = backend(), make_bars(6, 60)
    kronos, request = model.build(model.spec, "cpu"), request_of(model, bars, [59])
    without = ForecastRequest(
        request.bars[..., :4].copy(), request.columns[:4], request.mask, request.stamps, request.symbols,
        request.as_of, request.future_stamps,
    )  # fmt: skip
    zeros = np.concatenate([request.bars[..., :4], np.zeros((1, request.bars.shape[1], 2))], axis=-1)
    stated = replace(without, bars=zeros, columns=(*request.columns[:4], "volume", "amount"))
    assert np.array_equal(kronos.run(without).paths, kronos.run(stated).paths)


def test_everything_that_decides_a_number_is_in_the_key(backend, kronos_folder):
    changes = [
        {}, {"horizon": 2}, {"lookback": 41}, {"samples": 9}, {"temperature": 0.9}, {"top_k": 3},
        {"top_p": 0.8}, {"price_scale": "none"}, {"dtype": "bf16"}, {"levels": (0.5,)}, {"seed": 1},
        {"frame": "1h"}, {"calendar": "24/7"},
    ]  # fmt: skip
    keys = [model_key(backend(**change).spec) for change in changes]
    (kronos_folder / "model" / "config.json").open("a").write("\n")
    keys.append(model_key(backend().spec))
    assert len(set(keys)) == len(keys)


def test_a_lookback_is_cut_to_what_the_horizon_leaves_of_the_context(backend):
    assert backend(lookback=512, horizon=5).spec.lookback == 507
    assert backend(lookback=507, horizon=5).spec.lookback == 507
    assert backend(lookback=None).spec.lookback == 400
    with pytest.raises(ConfigError, match=r"lookback was 513 and horizon 1; expected .* at most 512"):
        backend(lookback=513)


def test_levels_that_the_samples_cannot_tell_are_not_served(backend):
    assert backend(levels=(0.05, 0.1, 0.5, 0.9, 0.95)).spec.levels == LEVELS


def test_bf16_is_refused_on_a_cpu(backend):
    model = backend(dtype="bf16")
    with pytest.raises(ConfigError, match="forecasts.dtype bf16 needs a CUDA device"):
        model.build(model.spec, "cpu")


def test_memory_bounds_the_windows_of_a_request(backend):
    model = backend()
    kronos = model.build(model.spec, "cpu")
    assert kronos.plan(1000, 20 * kronos.window_bytes()) == 10
    assert kronos.plan(3, 10**12) == 3 and kronos.plan(3, 0) == 1


def test_the_cutoff_is_the_settings_or_the_published_one_or_unknown(backend, kronos_folder):
    assert (backend().cutoff, backend().cutoff_status) == (None, "unknown")
    stated = backend(knowledge_cutoff="2020-06-30")
    assert (stated.cutoff, stated.cutoff_status) == (date(2020, 6, 30), "stated")
    revision = "a" * 40
    there = kronos_folder.parent / "data/models/NeoQuasar/Kronos-small" / revision
    there.parent.mkdir(parents=True)
    kronos_folder.rename(there)
    hub = backend(weights="NeoQuasar/Kronos-small", revision=revision)
    assert (hub.cutoff, hub.spec.model_id, hub.spec.revision) == (
        date(2024, 5, 31), "NeoQuasar/Kronos-small", revision,
    )  # fmt: skip
    days = np.array(["2024-05-31", "2024-06-01"], dtype="datetime64[us]").astype(np.int64)
    assert backends.in_pretraining(hub, days).tolist() == [True, False]
    assert backends.in_pretraining(backends.local("1d", "observed", 1, LEVELS), days).tolist() == [False] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "nowhere"}, "nowhere/model/config.json was not found; .* Correct forecasts.weights"),
        (
            {"weights": "NeoQuasar/Kronos-mini"},
            "If NeoQuasar/Kronos-mini is a hub id, name its commit too: forecasts.revision",
        ),
        (
            {"weights": "NeoQuasar/Kronos-mini", "revision": "b" * 40},
            f"Fetch it: nightfold models fetch NeoQuasar/Kronos-mini --revision {'b' * 40}",
        ),
    ],
)
def test_absent_weights_say_what_brings_them(backend, changes, message):
    with pytest.raises(WeightsNotFound, match=message):
        backend(**changes)


def test_only_missing_bars_are_inferred_and_rows_are_labelled(backend, settings_of, split):
    model, settings = backend(knowledge_cutoff="2000-12-31"), settings_of(min_history_bars=100)
    bars = make_bars(7, 130)
    built = []

    def build(spec, device):
        built.append(device)
        return model.build(spec, device)

    first = infer(bars.slice(0, 129), settings, "cpu", backend=model, build=build)
    assert first.model_calls == 30 and built == ["cpu"]
    inputs = first.inputs
    again = infer(split(bars.slice(0, 129), 2.0), settings, "cpu", inputs, backend=model, build=build)
    assert again.model_calls == 0 and built == ["cpu"]
    night = infer(bars, settings, "cpu", inputs, backend=model, build=build)
    assert night.model_calls == 1 and built == ["cpu", "cpu"]
    fresh = infer(bars, settings, "cpu", backend=model)
    newest = fresh.forecasts.slice(fresh.forecasts.num_rows - night.forecasts.num_rows)
    assert newest.equals(night.forecasts)
    after = [row["as_of"].date() > date(2000, 12, 31) for row in fresh.inputs.to_pylist()]
    assert [not label for label in after] == fresh.inputs["in_pretraining"].to_pylist()


def test_damaged_weights_are_refused_when_they_are_read(backend, kronos_folder):
    path = kronos_folder / "tokenizer" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    model = backend()
    with pytest.raises(ForecastError, match="tokenizer/model.safetensors is damaged"):
        KronosForecaster(model.spec, "cpu", kronos_folder)
