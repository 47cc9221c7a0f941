"""Forecasters: skill on the committed sample data, speed of Kronos. Run: make bench-forecasters

Skill: the default model walk-forward over all bars of each symbol, one step ahead, against both
baselines on the same as-of bars. Speed: Kronos of the published mini shape with random weights
(speed does not depend on their values) against `engine.forecasts.kronos.reference`, which repeats
each window for every sample and reads the whole context again at every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from record import not_measured, row, write

from engine.forecasts import store
from engine.forecasts.draws import uniforms
from engine.forecasts.infer import infer
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.kronos import reference
from engine.forecasts.kronos.config import PUBLISHED, ModelConfig, TokenizerConfig
from engine.forecasts.kronos.decode import counter_choice, sample_paths
from engine.forecasts.kronos.inputs import normalise, time_features
from engine.forecasts.kronos.model import Model
from engine.forecasts.kronos.tokenizer import Tokenizer
from engine.forecasts.quality import quality, realised
from engine.sources import sample

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
WINDOWS, CONTEXT, SAMPLES, HORIZON, REPEATS = 8, 400, 8, 7, 3
TOKENIZER = TokenizerConfig(256, 4, 512, 10, 10, 6, 4, 4)  # the published one
GPU_WINDOWS, GPU_GOAL_MS = 70, 48.0


def skill_rows() -> list[dict]:
    """Return the skill of the default model, symbol by symbol and pooled."""
    settings = SimpleNamespace(horizon=1, levels=DEFAULT_LEVELS, min_history_bars=250, start=None)
    rows, gains = [], dict[str, list[tuple[float, int]]]()
    for symbol in SYMBOLS:
        bars = sample(symbol)
        made = infer(bars, settings, "cpu")
        scores = quality(bars, made.forecasts, made.inputs, made.spec, last_bars=None).to_pylist()
        median = store.matrix(made.forecasts, made.model_key, 1, "close", 0.5, bars.ts)
        as_of = np.flatnonzero(~np.isnan(median[:-1]))
        y = realised(bars, as_of, 1)[:, 2]
        right = float((np.sign(median[as_of]) == np.sign(y))[y != 0].mean())
        for score in scores:
            persist = 100 * (1 - score["pinball"] / score["pinball_persist"])
            gains.setdefault(score["field"], []).append((score["skill_fhs"], score["n"]))
            detail = (
                f"t {score['t_fhs']:.1f}, against persistence {persist:.0f} %, 10-90 covers "
                f"{100 * score['cover_80']:.1f} %, MAE of the median {1e4 * score['mae_p50']:.1f} bps "
                f"(zero move {1e4 * score['mae_zero']:.1f}), {score['n']} bars"
            )
            if score["field"] == "close":
                detail += f", direction {100 * right:.1f} %"
            name = f"local {symbol} {score['field']}: pinball below FHS"
            rows.append(row(name, 100 * score["skill_fhs"], "%", 0.0, "higher", detail))
    for field, found in gains.items():
        mean = sum(gain * n for gain, n in found) / sum(n for _, n in found)
        name, detail = f"local all {field}: pinball below FHS", f"{sum(n for _, n in found)} bars"
        rows.append(row(name, 100 * mean, "%", 0.0, "higher", detail))
    return rows


def random_weights(shapes: dict[str, tuple[int, ...]], device: str) -> dict[str, torch.Tensor]:
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
    return {name: tensor.to(device) for name, tensor in out.items()}


def windows(count: int, samples: int) -> tuple:
    """Return made-up normalised windows, their time features, and draws."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (count, CONTEXT)), axis=1))[..., None]
    prices = close * (1 + rng.uniform(-0.01, 0.01, (count, CONTEXT, 4)))
    volume = rng.lognormal(10, 1, (count, CONTEXT, 1))
    normal = normalise(np.concatenate([prices, volume, volume * close], axis=-1))
    time = time_features(np.arange(CONTEXT + HORIZON) * 86_400_000_000 + np.zeros((count, 1), np.int64))
    draws = uniforms(0, [f"W{i}" for i in range(count)], np.zeros(count, np.int64), samples, HORIZON)
    return normal.z, time[:, :CONTEXT].copy(), time[:, CONTEXT:].copy(), draws


def median_seconds(
    work: Callable[[], object], repeats: int = REPEATS, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the median time: of the processor, so that other programs count little, or of a clock."""
    took = []
    for _ in range(repeats):
        began = clock()
        work()
        took.append(clock() - began)
    return float(np.median(took))


def speed_rows() -> list[dict]:
    """Return how much faster the shared-prefix decoding is than the plain loop, on this CPU."""
    torch.set_num_threads(1)
    config: ModelConfig = PUBLISHED["NeoQuasar/Kronos-mini"].config
    weights = random_weights(config.shapes(), "cpu"), random_weights(TOKENIZER.shapes(), "cpu")
    model, tokenizer = Model(config, weights[0]), Tokenizer(TOKENIZER, weights[1])
    rows, base = [], 0.0
    for samples, goal in ((SAMPLES, 35.0), (1, 2.5), (2 * SAMPLES, None)):
        z, time_x, time_y, draws = windows(WINDOWS, samples)

        answers: dict[str, np.ndarray] = {}

        def fast(z=z, time_x=time_x, time_y=time_y, draws=draws, samples=samples, answers=answers) -> None:
            parts = []
            for i in range(WINDOWS):  # one at a time, as the forecaster does on a CPU
                here = slice(i, i + 1)
                choose = counter_choice(draws[here], 1.0, 0, 0.9)
                parts.append(
                    sample_paths(model, tokenizer, z[here], time_x[here], time_y[here], samples, choose)
                )
            answers["fast"] = np.concatenate(parts)

        def slow(z=z, time_x=time_x, time_y=time_y, draws=draws, samples=samples, answers=answers) -> None:
            choose = counter_choice(draws, 1.0, 0, 0.9)
            pairs = (config, weights[0]), (TOKENIZER, weights[1])
            answers["slow"] = reference.sample_paths(*pairs, z, time_x, time_y, samples, choose)

        fast()
        mine = median_seconds(fast)
        shape = f"{WINDOWS} windows, {CONTEXT} bars, S {samples}, h {HORIZON}, one thread"
        if goal is None:
            name = f"kronos mini: time of S {samples} over S {SAMPLES}"
            rows.append(row(name, mine / base, "x", 1.5, "lower", f"{mine:.2f} s; {shape}"))
            continue
        base = mine if samples == SAMPLES else base
        plain = median_seconds(slow, 1 if samples > 1 else REPEATS)
        quick = float(np.median([mine, median_seconds(fast), median_seconds(fast)]))  # before and after
        gaps = np.abs(answers["fast"] - answers["slow"]).max(axis=(1, 2, 3))
        same = int((gaps < 1e-4).sum())  # where a sign lies within rounding of 0, a token may differ
        took = f"{plain:.2f} s of processor time against {quick:.2f} s"
        detail = f"{took}, {same} of {WINDOWS} windows alike; {shape}"
        name = f"kronos mini S {samples}: faster than a plain loop"
        rows.append(row(name, plain / quick, "x", goal, "higher", detail))
    return rows


def gpu_rows() -> list[dict]:
    """Return the speed of Kronos-base in bfloat16 on a GPU, where there is one."""
    metric = f"kronos base bf16, {GPU_WINDOWS} windows, S {SAMPLES}, h {HORIZON}"
    if not torch.cuda.is_available():
        return [not_measured(metric, "ms", GPU_GOAL_MS, "lower", "no CUDA device; the goal is for an H200")]
    config = PUBLISHED["NeoQuasar/Kronos-base"].config
    model = Model(config, random_weights(config.shapes(), "cuda"), torch.bfloat16)
    tokenizer = Tokenizer(TOKENIZER, random_weights(TOKENIZER.shapes(), "cuda"))
    z, time_x, time_y, draws = windows(GPU_WINDOWS, SAMPLES)

    def work() -> None:
        choose = counter_choice(draws, 1.0, 0, 0.9)
        sample_paths(model, tokenizer, z, time_x, time_y, SAMPLES, choose)
        torch.cuda.synchronize()

    work()
    took = 1e3 * median_seconds(work, 20, time.perf_counter)
    return [row(metric, took, "ms", GPU_GOAL_MS, "lower", torch.cuda.get_device_name())]


if __name__ == "__main__":
    write("forecasters", speed_rows() + gpu_rows() + skill_rows())
