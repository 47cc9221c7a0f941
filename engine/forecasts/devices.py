"""Which device computes, and who holds it: `choose_device`, `gpu_slot`. The choice can be recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ConfigError, DeviceUnavailable
from engine.lake.leases import slot

CPU_BYTES = 512 * 2**20  # what the requests of one process may count on


@dataclass(frozen=True)
class DeviceChoice:
    """A chosen device.

    Parameters
    ----------
    name : str
        ``cpu`` or ``cuda:N``, as torch writes it.
    reason : str
        Why it is not the one asked for; empty where it is.
    """

    name: str
    reason: str = ""


def _cuda_count() -> int:
    import torch

    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def choose_device(setting: str, *, allow_cpu_fallback: bool = False) -> DeviceChoice:
    """Turn the setting ``devices.device`` into a device that exists.

    Parameters
    ----------
    setting : str
        ``auto`` (CUDA where present, else CPU), ``cpu`` or ``cuda:N``.
    allow_cpu_fallback : bool
        Take the CPU where the CUDA device asked for is absent; the reason says so.

    Returns
    -------
    DeviceChoice
        Torch is imported only where the setting is not ``cpu``.

    Raises
    ------
    ConfigError
        The setting has another form.
    DeviceUnavailable
        That CUDA device is absent and the CPU is not allowed instead.

    >>> choose_device("cpu")
    DeviceChoice(name='cpu', reason='')
    """
    if setting == "cpu":
        return DeviceChoice("cpu")
    if setting == "auto":
        return DeviceChoice("cuda:0" if _cuda_count() else "cpu")
    match = re.fullmatch(r"cuda:(\d+)", setting)
    if match is None:
        raise ConfigError(f"devices.device was {setting!r}; expected auto, cpu or cuda:N")
    present = _cuda_count()
    if int(match[1]) < present:
        return DeviceChoice(f"cuda:{int(match[1])}")
    if allow_cpu_fallback:
        return DeviceChoice("cpu", f"{setting} is absent ({present} CUDA devices), CPU allowed instead")
    raise DeviceUnavailable(
        f"devices.device was {setting}, but torch finds {present} CUDA devices. "
        "Set devices.device: cpu or auto, or devices.allow_cpu_fallback: true"
    )


def free_bytes(device: str) -> int:
    """Return the memory that requests may count on: the GPU's free memory, or 512 MiB on a CPU."""
    if device == "cpu":
        return CPU_BYTES
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


@contextmanager
def gpu_slot(
    device: str, data_dir: Path, slots: int, wait_s: float, progress: Callable[[str], None]
) -> Iterator[None]:
    """Hold one slot of a GPU; on a CPU hold nothing.

    The slots are the files ``locks/gpu<N>-<slot>.lock`` of the data folder; the kernel frees them
    when a process dies.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda:N``.
    data_dir : Path
        Data folder.
    slots : int
        The setting ``devices.slots_per_gpu``.
    wait_s : float
        The setting ``devices.gpu_wait_s``.
    progress : callable
        Told once a minute who holds the slots.

    Raises
    ------
    DeviceUnavailable
        None came free in time; names the holders.
    """
    if device == "cpu":
        yield
        return
    with slot(data_dir, f"gpu{device.partition(':')[2]}-", slots, progress, wait_s=wait_s):
        yield
