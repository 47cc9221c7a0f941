"""The two baselines every forecast is measured against, as forecasters of the same form.

`Persistence` repeats what is known: close unchanged, high and low as at the as-of bar.
`HistoricalSimulation` (FHS, filtered historical simulation) takes the quantiles of past moves in
units of their volatility, times the volatility now.

Source: Barone-Adesi, Giannopoulos and Vosper 1999, with the volatility of `local_features`.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats, Ints
from engine.forecasts.cuts import refit_rule
from engine.forecasts.interface import (
    FIELDS,
    OK,
    SKIPPED,
    ForecastBatch,
    ForecasterSpec,
    ForecastRequest,
    validate,
)
from engine.forecasts.keys import model_key
from engine.forecasts.local_features import Prepared, targets
from engine.forecasts.training import MIN_ROWS, CutGroup, cut_groups, training_rows

PERSISTENCE_VERSION = 1
FHS_VERSION = 1
LOOKBACK, MIN_LOOKBACK = 1000, 100
BYTES_PER_BAR = 8 * 8  # six values, a stamp, a mask
SHARE_OF_FREE = 4


def windows_per_request(spec: ForecasterSpec, n: int, free_bytes: int) -> int:
    """Return how many of ``n`` windows fit a quarter of the free memory, at least 1."""
    window_bytes = BYTES_PER_BAR * (spec.lookback + 64)
    return max(1, min(n, free_bytes // (SHARE_OF_FREE * window_bytes)))


def empty_quantiles(windows: int, spec: ForecasterSpec) -> Floats:
    """Return float64 NaN of shape (B, h, V, Q)."""
    return np.full((windows, spec.horizon, len(FIELDS), len(spec.levels)), np.nan)


def fhs_quantiles(
    prepared: Prepared, rows: Ints, step: int, as_of: Ints, levels: tuple[float, ...]
) -> Floats:
    """Return filtered historical simulation at each as-of bar.

    Parameters
    ----------
    prepared : Prepared
        A window.
    rows : int64 array, shape (N,)
        Training rows.
    step : int
        Bars ahead.
    as_of : int64 array, shape (n,)
        Positions to forecast from.
    levels : tuple of float, length Q
        Quantile levels.

    Returns
    -------
    float64 array, shape (n, V, Q)
        Quantiles (linear interpolation) of target / sigma_mix over the rows, times sigma_mix at
        the as-of bar.
    """
    scaled = targets(prepared, rows, step) / prepared.sigma_mix[rows, None]
    unit = np.quantile(scaled, levels, axis=0).T  # (V, Q)
    return unit[None] * prepared.sigma_mix[as_of, None, None]


class Persistence:
    """A point mass: close unchanged, high and low as far from the close as at the as-of bar.

    Parameters
    ----------
    spec : ForecasterSpec
        From `persistence_spec`.
    """

    def __init__(self, spec: ForecasterSpec) -> None:
        self.spec, self.model_key = spec, model_key(spec)

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many windows one request should hold."""
        return windows_per_request(self.spec, n, free_bytes)

    def run(self, request: ForecastRequest) -> ForecastBatch:
        """Answer every window from its last bar."""
        reasons = validate(request, self.spec.min_lookback)
        out = empty_quantiles(len(reasons), self.spec)
        usable = np.flatnonzero([not reason for reason in reasons])
        last = request.bars[usable, -1]  # (n, C)
        high, low, close = (last[:, request.columns.index(name)] for name in FIELDS)
        moves = (np.log(high / close), np.log(low / close), np.zeros(len(usable)))
        out[usable] = np.stack(moves, axis=1)[:, None, :, None]
        status = tuple(SKIPPED if reason else OK for reason in reasons)
        levels = np.array(self.spec.levels, dtype=np.float32)
        return ForecastBatch(out.astype(np.float32), levels, status, reasons, {"device": "cpu"})


class HistoricalSimulation:
    """FHS, refitted at the local model's cuts on the local model's rows.

    Parameters
    ----------
    spec : ForecasterSpec
        From `fhs_spec`.
    """

    def __init__(self, spec: ForecasterSpec) -> None:
        self.spec, self.model_key = spec, model_key(spec)

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many windows one request should hold."""
        return windows_per_request(self.spec, n, free_bytes)

    def run(self, request: ForecastRequest) -> ForecastBatch:
        """Answer every window whose cut has rows enough."""
        reasons = list(validate(request, self.spec.min_lookback))
        out = empty_quantiles(len(reasons), self.spec)
        usable = np.flatnonzero([not reason for reason in reasons])
        for group in cut_groups(request, usable, self.spec):
            reason = too_few_rows(group, self.spec.horizon)
            if reason:
                for window in group.windows:
                    reasons[window] = reason
                continue
            for step in range(1, self.spec.horizon + 1):
                rows = training_rows(group.prepared, group.cut, step)
                out[group.windows, step - 1] = fhs_quantiles(
                    group.prepared, rows, step, group.as_of, self.spec.levels
                )
        status = tuple(SKIPPED if reason else OK for reason in reasons)
        levels = np.array(self.spec.levels, dtype=np.float32)
        return ForecastBatch(out.astype(np.float32), levels, status, tuple(reasons), {"device": "cpu"})


def too_few_rows(group: CutGroup, horizon: int) -> str:
    """Return why a cut cannot serve its last step, empty where it can."""
    rows = len(training_rows(group.prepared, group.cut, horizon))
    return f"{rows} training rows at the cut, {MIN_ROWS} needed" if rows < MIN_ROWS else ""


def persistence_spec(frame: str, calendar: str, horizon: int, levels: tuple[float, ...]) -> ForecasterSpec:
    """Return the specification of `Persistence` for bars of that frame and calendar."""
    return ForecasterSpec("persistence", frame, calendar, horizon, levels, 0, 1, PERSISTENCE_VERSION)


def fhs_spec(frame: str, calendar: str, horizon: int, levels: tuple[float, ...]) -> ForecasterSpec:
    """Return the specification of `HistoricalSimulation` for bars of that frame and calendar."""
    rule = refit_rule(frame, calendar)
    return ForecasterSpec(
        "fhs", frame, calendar, horizon, levels, LOOKBACK, MIN_LOOKBACK, FHS_VERSION, refit_rule=rule
    )
