"""What the local model knows at the close of each bar: volatilities, features and targets.

`prepare` works on one window; every value at bar t depends on the window's bars up to t alone,
bit for bit, however many bars follow.

Idea: range-based variance (Garman and Klass 1980, with the overnight move added), exponentially
weighted means of it, and returns scaled by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.bars.model import FRAME_US, Floats, Ints
from engine.forecasts.cuts import DAY_US, THURSDAY
from engine.forecasts.interface import FIELDS, Bools

# Axes: T bars of the window, F features, V fields.
MIN_VARIANCE = 1e-8
HALF_LIFE, MIX_HALF_LIVES = 10, (2, 8, 30)
MIN_VARIANCES = 20  # bars an exponentially weighted mean needs
MEAN_LENGTHS = (1, 2, 5, 22, 66)
VOLUME_BARS = 22
LAGS = 5
WEEKDAYS = 5
CLIP = 8.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """One window, ready for fitting and forecasting.

    Parameters
    ----------
    high, low, close : float64 array, shape (T,)
        Logs of the prices, high and low made consistent with open and close.
    sigma : float64 array, shape (T,)
        Volatility per bar, half-life 10, log units. NaN before it has 20 variances.
    sigma_mix : float64 array, shape (T,)
        The same from the mean of half-lives 2, 8 and 30.
    features : float64 array, shape (T, F)
        F = 32, or 34 for bars shorter than a day; clipped to +-8.
    known : bool array, shape (T,)
        True where every feature and both volatilities are defined.
    """

    high: Floats
    low: Floats
    close: Floats
    sigma: Floats
    sigma_mix: Floats
    features: Floats
    known: Bools


def variances(open_: Floats, high: Floats, low: Floats, close: Floats) -> Floats:
    """Return each bar's variance from its range, body and overnight move.

    Parameters
    ----------
    open_, high, low, close : float64 array, shape (T,)
        Logs of the prices.

    Returns
    -------
    float64 array, shape (T,)
        .5(h-l)^2 - (2 ln 2 - 1)(c-o)^2 + (o_t - c_{t-1})^2, at least 1e-8. NaN at the first bar.

    NaN: passed on. Source: Garman and Klass 1980, plus the squared overnight move.
    """
    out = np.full(len(close), np.nan)
    range_part = 0.5 * np.square(high - low) - (2.0 * np.log(2.0) - 1.0) * np.square(close - open_)
    out[1:] = np.maximum(MIN_VARIANCE, range_part[1:] + np.square(open_[1:] - close[:-1]))
    return out


def weighted_mean(variance: Floats, half_life: int) -> Floats:
    """Return the exponentially weighted mean of the variances so far, shape (T,).

    Weights 2^(-k/half_life) of the variance k bars back, normalised over those present.
    NaN before 20 variances are known (the first bar has none).
    """
    from scipy.signal import lfilter

    decay = 2.0 ** (-1.0 / half_life)
    out = np.full(len(variance), np.nan)
    if len(variance) > MIN_VARIANCES:
        # lfilter runs bar by bar, so a longer window repeats the bits of a shorter one.
        total = lfilter([1.0], [1.0, -decay], variance[1:])
        weight = lfilter([1.0], [1.0, -decay], np.ones(len(variance) - 1))
        out[MIN_VARIANCES:] = (total / weight)[MIN_VARIANCES - 1 :]
    return out


def _lagged(values: Floats, lag: int) -> Floats:
    out = np.full(len(values), np.nan)
    out[lag:] = values[: max(0, len(values) - lag)]
    return out


def _trailing_mean(values: Floats, n: int) -> Floats:
    """Return the mean of the last n values; one addition per lag, so that position never matters."""
    total = values.copy()
    for lag in range(1, n):
        total += _lagged(values, lag)
    return total / n


def _calendar_features(ts: Ints, frame: str) -> list[Floats]:
    weekday = (ts // DAY_US + THURSDAY) % 7
    columns = [(weekday == day).astype(np.float64) for day in range(WEEKDAYS)]
    if FRAME_US[frame] < DAY_US:
        angle = 2.0 * np.pi * (ts % DAY_US) / DAY_US
        columns += [np.sin(angle), np.cos(angle)]
    return columns


def prepare(
    ts: Ints, open_: Floats, high: Floats, low: Floats, close: Floats, volume: Floats, frame: str
) -> Prepared:
    """Compute volatilities and features of one window.

    Parameters
    ----------
    ts : int64 array, shape (T,)
        Bar opens, microseconds UTC.
    open_, high, low, close, volume : float64 array, shape (T,)
        Split-adjusted, prices above 0.
    frame : str
        Of the bars; shorter than a day adds the sine and cosine of the hour.

    Returns
    -------
    Prepared
        Each row known at the close of its bar.

    NaN: undefined leading rows; ``known`` marks the others.
    """
    o, c = np.log(open_), np.log(close)
    h = np.maximum(np.log(high), np.maximum(o, c))
    low_ = np.minimum(np.log(low), np.minimum(o, c))
    s = variances(o, h, low_, c)
    sigma = np.sqrt(weighted_mean(s, HALF_LIFE))
    mixed = [weighted_mean(s, half_life) for half_life in MIX_HALF_LIVES]
    sigma_mix = np.sqrt((mixed[0] + mixed[1] + mixed[2]) / 3.0)

    change = c - _lagged(c, 1)
    log_volume = np.log(volume + 1.0)
    columns = [np.log(np.sqrt(_trailing_mean(s, m)) / sigma) for m in MEAN_LENGTHS]
    columns.append(log_volume - _trailing_mean(log_volume, VOLUME_BARS))
    for lag in range(LAGS):
        for values in (change, h - c, low_ - c, np.abs(change)):
            columns.append(_lagged(values, lag) / sigma)
    columns += _calendar_features(ts, frame)
    columns.append(np.log(sigma))
    features = np.clip(np.stack(columns, axis=1), -CLIP, CLIP)  # (T, F)
    return Prepared(h, low_, c, sigma, sigma_mix, features, ~np.isnan(features).any(axis=1))


def targets(prepared: Prepared, rows: Ints, step: int) -> Floats:
    """Return what ``step`` bars later came of each row, against its own close.

    Parameters
    ----------
    prepared : Prepared
        A window of T bars.
    rows : int64 array, shape (N,)
        Positions, each at most T - 1 - step.
    step : int, >= 1
        Bars ahead.

    Returns
    -------
    float64 array, shape (N, V)
        Log return of the later bar's high, low and close against the row's close.
    """
    later, close = rows + step, prepared.close[rows]
    series = {"high": prepared.high, "low": prepared.low, "close": prepared.close}
    return np.stack([series[field][later] - close for field in FIELDS], axis=1)
