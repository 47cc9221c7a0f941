"""Kronos on a GPU: bfloat16 against the roofline, batch sizes, compiled, against the plain loop, memory.

Every row is a function of a `Case`, so that a test runs them all on a CPU at a tiny size; the
benchmark runs them where there is CUDA and writes "not measured" elsewhere.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from kronos_cases import DAY_US, TOKENIZER, bars, on, random_weights, seconds, windows, write_folder
from record import not_measured, row

from engine.forecasts.devices import free_bytes
from engine.forecasts.interface import ForecastRequest
from engine.forecasts.kronos import reference
from engine.forecasts.kronos.config import PUBLISHED, ModelConfig, TokenizerConfig
from engine.forecasts.kronos.decode import Choose, counter_choice, sample_paths
from engine.forecasts.kronos.forecaster import KronosForecaster, Sampling, kronos_spec
from engine.forecasts.kronos.model import Model
from engine.forecasts.kronos.tokenizer import Tokenizer

PEAK_FLOPS = 0.4 * 989e12  # 40 % of an H200's in bfloat16


@dataclass(frozen=True)
class Case:
    """What is measured where; the defaults are the goal's."""

    device: str = "cuda"
    model: ModelConfig = PUBLISHED["NeoQuasar/Kronos-base"].config
    tokenizer: TokenizerConfig = TOKENIZER
    windows: int = 70
    context: int = 400
    samples: int = 8
    horizon: int = 7
    batches: tuple[int, ...] = (1, 8, 70, 280)
    symbols: int = 100  # of the last row, each with all windows
    checked: int = 4  # windows whose tokens are compared with the CPU's
    repeats: int = 20
    compiler: str = "inductor"

    @property
    def label(self) -> str:
        return f"{self.windows} windows, S {self.samples}, h {self.horizon}"


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _pair(case: Case, dtype: torch.dtype, device: str | None = None) -> tuple[Model, Tokenizer]:
    where = device or case.device
    model = Model(case.model, on(where, random_weights(case.model.shapes())), dtype)
    return model, Tokenizer(case.tokenizer, on(where, random_weights(case.tokenizer.shapes())))


def _milliseconds(case: Case, pair: tuple[Model, Tokenizer], count: int) -> float:
    """Return the median time of ``count`` windows in one batch, after a warm-up."""
    these = windows(count, case.samples, case.context, case.horizon)

    def work() -> None:
        choose = counter_choice(these.draws, 1.0, 0, 0.9)
        sample_paths(*pair, these.z, these.time_x, these.time_y, case.samples, choose)
        _finish(case.device)

    work()
    return 1e3 * float(np.median(seconds(work, case.repeats, time.perf_counter)))


def flops(case: Case) -> float:
    """Return the operations of one batch: reading, and the steps of every sample."""
    c = case.model
    layers = c.n_layers * (4 * c.d_model**2 + 3 * c.d_model * c.ff_dim)
    reading = 2 * case.context * (layers + 2 * c.d_model**2) + 2 * c.n_layers * case.context**2 * c.d_model
    steps = case.samples * (case.horizon - 1) * 2 * layers
    seen = case.samples * (case.horizon - 1) * 4 * c.n_layers * case.context * c.d_model
    return float(case.windows * (reading + steps + seen))


def bf16_row(case: Case) -> dict:
    took, bound = _milliseconds(case, _pair(case, torch.bfloat16), case.windows), flops(case) / PEAK_FLOPS
    detail = f"{took / (1e3 * bound):.1f} times the roofline of {1e3 * bound:.1f} ms; aim 32 ms"
    return row(f"kronos base bf16, {case.label}", took, "ms", 48.0, "lower", detail)


def batch_row(case: Case) -> dict:
    pair = _pair(case, torch.bfloat16)
    found = {count: _milliseconds(case, pair, count) / count for count in case.batches}
    detail = ", ".join(f"{count}: {took:.3f} ms" for count, took in found.items())
    best = min(found.values())
    return row("kronos base bf16: best time of a window over batch sizes", best, "ms", None, "lower", detail)


def compiled_row(case: Case) -> dict:
    usual = _milliseconds(case, _pair(case, torch.bfloat16), case.windows)
    model, tokenizer = _pair(case, torch.bfloat16)
    for block in model.blocks:
        block.history = torch.compile(block.history, backend=case.compiler)  # type: ignore[method-assign]
    took = _milliseconds(case, (model, tokenizer), case.windows)
    detail = f"{took:.1f} ms against {usual:.1f} ms"
    return row("kronos base bf16: gain of compiled blocks", usual / took, "x", None, "higher", detail)


def plain_row(case: Case) -> dict:
    """Compare with the plain loop in float32 on the same device."""
    took = _milliseconds(case, _pair(case, torch.bfloat16), case.windows)
    these = windows(case.windows, case.samples, case.context, case.horizon)
    pairs = [
        (config, on(case.device, random_weights(config.shapes()))) for config in (case.model, case.tokenizer)
    ]

    def work() -> None:
        choose = counter_choice(these.draws, 1.0, 0, 0.9)
        reference.sample_paths(*pairs, these.z, these.time_x, these.time_y, case.samples, choose)
        _finish(case.device)

    plain = 1e3 * seconds(work, 1, time.perf_counter)[0]
    detail = f"{plain:.0f} ms against {took:.1f} ms, {case.label}"
    return row(
        "kronos base bf16: faster than a plain loop in fp32", plain / took, "x", 100.0, "higher", detail
    )


def _recording(choose: Choose) -> tuple[Choose, list[np.ndarray]]:
    kept: list[np.ndarray] = []

    def choice(logits: torch.Tensor, step: int, which: int) -> torch.Tensor:
        tokens = choose(logits, step, which)
        kept.append(tokens.cpu().numpy())
        return tokens

    return choice, kept


def tokens_row(case: Case) -> dict:
    """Compare the tokens drawn in float32 with those of the CPU."""
    these, drawn = windows(case.checked, case.samples, case.context, case.horizon), []
    for device in (case.device, "cpu"):
        choose, kept = _recording(counter_choice(these.draws, 1.0, 0, 0.9))
        pair = _pair(case, torch.float32, device)
        sample_paths(*pair, these.z, these.time_x, these.time_y, case.samples, choose)
        drawn.append(np.stack(kept))
    equal = 100 * float((drawn[0] == drawn[1]).mean())
    name, detail = "kronos base fp32: tokens equal to the CPU's", f"{drawn[0].size} draws"
    return row(name, equal, "%", 99.9, "higher", detail)


def request_of(case: Case) -> ForecastRequest:
    """Return the windows of many symbols in one request."""
    count = case.symbols * case.windows
    values = np.tile(bars(case.windows, case.context), (case.symbols, 1, 1))
    stamps = np.tile(np.arange(case.context) * DAY_US, (count, 1))
    future = np.tile(np.arange(case.context, case.context + case.horizon) * DAY_US, (count, 1))
    names = tuple(f"S{i // case.windows}" for i in range(count))
    columns = ("open", "high", "low", "close", "volume", "amount")
    mask = np.ones(values.shape[:2], dtype=bool)
    return ForecastRequest(values, columns, mask, stamps, names, stamps[:, -1].copy(), future)


def memory_row(case: Case) -> dict:
    """Run many symbols in batches that the plan says fit; an out-of-memory error would surface."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_folder(Path(temporary) / "kronos", case.model, case.tokenizer)
        spec = kronos_spec(
            folder, model_id="", revision="", fetch="", frame="1d", calendar="24/7", horizon=case.horizon,
            levels=(0.1, 0.5, 0.9), lookback=case.context, seed=0,
            dtype="bf16" if case.device.startswith("cuda") else "fp32",
            sampling=Sampling(case.samples, 1.0, 0, 0.9, "unit"),
        )  # fmt: skip
        model = KronosForecaster(spec, case.device, folder)
    request, began, answered = request_of(case), time.perf_counter(), 0
    count = len(request.as_of)
    size = model.plan(count, free_bytes(case.device))
    for first in range(0, count, size):
        rows = slice(first, first + size)
        arrays = {
            name: getattr(request, name)[rows]
            for name in ("bars", "mask", "stamps", "symbols", "as_of", "future_stamps")
        }
        batch = model.run(replace(request, **arrays))
        answered += sum(word in ("ok", "repaired") for word in batch.status)
    _finish(case.device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if case.device.startswith("cuda") else float("nan")
    detail = f"{time.perf_counter() - began:.1f} s, batches of {size}, peak {peak:.1f} GiB"
    name = f"kronos base: {case.symbols} symbols x {case.windows} windows answered"
    return row(name, answered, "windows", count, "higher", detail)


ROWS: tuple[tuple[Callable[[Case], dict], str, str, float | None, str], ...] = (
    (bf16_row, f"kronos base bf16, {Case().label}", "ms", 48.0, "lower"),
    (batch_row, "kronos base bf16: best time of a window over batch sizes", "ms", None, "lower"),
    (compiled_row, "kronos base bf16: gain of compiled blocks", "x", None, "higher"),
    (plain_row, "kronos base bf16: faster than a plain loop in fp32", "x", 100.0, "higher"),
    (tokens_row, "kronos base fp32: tokens equal to the CPU's", "%", 99.9, "higher"),
    (memory_row, "kronos base: 100 symbols x 70 windows answered", "windows", 7000, "higher"),
)


def gpu_rows() -> list[dict]:
    """Return the rows of the goal's case on the first GPU; "not measured" without one."""
    if not torch.cuda.is_available():
        why = "no CUDA device; the goals are for an H200"
        return [not_measured(name, unit, goal, better, why) for _, name, unit, goal, better in ROWS]
    return [measure(Case()) for measure, *_ in ROWS]
