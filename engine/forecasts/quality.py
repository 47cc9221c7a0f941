"""How good stored forecasts were: pinball loss against FHS and persistence on realised bars.

`quality` gives one row per (step, field). Losses are in log return units; a skill of .01 means a
pinball loss 1 % below that of FHS.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.model import Bars, Floats, Ints
from engine.forecasts import store
from engine.forecasts.baselines import HistoricalSimulation, Persistence, fhs_spec, persistence_spec
from engine.forecasts.cuts import window_starts
from engine.forecasts.devices import CPU_BYTES
from engine.forecasts.interface import FIELDS, Forecaster, ForecasterSpec
from engine.forecasts.keys import model_key
from engine.forecasts.running import requests
from engine.lake.schemas import schema_of

# Axes: n as-of bars, h steps, V fields, Q levels.
LAST_BARS, MIN_BARS, LAG_BARS, CRITICAL_T = 250, 60, 10, 2.0
CLEAN, BEFORE, AFTER = "clean", "before", "after"  # spans: no cut-off at all; up to it; past it


def pinball(y: Floats, quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """Return the pinball loss, averaged over the levels.

    Parameters
    ----------
    y : float64 array, shape (n,)
        What happened.
    quantiles : float array, shape (n, Q)
        Forecasts of the levels.
    levels : tuple of float, length Q
        Quantile levels.

    Returns
    -------
    float64 array, shape (n,)
        Mean over levels of max(q d, (q-1) d), d = y - forecast; 0 is perfect.

    NaN: passed on. Source: Koenker and Bassett 1978.

    >>> pinball(np.array([1.0]), np.array([[0.0, 2.0]]), (0.1, 0.9))
    array([0.1])
    """
    level = np.array(levels)
    difference = y[:, None] - np.asarray(quantiles, dtype=np.float64)
    return np.asarray(np.maximum(level * difference, (level - 1.0) * difference).mean(axis=1))


def newey_west_t(difference: Floats, lag: int = LAG_BARS) -> float:
    """Return the t-value of a mean under serial correlation.

    Parameters
    ----------
    difference : float64 array, shape (n,)
        A series of loss differences.
    lag : int
        Bartlett weights reach back this many bars.

    Returns
    -------
    float
        0 where every difference is 0.

    NaN: passed on. Source: Newey and West 1987.
    """
    n = len(difference)
    centred = difference - difference.mean()
    variance = float(centred @ centred) / n
    for back in range(1, min(lag, n - 1) + 1):
        weight = 1.0 - back / (lag + 1.0)
        variance += 2.0 * weight * float(centred[back:] @ centred[:-back]) / n
    if variance <= 0.0:
        return 0.0
    return float(difference.mean() / np.sqrt(variance / n))


def verdict(n: int, skill_fhs: float, t_fhs: float) -> str:
    """Return beats, ties or loses against FHS, or unproven below 60 as-of bars."""
    if n < MIN_BARS:
        return "unproven"
    if skill_fhs > 0.0 and t_fhs > CRITICAL_T:
        return "beats"
    return "loses" if t_fhs < -CRITICAL_T else "ties"


def skill(
    y: Floats, model: Floats, fhs: Floats, persistence: Floats, levels: tuple[float, ...]
) -> dict[str, float | int | str]:
    """Compare one (step, field) with its baselines.

    Parameters
    ----------
    y : float64 array, shape (n,), n >= 1
        What happened, log return against the as-of close.
    model, fhs, persistence : float array, shape (n, Q)
        Forecasts of the same as-of bars.
    levels : tuple of float, length Q
        Quantile levels, .5 among them.

    Returns
    -------
    dict
        n, pinball, pinball_fhs, pinball_persist, skill_fhs, t_fhs, mae_p50, mae_zero, cover_80
        (share between levels .1 and .9; NaN where these are not among the levels), verdict.
    """
    loss, loss_fhs = pinball(y, model, levels), pinball(y, fhs, levels)
    mean, mean_fhs = float(loss.mean()), float(loss_fhs.mean())
    gain = 1.0 - mean / mean_fhs if mean_fhs > 0.0 else 0.0
    t = newey_west_t(loss_fhs - loss)
    cover = float("nan")
    if 0.1 in levels and 0.9 in levels:
        low, high = model[:, levels.index(0.1)], model[:, levels.index(0.9)]
        cover = float(((y >= low) & (y <= high)).mean())
    return {
        "n": len(y),
        "pinball": mean,
        "pinball_fhs": mean_fhs,
        "pinball_persist": float(pinball(y, persistence, levels).mean()),
        "skill_fhs": gain,
        "t_fhs": t,
        "mae_p50": float(np.abs(y - model[:, levels.index(0.5)]).mean()),
        "mae_zero": float(np.abs(y).mean()),
        "cover_80": cover,
        "verdict": verdict(len(y), gain, t),
    }


def realised(bars: Bars, as_of: Ints, step: int) -> Floats:
    """Return the log return of the bar ``step`` after each as-of bar against the as-of close, (n, V)."""
    later = np.stack([getattr(bars, name)[as_of + step] for name in FIELDS], axis=1)
    return np.asarray(np.log(later / bars.close[as_of, None]))


def run_over(bars: Bars, forecaster: Forecaster, as_of: Ints) -> Floats:
    """Return a forecaster's quantiles at given positions of one symbol's bars.

    Returns
    -------
    float64 array, shape (n, h, V, Q)
        NaN where it skipped a window.
    """
    spec = forecaster.spec
    if spec.refit_rule:
        starts = window_starts(bars.ts, bars.frame, bars.calendar, spec.lookback)
    else:
        starts = np.maximum(0, np.arange(len(bars), dtype=np.int64) - spec.lookback)
    batches = requests(bars, starts, as_of, forecaster.plan(len(as_of), CPU_BYTES), spec.horizon)
    parts = [forecaster.run(request).quantiles for request in batches]
    return np.concatenate(parts).astype(np.float64)


def quality(
    bars: Bars,
    forecasts: pa.Table,
    inputs: pa.Table,
    spec: ForecasterSpec,
    *,
    last_bars: int | None = LAST_BARS,
    has_cutoff: bool = False,
) -> pa.Table:
    """Score the stored forecasts of one model on the bars that followed.

    Parameters
    ----------
    bars : Bars
        One symbol.
    forecasts, inputs : pyarrow.Table
        Stored rows of that symbol.
    spec : ForecasterSpec
        Of the model.
    last_bars : int or None
        Score the newest as-of bars with a realised outcome at every step; None = all.
    has_cutoff : bool
        The model was trained before: split at the label ``in_pretraining`` of ``inputs``.

    Returns
    -------
    pyarrow.Table
        ``forecast_quality``, one row per (step, field, span); no row where nothing is realised yet.
        Span "clean": the model has no knowledge cut-off. Else "before" are the as-of bars that its
        training may have seen, "after" the others. crossing_rate and clamp_rate are shares of the
        values of those as-of bars.
    """
    key, levels = model_key(spec), spec.levels
    if last_bars is not None:  # a night adds one bar; years of older rows need not be read again
        issued = np.unique(store.stamps_of(forecasts.filter(pc.field("model_key") == key)))
        first = issued[-(last_bars + spec.horizon) :][:1].view("datetime64[us]")
        forecasts = forecasts.filter(pc.field("as_of") >= pa.scalar(first[0])) if len(first) else forecasts
    series = {
        (step, name): np.stack(
            [store.matrix(forecasts, key, step, name, level, bars.ts) for level in levels], axis=1
        )
        for step in range(1, spec.horizon + 1)
        for name in FIELDS
    }
    stored = np.all([~np.isnan(values).any(axis=1) for values in series.values()], axis=0)
    as_of = np.flatnonzero(stored[: max(0, len(bars) - spec.horizon)]).astype(np.int64)
    as_of = as_of if last_bars is None else as_of[-last_bars:]
    rows = []
    for span, part in _spans(bars, inputs, key, as_of, has_cutoff).items():
        rows += _rows(bars, series, inputs, spec, span, part)
    return pa.Table.from_pylist(rows, schema=schema_of("forecast_quality"))


def _spans(bars: Bars, inputs: pa.Table, key: str, as_of: Ints, has_cutoff: bool) -> dict[str, Ints]:
    """Return the scored as-of bars by span, empty spans left out."""
    if not has_cutoff:
        spans = {CLEAN: as_of}
    else:
        until = store.seen_until(inputs, key)
        seen = bars.ts[as_of] <= (-1 if until is None else until)
        spans = {BEFORE: as_of[seen], AFTER: as_of[~seen]}
    return {span: part for span, part in spans.items() if len(part)}


def _rows(
    bars: Bars,
    series: dict[tuple[int, str], Floats],
    inputs: pa.Table,
    spec: ForecasterSpec,
    span: str,
    as_of: Ints,
) -> list[dict[str, object]]:
    """Return the rows of one span; ``series`` holds the stored quantiles (T, Q) by step and field."""
    key, levels = model_key(spec), spec.levels
    shape = (spec.frame, spec.calendar, spec.horizon, levels)
    fhs = run_over(bars, HistoricalSimulation(fhs_spec(*shape)), as_of)
    persistence = run_over(bars, Persistence(persistence_spec(*shape)), as_of)
    mine = inputs.filter(pc.field("model_key") == key)
    scored = mine.filter(pa.array(np.isin(store.stamps_of(mine), bars.ts[as_of])))
    values = len(as_of) * spec.horizon * len(FIELDS) * len(levels)
    rates = {
        "crossing_rate": pc.sum(scored["n_repaired"]).as_py() / values,
        "clamp_rate": pc.sum(scored["n_clamped"]).as_py() / values,
    }
    rows = []
    for (step, name), model in series.items():
        v = FIELDS.index(name)
        y = realised(bars, as_of, step)[:, v]
        numbers = skill(y, model[as_of], fhs[:, step - 1, v], persistence[:, step - 1, v], levels)
        row = {"symbol": bars.symbol, "model_key": key, "step": step, "field": name, "span": span}
        rows.append({**row, **numbers, **rates})
    return rows
