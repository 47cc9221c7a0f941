"""`infer`: forecast the as-of bars that are missing, and only those.

The way: eligible as-of bars, anti-joined with what is stored; windows in requests (`running`); the
model; repair; rows for the lake. Where nothing is missing, no model is built, torch not imported.
Rows of each batch are kept as they come, so that a killed inference goes on where it was (`Parts`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.model import Bars, Floats, Ints
from engine.errors import ConfigError
from engine.forecasts import backends, store
from engine.forecasts.backends import Backend
from engine.forecasts.devices import DeviceChoice, choose_device
from engine.forecasts.interface import OK, REJECTED, REPAIRED, SKIPPED, ForecasterSpec
from engine.forecasts.keys import input_hashes, model_key
from engine.forecasts.local_features import HALF_LIFE, variances, weighted_mean
from engine.forecasts.parts import Parts
from engine.forecasts.repair import repair
from engine.forecasts.running import Answers, Build, run_windows, starts_of
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
        As-of bars the model answered (skipped ones are not counted, nor those a killed run had kept).
    fits : int
        Fits of (cut, step) that this took.
    device : DeviceChoice or None
        Of the last window; None where no model was built.
    halvings : int
        How often a batch ran out of memory and was halved.
    taken_over : int
        As-of bars whose rows a killed run had kept.
    """

    forecasts: pa.Table
    inputs: pa.Table
    spec: ForecasterSpec
    model_key: str
    model_calls: int
    fits: int
    device: DeviceChoice | None
    halvings: int = 0
    taken_over: int = 0


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
    parts: Parts | None = None,
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
    parts : Parts or None
        Where each batch's rows are kept, and where those of a killed run are found.

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
    LakeError
        A batch cannot be kept, or one kept cannot be read.
    """
    model = backend or backends.local(bars.frame, bars.calendar, settings.horizon, tuple(settings.levels))
    spec, make = model.spec, build or model.build
    key = model_key(spec)
    starts = starts_of(spec, bars.ts)
    hashes = input_hashes(bars, starts)
    min_bars = max(settings.min_history_bars, spec.min_lookback)
    positions = store.eligible(bars.ts, min_bars, start_us(settings.start))
    wanted = store.missing(positions, bars.ts, hashes, existing_inputs, key)
    rows, inputs = schema_of("forecasts").empty_table(), schema_of("forecast_inputs").empty_table()
    taken_over = 0
    if parts is not None and len(wanted):
        rows, inputs, left = _taken_over(parts, wanted, bars, hashes, key)
        taken_over, wanted = len(wanted) - len(left), left
    if len(wanted) == 0:
        return InferenceResult(rows, inputs, spec, key, 0, 0, None, 0, taken_over)

    choice = choose_device(device, allow_cpu_fallback=allow_cpu_fallback)
    fallback = allow_cpu_fallback and spec.dtype != "bf16"
    tables = [(rows, inputs)]
    calls = fits = halvings = 0
    with hold(choice.name):
        for answers in run_windows(make, spec, choice, bars, starts, wanted, allow_cpu_fallback=fallback):
            tables.append(_tables(answers, bars, starts, hashes, key, model))
            if parts is not None:
                parts.keep(*tables[-1])
            calls += sum(word != SKIPPED for word in answers.status)
            fits, halvings, choice = fits + answers.fits, halvings + answers.halvings, answers.device
    rows, inputs = (pa.concat_tables(each) for each in zip(*tables, strict=True))
    return InferenceResult(rows, inputs, spec, key, calls, fits, choice, halvings, taken_over)


def _taken_over(
    parts: Parts, wanted: Ints, bars: Bars, hashes: list[str], key: str
) -> tuple[pa.Table, pa.Table, Ints]:
    """Return the kept rows of as-of bars wanted whose input is still the same, and the bars left."""
    rows, inputs = parts.read()
    left = store.missing(wanted, bars.ts, hashes, inputs, key)
    stamps = pa.array(bars.ts[np.setdiff1d(wanted, left)].view("datetime64[us]"))
    rows, inputs = (table.filter(pc.is_in(table["as_of"], stamps)) for table in (rows, inputs))
    return rows, inputs, left


def _tables(
    answers: Answers, bars: Bars, starts: Ints, hashes: list[str], key: str, model: Backend
) -> tuple[pa.Table, pa.Table]:
    """Return the rows of ``forecasts`` and ``forecast_inputs`` of one batch, repaired."""
    spec, as_of, device = model.spec, answers.as_of, answers.device
    status, reason = list(answers.status), list(answers.reason)
    answered = np.array([word != SKIPPED for word in status])
    repaired = repair(
        answers.quantiles[answered], spec.levels, ewma_volatility(bars, starts, as_of)[answered]
    )
    n_clamped, n_repaired = np.zeros((2, len(as_of)), dtype=np.int64)
    n_clamped[answered], n_repaired[answered] = repaired.n_clamped, repaired.n_repaired
    for i, why in zip(np.flatnonzero(answered).tolist(), repaired.rejected, strict=True):
        if why:
            status[i], reason[i] = REJECTED, why
        elif n_clamped[i] or n_repaired[i]:
            status[i] = REPAIRED
    if device.reason:
        reason = ["; ".join(part for part in (text, device.reason) if part) for text in reason]

    stored = np.array([word in (OK, REPAIRED) for word in status])
    rows = store.forecast_rows(
        bars.symbol, key, bars.ts[as_of[stored]], repaired.quantiles[stored[answered]], spec.levels
    )
    n = len(as_of)
    inputs = pa.table(
        {
            "symbol": [bars.symbol] * n,
            "model_key": [key] * n,
            "as_of": bars.ts[as_of].view("datetime64[us]"),
            "input_hash": [hashes[t] for t in as_of.tolist()],
            "status": status,
            "reason": reason,
            "device": [device.name] * n,
            "dtype": [spec.dtype] * n,
            "n_clamped": n_clamped,
            "n_repaired": n_repaired,
            "in_pretraining": backends.in_pretraining(model, bars.ts[as_of]).tolist(),
        },
        schema=schema_of("forecast_inputs"),
    )
    return rows, inputs
