"""`infer`: forecast the as-of bars that are missing, and only those.

The way: eligible as-of bars, anti-joined with what is stored; windows in requests; the model;
repair; rows for the lake. Where nothing is missing, no model is built and torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import pyarrow as pa

from engine.bars.model import Bars, Floats, Ints
from engine.errors import ConfigError
from engine.forecasts import store
from engine.forecasts.cuts import window_starts
from engine.forecasts.devices import DeviceChoice, choose_device
from engine.forecasts.interface import (
    OK,
    REJECTED,
    REPAIRED,
    SKIPPED,
    Floats32,
    Forecaster,
    ForecasterSpec,
    ForecastRequest,
)
from engine.forecasts.keys import input_hashes, model_key
from engine.forecasts.local import LocalForecaster, local_spec
from engine.forecasts.local_features import HALF_LIFE, variances, weighted_mean
from engine.forecasts.repair import repair
from engine.lake.schemas import schema_of

REQUEST_COLUMNS = ("open", "high", "low", "close", "volume")
FREE_BYTES = 512 * 2**20  # what requests may count on
Build = Callable[[ForecasterSpec, str], Forecaster]


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
        None where no model was built.
    """

    forecasts: pa.Table
    inputs: pa.Table
    spec: ForecasterSpec
    model_key: str
    model_calls: int
    fits: int
    device: DeviceChoice | None


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


def requests(bars: Bars, starts: Ints, as_of: Ints, per_request: int) -> Iterator[ForecastRequest]:
    """Cut windows out of one symbol's bars.

    Parameters
    ----------
    bars : Bars
        T bars.
    starts : int64 array, shape (T,)
        First bar of the window that ends at each bar.
    as_of : int64 array, shape (n,)
        Positions of the as-of bars wanted, increasing.
    per_request : int
        Windows in one request.

    Yields
    ------
    ForecastRequest
        The next ``per_request`` windows.
    """
    columns = np.stack([getattr(bars, name) for name in REQUEST_COLUMNS], axis=1)  # (T, C)
    for first in range(0, len(as_of), per_request):
        chosen = as_of[first : first + per_request]
        lengths = chosen - starts[chosen] + 1
        longest = int(lengths.max())
        values = np.full((len(chosen), longest, len(REQUEST_COLUMNS)), np.nan)
        stamps = np.zeros((len(chosen), longest), dtype=np.int64)
        for row, (t, length) in enumerate(zip(chosen.tolist(), lengths.tolist(), strict=True)):
            values[row, longest - length :] = columns[t + 1 - length : t + 1]
            stamps[row, longest - length :] = bars.ts[t + 1 - length : t + 1]
        mask = np.arange(longest)[None, :] >= (longest - lengths)[:, None]
        symbols = (bars.symbol,) * len(chosen)
        yield ForecastRequest(values, REQUEST_COLUMNS, mask, stamps, symbols, bars.ts[chosen])


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


def _answer(
    bars: Bars, model: Forecaster, starts: Ints, wanted: Ints
) -> tuple[Floats32, list[str], list[str], int]:
    """Run the model over all requests: quantiles (n, h, V, Q), status, reason, fits."""
    quantiles, status, reason, fits = [], list[str](), list[str](), 0
    per_request = model.plan(len(wanted), FREE_BYTES)
    for request in requests(bars, starts, wanted, per_request):
        batch = model.run(request)
        quantiles.append(batch.quantiles)
        status += batch.status
        reason += batch.reason
        fits += int(batch.meta.get("fits", 0))
    return np.concatenate(quantiles), status, reason, fits


def infer(
    bars: Bars,
    settings: ForecastSettings,
    device: str,
    existing_inputs: pa.Table | None = None,
    *,
    allow_cpu_fallback: bool = False,
    build: Build = LocalForecaster,
) -> InferenceResult:
    """Forecast what is missing with the local model.

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
    allow_cpu_fallback : bool
        The setting of that name; where it was needed, the reason is stored with each row.
    build : callable
        Makes the forecaster from (spec, device name).

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
    """
    spec = local_spec(bars.frame, bars.calendar, settings.horizon, tuple(settings.levels))
    key = model_key(spec)
    starts = window_starts(bars.ts, bars.frame, bars.calendar, spec.lookback)
    hashes = input_hashes(bars, starts)
    min_bars = max(settings.min_history_bars, spec.min_lookback)
    positions = store.eligible(bars.ts, min_bars, start_us(settings.start))
    wanted = store.missing(positions, bars.ts, hashes, existing_inputs, key)
    if len(wanted) == 0:
        empty = (schema_of("forecasts").empty_table(), schema_of("forecast_inputs").empty_table())
        return InferenceResult(*empty, spec, key, 0, 0, None)

    choice = choose_device(device, allow_cpu_fallback=allow_cpu_fallback)
    quantiles, status, reason, fits = _answer(bars, build(spec, choice.name), starts, wanted)
    answered = np.array([word != SKIPPED for word in status])
    sigma = ewma_volatility(bars, starts, wanted)
    repaired = repair(quantiles[answered], spec.levels, sigma[answered])
    n_clamped, n_repaired = np.zeros((2, len(wanted)), dtype=np.int64)
    n_clamped[answered], n_repaired[answered] = repaired.n_clamped, repaired.n_repaired
    for i, why in zip(np.flatnonzero(answered).tolist(), repaired.rejected, strict=True):
        if why:
            status[i], reason[i] = REJECTED, why
        elif n_clamped[i] or n_repaired[i]:
            status[i] = REPAIRED
        if choice.reason:
            reason[i] = "; ".join(part for part in (reason[i], choice.reason) if part)

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
            "device": [choice.name] * n,
            "dtype": [spec.dtype] * n,
            "n_clamped": n_clamped,
            "n_repaired": n_repaired,
            "in_pretraining": [False] * n,  # refitted on bars up to its cut, so no later bar was seen
        },
        schema=schema_of("forecast_inputs"),
    )
    return InferenceResult(rows, inputs, spec, key, int(answered.sum()), fits, choice)
