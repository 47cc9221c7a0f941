"""The default forecaster: the plain mean of FHS and a ridge location-scale model, per level.

`LocalForecaster` needs no weights, no network and no GPU. It is refitted every 63 bars on the 750
rows before its cut; nothing later than the as-of bar is ever seen, so every forecast is clean.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats
from engine.forecasts.baselines import (
    LOOKBACK,
    MIN_LOOKBACK,
    empty_quantiles,
    fhs_quantiles,
    too_few_rows,
    windows_per_request,
)
from engine.forecasts.cuts import refit_rule
from engine.forecasts.interface import (
    OK,
    SKIPPED,
    ForecastBatch,
    ForecasterSpec,
    ForecastRequest,
    validate,
)
from engine.forecasts.keys import model_key
from engine.forecasts.local_features import targets
from engine.forecasts.local_fit import Fit, fit, location_scale_quantiles
from engine.forecasts.training import MIN_FIT_ROWS, TRAINING_ROWS, CutGroup, cut_groups, training_rows

LOCAL_VERSION = 1  # raise it whenever an output changes


def local_spec(frame: str, calendar: str, horizon: int, levels: tuple[float, ...]) -> ForecasterSpec:
    """Return the local model's specification for bars of that frame and calendar.

    It draws nothing at random, so no seed is part of it.

    >>> local_spec("1d", "observed", 1, (0.1, 0.5, 0.9)).refit_rule
    'weekday//63'
    """
    rule = refit_rule(frame, calendar)
    return ForecasterSpec(
        "local", frame, calendar, horizon, levels, LOOKBACK, MIN_LOOKBACK, LOCAL_VERSION, refit_rule=rule
    )


class LocalForecaster:
    """Mean of FHS and the location-scale model; FHS alone where a cut has 100 to 249 rows.

    Parameters
    ----------
    spec : ForecasterSpec
        From `local_spec`.
    device : str
        ``cpu`` or ``cuda:N``, where the location-scale model is fitted.
    """

    def __init__(self, spec: ForecasterSpec, device: str = "cpu") -> None:
        self.spec, self.model_key, self.device = spec, model_key(spec), device
        # Fits of the newest cut, named by its history: the next request may begin inside its group.
        self._newest: tuple[bytes, dict[int, Fit]] = (b"", {})

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many windows one request should hold."""
        return windows_per_request(self.spec, n, free_bytes)

    def _fit(self, group: CutGroup, step: int) -> tuple[Fit, bool]:
        """Return the fit of (cut, step), and whether it was made now."""
        if self._newest[0] != group.digest:
            self._newest = (group.digest, {})
        fits = self._newest[1]
        made = step not in fits
        if made:
            rows = training_rows(group.prepared, group.cut, step)
            z = targets(group.prepared, rows, step) / group.prepared.sigma[rows, None]
            fits[step] = fit(group.prepared.features[rows], z, TRAINING_ROWS, self.spec.levels, self.device)
        return fits[step], made

    def _quantiles(self, group: CutGroup, step: int) -> tuple[Floats, int, int]:
        """Return (n, V, Q) quantiles of one step, its training rows, and fits made."""
        prepared, as_of = group.prepared, group.as_of
        rows = training_rows(prepared, group.cut, step)
        historical = fhs_quantiles(prepared, rows, step, as_of, self.spec.levels)
        if len(rows) < MIN_FIT_ROWS:
            return historical, len(rows), 0
        fitted, made = self._fit(group, step)
        ridge = location_scale_quantiles(fitted, prepared.features[as_of], prepared.sigma[as_of])
        return 0.5 * (historical + ridge), len(rows), int(made)

    def run(self, request: ForecastRequest) -> ForecastBatch:
        """Answer every window.

        Parameters
        ----------
        request : ForecastRequest
            With the columns open, high, low, close, volume.

        Returns
        -------
        ForecastBatch
            Before repair: levels never cross, but a level's low may exceed its close. Reason
            ``fhs only: N rows`` beside ok where the location-scale model had too few rows.

        Raises
        ------
        ForecastInputError
            Wrong shape, dtype or columns.
        """
        reasons = list(validate(request, self.spec.min_lookback))
        status = [SKIPPED if reason else OK for reason in reasons]
        out = empty_quantiles(len(reasons), self.spec)
        fits = 0
        usable = np.flatnonzero([not reason for reason in reasons])
        for group in cut_groups(request, usable, self.spec):
            reason = too_few_rows(group, self.spec.horizon)
            if reason:
                for window in group.windows:
                    status[window], reasons[window] = SKIPPED, reason
                continue
            fewest = TRAINING_ROWS
            for step in range(1, self.spec.horizon + 1):
                out[group.windows, step - 1], rows, made = self._quantiles(group, step)
                fewest, fits = min(fewest, rows), fits + made
            if fewest < MIN_FIT_ROWS:
                for window in group.windows:
                    reasons[window] = f"fhs only: {fewest} training rows at the cut"
        levels = np.array(self.spec.levels, dtype=np.float32)
        meta = {"device": self.device, "fits": fits}
        return ForecastBatch(out.astype(np.float32), levels, tuple(status), tuple(reasons), meta)
