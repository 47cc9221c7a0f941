"""`infer`: forecast the as-of bars that are missing, and only those.

The way: eligible as-of bars, anti-joined with what is stored; windows in requests (`running`); the
model; repair; rows for the lake. Where nothing is missing, no model is built, torch not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import pyarrow as pa

from engine.bars.model import Bars, Floats, Ints
from engine.errors import ConfigError
from engine.forecasts import backends, store
from engine.forecasts.backends import Backend
from engine.forecasts.devices import DeviceChoice, choose_device
from engine.forecasts.interface import OK, REJECTED, REPAIRED, SKIPPED, ForecasterSpec
from engine.forecasts.keys import input_hashes, model_key
from engine.forecasts.local_features import HALF_LIFE, variances, weighted_mean
from engine.forecasts.repair import repair
from engine.forecasts.running import Build, run_windows, starts_of
from engine.lake.schemas import schema_of

Hold = Callable[[str], AbstractContextManager[object]]


class ForecastSettings(Protocol):
    """The settings ``forecasts`` that `infer` reads."""

    @property
    def horizon(self) -> int: ...  # noqa: D102
    @property
    def levels(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def min_history_bars(self) -> int: ...  # noqa: D102
    @property
    def start(self) -> str | date | None: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """What one inference brought.

    Parameters
    ----------
    forecasts, inputs : pyarrow.Table
        New rows of the tables ``forecasts`` and ``forecast_inputs``; empty where nothing was missing.
    spec : ForecasterSpec
        Of the model.
    model_key : str
        Its key.
    model_calls : int
        As-of bars the model answered (skipped ones are not counted).
    fits : int
        Fits of (cut, step) that this took.
    device : DeviceChoice or None
        Of the last window; None where no model was built.
    halvings : int
        How often a batch ran out of memory and was halved.
    """

    forecasts: pa.Table
    inputs: pa.Table
    spec: ForecasterSpec
    model_key: str
    model_calls: int
    fits: int
    device: DeviceChoice | None
    halvings: int = 0


def start_us(start: str | date | None) -> int | None:
    """Return the setting ``forecasts.start`` in microseconds UTC.

    Raises
    ------
    ConfigError
        It is no ISO date.
    """
    if start is None:
        return None
    try:
        return int(np.datetime64(start, "us").astype(np.int64))
    except ValueError:
        raise ConfigError(f"forecasts.start was {start!r}; expected an ISO date such as 2015-01-02") from None


def ewma_volatility(bars: Bars, starts: Ints, as_of: Ints) -> Floats:
    """Return the local model's volatility (half-life 10) at each as-of bar, from its window alone.

    Returns
    -------
    float64 array, shape (n,)
        Per bar, log units. NaN where the window has fewer than 21 bars.
    """
    out = np.full(len(as_of), np.nan)
    for start in np.unique(starts[as_of]).tolist():
        here = starts[as_of] == start
        part = bars.slice(start, int(as_of[here].max()) + 1)
        logs = (np.log(column) for column in (part.open, part.high, part.low, part.close))
        out[here] = np.sqrt(weighted_mean(variances(*logs), HALF_LIFE))[as_of[here] - start]
    return out


def infer(
    bars: Bars,
    settings: ForecastSettings,
    device: str,
    existing_inputs: pa.Table | None = None,
    *,
    backend: Backend | None = None,
    allow_cpu_fallback: bool = False,
    build: Build | None = None,
    hold: Hold = nullcontext,
) -> InferenceResult:
    """Forecast what is missing.

    Parameters
    ----------
    bars : Bars
        One symbol's checked bars.
    settings : ForecastSettings
        horizon, levels, min_history_bars, start.
    device : str
        The setting ``devices.device``.
    existing_inputs : pyarrow.Table or None
        Stored ``forecast_inputs`` of the symbol.
    backend : Backend or None
        The model; None = the local one.
    allow_cpu_fallback : bool
        The setting of that name; where it was needed, the reason is stored with each row.
    build : callable or None
        Makes the forecaster from (spec, device name) in place of the backend's own.
    hold : callable
        Given the device's name, returns a context that is held from model load to last window.

    Returns
    -------
    InferenceResult
        Rows of the as-of bars that had none under this model and this input.

    Raises
    ------
    ConfigError
        Levels, horizon or start are impossible.
    DeviceUnavailable
        A CUDA device was asked for and is absent.
    ForecastError
        The weights are damaged, or one window does not fit the device.
    """
    model = backend or backends.local(bars.frame, bars.calendar, settings.horizon, tuple(settings.levels))
    spec, make = model.spec, build or model.build
    key = model_key(spec)
    starts = starts_of(spec, bars.ts)
    hashes = input_hashes(bars, starts)
    min_bars = max(settings.min_history_bars, spec.min_lookback)
    positions = store.eligible(bars.ts, min_bars, start_us(settings.start))
    wanted = store.missing(positions, bars.ts, hashes, existing_inputs, key)
    if len(wanted) == 0:
        empty = (schema_of("forecasts").empty_table(), schema_of("forecast_inputs").empty_table())
        return InferenceResult(*empty, spec, key, 0, 0, None)

    choice = choose_device(device, allow_cpu_fallback=allow_cpu_fallback)
    fallback = allow_cpu_fallback and spec.dtype != "bf16"
    with hold(choice.name):
        answers = run_windows(make, spec, choice, bars, starts, wanted, allow_cpu_fallback=fallback)
    status, reason = answers.status, answers.reason
    answered = np.array([word != SKIPPED for word in status])
    sigma = ewma_volatility(bars, starts, wanted)
    repaired = repair(answers.quantiles[answered], spec.levels, sigma[answered])
    n_clamped, n_repaired = np.zeros((2, len(wanted)), dtype=np.int64)
    n_clamped[answered], n_repaired[answered] = repaired.n_clamped, repaired.n_repaired
    for i, why in zip(np.flatnonzero(answered).tolist(), repaired.rejected, strict=True):
        if why:
            status[i], reason[i] = REJECTED, why
        elif n_clamped[i] or n_repaired[i]:
            status[i] = REPAIRED
        if answers.device[i].reason:
            reason[i] = "; ".join(part for part in (reason[i], answers.device[i].reason) if part)

    stored = np.array([word in (OK, REPAIRED) for word in status])
    rows = store.forecast_rows(
        bars.symbol, key, bars.ts[wanted[stored]], repaired.quantiles[stored[answered]], spec.levels
    )
    n = len(wanted)
    inputs = pa.table(
        {
            "symbol": [bars.symbol] * n,
            "model_key": [key] * n,
            "as_of": bars.ts[wanted].view("datetime64[us]"),
            "input_hash": [hashes[t] for t in wanted.tolist()],
            "status": status,
            "reason": reason,
            "device": [device.name for device in answers.device],
            "dtype": [spec.dtype] * n,
            "n_clamped": n_clamped,
            "n_repaired": n_repaired,
            "in_pretraining": backends.in_pretraining(model, bars.ts[wanted]).tolist(),
        },
        schema=schema_of("forecast_inputs"),
    )
    made = int(answered.sum())
    return InferenceResult(rows, inputs, spec, key, made, answers.fits, answers.device[-1], answers.halvings)
