"""The workloads' data: price series with their checksums, pairs of windows, random configs.

Needs numpy alone, so that nightfold's interpreter and the peers' both read it. A series is a dict
of float64 arrays open, high, low, close, volume and int64 ts (microseconds since 1970, UTC, bar
opens), each of shape (T,). Axis: T bars, P configs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

COLUMNS = ("ts", "open", "high", "low", "close", "volume")
PRICES = ("open", "high", "low", "close")
# sha256 of the float64 bytes of open, high, low, close, the first 16 digits
SHA = {
    "E5K": "96efab1b3703e729",
    "GOOG": "c84fb6fda9feb382",
    "S100K": "f436b8764cdeacca",
    "S1M": "f007ecfb1a5ab8f8",
}
BARS = {"E5K": 5000, "GOOG": 2148, "S100K": 100_000, "S1M": 1_000_000}
TICK = {"E5K": 1e-5, "GOOG": 0.01, "S100K": 1e-5, "S1M": 1e-5}
UNITS = {"E5K": 10_000.0, "S100K": 1.0, "S1M": 1.0}
FAST, SLOW = 10, 30
START_US = 1_420_070_400_000_000  # 2015-01-01


def checksum(series: dict[str, np.ndarray]) -> str:
    """Return the first 16 digits of the sha256 of open, high, low, close in a row."""
    together = b"".join(series[name].astype("<f8").tobytes() for name in PRICES)
    return hashlib.sha256(together).hexdigest()[:16]


def check(name: str, series: dict[str, np.ndarray]) -> None:
    """Refuse a series that is not the one the recorded numbers were made with."""
    found = checksum(series)
    if found != SHA[name]:
        raise SystemExit(
            f"{name}: the prices have checksum {found}, expected {SHA[name]}. The benchmark's numbers "
            "hold for those prices only; install the versions of benchmarks/engine/requirements.txt"
        )


def synthetic(n: int) -> dict[str, np.ndarray]:
    """Return n minute bars of a random walk with changing volatility, the same for everyone."""
    draw = np.random.default_rng(7)
    wander = draw.normal(0, 0.01, n)
    volatility = np.clip(np.repeat(np.exp(0.3 * np.cumsum(wander)), 8), 0.4, 2.5)
    x = np.cumsum(draw.standard_normal(8 * n) * (0.0012 / np.sqrt(8)) * volatility)
    x -= 0.7 * np.linspace(0, x[-1], 8 * n)
    prices = 100 * np.exp(x).reshape(n, 8)
    close = prices[:, -1]
    opening = np.empty(n)
    opening[0] = 100
    opening[1:] = close[:-1] * (1 + draw.normal(0, 1e-4, n - 1))
    high = np.maximum(prices.max(axis=1), opening)
    low = np.minimum(prices.min(axis=1), opening)
    volume = draw.integers(100, 10000, n)
    columns = {"open": opening, "high": high, "low": low, "close": close}
    return {
        "ts": START_US + 60_000_000 * np.arange(n, dtype=np.int64),
        **{name: np.round(values, 5) for name, values in columns.items()},
        "volume": volume.astype(np.float64),
    }


def save(folder: Path, name: str, series: dict[str, np.ndarray]) -> None:
    """Check a series and write one .npy file per column."""
    check(name, series)
    for column in COLUMNS:
        np.save(folder / f"{name}.{column}.npy", series[column])


def load(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read what `save` wrote and check it again."""
    series = {column: np.load(folder / f"{name}.{column}.npy") for column in COLUMNS}
    check(name, series)
    return series


def pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return fast and slow windows of W2, int64 (P,): all pairs of 2..201 in a random order, cut."""
    fast, slow = np.triu_indices(200, 1)
    order = np.random.default_rng(0).permutation(len(fast))[:count]
    return fast[order] + 2, slow[order] + 2


def stop_configs(count: int) -> dict[str, np.ndarray]:
    """Return the configs of W3's sweep form, one array (P,) per parameter."""
    draw = np.random.default_rng(1)
    fast = 2 + draw.integers(0, 60, count)
    return {
        "fast": fast,
        "slow": fast + 1 + draw.integers(0, 130, count),
        "n_adx": 5 + draw.integers(0, 26, count),
        "n_atr": 5 + draw.integers(0, 26, count),
        "adx_min": draw.uniform(10, 35, count),
        "stop": draw.uniform(1, 4, count),
        "target": draw.uniform(1, 6, count),
        "trail": draw.uniform(1, 5, count),
    }


def whole_sums(close: np.ndarray, n: int, tick: float) -> np.ndarray:
    """Return the sum of the last n closes in ticks, int64 (T,), 0 before index n - 1: no rounding at all."""
    sums = np.cumsum(np.rint(close / tick).astype(np.int64))
    found = np.zeros(len(close), np.int64)
    found[n - 1 :] = sums[n - 1 :]
    found[n:] -= sums[:-n]
    return found


def crosses(close: np.ndarray, fast: int, slow: int, tick: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the fast average crosses above and below the slow one, bool (T,), exactly.

    fast sum / fast > slow sum / slow is compared as whole numbers: fast sum * slow > slow sum * fast.
    """
    gap = whole_sums(close, fast, tick) * slow - whole_sums(close, slow, tick) * fast
    up, down = np.zeros(len(close), bool), np.zeros(len(close), bool)
    first = slow  # the cross needs both averages at the bar before
    up[first:] = (gap[first:] > 0) & (gap[first - 1 : -1] <= 0)
    down[first:] = (gap[first:] < 0) & (gap[first - 1 : -1] >= 0)
    return up, down
