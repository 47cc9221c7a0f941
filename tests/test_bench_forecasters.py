"""`benchmarks/kronos_gpu`: every row is measured by code that runs, here on a CPU at a tiny size."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from engine.forecasts.kronos.config import ModelConfig, TokenizerConfig

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    before = set(sys.modules)
    yield importlib.import_module("kronos_gpu")
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def tiny(gpu):
    return gpu.Case(
        device="cpu", model=ModelConfig(16, 2, 24, 4, 4, 2, True),
        tokenizer=TokenizerConfig(16, 2, 24, 4, 4, 6, 2, 2),
        windows=3, context=40, samples=2, horizon=2, batches=(1, 3), symbols=2, checked=2, repeats=1,
        compiler="eager",
    )  # fmt: skip


def test_every_row_of_a_gpu_is_measured_by_code_that_runs(gpu, tiny):
    rows = [measure(tiny) for measure, *_ in gpu.ROWS]
    assert all(row["value"] > 0 for row in rows)
    assert (rows[4]["value"], rows[5]["value"]) == (100.0, 6)
    for row, (_, _, unit, goal, better) in zip(rows[:5], gpu.ROWS[:5], strict=True):
        assert (row["unit"], row["goal"], row["better"]) == (unit, goal, better)
    assert [row["metric"] for row in rows[1:5]] == [name for _, name, *_ in gpu.ROWS[1:5]]


def test_the_roofline_is_that_of_the_design(gpu):
    assert gpu.flops(gpu.Case()) / 1e12 == pytest.approx(6.4, abs=0.2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_no_row_has_a_value(gpu):
    rows = gpu.gpu_rows()
    assert len(rows) == len(gpu.ROWS)
    assert all(row["value"] is None and row["holds"] is None for row in rows)
    assert all(row["detail"].startswith("not measured: no CUDA device") for row in rows)
