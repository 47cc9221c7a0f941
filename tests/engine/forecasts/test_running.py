import numpy as np
import pytest
import torch

from engine.bars.synthetic import make_bars
from engine.errors import ForecastError
from engine.forecasts.devices import DeviceChoice
from engine.forecasts.infer import infer
from engine.forecasts.local import LocalForecaster, local_spec
from engine.forecasts.running import run_windows, starts_of

LEVELS = (0.1, 0.5, 0.9)
SPEC = local_spec("1d", "observed", 1, LEVELS)


class Narrow:
    """Runs out of memory above a number of windows, on a device; else the local model."""

    most, device, sizes = 3, "cpu", []

    def __init__(self, spec, device):
        self.spec, self.device_now, self.inner = spec, device, LocalForecaster(spec)

    def plan(self, n, free_bytes):
        return 16

    def run(self, request):
        n = len(request.as_of)
        type(self).sizes.append(n)
        if self.device_now == self.device and n > self.most:
            raise torch.OutOfMemoryError("no memory")
        return self.inner.run(request)


def narrow(most, device="cpu"):
    return type("Narrow", (Narrow,), {"most": most, "device": device, "sizes": []})


def answers(build, choice="cpu", fallback=False):
    bars = make_bars(1, 430)
    wanted = np.arange(400, 420)
    starts, device = starts_of(SPEC, bars.ts), DeviceChoice(choice)
    batches = list(run_windows(build, SPEC, device, bars, starts, wanted, allow_cpu_fallback=fallback))
    assert np.array_equal(np.concatenate([batch.as_of for batch in batches]), wanted)
    return batches


def quantiles(batches):
    return np.concatenate([batch.quantiles for batch in batches])


def told(batches):
    return [pair for batch in batches for pair in zip(batch.status, batch.reason, strict=True)]


def test_a_batch_that_does_not_fit_is_halved_with_the_same_answers():
    whole, small = narrow(99), narrow(3)
    usual, halved = answers(whole), answers(small)
    assert ([batch.halvings for batch in usual], whole.sizes) == ([0, 0], [16, 4])
    assert [batch.halvings for batch in halved] == [3, *[0] * 9] and small.sizes == [16, 8, 4, *[2] * 10]
    assert np.array_equal(quantiles(usual), quantiles(halved)) and told(usual) == told(halved)


def test_one_window_that_does_not_fit_is_an_error_that_says_what_to_set():
    with pytest.raises(ForecastError, match=r"^TEST: one window of 1000 bars does not fit the memory of cpu"):
        answers(narrow(0))


def test_the_cpu_stands_in_for_a_full_gpu_where_that_is_allowed(monkeypatch):
    from engine.forecasts import running

    monkeypatch.setattr(running, "free_bytes", lambda device: 2**30)
    monkeypatch.setattr(running, "_free_cache", lambda device: None)
    with pytest.raises(ForecastError, match="cuda:0"):
        answers(narrow(0, "cuda:0"), "cuda:0")
    found = answers(narrow(0, "cuda:0"), "cuda:0", fallback=True)
    assert {batch.device for batch in found} == {
        DeviceChoice("cpu", "one window does not fit cuda:0, CPU allowed instead")
    }
    assert np.array_equal(quantiles(found), quantiles(answers(narrow(99))))


def test_other_errors_of_a_model_surface():
    class Broken(Narrow):
        def run(self, request):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        answers(Broken)


def test_the_number_of_halvings_is_told():
    class Wish:
        horizon, levels, min_history_bars, start = 1, LEVELS, 420, None

    assert infer(make_bars(1, 430), Wish, "cpu", build=narrow(3)).halvings == 2
