"""Which device computes: `choose_device`. The choice is returned, so that it can be recorded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import ConfigError, DeviceUnavailable


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
