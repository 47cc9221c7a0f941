"""Keys that decide whether a forecast is already there: `model_key` and `input_hashes`.

`model_key` names the model, `input_hashes` names what one as-of bar's window held. The hash
is scale-free: a later split multiplies every price and leaves it as it was.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import numpy as np

from engine.bars.model import Bars, Floats, Ints
from engine.forecasts.interface import ForecasterSpec

RATIO_SCALE = 1e6  # ratios are compared to a millionth
FIELDS_PER_BAR = 6  # stamp, o/c, h/c, l/c, close ratio, volume ratio
# Volume ratios that do not exist; far outside what any ratio can give.
STOPPED, STARTED, STILL_NONE = 2**40 + 1, 2**40 + 2, 2**40 + 3


def spec_json(spec: ForecasterSpec) -> str:
    """Return a specification as canonical JSON: sorted keys, no spaces, floats by repr."""
    return json.dumps(asdict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def model_key(spec: ForecasterSpec) -> str:
    """Return the 16 hex digits that name a model in the lake.

    >>> levels = (0.1, 0.5, 0.9)
    >>> one = ForecasterSpec("local", "1d", "observed", 1, levels, 1000, 100, 1)
    >>> two = ForecasterSpec("local", "1d", "observed", 2, levels, 1000, 100, 1)
    >>> len(model_key(one)), model_key(one) == model_key(two)
    (16, False)
    """
    return hashlib.sha256(spec_json(spec).encode()).hexdigest()[:16]


def _volume_ratio(volume: Floats) -> Ints:
    """Return rounded log ratios of neighbouring volumes, codes where one of them is 0, shape (T,)."""
    traded = volume > 0.0
    now, before = traded[1:], traded[:-1]
    safe = np.where(traded, volume, 1.0)
    ratio = np.rint(RATIO_SCALE * np.log(safe[1:] / safe[:-1])).astype(np.int64)
    coded = np.select([now & before, before, now], [ratio, STOPPED, STARTED], STILL_NONE)
    return np.concatenate([np.zeros(min(1, len(volume)), dtype=np.int64), coded])


def scale_free(bars: Bars) -> Ints:
    """Return each bar as integers that no split changes.

    Parameters
    ----------
    bars : Bars
        T bars.

    Returns
    -------
    int64 array, shape (T, 6)
        Stamp; then round(1e6 * log) of open/close, high/close, low/close, close over the close
        before, volume over the volume before (codes where a volume is 0). The last two are 0
        at the first bar.

    NaN: none; `Bars` holds none.
    """
    out = np.zeros((len(bars), FIELDS_PER_BAR), dtype=np.int64)
    out[:, 0] = bars.ts
    for column, price in enumerate((bars.open, bars.high, bars.low), start=1):
        out[:, column] = np.rint(RATIO_SCALE * np.log(price / bars.close))
    out[1:, 4] = np.rint(RATIO_SCALE * np.log(bars.close[1:] / bars.close[:-1]))
    out[:, 5] = _volume_ratio(bars.volume)
    return out


def input_hashes(bars: Bars, starts: Ints) -> list[str]:
    """Hash what every as-of bar's window holds.

    Parameters
    ----------
    bars : Bars
        T bars.
    starts : int64 array, shape (T,)
        First bar of the window that ends at each bar.

    Returns
    -------
    list of str, length T
        blake2b-128 in hex of the window's rows of `scale_free`, the two ratios of its first bar
        set to 0, because they reach outside the window.
    """
    rows = scale_free(bars).astype("<i8", copy=False)
    hashes = []
    running, start_of_running = hashlib.blake2b(digest_size=16), -1
    for t, start in enumerate(starts.tolist()):
        if start == start_of_running:  # the same window, one bar longer
            running.update(rows[t].tobytes())
        else:
            window = rows[start : t + 1].copy()
            window[0, 4:] = 0
            running, start_of_running = hashlib.blake2b(window.tobytes(), digest_size=16), start
        hashes.append(running.hexdigest())
    return hashes
