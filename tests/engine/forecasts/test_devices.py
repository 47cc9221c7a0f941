import os
import subprocess
import sys

import pytest

from engine.errors import ConfigError, DeviceUnavailable
from engine.forecasts import devices
from engine.forecasts.devices import DeviceChoice, choose_device, gpu_slot


@pytest.fixture
def cuda_devices(monkeypatch):
    return lambda count: monkeypatch.setattr(devices, "_cuda_count", lambda: count)


def test_auto_takes_cuda_where_present_and_the_cpu_elsewhere(cuda_devices):
    cuda_devices(0)
    assert choose_device("auto") == DeviceChoice("cpu")
    cuda_devices(1)
    assert choose_device("auto") == DeviceChoice("cuda:0")


def test_a_named_cuda_device_is_taken_where_present(cuda_devices):
    cuda_devices(2)
    assert choose_device("cuda:1") == DeviceChoice("cuda:1")


def test_an_absent_cuda_device_is_refused(cuda_devices):
    cuda_devices(1)
    with pytest.raises(DeviceUnavailable, match="devices.device was cuda:1, but torch finds 1 CUDA devices"):
        choose_device("cuda:1")


def test_an_absent_cuda_device_may_become_the_cpu_and_says_so(cuda_devices):
    cuda_devices(0)
    choice = choose_device("cuda:0", allow_cpu_fallback=True)
    assert choice == DeviceChoice("cpu", "cuda:0 is absent (0 CUDA devices), CPU allowed instead")


@pytest.mark.parametrize("setting", ["gpu", "cuda", "cuda:", "cuda:-1", "CPU", ""])
def test_refuses_another_form(setting):
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda:N"):
        choose_device(setting)


def test_importing_the_package_loads_neither_torch_nor_scipy():
    code = (
        "import sys, engine.forecasts.infer, engine.forecasts.quality, engine.forecasts.store;"
        "from engine.forecasts.devices import choose_device; choose_device('cpu');"
        "print([name for name in ('torch', 'scipy', 'pandas', 'numba') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_gpu_slot_is_held_by_one_and_a_cpu_by_none(tmp_path):
    def hold(device, wait_s=0.0):
        return gpu_slot(device, tmp_path, 1, wait_s, said.append)

    said = []
    with hold("cpu"), hold("cpu"):
        assert not (tmp_path / "locks").exists()
    with hold("cuda:1"), hold("cuda:0"):
        assert {path.name for path in (tmp_path / "locks").iterdir()} == {"gpu0-0.lock", "gpu1-0.lock"}
        expected = rf"none of 1 gpu1- slots came free within 0.1 s; they are held by pid {os.getpid()}\."
        with pytest.raises(DeviceUnavailable, match=expected), hold("cuda:1", 0.1):
            pass
        assert said == [f"waiting for one of 1 gpu1- slots, held by pid {os.getpid()}"]
    with hold("cuda:1"):  # free again
        pass
