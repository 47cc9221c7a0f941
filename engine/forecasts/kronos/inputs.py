"""What Kronos reads: scaled bars with their moments, and the time of day and year of each bar.

Axes: B windows, T bars, h steps, C = open, high, low, close, volume, amount.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.bars.model import Floats, Ints
from engine.forecasts.interface import Floats32

CLIP, EPSILON = 5.0, 1e-5
UNIT_CLOSE, UNIT_VOLUME = 100.0, 1e6
DAY_US, HOUR_US, MINUTE_US = 86_400_000_000, 3_600_000_000, 60_000_000
THURSDAY = 3  # 1970-01-01, Monday = 0


@dataclass(frozen=True, eq=False)
class Normalised:
    """Bars as the tokenizer wants them, and the way back.

    Parameters
    ----------
    z : float32 array, shape (B, T, C)
        (x - mean) / (std + 1e-5), clipped to [-5, 5].
    mean, std : float32 array, shape (B, C)
        Over all T bars of a window; std of the population.
    """

    z: Floats32
    mean: Floats32
    std: Floats32

    def restore(self, paths: Floats32) -> Floats32:
        """Return normalised paths (B, S, h, C) in the units that went in."""
        scale, mean = (part[:, None, None] for part in (self.std + np.float32(EPSILON), self.mean))
        return np.asarray(paths * scale + mean, dtype=np.float32)


def with_amount(ohlcv: Floats) -> Floats:
    """Append amount = volume * mean(open, high, low, close) to bars (B, T, 5)."""
    amount = ohlcv[..., 4:5] * ohlcv[..., :4].mean(axis=-1, keepdims=True)
    return np.concatenate([ohlcv, amount], axis=-1)


def unit_scale(ohlcva: Floats) -> Floats:
    """Return each window with an as-of close of 100 and a mean volume of 1e6.

    The 1e-5 that is added to each standard deviation swamps assets priced below a thousandth;
    and a later split changes nothing any more. A window without volume keeps its zeros.
    """
    price = UNIT_CLOSE / ohlcva[:, -1:, 3:4]
    volume = ohlcva[..., 4].mean(axis=1)[:, None, None]
    units = np.divide(UNIT_VOLUME, volume, out=np.ones_like(volume), where=volume > 0.0)
    return np.concatenate(
        [ohlcva[..., :4] * price, ohlcva[..., 4:5] * units, ohlcva[..., 5:] * (price * units)], axis=-1
    )


def normalise(ohlcva: Floats) -> Normalised:
    """Return bars (B, T, C) in units of their own spread.

    Moments are taken in float32 along a contiguous last axis: another order of the sum is another
    mean in its last bits, and those can flip a token.
    """
    columns = np.ascontiguousarray(ohlcva.transpose(0, 2, 1), dtype=np.float32)  # (B, C, T)
    mean, std = columns.mean(axis=2), columns.std(axis=2)
    z = (columns - mean[..., None]) / (std[..., None] + np.float32(EPSILON))
    clipped = np.clip(z, -CLIP, CLIP)
    return Normalised(np.ascontiguousarray(clipped.transpose(0, 2, 1)), mean, std)


def time_features(wall: Ints) -> Ints:
    """Return minute, hour, weekday (Monday 0), day of month and month of wall-clock stamps.

    Parameters
    ----------
    wall : int64 array, shape (...)
        Microseconds since 1970, of the clock on the wall.

    Returns
    -------
    int64 array, shape (..., 5)

    >>> time_features(np.array([1_704_216_600_000_000])).tolist()  # Tuesday 2024-01-02 17:30
    [[30, 17, 1, 2, 1]]
    """
    days = wall // DAY_US
    date = wall.astype("datetime64[us]")
    month = date.astype("datetime64[M]")
    parts = [
        wall // MINUTE_US % 60,
        wall // HOUR_US % 24,
        (days + THURSDAY) % 7,
        (date.astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64) + 1,
        month.astype(np.int64) % 12 + 1,
    ]
    return np.stack([np.asarray(part, dtype=np.int64) for part in parts], axis=-1)
