"""Chronos-2 through its own package, with tiny random weights saved by it; skipped without the extra."""

import json
from datetime import date

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.bars.synthetic import make_bars
from engine.config_sections import Forecasts
from engine.errors import ConfigError, ForecastError, WeightsNotFound
from engine.forecasts import backends
from engine.forecasts.infer import infer
from engine.forecasts.running import one_request, starts_of

pytest.importorskip("chronos")


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """What the package saves of a tiny random model."""
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    sizes = {
        "context_length": 64, "input_patch_size": 4, "output_patch_size": 4, "input_patch_stride": 4,
        "quantiles": [0.1, 0.25, 0.5, 0.75, 0.9], "use_reg_token": True, "use_arcsinh": True,
        "max_output_patches": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Chronos2CoreConfig(
        d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, chronos_config=sizes,
        chronos_pipeline_class="Chronos2Pipeline", architectures=["Chronos2Model"],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("chronos")
    Chronos2Model(config).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(saved, tmp_path):
    there = tmp_path / "weights"
    there.mkdir()
    for name, content in saved.items():
        (there / name).write_bytes(content)
    return there


def settings(**changes):
    values = {"model": "chronos-2", "weights": "weights", "levels": (0.05, 0.1, 0.5, 0.9), "lookback": 48}
    return Forecasts.model_validate({**values, **changes})


def backend(folder, **changes):
    return backends.backend(settings(**changes), "1d", "observed", 0, folder.parent)


def request_of(model, bars, as_of):
    return one_request(bars, starts_of(model.spec, bars.ts), np.array(as_of), model.spec.horizon)


def test_answers_with_the_quantiles_it_was_trained_on(folder):
    model, bars = backend(folder, horizon=3), make_bars(1, 90)
    assert model.spec.levels == (0.1, 0.5, 0.9)
    batch = model.build(model.spec, "cpu").run(request_of(model, bars, [20, 50, 89]))
    assert batch.status == ("skipped", "ok", "ok") and batch.reason[0] == "21 bars, 32 needed"
    assert batch.quantiles.shape == (3, 3, 3, 3) and batch.paths is None
    assert np.isnan(batch.quantiles[0]).all() and np.isfinite(batch.quantiles[1:]).all()
    assert np.ptp(batch.quantiles[2], axis=-1).min() > 0


def test_the_order_of_fields_and_levels_is_the_packages(folder):
    from chronos import BaseChronosPipeline

    model, bars = backend(folder, horizon=2), make_bars(1, 90)
    found = model.build(model.spec, "cpu").run(request_of(model, bars, [80])).quantiles[0]  # (h, V, Q)
    window = bars.slice(33, 81)
    logs = np.log(np.stack([window.high, window.low, window.close]) / window.close[-1])
    pipeline = BaseChronosPipeline.from_pretrained(str(folder), device_map="cpu")
    (expected,), _ = pipeline.predict_quantiles(
        [torch.from_numpy(logs.astype(np.float32))], prediction_length=2, quantile_levels=[0.1, 0.5, 0.9],
        unrolled_quantiles=[0.5],
    )  # fmt: skip
    # (V, h, Q)
    assert np.allclose(found, expected.numpy().transpose(1, 0, 2), atol=1e-6)


def test_a_window_is_answered_alike_alone_and_beside_others(folder):
    model, bars = backend(folder), make_bars(2, 120)
    chronos = model.build(model.spec, "cpu")
    together = chronos.run(request_of(model, bars, [40, 60, 119]))
    for i, t in enumerate([40, 60, 119]):
        alone = chronos.run(request_of(model, bars.slice(0, t + 1), [t]))  # nor on later bars
        assert np.allclose(alone.quantiles[0], together.quantiles[i], atol=1e-6)


def test_rows_are_stored_bounded_ordered_and_labelled(folder):
    model = backend(folder, min_history_bars=100)
    found = infer(make_bars(3, 110), settings(min_history_bars=100), "cpu", backend=model)
    assert found.model_calls == 11 and all(found.inputs["in_pretraining"].to_pylist())
    assert (model.cutoff, model.cutoff_status) == (None, "unknown")
    assert backends.CUTOFFS["amazon/chronos-2"] == date(2025, 10, 31)


def test_refuses_more_than_one_pass_or_context(folder):
    with pytest.raises(ConfigError, match=r"lookback was 65 and horizon 1; expected at most 64 and 8 bars"):
        backend(folder, lookback=65)
    with pytest.raises(ConfigError, match="horizon 9; expected at most 64 and 8 bars"):
        backend(folder, horizon=9)
    assert backend(folder, lookback=None).spec.lookback == 64


def change(folder, **tensors):
    path = folder / "model.safetensors"
    stored = {**load_file(path), **tensors}
    save_file({k: t for k, t in stored.items() if t is not None}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"shared.weight": None}, "tensor shared.weight is missing"),
        ({"shared.wieght": torch.ones(2)}, "tensor shared.wieght is not known"),
        ({"shared.weight": torch.ones(3, 16)}, "shared.weight|cannot be loaded as Chronos-2"),
    ],
)
def test_refuses_a_tensor(folder, tensors, message):
    change(folder, **tensors)
    model = backend(folder)
    with pytest.raises(ForecastError, match=message):
        model.build(model.spec, "cpu")


def test_refuses_a_damaged_or_absent_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    model = backend(folder)
    with pytest.raises(ForecastError, match="model.safetensors is damaged"):
        model.build(model.spec, "cpu")
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(WeightsNotFound, match="pytorch_model.bin, a pickled checkpoint, which is refused"):
        backend(folder)


def test_refuses_a_config_of_something_else(folder):
    values = json.loads((folder / "config.json").read_text())
    del values["chronos_config"]["quantiles"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ForecastError, match="config.json is no config of Chronos-2: expected chronos"):
        backend(folder)


def test_settings_of_sampled_paths_are_refused():
    with pytest.raises(ValueError, match="model chronos-2 has no use for top_p, found 0.5"):
        settings(top_p=0.5)
