"""Windows cut out of a symbol's bars, and a model run over them: `requests`, `run_windows`.

A batch that runs out of the device's memory is halved and run again, down to one window; samples,
lookback and horizon are never reduced, and no answer depends on its batch.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from engine.bars.model import Bars, Ints
from engine.errors import ForecastError
from engine.forecasts.calendar import future_stamps
from engine.forecasts.cuts import trailing_starts, window_starts
from engine.forecasts.devices import DeviceChoice, free_bytes
from engine.forecasts.interface import Floats32, Forecaster, ForecasterSpec, ForecastRequest

REQUEST_COLUMNS = ("open", "high", "low", "close", "volume")
Build = Callable[[ForecasterSpec, str], Forecaster]


def starts_of(spec: ForecasterSpec, ts: Ints) -> Ints:
    """Return the first bar each as-of bar's window reads, shape (T,).

    A model that is refitted reads ``lookback`` bars before its cut, any other the ``lookback`` bars
    up to the as-of bar.
    """
    if spec.refit_rule:
        return window_starts(ts, spec.frame, spec.calendar, spec.lookback)
    return trailing_starts(len(ts), spec.lookback)


def one_request(bars: Bars, starts: Ints, as_of: Ints, horizon: int) -> ForecastRequest:
    """Cut windows out of one symbol's bars.

    Parameters
    ----------
    bars : Bars
        T bars.
    starts : int64 array, shape (T,)
        First bar of the window that ends at each bar.
    as_of : int64 array, shape (n,), n >= 1
        Positions of the as-of bars wanted.
    horizon : int
        Bars to come, of which the stamps are given; never later bars themselves.
    """
    lengths = as_of - starts[as_of] + 1
    longest = int(lengths.max())
    columns = np.stack([getattr(bars, name) for name in REQUEST_COLUMNS], axis=1)  # (T, C)
    values = np.full((len(as_of), longest, len(REQUEST_COLUMNS)), np.nan)
    stamps = np.zeros((len(as_of), longest), dtype=np.int64)
    ahead = np.zeros((len(as_of), horizon), dtype=np.int64)
    for row, (t, length) in enumerate(zip(as_of.tolist(), lengths.tolist(), strict=True)):
        values[row, longest - length :] = columns[t + 1 - length : t + 1]
        stamps[row, longest - length :] = bars.ts[t + 1 - length : t + 1]
        ahead[row] = future_stamps(stamps[row, longest - length :], bars.frame, bars.calendar, horizon)
    mask = np.arange(longest)[None, :] >= (longest - lengths)[:, None]
    symbols = (bars.symbol,) * len(as_of)
    return ForecastRequest(values, REQUEST_COLUMNS, mask, stamps, symbols, bars.ts[as_of], ahead)


def requests(
    bars: Bars, starts: Ints, as_of: Ints, per_request: int, horizon: int
) -> Iterator[ForecastRequest]:
    """Yield the windows of `one_request`, ``per_request`` at a time."""
    for first in range(0, len(as_of), per_request):
        yield one_request(bars, starts, as_of[first : first + per_request], horizon)


@dataclass
class Answers:
    """What a model answered to one batch of n windows.

    Parameters
    ----------
    as_of : int64 array, shape (n,)
        Positions of the as-of bars.
    quantiles : float32 array, shape (n, h, V, Q)
        Before repair.
    status, reason : tuple of str, length n
        As in `ForecastBatch`.
    device : DeviceChoice
        Where they were computed.
    fits : int
        Fits made.
    halvings : int
        How often a batch ran out of memory before this one.
    """

    as_of: Ints
    quantiles: Floats32
    status: tuple[str, ...]
    reason: tuple[str, ...]
    device: DeviceChoice
    fits: int
    halvings: int


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def _free_cache(device: str) -> None:
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def run_windows(
    build: Build,
    spec: ForecasterSpec,
    choice: DeviceChoice,
    bars: Bars,
    starts: Ints,
    wanted: Ints,
    *,
    allow_cpu_fallback: bool,
) -> Iterator[Answers]:
    """Build the model and run it over all windows wanted, a batch at a time.

    Parameters
    ----------
    build : callable
        Makes the forecaster from (spec, device name).
    spec : ForecasterSpec
        Of the model.
    choice : DeviceChoice
        Where it runs.
    bars, starts
        As in `one_request`.
    wanted : int64 array, shape (n,), n >= 1
        Positions of the as-of bars.
    allow_cpu_fallback : bool
        Go on on the CPU where one window does not fit the device; the reason says so.

    Raises
    ------
    ForecastError
        One window does not fit the device and the CPU is not allowed.
    """
    model = build(spec, choice.name)
    size = model.plan(len(wanted), free_bytes(choice.name))
    done = halvings = 0
    while done < len(wanted):
        as_of = wanted[done : done + size]
        request = one_request(bars, starts, as_of, spec.horizon)
        try:
            batch = model.run(request)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            halvings += 1
            if len(as_of) > 1:
                size = len(as_of) // 2
            elif choice.name != "cpu" and allow_cpu_fallback:
                choice = DeviceChoice("cpu", f"one window does not fit {choice.name}, CPU allowed instead")
                model = build(spec, choice.name)
            else:
                raise ForecastError(
                    f"{bars.symbol}: one window of {spec.lookback} bars does not fit the memory of "
                    f"{choice.name}. Set fewer forecasts.samples or a shorter forecasts.lookback, "
                    "or devices.allow_cpu_fallback: true"
                ) from error
        else:
            fits = int(batch.meta.get("fits", 0))
            yield Answers(as_of, batch.quantiles, batch.status, batch.reason, choice, fits, halvings)
            done, halvings = done + len(as_of), 0
            continue
        _free_cache(choice.name)  # after the handler, which keeps the failed batch alive
