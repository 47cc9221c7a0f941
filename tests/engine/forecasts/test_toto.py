"""Toto 2 through its own package, with tiny random weights saved by it; skipped without the extra."""

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

pytest.importorskip("toto2")


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """What the package saves of a tiny random model."""
    from toto2 import Toto2Model, Toto2ModelConfig

    torch.manual_seed(0)
    config = Toto2ModelConfig(
        patch_size=8, d_model=16, num_heads=2, num_layers=2, layer_group_size=2,
        num_variate_layers_per_group=1, variate_layer_first=False, residual_attn_ratio=2.0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("toto")
    Toto2Model(config).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(saved, tmp_path):
    there = tmp_path / "weights"
    there.mkdir()
    for name, content in saved.items():
        (there / name).write_bytes(content)
    return there


def settings(**changes):
    values = {"model": "toto-2", "weights": "weights", "levels": (0.05, 0.1, 0.5, 0.9), "lookback": 45}
    return Forecasts.model_validate({**values, **changes})


def backend(folder, **changes):
    return backends.backend(settings(**changes), "1d", "observed", 0, folder.parent)


def request_of(model, bars, as_of):
    return one_request(bars, starts_of(model.spec, bars.ts), np.array(as_of), model.spec.horizon)


def test_answers_with_those_of_its_nine_levels_that_were_asked_for(folder):
    model, bars = backend(folder, horizon=11), make_bars(1, 90)
    assert model.spec.levels == (0.1, 0.5, 0.9)
    batch = model.build(model.spec, "cpu").run(request_of(model, bars, [20, 50, 89]))
    assert batch.status == ("skipped", "ok", "ok") and batch.reason[0] == "21 bars, 32 needed"
    assert batch.quantiles.shape == (3, 11, 3, 3) and batch.paths is None
    assert np.isnan(batch.quantiles[0]).all() and np.isfinite(batch.quantiles[1:]).all()
    assert (np.diff(batch.quantiles[1:], axis=-1) >= 0).all() and np.ptp(batch.quantiles[2]) > 0


def test_the_order_of_fields_and_levels_is_the_packages(folder):
    from toto2 import Toto2Model

    model, bars = backend(folder, horizon=2, lookback=48), make_bars(1, 90)  # six whole patches
    found = model.build(model.spec, "cpu").run(request_of(model, bars, [80])).quantiles[0]  # (h, V, Q)
    window = bars.slice(33, 81)
    logs = np.log(np.stack([window.high, window.low, window.close]) / window.close[-1])
    target = torch.from_numpy(logs.astype(np.float32))[None]
    inputs = {
        "target": target, "target_mask": torch.ones_like(target, dtype=torch.bool),
        "series_ids": torch.zeros(1, 3, dtype=torch.long),
    }  # fmt: skip
    expected = Toto2Model.from_pretrained(str(folder)).forecast(
        inputs, horizon=2, decode_block_size=None, has_missing_values=False
    )
    assert np.allclose(found, expected[[0, 4, 8], 0].numpy().transpose(2, 1, 0), atol=1e-6)


def test_a_window_is_answered_alike_alone_and_beside_others(folder):
    model, bars = backend(folder), make_bars(2, 120)
    toto = model.build(model.spec, "cpu")
    together = toto.run(request_of(model, bars, [40, 60, 119]))
    for i, t in enumerate([40, 60, 119]):
        alone = toto.run(request_of(model, bars.slice(0, t + 1), [t]))  # nor on later bars
        assert np.allclose(alone.quantiles[0], together.quantiles[i], atol=1e-6)


def test_windows_are_padded_on_the_left_and_say_so(folder):
    model, bars = backend(folder), make_bars(2, 120)
    toto, request = model.build(model.spec, "cpu"), request_of(backend(folder), bars, [100])
    target, observed = toto._padded(request, np.array([0]))
    assert target.shape == (1, 3, 48) and observed[0, 0].tolist() == [False] * 3 + [True] * 45
    assert target[0, 2, -1] == 0.0 and np.allclose(
        np.diff(target[0, 2, 3:]), np.diff(np.log(bars.close[56:101])), atol=1e-6
    )


def test_rows_are_stored_bounded_ordered_and_labelled(folder):
    model = backend(folder, min_history_bars=100)
    found = infer(make_bars(3, 110), settings(min_history_bars=100), "cpu", backend=model)
    assert found.model_calls == 11 and all(found.inputs["in_pretraining"].to_pylist())
    assert (model.cutoff, model.cutoff_status) == (None, "unknown")
    assert backends.CUTOFFS["Datadog/Toto-2.0-22m"] == date(2026, 5, 31)


def test_refuses_a_lookback_beside_one_patch_and_the_most(folder):
    with pytest.raises(ConfigError, match=r"lookback was 5000; expected 8 \(one patch .* to 4096 bars"):
        backend(folder, lookback=5000)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "patch_size": 64}))
    with pytest.raises(ConfigError, match="lookback was 45; expected 64"):
        backend(folder)
    assert backend(folder, lookback=None).spec.min_lookback == 64


def change(folder, **tensors):
    path = folder / "model.safetensors"
    stored = {**load_file(path), **tensors}
    save_file({k: t for k, t in stored.items() if t is not None}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "tensors",
    [
        {"patch_proj.linear1.bias": None},
        {"patch_proj.linear1.bais": torch.ones(2)},
        {"patch_proj.linear1.bias": torch.ones(3)},
    ],
    ids=["missing", "unknown", "misshaped"],
)
def test_refuses_a_tensor_by_name(folder, tensors):
    change(folder, **tensors)
    model = backend(folder)
    with pytest.raises(ForecastError, match=f"(?s)cannot be loaded as Toto 2: .*{next(iter(tensors))}"):
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
    del values["patch_size"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ForecastError, match="config.json is no config of Toto 2: expected whole numbers"):
        backend(folder)


def test_settings_of_sampled_paths_are_refused():
    with pytest.raises(ValueError, match="model toto-2 has no use for top_p, found 0.5"):
        settings(top_p=0.5)
