"""What a forecaster is: its specification, the request it gets, the batch it returns.

A `Forecaster` sees windows of bars that end at their as-of bar and answers with quantiles of
the next bars' high, low and close as log returns against the as-of close. `validate` is the
one gate: a malformed request raises, an unusable window is marked `skipped` with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.bars.model import Floats, Ints, iso
from engine.errors import ConfigError, ForecastInputError

# Axes: B windows, T bars, C columns, h steps ahead, V forecast fields, Q quantile levels.
Floats32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

FIELDS = ("high", "low", "close")  # V, in this order everywhere
REQUIRED_COLUMNS = ("open", "high", "low", "close")
KNOWN_COLUMNS = (*REQUIRED_COLUMNS, "volume", "amount")
DEFAULT_LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
REPAIR_VERSION = 1  # of the rules in `engine.forecasts.repair`; part of every model key
OK, REPAIRED, REJECTED, SKIPPED = "ok", "repaired", "rejected", "skipped"


@dataclass(frozen=True)
class ForecasterSpec:
    """Everything that decides a forecaster's numbers; `keys.model_key` is its hash.

    Parameters
    ----------
    backend : str
        Which code runs: local, kronos, chronos-2, toto-2, fhs, persistence.
    frame, calendar : str
        Of the bars, as in `Bars`.
    horizon : int, >= 1
        Steps ahead, in bars.
    levels : tuple of float
        Quantile levels, increasing, inside (0, 1), .5 among them.
    lookback : int
        Bars of history a window may reach back.
    min_lookback : int
        Real bars a window needs; fewer: skipped.
    code_version : int
        Raised by hand whenever the backend's outputs change.
    refit_rule : str
        How refit cuts follow from the calendar; empty where nothing is refitted.
    repair_version : int
        Of the rules in `engine.forecasts.repair`.
    dtype : str
        Arithmetic of the model.
    adjustment : str
        Which adjustment the prices carry.
    model_id, revision : str
        Of trained weights; empty where there are none.
    weights : tuple of (str, str)
        File name and sha256 of each weights and config file.
    seed : int or None
        None where the model draws nothing at random.
    options : tuple of (str, str | int | float)
        Further terms of the backend that decide its numbers, in a fixed order.
    """

    backend: str
    frame: str
    calendar: str
    horizon: int
    levels: tuple[float, ...]
    lookback: int
    min_lookback: int
    code_version: int
    refit_rule: str = ""
    repair_version: int = REPAIR_VERSION
    dtype: str = "fp64"
    adjustment: str = "split"
    model_id: str = ""
    revision: str = ""
    weights: tuple[tuple[str, str], ...] = ()
    seed: int | None = None
    options: tuple[tuple[str, str | int | float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse levels and horizons that no forecaster can serve."""
        levels = self.levels
        increasing = all(a < b for a, b in zip(levels, levels[1:], strict=False))
        if not levels or not increasing or levels[0] <= 0.0 or levels[-1] >= 1.0 or 0.5 not in levels:
            raise ConfigError(
                f"forecasts.levels was {list(levels)}; expected increasing numbers inside (0, 1) "
                "with 0.5 among them"
            )
        if self.horizon < 1:
            raise ConfigError(f"forecasts.horizon was {self.horizon}; expected 1 or more bars")


@dataclass(frozen=True, eq=False)
class ForecastRequest:
    """Windows of bars, each ending at its as-of bar; ragged windows are left-padded.

    Parameters
    ----------
    bars : float64 array, shape (B, T, C)
        Split-adjusted prices and volume in units; padding may hold anything.
    columns : tuple of str
        Names of the C columns; open, high, low, close are required.
    mask : bool array, shape (B, T)
        True where the bar is real; the real bars of a window stand at its right end.
    stamps : int64 array, shape (B, T)
        Bar open, microseconds since 1970, UTC.
    symbols : tuple of str, length B
        Canonical keys.
    as_of : int64 array, shape (B,)
        Stamp of each window's last bar.
    future_stamps : int64 array, shape (B, h)
        Opens of the bars to come, as the calendar has them; h is the forecaster's horizon.
    """

    bars: Floats  # (B, T, C)
    columns: tuple[str, ...]
    mask: Bools  # (B, T)
    stamps: Ints  # (B, T)
    symbols: tuple[str, ...]
    as_of: Ints  # (B,)
    future_stamps: Ints  # (B, h)


@dataclass(frozen=True, eq=False)
class ForecastBatch:
    """Answers to one request.

    Parameters
    ----------
    quantiles : float32 array, shape (B, h, V, Q)
        Log return against the as-of close; V = high, low, close. NaN where a window was skipped.
    levels : float32 array, shape (Q,)
        Quantile levels.
    status, reason : tuple of str, length B
        ok, repaired (paths were put in order) or skipped, and why; a reason beside ok names a variant.
    meta : dict
        Device and counts, for the run's record.
    paths : float32 array, shape (B, S, h, V), or None
        Sampled paths in the same unit, where the model makes such; NaN where a window was skipped.
    """

    quantiles: Floats32
    levels: Floats32
    status: tuple[str, ...]
    reason: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    paths: Floats32 | None = None


class Forecaster(Protocol):
    """A model behind one interface: stateless, and a window's answer never depends on its batch."""

    spec: ForecasterSpec
    model_key: str

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many of ``n`` windows one request should hold."""
        ...

    def run(self, request: ForecastRequest) -> ForecastBatch:
        """Answer every window."""
        ...


def _refuse(request: ForecastRequest, found: str, expected: str) -> ForecastInputError:
    names = sorted(set(request.symbols))[:3]
    return ForecastInputError(f"forecast request for {', '.join(names)}: {found}; expected {expected}")


def _check_form(request: ForecastRequest) -> None:
    """Raise on a wrong shape, dtype or column."""
    bars = request.bars
    if bars.dtype != np.float64 or bars.ndim != 3:
        raise _refuse(request, f"bars was {bars.dtype} {list(bars.shape)}", "float64 [B, T, C]")
    b, t, c = bars.shape
    for name, dtype, shape in (
        ("mask", np.bool_, (b, t)), ("stamps", np.int64, (b, t)), ("as_of", np.int64, (b,)),
    ):  # fmt: skip
        array = getattr(request, name)
        if array.dtype != dtype or array.shape != shape:
            found = f"{name} was {array.dtype} {list(array.shape)}"
            raise _refuse(request, found, f"{np.dtype(dtype).name} {list(shape)}")
    future = request.future_stamps
    if future.dtype != np.int64 or future.ndim != 2 or len(future) != b:
        raise _refuse(request, f"future_stamps was {future.dtype} {list(future.shape)}", f"int64 [{b}, h]")
    if len(request.symbols) != b:
        raise _refuse(request, f"{len(request.symbols)} symbols for {b} windows", "one for each")
    missing = [name for name in REQUIRED_COLUMNS if name not in request.columns]
    unknown = [name for name in request.columns if name not in KNOWN_COLUMNS]
    if missing or unknown or len(request.columns) != c or len(set(request.columns)) != c:
        raise _refuse(
            request,
            f"columns were {list(request.columns)} for {c} values per bar",
            f"open, high, low, close once each and of the rest only {', '.join(KNOWN_COLUMNS[4:])}",
        )
    counts = request.mask.sum(axis=1)
    if b and not np.array_equal(request.mask, np.arange(t)[None, :] >= (t - counts)[:, None]):
        raise _refuse(request, "mask has gaps or padding at the right", "real bars at the right end only")


def validate(request: ForecastRequest, min_lookback: int) -> tuple[str, ...]:
    """Check a request's form, then each window.

    Parameters
    ----------
    request : ForecastRequest
        B windows.
    min_lookback : int
        Real bars that a window needs.

    Returns
    -------
    tuple of str, length B
        Why a window cannot be used; empty where it can.

    NaN: a window holding one is unusable and says so.

    Raises
    ------
    ForecastInputError
        Wrong shape, dtype or columns, or an as_of that is not the window's last stamp.
    """
    _check_form(request)
    mask = request.mask
    prices = request.bars[:, :, [request.columns.index(name) for name in REQUIRED_COLUMNS]]
    counts = mask.sum(axis=1)
    finite: Bools = np.all(np.isfinite(request.bars).all(axis=2) | ~mask, axis=1)
    positive: Bools = np.all((prices > 0.0).all(axis=2) | ~mask, axis=1)
    both = mask[:, 1:] & mask[:, :-1]
    rising: Bools = np.all((np.diff(request.stamps, axis=1) > 0) | ~both, axis=1)
    reasons = []
    for i in range(len(counts)):
        if counts[i] and request.stamps[i, -1] != request.as_of[i]:
            found = f"as_of of window {i} was {iso(int(request.as_of[i]))}"
            raise _refuse(request, found, f"its last bar, {iso(int(request.stamps[i, -1]))}")
        if counts[i] < min_lookback:
            reasons.append(f"{int(counts[i])} bars, {min_lookback} needed")
        elif not finite[i]:
            reasons.append("a value is not finite")
        elif not positive[i]:
            reasons.append("a price is not positive")
        elif not rising[i]:
            reasons.append("stamps do not increase")
        else:
            reasons.append("")
    return tuple(reasons)
