"""What the benchmarks of Kronos share: random weights of any shape, made-up windows, a clock.

Speed does not depend on the values of weights, so none are fetched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from engine.bars.model import Floats, Ints
from engine.forecasts.draws import uniforms
from engine.forecasts.interface import Floats32
from engine.forecasts.kronos.config import ModelConfig, TokenizerConfig
from engine.forecasts.kronos.inputs import normalise, time_features
from engine.forecasts.kronos.layers import Weights

TOKENIZER = TokenizerConfig(256, 4, 512, 10, 10, 6, 4, 4)  # the published one
DAY_US = 86_400_000_000
Clock = Callable[[], float]


@dataclass(frozen=True)
class Windows:
    """Normalised windows (B, T, C), their time features, and draws (B, S, h, 2)."""

    z: Floats32
    time_x: Ints
    time_y: Ints
    draws: Floats

    def __getitem__(self, rows: slice) -> Windows:
        return Windows(self.z[rows], self.time_x[rows], self.time_y[rows], self.draws[rows])


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return random tensors that keep activations of ordinary size."""
    draw = torch.Generator().manual_seed(0)
    out = {}
    for name, shape in shapes.items():
        if name.endswith("inv_freq"):
            out[name] = 10000.0 ** (-torch.arange(shape[0], dtype=torch.float32) / shape[0])
        elif "norm" in name:
            out[name] = torch.ones(shape)
        else:
            out[name] = torch.randn(shape, generator=draw) / shape[-1] ** 0.5
    return out


def on(device: str, weights: Weights) -> dict[str, torch.Tensor]:
    """Return weights on a device."""
    return {name: tensor.to(device) for name, tensor in weights.items()}


def write_folder(folder: Path, model: ModelConfig, tokenizer: TokenizerConfig) -> Path:
    """Write a Kronos folder with random weights."""
    for part, config in (("model", model), ("tokenizer", tokenizer)):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(asdict(config)))
        save_file(random_weights(config.shapes()), folder / part / "model.safetensors")
    return folder


def bars(count: int, length: int) -> Floats:
    """Return made-up open, high, low, close, volume, amount, shape (count, length, 6)."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (count, length)), axis=1))[..., None]
    prices = close * (1 + rng.uniform(-0.01, 0.01, (count, length, 4)))
    volume = rng.lognormal(10, 1, (count, length, 1))
    return np.concatenate([prices, volume, volume * close], axis=-1)


def windows(count: int, samples: int, context: int, horizon: int) -> Windows:
    """Return made-up windows."""
    time_of = time_features(np.arange(context + horizon) * DAY_US + np.zeros((count, 1), np.int64))
    names, as_of = [f"W{i}" for i in range(count)], np.zeros(count, np.int64)
    draws = uniforms(0, names, as_of, samples, horizon)
    z = normalise(bars(count, context)).z
    return Windows(z, time_of[:, :context].copy(), time_of[:, context:].copy(), draws)


def seconds(work: Callable[[], object], repeats: int, clock: Clock = time.process_time) -> list[float]:
    """Return the time of each repeat: of the processor, so that others count little, or of a clock."""
    took = []
    for _ in range(repeats):
        began = clock()
        work()
        took.append(clock() - began)
    return took
